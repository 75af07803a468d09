"""Which results are sane: each thing that can be wrong with a run's trials gives one line that names it."""

from __future__ import annotations

import math

import pytest

from autolab.lab.schemas.experiment import Calibration, Design, Finding, Manifest
from autolab.verifiers.sanity import results_sanity

ID = "2026-02-12T23-30-00Z_h1"
DESIGN: dict[str, object] = {
    "id": "e1",
    "iteration_id": ID,
    "hypothesis_id": "h1",
    "entrypoint": {"command": "{python} train.py"},
    "metrics": {"primary": "val_loss", "success_delta": 0.01},
    "baselines": [{"name": "base"}],
    "variants": [{"name": "wide"}],
}


def messages(found: list[Finding], severity: str | None = None) -> list[str]:
    return [finding.message for finding in found if severity in (None, finding.severity)]


def trial(arm: str, index: int, seed: int, **changes: object) -> dict[str, object]:
    return {
        "trial": f"{arm}-s{index}",
        "arm": arm,
        "index": index,
        "seed": seed,
        "attempt": 1,
        "commit": "c" * 40,
        "key": "k",
        "content": "c",
        "outcome": "completed",
        "score": {"val_loss": 0.1 + seed / 1000, "accuracy": 0.9},
        "predictions_sha256": f"{arm}{seed}",
    } | changes


def run(
    trials: list[dict[str, object]],
    status: str = "completed",
    calibration: Calibration | None = None,
    seeds: object = (1, 2, 3),
    **changes: object,
) -> list[Finding]:
    value: dict[str, object] = {
        "run_id": "run_0001",
        "iteration_id": ID,
        "status": status,
        "git": {"control_plane_commit": "a" * 40, "dirty": False},
        "location": "local",
        "command": "c",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "2026-02-12T23:30:00Z",
        "artifacts": {},
        "trials": trials,
    } | changes
    declared = list(seeds) if isinstance(seeds, tuple) else seeds
    design = Design.from_value(DESIGN | {"reproducibility": {"seeds": declared}}, "design.yaml")
    return results_sanity(Manifest.from_value(value, "run_manifest.json"), design, calibration)


def full(**changes: object) -> list[dict[str, object]]:
    return [trial(arm, index, index + 1, **changes) for index in range(3) for arm in ("base", "wide")]


def test_a_sane_run_has_no_finding() -> None:
    assert run(full()) == []


def test_a_run_without_its_baseline_is_blocked() -> None:
    found = messages(run([one for one in full() if one["arm"] == "wide"]), "blocking")
    assert "baseline base: no completed trial, so nothing is compared" in found


def test_a_declared_seed_that_is_missing_is_named_unless_the_run_failed() -> None:
    trials = [one for one in full() if one["trial"] != "wide-s1"]
    assert messages(run(trials)) == ["arm wide: declared seeds without a completed trial: 2, 3"]
    assert run(trials, "failed") == []


def test_a_failed_trial_is_no_measurement_of_its_seed() -> None:
    trials = full()
    trials[4] = trial("base", 2, 3, outcome="failed", score={})
    assert messages(run(trials)) == ["arm base: declared seeds without a completed trial: 3"]


def test_arms_with_different_seeds_at_one_index_are_not_paired() -> None:
    trials = full()
    trials[3] = trial("wide", 1, 9)
    assert "pair 1: the arms ran with different seeds, so they are not paired" in messages(run(trials), "blocking")


def test_equal_predictions_across_seeds_are_called_deterministic() -> None:
    found = run(full(predictions_sha256="same"))
    assert [finding.severity for finding in found] == ["advisory", "advisory"]
    assert all("deterministic" in finding.message for finding in found)


def test_equal_scores_from_different_predictions_are_pointed_out() -> None:
    found = messages(run(full(score={"val_loss": 0.1})), "advisory")
    assert len(found) == 2 and all("is the seed used?" in message for message in found)


def test_a_completed_trial_without_the_primary_metric_is_blocked() -> None:
    trials = full()
    trials[0] = trial("base", 0, 1, score={"accuracy": 0.5})
    assert messages(run(trials), "blocking") == ["trial base-s0: completed without the primary metric val_loss"]


@pytest.mark.parametrize("score", [{"accuracy": 97.0}, {"macro_f1": -0.1}, {"train_loss": -1.0}])
def test_a_value_outside_its_natural_range_is_pointed_out(score: dict[str, float]) -> None:
    trials = full()
    trials[0] = trial("base", 0, 1, score={"val_loss": 0.5, **score})
    (message,) = messages(run(trials), "advisory")
    assert next(iter(score)) in message and "base-s0" in message


def test_a_training_may_report_its_accuracy_in_percent() -> None:
    trials = full(score={}, self_reported={"val_loss": 0.5, "accuracy": 97.0})
    assert not [message for message in messages(run(trials, self_reported=True)) if "accuracy" in message]
    trials[0] = trial("base", 0, 1, score={}, self_reported={"val_loss": 0.5, "accuracy": 100.5})
    found = messages(run(trials, self_reported=True), "advisory")
    assert "trial base-s0: accuracy = 100.5 lies outside 0 to 100" in found


