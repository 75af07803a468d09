"""Build a model by its name, which is that of its file."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

from torch import nn


def names() -> list[str]:
    """The models there are: a file each; those that begin with _ are none."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def build(name: str, width: int = 0) -> nn.Module:
    """A new `Model` of `models/<name>.py`, its weights drawn from torch's global generator.

    It maps pictures [b, c, h, w] to logits [b, CLASSES]. `width` is the number of channels of the first stage, 0 the
    model's own. ValueError for a name without a file, and for a width where the model takes none.
    """
    if name not in names():
        raise ValueError(f"model: {name!r} has no file in models/; there are {', '.join(names())}")
    model: type[nn.Module] = import_module(f"models.{name}").Model
    if width == 0:
        return model()
    if "width" not in inspect.signature(model).parameters:
        raise ValueError(f"width: the model {name} takes none; leave it 0")
    return model(width=width)
