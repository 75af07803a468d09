"""Which idea is tried next: a bandit over the families of the catalogue, which learns from measured gains. Pure.

    ideas(...)    what could be tried on the present base
    choose(...)   one of them

Each family has a normal posterior over the gain of its mechanisms, in units of the lab's success_delta. It starts with
half an observation from the catalogue's guesses; every measured gain adds one. An idea's score is a draw from its
family's posterior (Thompson 1933, Biometrika 25), plus its own guess, minus its cost. So a family that pays is drawn
more often, and one that was tried and does not pay sinks below those that nobody tried. Near misses of two families are
tried together. What failed is not tried again; what was refuted on another base, only when little else is left.
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
from autolab.lab.schemas.outcomes import Fate, Verdict
from autolab.researchers.offline.catalogue import Mechanism

LARGEST = 3.0
"""Gains count up to this many success_deltas, so that one large gain does not favour a family for ever."""
GUESS = 0.5
"""How many measured gains the catalogue's guesses for a family count as. Little: they may be wrong."""
SPREAD = 0.7
"""Standard deviation of the gains within a family, in success_deltas, as the draws assume it."""
PROMISING = 0.25
"""A mean gain of this many success_deltas that was not supported is a near miss."""
PLATEAU = 3
"""After this many iterations without a supported gain, the families of the last two wait."""


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
        """The factor on a trial's time."""
        return math.prod(mechanism.cost for mechanism, _ in self.parts)


def key(changes: Mapping[str, JsonValue]) -> str:
    """Changes as a text, to compare them."""
    return json.dumps(changes, sort_keys=True, ensure_ascii=False)


def gain(lesson: Lesson) -> float:
    """The measured gain in units of success_delta, between -LARGEST and LARGEST; -1 for a failure.

    A suspicious gain, which was set aside, counts as 0: nothing is built on it.
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

    A higher dose is an idea only if the one before was promising. `lessons` are newest first.
    """
    relative = {mechanism.change for mechanism in mechanisms if mechanism.relative}
    newest: dict[str, Lesson] = {}
    closed = set()
    # Lessons are newest first: reversed, so that the newest of several wins.
    for lesson in reversed(lessons):
        # The same step from another base leads to another value, of which nothing is known.
        if lesson.base != base and not relative.isdisjoint(lesson.changes):
            continue
        changes = key(lesson.changes)
        newest[changes] = lesson
        # What fails here fails on every base; a refuted gain may exist on another.
        if lesson.base == base or _failed(lesson):
            closed.add(changes)
    candidates = []
    for mechanism in mechanisms:
        for value in _doses(mechanism, newest):
            candidates.append(Idea(((mechanism, value),)))
    pair = _near_misses_together(mechanisms, lessons, base)
    if pair is not None:
        candidates.append(pair)
    return [idea for idea in candidates if key(idea.changes) not in closed and fits(idea.changes)]


def _doses(mechanism: Mechanism, newest: Mapping[str, Lesson]) -> Iterable[JsonValue]:
    for value in mechanism.values:
        yield value
        lesson = newest.get(key({mechanism.change: value}))
        if lesson is None or gain(lesson) < PROMISING:
            return


def _near_misses_together(mechanisms: Sequence[Mechanism], lessons: Sequence[Lesson], base: str) -> Idea | None:
    """The two best near misses on this base that belong to different families."""
    best: dict[str | None, Lesson] = {}
    for lesson in sorted(lessons, key=gain, reverse=True):
        # One change each: a pair of pairs would not show which part pays.
        if lesson.base == base and near_miss(lesson) and len(lesson.changes) == 1:
            # The first is the best of its family.
            best.setdefault(lesson.family, lesson)
    parts = []
    for lesson in list(best.values())[:2]:
        parts += parts_of(lesson.changes, mechanisms)
    # Fewer if another researcher's change is among them, for which the catalogue has no code.
    return Idea(tuple(parts)) if len(parts) == 2 else None


def parts_of(changes: Mapping[str, JsonValue], mechanisms: Sequence[Mechanism]) -> list[tuple[Mechanism, JsonValue]]:
    """The catalogue's mechanisms behind some changes; changes that the catalogue does not hold are left out."""
    parts = []
    for change, value in changes.items():
        for mechanism in mechanisms:
            if mechanism.change == change and value in mechanism.values:
                parts.append((mechanism, value))
    return parts


