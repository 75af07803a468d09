"""The sentences and tables of documents: every number from the records, with the digits that it bears."""

from __future__ import annotations

import pytest
from account_kit import account, compared, confirmed, manifest

from autolab.lab.schemas.experiment import ArmMetrics, Interval, Summary
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports import passages


@pytest.mark.parametrize(
    ("verdict", "gain", "says"),
    [
        (
            Verdict.SUPPORTED,
            0.027,
            "a mean gain of 0.0270 over 8 pairs, selected by the search; unconfirmed until fresh",
        ),
        (Verdict.REFUTED, 0.001, "A gain of 0.01 in val_loss is ruled out: at most 0.0080 fits the measurements."),
        (Verdict.REFUTED, -0.02, "A gain of 0.01 in val_loss is ruled out: the change makes it worse."),
        (None, 0, "says nothing about the hypothesis: trial small_cnn-s0: failed: shape."),
    ],
)
def test_every_verdict_has_one_plain_sentence(verdict: Verdict | None, gain: float, says: str) -> None:
    told = account(verdict, compared(verdict, gain)) if verdict else account(None)
    sentence = passages.verdict_sentence(told)
    assert says in sentence and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize("reason", ["no_change", "deterministic", "budget", "futile", "accuracy below_acceptable"])
def test_every_reason_of_no_evidence_is_told_in_words(reason: str) -> None:
    results = account().results
    assessment = results.assessment.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": reason})
    told = account(results=results.model_copy(update={"assessment": assessment}))
    sentence = passages.verdict_sentence(told)
    assert reason not in sentence or reason.startswith("accuracy")
    assert "{" not in sentence and sentence.endswith(".")


def test_the_opening_says_what_was_tried_what_came_out_and_how_sure_it_is() -> None:
    text = passages.opening(account())
    assert text.startswith("**Supported, unconfirmed.** Tried: An MLP against a small CNN. val_loss fell from 0.1400")
    assert text.endswith("unconfirmed until fresh seeds repeat it.") and "\n" not in text


