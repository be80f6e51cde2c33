#!/usr/bin/env bash
# Peak memory where it could grow: 10,000 regions with 128 file descriptors, and a million ids; and how long a million ids
# take from the start of the process to its first request, the first time and when the export is resumed.
#
#   benches/memory.sh
#
# Needs: a release build (made if missing), /usr/bin/time, python3.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
profile=${PROFILE:-release}
cargo build --profile "$profile" --quiet
program=${CARGO_TARGET_DIR:-target}/$profile/pagehaul

# The built-in endpoint with 10,000 values for the region.
python3 - >"$work/regions.toml" <<'PY'
import re
text = open("config/endpoints/product-videos.toml").read()
regions = ", ".join(f'"R{number:05d}"' for number in range(10_000))
print(re.sub(r"(?m)^partitions = \[[^\]]*\]", f"partitions = [{regions}]", text))
PY

report() {
    python3 - "$1" "$work" <<'PY'
import json, sys
name, work = sys.argv[1:]
summary = json.loads(open(f"{work}/summary").read().splitlines()[-1])
print(f"{name}: peak {int(open(f'{work}/time').read().split()[-1]) / 1024:.0f} MiB, {summary['rows']['published']} rows,"
      f" {summary['regions']} regions, {summary['products']['total']} products, {summary['run']['seconds']:.0f} s, exit {summary['exit_code']}")
PY
}

run() {
    rm -rf "$work/out"
    /usr/bin/time -f %M -o "$work/time" "$program" export --out "$work/out" --progress none "$@" >"$work/summary" 2>"$work/log" || true
}

(ulimit -n 128
 run --endpoint "$work/regions.toml" --simulate=products=4000,max_videos=600 --qps unlimited --max-in-flight 24)
report '10,000 regions, 128 descriptors'

"$program" simulate --products 1000000 >"$work/ids"
run --products "$work/ids" --simulate=max_videos=600 --qps unlimited --max-in-flight 256 --max-credits 100000
report 'a million ids, the first 100,000 credits'

# An API that never answers: the process is killed at its first request.
for start in first resumed; do
    python3 - "$program" "$work" "$start" <<'PY'
import os, socket, subprocess, sys, time
program, work, start = sys.argv[1:]
api = socket.create_server(("127.0.0.1", 0))
api.settimeout(120)
command = [program, "export", "--products", f"{work}/ids", "--out", f"{work}/begun", "--qps", "50", "--progress", "none",
           "--base-url", f"http://127.0.0.1:{api.getsockname()[1]}"]
begun = time.monotonic()
process = subprocess.Popen(command, env=dict(os.environ, KEYAPI_TOKEN="bench"), stderr=subprocess.DEVNULL)
connection, _ = api.accept()
connection.recv(1)
seconds = time.monotonic() - begun
peak = next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("VmHWM")).split()[1]
process.kill()
process.wait()
print(f"a million ids, {start} start: first request after {seconds:.2f} s, peak {int(peak) / 1024:.0f} MiB until then")
PY
done
