"""Measure arms over seeds: plan the cells, reuse what is known, submit, collect, score, judge, stop.

Everything durable is a ledger line written before the effect (`submitted`) or after it (`trial`), so a
measurement that was killed anywhere goes on where it was: finished trials are read back, trials under
way are adopted from the executor, and only what is known to be lost gets a new attempt.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from autolab import durable, experiment, fault, rig, scoring, suffix
from autolab.collection import remove_tree
from autolab.errors import ExecutorError
from autolab.executors import load_executor
from autolab.executors.base import Executor, Exit, Job, Phase, Ref
from autolab.experiment import PlannedArm
from autolab.lab import Lab
from autolab.ledger import Line
from autolab.progress import Watch
from autolab.records.experiment import (
    Design,
    FileHash,
    Hypothesis,
    Manifest,
    ManifestGit,
    ManifestSync,
    SyncStep,
    Trial,
)
from autolab.records.lab import Config
from autolab.records.outcomes import Outcome, RunKind
from autolab.view import View

MAX_LOST = 3
"""Attempts that one trial may lose to infrastructure before the stage itself is tried again."""


Cell = tuple[str, int, int]
"""Arm, index in the seed list, seed."""


class Ending(StrEnum):
    """How a measurement ended, for the stage table."""

    DONE = "done"
    CODE = "code"
    BASELINE = "baseline"
    INFRASTRUCTURE = "infrastructure"
    SYNC = "sync"
    TAMPERED = "tampered"
    PARKED = "parked"


@dataclass(frozen=True)
class Measured:
    ending: Ending
    reason: str
    run_id: str
    manifest: Manifest | None
    executed: int
    """Trials that this call brought to an end (reused ones are not among them)."""


@dataclass(frozen=True)
class Order:
    """What is to be measured, all of it fixed before the first trial starts."""

    lab: Lab
    config: Config
    iteration_id: str
    design: Design
    hypothesis: Hypothesis | None
    base: str
    candidate: str
    checks: Mapping[str, str]
    events: Sequence[Line]
    """The iteration's ledger lines so far, from which a measurement under way is taken up."""
    acted: int
    """Number of the newest line that acted on a stage's outcome: a run that ended after it is still to be used."""
    tell: View
    stop: Callable[[], bool]
    kind: RunKind = RunKind.SEARCH


@dataclass
class _Run:
    """One measurement while the engine works on it."""

    order: Order
    run_id: str
    plan: experiment.Plan
    setup: rig.Rig
    executor: Executor
    started_at: str
    trials: dict[str, Trial] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    flying: dict[str, tuple[str, Ref]] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    executed: int = 0
    watch: Watch = field(init=False)


def measure(order: Order) -> Measured:
    """Bring the iteration's run to an end, or park it. Only bugs and unwritable files raise."""
    run = _take_up(order)
    try:
        judgement = _until_judged(run)
    except ExecutorError as error:
        ending = Ending.SYNC if isinstance(error, SyncError) else Ending.INFRASTRUCTURE
        return Measured(ending, str(error), run.run_id, None, run.executed)
    if judgement is None:
        return Measured(Ending.PARKED, "stopped before the run was judged", run.run_id, None, run.executed)
    _cancel_rest(run)
    manifest = _manifest(run, judgement)
    return _end(run, manifest, judgement)


class SyncError(ExecutorError):
    """Results exist where the trial ran, and could not be brought here."""


def _take_up(order: Order) -> _Run:
    """The run that is under way, or a new one, registered before anything is spent."""
    lab = order.lab
    started = [line for line in order.events if line.event == "run_started"]
    ended = {line.data["run_id"] for line in order.events if line.event == "run_ended" and line.n < order.acted}
    open_runs = [line for line in started if line.data["run_id"] not in ended]
    setup = rig.set_up(lab, order.config, order.base, order.candidate)
    plan = experiment.plan(
        order.design, order.config, order.hypothesis, lab.secret, setup.epoch, lab.git.tree(order.base)
    )
    registered: dict[str, Any] = {"kind": order.kind, "seeds": list(plan.seeds), "epoch": setup.epoch}
    registered |= {"design_sha256": durable.sha256(order.design.to_yaml()), "rule": plan.rule.value()}
    for arm in plan.arms:
        setup.seals.add(f"settings of {arm.name}", rig.settings_file(setup, arm))
    if open_runs and any(open_runs[-1].data[key] != value for key, value in registered.items()):
        _abandon(order, open_runs.pop().data["run_id"])
    run_id = open_runs[-1].data["run_id"] if open_runs else f"run_{len(started) + 1:04d}"
    executor = _executor(order, run_id)
    started_at = open_runs[-1].time if open_runs else durable.utc_now()
    run = _Run(order, run_id, plan, setup, executor, started_at)
    _remember(run)
    if not open_runs:
        lab.ledger.append("run_started", {"run_id": run_id} | registered)
    if _recorded_end(run) is None:
        _write_manifest(run, _manifest(run, None))
    fault.point("run.after_manifest")
    return run


