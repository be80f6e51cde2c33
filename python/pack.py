"""What python/build.sh needs of Python: which paths to hide in the program, and what a wheel needs besides what maturin makes.

    pack.py paths METADATA SYSROOT TARGET     prints FROM=TO for each directory that a compiler may mention
    pack.py finish METADATA WHEEL OUT         adds the licences of the dependencies, takes this directory's path out of the SBOM,
                                              and packs the wheel into OUT
METADATA is what `cargo metadata` printed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

LICENSES = "THIRD-PARTY-LICENSES.txt"
# Names under which a crate's authors put a licence.
IS_LICENSE = re.compile(r"(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def dependencies(metadata):
    """Name, version, licence and directory of each dependency that is compiled into the program."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    reached, waiting = set(), [root]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for edge in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in edge["dep_kinds"]):
                waiting.append(edge["pkg"])
    for name in sorted(reached - {root}, key=lambda name: (packages[name]["name"], packages[name]["version"])):
        package = packages[name]
        yield package["name"], package["version"], package["license"] or "see below", Path(package["manifest_path"]).parent


def print_paths(metadata, sysroot, target):
    root = Path(metadata["workspace_root"])
    print(f"{root}=/pagehaul")
    for directory in sorted({Path(package["manifest_path"]).parent.parent for package in metadata["packages"] if package["source"]}):
        print(f"{directory}=/crates")
    print(f"{sysroot}/lib/rustlib/src/rust=/rust")
    print(f"{target}=/target")


def third_party(metadata):
    """The licences of all dependencies; a text that many have is there once."""
    texts, lines = {}, ["pagehaul contains these packages.", ""]
    for name, version, license, directory in dependencies(metadata):
        numbers = []
        for file in sorted(directory.iterdir()):
            if file.is_file() and IS_LICENSE.match(file.name):
                text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()
                numbers.append(texts.setdefault(text, len(texts) + 1))
        which = f"  texts {', '.join(map(str, sorted(numbers)))}" if numbers else ""
        lines.append(f"{name} {version}  {license}{which}")
    for text, number in texts.items():
        lines += ["", f"==== text {number} ====", "", text]
    return "\n".join(lines) + "\n"


def finish(metadata, wheel, out):
    with tempfile.TemporaryDirectory() as scratch:
        run = [sys.executable, "-m", "wheel"]
        subprocess.run([*run, "unpack", "--dest", scratch, wheel], check=True, stdout=subprocess.DEVNULL)
        (tree,) = Path(scratch).iterdir()
        (info,) = tree.glob("*.dist-info")
        for bom in info.glob("sboms/*.json"):
            text = bom.read_text(encoding="utf-8").replace(f"path+file://{metadata['workspace_root']}#", "path+file:///pagehaul#")
            content = json.loads(text)
            content["metadata"]["timestamp"] = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc).isoformat()
            bom.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (info / "licenses" / LICENSES).write_text(third_party(metadata), encoding="utf-8")
        about = info / "METADATA"
        head, separator, body = about.read_text(encoding="utf-8").partition("\n\n")
        about.write_text(f"{head}\nLicense-File: {LICENSES}{separator}{body}", encoding="utf-8")
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "scripts" else 0o644)
        subprocess.run([*run, "pack", "--dest-dir", out, str(tree)], check=True, stdout=subprocess.DEVNULL)
    print(Path(out, Path(wheel).name))


def main():
    command, metadata, *rest = sys.argv[1:]
    metadata = json.loads(Path(metadata).read_text(encoding="utf-8"))
    {"paths": print_paths, "finish": finish}[command](metadata, *rest)


main()
