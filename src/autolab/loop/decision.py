"""Stage decide_repeat: what the researcher wishes to do next, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from autolab import files
from autolab.ideas import lessons
from autolab.lab import crash_points
from autolab.lab.ledger import Line
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
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, RequestKind, TrialOutcome
from autolab.lab.schemas.replies import DecisionOutput, request_kind
from autolab.loop import quarantine
from autolab.loop.document import account_of
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, tables
from autolab.reports.progress_figure import show_progress
from autolab.researchers.assembler import blueprint
from autolab.stats import rules, target, wording
from autolab.stats.scores import Scale
from autolab.trials import champion
from autolab.trials.progress import View

# decide_repeat


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """What the researcher wishes to do next, held against what was measured."""
    missed = target.missed(iteration.target, iteration.config, iteration.results())
    values = {
        "summary_md": iteration.quote(iteration.paths.summary),
        "target": iteration.target or "none",
        "standing": f"not met: {missed}" if missed else f"met: {iteration.target} by the mean on fresh seeds",
        "history": iteration.history(),
        "method": blueprint.told(iteration.read_base),
    }
    output = output_of(requests.send(iteration, RequestKind.DECIDE_REPEAT, values), DecisionOutput)
    if isinstance(output, StageResult):
        return output
    refused = _refused(output, missed, iteration.read_base, iteration.slug)
    if refused:
        return StageResult(StageOutcome.RETRY, refused)
    lab = iteration.lab
    tables.append_decision(iteration.paths.folder, output.decision, output.reason)
    crash_points.point("decide.after_write")
    record = _record(iteration, output, author=requests.researcher.name)
    iteration.write(iteration.paths.record, record.to_json())
    lessons.learn(lab.store, lab.ledger, _lesson(iteration, output.decision), iteration.events())
    learned = iteration.campaign.model_copy(update={"learned": iteration.iteration_id})
    show_progress(lab, iteration.config, learned)
    view(f"decision: {output.decision}, {output.reason}")
    outcomes = {
        Decision.REFINE: StageOutcome.REFINE,
        Decision.NEW_HYPOTHESIS: StageOutcome.NEW_HYPOTHESIS,
        Decision.ACHIEVE: StageOutcome.STOP,
        Decision.STOP: StageOutcome.STOP,
        Decision.HUMAN_REVIEW: StageOutcome.ESCALATE,
    }
    return StageResult(outcomes[output.decision], f"{output.decision}: {output.reason}", _remember(iteration, view))


def _refused(output: DecisionOutput, missed: str, read_base: blueprint.Read, slug: str) -> str:
    """Why the wish cannot be granted: the target is `missed`, or the network to refine cannot be built."""
    if output.decision is Decision.ACHIEVE:
        return f"achieve is refused: {missed}" if missed else ""
    if output.decision is Decision.REFINE and output.next_config is not None:
        unfit = blueprint.unfit(read_base, {blueprint.MODEL: output.next_config}, slug)
        return f"next_config: {unfit}" if unfit else ""
    return ""


def _remember(iteration: Iteration, view: View) -> dict[str, object]:
    """The campaign after this iteration: a kept candidate is champion, and how long ago a gain was."""
    results, campaign, iteration_id = iteration.results(), iteration.campaign, iteration.iteration_id
    confirmation = results.confirmation
    gained = confirmation is not None and confirmation.outcome == "kept"
    update: dict[str, object] = {"parent": iteration_id, "learned": iteration_id}
    if confirmation is not None and gained:
        newest = _champion(iteration, results.metrics, confirmation)
        update["champions"] = champion.promote(iteration.lab, campaign, newest)
        request = _merge_request(iteration, newest)
        view(f"{wording.fate(confirmation)}: autolab/champion is {newest.commit[:12]}; {request}")
    if confirmation is not None and confirmation.outcome == "suspicious":
        _set_aside(iteration, _champion(iteration, results.metrics, confirmation), confirmation.suspicions, view)
        update["suspicious"] = (*campaign.suspicious, iteration_id)
    if campaign.loop is not None:
        since = 0 if gained else campaign.loop.since_gain + 1
        update["loop"] = campaign.loop.model_copy(update={"since_gain": since})
    return update


def _merge_request(iteration: Iteration, candidate: Champion) -> str:
    """Write what a user needs to take a candidate over; where it lies."""
    changed = iteration.lab.git.changed_paths(candidate.parent, candidate.commit)
    share, account = iteration.campaign.claims.false_share, account_of(iteration)
    text = iteration_documents.merge_request(account, candidate.commit, candidate.parent, changed, share)
    path = iteration.paths.folder / "merge_request.md"
    iteration.write(path, text)
    return iteration.relative(path)


def _set_aside(iteration: Iteration, candidate: Champion, suspicions: tuple[str, ...], view: View) -> None:
    """Put a suspicious candidate where the user finds it; the loop goes on from what stands."""
    waiting = quarantine.Waiting(candidate, iteration.hypothesis().title, suspicions)
    quarantine.set_aside(iteration.lab, iteration.events(), waiting)
    request = _merge_request(iteration, candidate)
    view(f"set aside as suspicious: {'; '.join(suspicions)}")
    view(f"  nothing is built on it; `autolab review` shows the ways, {request} what it is")


def _champion(iteration: Iteration, metrics: dict[str, float], confirmation: Confirmation) -> Champion:
    """The candidate as the champion that its confirmation would make it."""
    return Champion(
        iteration_id=iteration.iteration_id,
        run_id=confirmation.run_id,
        commit=iteration.candidate() or "",
        parent=iteration.base_commit,
        protocol=iteration.manifest(confirmation.run_id).protocol or "",
        gain=confirmation.shrunken,
        evaluation_only=confirmation.evaluation_only,
        metrics=metrics,
        home_commit=iteration.campaign.home_commit,
    )


def _lesson(iteration: Iteration, decision: Decision) -> Lesson:
    """What this iteration taught, for whoever proposes the next."""
    results, manifest = iteration.results(), iteration.manifest()
    spec, claim = iteration.design(), iteration.hypothesis()
    assessment, confirmation = results.assessment, results.confirmation
    best = max(assessment.comparisons, key=lambda comparison: comparison.difference.mean, default=None)
    lead = best.arm if best else spec.variants[0].name
    candidate_trials, baseline_trials = (_trials_of(manifest, arm) for arm in (lead, spec.baselines[0].name))
    return Lesson(
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=claim.id,
        title=claim.title,
        family=claim.family,
        changes=spec.changes,
        base=iteration.base_commit,
        commit=iteration.candidate(),
        status=results.status,
        verdict=assessment.verdict,
        reason=assessment.reason,
        outcome=confirmation.outcome if confirmation else None,
        evaluation_only=confirmation.evaluation_only if confirmation else False,
        delta=spec.metrics.success_delta,
        gain=best.difference if best else None,
        measured=_mean(candidate_trials, manifest),
        baseline=_mean(baseline_trials, manifest),
        seconds=_mean_seconds(candidate_trials),
        baseline_seconds=_mean_seconds(baseline_trials),
        decision=decision,
    )


def _via(events: Sequence[Line], author: str) -> str:
    """Who wrote the candidate's code: the assembler, or a researcher by name."""
    writers = [line.data.get("via") for line in events if line.event == "candidate"]
    return writers[-1] if writers and writers[-1] else author


