"""The evaluation of a lab: the frozen evaluator, the data that it scores predictions for, and the altered inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.sandbox.collect import remove_tree
from autolab.trials import lookahead
from autolab.trials.evaluator import FrozenEvaluator, Problem, check_predictions

if TYPE_CHECKING:
    import numpy.typing as npt

PREDICTIONS = "predictions.npy"
PARTS, LEAST = 20, 5
"""Parts of the evaluation that stand in for seeds, and the rows that each has to have at least."""


@dataclass(frozen=True)
class DataSplit:
    """The two files of a split, both .npy with a row an example. No trial sees `labels`."""

    inputs: Path
    labels: Path

    @classmethod
    def of(cls, folder: Path) -> DataSplit:
        return cls(folder / "inputs.npy", folder / "labels.npy")


@dataclass(frozen=True)
class Evaluation:
    """How predictions are scored. `holdout` is None in a lab without one, `altered` if no suffix is altered."""

    evaluator: FrozenEvaluator
    split: DataSplit
    holdout: DataSplit | None = None
    altered: lookahead.Altered | None = None

    def score(
        self, predictions: Path, labels: Path, folder: Path, compared: str | None = None
    ) -> dict[str, float] | Problem:
        """The evaluator's numbers for these labels (`FrozenEvaluator.score`); leaves score.json in `folder`.

        The metric that is `compared` may come out as NaN.
        """
        return self.evaluator.score(predictions, labels, folder, compared)

    def look_ahead(self, predictions: Path, attempt: Path) -> Problem | None:
        """Why the predictions of an attempt depend on later inputs; None if they do not, or if nothing was altered."""
        if self.altered is None:
            return None
        altered = attempt / lookahead.ALTERED / PREDICTIONS
        # Checked like those that count: the comparison trusts the header.
        checked = check_predictions(altered, None)
        if isinstance(checked, Problem):
            return checked
        return lookahead.compare(predictions, altered, self.altered.cuts)

    def of_constant(self, shape: tuple[int, ...], folder: Path) -> dict[str, float]:
        """The evaluator's numbers for a constant prediction: uniform log-probabilities over the last axis of `shape`.

        Empty if the evaluator refuses it. Leaves nothing in `folder`.
        """
        import numpy as np

        uniform = np.full(shape, -math.log(shape[-1]), dtype=np.float32)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / PREDICTIONS, uniform, allow_pickle=False)
            numbers = self.score(folder / PREDICTIONS, self.split.labels, folder)
        finally:
            remove_tree(folder)
        return {} if isinstance(numbers, Problem) else numbers

    def on_parts(self, metric: str, attempt: Path) -> tuple[float, ...]:
        """The metric on `PARTS` equal parts of the evaluation, part k being every `PARTS`-th row from row k on.

        Empty if there are too few rows. For trainings that give the same output for every seed: then only the rows
        replicate.
        """
        if rows_of(self.split.labels) < PARTS * LEAST:
            return ()
        predictions = attempt / "predict" / PREDICTIONS
        return self.parts(metric, predictions, self.split.labels, attempt / "parts", PARTS)

    def parts(self, metric: str, predictions: Path, labels: Path, folder: Path, count: int) -> tuple[float, ...]:
        """The metric on `count` parts of (predictions, labels), part k being every `count`-th row from row k on.

        Empty if predictions and labels differ in their rows or have fewer than `count`, or if the evaluator
        refuses a part. `folder` is used and removed.
        """
        import numpy as np

        try:
            rows = np.load(predictions, mmap_mode="r", allow_pickle=False)
            truth = np.load(labels, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            # A diverged trial need not have left any predictions.
            return ()
        if rows.ndim == 0 or truth.ndim == 0 or len(truth) != len(rows) or len(rows) < count:
            return ()
        # Every `count`-th row, because rows are often sorted by class: a block of them would be one class.
        values = []
        try:
            for part in range(count):
                numbers = self._part(rows[part::count], truth[part::count], folder)
                if metric not in numbers:
                    return ()
                values.append(numbers[metric])
        finally:
            remove_tree(folder)
        return tuple(values)

    def _part(self, rows: npt.NDArray[Any], labels: npt.NDArray[Any], folder: Path) -> dict[str, float]:
        """The evaluator's numbers for some rows; empty if it refuses them."""
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / PREDICTIONS, np.ascontiguousarray(rows), allow_pickle=False)
        np.save(folder / "labels.npy", np.ascontiguousarray(labels), allow_pickle=False)
        numbers = self.score(folder / PREDICTIONS, folder / "labels.npy", folder)
        return {} if isinstance(numbers, Problem) else numbers


def rows_of(labels: Path) -> int:
    """Rows of a file of labels; 0 if it holds no array of rows."""
    import numpy as np

    try:
        shape = np.load(labels, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError):
        return 0
    return int(shape[0]) if shape else 0
