#!/usr/bin/env bash
# Exports into real object stores on this machine: moto (S3), Azurite (Azure) and s3s-fs (S3, with signatures). They come from PyPI,
# npm and the crate registry. What cannot be had is skipped with a line; an installation that fails is a failure where CI=true.
#
#   tests/stores.sh [PAGEHAUL] [KILLS]      the program, default pagehaul; kills of the long part, default 10
#   STORES=moto tests/stores.sh ...         moto alone, as in the gate: the others take minutes to install
#   STORES=none tests/stores.sh             installs moto for other scripts, and exports nothing
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
moto=('moto[server]==5.2.5' azure-storage-blob==12.31.1 duckdb==2.0.0)
azurite=3.37.0
s3s_fs=0.14.1

failed=
stores=$cache/stores
mkdir -p "$stores"
wanted="${moto[*]}, $(python3 --version)"
if [[ $(cat "$stores/made-of" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$stores/python"
    python3 -m venv "$stores/python" # Debian: the package python3-venv
    "$stores/python/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check "${moto[@]}"
    echo "$wanted" >"$stores/made-of"
fi
[[ ${STORES:-all} != none ]] || exit 0
if [[ ${STORES:-all} = moto ]]; then
    printf '!! NOT RUN: Azurite and s3s-fs (STORES=moto)\n' >&2
else
    if [[ ! -x $stores/azurite-$azurite/node_modules/.bin/azurite-blob ]]; then
        if command -v npm >/dev/null; then
            npm install --silent --no-audit --no-fund --prefix "$stores/azurite-$azurite" "azurite@$azurite" || failed=yes
        else
            printf '!! SKIPPED: az://, because Azurite needs npm\n' >&2
        fi
    fi
    if [[ ! -x $stores/s3s-fs-$s3s_fs/bin/s3s-fs ]]; then
        env -u CARGO_TARGET_DIR cargo install s3s-fs --version "=$s3s_fs" --features binary --locked --debug --quiet \
            --root "$stores/s3s-fs-$s3s_fs" || failed=yes
    fi
fi
printf '!! NOT TESTED: gs://, because no emulator keeps the conditions of writes\n' >&2
if [[ $failed && ${CI:-} = true ]]; then exit 1; fi

[[ ${STORES:-all} = all ]] || azurite=none s3s_fs=none
exec "$stores/python/bin/python" "$root/tests/stores/stores.py" --pagehaul "${1:-pagehaul}" --kills "${2:-10}" \
    --moto "$stores/python/bin/moto_server" \
    --azurite "$stores/azurite-$azurite/node_modules/.bin/azurite-blob" --s3s-fs "$stores/s3s-fs-$s3s_fs/bin/s3s-fs"
