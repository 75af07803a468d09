"""The stages of a batch: ideas are proposed, written, reviewed and measured beside each other; nothing is claimed.

An idea that fails on the way is dropped, and the batch goes on. The last stages are the engine's alone: a batch has
rows in the table of results and no report. One idea of a batch may become a provisional step, which the next ideas
branch from; a researcher that learns from all batches together (`concludes`) has none before its last.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from autolab import files
from autolab.ideas import lessons
from autolab.lab import crash_points, front_matter
from autolab.lab.schemas.campaign import CarriedIdea, Exploration
from autolab.lab.schemas.experiment import (
    Assembler,
    Comparison,
    Hypothesis,
    IterationRecord,
    Lesson,
    Manifest,
    PlanningDecision,
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, DropReason, Fate, RunKind, TrialOutcome, Verdict
from autolab.lab.schemas.record import read_document
from autolab.loop import batch, exploring, hypothesis, implementation, launch, review
from autolab.loop.decision import mean_seconds, replies_of
from autolab.loop.iteration import Iteration, StageResult, slug_of
from autolab.loop.request import Requests
from autolab.loop.stages import StageOutcome
from autolab.reports import journal, screen_documents, tables
from autolab.reports.markup import plain
from autolab.reports.progress_figure import show_progress
from autolab.reports.screen_documents import ScreenedBatch, ScreenedIdea
from autolab.researchers.base import Batch
from autolab.stats.metric_names import words
from autolab.stats.plan import BASE, Plan, PlannedArm
from autolab.stats.scores import Scale
from autolab.stats.screening import screen_plan
from autolab.stats.seeds import search_seeds
from autolab.text import one_line
from autolab.trials import job
from autolab.trials.early_stop import SCHEDULE, EarlyStop, early_stop_of
from autolab.trials.inputs import TrialInputs
from autolab.trials.progress import View
from autolab.trials.run_record import RunSpec

TRIES = 2
"""How often a researcher is asked for an idea of a batch, or for its code, before it is left out."""
CURVE_BATCHES = 16
"""Earlier batches whose learning curves say when a trial may be ended early."""


# hypothesis


def propose(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """Ask for the batch's ideas, those that come first before new ones."""
    exploration = _exploration(iteration)
    carried = () if exploration.concluding else exploration.first[: exploration.size]
    claims: list[Hypothesis] = []
    refused = StageResult(StageOutcome.SET_ASIDE, "the researcher has no idea for a batch")
    for place in range(1, exploration.size + 1):
        hypothesis_id = f"h{iteration.campaign.hypotheses + place}"
        place_in_batch = Batch(
            number=iteration.campaign.batches,
            size=exploration.size,
            place=place,
            earlier=tuple(claims),
            concludes=exploration.concluding,
        )
        idea = iteration.of_idea(hypothesis_id, None, place_in_batch)
        answer = _carried(idea, carried[place - 1]) if place <= len(carried) else _asked(idea, requests)
        if isinstance(answer, StageResult):
            # Only the first idea is worth another attempt of the whole stage.
            if not claims and answer.outcome is StageOutcome.RETRY:
                return answer
            refused = answer
            break
        claim, body = answer
        claims.append(claim)
        batch.add(iteration, claim, slug_of(claim.id, claim.title), body)
        view(f"{claim.id}: {claim.title}")
    left = exploration.model_copy(update={"first": exploration.first[len(carried) :]})
    if not claims:
        # Nobody has another idea on this base: what there is can be claimed, and then the loop is over.
        exhausted = left.model_copy(update={"exhausted": refused.reason, "concluded": exploration.concluding})
        return StageResult(StageOutcome.SET_ASIDE, refused.reason, {"exploration": exhausted})
    own = batch.summary_claim(iteration, claims)
    iteration.write(iteration.paths.hypothesis, hypothesis.hypothesis_text(own, _listing(claims)))
    hypotheses = iteration.campaign.hypotheses + len(claims)
    return StageResult(StageOutcome.COMPLETE, campaign={"hypotheses": hypotheses, "exploration": left})


def _exploration(iteration: Iteration) -> Exploration:
    exploration = iteration.campaign.exploration
    assert exploration is not None
    return exploration


