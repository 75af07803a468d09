"""The models of this lab: a file each, with a class `Model` that maps tokens [b, t] to logits [b, t, characters].

What `Model` says of a position may rest on the tokens up to it, and on none after: the lab looks into that.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from torch import nn

DEFAULT = "gru"
"""What a training builds if no setting says otherwise."""


def build(name: str, width: int) -> nn.Module:
    """A new `Model` of `models/<name>.py`, its weights drawn from torch's global generator.

    ValueError for a name without a file.
    """
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if name not in names:
        raise ValueError(f"model: {name!r} has no file in models/; there are {', '.join(names)}")
    model: nn.Module = import_module(f"models.{name}").Model(width)
    return model
