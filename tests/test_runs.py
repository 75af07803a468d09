"""A measurement: each cell once, whatever is lost on the way; the ending says whose it is to mend."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from autolab import init, runs
from autolab.errors import ExecutorError
from autolab.executors.base import Exit, Job, Phase, Ref, Status
from autolab.lab import Lab
from autolab.records.experiment import Design, Manifest
from autolab.records.lab import Where
from autolab.records.outcomes import Outcome, Verdict
from autolab.runs import MAX_LOST, Ending, Measured, Order
from autolab.view import Plain

TINY = Path(__file__).parent / "labs" / "tiny"
LABELS = np.load(TINY / "data" / "eval" / "labels.npy")
TRIALS = [f"{arm}-s{index}" for index in range(3) for arm in ("baseline", "steep")]


@pytest.fixture(autouse=True, scope="module")
def _no_power_cut() -> Iterator[None]:
    """Nobody here looks at the disk after a power cut, and a shared disk makes each fsync cost a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@dataclass
class World:
    """What happens to the trials of a run: outcomes by trial, an entry an attempt; the last one stays."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    submitted: list[str] = field(default_factory=list)
    queued: set[str] = field(default_factory=set)
    """Trials that do not leave the queue."""
    refuses: bool = False
    fetches: bool = True

    def outcome(self, job: Job) -> Outcome:
        planned = self.outcomes.get(job.trial, ["completed"])
        return Outcome(planned[min(job.attempt, len(planned)) - 1])


class Elsewhere:
    """An executor without a machine: a trial is over as soon as it is submitted. It outlives the engine, as they do."""

    name = "elsewhere"
    location = "elsewhere"
    world: ClassVar[World] = World()

    def __init__(self, workdir: Path, options: Mapping[str, object]) -> None:
        self._keys = self.world.jobs

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        if self.world.refuses:
            raise ExecutorError("the scheduler does not answer", transient=True)
        for job in jobs:
            if job.key not in self._keys:
                self._keys[job.key] = job
                self.world.submitted.append(job.key)
        return [Ref(job.key, job.key) for job in jobs]

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        return {key: Ref(key, key) for key in keys if key in self._keys}

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        return {ref.key: self._status(ref.key) for ref in refs}

    def _status(self, key: str) -> Status:
        job = self._keys[key]
        if key in self.world.cancelled:
            return Status(Phase.FINISHED, _exit(key, Outcome.CANCELLED))
        if job.trial in self.world.queued:
            return Status(Phase.QUEUED)
        outcome = self.world.outcome(job)
        return Status(Phase.LOST if outcome is Outcome.LOST else Phase.FINISHED, _exit(key, outcome))

    def fetch(self, ref: Ref, destination: Path) -> None:
        if not self.world.fetches:
            raise ExecutorError("rsync: connection reset", transient=True)
        job = self._keys[ref.key]
        (destination / "train").mkdir(parents=True, exist_ok=True)
        (destination / "predict").mkdir(exist_ok=True)
        (destination / "train" / "metrics.json").write_text('{"train_loss": 0.5}')
        seed = int(job.steps[0].env["AUTOLAB_SEED"])
        right = (0.9 if job.trial.startswith("steep") else 0.6) + random.Random(seed).uniform(0, 0.01)
        chosen = np.eye(2)[LABELS.astype(int)] > 0
        np.save(destination / "predict" / "predictions.npy", np.log(np.where(chosen, right, 1 - right)).astype("<f4"))

    def cancel(self, refs: Sequence[Ref]) -> None:
        self.world.cancelled.update(ref.key for ref in refs)

    def discard(self) -> None:
        pass


def _exit(key: str, outcome: Outcome) -> Exit:
    code = 0 if outcome is Outcome.COMPLETED else 1
    return Exit(key, outcome, "train", code, None, 0.1, 0.1, 1000, 0, "t0", "t1", f"it was {outcome}")


@dataclass
class Bench:
    """A lab whose runs are measured by engines that know nothing but its ledger."""

    root: Path
    world: World
    begins: dict[str, int] = field(default_factory=dict)

    def measure(self, iteration_id: str = "i1", *, tell: Any = None, stop: Any = None, **more: Any) -> Measured:
        with Lab(self.root).hold("a test") as lab:
            offset = self.begins.setdefault(iteration_id, lab.ledger.head.size)
            head = lab.git.head() or ""
            order = Order(
                lab=lab,
                config=lab.config().model_copy(update={"executor": Where(name=f"{__name__}:Elsewhere")}),
                iteration_id=iteration_id,
                design=design(iteration_id, **more),
                hypothesis=None,
                base=head,
                candidate=head,
                checks={"tests": "skip"},
                events=list(lab.ledger.lines(offset)),
                acted=0,
                tell=Plain(tell or (lambda text: None)),
                stop=stop or (lambda: False),
            )
            return runs.measure(order)

    def events(self, event: str, iteration_id: str = "i1") -> list[dict[str, Any]]:
        begin = self.begins[iteration_id]
        end = min((other for other in self.begins.values() if other > begin), default=1 << 40)
        lines = Lab(self.root).ledger.lines(begin)
        return [line.data for line in lines if line.event == event and line.offset < end]

    def trials(self, iteration_id: str = "i1") -> dict[str, dict[str, Any]]:
        """Of the iteration's one run."""
        found = [line["trial"] for line in self.events("trial", iteration_id)]
        assert len(found) == len({trial["trial"] for trial in found}), "a trial is recorded once"
        return {trial["trial"]: trial for trial in found}

    def manifest(self, run: str = "run_0001", iteration_id: str = "i1") -> Manifest:
        return Manifest.load(self.root / "experiments" / iteration_id / "runs" / run / "run_manifest.json")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Elsewhere, "world", World())
    return Bench(init.init(tmp_path / "lab", str(TINY), seed=1).root, Elsewhere.world)


