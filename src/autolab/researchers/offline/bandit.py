"""Which idea is tried next: a bandit over the families of the catalogue, fed by what was measured. Pure.

    ideas(...)    what could be tried on the present base
    choose(...)   one of them

Each family keeps a normal posterior over the gain of its mechanisms, in units of the lab's success_delta: half an
observation from the catalogue's guesses, then every measured gain. An idea is scored by a draw from its
family's posterior (Thompson 1933, Biometrika 25), its own guess and its cost. A family that pays is drawn more often;
one that was tried and does not pay sinks below those that nobody tried. Near misses of two families are tried
together. What failed is not tried again; what was refuted on another base only when little else is left.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from autolab.ideas.lessons import families_of_lessons
from autolab.lab.schemas.experiment import Lesson
from autolab.lab.schemas.outcomes import Verdict
from autolab.researchers.offline.catalogue import Mechanism

LARGEST = 3.0
"""Gains count up to this many success_deltas, so that one large one does not decide for a family for ever."""
GUESS = 0.5
"""What the catalogue's guesses for a family count, in measured gains: a shuffled catalogue is soon found out."""
SPREAD = 0.7
"""Deviation of the gains within a family, in success_deltas, as the draws assume it."""
PROMISING = 0.25
"""A mean gain of this many success_deltas that was not supported is a near miss."""
PLATEAU = 3
"""After so many iterations without a supported gain, the families of the last two wait."""


@dataclass(frozen=True)
class Idea:
    """What could be tried: one mechanism in one dose, or several together."""

    parts: tuple[tuple[Mechanism, JsonValue], ...]

    @property
    def changes(self) -> dict[str, JsonValue]:
        return {mechanism.change: value for mechanism, value in self.parts}

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(mechanism.family for mechanism, _ in self.parts))

    @property
    def cost(self) -> float:
        return math.prod(mechanism.cost for mechanism, _ in self.parts)


def key(changes: Mapping[str, JsonValue]) -> str:
    """Changes as a text, to compare them by."""
    return json.dumps({name: changes[name] for name in sorted(changes)}, ensure_ascii=False)


def gain(lesson: Lesson) -> float:
    """The measured gain in units of success_delta, between -LARGEST and LARGEST; a failure counts as -1.

    One that was set aside as suspicious counts as none: nothing is built on it.
    """
    if lesson.outcome == "suspicious":
        return 0.0
    if lesson.gain is None or _failed(lesson):
        return -1.0
    return max(-LARGEST, min(LARGEST, lesson.gain.mean / lesson.delta))


def near_miss(lesson: Lesson) -> bool:
    return lesson.verdict is Verdict.INCONCLUSIVE and not _failed(lesson) and gain(lesson) >= PROMISING


def _failed(lesson: Lesson) -> bool:
    return lesson.status == "failed" or lesson.reason == "no_change"


def ideas(
    mechanisms: Sequence[Mechanism],
    lessons: Sequence[Lesson],
    base: str,
    fits: Callable[[dict[str, JsonValue]], bool],
) -> list[Idea]:
    """Everything that fits the base and was not measured on it: doses in their order, and pairs of near misses.

    A higher dose is an idea only once the one before was promising. `lessons` are newest first.
    """
    known = {key(lesson.changes): lesson for lesson in reversed(lessons)}
    here = {key(lesson.changes) for lesson in lessons if lesson.base == base}
    failed = {key(lesson.changes) for lesson in lessons if _failed(lesson)}
    single = [Idea(((mechanism, value),)) for mechanism in mechanisms for value in _doses(mechanism, known)]
    found = [*single, *_together(mechanisms, lessons, base)]
    return [idea for idea in found if key(idea.changes) not in here | failed and fits(idea.changes)]


def _doses(mechanism: Mechanism, known: Mapping[str, Lesson]) -> Iterable[JsonValue]:
    for value in mechanism.values:
        yield value
        before = known.get(key({mechanism.change: value}))
        if before is None or gain(before) < PROMISING:
            return