def _executor(order: Order, run_id: str) -> Executor:
    store = order.lab.run_store(order.iteration_id, run_id)
    store.mkdir(parents=True, exist_ok=True)
    return load_executor(order.config.executor.name)(store, order.config.executor.options)


def _abandon(order: Order, run_id: str) -> None:
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
        update = {"status": "failed", "reason": reason, "ended_at": durable.utc_now()}
        durable.write(path, Manifest.load(path).model_copy(update=update).to_json())
    said = {"run_id": run_id, "status": "failed", "verdict": None, "reason": reason, "manifest_sha256": None}
    order.lab.ledger.append("run_ended", said)
    order.tell(f"{run_id} {reason}; measured anew")


def _remember(run: _Run) -> None:
    """What the ledger says of this run's trials."""
    uncounted = 0
    for line in run.order.events:
        if line.data.get("run_id") != run.run_id:
            continue
        if line.event == "trial":
            trial = Trial.from_value(line.data["trial"], f"ledger.jsonl line {line.n}: trial")
            run.trials[trial.trial] = trial
            uncounted += line.n > run.order.acted and trial.reused_from is None
        elif line.event == "submitted":
            run.submitted.update(line.data["keys"])
        elif line.event == "trial_lost":
            run.attempts[line.data["trial"]] = line.data["attempt"] + 1
    run.watch = Watch(run.run_id, run.plan, run.trials, uncounted)


def _until_judged(run: _Run) -> experiment.Judgement | None:
    """Keep the executor busy until the rule has what it needs; None if the person asked to stop first."""
    cells = experiment.cells(run.plan)
    _reuse(run, cells)
    while True:
        judgement = experiment.judge(run.plan, list(run.trials.values()))
        if judgement.done:
            return judgement
        if run.order.stop():
            _park(run)
            return None
        _launch(run, [cell for cell in cells if _id(cell) not in run.trials and _id(cell) not in run.flying])
        _collect_finished(run)


def _launch(run: _Run, cells: Sequence[Cell]) -> None:
    """Submit cells under keys that are in the ledger first; keys that the executor knows are adopted."""
    if not cells:
        return
    jobs = {_id(cell): _job(run, cell) for cell in cells}
    keys = [job.key for job in jobs.values()]
    fresh = [key for key in keys if key not in run.submitted]
    run.watch.adopt(trial for trial, job in jobs.items() if job.key in run.submitted)
    if fresh:
        run.order.lab.ledger.append("submitted", {"run_id": run.run_id, "keys": fresh})
        run.submitted.update(fresh)
        fault.point("submit.after_intent")
    refs = {ref.key: ref for ref in run.executor.submit(list(jobs.values()))}
    fault.point("submit.after_jobs")
    for trial, job in jobs.items():
        run.flying[trial] = (job.key, refs[job.key])


def _collect_finished(run: _Run) -> None:
    """Wait for a change, then bring home every trial that has ended."""
    refs = [ref for _, ref in run.flying.values()]
    statuses = run.executor.poll(refs, 1.0)
    run.watch.look({trial: statuses[key].phase for trial, (key, _) in run.flying.items() if key in statuses})
    run.order.tell.trials(run.watch.progress())
    for trial, (key, ref) in list(run.flying.items()):
        status = statuses.get(key)
        if status is None or status.phase not in (Phase.FINISHED, Phase.LOST):
            continue
        exit_ = status.exit
        del run.flying[trial]
        if exit_ is None or exit_.outcome in (Outcome.LOST, Outcome.CANCELLED):
            _repeat(run, trial, exit_)
            continue
        fault.point("trial.after_exit")
        record = _bring_home(run, trial, ref, exit_)
        _record(run, record)
        run.executed += 1
        run.order.tell.trials(run.watch.progress(), record)


def _repeat(run: _Run, trial: str, exit_: Exit | None) -> None:
    """An attempt was lost to infrastructure or cancelled to park: the same seed runs again as the next attempt."""
    attempt = run.attempts.get(trial, 1)
    message = exit_.message if exit_ else "the executor lost it"
    lost = {"run_id": run.run_id, "trial": trial, "attempt": attempt, "message": message}
    run.order.lab.ledger.append("trial_lost", lost)
    run.attempts[trial] = attempt + 1
    if exit_ is None or exit_.outcome is Outcome.LOST:
        run.losses[trial] = run.losses.get(trial, 0) + 1
        if run.losses[trial] == MAX_LOST:
            raise ExecutorError(f"trial {trial} was lost {MAX_LOST} times: {message}", transient=True)


