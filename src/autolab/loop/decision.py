"""Stage decide_repeat: what the researcher wants to do next, checked against what was measured."""

from __future__ import annotations

from typing import Any

from autolab import files
from autolab.ideas import lessons
from autolab.lab import crash_points
from autolab.lab.schemas.campaign import Champion
from autolab.lab.schemas.events import Answered, CandidateRecorded, SetAside
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
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, RequestKind, TrialOutcome
from autolab.lab.schemas.replies import DecisionOutput
from autolab.loop import quarantine
from autolab.loop.document import account_of
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.results import interval_text
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, tables
from autolab.reports.progress_figure import show_progress
from autolab.researchers.assembler import blueprint
from autolab.stats import rules, target, wording
from autolab.stats.scores import Scale
from autolab.trials import champion
from autolab.trials.progress import View

OUTCOMES = {
    Decision.REFINE: StageOutcome.REFINE,
    Decision.NEW_HYPOTHESIS: StageOutcome.NEW_HYPOTHESIS,
    Decision.ACHIEVE: StageOutcome.STOP,
    Decision.STOP: StageOutcome.STOP,
    Decision.HUMAN_REVIEW: StageOutcome.ESCALATE,
}


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    missed = target.missed(iteration.target, iteration.config, iteration.results())
    standing = f"met: {iteration.target} by the mean on fresh seeds"
    if missed:
        standing = f"not met: {missed}"
    values = {
        "summary_md": iteration.quote(iteration.paths.summary),
        "target": iteration.target or "none",
        "standing": standing,
        "history": iteration.history(),
        "method": blueprint.description(iteration.read_base),
    }
    output = output_of(requests.send(iteration, RequestKind.DECIDE_REPEAT, values), DecisionOutput)
    if isinstance(output, StageResult):
        return output
    problem = _problem(output, missed, iteration)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    lab = iteration.lab
    # From here on each step finds what a first try before a crash has left, and adds nothing to it.
    tables.append_decision(iteration.paths.folder, output.decision, output.reason)
    crash_points.point("decide.after_write")
    record = _record(iteration, output, author=requests.researcher.name)
    iteration.write(iteration.paths.record, record.to_json())
    lessons.learn(lab.store, lab.ledger, _lesson(iteration, output.decision), iteration.events())
    learned = iteration.campaign.model_copy(update={"learned": iteration.iteration_id})
    show_progress(lab, iteration.config, learned)
    view(f"decision: {output.decision}, {output.reason}")
    campaign = _campaign_update(iteration, view)
    return StageResult(OUTCOMES[output.decision], f"{output.decision}: {output.reason}", campaign)


def _problem(output: DecisionOutput, missed: str, iteration: Iteration) -> str:
    """Why the decision cannot be carried out: the target is `missed`, or the network to refine cannot be built."""
    if output.decision is Decision.ACHIEVE and missed:
        return f"achieve is refused: {missed}"
    if output.decision is Decision.REFINE and output.next_config is not None:
        model = {blueprint.MODEL: output.next_config}
        problem = blueprint.unfit(iteration.read_base, model, iteration.slug)
        return f"next_config: {problem}" if problem else ""
    return ""


def _campaign_update(iteration: Iteration, view: View) -> dict[str, object]:
    """The campaign's fields that change: a kept candidate becomes champion, a suspicious one is set aside."""
    campaign, iteration_id = iteration.campaign, iteration.iteration_id
    results = iteration.results()
    confirmation = results.confirmation
    update: dict[str, object] = {"parent": iteration_id, "learned": iteration_id}
    since_gain = campaign.loop.since_gain + 1 if campaign.loop is not None else 0
    if confirmation is not None and confirmation.outcome == "kept":
        since_gain = 0
        candidate = _champion(iteration, results.metrics, confirmation)
        # The branch moves before the transition says so: done again, it is put back first and moved once more.
        update["champions"] = champion.promote(iteration.lab, campaign, candidate)
        view(f"{wording.fate(confirmation)}: autolab/champion is {candidate.commit[:12]}, {_gain(confirmation)}")
        view(f"  to take it over: {_merge_request(iteration, candidate)}")
    elif confirmation is not None and confirmation.outcome == "suspicious":
        candidate = _champion(iteration, results.metrics, confirmation)
        _set_aside(iteration, candidate, confirmation.suspicions, view)
        update["suspicious"] = (*campaign.suspicious, iteration_id)
    if campaign.loop is not None:
        update["loop"] = campaign.loop.model_copy(update={"since_gain": since_gain})
    return update


