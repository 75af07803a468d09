"""Stage decide_repeat: what the researcher wants to do next, checked against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autolab import files
from autolab.ideas import lessons, past_ideas
from autolab.lab import crash_points
from autolab.lab.schemas.campaign import Champion
from autolab.lab.schemas.events import Answered, CandidateRecorded, SetAside
from autolab.lab.schemas.experiment import (
    Assembler,
    Confirmation,
    Design,
    Interval,
    IterationRecord,
    Lesson,
    Manifest,
    PlanningDecision,
    Reply,
    Results,
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, Gear, RequestKind, TrialOutcome
from autolab.lab.schemas.replies import DecisionOutput
from autolab.loop import quarantine
from autolab.loop.code_change import code_change
from autolab.loop.document import account_of
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.results import interval_text
from autolab.loop.stages import StageOutcome
from autolab.loop.trial_errors import error_of
from autolab.reports import claim_words, iteration_documents, passages, tables
from autolab.reports.curve_digest import digest
from autolab.reports.progress_figure import show_progress
from autolab.researchers.assembler import blueprint
from autolab.stats import rules, target, wording
from autolab.stats.scores import Scale
from autolab.trials import champion
from autolab.trials.progress import View

DIFF_CHARACTERS = 12_000
"""Characters of the candidate's diff that the decider is shown."""

OUTCOMES = {
    Decision.REFINE: StageOutcome.REFINE,
    Decision.NEW_HYPOTHESIS: StageOutcome.NEW_HYPOTHESIS,
    Decision.ACHIEVE: StageOutcome.STOP,
    Decision.STOP: StageOutcome.STOP,
    Decision.HUMAN_REVIEW: StageOutcome.ESCALATE,
}


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    shortfall = target.missed(iteration.target, iteration.config, iteration.results())
    reply = requests.send(iteration, RequestKind.DECIDE_REPEAT, prompt_values(iteration))
    output = output_of(reply, DecisionOutput)
    if isinstance(output, StageResult):
        return output
    problem = _problem(output, shortfall, iteration)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    return carry_out(iteration, output, requests.researcher.name, view)


def carry_out(iteration: Iteration, output: DecisionOutput, author: str, view: View) -> StageResult:
    """Record a valid decision with what the iteration taught, and move the champion if its candidate is kept."""
    decision, reason = output.decision, output.reason
    # From here on each step finds what a first try before a crash has left, and adds nothing to it.
    tables.append_decision(iteration.paths.folder, decision, reason)
    crash_points.point("decide.after_write")
    record = _record(iteration, output, author)
    iteration.write(iteration.paths.record, record.to_json())
    lab = iteration.lab
    lessons.learn(lab.store, lab.ledger, [_lesson(iteration, decision)], iteration.events())
    # The figure shows this iteration too, though no transition says yet that its lesson counts.
    campaign = iteration.campaign.model_copy(update={"learned": iteration.iteration_id})
    show_progress(lab, iteration.config, campaign)
    view(f"decision: {decision}, {reason}")
    update = _campaign_update(iteration, view)
    return StageResult(OUTCOMES[decision], f"{decision}: {reason}", update)


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    goal, git, learned = iteration.target, iteration.lab.git, iteration.lessons()
    shortfall = target.missed(goal, iteration.config, iteration.results())
    standing = f"met: {goal} by the mean on fresh seeds"
    if shortfall:
        standing = f"not met: {shortfall}"
    return {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "design_yaml": iteration.design().to_yaml(),
        "diff_summary": git.diff_text(iteration.base_commit, iteration.candidate() or "HEAD", DIFF_CHARACTERS),
        "summary_md": iteration.quote(iteration.paths.summary),
        "curves": digest(iteration.paths.folder.parent, iteration.manifest()) or "no trial left a curve",
        "target": goal or "none",
        "standing": standing,
        "history": past_ideas.history(learned),
        "failures": past_ideas.failures(learned),
        "method": blueprint.description(iteration.read_base),
    }


def _problem(output: DecisionOutput, shortfall: str, iteration: Iteration) -> str:
    """Why the decision cannot be carried out: the target is not reached, or the network to refine cannot be built."""
    # The measurement says whether the target is met; the researcher's word is not enough.
    if output.decision is Decision.ACHIEVE and shortfall:
        return f"achieve is refused: {shortfall}"
    if output.decision is Decision.REFINE and output.next_config is not None:
        model = {blueprint.MODEL: output.next_config}
        problem = blueprint.unfit(iteration.read_base, model, iteration.slug)
        if problem:
            return f"next_config: {problem}"
    return ""


