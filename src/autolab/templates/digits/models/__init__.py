"""The models of this lab.

`predict.py` imports this package and nothing else of the lab, so what a model needs lies here.
Every model is built as `Model(width=..., dropout=...)` and maps pictures [b, 8, 8] in 0..1 to logits [b, 10].
To add one: a file, and a line in `MODELS`.
"""

# ruff: noqa: F722
from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from models.mlp import MLP

CLASSES = 10
SIDE = 8
WHITE = 16.0

MODELS: dict[str, type[nn.Module]] = {"mlp": MLP}


def build(name: str, *, width: int, dropout: float) -> nn.Module:
    """A new model, its weights drawn from torch's global generator. ValueError for a name that is not in `MODELS`."""
    if name not in MODELS:
        raise ValueError(f"model: {name!r} is unknown; known are {', '.join(MODELS)}")
    return MODELS[name](width=width, dropout=dropout)


def to_input(pixels: UInt8[np.ndarray, "n 8 8"]) -> Float[Tensor, "n 8 8"]:
    """Grey values 0..16 as floats 0..1. ValueError for another dtype or shape."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"pictures are uint8 [n, {SIDE}, {SIDE}], these are {pixels.dtype} {list(pixels.shape)}")
    return torch.from_numpy(pixels).to(torch.float32) / WHITE
