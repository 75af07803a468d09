"""A measurement: each cell once, whatever is lost on the way; the ending says whose it is to fix."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_kit import LABELS, TINY, Bench, Elsewhere, World, likely

from autolab.cli import init
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import TimeLimit, Train
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import RunKind, Verdict
from autolab.stats import rules
from autolab.stats.plan import Cell, Plan, confirmation_plan
from autolab.trials import evaluation, measurement
from autolab.trials.lab_inputs import record_of
from autolab.trials.measurement import Ending
from autolab.trials.trial_log import MAX_LOST, TrialLog

pytestmark = pytest.mark.process

TRIALS = [f"{arm}-s{index}" for index in range(3) for arm in ("baseline", "steep")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Elsewhere, "world", World())
    return Bench(init.make_lab(tmp_path / "lab", str(TINY), seed=1).root, Elsewhere.world)


# The straight way


def test_each_cell_is_run_once_and_the_manifest_ties_the_numbers_to_it(bench: Bench) -> None:
    measured = bench.measure()
    assert (measured.ending, measured.run_id, measured.executed) == (Ending.DONE, "run_0001", 6)
    assert [key.split(".")[3] for key in bench.world.submitted] == TRIALS, "pair by pair, baselines first"
    manifest = bench.manifest()
    assert manifest == measured.manifest
    assert (manifest.status, manifest.comparisons[0].verdict) == ("completed", Verdict.SUPPORTED)
    assert sorted(trial.trial for trial in manifest.trials) == sorted(TRIALS)
    assert manifest.lab_id == Lab(bench.root).lab_id
    assert [(arm.name, arm.role, arm.code, arm.settings) for arm in manifest.arms] == [
        ("baseline", "baseline", "base", {}),
        ("steep", "variant", "candidate", {"width": 4}),
    ]
    assert (manifest.kind, manifest.pairs, manifest.direction) == (RunKind.SEARCH, 3, "minimize")
    assert manifest.command == "{python} train.py" and manifest.lab["predict"]["command"].endswith("predict.py")
    by_index = {trial.index: set() for trial in manifest.trials}
    for trial in manifest.trials:
        by_index[trial.index].add(trial.seed)
        assert trial.score.keys() == {"val_loss", "accuracy"}
        assert trial.self_reported == {"train_loss": 0.5}
    assert [len(seeds) for seeds in by_index.values()] == [1, 1, 1], "arms share each seed"


def test_an_intent_is_recorded_before_anything_is_submitted(bench: Bench) -> None:
    bench.world.refuses = True
    measured = bench.measure()
    assert (measured.ending, measured.reason) == (Ending.INFRASTRUCTURE, "the scheduler does not answer")
    (intent,) = bench.events("submitted")
    bench.world.refuses = False
    assert bench.measure().ending is Ending.DONE
    assert bench.events("submitted") == [intent], "the same keys are used when it answers again"
    assert bench.world.submitted == intent["keys"]


# Killed and taken up


@pytest.mark.parametrize("after", range(1, 7))
def test_an_engine_killed_after_any_trial_leaves_the_rest_to_the_next(bench: Bench, after: int) -> None:
    lines: list[str] = []

    def dies(text: str) -> None:
        lines.append(text)
        if len(lines) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.measure(tell=dies)
    assert len(bench.trials()) == after
    measured = bench.measure()
    assert (measured.ending, measured.executed) == (Ending.DONE, 6 - after)
    assert len(bench.world.submitted) == len(set(bench.world.submitted)) == 6
    assert list(bench.trials()) == TRIALS
    assert len(bench.events("run_started")) == 1
    assert bench.manifest().status == "completed"


def test_a_run_that_ended_and_was_not_acted_on_is_read_and_not_measured_again(bench: Bench) -> None:
    first = bench.measure()
    again = bench.measure()
    assert (again.ending, again.run_id, again.executed) == (Ending.DONE, first.run_id, 0)
    assert len(bench.world.submitted) == 6
    assert len(bench.events("run_ended")) == 1


# Lost, cancelled, not fetched


def test_a_lost_attempt_is_repeated_with_the_same_seed(bench: Bench) -> None:
    bench.world.outcomes = {"steep-s1": ["lost", "completed"]}
    assert bench.measure().ending is Ending.DONE
    trial = bench.trials()["steep-s1"]
    assert (trial["attempt"], trial["key"].rpartition(".")[2]) == (2, "a2")
    assert trial["seed"] == bench.trials()["baseline-s1"]["seed"]
    assert [(lost["trial"], lost["attempt"]) for lost in bench.events("trial_lost")] == [("steep-s1", 1)]


def test_a_trial_lost_again_and_again_is_the_infrastructures_and_counts_on(bench: Bench) -> None:
    bench.world.outcomes = {"steep-s1": ["lost"] * (MAX_LOST + 1) + ["completed"]}
    measured = bench.measure()
    assert (measured.ending, measured.manifest) == (Ending.INFRASTRUCTURE, None)
    assert measured.reason == f"trial steep-s1 was lost {MAX_LOST} times: it was lost"
    assert bench.measure().ending is Ending.DONE
    assert bench.trials()["steep-s1"]["attempt"] == MAX_LOST + 2


def test_pausing_again_and_again_is_no_loss(bench: Bench) -> None:
    bench.world.queued = {"steep-s2"}
    for _ in range(MAX_LOST + 1):
        looks = iter([False, True])
        assert bench.measure(stop=lambda looks=looks: next(looks)).ending is Ending.PAUSED
    bench.world.queued = set()
    assert bench.measure().ending is Ending.DONE
    assert bench.trials()["steep-s2"]["attempt"] == MAX_LOST + 2
    assert len(bench.trials()) == 6


def test_pausing_a_trial_that_was_lost_before_is_pausing(bench: Bench) -> None:
    bench.world.outcomes = {"steep-s2": ["lost"] * (MAX_LOST - 1) + ["completed"]}

    def stop() -> bool:
        """Once the next attempt would be one too many to lose, it stays in the queue; then a user stops the loop."""
        asked = "steep-s2" in bench.world.queued
        if sum(".steep-s2." in key for key in bench.world.submitted) == MAX_LOST - 1:
            bench.world.queued.add("steep-s2")
        return asked

    assert bench.measure(stop=stop).ending is Ending.PAUSED


def test_results_that_cannot_be_fetched_are_fetched_later_and_not_made_again(bench: Bench) -> None:
    bench.world.fetches = False
    measured = bench.measure()
    assert measured.ending is Ending.SYNC
    assert "rsync: connection reset" in measured.reason
    assert bench.trials() == {}
    bench.world.fetches = True
    assert bench.measure().ending is Ending.DONE
    assert len(bench.world.submitted) == 6


# Whose it is to fix


@pytest.mark.parametrize(
    ("outcomes", "ending", "reason"),
    [
        ({"steep-s0": ["failed"]}, Ending.CODE, "trial steep-s0: failed: it was failed"),
        ({"steep-s2": ["timeout"]}, Ending.CODE, "trial steep-s2: timeout"),
        ({"steep-s1": ["out_of_memory"]}, Ending.CODE, "trial steep-s1: out_of_memory"),
        ({"baseline-s0": ["failed"]}, Ending.BASELINE, "trial baseline-s0: failed"),
        ({"baseline-s0": ["failed"], "steep-s0": ["failed"]}, Ending.BASELINE, "trial baseline-s0: failed"),
        ({"baseline-s1": ["failed"], "steep-s0": ["failed"]}, Ending.CODE, "trial steep-s0: failed"),
        ({"steep-s0": ["tampered"]}, Ending.TAMPERED, "trial steep-s0: tampered"),
    ],
)
def test_the_ending_follows_the_first_failure_in_seed_order(
    bench: Bench, outcomes: dict[str, list[str]], ending: Ending, reason: str
) -> None:
    bench.world.outcomes = outcomes
    measured = bench.measure()
    assert measured.ending is ending
    assert measured.reason.startswith(reason)
    manifest = bench.manifest()
    assert (manifest.status, manifest.comparisons) == ("failed", ()), "a failed run has no verdict"


# Reuse


def test_identical_trials_are_reused_and_recorded_as_such(bench: Bench) -> None:
    bench.measure("i1")
    bench.world.submitted.clear()
    measured = bench.measure("i2")
    assert (measured.ending, measured.executed, bench.world.submitted) == (Ending.DONE, 0, [])
    first, second = bench.trials("i1"), bench.trials("i2")
    for name in TRIALS:
        assert second[name]["reused_from"] == f"i1/run_0001/{name}"
        assert second[name]["score"] == first[name]["score"]
    assert bench.manifest(iteration_id="i2").comparisons == bench.manifest().comparisons


def test_what_differs_in_its_settings_is_run_and_the_baseline_reused(bench: Bench) -> None:
    bench.measure("i1")
    bench.world.submitted.clear()
    variants = [{"name": "steeper", "config_overrides": {"width": 5}}]
    assert bench.measure("i2", variants=variants).executed == 3
    assert {key.split(".")[3] for key in bench.world.submitted} == {"steeper-s0", "steeper-s1", "steeper-s2"}


def test_an_arm_of_another_name_with_the_same_content_is_reused(bench: Bench) -> None:
    bench.measure("i1")
    assert bench.measure("i2", variants=[{"name": "again", "config_overrides": {"width": 4}}]).executed == 0
    assert bench.trials("i2")["again-s0"]["reused_from"] == "i1/run_0001/steep-s0"


def test_a_failed_trial_is_never_reused(bench: Bench) -> None:
    bench.world.outcomes = {"steep-s2": ["failed"]}
    assert bench.measure("i1").ending is Ending.CODE
    bench.world.outcomes = {}
    assert bench.measure("i2").ending is Ending.DONE
    assert bench.trials("i2")["steep-s2"]["reused_from"] is None


def test_all_trainings_of_a_run_get_the_limit_that_it_began_with(bench: Bench) -> None:
    """A calibration since then changes neither it nor the protocol, and what is known stays known."""
    free = {"train": Train(command="{python} -S -B train.py")}
    bench.world.queued = {"steep-s2"}
    looks = iter([False, True])
    paused = bench.measure(config=free, slowest_s=8.0, stop=lambda: next(looks))
    assert paused.ending is Ending.PAUSED
    bench.world.queued = set()
    assert bench.measure(config=free, slowest_s=30.0).run_id == paused.run_id
    steps = [job.steps[0] for job in bench.world.jobs.values()]
    assert {(step.time_limit_s, step.time_limit_origin) for step in steps} == {
        (80.0, "10 times the calibration's slowest; train.time_limit_s")
    }
    assert bench.manifest().time_limit == TimeLimit(seconds=80.0, source="calibration")
    [started] = bench.events("run_started")
    assert started["time_limit"] == {"seconds": 80.0, "source": "calibration"}
    later = bench.measure("i2", config=free, slowest_s=30.0)
    assert later.executed == 0 and bench.manifest(iteration_id="i2").protocol == bench.manifest().protocol
    assert bench.manifest(iteration_id="i2").time_limit == TimeLimit(seconds=300.0, source="calibration")


def test_a_limit_that_the_user_sets_holds_at_once(bench: Bench) -> None:
    free = {"train": Train(command="{python} -S -B train.py")}
    bench.world.queued = {"steep-s2"}
    looks = iter([False, True])
    assert bench.measure(config=free, slowest_s=8.0, stop=lambda: next(looks)).ending is Ending.PAUSED
    bench.world.queued = set()
    bench.measure(slowest_s=8.0)
    last = bench.world.jobs[bench.world.submitted[-1]].steps[0]
    assert (last.time_limit_s, last.time_limit_origin) == (30.0, "")
    assert bench.manifest().time_limit == TimeLimit(seconds=30.0, source="config")


# What it stands on


def test_a_run_whose_ground_changed_under_it_is_abandoned_and_measured_anew(bench: Bench) -> None:
    bench.world.queued = {"steep-s2"}
    looks = iter([False, True])
    assert bench.measure(stop=lambda: next(looks)).ending is Ending.PAUSED
    before = bench.trials()
    config = bench.root / ".autolab" / "config.yaml"
    config.write_text(config.read_text().replace("data: data/train", "data: models"))
    bench.world.queued = set()
    measured = bench.measure()
    assert (measured.ending, measured.run_id) == (Ending.DONE, "run_0002")
    assert {t.seed for t in bench.manifest("run_0002").trials}.isdisjoint(t["seed"] for t in before.values())
    left = bench.manifest("run_0001")
    assert (left.status, left.reason) == ("failed", "abandoned: what it was measured with has changed since it began")
    assert [line["run_id"] for line in bench.events("run_ended")] == ["run_0001", "run_0002"]


def test_an_abandoned_run_is_not_taken_up_when_the_ground_changes_once_more(bench: Bench) -> None:
    bench.world.queued = {"steep-s2"}
    for data in ("data/train", "models"):
        config = bench.root / ".autolab" / "config.yaml"
        config.write_text(config.read_text().replace("data: data/train", f"data: {data}"))
        looks = iter([False, True])
        assert bench.measure(stop=lambda looks=looks: next(looks)).ending is Ending.PAUSED
    config.write_text(config.read_text().replace("data: models", "data: paper"))
    bench.world.queued = set()
    measured = bench.measure()
    assert (measured.ending, measured.run_id) == (Ending.DONE, "run_0003")
    protocols = [line["protocol"] for line in bench.events("run_started")]
    assert len(set(protocols)) == 3
    assert [line["run_id"] for line in bench.events("run_ended")] == ["run_0001", "run_0002", "run_0003"]


# A rule that may stop early


SEQUENTIAL = {"reproducibility": {"seeds": {"max_pairs": 12}}, "test": {"rule": "sequential", "max_pairs": 12}}


def uneven(arm: str, seed: int) -> float:
    """A gain that shows through its noise after some pairs, and other arms that have none."""
    own = random.Random(f"{arm} {seed}").uniform(-0.03, 0.03)
    return (0.7 if arm == "steep" else 0.6) + own


def anew(plan: Plan) -> Plan:
    return replace(plan, arms=tuple(replace(arm, fresh=True) for arm in plan.arms))


def submitted(world: World) -> dict[str, int]:
    """Trials by arm that the executor was given; those of an arm are the first of its seeds."""
    found: dict[str, int] = {}
    for key in world.submitted:
        arm, _, index = key.split(".")[3].rpartition("-s")
        assert int(index) == found.get(arm, 0), "in seed order"
        found[arm] = int(index) + 1
    return found


def decides_at(manifest: Manifest, arm: str, arms: int = 1) -> int:
    """The first pair at which the rule decides, by the scores in the manifest; an independent look at each prefix."""
    assert manifest.rule is not None
    loss = {(trial.arm, trial.index): trial.score["val_loss"] for trial in manifest.trials}
    gains = [loss["baseline", i] - loss[arm, i] for i in range(12) if {("baseline", i), (arm, i)} <= loss.keys()]
    rule = {"delta": 0.05, "rule": manifest.rule, "planned": 12, "arms": arms}
    return next(n for n in range(1, 13) if rules.decide(gains[:n], **rule).final)


def test_a_sequential_run_submits_a_few_pairs_ahead_and_goes_on_until_the_rule_decides(bench: Bench) -> None:
    bench.world.right = uneven
    measured = bench.measure(**SEQUENTIAL)
    assert measured.ending is Ending.DONE
    manifest = bench.manifest()
    (compared,) = manifest.comparisons
    assert compared.verdict is Verdict.SUPPORTED
    assert compared.pairs == compared.difference.n == decides_at(manifest, "steep")
    assert measurement.AHEAD < compared.pairs <= 12, "more than was submitted at first"
    given = submitted(bench.world)
    assert given["baseline"] == given["steep"] <= min(12, compared.pairs - 1 + measurement.AHEAD)
    ahead = [len(line["keys"]) for line in bench.events("submitted")]
    assert max(ahead) <= measurement.AHEAD * 2, "two pairs of two arms"


def test_what_still_runs_when_the_rule_has_decided_is_cancelled_and_leaves_no_trial(bench: Bench) -> None:
    bench.world.slow = {"baseline-s5", "steep-s5"}
    measured = bench.measure(**SEQUENTIAL)
    (compared,) = bench.manifest().comparisons
    assert (measured.ending, compared.pairs, measured.executed) == (Ending.DONE, 5, 10)
    late = {key for key in bench.world.submitted if key.split(".")[3] in bench.world.slow}
    assert len(late) == 2 and late == bench.world.cancelled
    assert {trial.index for trial in bench.manifest().trials} == set(range(5))


def test_whoever_finishes_first_the_comparisons_are_the_same(bench: Bench) -> None:
    bench.world.right = uneven
    variants = [{"name": "steep", "config_overrides": {"width": 4}}, {"name": "flat"}]
    found = []
    for number in range(2):
        bench.world.chance = random.Random(number) if number else None
        measured = bench.measure(f"i{number}", plan=anew, variants=variants, **SEQUENTIAL)
        assert measured.ending is Ending.DONE
        found.append(bench.manifest(iteration_id=f"i{number}").comparisons)
    assert found[0] == found[1]


def test_a_decided_arm_gets_no_more_trials_while_another_goes_on(bench: Bench) -> None:
    seeds: list[int] = []

    def right(arm: str, seed: int) -> float:
        """Every other pair of `late` shows a gain, the others hardly one."""
        seeds.extend([seed] if seed not in seeds else [])
        return likely(arm, seed) + (0.15 - 0.13 * (seeds.index(seed) % 2) if arm == "late" else 0)

    bench.world.right = right
    variants = [{"name": "steep", "config_overrides": {"width": 4}}, {"name": "late"}]
    assert bench.measure(variants=variants, **SEQUENTIAL).ending is Ending.DONE
    manifest = bench.manifest()
    pairs = {compared.arm: compared.pairs for compared in manifest.comparisons}
    assert pairs == {arm: decides_at(manifest, arm, 2) for arm in ("steep", "late")}
    given = submitted(bench.world)
    assert pairs["steep"] == 5 < pairs["late"], "the steadier gain shows first"
    assert given["steep"] <= pairs["steep"] - 1 + measurement.AHEAD
    assert given["baseline"] >= pairs["late"]


def test_trainings_whose_seed_changes_nothing_are_decided_over_parts_of_the_evaluation(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LEAST", len(LABELS) // evaluation.PARTS)
    rows = np.random.default_rng(0).uniform(-0.05, 0.05, size=(2, len(LABELS)))
    bench.world.right = lambda arm, seed: 0.6 + rows[0] if arm == "baseline" else 0.8 + rows[1]
    measured = bench.measure(**SEQUENTIAL)
    (compared,) = bench.manifest().comparisons
    assert (compared.verdict, compared.reason) == (Verdict.SUPPORTED, "deterministic")
    assert (compared.pairs, compared.difference.n, measured.executed) == (2, evaluation.PARTS, 4)
    for arm in ("baseline", "steep"):
        first, second = (trial for trial in bench.manifest().trials if trial.arm == arm)
        assert (first.parts, len(second.parts)) == ((), evaluation.PARTS)
        assert np.mean(second.parts) == pytest.approx(second.score["val_loss"]), "equal parts of the same rows"
    shown = bench.root / "experiments" / "i1" / "runs" / "run_0001" / "trials"
    assert not list(shown.rglob("parts"))


# Fresh arms, and the holdout of a confirmation


def held(lab: Lab, key: str) -> Path:
    return record_of(lab, "i1", (), 0).held(key)


def stored(bench: Bench) -> dict[str, bytes]:
    folder = bench.root / ".git" / "autolab" / "trials"
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}


def test_a_fresh_arm_is_run_although_it_is_known_and_is_not_kept_for_reuse(bench: Bench) -> None:
    bench.measure("i1")
    before = stored(bench)
    assert len(before) == 6
    assert bench.measure("i2", plan=anew).executed == 6
    assert all(trial["reused_from"] is None for trial in bench.trials("i2").values())
    assert stored(bench) == before
    other = [{"name": "steep", "config_overrides": {"width": 9}}]
    assert bench.measure("i3", plan=anew, variants=other).executed == 6
    assert stored(bench) == before, "what is fresh is nobody else's"


def test_a_confirmation_predicts_for_the_holdout_and_keeps_that_out_of_sight(bench: Bench) -> None:
    shutil.copytree(bench.root / "data" / "eval", bench.root / "data" / "holdout")
    evaluate = Lab(bench.root).config().evaluate
    assert evaluate is not None
    config = {"evaluate": evaluate.model_copy(update={"holdout": "data/holdout"})}

    def confirmation(plan: Plan) -> Plan:
        assert plan.rule is not None
        return confirmation_plan(plan, "steep", plan.rule, (11, 12, 13))

    assert bench.measure(config=config).ending is Ending.DONE
    assert {step.name for job in bench.world.jobs.values() for step in job.steps} == {"train", "predict"}
    searched = set(bench.world.jobs)
    measured = bench.measure(config=config, kind=RunKind.CONFIRM, plan=confirmation)
    assert (measured.ending, measured.run_id, measured.executed) == (Ending.DONE, "run_0002", 6)
    manifest, lab = bench.manifest("run_0002"), Lab(bench.root)
    assert (manifest.kind, {trial.seed for trial in manifest.trials}) == (RunKind.CONFIRM, {11, 12, 13})
    for trial in manifest.trials:
        assert [step.name for step in bench.world.jobs[trial.key].steps] == ["train", "predict", "holdout"]
        kept = held(lab, trial.key)
        assert kept.is_relative_to(lab.store) and np.load(kept).shape == (len(LABELS), 2)
    assert not any(held(lab, key).exists() for key in searched)
    shown = bench.root / "experiments" / "i1" / "runs"
    assert len(list(shown.glob("run_0002/trials/*/a1/predict/predictions.npy"))) == 6
    assert not list(shown.rglob("holdout*"))


def test_reuse_is_far_cheaper_than_a_trial_that_costs_nothing_to_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    took: dict[str, float] = {}
    reuse = TrialLog.reuse

    def timed(log: TrialLog, cells: Collection[Cell], *others: Any) -> None:
        began = time.perf_counter()
        reuse(log, cells, *others)
        took["reuse"] = (time.perf_counter() - began) / len(cells)

    began = time.perf_counter()
    assert bench.measure("i1").executed == 6
    executing = (time.perf_counter() - began) / 6
    monkeypatch.setattr(TrialLog, "reuse", timed)
    assert bench.measure("i2").executed == 0
    assert took["reuse"] < executing / 5, "even where the training itself takes no time at all"
