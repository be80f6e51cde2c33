#!/usr/bin/env bash
# The Python package: types, style, tests, docs/python.md. With a wheel also what is in it and how it installs, without a network.
#
#   tests/wheel.sh [PAGEHAUL|WHEEL]           the program, default pagehaul, with the package as it is in python/; or a wheel
#   PYTHONS='python3.10 python3.13' tests/wheel.sh ...    these interpreters instead of python3
#
# pytest, pyarrow and the others come from PyPI, into the cache directory. What cannot be had is skipped with a line; with CI=true
# that is a failure.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci
given=${1:-pagehaul}
[[ $given = *.whl ]] && given=$(realpath "$given") || given=$(realpath "$(command -v "$given")")
packages=(
    duckdb==1.5.5 mypy==2.4.1 pytest==9.2.0 ruff==0.17.5
    'pyarrow==26.0.1; python_version >= "3.11"' 'pyarrow==25.0.1; python_version < "3.11"'
)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
for name in ${!PAGEHAUL_@} KEYAPI_TOKEN PYTHONPATH; do unset "$name"; done

# Sets `env` to an environment with the packages for an interpreter, made anew when their versions change.
environment() {
    local version wanted
    version=$("$1" -c 'import sys; print(*sys.version_info[:2], sep=".")') || return 1
    env=$cache/wheel/python-$version
    wanted="${packages[*]}, $("$1" --version)"
    [[ $(cat "$env/made-of" 2>/dev/null) != "$wanted" ]] || return 0
    rm -rf "$env"
    mkdir -p "$cache/wheel"
    "$1" -m venv "$env" && "$env/bin/pip" install --quiet --no-cache-dir "${packages[@]}" && echo "$wanted" >"$env/made-of"
}

# As `pip install --target` lays it out: the package, and bin/pagehaul beside it.
lay_out() {
    mkdir -p "$scratch/site/bin"
    ln -s "$root/python/pagehaul" "$scratch/site/pagehaul"
    ln -s "$given" "$scratch/site/bin/pagehaul"
    export PATH=$scratch/site/bin:$PATH PYTHONPATH=$scratch/site
}

# Installs the wheel in each way into an empty place, without a network, and asks for the program from there.
install() {
    local from=(--quiet --no-index --find-links "$(dirname "$given")" --no-deps pagehaul)
    local find='import pagehaul; print(pagehaul.find_program())'
    "$1" -m venv --without-pip "$scratch/venv"
    "$env/bin/pip" --python "$scratch/venv/bin/python" install "${from[@]}"
    [[ $("$scratch/venv/bin/python" -c "$find") = "$scratch/venv/bin/pagehaul" ]]
    "$scratch/venv/bin/pagehaul" --version
    "$scratch/venv/bin/python" -m pagehaul --version
    "$env/bin/pip" install "${from[@]}" --target "$scratch/target"
    [[ $(PYTHONPATH=$scratch/target "$1" -c "$find") = "$scratch/target/bin/pagehaul" ]]
    PYTHONUSERBASE=$scratch/user "$env/bin/pip" --python "$(command -v "$1")" install "${from[@]}" --user --break-system-packages
    [[ $(PYTHONUSERBASE=$scratch/user "$1" -c "$find") = "$scratch/user/bin/pagehaul" ]]
    "$env/bin/pip" --python "$(command -v "$1")" install "${from[@]}" --prefix "$scratch/prefix" --break-system-packages \
        --ignore-installed
    [[ $(PYTHONPATH=$(echo "$scratch"/prefix/lib/python*/*-packages) "$1" -c "$find") = "$scratch/prefix/bin/pagehaul" ]]
    rm -rf "$scratch"/{venv,target,user,prefix}
    # The tests run where the packages are.
    "$env/bin/pip" install --force-reinstall "${from[@]}"
}

ran=0
for python in ${PYTHONS:-python3}; do
    if ! environment "$python"; then
        printf '!! SKIPPED: %s has no environment\n' "$python" >&2
        [[ ${CI:-} != true ]] || exit 1
        continue
    fi
    "$python" --version
    if [[ $given = *.whl ]]; then
        ((ran)) || "$env/bin/python" "$root/tests/python/contents.py" "$given"
        mkdir -p "$scratch/docs" && ln -sfn "$(dirname "$given")" "$scratch/docs/dist"
        install "$python"
        export PATH=$env/bin:$PATH
    else
        ((ran)) || lay_out
    fi
    if ((!ran)); then
        (cd "$root" && "$env/bin/mypy" --cache-dir "$scratch/mypy")
        (cd "$root" && "$env/bin/ruff" check --no-cache && "$env/bin/ruff" format --no-cache --check)
    fi
    (cd "$root/tests/python" && MOTO=$cache/stores/python/bin/moto_server timeout 300 \
        "$env/bin/python" -m pytest -q -p no:cacheprovider --basetemp "$scratch/pytest" .)
    if ((!ran)); then
        mkdir -p "$scratch/docs"
        (cd "$scratch/docs" && timeout 300 "$env/bin/python" "$root/tests/python/docs.py" "$root/docs/python.md")
    fi
    ran=$((ran + 1))
done
[[ $ran -gt 0 ]]
