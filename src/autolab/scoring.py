"""What a completed attempt measured: its own metrics, and the evaluator's on its predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab import evaluation, fault, metrics, suffix, suspicion
from autolab.collection import exceeded, reason_left_out, remove_tree, stored_path
from autolab.executors.base import Exit
from autolab.records.lab import Config
from autolab.records.outcomes import Outcome
from autolab.rig import Rig

if TYPE_CHECKING:
    import numpy.typing as npt

NOTE_LENGTH = 400
"""Characters of a note on a trial, at most."""
PARTS, LEAST = 20, 5
"""Parts of the evaluation that stand in for seeds, and the rows that each has to have at least."""


@dataclass(frozen=True)
class Scored:
    """Outcome and message of an attempt, the evaluator's score, its own numbers; of its predictions the hash, how many
    they are and what is odd about them."""

    outcome: Outcome
    message: str
    score: dict[str, float] = field(default_factory=dict)
    self_reported: dict[str, float] = field(default_factory=dict)
    predictions_sha256: str | None = None
    rows: int = 0
    suspicions: tuple[str, ...] = ()


def judge(setup: Rig, config: Config, metric: str, exit_: Exit, attempt: Path) -> Scored:
    """What a fetched attempt came to: how it ended, what it left, and before all whether it let the rest alone."""
    broken = setup.seals.broken()
    if broken:
        return Scored(Outcome.TAMPERED, broken)
    if exit_.outcome is not Outcome.COMPLETED:
        said_last = _last_words(attempt, exit_.step) if exit_.outcome is Outcome.FAILED else ""
        return Scored(exit_.outcome, exit_.message + said_last)
    too_much = exceeded(attempt)
    if too_much:
        return Scored(Outcome.DISK_LIMIT, too_much)
    scored = score(setup, config, metric, attempt)
    fault.point("trial.after_score")
    broken = setup.seals.broken()  # other trials ran while this one was scored
    return Scored(Outcome.TAMPERED, broken) if broken else scored


def _last_words(attempt: Path, step: str) -> str:
    """The last line that a failed step wrote to its error stream: usually the exception."""
    path = attempt / "logs" / f"{step}.err"
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def score(setup: Rig, config: Config, metric: str, attempt: Path) -> Scored:
    """Read, check and score a fetched attempt whose steps all ended well; `metric` is what the run compares."""
    if setup.evaluator is None:
        return _self_reported(config, metric, attempt)
    source = stored_path(config.train.metrics)
    found = metrics.read(attempt, source, ())
    said = {} if isinstance(found, evaluation.Problem) else found
    note = _note(attempt, source, found)
    predictions = attempt / "predict" / "predictions.npy"
    sha = evaluation.check_predictions(predictions, None)
    if isinstance(sha, evaluation.Problem):
        return Scored(sha.outcome, sha.message, {}, said)
    ahead = _looks_ahead(setup, predictions, attempt)
    if ahead is not None:
        return Scored(ahead.outcome, ahead.message, {}, said, sha)
    measured = numbers(setup, predictions, setup.labels, attempt / "score")
    if isinstance(measured, evaluation.Problem):
        return Scored(measured.outcome, measured.message, {}, said, sha)
    if metric not in measured:
        return Scored(Outcome.INVALID_ARTIFACT, f"score.json: {metric} is not in it", measured, said, sha)
    seen = suspicion.predictions(predictions)
    return Scored(Outcome.COMPLETED, note, measured, said, sha, seen.rows, seen.suspicions)


def _note(attempt: Path, source: str, found: dict[str, float] | evaluation.Problem) -> str:
    """What a completed trial's own numbers lack, in one line: nothing of it decides. Empty where nothing is amiss.

    A training that says nothing of itself needs no note, unless it left something there that could not be taken."""
    if not isinstance(found, evaluation.Problem):
        wrong = metrics.malformed(attempt, source)
        return f"note: {wrong}"[:NOTE_LENGTH] if wrong else ""
    place = "logs/train.out" if source == metrics.STDOUT else f"train/{source}"
    left_out = reason_left_out(attempt, place)
    if left_out:
        return f"note: its own numbers are missing: {source}: {left_out}"[:NOTE_LENGTH]
    if not (attempt / place).exists():
        return ""
    return f"note: its own numbers are missing: {found.message}"[:NOTE_LENGTH]


def numbers(setup: Rig, predictions: Path, labels: Path, folder: Path) -> dict[str, float] | evaluation.Problem:
    """What the lab's evaluator says of predictions for these labels; leaves score.json in `folder`."""
    assert setup.evaluator is not None
    return evaluation.score(
        Path(setup.python),
        setup.evaluator,
        setup.evaluator_sha256,
        predictions,
        labels,
        folder,
        setup.predict_limit_s,
        setup.scoring,
        setup.bytecode,
    )


def on_parts(setup: Rig, metric: str, attempt: Path) -> tuple[float, ...]:
    """The metric on `PARTS` equal parts of the evaluation, each every `PARTS`-th row; empty where rows are too few.

    For trainings that give the same output for every seed: then the rows are all that replicates.
    """
    import numpy as np

    if setup.evaluator is None:
        return ()
    rows = np.load(attempt / "predict" / "predictions.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(setup.labels, mmap_mode="r", allow_pickle=False)
    if len(labels) != len(rows) or len(rows) < PARTS * LEAST:
        return ()
    try:
        found = [_part(setup, rows[part::PARTS], labels[part::PARTS], attempt / "parts") for part in range(PARTS)]
    finally:
        remove_tree(attempt / "parts")
    return tuple(one[metric] for one in found) if all(metric in one for one in found) else ()


def _part(setup: Rig, rows: npt.NDArray[Any], labels: npt.NDArray[Any], folder: Path) -> dict[str, float]:
    """The evaluator's numbers for some rows; none where it does not take them."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("predictions", rows), ("labels", labels)):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)
    measured = numbers(setup, folder / "predictions.npy", folder / "labels.npy", folder)
    return {} if isinstance(measured, evaluation.Problem) else measured


def _self_reported(config: Config, metric: str, attempt: Path) -> Scored:
    """A lab without evaluator: what the training says of itself has to hold all that is compared and reported."""
    required = dict.fromkeys((metric, config.metric.primary, *config.metric.report))
    said = metrics.read(attempt, stored_path(config.train.metrics), required)
    if isinstance(said, evaluation.Problem):
        return Scored(said.outcome, said.message)
    return Scored(Outcome.COMPLETED, _note(attempt, stored_path(config.train.metrics), said), {}, said)


def _looks_ahead(setup: Rig, predictions: Path, attempt: Path) -> evaluation.Problem | None:
    """The altered-suffix check, where the lab asks for it."""
    if setup.altered is None:
        return None
    altered = attempt / suffix.ALTERED / "predictions.npy"
    sha = evaluation.check_predictions(altered, None)
    return sha if isinstance(sha, evaluation.Problem) else suffix.compare(predictions, altered, setup.altered.cuts)
