"""The stages of a batch: ideas are proposed, written, reviewed and measured beside each other; nothing is claimed.

An idea that fails on the way is dropped, and the batch goes on. The last stages are the engine's alone: a batch has
rows in the table of results and no report. One idea of a batch may become a provisional step, which the next ideas
branch from; a researcher that learns from all batches together (`concludes`) has none before its last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from autolab import files
from autolab.errors import BudgetSpent
from autolab.ideas import lessons
from autolab.lab import crash_points
from autolab.lab.schemas.events import Checked, Reviewed
from autolab.lab.schemas.outcomes import Decision, DropReason, RunKind
from autolab.loop import batch, exploring, implementation, launch, review
from autolab.loop.batch import TRIES
from autolab.loop.batch_early_stop import early_stop
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.measured_batch import MeasuredBatch
from autolab.loop.request import Requests
from autolab.loop.stages import StageOutcome
from autolab.reports import journal, screen_documents, tables
from autolab.reports.progress_figure import show_progress
from autolab.stats.plan import BASE, Plan, PlannedArm
from autolab.stats.screening import screen_plan
from autolab.stats.seeds import search_seeds
from autolab.text import one_line
from autolab.trials import job
from autolab.trials.inputs import TrialInputs
from autolab.trials.progress import View
from autolab.trials.run_record import RunSpec

# design


def design(iteration: Iteration) -> StageResult:
    """The engine's: the base and one variant an idea, over seeds that all of them share."""
    ideas = batch.ideas(iteration)
    arms = [idea.slug for idea in ideas]
    for idea in ideas:
        idea.write(idea.paths.design, batch.design_of(idea, idea.hypothesis(), [idea.slug]).to_yaml())
    own = batch.design_of(iteration, iteration.hypothesis(), arms)
    iteration.write(iteration.paths.design, own.to_yaml())
    return StageResult(StageOutcome.COMPLETE)


# implementation and review


