"""Measure arms over seeds: plan the cells, reuse what is known, submit, collect, score, judge, stop.

Everything durable is a ledger line written before the effect (`submitted`) or after it (`trial`), so a
measurement that was killed anywhere goes on where it was: finished trials are read back, trials under
way are adopted from the executor, and only what is known to be lost gets a new attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from autolab import files
from autolab.errors import ExecutorError, RecordError
from autolab.executors import load_executor
from autolab.executors.base import Executor, Exit, Job, Phase, Ref
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import FileHash, Manifest, ManifestGit, ManifestSync, RunArm, SyncStep, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.sandbox.collect import remove_tree
from autolab.stats import verdict
from autolab.stats.plan import BASE, Cell, Plan, PlannedArm, planned_cells
from autolab.trials import inputs, leak_checks, lookahead, score, stored
from autolab.trials.job import HOLDOUT, Attempt, TrialCommands, content_key, tidy, trial_job
from autolab.trials.lab_inputs import inputs_of
from autolab.trials.progress import View, Watch

NAMES = {
    RunKind.SEARCH: "run",
    RunKind.CONFIRM: "run",
    RunKind.STUB: "run",
    RunKind.CALIBRATE: "calibration",
    RunKind.REPRODUCE: "reproduction",
}
"""How the id of a run begins, by its kind."""
CONFIGURED = ("metric", "train", "predict", "evaluate", "data")
"""Keys of config.yaml that a manifest repeats, so that its trials can run once more."""
AHEAD = 2
"""Pairs that wait for a place while others run: what a rule that may stop early is offered beyond what it has."""
MAX_LOST = 3
"""Attempts that one trial may lose to infrastructure before the stage itself is tried again."""


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


@dataclass(frozen=True)
class RunRequest:
    """What is to be measured, all of it fixed before the first trial starts."""

    lab: Lab
    config: Config
    iteration_id: str
    """Whose folder the run lies in: an iteration's, or `calibration`."""
    plan: Callable[[inputs.TrialInputs], Plan]
    command: str
    """The training's, `{python}` standing for the interpreter."""
    base: str
    candidate: str
    checks: Mapping[str, str]
    events: Sequence[Line]
    """The ledger lines since it may have begun, from which a measurement under way is taken up."""
    acted: int
    """Number of the newest line that acted on a stage's outcome: a run that ended after it is still to be used."""
    tell: View
    stop: Callable[[], bool]
    kind: RunKind = RunKind.SEARCH
    design_sha256: str | None = None
    exports: Path | None = None
    """Where commits and data are exported to, instead of the lab's store."""


@dataclass
class _OpenRun:
    """One measurement while the engine works on it."""

    order: RunRequest
    run_id: str
    plan: Plan
    setup: inputs.TrialInputs
    executor: Executor
    started_at: str
    trials: dict[str, Trial] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    flying: dict[str, tuple[str, Ref]] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    losses: dict[str, int] = field(default_factory=dict)
    executed: int = 0
    watch: Watch = field(init=False)


def measure(order: RunRequest) -> Measured:
    """Bring a run to an end, or pause it. Only bugs and unwritable files raise."""
    run = _take_up(order)
    try:
        judgement = _until_judged(run)
    except ExecutorError as error:
        ending = Ending.SYNC if isinstance(error, SyncError) else Ending.INFRASTRUCTURE
        return Measured(ending, str(error), run.run_id, None, run.executed)
    if judgement is None:
        return Measured(Ending.PAUSED, "stopped before the run was judged", run.run_id, None, run.executed)
    _cancel(run, list(run.flying))
    return _end(run, _manifest(run, judgement), judgement)


def lines_of(events: Sequence[Line], kinds: Iterable[RunKind]) -> list[Line]:
    """The lines about runs of these kinds: a run's own name begins with what it is for."""
    names = tuple(f"{NAMES[kind]}_" for kind in kinds)
    return [line for line in events if str(line.data.get("run_id", "")).startswith(names)]


