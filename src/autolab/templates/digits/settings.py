"""The form of the pictures, and the settings of a training."""

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
"""Mean and standard deviation of a channel, for normalising intensities 0..1: here nothing changes."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training. AUTOLAB_CONFIG overrides these defaults, and a flag overrides both."""

    model: str = DEFAULT
    """A file of `models/`."""
    width: int = 0
    """Channels of the model's first stage; 0 keeps its default."""
    epochs: int = 60
    batch_size: int = 64
    lr: float = LR
    """The largest step size; the recipe sets the schedule."""
    weight_decay: float = WEIGHT_DECAY
    subset: int = 0
    """Train on the first n pictures of data/train, in the order of their hash; 0 takes all."""
