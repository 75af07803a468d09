"""What the iterations taught, newest first, for whoever proposes the next.

The truth is one `learned` line an iteration in the ledger. `lessons.jsonl` in the store is a copy of those lines
alone, so that recall costs the same at iteration 10,000 as at iteration 10. If the copy does not end where the
campaign says, it is written again from the ledger. Only its last `READ` bytes are read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from autolab import files, text
from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas.events import Learned, append, events_of
from autolab.lab.schemas.experiment import Lesson

READ = 1024 * 1024
"""Bytes from the end of the copy that are read: some 700 lessons, 250 of the longest."""
EVENT = Learned.KIND


def learn(store: Path, ledger: Ledger, lessons: Sequence[Lesson], events: Iterable[Line]) -> None:
    """Record an iteration's lessons, one a hypothesis, each once. `events` are the iteration's lines."""
    # A decision that is taken again after a crash finds its own lines: those count.
    recorded = {event.lesson.hypothesis_id: event.lesson for event in events_of(events, Learned)}
    for lesson in lessons:
        if lesson.hypothesis_id not in recorded:
            append(ledger, Learned(lesson=lesson))
            recorded[lesson.hypothesis_id] = lesson
        crash_points.point("lesson.after_record")
    _copy(store / "lessons.jsonl", list(recorded.values()), ledger)


def _copy(path: Path, lessons: Sequence[Lesson], ledger: Ledger) -> None:
    """Add an iteration's lessons to the copy, unless they end it."""
    content = b"".join(map(_line, lessons))
    tail = _tail(path)[-len(lessons) :] if path.exists() else []
    if content.decode() == "".join(f"{line}\n" for line in tail):
        return
    # A crash has torn the last line, or left out some of these lessons.
    if not tail or _newest(path) in (None, lessons[0].iteration_id):
        _write_again(path, ledger)
        return
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def recall(store: Path, ledger: Ledger, newest: str | None) -> tuple[Lesson, ...]:
    """The lessons, newest first. `newest` is the iteration that the campaign learned from last; None: nothing yet."""
    if newest is None:
        return ()
    path = store / "lessons.jsonl"
    if not path.exists() or _newest(path) != newest:
        _write_again(path, ledger)
    try:
        return stored(path)[::-1]
    except RecordError:  # somebody edited the copy, and the ledger has the lines
        _write_again(path, ledger)
        return stored(path)[::-1]


def _write_again(path: Path, ledger: Ledger) -> None:
    lines = [_line(event.lesson) for event in events_of(ledger.lines(), Learned)]
    files.write_whole(path, b"".join(lines))


def stored(path: Path) -> tuple[Lesson, ...]:
    """The lessons at the end of the file, oldest first. RecordError: a line is not a lesson."""
    return tuple(Lesson.from_text(line, "lessons.jsonl") for line in _tail(path))


def _line(lesson: Lesson) -> bytes:
    return json.dumps(lesson.value(), ensure_ascii=False).encode() + b"\n"


def _newest(path: Path) -> str | None:
    """The iteration of the last line; None if the file is empty or a crash has torn the line."""
    lines = _tail(path)
    if not lines:
        return None
    try:
        return str(json.loads(lines[-1])["iteration_id"])
    except (ValueError, KeyError, TypeError):
        return None


def _tail(path: Path) -> list[str]:
    """The lines that are whole among the last `READ` bytes, and the last one, which a crash may have torn."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - READ))
        tail = file.read()
    if size > READ:
        tail = tail.partition(b"\n")[2]  # the first line may have lost its beginning
    # Only a line feed ends a line: a title may hold what str.splitlines() takes for one (U+2028, U+0085, \x1c).
    return [text.decode(line) for line in tail.split(b"\n") if line]


def families_of_lessons(name: str | None) -> tuple[str, ...]:
    """The families that a lesson's or a claim's `family` names: several are joined by `+`."""
    return tuple(name.split("+")) if name else ()


def cut(words: str, length: int) -> str:
    """On one line, at most `length` characters."""
    return text.one_line(words, length)
