"""What is set aside for a claim before ideas are screened: a lab that has spent everything can claim nothing. Pure."""

from __future__ import annotations

from autolab.lab.schemas.config import StoppingRule
from autolab.stats import rules

MARGIN = 2
"""Times the pairs that the wanted difference needs: what was screened is less, on average, than it seems."""
TRIALS = 2
"""Of a pair."""


def reserve_trials(
    rule: StoppingRule, delta: float, difference_deviation: float, alpha: float, trials_left: int, share: float
) -> int:
    """Trials, two a pair, to set aside for a claim by `rule` with the error `alpha`.

    They are `MARGIN` times the pairs within which four in five changes of the true gain `delta` are kept (both in the
    metric's units, the deviation is that of a pair's difference), at most a claim's own pairs (`confirm_pairs`) and
    `share` of the `trials_left`; but never less than the fewest pairs that can reach `alpha`, even if that is more than
    is left. The fixed rule looks once, so all of its pairs are set aside.
    """
    fewest = rules.fewest_pairs(alpha, rule)
    if rule.rule == "fixed":
        return TRIALS * fewest
    allowed_pairs = int(share * trials_left) // TRIALS
    pairs = min(_wanted(rule, delta, difference_deviation, alpha), rule.confirm_pairs, allowed_pairs)
    return TRIALS * max(fewest, pairs)


def _wanted(rule: StoppingRule, delta: float, deviation: float, alpha: float) -> int:
    """Pairs for a gain of `delta`, with the margin; `confirm_pairs` if no number of them is enough."""
    if deviation <= 0:
        return rules.fewest_pairs(alpha, rule)
    stricter = rule.model_copy(update={"alpha": alpha})
    # A number beyond what a claim takes is not looked for.
    pairs = rules.pairs_wanted(delta / deviation, stricter, most=rule.confirm_pairs)
    return rule.confirm_pairs if pairs is None else MARGIN * pairs