def _gain(confirmation: Confirmation) -> str:
    """The gain that is claimed, and what fresh seeds measured."""
    gain = confirmation.difference
    measured = f"mean {gain.mean:+.4g}{interval_text(gain)} n = {gain.n}"
    return f"gain {confirmation.shrunken:+.4g} on fresh seeds, shrunken ({measured})"


def _merge_request(iteration: Iteration, candidate: Champion) -> str:
    """Write what a user needs to take a candidate over, and return where it lies."""
    changed = iteration.lab.git.changed_paths(candidate.parent, candidate.commit)
    share, account = iteration.campaign.claims.false_share, account_of(iteration)
    text = iteration_documents.merge_request(account, candidate.commit, candidate.parent, changed, share)
    path = iteration.paths.folder / "merge_request.md"
    iteration.write(path, text)
    return iteration.relative(path)


def _set_aside(iteration: Iteration, candidate: Champion, suspicions: tuple[str, ...], view: View) -> None:
    """Put a suspicious candidate where the user finds it. The loop goes on without it."""
    suspect = SetAside(candidate=candidate, title=iteration.hypothesis().title, reasons=suspicions)
    quarantine.set_aside(iteration, suspect)
    path = _merge_request(iteration, candidate)
    view(f"set aside as suspicious: {'; '.join(suspicions)}")
    view(f"  nothing is built on it; {path} describes it, `autolab review` shows what you can do")


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


# What stays of the iteration


def _claim_fields(results: Results) -> dict[str, Any]:
    """What became of the claim, for lesson and record; empty if there was none."""
    confirmation = results.confirmation
    if confirmation is None:
        return {}
    return {"outcome": confirmation.outcome, "evaluation_only": confirmation.evaluation_only}


def _lesson(iteration: Iteration, decision: Decision) -> Lesson:
    """What this iteration taught, for whoever proposes the next. The variant with the largest mean gain leads."""
    results, manifest = iteration.results(), iteration.manifest()
    spec, claim, assessment = iteration.design(), iteration.hypothesis(), results.assessment
    lead = max(assessment.comparisons, key=lambda comparison: comparison.difference.mean, default=None)
    variant = lead.arm if lead else spec.variants[0].name
    variant_trials = _completed_trials(manifest, variant)
    baseline_trials = _completed_trials(manifest, spec.baselines[0].name)
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
        delta=spec.metrics.success_delta,
        gain=lead.difference if lead else None,
        measured=_mean_score(variant_trials, manifest),
        baseline=_mean_score(baseline_trials, manifest),
        seconds=_mean_seconds(variant_trials),
        baseline_seconds=_mean_seconds(baseline_trials),
        decision=decision,
        **_claim_fields(results),
    )


def _completed_trials(manifest: Manifest, arm: str) -> list[Trial]:
    return [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED]


def _mean_score(trials: list[Trial], manifest: Manifest) -> Interval | None:
    """The mean of the compared metric with its 95% interval; None below two trials that measured it."""
    scale = Scale.of(manifest)
    scores = [score for trial in trials if (score := scale.score(trial)) is not None]
    return rules.student_interval(scores, 0.025) if len(scores) > 1 else None


def _mean_seconds(trials: list[Trial]) -> float | None:
    if not trials:
        return None
    return round(sum(trial.seconds for trial in trials) / len(trials), 3)


def _record(iteration: Iteration, output: DecisionOutput, author: str) -> IterationRecord:
    """The iteration as the registry shows it. `author` wrote the code, unless the record names somebody else."""
    results, spec = iteration.results(), iteration.design()
    variant = spec.variants[0]
    metrics = iteration.metrics().arms.get(variant.name, {})
    candidates = iteration.recorded(CandidateRecorded)
    via = candidates[-1].via if candidates else ""
    commit = iteration.candidate() or ""
    replies = [
        Reply(stage=answered.kind, ask=answered.number, path=answered.reply, sha256=answered.sha256)
        for answered in iteration.recorded(Answered)
    ]
    decision = PlanningDecision(
        action=output.decision,
        reason=output.reason,
        next_config=output.next_config if output.decision is Decision.REFINE else None,
    )
    return IterationRecord(
        run_id=iteration.state.last_run_id,
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=iteration.campaign.hypothesis_id or "",
        timestamp=files.utc_now(),
        model_settings={**(spec.model or {}), **spec.train, **variant.config_overrides},
        assembler=Assembler(via=via or author),
        llm_response=tuple(replies),
        code_path=f"exp/{iteration.slug}",
        code_checksum=iteration.lab.git.tree(commit),
        commit=commit,
        summary=iteration.model_summary(),
        eval_metrics={name: value.mean for name, value in metrics.items()},
        status=results.status,
        verdict=results.assessment.verdict,
        planning_decision=decision,
        **_claim_fields(results),
    )
