"""Whether a gain on the holdout exceeds its error over seeds and over rows. Pure: numbers in, one answer out.

What is measured on the holdout varies twice: another seed gives another model, and other rows of the same kind give
another score to the same models. Seeds alone would call a change that happens to suit these rows a gain: on the digits
that error is .37 deviations of a trial (median of 15 changes), and no number of seeds makes it smaller.

    variance of the mean gain = (variance over seeds) / seeds + (variance over parts of the rows) / parts

That is the estimate for two crossed random effects without the term that both contain (Cameron, Gelbach and Miller
2011, J. Business & Economic Statistics 29, subtract it; Owen 2007, Annals of Applied Statistics 1, does not in his
pigeonhole bootstrap). So it is never negative and errs towards a larger error. Few seeds and parts know their variance
badly: the quotient is read as Student's t with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2), and
`z` is the normal deviate of the same probability: z >= 1.96 is one-sided 2.5%, however few there are.

Limits. A part's score stands for rows drawn alike: a part is every n-th row, so rows that resemble their neighbours (a
text) count as if they did not. A metric that is a mean over rows is the mean of its parts; of another one (F1, a
correlation) the parts say approximately how it varies. Satterthwaite's degrees are estimated too: of nulls whose three
seeds vary about as much as the rows 4% pass, of such with eight 2.5%. The gains are those that a stopping rule ended
on, which flatters the seeds a little: the confirmation's alpha answers for that, not this test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

from autolab.stats.rules import mean_and_deviation

TAIL = 0.025
"""One-sided error of the test, where nothing stricter is asked: a normal deviate of 1.96."""
CLAIMS = 2
"""Times its own error rate at which a claim asks: 1% for the first claim at 0.5%."""
PAIRS = 3
"""Pairs of trainings whose predictions are scored on parts of the holdout too: 2 x PAIRS x PARTS scores."""
PARTS, LEAST_PARTS, LEAST_ROWS = 20, 4, 5
"""Parts of the holdout, the fewest that tell an error, and the rows that each has to have at least."""

Replicates = Literal["rows and seeds", "rows", "seeds", "nothing"]
"""What the error of a gain was taken from."""


@dataclass(frozen=True)
class HoldoutTest:
    """A mean gain in the direction of good, its standard error, its normal deviate, whether it passes, and on what."""

    mean: float
    error: float
    z: float
    passed: bool
    replicates: Replicates


def passes(gains: Sequence[float], parts: Sequence[Sequence[float]], tail: float = TAIL) -> HoldoutTest:
    """Whether the gain on the holdout exceeds 0 at the one-sided error `tail`.

    `gains`: one a pair of trainings, on the whole holdout, in the direction of good. `parts`: for some of those pairs
    (the first few) the gains on the same disjoint parts of its rows, a row a pair; empty if the rows cannot be
    separated. Equal gains of all seeds mean that the seed changes nothing: then the rows alone replicate. If nothing
    replicates, nothing passes. ValueError: no gain, or parts of unequal number.
    """
    if not gains or len(set(map(len, parts))) > 1:
        raise ValueError("the holdout needs a gain, and the same parts of it for every pair")
    mean = mean_and_deviation(gains)[0]
    # The mean over seeds of each part's gain: what is left between them varies with the rows.
    part_gains = [sum(part) / len(part) for part in zip(*parts, strict=True)]
    seeds = _Variance.of_mean(gains)
    rows = _Variance.of_mean(part_gains)
    error = sqrt(seeds.value + rows.value)
    if error == 0:
        return HoldoutTest(mean, inf, 0.0, False, "nothing")
    z = _deviate(mean / error, seeds, rows)
    return HoldoutTest(mean, error, z, z >= normal_deviate(tail), _replicates(seeds, rows))


def tail_of_claim(alpha: float) -> float:
    """The one-sided error at which a claim of this error rate asks the holdout.

    A search that has seen many scores on the evaluation split picks what suits that split, and no fresh seed tells. So
    the holdout alone holds the error of such claims, and it is asked more strictly than of a single confirmed change.
    """
    return min(CLAIMS * alpha, TAIL)


def normal_deviate(tail: float) -> float:
    """The number that a standard normal variable exceeds with this probability: 1.96 for 2.5%."""
    from scipy.special import ndtri

    return -float(ndtri(tail))


@dataclass(frozen=True)
class _Variance:
    """The estimated variance of a mean, with its degrees of freedom."""

    value: float
    degrees: int

    @classmethod
    def of_mean(cls, values: Sequence[float]) -> _Variance:
        """0 for fewer than two values, and for equal ones."""
        if len(values) < 2:
            return cls(0.0, 1)
        deviation = mean_and_deviation(values)[1]
        assert deviation is not None  # of two values or more
        return cls(deviation**2 / len(values), len(values) - 1)


def _deviate(t: float, seeds: _Variance, rows: _Variance) -> float:
    """The normal deviate that is as improbable as `t`, whose variance is the sum of two (Satterthwaite)."""
    from scipy.special import ndtri, stdtr

    total = seeds.value + rows.value
    inverse_degrees = (seeds.value / total) ** 2 / seeds.degrees + (rows.value / total) ** 2 / rows.degrees
    # From the tail that is small, where neither function runs out of digits.
    z = -float(ndtri(stdtr(1 / inverse_degrees, -abs(t))))
    return z if t > 0 else -z


def _replicates(seeds: _Variance, rows: _Variance) -> Replicates:
    if seeds.value and rows.value:
        return "rows and seeds"
    return "rows" if rows.value else "seeds"


def parts_of(rows: int) -> int:
    """How many parts a holdout of so many rows has; 0 if they are too few to tell an error."""
    count = min(PARTS, rows // LEAST_ROWS)
    if count < LEAST_PARTS:
        return 0
    return count
