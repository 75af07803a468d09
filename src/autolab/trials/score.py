"""What a completed attempt measured: its own metrics, and the evaluator's on its predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from autolab.lab import crash_points
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import exceeded, reason_left_out
from autolab.sandbox.exit_record import Exit
from autolab.stats.finite import is_finite
from autolab.stats.scores import Scale
from autolab.text import last_line
from autolab.trials import metrics
from autolab.trials.evaluation import Evaluation
from autolab.trials.evaluator import Problem, check_predictions
from autolab.trials.inputs import TrialInputs
from autolab.verifiers import suspicion

NOT_FINITE = "diverged: {} is not a finite number, counted as the bound"
NOTE_LENGTH = 400
"""Characters of a note on a trial, at most."""
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Scored:
    """What an attempt measured: the evaluator's `score`, and what the training says of itself (`self_reported`).

    Of its predictions: the hash, their number (`rows`), the share that equals the labels (`agreement`), suspicions.
    """

    outcome: TrialOutcome
    message: str
    score: dict[str, float] = field(default_factory=dict)
    self_reported: dict[str, float] = field(default_factory=dict)
    predictions_sha256: str | None = None
    rows: int = 0
    agreement: float | None = None
    suspicions: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    """The metric that is compared, if the attempt ended well and the metric is not finite."""

    def refused(self, problem: Problem) -> Scored:
        """The same attempt, with what was read of it so far, as a failure."""
        return replace(self, outcome=problem.outcome, message=problem.message)


def judge(inputs: TrialInputs, config: Config, scale: Scale, exit_: Exit, attempt: Path) -> Scored:
    """The result of a fetched attempt: whether it left the shared files alone, how it ended, what it measured."""
    # First of all: once a shared file has changed, nothing that was measured counts, however the trial ended.
    broken = inputs.seals.broken()
    if broken:
        return Scored(TrialOutcome.TAMPERED, broken)
    if exit_.outcome is not TrialOutcome.COMPLETED:
        message = exit_.message
        if exit_.outcome is TrialOutcome.FAILED:
            message += _last_words(attempt, exit_.step)
        return Scored(exit_.outcome, message)
    too_much = exceeded(attempt)
    if too_much:
        return Scored(TrialOutcome.DISK_LIMIT, too_much)
    scored = score(inputs.evaluation, config, scale, attempt)
    crash_points.point("trial.after_score")
    # Other trials ran while this one was scored: labels and evaluator must be intact after it too.
    broken = inputs.seals.broken()
    if broken:
        return Scored(TrialOutcome.TAMPERED, broken)
    return scored


def _last_words(attempt: Path, step: str) -> str:
    """The last line that a failed step wrote to its error stream: usually the exception."""
    path = attempt / "logs" / f"{step}.err"
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        # A log may be megabytes long.
        file.seek(max(0, path.stat().st_size - 4096))
        line = last_line(file.read(), 300)
    return f": {line}" if line else ""


def score(evaluation: Evaluation | None, config: Config, scale: Scale, attempt: Path) -> Scored:
    """Read, check and score a fetched attempt whose steps all ended well; `scale` says what the run compares.

    If scores are cut at a bound, a metric that is not finite is a result: the training diverged. So are predictions
    that are not finite and that the evaluator therefore refuses.
    """
    # Without a bound there is nothing that a diverged training could count as: it has failed.
    compared = scale.metric if scale.bound is not None else None
    if evaluation is None:
        return _self_reported(config, scale.metric, compared, attempt)
    source = metrics.stored_source(config.train.metrics)
    own_metrics = metrics.read(attempt, source, ())
    scored = Scored(TrialOutcome.COMPLETED, "")
    # With an evaluator the training's own numbers decide nothing: if they cannot be read, that is a note.
    if not isinstance(own_metrics, Problem):
        scored = replace(scored, self_reported=own_metrics)
    predictions = attempt / "predict" / "predictions.npy"
    sha256 = check_predictions(predictions, None)
    if isinstance(sha256, Problem):
        return scored.refused(sha256)
    scored = replace(scored, predictions_sha256=sha256)
    look_ahead = evaluation.look_ahead(predictions, attempt)
    if look_ahead is not None:
        return scored.refused(look_ahead)
    numbers = evaluation.score(predictions, evaluation.split.labels, attempt / "score", compared)
    if isinstance(numbers, Problem):
        is_refusal = numbers.outcome is TrialOutcome.INVALID_ARTIFACT
        if compared is None or not is_refusal or finite(predictions):
            return scored.refused(numbers)
        # The evaluator refuses what is not finite: a divergence, as if it had answered NaN.
        numbers = {scale.metric: math.nan}
    predicted = suspicion.predictions(predictions)
    scored = replace(scored, score=numbers)
    # A missing metric is another matter: that is a failure, below.
    if not is_finite(numbers.get(scale.metric, 0.0)):
        del numbers[scale.metric]
        message = NOT_FINITE.format(scale.metric)
        return replace(scored, message=message, rows=predicted.rows, diverged=(scale.metric,))
    if scale.metric not in numbers:
        return scored.refused(Problem(TrialOutcome.INVALID_ARTIFACT, f"score.json: {scale.metric} is not in it"))
    return replace(
        scored,
        message=_note(attempt, source, own_metrics),
        rows=predicted.rows,
        agreement=suspicion.agreement(predictions, evaluation.split.labels),
        suspicions=predicted.suspicions,
    )


def finite(predictions: Path) -> bool:
    """Whether a checked file of predictions holds finite numbers alone. They are float32, so far below the limit."""
    import numpy as np

    values = np.load(predictions, mmap_mode="r", allow_pickle=False)
    # In blocks: a file may have 2 GiB, and a mask of all of it a quarter of that.
    starts = range(0, len(values), _ROWS_AT_ONCE)
    return all(np.isfinite(values[start : start + _ROWS_AT_ONCE]).all() for start in starts)


def _self_reported(config: Config, metric: str, compared: str | None, attempt: Path) -> Scored:
    """A lab without evaluator: what the training says of itself has to hold all that is compared and reported."""
    required = dict.fromkeys((metric, config.metric.primary, *config.metric.report))
    source = metrics.stored_source(config.train.metrics)
    numbers = metrics.read(attempt, source, required, compared, metrics.Primary.of(config))
    if isinstance(numbers, Problem):
        return Scored(numbers.outcome, numbers.message)
    if not is_finite(numbers.get(metric, 0.0)):
        del numbers[metric]
        message = NOT_FINITE.format(metric)
        return Scored(TrialOutcome.COMPLETED, message, self_reported=numbers, diverged=(metric,))
    return Scored(TrialOutcome.COMPLETED, _note(attempt, source, numbers), self_reported=numbers)


def _note(attempt: Path, source: str, own_metrics: dict[str, float] | Problem) -> str:
    """What is wrong with a completed trial's own numbers, in one line; empty if nothing is. It decides nothing."""
    if not isinstance(own_metrics, Problem):
        malformed = metrics.malformed(attempt, source)
        return f"note: {malformed}"[:NOTE_LENGTH] if malformed else ""
    path, label = metrics.place(attempt, source)
    place = label if source in metrics.PRINTED else f"train/{source}"
    reason = own_metrics.message
    left_out = reason_left_out(attempt, place)
    if left_out:
        reason = f"{source}: {left_out}"
    elif not path.exists() and "*" not in source:
        # A training need not say anything of itself.
        return ""
    return f"note: its own numbers are missing: {reason}"[:NOTE_LENGTH]
