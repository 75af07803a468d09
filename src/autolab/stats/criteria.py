"""Thresholds on metrics: target, acceptable, failure; how far a variant's means meet them, and what that says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from autolab.errors import RecordError
from autolab.lab.schemas.config import Direction, Metric
from autolab.lab.schemas.experiment import ArmMetrics, Criterion, Design
from autolab.lab.schemas.outcomes import Verdict

Level = Literal["target", "acceptable", "below_acceptable", "failed", "unmeasured"]


def resolve_criteria(design: Design, direction: Direction, metric: Metric | None) -> Iterator[Criterion]:
    """The design's criteria with their directions filled in; RecordError where they contradict themselves."""
    seen: set[str] = set()
    for index, criterion in enumerate(design.criteria):
        where = f"design.yaml: criteria.{index}"
        if criterion.metric in seen:
            raise RecordError(f"{where}: metric: {criterion.metric!r} has a criterion already; give one a metric")
        seen.add(criterion.metric)
        known = direction if criterion.metric == design.metrics.primary else None
        yield criterion.model_copy(update={"direction": _direction(criterion, known, where)})


def _direction(criterion: Criterion, known: Direction | None, where: str) -> Direction:
    """From best to worst a criterion reads target, acceptable, failure; that order is its direction."""
    marks = [mark for mark in (criterion.target, criterion.acceptable, criterion.failure) if mark is not None]
    if len(marks) > 1 and marks[0] == marks[-1] and criterion.failure is not None:
        raise RecordError(f"{where}: target and failure are both {marks[0]}; give two different values")
    derived: Direction | None = None
    if marks[0] != marks[-1]:
        derived = "maximize" if marks[0] > marks[-1] else "minimize"
    if derived and marks != sorted(marks, reverse=derived == "maximize"):
        raise RecordError(f"{where}: acceptable: {criterion.acceptable} does not lie between target and failure")
    named = {one for one in (criterion.direction, derived, known) if one is not None}
    if len(named) > 1:
        raise RecordError(
            f"{where}: direction: contradiction: {criterion.metric!r} is to {' and to '.join(sorted(named))}"
        )
    if not named:
        raise RecordError(
            f"{where}: direction: missing; write minimize or maximize, or a failure value besides the target"
        )
    return named.pop()


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
    found = {name: arm.mean for name, arm in means.items() if arm.n == trials}
    return {criterion.metric: level(criterion, found.get(criterion.metric)) for criterion in criteria}


def criteria_verdict(found: dict[str, Level]) -> Verdict | None:
    """All met: supported; any below or failed: refuted; else one is unmeasured: inconclusive. None without criteria."""
    if not found:
        return None
    if any(one in ("below_acceptable", "failed") for one in found.values()):
        return Verdict.REFUTED
    return Verdict.INCONCLUSIVE if "unmeasured" in found.values() else Verdict.SUPPORTED
