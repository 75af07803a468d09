"""One finished run as tables, figures and results read it: its plan, the trials that count, what they measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Comparison, Design, Hypothesis, Manifest, RunMetrics, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.reports import passages
from autolab.reports.curves import Curve, gather
from autolab.stats import scores, verdict
from autolab.stats.plan import Plan, recorded_plan, recorded_screen_plan
from autolab.stats.verdict import Judgement


class Pair(NamedTuple):
    """A baseline's and a variant's trial at one seed, their scores cut at the bound, and the gain of the variant."""

    baseline: Trial
    variant: Trial
    baseline_score: float
    variant_score: float
    gain: float


@dataclass(frozen=True)
class MeasuredRun:
    """A run that has ended. `trials` are those that its rule has read, `notes` a line for each thing left out."""

    manifest: Manifest
    plan: Plan
    judgement: Judgement
    trials: list[Trial]
    metrics: RunMetrics
    curves: list[Curve]
    notes: list[str]

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def source(self) -> str:
        """What measured its numbers, for a column of the tables."""
        return "self_reported" if self.plan.self_reported else "evaluator"

    def measured(self) -> list[str]:
        """The metrics that some arm measured, the primary one first, the others by name."""
        names: set[str] = set()
        for means in self.metrics.arms.values():
            names.update(means)
        return sorted(names, key=lambda name: (name != self.plan.metric, name))

    def means(self, arm: str) -> dict[str, float]:
        """The mean of each metric that an arm measured."""
        return {name: mean.mean for name, mean in self.metrics.arms.get(arm, {}).items()}

    def values(self, trial: Trial) -> dict[str, float]:
        """What a completed trial measured, the primary metric cut at the bound."""
        values = dict(scores.measured(trial, self.plan.self_reported))
        score = self.plan.scale.score(trial)
        if score is not None:
            values[self.plan.metric] = score
        return values

    def pairs(self, comparison: Comparison) -> list[Pair]:
        """The pairs of trials that a comparison rests on, in seed order."""
        metric, direction = self.plan.metric, self.plan.direction
        # Pairs share an index, and the rule reads them in the order of their indices.
        trials = {(trial.arm, trial.index): trial for trial in self.trials}
        pairs = []
        for index in range(passages.pairs_of(comparison)):
            baseline, variant = trials[comparison.baseline, index], trials[comparison.arm, index]
            before, after = self.values(baseline)[metric], self.values(variant)[metric]
            pairs.append(Pair(baseline, variant, before, after, scores.gain(direction, before, after)))
        return pairs

    def gains(self, comparison: Comparison) -> list[float]:
        """The gain of each of its pairs."""
        return [pair.gain for pair in self.pairs(comparison)]


def read_run(folder: Path, manifest: Manifest, design: Design | None, hypothesis: Hypothesis | None) -> MeasuredRun:
    """Judge a run again from its manifest, and read its trainings' curves from the iteration's `folder`.

    A screen has neither design nor hypothesis of its own.
    RecordError: the run has not ended, its files are not here yet, or its comparisons do not follow from its trials.
    """
    sync = manifest.sync.artifact_sync_to_local.status
    if sync not in ("ok", "na"):
        raise RecordError(
            f"run_manifest.json: sync.artifact_sync_to_local.status: {sync}; the run's files are not here"
        )
    plan = recorded_plan(manifest, design, hypothesis, None)
    judgement = _judged(manifest, plan)
    trials = verdict.trials_read(plan, manifest.trials)
    metrics = _metrics(manifest, plan, judgement, trials)
    curves, notes = gather(folder.parent, f"{manifest.iteration_id}/{manifest.run_id}", completed(trials))
    return MeasuredRun(manifest, plan, judgement, trials, metrics, curves, notes)


def read_screen(manifest: Manifest) -> MeasuredRun:
    """A batch of ideas, judged again from its manifest alone; it has no curves.

    RecordError: the run has not ended, its manifest does not say what was screened, or its comparisons do not follow
    from its trials.
    """
    plan = recorded_screen_plan(manifest)
    judgement = _judged(manifest, plan)
    trials = verdict.trials_read(plan, manifest.trials)
    return MeasuredRun(manifest, plan, judgement, trials, _metrics(manifest, plan, judgement, trials), [], [])


def _judged(manifest: Manifest, plan: Plan) -> Judgement:
    """What the trials say. RecordError: the run has not ended, or its comparisons do not follow from its trials."""
    judgement = verdict.judge(plan, manifest.trials)
    if not judgement.done:
        raise RecordError(f"run_manifest.json: {manifest.run_id} has not ended: {judgement.reason}; launch it again")
    # A stub's trials hold no numbers that could be compared.
    if manifest.kind is RunKind.STUB:
        return Judgement(judgement.status, "stub: nothing was measured", {})
    # A manifest that was edited, or judged by other code: no number of it may stand in a document.
    if manifest.comparisons and manifest.comparisons != judgement.comparisons:
        raise RecordError("run_manifest.json: comparisons: do not follow from its trials; restore the file")
    return judgement


def _metrics(manifest: Manifest, plan: Plan, judgement: Judgement, trials: Iterable[Trial]) -> RunMetrics:
    return RunMetrics(
        run_id=manifest.run_id,
        primary=plan.metric,
        self_reported=plan.self_reported,
        arms=scores.aggregate(plan.scale, trials),
        comparisons=judgement.comparisons,
    )


def completed(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.outcome is TrialOutcome.COMPLETED]
