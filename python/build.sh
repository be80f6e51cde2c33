#!/usr/bin/env bash
# Builds the wheel. The same sources, toolchain and C compiler give the same bytes in any directory: no path of this machine gets
# into the program, and all times are SOURCE_DATE_EPOCH's, by default that of the last commit.
#
#   python/build.sh OUT [TARGET]    puts the wheel into the directory OUT; cargo works in TARGET, default target/wheel
#   CARGO_NET_OFFLINE=true ...      cargo uses what is vendored or already in its cache
#
# Needs Rust, a C compiler, make and Python with venv. The tag follows the machine's glibc: docs/python.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
tools=(maturin==1.16.0 wheel==0.47.0)
mkdir -p "$1"
out=$(cd "$1" && pwd)
target=${2:-$root/target/wheel}
mkdir -p "$target"
target=$(cd "$target" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=$cache/wheel/tools/bin/python
wanted="${tools[*]}, $(python3 --version)"
if [[ $(cat "$cache/wheel/tools/made-of" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$cache/wheel/tools"
    mkdir -p "$cache/wheel"
    python3 -m venv "$cache/wheel/tools" # Debian: the package python3-venv
    "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "${tools[@]}" >&2
    echo "$wanted" >"$cache/wheel/tools/made-of"
fi

cd "$root"
# The fixed date is for sources without git: wheels cannot be older than 1980.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}"
export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
# Of this system alone: the licences are those of what is in the program.
cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n "s/^host: //p")" >"$work/metadata.json"
# What rustc and the C compiler may write into the program: where the dependencies, the standard library and the target directory are.
flags=() c_flags=()
while IFS= read -r of; do
    flags+=("--remap-path-prefix=$of") c_flags+=("-ffile-prefix-map=$of")
done < <("$python" python/pack.py paths "$work/metadata.json" "$(rustc --print sysroot)" "$target")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS CFLAGS="${c_flags[*]}" CXXFLAGS="${c_flags[*]}"
# A fixed time while compilers run: another one would make cargo compile all C code again.
SOURCE_DATE_EPOCH=315532800 "$cache/wheel/tools/bin/maturin" build --locked --out "$work" >&2
SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH "$python" python/pack.py finish "$work/metadata.json" "$work"/*.whl "$out"
