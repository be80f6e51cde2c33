"""What the tests share: a program that does as it is told, and a look at the processes that are left."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

import pagehaul

# Writes what it was given to FAKE_DIR/started.json, each signal that it gets to FAKE_DIR/signals, and does what FAKE_DO says.
FAKE = f"""#!{sys.executable}
import json, os, pathlib, signal, sys, time
here = pathlib.Path(os.environ["FAKE_DIR"])
do = json.loads(os.environ["FAKE_DO"])

def line(level, message, **fields):
    print(json.dumps({{"level": level, "fields": {{"message": message, **fields}}}}), file=sys.stderr, flush=True)

def note(number, frame):
    with open(here / "signals", "a") as file:
        print(signal.Signals(number).name, file=file, flush=True)
    line("WARN", "stopping")
    if len((here / "signals").read_text().split()) > 1 or not do.get("stubborn"):
        print(json.dumps(do["stopped"]), flush=True)
        os._exit(128 + number)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
given = pathlib.Path(next((word.split("=", 1)[1] for word in sys.argv if word.startswith("--products=")), "/nonexistent"))
(here / "started.json").write_text(json.dumps({{
    "pid": os.getpid(), "argv": sys.argv, "environment": dict(os.environ), "stdin": sys.stdin.read() if do.get("reads") else None,
    "list": given.read_bytes().decode("utf-8") if given.is_file() else None,
}}))
for one in do.get("lines", []):
    line(**one)
for _ in range(do.get("noise", 0)):
    line("INFO", "x" * 1000)
    print("y" * 1000)
if do.get("raw"):
    print(do["raw"], file=sys.stderr, flush=True)
if do.get("waits"):
    line("INFO", "waiting")
    while True:
        time.sleep(0.02)
        if do.get("counts"):
            line("INFO", "1/2", **do["counts"])
if do.get("killed"):
    os.kill(os.getpid(), signal.SIGKILL)
if "printed" in do:
    print(json.dumps(do["printed"]))
sys.exit(do.get("exit", 0))
"""

SUMMARY = {
    "status": "complete", "exit_code": 0, "cause": None, "next": None, "complete_since": "2026-11-28T00:46:18.942Z",
    "export": "d511fd9252", "out": "e1", "regions": 12, "files": 12, "bytes": 103411, "later": {"unknown": 1},
    "products": {"total": 5, "complete": 5}, "rows": {"published": 38}, "credits": {"billed": 10, "in_doubt": 0},
    "run": {"requests": 10, "seconds": 0.128},
}
COUNTS = {
    "products": 2, "products_done": 1, "products_failed": 0, "pages": 3, "rows": 30, "credits": 3, "requests": 3, "retries": 0,
    "throttled": 0, "requests_per_second": 1.5, "seconds": 2.0, "later": 1,
}


class Fake:
    """The program that does as it is told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "fake-pagehaul"
        self.program.write_text(FAKE, encoding="utf-8")
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def told(self, **do: object) -> dict[str, str]:
        """The variables that tell it what to do."""
        return {"FAKE_DIR": str(self.directory), "FAKE_DO": json.dumps({"stopped": SUMMARY, **do})}

    @property
    def started(self) -> dict:
        return json.loads((self.directory / "started.json").read_text(encoding="utf-8"))

    @property
    def signals(self) -> list[str]:
        path = self.directory / "signals"
        return path.read_text(encoding="utf-8").split() if path.exists() else []

    def is_gone(self) -> bool:
        """Whether the process has ended and was waited for: a zombie is still there."""
        try:
            os.kill(self.started["pid"], 0)
        except ProcessLookupError:
            return True
        return False


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The fake in place of the program, for this process."""
    directory = tmp_path / "fake"
    directory.mkdir()
    fake = Fake(directory)
    monkeypatch.setattr("pagehaul._export.find_program", lambda: str(fake.program))

    def tell(**do):
        for name, value in fake.told(**do).items():
            monkeypatch.setenv(name, value)
        return fake

    return tell


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No settings of whoever runs the tests, and a directory of their own."""
    for name in list(os.environ):
        if name.startswith("PAGEHAUL_") or name in ("KEYAPI_TOKEN", "RUST_LOG"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def export(**settings):
    """A small export from the simulator."""
    return pagehaul.export(**{"simulate": "products=20,max_videos=60,qps=2000", "out": "videos", **settings})