def count_trials(events: Iterable[Line], kind: RunKind, since: int, campaign: Campaign, gpus: int) -> dict[str, Any]:
    """The campaign's counts with the trials of such runs that ended after line `since`; reused ones cost nothing."""
    ended = [line.data["trial"] for line in lines_of(list(events), [kind]) if line.event == "trial" and line.n > since]
    own = [trial["seconds"] for trial in ended if trial["reused_from"] is None]
    return {"trials": campaign.trials + len(own), "gpu_seconds": round(campaign.gpu_seconds + gpus * sum(own), 3)}


class SyncError(ExecutorError):
    """Results exist where the trial ran, and could not be brought here."""


def _take_up(order: RunRequest) -> _OpenRun:
    """The run that is under way, or a new one, registered before anything is spent."""
    lab = order.lab
    mine = lines_of(order.events, [order.kind])
    started = [line for line in mine if line.event == "run_started"]
    ended = {line.data["run_id"] for line in mine if line.event == "run_ended" and line.n < order.acted}
    open_runs = [line for line in started if line.data["kind"] == order.kind and line.data["run_id"] not in ended]
    setup = inputs_of(lab, order.config, order.base, order.candidate, order.exports)
    leak_checks.refuse_copied_labels(order.config, setup, lab.store)
    plan = order.plan(setup)
    registered: dict[str, Any] = {"kind": order.kind, "seeds": list(plan.seeds), "protocol": setup.protocol}
    registered |= {"design_sha256": order.design_sha256, "rule": plan.rule.value() if plan.rule else None}
    registered |= {"cells": [list(cell) for cell in sorted(plan.only)]} if plan.only else {}
    for arm in plan.arms:
        setup.seals.add(f"settings of {arm.name}", setup.settings_file(arm))
    if open_runs and any(open_runs[-1].data.get(key) != value for key, value in registered.items()):
        _abandon(order, open_runs.pop().data["run_id"])
    run_id = open_runs[-1].data["run_id"] if open_runs else f"{NAMES[order.kind]}_{_next(order, started):04d}"
    executor = _executor(order, run_id)
    started_at = open_runs[-1].time if open_runs else files.utc_now()
    run = _OpenRun(order, run_id, plan, setup, executor, started_at)
    _remember(run)
    if not open_runs:
        lab.ledger.append("run_started", {"run_id": run_id} | registered)
    if _recorded_end(run) is None:
        _write_manifest(run, _manifest(run, None))
    crash_points.point("run.after_manifest")
    return run


def _next(order: RunRequest, started: Sequence[Line]) -> int:
    """The number of a new run; of runs that stand between iterations the folder knows more than the lines."""
    name = NAMES[order.kind]
    shown = (order.lab.iteration(order.iteration_id).folder / "runs").glob(f"{name}_[0-9][0-9][0-9][0-9]")
    known = [] if name == NAMES[RunKind.SEARCH] else [int(path.name[-4:]) for path in shown]
    return 1 + max([len(started), *known])


def _executor(order: RunRequest, run_id: str) -> Executor:
    store = order.lab.run_store(order.iteration_id, run_id)
    store.mkdir(parents=True, exist_ok=True)
    return load_executor(order.config.executor.name)(store, order.config.executor.options)


def _abandon(order: RunRequest, run_id: str) -> None:
    """End a run whose design, rule, data, evaluator, metric or environment is not that of its first trial any more.

    Its trials would be paired with others of other seeds; nothing is compared across epochs.
    """
    submitted = [line.data for line in order.events if line.event == "submitted"]
    keys = [key for data in submitted if data["run_id"] == run_id for key in data["keys"]]
    executor = _executor(order, run_id)
    executor.cancel(list(executor.find(keys).values()))
    executor.discard()
    reason = "abandoned: what it was measured with has changed since it began"
    path = order.lab.iteration(order.iteration_id).run(run_id).manifest
    if path.exists():
        update = {"status": "failed", "reason": reason, "ended_at": files.utc_now()}
        files.write_whole(path, Manifest.load(path).model_copy(update=update).to_json())
    said = {"run_id": run_id, "status": "failed", "verdict": None, "reason": reason, "manifest_sha256": None}
    order.lab.ledger.append("run_ended", said)
    order.tell(f"{run_id} {reason}; measured anew")


