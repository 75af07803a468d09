"""The training text, and the random streams that a training draws from."""

# ruff: noqa: F722
from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from settings import CHARACTERS


@dataclass(frozen=True)
class Text:
    """Rows of tokens, and for each token the one that follows it."""

    inputs: Int[Tensor, "n t"]
    labels: Int[Tensor, "n t"]


def load(folder: Path) -> Text:
    """`inputs.npy` and `labels.npy` of `folder`. ValueError if they do not fit together, OSError if one is missing."""
    inputs, labels = (to_tokens(np.load(folder / f"{name}.npy", allow_pickle=False)) for name in ("inputs", "labels"))
    if inputs.shape != labels.shape:
        raise ValueError(f"{folder}: inputs of shape {list(inputs.shape)}, but labels of shape {list(labels.shape)}")
    return Text(inputs, labels)


def to_tokens(rows: UInt8[np.ndarray, "n t"]) -> Int[Tensor, "n t"]:
    """Tokens as a model takes them. ValueError for another type or shape, or a token that stands for no character."""
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise ValueError(f"a text is uint8 [n, t], this is {rows.dtype} {list(rows.shape)}")
    if rows.size and rows.max() >= len(CHARACTERS):
        raise ValueError(f"token {rows.max()} stands for no character; there are {len(CHARACTERS)}")
    return torch.from_numpy(rows.astype(np.int64))


class Streams:
    """Independent random streams from one seed: initialisation, order of the text, noise of each step.

    They are counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a number depends on the
    seed, what it is for, and the round or step, not on what was drawn before. So two models with the same seed see the
    same rows in the same order, however many numbers either draws for its weights or its dropout.
    """

    INITIALISATION, ORDER, NOISE = range(3)

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _at(self, purpose: int, place: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self._seed, purpose], np.uint64), counter=[0, 0, 0, place])

    def begin_initialisation(self) -> None:
        """From here torch's global generator serves the weights."""
        torch.manual_seed(self._at(self.INITIALISATION, 0).random_raw() >> 1)

    def batches(self, text: Text, size: int) -> Iterator[Text]:
        """Batches of `size` rows without end: all rows in one order, then all in another.

        With each, torch's global generator begins to serve the dropout of its step.
        """
        rows, rounds = torch.empty(0, dtype=torch.int64), itertools.count()
        for step in itertools.count():
            while len(rows) < size:
                order = np.random.Generator(self._at(self.ORDER, next(rounds)))
                rows = torch.cat([rows, torch.from_numpy(order.permutation(len(text.labels)))])
            torch.manual_seed(self._at(self.NOISE, step).random_raw() >> 1)
            yield Text(text.inputs[rows[:size]], text.labels[rows[:size]])
            rows = rows[size:]