def next_dose(changes: Mapping[str, JsonValue], mechanisms: Sequence[Mechanism]) -> Idea | None:
    """The same mechanism in its next dose, if there is one."""
    parts = parts_of(changes, mechanisms)
    if len(parts) != 1:
        return None
    mechanism, value = parts[0]
    next_index = mechanism.values.index(value) + 1
    if next_index == len(mechanism.values):
        return None
    return Idea(((mechanism, mechanism.values[next_index]),))


def without(candidates: Sequence[Idea], families: Collection[str]) -> list[Idea]:
    """The ideas that belong to none of the families; all ideas if every one does."""
    avoided = set(families)
    others = [idea for idea in candidates if avoided.isdisjoint(idea.families)]
    # A plateau must not end the search while anything is untried.
    return others or list(candidates)


def choose(candidates: Sequence[Idea], lessons: Sequence[Lesson], draw: random.Random) -> Idea | None:
    """The idea with the highest score of this draw; None if there is no idea."""
    fresh = without(candidates, _tired_families(lessons))
    return next(iter(_by_score(fresh, candidates, lessons, draw)), None)


def ranked(candidates: Sequence[Idea], lessons: Sequence[Lesson], draw: random.Random) -> list[Idea]:
    """The ideas for the places of a batch: what `choose` would choose, the next best, and those that wait at last."""
    fresh = without(candidates, _tired_families(lessons))
    waiting = [idea for idea in candidates if idea not in fresh]
    return _by_score(fresh, candidates, lessons, draw) + _by_score(waiting, candidates, lessons, draw)


def _by_score(
    fresh: Sequence[Idea], candidates: Sequence[Idea], lessons: Sequence[Lesson], draw: random.Random
) -> list[Idea]:
    """The fresh ones of the candidates by the scores of one draw, the highest first."""
    # In a fixed order, so that the same seed draws the same numbers for the same families.
    # (A set of strings has another order in every process.)
    families: set[str] = set()
    for idea in fresh:
        families.update(idea.families)
    draws = {}
    for family in sorted(families):
        mean, deviation = _posterior(family, candidates, lessons)
        draws[family] = draw.gauss(mean, deviation)
    # Reversed, so that the newest of several lessons wins.
    gains = {key(lesson.changes): gain(lesson) for lesson in reversed(lessons)}
    return sorted(fresh, key=lambda idea: _score(idea, draws, gains), reverse=True)


def _tired_families(lessons: Sequence[Lesson]) -> set[str]:
    """The families that wait, because the last iterations brought nothing."""
    newest = lessons[:PLATEAU]
    if len(newest) < PLATEAU or any(_is_gain(lesson) for lesson in newest):
        return set()
    # Of the last two only: more would leave a small catalogue without a choice.
    tired: set[str] = set()
    for lesson in lessons[:2]:
        tired.update(families_of(lesson))
    return tired


def _is_gain(lesson: Lesson) -> bool:
    """Whether the idea is built upon: supported, or a step of a stack that is not claimed yet."""
    return lesson.verdict is Verdict.SUPPORTED or lesson.outcome == Fate.PROVISIONAL


def families_of(lesson: Lesson) -> tuple[str, ...]:
    return families_of_lessons(lesson.family)


def _posterior(family: str, candidates: Sequence[Idea], lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Mean and standard deviation of the gain that is expected of an idea of the family."""
    guesses = []
    for idea in candidates:
        guesses += [mechanism.expected for mechanism, _ in idea.parts if mechanism.family == family]
    # The prior counts as GUESS observations of the mean guess; the posterior is that of a normal with known variance.
    weight = GUESS
    total = GUESS * sum(guesses) / len(guesses)
    for lesson in lessons:
        families = families_of(lesson)
        # A gain of several families together counts for each in part.
        if family in families:
            weight += 1 / len(families)
            total += gain(lesson) / len(families)
    return total / weight, SPREAD / math.sqrt(weight)


def _score(idea: Idea, draws: Mapping[str, float], gains: Mapping[str, float]) -> float:
    if len(idea.parts) > 1:
        # Near misses, so both were measured: no draw is needed. Gains of two mechanisms rarely add up in full.
        singles = [gains.get(key({mechanism.change: value}), 0.0) for mechanism, value in idea.parts]
        return 0.7 * sum(singles)
    mechanism, _ = idea.parts[0]
    score = draws[mechanism.family] + 0.5 * mechanism.expected - 0.15 * math.log2(mechanism.cost)
    earlier = gains.get(key(idea.changes))
    # It was measured on another base: half evidence, and less to learn than from something new.
    if earlier is not None and not mechanism.relative:
        score = 0.5 * (score + earlier) - 0.5
    return score