def _remember(run: _OpenRun) -> None:
    """What the ledger says of this run's trials."""
    uncounted = 0
    for line in run.order.events:
        if line.data.get("run_id") != run.run_id:
            continue
        if line.event == "trial":
            trial = Trial.from_value(line.data["trial"], f"ledger.jsonl line {line.n}: trial")
            run.trials[trial.trial] = trial
            if not _stored(run).place(trial.content).exists():  # a crash came before it
                _store(run, trial, line)
            uncounted += line.n > run.order.acted and trial.reused_from is None
        elif line.event == "submitted":
            run.submitted.update(line.data["keys"])
        elif line.event == "trial_lost":
            run.attempts[line.data["trial"]] = line.data["attempt"] + 1
    run.watch = Watch(run.run_id, run.plan, run.trials, uncounted)


def _until_judged(run: _OpenRun) -> verdict.Judgement | None:
    """Keep the executor busy until the rule has what it needs; None if the user asked to stop first."""
    _reuse(run, planned_cells(run.plan))
    while True:
        trials = list(run.trials.values())
        judgement = verdict.judge(run.plan, trials)
        if judgement.done:
            return judgement
        if run.order.stop():
            _pause(run)
            return None
        cells = verdict.cells_wanted(run.plan, trials)
        _cancel(run, run.flying.keys() - {cell.trial for cell in cells})
        _launch(run, _due(run, cells))
        _collect_finished(run)


def _due(run: _OpenRun, cells: Sequence[Cell]) -> list[Cell]:
    """The next cells to be given to the executor: all of them, or under a rule that may stop early a few ahead.

    Those that an earlier command has submitted are among them, so that they are adopted.
    """
    waiting = [cell for cell in cells if cell.trial not in run.flying]
    if run.plan.rule is None or run.plan.rule.rule == "fixed":
        return waiting
    known = [cell for cell in waiting if _key(run, cell) in run.submitted]
    new = [cell for cell in waiting if _key(run, cell) not in run.submitted]
    return known + new[: max(0, AHEAD * len(run.plan.arms) - len(run.queued) - len(known))]


def _launch(run: _OpenRun, cells: Sequence[Cell]) -> None:
    """Submit cells under keys that are in the ledger first; keys that the executor knows are adopted."""
    if not cells:
        return
    jobs = {cell.trial: _job(run, cell) for cell in cells}
    keys = [job.key for job in jobs.values()]
    fresh = [key for key in keys if key not in run.submitted]
    run.watch.adopt(trial for trial, job in jobs.items() if job.key in run.submitted)
    if fresh:
        run.order.lab.ledger.append("submitted", {"run_id": run.run_id, "keys": fresh})
        run.submitted.update(fresh)
        crash_points.point("submit.after_intent")
    refs = {ref.key: ref for ref in run.executor.submit(list(jobs.values()))}
    crash_points.point("submit.after_jobs")
    for trial, job in jobs.items():
        run.flying[trial] = (job.key, refs[job.key])
        run.queued.add(trial)


def _collect_finished(run: _OpenRun) -> None:
    """Wait for a change, then bring home every trial that has ended."""
    refs = [ref for _, ref in run.flying.values()]
    statuses = run.executor.poll(refs, 1.0)
    phases = {trial: statuses[key].phase for trial, (key, _) in run.flying.items() if key in statuses}
    run.queued = {trial for trial, phase in phases.items() if phase is Phase.QUEUED}
    run.watch.look(phases)
    run.order.tell.trials(run.watch.progress())
    for trial, (key, ref) in list(run.flying.items()):
        status = statuses.get(key)
        if status is None or status.phase not in (Phase.FINISHED, Phase.LOST):
            continue
        exit_ = status.exit
        del run.flying[trial]
        if exit_ is None or exit_.outcome in (TrialOutcome.LOST, TrialOutcome.CANCELLED):
            _repeat(run, trial, exit_)
            continue
        crash_points.point("trial.after_exit")
        record = _bring_home(run, trial, ref, exit_)
        _record(run, record)
        run.executed += 1
        run.order.tell.trials(run.watch.progress(), record)


