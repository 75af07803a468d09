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
from autolab.trials import calibration, champion, inputs, job, measurement
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
    order = _order(desk, left)
    search = measurement.measure(order)
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
    again = champion.plan(_order(desk), plan, variant, tested, left)
    # As many pairs again as the search took may not do: chance made them few.
    if again is None or len(again.seeds) < min(2 * taken, champion.pairs(plan, desk.config)):
        desk.tell(f"{variant} is supported, and not confirmed: the budget ends here")
        short = _short(desk, 2 * champion.pairs(plan, desk.config), left)
        return StageResult(StageOutcome.STOP, f"budget: {short}", _executed(desk))
    order, claims = _order(desk), desk.campaign.claims
    desk.tell(f"{variant} is supported: measured again on fresh seeds, beside a fresh baseline")
    path = desk.paths.run(search.run_id).manifest
    made = path.read_text(encoding="utf-8")
    measured = champion.measure(order, again)
    files.write_whole(path, made)  # no state holds it yet: a user may have cleaned it away meanwhile
    if measured.ending is not measurement.Ending.DONE or measured.manifest is None:
        return _measured(desk, measured, search.run_id)
    desk.restore()
    passed = champion.lead(measured.manifest, desk.design(), desk.hypothesis()) is not None
    both = (search, measured.manifest)
    doubts = suspicion.reasons(both, desk.design(), calibration.current_calibration(desk.lab), variant)
    found = champion.conclude(_order(desk), search, measured.manifest, claims, passed, doubts)
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
    events = measurement.lines_of(desk.events(), [kind])
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


def _order(desk: Iteration, left: int | None = None) -> measurement.RunRequest:
    commit, spec, lab = desk.candidate() or "", desk.design(), desk.lab
    base_tree = lab.git.tree(desk.campaign.base_commit or "")

    def plan(setup: inputs.TrialInputs) -> Plan:
        whole = plan_design(spec, desk.config, desk.hypothesis(), lab.secret, setup.protocol, base_tree)
        return plan_within(whole, left) or whole

    return measurement.RunRequest(
        lab=lab,
        config=desk.config,
        iteration_id=desk.iteration_id,
        plan=plan,
        command=job.train_command(spec, desk.config),
        design_sha256=files.sha256_of(spec.to_yaml()),
        base=desk.campaign.base_commit or "",
        candidate=commit,
        checks=review.checked(desk, commit)["checks"],
        events=desk.events(),
        acted=desk.acted,
        tell=desk.tell,
        stop=lambda: desk.stop() or desk.late(),
    )


def _hours(desk: Iteration) -> str:
    return f"{desk.config.budget.wall_hours:g} are over"


def _executed(desk: Iteration) -> dict[str, object]:
    """The campaign's counts with the trials brought to an end since the newest transition: the same after a crash."""
    gpus = desk.config.train.gpus
    return measurement.count_trials(desk.events(), RunKind.SEARCH, desk.acted, desk.campaign, gpus)


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
