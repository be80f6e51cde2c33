"""The examples for cron, systemd and Kubernetes, with a fake of the program, a clock that passes midnight, and the program itself.

    check.py PAGEHAUL
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CRON = ROOT / "examples/cron"
passed = 0


def program(path, text):
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Machine:
    """A directory with programs of its own, which come before those of the system: a clock, and pagehaul."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.bin = scratch / "bin"
        self.bin.mkdir()
        self.out = scratch / "out"
        program(self.bin / "date", f'[ "$*" = "-u +%F" ] || exec {shutil.which("date")} "$@"\ncat {scratch}/today\n')
        # Each run takes one line of `codes`: its exit code, and perhaps the date when it ends.
        program(self.bin / "pagehaul", f"""
            echo "$@" >>{scratch}/runs
            read -r code then <{scratch}/codes
            sed -i 1d {scratch}/codes
            [ -z "$then" ] || echo "$then" >{scratch}/today
            exit "$code"
        """)
        (self.bin / "pagehaul-daily").symlink_to(CRON / "pagehaul-daily")

    def run(self, command, today=None, codes=()):
        """Runs a command; returns its exit code, what it printed, and the days of the runs that it started."""
        if today:
            (self.scratch / "today").write_text(f"{today}\n", encoding="utf-8")
        (self.scratch / "codes").write_text("".join(f"{code}\n" for code in codes), encoding="utf-8")
        (self.scratch / "runs").unlink(missing_ok=True)
        environment = os.environ | {"PATH": f"{self.bin}:{os.environ['PATH']}"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        runs = (self.scratch / "runs").read_text(encoding="utf-8") if (self.scratch / "runs").exists() else ""
        assert (self.scratch / "codes").read_text(encoding="utf-8") == "" or not codes, "fewer runs than expected"
        return ended.returncode, ended.stdout + ended.stderr, re.findall(r"--snapshot (\S+)", runs)


def check(name, found, expected):
    global passed
    assert found == expected, f"{name}: found {found}, expected {expected}"
    passed += 1
    print(f"ok  {name}", flush=True)


def check_script(machine):
    command = ["pagehaul-daily", str(machine.out), "--qps", "10"]
    day, next_day, later = "2026-11-27", "2026-11-28", "2026-11-30"
    check("a day is exported once", machine.run(command, day, [0]), (0, "", [day]))
    check("a finished day is asked for again, which costs nothing", machine.run(command, day, [0]), (0, "", [day]))
    for code in (5, 130, 143, 1, 2, 4, 6, 7, 8, 9, 10):
        check(f"exit code {code} is passed on", machine.run(command, day, [code]), (code, "", [day]))
    for code in (2, 126, 127):
        machine.run(command, "2026-11-26", [code])
        check(f"a day that did not begin is not continued, code {code}", machine.run(command, day, [0]), (0, "", [day]))
    (machine.out / f"snapshot={day}/_pagehaul").mkdir(parents=True)
    for code in (5, 2):
        machine.run(command, day, [code])
        check(f"one that began is, code {code}", machine.run(command, next_day, [5]), (5, "", [day]))
    check("a start after midnight continues the day that is not finished", machine.run(command, next_day, [5]), (5, "", [day]))
    check("and today's follows it", machine.run(command, next_day, [0, 0]), (0, "", [day, next_day]))
    check("a partial day holds nothing up", machine.run(command, later, [3]), (3, "", [later]))
    (machine.out / f"snapshot={later}/_pagehaul").mkdir(parents=True)
    machine.run(command, later, [5])
    check("its exit code is not lost", machine.run(command, "2026-12-01", [3, 0]), (3, "", [later, "2026-12-01"]))
    machine.run(command, later, [5])
    check("nor behind a code for which somebody must act", machine.run(command, "2026-12-01", [3, 7]), (7, "", [later, "2026-12-01"]))
    check("the next run tells it", machine.run(command, "2026-12-01", [4]), (3, "", ["2026-12-01"]))
    check("only once", machine.run(command, "2026-12-01", [0]), (0, "", ["2026-12-01"]))
    for directory in machine.out.glob("snapshot=*"):
        shutil.rmtree(directory)
    midnight = machine.run(command, "2026-12-02", ["0 2026-12-03", 0])
    check("a run that ends after midnight is followed by the new day", midnight, (0, "", ["2026-12-02", "2026-12-03"]))
    (machine.out / ".day").write_text("", encoding="utf-8")
    check("an empty note of the day is written again", machine.run(command, "2026-12-03", [0]), (0, "", ["2026-12-03"]))
    check("no note is left", [path.name for path in machine.out.iterdir()], [])


def check_signals(scratch):
    """A signal to the script alone, while a day's export ends after midnight."""
    machine = Machine(scratch)
    program(machine.bin / "pagehaul", f"""
        trap 'echo TERM >>{scratch}/signals; echo 2026-11-28 >{scratch}/today; exit $(cat {scratch}/code)' TERM
        echo "$@" >>{scratch}/runs
        while :; do sleep 0.1; done
    """)
    environment = os.environ | {"PATH": f"{machine.bin}:{os.environ['PATH']}"}
    for number, code, expected in (("TERM", 143, 143), ("INT", 143, 130), ("HUP", 143, 129), ("TERM", 0, 143), ("TERM", 9, 9)):
        (scratch / "today").write_text("2026-11-27\n", encoding="utf-8")
        (scratch / "code").write_text(f"{code}\n", encoding="utf-8")
        for name in ("runs", "signals"):
            (scratch / name).write_text("", encoding="utf-8")
        script = subprocess.Popen(["pagehaul-daily", str(machine.out)], env=environment, stdin=subprocess.DEVNULL)
        while not (scratch / "runs").read_text(encoding="utf-8"):
            time.sleep(0.02)
        script.send_signal(getattr(signal, f"SIG{number}"))
        ended = script.wait(30)
        runs, signals = ((scratch / name).read_text(encoding="utf-8").split("\n")[:-1] for name in ("runs", "signals"))
        found = (ended, signals, [run.split()[-1] for run in runs])
        check(f"SIG{number} stops pagehaul, code {code}, and no day follows", found, (expected, ["TERM"], ["2026-11-27"]))


def check_crontab(machine):
    lines = [line for line in (CRON / "crontab").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    path, line = lines
    assert "/usr/local/bin" in path.removeprefix("PATH=").split(":"), path
    fields = line.split(None, 5)
    assert "%" not in fields[5], "cron would cut the line"
    text = fields[5].replace("/var/lib/pagehaul", str(machine.out)).replace("/var/log", str(machine.scratch))
    for code, printed in ((0, ""), (4, ""), (5, "exit code 5"), (7, "exit code 7")):
        _, found, runs = machine.run(["/bin/sh", "-c", text], "2026-12-04", [code])
        found = (printed in found, bool(found), runs)
        check(f"cron mails after exit code {code}: {bool(printed)}", found, (True, bool(printed), ["2026-12-04"]))
    machine.run(["/bin/sh", "-c", text], "2026-12-04", [0])


def check_units(scratch):
    if not shutil.which("systemd-analyze"):
        print("!! SKIPPED: systemd-analyze is not here")
        return os.environ.get("CI") != "true"
    for name in ("pagehaul.service", "pagehaul.timer"):
        text = (CRON / name).read_text(encoding="utf-8").replace("/usr/local/bin/", f"{CRON}/")
        (scratch / name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(scratch / "pagehaul.service"), str(scratch / "pagehaul.timer")]
    ended = subprocess.run(command, capture_output=True, text=True)
    check("systemd accepts the units", (ended.returncode, ended.stdout + ended.stderr), (0, ""))
    return True


def check_kubernetes(machine):
    path = ROOT / "examples/kubernetes/cronjob.yaml"
    validate = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(path)]
    ended = subprocess.run(validate, capture_output=True, text=True)
    check("the schemas of Kubernetes accept the manifest", (ended.returncode, ended.stdout), (0, ""))
    _, job = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    pod = job["spec"]["jobTemplate"]["spec"]
    (container,) = pod["template"]["spec"]["containers"]
    # 27 November 2026, 02:00 UTC, in minutes. The clock is two days later.
    os.environ["JOB"] = "pagehaul-29929080"
    found = machine.run([*container["command"], *container["args"]], "2026-11-29", [5])
    check("a pod names the day for which its job was scheduled", found, (5, "", ["2026-11-27"]))
    (rule,) = [rule["onExitCodes"]["values"] for rule in pod["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    check("5, 130 and 143 are retried, all others are not", {*range(1, 11)} - {*rule}, {5})
    check("two jobs do not overlap", job["spec"]["concurrencyPolicy"], "Forbid")


def check_program(scratch, pagehaul):
    """The program ends at SIGTERM before midnight, and is started again after it."""
    machine = Machine(scratch)
    (machine.bin / "pagehaul").unlink()
    first = f"if mkdir {scratch}/tried 2>/dev/null; then exec timeout --foreground --preserve-status -s TERM 2 {pagehaul} \"$@\"; fi"
    program(machine.bin / "pagehaul", f"{first}\nexec {pagehaul} \"$@\"\n")
    command = ["pagehaul-daily", str(machine.out), "--simulate=products=30,qps=50,max_videos=200"]
    code, _, _ = machine.run(command, "2026-11-27")
    code_after, printed, _ = machine.run(command, "2026-11-28")
    old, new = (json.loads(line) for line in printed.splitlines() if line.startswith("{"))
    check("the first run was stopped, the second one ended two days", (code, code_after), (143, 0))
    found = sorted(path.name for path in machine.out.iterdir())
    check("the days have a snapshot each", found, ["snapshot=2026-11-27", "snapshot=2026-11-28"])
    paid = old["credits"]["billed"]
    check("the old day's pages were not paid for twice", (0 < old["run"]["requests"] < paid, old["credits"]["in_doubt"]), (True, 0))
    check("both days are whole", (old["products"]["complete"], new["products"]["complete"], new["credits"]["billed"]), (30, 30, paid))


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "real").mkdir()
        (scratch / "signals").mkdir()
        machine = Machine(scratch)
        check_script(machine)
        check_signals(scratch / "signals")
        check_crontab(machine)
        is_verified = check_units(scratch)
        check_kubernetes(machine)
        check_program(scratch / "real", sys.argv[1])
    print(f"{passed} passed, {0 if is_verified else 1} failed")
    sys.exit(0 if is_verified else 1)


main()