def _repeat(run: _OpenRun, trial: str, exit_: Exit | None) -> None:
    """An attempt was lost to infrastructure or cancelled to pause: the same seed runs again as the next attempt."""
    attempt = run.attempts.get(trial, 1)
    message = exit_.message if exit_ else "the executor lost it"
    lost = {"run_id": run.run_id, "trial": trial, "attempt": attempt, "message": message}
    run.order.lab.ledger.append("trial_lost", lost)
    run.attempts[trial] = attempt + 1
    if exit_ is None or exit_.outcome is TrialOutcome.LOST:
        run.losses[trial] = run.losses.get(trial, 0) + 1
        if run.losses[trial] == MAX_LOST:
            raise ExecutorError(f"trial {trial} was lost {MAX_LOST} times: {message}", transient=True)


def _bring_home(run: _OpenRun, trial: str, ref: Ref, exit_: Exit) -> Trial:
    """Fetch an attempt's files into the store, score its predictions there, show the files in the checkout.

    Nothing is read from the checkout, where a user may clean them away at any moment.
    """
    name, index, seed = next(cell for cell in planned_cells(run.plan) if cell.trial == trial)
    arm = _arm(run, name)
    attempt = run.attempts.get(trial, 1)
    folder = run.order.lab.store / "fetched" / ref.key
    try:
        run.executor.fetch(ref, folder)
    except ExecutorError as error:
        raise SyncError(f"trial {trial}: {error}", transient=error.transient) from None
    crash_points.point("trial.after_fetch")
    tidy(run.setup.evaluation.altered if run.setup.evaluation else None, ref.key, folder)
    scored = score.judge(run.setup, run.order.config, run.plan.scale, exit_, folder)
    parts = _parts(run, name, seed, scored, folder)
    if run.order.kind is RunKind.CONFIRM:
        _hold(run, ref.key, folder)
    shown = run.order.lab.iteration(run.order.iteration_id).run(run.run_id).trial(trial, attempt)
    remove_tree(shown)
    shown.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, shown)
    remove_tree(shown / lookahead.ALTERED)  # has served its comparison, and would say where the cuts are
    return Trial(
        trial=trial,
        arm=arm.name,
        index=index,
        seed=seed,
        attempt=attempt,
        commit=run.setup.code[arm.code].commit,
        key=ref.key,
        content=content_key(run.setup, _commands(run), arm, seed),
        outcome=scored.outcome,
        score=scored.score,
        self_reported=scored.self_reported,
        diverged=scored.diverged,
        parts=parts,
        predictions_sha256=scored.predictions_sha256,
        rows=scored.rows,
        agreement=scored.agreement,
        suspicions=scored.suspicions,
        contained=dict(exit_.contained),
        cpu_seconds=round(sum(step.cpu_seconds for step in exit_.steps if step.name == "train"), 3),
        seconds=round(exit_.seconds, 3),
        max_rss_bytes=exit_.max_rss_bytes,
        output_bytes=exit_.output_bytes,
        message=scored.message,
    )


def _parts(run: _OpenRun, arm: str, seed: int, scored: score.Scored, folder: Path) -> tuple[float, ...]:
    """The metric on parts of the evaluation, where another seed of the arm has given the very same predictions."""
    sha = scored.predictions_sha256
    alike = [t for t in run.trials.values() if (t.arm, t.predictions_sha256) == (arm, sha) and t.seed != seed]
    if scored.outcome is not TrialOutcome.COMPLETED or scored.diverged or sha is None or not alike:
        return ()
    known = next((trial.parts for trial in alike if trial.parts), None)
    if known or run.setup.evaluation is None:
        return known or ()
    return run.setup.evaluation.on_parts(run.plan.metric, folder)


def _hold(run: _OpenRun, key: str, folder: Path) -> None:
    """Keep the predictions for the holdout in the store, where nobody looks at them before the question is counted."""
    made = folder / HOLDOUT / "predictions.npy"
    if made.is_file():
        kept = held(run.order.lab, key)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, kept)
    remove_tree(folder / HOLDOUT)


