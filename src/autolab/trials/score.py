"""What a completed attempt measured: its own metrics, and the evaluator's on its predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from autolab.lab import crash_points
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import exceeded, reason_left_out, stored_path
from autolab.sandbox.exit_record import Exit
from autolab.stats.scores import Scale
from autolab.text import last_line
from autolab.trials import evaluator, metrics
from autolab.trials.evaluation import Evaluation
from autolab.trials.inputs import TrialInputs
from autolab.verifiers import suspicion

NOT_FINITE = "diverged: {} is not a finite number, counted as the bound"
_AT_ONCE = 4096
NOTE_LENGTH = 400
"""Characters of a note on a trial, at most."""


@dataclass(frozen=True)
class Scored:
    """Outcome and message of an attempt, the evaluator's score, its own numbers; of its predictions the hash, how many
    they are, the share that equals the labels, and what is odd about them."""

    outcome: TrialOutcome
    message: str
    score: dict[str, float] = field(default_factory=dict)
    self_reported: dict[str, float] = field(default_factory=dict)
    predictions_sha256: str | None = None
    rows: int = 0
    agreement: float | None = None
    suspicions: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    """The metric that is compared, where the attempt ended well and it is no finite number."""


def judge(inputs: TrialInputs, config: Config, scale: Scale, exit_: Exit, attempt: Path) -> Scored:
    """What a fetched attempt came to: how it ended, what it left, and before all whether it let the rest alone."""
    broken = inputs.seals.broken()
    if broken:
        return Scored(TrialOutcome.TAMPERED, broken)
    if exit_.outcome is not TrialOutcome.COMPLETED:
        said_last = _last_words(attempt, exit_.step) if exit_.outcome is TrialOutcome.FAILED else ""
        return Scored(exit_.outcome, exit_.message + said_last)
    too_much = exceeded(attempt)
    if too_much:
        return Scored(TrialOutcome.DISK_LIMIT, too_much)
    scored = score(inputs.evaluation, config, scale, attempt)
    crash_points.point("trial.after_score")
    broken = inputs.seals.broken()  # other trials ran while this one was scored
    return Scored(TrialOutcome.TAMPERED, broken) if broken else scored


def _last_words(attempt: Path, step: str) -> str:
    """The last line that a failed step wrote to its error stream: usually the exception."""
    path = attempt / "logs" / f"{step}.err"
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        last = last_line(file.read(), 300)
    return f": {last}" if last else ""


def score(evaluation: Evaluation | None, config: Config, scale: Scale, attempt: Path) -> Scored:
    """Read, check and score a fetched attempt whose steps all ended well; `scale` says what the run compares.

    Where scores are cut at a bound, a metric that comes out as no finite number is a result: the training diverged.
    So are predictions that are no finite numbers and that the evaluator therefore refuses.
    """
    metric, compared = scale.metric, None if scale.bound is None else scale.metric
    if evaluation is None:
        return _self_reported(config, metric, compared, attempt)
    source = stored_path(config.train.metrics)
    found = metrics.read(attempt, source, ())
    said = {} if isinstance(found, evaluator.Problem) else found
    note = _note(attempt, source, found)
    predictions = attempt / "predict" / "predictions.npy"
    sha = evaluator.check_predictions(predictions, None)
    if isinstance(sha, evaluator.Problem):
        return Scored(sha.outcome, sha.message, {}, said)
    ahead = evaluation.look_ahead(predictions, attempt)
    if ahead is not None:
        return Scored(ahead.outcome, ahead.message, {}, said, sha)
    measured = evaluation.score(predictions, evaluation.split.labels, attempt / "score", compared)
    if isinstance(measured, evaluator.Problem):
        refused = measured.outcome is TrialOutcome.INVALID_ARTIFACT
        if compared is None or not refused or finite(predictions):
            return Scored(measured.outcome, measured.message, {}, said, sha)
        measured = {metric: math.nan}
    if evaluator.not_finite(measured.get(metric)):
        rest = {name: value for name, value in measured.items() if name != metric}
        rows = suspicion.predictions(predictions).rows
        return Scored(TrialOutcome.COMPLETED, NOT_FINITE.format(metric), rest, said, sha, rows, diverged=(metric,))
    if metric not in measured:
        return Scored(TrialOutcome.INVALID_ARTIFACT, f"score.json: {metric} is not in it", measured, said, sha)
    seen = suspicion.predictions(predictions)
    equal = suspicion.agreement(predictions, evaluation.split.labels)
    return Scored(TrialOutcome.COMPLETED, note, measured, said, sha, seen.rows, equal, seen.suspicions)


def _note(attempt: Path, source: str, found: dict[str, float] | evaluator.Problem) -> str:
    """What a completed trial's own numbers lack, in one line: nothing of it decides. Empty where nothing is amiss.

    A training that says nothing of itself needs no note, unless it left something there that could not be taken."""
    if not isinstance(found, evaluator.Problem):
        wrong = metrics.malformed(attempt, source)
        return f"note: {wrong}"[:NOTE_LENGTH] if wrong else ""
    place = "logs/train.out" if source == metrics.STDOUT else f"train/{source}"
    left_out = reason_left_out(attempt, place)
    if left_out:
        return f"note: its own numbers are missing: {source}: {left_out}"[:NOTE_LENGTH]
    if not (attempt / place).exists():
        return ""
    return f"note: its own numbers are missing: {found.message}"[:NOTE_LENGTH]


def finite(predictions: Path) -> bool:
    """Whether a checked file of predictions holds finite numbers alone."""
    import numpy as np

    values = np.load(predictions, mmap_mode="r", allow_pickle=False)
    return all(bool(np.isfinite(values[first : first + _AT_ONCE]).all()) for first in range(0, len(values), _AT_ONCE))


def _self_reported(config: Config, metric: str, compared: str | None, attempt: Path) -> Scored:
    """A lab without evaluator: what the training says of itself has to hold all that is compared and reported."""
    required = dict.fromkeys((metric, config.metric.primary, *config.metric.report))
    said = metrics.read(attempt, stored_path(config.train.metrics), required, compared)
    if isinstance(said, evaluator.Problem):
        return Scored(said.outcome, said.message)
    if evaluator.not_finite(said.get(metric)):
        rest = {name: value for name, value in said.items() if name != metric}
        return Scored(TrialOutcome.COMPLETED, NOT_FINITE.format(metric), {}, rest, diverged=(metric,))
    return Scored(TrialOutcome.COMPLETED, _note(attempt, stored_path(config.train.metrics), said), {}, said)
