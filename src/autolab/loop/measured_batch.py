"""What a measured batch brought: the gain and the fate of each idea, and which idea is built upon."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autolab import files
from autolab.ideas.past_ideas import error_text
from autolab.lab.schemas.experiment import (
    Assembler,
    Comparison,
    IterationRecord,
    Lesson,
    Manifest,
    PlanningDecision,
    Trial,
)
from autolab.lab.schemas.outcomes import Decision, DropReason, Fate, TrialOutcome, Verdict
from autolab.loop import batch
from autolab.loop.code_change import code_change
from autolab.loop.decision import mean_seconds, replies_of
from autolab.loop.iteration import Iteration
from autolab.loop.trial_errors import error_of
from autolab.reports.screen_documents import ScreenedBatch, ScreenedIdea
from autolab.stats.scores import Scale
from autolab.text import one_line


@dataclass(frozen=True)
class MeasuredBatch:
    """A batch that was measured: what each idea brought, and which of them is built upon."""

    iteration: Iteration
    manifest: Manifest
    step: str | None
    """The arm that becomes a provisional step."""
    runners_up: tuple[str, ...]
    """Arms that could have been one, the best first."""

    @classmethod
    def of(cls, iteration: Iteration) -> MeasuredBatch:
        manifest = iteration.manifest()
        exploration, config = batch.exploration_of(iteration), iteration.config
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
        if batch.exploration_of(self.iteration).waits_for_conclusion:
            return Fate.SCREENED, "", ""
        return Fate.DROPPED, DropReason.BEHIND.value, ""

    @property
    def baseline_seconds(self) -> float | None:
        return mean_seconds(self._trials(batch.BASELINE))

    def lesson(self, idea: ScreenedIdea) -> Lesson:
        """What an idea taught, for whoever proposes the next."""
        iteration = self.iteration
        is_measured = idea.gain is not None
        return Lesson(
            iteration=iteration.campaign.iterations,
            iteration_id=iteration.iteration_id,
            hypothesis_id=idea.hypothesis_id,
            title=idea.title,
            family=idea.family,
            changes=idea.changes,
            code_change="" if idea.changes else code_change(iteration.lab.git, iteration.base_commit, idea.commit),
            base=iteration.base_commit,
            commit=idea.commit,
            status="completed" if is_measured else "failed",
            verdict=Verdict.INCONCLUSIVE if is_measured else None,
            outcome=idea.fate.value,
            reason="screened" if is_measured else idea.reason,
            error="" if is_measured else self._error(idea),
            delta=iteration.design().metrics.success_delta,
            gain=idea.gain,
            measured=idea.measured,
            baseline=self.batch.base_measured,
            seconds=idea.seconds,
            baseline_seconds=self.baseline_seconds,
            decision=Decision.NEW_HYPOTHESIS,
        )

    def _error(self, idea: ScreenedIdea) -> str:
        run = self.iteration.paths.run(self.manifest.run_id)
        return error_of(run, self.manifest, idea.arm) or error_text(idea.detail)

    def record(self, reason: str) -> IterationRecord:
        """The batch as the registry shows it: by the idea that is built upon, or the one that did best."""
        iteration, results = self.iteration, self.iteration.results()
        order = [comparison.arm for comparison in _ranked(self.manifest)]
        arm = self.step or (order[0] if order else "")
        commit = iteration.base_commit
        for idea in self.batch.ideas:
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
            outcome=Fate.PROVISIONAL.value if self.step else Fate.SCREENED.value,
            planning_decision=PlanningDecision(action=Decision.NEW_HYPOTHESIS, reason=reason, next_config=None),
        )


def _mean(scores: Sequence[float | None]) -> float | None:
    measured = [score for score in scores if score is not None]
    return statistics.fmean(measured) if measured else None


def _ranked(manifest: Manifest) -> list[Comparison]:
    """The measured ideas, the best first: those that reached more seeds before others."""
    return sorted(manifest.comparisons, key=lambda one: (-one.difference.n, -one.difference.mean))
