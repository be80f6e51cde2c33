"""Runs an export with --serve, and reads what it serves: by both parsers of prometheus_client, promtool, and a real Prometheus.

scrape.py PAGEHAUL PROMTOOL PROMETHEUS      an empty name: that program is not there
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

DEADLINE = 60
# Some 2,700 pages at 100 a second: longer than everything here takes.
SIMULATE = "--simulate=products=300,max_videos=900,qps=100,latency=30ms,jitter=10ms,errors=0.02"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def until(what, condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise SystemExit(f"never: {what}")


def get(url, accept="*/*"):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


def values(families):
    """Each sample by its name and labels. One parser rewrites the bounds of buckets, `1` as `1.0`."""
    samples = [sample for family in families for sample in family.samples]

    def label(name, value):
        return f"{name}={float(value) if name == 'le' else value}"

    found = {(sample.name, *sorted(label(*pair) for pair in sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


def check_formats(base, promtool):
    old_type, old = get(f"{base}/metrics")
    new_type, new = get(f"{base}/metrics", OPEN_METRICS)
    assert old_type == "text/plain; version=0.0.4; charset=utf-8", old_type
    assert new_type == "application/openmetrics-text; version=1.0.0; charset=utf-8", new_type
    old_families, new_families = list(parse_prometheus(old)), list(parse_open_metrics(new))
    assert values(old_families).keys() == values(new_families).keys(), values(old_families).keys() ^ values(new_families).keys()
    for family in new_families:
        assert family.name.startswith("pagehaul_") and family.documentation.endswith("."), family.name
    units = {family.name: family.unit for family in new_families if family.unit}
    assert units.keys() == {family.name for family in new_families if family.name.endswith(("_seconds", "_bytes"))}, units
    if promtool:
        checked = subprocess.run([promtool, "check", "metrics"], input=old, text=True, capture_output=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), checked
    print(f"both formats: {len(new_families)} metrics, {len(values(new_families))} samples")


def check_other_pages(base, out, program):
    assert get(f"{base}/healthz")[1] == "ok\n"
    assert get(f"{base}/readyz")[1] == "ready: requests flow\n"
    served = json.loads(get(f"{base}/status.json")[1])
    status = subprocess.run([program, "status", "--json", "--out", out], capture_output=True, text=True, check=True)
    printed = json.loads(status.stdout)
    assert served.keys() == printed.keys() and served["export"] == printed["export"], (served, printed)
    try:
        get(f"{base}/nothing")
        raise SystemExit("a page that is not there")
    except urllib.error.HTTPError as error:
        assert error.code == 404, error


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def scrape(prometheus, base, directory):
    """Lets Prometheus scrape the export with the example's configuration, each second, and asks it."""
    example = Path("examples/prometheus")
    config = (example / "prometheus.yml").read_text()
    for text, other in [("127.0.0.1:9464", base.removeprefix("http://")), (": 15s", ": 1s"), ("rules.yml", str((example / "rules.yml").resolve()))]:
        assert text in config, text
        config = config.replace(text, other)
    (directory / "prometheus.yml").write_text(config)
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    arguments = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    log = open(directory / "prometheus.log", "w")
    process = subprocess.Popen([prometheus, *arguments], stdout=log, stderr=log)

    def ask(path, **query):
        try:
            return json.loads(get(f"{own}/api/v1/{path}?{urllib.parse.urlencode(query)}")[1])["data"]
        except (urllib.error.URLError, ConnectionError):
            return None

    def query(expression):
        found = ask("query", query=expression)
        return found and {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found["result"]}

    def one(expression):
        found = query(expression) or {}
        return next(iter(found.values())) if len(found) == 1 else None

    try:
        rate = until("Prometheus has a rate", lambda: one('sum(rate(pagehaul_requests_total[5s])) > 10'))
        target = ask("targets")["activeTargets"][0]
        assert (target["health"], target["lastError"]) == ("up", ""), target
        assert rate < 120, rate
        assert one("pagehaul_rate_limit_requests_per_second") == 100
        assert one("sum(pagehaul_products)") == 300
        assert one('sum(pagehaul_credits_total)') == one("pagehaul_export_credits") > 100
        slowest = one("histogram_quantile(0.95, rate(pagehaul_request_duration_seconds_bucket[5s]))")
        assert 0.02 < slowest < 1, slowest
        rules = [rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]]
        assert len(rules) == 8, rules
        metadata = ask("metadata", metric="pagehaul_requests") or ask("metadata", metric="pagehaul_requests_total")
        assert next(iter(metadata.values()))[0]["type"] == "counter", metadata
        samples = one("scrape_samples_scraped")
        print(f"Prometheus: {rate:.0f} requests/s, {samples:.0f} samples a scrape, {one('scrape_duration_seconds') * 1000:.1f} ms")
    finally:
        process.terminate()
        process.wait(DEADLINE)


def main():
    program, promtool, prometheus = sys.argv[1:]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGEHAUL_")}
    with tempfile.TemporaryDirectory() as scratch:
        directory, out = Path(scratch), f"{scratch}/out"
        arguments = [program, "export", SIMULATE, "--out", out, "--serve", "127.0.0.1:0", "--progress", "none"]
        export = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            line = export.stderr.readline()
            base = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert base, line
            base = base[0]
            until("pages come", lambda: "\npagehaul_pages_total 0\n" not in get(f"{base}/metrics")[1])
            check_formats(base, promtool)
            check_other_pages(base, out, program)
            if prometheus:
                scrape(prometheus, base, directory)
            assert export.poll() is None, "the export ended too soon"
            _, last = get(f"{base}/metrics")
            export.send_signal(signal.SIGTERM)
            summary = json.loads(export.communicate(timeout=DEADLINE)[0])
            pages = {name: value for (name, *_), value in values(parse_prometheus(last)).items()}["pagehaul_pages_total"]
            assert summary["exit_code"] == 143 and summary["run"]["pages"] >= pages, summary
            print(f"the export ended with {summary['run']['pages']} pages, {pages:.0f} of them at the last look")
        finally:
            export.kill()


main()
