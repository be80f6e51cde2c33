#!/usr/bin/env bash
# Runs the DAG in an Airflow of its own, with sqlite in a scratch directory: each exit code, a retry, the program with its simulator.
#
#   examples/airflow/run.sh [PAGEHAUL]      the program, default pagehaul, beside the package as it is in python/
#
# Airflow comes from PyPI, into the cache directory.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
program=$(realpath "$(command -v "${1:-pagehaul}")")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for name in ${!PAGEHAUL_@} ${!AIRFLOW_@} KEYAPI_TOKEN; do unset "$name"; done

python=$cache/airflow/bin/python
wanted=$(cat "$here/requirements.txt" "$here/constraints.txt"; python3 --version)
if [[ $(cat "$cache/airflow/made-of" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$cache/airflow"
    mkdir -p "$cache"
    python3 -m venv "$cache/airflow" # Debian: the package python3-venv
    "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check -r "$here/requirements.txt" -c "$here/constraints.txt"
    echo "$wanted" >"$cache/airflow/made-of"
fi

mkdir -p "$scratch/site/bin" "$scratch/dags"
ln -s "$here/../../python/pagehaul" "$scratch/site/pagehaul"
ln -s "$program" "$scratch/site/bin/pagehaul"
cp "$here/pagehaul_daily.py" "$scratch/dags"
export AIRFLOW_HOME=$scratch/home PYTHONPATH=$scratch/site:$scratch/dags PYTHONDONTWRITEBYTECODE=1
export AIRFLOW__CORE__LOAD_EXAMPLES=false AIRFLOW__CORE__DAGS_FOLDER=$scratch/dags AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
export AIRFLOW__CORE__UNIT_TEST_MODE=false AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=false
"$cache/airflow/bin/airflow" db migrate >"$scratch/migrate.log" 2>&1 || { cat "$scratch/migrate.log"; exit 1; }
# Airflow writes the errors of tasks that fail as they should.
failed=
timeout 500 "$python" "$here/check.py" "$program" >"$scratch/log" 2>&1 || failed=yes
if [[ $failed ]]; then tail -n 60 "$scratch/log"; else grep '^ok ' "$scratch/log"; fi
[[ ! $failed ]]
