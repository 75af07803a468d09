"""Stage launch: measure the reviewed commit, and confirm what the search supports. Engine code alone."""

from __future__ import annotations

import dataclasses
import shlex

from autolab import files
from autolab.lab import budget
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop import design, review
from autolab.loop.document import queue_rows
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.stats.plan import Plan, plan_design, plan_within, planned_cells
from autolab.stats.seeds import confirmation_seeds
from autolab.trials import calibration, champion, job, measurement
from autolab.trials.holdout_question import HoldoutQuestion
from autolab.trials.inputs import TrialInputs, set_up
from autolab.trials.lab_inputs import code_commits, record_of, source_of
from autolab.trials.run_record import RunObserver, RunRecord, RunSpec, count_trials, lines_of
from autolab.verifiers import suspicion

# launch


def run(desk: Iteration) -> StageResult | None:
    """Measure behind the gate; None if the user asked to stop before the run was judged."""
    forbidden = review.gate(desk)
    if forbidden:
        return StageResult(StageOutcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    design.fix_bound(desk)
    left = _left(desk, RunKind.SEARCH)
    planned = plan_design(desk.design(), desk.config, desk.hypothesis(), b"", "", "")
    short = budget.spent_within(desk.config.budget, desk.campaign)
    if short or plan_within(planned, left) is None:
        short = short or _short(desk, len(planned_cells(planned)), left)
        return StageResult(StageOutcome.STOP, f"budget: {short}")
    search = _run(desk, _spec(desk, left))
    if search.ending is not measurement.Ending.DONE:
        return _measured(desk, search, search.run_id)
    assert search.manifest is not None
    desk.restore()  # what a user cleaned away while trials ran
    found = champion.lead(search.manifest, desk.design(), desk.hypothesis())
    return _confirm(desk, search.manifest, *found) if found else _measured(desk, search, search.run_id)


def _confirm(desk: Iteration, search: Manifest, plan: Plan, variant: str) -> StageResult | None:
    """A supported variant once more on fresh seeds; the claim counts in the campaign whatever comes of it."""
    left, taken = _left(desk, RunKind.CONFIRM), max(one.pairs or 0 for one in search.comparisons)
    tested = champion.rule(desk.config, plan.rule or desk.config.test, desk.campaign.claims)
    tree, count = desk.lab.git.tree(desk.candidate() or ""), champion.pairs(plan, desk.config)
    again = champion.plan(plan, variant, tested, confirmation_seeds(desk.lab.secret, tree, count), left)
    # As many pairs again as the search took may not do: chance made them few.
    if again is None or len(again.seeds) < min(2 * taken, count):
        desk.tell(f"{variant} is supported, and not confirmed: the budget ends here")
        short = _short(desk, 2 * count, left)
        return StageResult(StageOutcome.STOP, f"budget: {short}", _executed(desk))
    claims = desk.campaign.claims
    desk.tell(f"{variant} is supported: measured again on fresh seeds, beside a fresh baseline")
    path = desk.paths.run(search.run_id).manifest
    made = path.read_text(encoding="utf-8")
    spec = dataclasses.replace(_spec(desk, None), plan=lambda _: again, kind=RunKind.CONFIRM)
    measured = _run(desk, spec)
    files.write_whole(path, made)  # no state holds it yet: a user may have cleaned it away meanwhile
    if measured.ending is not measurement.Ending.DONE or measured.manifest is None:
        return _measured(desk, measured, search.run_id)
    desk.restore()
    passed = champion.lead(measured.manifest, desk.design(), desk.hypothesis()) is not None
    both = (search, measured.manifest)
    doubts = suspicion.reasons(both, desk.design(), calibration.current_calibration(desk.lab), variant)
    question = HoldoutQuestion(
        record=_record(desk),
        confirm=measured.manifest,
        claims=claims,
        allowed=desk.config.test.holdout_questions,
        inputs=lambda: set_up(source_of(desk.lab), desk.config, spec.commits),
        tell=desk.tell,
    )
    found = champion.conclude(question, search, passed, doubts)
    counted = champion.after(claims, found, measured.manifest.protocol)
    result = _measured(desk, measured, search.run_id)
    return result and dataclasses.replace(result, campaign=result.campaign | {"claims": counted})


def _left(desk: Iteration, kind: RunKind) -> int | None:
    """Trials that the budget allows the run of this kind, from its first on: the same at each look at it."""
    allowed, known = desk.config.budget.trials, calibration.current_calibration(desk.lab)
    priced = budget.trials_left(
        desk.config.budget, desk.campaign, desk.config.train.gpus, known.seconds if known else None
    )
    caps = [cap for cap in (None if allowed is None else allowed - desk.campaign.trials, priced) if cap is not None]
    if not caps:
        return None
    events = lines_of(desk.events(), [kind])
    over = {line.data["run_id"] for line in events if line.event == "run_ended" and line.n < desk.acted}
    begun = [line.data for line in events if line.event == "run_started" and line.data["kind"] == kind]
    mine = {data["run_id"] for data in begun} - over
    done = [line for line in events if line.event == "trial" and line.data["trial"]["reused_from"] is None]
    counted = sum(line.data["run_id"] in mine and line.n < desk.acted for line in done)
    others = sum(line.data["run_id"] not in mine and line.n > desk.acted for line in done)
    return min(caps) - others + counted


def _short(desk: Iteration, wanted: int, left: int | None) -> str:
    cap = desk.config.budget
    allowed = [f"budget.{name} {value:g}" for name in ("trials", "gpu_hours") if (value := getattr(cap, name))]
    return f"trials: {wanted} wanted, {left} left by {' and '.join(allowed)}"


def _measured(desk: Iteration, measured: measurement.Measured, shown: str) -> StageResult | None:
    """What an ended run means for the stage; `shown` is the run that the next stage reads."""
    desk.restore()
    _write_script(desk)
    counts = _executed(desk)
    state = {"last_run_id": shown, "sync_status": "ok"}
    if measured.manifest is not None and measured.manifest.status == "failed":
        queue_rows(desk, measured.manifest, None)
    match measured.ending:
        case measurement.Ending.PAUSED:
            return (
                StageResult(StageOutcome.STOP, f"budget: wall_hours: {_hours(desk)}", counts) if desk.late() else None
            )
        case measurement.Ending.DONE:
            return StageResult(StageOutcome.COMPLETE, "", counts, state)
        case measurement.Ending.CODE:
            return StageResult(StageOutcome.SEND_BACK, f"{measured.run_id}: {measured.reason}", counts, state)
        case measurement.Ending.SYNC:
            return StageResult(StageOutcome.RETRY, measured.reason, counts, state | {"sync_status": "failed"})
        case measurement.Ending.INFRASTRUCTURE:
            return StageResult(StageOutcome.RETRY, measured.reason, counts, state | {"sync_status": "pending"})
        case measurement.Ending.BASELINE:
            reason = f"{measured.run_id}: the baseline itself fails, which no candidate can fix: {measured.reason}"
            return StageResult(StageOutcome.ESCALATE, reason, counts, state)
        case measurement.Ending.TAMPERED:
            return StageResult(StageOutcome.ESCALATE, f"{measured.run_id}: {measured.reason}", counts, state)


def _run(desk: Iteration, spec: RunSpec) -> measurement.Measured:
    observer = RunObserver(desk.tell, lambda: desk.stop() or desk.late())
    return measurement.measure(source_of(desk.lab), desk.config, spec, _record(desk), observer)


def _record(desk: Iteration) -> RunRecord:
    return record_of(desk.lab, desk.iteration_id, desk.events(), desk.acted)


def _spec(desk: Iteration, left: int | None) -> RunSpec:
    """The search of the design, within `left` trials."""
    commit, spec, lab = desk.candidate() or "", desk.design(), desk.lab
    base = desk.campaign.base_commit or ""
    base_tree = lab.git.tree(base)

    def plan(inputs: TrialInputs) -> Plan:
        whole = plan_design(spec, desk.config, desk.hypothesis(), lab.secret, inputs.protocol, base_tree)
        return plan_within(whole, left) or whole

    return RunSpec(
        kind=RunKind.SEARCH,
        plan=plan,
        command=job.train_command(spec, desk.config),
        commits=code_commits(base, commit),
        design_sha256=files.sha256_of(spec.to_yaml()),
        checks=review.checked(desk, commit)["checks"],
    )


def _hours(desk: Iteration) -> str:
    return f"{desk.config.budget.wall_hours:g} are over"


def _executed(desk: Iteration) -> dict[str, object]:
    """The campaign's counts with the trials brought to an end since the newest transition: the same after a crash."""
    gpus = desk.config.train.gpus
    return count_trials(desk.events(), RunKind.SEARCH, desk.acted, desk.campaign, gpus)


def _write_script(desk: Iteration) -> None:
    """`launch/run_local.sh`: one trial of the candidate by hand, for a user who wants to look."""
    command = shlex.join(job.argv_of(job.train_command(desk.design(), desk.config), desk.lab.python(desk.config)))
    data = f'export AUTOLAB_DATA="$PWD/{desk.config.data}"\n' if desk.config.data else ""
    text = (
        "#!/bin/sh\n# One training of this candidate by hand, outside of the record; from the lab's folder.\nset -eu\n"
        f'export AUTOLAB_SEED="${{AUTOLAB_SEED:-0}}" AUTOLAB_TRIAL_DIR="$(mktemp -d)"\n{data}'
        'export AUTOLAB_CONFIG="$AUTOLAB_TRIAL_DIR/config.json"\necho "{}" > "$AUTOLAB_CONFIG"\n'
        f'echo "files go to $AUTOLAB_TRIAL_DIR"\ncd "{desk.shown(desk.worktree)}"\nexec {command}\n'
    )
    desk.write(desk.paths.launch_script, text)
