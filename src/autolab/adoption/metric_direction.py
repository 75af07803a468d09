"""Which metrics are better when lower: guessed from the words of a metric's name."""

from __future__ import annotations

import re

from autolab.errors import UsageError
from autolab.lab.schemas.config import Direction

LOWER = {"loss", "bpb", "bpc", "nll", "perplexity", "ppl", "error", "err", "mse", "rmse", "mae", "wer", "cer", "fid"}
HIGHER = {"accuracy", "acc", "f1", "score", "auc", "auroc", "bleu", "rouge", "iou", "precision", "recall", "reward"}
"""Words of a metric's name that say which way is good."""


def side_of(metric: str) -> Direction | None:
    """The good direction by the name; None if no word of it says so, or two contradict."""
    words = set(re.split(r"[\W_\d]+", metric.lower())) | set(re.split(r"[\W_]+", metric.lower()))
    if bool(words & LOWER) == bool(words & HIGHER):
        return None
    return "minimize" if words & LOWER else "maximize"


def direction_of(metric: str) -> tuple[Direction, str]:
    """The good direction, and how it is known. UsageError: the name does not say it."""
    side = side_of(metric)
    if side is None:
        raise UsageError(f"--direction: {metric} does not say which way is good; give minimize or maximize")
    return side, "by its name"
