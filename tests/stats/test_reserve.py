"""What is set aside for a claim: enough for the wanted difference, within the budget, never too little to decide."""

from __future__ import annotations

import pytest

from autolab.lab.schemas.config import StoppingRule
from autolab.stats import rules
from autolab.stats.reserve import reserve_trials

RULE = StoppingRule()


@pytest.mark.parametrize(
    ("effect", "left", "trials"),
    [
        (4.0, 1000, 2 * 2 * 6),  # six pairs are wanted
        (2.0, 1000, 2 * 2 * 10),
        (1.0, 1000, 2 * 24),  # 26 pairs are wanted: twice that is more than a claim takes
        (2.0, 100, 30),  # no more than .3 of what is left
        (2.0, 63, 18),  # whole pairs
        (2.0, 20, 10),  # never less than what five pairs take
        (2.0, 4, 10),
    ],
)
def test_twice_the_pairs_within_the_share_and_at_least_what_can_decide(effect: float, left: int, trials: int) -> None:
    assert reserve_trials(RULE, 0.01 * effect, 0.01, 0.005, left, 0.3) == trials


def test_a_later_claim_needs_more() -> None:
    third = rules.claim_alpha_of(3, 0.005)
    assert reserve_trials(RULE, 4.0, 1.0, third, 1000, 0.3) == 2 * 2 * 7
    assert reserve_trials(RULE, 2.0, 1.0, third, 20, 0.3) == 2 * 6


def test_a_training_without_noise_needs_no_more_than_can_decide() -> None:
    assert reserve_trials(RULE, 0.01, 0.0, 0.005, 1000, 0.3) == 10


def test_the_fixed_rule_needs_all_its_pairs_and_sprt_one() -> None:
    fixed = StoppingRule(rule="fixed", confirm_pairs=8)
    assert reserve_trials(fixed, 10.0, 1.0, 0.005, 20, 0.3) == 16
    sprt = StoppingRule(rule="sprt", deviation=1.0)
    assert reserve_trials(sprt, 10.0, 1.0, 0.005, 3, 0.3) == 2


def test_pairs_are_looked_for_at_the_error_of_the_claim_and_not_of_the_rule() -> None:
    lenient = StoppingRule(alpha=0.4)
    assert reserve_trials(lenient, 2.0, 1.0, 0.005, 1000, 0.3) == reserve_trials(RULE, 2.0, 1.0, 0.005, 1000, 0.3)