def compared(**changes: object) -> dict[str, object]:
    gain = {"n": 3, "mean": 0.0, "low": -0.1, "high": 0.1, "level": 0.99}
    value = {"arm": "wide", "baseline": "base", "metric": "val_loss", "difference": gain, "verdict": "inconclusive"}
    return value | {"pairs": 3} | changes


CALIBRATION = Calibration(
    protocol="e" * 64,
    commit="c" * 40,
    run_id="calibration_0001",
    at="2026-02-12T23:30:00Z",
    metric="val_loss",
    success_delta=0.01,
    seeds=5,
    mean=0.1,
    deviation=0.001,
    quantum=0.0,
    seconds=30.0,
    slowest_seconds=31.0,
    max_rss_bytes=1,
    deterministic=True,
    rerun_difference=0.0,
    seeds_differ=True,
    difference_deviation=0.001,
    pairs=4,
    max_pairs=24,
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e150, -1e151])
def test_a_value_that_is_no_number_or_too_large_to_reckon_with_is_blocked(value: float) -> None:
    manifest = Manifest.from_value(
        {"run_id": "run_0001", "iteration_id": ID, "git": {"control_plane_commit": "a" * 40, "dirty": False}}
        | {"location": "local", "command": "c", "sync": {"artifact_sync_to_local": {"status": "ok"}}, "artifacts": {}}
        | {"verifier_results": {}, "started_at": "2026-02-12T23:30:00Z", "status": "completed", "trials": full()},
        "run_manifest.json",
    )
    first = manifest.trials[0]  # a document cannot hold it, so it is put in behind the parser
    broken = first.model_copy(update={"score": {"val_loss": 0.5, "accuracy": value}})
    manifest = manifest.model_copy(update={"trials": (broken, *manifest.trials[1:])})
    design = Design.from_value(DESIGN | {"reproducibility": {"seeds": [1, 2, 3]}}, "design.yaml")
    assert messages(results_sanity(manifest, design)) == [
        f"trial base-s0: accuracy = {value:g} is not a finite number below 1e+150"
    ]


def test_a_seed_that_is_counted_twice_is_blocked() -> None:
    trials = [trial(arm, index, 1 + index % 2) for index in range(3) for arm in ("base", "wide")]
    found = messages(run(trials, seeds={"max_pairs": 3}), "blocking")
    assert found == ["arm base: a seed is counted twice", "arm wide: a seed is counted twice"]


def test_declared_seeds_need_not_all_run_where_the_seed_changes_nothing() -> None:
    trials = [trial(arm, index, index + 1, predictions_sha256=arm) for index in range(2) for arm in ("base", "wide")]
    found = run(trials, comparisons=[compared(pairs=2, reason="deterministic")])
    assert messages(found, "blocking") == [] and len(messages(found, "advisory")) == 2


def test_a_confirmation_has_its_own_seeds_and_fewer_arms() -> None:
    trials = [one | {"seed": 900 + int(str(one["trial"])[-1])} for one in full()]
    arms = [
        {"name": "base", "role": "baseline", "code": "base"},
        {"name": "wide", "role": "variant", "code": "candidate"},
    ]
    assert run(trials, kind="confirm", arms=arms, comparisons=[compared()]) == []
    assert (
        "baseline base: no completed trial" in messages(run(trials[1::2], kind="confirm", arms=arms[1:]), "blocking")[0]
    )


@pytest.mark.parametrize(("seconds", "shown"), [(2.9, "2.9 s"), (301.0, "301 s")])
def test_a_duration_far_from_the_calibrated_one_is_pointed_out_with_both_numbers(seconds: float, shown: str) -> None:
    trials = full(seconds=30.0)
    trials[1]["seconds"] = trials[3]["seconds"] = seconds
    (message,) = messages(run(trials, calibration=CALIBRATION), "advisory")
    assert message.startswith(f"arm wide: trial wide-s0 took {shown}, and 30 s in the calibration (and 1 more trials")


def test_durations_up_to_ten_times_the_calibrated_one_either_way_are_usual() -> None:
    assert run([*full(seconds=3.0)[:3], *full(seconds=300.0)[3:]], calibration=CALIBRATION) == []
    assert run(full(seconds=0.001)) == [], "nothing was calibrated"


def test_a_run_of_another_protocol_than_the_calibrations_is_blocked_with_the_way_out() -> None:
    assert run(full(seconds=30.0), calibration=CALIBRATION, protocol="e" * 64) == []
    (message,) = messages(run(full(seconds=30.0), calibration=CALIBRATION, protocol="f" * 64), "blocking")
    assert "evaluator, data, metric or" in message
    assert "run `autolab calibrate`" in message
