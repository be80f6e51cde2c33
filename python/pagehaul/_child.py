"""A child process whose output is read while it works, and that is always stopped cleanly and waited for.

The child has a session of its own, so that a terminal's Ctrl-C reaches only this process, which passes it on once. The program
takes a second signal as the wish to end at once.
"""

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import NamedTuple

# Bytes to read at a time.
_CHUNK = 1 << 16
# A longer line is cut: the program writes none.
_LONGEST_LINE = 1 << 24
# Those that stop a run, where their handlers raise an exception.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds between two looks at `stop`.
_GLANCE = 0.1


class Lines(NamedTuple):
    """What takes the lines of stderr: while the child works, and while it is being stopped."""

    working: Callable[[bytes], None]
    stopping: Callable[[bytes], None]


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    exit_code: int
    """Negative: the number of the signal that ended it."""
    printed: bytes
    """The last line of stdout."""
    is_interrupted: bool = False
    """Whether Ctrl-C stopped it."""


def run(command: list[str], environment: dict[str, str], lines: Lines, *, has_stdin: bool, stop: threading.Event | None) -> Ended:
    """Run a command. An exception in this thread stops it with a signal, and is raised when it has ended, except Ctrl-C's."""
    with _signals_as_exceptions():
        child = None
        held = _HeldSignals()
        try:
            held.hold()
            child = _Child(command, environment, has_stdin=has_stdin)
            held.release()
            return child.read(lines.working, stop)
        except KeyboardInterrupt:
            if child is None:
                raise
            return replace(child.stop(signal.SIGINT, lines.stopping), is_interrupted=True)
        except BaseException:
            if child is not None:
                child.stop(signal.SIGTERM, lines.stopping)
            raise
        finally:
            held.release()


class _Child:
    def __init__(self, command: list[str], environment: dict[str, str], *, has_stdin: bool) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - the program of this package, without a shell
            command,
            env=environment,
            stdin=None if has_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.pending = {"stdout": bytearray(), "stderr": bytearray()}
        self.printed = b""
        self.selector = selectors.DefaultSelector()
        for name, pipe in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            if pipe is not None:
                self.selector.register(pipe.fileno(), selectors.EVENT_READ, name)

    def read(self, line: Callable[[bytes], None], stop: threading.Event | None = None) -> Ended:
        """Read until the child has ended. Both pipes are read as they fill, so that it never waits for one of them."""
        while self.selector.get_map():
            if stop is not None and stop.is_set():
                self.process.send_signal(signal.SIGINT)
                stop = None
            for key, _ in self.selector.select(None if stop is None else _GLANCE):
                self._take(key.fd, key.data, line)
        exit_code = self.process.wait()
        self.selector.close()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return Ended(exit_code, self.printed)

    def stop(self, number: signal.Signals, line: Callable[[bytes], None]) -> Ended:
        """Stop the child and wait for it. One more Ctrl-C ends it at once, and the next one kills it."""
        numbers = iter([number, number])
        self.process.send_signal(next(numbers))
        while True:
            try:
                return self.read(line)
            except (KeyboardInterrupt, SystemExit):
                self.process.send_signal(next(numbers, signal.SIGKILL))
            except Exception:  # noqa: BLE001 - a handler of log lines fails; what is to be raised is what stopped the run
                line = _ignore

    def _take(self, fd: int, name: str, line: Callable[[bytes], None]) -> None:
        chunk = os.read(fd, _CHUNK)
        pending = self.pending[name]
        pending += chunk
        *whole, rest = pending.split(b"\n")
        if not chunk:
            self.selector.unregister(fd)
            whole.append(rest)
        pending[:] = rest[:_LONGEST_LINE] if chunk else b""
        for one in filter(None, whole):
            if name == "stdout":
                self.printed = bytes(one)
            else:
                line(bytes(one))


def _ignore(_: bytes) -> None:
    pass


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Make SIGTERM and SIGHUP exceptions where they would end this process: the child would go on, and its requests cost money.

    Only the main thread can do that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


class _HeldSignals:
    """Signals that are only noted while the child starts: an exception then would leave a child that nobody stops.

    They are not blocked, because the child would inherit that. Only the main thread runs handlers.
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self.came: list[tuple[int, FrameType | None]] = []

    def hold(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self.handlers[number] = handler
                signal.signal(number, self._note)

    def release(self) -> None:
        """Put the handlers back, and call those of the signals that came."""
        while self.handlers:
            number, handler = next(iter(self.handlers.items()))
            signal.signal(number, handler)
            del self.handlers[number]
            came = [one for one in self.came if one[0] == number]
            self.came = [one for one in self.came if one[0] != number]
            for one in came:
                handler(*one)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came.append((number, frame))


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
