"""Score predictions against labels: the metric of record. Made by `autolab init --evaluator`. No candidate changes it.

    python -I eval.py --predictions predictions.npy --labels labels.npy --out score.json

predictions.npy comes as float32 with two dimensions or more: [n, values]; [n] comes as [n, 1]. labels.npy is as
make_eval_data.py wrote it. score.json is one flat object of numbers.
"""

import argparse
import json
import sys

import numpy as np


def score(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics. Predictions are values in the units of the labels, as many a row."""
    if labels.ndim == 1:
        labels = labels[:, None]
    if predictions.shape != labels.shape:
        sys.exit(f"eval.py: predictions have shape {predictions.shape}, and the labels {labels.shape}")
    errors = predictions.astype(np.float64) - labels
    mse, mae = float((errors**2).mean()), float(np.abs(errors).mean())
    return {"mse": mse, "mae": mae}  # @metrics


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--predictions", "--labels", "--out"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    labels = np.load(given.labels, allow_pickle=False)
    numbers = score(np.load(given.predictions, allow_pickle=False), labels)
    with open(given.out, "w") as file:
        json.dump(numbers, file)


if __name__ == "__main__":
    main()
