#!/usr/bin/env bash
# Counts the instructions of decoding and encoding a full page with valgrind, and compares them with instructions.txt.
#
#   benches/instructions.sh            fails if a stage changed by more than 10 %
#   benches/instructions.sh --renew    stores the new counts; the commit message says why they changed
#
# A count does not depend on the machine's load or speed. It varies by less than 1 % between runs, because hash maps have random
# keys. It depends on the compiler, on the C library, and on the processor that valgrind emulates, because zstd and the C library
# choose code by it: on any x86-64 of the last ten years it has AVX2, but neither AVX-512 nor SHA instructions. On other
# machines nothing is compared. SHA-256 therefore takes 40 instructions a byte that a real processor does not need.
#
# Needs: valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."
renew=${1:-}
baseline=benches/instructions.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo build --quiet --release --locked --package pagehaul-instructions
program=${CARGO_TARGET_DIR:-target}/release/pagehaul-instructions

# count STAGE TIMES
count() {
    STAGE=$1 TIMES=$2 TMPDIR=$work valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" 2>&1 |
        sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p'
}

# measure STAGE PAGES TIMES: instructions a page; each time is for so many pages.
measure() {
    local few many
    few=$(count "$1" 1)
    many=$(count "$1" $((1 + $3)))
    echo "$1 $(((many - few) / ($2 * $3)))"
}

{
    measure decode 64 20
    measure encode 1024 2
} | tee "$work/counted"

if [[ $renew == --renew ]]; then
    { sed -n '/^#/p' "$baseline"; cat "$work/counted"; } >"$work/renewed"
    cp "$work/renewed" "$baseline"
    exit
fi
if [[ $(uname -m) != x86_64 ]] || ! grep -qw avx2 /proc/cpuinfo; then
    echo 'NOT COMPARED: the stored counts are of x86-64 with AVX2'
    exit
fi
while read -r stage stored; do
    counted=$(sed -n "s/^$stage //p" "$work/counted")
    change=$(((counted - stored) * 1000 / stored))
    printf '%s: %d instructions a page, %d stored: %d.%d %% %s\n' "$stage" "$counted" "$stored" \
        $((${change#-} / 10)) $((${change#-} % 10)) "$( ((change < 0)) && echo fewer || echo more)"
    if ((change > 100 || change < -100)); then
        echo "$stage changed by more than 10 %: make it cheaper, or renew the counts (benches/instructions.sh --renew) and say why"
        failed=1
    fi
done < <(grep -v '^#' "$baseline")
exit "${failed:-0}"
