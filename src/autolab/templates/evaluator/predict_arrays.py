"""Predict with a trained model, on inputs without labels. Made by `autolab init --evaluator`; yours to change.

AUTOLAB_MODEL       the folder that holds what the training saved (CHECKPOINT)
AUTOLAB_INPUTS      inputs.npy: a row an example, as make_eval_data.py wrote it
AUTOLAB_TRIAL_DIR   the folder that gets predictions.npy: a row an input, in their order
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

# @imports
CHECKPOINT = "model.npz"
"""Where the training saves its model, seen from the folder that it runs in."""


def load_model() -> Any:
    path = Path(os.environ["AUTOLAB_MODEL"]) / Path(CHECKPOINT).name
    raise NotImplementedError(path)  # @load


def predict(model: Any, rows: np.ndarray) -> np.ndarray:
    raise NotImplementedError(model)  # @predict


def main() -> None:
    inputs = np.load(os.environ["AUTOLAB_INPUTS"], mmap_mode="r", allow_pickle=False)
    predictions = predict(load_model(), np.array(inputs))
    np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", predictions, allow_pickle=False)


if __name__ == "__main__":
    main()
