"""Trainings that wait at a gate, so that a test can act while trials run, without sleeping or guessing."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
from pathlib import Path
from types import TracebackType

from lab_kit import Finished

LIMIT_S = 60.0


class Gate:
    """A candidate's code (`code`, for models/width.py) rings when a trial begins, and waits while the gate is shut."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._bell, self._door = folder / f"{name}.bell", folder / f"{name}.door"
        os.mkfifo(self._bell)
        self._listening = os.open(self._bell, os.O_RDWR | os.O_NONBLOCK)
        self._held = os.open(self._door, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def code(self, width: float = 4.0) -> str:
        """What `lab_kit.implementation` takes as a width; it waits in trainings, not in dry runs and summaries."""
        return (
            f"{width}\n\nimport fcntl, sys\n\nif not sys.argv[1:]:\n"
            f"    with open({str(self._bell)!r}, 'wb', buffering=0) as bell:\n        bell.write(b'.')\n"
            f"    with open({str(self._door)!r}) as door:\n        fcntl.flock(door, fcntl.LOCK_SH)\n"
        )

    def reached(self, trials: int = 1) -> None:
        """Return when so many trials have come to the gate."""
        for came in range(trials):
            ready, _, _ = select.select([self._listening], [], [], LIMIT_S)
            assert ready, f"{came} trials came to the gate, not {trials}"
            os.read(self._listening, 1)

    def open(self) -> None:
        fcntl.flock(self._held, fcntl.LOCK_UN)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.open()
        os.close(self._held)
        os.close(self._listening)


def ended(process: subprocess.Popen[str], limit_s: float = 120) -> Finished:
    """Wait for a command that `LabKit.start` began."""
    out, err = process.communicate(timeout=limit_s)
    return Finished(process.returncode, out, err)