def test_several_variants_each_have_their_own_verdict_in_the_sentence() -> None:
    two = (compared(Verdict.SUPPORTED), compared(Verdict.REFUTED, -0.01, arm="other"))
    text = passages.observed(account(Verdict.SUPPORTED, *two))
    assert "(small_cnn)" in text and "of the gain): supported." in text
    assert "rose from 0.1400 (base) to 0.1500 (other)" in text and text.endswith(
        "worse by 0.0100 (99% interval -0.0170 to -0.0030 of the gain): refuted."
    )


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.034078, 0.00815, "0.0341"),
        (0.972361, 0.0021, "0.9724"),
        (-0.00001, 0.01, "0.000"),
        (12345.6, 250.0, "12350"),
        (12345.6, 25.0, "12346"),
        (0.0, None, "0"),
        (0.123456, None, "0.1235"),
        (1e12, 0.1, "1e+12"),
        (0.5, 1e-15, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_bears(value: float, half: float | None, shown: str) -> None:
    told = account(Verdict.REFUTED, compared(Verdict.REFUTED, value, half))
    if value > 0:
        assert f"better by {shown} (" in passages.observed(told)
    assert f"| {shown} (" in passages.key_metrics(told)


def test_values_that_round_to_the_same_are_not_said_to_fall() -> None:
    arms = {
        arm: {"val_loss": ArmMetrics(mean=mean, std=0.1, n=8)} for arm, mean in (("base", 0.5), ("small_cnn", 0.4999))
    }
    told = account(metrics=account().metrics.model_copy(update={"arms": arms}))
    assert "val_loss stayed at 0.500 (base, small_cnn) over 8 pairs" in passages.observed(told)


def test_what_was_spent_leaves_out_what_was_taken_over() -> None:
    trials = [trial.value() for trial in manifest().trials]
    trials[0] |= {"reused_from": "it/run_0001/base-s0", "seconds": 900.0}
    told = account(manifest=manifest(trials=trials))
    assert passages.spent(told) == "1 trials, 2.0 s; 1 more taken over from earlier iterations"


def test_the_cost_of_the_change_stands_against_the_baselines() -> None:
    trials = [trial.value() for trial in manifest().trials]
    for trial, size in zip(trials, (9610.0, 34346.0), strict=True):
        trial["self_reported"] = {"parameters": size}
    trials[1]["seconds"] = 720.0
    text = passages.cost(account(manifest=manifest(trials=trials)))
    assert "small_cnn: 34,346 parameters, self-reported (base: 9,610); 12 min a trial (base: 2.0 s)." in text


def test_parameters_come_from_the_code_where_trainings_tell_none_and_are_left_out_where_one_side_is_unknown() -> None:
    about = Summary(parameters=34346)
    assert "parameters" not in passages.cost(account(about=about))
    trials = [trial.value() for trial in manifest().trials]
    trials[0]["self_reported"] = {"parameters": 9610.0}
    assert "34,346 parameters, self-reported (base: 9,610)" in passages.cost(
        account(about=about, manifest=manifest(trials=trials))
    )
    trials[0]["self_reported"] = {"parameters": 1e300}
    assert "parameters" not in passages.cost(account(about=about, manifest=manifest(trials=trials)))


def test_of_a_kept_candidate_the_shrunken_gain_is_claimed_and_the_searchs_is_called_selected() -> None:
    text = passages.verdict_sentence(confirmed("kept"))
    assert text.startswith("Claimed: a gain of 0.0195 in val_loss, which is 0.0210 (99% interval 0.0150 to 0.0270)")
    assert "over 9 pairs of fresh seeds, drawn towards 0; beside it 0.0270 over 8 pairs of the search, selected" in text


@pytest.mark.parametrize(
    ("outcome", "holdout", "says"),
    [
        (
            "retracted",
            "not_asked",
            "selected for being large, came to 0.0010 (99% interval -0.0050 to 0.0070) over 9 pairs of fresh",
        ),
        (
            "search_only",
            "failed",
            "came back as 0.0210 (99% interval 0.0150 to 0.0270) over 9 pairs of fresh seeds, but",
        ),
        ("search_only", "failed", "but not on the holdout."),
        ("search_only", "used_up", "over 9 pairs of fresh seeds, and the holdout has no questions left."),
        ("suspicious", "passed", "over 9 pairs of fresh seeds, and is set aside: too good."),
    ],
)
def test_of_what_is_not_kept_nothing_is_claimed_and_both_gains_are_told(outcome: str, holdout: str, says: str) -> None:
    doubts = ["too good"] if outcome == "suspicious" else []
    text = passages.verdict_sentence(confirmed(outcome, holdout, suspicions=doubts))
    assert text.startswith("Nothing is claimed: the gain of 0.0270 over 8 pairs of the search") and says in text


def test_search_fresh_seeds_holdout_and_claim_stand_in_the_table_one_below_the_other() -> None:
    rows = passages.key_metrics(confirmed("kept")).split("\n")[2:]
    names = ["gain of small_cnn over base (search, selected)", "gain of small_cnn on fresh seeds"]
    names += ["gain on the holdout", "gain that is claimed"]
    assert [row.split(" | ")[0] for row in rows] == [f"| val_loss: {name}" for name in names]
    assert [row.split(" | ")[3].rstrip(" |") for row in rows] == ["supported", "confirmed", "passed", "kept"]
    assert "0.0210 (99% interval 0.0150 to 0.0270, 9 pairs)" in rows[1] and "0.0195 (shrunken)" in rows[3]
    only = passages.key_metrics(confirmed("search_only", "failed", holdout_error="rows and seeds")).split("\n")[2:]
    assert len(only) == 3, "the holdout answers yes or no: no number of it is told, and nothing is claimed"
    assert only[2].endswith("|  | above 0 (one-sided 2.5%, error over rows and seeds) | failed |")
    fell = passages.key_metrics(confirmed("retracted", "not_asked")).split("\n")[2:]
    assert len(fell) == 2 and fell[1].endswith("| not confirmed (futile) |")


def test_a_gain_that_could_not_be_measured_again_is_told_without_an_interval() -> None:
    nothing = Interval(n=0, mean=0.0, low=None, high=None, level=0.99)
    told = confirmed("retracted", "not_asked", difference=nothing.value(), reason="budget")
    assert "could not be measured again (no interval): not confirmed (budget)." in passages.observed(told)


def test_the_means_of_fresh_seeds_stand_below_those_of_the_search() -> None:
    rows = [row.split(" | ")[0] for row in passages.numbers(confirmed("kept")).split("\n") if row.startswith("| ")]
    assert rows == ["| arm", "| ---", "| base", "| small_cnn", "| base (fresh seeds)", "| small_cnn (fresh seeds)"]


def test_what_was_spent_counts_the_confirmation_too() -> None:
    assert passages.spent(confirmed("kept")) == "4 trials, 8.0 s"


def test_pairs_are_counted_and_not_the_parts_of_an_evaluation_that_the_seed_does_not_change() -> None:
    one = compared(Verdict.SUPPORTED)
    parts = one.model_copy(update={"difference": one.difference.model_copy(update={"n": 20}), "pairs": 2})
    told = account(Verdict.SUPPORTED, parts)
    assert "over 2 pairs of trainings" in passages.observed(told) and "2 pairs)" in passages.key_metrics(told)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            "sequential",
            "at most 24 pairs of trainings, both of a pair from one seed, looked at in seed order after each",
        ),
        (
            "sequential",
            "no gain is ruled out (wrongly at most 1 time in 200, all variants together) and the mean reaches",
        ),
        (
            "sequential",
            "(refuted: wrongly at most 1 time in 20) or only unlikely (futile: given up wrongly at most 1 time",
        ),
        ("sprt", "for the deviation that the lab declares, 0.01. Supported: no gain is ruled out"),
        ("sprt", "Futile: a gain of 0.01 has become unlikely (given up wrongly at most 1 time in 4)."),
    ],
)
def test_the_rule_that_decided_is_told_with_its_errors(rule: str, says: str) -> None:
    text = passages.rule(confirmed("kept", rule=rule))
    assert says in text and text.endswith(
        "measured again by the same rule on fresh seeds, and then the holdout is asked."
    )


def test_a_design_with_seeds_of_its_own_is_told_as_one_look_at_them() -> None:
    text = passages.rule(account(manifest=manifest(rule={"rule": "sequential"})))
    assert text.startswith(
        "Fixed before the first trial: 2 pairs of trainings, both of a pair from one seed, looked at once"
    )
    assert "99% interval" in text and "again" not in text


def test_evidence_names_both_runs_and_how_to_measure_again() -> None:
    text = passages.evidence(confirmed("kept"), "")
    assert "runs/run_0001/run_manifest.json" in text and "runs/run_0002/run_manifest.json" in text
    assert text.endswith("`autolab reproduce 2026-02-12T23-30-00Z_h1/run_0002`")
