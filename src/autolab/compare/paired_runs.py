"""The runs of a comparison: a warm-up, the base's noise, the paired trials, a confirmation if it is asked for.

Everything lies in `.git/autolab/compare/<KEY>/`: a ledger of its own, the secret that seeds are drawn from, the
trials' files. The same call goes on where a killed one was, or answers at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from autolab import files
from autolab.compare.question import (
    AskedComparison,
    AskedVersion,
    Derived,
    key_of,
    stopping_rule,
    stored_question,
    trees_of,
    with_speed,
)
from autolab.compare.seed_effect import SeedEffect, seed_effect
from autolab.lab import time_limits
from autolab.lab.create import COMPARISONS
from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.git import Git, common_dir
from autolab.lab.ledger import Ledger
from autolab.lab.schemas.config import Config, TimeLimit
from autolab.lab.schemas.events import TrialEnded, events_of
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.stats import rules, scores, verdict
from autolab.stats.plan import BASE, Plan, PlannedArm, confirmation_plan
from autolab.stats.scores import Scale
from autolab.stats.seeds import confirmation_seeds, search_seeds
from autolab.trials import measurement
from autolab.trials.inputs import InputSource, TrialInputs, set_up
from autolab.trials.measurement import Ending, Measured
from autolab.trials.progress import RunView
from autolab.trials.resolution import resolvable_difference
from autolab.trials.run_record import NAMES, RunObserver, RunRecord, RunSpec

NOISE_SEEDS = 3
"""Trainings of the base that the default of the least difference comes from. They are the first pairs' own."""
LEDGER_ID = "compare"
WAIT_S = 0.5
"""Seconds between two looks whether another comparison in the repository has ended."""


@dataclass(frozen=True)
class Allowance:
    """What a comparison may spend from its beginning on; None: no cap."""

    trials: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrainingConditions:
    """How the trainings ran: the containment level, the limit of one training after the warm-up (None before it), what
    was seen of the seed, and the evaluator of the base (None: the trainings report their own numbers)."""

    containment: str
    time_limit: TimeLimit | None
    seed: SeedEffect
    evaluator: str | None = None


@dataclass(frozen=True)
class ComparisonPhase:
    """A run of a comparison that begins or goes on: WARM_UP, NOISE, SEARCH (the pairs) or CONFIRM.

    `trials` and `seconds` are what all trainings have cost so far, `used_s` what counts against a time budget. `delta`
    is the least difference worth having, None before it is known.
    """

    kind: RunKind
    trials: int
    seconds: float
    used_s: float
    delta: float | None


class ComparisonView(RunView, Protocol):
    """What a user sees of a comparison."""

    def phase(self, phase: ComparisonPhase) -> None:
        """A phase begins; also one that is over already, of which nothing runs any more."""


@dataclass(frozen=True)
class Outcome:
    """How a comparison stands. `trials` are those of the paired run, `plan` what was planned; `spent` is in trials.

    `ending`: DONE, PAUSED (the user or the budget stopped it), or a failure with its `reason`. `confirmed` is the
    manifest of the confirmation, None where there is none. `folder` holds the comparison's files.
    """

    ending: Ending
    reason: str
    question: AskedComparison
    key: str
    folder: Path
    conditions: TrainingConditions
    spent: int
    seconds: float
    delta: float | None = None
    plan: Plan | None = None
    trials: tuple[Trial, ...] = ()
    confirmed: Manifest | None = None
    budget_spent: bool = False
    derived: Derived | None = None
    """What the noise of the base gave, if the difference comes from it."""


def run_comparison(
    root: Path,
    config: Config,
    question: AskedComparison,
    allowance: Allowance,
    view: ComparisonView,
    stop: Callable[[], bool],
) -> Outcome:
    """Measure until the answer is known, the budget is spent, or the user asks to stop.

    One comparison at a time runs in a repository: another one's end is waited for, which the view is told.
    LabError: the inputs cannot be made.
    """
    shared = common_dir(root) / "autolab" / COMPARISONS
    shared.mkdir(parents=True, exist_ok=True)
    with _turn(shared / "lock", view, stop) as is_ours:
        if not is_ours:
            return Outcome(
                ending=Ending.PAUSED,
                reason="stopped while another comparison ran",
                question=question,
                key="",
                folder=shared,
                conditions=TrainingConditions(config.containment, None, SeedEffect()),
                spent=0,
                seconds=0.0,
            )
        source = InputSource(Git(root), root, shared / "store", shared / "exports", b"")
        inputs = set_up(source, config, _commits(question))
        question = with_speed(question)
        key = key_of(question, config, inputs)
        folder = shared / key
        folder.mkdir(exist_ok=True)
        question = stored_question(folder / "question.json", question)
        return _Comparison(source, config, question, key, folder, allowance, view, stop).run()


