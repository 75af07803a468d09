"""The sentences of documents: the outcome in one line, the rule, the cost, every number from the records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from account_kit import account, compared, confirmed, manifest

from autolab.lab.schemas.experiment import ArmMetrics, Interval, Manifest, Results, Summary
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports import passages
from autolab.reports.passages import Account

MEASURED = "val_loss 0.1400 -> 0.1130, gain"
FRESH = "val_loss 0.1420 -> 0.1210, gain 0.0210 (99% CI 0.0150 to 0.0270), 9 fresh seeds"


def ended(verdict: Verdict, gain: float = 0.001, reason: str = "") -> Account:
    one = compared(verdict, gain).model_copy(update={"reason": reason})
    told = account(verdict, one)
    assessment = told.results.assessment.model_copy(update={"reason": reason})
    return replace(told, results=told.results.model_copy(update={"assessment": assessment}))


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (confirmed("kept"), f"Kept: {FRESH}, holdout passed"),
        (confirmed("kept", "none"), f"Kept on this evaluation alone: {FRESH}, no holdout"),
        (confirmed("search_only", "failed"), f"Not kept: {FRESH}, holdout failed"),
        (confirmed("search_only", "used_up"), f"Not kept: {FRESH}, no holdout question left"),
        (confirmed("suspicious"), f"Set aside (suspicious): {FRESH}, holdout passed"),
        (
            confirmed("retracted", "not_asked"),
            "Retracted: val_loss 0.1420 -> 0.1410, gain 0.0010 (99% CI -0.0050 to 0.0070), 9 fresh seeds; the search"
            " had measured a gain of 0.0270",
        ),
        (
            confirmed("retracted", "passed", reason="more_cut"),
            f"Retracted: {FRESH}, but more trials were cut than of the baseline",
        ),
        (
            account(),
            f"Supported, not confirmed: {MEASURED} 0.0270 (99% CI 0.0200 to 0.0340), 8 pairs; not measured on fresh"
            " seeds yet",
        ),
        (
            ended(Verdict.REFUTED, -0.02),
            f"Refuted: {MEASURED} -0.0200 (99% CI -0.0270 to -0.0130), 8 pairs; a gain of 0.01 or more is ruled out",
        ),
        (
            ended(Verdict.INCONCLUSIVE, reason="futile"),
            f"Inconclusive (futile): {MEASURED} 0.0010 (99% CI -0.0060 to 0.0080), 8 pairs; a gain of 0.01 or more has"
            " become unlikely",
        ),
        (account(None), "Failed: trial small_cnn-s0: failed: shape"),
    ],
)
def test_one_line_says_what_came_out_with_numbers_interval_and_pairs(told: Account, line: str) -> None:
    assert passages.headline(told) == line


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("no_change", "; the change has no measured effect"),
        ("deterministic", "; the seed has no effect, so more pairs prove nothing"),
        ("budget", "; all planned pairs are used"),
        ("accuracy unmeasured", "; a limit set before the run decides: accuracy unmeasured"),
    ],
)
def test_every_reason_of_an_open_question_stands_in_words_at_the_end(reason: str, says: str) -> None:
    assert passages.headline(ended(Verdict.INCONCLUSIVE, reason=reason)).endswith(f", 8 pairs{says}")


def test_a_limit_that_refuted_is_named_and_the_gain_is_not_said_to_be_ruled_out() -> None:
    told = account()
    assessment = told.results.assessment.model_copy(update={"verdict": Verdict.REFUTED, "reason": "accuracy failed"})
    told = replace(told, results=told.results.model_copy(update={"assessment": assessment}))
    assert passages.headline(told).endswith("; a limit set before the run decides: accuracy failed")


def test_of_several_variants_the_best_leads() -> None:
    two = (compared(Verdict.REFUTED, -0.01), compared(Verdict.REFUTED, -0.02, arm="other"))
    assert "gain -0.0100 (99% CI -0.0170 to -0.0030), 8 pairs, the best of 2 variants;" in passages.headline(
        account(Verdict.REFUTED, *two)
    )


def test_self_reported_numbers_are_marked_in_the_line() -> None:
    told = account(metrics=account().metrics.model_copy(update={"self_reported": True}))
    assert "val_loss (self-reported) 0.1400 -> 0.1130" in passages.headline(told)


# The interval of a refutation


def refuted_after_three_pairs() -> Account:
    """Three pairs refute at 1 in 20, and no interval of three pairs can miss only 1 time in 200."""
    trials = []
    for index, gain in enumerate((-0.140, -0.150, -0.148)):
        for arm, value in (("base", 0.08), ("small_cnn", 0.08 - gain)):
            about = {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "seed": index + 1, "attempt": 1}
            about |= {"commit": "c", "key": "k", "content": "c", "outcome": "completed"}
            trials.append(about | {"score": {"val_loss": value}, "predictions_sha256": f"{arm}{index}"})
    told = confirmed("kept")
    one = compared(Verdict.REFUTED, -0.146, None)
    one = one.model_copy(update={"difference": one.difference.model_copy(update={"n": 3}), "pairs": 3})
    search = manifest(trials=trials, rule={"rule": "sequential"}, pairs=24, comparisons=[one.value()])
    return replace(account(Verdict.REFUTED, one), design=told.design, manifest=search)


def test_a_refutation_shows_the_interval_that_it_rests_on() -> None:
    told = refuted_after_three_pairs()
    interval = told.interval(told.results.assessment.comparisons[0])
    assert (interval.level, interval.n) == (0.9, 3)
    assert interval.low is not None and interval.high is not None
    assert interval.low < -0.146 < interval.high < 0.01, "below the gain that is ruled out"
    assert f"gain -0.146 (90% CI {interval.low:.3f} to {interval.high:.3f}), 3 pairs" in passages.headline(told)


def test_a_supported_gain_keeps_the_interval_of_its_rule() -> None:
    told = confirmed("kept")
    (search,) = told.results.assessment.comparisons
    assert told.interval(search) is search.difference


# Findings of results.yaml


def test_a_finding_names_both_arms_the_gain_and_the_pairs() -> None:
    text = passages.finding(compared(Verdict.SUPPORTED), account().metrics)
    assert text == f"small_cnn against base: {MEASURED} 0.0270 (99% CI 0.0200 to 0.0340), 8 pairs"


def test_pairs_are_counted_and_not_the_parts_of_an_evaluation_that_the_seed_does_not_change() -> None:
    one = compared(Verdict.SUPPORTED)
    parts = one.model_copy(update={"difference": one.difference.model_copy(update={"n": 20}), "pairs": 2})
    assert passages.finding(parts, account().metrics).endswith(", 2 pairs")


@pytest.mark.parametrize(
    ("outcome", "holdout", "says"),
    [
        ("kept", "passed", "gain 0.0210 (99% CI 0.0150 to 0.0270) in val_loss, confirmed, holdout passed"),
        ("search_only", "used_up", "confirmed, no holdout question left"),
        ("retracted", "not_asked", "gain 0.0010 (99% CI -0.0050 to 0.0070) in val_loss, not confirmed (futile),"),
    ],
)
def test_a_confirmation_is_one_sentence(outcome: str, holdout: str, says: str) -> None:
    confirmation = confirmed(outcome, holdout).confirmation
    assert confirmation is not None
    text = passages.confirmed(confirmation, "val_loss")
    assert text.startswith("small_cnn on fresh seeds: ") and says in text


def test_a_gain_that_could_not_be_measured_again_is_told_without_a_number() -> None:
    nothing = Interval(n=0, mean=0.0, low=None, high=None, level=0.99)
    told = confirmed("retracted", "not_asked", difference=nothing.value(), reason="budget")
    assert told.confirmation is not None
    text = passages.confirmed(told.confirmation, "val_loss")
    assert text == "small_cnn on fresh seeds: the gain in val_loss could not be measured (budget)"
    told = replace(told, confirm=None, confirm_metrics=None)
    assert passages.headline(told).endswith(" in the search; the confirmation has no result: budget")


# Cost


def test_what_was_spent_counts_the_confirmation_and_leaves_out_what_was_reused() -> None:
    assert passages.spent(confirmed("kept")) == "8.0 s: 4 new trials"
    trials = [trial.value() for trial in manifest().trials]
    trials[0] |= {"reused_from": "it/run_0001/base-s0", "seconds": 900.0}
    told = account(manifest=manifest(trials=trials))
    assert passages.spent(told) == "2.0 s: 1 new trial, 1 reused one"


def test_the_trials_that_are_counted_are_those_of_the_table_and_the_late_ones() -> None:
    """Reused ones that the rule did not need cost nothing; new ones that it did not need cost their time."""
    told = account()
    trials = [trial.value() for trial in told.manifest.trials]
    for index in (1, 2):
        trials.append(trials[0] | {"trial": f"base-s{index}", "index": index, "reused_from": "it/run_0001/x"})
    trials.append(trials[1] | {"trial": "small_cnn-s2", "index": 2})
    arms = {arm: {"val_loss": ArmMetrics(mean=0.1, std=0.1, n=2)} for arm in ("base", "small_cnn")}
    told = replace(told, manifest=manifest(trials=trials))
    told = replace(told, metrics=told.metrics.model_copy(update={"arms": arms}))
    assert passages.spent(told) == "6.0 s: 2 new trials, 1 reused one, 1 unused one"


def sized(base: float, variant: float) -> Manifest:
    """A run whose trainings report this many parameters."""
    trials = [trial.value() for trial in manifest().trials]
    for trial, size in zip(trials, (base, variant), strict=True):
        trial["self_reported"] = {"parameters": size}
    trials[1]["seconds"] = 720.0
    return manifest(trials=trials)


def test_every_arm_has_its_parameters_and_seconds() -> None:
    base, variant = passages.costs(account(manifest=sized(9610.0, 34346.0)))
    assert (base.name, base.parameters, base.seconds) == ("base", 9610, 2.0)
    assert (variant.name, variant.parameters, variant.seconds) == ("small_cnn", 34346, 720.0)


def test_parameters_come_from_the_code_if_trainings_report_none_or_nonsense() -> None:
    about = Summary(parameters=34346)
    assert [arm.parameters for arm in passages.costs(account(about=about))] == [None, 34346]
    assert [arm.parameters for arm in passages.costs(account(manifest=sized(1e300, -1.0)))] == [None, None]


@pytest.mark.parametrize("promise", ["a fraction of the\nweights", "with fewer parameters", "No more parameters"])
def test_a_mechanism_that_promises_fewer_parameters_is_held_against_the_measured_ones(promise: str) -> None:
    claim = account().hypothesis.model_copy(update={"mechanism": f"The same field with {promise}, as is known."})
    told = account(hypothesis=claim, manifest=sized(9610.0, 20180.0))
    assert passages.contradiction(told) == (
        "Measured: small_cnn has 2.1 times the baseline's parameters (20,180 against 9,610), although the mechanism"
        " promises fewer."
    )
    assert passages.contradiction(replace(told, manifest=sized(9610.0, 5000.0))) == ""
    assert passages.contradiction(replace(told, hypothesis=account().hypothesis)) == "", "nothing was promised"
    assert passages.contradiction(replace(told, manifest=manifest())) == "", "nothing was measured"


def test_values_that_round_to_the_same_stand_as_they_round() -> None:
    arms = {
        arm: {"val_loss": ArmMetrics(mean=mean, std=0.1, n=8)} for arm, mean in (("base", 0.5), ("small_cnn", 0.49999))
    }
    told = account(metrics=account().metrics.model_copy(update={"arms": arms}))
    assert "val_loss 0.5000 -> 0.5000, gain" in passages.headline(told)


def test_the_records_of_the_kit_agree_with_each_other() -> None:
    results: Results = confirmed("retracted", "not_asked").results
    assert results.recommendation.value == "investigate"
