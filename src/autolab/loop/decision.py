"""Stage decide_repeat: what the researcher wishes to do next, held against what was measured."""

from __future__ import annotations

from autolab import files
from autolab.ideas import lessons
from autolab.lab import crash_points
from autolab.lab.schemas.campaign import Champion
from autolab.lab.schemas.experiment import (
    Assembler,
    Confirmation,
    Interval,
    IterationRecord,
    Lesson,
    Manifest,
    PlanningDecision,
    Reply,
    Results,
    Summary,
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, TrialOutcome
from autolab.lab.schemas.replies import DecisionOutput
from autolab.loop import iteration, quarantine
from autolab.loop.document import account_of
from autolab.loop.iteration import Iteration, StageResult, quoted, recorded_manifest, recorded_metrics, recorded_results
from autolab.loop.request import answered, ask
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, tables
from autolab.reports.progress_figure import show_progress
from autolab.researchers.assembler import blueprint
from autolab.stats import rules, target, wording
from autolab.stats.scores import Scale
from autolab.trials import champion

# decide_repeat


def run(desk: Iteration) -> StageResult:
    """What the researcher wishes to do next, held against what was measured."""
    values = {
        "summary_md": quoted(desk, desk.paths.summary),
        "target": desk.target or "none",
        "standing": _standing(desk),
        "history": iteration.history(desk),
        "method": blueprint.told(iteration.in_base(desk)),
    }
    output = answered(ask(desk, values), DecisionOutput)
    if isinstance(output, StageResult):
        return output
    refused = _refused(desk, output)
    if refused:
        return StageResult(StageOutcome.RETRY, refused)
    tables.append_decision(desk.paths.folder, output.decision, output.reason)
    crash_points.point("decide.after_write")
    desk.write(desk.paths.record, _record(desk, output).to_json())
    lessons.learn(desk.lab.store, desk.lab.ledger, _lesson(desk, output.decision), desk.events())
    show_progress(desk.lab, desk.config, desk.campaign.model_copy(update={"learned": desk.iteration_id}))
    desk.tell(f"decision: {output.decision}, {output.reason}")
    outcomes = {
        Decision.REFINE: StageOutcome.REFINE,
        Decision.NEW_HYPOTHESIS: StageOutcome.NEW_HYPOTHESIS,
        Decision.ACHIEVE: StageOutcome.STOP,
        Decision.STOP: StageOutcome.STOP,
        Decision.HUMAN_REVIEW: StageOutcome.ESCALATE,
    }
    return StageResult(outcomes[output.decision], f"{output.decision}: {output.reason}", _remember(desk, output))


def _refused(desk: Iteration, output: DecisionOutput) -> str:
    """Why the wish cannot be granted: the target is not met, or the network to refine cannot be built."""
    if output.decision is Decision.ACHIEVE:
        missed = target.missed(desk.target, desk.config, recorded_results(desk))
        return f"achieve is refused: {missed}" if missed else ""
    if output.decision is Decision.REFINE and output.next_config is not None:
        unfit = blueprint.unfit(iteration.in_base(desk), {blueprint.MODEL: output.next_config}, desk.slug)
        return f"next_config: {unfit}" if unfit else ""
    return ""


def _standing(desk: Iteration) -> str:
    """In one line, whether what was measured meets the target."""
    missed = target.missed(desk.target, desk.config, recorded_results(desk))
    return f"not met: {missed}" if missed else f"met: {desk.target} by the mean on fresh seeds"


def _remember(desk: Iteration, output: DecisionOutput) -> dict[str, object]:
    """The campaign after this iteration: a kept candidate is champion, and how long ago a gain was."""
    results, campaign = recorded_results(desk), desk.campaign
    found = results.confirmation
    gained = found is not None and found.outcome == "kept"
    update: dict[str, object] = {"parent": desk.iteration_id, "learned": desk.iteration_id}
    if found is not None and gained:
        newest = _champion(desk, results)
        update["champions"] = champion.promote(desk.lab, campaign, newest)
        request = _merge_request(desk, newest)
        desk.tell(f"{wording.fate(found)}: autolab/champion is {newest.commit[:12]}; {request}")
    if found is not None and found.outcome == "suspicious":
        _set_aside(desk, results, found)
        update["suspicious"] = (*campaign.suspicious, desk.iteration_id)
    if campaign.loop is not None:
        since = 0 if gained else campaign.loop.since_gain + 1
        update["loop"] = campaign.loop.model_copy(update={"since_gain": since})
    return update


def _merge_request(desk: Iteration, made: Champion) -> str:
    """Write what a user needs to take a candidate over; where it lies."""
    changed = desk.lab.git.changed_paths(made.parent, made.commit)
    share = desk.campaign.claims.false_share
    text = iteration_documents.merge_request(account_of(desk), made.commit, made.parent, changed, share)
    desk.write(desk.paths.folder / "merge_request.md", text)
    return f"{desk.shown(desk.paths.folder)}/merge_request.md"


def _set_aside(desk: Iteration, results: Results, found: Confirmation) -> None:
    """Put a suspicious candidate where the user finds it; the loop goes on from what stands."""
    made = _champion(desk, results)
    quarantine.set_aside(desk.lab, desk.events(), quarantine.Waiting(made, desk.hypothesis().title, found.suspicions))
    request = _merge_request(desk, made)
    desk.tell(f"set aside as suspicious: {'; '.join(found.suspicions)}")
    desk.tell(f"  nothing is built on it; `autolab review` shows the ways, {request} what it is")


def _champion(desk: Iteration, results: Results) -> Champion:
    found = results.confirmation
    assert found is not None
    return Champion(
        iteration_id=desk.iteration_id,
        run_id=found.run_id,
        commit=desk.candidate() or "",
        parent=desk.campaign.base_commit or "",
        protocol=recorded_manifest(desk, found.run_id).protocol or "",
        gain=found.shrunken,
        evaluation_only=found.evaluation_only,
        metrics=results.metrics,
        home_commit=desk.campaign.home_commit,
    )


def _lesson(desk: Iteration, decision: Decision) -> Lesson:
    """What this iteration taught, for whoever proposes the next."""
    results, spec, claim, manifest = recorded_results(desk), desk.design(), desk.hypothesis(), recorded_manifest(desk)
    compared = max(results.assessment.comparisons, key=lambda c: c.difference.mean, default=None)
    lead = compared.arm if compared else spec.variants[0].name
    mine, base = (_trials_of(manifest, arm) for arm in (lead, spec.baselines[0].name))
    return Lesson(
        iteration=desk.campaign.iterations,
        iteration_id=desk.iteration_id,
        hypothesis_id=claim.id,
        title=claim.title,
        family=claim.family,
        changes=spec.changes,
        base=desk.campaign.base_commit or "",
        commit=desk.candidate(),
        status=results.status,
        verdict=results.assessment.verdict,
        reason=results.assessment.reason,
        outcome=results.confirmation.outcome if results.confirmation else None,
        evaluation_only=results.confirmation.evaluation_only if results.confirmation else False,
        delta=spec.metrics.success_delta,
        gain=compared.difference if compared else None,
        measured=_mean(mine, manifest),
        baseline=_mean(base, manifest),
        seconds=_mean_seconds(mine),
        baseline_seconds=_mean_seconds(base),
        decision=decision,
    )


def _via(desk: Iteration) -> str:
    """Who wrote the candidate's code: the assembler, or a researcher by name."""
    said = [line.data.get("via") for line in desk.events() if line.event == "candidate"]
    return said[-1] if said and said[-1] else desk.researcher.name


def _trials_of(manifest: Manifest, arm: str) -> list[Trial]:
    return [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED]


def _mean(trials: list[Trial], manifest: Manifest) -> Interval | None:
    """The mean of what the run compares with its 95% interval; None below two trials that measured it."""
    found = [Scale.of(manifest).score(trial) for trial in trials]
    known = [value for value in found if value is not None]
    return rules.student_interval(known, 0.025) if len(known) > 1 else None


def _mean_seconds(trials: list[Trial]) -> float | None:
    return round(sum(trial.seconds for trial in trials) / len(trials), 3) if trials else None


def _record(desk: Iteration, output: DecisionOutput) -> IterationRecord:
    """The iteration as the registry shows it."""
    results, spec = recorded_results(desk), desk.design()
    replies = [line.data for line in desk.events() if line.event == "answered"]
    lead = spec.variants[0]
    means = {name: value.mean for name, value in recorded_metrics(desk).arms.get(lead.name, {}).items()}
    commit = desk.candidate() or ""
    summary = desk.paths.summary_json
    return IterationRecord(
        run_id=desk.state.last_run_id,
        iteration=desk.campaign.iterations,
        iteration_id=desk.iteration_id,
        hypothesis_id=desk.campaign.hypothesis_id or "",
        timestamp=files.utc_now(),
        model_settings={**(spec.model or {}), **spec.train, **lead.config_overrides},
        assembler=Assembler(via=_via(desk)),
        llm_response=tuple(
            Reply(stage=d["stage"], ask=d["number"], path=d["reply"], sha256=d["sha256"]) for d in replies
        ),
        code_path=f"exp/{desk.slug}",
        code_checksum=desk.lab.git.tree(commit),
        commit=commit,
        summary=desk.load(Summary, summary) if summary.exists() else None,
        eval_metrics=means,
        status=results.status,
        verdict=results.assessment.verdict,
        outcome=results.confirmation.outcome if results.confirmation else None,
        evaluation_only=results.confirmation.evaluation_only if results.confirmation else False,
        planning_decision=PlanningDecision(
            action=output.decision,
            reason=output.reason,
            next_config=output.next_config if output.decision is Decision.REFINE else None,
        ),
    )