def implement(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """Each idea's code, checked; an idea whose code does not pass is dropped."""

    def write(idea: Iteration) -> StageResult:
        return implementation.run(idea, requests, view)

    for idea in batch.under_way(iteration):
        if _is_written(idea):
            continue
        result = _tried(idea, write)
        if result.needs_user:
            return result
        if result.outcome is not StageOutcome.COMPLETE:
            _drop(idea, _reason_of(result, DropReason.FAILED), result.reason, view)
        elif iteration.lab.git.tree(idea.candidate() or "") == iteration.lab.git.tree(iteration.base_commit):
            _drop(idea, DropReason.FAILED, "its code is that of the base: the change was withdrawn", view)
    return StageResult(StageOutcome.COMPLETE)


def examine(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """Each commit's review; an idea that does not pass is dropped."""

    def judge(idea: Iteration) -> StageResult:
        return review.run(idea, requests, view)

    for idea in batch.under_way(iteration):
        if _is_passed(idea):
            continue
        result = _tried(idea, judge)
        if result.needs_user:
            return result
        if result.outcome is not StageOutcome.COMPLETE:
            _drop(idea, _reason_of(result, DropReason.REVIEW), result.reason, view)
    return StageResult(StageOutcome.COMPLETE)


def _is_written(idea: Iteration) -> bool:
    """Whether its code passed its checks before a user was asked for something, so that nobody writes it again."""
    commit = idea.candidate(before=idea.acted)
    verdicts = idea.recorded(Checked, before=idea.acted)
    statuses = [list(verdict.checks.values()) for verdict in verdicts if verdict.commit == commit]
    return bool(statuses) and "fail" not in statuses[-1]


def _is_passed(idea: Iteration) -> bool:
    """Whether it passed its review before a user was asked for something."""
    commit = idea.candidate()
    return any(one.commit == commit and one.status == "pass" for one in idea.recorded(Reviewed, before=idea.acted))


def _tried(idea: Iteration, step: Callable[[Iteration], StageResult]) -> StageResult:
    """The result of a step for one idea, after `TRIES` attempts at most; it is set aside if a budget does not allow it.

    Of a batch this idea alone is left out: what others have paid for is measured, and can be claimed.
    """
    try:
        result = step(idea)
        for attempt in range(2, TRIES + 1):
            if result.outcome is StageOutcome.RETRY:
                result = step(idea.tried(attempt, result.reason))
    except BudgetSpent as error:
        return StageResult(StageOutcome.SET_ASIDE, f"budget: {error}")
    return result


def _reason_of(result: StageResult, otherwise: DropReason) -> DropReason:
    return DropReason.BUDGET if result.outcome is StageOutcome.SET_ASIDE else otherwise


def _drop(idea: Iteration, reason: DropReason, detail: str, view: View) -> None:
    batch.drop(idea, reason, detail)
    view(f"{idea.slug}: dropped ({reason}): {one_line(detail, batch.DETAIL)}")


# launch


def measure(iteration: Iteration, step: launch.LaunchStep) -> StageResult | None:
    """One run over the ideas that stand; None if the user asked to stop before it was over."""
    commits = {BASE: iteration.base_commit}
    for idea in batch.standing(iteration):
        forbidden = review.gate(idea)
        if forbidden:
            _drop(idea, DropReason.REVIEW, f"launch is forbidden: {forbidden}", step.view)
            continue
        commits[idea.slug] = idea.candidate() or ""
    run = step.measure(_run_spec(iteration, commits))
    return step.result(run, run.run_id)


def _run_spec(iteration: Iteration, commits: dict[str, str]) -> RunSpec:
    lab, config, calibration = iteration.lab, iteration.config, iteration.calibration()
    exploration, spec = batch.exploration_of(iteration), iteration.design()
    settings = dict(spec.train)
    arms = [PlannedArm(batch.BASELINE, "baseline", BASE, settings)]
    arms += [PlannedArm(name, "variant", name, settings) for name in commits if name != BASE]
    count = config.screen.seeds
    baseline_seeds = exploring.baseline_seeds(config, calibration)
    tree = lab.git.tree(exploration.base)

    def plan(inputs: TrialInputs) -> Plan:
        # The seeds of the base that claims compare with: a step does not measure its own base anew.
        seeds = search_seeds(lab.secret, inputs.protocol, tree, max(count, baseline_seeds))
        return screen_plan(arms, seeds, arm_seeds=count, config=config, bound=exploration.bound)

    # A run that began with other ideas, or with other code of one, is not this run.
    measured = [spec.to_yaml(), *(f"{name} {commit}" for name, commit in sorted(commits.items()))]
    return RunSpec(
        kind=RunKind.SCREEN,
        plan=plan,
        command=job.train_command(spec, config),
        commits=commits,
        design_sha256=files.sha256_of("\n".join(measured)),
        time_limit=config.train.time_limit(calibration.slowest_seconds if calibration else None),
        early_stop=early_stop(iteration, settings) if config.screen.stop_early else None,
    )


# results


def extract(iteration: Iteration, view: View) -> StageResult:
    """Tables and results.yaml of the batch, from the manifest."""
    screened = MeasuredBatch.of(iteration).batch
    screen_documents.extract_screen(iteration.paths.folder, screened)
    crash_points.point("extract.after_write")
    view.judged(screen_documents.judged(screened))
    for line in screen_documents.terminal_lines(screened):
        view(line)
    return StageResult(StageOutcome.COMPLETE)


def document(iteration: Iteration) -> StageResult:
    """Rows in the table of results, and a note that no other document changes."""
    screened = MeasuredBatch.of(iteration).batch
    rows = screen_documents.tsv_rows(screened)
    if rows is not None:
        rows = dataclasses.replace(rows, path=iteration.config.files.table)
    update = screen_documents.docs_update(screened, rows)
    iteration.write(iteration.lab.root / update.path, update.text)
    if rows is not None:
        journal.Pending(iteration.lab.store / "pending").add(rows)
    return StageResult(StageOutcome.COMPLETE)


# decision


def decide(iteration: Iteration, view: View) -> StageResult:
    """Which idea becomes a step, and what every idea taught."""
    screened = MeasuredBatch.of(iteration)
    ideas, lab, campaign = screened.batch.ideas, iteration.lab, iteration.campaign
    reason = screen_documents.headline(screened.batch)
    tables.append_decision(iteration.paths.folder, Decision.NEW_HYPOTHESIS, reason)
    crash_points.point("decide.after_write")
    iteration.write(iteration.paths.record, screened.record(reason).to_json())
    learned = [screened.lesson(idea) for idea in ideas]
    lessons.learn(lab.store, lab.ledger, learned, iteration.events())
    before = batch.exploration_of(iteration)
    exploration = exploring.after_batch(before, iteration.iteration_id, screened.step, ideas, screened.runners_up)
    exploration = exploring.after_unpaid(exploration, iteration.iteration_id, ideas)
    exploring.show_working(lab, exploration, view)
    update: dict[str, object] = {
        "exploration": exploration,
        "learned": iteration.iteration_id,
        "ideas_screened": campaign.ideas_screened + len(ideas),
        "provisional": campaign.provisional + (screened.step is not None),
    }
    loop = campaign.loop
    # Batches of a search that concludes at its end promote nothing, and count for no patience.
    if loop is not None and not exploration.waits_for_conclusion:
        since_gain = 0 if screened.step else loop.since_gain + 1
        update["loop"] = loop.model_copy(update={"since_gain": since_gain})
    show_progress(lab, iteration.config, campaign.model_copy(update=update))
    return StageResult(StageOutcome.NEW_HYPOTHESIS, f"{Decision.NEW_HYPOTHESIS}: {reason}", update)
