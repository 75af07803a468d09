"""The fixed-n rule against independent computations and simulations."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from autolab import stats
from autolab.errors import RecordError
from autolab.records.lab import StoppingRule
from autolab.stats import Action, Ruling, decide

FIXED = StoppingRule(rule="fixed", alpha=0.005)

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda value: round(value, 6))
samples = st.lists(numbers, min_size=2, max_size=30).filter(lambda values: len(set(values)) > 1)
deltas = st.floats(1e-3, 1e2)
alphas = st.floats(1e-4, 0.4)
arm_counts = st.integers(1, 5)


def fixed(differences: list[float], delta: float = 0.1, alpha: float = 0.005, arms: int = 1) -> Ruling:
    rule = StoppingRule(rule="fixed", alpha=alpha)
    return decide(differences, delta=delta, rule=rule, planned=len(differences), arms=arms)


@given(samples, deltas, alphas, arm_counts)
def test_the_interval_is_scipys_t_interval_at_the_shared_level(
    values: list[float], delta: float, alpha: float, arms: int
) -> None:
    from scipy import stats as reference

    interval = fixed(values, delta, alpha, arms).interval
    expected = reference.ttest_1samp(values, 0).confidence_interval(1 - 2 * alpha / arms)
    scale = max(abs(value) for value in values)
    assert interval.level == 1 - 2 * alpha / arms
    assert interval.low == pytest.approx(expected.low, rel=1e-7, abs=1e-9 * scale)
    assert interval.high == pytest.approx(expected.high, rel=1e-7, abs=1e-9 * scale)


@given(samples, alphas)
def test_the_lower_end_is_above_zero_exactly_when_the_one_sided_t_test_rejects(
    values: list[float], alpha: float
) -> None:
    from scipy import stats as reference

    p = reference.ttest_1samp(values, 0, alternative="greater").pvalue
    assume(abs(p - alpha) > 1e-9)
    low = fixed(values, alpha=alpha).interval.low
    assert low is not None
    assert (low > 0) == (p < alpha)


@given(samples, deltas, st.sampled_from([2.0**-40, 0.25, 8.0, 2.0**60]))
def test_a_change_of_units_changes_no_ruling(values: list[float], delta: float, factor: float) -> None:
    # Powers of two scale floats exactly, so that equality can be asked for.
    before, after = fixed(values, delta), fixed([value * factor for value in values], delta * factor)
    assert (before.action, before.reason) == (after.action, after.reason)
    assert after.interval.mean == before.interval.mean * factor


@given(samples)
def test_swapping_the_arms_mirrors_the_interval(values: list[float]) -> None:
    here, there = fixed(values).interval, fixed([-value for value in values]).interval
    assert (there.low, there.mean, there.high) == (-(here.high or 0), -here.mean, -(here.low or 0))


@given(samples, deltas, st.randoms())
def test_the_order_of_pairs_does_not_matter_to_the_fixed_rule(values: list[float], delta: float, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(values)
    random.shuffle(shuffled)
    assert fixed(shuffled, delta) == fixed(values, delta)


@given(samples, deltas, alphas)
@example([0.1, 0.11, 0.1], 0.2, 0.005)
def test_the_action_follows_from_the_interval_and_delta(values: list[float], delta: float, alpha: float) -> None:
    ruling = fixed(values, delta, alpha)
    low, mean, high = ruling.interval.low, ruling.interval.mean, ruling.interval.high
    assert low is not None and high is not None
    keep, refuted = low > 0 and mean >= delta, high < delta
    expected = Action.KEEP if keep else Action.REFUTED if refuted else Action.CONTINUE
    assert ruling.action is expected
    assert ruling.final
    assert not (keep and refuted)


@given(samples)
def test_more_arms_never_narrow_the_interval(values: list[float]) -> None:
    one, three = fixed(values).interval, fixed(values, arms=3).interval
    assert three.low is not None and one.low is not None
    assert three.low < one.low


@given(st.lists(numbers, max_size=7))
def test_before_the_planned_pairs_the_rule_waits_and_shows_no_interval(values: list[float]) -> None:
    ruling = decide(values, delta=0.1, rule=FIXED, planned=8, arms=1)
    assert (ruling.action, ruling.reason, ruling.final) == (Action.CONTINUE, "pending", False)
    assert (ruling.interval.n, ruling.interval.low, ruling.interval.high) == (len(values), None, None)
    assert ruling.interval.level == 0.99


def test_used_up_pairs_that_say_neither_are_budget() -> None:
    ruling = fixed([0.3, -0.1, 0.2, 0.0], delta=0.05)
    assert (ruling.action, ruling.reason, ruling.final) == (Action.CONTINUE, "budget", True)


def test_identical_arms_are_futile_for_no_change() -> None:
    ruling = fixed([0.0, -0.0, 0.0])
    assert (ruling.action, ruling.reason, ruling.final) == (Action.FUTILE, "no_change", True)


def test_equal_differences_are_futile_as_deterministic_and_not_a_certain_gain() -> None:
    ruling = fixed([0.7, 0.7, 0.7], delta=0.1)
    assert (ruling.action, ruling.reason) == (Action.FUTILE, "deterministic")
    assert ruling.interval.low is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_differences_that_are_no_usable_number_are_refused(bad: float) -> None:
    with pytest.raises(RecordError, match="difference of pair 1"):
        decide([0.1, bad], delta=0.1, rule=FIXED, planned=4, arms=1)


@pytest.mark.parametrize("name", ["sequential", "sprt"])
def test_rules_that_are_not_built_are_refused_with_the_way_out(name: str) -> None:
    rule = StoppingRule.from_value({"rule": name}, "config.yaml")
    with pytest.raises(RecordError, match=rf"^test\.rule: '{name}' is not built yet; use fixed$"):
        decide([], delta=0.1, rule=rule, planned=4, arms=1)


def test_one_planned_pair_is_refused() -> None:
    with pytest.raises(RecordError, match="plan at least 2"):
        decide([], delta=0.1, rule=FIXED, planned=1, arms=1)


def test_an_alpha_too_small_for_an_interval_is_refused() -> None:
    with pytest.raises(RecordError, match="raise alpha"):
        fixed([0.1, 0.2], alpha=5e-324)


@given(st.lists(st.floats(-1e149, 1e149), min_size=2, max_size=20))
def test_mean_and_deviation_neither_overflow_nor_vanish(values: list[float]) -> None:
    mean, deviation = stats.mean_and_deviation(values)
    assert deviation is not None
    slack = 1e-12 * max(abs(value) for value in values)
    assert min(values) - slack <= mean <= max(values) + slack
    assert math.isfinite(deviation)
    assert (deviation > slack) >= (max(values) - min(values) > 10 * slack)


@given(samples)
def test_mean_and_deviation_are_numpys(values: list[float]) -> None:
    mean, deviation = stats.mean_and_deviation(values)
    scale = max(abs(value) for value in values)
    assert mean == pytest.approx(float(np.mean(values)), rel=1e-12, abs=1e-12 * scale)
    assert deviation == pytest.approx(float(np.std(values, ddof=1)), rel=1e-9, abs=1e-12 * scale)


def test_a_single_value_has_no_deviation() -> None:
    assert stats.mean_and_deviation([0.25]) == (0.25, None)


REPEATS = 4000


def _rate(mean: float, alpha: float, pairs: int, wanted: Action, delta: float = 1.0) -> float:
    """How often independent normal differences of deviation 1 lead to `wanted`; the same numbers every time."""
    draws = np.random.default_rng(20260212).normal(mean, 1.0, (REPEATS, pairs)).tolist()
    return sum(fixed(row, delta, alpha).action is wanted for row in draws) / REPEATS


def _upper(p: float) -> float:
    """Four binomial deviations above p: a fair rule exceeds it once in 30,000 tests."""
    return p + 4 * math.sqrt(p * (1 - p) / REPEATS)


@pytest.mark.parametrize("pairs", [3, 8])
def test_false_keeps_under_the_null_stay_below_alpha(pairs: int) -> None:
    # A tiny delta leaves the interval alone to prevent a false keep.
    assert _rate(0.0, 0.05, pairs, Action.KEEP, delta=1e-9) == pytest.approx(0.05, abs=_upper(0.05) - 0.05)


@pytest.mark.parametrize("pairs", [3, 8])
def test_false_refutations_at_the_full_effect_stay_below_alpha(pairs: int) -> None:
    assert _rate(1.0, 0.05, pairs, Action.REFUTED) == pytest.approx(0.05, abs=_upper(0.05) - 0.05)


def test_a_large_effect_is_kept_and_a_negative_one_refuted() -> None:
    assert _rate(4.0, 0.005, 8, Action.KEEP) > 0.99
    assert _rate(-3.0, 0.005, 8, Action.REFUTED) > 0.99


def test_importing_it_does_not_import_scipy() -> None:
    code = "import autolab.stats, sys; sys.exit('scipy' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
