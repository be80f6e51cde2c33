#!/usr/bin/env bash
# Whole processes: the simulator on core 0, pagehaul (then wrk) on core 1, no rate limit, full pages only.
#
#   benches/whole.sh [PAGES] [RUNS]      default: 100000 pages (a million rows), 3 runs; PROFILE=ci skips
#   link-time optimisation
#
# Needs: a release build (made if missing), taskset, /usr/bin/time, python3; wrk is used where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
pages=${1:-100000} runs=${2:-3} port=${PORT:-8098}
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
profile=${PROFILE:-release}
cargo build --profile "$profile" --quiet
program=${CARGO_TARGET_DIR:-target}/$profile/pagehaul

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
echo "$(wc -l <"$work/ids.txt") products, $depth full pages each"
export KEYAPI_TOKEN=sk_live_bench
for run in $(seq "$runs"); do
    rm -rf "$work/out"
    taskset -c 1 /usr/bin/time -f '%U %S %M' -o "$work/time" "$program" export --products "$work/ids.txt" \
        --base-url "http://127.0.0.1:$port" --qps unlimited --max-pages "$depth" --max-in-flight "${IN_FLIGHT:-96}" --progress none \
        --out "$work/out" >"$work/summary" 2>"$work/log"
    python3 - "$work" <<'PY'
import json, sys
work = sys.argv[1]
summary = json.loads(open(f"{work}/summary").read().splitlines()[-1])
user, system, memory = open(f"{work}/time").read().split()[-3:]
rows, pages, seconds = summary["rows"]["published"], summary["run"]["pages"], summary["run"]["seconds"]
cpu = float(user) + float(system)
print(f"pagehaul  {pages / seconds:7.0f} pages/s  {cpu / rows * 1e6:5.2f} CPU-s/M rows  {int(memory) / 1024:5.0f} MiB"
      f"  {summary['bytes'] / rows:5.1f} B/row  {summary['regions']} regions  {rows} rows  exit {summary['exit_code']}")
PY
done
if command -v wrk >/dev/null; then
    cat >"$work/pages.lua" <<'LUA'
local ids, n = {}, 0
for id in io.lines(os.getenv("IDS")) do ids[#ids + 1] = id end
request = function()
  n = n + 1
  local path = "/v1/tiktok/product/videos/analytics?product_id=" .. ids[n % #ids + 1] .. "&page_num=" .. (n % 50 + 1) .. "&page_size=10"
  return wrk.format("GET", path, { Authorization = "Bearer x" })
end
LUA
    for run in $(seq "$runs"); do
        IDS="$work/ids.txt" taskset -c 1 wrk -t1 -c64 -d5s -s "$work/pages.lua" "http://127.0.0.1:$port" | sed -n 's/^Requests\/sec: */wrk       /p'
    done
fi
