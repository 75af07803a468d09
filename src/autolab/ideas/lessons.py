"""What the iterations taught, newest first, for whoever proposes the next.

The truth is one `learned` line an iteration in the ledger. `lessons.jsonl` in the store is a copy of those lines
alone, so that recall costs the same at iteration 10,000 as at iteration 10. If the copy does not end where the
campaign says, it is written again from the ledger. Only its last `READ` bytes are read. `told` is what a prompt
quotes of the lessons: a choice, of bounded length.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from autolab import files, text
from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas.events import Learned, append, events_of
from autolab.lab.schemas.experiment import Lesson
from autolab.lab.schemas.outcomes import Verdict

READ = 512 * 1024
"""Bytes from the end of the copy that are read: some 700 lessons."""
EVENT = Learned.KIND
LONGEST = 8_000
"""Characters that `told` stays below, however many lessons there are."""
_RECENT, _BEST, _NEAR, _FAILED, _FAMILIES = 8, 5, 5, 5, 12
_TITLE, _FAMILY, _WHY, _CHANGES = 80, 30, 40, 60
"""Characters that are shown of each."""


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


# what a prompt quotes


def families_of_lessons(name: str | None) -> tuple[str, ...]:
    """The families that a lesson's or a claim's `family` names: several are joined by `+`."""
    return tuple(name.split("+")) if name else ()


def told(lessons: Sequence[Lesson]) -> str:
    """What was learned, from lessons that are newest first: the newest, the best, near misses, failures, families.

    Below `LONGEST` characters for any number of lessons; long titles are cut.
    """
    if not lessons:
        return "Nothing was tried in this lab yet."
    best = sorted(filter(_supported, lessons), key=_gain, reverse=True)
    near = sorted(filter(_near_miss, lessons), key=_gain, reverse=True)
    failed = list(filter(_failed, lessons))
    parts = {
        "Newest first:": lessons[:_RECENT],
        "Best gains:": best[:_BEST],
        "Near misses, with a mean on the good side and no proof:": near[:_NEAR],
        "Failed or changed nothing:": failed[:_FAILED],
    }
    paragraphs = [f"{len(lessons)} iterations are remembered."]
    for head, choice in parts.items():
        if choice:
            paragraphs.append("\n".join([head, *map(_row, choice)]))
    paragraphs.append("\n".join(_families(lessons)))
    return "\n\n".join(paragraphs)


def _supported(lesson: Lesson) -> bool:
    return lesson.gain is not None and lesson.verdict is Verdict.SUPPORTED


def _near_miss(lesson: Lesson) -> bool:
    # Nothing is built on a suspicious gain until somebody has reviewed it.
    if lesson.verdict is not Verdict.INCONCLUSIVE or lesson.outcome == "suspicious" or _failed(lesson):
        return False
    return _gain(lesson) > 0


def _failed(lesson: Lesson) -> bool:
    return lesson.status == "failed" or lesson.reason == "no_change"


def _gain(lesson: Lesson) -> float:
    """In units of the least gain worth having; 0 if nothing was measured."""
    return lesson.gain.mean / lesson.delta if lesson.gain is not None else 0.0


def _row(lesson: Lesson) -> str:
    family = cut(lesson.family or "no family", _FAMILY)
    row = f"- {lesson.iteration}. {cut(lesson.title, _TITLE)} [{family}] on {lesson.base[:7]}"
    row += f": {lesson.verdict or lesson.status}"
    if lesson.outcome:
        row += f", {lesson.outcome}"
    if lesson.evaluation_only:
        row += " on this evaluation alone"
    if lesson.reason:
        row += f" ({cut(lesson.reason, _WHY)})"
    if lesson.gain is not None:
        row += f"; gain {lesson.gain.mean:.3g}"
        if lesson.gain.low is not None and lesson.gain.high is not None:
            row += f" [{lesson.gain.low:.3g}, {lesson.gain.high:.3g}]"
        row += f", wanted {lesson.delta:.3g}"
    if lesson.changes:
        changes = json.dumps(lesson.changes, ensure_ascii=False)
        row += f"; changes {cut(changes, _CHANGES)}"
    return row


def _families(lessons: Sequence[Lesson]) -> Iterator[str]:
    """How often each family was tried and how often it was supported, the most tried first."""
    tried: Counter[str] = Counter()
    supported: Counter[str] = Counter()
    for lesson in lessons:
        for family in families_of_lessons(lesson.family) or ("no family",):
            tried[family] += 1
            supported[family] += lesson.verdict is Verdict.SUPPORTED
    # By name among equal counts: a prompt must not depend on the order of the lessons.
    order = sorted(tried, key=lambda family: (-tried[family], family))
    yield "Families:"
    for family in order[:_FAMILIES]:
        yield f"{cut(family, _FAMILY)}: {tried[family]} tried, {supported[family]} supported"
    if len(order) > _FAMILIES:
        yield f"and {len(order) - _FAMILIES} more"


def cut(words: str, length: int) -> str:
    """On one line, at most `length` characters."""
    return text.one_line(words, length)