def _bring_home(run: _Run, trial: str, ref: Ref, exit_: Exit) -> Trial:
    """Fetch an attempt's files into the store, score its predictions there, show the files in the checkout.

    Nothing is read from the checkout, where a person may clean them away at any moment.
    """
    name, index, seed = next(cell for cell in experiment.cells(run.plan) if _id(cell) == trial)
    arm = _arm(run, name)
    attempt = run.attempts.get(trial, 1)
    folder = run.order.lab.store / "fetched" / ref.key
    try:
        run.executor.fetch(ref, folder)
    except ExecutorError as error:
        raise SyncError(f"trial {trial}: {error}", transient=error.transient) from None
    fault.point("trial.after_fetch")
    rig.tidy(run.setup, ref.key, folder)
    scored = scoring.judge(run.setup, run.order.config, run.plan.metric, exit_, folder)
    shown = run.order.lab.iteration(run.order.iteration_id).run(run.run_id).trial(trial, attempt)
    remove_tree(shown)
    shown.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, shown)
    remove_tree(shown / suffix.ALTERED)  # has served its comparison, and would say where the cuts are
    return Trial(
        trial=trial,
        arm=arm.name,
        index=index,
        seed=seed,
        attempt=attempt,
        commit=run.setup.commits[arm.code],
        key=ref.key,
        content=_content(run, arm, seed),
        outcome=scored.outcome,
        score=scored.score,
        self_reported=scored.self_reported,
        predictions_sha256=scored.predictions_sha256,
        rows=scored.rows,
        suspicions=scored.suspicions,
        contained=dict(exit_.contained),
        cpu_seconds=round(sum(step.cpu_seconds for step in exit_.steps if step.name == "train"), 3),
        seconds=round(exit_.seconds, 3),
        max_rss_bytes=exit_.max_rss_bytes,
        output_bytes=exit_.output_bytes,
        message=scored.message,
    )


def _record(run: _Run, trial: Trial) -> None:
    """Make a finished trial durable: a file to find it by content, then the ledger line that counts."""
    if trial.outcome is Outcome.COMPLETED and trial.reused_from is None:
        where = _known(run.order.lab, trial.content)
        durable.write(where, json.dumps({"run_id": run.run_id, "iteration_id": run.order.iteration_id} | trial.value()))
        fault.point("trial.after_store")
    run.order.lab.ledger.append("trial", {"run_id": run.run_id, "trial": trial.value()})
    fault.point("trial.after_record")
    run.trials[trial.trial] = trial


def _reuse(run: _Run, cells: Sequence[Cell]) -> None:
    """Take over completed trials of the same code, settings, seed, data, evaluator and environment."""
    reused: list[str] = []
    for name, index, seed in cells:
        trial, arm = _id((name, index, seed)), _arm(run, name)
        if trial in run.trials or any(key.rpartition(".")[0].endswith(f".{trial}") for key in run.submitted):
            continue
        content = _content(run, arm, seed)
        path = _known(run.order.lab, content)
        if not path.exists():
            continue
        value = json.loads(path.read_text(encoding="utf-8"))
        source = f"{value.pop('iteration_id')}/{value.pop('run_id')}/{value['trial']}"
        value |= {"trial": trial, "arm": name, "index": index, "reused_from": source}
        _record(run, Trial.from_value(value, str(path)))
        reused.append(source)
    if reused:
        run.order.tell(f"{len(reused)} trials reused, not run again: {reused[0]}{' ...' if reused[1:] else ''}")


def _known(lab: Lab, content: str) -> Path:
    return lab.store / "trials" / content[:2] / f"{content}.json"


def _park(run: _Run) -> None:
    """End after the trials that run now: what is queued is cancelled, what runs is brought home."""
    statuses = run.executor.poll([ref for _, ref in run.flying.values()], 0.0)
    queued = [ref for key, ref in run.flying.values() if key in statuses and statuses[key].phase is Phase.QUEUED]
    run.executor.cancel(queued)
    while run.flying:
        _collect_finished(run)


def _cancel_rest(run: _Run) -> None:
    run.executor.cancel([ref for _, ref in run.flying.values()])
    run.flying.clear()


