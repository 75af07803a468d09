"""Score predictions against labels: the metric of record. Made by `autolab init --evaluator`. No candidate changes it.

    python -I eval.py --predictions predictions.npy --labels labels.npy --out score.json

predictions.npy comes as float32 with two dimensions or more: [n, classes], or [n, T, classes] for sequences; [n] comes
as [n, 1]. labels.npy is as make_eval_data.py wrote it. score.json is one flat object of numbers.
"""

import argparse
import json
import sys

import numpy as np


def as_labels(labels: np.ndarray, path: str) -> np.ndarray:
    """Numbers of classes, [n] or [n, T]: booleans, 3.0 for 3 and [n, 1] for [n] mean the same."""
    values = labels.astype(np.int64)
    if not np.array_equal(values, labels) or values.min() < 0:
        sys.exit(
            f"eval.py: {path}: labels are numbers of classes from 0 on, this has {labels.dtype} {labels.ravel()[:3]}"
        )
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def score(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics. Predictions are scores of the classes: logits or log-probabilities."""
    if predictions.shape[:-1] != labels.shape or predictions.shape[-1] <= labels.max():
        want = (*labels.shape, int(labels.max()) + 1)
        way_out = (
            "" if predictions.shape[-1] > 1 else "; of one logit z for two classes: numpy.stack([0 * z, z], axis=-1)"
        )
        sys.exit(f"eval.py: predictions have shape {predictions.shape}; give scores of the classes {want}{way_out}")
    values = predictions.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    log_probabilities = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
    loss = -float(np.take_along_axis(log_probabilities, labels[..., None], axis=-1).mean())
    accuracy = float((predictions.argmax(axis=-1) == labels).mean())
    return {"loss": loss, "accuracy": accuracy}  # @metrics


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--predictions", "--labels", "--out"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    labels = as_labels(np.load(given.labels, allow_pickle=False), given.labels)
    numbers = score(np.load(given.predictions, allow_pickle=False), labels)
    with open(given.out, "w") as file:
        json.dump(numbers, file)


if __name__ == "__main__":
    main()
