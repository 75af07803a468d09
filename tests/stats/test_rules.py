"""The stopping rules against independent computations and simulations."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from itertools import accumulate
from typing import Literal

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from autolab.errors import RecordError
from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Trial
from autolab.stats import rules
from autolab.stats.plan import Plan, PlannedArm
from autolab.stats.rules import RuleAction, Ruling, decide
from autolab.stats.verdict import judge

FIXED = StoppingRule(rule="fixed", alpha=0.005)
SEQUENTIAL = StoppingRule(rule="sequential", alpha=0.005)
SPRT = StoppingRule(rule="sprt", alpha=0.005, beta=0.25, deviation=1.0)
RULES = [FIXED, SEQUENTIAL, SPRT]

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
    expected = RuleAction.KEEP if keep else RuleAction.REFUTED if refuted else RuleAction.CONTINUE
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
    assert (ruling.action, ruling.reason, ruling.final) == (RuleAction.CONTINUE, "pending", False)
    assert (ruling.interval.n, ruling.interval.low, ruling.interval.high) == (len(values), None, None)
    assert ruling.interval.level == 0.99


def test_used_up_pairs_that_say_neither_are_budget() -> None:
    ruling = fixed([0.3, -0.1, 0.2, 0.0], delta=0.05)
    assert (ruling.action, ruling.reason, ruling.final) == (RuleAction.CONTINUE, "budget", True)


def test_identical_arms_are_futile_for_no_change() -> None:
    ruling = fixed([0.0, -0.0, 0.0])
    assert (ruling.action, ruling.reason, ruling.final) == (RuleAction.FUTILE, "no_change", True)


def test_equal_differences_are_futile_as_deterministic_and_not_a_certain_gain() -> None:
    ruling = fixed([0.7, 0.7, 0.7], delta=0.1)
    assert (ruling.action, ruling.reason) == (RuleAction.FUTILE, "deterministic")
    assert ruling.interval.low is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_differences_that_are_no_usable_number_are_refused(bad: float, rule: StoppingRule) -> None:
    with pytest.raises(RecordError, match=r"^difference of pair 1: [^\n]*$"):
        decide([0.1, bad], delta=0.1, rule=rule, planned=4, arms=1)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
@pytest.mark.parametrize("delta", [0.0, -0.1, math.nan, math.inf])
def test_a_least_difference_that_is_none_is_the_callers_error(delta: float, rule: StoppingRule) -> None:
    with pytest.raises(ValueError, match="delta"):
        decide([0.1, 0.2], delta=delta, rule=rule, planned=4, arms=1)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"rule": "sprt"}, "deviation: missing; sprt needs that of a pair's difference, declared by you"),
        ({"rule": "sprt", "deviation": 0}, "deviation"),
        ({"max_pairs": 2}, "max_pairs and confirm_pairs: the sequential rule decides from 3 pairs on"),
        ({"rule": "sequential", "confirm_pairs": 2}, "from 3 pairs on"),
    ],
)
def test_a_rule_that_cannot_decide_is_refused_in_one_line(value: dict[str, float], line: str) -> None:
    with pytest.raises(RecordError) as refused:
        StoppingRule.from_value(value, "config.yaml")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_one_planned_pair_is_refused(rule: StoppingRule) -> None:
    with pytest.raises(RecordError, match=r"plan at least [23]"):
        decide([], delta=0.1, rule=rule, planned=1, arms=1)


def test_a_plan_too_short_for_the_sequential_rule_does_not_wait_for_ever() -> None:
    # design.yaml may ask for two pairs where the lab's rule is sequential.
    with pytest.raises(RecordError, match="at least 3"):
        decide([0.1, 0.2], delta=0.1, rule=SEQUENTIAL, planned=2, arms=1)


@given(st.lists(st.floats(-1e149, 1e149), min_size=2, max_size=20))
def test_mean_and_deviation_neither_overflow_nor_vanish(values: list[float]) -> None:
    mean, deviation = rules.mean_and_deviation(values)
    assert deviation is not None
    slack = 1e-12 * max(abs(value) for value in values)
    assert min(values) - slack <= mean <= max(values) + slack
    assert math.isfinite(deviation)
    assert (deviation > slack) >= (max(values) - min(values) > 10 * slack)


@given(samples)
def test_mean_and_deviation_are_numpys(values: list[float]) -> None:
    mean, deviation = rules.mean_and_deviation(values)
    scale = max(abs(value) for value in values)
    assert mean == pytest.approx(float(np.mean(values)), rel=1e-12, abs=1e-12 * scale)
    assert deviation == pytest.approx(float(np.std(values, ddof=1)), rel=1e-9, abs=1e-12 * scale)


def test_a_single_value_has_no_deviation() -> None:
    assert rules.mean_and_deviation([0.25]) == (0.25, None)


REPEATS = 4000


def _rate(mean: float, alpha: float, pairs: int, wanted: RuleAction, delta: float = 1.0) -> float:
    """How often independent normal differences of deviation 1 lead to `wanted`; the same numbers every time."""
    draws = np.random.default_rng(20260212).normal(mean, 1.0, (REPEATS, pairs)).tolist()
    return sum(fixed(row, delta, alpha).action is wanted for row in draws) / REPEATS


def _upper(p: float) -> float:
    """Four binomial deviations above p: a fair rule exceeds it once in 30,000 tests."""
    return p + 4 * math.sqrt(p * (1 - p) / REPEATS)


@pytest.mark.parametrize("pairs", [3, 8])
def test_false_keeps_under_the_null_stay_below_alpha(pairs: int) -> None:
    # A tiny delta leaves the interval alone to prevent a false keep.
    assert _rate(0.0, 0.05, pairs, RuleAction.KEEP, delta=1e-9) == pytest.approx(0.05, abs=_upper(0.05) - 0.05)


@pytest.mark.parametrize("pairs", [3, 8])
def test_false_refutations_at_the_full_effect_stay_below_alpha(pairs: int) -> None:
    assert _rate(1.0, 0.05, pairs, RuleAction.REFUTED) == pytest.approx(0.05, abs=_upper(0.05) - 0.05)


def test_a_large_effect_is_kept_and_a_negative_one_refuted() -> None:
    assert _rate(4.0, 0.005, 8, RuleAction.KEEP) > 0.99
    assert _rate(-3.0, 0.005, 8, RuleAction.REFUTED) > 0.99


@pytest.mark.process
def test_importing_it_does_not_import_scipy() -> None:
    code = "import autolab.stats.rules, sys; sys.exit('scipy' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# The sequential rules


def sequential(differences: list[float], delta: float = 1.0, planned: int = 24, **more: float) -> Ruling:
    arms, quantum, resolve = int(more.get("arms", 1)), more.get("quantum", 0.0), bool(more.get("resolve", 0))
    rule = SEQUENTIAL.model_copy(update={"alpha": more.get("alpha", 0.005), "resolve": resolve})
    return decide(differences, delta=delta, rule=rule, planned=planned, arms=arms, quantum=quantum)


def draws(mean: float, rows: int, pairs: int, seed: int = 5) -> list[list[float]]:
    """Normal differences of deviation 1; the same numbers every time."""
    return np.random.default_rng(seed).normal(mean, 1.0, (rows, pairs)).tolist()


def most(p: float, of: int) -> int:
    """A count that a chance of p exceeds once in a million tests, by the exact binomial distribution."""
    from scipy.stats import binom

    return int(binom.ppf(1 - 1e-6, of, p))


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=24).filter(lambda values: max(values) - min(values) > 1e-3))
@settings(max_examples=25)
def test_evidence_is_the_ratio_of_marginal_likelihoods_integrated_numerically(values: list[float]) -> None:
    from scipy.integrate import quad

    x = np.array(values)

    def log_density(log_sigma: float, effect: float) -> float:
        # The prior is d sigma / sigma, which is d log sigma; constants cancel in the ratio.
        residuals = x * math.exp(-log_sigma) - effect
        return float(-len(x) * log_sigma - residuals @ residuals / 2)

    def marginal(effect: float, unit: float) -> float:
        grid = np.linspace(-12, 12, 4801)
        top = float(grid[np.argmax([log_density(at, effect) for at in grid])])
        peak, found = log_density(top, effect), 0.0
        for low, high in ((top - 8, top - 0.5), (top - 0.5, top), (top, top + 0.5), (top + 0.5, top + 30)):
            found += quad(lambda at: math.exp(log_density(at, effect) - peak), low, high, epsabs=0, epsrel=1e-11)[0]
        return found * math.exp(peak - unit)

    unit = log_density(math.log(float(np.sqrt(x @ x / len(x)))), 0.0)
    expected = sum(marginal(effect, unit) for effect in rules.EFFECTS) / len(rules.EFFECTS) / marginal(0.0, unit)
    assert rules.t_evidence(values) == pytest.approx(expected, rel=1e-8)


def test_one_difference_is_no_evidence_for_a_positive_mean_beyond_its_sign() -> None:
    assert rules.t_evidence([2.0], quantum=1.0) == rules.t_evidence([1.0], quantum=0.5)
    with pytest.raises(ValueError, match="without a quantum"):
        rules.t_evidence([1.0, 1.0])


@pytest.mark.parametrize("mean", [0.0, -0.3])
def test_evidence_of_a_null_ever_reaches_one_over_alpha_with_probability_alpha_at_most(mean: float) -> None:
    rows, alpha = 400, 0.05
    ever = sum(any(rules.t_evidence(row[:n]) >= 1 / alpha for n in range(2, 25)) for row in draws(mean, rows, 24))
    assert ever <= most(alpha, rows)


@pytest.mark.parametrize("rule", ["sequential", "sprt"])
@pytest.mark.parametrize("mean", [0.0, -0.3])
def test_false_keeps_under_optional_stopping_stay_below_alpha(rule: str, mean: float) -> None:
    rows, alpha = 300, 0.05
    asked = StoppingRule.from_value({"rule": rule, "alpha": alpha, "deviation": 1.0, "resolve": True}, "here")
    rulings = [decide(row, delta=0.4, rule=asked, planned=24, arms=1) for row in draws(mean, rows, 24)]
    assert sum(ruling.action is RuleAction.KEEP for ruling in rulings) <= most(alpha, rows)


def test_arms_that_share_a_baseline_share_alpha_under_optional_stopping() -> None:
    rows, alpha, arms = 150, 0.1, 3
    base = np.random.default_rng(1).normal(0, math.sqrt(0.5), (rows, 1, 24))
    new = np.random.default_rng(2).normal(0, math.sqrt(0.5), (rows, arms, 24))
    kept = [
        any(sequential(arm, delta=0.4, alpha=alpha, arms=arms).action is RuleAction.KEEP for arm in row)
        for row in (new - base).tolist()
    ]
    assert 0 < sum(kept) <= most(alpha, rows)


def test_a_gain_of_delta_is_given_up_once_in_four_and_refuted_once_in_twenty_at_most() -> None:
    rows = 300
    for resolve, action, p in ((0, RuleAction.FUTILE, 1 / rules.FUTILE), (1, RuleAction.REFUTED, 1 / rules.REFUTED)):
        rulings = [sequential(row, delta=0.7, resolve=resolve) for row in draws(0.7, rows, 24)]
        assert sum(ruling.action is action for ruling in rulings) <= most(p, rows)


@given(samples, deltas, st.sampled_from([SEQUENTIAL, SPRT]), st.booleans())
def test_pairs_one_by_one_get_the_ruling_of_all_at_once(
    values: list[float], delta: float, rule: StoppingRule, resolve: bool
) -> None:
    asked = rule.model_copy(update={"resolve": resolve})
    found = [decide(values[:n], delta=delta, rule=asked, planned=30, arms=1) for n in range(len(values) + 1)]
    first = next((ruling for ruling in found if ruling.final), found[-1])
    assert decide(values, delta=delta, rule=asked, planned=30, arms=1) == first


def judged(values: list[tuple[float, float]], direction: Literal["minimize", "maximize"], order: list[int]) -> Ruling:
    """The ruling of the whole path from trials, asked after each trial of `order`, baseline and variant in turns."""
    arms = (PlannedArm("base", "baseline", "base", {}), PlannedArm("new", "variant", "candidate", {}))
    plan = Plan(arms, tuple(range(len(values))), "score", direction, 0.5, SEQUENTIAL, fixed=False)
    arrived: list[Trial] = []
    for cell in order:
        arm, index = ("base", "new")[cell % 2], cell // 2
        score = {"score": values[index][cell % 2]}
        facts = {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "seed": index, "attempt": 1, "commit": "c"}
        facts |= {"key": f"{arm}{index}", "content": "0", "outcome": "completed", "score": score}
        arrived.append(Trial.from_value(facts, "trial"))
        found = judge(plan, arrived)
        if found.status != "running":
            break
    return found.rulings["new"]


pairs_of_values = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=12)


@given(pairs_of_values, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_any_order_of_arrival_gives_the_same_ruling(values: list[tuple[float, float]], chance: random.Random) -> None:
    order = list(range(2 * len(values)))
    expected = judged(values, "maximize", order)
    chance.shuffle(order)
    assert judged(values, "maximize", order) == expected


@given(pairs_of_values)
@settings(max_examples=30)
def test_a_mirrored_metric_in_the_mirrored_direction_gets_the_same_ruling(values: list[tuple[float, float]]) -> None:
    order = list(range(2 * len(values)))
    mirrored = [(-base, -new) for base, new in values]
    assert judged(mirrored, "minimize", order) == judged(values, "maximize", order)


@given(samples, deltas, st.sampled_from([2.0**-40, 0.25, 8.0, 2.0**60]), st.sampled_from([SEQUENTIAL, SPRT]))
def test_a_power_of_two_changes_no_evidence_and_other_units_only_its_rounding(
    values: list[float], delta: float, factor: float, rule: StoppingRule
) -> None:
    def ruled(factor: float) -> Ruling:
        asked = rule.model_copy(update={"deviation": rule.deviation * factor}) if rule.deviation else rule
        scaled = [value * factor for value in values]
        return decide(scaled, delta=delta * factor, rule=asked, planned=30, arms=1)

    before, after, other = ruled(1.0), ruled(factor), ruled(3.7e-5)
    assert (after.action, after.reason, after.e_plus, after.e_minus) == (
        before.action,
        before.reason,
        before.e_plus,
        before.e_minus,
    )
    assert after.interval.mean == before.interval.mean * factor
    if before.e_plus is not None and other.interval.n == before.interval.n:
        assert other.e_plus == pytest.approx(before.e_plus, rel=1e-6, abs=1e-12)


@given(samples, st.floats(1e-3, 0.2))
def test_the_interval_ends_where_the_evidence_reaches_one_over_the_tail(values: list[float], tail: float) -> None:
    interval = rules.t_interval(values, tail)
    if interval.low is None or interval.high is None:
        n = len(values)
        assert rules.t_evidence([1.0] * n, quantum=1e-9) <= 1 / tail
        return
    scale = max(abs(value) for value in values)
    assume(interval.high - interval.low > 1e-3 * scale)
    low, high = interval.low, interval.high
    assert rules.t_evidence([value - low for value in values]) == pytest.approx(1 / tail, rel=1e-4)
    assert rules.t_evidence([high - value for value in values]) == pytest.approx(1 / tail, rel=1e-4)


def test_the_interval_misses_below_its_tail_at_any_number_of_pairs() -> None:
    rows, tail = 400, 0.05
    lows = [[rules.t_interval(row[:n], tail).low for n in range(3, 25)] for row in draws(0.0, rows, 24)]
    assert sum(any(low is not None and low > 0 for low in row) for row in lows) <= most(tail, rows)


@given(samples, deltas, arm_counts, alphas)
def test_the_action_follows_from_evidence_mean_and_arms(
    values: list[float], delta: float, arms: int, alpha: float
) -> None:
    assume(len(values) > 2)
    ruling = sequential(values, delta, planned=len(values), arms=arms, alpha=alpha)
    assume(ruling.e_plus is not None and ruling.e_minus is not None)
    assert ruling.e_plus is not None and ruling.e_minus is not None
    worth = ruling.interval.mean >= delta / 2
    if worth:
        expected = RuleAction.KEEP if ruling.e_plus >= 1 / (alpha / arms) else RuleAction.CONTINUE
    else:
        expected = (
            RuleAction.REFUTED
            if ruling.e_minus >= 20
            else RuleAction.FUTILE
            if ruling.e_minus >= 4
            else RuleAction.CONTINUE
        )
    assert ruling.action is expected
    assert ruling.interval.level == 1 - 2 * alpha / arms
    assert ruling.reason == ("budget" if expected is RuleAction.CONTINUE else expected.value)


def test_more_arms_ask_for_more_evidence() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95]
    alone, among = sequential(values), sequential(values, arms=8)
    assert alone.e_plus is not None and 200 <= alone.e_plus < 1600
    assert (alone.action, among.action, among.e_plus) == (RuleAction.KEEP, RuleAction.CONTINUE, alone.e_plus)


def test_resolve_goes_on_past_futility_until_it_is_refuted_or_the_pairs_are_used_up() -> None:
    values = [0.1, -0.4, 0.5, -0.3, 0.2, -0.1, 0.3, -0.5]
    stopped = sequential(values)
    n = stopped.interval.n
    assert (stopped.action, n < len(values)) == (RuleAction.FUTILE, True)
    assert stopped.e_minus is not None and 4 <= stopped.e_minus < 20
    assert sequential(values[:n], resolve=1).reason == "pending"
    assert sequential(values, resolve=1).action is RuleAction.REFUTED
    assert sequential(values[:n], planned=n, resolve=1).action is RuleAction.FUTILE


def test_equal_steps_of_a_coarse_metric_are_not_kept_early() -> None:
    step = 1 / 360
    assert sequential([step] * 3, delta=step, quantum=step).reason == "pending"
    assert sequential([step] * 3, delta=step).reason == "deterministic"
    assert sequential([0.0] * 3, delta=step).reason == "no_change"
    assert sequential([10 * step] * 5, delta=step, quantum=step).action is RuleAction.KEEP


def test_before_three_pairs_the_sequential_rule_waits() -> None:
    ruling = sequential([5.0, 5.1])
    assert (ruling.reason, ruling.e_plus, ruling.interval.low, ruling.interval.n) == ("pending", None, None, 2)


@given(st.lists(numbers.map(lambda value: value / 300), min_size=1, max_size=24), st.floats(0.1, 3))
def test_sprt_is_walds_test_by_its_likelihoods(values: list[float], delta: float) -> None:
    from scipy.stats import norm

    steps = norm.logpdf(values, delta, 1.0) - norm.logpdf(values, 0.0, 1.0)
    sums = list(accumulate(steps.tolist()))
    upper, lower = math.log(1 / 0.005), math.log(0.25)
    assume(all(min(abs(total - upper), abs(total - lower)) > 1e-9 for total in sums))
    ruling = decide(values, delta=delta, rule=SPRT, planned=24, arms=1)
    stop = next((n for n, total in enumerate(sums, 1) if total >= upper or total <= lower), None)
    if stop is None:
        expected = (RuleAction.CONTINUE, "budget" if len(values) == 24 else "pending", len(values))
    else:
        action = RuleAction.KEEP if sums[stop - 1] >= upper else RuleAction.FUTILE
        expected = (action, action.value, stop)
    assert (ruling.action, ruling.reason, ruling.interval.n) == expected


def test_sprt_misses_a_gain_of_delta_with_probability_beta_at_most() -> None:
    rows = 2000
    rulings = [decide(row, delta=1.0, rule=SPRT, planned=24, arms=1) for row in draws(1.0, rows, 24)]
    assert sum(ruling.action is RuleAction.FUTILE for ruling in rulings) <= most(SPRT.beta, rows)


# Before and after


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
@pytest.mark.parametrize("effect", [0.8, 1.5, 2.2])
def test_about_four_in_five_are_kept_within_the_pairs_wanted(effect: float, rule: StoppingRule) -> None:
    n = rules.pairs_wanted(effect, rule)
    assert n is not None
    # The fixed rule asks for a mean of delta too: the effect that is worth having must be smaller than the one there.
    delta = effect / 2 if rule.rule == "fixed" else effect
    rulings = [decide(row, delta=delta, rule=rule, planned=n, arms=1) for row in draws(effect, 300, n)]
    kept = sum(ruling.action is RuleAction.KEEP for ruling in rulings) / 300
    assert 0.65 <= kept <= 0.92


def test_an_effect_out_of_reach_has_no_number_of_pairs() -> None:
    assert rules.pairs_wanted(0.01, SEQUENTIAL, most=50) is None


@given(samples, st.sampled_from([2.0**-500, 2.0**-40, 1.0, 2.0**60]))
def test_a_shrunken_gain_lies_between_nothing_and_the_mean(values: list[float], factor: float) -> None:
    mean, shrunken = rules.mean_and_deviation(values)[0] * factor, rules.shrunken([one * factor for one in values])
    assert min(0.0, mean) <= shrunken <= max(0.0, mean)
    assert shrunken == pytest.approx(rules.shrunken(values) * factor, rel=1e-12)


def test_a_gain_is_drawn_in_by_its_own_uncertainty() -> None:
    assert rules.shrunken([1.0, 3.0]) == pytest.approx(2 * 4 / 5)
    assert rules.shrunken([0.7, 0.7]) == 0.7
    assert rules.shrunken([-1.0, 1.0]) == 0


@given(st.lists(st.floats(-1, 12).map(math.exp), min_size=1, max_size=40), st.floats(0.01, 0.3))
def test_e_lond_decides_as_an_independent_implementation_does(evidence: list[float], fdr: float) -> None:
    from online_fdr.e_values.sequential import ELond

    reference, kept = ELond(alpha=fdr), 0
    for claim, value in enumerate(evidence, 1):
        level = rules.claim_alpha(fdr, claim, kept)
        expected = reference.test_one(value)
        assert level == pytest.approx(reference.current_level, rel=1e-9)
        assume(abs(value * level - 1) > 1e-9)
        assert (value >= 1 / level) == expected
        kept += expected


def test_the_weights_of_e_lond_sum_to_less_than_one() -> None:
    from scipy.special import gammaincc

    # The rest, over v = sqrt(log t): the integral of 2 c v^3 exp(-v), which falls too slowly to be summed.
    count = 20_000
    total = math.fsum(rules.claim_alpha(1.0, claim, 0) for claim in range(1, count + 1))
    rest = 0.07720838 * 12 * gammaincc(4, math.sqrt(math.log(count)))
    assert total + rest == pytest.approx(0.9763, abs=1e-3)


# claims


@pytest.mark.parametrize(("number", "fewest"), [(1, 5), (2, 5), (3, 6), (7, 6), (100, 9)])
def test_the_fewest_pairs_are_those_at_which_the_clearest_gain_is_kept(number: int, fewest: int) -> None:
    alpha = rules.claim_alpha_of(number, 0.005)
    rule = StoppingRule(alpha=alpha)
    assert rules.fewest_pairs(alpha, rule) == fewest
    # Differences that hardly differ are as clear as any can be.
    clear = [1.0 + 1e-7 * index for index in range(fewest)]
    kept = rules.decide(clear, delta=0.5, rule=rule, planned=24, arms=1)
    assert (kept.action, kept.pairs) == (rules.RuleAction.KEEP, fewest)
    before = rules.decide(clear[:-1], delta=0.5, rule=rule, planned=24, arms=1)
    assert before.action is rules.RuleAction.CONTINUE


def test_the_fixed_rule_looks_at_all_pairs_and_sprt_at_one() -> None:
    assert rules.fewest_pairs(0.005, StoppingRule(rule="fixed", confirm_pairs=9)) == 9
    assert rules.fewest_pairs(0.005, StoppingRule(rule="sprt", deviation=1.0)) == 1


def test_claims_of_a_protocol_become_stricter_and_their_errors_have_a_sum() -> None:
    assert [rules.claim_alpha_of(number, 0.005) for number in (1, 2, 3)] == pytest.approx([0.005, 0.005 / 3, 0.005 / 6])
    assert math.fsum(rules.claim_alpha_of(number, 0.005) for number in range(1, 100_000)) < 0.01
