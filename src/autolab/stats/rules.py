"""What paired differences say: a stopping rule reads them in seed order and rules on one variant.

A difference is candidate minus baseline at one seed, in the direction of good (a lower loss is a positive
difference), in the metric's units. Nothing here reads a file, a clock or a random number, so equal
differences always get an equal ruling; and as a rule stands by the first pair at which it decides, the ruling
is the same whether the pairs came one by one or all at once.

    sequential   two t e-processes: E+ against "the mean is <= 0", E- against "the mean is >= delta"
    sprt         Wald's test of 0 against delta, for a deviation that the lab declares
    fixed        one look at the planned number of pairs, with Student's t interval

The sequential rule also shows, where it is asked to, that a variant is worse (`harm`: an e-process of its own against
"the mean is >= 0"), or that it is not worse by delta (`require: not_worse`: one against "the mean is <= -delta").

Covered: differences that are independent, about normal and of one variance. By Ville's inequality a null candidate
is ever kept with probability at most alpha over all arms together (sequential, sprt), however long it is looked
at. Not covered: a metric with few distinct values (a deviation below the metric's quantum counts as the quantum),
single outliers far beyond normal (they cost power: benchmarks/decisions.py), a declared deviation that is too small.

E+ is the Bayes factor of the group-invariant t test (right Haar prior on the deviation), mixed with equal weights over
the effects `EFFECTS`, in deviations: Perez-Ortiz, Lardy, de Heide and Grunwald, "E-statistics, group invariance and
anytime-valid testing", Annals of Statistics 52 (2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from autolab.errors import RecordError
from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Interval
from autolab.stats.finite import LIMIT

EFFECTS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The effects that E+ and E- bet on, in deviations of a difference."""
FIRST = 3
"""Pairs before which the sequential rule does not decide."""
REFUTED = 20.0
"""E- from which "at least delta" is refuted: wrongly with probability at most 1 in 20."""
SETTLED = 6
"""Pairs after which equal values that look rounded are taken for a training that no seed changes."""
ROUNDED = 6
"""Decimals up to which a value looks rounded."""
LOWER_FIFTH = 0.8416
"""The normal deviate that a sample's mean falls below by in one case of five."""
HARM_PAIRS = 12
"""Pairs up to which a variant that seems worse goes on until it is shown to be worse."""
FUTILE = 4.0
"""E- from which going on is not worth its cost: a real gain of delta is given up with probability at most 1 in 4."""


class RuleAction(StrEnum):
    """What a rule says after the newest pair. Only CONTINUE leaves the question open."""

    CONTINUE = "continue"
    KEEP = "keep"
    REFUTED = "refuted"
    FUTILE = "futile"
    WORSE = "worse"
    FAILED = "failed"
    """A trial of the variant failed, and the others go on (`Plan.drop_failed`)."""


@dataclass(frozen=True)
class Ruling:
    """An action with the interval it rests on, and its reason.

    `reason` is one of keep refuted futile worse failed pending budget no_change deterministic. `pairs` is the number
    of pairs that were read, which are all only while the question is open. Each end of the interval errs with
    probability `tail`, at any number of pairs under the sequential rules, at the last planned one under the fixed
    rule; an end that the rule cannot give yet is None. `e_plus` and `e_minus` are the evidence against "mean <= 0" and
    against "mean >= delta", of a rule that asks for "not worse" against "mean <= -delta" and against "mean >= 0"; None
    under a rule without them.
    """

    action: RuleAction
    interval: Interval
    pairs: int
    reason: str
    e_plus: float | None = None
    e_minus: float | None = None

    @property
    def final(self) -> bool:
        """No further pair can change it: the rule has decided, or the pairs are used up."""
        return self.action is not RuleAction.CONTINUE or self.reason == "budget"


