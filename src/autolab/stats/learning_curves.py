"""Whether the trainings of a lab can be told apart before they end, and which running ones are behind. Pure.

Only the lab's own finished curves say it, and only of trainings like them: of another schedule, length, rate or
averaging of weights, a curve crosses the others on its way. So whoever passes curves passes comparable ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST = 8
"""Finished curves without which nothing is said."""
TELLING = 0.8
"""The rank correlation from which a step tells how trainings end."""


@dataclass(frozen=True)
class FinishedCurve:
    """A finished training: `values` of one metric by step, and its score at the `end`, both higher for better."""

    values: Mapping[float, float]
    end: float


def telling_step(curves: Sequence[FinishedCurve]) -> float | None:
    """The earliest step at which at least `LEAST` curves are ranked as at their ends; None if there is none.

    Looked for among the steps that all curves have, but the last, where nothing is saved any more. ValueError: the
    curves do not all end at the same step.
    """
    if len(curves) < LEAST:
        return None
    if len({max(curve.values) for curve in curves}) > 1:
        raise ValueError("curves of different lengths are not comparable")
    common = set(curves[0].values)
    for curve in curves[1:]:
        common &= curve.values.keys()
    ends = [curve.end for curve in curves]
    for step in sorted(common)[:-1]:
        if rank_correlation([curve.values[step] for curve in curves], ends) >= TELLING:
            return step
    return None


def behind(values: Mapping[str, float], baseline: float) -> list[str]:
    """The arms whose value at the telling step is below the baseline's there, higher being better."""
    return [arm for arm, value in values.items() if value < baseline]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, equal values sharing their mean rank; 0 if one side has no order.

    C. Spearman, "The proof and measurement of association between two things", American Journal of Psychology 15
    (1904).
    """
    x, y = _ranks(first), _ranks(second)
    middle = (len(x) + 1) / 2
    covariance = math.fsum((a - middle) * (b - middle) for a, b in zip(x, y, strict=True))
    spread = math.fsum((a - middle) ** 2 for a in x) * math.fsum((b - middle) ** 2 for b in y)
    return covariance / math.sqrt(spread) if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    """The place of each value from 1 up."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values), 1):
        places.setdefault(value, []).append(place)
    ranks = {value: math.fsum(shared) / len(shared) for value, shared in places.items()}
    return [ranks[value] for value in values]