def _asked(idea: Iteration, requests: Requests) -> tuple[Hypothesis, str] | StageResult:
    """A new idea; or the last of a few refusals, of which the first idea of a batch gets none."""
    assert idea.batch is not None
    answer = hypothesis.ask(idea, requests)
    # The stage itself is tried again if there is no first idea.
    for attempt in range(2, TRIES + 1):
        is_refused = isinstance(answer, StageResult) and answer.outcome is StageOutcome.RETRY
        if isinstance(answer, StageResult) and is_refused and idea.batch.place > 1:
            answer = hypothesis.ask(idea.tried(attempt, answer.reason), requests)
    return answer


def _carried(idea: Iteration, source: CarriedIdea) -> tuple[Hypothesis, str]:
    """An idea of an earlier batch under its new id. RecordError: its hypothesis is gone."""
    paths = idea.lab.iteration(source.iteration_id).of_arm(source.arm)
    name = idea.relative(paths.hypothesis)
    yaml, body = front_matter.split(read_document(paths.hypothesis, name), name)
    claim = Hypothesis.from_text(yaml, name)
    update = {"id": idea.campaign.hypothesis_id, "parent": source.iteration_id}
    return claim.model_copy(update=update), body


def _listing(claims: list[Hypothesis]) -> str:
    rows = [f"- {claim.id}: {plain(claim.title)}" for claim in claims]
    return "\n".join(rows)


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

    for idea in batch.standing(iteration):
        result = _tried(idea, write)
        if result.outcome is not StageOutcome.COMPLETE:
            _drop(idea, DropReason.FAILED, result.reason, view)
        elif iteration.lab.git.tree(idea.candidate() or "") == iteration.lab.git.tree(iteration.base_commit):
            _drop(idea, DropReason.FAILED, "its code is that of the base: the change was withdrawn", view)
    return StageResult(StageOutcome.COMPLETE)


def examine(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """Each commit's review; an idea that does not pass is dropped."""

    def judge(idea: Iteration) -> StageResult:
        return review.run(idea, requests, view)

    for idea in batch.standing(iteration):
        result = _tried(idea, judge)
        if result.outcome is not StageOutcome.COMPLETE:
            _drop(idea, DropReason.REVIEW, result.reason, view)
    return StageResult(StageOutcome.COMPLETE)


def _tried(idea: Iteration, step: Callable[[Iteration], StageResult]) -> StageResult:
    """The result of a step for one idea, after `TRIES` attempts at most."""
    result = step(idea)
    for attempt in range(2, TRIES + 1):
        if result.outcome is StageOutcome.RETRY:
            result = step(idea.tried(attempt, result.reason))
    return result


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
    exploration, spec = _exploration(iteration), iteration.design()
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
        early_stop=_early_stop(iteration, arms) if config.screen.stop_early else None,
    )


def _early_stop(iteration: Iteration, arms: Sequence[PlannedArm]) -> EarlyStop | None:
    """When trials of this batch may be ended early, by the newest batches on its base; None: nothing says it."""
    settings = {batch.BASELINE: arms[0].settings}
    for idea in batch.standing(iteration):
        if idea.arm is not None and _keeps_schedule(idea.hypothesis().changes):
            settings[idea.arm] = arms[0].settings
    earlier: dict[str, set[str]] = {}
    for lesson in iteration.lessons():
        is_idea = lesson.hypothesis_id.startswith("h") and lesson.base == iteration.base_commit
        if not is_idea or not _keeps_schedule(lesson.changes):
            continue
        if lesson.iteration_id not in earlier and len(earlier) == CURVE_BATCHES:
            break
        earlier.setdefault(lesson.iteration_id, set()).add(lesson.hypothesis_id)
    manifests = []
    # The oldest first: of curves of several lengths the newest one's counts.
    for iteration_id in reversed(earlier):
        for path in sorted(iteration.lab.iteration(iteration_id).folder.glob("runs/*/run_manifest.json")):
            manifest = iteration.load(Manifest, path)
            if manifest.kind is RunKind.SCREEN:
                manifests.append(manifest)

    def is_comparable(manifest: Manifest, trial: Trial) -> bool:
        known = earlier.get(manifest.iteration_id, set())
        return trial.arm == batch.BASELINE or trial.arm.partition("-")[0] in known

    return early_stop_of(iteration.paths.folder.parent, manifests, is_comparable, settings, batch.BASELINE)


