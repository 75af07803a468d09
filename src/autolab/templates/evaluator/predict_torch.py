"""Predict with a trained model, on inputs without labels. Made by `autolab init --evaluator`; yours to change.

AUTOLAB_MODEL       the folder that holds what the training saved (CHECKPOINT)
AUTOLAB_INPUTS      inputs.npy: a row an example, as make_eval_data.py wrote it
AUTOLAB_TRIAL_DIR   the folder that gets predictions.npy: a row an input, in their order
"""

import os
from pathlib import Path

import numpy as np
import torch

# @imports
CHECKPOINT = "model.pt"
"""Where the training saves its model, seen from the folder that it runs in."""
AT_ONCE = 100
"""Rows that the model gets at once."""


def load_model() -> torch.nn.Module:
    path = Path(os.environ["AUTOLAB_MODEL"]) / Path(CHECKPOINT).name
    raise NotImplementedError(path)  # @load


def to_input(rows: np.ndarray) -> torch.Tensor:
    """Rows as the model takes them. Do here what the training does to its own: divide by 255, subtract a mean."""
    is_number = rows.dtype.kind == "f" or rows.dtype == np.uint8
    return torch.from_numpy(rows.astype(np.float32 if is_number else np.int64))


@torch.no_grad()
def predict(model: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    outputs = model(to_input(rows))
    outputs = outputs[0] if isinstance(outputs, tuple) else getattr(outputs, "logits", outputs)
    return outputs.float().numpy()


def main() -> None:
    inputs = np.load(os.environ["AUTOLAB_INPUTS"], mmap_mode="r", allow_pickle=False)
    model = load_model()
    parts = [predict(model, inputs[start : start + AT_ONCE]) for start in range(0, len(inputs), AT_ONCE)]
    np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", np.concatenate(parts), allow_pickle=False)


if __name__ == "__main__":
    main()
