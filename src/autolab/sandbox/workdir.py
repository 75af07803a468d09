"""A run's work folder: its paths, documents, locks and notifications, shared by executor and supervisor.

Standard library only, as the supervisor is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Workdir:
    """Every path of a run's work folder. `name` is `<trial>.a<attempt>`, the handle of a job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = root / "lock"  # held for life by the supervisor and its runners
        self.queue = root / "queue"  # held while jobs are added, and while the supervisor decides to leave
        self.settings = root / "supervisor.json"
        self.log = root / "supervisor.log"
        self.wake = root / "wake"  # FIFO, read by the supervisor
        self.events = root / "events"  # FIFO, read by the engine
        self.jobs, self.started, self.cancels, self.exits = (
            root / part for part in ("jobs", "started", "cancel", "exits")
        )

    def folder(self, trial: str, attempt: int) -> Path:
        """The writable folder of one attempt."""
        return self.root / "trials" / trial / f"a{attempt}"

    def job(self, name: str) -> Path:
        return self.jobs / f"{name}.json"

    def start(self, name: str) -> Path:
        return self.started / f"{name}.json"

    def exit(self, name: str) -> Path:
        return self.exits / f"{name}.json"

    def make(self) -> None:
        """Creates what is missing of it. Raises OSError."""
        for folder in (self.jobs, self.started, self.cancels, self.exits):
            folder.mkdir(parents=True, exist_ok=True)
        for fifo in (self.wake, self.events):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(fifo, 0o600)


def read_json(path: Path) -> Document:
    document: Document = json.loads(path.read_bytes())
    return document


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Atomic and durable: the whole file or none, after a power cut too. An OSError names `path`."""
    temp = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with open(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # may name a key
            file.write(json.dumps(document).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        sync_folder(path.parent)
    except OSError as error:
        temp.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(folder: Path) -> set[str]:
    """The job names of which `folder` holds a document."""
    return {entry[:-5] for entry in os.listdir(folder) if entry.endswith(".json") and not entry.startswith(".")}


def take_lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock until it is closed; None if it is held and `wait` is False."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def listen(fifo: Path) -> int:
    """A descriptor that turns readable at each `notify`. Open for writing too: the first one would end it."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def notify(fifo: Path) -> bool:
    """Wakes whoever listens; False if nobody does."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: no reader; ENOENT: no work folder any more
        return False
    try:
        os.write(descriptor, b".")
    except BlockingIOError:
        pass  # full of unread bytes: the listener will wake
    except BrokenPipeError:
        return False  # killed since the line above
    finally:
        os.close(descriptor)
    return True


def drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def note(text: str) -> None:
    """A line of the supervisor's log, which is its standard output."""
    os.write(1, f"{now()} {text}\n".encode(errors="backslashreplace"))
