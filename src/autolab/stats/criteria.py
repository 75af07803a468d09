"""Criteria, the thresholds on a variant's means: target, acceptable, failure. How far they are met. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from autolab.errors import RecordError
from autolab.lab.schemas.config import Direction, Metric
from autolab.lab.schemas.experiment import ArmMetrics, Criterion, Design
from autolab.lab.schemas.outcomes import Verdict

Level = Literal["target", "acceptable", "below_acceptable", "failed", "unmeasured"]


def resolve_criteria(design: Design, direction: Direction, metric: Metric | None) -> Iterator[Criterion]:
    """The design's criteria with their directions filled in. RecordError: they contradict themselves.

    `direction` is that of the design's primary metric, `metric` the lab's.
    """
    names: set[str] = set()
    for index, criterion in enumerate(design.criteria):
        where = f"design.yaml: criteria.{index}"
        name = criterion.metric
        if name in names:
            raise RecordError(f"{where}: metric: {name!r} has a criterion already; give one a metric")
        names.add(name)
        directions = [criterion.direction, _direction_of_marks(criterion, where)]
        if name == design.metrics.primary:
            directions.append(direction)
        resolved = _only(set(filter(None, directions)), name, where)
        yield criterion.model_copy(update={"direction": resolved})


def _direction_of_marks(criterion: Criterion, where: str) -> Direction | None:
    """From best to worst a criterion reads target, acceptable, failure; None if only one value is given."""
    marks = [mark for mark in (criterion.target, criterion.acceptable, criterion.failure) if mark is not None]
    best, worst = marks[0], marks[-1]
    if best == worst:
        if criterion.failure is not None:
            raise RecordError(f"{where}: target and failure are both {best}; give two different values")
        return None
    maximize = best > worst
    if marks != sorted(marks, reverse=maximize):
        raise RecordError(f"{where}: acceptable: {criterion.acceptable} does not lie between target and failure")
    return "maximize" if maximize else "minimize"


def _only(directions: set[Direction], metric: str, where: str) -> Direction:
    if not directions:
        raise RecordError(
            f"{where}: direction: missing; write minimize or maximize, or a failure value besides the target"
        )
    if len(directions) > 1:
        raise RecordError(f"{where}: direction: contradiction: {metric!r} is to {' and to '.join(sorted(directions))}")
    return directions.pop()


def level(criterion: Criterion, value: float | None) -> Level:
    """How far one criterion is met. Limits: target and acceptable are met by an equal value, failure only past it.

    0.559 against target 0.7, acceptable 0.6, failure 0.5 is below_acceptable.
    """
    if value is None:
        return "unmeasured"
    sign = -1 if criterion.direction == "minimize" else 1
    if sign * value >= sign * criterion.target:
        return "target"
    if criterion.acceptable is not None and sign * value >= sign * criterion.acceptable:
        return "acceptable"
    if criterion.failure is not None and sign * value < sign * criterion.failure:
        return "failed"
    return "below_acceptable"


def criteria_levels(criteria: Sequence[Criterion], means: dict[str, ArmMetrics], trials: int) -> dict[str, Level]:
    """The level of each criterion on a variant's means; a metric that only some of its `trials` gave is unmeasured."""
    levels = {}
    for criterion in criteria:
        arm = means.get(criterion.metric)
        # A mean over some of the trials could leave out just the bad ones.
        if arm is None or arm.n != trials:
            levels[criterion.metric] = level(criterion, None)
        else:
            levels[criterion.metric] = level(criterion, arm.mean)
    return levels


def criteria_verdict(levels: dict[str, Level]) -> Verdict | None:
    """All met: supported; any below or failed: refuted; else one is unmeasured: inconclusive. None without criteria."""
    reached = set(levels.values())
    if not reached:
        return None
    if reached & {"below_acceptable", "failed"}:
        return Verdict.REFUTED
    if "unmeasured" in reached:
        return Verdict.INCONCLUSIVE
    return Verdict.SUPPORTED