def design(iteration_id: str, **more: Any) -> Design:
    value: dict[str, Any] = {
        "id": "e1",
        "iteration_id": iteration_id,
        "hypothesis_id": "h1",
        "entrypoint": {"command": "{python} train.py"},
        "reproducibility": {"seeds": {"max_pairs": 3}},
        "metrics": {"primary": "val_loss", "success_delta": 0.05, "direction": "minimize"},
        "baselines": [{"name": "baseline"}],
        "variants": [{"name": "steep", "config_overrides": {"width": 4}}],
    }
    return Design.from_value(value | more, "design.yaml")


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


def test_parking_again_and_again_is_no_loss(bench: Bench) -> None:
    bench.world.queued = {"steep-s2"}
    for _ in range(MAX_LOST + 1):
        looks = iter([False, True])
        assert bench.measure(stop=lambda looks=looks: next(looks)).ending is Ending.PARKED
    bench.world.queued = set()
    assert bench.measure().ending is Ending.DONE
    assert bench.trials()["steep-s2"]["attempt"] == MAX_LOST + 2
    assert len(bench.trials()) == 6


def test_parking_a_trial_that_was_lost_before_is_parking(bench: Bench) -> None:
    bench.world.outcomes = {"steep-s2": ["lost"] * (MAX_LOST - 1) + ["completed"]}

    def stop() -> bool:
        """Once the next attempt would be one too many to lose, it stays in the queue; then a person stops the loop."""
        asked = "steep-s2" in bench.world.queued
        if sum(".steep-s2." in key for key in bench.world.submitted) == MAX_LOST - 1:
            bench.world.queued.add("steep-s2")
        return asked

    assert bench.measure(stop=stop).ending is Ending.PARKED


def test_results_that_cannot_be_fetched_are_fetched_later_and_not_made_again(bench: Bench) -> None:
    bench.world.fetches = False
    measured = bench.measure()
    assert measured.ending is Ending.SYNC
    assert "rsync: connection reset" in measured.reason
    assert bench.trials() == {}
    bench.world.fetches = True
    assert bench.measure().ending is Ending.DONE
    assert len(bench.world.submitted) == 6


# Whose it is to mend


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


# What it stands on


def test_a_run_whose_ground_changed_under_it_is_abandoned_and_measured_anew(bench: Bench) -> None:
    bench.world.queued = {"steep-s2"}
    looks = iter([False, True])
    assert bench.measure(stop=lambda: next(looks)).ending is Ending.PARKED
    before = bench.trials()
    config = bench.root / ".autolab" / "config.yaml"
    config.write_text(config.read_text().replace("report: [accuracy]", "report: []"))
    bench.world.queued = set()
    measured = bench.measure()
    assert (measured.ending, measured.run_id) == (Ending.DONE, "run_0002")
    assert {t.seed for t in bench.manifest("run_0002").trials}.isdisjoint(t["seed"] for t in before.values())
    left = bench.manifest("run_0001")
    assert (left.status, left.reason) == ("failed", "abandoned: what it was measured with has changed since it began")
    assert [line["run_id"] for line in bench.events("run_ended")] == ["run_0001", "run_0002"]
