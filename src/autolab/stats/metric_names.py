"""What the words of a metric's name say: which way is good, whether it is a share of rows, or a speed. Pure.

Words end at anything that is no letter or digit; digits also end one, so `acc1` says what `acc` says. This is a guess
by convention. Where a document names the direction, the document counts.
"""

from __future__ import annotations

import re

from autolab.lab.schemas.config import Direction

LOWER = frozenset(
    {"loss", "bpb", "bpc", "nll", "perplexity", "ppl", "error", "err", "mse", "rmse", "mae", "wer", "cer", "fid"}
    | {"logloss", "crossentropy", "bce", "mape", "smape", "rmsle"}
)
"""Better when lower. None of them is ever below 0."""
ACCURACY = frozenset({"accuracy", "acc", "top1"})
"""The share of right answers."""
SHARES = ACCURACY | {"f1", "precision", "recall", "auc", "auroc", "iou", "top5"}
"""Between 0 and 1, and better when higher."""
HIGHER = SHARES | {
    "score",
    "bleu",
    "rouge",
    "reward",
    "map",
    "ndcg",
    "mrr",
    "dice",
    "miou",
    "psnr",
    "ssim",
    "r2",
    "auprc",
}
TIMES = frozenset(
    {"time", "runtime", "walltime", "wallclock", "elapsed", "duration", "latency", "speed", "speedup", "throughput"}
    | {"seconds", "secs", "sec", "ms", "msec", "milliseconds", "minutes", "mins", "hours", "hrs"}
    | {"fps", "tps", "qps", "rps", "mfu", "flops", "tflops", "gflops"}
)
"""A time or a speed, which also depends on what else the machine does."""
_RATE = re.compile(r"[a-z]/s(ec(ond)?)?\b|\bs/[a-z]|per[\W_]*s(ec(ond)?)?\b", re.IGNORECASE)
"""`it/s`, `s/it`, `tokens_per_s`."""
TRAINING = frozenset({"train", "training"})
"""Measured on the data that was trained on."""

_BETTER: dict[Direction | None, str] = {"minimize": "lower is better", "maximize": "higher is better"}


def words(metric: str) -> frozenset[str]:
    """The words of a name in lower case: `top1` and `top` of `Val/top1`."""
    name = metric.lower()
    return frozenset(re.split(r"[\W_]+", name)) | frozenset(re.split(r"[\W_\d]+", name))


def direction_of(metric: str) -> Direction | None:
    """The good direction by the name; None if no word of it says so, or two contradict."""
    lower, higher = words(metric) & LOWER, words(metric) & HIGHER
    if lower and not higher:
        return "minimize"
    if higher and not lower:
        return "maximize"
    return None


def is_share(metric: str) -> bool:
    """Whether it is a share of the evaluation's rows, between 0 and 1."""
    return not words(metric).isdisjoint(SHARES)


def is_loss(metric: str) -> bool:
    """Whether 0 is as good as it can be: no value of it lies below."""
    return not words(metric).isdisjoint(LOWER)


def is_accuracy(metric: str) -> bool:
    """Whether it is the share of right answers."""
    return not words(metric).isdisjoint(ACCURACY)


def is_of_training(metric: str) -> bool:
    """Whether it was measured on the data that was trained on, as the training says of itself."""
    return not words(metric).isdisjoint(TRAINING)


def is_speed(metric: str) -> bool:
    """Whether it is a time or a speed: trainings that run side by side change it."""
    return not words(metric).isdisjoint(TIMES) or _RATE.search(metric) is not None


def axis_label(metric: str, direction: Direction | None, *more: str, highest: float = 1.0) -> str:
    """The name for an axis of a figure, with unit and direction as far as they are known, and `more`.

    `highest` is the largest value that is drawn: a share above 1 is a percentage.
    """
    notes = list(more)
    if is_share(metric):
        notes.append("0 to 1" if highest <= 1 else "percent")
    if direction is not None:
        notes.append(_BETTER[direction])
    return f"{metric} ({', '.join(notes)})" if notes else metric
