"""Which gains a lab can find: from the noise of a pair's difference and the trials that the budget leaves.

In mode `explore` one test matters, the claim: fresh trials of two arms. In mode `each` an idea is tested by a search
and again by a confirmation. Pure: no file, no clock, no random number.
"""

from __future__ import annotations

import math

from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.stats import rules
from autolab.trials.confirmation import confirmation_rule

CONFIDENCE = 0.95
"""That a deviation is at least `least_deviation`."""
CLOSE_ARMS = 0.8
"""A correlation of arms that share a seed which is not rare: the digits lab's arms have .83 (docs/evidence.md)."""
_HUGE = 1e6
"""An effect, in deviations, that no noise hides."""


def least_deviation(deviation: float, n: int) -> float:
    """The lower end of a one-sided interval of a normal deviation, from that of a sample of `n` (2 or more).

    (n - 1) s^2 / sigma^2 is chi-square with n - 1 degrees of freedom: W. G. Cochran, "The distribution of quadratic
    forms in a normal system", Proceedings of the Cambridge Philosophical Society 30 (1934).
    """
    from scipy.special import chdtri

    # chdtri takes the probability of the upper tail.
    largest = float(chdtri(n - 1, 1 - CONFIDENCE))
    return deviation * math.sqrt((n - 1) / largest)


def trials_left(config: Config, spent: int) -> int | None:
    """Trials that `budget.trials` leaves after `spent`; None without such a cap."""
    cap = config.budget.trials
    return None if cap is None else max(0, cap - spent)


def trials_a_pair(config: Config) -> int:
    """Two arms; where every idea is tested to its end, in the search and again in the confirmation."""
    return 2 if config.test.mode == "explore" else 4


def deciding_rule(config: Config) -> StoppingRule:
    """The rule that a gain has to pass, that of the protocol's first claim; `max_pairs`: the most of one test."""
    rule = config.test.stopping_rule
    if config.test.mode == "each":
        return rule
    first_claim = confirmation_rule(config, rule, Claims())
    return first_claim.model_copy(update={"max_pairs": rule.confirm_pairs})


def fewest_pairs(rule: StoppingRule) -> int | None:
    """Pairs without which the rule keeps nothing, however large the gain; None: `max_pairs` are too few."""
    if rule.rule == "fixed":
        return rule.max_pairs
    return rules.pairs_wanted(_HUGE, rule, most=rule.max_pairs)


def possible_pairs(config: Config, left: int | None) -> int:
    """The most pairs that one test may take if all of the `left` trials (None: no cap) are for it."""
    most = deciding_rule(config).max_pairs
    if left is None:
        return most
    return min(most, left // trials_a_pair(config))


def planned_pairs(config: Config, left: int | None) -> int:
    """The pairs that a test may count on: in mode `explore` those that are set aside for the claim.

    That is the share `screen.reserve` of the trials, or the fewest pairs that can reach the first claim's alpha if
    these are more.
    """
    possible = possible_pairs(config, left)
    if left is None or config.test.mode == "each":
        return possible
    reserved = int(config.screen.reserve * left) // 2
    fewest = fewest_pairs(deciding_rule(config)) or 0
    return min(possible, max(reserved, fewest))


def resolvable_difference(rule: StoppingRule, deviation: float, step: float) -> float:
    """The least gain that `rule.max_pairs` pairs resolve with a power of 80%, rounded up to two significant digits.

    `deviation` of a pair's difference and `step` > 0, the least difference that shows, are in the metric's units.
    """
    return rules.rounded_up(max(rules.resolvable_effect(rule) * deviation, step))


def findable_gain(config: Config, deviation: float, step: float, pairs: int) -> float | None:
    """The least gain that the configured test resolves with so many pairs (`resolvable_difference`).

    None: none, as the pairs are too few to decide anything, or there is neither noise nor a step to measure it in.
    """
    rule = deciding_rule(config)
    fewest = fewest_pairs(rule)
    if fewest is None or pairs < fewest or max(deviation, step) == 0:
        return None
    return resolvable_difference(rule.model_copy(update={"max_pairs": pairs}), deviation, step)
