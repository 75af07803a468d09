"""What the iterations taught, newest first, for whoever proposes the next.

The truth is one `learned` line an iteration in the ledger. `lessons.jsonl` in the store is a copy of those lines
alone, so that asking costs the same at iteration 10,000 as at iteration 10; a copy that does not end where the
campaign says is made again from the ledger. Nobody reads more than its last `READ` bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from autolab import durable, fault
from autolab.ledger import Ledger, Line
from autolab.records.experiment import Lesson

READ = 512 * 1024
"""Bytes from the end of the copy that are read: some 700 lessons."""
EVENT = "learned"


def learn(store: Path, ledger: Ledger, lesson: Lesson, events: Iterable[Line]) -> None:
    """Record a lesson, once an iteration: a decision that is taken again after a crash finds the line it left."""
    known = [line for line in events if line.event == EVENT]
    if not known:
        ledger.append(EVENT, {"lesson": lesson.value()})
    fault.point("lesson.after_record")
    place = store / "lessons.jsonl"
    if not place.exists() or _last(place) != lesson.iteration_id:
        with open(place, "ab") as file:
            file.write(_line(known[-1].data["lesson"] if known else lesson.value()))
            file.flush()
            os.fsync(file.fileno())


def recall(store: Path, ledger: Ledger, newest: str | None) -> tuple[Lesson, ...]:
    """The lessons, newest first. `newest` is the iteration that the campaign learned from last; None: nothing yet."""
    if newest is None:
        return ()
    place = store / "lessons.jsonl"
    if not place.exists() or _last(place) != newest:
        told = [line.data["lesson"] for line in ledger.lines() if line.event == EVENT]
        durable.write(place, b"".join(map(_line, told)))
    lines = _tail(place).splitlines()
    return tuple(Lesson.from_text(line, "lessons.jsonl") for line in reversed(lines))


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _last(place: Path) -> str | None:
    lines = _tail(place).splitlines()
    try:
        return str(json.loads(lines[-1])["iteration_id"]) if lines else None
    except (ValueError, KeyError, TypeError):
        return None  # torn by a crash


def _tail(place: Path) -> str:
    """The whole lines among the last `READ` bytes."""
    with open(place, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - READ))
        raw = file.read()
    whole = raw if size <= READ else raw.partition(b"\n")[2]
    return whole.decode("utf-8", errors="replace")
