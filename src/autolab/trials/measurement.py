"""Measure arms over seeds: plan the cells, reuse earlier trials, submit, collect, score, judge, stop.

A ledger line is written before each effect (`submitted`) or after it (`trial`), so a measurement that was killed
anywhere goes on where it was: finished trials are read back, running trials are adopted from the executor, and only a
trial that the executor has lost gets a new attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from autolab import files
from autolab.errors import ExecutorError
from autolab.executors.base import Executor, Phase, Ref, ShowsRunning
from autolab.lab import crash_points
from autolab.lab.schemas import events
from autolab.lab.schemas.config import Config, TimeLimit
from autolab.lab.schemas.events import RunEnded, RunStarted, Submitted, events_of, read
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.exit_record import Exit
from autolab.stats import verdict
from autolab.stats.plan import BASE, Cell, Plan, planned_cells
from autolab.trials import early_stop, leak_checks, lookahead, manifest, score
from autolab.trials.inputs import InputSource, set_up
from autolab.trials.job import HOLDOUT, Attempt, TrialCommands, content_key, tidy, trial_job
from autolab.trials.manifest import RunManifest
from autolab.trials.progress import Watch
from autolab.trials.run_record import RunObserver, RunRecord, RunSpec
from autolab.trials.trial_log import TrialLog

AHEAD = 2
"""Pairs that wait for a place while others run, under a rule that may stop early."""
HELD = (RunKind.CONFIRM, RunKind.CLAIM)
"""Runs whose trained models predict for the holdout too."""
POLL_S = 1.0
"""Seconds to wait for a change of the trials' phases, at most."""


class Ending(StrEnum):
    """How a measurement ended, for the stage table."""

    DONE = "done"
    CODE = "code"
    BASELINE = "baseline"
    INFRASTRUCTURE = "infrastructure"
    SYNC = "sync"
    TAMPERED = "tampered"
    PAUSED = "paused"


@dataclass(frozen=True)
class Measured:
    ending: Ending
    reason: str
    run_id: str
    manifest: Manifest | None
    executed: int
    """Trials that this call brought to an end (reused ones are not among them)."""


class SyncError(ExecutorError):
    """Results exist where the trial ran, and could not be brought here."""


def measure(source: InputSource, config: Config, spec: RunSpec, record: RunRecord, observer: RunObserver) -> Measured:
    """Bring a run to an end, or pause it. Only bugs and unwritable files raise.

    LabError: the inputs cannot be made, or a trial could read a copy of the labels.
    """
    # Before anything is registered: a lab whose trials could cheat has no runs.
    inputs = set_up(source, config, spec.commits)
    leak_checks.refuse_copied_labels(config, inputs, source.store)
    plan = spec.plan(inputs)
    time_limit = _time_limit(config, spec)
    for arm in plan.arms:
        inputs.seals.add(f"settings of {arm.name}", inputs.settings_file(arm))
    line = record.under_way(spec.kind)
    if line is not None:
        start = read(line, RunStarted)
        # A run that was planned otherwise cannot go on: its pairs would not be those of the plan.
        if start.model_copy(update={"time_limit": None}) != _start(start.run_id, spec, plan, inputs.protocol):
            _abandon(record, config, start.run_id, observer)
            line = None
        # All trainings of a run get the same time, whatever was calibrated since it began.
        elif start.time_limit is not None and config.train.time_limit_s is None:
            time_limit = start.time_limit
    if line is None:
        run_id, started_at = record.next_id(spec.kind), files.utc_now()
    else:
        run_id, started_at = read(line, RunStarted).run_id, line.time
    executor = record.executor(config.executor, run_id)
    run_manifest = RunManifest(
        run_id=run_id,
        started_at=started_at,
        location=executor.location,
        spec=spec,
        record=record,
        config=config,
        git=source.git,
        inputs=inputs,
        plan=plan,
        time_limit=time_limit,
    )
    run = _OpenRun(run_manifest, executor, observer)
    if line is None:
        start = _start(run_id, spec, plan, inputs.protocol)
        events.append(record.ledger, start.model_copy(update={"time_limit": time_limit}))
    run.begin()
    return run.measure()


