"""A run's work folder: its paths, documents, locks and notifications, shared by executor and supervisor.

Standard library only, as the supervisor is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolab import files

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
        self.jobs = root / "jobs"
        self.started = root / "started"
        self.cancels = root / "cancel"
        self.exits = root / "exits"

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
    # Readable by its owner alone: the environment of a job may hold a key. No folder is made: if the user moves the lab
    # while trials run, a supervisor must not begin the old place anew.
    files.write_whole(path, json.dumps(document), mode=0o600, make_folders=False)


def names(folder: Path) -> set[str]:
    """The job names of which `folder` holds a document."""
    documents = set()
    # A hidden file is one that is being written.
    for entry in os.listdir(folder):
        if entry.endswith(".json") and not entry.startswith("."):
            documents.add(entry.removesuffix(".json"))
    return documents


def take_lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock until it is closed; None if another process holds it and `wait` is False."""
    operation = fcntl.LOCK_EX
    if not wait:
        operation |= fcntl.LOCK_NB
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def wait_for_lock(path: Path) -> int:
    """A descriptor that holds the lock until it is closed."""
    descriptor = take_lock(path, wait=True)
    assert descriptor is not None
    return descriptor


def listen(fifo: Path) -> int:
    """A descriptor that becomes readable at each `notify`."""
    # Open for writing too: else the first writer that leaves would end the stream.
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def notify(fifo: Path) -> bool:
    """Wakes the listener; False if there is none."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: no reader; ENOENT: no work folder any more
        return False
    try:
        os.write(descriptor, b".")
    except BlockingIOError:
        pass  # full of unread bytes: the listener will wake
    except BrokenPipeError:
        return False  # the listener was killed since the line above
    finally:
        os.close(descriptor)
    return True


def drain(descriptor: int) -> None:
    """Read and drop all that is waiting in a descriptor that does not block."""
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def note(text: str) -> None:
    """A line of the supervisor's log, which is its standard output."""
    os.write(1, f"{files.utc_now()} {text}\n".encode(errors="backslashreplace"))
