"""Score predictions against labels. FROZEN: it runs apart from the trained code and gives the metric of record.

    python -I -B eval.py --predictions predictions.npy --labels labels.npy --out score.json

Predictions: .npy, float32 log-probabilities [n, t, characters]: a full distribution at each position of each row, in
the order of the labels. Labels: .npy, integers [n, t] in 0..characters-1. Writes one flat object:

    val_bpb    mean negative log-likelihood of the character that follows, in bits a character
    accuracy   share of positions whose most probable character (the first, if several) is the true one

What is not exactly that is refused in one line with exit code 1, and nothing is written. Needs numpy only and never
unpickles. That no prediction rests on what comes after it is looked into elsewhere (`evaluate.altered_suffix`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
TOLERANCE = 1e-4
"""How far log(sum of a position's probabilities) may be from 0: room for rounding, not for unnormalised scores."""
AT_ONCE = 64
"""Rows in memory as float64."""


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
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise Refused(f"{path}: labels are integers [n, t], these are {labels.dtype} {list(labels.shape)}")
    return np.array(labels, dtype=np.int64)


def checked_predictions(path: str, labels: npt.NDArray[np.int64]) -> Array:
    array = load(path)
    if array.dtype != np.float32 or array.ndim != 3 or array.shape[2] < 2:
        said = f"{array.dtype} {list(array.shape)}"
        raise Refused(f"{path}: predictions are float32 [n, t, characters], these are {said}")
    if array.shape[:2] != labels.shape:
        raise Refused(f"{path}: positions {list(array.shape[:2])} for labels {list(labels.shape)}")
    return array


def refuse_improper(values: npt.NDArray[np.float64], path: str, first: int) -> None:
    """Every position must hold a distribution."""
    bad = ~np.isfinite(values).all(axis=2)
    if bad.any():
        row, position = (int(i[0]) for i in np.nonzero(bad))
        raise Refused(f"{path}: row {first + row}, position {position} holds a number that is not finite")
    highest = values.max(axis=2)
    total = highest + np.log(np.exp(values - highest[..., None]).sum(axis=2))
    off = np.abs(total) > TOLERANCE
    if off.any():
        row, position = (int(i[0]) for i in np.nonzero(off))
        raise Refused(
            f"{path}: row {first + row}, position {position} is not normalised: its probabilities sum to"
            f" exp({total[row, position]:.4g}), give log_softmax"
        )


def score(predictions: Array, labels: npt.NDArray[np.int64], path: str) -> dict[str, float]:
    likelihood, hits = [], 0
    for first in range(0, len(labels), AT_ONCE):
        true = labels[first : first + AT_ONCE]
        values = np.array(predictions[first : first + AT_ONCE], dtype=np.float64)
        refuse_improper(values, path, first)
        likelihood.append(np.take_along_axis(values, true[..., None], axis=2).sum())
        hits += int((values.argmax(axis=2) == true).sum())
    return {"val_bpb": -math.fsum(likelihood) / labels.size / math.log(2), "accuracy": hits / labels.size}


def main() -> None:
    parser = argparse.ArgumentParser(description="Score predictions against labels.", allow_abbrev=False)
    parser.add_argument("--predictions", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    try:
        labels = checked_labels(given.labels)
        predictions = checked_predictions(given.predictions, labels)
        if labels.min() < 0 or labels.max() >= predictions.shape[2]:
            said = f"labels {labels.min()}..{labels.max()}, but {predictions.shape[2]} characters"
            raise Refused(f"{given.labels}: {said}")
        text = json.dumps(score(predictions, labels, given.predictions)) + "\n"
        with open(given.out + ".part", "w") as file:
            file.write(text)
        os.replace(given.out + ".part", given.out)
    except (Refused, OSError) as error:
        sys.exit(f"eval.py: {error}")


if __name__ == "__main__":
    main()