def held(lab: Lab, key: str) -> Path:
    """Where a confirmation's trial keeps its predictions for the holdout until they are scored."""
    return lab.store / "held" / f"{key}.npy"


def _record(run: _OpenRun, trial: Trial) -> None:
    """Make a finished trial durable: the ledger line that counts, then a file to find it by content."""
    line = run.order.lab.ledger.append("trial", {"run_id": run.run_id, "trial": trial.value()})
    crash_points.point("trial.after_record")
    run.trials[trial.trial] = trial
    _store(run, trial, line)


def _store(run: _OpenRun, trial: Trial, line: Line) -> None:
    """Let later runs find a trial that ended here."""
    if trial.outcome is TrialOutcome.COMPLETED and trial.reused_from is None and not _arm(run, trial.arm).fresh:
        _stored(run).keep(line, run.order.iteration_id)
        crash_points.point("trial.after_store")


def _reuse(run: _OpenRun, cells: Sequence[Cell]) -> None:
    """Take over completed trials of the same code, settings, seed, data, evaluator and environment."""
    reused: list[str] = []
    for cell in cells:
        name, index, seed = cell
        trial, arm = cell.trial, _arm(run, name)
        if (
            arm.fresh
            or trial in run.trials
            or any(key.rpartition(".")[0].endswith(f".{trial}") for key in run.submitted)
        ):
            continue
        content = content_key(run.setup, _commands(run), arm, seed)
        try:
            found = _stored(run).find(content)
        except RecordError as error:
            run.order.tell(f"note: {error}; measured anew")
            continue
        if found is None:
            continue
        known, source = found
        update = {"trial": trial, "arm": name, "index": index, "reused_from": source}
        _record(run, known.model_copy(update=update))
        reused.append(source)
    if reused:
        run.order.tell(f"{len(reused)} trials reused, not run again: {reused[0]}{' ...' if reused[1:] else ''}")


def _pause(run: _OpenRun) -> None:
    """End after the trials that run now: what is queued is cancelled, what runs is brought home."""
    statuses = run.executor.poll([ref for _, ref in run.flying.values()], 0.0)
    queued = [ref for key, ref in run.flying.values() if key in statuses and statuses[key].phase is Phase.QUEUED]
    run.executor.cancel(queued)
    while run.flying:
        _collect_finished(run)


def _cancel(run: _OpenRun, trials: Iterable[str]) -> None:
    """End what the rule does not need any more; it leaves no trial behind."""
    refs = [run.flying.pop(trial)[1] for trial in list(trials)]
    if refs:
        run.executor.cancel(refs)


def _end(run: _OpenRun, manifest: Manifest, judgement: verdict.Judgement) -> Measured:
    recorded, path = _recorded_end(run), _manifest_path(run)
    if recorded is None or not path.exists() or files.sha256_of_file(path) != recorded.data["manifest_sha256"]:
        _write_manifest(run, manifest)
        said = {"run_id": run.run_id, "status": manifest.status, "verdict": judgement.verdict}
        said |= {"reason": judgement.reason, "manifest_sha256": files.sha256_of(manifest.to_json())}
        run.order.lab.ledger.append("run_ended", said)
    crash_points.point("run.after_end")
    run.executor.discard()
    crash_points.point("run.after_discard")
    ending = _ending(run, judgement)
    if ending is Ending.TAMPERED:
        for aside in run.setup.seals.put_away():
            run.order.tell(f"note: what was changed lies at {aside}; the next run gets it anew")
    return Measured(ending, judgement.reason, run.run_id, manifest, run.executed)


def _recorded_end(run: _OpenRun) -> Line | None:
    """The newest line that says how this run ended, where a crash came before the next state."""
    lines = [line for line in run.order.events if line.event == "run_ended" and line.data["run_id"] == run.run_id]
    return lines[-1] if lines else None