@dataclass(frozen=True)
class Question:
    """What a rule has to decide about a variant's differences.

    `delta` > 0 is in the metric's units, `tail` the error of a keep, `planned` the largest number of pairs, `quantum`
    the smallest step of the metric (0: continuous), `scores` those of each pair.
    """

    delta: float
    tail: float
    planned: int
    quantum: float
    rule: StoppingRule
    scores: Scores | None = None

    @property
    def level(self) -> float:
        """Of an interval that errs with probability `tail` at each end."""
        return 1 - 2 * self.tail

    def step(self, n: int) -> float:
        """The metric's smallest step as the first `n` pairs show it: what a deviation counts as at least."""
        if self.scores is None:
            return self.quantum
        return max(self.quantum, self.scores.step(n))

    def repeats(self, differences: Sequence[float]) -> bool:
        """Whether these equal differences say nothing of the spread: no seed, or no change, moved a score."""
        if self.quantum > 0 or self.scores is None:
            return self.quantum == 0
        n = len(differences)
        # Seeds that change predictions can still give equal scores if the metric is printed with few decimals.
        if self.scores.seeds_matter and self.scores.rounded(n):
            return False
        return not any(differences) or self.scores.constant(n)

    def open_ruling(self, differences: Sequence[float]) -> Ruling:
        """The ruling if more pairs are needed before anything can be said."""
        return Ruling(RuleAction.CONTINUE, self.open_interval(differences), len(differences), "pending")

    def open_interval(self, differences: Sequence[float]) -> Interval:
        """The mean so far, without ends; `n` 0 means that there is no mean yet (it is written as 0)."""
        mean = mean_and_deviation(differences)[0] if differences else 0.0
        return Interval(n=len(differences), mean=mean, low=None, high=None, level=self.level)

    def undecided(self, n: int) -> str:
        """The reason of CONTINUE after `n` pairs."""
        return "budget" if n == self.planned else "pending"


@dataclass(frozen=True)
class Scores:
    """The scores behind the differences, arm by arm in the order of the pairs.

    `printed` are as they were measured, without those that are no number; `counted` as they were subtracted.
    `seeds_matter` says that an arm's predictions are known to differ from seed to seed.
    """

    counted: tuple[Sequence[float], Sequence[float]]
    printed: tuple[Sequence[float | None], Sequence[float | None]]
    seeds_matter: bool = False

    def step(self, n: int) -> float:
        """One unit of the last decimal that any of the first `n` pairs is printed with; 0 where none is a number."""
        digits = self._decimals(n)
        return 0.0 if digits is None else 10.0**-digits

    def rounded(self, n: int) -> bool:
        digits = self._decimals(n)
        return digits is not None and digits <= ROUNDED

    def constant(self, n: int) -> bool:
        """Whether each arm has one score, whatever the seed."""
        return all(min(arm[:n]) == max(arm[:n]) for arm in self.counted)

    def _decimals(self, n: int) -> int | None:
        baseline, variant = self.printed
        numbers = [decimals(value) for value in (*baseline[:n], *variant[:n]) if value is not None]
        return max(numbers, default=None)