def _keeps_schedule(changes: Mapping[str, JsonValue]) -> bool:
    """Whether changes are known and touch no schedule, length, rate or averaging."""
    if not changes:
        return False
    return all(words(change).isdisjoint(SCHEDULE) for change in changes)


# results


@dataclass(frozen=True)
class _MeasuredBatch:
    """A batch that was measured: what each idea brought, and which of them is built upon."""

    iteration: Iteration
    manifest: Manifest
    step: str | None
    """The arm that becomes a provisional step."""
    runners_up: tuple[str, ...]
    """Arms that could have been one, the best first."""

    @classmethod
    def of(cls, iteration: Iteration) -> _MeasuredBatch:
        manifest = iteration.manifest()
        exploration, config = _exploration(iteration), iteration.config
        calibration = iteration.calibration()
        order = _ranked(manifest)
        if exploration.concluding:
            promotable = [comparison.arm for comparison in order]
        elif exploration.waits_for_conclusion:
            promotable = []
        else:
            least = config.screen.margin * (calibration.difference_deviation if calibration else 0.0)
            promotable = [comparison.arm for comparison in order if comparison.difference.mean > least]
        return cls(iteration, manifest, promotable[0] if promotable else None, tuple(promotable[1:]))

    @property
    def batch(self) -> ScreenedBatch:
        """What the documents tell of it."""
        iteration, spec = self.iteration, self.iteration.design()
        return ScreenedBatch(
            iteration_id=iteration.iteration_id,
            experiment_id=spec.id,
            metric=spec.metrics.primary,
            direction=iteration.config.metric.direction,
            delta=spec.metrics.success_delta,
            base=iteration.base_commit,
            ideas=tuple(self._ideas()),
            manifest=self.manifest,
        )

    def _ideas(self) -> Iterator[ScreenedIdea]:
        comparisons = {comparison.arm: comparison for comparison in self.manifest.comparisons}
        for idea in batch.ideas(self.iteration):
            claim, compared = idea.hypothesis(), comparisons.get(idea.slug)
            trials = self._trials(idea.slug)
            fate, reason, detail = self._fate(idea.slug, compared)
            yield ScreenedIdea(
                arm=idea.slug,
                hypothesis_id=claim.id,
                title=claim.title,
                family=claim.family,
                changes=claim.changes,
                commit=idea.candidate(),
                gain=compared.difference if compared else None,
                score=_mean([Scale.of(self.manifest).score(trial) for trial in trials]),
                n=compared.difference.n if compared else 0,
                seconds=mean_seconds(trials),
                fate=fate,
                reason=reason,
                detail=detail,
            )

    def _trials(self, arm: str) -> list[Trial]:
        """The completed trials of an arm."""
        trials = []
        for trial in self.manifest.trials:
            if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED:
                trials.append(trial)
        return trials

    def _fate(self, arm: str, compared: Comparison | None) -> tuple[Fate, str, str]:
        """What became of an idea, with reason and detail if it was dropped."""
        gone = batch.dropped(self.iteration).get(arm)
        if gone is not None:
            return Fate.DROPPED, gone.reason.value, gone.detail
        if compared is None:
            ended = [trial for trial in self.manifest.trials if trial.arm == arm]
            # Only a learning curve ends a trial of a run that is over.
            is_pruned = any(trial.outcome is TrialOutcome.CANCELLED for trial in ended)
            reason = DropReason.PRUNED if is_pruned else DropReason.FAILED
            messages = [trial.message for trial in ended if trial.message]
            return Fate.DROPPED, reason.value, one_line(messages[-1], 300) if messages else ""
        if arm == self.step:
            return Fate.PROVISIONAL, "", ""
        if _exploration(self.iteration).waits_for_conclusion:
            return Fate.SCREENED, "", ""
        return Fate.DROPPED, DropReason.BEHIND.value, ""

    @property
    def baseline_seconds(self) -> float | None:
        return mean_seconds(self._trials(batch.BASELINE))


