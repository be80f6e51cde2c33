#!/usr/bin/env bash
# The honesty test: each patch in tests/planted/ is a bug that would lose rows or credits. Each is put into a copy of the
# tree, and the simulation must fail there within 500 seeds.
#
#   tests/planted.sh [PATCH...]      all of them take about half a minute each
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null --files-from=- -cf - | tar -xf - -C "$copy"
# Newer than whatever an earlier run left in the target directory: Cargo would take a bug's build for the tree's.
find "$copy" -name '*.rs' -exec touch {} +
export CARGO_TARGET_DIR=${PLANTED_TARGET:-$root/target/planted} PAGEHAUL_SEEDS=0..500 RUST_BACKTRACE=0

simulate() {
    (cd "$copy" && cargo test --quiet --locked --test simulation 2>&1)
}

patches=("$@")
[ ${#patches[@]} -gt 0 ] || patches=(tests/planted/*.patch)
echo "without a bug: it must pass"
simulate >"$copy/output" || { cat "$copy/output"; exit 1; }
missed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    patch --quiet --directory "$copy" --strip 1 <"$patch"
    if simulate >"$copy/output"; then
        echo "MISSED  $name"
        missed=$((missed + 1))
    elif grep -q '^error.*could not compile\|^error\[E' "$copy/output"; then
        echo "BROKEN  $name does not compile"
        grep -m3 '^error' "$copy/output"
        missed=$((missed + 1))
    else
        how=$(grep -m1 -o 'seed [0-9]* failed\|power lost at: [A-Z][a-z]* [a-z ]*\|twice_gives_the_same_log' "$copy/output" || true)
        echo "caught  $name: ${how:-in another way}"
    fi
    patch --quiet --directory "$copy" --strip 1 --reverse <"$patch"
done
echo "${#patches[@]} planted bugs, $missed not caught"
[ "$missed" = 0 ]
