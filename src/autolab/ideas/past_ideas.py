"""The ideas that a lab has tried, as a prompt quotes them: a line each, with the whole change and what came of it.

Up to `ALL` ideas are quoted, oldest first, so that a longer history begins as the shorter one did and a service can
reuse what it has read. Of more, the best, the nearest misses, the newest failures and the newest are quoted, and all of
them are counted by family. However many there are, `history` stays below `LONGEST` characters: long changes are
shortened before any idea is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from autolab import text
from autolab.ideas.lessons import cut, families_of_lessons
from autolab.lab.schemas.experiment import Lesson
from autolab.lab.schemas.outcomes import Verdict

LONGEST = 40_000
"""Characters that `history` stays below."""
ALL = 200
"""Up to so many ideas are quoted, each of them."""
_SHARES = {"best": 40, "near": 30, "failed": 20, "newest": 80}
"""Of more ideas, how many are chosen for being one of these; less if they do not fit."""
_WIDTHS = ((300, 3_000), (200, 1_000), (120, 400), (100, 200), (80, 100), (60, 60))
"""Characters of a title and of its changes, from generous to narrow; the first pair that fits is taken."""
_WORDS = (
    "Each gain is against its own base. screened: a single measurement; provisional: built upon, not claimed; kept:"
    " claimed on fresh seeds; dropped: not built upon. A claim is of all provisional steps before it."
)
_FAMILY, _WHY = 60, 160
_NAMED, _FAMILIES = 5, 20
"""Ideas that each line of the summary names, and families that are counted by name."""
_FAILURES, _ERROR = 3, 1_500
"""Failures that are quoted with their error, and characters of it."""
_SLOWER, _FASTER = 1.15, 0.87
"""A trial's time as a share of the baseline's: what lies between is not worth a word."""


def history(lessons: Sequence[Lesson]) -> str:
    """What was tried, from lessons that are newest first."""
    if not lessons:
        return "Nothing was tried in this lab yet."
    shares = dict.fromkeys(_SHARES, ALL) if len(lessons) <= ALL else dict(_SHARES)
    while True:
        chosen = _chosen(lessons, shares)
        for title, changes in _WIDTHS:
            quoted = _quoted(lessons, chosen, title, changes)
            if len(quoted) < LONGEST:
                return quoted
        shares = {name: count // 2 for name, count in shares.items()}


def failures(lessons: Sequence[Lesson]) -> str:
    """The newest ideas that failed, each with its error; empty without one."""
    paragraphs: list[str] = []
    for lesson in lessons:
        if lesson.error and len(paragraphs) < _FAILURES:
            head = f"{lesson.hypothesis_id}. {cut(lesson.title, 100)}: {cut(lesson.reason, _WHY)}"
            paragraphs.append(f"{head}\n{lesson.error[-_ERROR:]}")
    return "\n\n".join(paragraphs)


def _chosen(lessons: Sequence[Lesson], shares: dict[str, int]) -> list[Lesson]:
    """The lessons that are quoted, oldest first."""
    by_gain = sorted(lessons, key=_gain, reverse=True)
    groups: dict[str, Iterable[Lesson]] = {
        "best": filter(_is_gain, by_gain),
        "near": filter(_is_near_miss, by_gain),
        "failed": filter(_has_failed, lessons),
        "newest": lessons,
    }
    wanted: set[int] = set()
    for name, group in groups.items():
        for _, lesson in zip(range(shares[name]), group, strict=False):
            wanted.add(id(lesson))
    return [lesson for lesson in reversed(lessons) if id(lesson) in wanted]


def _quoted(lessons: Sequence[Lesson], chosen: Sequence[Lesson], title: int, changes: int) -> str:
    head = f"{_ideas(len(lessons))} tried, oldest first: idea [family] change -> result. A gain is positive if the"
    head += " metric got better."
    if len(chosen) < len(lessons):
        head += f" Quoted are {len(chosen)}: the best, near misses, failures, the newest."
    paragraphs = [f"{head}\n{_WORDS}"]
    base, rows = "", []
    for lesson in chosen:
        if lesson.base != base:
            base = lesson.base
            rows.append(f"on base {base[:7]}:")
        rows.append(_row(lesson, title, changes))
    paragraphs.append("\n".join(rows))
    paragraphs.append("\n".join(_summary(lessons)))
    paragraphs.append("\n".join(_families(lessons)))
    return "\n\n".join(paragraphs)


def _ideas(count: int) -> str:
    return "1 idea was" if count == 1 else f"{count} ideas were"


def _row(lesson: Lesson, title: int, changes: int) -> str:
    row = f"- {lesson.hypothesis_id}. {cut(lesson.title, title)} [{cut(lesson.family or 'no family', _FAMILY)}]"
    change = json.dumps(lesson.changes, ensure_ascii=False) if lesson.changes else lesson.code_change
    if change:
        row += f" {cut(change, changes)}"
    return f"{row} -> {_result(lesson)}"


def _result(lesson: Lesson) -> str:
    """`supported, kept: gain 0.015 [0.01, 0.02] in 8 pairs, 1.4 times the time`."""
    words = [lesson.verdict.value if lesson.verdict is not None else lesson.status]
    # A screen has no verdict of its own, so its fate says more.
    if lesson.reason == "screened":
        words = [] if lesson.outcome else ["screened"]
    if lesson.outcome:
        words.append(lesson.outcome)
    if lesson.evaluation_only:
        words.append("on this evaluation alone")
    result = ", ".join(words)
    if lesson.reason and lesson.reason != "screened":
        result += f" ({cut(lesson.reason, _WHY)})"
    if lesson.gain is not None:
        result += f": {_measured_gain(lesson)}"
    return result + _time(lesson)


def _measured_gain(lesson: Lesson) -> str:
    assert lesson.gain is not None
    gain = f"gain {lesson.gain.mean:+.3g}"
    if lesson.gain.low is not None and lesson.gain.high is not None:
        gain += f" [{lesson.gain.low:.3g}, {lesson.gain.high:.3g}]"
    return f"{gain} in {lesson.gain.n} pair{'' if lesson.gain.n == 1 else 's'}"


def _time(lesson: Lesson) -> str:
    """What an idea costs in time, where that is worth a word."""
    if not lesson.seconds or not lesson.baseline_seconds:
        return ""
    share = lesson.seconds / lesson.baseline_seconds
    return "" if _FASTER < share < _SLOWER else f", {share:.2g} times the time"


def _summary(lessons: Sequence[Lesson]) -> Iterator[str]:
    """The best and the nearest misses by name, so that nobody has to search for them."""
    by_gain = sorted(lessons, key=_gain, reverse=True)
    groups = {
        "Supported, best first": [lesson for lesson in by_gain if _is_supported(lesson)],
        "Provisional steps, not claimed": [lesson for lesson in by_gain if lesson.outcome == "provisional"],
        "Near misses, on the good side without proof": [lesson for lesson in by_gain if _is_near_miss(lesson)],
        "Failed (crashed or refused) or changed nothing": [lesson for lesson in lessons if _has_failed(lesson)],
    }
    for head, group in groups.items():
        names = []
        for lesson in group[:_NAMED]:
            gain = f" {lesson.gain.mean:+.3g}" if lesson.gain is not None else ""
            names.append(f"{lesson.hypothesis_id}{gain}")
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        yield f"{head}: {', '.join(names) or 'none'}{more}"


def _families(lessons: Sequence[Lesson]) -> Iterator[str]:
    """How often each family was tried, its best gain and how often it was supported, the most tried first."""
    tried: Counter[str] = Counter()
    supported: Counter[str] = Counter()
    best: dict[str, float] = {}
    for lesson in lessons:
        # A claim is no idea of its own: its steps are counted.
        if lesson.hypothesis_id.startswith("claim"):
            continue
        for family in families_of_lessons(lesson.family) or ("no family",):
            tried[family] += 1
            supported[family] += _is_supported(lesson)
            if lesson.gain is not None:
                best[family] = max(best.get(family, lesson.gain.mean), lesson.gain.mean)
    # By name among equal counts: a prompt must not depend on the order of the lessons.
    order = sorted(tried, key=lambda family: (-tried[family], family))
    yield "Families:"
    for family in order[:_FAMILIES]:
        gain = f", best gain {best[family]:+.3g}" if family in best else ""
        yield f"{cut(family, _FAMILY)}: {tried[family]} tried, {supported[family]} supported{gain}"
    if len(order) > _FAMILIES:
        yield f"and {len(order) - _FAMILIES} more"


def _is_supported(lesson: Lesson) -> bool:
    return lesson.gain is not None and lesson.verdict is Verdict.SUPPORTED


def _is_gain(lesson: Lesson) -> bool:
    """Supported by a test, or built upon after a screen."""
    return _is_supported(lesson) or lesson.outcome == "provisional"


def _is_near_miss(lesson: Lesson) -> bool:
    # Nothing is built on a suspicious gain until somebody has reviewed it.
    if lesson.verdict is not Verdict.INCONCLUSIVE or lesson.outcome == "suspicious" or _has_failed(lesson):
        return False
    return _gain(lesson) > 0 and not _is_gain(lesson)


def _has_failed(lesson: Lesson) -> bool:
    return lesson.status == "failed" or lesson.reason == "no_change"


def _gain(lesson: Lesson) -> float:
    """In units of the least gain worth having; 0 if nothing was measured."""
    return lesson.gain.mean / lesson.delta if lesson.gain is not None else 0.0


def error_text(message: str) -> str:
    """An error as a lesson keeps it: its last characters, which name the cause, with invisible characters shown."""
    return text.many_lines(message)[-_ERROR:]
