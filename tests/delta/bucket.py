"""The same table in a bucket: moto's S3 behind a proxy that errs, with the network cut and the program killed at random.

    bucket.py PAGEHAUL KILLS PRODUCTS MOTO

In the end every reader has the rows of the summary, each key once; nothing is in the bucket that no manifest and no log names; and
no more was paid twice than was in flight when the program was killed.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from readers import Bucket, available, manifests, missing, published

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stores"))
from proxy import Proxy  # noqa: E402

KEY, SECRET, NAME = "CANARYKEY", "CANARYSECRET0123", "lake"
IN_FLIGHT = 16
REPORTS = {"_SUCCESS", *(f"_pagehaul/{name}" for name in ("export.json", "summary.json", "products.parquet", "report.html"))}


def request(port, path, method="GET"):
    """A request to moto, which looks at no signature."""
    signed = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", method=method, headers={"Authorization": signed})
    return urllib.request.urlopen(asked).read().decode()


def serve(moto):
    """Starts moto and makes a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([moto, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            request(port, NAME, "PUT")
            return server, port
        except OSError:
            time.sleep(0.1)
    server.kill()
    sys.exit("moto does not listen")


def killed(start, proxy, kills, dice):
    """Runs that end by a kill, some of them after the network to the store was cut. How each ended."""
    ends = []
    while len([end for end in ends if end == -9]) < kills and 0 not in ends:
        run = start()
        time.sleep(dice.uniform(0.5, 5))
        proxy.cut = dice.random() < 0.4
        time.sleep(dice.uniform(0, 2))
        run.kill()
        ends.append(run.wait())
        proxy.cut = False
    return ends


def orphans(table, port):
    """What is in the bucket and has no reason to be: files in no manifest, uploads that nobody finished."""
    import pyarrow.fs

    selector = pyarrow.fs.FileSelector(table.root, recursive=True)
    there = {file.path.removeprefix(table.root + "/") for file in table.files.get_file_info(selector) if file.is_file}
    named = {file["path"] for manifest in manifests(table) for file in manifest["files"]} | REPORTS
    assert named <= there, named - there
    others = {name for name in there - named if not name.startswith(("_delta_log/", "_pagehaul/segments/"))}
    return others, request(port, f"{NAME}?uploads").count("<Upload>")


def main():
    program, kills, products, moto = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    readers, skipped = available()
    dice = random.Random(7)
    server, port = serve(moto)
    try:
        proxy = Proxy(("127.0.0.1", port), 7, 0.02)
        proxy.server.handle_error = lambda *_: None  # a client that was killed
        with tempfile.TemporaryDirectory() as directory:
            url = f"s3://{NAME}/exports/a"
            clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            environment = {**clean, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
            # Without evidence of lists' ends and pages ahead there is one number of requests that is the least.
            same = [f"--simulate=products={products},max_videos=200,latency=20ms", "--end", "short-page", "--lookahead", "0"]
            same += ["--max-in-flight", str(IN_FLIGHT), "--progress", "none"]
            store = ["--out", url, "--state-dir", f"{directory}/state", "--endpoint-url", proxy.url]
            export = [program, "export", *same, *store, "--qps", "300", "--table", "delta"]
            export += ["--segment-size", f"{max(240, products)}KiB"]

            def start():
                return subprocess.Popen(export, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

            def succeed(command):
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stderr}"
                return json.loads(done.stdout.splitlines()[-1])

            ends = killed(start, proxy, kills, dice)
            assert 0 not in ends, f"a run was faster than its kill: {ends}"
            # A store that errs may end a run with 5; then one without errors resumes it.
            run = start()
            message = run.communicate()[1].decode()
            if run.returncode == 5:
                ends.append(5)
                proxy.heal()
                run = start()
                message = run.communicate()[1].decode()
            assert run.returncode == 0, message
            proxy.heal()
            summary = succeed(export)
            assert summary["run"]["requests"] == 0, summary
            succeed([program, "verify", *store, "--json"])
            least = succeed([program, "export", *same, "--out", f"{directory}/local"])["credits"]["billed"]

            table = Bucket(url, f"127.0.0.1:{port}", KEY, SECRET)
            expected, whole, _ = published(table)
            rows, faults = sum(expected.values()), json.dumps(proxy.done)
            deaths = ends.count(-9)
            print(f"{rows} rows, {len(whole) - 1} segments, {deaths} kills, ends {ends}; faults of the store: {faults}")
            paid = summary["credits"]["billed"] + summary["credits"]["in_doubt"]
            assert least <= paid <= least + IN_FLIGHT * deaths, f"{paid} requests, {least} are the least"
            print(f"{paid} requests, {least} are the least: {(paid - least) / max(deaths, 1):.1f} a kill, {IN_FLIGHT} in flight")
            others, uploads = orphans(table, port)
            assert not others and not uploads, f"{others}, {uploads} uploads"
            print(f"0 orphans, 0 uploads left, {len(os.listdir(f'{directory}/state/staging'))} staged files")
            for name, read in readers.items():
                found = read(table)
                assert found == expected, f"{name}: {found - expected} too many, {expected - found} missing"
                print(f"{name}: {sum(found.values())} rows in the bucket, each key once")
    finally:
        server.kill()
    missing(skipped)


if __name__ == "__main__":
    main()
