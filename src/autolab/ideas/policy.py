"""The policy on ideas: no idea twice on the same base, and another family on a plateau. Pure.

Two ideas are the same if they have the same title (without case, signs and spaces) or the same changes. A *plateau* is
reached after `attempts.rethink` iterations of a loop without a gain. Then the families of the last so many iterations
are *tired*: the next idea has to name a family, and another one. A tired family comes back once others were tried, so
that a lab with few families is not stuck. The built-in researcher leaves tired families out by itself
(`History.avoided_families`), and goes on with them if its catalogue has no others; every other researcher is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from autolab.ideas import lessons
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Hypothesis, Lesson
from autolab.lab.schemas.outcomes import DropReason

_SHOWN, _NAMED = 80, 12
"""Characters of a title or a family, and families, that a message shows."""


def repeated(claim: Hypothesis, history: Sequence[Lesson], base: str, allowed: int) -> str:
    """Why the idea may not be tried again on the commit `base`; empty if it may. `history` is newest first."""
    same = []
    for lesson in history:
        # An idea that a budget left out was not tried.
        was_tried = lesson.reason != DropReason.BUDGET
        if was_tried and lesson.base == base and same_idea(claim, lesson.title, lesson.changes):
            same.append(lesson)
    # Refinements of one hypothesis count once.
    hypotheses = {lesson.hypothesis_id for lesson in same}
    if len(hypotheses) < allowed:
        return ""
    last, title = same[0], lessons.cut(same[0].title, _SHOWN)
    return f"tried already in iteration {last.iteration} ({last.verdict or last.status}): {title}; give another idea"


def same_idea(claim: Hypothesis, title: str, changes: Mapping[str, JsonValue]) -> bool:
    """Whether the claim is the idea of this title with these changes."""
    # Titles of signs alone, and ideas without changes, say nothing: they are the same as no other.
    claimed = _plain(claim.title)
    if claimed and claimed == _plain(title):
        return True
    return bool(claim.changes) and claim.changes == changes


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def tired(history: Sequence[Lesson], campaign: Campaign, config: Config) -> tuple[Lesson, ...]:
    """The iterations whose families have to wait, newest first; empty off a plateau."""
    count = config.attempts.rethink
    since_gain = campaign.loop.since_gain if campaign.loop else 0
    if count == 0 or since_gain < count:  # 0 turns the policy off
        return ()
    return tuple(history[:count])


def avoided(waiting: Sequence[Lesson]) -> frozenset[str]:
    """The families of the iterations that `tired` returned."""
    families: set[str] = set()
    for lesson in waiting:
        families.update(lessons.families_of_lessons(lesson.family))
    return frozenset(families)


def worn_family(claim: Hypothesis, waiting: Sequence[Lesson]) -> str:
    """Why the claim's family is refused on a plateau; empty if it is allowed, or if there is no plateau."""
    if not waiting:
        return ""
    families = lessons.families_of_lessons(claim.family)
    if not families:
        return (
            f"rethink: no gain in {len(waiting)} iterations: name the family of the mechanism; not {_listed(waiting)}"
        )
    tired_families = set(map(_plain, avoided(waiting)))
    for family in families:
        if _plain(family) in tired_families:
            name = lessons.cut(family, _SHOWN)
            return f"rethink: {name} brought no gain of late; choose another family than {_listed(waiting)}"
    return ""


def plateau(waiting: Sequence[Lesson]) -> str:
    """What a prompt says about a plateau."""
    if not waiting:
        return "no plateau: any family will do"
    return (
        f"The last {len(waiting)} iterations brought no gain. Rethink: `family` has to be named, and may be none of"
        f" {_listed(waiting)}."
    )


def _listed(waiting: Sequence[Lesson]) -> str:
    families = sorted(avoided(waiting))
    names = [lessons.cut(family, _SHOWN) for family in families[:_NAMED]]
    if len(families) > _NAMED:
        names.append(f"{len(families) - _NAMED} more")
    return ", ".join(names) or "those of before, which gave none"
