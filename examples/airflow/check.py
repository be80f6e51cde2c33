"""Runs the DAG in Airflow: with a fake program that ends with each exit code, then with the program and its simulator.

    check.py PAGEHAUL
"""

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pagehaul._export
import pendulum
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from pagehaul_daily import SETTINGS, pagehaul_daily

SUMMARY = {
    "status": "complete", "exit_code": 0, "cause": None, "next": None, "complete_since": None, "export": "e", "regions": 0, "files": 0,
    "bytes": 0, "products": {"total": 2, "complete": 1}, "rows": {"published": 0}, "credits": {"billed": 2, "in_doubt": 0},
    "run": {"requests": 2, "seconds": 1.0},
}
# Exit code: the state of the task, its tries with one retry, and of the tasks after it: load, is_partial, alert.
DONE, SKIPPED, FAILED, UPSTREAM = "success", "skipped", "failed", "upstream_failed"
EXPECTED = {
    0: (DONE, 1, DONE, DONE, SKIPPED),
    3: (DONE, 1, DONE, DONE, DONE),
    4: (SKIPPED, 1, SKIPPED, SKIPPED, SKIPPED),
    **dict.fromkeys((1, 5, 130, 143), (FAILED, 2, UPSTREAM, UPSTREAM, UPSTREAM)),
    **dict.fromkeys((2, 6, 7, 8, 9, 10), (FAILED, 1, UPSTREAM, UPSTREAM, UPSTREAM)),
}


def script(path, text):
    """A program in place of pagehaul."""
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    pagehaul._export.find_program = lambda: str(path)


def run(dag, day):
    """Runs the DAG for a day; returns the states of its tasks, the tries of the export, and its XCom."""
    ran = dag.test(logical_date=pendulum.datetime(*day, 2, tz="UTC"))
    with create_session() as session:
        tasks = {task.task_id: task for task in ran.get_task_instances(session=session)}
        states = {name: str(task.state) for name, task in tasks.items()}
        found = XComModel.get_many(run_id=ran.run_id, key="return_value", task_ids="export", dag_ids=dag.dag_id)
        value = session.execute(found.with_only_columns(XComModel.value)).scalar()
    value = json.loads(value) if isinstance(value, str) else value
    return states, tasks["export"].try_number, value


def check_codes(dag, scratch):
    out = scratch / "codes"
    program = scratch / "fake"
    SETTINGS.update(products="list.txt", out=str(out))
    # What load reads: an export without rows, which the manifest says.
    segments = out / "_pagehaul/segments"
    segments.mkdir(parents=True)
    manifest = {"format": 1, "columns": [["product_id", "Utf8"]], "partition": "region", "files": []}
    (segments / "000001.json").write_text(json.dumps(manifest), encoding="utf-8")
    for nth, (code, expected) in enumerate(EXPECTED.items()):
        status = {0: "complete", 3: "partial"}.get(code, "other")
        summary = SUMMARY | {"status": status, "exit_code": code, "cause": "why", "next": "what to do", "out": str(out)}
        script(program, f"#!/bin/sh\necho \"$@\" >>{scratch}/arguments\necho '{json.dumps(summary)}'\nexit {code}\n")
        day = (2026, 10, 1 + nth)
        states, tries, xcom = run(dag, day)
        found = (states["export"], tries, states["load"], states["is_partial"], states["alert"])
        assert found == expected, (code, found, expected)
        assert xcom == (summary if code in (0, 3) else None), (code, xcom)
        arguments = (scratch / "arguments").read_text(encoding="utf-8").splitlines()[-1]
        assert f"--snapshot=2026-10-{1 + nth:02}" in arguments.split(), arguments
        print(f"ok  exit code {code:>3}: {states['export']}, tries: {tries}", flush=True)
    script(program, f"#!/bin/sh\nmkdir {scratch}/lost 2>/dev/null && exit 1\nexit 4\n")
    states, tries, _ = run(dag, (2026, 10, 30))
    assert (states["export"], tries, states["load"]) == (FAILED, 2, UPSTREAM), states
    print("ok  busy after a first try that was lost: retried, not skipped", flush=True)


def check_program(dag, scratch, program):
    """A first try that SIGTERM ends, a second one that completes. Both are on another day than the run's: it is long after midnight."""
    simulated = "seed=1,qps=50,latency=20ms,max_videos=200"
    ids = subprocess.run([program, "simulate", simulated, "--products", "30"], check=True, capture_output=True)
    (scratch / "products.txt").write_bytes(ids.stdout)
    command = [program, "simulate", simulated, "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())[0]
        os.environ["KEYAPI_TOKEN"] = "any"
        SETTINGS.update(products=str(scratch / "products.txt"), out=str(scratch / "videos"), base_url=address, qps=50)
        once = f"if mkdir {scratch}/tried 2>/dev/null; then exec timeout --foreground --preserve-status -s TERM 2 {program} \"$@\"; fi"
        script(scratch / "killed-once", f"#!/bin/sh\n{once}\nexec {program} \"$@\"\n")
        states, tries, xcom = run(dag, (2026, 10, 31))
        assert (states["export"], tries, states["load"]) == (DONE, 2, DONE), states
        assert (xcom["status"], xcom["credits"]["in_doubt"]) == ("complete", 0), xcom
        paid = xcom["credits"]["billed"]
        assert 0 < xcom["run"]["requests"] < paid, xcom
        assert [path.name for path in (scratch / "videos").iterdir()] == ["snapshot=2026-10-31"]
        print(f"ok  a retry continued the snapshot of its logical date: {xcom['run']['requests']} of {paid} requests were left", flush=True)
        states, tries, xcom = run(dag, (2026, 10, 31))
        assert (states["export"], xcom["run"]["requests"], xcom["credits"]["billed"]) == (DONE, 0, paid), xcom
        print("ok  the same day once more sent nothing", flush=True)
    finally:
        server.terminate()
        counted, _ = server.communicate(timeout=20)
    served = json.loads(counted.splitlines()[-1])["requests"]
    assert served == paid, (served, paid)
    print(f"ok  the API answered {served} requests in all: no page was paid for twice", flush=True)


def main():
    dag = pagehaul_daily()
    export = dag.task_dict["export"]
    assert export.retries == 6
    export.retries, export.retry_delay, export.retry_exponential_backoff = 1, timedelta(0), False
    assert (DagRunState.SUCCESS, TaskInstanceState.SUCCESS) == (DONE, DONE)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        check_codes(dag, Path(scratch))
        check_program(dag, Path(scratch), sys.argv[1])


main()
