"""Train a small network on the digits, in plain numpy: one hidden layer, softmax, Adam, noise on the pixels.

Reads AUTOLAB_SEED, AUTOLAB_DATA (folder with inputs.npy and labels.npy) and AUTOLAB_TRIAL_DIR, where it leaves
model/weights.npz, metrics.json and history.jsonl. Settings of the file AUTOLAB_CONFIG go before the constants of
models/knobs.py. `--dry-run` trains one step. One seed gives one result, bit for bit.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import Floats, pixels, stream
from models import knobs

CLASSES = 10
BATCH = 64
DECAYS = (0.9, 0.999)
"""Of Adam's means of the gradient and of its square. D. P. Kingma and J. Ba, "Adam", ICLR 2015."""
Weights = dict[str, Floats]


@dataclass
class Adam:
    """One step size for all weights, which falls to 0 over `steps` as half a cosine."""

    mean: Weights
    square: Weights
    steps: int
    done: int = 0

    def step(self, weights: Weights, slopes: Weights) -> None:
        size = knobs.LR * 0.5 * (1 + np.cos(np.pi * self.done / self.steps))
        self.done += 1
        first, second = (1 - decay**self.done for decay in DECAYS)
        for name, slope in slopes.items():
            self.mean[name] += np.float32(1 - DECAYS[0]) * (slope - self.mean[name])
            self.square[name] += np.float32(1 - DECAYS[1]) * (slope * slope - self.square[name])
            spread = np.sqrt(self.square[name] / np.float32(second)) + np.float32(1e-8)
            weights[name] -= np.float32(size / first) * self.mean[name] / spread


def initial(seed: int) -> Weights:
    """He's scale. K. He et al., "Delving deep into rectifiers", ICCV 2015."""
    draws = stream(seed, 0, "initialisation")
    shapes = (("in", 64, knobs.WIDTH), ("out", knobs.WIDTH, CLASSES))
    weights = {name: draws.standard_normal((rows, to), np.float32) * (2 / rows) ** 0.5 for name, rows, to in shapes}
    weights |= {f"{name}_bias": np.zeros(to) for name, _, to in shapes}
    return {name: value.astype(np.float32) for name, value in weights.items()}


def slopes(weights: Weights, seen: Floats, labels: npt.NDArray[np.int64]) -> tuple[float, Weights]:
    """Mean loss of a batch in nats, and its gradient."""
    hidden = np.maximum(seen @ weights["in"] + weights["in_bias"], 0)
    scores = hidden @ weights["out"] + weights["out_bias"]
    scores -= scores.max(axis=1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = -float(logs[rows, labels].mean())
    back = np.exp(logs)
    back[rows, labels] -= 1
    back /= np.float32(len(labels))
    inner = (back @ weights["out"].T) * (hidden > 0)
    found = {"in": seen.T @ inner, "in_bias": inner.sum(axis=0)}
    return loss, found | {"out": hidden.T @ back, "out_bias": back.sum(axis=0)}


def train(inputs: Floats, labels: npt.NDArray[np.int64], seed: int, epochs: int) -> tuple[Weights, list[float]]:
    """The weights, and the mean training loss of each epoch."""
    weights, losses, batches = initial(seed), [], -(-len(labels) // BATCH)
    zeros = [{name: np.zeros_like(value) for name, value in weights.items()} for _ in range(2)]
    adam = Adam(zeros[0], zeros[1], steps=epochs * batches)
    for epoch in range(epochs):
        order = stream(seed, knobs.STREAM, "order", epoch).permutation(len(labels))
        noise = stream(seed, knobs.STREAM, "noise", epoch).standard_normal(inputs.shape, np.float32)
        seen = inputs + np.float32(knobs.NOISE) * noise
        total = 0.0
        for rows in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            loss, found = slopes(weights, seen[rows], labels[rows])
            adam.step(weights, found)
            total += loss * len(rows)
        losses.append(total / len(labels))
    return weights, losses


def settle() -> None:
    """Settings in place of constants: `noise` for NOISE."""
    path = os.environ.get("AUTOLAB_CONFIG")
    for name, value in json.loads(Path(path).read_text()).items() if path else ():
        if not hasattr(knobs, name.upper()):
            sys.exit(f"train.py: {name}: not a setting; models/knobs.py has them all, in capitals")
        setattr(knobs, name.upper(), value)


def main() -> None:
    settle()
    folder, source = Path(os.environ["AUTOLAB_TRIAL_DIR"]), Path(os.environ["AUTOLAB_DATA"])
    inputs = pixels(source / "inputs.npy")
    labels = np.load(source / "labels.npy", allow_pickle=False).astype(np.int64)
    few = slice(BATCH if "--dry-run" in sys.argv else None)
    epochs = 1 if "--dry-run" in sys.argv else knobs.EPOCHS
    weights, losses = train(inputs[few], labels[few], int(os.environ["AUTOLAB_SEED"]), epochs)
    (folder / "model").mkdir(exist_ok=True)
    np.savez(folder / "model" / "weights.npz", **weights)
    (folder / "metrics.json").write_text(json.dumps({"train_loss": losses[-1]}))
    lines = [json.dumps({"step": step, "train_loss": loss}) + "\n" for step, loss in enumerate(losses, 1)]
    (folder / "history.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
