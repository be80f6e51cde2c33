"""`export`: one run of the program, its settings as keyword arguments.

The program knows the settings and checks them. Nothing here lists them a second time.
"""

import json
import logging
import operator
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import SupportsIndex, TypeAlias

from ._child import Ended, Lines, run
from ._errors import BY_EXIT_CODE, InternalError, Interrupted, PagehaulError, UsageError
from ._find import find_program
from ._summary import Progress, Summary

Setting: TypeAlias = (
    str | float | bool | timedelta | os.PathLike[str] | Iterable[str] | Mapping[str, str] | None  # int is a float
)

_LOGGER = logging.getLogger("pagehaul")
_LEVELS = {"TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING}
# What this module sets for its own use.
_OWN = {"log_format": "json", "progress": "plain"}
# The column of the list that this module writes.
_COLUMN = "id"


def export(
    *,
    products: str | os.PathLike[str] | Iterable[str | SupportsIndex] | None = None,
    out: str | os.PathLike[str] | None = None,
    token: str | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    stop: threading.Event | None = None,
    **settings: Setting,
) -> Summary:
    """Export a list of products, or resume an export; return its summary when it is complete.

    products: the path of a list, or the ids themselves. out: a directory, or a URL of a bucket.
    token: the API key; without it the variable KEYAPI_TOKEN, or the settings token_file or token_stdin.
    on_progress: called each second, or at each `heartbeat`, in this thread. If it raises, the run is stopped cleanly.
    stop: another thread sets it to stop the run cleanly, as Ctrl-C does.
    settings: each flag of `pagehaul export`, with underscores: qps=10, columns=["region"], max_outage="5m", retry_failed=True.
    None is the same as leaving it out.

    Raises an error for each other exit code than 0; if the run came so far, its `summary` is there. Ctrl-C stops the run cleanly
    and raises KeyboardInterrupt, whose __cause__ is the Interrupted with the summary. So does SIGTERM, with SystemExit, unless it
    has a handler.
    The log lines go to the logger `pagehaul`.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in settings.keys() & _OWN.keys():
        message = f"{name} cannot be set here: log lines go to the logger `pagehaul`, and progress to on_progress"
        raise TypeError(message)
    with _listed(products, settings) as listed:
        program = [find_program(), "export"]
        environment = {**os.environ, "RUST_LOG": "debug" if _LOGGER.isEnabledFor(logging.DEBUG) else "info"}
        if token is not None:
            environment["KEYAPI_TOKEN"] = token
        if on_progress is not None:
            settings = {"heartbeat": "1s", **settings}
        for name, value in {**listed, "out": out, **settings, **_OWN}.items():
            if value is False:  # a switch cannot be turned off by a flag
                environment[f"PAGEHAUL_{name.upper()}"] = "false"
            elif value is not None:
                program.append(_flag(name, value))
        # A list or a key on stdin is the caller's.
        has_stdin = listed.get("products") == "-" or settings.get("token_stdin") is True
        log = _Log(on_progress)
        ended = run(program, environment, Lines(log.line, log.line_after_stop), has_stdin=has_stdin, stop=stop)
    summary, error = _result(ended, log)
    if ended.is_interrupted:
        raise KeyboardInterrupt from error
    if error:
        raise error
    if summary is None:
        raise UsageError(ended.exit_code, "the program printed no summary: a setting made it do something else")
    return summary


class _Log:
    """Takes the program's log lines."""

    def __init__(self, on_progress: Callable[[Progress], object] | None) -> None:
        self.on_progress = on_progress
        self.errors: list[str] = []

    def line(self, line: bytes) -> None:
        message, fields, level = _parsed(line)
        progress = Progress.from_fields(fields) if self.on_progress else None
        if progress and self.on_progress:
            self.on_progress(progress)
        elif level == "ERROR":  # becomes the raised error
            self.errors.append(message)
        else:
            _LOGGER.log(_LEVELS.get(level, logging.WARNING), "%s", message)

    def line_after_stop(self, line: bytes) -> None:
        """Take a line while the run is being stopped: what stops it is not called again."""
        self.on_progress = None
        self.line(line)


def _parsed(line: bytes) -> tuple[str, Mapping[str, object], str]:
    """Return the message, the fields and the level of a line. The system may write lines that are not JSON."""
    text = line.decode(errors="replace")
    try:
        parsed = json.loads(text)
        fields = parsed["fields"]
        return str(fields["message"]), fields, str(parsed["level"])
    except (ValueError, TypeError, KeyError):
        return text, {}, ""


def _result(ended: Ended, log: _Log) -> tuple[Summary | None, PagehaulError | None]:
    """Return the summary and the error of a run that ended."""
    try:
        raw = json.loads(ended.printed)
    except ValueError:
        raw = None
    raw = raw if isinstance(raw, dict) else {}
    summary = Summary.from_json(raw) if "rows" in raw else None
    if ended.exit_code == 0:
        return summary, None
    if -ended.exit_code in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # before the program could take it
        return summary, Interrupted(128 - ended.exit_code, "stopped by a signal before it began", None, summary)
    if ended.exit_code < 0:
        return summary, InternalError(ended.exit_code, f"signal {-ended.exit_code} ended the program", None, summary)
    kind = BY_EXIT_CODE.get(ended.exit_code, PagehaulError)
    cause = raw.get("cause") or "; ".join(log.errors) or raw.get("status")
    return summary, kind(ended.exit_code, cause, raw.get("next"), summary)


def _flag(name: str, value: Setting) -> str:
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag}={_text(value)}"


def _text(value: Setting) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, timedelta):
        return f"{value // timedelta(milliseconds=1)}ms"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={of_key}" for key, of_key in value.items())
    if isinstance(value, (bytes, bytearray, memoryview)):
        message = f"a setting is a text, not {value!r}"
        raise TypeError(message)
    if isinstance(value, Iterable):
        return ",".join(value)
    return str(value)


@contextmanager
def _listed(
    products: str | os.PathLike[str] | Iterable[str | SupportsIndex] | None, settings: Mapping[str, Setting]
) -> Iterator[dict[str, Setting]]:
    """Yield the settings that name the list. Ids become a file: all are there before the first request is paid for.

    The file is CSV, whose quotes keep an id in one piece whatever characters it has; the program checks them.
    """
    if products is None or isinstance(products, (str, os.PathLike)):
        yield {"products": products}
        return
    if isinstance(products, (bytes, bytearray, memoryview)):
        message = "products are a path or ids, not bytes"
        raise TypeError(message)
    if "product_column" in settings:
        message = "product_column is for a list in a file, but products are the ids themselves"
        raise TypeError(message)
    with tempfile.TemporaryDirectory(prefix="pagehaul-") as directory:
        path = os.path.join(directory, "products.csv")  # noqa: PTH118
        with open(path, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            file.write(f"{_COLUMN}\n")
            file.writelines('"' + _id(product).replace('"', '""') + '"\n' for product in products)
        yield {"products": path, "product_column": _COLUMN}


def _id(product: str | SupportsIndex) -> str:
    """Return an id as text. Other numbers than whole ones have lost digits."""
    if isinstance(product, str):
        return product
    if isinstance(product, bool):
        raise TypeError("a product id is a text or a whole number, not " + repr(product))
    try:
        return str(operator.index(product))
    except TypeError:
        raise TypeError("a product id is a text or a whole number, not " + repr(product)) from None
