#!/usr/bin/env bash
# The long runs, one after the other; hours on two cores. Each can be started by itself with the lines below.
#
#   tests/long.sh [SEEDS]      seeds of the simulation, default 200000
set -euo pipefail
cd "$(dirname "$0")/.."
step() { echo "== $1"; shift; "$@"; }
delta() { cargo build --release --locked --features delta --target-dir target/delta && tests/delta.sh target/delta/release/pagehaul 20; }

# Twice, in two directories and with two target directories: the wheels must be the same, byte for byte.
wheel() {
    local scratch
    scratch=$(mktemp -d)
    for copy in a b; do
        git clone --quiet . "$scratch/$copy"
        "$scratch/$copy/python/build.sh" "$scratch/wheel-$copy" "$scratch/target-$copy"
        rm -rf "$scratch/target-$copy"
    done
    cmp "$scratch"/wheel-a/*.whl "$scratch"/wheel-b/*.whl
    tests/wheel.sh "$scratch"/wheel-a/*.whl
    rm -rf "$scratch"
}

step 'simulation' env PAGEHAUL_SEEDS="2000..$((2000 + ${1:-200000}))" cargo test --locked --test simulation every_seed
step 'every pair of crashes, every state after a power loss' env PAGEHAUL_GRID=whole cargo test --locked --test crash --test simulation
step 'every step of a replay into a table' env PAGEHAUL_GRID=whole cargo test --locked --features delta --test program table
step 'disk faults, a hundred times the cases' env PAGEHAUL_CASES=100 cargo test --locked --test crash disk_faults
step 'mutated inputs, a hundred times the cases' env PAGEHAUL_CASES=100 cargo test --locked --test runs fuzz
step 'planted bugs' tests/planted.sh
step 'kills of the release build' tests/kills.sh 100
step 'object stores' tests/stores.sh target/release/pagehaul 20
step 'readers of a Delta table' delta
step 'schedulers' tests/schedulers.sh target/release/pagehaul
step 'a wheel, twice' wheel
step 'a report of a million products, the series of a month' cargo test --locked --lib -- --ignored
step 'the report in a browser' tests/page.sh target/release/pagehaul
step 'loading recipes' env PAGEHAUL=target/release/pagehaul examples/loading/run.sh
step 'memory' benches/memory.sh
step 'speed' benches/whole.sh
