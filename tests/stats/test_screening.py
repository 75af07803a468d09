"""A screen: the better half goes on, complete rungs decide, and nothing is claimed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from autolab.errors import RecordError
from autolab.executors.base import Phase
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import CutTrials, Manifest, Trial
from autolab.lab.schemas.outcomes import DropReason, Verdict
from autolab.stats.plan import Plan, PlannedArm, planned_cells, recorded_plan, recorded_screen_plan, reproduction_plan
from autolab.stats.screening import dropped_arms, screen_plan
from autolab.stats.verdict import cells_wanted, judge, trials_read
from autolab.trials.progress import Watch

CONFIG = Config.from_value({"metric": {"primary": "score", "direction": "maximize", "success_delta": 0.1}}, "config")
SEEDS = (11, 12, 13, 14)
IDEAS = ("a", "b", "c", "d")


def batch(*ideas: str, arm_seeds: int = 1, seeds: Sequence[int] = SEEDS, bound: float | None = None) -> Plan:
    arms = [PlannedArm("baseline", "baseline", "base", {})]
    arms += [PlannedArm(name, "variant", name, {}) for name in ideas]
    return screen_plan(arms, seeds, arm_seeds=arm_seeds, config=CONFIG, bound=bound)


def halving(*ideas: str, seeds: int = 4, bound: float | None = None) -> Plan:
    return batch(*ideas, arm_seeds=seeds, seeds=SEEDS[:seeds], bound=bound)


def trial(arm: str, index: int, score: float | None, outcome: str = "completed", message: str = "") -> Trial:
    value: dict[str, Any] = {
        "trial": f"{arm}-s{index}",
        "arm": arm,
        "index": index,
        "seed": SEEDS[index],
        "attempt": 1,
        "commit": "c0ffee",
        "key": f"k.{arm}-s{index}.a1",
        "content": "0",
        "outcome": outcome,
        "message": message,
        "self_reported": {} if score is None else {"score": score},
    }
    return Trial.from_value(value, "trial")


def run(plan: Plan, scores: Mapping[str, Sequence[float | str]], order: random.Random | None = None) -> list[Trial]:
    """Measure what the plan asks for until it is judged; a word in place of a score is the outcome of a trial."""
    trials: list[Trial] = []
    while not judge(plan, trials).done:
        cells = cells_wanted(plan, trials)
        assert cells, "a run that is not judged wants something"
        cell = cells[0] if order is None else order.choice(cells)
        score = scores[cell.arm][cell.index]
        if isinstance(score, str):
            trials.append(trial(cell.arm, cell.index, None, score))
        else:
            trials.append(trial(cell.arm, cell.index, score))
    return trials


def gains(plan: Plan, trials: Sequence[Trial]) -> dict[str, tuple[int, float]]:
    """Seeds and mean gain of each variant that was compared."""
    found = {}
    for compared in judge(plan, trials).comparisons:
        found[compared.arm] = (compared.difference.n, round(compared.difference.mean, 9))
    return found


# the plan


def test_one_seed_measures_the_baseline_and_each_idea_once() -> None:
    cells = planned_cells(batch("a", "b", seeds=SEEDS[:1]))
    assert [(cell.arm, cell.seed) for cell in cells] == [("baseline", 11), ("a", 11), ("b", 11)]


def test_a_baseline_may_have_more_seeds_than_the_ideas() -> None:
    cells = planned_cells(batch("a", "b"))
    assert [cell.trial for cell in cells] == [
        *("baseline-s0", "a-s0", "b-s0"),
        *("baseline-s1", "baseline-s2", "baseline-s3"),
    ]


@pytest.mark.parametrize("arm_seeds", [0, 5])
def test_an_idea_gets_one_seed_or_more_and_not_more_than_the_baseline(arm_seeds: int) -> None:
    with pytest.raises(ValueError, match="seeds of a variant"):
        batch("a", arm_seeds=arm_seeds)


def test_the_first_arm_is_the_only_baseline() -> None:
    arms = [PlannedArm("a", "variant", "a", {}), PlannedArm("baseline", "baseline", "base", {})]
    with pytest.raises(ValueError, match="its first arm"):
        screen_plan(arms, SEEDS, arm_seeds=1, config=CONFIG, bound=None)


# what it says


def test_a_screen_says_what_each_idea_gained_and_claims_nothing() -> None:
    plan = halving("a", "b", seeds=1)
    judgement = judge(plan, run(plan, {"baseline": [1.0], "a": [1.5], "b": [0.75]}))
    assert (judgement.status, judgement.verdict, judgement.reason) == ("completed", Verdict.INCONCLUSIVE, "screened")
    assert judgement.lead == "a"
    first, second = judgement.comparisons
    assert (first.arm, first.difference.mean, second.arm, second.difference.mean) == ("a", 0.5, "b", -0.25)
    assert (first.verdict, first.reason, first.pairs) == (Verdict.INCONCLUSIVE, "screened", 1)
    assert (first.difference.low, first.difference.high) == (None, None)


def test_of_four_ideas_two_get_the_second_seed_and_one_goes_on() -> None:
    plan = halving(*IDEAS)
    scores = {
        "baseline": [1.0, 2.0, 3.0, 4.0],
        "a": [1.1, 9.9, 9.9, 9.9],
        "b": [1.4, 2.1, 9.9, 9.9],
        "c": [1.2, 9.9, 9.9, 9.9],
        "d": [1.3, 2.5, 3.0, 4.0],
    }
    trials = run(plan, scores)
    assert gains(plan, trials) == {"a": (1, 0.1), "b": (2, 0.25), "c": (1, 0.2), "d": (4, 0.2)}
    assert judge(plan, trials).lead == "d", "what was seen to its end is before what once looked better"
    assert len(trials) == 5 + 3 + 2 + 2


def test_of_three_ideas_two_go_on() -> None:
    plan = halving("a", "b", "c", seeds=2)
    trials = run(plan, {"baseline": [0.0, 0.0], "a": [1.0, 1.0], "b": [2.0, 1.0], "c": [3.0, 1.0]})
    assert gains(plan, trials) == {"a": (1, 1.0), "b": (2, 1.5), "c": (2, 2.0)}


def test_a_lower_loss_is_better() -> None:
    config = Config.from_value({"metric": {"primary": "score", "direction": "minimize", "success_delta": 0.1}}, "c")
    arms = [PlannedArm("baseline", "baseline", "base", {})]
    arms += [PlannedArm(name, "variant", name, {}) for name in ("a", "b")]
    plan = screen_plan(arms, SEEDS[:2], arm_seeds=2, config=config, bound=None)
    trials = run(plan, {"baseline": [1.0, 1.0], "a": [1.5, 9.9], "b": [0.5, 0.75]})
    assert gains(plan, trials) == {"a": (1, -0.5), "b": (2, 0.375)}


def test_a_tie_goes_to_the_first_arm() -> None:
    plan = halving("b", "a", seeds=2)
    trials = run(plan, {"baseline": [0.0, 0.0], "a": [1.0, 1.0], "b": [1.0, 1.0]})
    assert gains(plan, trials) == {"b": (2, 1.0), "a": (1, 1.0)}
    one_seed = halving("b", "a", seeds=1)
    assert judge(one_seed, run(one_seed, {"baseline": [0.0], "a": [1.0], "b": [1.0]})).lead == "b"


def test_a_tie_that_comes_later_goes_to_the_first_arm_too() -> None:
    plan = halving("a", "b", "c", "d", seeds=3)
    trials = run(plan, {"baseline": [0.0] * 3, "a": [1.0, 2.0, 0.0], "b": [2.0, 1.0, 0.0], "c": [0.5], "d": [0.5]})
    assert gains(plan, trials) == {"a": (3, 1.0), "b": (2, 1.5), "c": (1, 0.5), "d": (1, 0.5)}


def test_ideas_are_compared_with_the_mean_of_a_baseline_that_has_more_seeds() -> None:
    plan = batch("a", "b", arm_seeds=2)
    trials = run(plan, {"baseline": [1.0, 2.0, 3.0, 6.0], "a": [4.0, 6.0], "b": [3.0]})
    assert gains(plan, trials) == {"a": (2, 2.0), "b": (1, 0.0)}
    assert len(trials) == 4 + 3


def test_it_does_not_matter_who_finishes_first() -> None:
    scores = {"baseline": [0.0, 1.0, 2.0, 3.0]}
    for place, idea in enumerate(IDEAS):
        scores[idea] = [random.Random(f"{place}.{index}").gauss(0, 1) for index in range(4)]
    for plan in (halving(*IDEAS), batch(*IDEAS, arm_seeds=2)):
        expected = judge(plan, run(plan, scores))
        for seed in range(20):
            trials = run(plan, scores, random.Random(seed))
            assert judge(plan, trials) == expected
            assert trials_read(plan, trials) == trials_read(plan, run(plan, scores))


def test_trials_beyond_the_complete_rungs_are_not_read() -> None:
    plan = halving("a", "b", seeds=2)
    trials = run(plan, {"baseline": [0.0, 0.0], "a": [1.0, 1.0], "b": [2.0, 1.0]})
    # Reused from an earlier batch: a measured seed that the idea did not earn.
    more = [*trials, trial("a", 1, 99.0)]
    assert judge(plan, more) == judge(plan, trials)
    assert trials_read(plan, more) == trials_read(plan, trials)
    early = [trial("b", 1, 99.0), trial("baseline", 0, 0.0)]
    assert [cell.trial for cell in cells_wanted(plan, early)] == ["a-s0", "b-s0"]


# what fails


@pytest.mark.parametrize("outcome", ["failed", "timeout", "out_of_memory", "invalid_artifact", "disk_limit"])
def test_a_failed_idea_leaves_the_batch_and_the_others_go_on(outcome: str) -> None:
    plan = halving("a", "b", "c", seeds=2)
    trials = run(plan, {"baseline": [0.0, 0.0], "a": [outcome], "b": [1.0, outcome], "c": [0.5, 0.5]})
    judgement = judge(plan, trials)
    assert (judgement.status, judgement.reason, judgement.lead) == ("completed", "screened", "c")
    assert gains(plan, trials) == {"c": (1, 0.5)}, "of two ideas that ran, the better half is one"
    dropped = dropped_arms(plan, trials)
    assert {arm: why.reason for arm, why in dropped.items()} == {"a": DropReason.FAILED, "b": DropReason.FAILED}
    assert dropped["a"].message == f"trial a-s0: {outcome}"
    assert len(trials_read(plan, trials)) == 6, "the trials that failed are among those that count"


def test_an_idea_without_the_metric_leaves_the_batch() -> None:
    plan = halving("a", "b", seeds=1)
    trials = [trial("baseline", 0, 0.0), trial("a", 0, None), trial("b", 0, 1.0)]
    assert gains(plan, trials) == {"b": (1, 1.0)}
    assert dropped_arms(plan, trials)["a"].message == "trial a-s0: metric 'score' was not measured"


def test_a_batch_of_which_every_idea_failed_is_screened_and_has_no_lead() -> None:
    plan = halving("a", "b", seeds=3)
    trials = run(plan, {"baseline": [0.0], "a": ["failed"], "b": ["timeout"]})
    judgement = judge(plan, trials)
    assert (judgement.status, judgement.verdict, judgement.comparisons) == ("completed", Verdict.INCONCLUSIVE, ())
    assert judgement.lead is None and len(trials) == 3


def test_a_trial_that_was_ended_early_drops_its_idea_and_a_lost_one_is_repeated() -> None:
    plan = halving("a", "b", seeds=1)
    trials = [
        trial("baseline", 0, 0.0),
        trial("a", 0, None, "cancelled", "behind at step 4"),
        trial("b", 0, None, "lost"),
    ]
    assert [cell.trial for cell in cells_wanted(plan, trials)] == ["b-s0"]
    trials.append(trial("b", 0, 1.0))
    assert judge(plan, trials).lead == "b"
    assert dropped_arms(plan, trials)["a"] == (DropReason.PRUNED, "trial a-s0: cancelled: behind at step 4")


def test_a_baseline_that_fails_or_an_idea_that_tampers_fails_the_run() -> None:
    plan = halving("a", "b", seeds=1)
    trials = [trial("b", 0, None, "tampered"), trial("baseline", 0, None, "failed", "no data")]
    judgement = judge(plan, trials)
    assert (judgement.status, judgement.reason) == ("failed", "trial baseline-s0: failed: no data")
    tampered = [trial("baseline", 0, 0.0), trial("b", 0, None, "tampered")]
    assert judge(plan, tampered).status == "running", "an earlier trial may yet fail"
    tampered.append(trial("a", 0, None, "failed"))
    judgement = judge(plan, tampered)
    assert (judgement.status, judgement.reason) == ("failed", "trial b-s0: tampered")
    assert trials_read(plan, tampered)[-1].trial == "b-s0", "what ended the run is the last that is read"


@pytest.mark.parametrize("arm_seeds", [1, 4])
def test_a_batch_without_ideas_needs_no_trial(arm_seeds: int) -> None:
    plan = batch(arm_seeds=arm_seeds)
    assert planned_cells(plan) == cells_wanted(plan, []) == trials_read(plan, []) == []
    judgement = judge(plan, [])
    assert (judgement.status, judgement.verdict, judgement.reason) == ("completed", Verdict.INCONCLUSIVE, "screened")
    assert judge(plan, [trial("baseline", 0, 1.0)]) == judgement


# scores that are cut


def test_a_score_beyond_the_bound_counts_as_the_bound_and_is_counted() -> None:
    plan = halving("a", "b", seeds=2, bound=-1.0)
    trials = run(plan, {"baseline": [0.0, 0.0], "a": [-7.0], "b": [1.0, -9.0]})
    assert gains(plan, trials) == {"a": (1, -1.0), "b": (2, 0.0)}
    of_a, of_b = (compared.cut for compared in judge(plan, trials).comparisons)
    assert [(one.arm, one.trials, one.cut) for one in (*of_a, *of_b)] == [
        *(("baseline", 1, 0), ("a", 1, 1)),
        *(("baseline", 2, 0), ("b", 2, 1)),
    ]
    assert all(isinstance(one, CutTrials) for one in of_a)


# the record


def manifest_of(plan: Plan, trials: Sequence[Trial]) -> Manifest:
    value: dict[str, Any] = {
        "run_id": "run_0001",
        "iteration_id": "2026-02-12T23-30-00Z_batch3",
        "kind": "screen",
        "status": "completed",
        "git": {"control_plane_commit": "c0ffee", "base_commit": "c0ffee", "dirty": False},
        "location": "local",
        "command": "{python} train.py",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "2026-02-12T23:30:00Z",
        "artifacts": {},
        "metric": plan.metric,
        "direction": plan.direction,
        "success_delta": plan.delta,
        "self_reported": plan.self_reported,
        "bound": plan.bound,
        "pairs": len(plan.seeds),
        "arm_seeds": plan.arm_seeds,
        "arms": [{"name": arm.name, "role": arm.role, "code": arm.code} for arm in plan.arms],
        "trials": [one.value() for one in trials],
        "comparisons": [one.value() for one in judge(plan, trials).comparisons],
    }
    return Manifest.from_value(value, "run_manifest.json")


@pytest.mark.parametrize("plan", [halving(*IDEAS, bound=-0.5), batch(*IDEAS, arm_seeds=2, bound=-0.5)])
def test_the_manifest_alone_says_what_was_screened(plan: Plan) -> None:
    scores = {name: [0.1 * place - 0.5] * 4 for place, name in enumerate(("baseline", *IDEAS))}
    trials = run(plan, scores | {"d": ["failed"]})
    manifest = manifest_of(plan, trials)
    recorded = recorded_plan(manifest, None, None, None)
    assert recorded == recorded_screen_plan(manifest)
    assert judge(recorded, manifest.trials) == judge(plan, trials)
    assert manifest.comparisons == judge(recorded, manifest.trials).comparisons


def test_a_manifest_that_does_not_say_it_is_refused() -> None:
    plan = halving("a", seeds=1)
    manifest = manifest_of(plan, run(plan, {"baseline": [0.0], "a": [1.0]}))
    with pytest.raises(RecordError, match="arm_seeds: missing"):
        recorded_screen_plan(manifest.model_copy(update={"arm_seeds": None}))
    with pytest.raises(RecordError, match=r"design\.yaml: missing; run_0001 cannot be judged without it"):
        recorded_plan(Manifest.from_value(manifest.value() | {"kind": "search"}, "m"), None, None, None)


def test_a_reproduction_of_a_screen_reads_scores_as_it_did_and_measures_what_it_is_told() -> None:
    plan = batch("a", "b", bound=-0.5)
    trials = run(plan, {"baseline": [0.0] * 4, "a": [1.0], "b": [2.0]})
    again = reproduction_plan(manifest_of(plan, trials), trials[:2])
    assert (again.bound, again.arm_seeds) == (-0.5, None)
    assert sorted(cell.trial for cell in planned_cells(again)) == sorted(one.trial for one in trials[:2])


# watched


def test_whoever_watches_a_batch_sees_its_trials() -> None:
    plan = halving("a", "b", seeds=2)
    done: dict[str, Trial] = {}
    watch = Watch("run_0001", plan, done, 0, clock=itertools.count().__next__)
    watch.look({"baseline-s0": Phase.RUNNING, "a-s0": Phase.RUNNING})
    assert watch.progress().ends is None
    for one in run(plan, {"baseline": [0.0, 0.0], "a": ["failed"], "b": [1.0, 1.0]}):
        done[one.trial] = one
        watch.look({})
        progress = watch.progress()
    assert [(arm.name, arm.done, arm.planned) for arm in progress.arms] == [
        ("baseline", 2, 2),
        ("a", 1, 2),
        ("b", 2, 2),
    ]
    assert progress.pairs == () and progress.early, "half of the ideas may not be measured again"
    assert not Watch("run_0001", batch("a"), {}, 0).progress().early
