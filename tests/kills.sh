#!/usr/bin/env bash
# kill -9 in the middle of an export, then the same command again: what was lost, what was paid twice.
#
#   tests/kills.sh [RANDOM_KILLS]     at 50, 75 and 90 % of 600 products, then so many times at random (default 20)
#
# BIN is the program (default: the release build), PORT the simulator's port.
set -euo pipefail
cd "$(dirname "$0")/.."
random_kills=${1:-20}
port=${PORT:-18480}
bin=${BIN:-target/release/pagehaul}
[ -n "${BIN:-}" ] || cargo build --quiet --release --locked
spec=products=600,max_videos=300,latency=20ms,jitter=20ms
export KEYAPI_TOKEN=any
directory=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$directory"' EXIT
"$bin" simulate --products 600 "$spec" >"$directory/ids"

json() { python3 -c 'import json,sys
value = json.loads(sys.stdin.read().strip().splitlines()[-1])
for name in sys.argv[1].split("."): value = value[name]
print(value)' "$1"; }

serve() {
    "$bin" simulate --listen "127.0.0.1:$port" "$spec" >"$directory/account" 2>/dev/null &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
}

# Ends the server; prints the pages that it was paid for.
charged() {
    kill $server
    until grep -q '"pages":' "$directory/account"; do sleep 0.05; done
    json pages <"$directory/account"
}

# In a subshell, which becomes the program: a kill must hit it and nothing else.
export_run() {
    exec "$bin" export --products "$directory/ids" --out "$directory/out" --base-url "http://127.0.0.1:$port" \
        --qps 2000 --max-in-flight 64 --segment-size 1MiB --progress none
}

# Content of the output, whatever its files are called.
content() {
    (cd "$1" && find region=* -name '*.parquet' -printf '%h\n' | sort | uniq -c | wc -l)
}

echo "reference: without a kill"
serve
(export_run) >"$directory/reference.json" 2>/dev/null
fewest=$(charged)
rows=$(json rows.published <"$directory/reference.json")
regions=$(content "$directory/out")
echo "  $fewest credits, $rows rows, $regions regions"

failed=0
# A kill when the condition holds, then the same command to its end.
case_of() {
    local name=$1 kills=0 in_doubt=0
    shift
    rm -rf "$directory/out"
    serve
    for condition in "$@"; do
        (export_run) >/dev/null 2>&1 &
        local run=$!
        if [[ $condition == share:* ]]; then
            local share=${condition#share:} complete=0
            while kill -0 $run 2>/dev/null; do
                complete=$("$bin" status --json --out "$directory/out" 2>/dev/null | json products.complete 2>/dev/null || echo 0)
                [ $((complete * 100)) -ge $((600 * share)) ] && break
            done
        else
            sleep "$condition"
        fi
        kill -9 $run 2>/dev/null && kills=$((kills + 1)) || true
        wait $run 2>/dev/null || true
        in_doubt=$("$bin" status --json --out "$directory/out" 2>/dev/null | json credits.in_doubt 2>/dev/null || echo "$in_doubt")
    done
    (export_run) >"$directory/last.json" 2>/dev/null || { echo "  $name: exit $?"; failed=$((failed + 1)); }
    local paid got
    paid=$(charged)
    got=$(json rows.published <"$directory/last.json")
    local twice=$((paid - fewest)) verdict=ok
    "$bin" verify --out "$directory/out" >/dev/null 2>"$directory/verify" || verdict="verify: $(tail -1 "$directory/verify")"
    [ "$got" = "$rows" ] && [ "$twice" -le "$in_doubt" ] && [ "$in_doubt" -le $((kills * 64)) ] || verdict="WRONG"
    [ "$verdict" = ok ] || failed=$((failed + 1))
    echo "  $name: $kills kills, rows missing $((rows - got)), paid twice $twice, in doubt $in_doubt: $verdict"
}

for share in 50 75 90; do case_of "at $share % of the products" "share:$share"; done
RANDOM=7
kills=()
for _ in $(seq "$random_kills"); do kills+=("0.$(printf '%03d' $((50 + RANDOM % 400)))"); done
case_of "$random_kills kills at random, one after the other" "${kills[@]}"
for at in 1 2 3 4 5; do case_of "a kill after ${kills[$at]} s" "${kills[$at]}"; done
[ "$failed" = 0 ] && echo "nothing lost, nothing twice beyond what was in doubt"
