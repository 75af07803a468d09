"""The models of this lab: a file each, with a class `Model` that maps pictures [b, 1, 8, 8] to logits [b, 10]."""

from models._build import build, names

DEFAULT = "mlp"
"""What a training builds if no setting says otherwise."""

__all__ = ["DEFAULT", "build", "names"]
