"""Screens and claims as runs: a batch with a commit an arm, and pairs that go on in a later iteration."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_kit import TINY, Bench, Elsewhere, World, batch, design

from autolab.cli import init
from autolab.cli.view import Plain
from autolab.errors import RecordError
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, Champion, ClaimedPair, Claims
from autolab.lab.schemas.config import Config, ExecutorConfig, StoppingRule
from autolab.lab.schemas.experiment import Confirmation, Interval, Manifest
from autolab.lab.schemas.outcomes import DropReason, RunKind, Verdict
from autolab.reports.measured_run import read_run
from autolab.stats import rules
from autolab.stats.plan import Plan, recorded_plan
from autolab.stats.screening import dropped_arms
from autolab.trials import champion, reproduce
from autolab.trials.confirmation import claim_of, conclude, count_claim, plan_claim
from autolab.trials.holdout_question import HoldoutQuestion
from autolab.trials.lab_inputs import inputs_of, record_of
from autolab.trials.measurement import Ending, Measured

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Elsewhere, "world", World())
    return Bench(init.make_lab(tmp_path / "lab", str(TINY), seed=1).root, Elsewhere.world)


# Screens


def better(**right: float) -> Callable[[str, int], float]:
    """How likely each arm is right, whatever the seed."""
    return lambda arm, seed: right.get(arm, 0.6) + seed / 10_000


def test_a_batch_is_one_run_whose_manifest_names_the_commit_of_each_idea(bench: Bench) -> None:
    bench.world.right = better(h1=0.7, h2=0.9)
    wanted = batch(bench, "h1", "h2", "h3")
    bench.world.outcomes = {"h3-s0": ["failed"]}
    measured = bench.measure(**wanted)
    assert (measured.ending, measured.reason, measured.executed) == (Ending.DONE, "screened", 4)
    manifest = bench.manifest()
    assert (manifest.kind, manifest.rule, manifest.status) == (RunKind.SCREEN, None, "completed")
    assert {arm.name: arm.commit for arm in manifest.arms} == {"baseline": None} | wanted["commits"]
    assert (manifest.pairs, manifest.arm_seeds, manifest.bound) == (1, 1, 9.0)
    assert [compared.arm for compared in manifest.comparisons] == ["h1", "h2"]
    assert all(compared.verdict is Verdict.INCONCLUSIVE for compared in manifest.comparisons)
    by_arm = {trial.arm: trial.commit for trial in manifest.trials}
    assert by_arm == {"baseline": Lab(bench.root).git.head()} | wanted["commits"]
    dropped = dropped_arms(recorded_plan(manifest, None, None, None), manifest.trials)
    assert {name: why.reason for name, why in dropped.items()} == {"h3": DropReason.FAILED}


def test_documents_read_a_batch_from_its_manifest_alone(bench: Bench) -> None:
    bench.world.right = better(h1=0.7, h2=0.9)
    bench.world.outcomes = {"h3-s0": ["timeout"]}
    bench.measure(**batch(bench, "h1", "h2", "h3"))
    found = read_run(bench.root / "experiments" / "i1", bench.manifest(), None, None)
    assert (found.judgement.lead, found.judgement.reason) == ("h2", "screened")
    assert found.metrics.arms.keys() == {"baseline", "h1", "h2"}
    (first, second) = (found.gains(compared) for compared in found.judgement.comparisons)
    assert 0 < first[0] < second[0]


def test_half_of_a_batch_gets_the_second_seed(bench: Bench) -> None:
    bench.world.right = better(h1=0.7, h2=0.9, h3=0.8, h4=0.65)
    assert bench.measure(**batch(bench, "h1", "h2", "h3", "h4", arm_seeds=3, baseline_seeds=3)).executed == 5 + 3 + 2
    trials = {trial.trial for trial in bench.manifest().trials}
    assert {name for name in trials if name.endswith(("s1", "s2"))} == {
        *("baseline-s1", "h2-s1", "h3-s1"),
        *("baseline-s2", "h2-s2"),
    }


@pytest.mark.parametrize("after", range(1, 7))
def test_a_batch_that_was_killed_goes_on_where_it_was(bench: Bench, after: int) -> None:
    bench.world.right = better(h1=0.7, h2=0.9)
    wanted = batch(bench, "h1", "h2", "h3", arm_seeds=2, baseline_seeds=2)
    bench.world.outcomes = {"h3-s0": ["failed"]}
    lines: list[str] = []

    def dies(text: str) -> None:
        lines.append(text)
        if len(lines) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.measure(tell=dies, **wanted)
    measured = bench.measure(**wanted)
    assert (measured.ending, measured.executed) == (Ending.DONE, 6 - after)
    assert len(bench.world.submitted) == 6 and len(bench.events("run_started")) == 1
    lengths = {compared.arm: compared.difference.n for compared in bench.manifest().comparisons}
    assert lengths == {"h1": 1, "h2": 2}


def test_the_next_batch_does_not_measure_the_baseline_anew(bench: Bench) -> None:
    bench.measure("i1", **batch(bench, "h1"))
    assert bench.measure("i2", **batch(bench, "h2")).executed == 1
    assert bench.trials("i2")["baseline-s0"]["reused_from"] == "i1/run_0001/baseline-s0"


def test_a_baseline_that_fails_is_the_users_and_tampering_stops_the_lab(bench: Bench) -> None:
    bench.world.outcomes = {"baseline-s0": ["failed"]}
    assert bench.measure("i1", **batch(bench, "h1")).ending is Ending.BASELINE
    bench.world.outcomes = {"h2-s0": ["tampered"]}
    assert bench.measure("i2", **batch(bench, "h2")).ending is Ending.TAMPERED


def test_a_batch_without_ideas_ends_without_a_trial(bench: Bench) -> None:
    measured = bench.measure(**batch(bench))
    assert (measured.ending, measured.reason, measured.executed) == (Ending.DONE, "screened", 0)
    assert bench.world.submitted == []
    manifest = bench.manifest()
    assert (manifest.status, manifest.trials, manifest.comparisons) == ("completed", (), ())
    assert read_run(bench.root / "experiments" / "i1", manifest, None, None).judgement.lead is None


def reproduced(bench: Bench, manifest: Manifest) -> str | None:
    with Lab(bench.root).hold("a test") as lab:
        config = lab.config().model_copy(update={"executor": ExecutorConfig(name="bench_kit:Elsewhere")})
        found = reproduce.reproduce_run(lab, config, manifest, [], Plain(lambda text: None), lambda: False)
    return found.standing if found else None


def test_a_batch_is_reproduced_with_the_commit_of_each_idea(bench: Bench) -> None:
    bench.world.right = better(h1=0.7, h2=0.9)
    bench.world.outcomes = {"h3-s0": ["failed"]}
    wanted = batch(bench, "h1", "h2", "h3")
    bench.measure(**wanted)
    manifest = bench.manifest()
    assert reproduced(bench, manifest) == "identical"
    again = bench.manifest("reproduction_0001")
    assert {trial.arm: trial.commit for trial in again.trials} == {
        "baseline": Lab(bench.root).git.head(),
        "h1": wanted["commits"]["h1"],
        "h2": wanted["commits"]["h2"],
    }
    arms = [arm.model_copy(update={"commit": None}) for arm in manifest.arms]
    with pytest.raises(RecordError, match="does not say what ran"):
        reproduced(bench, manifest.model_copy(update={"arms": tuple(arms)}))


# Claims

CLAIM = ClaimedPair(base_tree="a", tree="b", number=1, alpha=0.005)
SEVERAL = {"reproducibility": {"seeds": {"max_pairs": 12}}}


def with_holdout(bench: Bench) -> dict[str, Any]:
    """The keys of a configuration with a holdout, which is the evaluation split once more."""
    shutil.copytree(bench.root / "data" / "eval", bench.root / "data" / "holdout", dirs_exist_ok=True)
    evaluate = Lab(bench.root).config().evaluate
    assert evaluate is not None
    return {"evaluate": evaluate.model_copy(update={"holdout": "data/holdout"})}


def claim(bench: Bench, iteration_id: str, seeds: Sequence[int], **more: Any) -> Measured:
    def plan(whole: Plan) -> Plan:
        rule = StoppingRule(alpha=CLAIM.alpha)
        return replace(whole, seeds=tuple(seeds), rule=rule)

    return bench.measure(iteration_id, kind=RunKind.CLAIM, plan=plan, config=with_holdout(bench), **SEVERAL, **more)


def held(bench: Bench, manifest: Manifest) -> list[str]:
    """The trials whose predictions for the holdout are there."""
    record = record_of(Lab(bench.root), manifest.iteration_id, (), 0)
    return [trial.trial for trial in manifest.trials if record.held(trial.key).is_file()]


def test_a_claim_goes_on_with_the_pairs_that_it_has_and_their_predictions_for_the_holdout(bench: Bench) -> None:
    first = claim(bench, "i1", range(100, 103))
    assert (first.ending, first.executed) == (Ending.DONE, 6)
    assert len(held(bench, bench.manifest())) == 6
    second = claim(bench, "i2", range(100, 106))
    manifest = bench.manifest(iteration_id="i2")
    assert second.executed <= 6 and manifest.comparisons[0].pairs == 5, "it is shown after five pairs"
    assert sum(trial.reused_from is not None for trial in manifest.trials) == 6
    assert len(held(bench, manifest)) == len(manifest.trials)


def test_a_pair_whose_predictions_for_the_holdout_are_gone_is_measured_again(bench: Bench) -> None:
    claim(bench, "i1", range(100, 103))
    record = record_of(Lab(bench.root), "i1", (), 0)
    for trial in bench.manifest().trials[:2]:
        record.held(trial.key).unlink()
    said: list[str] = []
    claim(bench, "i2", range(100, 104), tell=said.append)
    assert "2 trials are known, and run again: their predictions for the holdout are gone" in said
    manifest = bench.manifest(iteration_id="i2")
    assert len(held(bench, manifest)) == len(manifest.trials) == 8
    # What ran again is what is found from now on.
    said.clear()
    assert claim(bench, "i3", range(100, 104), tell=said.append).executed == 0
    assert not any("and run again" in line for line in said)


def test_a_claim_without_a_holdout_takes_what_is_known(bench: Bench) -> None:
    def plan(whole: Plan) -> Plan:
        return replace(whole, seeds=(100, 101, 102), rule=StoppingRule())

    assert bench.measure("i1", kind=RunKind.CLAIM, plan=plan, **SEVERAL).executed == 6
    assert bench.measure("i2", kind=RunKind.CLAIM, plan=plan, **SEVERAL).executed == 0


def concluded(bench: Bench, iteration_id: str, passed: bool, **more: Any) -> Confirmation:
    lab = Lab(bench.root)
    config = lab.config().model_copy(update=with_holdout(bench))
    head = lab.git.head() or ""
    confirm = bench.manifest(iteration_id=iteration_id)
    with lab.hold("a test") as lab:
        question = HoldoutQuestion(
            record=record_of(lab, iteration_id, list(lab.ledger.lines(bench.begins[iteration_id])), 0),
            confirm=confirm,
            claims=Claims(),
            allowed=20,
            inputs=lambda: inputs_of(lab, config, head, head),
            tell=lambda text: None,
        )
        return conclude(question, confirm, passed, **more)


def test_a_claim_is_reproduced_with_the_pairs_that_it_took_over(bench: Bench) -> None:
    claim(bench, "i1", range(100, 103))
    claim(bench, "i2", range(100, 104))
    manifest = bench.manifest(iteration_id="i2")
    assert any(trial.reused_from for trial in manifest.trials)
    assert reproduced(bench, manifest) == "identical"
    again = bench.manifest("reproduction_0001", "i2")
    assert len(again.trials) == len(manifest.trials) and not any(trial.reused_from for trial in again.trials)
    campaign = Campaign(champions=(champion_of(manifest),))
    assert champion.fallen(campaign, manifest)[1] == campaign.champions, "as one that a confirmation made"


def champion_of(manifest: Manifest) -> Champion:
    return Champion(
        iteration_id=manifest.iteration_id,
        run_id=manifest.run_id,
        commit="c",
        parent="p",
        protocol="e",
        gain=1.0,
        metrics={},
    )


def test_predictions_of_an_undecided_claim_wait_until_it_is_decided(bench: Bench) -> None:
    claim(bench, "i1", range(100, 103))
    assert bench.manifest().comparisons[0].reason == "budget"
    undecided = concluded(bench, "i1", False, number=4)
    assert (undecided.outcome, undecided.claim, undecided.alpha) == ("retracted", 4, CLAIM.alpha)
    assert len(held(bench, bench.manifest())) == 6
    # Another claim is refuted meanwhile: only its own go.
    bench.world.right = lambda arm, seed: 0.6 if arm == "steep" else 0.9 + seed / 10_000
    claim(bench, "i2", range(200, 212))
    assert len(held(bench, bench.manifest(iteration_id="i2"))) > 0
    assert concluded(bench, "i2", False).outcome == "retracted"
    assert held(bench, bench.manifest(iteration_id="i2")) == []
    assert len(held(bench, bench.manifest())) == 6


def test_a_claim_that_was_continued_is_asked_about_on_the_holdout_with_all_of_its_pairs(bench: Bench) -> None:
    claim(bench, "i1", range(100, 103))
    concluded(bench, "i1", False)
    bench.world.right = lambda arm, seed: (0.9 if arm == "steep" else 0.6) + seed / 10_000
    claim(bench, "i2", range(100, 106))
    found = concluded(bench, "i2", True)
    assert (found.holdout, found.outcome, found.run_id) == ("passed", "kept", "run_0001")
    assert not (Lab(bench.root).store / "held").exists()
    assert concluded(bench, "i2", True) == found, "what is concluded is read"


# What the campaign remembers of claims


def test_the_next_claim_of_a_protocol_is_stricter_and_the_same_two_trees_go_on() -> None:
    test = StoppingRule()
    first = claim_of(Claims(), "p", "base", "one", test)
    assert (first.number, first.alpha, first.pairs) == (1, 0.005, 0)
    claims = count_claim(Claims(), confirmation(first, pairs=7), "p", first)
    assert claims.alphas == (first.model_copy(update={"pairs": 7}),)
    second = claim_of(claims, "p", "base", "two", test)
    assert (second.number, second.alpha) == (2, pytest.approx(0.005 / 3))
    assert claim_of(claims, "p", "base", "one", test) == claims.alphas[0]
    assert claim_of(claims, "another", "base", "one", test).number == 1


def test_a_claim_that_goes_on_is_counted_once() -> None:
    first = claim_of(Claims(), "p", "base", "one", StoppingRule())
    once = count_claim(Claims(), confirmation(first, pairs=7), "p", first)
    twice = count_claim(
        once, confirmation(first, "kept", pairs=11), "p", claim_of(once, "p", "base", "one", StoppingRule())
    )
    assert (once.confirmations, once.alpha, once.kept) == (1, 0.005, 0)
    assert (twice.confirmations, twice.alpha, twice.kept) == (1, 0.005, 1)
    assert [pair.pairs for pair in twice.alphas] == [11]
    other = claim_of(twice, "p", "base", "two", StoppingRule())
    thrice = count_claim(twice, confirmation(other, pairs=5), "p", other)
    assert (thrice.confirmations, thrice.alpha) == (2, pytest.approx(0.005 + 0.005 / 3))
    assert count_claim(thrice, confirmation(other, pairs=5), "another").alphas == ()
    assert count_claim(thrice, confirmation(other, pairs=5), "p").alphas == thrice.alphas, "a confirmation is no claim"


def test_with_fdr_a_claim_gets_what_is_left_and_keeps_it() -> None:
    test = StoppingRule(fdr=0.05)
    claims = Claims(confirmations=1, kept=1, protocol="p")
    claim = claim_of(claims, "p", "base", "one", test)
    assert (claim.number, claim.alpha) == (1, rules.claim_alpha(0.05, 2, 1))
    later = count_claim(claims, confirmation(claim, pairs=5), "p", claim)
    assert claim_of(later, "p", "base", "one", test).alpha == claim.alpha


def confirmation(claim: ClaimedPair, outcome: str = "retracted", pairs: int = 5) -> Confirmation:
    gain = Interval(n=pairs, mean=1.0, low=0.5, high=1.5, level=0.99).value()
    value = {"run_id": "run_0001", "arm": "steep", "difference": gain, "shrunken": 0.9, "reason": "budget"}
    value |= {"holdout": "not_asked", "outcome": outcome, "claim": claim.number, "alpha": claim.alpha}
    return Confirmation.from_value(value, "confirmation")


METRIC = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.05}


def planned(left: int | None, pairs: int = 0, **test: Any) -> Plan | None:
    config = Config.from_value({"metric": METRIC, "test": {"confirm_pairs": 12} | test}, "config.yaml")
    claim = CLAIM.model_copy(update={"pairs": pairs})
    return plan_claim(design("i1", **SEVERAL), config, None, claim, tuple(range(12)), left)


@pytest.mark.parametrize(
    ("left", "pairs", "planned_pairs"),
    [
        *((None, 0, 12), (100, 0, 12), (15, 0, 7), (10, 0, 5), (9, 0, None), (-3, 0, None)),
        # Pairs that are measured cost nothing, and a claim without a new pair is none.
        *((4, 3, 5), (2, 3, None), (100, 5, 12), (1, 5, None), (100, 12, None), (None, 12, None)),
    ],
)
def test_a_claim_takes_the_pairs_that_the_budget_allows_and_begins_only_if_they_can_decide(
    left: int | None, pairs: int, planned_pairs: int | None
) -> None:
    plan = planned(left, pairs)
    assert (None if plan is None else len(plan.seeds)) == planned_pairs


def test_a_claim_asks_the_designs_question_at_its_own_error() -> None:
    plan = planned(None)
    assert plan is not None and plan.rule is not None
    assert [(arm.name, arm.fresh) for arm in plan.arms] == [("baseline", False), ("steep", False)]
    assert (plan.rule.rule, plan.rule.alpha, plan.delta, plan.seeds) == ("sequential", 0.005, 0.05, tuple(range(12)))


def test_a_claim_by_the_fixed_rule_needs_all_its_pairs() -> None:
    assert planned(23, rule="fixed") is None
    plan = planned(24, rule="fixed")
    assert plan is not None and len(plan.seeds) == 12