@contextlib.contextmanager
def _turn(path: Path, view: RunView, stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock, once it is free; False: the user asked to stop before."""
    with open(path, "a", encoding="utf-8") as file:
        is_told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_told:
                    view("another comparison runs in this repository; this one begins when it has ended")
                    is_told = True
                if stop():
                    yield False
                    return
                time.sleep(WAIT_S)
            else:
                yield True
                return


def _commits(question: AskedComparison) -> dict[str, str]:
    """Commits by the name of the code; a candidate's code is called as its arm."""
    return {BASE: question.base.commit} | {version.name: version.commit for version in question.candidates}


class _Comparison:
    def __init__(
        self,
        source: InputSource,
        config: Config,
        question: AskedComparison,
        key: str,
        folder: Path,
        allowance: Allowance,
        view: ComparisonView,
        stop: Callable[[], bool],
    ) -> None:
        self._source, self._config, self._question = source, config, question
        self._key, self._folder, self._allowance = key, folder, allowance
        self._view, self._stop = view, stop
        self._budget_spent = False
        self._began = time.monotonic()
        self._ledger = Ledger(folder)
        self._secret = self._open()
        self._seconds_before = self._seconds()

    def _open(self) -> bytes:
        """The comparison's secret; made at the first call, with the ledger."""
        path = self._folder / "secret"
        if not path.exists():
            # The secret last: without it the ledger is made anew.
            self._ledger.create(LEDGER_ID, self._folder)
            files.write_whole(path, secrets.token_hex(32) + "\n", mode=0o600)
        self._ledger.open(repair=True)
        return bytes.fromhex(path.read_text(encoding="utf-8").strip())

    def run(self) -> Outcome:
        warm_up = self._measure(RunKind.WARM_UP, self._warm_up, self._question.delta)
        if warm_up.ending is not Ending.DONE:
            return self._outcome(warm_up)
        delta, derived = self._question.delta, None
        if delta is None:
            noise = self._measure(RunKind.NOISE, self._noise, delta)
            if noise.ending is not Ending.DONE or noise.manifest is None:
                return self._outcome(noise)
            derived = self._derived(noise.manifest)
            delta = derived.delta
        plan = self._plan(delta)
        search = self._measure(RunKind.SEARCH, lambda _: plan, delta)
        trials = self._paired_trials(search.run_id)
        outcome = replace(self._outcome(search), delta=delta, derived=derived, plan=plan, trials=trials)
        if search.ending is not Ending.DONE or not self._question.confirm:
            return outcome
        judgement = verdict.judge(plan, outcome.trials)
        if judgement.lead is None or judgement.rulings[judgement.lead].action is not rules.RuleAction.KEEP:
            return outcome
        return self._confirmed(outcome, plan, judgement.lead)

    def _confirmed(self, outcome: Outcome, plan: Plan, lead: str) -> Outcome:
        assert plan.rule is not None
        seeds = confirmation_seeds(self._secret, self._trees, self._question.pairs)
        again = confirmation_plan(plan, lead, plan.rule, seeds)
        confirm = self._measure(RunKind.CONFIRM, lambda _: again, plan.delta)
        return replace(
            self._outcome(confirm),
            delta=outcome.delta,
            derived=outcome.derived,
            plan=plan,
            trials=outcome.trials,
            confirmed=confirm.manifest,
        )

    # the plans

    @property
    def _trees(self) -> str:
        return trees_of((self._question.base, *self._question.candidates))

    @property
    def _seeds(self) -> tuple[int, ...]:
        return search_seeds(self._secret, self._key, self._trees, self._question.pairs)

    def _warm_up(self, inputs: TrialInputs) -> Plan:
        """One training of the base that counts for nothing: the first pays for caches that all later ones use."""
        arm = replace(self._arm(self._question.base, "baseline"), fresh=True)
        return self._unjudged((arm,), self._seeds[:1])

    def _noise(self, inputs: TrialInputs) -> Plan:
        return self._unjudged((self._arm(self._question.base, "baseline"),), self._seeds[:NOISE_SEEDS])

    def _unjudged(self, arms: tuple[PlannedArm, ...], seeds: tuple[int, ...]) -> Plan:
        question = self._question
        return Plan(
            arms=arms,
            seeds=seeds,
            metric=question.metric,
            direction=question.direction,
            delta=question.delta or 0.0,
            rule=None,
            fixed=True,
            self_reported=self._config.evaluate is None,
        )

    def _plan(self, delta: float) -> Plan:
        question = self._question
        arms = [self._arm(question.base, "baseline")]
        for version in question.candidates:
            arms.append(self._arm(version, "variant"))
        return replace(
            self._unjudged(tuple(arms), self._seeds),
            delta=delta,
            rule=stopping_rule(question),
            fixed=False,
            alternate=True,
            drop_failed=True,
        )

    def _arm(self, version: AskedVersion, role: str) -> PlannedArm:
        if role == "baseline":
            return PlannedArm("baseline", "baseline", BASE, dict(version.settings))
        return PlannedArm(version.name, "variant", version.name, dict(version.settings))

    def _derived(self, manifest: Manifest) -> Derived:
        """The least difference that the planned pairs resolve, from the base's own scatter; stored once."""
        path = self._folder / "derived.json"
        if path.exists():
            return Derived.load(path, Derived.FILE)
        question = self._question
        values = []
        for trial in manifest.trials:
            values.append(scores.measured(trial, self._config.evaluate is None)[question.metric])
        _, deviation = rules.mean_and_deviation(values)
        assert deviation is not None
        # As if the two trials of a pair shared no noise: what they share makes the answer come sooner.
        of_pair = deviation * 2**0.5
        step = 10.0 ** -max(rules.decimals(value) for value in values)
        delta = resolvable_difference(stopping_rule(question), of_pair, step)
        derived = Derived(delta=delta, deviation=of_pair, scores=tuple(values))
        files.write_whole(path, derived.to_json())
        return derived

    # running

    def _measure(self, kind: RunKind, plan: Callable[[TrialInputs], Plan], delta: float | None) -> Measured:
        self._view.phase(ComparisonPhase(kind, self._spent(), self._seconds(), self._used_s(), delta))
        record = RunRecord(
            ledger=self._ledger,
            store=self._folder,
            paths=IterationPaths(self._folder / "files"),
            lab_id=f"compare-{self._key}",
            iteration_id="compare",
            events=list(self._ledger.lines()),
            acted=0,
        )
        spec = RunSpec(
            kind,
            plan,
            self._config.train.command,
            _commits(self._question),
            time_limit=self._time_limit,
            one_at_a_time=self._question.one_at_a_time is not None,
        )
        return measurement.measure(
            self._source, self._config, spec, record, RunObserver(self._view, self._is_over, self._left)
        )

    def _is_over(self) -> bool:
        """Whether the user asked to stop, or the time is spent."""
        limit = self._allowance.seconds
        if limit is not None and self._used_s() >= limit:
            self._budget_spent = True
        return self._stop() or self._budget_spent

    def _used_s(self) -> float:
        """Seconds that count against a time budget: of earlier calls those of the trials."""
        return self._seconds_before + time.monotonic() - self._began

    def _left(self) -> int | None:
        """Trials that the budget allows from now on."""
        if self._allowance.trials is None:
            return None
        left = self._allowance.trials - self._spent()
        if left <= 0:
            self._budget_spent = True
        return left

    @property
    def _time_limit(self) -> TimeLimit | None:
        """That of each training after the warm-up, the same at every call; None before it, or where it failed."""
        warm_up = self._warm_up_trial()
        if warm_up is None or warm_up.outcome is not TrialOutcome.COMPLETED:
            return None
        seconds = time_limits.after_calibration(warm_up.seconds)
        return TimeLimit(seconds=seconds, source="warm_up")

    def _warm_up_trial(self) -> Trial | None:
        for ended in self._trials():
            if _is_warm_up(ended):
                return ended.trial
        return None

    def _conditions(self) -> TrainingConditions:
        question = self._question
        scale = Scale(question.metric, question.direction, self._config.evaluate is None, bound=None)
        baseline = []
        for ended in self._trials():
            if ended.trial.arm == "baseline" and not _is_warm_up(ended):
                baseline.append(ended.trial)
        limit = self._config.train.time_limit_s
        of_config = None if limit is None else self._config.train.time_limit()
        return TrainingConditions(
            containment=self._config.containment,
            time_limit=of_config or self._time_limit,
            seed=seed_effect(scale, self._warm_up_trial(), baseline),
            evaluator=self._config.evaluate.script if self._config.evaluate is not None else None,
        )

    def _paired_trials(self, run_id: str) -> tuple[Trial, ...]:
        """Those that are over; a paused run has no final manifest."""
        return tuple(ended.trial for ended in self._trials() if ended.run_id == run_id)

    def _spent(self) -> int:
        return sum(1 for ended in self._trials() if ended.trial.reused_from is None)

    def _seconds(self) -> float:
        return sum(ended.trial.seconds for ended in self._trials() if ended.trial.reused_from is None)

    def _trials(self) -> Iterator[TrialEnded]:
        return events_of(self._ledger.lines(), TrialEnded)

    def _outcome(self, measured: Measured) -> Outcome:
        return Outcome(
            ending=measured.ending,
            reason=measured.reason,
            question=self._question,
            key=self._key,
            folder=self._folder,
            conditions=self._conditions(),
            spent=self._spent(),
            seconds=self._seconds(),
            budget_spent=self._budget_spent,
        )


def _is_warm_up(ended: TrialEnded) -> bool:
    return ended.run_id.startswith(f"{NAMES[RunKind.WARM_UP]}_")