def decimals(value: float) -> int:
    """Digits after the point in the shortest text that reads as this finite number: 2 for 0.05, 0 for 1500.0."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


def decide(
    differences: Sequence[float],
    *,
    delta: float,
    rule: StoppingRule,
    planned: int,
    arms: int,
    quantum: float = 0.0,
    scores: Scores | None = None,
) -> Ruling:
    """Rule on one variant from the longest completed prefix of its pairs, in seed order.

    `delta` is the least difference worth having (> 0, metric's units), `planned` the number of pairs (>= 2),
    `arms` the number of variants that share this baseline (alpha is divided among them), `quantum` the smallest
    step of the metric. With `scores` the rule tells equal differences from trainings that no seed changes; without
    them it takes equal differences for such trainings. RecordError: a difference that is not a finite number, a plan
    of too few pairs.
    """
    least = FIRST if rule.rule == "sequential" else 2
    if planned < least:
        raise RecordError(f"design.yaml: reproducibility.seeds: {planned} are too few pairs; plan at least {least}")
    if arms < 1 or not 0 < delta < LIMIT or len(differences) > planned or not 0 <= quantum < LIMIT:
        raise ValueError(f"arms {arms}, delta {delta}, {len(differences)} differences for {planned} planned pairs")
    for index, difference in enumerate(differences):
        # Twice the limit: a difference of two finite scores. Written so that NaN fails too.
        if not abs(difference) < 2 * LIMIT:
            raise RecordError(f"difference of pair {index}: {difference} is not a finite number below {2 * LIMIT:g}")
    question = Question(delta, rule.alpha / arms, planned, quantum, rule, scores)
    first, look = FIRST, _t_ruling
    if rule.rule == "sprt":
        first, look = 1, _sprt_ruling  # the deviation is declared: one pair can decide
    elif rule.rule == "fixed":
        first, look = planned, _fixed_ruling
    ruling = question.open_ruling(differences)
    # Pair by pair also if all have come: the ruling stands by the first pair at which the rule decides.
    for n in range(first, len(differences) + 1):
        ruling = look(differences[:n], question)
        if ruling.final:
            break
    return ruling


# The sequential rules


def _t_ruling(differences: Sequence[float], question: Question) -> Ruling:
    n = len(differences)
    step = question.step(n)
    if min(differences) == max(differences) and (question.repeats(differences) or step == 0):
        return _equal_ruling(differences, question)
    if question.rule.require == "not_worse":
        return _not_worse_ruling(differences, question, step)
    e_plus = t_evidence(differences, step)
    e_minus = t_evidence([question.delta - difference for difference in differences], step)
    interval = t_interval(differences, question.tail, step)
    # Halfway between no gain and delta: a mean nearer to 0 is never kept, one nearer to delta is never given up.
    worth = interval.mean >= question.delta / 2
    action, reason = RuleAction.CONTINUE, question.undecided(n)
    if worth and e_plus >= 1 / question.tail:
        action = RuleAction.KEEP
    elif not worth and e_minus >= REFUTED:
        action = RuleAction.REFUTED
    elif not worth and e_minus >= FUTILE and (not question.rule.resolve or n == question.planned):
        action = RuleAction.FUTILE
    if question.rule.harm and _harm_evidence(differences, step) >= REFUTED:
        action = RuleAction.WORSE
    elif question.rule.harm and interval.mean <= -question.delta / 2 and n < min(HARM_PAIRS, question.planned):
        # It is no gain, which is not yet to say that it is a harm.
        action = RuleAction.CONTINUE
    if action is not RuleAction.CONTINUE:
        reason = action.value
    return Ruling(action, interval, n, reason, e_plus, e_minus)


def _not_worse_ruling(differences: Sequence[float], question: Question, step: float) -> Ruling:
    """Whether the mean is above -delta, kept at the error of a keep, or below 0. Nothing else ends the question."""
    n = len(differences)
    e_plus = t_evidence([difference + question.delta for difference in differences], step)
    e_minus = _harm_evidence(differences, step)
    interval = t_interval(differences, question.tail, step)
    worth = interval.mean >= -question.delta / 2
    action, reason = RuleAction.CONTINUE, question.undecided(n)
    if worth and e_plus >= 1 / question.tail:
        action = RuleAction.KEEP
    elif not worth and e_minus >= REFUTED:
        action = RuleAction.WORSE
    if action is not RuleAction.CONTINUE:
        reason = action.value
    return Ruling(action, interval, n, reason, e_plus, e_minus)


def _harm_evidence(differences: Sequence[float], step: float) -> float:
    """The evidence against "the mean is >= 0"."""
    return t_evidence([-difference for difference in differences], step)


def _equal_ruling(differences: Sequence[float], question: Question) -> Ruling:
    """The seeds did not replicate anything: n equal numbers are one number, and say nothing of the spread."""
    n = len(differences)
    # Rounding hides small differences between seeds, so a few more pairs may yet show one.
    if question.scores is not None and question.scores.rounded(n) and n < min(SETTLED, question.planned):
        return question.open_ruling(differences)
    reason = "deterministic" if any(differences) else "no_change"
    return Ruling(RuleAction.FUTILE, question.open_interval(differences), n, reason)


def _sprt_ruling(differences: Sequence[float], question: Question) -> Ruling:
    """A. Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16 (1945).

    Stops above at 1 / tail and below at beta, which bounds both errors; Wald's own limits do so only about.
    """
    deviation, delta, n = question.rule.deviation, question.delta, len(differences)
    assert deviation is not None  # the schema asks for it under this rule
    mean = mean_and_deviation(differences)[0]
    ratio = n * delta / deviation**2 * (mean - delta / 2)
    half = delta / 2 - deviation**2 * math.log(question.tail) / (n * delta)
    interval = Interval(n=n, mean=mean, low=mean - half, high=mean + half, level=question.level)
    action, reason = RuleAction.CONTINUE, question.undecided(n)
    if ratio >= -math.log(question.tail):
        action = RuleAction.KEEP
    elif ratio <= math.log(question.rule.beta):
        action = RuleAction.FUTILE
    if action is not RuleAction.CONTINUE:
        reason = action.value
    return Ruling(action, interval, n, reason, _exp(ratio), _exp(-ratio))


def t_evidence(differences: Sequence[float], quantum: float = 0.0) -> float:
    """E+ of at least one difference, against "the mean is <= 0": 1 at none, unchanged by a change of units.

    As an e-process its expectation at any stopping time is at most 1 where the mean is 0 or less. A deviation below
    `quantum` counts as the quantum; a deviation and a quantum of 0 together are a ValueError.
    """
    n = len(differences)
    mean, spread = _mean_and_spread(differences, quantum)
    if spread == 0:
        raise ValueError("equal differences of a metric without a quantum have no deviation to be measured in")
    return _evidence(n, n * mean / math.hypot(math.sqrt(n) * mean, math.sqrt(n - 1) * spread))


def _evidence(n: int, t: float) -> float:
    """E+ from the sum of the differences over the root of the sum of their squares, -sqrt(n) <= t <= sqrt(n)."""
    return math.fsum(_exp(_log_factor(n, t, effect)) for effect in EFFECTS) / len(EFFECTS)


def _log_factor(n: int, t: float, effect: float) -> float:
    """Log Bayes factor of `effect` against 0: exp(-n g^2 / 2) I(g t) / I(0), I(b) = int r^(n-1) exp(b r - r^2 / 2) dr.

    The integral by the trapezoidal rule over log r, where the integrand is analytic and falls off on both sides, so
    that the error shrinks exponentially with the step; a quarter of the integrand's own width leaves rounding.
    """
    b = effect * t
    mode = (b + math.sqrt(b * b + 4 * n)) / 2
    at, step = math.log(mode), 0.25 / math.sqrt(mode * mode + n)
    peak = n * at + b * mode - mode * mode / 2
    total = 1.0
    for direction in (step, -step):
        x, term = at, 1.0
        while term > 1e-17:
            x += direction
            r = math.exp(x)
            term = math.exp(n * x + b * r - r * r / 2 - peak)
            total += term
    log_zero = (n / 2 - 1) * math.log(2) + math.lgamma(n / 2)
    return peak + math.log(step * total) - n * effect * effect / 2 - log_zero


def t_interval(differences: Sequence[float], tail: float, quantum: float = 0.0) -> Interval:
    """The means that E+ and its mirror image do not reject at 1 / `tail`; valid at any number of pairs.

    A few pairs can reject no mean at a small tail: then there are no ends.
    """
    n = len(differences)
    mean, spread = _mean_and_spread(differences, quantum)
    bound = _critical(n, tail)
    if bound is None:
        return Interval(n=n, mean=mean, low=None, high=None, level=1 - 2 * tail)
    half = bound * spread * math.sqrt((n - 1) / (n * (n - bound * bound)))
    return Interval(n=n, mean=mean, low=mean - half, high=mean + half, level=1 - 2 * tail)


@lru_cache(maxsize=4096)
def _critical(n: int, tail: float) -> float | None:
    """The t at which `_evidence` reaches 1 / tail; None if it never does."""
    low, high = 0.0, math.sqrt(n)
    if n < 2 or _evidence(n, high) <= 1 / tail:
        return None
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if _evidence(n, middle) > 1 / tail:
            high = middle
        else:
            low = middle
    return low


def _exp(x: float) -> float:
    """exp(x), capped near 1e300: no rule can tell more evidence from that."""
    return math.exp(min(x, 690.0))


# The fixed rule


def _fixed_ruling(differences: Sequence[float], question: Question) -> Ruling:
    """One look, at the planned number of pairs; each end of the interval errs with probability `tail`."""
    n, scores = len(differences), question.scores
    if not any(differences):
        return Ruling(RuleAction.FUTILE, question.open_interval(differences), n, "no_change")
    # n equal numbers are one number, and a t interval of width 0 would lie.
    if min(differences) == max(differences) and (scores is None or question.repeats(differences)):
        return Ruling(RuleAction.FUTILE, question.open_interval(differences), n, "deterministic")
    step = 0.0 if scores is None else question.step(n)
    interval = student_interval(differences, question.tail, step)
    low, high = interval.low, interval.high
    assert low is not None and high is not None  # student_interval gives both
    if low > 0 and interval.mean >= question.delta:
        return Ruling(RuleAction.KEEP, interval, n, "keep")
    if high < question.delta:
        return Ruling(RuleAction.REFUTED, interval, n, "refuted")
    return Ruling(RuleAction.CONTINUE, interval, n, "budget")


def student_interval(values: Sequence[float], tail: float, quantum: float = 0.0) -> Interval:
    """Mean of at least two finite values, with a Student t interval that misses with `tail` at each end.

    A deviation below `quantum` counts as the quantum.

    The mean's distribution under a normal sample: W. S. Gosset, "The probable error of a mean", Biometrika 6 (1908).
    """
    from scipy.special import stdtrit

    n = len(values)
    mean, spread = _mean_and_spread(values, quantum)
    # The lower quantile, negated: 1 - tail would round a small tail away.
    half = -float(stdtrit(n - 1, tail)) * spread / math.sqrt(n)
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


def _mean_and_spread(values: Sequence[float], quantum: float) -> tuple[float, float]:
    """Mean and sample deviation, the latter at least `quantum`."""
    mean, deviation = mean_and_deviation(values)
    return mean, max(deviation or 0.0, quantum)


def share_at_most(count: int, of: int, error: float = 0.05) -> float:
    """The largest share that is not ruled out by `count` in `of` (> 0), one-sided, at this error.

    C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    if count == of:
        return 1.0
    return float(betaincinv(count + 1, of - count, 1 - error))


# Before and after


def pairs_wanted(effect: float, rule: StoppingRule, most: int = 400) -> int | None:
    """Pairs within which four in five candidates of a true `effect` > 0, in deviations of a difference, are kept.

    Found where the t of such a sample, taken at its lower fifth, reaches the rule's bound; None: more than `most`.
    """
    first = FIRST
    if rule.rule == "fixed":
        first = 2  # Student's interval needs no more
    for n in range(first, most + 1):
        sample = effect - LOWER_FIFTH / math.sqrt(n)
        if sample > 0 and _keeps(n, sample, rule):
            return n
    return None


def fewest_pairs(alpha: float, rule: StoppingRule) -> int:
    """The fewest pairs of one variant at which `rule` can keep at this error, however clear they are.

    Sequential: as the differences draw together, E+ rises to a limit that the number of pairs alone sets; this is the
    first number whose limit reaches 1 / `alpha`. Fixed: all pairs of a confirmation, since it looks once. sprt: one.
    """
    if rule.rule == "fixed":
        return rule.confirm_pairs
    if rule.rule == "sprt":
        return 1
    n = FIRST
    while _critical(n, alpha) is None:
        n += 1
    return n


def likely_pairs(differences: Sequence[float], question: Question) -> int | None:
    """Pairs in all at which the sequential rule decides if those to come have the mean and deviation of these.

    An outlook for a user who waits, which no decision reads. None: two pairs are not there yet, they do not differ,
    or the planned pairs would not be enough.
    """
    n = len(differences)
    if n < 2 or min(differences) == max(differences):
        return None
    mean, deviation = mean_and_deviation(differences)
    assert deviation is not None
    for pairs in range(max(n, FIRST), question.planned + 1):
        if _t_ruling(_sample(pairs, mean, deviation), question).action is not RuleAction.CONTINUE:
            return pairs
    return None


def _sample(n: int, mean: float, deviation: float) -> list[float]:
    """So many values (2 or more) with this mean and this sample deviation."""
    # Equally far above and below the mean; of an odd number one is the mean itself.
    half = n // 2
    distance = deviation * math.sqrt((n - 1) / (2 * half))
    return [mean] * (n % 2) + [mean - distance] * half + [mean + distance] * half


def resolvable_effect(rule: StoppingRule) -> float:
    """The least effect, in deviations of a difference, that `rule.max_pairs` pairs resolve (`pairs_wanted`)."""
    # By bisection: the larger an effect, the fewer pairs it takes.
    low, high = 0.0, 1e6
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if pairs_wanted(middle, rule, most=rule.max_pairs) is None:
            low = middle
        else:
            high = middle
    return high


def rounded_up(value: float, digits: int = 2) -> float:
    """The smallest number of so many significant digits that is not below `value` > 0."""
    exponent = math.floor(math.log10(value)) - digits + 1
    unit = 10.0**exponent
    # Once more through text: 3 * 0.1 is not 0.3.
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{digits}g}")


