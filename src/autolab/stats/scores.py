"""A trial's score as it counts: measured by the evaluator, cut at the bound, or none.

    cut        the trial counts as the bound: it *diverged* (it ended well and its metric is no finite number), or
               its score lies *beyond* the bound
    failed     an exception, a limit, a metric that is missing: such a trial has no score, and its run fails

The bound makes the mean that is claimed one of a bounded number: no rule can hold the error of a mean that one
rare disaster moves anywhere. It does not say how often disasters come. `cut_trials` does, beside the mean.
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
    return 1 / rows if rows and is_share(metric) else 0.0


@dataclass(frozen=True)
class Scale:
    """How a run reads its trials: which metric, which way is good, who measured it, and the worst score that counts."""

    metric: str
    direction: Direction
    self_reported: bool
    bound: float | None

    @classmethod
    def of(cls, manifest: Manifest) -> Scale:
        """That of a run that was made. RecordError: its manifest does not say it."""
        if manifest.metric is None or manifest.direction is None:
            raise RecordError("run_manifest.json: metric or direction: missing; the run's trials cannot be read")
        bound = manifest.rule.bound if manifest.rule else None
        return cls(manifest.metric, manifest.direction, manifest.self_reported, bound)

    def printed(self, trial: Trial) -> float | None:
        """The metric as it was measured; None where it is missing or no finite number."""
        value = measured(trial, self.self_reported).get(self.metric)
        return value if value is not None and is_finite(value) else None

    def cut(self, trial: Trial) -> Literal["", "diverged", "beyond"]:
        """Why a completed trial counts as the bound; empty if it counts as it was measured, or not at all."""
        if self.bound is None or trial.outcome is not TrialOutcome.COMPLETED:
            return ""
        value = self.printed(trial)
        if value is None:
            said = self.metric in trial.diverged or self.metric in measured(trial, self.self_reported)
            return "diverged" if said else ""
        return "beyond" if worse(self.direction, value, self.bound) else ""

    def score(self, trial: Trial) -> float | None:
        """The metric as it counts, cut at the bound; None where the trial has none."""
        if self.cut(trial):
            return self.bound
        value = self.printed(trial)
        return None if value is None else self.counted(value)

    def counted(self, value: float) -> float | None:
        """A measured number as it counts; None where there is no bound for one that cannot be used as it is."""
        if self.bound is not None and (not is_finite(value) or worse(self.direction, value, self.bound)):
            return self.bound
        return value if is_finite(value) else None

    def failure(self, trial: Trial) -> str | None:
        """Why this settled trial cannot be used, in one line that names it; None if it can."""
        if trial.outcome is not TrialOutcome.COMPLETED:
            return f"trial {trial.trial}: {trial.outcome}{': ' if trial.message else ''}{trial.message}"
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
        why = [self.cut(trial) for trial in trials]
        count = len(why) - why.count("")
        most = round(rules.share_at_most(count, len(why)), 6)
        return CutTrials(arm=arm, trials=len(why), cut=count, diverged=why.count("diverged"), at_most=most)


def worse(direction: Direction, value: float, than: float) -> bool:
    return value > than if direction == "minimize" else value < than


def gain(direction: Direction, before: float, after: float) -> float:
    """The difference in the direction of good."""
    return after - before if direction == "maximize" else before - after


def worst(values: Sequence[float], direction: Direction) -> float:
    return max(values) if direction == "minimize" else min(values)


def default_bound(found: Calibration, direction: Direction) -> float | None:
    """The bound where nobody set one; None where nothing that a calibration measured scatters.

    It is the score of a constant prediction, if that is worse than all that the baseline has measured, else the
    baseline's worst less ten deviations in the direction of good.
    """
    if found.worst is None:
        return None
    if found.constant is not None and worse(direction, found.constant, found.worst):
        return found.constant
    spread = max(found.deviation, found.quantum)
    away = TO_BOUND * spread if direction == "minimize" else -TO_BOUND * spread
    return found.worst + away if spread else None


def aggregate(scale: Scale, trials: Iterable[Trial]) -> dict[str, dict[str, ArmMetrics]]:
    """Mean, sample deviation and number of trials, per arm and metric, over the completed ones of `trials`.

    The primary metric is cut at the bound, as it is where it is compared.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        if trial.outcome is not TrialOutcome.COMPLETED:
            continue
        own, primary = dict(measured(trial, scale.self_reported)), scale.score(trial)
        if primary is not None:
            own[scale.metric] = primary
        for name, value in own.items():
            if is_finite(value):
                values.setdefault(trial.arm, {}).setdefault(name, []).append(value)
    return {arm: {name: _arm_metrics(found) for name, found in sorted(by.items())} for arm, by in values.items()}


def _arm_metrics(values: list[float]) -> ArmMetrics:
    mean, deviation = rules.mean_and_deviation(values)
    return ArmMetrics(mean=mean, std=deviation, n=len(values))
