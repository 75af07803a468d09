"""Whether a gain on the holdout is there beyond its error over seeds and over rows. Pure: numbers in, one answer out.

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

LEVEL = 1.96
"""One-sided 2.5% of a normal deviate."""
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


def passes(gains: Sequence[float], parts: Sequence[Sequence[float]]) -> HoldoutTest:
    """Whether the gain on the holdout exceeds 0 at one-sided 2.5%.

    `gains`: one a pair of trainings, on the whole holdout, in the direction of good. `parts`: for some of those pairs
    (the first few) the gains on the same disjoint parts of its rows, a row a pair; empty where rows cannot be told
    apart. Equal gains of all seeds mean that the seed changes nothing: then the rows alone replicate. Where nothing
    replicates nothing passes. ValueError: no gain, or parts of unequal number.
    """
    if not gains or len({len(one) for one in parts}) > 1:
        raise ValueError("the holdout needs a gain, and the same parts of it for every pair")
    mean = mean_and_deviation(gains)[0]
    by_seed = _variance(gains)
    columns = [sum(column) / len(column) for column in zip(*parts, strict=True)]
    by_row = _variance(columns)
    known = [(variance, count - 1) for variance, count in ((by_seed, len(gains)), (by_row, len(columns))) if variance]
    error = sqrt(sum(variance for variance, _ in known))
    z = _deviate(mean / error, known) if error else 0.0
    return HoldoutTest(mean, error or inf, z, z >= LEVEL, _replicates(by_seed, by_row))


def _variance(values: Sequence[float]) -> float:
    """That of the values' mean; 0 for fewer than two, and for equal ones."""
    deviation = mean_and_deviation(values)[1] if len(values) > 1 else None
    return deviation**2 / len(values) if deviation else 0.0


def _deviate(t: float, known: Sequence[tuple[float, int]]) -> float:
    """The normal deviate as improbable as `t` is for a variance that is the sum of `known` ones (variance, degrees)."""
    from scipy.special import ndtri, stdtr

    total = sum(variance for variance, _ in known)
    degrees = 1 / sum((variance / total) ** 2 / count for variance, count in known)
    # From the tail that is small, where neither function runs out of digits.
    return -float(ndtri(stdtr(degrees, -abs(t)))) * (1 if t > 0 else -1)


def _replicates(by_seed: float, by_row: float) -> Replicates:
    if by_seed and by_row:
        return "rows and seeds"
    if by_row:
        return "rows"
    return "seeds" if by_seed else "nothing"


def parts_of(rows: int) -> int:
    """Into how many parts so many rows are cut; 0 where they are too few to tell an error."""
    count = min(PARTS, rows // LEAST_ROWS)
    return count if count >= LEAST_PARTS else 0