def _ending(run: _OpenRun, judgement: verdict.Judgement) -> Ending:
    """A candidate's own failure is its author's to fix; a baseline's, or tampering, a user's.

    Read off the one trial that the judgement names, so that it is the same whoever finished first.
    """
    if judgement.status == "completed":
        return Ending.DONE
    bad = verdict.trials_read(run.plan, run.trials.values())[-1]
    if bad.outcome is TrialOutcome.TAMPERED:
        return Ending.TAMPERED
    return Ending.BASELINE if _arm(run, bad.arm).code == BASE else Ending.CODE


def _arm(run: _OpenRun, name: str) -> PlannedArm:
    return next(arm for arm in run.plan.arms if arm.name == name)


def _commands(run: _OpenRun) -> TrialCommands:
    return TrialCommands.of(run.order.command, run.order.config)


def _stored(run: _OpenRun) -> stored.StoredTrials:
    return stored.StoredTrials(run.order.lab.store, run.order.lab.ledger)


def _job(run: _OpenRun, cell: Cell) -> Job:
    name, _, seed = cell
    order, trial, key = run.order, cell.trial, _key(run, cell)
    attempt, holdout = run.attempts.get(trial, 1), order.kind is RunKind.CONFIRM
    return trial_job(run.setup, _commands(run), Attempt(key, trial, attempt, _arm(run, name), seed, holdout))


def _key(run: _OpenRun, cell: Cell) -> str:
    order, trial = run.order, cell.trial
    return f"{order.lab.lab_id}.{order.iteration_id}.{run.run_id}.{trial}.a{run.attempts.get(trial, 1)}"


def _manifest(run: _OpenRun, judgement: verdict.Judgement | None) -> Manifest:
    order, setup, lab = run.order, run.setup, run.order.lab
    evaluate = order.config.evaluate
    over = judgement is not None
    status: Any = judgement.status if judgement else "running"
    return Manifest(
        run_id=run.run_id,
        iteration_id=order.iteration_id,
        kind=order.kind,
        lab_id=lab.lab_id,
        status=status,
        git=ManifestGit(
            control_plane_commit=lab.git.head() or "",
            candidate_commit=order.candidate,
            base_commit=order.base,
            dirty=bool(lab.git.dirty()),
        ),
        location=run.executor.location,
        command=order.command,
        sync=ManifestSync(
            artifact_sync_to_local=SyncStep(
                status="ok" if over else "pending", completed_at=files.utc_now() if over else None
            )
        ),
        verifier_results=dict(order.checks),
        started_at=run.started_at,
        ended_at=files.utc_now() if over else None,
        artifacts={"metrics": "metrics.json", "trials": "trials", "design": "../../design.yaml"}
        if NAMES[order.kind] == NAMES[RunKind.SEARCH]
        else {"trials": "trials"},
        design_sha256=order.design_sha256,
        rule=run.plan.rule,
        metric=run.plan.metric,
        direction=run.plan.direction,
        success_delta=run.plan.delta,
        arms=tuple(RunArm(name=a.name, role=a.role, code=a.code, settings=a.settings) for a in run.plan.arms),
        pairs=len(run.plan.seeds),
        protocol=setup.protocol,
        lab={key: order.config.value()[key] for key in CONFIGURED},
        environment=setup.interpreter.environment,
        evaluator=FileHash(path=evaluate.script, sha256=setup.evaluator_sha256) if evaluate else None,
        data=dict(setup.data_sha256),
        frozen=_frozen_hashes(order),
        containment=order.config.containment,
        self_reported=setup.evaluation is None,
        trials=tuple(sorted(run.trials.values(), key=lambda t: (t.index, t.arm))),
        comparisons=judgement.comparisons if judgement else (),
        reason=judgement.reason if judgement else "",
    )


def _frozen_hashes(order: RunRequest) -> dict[str, str]:
    git = order.lab.git
    held = {path: git.has_path(order.base, path) for path in order.config.files.frozen}
    return {path: oid for path, oid in held.items() if oid}


def _manifest_path(run: _OpenRun) -> Path:
    return run.order.lab.iteration(run.order.iteration_id).run(run.run_id).manifest


def _write_manifest(run: _OpenRun, manifest: Manifest) -> None:
    files.write_whole(_manifest_path(run), manifest.to_json())