def _mean(scores: Sequence[float | None]) -> float | None:
    measured = [score for score in scores if score is not None]
    return statistics.fmean(measured) if measured else None


def _ranked(manifest: Manifest) -> list[Comparison]:
    """The measured ideas, the best first: those that reached more seeds before others."""
    return sorted(manifest.comparisons, key=lambda one: (-one.difference.n, -one.difference.mean))


def extract(iteration: Iteration, view: View) -> StageResult:
    """Tables and results.yaml of the batch, from the manifest."""
    screened = _MeasuredBatch.of(iteration).batch
    screen_documents.extract_screen(iteration.paths.folder, screened)
    crash_points.point("extract.after_write")
    view.judged(screen_documents.judged(screened))
    for line in screen_documents.terminal_lines(screened):
        view(line)
    return StageResult(StageOutcome.COMPLETE)


def document(iteration: Iteration) -> StageResult:
    """Rows in the table of results, and a note that no other document changes."""
    screened = _MeasuredBatch.of(iteration).batch
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
    screened = _MeasuredBatch.of(iteration)
    ideas, lab, campaign = screened.batch.ideas, iteration.lab, iteration.campaign
    reason = screen_documents.headline(screened.batch)
    tables.append_decision(iteration.paths.folder, Decision.NEW_HYPOTHESIS, reason)
    crash_points.point("decide.after_write")
    iteration.write(iteration.paths.record, _record(screened, reason).to_json())
    learned = [_lesson(screened, idea) for idea in ideas]
    lessons.learn(lab.store, lab.ledger, learned, iteration.events())
    before = _exploration(iteration)
    exploration = exploring.after_batch(before, iteration.iteration_id, screened.step, ideas, screened.runners_up)
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


def _lesson(screened: _MeasuredBatch, idea: ScreenedIdea) -> Lesson:
    iteration = screened.iteration
    is_measured = idea.gain is not None
    return Lesson(
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=idea.hypothesis_id,
        title=idea.title,
        family=idea.family,
        changes=idea.changes,
        base=iteration.base_commit,
        commit=idea.commit,
        status="completed" if is_measured else "failed",
        verdict=Verdict.INCONCLUSIVE if is_measured else None,
        outcome=idea.fate.value,
        reason="screened" if is_measured else idea.reason,
        delta=iteration.design().metrics.success_delta,
        gain=idea.gain,
        measured=idea.measured,
        baseline=screened.batch.base_measured,
        seconds=idea.seconds,
        baseline_seconds=screened.baseline_seconds,
        decision=Decision.NEW_HYPOTHESIS,
    )


def _record(screened: _MeasuredBatch, reason: str) -> IterationRecord:
    """The batch as the registry shows it: by the idea that is built upon, or the one that did best."""
    iteration, results = screened.iteration, screened.iteration.results()
    order = [comparison.arm for comparison in _ranked(screened.manifest)]
    arm = screened.step or (order[0] if order else "")
    commit = iteration.base_commit
    for idea in screened.batch.ideas:
        if idea.arm == arm and idea.commit is not None:
            commit = idea.commit
    means = {name: interval.mean for name, interval in iteration.metrics().arms.get(arm, {}).items()}
    return IterationRecord(
        run_id=iteration.state.last_run_id,
        iteration=iteration.campaign.iterations,
        iteration_id=iteration.iteration_id,
        hypothesis_id=iteration.campaign.hypothesis_id or "",
        timestamp=files.utc_now(),
        model_settings={},
        assembler=Assembler(via="engine"),
        llm_response=replies_of(iteration),
        code_path=f"exp/{arm}" if arm else "",
        code_checksum=iteration.lab.git.tree(commit),
        commit=commit,
        summary=None,
        eval_metrics=means,
        status=results.status,
        verdict=results.assessment.verdict,
        outcome=Fate.PROVISIONAL.value if screened.step else Fate.SCREENED.value,
        planning_decision=PlanningDecision(action=Decision.NEW_HYPOTHESIS, reason=reason, next_config=None),
    )