def _together(mechanisms: Sequence[Mechanism], lessons: Sequence[Lesson], base: str) -> list[Idea]:
    """The two best near misses on this base that belong to different families."""
    close = sorted((one for one in lessons if one.base == base and near_miss(one)), key=lambda one: -gain(one))
    best = {lesson.family: lesson for lesson in reversed(close) if len(lesson.changes) == 1}
    found = sorted(best.values(), key=lambda one: -gain(one))[:2]
    parts = [part for lesson in found for part in parts_of(lesson.changes, mechanisms)]
    return [Idea(tuple(parts))] if len(found) == 2 and len(parts) == 2 else []


def parts_of(changes: Mapping[str, JsonValue], mechanisms: Sequence[Mechanism]) -> list[tuple[Mechanism, JsonValue]]:
    """Changes in the catalogue's words; what the catalogue does not hold any more is left out."""
    return [
        (mechanism, value)
        for change, value in changes.items()
        for mechanism in mechanisms
        if mechanism.change == change and value in mechanism.values
    ]


def next_dose(changes: Mapping[str, JsonValue], mechanisms: Sequence[Mechanism]) -> Idea | None:
    """The same mechanism in its next dose, if there is one."""
    parts = parts_of(changes, mechanisms)
    if len(parts) != 1:
        return None
    mechanism, value = parts[0]
    later = mechanism.values[mechanism.values.index(value) + 1 :]
    return Idea(((mechanism, later[0]),)) if later else None


def without(found: Sequence[Idea], families: Collection[str]) -> list[Idea]:
    """The ideas that belong to none of the families; all of them where there are no others."""
    return [idea for idea in found if not set(families) & set(idea.families)] or list(found)


def choose(found: Sequence[Idea], lessons: Sequence[Lesson], draw: random.Random) -> Idea | None:
    """The idea with the highest score of this draw; None if there is none."""
    fresh = without(found, _tired(lessons))
    belief = {family: _posterior(family, found, lessons) for idea in fresh for family in idea.families}
    drawn = {family: draw.gauss(*belief[family]) for family in sorted(belief)}
    known = {key(lesson.changes): gain(lesson) for lesson in reversed(lessons)}
    return max(fresh, key=lambda idea: _score(idea, drawn, known), default=None)


def _tired(lessons: Sequence[Lesson]) -> set[str]:
    """The families that wait on a plateau."""
    last = lessons[:PLATEAU]
    if len(last) < PLATEAU or any(lesson.verdict is Verdict.SUPPORTED for lesson in last):
        return set()
    return {family for lesson in lessons[:2] for family in families_of(lesson)}


def families_of(lesson: Lesson) -> tuple[str, ...]:
    return families_of_lessons(lesson.family)


def _posterior(family: str, found: Sequence[Idea], lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Mean and deviation of what an idea of the family is believed to gain."""
    guesses = [m.expected for idea in found for m, _ in idea.parts if m.family == family]
    weight, total = GUESS, GUESS * sum(guesses) / len(guesses)
    for lesson in lessons:
        of = families_of(lesson)
        if family in of:
            weight, total = weight + 1 / len(of), total + gain(lesson) / len(of)
    return total / weight, SPREAD / math.sqrt(weight)


def _score(idea: Idea, drawn: Mapping[str, float], known: Mapping[str, float]) -> float:
    score = sum(drawn[family] for family in idea.families) / len(idea.families)
    score += 0.5 * sum(mechanism.expected for mechanism, _ in idea.parts) / len(idea.parts)
    score -= 0.15 * math.log2(idea.cost)
    if len(idea.parts) > 1:  # near misses: their sum is what they promise together
        return 0.7 * sum(known.get(key({m.change: value}), 0.0) for m, value in idea.parts)
    if (before := known.get(key(idea.changes))) is not None:  # measured on another base
        score = 0.5 * (score + before) - 0.5
    return score
