"""Which gains a lab can find: labs that could resolve theirs are rarely sent away, hopeless ones always."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from account_kit import manifest

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.experiment import Calibration
from autolab.stats import rules
from autolab.trials import calibration, resolution

METRIC: dict[str, Any] = {"primary": "loss", "direction": "minimize"}
SPENT = 6
"""Trials of a calibration over five seeds."""
LABS = 400


def config(mode: str = "explore", *, delta: float | None = None, trials: int | None = None, **test: Any) -> Config:
    value = {
        "metric": METRIC | {"success_delta": delta},
        "test": {"mode": mode} | test,
        "budget": {"trials": trials},
        "run_time_minutes": [0, 60],
    }
    return Config.from_value(value, "config.yaml")


def assessed(told: Config, scores: Sequence[float], before: Calibration | None = None) -> Calibration:
    """The calibration of a lab whose baseline gave these scores, one a seed."""
    trials = []
    for index, score in enumerate((*scores, scores[0])):
        arm, place = ("baseline", index) if index < len(scores) else ("again", 0)
        trial = {"trial": f"{arm}-s{place}", "arm": arm, "index": place, "seed": place, "attempt": 1, "commit": "c"}
        trial |= {"key": "k", "content": "c", "outcome": "completed", "seconds": 2.0, "self_reported": {"loss": score}}
        trials.append(trial)
    run = manifest(trials=trials, comparisons=[], protocol="p", metric="loss", self_reported=True)
    return calibration.assess(told, run, SPENT, None, before)


def drawn(source: random.Random, deviation: float = 1.0) -> list[float]:
    return [source.gauss(10, deviation) for _ in range(5)]


def refused_by_the_estimate(told: Config, made: Calibration) -> bool:
    """As calibration refused before: by the deviation as it was measured, for a search and a confirmation."""
    assert told.metric.success_delta is not None
    pairs = rules.pairs_wanted(told.metric.success_delta / made.difference_deviation, told.test)
    return pairs is None or pairs > told.test.max_pairs or 4 * pairs > 60 - SPENT


@pytest.mark.parametrize(("correlation", "before"), [(0.0, 0.5), (0.6, 0.8), (0.8, 0.9)])
def test_of_labs_that_could_resolve_their_effect_at_most_one_in_twenty_is_refused(
    correlation: float, before: float
) -> None:
    # From a run: refused are 0, 0 and .015; by the deviation as it was measured .535, .843 and .940.
    source = random.Random(17)
    of_pair = math.sqrt(2 * (1 - correlation))
    least = rules.resolvable_effect(resolution.deciding_rule(config()))
    refused = refused_before = 0
    for _ in range(LABS):
        # From what all trials that are left just resolve to twice that.
        effect = least * 2 ** source.random()
        told = config(delta=effect * of_pair, trials=60)
        made = assessed(told, drawn(source))
        refused += bool(made.refused)
        refused_before += refused_by_the_estimate(told, made)
    assert refused / LABS <= 0.05
    assert refused_before / LABS >= before


@pytest.mark.parametrize("mode", ["explore", "each"])
def test_a_hopeless_lab_is_refused(mode: str) -> None:
    source = random.Random(5)
    for _ in range(50):
        made = assessed(config(mode, delta=0.02, trials=60), drawn(source))
        assert "and takes more than 400 pairs" in made.refused, made.refused


def test_the_least_deviation_lies_above_the_true_one_in_one_sample_of_twenty() -> None:
    source = random.Random(1)
    above = 0
    for _ in range(4000):
        sample = [source.gauss(0, 1) for _ in range(5)]
        above += resolution.least_deviation(statistics.stdev(sample), 5) > 1
    assert above / 4000 == pytest.approx(0.05, abs=0.012)
    # Table of chi-square: 9.488 is exceeded with probability .05 at 4 degrees of freedom.
    assert resolution.least_deviation(1, 5) == pytest.approx(math.sqrt(4 / 9.488), rel=1e-4)


@pytest.mark.parametrize(
    ("mode", "trials", "test", "possible", "planned"),
    [
        ("explore", None, {}, 24, 24),
        ("explore", None, {"confirm_pairs": 12}, 12, 12),
        # 54 are left: three tenths of them are eight pairs.
        ("explore", 60, {}, 24, 8),
        # Three tenths would be one pair, and five are the fewest that reach an error of .005.
        ("explore", 20, {}, 7, 5),
        ("explore", 12, {}, 3, 3),
        ("explore", 206, {}, 24, 24),
        ("each", None, {"max_pairs": 12}, 12, 12),
        # Two arms, twice.
        ("each", 60, {}, 13, 13),
    ],
)
def test_what_the_budget_leaves_for_a_test(
    mode: str, trials: int | None, test: dict[str, int], possible: int, planned: int
) -> None:
    told = config(mode, trials=trials, **test)
    left = resolution.trials_left(told, SPENT)
    assert resolution.possible_pairs(told, left) == possible
    assert resolution.planned_pairs(told, left) == planned


def test_a_claim_of_a_false_discovery_rate_has_the_error_of_the_first_claim() -> None:
    rule = resolution.deciding_rule(config(fdr=0.01))
    assert rule.alpha == pytest.approx(rules.claim_alpha(0.01, 1, 0))
    assert resolution.fewest_pairs(rule) == 6 and resolution.fewest_pairs(StoppingRule()) == 5


def test_a_difference_that_is_not_named_is_what_the_claim_resolves_within_its_reserve() -> None:
    told = config(trials=60)
    scores = drawn(random.Random(3))
    made = assessed(told, scores)
    rule = resolution.deciding_rule(told).model_copy(update={"max_pairs": 8})
    exact = rules.resolvable_effect(rule) * statistics.stdev(scores) * math.sqrt(2)
    assert made.derived and made.success_delta is not None and not made.refused
    assert exact <= made.success_delta <= 1.1 * exact and made.success_delta == float(f"{made.success_delta:.2g}")
    assert made.pairs == 8
    assert calibration.prospect(made, told, SPENT) == f"gains from {made.success_delta:g} on can be found, in 54 trials"
    without = calibration.prospect(made, config(), SPENT)
    assert without.endswith(" on can be found, over 24 pairs")


def test_a_difference_that_was_taken_stays_for_the_protocol() -> None:
    told, source = config(trials=60), random.Random(4)
    first = assessed(told, drawn(source))
    assert assessed(told, drawn(source, 3.0)).success_delta != first.success_delta
    assert assessed(told, drawn(source, 3.0), first).success_delta == first.success_delta
    elsewhere = first.model_copy(update={"protocol": "another"})
    assert assessed(told, drawn(source, 3.0), elsewhere).success_delta != first.success_delta
    named = first.model_copy(update={"derived": False})
    assert assessed(told, drawn(source, 3.0), named).success_delta != first.success_delta


def test_a_calibration_holds_for_a_null_only_if_it_took_the_difference_itself() -> None:
    made = assessed(config(trials=60), drawn(random.Random(3)))
    assert made.success_delta is not None
    assert calibration.holds(made, config(), "p") and not calibration.holds(made, config(), "q")
    assert calibration.holds(made, config(delta=made.success_delta), "p")
    assert not calibration.holds(made, config(delta=2 * made.success_delta), "p")
    assert not calibration.holds(made.model_copy(update={"derived": False}), config(), "p")


def test_the_configuration_in_force_has_the_difference_that_was_taken() -> None:
    made = assessed(config(trials=60), drawn(random.Random(3)))
    settled = calibration.with_difference(config(), made)
    assert settled.metric.difference == made.success_delta
    assert calibration.with_difference(config(delta=0.3), made).metric.success_delta == 0.3
    for nothing in (None, made.model_copy(update={"derived": False})):
        with pytest.raises(RecordError, match=r"metric\.success_delta: null .* run `autolab calibrate` first"):
            calibration.require_difference(calibration.with_difference(config(), nothing))


@pytest.mark.parametrize(
    ("told", "scores", "said"),
    [
        (
            config(trials=12),
            [1.0, 1.1, 1.2],
            "claim takes at least 5 pairs, which are 10 trials: budget.trials leaves 6",
        ),
        (config("each", trials=12), [1.0, 1.1, 1.2], "test takes at least 5 pairs, twice, which are 20 trials"),
        (config(confirm_pairs=4), [1.0, 1.1, 1.2], "test.confirm_pairs: 4 pairs cannot reach an error of 0.005"),
        (config(), [1.0, 1.0, 1.0], "no noise to take the smallest difference from: name metric.success_delta"),
    ],
    ids=["no trials for a claim", "no trials for a test", "too few pairs", "no noise"],
)
def test_where_no_difference_can_be_taken_it_says_why(told: Config, scores: list[float], said: str) -> None:
    made = assessed(told, scores)
    assert said in made.refused and made.success_delta is None
    assert calibration.prospect(made, told, SPENT) == ""


def test_a_fixed_claim_needs_all_of_its_pairs() -> None:
    scores = [10.0, 10.1, 10.3, 9.9, 10.2]
    made = assessed(config(rule="fixed", delta=1.0, trials=40), scores)
    assert "will take at least 24 pairs, which are 48 trials: budget.trials leaves 34" in made.refused
    assert assessed(config(rule="fixed", delta=1.0, trials=54), scores).refused == ""


def test_the_correlation_comes_from_the_first_idea_once_three_seeds_are_shared() -> None:
    told = config(delta=0.5)
    scores = [10.0, 10.6, 9.7, 10.3, 9.9]
    made = assessed(told, scores)
    assert made.correlation is None and made.advice == ()
    assert made.difference_deviation == pytest.approx(statistics.stdev(scores) * math.sqrt(2))
    better = [9.5, 10.05, 9.25, 9.8, 9.35]
    assert calibration.with_correlation(made, told, scores[:2], better[:2]) == made
    known = calibration.with_correlation(made, told, scores, better)
    differences = [before - after for before, after in zip(scores, better, strict=True)]
    assert known.correlation == pytest.approx(statistics.correlation(scores, better)) and known.correlation > 0.9
    assert known.difference_deviation == pytest.approx(statistics.stdev(differences))
    assert known.pairs is not None and made.pairs is not None and known.pairs < made.pairs
    assert known.deviation == made.deviation and known.success_delta == made.success_delta
    with pytest.raises(ValueError, match="5 scores of the baseline, 4 of the variant"):
        calibration.with_correlation(made, told, scores, better[:4])
