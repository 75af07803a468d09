"""The comparisons that agents asked for, as files of the repository: a question once, in order, each with its alpha.

They lie in `.git/autolab/compare/queue/`, one file each, and outlive the server. Several servers and threads may use
one queue: a change is made under a file lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from pydantic import Field, JsonValue

from autolab import files
from autolab.compare.question import AskedVersion, Require
from autolab.lab.schemas.config import Count, Positive
from autolab.lab.schemas.record import Record
from autolab.stats.rules import claim_alpha_of

ALPHA = 0.005
"""How often a candidate without a gain may be called better, in the first question on a base."""
LEAST_ALPHA = 1e-9
"""What the stopping rule takes at least."""
ID = 12
"""Characters of an id."""


class QueueState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = (QueueState.DONE, QueueState.FAILED, QueueState.CANCELLED)


@dataclass(frozen=True)
class AgentQuestion:
    """What an agent asks. `delta` in the metric's units, None: from the noise of the base."""

    base: AskedVersion
    candidate: AskedVersion
    delta: float | None
    require: Require
    confirm: bool

    @property
    def digest(self) -> str:
        """Equal for the same question: the same files and settings, asked in the same way."""
        parts: list[JsonValue] = [self.base.tree, self.candidate.tree, self.candidate.settings]
        parts += [self.delta, self.require, self.confirm]
        return files.sha256_of(json.dumps(parts, sort_keys=True))


class QueueEntry(Record):
    """A comparison in the queue. `digest` is that of the question, `number` its place: the smallest comes first.

    `asked` counts the questions on this base, from 1; `alpha` follows from it. `training` says how the versions were
    trained and judged, by hash; empty before it began. `pairs`, `trials` and `seconds` are what was measured so far.
    `is_final`: asked again, a failed one would fail again.
    """

    FILE: ClassVar[str] = ".git/autolab/compare/queue/<ID>.json"

    id: str
    digest: str
    number: Count
    at: str
    state: QueueState
    base: AskedVersion
    candidate: AskedVersion
    delta: Positive | None
    require: Require
    confirm: bool
    asked: Count
    alpha: float
    budget: str
    training: str = ""
    pairs: Count = 0
    trials: Count = 0
    seconds: float = 0.0
    note: str = ""
    """What it does now, or why it failed."""
    is_final: bool = False
    cancel: bool = False
    """An agent wants it to end."""
    budget_spent: bool = False
    standing: str = ""
    """The answer in a word, as `autolab compare` says it."""
    line: str = ""
    answer: dict[str, JsonValue] = Field(default_factory=dict)


def alpha_of(asked: int) -> float:
    """The alpha of the k-th question on one base. All of them together stay below twice the first one's."""
    return max(claim_alpha_of(asked, ALPHA), LEAST_ALPHA)


class ComparisonQueue:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._read: dict[str, tuple[tuple[int, int], QueueEntry]] = {}
        """Entries by file name, with what tells whether the file has changed since."""

    def entries(self) -> list[QueueEntry]:
        """All of them, in the order of their numbers. RecordError: somebody edited a file of the queue."""
        found: dict[str, tuple[tuple[int, int], QueueEntry]] = {}
        with os.scandir(self.folder) as scanned:
            names = [file.name for file in scanned if file.name.endswith(".json") and not file.name.startswith(".")]
        for name in names:
            path = self.folder / name
            status = path.stat()
            mark = (status.st_ino, status.st_mtime_ns)
            known = self._read.get(name)
            if known is None or known[0] != mark:
                known = (mark, QueueEntry.load(path, QueueEntry.FILE.replace("<ID>.json", name)))
            found[name] = known
        self._read = found
        return sorted((entry for _, entry in found.values()), key=lambda entry: entry.number)

    def find(self, entry_id: str) -> QueueEntry | None:
        return next((entry for entry in self.entries() if entry.id == entry_id), None)

    def submit(self, question: AgentQuestion, budget: str, training: str) -> QueueEntry:
        """The entry of this question: a new one, or the one that it has.

        `training`: how versions are trained and judged now, by hash; empty if that is not known yet. A question whose
        answer is of another training is asked anew. A cancelled one, or one that failed for a reason outside of it, or
        whose budget was too small, is queued again, with the alpha that it had.
        """
        with self._changing():
            entries = self.entries()
            asked_before = [entry for entry in entries if entry.digest == question.digest]
            for entry in asked_before:
                if training == "" or entry.training in ("", training):
                    return self._again(entry, budget, entries)
            asked = 1 + sum(entry.base.tree == question.base.tree for entry in entries)
            name = question.digest
            if asked_before:
                name = files.sha256_of(question.digest + training)
            entry = QueueEntry(
                id=name[:ID],
                digest=question.digest,
                number=_next_number(entries),
                at=files.utc_now(),
                state=QueueState.QUEUED,
                base=question.base,
                candidate=question.candidate,
                delta=question.delta,
                require=question.require,
                confirm=question.confirm,
                asked=asked,
                alpha=alpha_of(asked),
                budget=budget,
            )
            self._write(entry)
            return entry

    def _again(self, entry: QueueEntry, budget: str, entries: list[QueueEntry]) -> QueueEntry:
        is_open = entry.state is QueueState.CANCELLED
        is_open |= entry.state is QueueState.FAILED and not entry.is_final
        is_open |= entry.state is QueueState.DONE and entry.budget_spent and entry.budget != budget
        if not is_open:
            return entry
        update = {"state": QueueState.QUEUED, "number": _next_number(entries), "budget": budget}
        entry = entry.model_copy(update=update | {"cancel": False, "note": ""})
        self._write(entry)
        return entry

    def next(self) -> QueueEntry | None:
        """The first one that waits, which is running from now on. For the worker that has the turn alone."""
        with self._changing():
            for entry in self.entries():
                # One that runs is of a server that was killed.
                if entry.state in (QueueState.RUNNING, QueueState.QUEUED):
                    entry = entry.model_copy(update={"state": QueueState.RUNNING, "note": ""})
                    self._write(entry)
                    return entry
        return None

    def update(self, entry_id: str, **changes: object) -> QueueEntry:
        """The entry with `changes`, written. KeyError: there is none of this id."""
        with self._changing():
            entry = self.find(entry_id)
            if entry is None:
                raise KeyError(entry_id)
            entry = entry.model_copy(update=changes)
            self._write(entry)
            return entry

    def cancel(self, entry_id: str) -> QueueEntry | None:
        """Take one out of the queue, or ask the worker to end it; None: there is none of this id."""
        with self._changing():
            entry = self.find(entry_id)
            if entry is None or entry.state in OVER:
                return entry
            if entry.state is QueueState.QUEUED:
                entry = entry.model_copy(update={"state": QueueState.CANCELLED})
            else:
                entry = entry.model_copy(update={"cancel": True})
            self._write(entry)
            return entry

    def _write(self, entry: QueueEntry) -> None:
        files.write_whole(self.folder / f"{entry.id}.json", entry.to_json())

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        # Opened anew each time: threads of one process exclude one another as well.
        with open(self.folder / "lock", "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _next_number(entries: list[QueueEntry]) -> int:
    return 1 + max((entry.number for entry in entries), default=0)
