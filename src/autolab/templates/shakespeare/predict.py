"""Predict with a trained model: float32 log-probabilities [n, t, characters], rows in the order of the inputs.

At each position stands the distribution of the character that follows it. Reads, from the environment: AUTOLAB_MODEL
(the folder `model/` that train.py left), AUTOLAB_INPUTS (a .npy file of tokens, uint8 [n, t]), AUTOLAB_TRIAL_DIR
(folder to write predictions.npy to). Loads arrays only, never code.
"""

# ruff: noqa: F722
from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from data import to_tokens
from models import build


def load(folder: Path) -> nn.Module:
    """The trained model, ready to predict."""
    model = build(**json.loads((folder / "model.json").read_text()))
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, rows: UInt8[np.ndarray, "n t"]) -> Float[np.ndarray, "n t characters"]:
    """Log-probabilities, normalised a position."""
    values: Float[np.ndarray, "n t characters"] = model(to_tokens(rows)).log_softmax(dim=-1).numpy()
    return values


def main() -> None:
    torch.set_num_threads(1)  # sums on one thread have one order, hence one result
    missing = [n for n in ("AUTOLAB_MODEL", "AUTOLAB_INPUTS", "AUTOLAB_TRIAL_DIR") if not os.environ.get(n)]
    if missing:
        sys.exit(f"predict.py: the environment variable {missing[0]} is not set")
    try:
        rows = np.load(os.environ["AUTOLAB_INPUTS"], allow_pickle=False)
        values = predict(load(Path(os.environ["AUTOLAB_MODEL"])), rows)
        np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", values, allow_pickle=False)
    except (OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")


if __name__ == "__main__":
    gc.freeze()  # as in train.py
    main()
