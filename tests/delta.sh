#!/usr/bin/env bash
# The output as a Delta table, read by others: while an export runs, after kill -9, and at its end; in a directory, and in a bucket of
# moto's S3. The readers come from PyPI. What cannot be had is skipped with a line; with CI=true that is a failure.
#
#   tests/delta.sh [PAGEHAUL] [KILLS] [PRODUCTS]    the program, with the feature `delta`, default pagehaul; kills of the export in a
#                                                   directory and of the one in a bucket, default 10; the latter's products, default 2000
#   READERS=log,deltalake,polars tests/delta.sh ... these readers alone, as in the gate: chdb alone is 700 MB
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
# Each line by itself: one that is not there must not cost the others. DuckDB's extensions are of DuckDB's own version.
declare -A packages=(
    [log]='pyarrow==26.0.1'
    [deltalake]='deltalake==1.6.6'
    [polars]='polars==2.1.0'
    [duckdb]='duckdb==1.5.5 duckdb-extension-delta==1.5.5 duckdb-extension-httpfs==1.5.5'
    [chdb]='chdb==4.4.0'
    [moto]='moto[server]==5.2.5'
)
wanted=${READERS:-log,deltalake,polars,duckdb,chdb}
# tests/stores.sh has moto already, if it was here before.
moto=$cache/stores/python/bin/moto_server
[[ -x $moto ]] || { moto=$cache/delta/python/bin/moto_server wanted+=,moto; }

python=$cache/delta/python/bin/python
[[ -x $python ]] || python3 -m venv "$cache/delta/python" # Debian: the package python3-venv
for name in ${wanted//,/ }; do
    made="$cache/delta/made-$name" of="${packages[$name]}, $(python3 --version)"
    [[ $(cat "$made" 2>/dev/null) != "$of" ]] || continue
    # shellcheck disable=SC2086
    if "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check ${packages[$name]} >&2; then
        echo "$of" >"$made"
    else
        printf '!! NOT INSTALLED: %s\n' "${packages[$name]}" >&2
    fi
done
program=$(command -v "${1:-pagehaul}")
# Side by side: both mostly wait for a rate limit, and for moto.
out=$(mktemp)
trap 'rm -f "$out"; kill "${bucket:-}" 2>/dev/null || true' EXIT
"$python" tests/delta/bucket.py "$program" "${2:-10}" "${3:-2000}" "$moto" >"$out" 2>&1 &
bucket=$! failed=
"$python" tests/delta/readers.py "$program" "${2:-10}" || failed=yes
wait "$bucket" || failed=yes
cat "$out"
[[ ! $failed ]]
