"""Runs the blocks of a document that are marked `sh` or `python`, in the order of the text: `docs.py DOCUMENT`.

All run in the current directory, with a list of products and, in place of the API, the simulator. Lines with python/build.sh are a
step of tests/long.sh. What installs dist/pagehaul-*.whl runs if there is one.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

SIMULATED = "seed=1,qps=100,latency=20ms,max_videos=40"


def main():
    document = Path(sys.argv[1])
    text = document.read_text(encoding="utf-8")
    ids = subprocess.run(["pagehaul", "simulate", SIMULATED, "--products", "5"], check=True, capture_output=True).stdout
    Path("products.txt").write_bytes(ids)
    command = ["pagehaul", "simulate", SIMULATED, "--listen", "127.0.0.1:0"]
    simulator = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = re.search(r"http://127\.0\.0\.1:\d+", simulator.stderr.readline())[0]
    environment = os.environ | {"PAGEHAUL_BASE_URL": address, "KEYAPI_TOKEN": "sk_live_docs"}
    ran = skipped = 0
    try:
        for found in re.finditer(r"^( *)```(sh|python)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
            line, content = text.count("\n", 0, found.start()) + 1, textwrap.dedent(found[3])
            is_wheel = "dist/pagehaul-*.whl" in content
            if "python/build.sh" in content or (is_wheel and not list(Path().glob("dist/pagehaul-*.whl"))):
                skipped += 1
                continue
            run = ["bash", "-euo", "pipefail", "-c"] if found[2] == "sh" else [sys.executable, "-c"]
            # A new user's environment has none of this.
            own = os.environ if is_wheel else environment
            ended = subprocess.run([*run, content], env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
            if ended.returncode != 0:
                sys.exit(f"{document.name}:{line}: exit code {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr[-3000:]}")
            ran += 1
    finally:
        simulator.terminate()
        simulator.wait(timeout=20)
    print(f"{document.name}: {ran} blocks ran, {skipped} skipped")


main()