def _time_limit(config: Config, spec: RunSpec) -> TimeLimit:
    """A training's limit in a run that begins now."""
    if spec.time_limit is None or config.train.time_limit_s is not None:
        return config.train.time_limit()
    return spec.time_limit


def _start(run_id: str, spec: RunSpec, plan: Plan, protocol: str) -> RunStarted:
    """A run's first line without its time limit. A run whose line says anything else is another run."""
    start = RunStarted(
        run_id=run_id,
        kind=spec.kind,
        seeds=plan.seeds,
        protocol=protocol,
        design_sha256=spec.design_sha256,
        rule=plan.rule.value() if plan.rule else None,
    )
    if not plan.only:
        return start
    # A reproduction of some trials alone: another choice of them is another run.
    return start.model_copy(update={"cells": tuple(sorted(plan.only))})


def _abandon(record: RunRecord, config: Config, run_id: str, observer: RunObserver) -> None:
    """End a run whose design, rule, data, evaluator, metric or environment has changed since its first trial.

    Its trials would be paired with others of other seeds; nothing is compared across protocols.
    """
    keys: list[str] = []
    for submitted in events_of(record.events, Submitted):
        if submitted.run_id == run_id:
            keys += submitted.keys
    executor = record.executor(config.executor, run_id)
    # The executor may still run trials of it, under the keys that were announced.
    executor.cancel(list(executor.find(keys).values()))
    executor.discard()
    # Nobody will put a question about them.
    for key in keys:
        record.held(key).unlink(missing_ok=True)
    reason = "abandoned: what it was measured with has changed since it began"
    manifest.abandon(record.paths_of(run_id).manifest, reason)
    end = RunEnded(run_id=run_id, status="failed", verdict=None, reason=reason, manifest_sha256=None)
    events.append(record.ledger, end)
    observer.view(f"{run_id} {reason}; measured anew")


