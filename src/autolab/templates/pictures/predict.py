"""Predict with a trained model: float32 log-probabilities [n, classes], rows in the order of the inputs.

Reads, from the environment: AUTOLAB_MODEL (the folder `model/` that train.py left), AUTOLAB_INPUTS (a .npy file of
pictures), AUTOLAB_TRIAL_DIR (folder to write predictions.npy to). Loads arrays only, never code.
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

from data import to_input
from device import settle
from models import build

AT_ONCE = 100
"""Pictures a pass. Few fit the processor's cache: a thousand take more than twice the time."""


def load(folder: Path) -> nn.Module:
    """The trained model, ready to predict."""
    model = build(**json.loads((folder / "model.json").read_text()))
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model.to(memory_format=torch.channels_last).eval()


@torch.no_grad()
def predict(
    model: nn.Module, pixels: UInt8[np.ndarray, "n c h w"], device: torch.device
) -> Float[np.ndarray, "n classes"]:
    """Log-probabilities, normalised a row."""
    parts = (to_input(pixels[start : start + AT_ONCE]) for start in range(0, len(pixels), AT_ONCE))
    return np.concatenate([model(part.to(device)).log_softmax(dim=1).cpu().numpy() for part in parts])


def main() -> None:
    missing = [n for n in ("AUTOLAB_MODEL", "AUTOLAB_INPUTS", "AUTOLAB_TRIAL_DIR") if not os.environ.get(n)]
    if missing:
        sys.exit(f"predict.py: the environment variable {missing[0]} is not set")
    device = settle()
    try:
        pixels = np.load(os.environ["AUTOLAB_INPUTS"], mmap_mode="r", allow_pickle=False)
        values = predict(load(Path(os.environ["AUTOLAB_MODEL"])).to(device), pixels, device)
        np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", values, allow_pickle=False)
    except (OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")


if __name__ == "__main__":
    gc.freeze()  # imported modules live to the end: not to collect them again at exit saves a quarter of the time
    main()
