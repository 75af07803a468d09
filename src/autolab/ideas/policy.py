"""The policy on ideas: what was tried on this base is not tried again, and on a plateau the family changes. Pure.

An idea is known by its title (without case, signs and spaces) or by its changes. A *plateau* is reached after
`attempts.rethink` iterations of a loop without a gain. Then the families of the last so many iterations are *tired*:
the next idea has to name a family, and another one. What was tired comes back once others were tried, so that a lab
with few families is not stuck. The built-in researcher leaves them out by itself (`History.avoided_families`), and
goes on with them where its catalogue has no others; anybody else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from autolab.ideas import lessons
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Hypothesis, Lesson

_SHOWN, _NAMED = 80, 12
"""Characters of a title or a family, and families, that a message shows."""


def repeated(claim: Hypothesis, known: Sequence[Lesson], base: str, allowed: int) -> str:
    """Why the idea may not be tried again on the commit `base`; empty where it may. `known` is newest first.

    Refinements of one hypothesis count once.
    """
    same = [one for one in known if one.base == base and _same(claim, one)]
    if len({one.hypothesis_id for one in same}) < allowed:
        return ""
    last, title = same[0], lessons.cut(same[0].title, _SHOWN)
    return f"tried already in iteration {last.iteration} ({last.verdict or last.status}): {title}; give another idea"


def _same(claim: Hypothesis, one: Lesson) -> bool:
    title = _plain(claim.title)
    return (bool(title) and title == _plain(one.title)) or (bool(claim.changes) and claim.changes == one.changes)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def tired(known: Sequence[Lesson], campaign: Campaign, config: Config) -> tuple[Lesson, ...]:
    """The iterations whose families have to wait, newest first; empty off a plateau."""
    count, since = config.attempts.rethink, campaign.loop.since_gain if campaign.loop else 0
    return tuple(known[:count]) if since >= count > 0 else ()


def avoided(waiting: Sequence[Lesson]) -> frozenset[str]:
    return frozenset(family for one in waiting for family in lessons.families_of_lessons(one.family))


def worn_family(claim: Hypothesis, waiting: Sequence[Lesson]) -> str:
    """Why the claim's family does not do on a plateau; empty where it does, or where there is no plateau."""
    if not waiting:
        return ""
    named, out = lessons.families_of_lessons(claim.family), _listed(waiting)
    if not named:
        return f"rethink: no gain in {len(waiting)} iterations: name the family of the mechanism; not {out}"
    known = {_plain(family) for family in avoided(waiting)}
    same = [family for family in named if _plain(family) in known]
    if not same:
        return ""
    return f"rethink: {lessons.cut(same[0], _SHOWN)} brought no gain of late; choose another family than {out}"


def plateau(waiting: Sequence[Lesson]) -> str:
    """What a prompt says of it."""
    if not waiting:
        return "no plateau: any family will do"
    return (
        f"The last {len(waiting)} iterations brought no gain. Rethink: `family` has to be named, and may be none of"
        f" {_listed(waiting)}."
    )


def _listed(waiting: Sequence[Lesson]) -> str:
    names = [lessons.cut(name, _SHOWN) for name in sorted(avoided(waiting))]
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join(names[:_NAMED] + more) or "those of before, which gave none"