class _OpenRun:
    """One measurement while the engine works on it."""

    def __init__(self, run_manifest: RunManifest, executor: Executor, observer: RunObserver) -> None:
        self._manifest, self._executor, self._observer = run_manifest, executor, observer
        self._run_id, self._record, self._plan = run_manifest.run_id, run_manifest.record, run_manifest.plan
        self._inputs = run_manifest.inputs
        self._commands = TrialCommands.of(run_manifest.spec.command, run_manifest.config, run_manifest.time_limit)
        self._log = TrialLog(self._record, self._run_id, self._plan)
        self._cells = {cell.trial: cell for cell in planned_cells(self._plan)}
        self._watch = Watch(self._run_id, self._plan, self._log.trials, self._log.uncounted)
        self._open_jobs: dict[str, Ref] = {}
        """Submitted trials that are not over, by name."""
        self._queued: set[str] = set()
        """Those of them that wait for a place."""
        self._executed = 0

    def begin(self) -> None:
        """Show the run in the checkout, unless it is over already."""
        if self._record.recorded_end(self._run_id) is None:
            self._manifest.write(self._manifest.of(self._log.trials.values(), None))
        crash_points.point("run.after_manifest")

    def measure(self) -> Measured:
        """Bring the run to an end, or pause it."""
        try:
            judgement = self._until_judged()
        except SyncError as error:
            return self._measured(Ending.SYNC, str(error))
        except ExecutorError as error:
            return self._measured(Ending.INFRASTRUCTURE, str(error))
        if judgement is None:
            return self._measured(Ending.PAUSED, "stopped before the run was judged")
        # Before the run's end is on record: nothing would end a trial of it that still runs then.
        self._cancel(self._open_jobs)
        return self._end(judgement)

    def _measured(self, ending: Ending, reason: str, final: Manifest | None = None) -> Measured:
        return Measured(ending, reason, self._run_id, final, self._executed)

    def _until_judged(self) -> verdict.Judgement | None:
        """Keep the executor busy until the rule has what it needs; None if the user or a cap stopped it first."""
        self._log.reuse(self._cells.values(), self._content, self._observer.view, self._is_whole)
        while True:
            trials = list(self._log.trials.values())
            judgement = verdict.judge(self._plan, trials)
            if judgement.done:
                return judgement
            if self._observer.stop():
                self._pause()
                return None
            cells = verdict.cells_wanted(self._plan, trials)
            # The rule may drop an arm: its trials need not be paid for any more.
            self._cancel(self._open_jobs.keys() - {cell.trial for cell in cells})
            due = self._affordable(self._due(cells))
            if not due and not self._open_jobs:
                return None
            self._launch(due)
            self._collect_finished()

    # to the executor

    def _due(self, cells: Sequence[Cell]) -> list[Cell]:
        """The next cells for the executor: all of them, or a few ahead under a rule that may stop early."""
        waiting = [cell for cell in cells if cell.trial not in self._open_jobs]
        if self._plan.rule is None or self._plan.rule.rule == "fixed":
            return waiting
        # Cells that an earlier command submitted are adopted in any case: they may be running.
        submitted: list[Cell] = []
        new: list[Cell] = []
        for cell in waiting:
            is_submitted = self._log.is_submitted(self._log.key(cell.trial))
            (submitted if is_submitted else new).append(cell)
        places = AHEAD * len(self._plan.arms) - len(self._queued) - len(submitted)
        return submitted + new[: max(0, places)]

    def _affordable(self, cells: list[Cell]) -> list[Cell]:
        left = self._observer.left()
        if self._manifest.spec.one_at_a_time:
            left = 1 if left is None else min(left, 1)
        if left is None:
            return cells
        return cells[: max(0, left - len(self._open_jobs))]

    def _launch(self, cells: Sequence[Cell]) -> None:
        """Submit cells under keys that are in the ledger first; keys that the executor knows are adopted."""
        if not cells:
            return
        jobs = [trial_job(self._inputs, self._commands, self._attempt(cell)) for cell in cells]
        self._watch.adopt(job.trial for job in jobs if self._log.is_submitted(job.key))
        # The ledger first: a crash after the submission must not lose sight of the jobs.
        self._log.announce([job.key for job in jobs])
        refs = {ref.key: ref for ref in self._executor.submit(jobs)}
        crash_points.point("submit.after_jobs")
        for job in jobs:
            self._open_jobs[job.trial] = refs[job.key]
            # Until the first look says otherwise, so that no more are launched than there is room for.
            self._queued.add(job.trial)

    def _attempt(self, cell: Cell) -> Attempt:
        return Attempt(
            key=self._log.key(cell.trial),
            trial=cell.trial,
            number=self._log.attempt(cell.trial),
            arm=self._plan.arm(cell.arm),
            seed=cell.seed,
            holdout=self._manifest.spec.kind in HELD,
        )

    def _is_whole(self, trial: Trial) -> bool:
        """Whether a known trial can stand for one of this run, also where the holdout is asked about it."""
        evaluation = self._inputs.evaluation
        if self._manifest.spec.kind not in HELD or evaluation is None or evaluation.holdout is None:
            return True
        return self._record.held(trial.key).is_file()

    def _content(self, cell: Cell) -> str:
        return content_key(self._inputs, self._commands, self._plan.arm(cell.arm), cell.seed)

    def _pause(self) -> None:
        """End after the trials that run now: cancel what is queued, collect what runs."""
        refs = {ref.key: ref for ref in self._open_jobs.values()}
        statuses = self._executor.poll(list(refs.values()), 0.0)
        # A trial that runs is nearly paid for: it is not ended.
        self._executor.cancel([refs[key] for key, status in statuses.items() if status.phase is Phase.QUEUED])
        while self._open_jobs:
            self._collect_finished()

    def _cancel(self, trials: Iterable[str]) -> None:
        """End what the rule does not need any more; no trial of it is recorded."""
        # Copied first: `trials` may be the table of open jobs itself.
        refs = [self._open_jobs.pop(trial) for trial in list(trials)]
        if refs:
            self._executor.cancel(refs)

    # from the executor

    def _collect_finished(self) -> None:
        """Wait for a change, then collect every trial that has ended."""
        statuses = self._executor.poll(list(self._open_jobs.values()), POLL_S)
        over: dict[str, Exit | None] = {}
        phases: dict[str, Phase] = {}
        for name, ref in self._open_jobs.items():
            if ref.key in statuses:
                status = statuses[ref.key]
                phases[name] = status.phase
                if status.over:
                    over[name] = status.exit
        self._queued = {name for name, phase in phases.items() if phase is Phase.QUEUED}
        self._watch.look(phases)
        self._observer.view.trials(self._watch.progress())
        for name, end in over.items():
            ref = self._open_jobs.pop(name)
            # Neither is a result of the code: the same seed runs again as the next attempt.
            if end is None or end.outcome in (TrialOutcome.LOST, TrialOutcome.CANCELLED):
                self._log.lose(name, end)
                continue
            crash_points.point("trial.after_exit")
            trial = self._collect(self._cells[name], ref, end)
            self._log.add(trial)
            self._executed += 1
            self._observer.view.trials(self._watch.progress(), trial)
        self._end_early([name for name, phase in phases.items() if phase is Phase.RUNNING])

    def _end_early(self, running: Sequence[str]) -> None:
        """End trials of a screen whose learning curve is behind the baseline's, as `RunSpec.early_stop` says."""
        stop = self._manifest.spec.early_stop
        # Elsewhere a trial that was ended says nothing, and would be measured again.
        if stop is None or self._plan.arm_seeds is None:
            return
        for name in running:
            cell = self._cells[name]
            baseline = Cell(self._plan.baseline.name, cell.index, cell.seed)
            if not stop.is_behind(cell.arm, self._history(name), self._history(baseline.trial)):
                continue
            ref = self._open_jobs[name]
            self._executor.cancel([ref])
            end = self._executor.poll([ref], 0.0)[ref.key].exit
            # One that ended by itself in the meantime is collected like any other.
            if end is None or end.outcome is not TrialOutcome.CANCELLED:
                continue
            del self._open_jobs[name]
            trial = self._cancelled(cell, ref, end, stop.reason)
            self._log.add(trial)
            self._executed += 1
            self._observer.view.trials(self._watch.progress(), trial)

    def _history(self, name: str) -> Sequence[early_stop.Row]:
        """The learning curve of a trial so far; empty where it cannot be read yet."""
        over = self._log.trials.get(name)
        if over is not None:
            folder, run = self._record.paths.folder, f"{self._record.iteration_id}/{self._run_id}"
            return early_stop.history_of(folder.parent, run, over)
        ref = self._open_jobs.get(name)
        if ref is None or not isinstance(self._executor, ShowsRunning):
            return []
        return early_stop.read_history(self._executor.running_file(ref, early_stop.HISTORY))

    def _cancelled(self, cell: Cell, ref: Ref, end: Exit, reason: str) -> Trial:
        """A trial that was ended early. It measured nothing, and no later run takes it for its own."""
        attempt = self._attempt(cell)
        return Trial(
            trial=cell.trial,
            arm=cell.arm,
            index=cell.index,
            seed=cell.seed,
            attempt=attempt.number,
            commit=self._inputs.code[attempt.arm.code].commit,
            key=ref.key,
            content=self._content(cell),
            outcome=TrialOutcome.CANCELLED,
            contained=dict(end.contained),
            seconds=round(end.seconds, 3),
            max_rss_bytes=end.max_rss_bytes,
            output_bytes=end.output_bytes,
            message=reason,
        )

    def _collect(self, cell: Cell, ref: Ref, end: Exit) -> Trial:
        """Fetch an attempt's files into the store, score its predictions there, move the files into the checkout."""
        inputs, attempt = self._inputs, self._attempt(cell)
        # Everything is read in the store: a user may clean the checkout at any moment.
        folder = self._record.fetched(ref.key)
        self._fetch(cell, ref, folder)
        tidy(inputs.evaluation.altered if inputs.evaluation is not None else None, ref.key, folder)
        scored = score.judge(inputs, self._manifest.config, self._plan.scale, end, folder)
        parts = self._parts(cell, scored, folder)
        # Before the files become visible in the checkout.
        if attempt.holdout:
            _hold(folder, self._record.held(ref.key))
        _move_to_checkout(folder, self._record.paths_of(self._run_id).trial(cell.trial, attempt.number))
        return Trial(
            trial=cell.trial,
            arm=cell.arm,
            index=cell.index,
            seed=cell.seed,
            attempt=attempt.number,
            commit=inputs.code[attempt.arm.code].commit,
            key=ref.key,
            content=self._content(cell),
            outcome=scored.outcome,
            score=scored.score,
            self_reported=scored.self_reported,
            diverged=scored.diverged,
            parts=parts,
            predictions_sha256=scored.predictions_sha256,
            rows=scored.rows,
            agreement=scored.agreement,
            suspicions=scored.suspicions,
            contained=dict(end.contained),
            cpu_seconds=round(sum(step.cpu_seconds for step in end.steps if step.name == "train"), 3),
            seconds=round(end.seconds, 3),
            max_rss_bytes=end.max_rss_bytes,
            output_bytes=end.output_bytes,
            message=scored.message,
        )

    def _fetch(self, cell: Cell, ref: Ref, folder: Path) -> None:
        try:
            self._executor.fetch(ref, folder)
        except ExecutorError as error:
            # Another ending than lost infrastructure: the result exists, and must not be measured twice.
            raise SyncError(f"trial {cell.trial}: {error}", transient=error.transient) from None
        crash_points.point("trial.after_fetch")

    def _parts(self, cell: Cell, scored: score.Scored, folder: Path) -> tuple[float, ...]:
        """The metric on parts of the evaluation, if another seed of the arm has given the very same predictions."""
        sha256, evaluation = scored.predictions_sha256, self._inputs.evaluation
        if scored.outcome is not TrialOutcome.COMPLETED or scored.diverged or sha256 is None or evaluation is None:
            return ()
        # Equal predictions of two seeds: the seed changes nothing, and only the rows of the evaluation replicate.
        has_twin = False
        for trial in self._log.trials.values():
            if trial.arm == cell.arm and trial.seed != cell.seed and trial.predictions_sha256 == sha256:
                has_twin = True
                if trial.parts:
                    return trial.parts
        return evaluation.on_parts(self._plan.metric, folder) if has_twin else ()

    # the end

    def _end(self, judgement: verdict.Judgement) -> Measured:
        assert judgement.status != "running"
        final = self._manifest.of(self._log.trials.values(), judgement)
        # After a crash the end may be on record: then only a manifest that is lost or edited is written again.
        recorded, path = self._record.recorded_end(self._run_id), self._manifest.path
        if recorded is None or not path.exists() or files.sha256_of_file(path) != recorded.manifest_sha256:
            self._manifest.write(final)
            end = RunEnded(
                run_id=self._run_id,
                status=judgement.status,
                verdict=judgement.verdict,
                reason=judgement.reason,
                manifest_sha256=files.sha256_of(final.to_json()),
            )
            events.append(self._record.ledger, end)
        crash_points.point("run.after_end")
        # Only after the end is on record: until then a restart finds its jobs again in what this removes.
        self._executor.discard()
        crash_points.point("run.after_discard")
        ending = self._ending(judgement)
        if ending is Ending.TAMPERED:
            for path in self._inputs.seals.put_away():
                self._observer.view(f"note: the changed files lie at {path}; the next run exports them again")
        return self._measured(ending, judgement.reason, final)

    def _ending(self, judgement: verdict.Judgement) -> Ending:
        """The researcher fixes a candidate's own failure; the user a baseline's, or tampering."""
        if judgement.status == "completed":
            return Ending.DONE
        # The one trial that the judgement names: the same whichever trial finished first.
        failed = verdict.trials_read(self._plan, self._log.trials.values())[-1]
        if failed.outcome is TrialOutcome.TAMPERED:
            return Ending.TAMPERED
        return Ending.BASELINE if self._plan.arm(failed.arm).code == BASE else Ending.CODE


def _hold(folder: Path, place: Path) -> None:
    """Keep the predictions for the holdout at `place`, where nobody looks at them before the question is counted."""
    predictions = folder / HOLDOUT / "predictions.npy"
    if predictions.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(predictions, place)
    remove_tree(folder / HOLDOUT)


def _move_to_checkout(folder: Path, place: Path) -> None:
    """Move an attempt's files into the checkout."""
    remove_tree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, place)
    # The comparison is over, and these predictions would show where the cuts are.
    remove_tree(place / lookahead.ALTERED)
