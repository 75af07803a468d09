"""What the pictures are, and what can be set for a training."""

from __future__ import annotations

from dataclasses import dataclass

from models import DEFAULT
from recipe import LR, WEIGHT_DECAY

SHAPE = (1, 8, 8)
"""Channels, rows, columns."""
CLASSES = 10
WHITE = 16.0
"""The grey value of full intensity."""
MEAN, STD = (0.0,), (1.0,)
"""A channel's mean and deviation, taken out of intensities 0..1: here nothing is taken out."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training. The file AUTOLAB_CONFIG goes before these defaults, a flag before both."""

    model: str = DEFAULT
    """A file of `models/`."""
    width: int = 0
    """Channels of the model's first stage; 0 keeps the model's own."""
    epochs: int = 60
    batch_size: int = 64
    lr: float = LR
    """The largest step size; the recipe says how it changes."""
    weight_decay: float = WEIGHT_DECAY
    subset: int = 0
    """Train on the first so many pictures of data/train, which lie in the order of their hash; 0 takes all."""
