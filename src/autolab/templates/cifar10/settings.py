"""The form of the pictures, and the settings of a training.

The defaults are for two processor threads: seconds a trial. On a GPU, all pictures and wider models are affordable:
`subset: 0, width: 64` (resnet18) and more epochs, as settings of a design or as defaults here.
"""

from __future__ import annotations

from dataclasses import dataclass

from models import DEFAULT
from recipe import LR, WEIGHT_DECAY

SHAPE = (3, 32, 32)
"""Channels (red, green, blue), rows, columns."""
CLASSES = 10
WHITE = 255.0
"""The value of full intensity."""
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of a channel over the 50,000 training pictures, for normalising intensities 0..1."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training. AUTOLAB_CONFIG overrides these defaults, and a flag overrides both."""

    model: str = DEFAULT
    """A file of `models/`."""
    width: int = 0
    """Channels of the model's first stage; 0 keeps its default."""
    epochs: int = 3
    batch_size: int = 128
    lr: float = LR
    """The largest step size; the recipe sets the schedule."""
    weight_decay: float = WEIGHT_DECAY
    subset: int = 4000
    """Train on the first n pictures of data/train, in the order of their hash; 0 takes all."""
