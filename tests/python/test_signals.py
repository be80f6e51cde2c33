"""Ctrl-C, SIGTERM and SIGHUP, in a process of their own. A terminal sends Ctrl-C to the whole process group."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import SUMMARY, Fake

import pagehaul

SCRIPT = """
import sys, threading
import pagehaul, pagehaul._export
if sys.argv[1] != "-":
    pagehaul._export.find_program = lambda: sys.argv[1]
settings = {"simulate": "products=12,qps=20"} if sys.argv[1] == "-" else {}
try:
    pagehaul.export(out="videos", heartbeat="100ms", on_progress=lambda so_far: so_far.pages and print("works", flush=True), **settings)
except KeyboardInterrupt as interrupt:
    error = interrupt.__cause__
    print("keyboard", type(error).__name__, error.summary.status, flush=True)
    raise
finally:
    print("finally", flush=True)
"""
COUNTED = {
    "products": 2, "products_done": 1, "products_failed": 0, "pages": 3, "rows": 30, "credits": 3, "requests": 3, "retries": 0,
    "throttled": 0, "requests_per_second": 1.5, "seconds": 2.0,
}


@pytest.fixture
def told(tmp_path):
    directory = tmp_path / "told"
    directory.mkdir()
    return Fake(directory)


def start(program, environment):
    """A script as a terminal starts it: the leader of a process group of its own. Returns when the export works."""
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, program], env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, process_group=0,
    ) if sys.version_info >= (3, 11) else subprocess.Popen(
        [sys.executable, "-c", SCRIPT, program], env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )
    assert script.stdout.readline() == "works\n"
    return script


def end(script):
    printed, errors = script.communicate(timeout=30)
    return script.returncode, [line for line in printed.splitlines() if line != "works"], errors


def wait_until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_reaches_the_program_once_although_the_terminal_sends_it_to_the_whole_group(told):
    script = start(str(told.program), told.told(waits=True, counts=COUNTED, stopped=SUMMARY | {"status": "interrupted"}))
    os.killpg(script.pid, signal.SIGINT)
    code, printed, errors = end(script)
    assert printed == ["keyboard Interrupted interrupted", "finally"]
    assert code == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")
    assert told.signals == ["SIGINT"]
    assert told.is_gone()


def test_a_second_ctrl_c_is_passed_on_too(told):
    script = start(str(told.program), told.told(waits=True, counts=COUNTED, stubborn=True, stopped=SUMMARY))
    os.killpg(script.pid, signal.SIGINT)
    wait_until(lambda: told.signals == ["SIGINT"])
    assert script.poll() is None
    os.killpg(script.pid, signal.SIGINT)
    code, printed, _ = end(script)
    assert (code, printed) == (-signal.SIGINT, ["keyboard Interrupted complete", "finally"])
    assert told.signals == ["SIGINT", "SIGINT"]
    assert told.is_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_stop_the_program_before_the_script_ends(told, number):
    script = start(str(told.program), told.told(waits=True, counts=COUNTED))
    os.kill(script.pid, number)
    code, printed, _ = end(script)
    assert (code, printed) == (128 + number, ["finally"])
    assert told.signals == ["SIGTERM"]
    assert told.is_gone()


def test_an_export_that_ctrl_c_stopped_is_resumed():
    script = start("-", {})
    os.killpg(script.pid, signal.SIGINT)
    code, printed, errors = end(script)
    assert (code, printed) == (-signal.SIGINT, ["keyboard Interrupted interrupted", "finally"]), errors
    summary = pagehaul.export(simulate="products=12", out="videos")
    assert summary.credits_in_doubt == 0
    assert 0 < summary.requests < summary.credits


EARLY = """
import os, sys, threading, time
import pagehaul, pagehaul._export
pagehaul._export.find_program = lambda: sys.argv[1]
number, delay = int(sys.argv[2]), float(sys.argv[3])
threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), number)), daemon=True).start()
pagehaul.export(out="videos")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_program_starts_leaves_no_program(tmp_path, number):
    pids = tmp_path / "pids"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ >>{pids}\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o755)
    scripts = [
        subprocess.run([sys.executable, "-c", EARLY, program, str(int(number)), str(delay / 2000)], capture_output=True, timeout=30)
        for delay in range(0, 25, 2)
    ]
    assert {script.returncode for script in scripts} <= {-number, 128 + number}, [script.stderr for script in scripts]
    started = pids.read_text(encoding="utf-8").split() if pids.exists() else []
    left = []
    for pid in map(int, started):
        try:
            os.kill(pid, 0)
            left.append(pid)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert left == []
