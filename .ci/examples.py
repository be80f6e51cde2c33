"""Runs what the README and docs/ show: every fenced block marked `sh` or `sql`, in the order of each text.

    examples.py README.md [DOCUMENT...]      in a folder that holds the export `videos`

Each block runs by itself, as a reader would paste it: `sh` in bash with `pagehaul` on the PATH, SQL in DuckDB. The README's run in
the folder itself; those of each other document in a folder of their own, with a list, a settings file and an export of the same
names. Not run: lines that begin with `cargo` or `benches/`, which are steps of the gate or take long. Commands for a real key run
against the simulator that the README itself shows how to start, those for a bucket against moto, whose server the variable MOTO
names.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

# What the examples take for given: a list of products, kept short, and a settings file.
PRODUCTS = 5
SETTINGS = "page_size = 5\n"

# Documents whose blocks tests/wheel.sh and tests/schedulers.sh run, with what they need.
ELSEWHERE = {"python.md", "schedulers.md"}

SQL = "import duckdb, sys; print(duckdb.sql(sys.argv[1]))"


def blocks(text):
    """Line, language and content of each fenced block that is to be run."""
    for found in re.finditer(r"^( *)```(sh|sql)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3])


class Moto:
    """S3 on loopback, with the bucket of the examples."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [os.environ["MOTO"], "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                return self.empty()
            except OSError:
                time.sleep(0.1)
        sys.exit("moto does not listen")

    def empty(self):
        """Forgets what other documents exported, and makes the bucket."""
        for path, method in (("moto-api/reset", "POST"), ("lake", "PUT")):
            urllib.request.urlopen(urllib.request.Request(f"{self.address}/{path}", method=method))

    def variables(self):
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=20)


class Simulator:
    """The simulator as the README starts it, but on any free port."""

    def __init__(self, text):
        (line,) = re.findall(r"^pagehaul simulate .*--listen .*$", text, re.MULTILINE)
        words = shlex.split(line)
        address = words.index("--listen") + 1
        command = words[:address] + ["127.0.0.1:0"] + words[address + 1 :]
        without_listen = words[: address - 1] + words[address + 1 :]
        ids = subprocess.run([*without_listen, "--products", str(PRODUCTS)], check=True, capture_output=True)
        Path("products.txt").write_bytes(ids.stdout)
        self.line = line
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        self.base_url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
        print(f"{line}\n{said}", end="", flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=20)


def command(language, content, simulator):
    """The command that runs a block; none if there is nothing to run here."""
    if language == "sql":
        return [sys.executable, "-c", SQL, content]
    skipped = ("cargo ", "benches/", "#")
    lines = [line for line in content.splitlines() if line != simulator.line]
    if not any(line and not line.startswith(skipped) for line in lines):
        return None
    lines = [line.replace("http://127.0.0.1:8080", simulator.base_url) for line in lines if not line.startswith(skipped)]
    return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]


def run(document, folder, simulator, environment):
    """Runs the blocks of a document in a folder."""
    for line, language, content in blocks(document.read_text(encoding="utf-8")):
        print(f"\n-- {document.name}:{line} ({language})", flush=True)
        to_run = command(language, content, simulator)
        if to_run is None:
            print("not run here")
            continue
        # `--simulate` brings its own API, beside which an address is refused.
        hidden = "PAGEHAUL_BASE_URL" if "--simulate" in content else ""
        shown = {name: value for name, value in environment.items() if name != hidden}
        ended = subprocess.run(to_run, stdin=subprocess.DEVNULL, env=shown, cwd=folder, timeout=240)
        if ended.returncode != 0:
            sys.exit(f"{document.name}:{line}: ended with exit code {ended.returncode}")


def prepare(folder):
    """What examples take for given, in a folder of their own."""
    folder.mkdir()
    for name in ("products.txt", "my.toml"):
        shutil.copy(name, folder / name)
    shutil.copytree("videos", folder / "videos")


def main():
    readme, *others = map(Path, sys.argv[1:])
    Path("my.toml").write_text(SETTINGS, encoding="utf-8")
    with Simulator(readme.read_text(encoding="utf-8")) as simulator, Moto() as bucket:
        environment = os.environ | bucket.variables() | {
            "PAGEHAUL_BASE_URL": simulator.base_url,
            "KEYAPI_TOKEN": "sk_live_ci",
        }
        for document in (document for document in others if document.name not in ELSEWHERE):
            prepare(Path(document.stem))
            run(document, Path(document.stem), simulator, environment)
            bucket.empty()
        run(readme, Path(), simulator, environment)


main()
