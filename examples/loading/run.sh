#!/usr/bin/env bash
# Runs every recipe on two simulated exports, with region in the names of the directories and in the files too, and
# compares rows, regions and sums with what the exports say of themselves.
#
#   run.sh                 builds pagehaul; PAGEHAUL=PROGRAM uses a built one
#
# Needs a Rust toolchain, Python with venv, and the registries of both. As root on Debian it installs PostgreSQL and Java
# if they are missing. What cannot be had is skipped with a line; under CI=true that is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${LOADING_CACHE:-$root/target/loading}
scratch=$(mktemp -d /tmp/loading.XXXXXX)
postgres=

finish() {
    [[ -z $postgres ]] || as_postgres "$postgres/pg_ctl" -D "$scratch/pg/data" -m immediate stop >/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

# Debian packages, where that is possible.
install_packages() {
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# PostgreSQL does not run as root.
as_postgres() {
    if [[ $(id -u) == 0 ]]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# Sets PATH so that `pagehaul` is the program under test.
find_pagehaul() {
    local program=${PAGEHAUL:-}
    if [[ -z $program ]]; then
        (cd "$root" && cargo build --locked --quiet)
        program=${CARGO_TARGET_DIR:-$root/target}/debug/pagehaul
    fi
    mkdir "$scratch/bin"
    ln -s "$(realpath "$program")" "$scratch/bin/pagehaul"
    export PATH=$scratch/bin:$cache/venv/bin:$PATH
}

# A Python environment with the recipes' packages, made anew when their versions change.
make_environment() {
    local wanted
    wanted=$(cat "$here/requirements.txt"; python3 --version)
    if [[ $(cat "$cache/made-of" 2>/dev/null) != "$wanted" ]]; then
        rm -rf "$cache"
        mkdir -p "$cache"
        python3 -m venv "$cache/venv" 2>/dev/null || { install_packages python3-venv && python3 -m venv "$cache/venv"; }
        "$cache/venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check -r "$here/requirements.txt"
        echo "$wanted" >"$cache/made-of"
    fi
}

# A PostgreSQL of its own, on a socket in the scratch directory, with a database for each export.
start_postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install_packages postgresql || return 0
    local programs
    programs=$(dirname "$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1)")
    mkdir "$scratch/pg"
    chmod 755 "$scratch"
    [[ $(id -u) != 0 ]] || chown postgres "$scratch/pg"
    as_postgres "$programs/initdb" -D "$scratch/pg/data" -A trust -U postgres >/dev/null
    as_postgres "$programs/pg_ctl" -D "$scratch/pg/data" -l "$scratch/pg/log" -w \
        -o "-k $scratch/pg -c listen_addresses=''" start >/dev/null
    postgres=$programs
    export PGHOST=$scratch/pg PGUSER=postgres
    psql --quiet --dbname postgres --command 'CREATE DATABASE "plain"' --command 'CREATE DATABASE "in_files"'
}

export_videos() {
    mkdir "$scratch/$1"
    (cd "$scratch/$1" && RUST_LOG=error pagehaul export --simulate=products=40,max_videos=300 --out videos "${@:2}" \
        --progress none >out.json 2>log) || { cat "$scratch/$1/log"; exit 1; }
}

# The two exports, each as `videos` in a directory of its own. Some regions have no plain name, some rows have none.
export_both() {
    sed 's/^partitions = .*/partitions = ["ID", "TH", "NO", "01", "a b", "x\/y", "é", ""]/' \
        "$root/config/endpoints/product-videos.toml" >"$scratch/endpoint.toml"
    export PAGEHAUL_ENDPOINT=$scratch/endpoint.toml
    export_videos plain
    export_videos in_files --partition-in-files
}

make_environment
find_pagehaul
command -v java >/dev/null || install_packages default-jre-headless || true
start_postgres
export_both
"$cache/venv/bin/python" "$here/check.py" "$scratch/plain" "$scratch/in_files"
