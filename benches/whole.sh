#!/usr/bin/env bash
# Whole processes on one core: pagehaul, the script of compare/ and wrk in turn against the same server on the other core.
# No rate limit, full pages only, 21 regions.
#
#   benches/whole.sh [PAGES] [RUNS]    default: 100000 pages (a million rows), 5 runs
#
# PROFILE=dist measures a build with link-time optimization. COMPARE=no leaves the script out. IN_FLIGHT is 96.
# The script exports a fifth of the pages: its cost a page is the same from the first to the last.
# Needs: taskset, /usr/bin/time, python3 with venv; wrk is used where it is installed. The script's packages go to an
# environment in the user's cache, once.
set -euo pipefail
cd "$(dirname "$0")/.."
pages=${1:-100000} runs=${2:-5} port=${PORT:-8098} in_flight=${IN_FLIGHT:-96}
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
for name in ${!PAGEHAUL_@}; do unset "$name"; done
profile=${PROFILE:-release}
cargo build --profile "$profile" --quiet
program=${CARGO_TARGET_DIR:-target}/$profile/pagehaul
if [[ ${COMPARE:-yes} != no ]]; then
    environment=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-bench
    if ! cmp -s benches/compare/requirements.txt "$environment/made-of"; then
        python3 -m venv --clear "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r benches/compare/requirements.txt
        cp benches/compare/requirements.txt "$environment/made-of"
    fi
fi

# Deep products only, 50 pages of each: every page is full.
depth=50
taskset -c 0 "$program" simulate max_videos=2000 --listen "127.0.0.1:$port" >/dev/null 2>"$work/server.log" &
server=$!
until grep -q serving "$work/server.log"; do kill -0 "$server"; done
python3 - "$program" "$port" "$((pages / depth))" "$depth" >"$work/ids.txt" <<'PY'
# Ids whose page number `depth` is full.
import http.client, subprocess, sys
program, port, wanted, depth = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
ids = subprocess.run([program, "simulate", "--products", str(wanted * 60)], capture_output=True, text=True, check=True)
api, found = http.client.HTTPConnection("127.0.0.1", port), 0
for item in ids.stdout.split():
    path = f"/v1/tiktok/product/videos/analytics?product_id={item}&page_num={depth}&page_size=10"
    api.request("GET", path, headers={"Authorization": "Bearer x"})
    if api.getresponse().read().count(b'"video_id"') == 10:
        print(item)
        found += 1
        if found == wanted:
            break
PY
head -n $(((pages / depth + 4) / 5)) "$work/ids.txt" >"$work/fewer.txt"
echo "$(wc -l <"$work/ids.txt") products, $depth full pages each; $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
cat >"$work/pages.lua" <<'LUA'
local ids, n = {}, 0
for id in io.lines(os.getenv("IDS")) do ids[#ids + 1] = id end
request = function()
  n = n + 1
  local path = "/v1/tiktok/product/videos/analytics?product_id=" .. ids[n % #ids + 1] .. "&page_num=" .. (n % 50 + 1) .. "&page_size=10"
  return wrk.format("GET", path, { Authorization = "Bearer x" })
end
LUA
export KEYAPI_TOKEN=sk_live_bench

# measure NAME COMMAND...: runs it on core 1 and notes what it took. Its last line of output is its summary.
measure() {
    rm -rf "$work/out"
    taskset -c 1 /usr/bin/time -f '%U %S %M' -o "$work/time" "${@:2}" >"$work/summary" 2>"$work/log"
    python3 - "$1" "$work" <<'PY' | tee -a "$work/measured"
import glob, json, os, sys
name, work = sys.argv[1:]
summary = json.loads(open(f"{work}/summary").read().splitlines()[-1])
rows = summary["rows"]["published"] if isinstance(summary["rows"], dict) else summary["rows"]
seconds = summary["run"]["seconds"] if "run" in summary else summary["seconds"]
size = sum(os.path.getsize(file) for file in glob.glob(f"{work}/out/region=*/*.parquet"))
user, system, memory = map(float, open(f"{work}/time").read().split()[-3:])
print(f"{name} {rows / 10 / seconds:7.0f} pages/s {(user + system) / rows * 1e6:6.2f} CPU-s/M rows {memory / 1024:5.0f} MiB"
      f" {size / rows:6.1f} B/row  ({rows} rows)")
PY
}

for run in $(seq "$runs"); do
    measure pagehaul "$program" export --products "$work/ids.txt" --base-url "http://127.0.0.1:$port" --qps unlimited \
        --max-pages "$depth" --max-in-flight "$in_flight" --progress none --out "$work/out"
    if [[ ${COMPARE:-yes} != no ]]; then
        measure script "$environment/bin/python" benches/compare/export.py --products "$work/fewer.txt" \
            --base-url "http://127.0.0.1:$port" --max-pages "$depth" --in-flight "$in_flight" --out "$work/out"
    fi
    if command -v wrk >/dev/null; then
        IDS="$work/ids.txt" taskset -c 1 wrk -t1 -c64 -d5s -s "$work/pages.lua" "http://127.0.0.1:$port" |
            sed -n 's/^Requests\/sec: */wrk /p' | sed 's/$/ pages\/s/' | tee -a "$work/measured"
    fi
done
python3 - "$work/measured" <<'PY'
import statistics, sys
units = {"pages/s": ".0f", "CPU-s/M": ".2f", "MiB": ".0f", "B/row": ".1f"}
found = {}
for line in open(sys.argv[1]):
    words = line.split()
    for number, unit in zip(words[1:], words[2:]):
        if unit in units:
            found.setdefault(words[0], {}).setdefault(unit, []).append(float(number))
print("\nmedian (range):")
for name, measured in found.items():
    shown = (f"{statistics.median(all_):{units[unit]}} ({min(all_):{units[unit]}} to {max(all_):{units[unit]}}) {unit}"
             for unit, all_ in measured.items())
    print(f"  {name:8s}", ", ".join(shown).replace("CPU-s/M", "CPU-s/M rows"))
speed = {name: statistics.median(measured["pages/s"]) for name, measured in found.items()}
for other in ("script", "wrk"):
    if other in speed:
        print(f"  pagehaul / {other}: {speed['pagehaul'] / speed[other]:.2f}")
PY