def _keeps(n: int, effect: float, rule: StoppingRule) -> bool:
    """Whether the rule keeps after `n` pairs whose mean is `effect` > 0, in deviations of a difference."""
    if rule.rule == "sprt":
        # The declared deviation is the unit, and delta is the true effect, of which this sample is the lower fifth.
        delta = effect + LOWER_FIFTH / math.sqrt(n)
        return n * delta * (effect - delta / 2) >= -math.log(rule.alpha)
    if rule.rule == "fixed":
        from scipy.special import stdtrit

        return effect * math.sqrt(n) >= -float(stdtrit(n - 1, rule.alpha))
    bound = _critical(n, rule.alpha)
    return bound is not None and n * effect / math.sqrt(n * effect * effect + n - 1) >= bound


def shrunken(differences: Sequence[float], declared: float | None = None) -> float:
    """A measured mean drawn towards 0, since what was kept for being large is on average less than it seems.

    The factor t^2 / (1 + t^2), t the mean over its standard error, is that of a normal prior around 0 as wide as the
    mean itself. A single difference is measured against the `declared` deviation, and without one counts for nothing;
    equal ones are not drawn anywhere.
    """
    mean, deviation = mean_and_deviation(differences)
    spread = declared if deviation is None else deviation
    if spread is None or mean == 0:
        return 0.0
    signal = math.sqrt(len(differences)) * mean
    return mean * (signal / math.hypot(signal, spread)) ** 2


def claim_alpha(fdr: float, claim: int, kept: int) -> float:
    """The error that confirmation number `claim` (from 1) may have, `kept` of those before it having passed.

    e-LOND with the weights of LOND: over any number of confirmations, however they depend on each other, the
    expected share of false ones among those kept is at most `fdr`. Z. Xu and A. Ramdas, "Online multiple testing with
    e-values", AISTATS 2024; weights c log(max(t, 2)) / (t exp(sqrt(log t))) of A. Javanmard and A. Montanari,
    "On online control of false discovery rate", arXiv:1502.06197 (2015), which sum to 0.976.
    """
    weight = 0.07720838 * math.log(max(claim, 2)) / (claim * math.exp(math.sqrt(math.log(claim))))
    return fdr * weight * (kept + 1)


def claim_alpha_of(number: int, alpha: float) -> float:
    """The error of the claim of this number (from 1) in a protocol whose first one has `alpha`: 2 alpha / (k (k + 1)).

    However many claims there are, the chance that any of them is false is at most the sum of these, twice `alpha`.
    """
    return 2 * alpha / (number * (number + 1))