def _end(run: _Run, manifest: Manifest, judgement: experiment.Judgement) -> Measured:
    recorded, path = _recorded_end(run), _manifest_path(run)
    if recorded is None or not path.exists() or durable.file_sha256(path) != recorded.data["manifest_sha256"]:
        _write_manifest(run, manifest)
        said = {"run_id": run.run_id, "status": manifest.status, "verdict": judgement.verdict}
        said |= {"reason": judgement.reason, "manifest_sha256": durable.sha256(manifest.to_json())}
        run.order.lab.ledger.append("run_ended", said)
    fault.point("run.after_end")
    run.executor.discard()
    fault.point("run.after_discard")
    ending = _ending(run, judgement)
    if ending is Ending.TAMPERED:
        for aside in run.setup.seals.put_away():
            run.order.tell(f"note: what was changed lies at {aside}; the next run gets it anew")
    return Measured(ending, judgement.reason, run.run_id, manifest, run.executed)


def _recorded_end(run: _Run) -> Line | None:
    """The newest line that says how this run ended, where a crash came before the next state."""
    lines = [line for line in run.order.events if line.event == "run_ended" and line.data["run_id"] == run.run_id]
    return lines[-1] if lines else None


def _ending(run: _Run, judgement: experiment.Judgement) -> Ending:
    """A candidate's own failure is its author's to mend; a baseline's, or tampering, a person's.

    Read off the one trial that the judgement names, so that it is the same whoever finished first.
    """
    if judgement.status == "completed":
        return Ending.DONE
    bad = experiment.counted(run.plan, run.trials.values())[-1]
    if bad.outcome is Outcome.TAMPERED:
        return Ending.TAMPERED
    return Ending.BASELINE if _arm(run, bad.arm).code == "base" else Ending.CODE


def _id(cell: Cell) -> str:
    arm, index, _ = cell
    return f"{arm}-s{index}"


def _arm(run: _Run, name: str) -> PlannedArm:
    return next(arm for arm in run.plan.arms if arm.name == name)


def _content(run: _Run, arm: PlannedArm, seed: int) -> str:
    setup, config = run.setup, run.order.config
    return experiment.content_key(
        tree=setup.trees[arm.code],
        command=[
            rig.train_command(run.order.design, run.order.config),
            config.predict.command if config.predict else "",
            *_ways_of_training(run),
        ],
        settings=arm.settings,
        seed=seed,
        data=dict(setup.data_sha256),
        evaluator=setup.evaluator_sha256 + (" altered suffix" if setup.altered else ""),
        environment=f"{setup.environment.version} {setup.environment.packages_sha256}",
    )


def _ways_of_training(run: _Run) -> list[str]:
    """What else in the configuration can change a trial's numbers; nothing where it says nothing about it."""
    train = run.order.config.train
    found = [f"metrics {train.metrics}"] if train.metrics != "metrics.json" else []
    found += ["in a copy"] if train.in_copy else []
    return found + [f"{name}={value}" for name, value in run.setup.person.items()]


def _job(run: _Run, cell: Cell) -> Job:
    name, _, seed = cell
    order, trial = run.order, _id(cell)
    attempt = run.attempts.get(trial, 1)
    key = f"{order.lab.lab_id}.{order.iteration_id}.{run.run_id}.{trial}.a{attempt}"
    return rig.job(run.setup, order.design, order.config, key, trial, attempt, _arm(run, name), seed)


def _manifest(run: _Run, judgement: experiment.Judgement | None) -> Manifest:
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
        command=rig.train_command(order.design, order.config),
        sync=ManifestSync(
            artifact_sync_to_local=SyncStep(
                status="ok" if over else "pending", completed_at=durable.utc_now() if over else None
            )
        ),
        verifier_results=dict(order.checks),
        started_at=run.started_at,
        ended_at=durable.utc_now() if over else None,
        artifacts={"metrics": "metrics.json", "trials": "trials", "design": "../../design.yaml"},
        design_sha256=durable.sha256(order.design.to_yaml()),
        rule=run.plan.rule,
        metric=run.plan.metric,
        success_delta=run.plan.delta,
        environment=setup.environment,
        evaluator=FileHash(path=evaluate.script, sha256=setup.evaluator_sha256) if evaluate else None,
        data=setup.data_sha256,
        frozen=_frozen_hashes(order),
        containment=order.config.containment,
        self_reported=setup.evaluator is None,
        trials=tuple(sorted(run.trials.values(), key=lambda t: (t.index, t.arm))),
        comparisons=judgement.comparisons if judgement else (),
        reason=judgement.reason if judgement else "",
    )


def _frozen_hashes(order: Order) -> dict[str, str]:
    git = order.lab.git
    held = {path: git.has_path(order.base, path) for path in order.config.files.frozen}
    return {path: oid for path, oid in held.items() if oid}


def _manifest_path(run: _Run) -> Path:
    return run.order.lab.iteration(run.order.iteration_id).run(run.run_id).manifest


def _write_manifest(run: _Run, manifest: Manifest) -> None:
    durable.write(_manifest_path(run), manifest.to_json())
