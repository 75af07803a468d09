"""What the iterations taught, newest first, for whoever proposes the next.

The truth is one `learned` line an iteration in the ledger. `lessons.jsonl` in the store is a copy of those lines
alone, so that asking costs the same at iteration 10,000 as at iteration 10; a copy that does not end where the
campaign says is made again from the ledger. Nobody reads more than its last `READ` bytes. `told` is what a prompt
quotes of them: a choice, of bounded length.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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


def learn(store: Path, ledger: Ledger, lesson: Lesson, events: Iterable[Line]) -> None:
    """Record a lesson, once an iteration: a decision that is taken again after a crash finds the line it left."""
    recorded = next(events_of(events, Learned), None)
    if recorded is None:
        append(ledger, Learned(lesson=lesson))
    crash_points.point("lesson.after_record")
    place = store / "lessons.jsonl"
    if not place.exists() or _last(place) != lesson.iteration_id:
        with open(place, "ab") as file:
            file.write(_line(recorded.lesson if recorded else lesson))
            file.flush()
            os.fsync(file.fileno())


def recall(store: Path, ledger: Ledger, newest: str | None) -> tuple[Lesson, ...]:
    """The lessons, newest first. `newest` is the iteration that the campaign learned from last; None: nothing yet."""
    if newest is None:
        return ()
    place = store / "lessons.jsonl"
    if not place.exists() or _last(place) != newest:
        _write_again(place, ledger)
    try:
        return stored(place)[::-1]
    except RecordError:  # somebody's hand was in it, and the ledger has the lines
        _write_again(place, ledger)
        return stored(place)[::-1]


def _write_again(place: Path, ledger: Ledger) -> None:
    lines = [_line(event.lesson) for event in events_of(ledger.lines(), Learned)]
    files.write_whole(place, b"".join(lines))


def stored(place: Path) -> tuple[Lesson, ...]:
    """The lessons at the end of the file, oldest first. RecordError: a line of it is none."""
    return tuple(Lesson.from_text(line, "lessons.jsonl") for line in _tail(place))


def _line(lesson: Lesson) -> bytes:
    return json.dumps(lesson.value(), ensure_ascii=False).encode() + b"\n"


def _last(place: Path) -> str | None:
    lines = _tail(place)
    try:
        return str(json.loads(lines[-1])["iteration_id"]) if lines else None
    except (ValueError, KeyError, TypeError):
        return None  # torn by a crash


def _tail(place: Path) -> list[str]:
    """The lines that are whole among the last `READ` bytes, and the last one, which a crash may have torn."""
    with open(place, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - READ))
        raw = file.read()
    whole = raw if size <= READ else raw.partition(b"\n")[2]
    # Only a line feed ends a line: a title may hold what str.splitlines() takes for one (U+2028, U+0085, \x1c).
    return [text.decode(line) for line in whole.split(b"\n") if line]


# what a prompt quotes


def families_of_lessons(name: str | None) -> tuple[str, ...]:
    """The families that a lesson's or a claim's `family` names: several are joined by `+`."""
    return tuple(name.split("+")) if name else ()


def told(known: Sequence[Lesson]) -> str:
    """What was learned, from lessons that are newest first: the newest, the best, near misses, failures, families.

    Below `LONGEST` characters for any number of lessons; long titles are cut.
    """
    if not known:
        return "Nothing was tried in this lab yet."
    parts = [
        ("Newest first:", known[:_RECENT]),
        ("Best gains:", _best(known, lambda one: one.verdict is Verdict.SUPPORTED, _BEST)),
        ("Near misses, with a mean on the good side and no proof:", _best(known, _near_miss, _NEAR)),
        ("Failed or changed nothing:", [one for one in known if _broke(one)][:_FAILED]),
    ]
    lists = ["\n".join([head, *map(_told, chosen)]) for head, chosen in parts if chosen]
    return "\n\n".join([f"{len(known)} iterations are remembered.", *lists, _counted(known)])


def _best(known: Sequence[Lesson], wanted: Callable[[Lesson], bool], count: int) -> list[Lesson]:
    found = [one for one in known if one.gain is not None and wanted(one)]
    return sorted(found, key=_gain, reverse=True)[:count]


def _gain(lesson: Lesson) -> float:
    """In units of the least gain worth having."""
    return lesson.gain.mean / lesson.delta if lesson.gain is not None else 0.0


def _near_miss(lesson: Lesson) -> bool:
    unseen = lesson.outcome == "suspicious"  # nothing is built on it
    return lesson.verdict is Verdict.INCONCLUSIVE and not _broke(lesson) and not unseen and _gain(lesson) > 0


def _broke(lesson: Lesson) -> bool:
    return lesson.status == "failed" or lesson.reason == "no_change"


def _told(lesson: Lesson) -> str:
    verdict = lesson.verdict or lesson.status
    kept = f", {lesson.outcome}" if lesson.outcome else ""
    kept += " on this evaluation alone" if lesson.evaluation_only else ""
    why = f" ({cut(lesson.reason, _WHY)})" if lesson.reason else ""
    gain = f"; gain {_interval(lesson)}, wanted {lesson.delta:.3g}" if lesson.gain is not None else ""
    changes = json.dumps(lesson.changes, ensure_ascii=False)
    made = f"; changes {cut(changes, _CHANGES)}" if lesson.changes else ""
    family = cut(lesson.family or "no family", _FAMILY)
    title = cut(lesson.title, _TITLE)
    return f"- {lesson.iteration}. {title} [{family}] on {lesson.base[:7]}: {verdict}{kept}{why}{gain}{made}"


def _interval(lesson: Lesson) -> str:
    """The mean gain in the direction of good, with the ends of its interval where it has any."""
    assert lesson.gain is not None
    found = lesson.gain
    ends = f" [{found.low:.3g}, {found.high:.3g}]" if found.low is not None and found.high is not None else ""
    return f"{found.mean:.3g}{ends}"


def _counted(known: Sequence[Lesson]) -> str:
    """How often each family was tried and how often it was supported, the most tried first."""
    tried: Counter[str] = Counter()
    good: Counter[str] = Counter()
    for one in known:
        for family in families_of_lessons(one.family) or ("no family",):
            tried[family] += 1
            good[family] += one.verdict is Verdict.SUPPORTED
    rows = [f"{cut(name, _FAMILY)}: {count} tried, {good[name]} supported" for name, count in _most(tried)]
    more = len(tried) - len(rows)
    return "\n".join(["Families:", *rows, *([f"and {more} more"] if more else [])])


def _most(tried: Counter[str]) -> list[tuple[str, int]]:
    return sorted(tried.items(), key=lambda pair: (-pair[1], pair[0]))[:_FAMILIES]


def cut(words: str, length: int) -> str:
    """On one line, at most `length` characters."""
    return text.one_line(words, length)
