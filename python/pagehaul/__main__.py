"""`python -m pagehaul` is the program."""

import os
import sys

from ._find import find_program

program = find_program()
os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 - the program of this package, without a shell
