"""Where the program is found: beside the package, whatever else is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

import pagehaul

PACKAGE = Path(pagehaul.__file__).parent


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts the package into a directory, a program into another, and says which program is found."""

    def install(packages, programs):
        (tmp_path / packages).mkdir(parents=True)
        (tmp_path / packages / "pagehaul").symlink_to(PACKAGE)
        if programs:
            (tmp_path / programs).mkdir(parents=True, exist_ok=True)
            (tmp_path / programs / "pagehaul").write_text("#!/bin/sh\necho \"$@\"\n", encoding="utf-8")
            (tmp_path / programs / "pagehaul").chmod(0o755)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / packages))
        return [sys.executable, "-S"]

    return install


@pytest.mark.parametrize(
    ("packages", "programs"),
    [
        ("venv/lib/python3.13/site-packages", "venv/bin"),
        ("usr/lib/python3/dist-packages", "usr/bin"),
        ("target", "target/bin"),
    ],
)
def test_the_program_of_the_same_installation_comes_first(installed, tmp_path, packages, programs):
    python = installed(packages, programs)
    code = "import pagehaul; print(pagehaul.find_program())"
    found = subprocess.run([*python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found) == tmp_path / programs / "pagehaul"
    ran = subprocess.run([*python, "-m", "pagehaul", "export", "--out", "a b"], check=True, capture_output=True, text=True)
    assert ran.stdout == "export --out a b\n"


def test_a_missing_program_is_named_with_the_places_that_were_searched(installed, tmp_path):
    python = installed("target", None)
    code = "import pagehaul._find as f, pathlib; f.sysconfig.get_path = lambda *a, **k: '/nonexistent'; f.find_program()"
    ended = subprocess.run([*python, "-c", code], check=False, capture_output=True, text=True)
    assert f"ProgramNotFound: the program pagehaul of this package is in none of {tmp_path}/target/bin" in ended.stderr
