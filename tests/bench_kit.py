"""Runs of a lab on an executor without a machine: what happens to each trial is told beforehand."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autolab import files
from autolab.cli.view import Plain
from autolab.errors import ExecutorError
from autolab.executors.base import Job, Phase, Ref, Status
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import ExecutorConfig
from autolab.lab.schemas.experiment import Design, Manifest
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.sandbox.exit_record import Exit
from autolab.stats.plan import Plan, PlannedArm, plan_design
from autolab.stats.screening import screen_plan
from autolab.trials import measurement
from autolab.trials.early_stop import EarlyStop
from autolab.trials.job import train_command
from autolab.trials.lab_inputs import code_commits, record_of, source_of
from autolab.trials.measurement import Measured
from autolab.trials.run_record import RunObserver, RunSpec

TINY = Path(__file__).parent / "labs" / "tiny"
LABELS = np.load(TINY / "data" / "eval" / "labels.npy")


@dataclass
class World:
    """What happens to the trials of a run: outcomes by trial, an entry an attempt; the last one stays."""

    outcomes: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    submitted: list[str] = field(default_factory=list)
    queued: set[str] = field(default_factory=set)
    """Trials that do not leave the queue."""
    slow: set[str] = field(default_factory=set)
    """Trials that run until there is nothing else to wait for."""
    chance: random.Random | None = None
    """Says which one of the trials is over next, where they are not over at once."""
    refuses: bool = False
    fetches: bool = True
    right: Callable[[str, int], Any] = lambda arm, seed: likely(arm, seed)
    """How likely a trial of that arm and seed holds what is right, one number or one a row."""

    def outcome(self, job: Job) -> TrialOutcome:
        planned = self.outcomes.get(job.trial, ["completed"])
        return TrialOutcome(planned[min(job.attempt, len(planned)) - 1])


def likely(arm: str, seed: int) -> float:
    return (0.9 if arm.startswith("steep") else 0.6) + random.Random(seed).uniform(0, 0.01)


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
        slow = [ref.key for ref in refs if self._keys[ref.key].trial in self.world.slow]
        waits = slow if len(slow) < len(refs) else slow[:-1]
        if self.world.chance and refs:
            over = self.world.chance.choice(refs)
            waits = [ref.key for ref in refs if ref != over]
        return {ref.key: Status(Phase.RUNNING) if ref.key in waits else self._status(ref.key) for ref in refs}

    def _status(self, key: str) -> Status:
        job = self._keys[key]
        if key in self.world.cancelled:
            return Status(Phase.FINISHED, _exit(key, TrialOutcome.CANCELLED))
        if job.trial in self.world.queued:
            return Status(Phase.QUEUED)
        outcome = self.world.outcome(job)
        return Status(Phase.LOST if outcome is TrialOutcome.LOST else Phase.FINISHED, _exit(key, outcome))

    def fetch(self, ref: Ref, destination: Path) -> None:
        if not self.world.fetches:
            raise ExecutorError("rsync: connection reset", transient=True)
        job = self._keys[ref.key]
        (destination / "train").mkdir(parents=True, exist_ok=True)
        (destination / "train" / "metrics.json").write_text('{"train_loss": 0.5}')
        seed = int(job.steps[0].env["AUTOLAB_SEED"])
        right = np.reshape(self.world.right(job.trial.rpartition("-")[0], seed), (-1, 1))
        chosen = np.eye(2)[LABELS.astype(int)] > 0
        for step in [step.name for step in job.steps if step.name != "train"]:
            (destination / step).mkdir(exist_ok=True)
            np.save(destination / step / "predictions.npy", np.log(np.where(chosen, right, 1 - right)).astype("<f4"))

    def cancel(self, refs: Sequence[Ref]) -> None:
        self.world.cancelled.update(ref.key for ref in refs)

    def discard(self) -> None:
        pass


def _exit(key: str, outcome: TrialOutcome) -> Exit:
    code = 0 if outcome is TrialOutcome.COMPLETED else 1
    return Exit(key, outcome, "train", code, None, 0.1, 0.1, 1000, 0, "t0", "t1", f"it was {outcome}")


@dataclass
class Bench:
    """A lab whose runs are measured by engines that know nothing but its ledger."""

    root: Path
    world: World
    begins: dict[str, int] = field(default_factory=dict)

    def measure(
        self,
        iteration_id: str = "i1",
        *,
        tell: Any = None,
        stop: Any = None,
        kind: RunKind = RunKind.SEARCH,
        plan: Callable[[Plan], Plan] = lambda plan: plan,
        config: Mapping[str, Any] | None = None,
        slowest_s: float | None = None,
        commits: Mapping[str, str] | None = None,
        early_stop: EarlyStop | None = None,
        **more: Any,
    ) -> Measured:
        """What a run of the design comes to; `config` overrides keys, `plan` turns the plan into another.

        `slowest_s`: seconds of the slowest trial of a calibration. `commits`: of code beside base and candidate."""
        with Lab(self.root).hold("a test") as lab:
            offset = self.begins.setdefault(iteration_id, lab.ledger.head.size)
            head = lab.git.head() or ""
            spec_of_arms = design(iteration_id, **more)
            update: dict[str, Any] = {"executor": ExecutorConfig(name=f"{__name__}:Elsewhere")} | dict(config or {})
            told = lab.config().model_copy(update=update)
            tree = lab.git.tree(head)
            spec = RunSpec(
                kind=kind,
                plan=lambda inputs: plan(plan_design(spec_of_arms, told, None, lab.secret, inputs.protocol, tree)),
                command=train_command(spec_of_arms, told),
                commits=code_commits(head, head) | dict(commits or {}),
                design_sha256=files.sha256_of(spec_of_arms.to_yaml()),
                checks={"tests": "skip"},
                time_limit=told.train.time_limit(slowest_s),
                early_stop=early_stop,
            )
            record = record_of(lab, iteration_id, list(lab.ledger.lines(offset)), 0)
            observer = RunObserver(Plain(tell or (lambda text: None)), stop or (lambda: False))
            return measurement.measure(source_of(lab), told, spec, record, observer)

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


# Batches of ideas

SEEDS = (21, 22, 23, 24)


def commit_of(bench: Bench, idea: str, file: str = "idea.py", text: str = "") -> str:
    """A commit of the lab's with this file."""

    def git(*words: str) -> str:
        named = ("git", "-c", "user.name=a", "-c", "user.email=a@b", *words)
        return subprocess.run(named, cwd=bench.root, check=True, capture_output=True, text=True).stdout.strip()

    head = git("rev-parse", "HEAD")
    (bench.root / file).write_text(text or f"IDEA = {idea!r}\n")
    git("add", file)
    git("commit", "-qm", idea)
    commit = git("rev-parse", "HEAD")
    git("reset", "-q", "--hard", head)
    return commit


def batch(bench: Bench, *ideas: str, arm_seeds: int = 1, baseline_seeds: int = 1) -> dict[str, Any]:
    """What `Bench.measure` needs for a batch whose ideas have a commit each."""
    config = Lab(bench.root).config()
    arms = [PlannedArm("baseline", "baseline", "base", {})]
    arms += [PlannedArm(idea, "variant", idea, {"width": 4.0}) for idea in ideas]
    plan = screen_plan(arms, SEEDS[:baseline_seeds], arm_seeds=arm_seeds, config=config, bound=9.0)
    commits = {idea: commit_of(bench, idea) for idea in ideas}
    return {"kind": RunKind.SCREEN, "plan": lambda _: plan, "commits": commits}
