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

from autolab.ideas.searchers import Point, Searcher
from autolab.lab.schemas.experiment import Lesson
from autolab.lab.schemas.outcomes import DropReason
from autolab.researchers.base import Batch, LabSnapshot
from autolab.researchers.offline import bandit
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench
from autolab.researchers.offline.search_points import Changes, SearchPoints

SPARE_DRAWS = 28
"""Points that are drawn beside those for a batch: what was screened already gives way to the next."""
MOST_REPEATS = 16
"""A gain over several pairs counts as so many observations at most."""
LOST = 10.0
"""What is worse than the base by more wanted differences than this is told as that much: how far a training went wrong
says nothing about its parts."""
REFUSED = "review"
"""The reason of a lesson whose changes were not measured because they were refused."""


def proposed(snapshot: LabSnapshot, bench: Bench, batch: Batch) -> Idea | None:
    """The idea for this place of the batch; None if the searcher draws nothing that is new on this base."""
    points = SearchPoints(bench)
    if not points.space.switches and not points.space.knobs:
        return None
    screened = _screened(snapshot, points)
    searcher = _searcher(snapshot, points, batch.number)
    _tell(searcher, points, screened, snapshot)
    known = {bandit.key(lesson.changes) for lesson in _on_base(snapshot)}
    earlier = {bandit.key(claim.changes) for claim in batch.earlier}
    drawn = searcher.propose(batch.size + SPARE_DRAWS)
    for place, changes in enumerate(_new_changes(drawn, points, known), start=1):
        idea = points.idea(changes)
        if place >= batch.place and bandit.key(changes) not in earlier and idea is not None:
            return idea
    return None


def concluded(snapshot: LabSnapshot, bench: Bench, batch: Batch) -> Idea | None:
    """The best point of all that was screened on this base; None if nothing promises a gain."""
    points = SearchPoints(bench)
    screened = _screened(snapshot, points)
    searcher = _searcher(snapshot, points, batch.number)
    _tell(searcher, points, screened, snapshot)
    changes = points.changes(searcher.best())
    # Where no part is clear by itself, what was measured best may still be better than the base.
    return points.idea(changes or _best_measured(snapshot, points))


def _new_changes(drawn: Sequence[Point], points: SearchPoints, known: Collection[str]) -> Iterator[Changes]:
    """The changes of one drawn point after the other, without those that are known, and each once."""
    seen = set(known)
    for point in drawn:
        changes = points.changes(point)
        key = bandit.key(changes)
        if changes and key not in seen:
            seen.add(key)
            yield changes


def _searcher(snapshot: LabSnapshot, points: SearchPoints, number: int) -> Searcher:
    # Python's own generator takes a text, and gives the same number for it everywhere.
    seed = random.Random(f"{snapshot.history.seed} batch {number}").getrandbits(31)
    # Only here: numpy and Optuna take time to load, and most requests need none of it.
    if snapshot.config.screen.searcher == "tpe":
        from autolab.ideas.tpe_searcher import TpeSearcher

        return TpeSearcher(points.space, seed)
    from autolab.ideas.response_surface import ResponseSurface

    return ResponseSurface(points.space, _deviation(snapshot), seed, points.guesses)


def _deviation(snapshot: LabSnapshot) -> float:
    """A trial's deviation around what its seed shares with others, in the metric's units.

    That of a pair's difference has two such parts. Without a calibration the wanted difference takes its place.
    """
    of_pair = snapshot.history.deviation
    if of_pair is None or not of_pair > 0:
        return snapshot.config.metric.difference
    return of_pair / math.sqrt(2)


# what was screened


@dataclass(frozen=True)
class _ScreenedPoint:
    """A point of the space with its mean gain over so many pairs; None is a training that failed."""

    iteration_id: str
    changes: Mapping[str, JsonValue]
    point: Point
    gain: float | None
    pairs: int


def _on_base(snapshot: LabSnapshot) -> list[Lesson]:
    """The lessons about ideas on the present base, the oldest first; a claim repeats what was screened before it."""
    base, found = snapshot.code.base_commit, []
    for lesson in reversed(snapshot.history.lessons):
        is_claim = re.fullmatch(r"claim\d+", lesson.hypothesis_id) is not None
        if lesson.base == base and lesson.changes and not is_claim:
            found.append(lesson)
    return found


def _screened(snapshot: LabSnapshot, points: SearchPoints) -> list[_ScreenedPoint]:
    """What the lessons of the present base say of points of the space, the oldest first."""
    found = []
    for lesson in _on_base(snapshot):
        point = points.point(lesson.changes)
        # Nothing is built on a suspicious gain until somebody has reviewed it.
        if point is None or lesson.reason == REFUSED or lesson.outcome == "suspicious":
            continue
        if lesson.gain is not None:
            pairs = min(max(lesson.gain.n, 1), MOST_REPEATS)
            found.append(_ScreenedPoint(lesson.iteration_id, lesson.changes, point, lesson.gain.mean, pairs))
        # A trial that its learning curve ended was behind, and has not failed.
        elif lesson.status == "failed" and lesson.reason not in (DropReason.PRUNED, DropReason.BUDGET):
            found.append(_ScreenedPoint(lesson.iteration_id, lesson.changes, point, None, 1))
    return found


def _tell(searcher: Searcher, points: SearchPoints, screened: Sequence[_ScreenedPoint], snapshot: LabSnapshot) -> None:
    """Let the searcher observe what was screened, batch by batch."""
    floor = -LOST * max(snapshot.config.metric.difference, _deviation(snapshot))
    # Gains are differences to the base, so that its score is 0.
    searcher.observe([points.space.base], [0.0])
    for _, batch in groupby(screened, key=lambda one: one.iteration_id):
        told: list[Point] = []
        scores: list[float | None] = []
        for one in batch:
            # The mean of n scores weighs as n scores of that value do.
            told += [one.point] * one.pairs
            scores += [None if one.gain is None else max(one.gain, floor)] * one.pairs
        searcher.observe(told, scores)


def _best_measured(snapshot: LabSnapshot, points: SearchPoints) -> Mapping[str, JsonValue]:
    """The changes with the largest measured gain on this base; empty if none is a gain."""
    best: Mapping[str, JsonValue] = {}
    highest = 0.0
    for lesson in _on_base(snapshot):
        # Changes of another researcher have no code here.
        is_ours = points.idea(lesson.changes) is not None and lesson.outcome != "suspicious"
        if is_ours and lesson.gain is not None and lesson.gain.mean > highest:
            best, highest = lesson.changes, lesson.gain.mean
    return best