def _trials_of(manifest: Manifest, arm: str) -> list[Trial]:
    return [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED]


def _mean(trials: list[Trial], manifest: Manifest) -> Interval | None:
    """The mean of what the run compares with its 95% interval; None below two trials that measured it."""
    scores = [Scale.of(manifest).score(trial) for trial in trials]
    measured = [score for score in scores if score is not None]
    return rules.student_interval(measured, 0.025) if len(measured) > 1 else None


def _mean_seconds(trials: list[Trial]) -> float | None:
    return round(sum(trial.seconds for trial in trials) / len(trials), 3) if trials else None


def _record(iteration: Iteration, output: DecisionOutput, author: str) -> IterationRecord:
    """The iteration as the registry shows it."""
    results, spec, events = iteration.results(), iteration.design(), iteration.events()
    confirmation = results.confirmation
    replies = [line.data for line in events if line.event == "answered"]
    lead = spec.variants[0]
    means = {name: value.mean for name, value in iteration.metrics().arms.get(lead.name, {}).items()}
    commit = iteration.candidate() or ""
    return IterationRecord(
        run_id=iteration.state.last_run_id,
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=iteration.campaign.hypothesis_id or "",
        timestamp=files.utc_now(),
        model_settings={**(spec.model or {}), **spec.train, **lead.config_overrides},
        assembler=Assembler(via=_via(events, author)),
        llm_response=tuple(
            Reply(stage=request_kind(data), ask=data["number"], path=data["reply"], sha256=data["sha256"])
            for data in replies
        ),
        code_path=f"exp/{iteration.slug}",
        code_checksum=iteration.lab.git.tree(commit),
        commit=commit,
        summary=iteration.model_summary(),
        eval_metrics=means,
        status=results.status,
        verdict=results.assessment.verdict,
        outcome=confirmation.outcome if confirmation else None,
        evaluation_only=confirmation.evaluation_only if confirmation else False,
        planning_decision=PlanningDecision(
            action=output.decision,
            reason=output.reason,
            next_config=output.next_config if output.decision is Decision.REFINE else None,
        ),
    )
