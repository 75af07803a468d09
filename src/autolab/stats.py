"""What paired differences say: a stopping rule reads them in seed order and rules on one variant.

A difference is candidate minus baseline at one seed, in the direction of good (a lower loss is a positive
difference), in the metric's units. Nothing here reads a file, a clock or a random number, so equal
differences always get an equal ruling.

Covered: the fixed-n rule, whose Student t interval errs at each end with probability at most alpha over all
arms together (Bonferroni), for differences that are independent and about normal. Not covered: looking
at the interval before the planned number of pairs is there (the rule does not), a metric with few distinct
values, sequential stopping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from autolab.errors import RecordError
from autolab.records.experiment import Interval
from autolab.records.lab import StoppingRule

LIMIT = 1e150
"""Metrics and differences must be smaller, so that no square of one overflows."""


class Action(StrEnum):
    """What a rule says after the newest pair. Only CONTINUE leaves the question open."""

    CONTINUE = "continue"
    KEEP = "keep"
    REFUTED = "refuted"
    FUTILE = "futile"


@dataclass(frozen=True)
class Ruling:
    """An action with the interval it rests on, and one word: keep refuted pending budget no_change deterministic.

    Before the last planned pair the interval has no ends: at that point none is valid under this rule.
    """

    action: Action
    interval: Interval
    reason: str

    @property
    def final(self) -> bool:
        """No further pair can change it: the rule has decided, or the pairs are used up."""
        return self.action is not Action.CONTINUE or self.reason == "budget"


def decide(differences: Sequence[float], *, delta: float, rule: StoppingRule, planned: int, arms: int) -> Ruling:
    """Rule on one variant from the longest completed prefix of its pairs, in seed order.

    `delta` is the least difference worth having (> 0, metric's units), `planned` the number of pairs (>= 2),
    `arms` the number of variants that share this baseline (alpha is divided among them).
    RecordError: a rule that is not built, a difference that is not a finite number, a plan of fewer than two pairs.
    """
    judge = checked(rule)
    if planned < 2:
        raise RecordError(f"design.yaml: reproducibility.seeds: {planned} pair cannot show a spread; plan at least 2")
    if arms < 1 or delta <= 0 or len(differences) > planned:
        raise ValueError(f"arms {arms}, delta {delta}, {len(differences)} differences for {planned} planned pairs")
    for index, difference in enumerate(differences):
        if not abs(difference) < LIMIT:
            raise RecordError(f"difference of pair {index}: {difference} is not a finite number below {LIMIT:g}")
    return judge(differences, delta, rule.alpha / arms, planned)


def checked(rule: StoppingRule) -> _Rule:
    """The function behind a rule's name; RecordError names those that are built."""
    judge = RULES.get(rule.rule)
    if judge is None:
        raise RecordError(f"test.rule: {rule.rule!r} is not built yet; use {' or '.join(RULES)}")
    return judge


def _fixed(differences: Sequence[float], delta: float, tail: float, planned: int) -> Ruling:
    """One look, at the planned number of pairs; each end of the interval errs with probability `tail`."""
    level = 1 - 2 * tail
    if len(differences) < planned:
        return Ruling(Action.CONTINUE, _open(differences, level), "pending")
    if not any(differences):
        return Ruling(Action.FUTILE, _open(differences, level), "no_change")
    if min(differences) == max(differences):
        # The seeds did not replicate anything: n equal numbers are one number, and a t interval of width 0 would lie.
        return Ruling(Action.FUTILE, _open(differences, level), "deterministic")
    interval = student_interval(differences, tail)
    low, high = interval.low, interval.high
    assert low is not None and high is not None
    if low > 0 and interval.mean >= delta:
        return Ruling(Action.KEEP, interval, "keep")
    if high < delta:
        return Ruling(Action.REFUTED, interval, "refuted")
    return Ruling(Action.CONTINUE, interval, "budget")


_Rule = Callable[[Sequence[float], float, float, int], Ruling]

RULES: dict[str, _Rule] = {"fixed": _fixed}
"""Every rule that is built: from differences, delta, error of one end and planned pairs to a ruling."""


def student_interval(values: Sequence[float], tail: float) -> Interval:
    """Mean of at least two finite values, with a Student t interval that misses with `tail` at each end.

    The mean's distribution under a normal sample: W. S. Gosset, "The probable error of a mean", Biometrika 6 (1908).
    """
    from scipy.special import stdtrit

    n = len(values)
    mean, deviation = mean_and_deviation(values)
    assert deviation is not None
    # The lower quantile, negated: 1 - tail would round a small tail away.
    half = -float(stdtrit(n - 1, tail)) * deviation / math.sqrt(n)
    if not math.isfinite(half):
        raise RecordError(f"test.alpha: {tail:g} for one end is too small for an interval of {n} pairs; raise alpha")
    return Interval(n=n, mean=mean, low=mean - half, high=mean + half, level=1 - 2 * tail)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample deviation (n - 1); the deviation of a single value is None. ValueError without values.

    Values are scaled by a power of two first, which is exact, so that squares neither overflow nor vanish.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    exponent = math.frexp(max(abs(value) for value in values))[1]
    scaled = [math.ldexp(value, -exponent) for value in values]
    mean = math.fsum(scaled) / n
    if n == 1:
        return values[0], None
    variance = math.fsum((value - mean) ** 2 for value in scaled) / (n - 1)
    return math.ldexp(mean, exponent), math.ldexp(math.sqrt(variance), exponent)


def _open(differences: Sequence[float], level: float) -> Interval:
    """The mean so far, without ends; `n` 0 means that there is no mean yet (it is written as 0)."""
    mean = mean_and_deviation(differences)[0] if differences else 0.0
    return Interval(n=len(differences), mean=mean, low=None, high=None, level=level)