def _campaign_update(iteration: Iteration, view: View) -> dict[str, object]:
    """The campaign's fields that change: a kept candidate becomes champion, a suspicious one is set aside."""
    campaign, iteration_id = iteration.campaign, iteration.iteration_id
    results = iteration.results()
    confirmation = results.confirmation
    outcome = confirmation.outcome if confirmation is not None else None
    update: dict[str, object] = {"parent": iteration_id, "learned": iteration_id}
    loop = campaign.loop
    if loop is not None:
        # A suspicious candidate does not count as a gain until the user takes it.
        since_gain = 0 if outcome == "kept" else loop.since_gain + 1
        update["loop"] = loop.model_copy(update={"since_gain": since_gain})
    if confirmation is None or outcome not in ("kept", "suspicious"):
        return update
    candidate = _champion(iteration, results.metrics, confirmation)
    if outcome == "suspicious":
        _set_aside(iteration, candidate, confirmation.suspicions, view)
        update["suspicious"] = (*campaign.suspicious, iteration_id)
        return update
    # The branch moves before the transition says so: done again, it is put back first and moved once more.
    update["champions"] = champion.promote(iteration.lab, campaign, candidate)
    fate = claim_words.fate if claim_words.is_claim(results) else wording.fate
    view(f"{fate(confirmation)}: autolab/champion is {candidate.commit[:12]}, {_gain(confirmation)}")
    view(f"  to take it over: {_merge_request(iteration, candidate)}")
    return update


def _gain(confirmation: Confirmation) -> str:
    """The gain that is claimed, and what fresh seeds measured."""
    gain = confirmation.difference
    measured = f"mean {gain.mean:+.4g}{interval_text(gain)} n = {gain.n}"
    return f"gain {confirmation.shrunken:+.4g} on fresh seeds, shrunken ({measured})"


def _merge_request(iteration: Iteration, candidate: Champion) -> str:
    """Write what a user needs to take a candidate over, and return where it lies."""
    commit, parent = candidate.commit, candidate.parent
    paths = iteration.lab.git.changed_paths(parent, commit)
    text = iteration_documents.merge_request(account_of(iteration), commit, parent, paths, iteration.campaign.claims)
    path = iteration.paths.folder / "merge_request.md"
    iteration.write(path, text)
    return iteration.relative(path)


def _set_aside(iteration: Iteration, candidate: Champion, suspicions: tuple[str, ...], view: View) -> None:
    """Put a suspicious candidate where the user finds it. The loop goes on without it."""
    title = iteration.tested_hypothesis().title
    quarantine.set_aside(iteration, SetAside(candidate=candidate, title=title, reasons=suspicions))
    path = _merge_request(iteration, candidate)
    view(f"set aside as suspicious: {'; '.join(suspicions)}")
    view(f"  nothing is built on it; {path} describes it, `autolab review` shows what you can do")


