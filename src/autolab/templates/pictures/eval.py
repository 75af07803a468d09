"""Score predictions against labels. FROZEN: it runs apart from the trained code and gives the metric of record.

    python -I -B eval.py --predictions predictions.npy --labels labels.npy --out score.json

Predictions: .npy, float32 log-probabilities [n, classes], a row an example in the order of the labels.
Labels: .npy, integers [n] in 0..classes-1. Writes one flat object:

    val_loss   mean negative log-likelihood of the true class, in nats a picture
    accuracy   share of rows whose most probable class (the first, if several) is the true one
    f1         macro F1: the mean over the classes that occur among labels or answers

What is not exactly that is refused in one line with exit code 1, and nothing is written. Needs numpy only and never
unpickles.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
TOLERANCE = 1e-4
"""How far log(sum of a row's probabilities) may be from 0: room for float32 rounding, not for unnormalised scores."""


class Refused(Exception):
    """One line: which file, and what is wrong with it."""


def load(path: str) -> Array:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: not a readable .npy file of plain numbers ({str(error).splitlines()[0]})") from None
    return array


def checked_labels(path: str) -> npt.NDArray[np.int64]:
    labels = load(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise Refused(f"{path}: labels are integers [n], these are {labels.dtype} {list(labels.shape)}")
    if len(labels) == 0:
        raise Refused(f"{path}: no labels")
    return np.array(labels, dtype=np.int64)


def checked_predictions(path: str, rows: int) -> npt.NDArray[np.float64]:
    array = load(path)
    if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] < 2:
        raise Refused(f"{path}: predictions are float32 [n, classes], these are {array.dtype} {list(array.shape)}")
    if array.shape[0] != rows:
        raise Refused(f"{path}: {array.shape[0]} rows for {rows} labels")
    values = np.array(array, dtype=np.float64)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise Refused(f"{path}: row {int(bad.argmax())} holds a number that is not finite")
    highest = values.max(axis=1)
    total = highest + np.log(np.exp(values - highest[:, None]).sum(axis=1))
    off = np.abs(total) > TOLERANCE
    if off.any():
        row = int(off.argmax())
        raise Refused(
            f"{path}: row {row} is not normalised: its probabilities sum to exp({total[row]:.4g}), give log_softmax"
        )
    return values


def macro_f1(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    scores = []
    for name in np.union1d(answers, labels):
        answered, true = answers == name, labels == name
        scores.append(2.0 * np.sum(answered & true) / (np.sum(answered) + np.sum(true)))
    return float(np.mean(scores))


def score(predictions: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    answers = predictions.argmax(axis=1).astype(np.int64)
    return {
        "val_loss": float(-predictions[np.arange(len(labels)), labels].mean()),
        "accuracy": float((answers == labels).mean()),
        "f1": macro_f1(answers, labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Score predictions against labels.", allow_abbrev=False)
    parser.add_argument("--predictions", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    try:
        labels = checked_labels(given.labels)
        predictions = checked_predictions(given.predictions, len(labels))
        if labels.min() < 0 or labels.max() >= predictions.shape[1]:
            raise Refused(f"{given.labels}: labels {labels.min()}..{labels.max()}, but {predictions.shape[1]} classes")
        text = json.dumps(score(predictions, labels)) + "\n"
        with open(given.out + ".part", "w") as file:
            file.write(text)
        os.replace(given.out + ".part", given.out)
    except (Refused, OSError) as error:
        sys.exit(f"eval.py: {error}")


if __name__ == "__main__":
    main()
