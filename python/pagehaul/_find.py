"""Where the program of this package is."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ._errors import ProgramNotFound


def find_program() -> str:
    """Return the path of the program that was installed with this package."""
    name = "pagehaul" + (sysconfig.get_config_var("EXE") or "")
    tried = list(dict.fromkeys(_directories()))
    for directory in tried:
        path = directory / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    message = f"the program {name} of this package is in none of {', '.join(map(str, tried))}"
    raise ProgramNotFound(message)


def _directories() -> Iterator[Path]:
    """Yield the directories where an installer puts programs. Those beside this package come first: the same wheel."""
    packages = Path(__file__).absolute().parent.parent
    scripts = Path(sysconfig.get_path("scripts")).name  # Scripts on Windows
    if packages.name.endswith("-packages") and packages.parent.name.startswith("python"):
        yield packages.parents[2] / scripts  # a virtual environment, --prefix, --user, the system
    yield packages / "bin"  # pip install --target
    yield Path(sysconfig.get_path("scripts"))
    yield Path(sysconfig.get_path("scripts", vars={"base": sys.base_prefix}))
    yield Path(sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")))