def _champion(iteration: Iteration, metrics: dict[str, float], confirmation: Confirmation) -> Champion:
    """The candidate as the champion that its confirmation would make it."""
    run_id = confirmation.run_id
    manifest = iteration.manifest(run_id)
    return Champion(
        iteration_id=iteration.iteration_id,
        run_id=run_id,
        commit=iteration.candidate() or "",
        parent=iteration.base_commit,
        protocol=manifest.protocol or "",
        # Shrunken: the measured mean of a candidate that was chosen because it won is too large on average.
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
    spec, claim = iteration.design(), iteration.tested_hypothesis()
    assessment = results.assessment
    variant, gain = spec.variants[0].name, None
    lead = max(assessment.comparisons, key=lambda comparison: comparison.difference.mean, default=None)
    if lead is not None:
        variant, gain = lead.arm, lead.difference
    variant_trials = _completed_trials(manifest, variant)
    baseline_trials = _completed_trials(manifest, spec.baselines[0].name)
    return Lesson(
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=claim.id,
        title=claim.title,
        family=claim.family,
        changes=spec.changes,
        code_change=""
        if spec.changes
        else code_change(iteration.lab.git, iteration.base_commit, iteration.candidate()),
        base=iteration.base_commit,
        commit=iteration.candidate(),
        status=results.status,
        verdict=assessment.verdict,
        reason=assessment.reason,
        error=error_of(iteration.paths.run(manifest.run_id), manifest, variant),
        delta=spec.metrics.success_delta,
        gain=gain,
        measured=_measured(iteration, results.confirmation) or mean_score(variant_trials, manifest),
        baseline=mean_score(baseline_trials, manifest),
        seconds=mean_seconds(variant_trials),
        baseline_seconds=mean_seconds(baseline_trials),
        decision=decision,
        **_claim_fields(results),
    )


def _code_change(iteration: Iteration, spec: Design) -> str:
    """The lines that the candidate changes, unless something else says it: a claim's steps have their own lessons."""
    if spec.changes or iteration.campaign.gear is Gear.CLAIM:
        return ""
    return code_change(iteration.lab.git, iteration.base_commit, iteration.candidate())


def _measured(iteration: Iteration, confirmation: Confirmation | None) -> Interval | None:
    """The mean of a kept variant on fresh seeds, where no search has selected it; None for any other."""
    if confirmation is None or confirmation.outcome != "kept":
        return None
    manifest = iteration.manifest(confirmation.run_id)
    return mean_score(_completed_trials(manifest, confirmation.arm), manifest)


def _completed_trials(manifest: Manifest, arm: str) -> list[Trial]:
    """The completed trials of an arm that its comparison has read; all of them if nothing was compared."""
    read = max((passages.pairs_of(compared) for compared in manifest.comparisons), default=len(manifest.trials))
    trials = []
    for trial in manifest.trials:
        if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED and trial.index < read:
            trials.append(trial)
    return trials


def mean_score(trials: Sequence[Trial], manifest: Manifest) -> Interval | None:
    """The mean of the compared metric with its 95% interval; None below two trials that measured it."""
    scale = Scale.of(manifest)
    scores = []
    for trial in trials:
        score = scale.score(trial)
        if score is not None:
            scores.append(score)
    if len(scores) < 2:
        return None
    return rules.student_interval(scores, 0.025)


def mean_seconds(trials: Sequence[Trial]) -> float | None:
    """The mean time of a training; None without one."""
    if not trials:
        return None
    seconds = sum(trial.seconds for trial in trials)
    return round(seconds / len(trials), 3)


def _record(iteration: Iteration, output: DecisionOutput, author: str) -> IterationRecord:
    """The iteration as the registry shows it. `author` wrote the code, unless the record names somebody else."""
    campaign, results, spec = iteration.campaign, iteration.results(), iteration.design()
    variant = spec.variants[0]
    # Of two values with one name the later counts: a variant's override replaces the design's value.
    settings = {**(spec.model or {}), **spec.train, **variant.config_overrides}
    metrics = iteration.metrics().arms.get(variant.name, {})
    means = {name: interval.mean for name, interval in metrics.items()}
    candidates = iteration.recorded(CandidateRecorded)
    if candidates and candidates[-1].via:
        author = candidates[-1].via
    commit = iteration.candidate() or ""
    tree = iteration.lab.git.tree(commit)
    return IterationRecord(
        run_id=iteration.state.last_run_id,
        iteration=campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=campaign.hypothesis_id or "",
        timestamp=files.utc_now(),
        model_settings=settings,
        assembler=Assembler(via=author),
        llm_response=replies_of(iteration),
        code_path=f"exp/{iteration.slug}",
        code_checksum=tree,
        commit=commit,
        summary=iteration.model_summary(),
        eval_metrics=means,
        status=results.status,
        verdict=results.assessment.verdict,
        planning_decision=_planning_decision(output),
        **_claim_fields(results),
    )


def replies_of(iteration: Iteration) -> tuple[Reply, ...]:
    """Where each reply of the iteration is kept, with its hash."""
    replies = []
    for answer in iteration.recorded(Answered):
        reply = Reply(stage=answer.kind, ask=answer.number, path=answer.reply, sha256=answer.sha256)
        replies.append(reply)
    return tuple(replies)


def _planning_decision(output: DecisionOutput) -> PlanningDecision:
    network = None
    # A network that comes with another decision was not checked, and nothing would build it.
    if output.decision is Decision.REFINE:
        network = output.next_config
    return PlanningDecision(action=output.decision, reason=output.reason, next_config=network)
