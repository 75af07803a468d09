"""The ideas of a batch, by a searcher that learns from everything that was screened on the present base.

The searcher is made anew for each idea, from the lessons, the lab's seed and the number of the batch: an engine that
died and a replay draw the same points. A batch's lessons are written when all of it is known, so its ideas do not
depend on their order.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import JsonValue

from autolab.ideas.searchers import Point, Searcher, SearchSpace
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Lesson
from autolab.researchers.base import Batch, LabSnapshot
from autolab.researchers.offline import bandit
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench
from autolab.researchers.offline.search_points import Changes, SearchPoints

DRAWS = 64
"""Points that are drawn at most for the ideas of one batch: what was screened already gives way to the next."""
MOST_REPEATS = 16
"""A gain over several pairs counts as so many observations at most."""
NOT_A_SCORE = ("review", "suspicious")
"""Reasons of a lesson that says nothing about how well its changes train."""


def proposed(snapshot: LabSnapshot, bench: Bench, batch: Batch) -> Idea | None:
    """The idea for this place of the batch; None if the searcher draws nothing that is new on this base."""
    points = SearchPoints(bench)
    screened = _screened(snapshot, points)
    if not points.space.switches and not points.space.knobs:
        return None
    searcher = _searcher(snapshot, points.space, batch.number)
    screened.tell(searcher, points.space)
    earlier = {bandit.key(claim.changes) for claim in batch.earlier}
    new = _new_changes(searcher, points, screened.keys)
    for place, changes in enumerate(new, start=1):
        idea = points.idea(changes)
        if place >= batch.place and bandit.key(changes) not in earlier and idea is not None:
            return idea
    return None


def concluded(snapshot: LabSnapshot, bench: Bench, batch: Batch) -> Idea | None:
    """The best point of all that was screened on this base; None if nothing promises a gain."""
    points = SearchPoints(bench)
    screened = _screened(snapshot, points)
    searcher = _searcher(snapshot, points.space, batch.number)
    screened.tell(searcher, points.space)
    changes = points.changes(searcher.best())
    # Where no part is clear by itself, what was measured best may still be better than the base.
    return points.idea(changes or screened.best)


def _new_changes(searcher: Searcher, points: SearchPoints, known: Collection[str]) -> Iterator[Changes]:
    """The changes of one draw after the other, without those that are known, and each once."""
    seen = set(known)
    for point in searcher.propose(DRAWS):
        changes = points.changes(point)
        key = bandit.key(changes)
        if changes and key not in seen:
            seen.add(key)
            yield changes


def _searcher(snapshot: LabSnapshot, space: SearchSpace, number: int) -> Searcher:
    # Python's own generator takes a text, and gives the same number for it everywhere.
    seed = random.Random(f"{snapshot.history.seed} batch {number}").getrandbits(31)
    # Only here: numpy and Optuna take time to load, and most requests need none of it.
    if snapshot.config.screen.searcher == "tpe":
        from autolab.ideas.tpe_searcher import TpeSearcher

        return TpeSearcher(space, seed)
    from autolab.ideas.response_surface import ResponseSurface

    return ResponseSurface(space, _deviation(snapshot), seed)


def _deviation(snapshot: LabSnapshot) -> float:
    """A trial's deviation around what its seed shares with others, in the metric's units.

    That of a pair's difference has two such parts. Without a calibration the wanted difference takes its place.
    """
    of_pair = snapshot.history.deviation
    if of_pair is None or not of_pair > 0:
        return _wanted(snapshot.config)
    return of_pair / math.sqrt(2)


def _wanted(config: Config) -> float:
    return config.metric.difference


# what was screened


@dataclass(frozen=True)
class _Screened:
    """What the lessons of one base say of its points.

    `batches`: points with their gains, one list an iteration, the oldest first; None is a training that failed. `keys`:
    all changes that were tried. `best`: those with the largest measured gain, if it is one; else empty.
    """

    batches: tuple[tuple[tuple[Point, float | None], ...], ...]
    keys: frozenset[str]
    best: Mapping[str, JsonValue]

    def tell(self, searcher: Searcher, space: SearchSpace) -> None:
        # Gains are differences to the base, so that its score is 0.
        searcher.observe([space.base], [0.0])
        for batch in self.batches:
            points, scores = zip(*batch, strict=True)
            searcher.observe(points, scores)


def _screened(snapshot: LabSnapshot, points: SearchPoints) -> _Screened:
    lessons = _on_base(snapshot)
    batches = []
    for _, iteration in groupby(lessons, key=lambda lesson: lesson.iteration_id):
        batch: list[tuple[Point, float | None]] = []
        for lesson in iteration:
            batch += _observations(lesson, points)
        if batch:
            batches.append(tuple(batch))
    best: Mapping[str, JsonValue] = {}
    highest = 0.0
    for lesson in lessons:
        # Changes of another researcher have no code here.
        is_ours = points.idea(lesson.changes) is not None
        if is_ours and lesson.gain is not None and lesson.reason not in NOT_A_SCORE and lesson.gain.mean > highest:
            best, highest = lesson.changes, lesson.gain.mean
    keys = frozenset(bandit.key(lesson.changes) for lesson in lessons)
    return _Screened(tuple(batches), keys, best)


def _on_base(snapshot: LabSnapshot) -> list[Lesson]:
    """The lessons about ideas on the present base, the oldest first; a claim repeats what was screened before it."""
    base, found = snapshot.code.base_commit, []
    for lesson in reversed(snapshot.history.lessons):
        is_claim = re.fullmatch(r"claim\d+", lesson.hypothesis_id) is not None
        if lesson.base == base and lesson.changes and not is_claim:
            found.append(lesson)
    return found


def _observations(lesson: Lesson, points: SearchPoints) -> Sequence[tuple[Point, float | None]]:
    """The lesson's point with its gain, once a pair; empty if it says nothing about a point of this space."""
    point = points.point(lesson.changes)
    if point is None or lesson.reason in NOT_A_SCORE or lesson.outcome == "suspicious":
        return ()
    if lesson.gain is None:
        return [(point, None)] if lesson.status == "failed" else ()
    # The mean of n scores weighs as n scores of that value do.
    return [(point, lesson.gain.mean)] * min(lesson.gain.n, MOST_REPEATS)
