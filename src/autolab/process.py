"""Runs one program to its end for the engine: a check of the ladder, the evaluator, a question to an interpreter.

This is the one place in the engine that a sandbox wraps; trials run under the supervisor, git under `plumbing`.
Not covered until it does: a program that leaves its session on purpose outlives its end, and the network is open.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOG_LIMIT = 256 * 1024
"""Bytes of output that a log keeps from its beginning; past them it keeps the last TAIL_BYTES."""
TAIL_LINES, TAIL_CHARACTERS, TAIL_BYTES = 20, 2_000, 8_192
DRAIN_S = 1.0
"""How long a pipe is read on after the program's group is dead: a process that left the session may still hold it."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. `code` is its exit status, or minus the signal that killed it.

    `missing` says why it could not be started at all. `tail` is the end of what it printed, printable.
    """

    code: int
    tail: str = ""
    timed_out: bool = False
    missing: str | None = None

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out and self.missing is None

    @property
    def last_line(self) -> str:
        return self.tail.rpartition("\n")[2][:500]


def run(argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, limit_s: float) -> Ended:
    """Run `argv` in `folder`, in a session of its own, with exactly `environment`, no input, and its output in `log`.

    When it ends, or after `limit_s` seconds, its whole process group is killed. OSError if the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError):
            return Ended(127, missing="program not found")
        except OSError as error:
            return Ended(126, missing=f"program cannot be started ({error.strerror})")
        output = _Output(sink)
        timed_out = _follow(process, output, limit_s)
        output.finish()
    return Ended(process.returncode, output.tail(), timed_out)


def _follow(process: subprocess.Popen[bytes], output: _Output, limit_s: float) -> bool:
    """Copy the output until the process ends or its time is up (True); then kill its group and copy the rest."""
    ended, tell = os.pipe()

    def wait() -> None:
        process.wait()
        os.close(tell)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert process.stdout is not None
    with process.stdout as source, selectors.DefaultSelector() as ready:
        ready.register(source, selectors.EVENT_READ)
        ready.register(ended, selectors.EVENT_READ)
        try:
            timed_out = not _copy(ready, output, limit_s, ended)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left; macOS: EPERM for zombies
                os.killpg(process.pid, signal.SIGKILL)
            waiter.join()
            ready.unregister(ended)
            os.close(ended)
        _copy(ready, output, DRAIN_S)
    return timed_out


def _copy(ready: selectors.BaseSelector, output: _Output, seconds: float, ended: int = -1) -> bool:
    """Take output until `ended` turns readable or nothing is open any more; False if the time is up before."""
    deadline = time.monotonic() + seconds
    while ready.get_map():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        events = ready.select(left)
        if any(key.fd == ended for key, _ in events):
            return True
        for key, _ in events:
            if not output.take(key.fd):
                ready.unregister(key.fileobj)
    return True


class _Output:
    """Puts a pipe into a log: the first LOG_LIMIT bytes and, past them, the last TAIL_BYTES."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink, self._last, self._seen = sink, b"", 0

    def take(self, source: int) -> bool:
        """Copy what is there; False at the end."""
        block = os.read(source, 65536)
        self._sink.write(block[: max(0, LOG_LIMIT - self._seen)])
        self._seen += len(block)
        self._last = (self._last + block)[-TAIL_BYTES:]
        return bool(block)

    def finish(self) -> None:
        left_out = self._seen - LOG_LIMIT
        if left_out > 0:
            note = f"\n[{left_out} bytes past {LOG_LIMIT} are left out; the last ones follow]\n"
            self._sink.write(note.encode() + self._last[-left_out:])

    def tail(self) -> str:
        """The last lines, at most TAIL_LINES and TAIL_CHARACTERS; what is not printable is replaced."""
        text = self._last.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").rstrip()
        text = "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
        return "\n".join(text.split("\n")[-TAIL_LINES:])[-TAIL_CHARACTERS:]
