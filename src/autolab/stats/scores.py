"""A trial's score as it counts: measured by the evaluator, cut at the bound, or none.

    cut        the trial counts as the bound: it *diverged* (it ended well and its metric is no finite number), or
               its score lies *beyond* the bound
    failed     an exception, a limit, a metric that is missing: such a trial has no score, and its run fails

The bound makes the scores bounded: no rule can hold the error of a mean that one rare disaster moves anywhere. The mean
does not say how often disasters come; `cut_trials` says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from autolab.errors import RecordError
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import ArmMetrics, Calibration, CutTrials, Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import rules
from autolab.stats.finite import LIMIT, is_finite
from autolab.stats.metric_names import is_share

TO_BOUND = 10.0
"""Deviations of the baseline between its worst score and the bound, where a constant prediction gives none."""


def measured(trial: Trial, self_reported: bool) -> dict[str, float]:
    """The numbers that count: the evaluator's scores, or in a lab without one what the trial says of itself."""
    return trial.self_reported if self_reported else trial.score


def quantum(metric: str, rows: int) -> float:
    """The smallest step of a metric: one row's part of a share, if the rows are known; 0 for a continuous one."""
    if rows and is_share(metric):
        return 1 / rows
    return 0.0


@dataclass(frozen=True)
class Scale:
    """How a run reads its trials: which metric, which way is good, who measured it, and the worst score that counts."""

    metric: str
    direction: Direction
    self_reported: bool
    bound: float | None

    @classmethod
    def of(cls, manifest: Manifest) -> Scale:
        """That of an existing run. RecordError: its manifest lacks metric or direction."""
        if manifest.metric is None or manifest.direction is None:
            raise RecordError("run_manifest.json: metric or direction: missing; the run's trials cannot be read")
        bound = manifest.rule.bound if manifest.rule else manifest.bound
        return cls(manifest.metric, manifest.direction, manifest.self_reported, bound)

    def printed(self, trial: Trial) -> float | None:
        """The metric as it was measured; None where it is missing or no finite number."""
        value = measured(trial, self.self_reported).get(self.metric)
        if value is None or not is_finite(value):
            return None
        return value

    def cut(self, trial: Trial) -> Literal["", "diverged", "beyond"]:
        """Why a completed trial counts as the bound; empty if it counts as it was measured, or not at all."""
        if self.bound is None or trial.outcome is not TrialOutcome.COMPLETED:
            return ""
        value = self.printed(trial)
        if value is not None:
            return "beyond" if worse(self.direction, value, self.bound) else ""
        # A record holds a number from LIMIT on as it is, and NaN, which JSON cannot hold, only by the metric's name.
        if self.metric in trial.diverged or self.metric in measured(trial, self.self_reported):
            return "diverged"
        return ""

    def score(self, trial: Trial) -> float | None:
        """The metric as it counts, cut at the bound; None where the trial has none."""
        if self.cut(trial):
            return self.bound
        value = self.printed(trial)
        if value is None:
            return None
        return self.counted(value)

    def counted(self, value: float) -> float | None:
        """A measured number as it counts; one that is not finite counts as the bound, None without a bound."""
        if not is_finite(value):
            return self.bound
        if self.bound is not None and worse(self.direction, value, self.bound):
            return self.bound
        return value

    def failure(self, trial: Trial) -> str | None:
        """Why this settled trial cannot be used, in one line that names it; None if it can."""
        if trial.outcome is not TrialOutcome.COMPLETED:
            reason = f"trial {trial.trial}: {trial.outcome}"
            if trial.message:
                reason += f": {trial.message}"
            return reason
        if self.score(trial) is not None:
            return None
        value = measured(trial, self.self_reported).get(self.metric)
        if value is not None:
            return f"trial {trial.trial}: metric {self.metric!r} is {value}, not a finite number below {LIMIT:g}"
        if self.metric in trial.diverged:
            return f"trial {trial.trial}: metric {self.metric!r} is not a finite number, and test.bound sets no bound"
        return f"trial {trial.trial}: metric {self.metric!r} was not measured"

    def cut_trials(self, arm: str, trials: Iterable[Trial]) -> CutTrials:
        """How many of an arm's trials (at least one) were cut, and the largest share that this does not rule out."""
        reasons = [self.cut(trial) for trial in trials]
        count, diverged = len(reasons), reasons.count("diverged")
        cut = diverged + reasons.count("beyond")
        # Rounded: it is written to the manifest, and libraries differ in the last digits of the beta function.
        at_most = round(rules.share_at_most(cut, count), 6)
        return CutTrials(arm=arm, trials=count, cut=cut, diverged=diverged, at_most=at_most)


def worse(direction: Direction, value: float, than: float) -> bool:
    return value > than if direction == "minimize" else value < than


def gain(direction: Direction, before: float, after: float) -> float:
    """The difference in the direction of good."""
    return after - before if direction == "maximize" else before - after


def worst(values: Sequence[float], direction: Direction) -> float:
    return max(values) if direction == "minimize" else min(values)


def default_bound(calibration: Calibration, direction: Direction) -> float | None:
    """The bound if nobody set one; None if nothing that a calibration measured scatters.

    It is the score of a constant prediction, if that is worse than every score of the baseline, else the baseline's
    worst score and `TO_BOUND` deviations more in the bad direction.
    """
    if calibration.worst is None:
        return None
    if calibration.constant is not None and worse(direction, calibration.constant, calibration.worst):
        return calibration.constant
    distance = TO_BOUND * max(calibration.deviation, calibration.quantum)
    if distance == 0:
        return None
    if direction == "minimize":
        return calibration.worst + distance
    return calibration.worst - distance


def aggregate(scale: Scale, trials: Iterable[Trial]) -> dict[str, dict[str, ArmMetrics]]:
    """Mean, sample deviation (n - 1) and number of trials, per arm and metric, over the completed ones of `trials`.

    The primary metric is cut at the bound, as it is where it is compared.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        if trial.outcome is not TrialOutcome.COMPLETED:
            continue
        metrics = dict(measured(trial, scale.self_reported))
        primary = scale.score(trial)
        if primary is not None:
            metrics[scale.metric] = primary
        # Only the primary metric has a bound: another one that is not finite is left out of its mean.
        for name, value in metrics.items():
            if is_finite(value):
                values.setdefault(trial.arm, {}).setdefault(name, []).append(value)
    return {arm: _arm_metrics(by_metric) for arm, by_metric in values.items()}


def _arm_metrics(values: dict[str, list[float]]) -> dict[str, ArmMetrics]:
    metrics = {}
    for name in sorted(values):
        mean, deviation = rules.mean_and_deviation(values[name])
        metrics[name] = ArmMetrics(mean=mean, std=deviation, n=len(values[name]))
    return metrics
