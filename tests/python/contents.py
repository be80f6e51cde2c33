"""What is in a wheel: `contents.py WHEEL`. Sizes, the SBOM, licences, no path of the machine that built it."""

import base64
import csv
import hashlib
import io
import json
import re
import sys
import zipfile
from pathlib import Path

LARGEST_WHEEL = 15_000_000
LARGEST_PROGRAM = 30_000_000


def check_record(wheel, record):
    """Every file is in RECORD with its hash, as installers check it."""
    hashes = {name: digest for name, digest, _ in csv.reader(io.StringIO(wheel.read(record).decode()))}
    for name in wheel.namelist():
        if name != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest()).rstrip(b"=").decode()
            assert hashes.pop(name) == f"sha256={digest}", name
    assert hashes == {record: ""}, hashes


def check_paths(content):
    """A panic's message names its source by the names that python/build.sh gives: these, and none of a home or work directory."""
    found = set(re.findall(rb"/[\x21-\x7e]*?/(?:src|lib|build)/[\x21-\x7e]*?\.(?:rs|c|h)\b", content))
    foreign = [path for path in found if not path.startswith((b"/crates/", b"/rust/", b"/rustc/", b"/target/", b"/pagehaul/"))]
    assert not foreign, sorted(foreign)[:20]
    for home in {str(Path.home()), str(Path(__file__).parents[2])}:
        assert f"{home}/".encode() not in content, home


def main():
    path = Path(sys.argv[1])
    assert path.stat().st_size <= LARGEST_WHEEL, path.stat().st_size
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (program,) = (name for name in names if name.endswith(".data/scripts/pagehaul"))
        info = program.split(".data/")[0] + ".dist-info"
        assert wheel.getinfo(program).file_size <= LARGEST_PROGRAM, wheel.getinfo(program).file_size
        assert wheel.getinfo(program).external_attr >> 16 & 0o777 == 0o755
        check_record(wheel, f"{info}/RECORD")
        check_paths(wheel.read(program))
        bom = json.loads(wheel.read(f"{info}/sboms/pagehaul.cyclonedx.json"))
        assert bom["bomFormat"] == "CycloneDX", bom["bomFormat"]
        assert bom["metadata"]["component"]["name"] == "pagehaul"
        components = {(part["name"], part["version"]) for part in bom["components"]}
        assert len(components) > 150 and all(part.get("licenses") for part in bom["components"]), len(components)
        text = json.dumps(bom)
        assert "path+file:///pagehaul#" in text and str(Path.home()) not in text
        licenses = wheel.read(f"{info}/licenses/THIRD-PARTY-LICENSES.txt").decode()
        listed = set(re.findall(r"^(\S+) (\S+)  \S", licenses.partition("\n==== ")[0], re.MULTILINE))
        # The SBOM is of all systems; the licences are of what is in this program.
        assert len(listed) > 150 and listed <= components, sorted(listed - components)
        for name in ("LICENSE-MIT", "LICENSE-APACHE"):
            assert f"{info}/licenses/{name}" in names, name
        assert "pagehaul/py.typed" in names
        assert not [name for name in names if name.endswith((".pyc", "~"))]
        assert "Provides-Extra: arrow" in wheel.read(f"{info}/METADATA").decode()
        size = wheel.getinfo(program).file_size
    print(f"{path.name}: {path.stat().st_size:,} bytes, the program {size:,}; {len(components)} packages in the SBOM")


main()
