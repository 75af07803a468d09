"""Make the evaluation data, once: rows that no training sees. Made by `autolab init --evaluator`; yours to change.

    python make_eval_data.py

Writes inputs.npy and labels.npy, a row an example, to two folders: `eval`, on which ideas are compared, and `holdout`,
on which what wins is confirmed. Trials get the inputs without the labels.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent / "eval_data"


def load() -> tuple[np.ndarray, np.ndarray]:
    """Inputs [n, ...] as predict.py takes them, and labels [n] (or [n, T]): of rows that the training does not read.

    A file of arrays:     arrays = np.load("test.npz"); return arrays["x"], arrays["y"]
    A torchvision set:    rows = CIFAR10("data", train=False); return rows.data, np.array(rows.targets)
    Tokens of a text:     tokens = np.fromfile("val.bin", np.uint16)[: 257 * 400].reshape(-1, 257)
                          return tokens[:, :-1], tokens[:, 1:]
    """
    raise NotImplementedError("FILL IN: return inputs and labels of rows that the training does not read")


def main() -> None:
    inputs, labels = load()
    if len(inputs) != len(labels) or len(inputs) < 2:
        sys.exit(f"make_eval_data.py: {len(inputs)} inputs and {len(labels)} labels")
    # Shuffled: rows are often sorted by class.
    order = np.random.default_rng(0).permutation(len(inputs))
    half = len(order) // 2
    for name, rows in (("eval", order[:half]), ("holdout", order[half:])):
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "inputs.npy", inputs[np.sort(rows)], allow_pickle=False)
        np.save(folder / "labels.npy", labels[np.sort(rows)], allow_pickle=False)
        print(f"{folder}: {len(rows)} rows")


if __name__ == "__main__":
    main()
