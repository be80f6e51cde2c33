#!/usr/bin/env bash
# The examples for schedulers: cron, a systemd timer, Kubernetes, Airflow; the last one takes a minute, and some more to install.
#
#   tests/schedulers.sh [PAGEHAUL]                     the program, default pagehaul
#   SCHEDULERS=cron tests/schedulers.sh [PAGEHAUL]     without Airflow, as in the gate
#
# The schemas of Kubernetes, and Airflow, come from PyPI into the cache directory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
packages=(kubernetes-validate==1.37.0)
program=$(realpath "$(command -v "${1:-pagehaul}")")
for name in ${!PAGEHAUL_@} KEYAPI_TOKEN; do unset "$name"; done

python=$cache/schedulers/bin/python
wanted="${packages[*]}, $(python3 --version)"
if [[ $(cat "$cache/schedulers/made-of" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$cache/schedulers"
    mkdir -p "$cache"
    python3 -m venv "$cache/schedulers" # Debian: the package python3-venv
    "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "${packages[@]}"
    echo "$wanted" >"$cache/schedulers/made-of"
fi
"$python" "$root/tests/schedulers/check.py" "$program"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"
ln -s "$program" "$scratch/bin/pagehaul"
ln -s "$root/examples" "$scratch/examples"
(cd "$scratch" && PATH=$scratch/bin:$PATH timeout 300 "$python" "$root/tests/python/docs.py" "$root/docs/schedulers.md")
if [[ ${SCHEDULERS:-all} = cron ]]; then
    printf '!! NOT RUN: Airflow (SCHEDULERS=cron)\n' >&2
else
    "$root/examples/airflow/run.sh" "$program"
fi
