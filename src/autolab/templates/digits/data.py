"""The training data, and the random streams that a training draws from."""

# ruff: noqa: F722, F821
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import to_input


@dataclass(frozen=True)
class Digits:
    images: Float[Tensor, "n 8 8"]
    labels: Int[Tensor, "n"]


def load(folder: Path) -> Digits:
    """`inputs.npy` and `labels.npy` of `folder`. ValueError if they do not fit together, OSError if one is missing."""
    pixels = np.load(folder / "inputs.npy", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    if labels.shape != pixels.shape[:1]:
        raise ValueError(f"{folder}: {len(pixels)} pictures, but labels of shape {list(labels.shape)}")
    return Digits(to_input(pixels), torch.from_numpy(labels.astype(np.int64)))


class Streams:
    """Three independent random streams from one seed: initialisation, order of the data, noise.

    They are apart so that two models with the same seed see the same pictures in the same order, however many numbers
    either draws for its weights, its dropout or its augmentation.
    """

    def __init__(self, seed: int) -> None:
        init, order, noise = np.random.SeedSequence(seed).spawn(3)
        self._init = int(init.generate_state(1)[0])
        self._noise = int(noise.generate_state(1)[0])
        self._order = np.random.Generator(np.random.PCG64(order))
        self.noise = torch.Generator().manual_seed(self._noise)
        """For augmentation: pass it as `generator=`."""

    def begin_initialisation(self) -> None:
        """From here torch's global generator serves the weights."""
        torch.manual_seed(self._init)

    def begin_training(self) -> None:
        """From here torch's global generator serves dropout."""
        torch.manual_seed(self._noise)

    def batches(self, digits: Digits, size: int) -> Iterator[Digits]:
        """One epoch in a new order; the last batch holds what is left."""
        order = torch.from_numpy(self._order.permutation(len(digits.labels)))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield Digits(digits.images[rows], digits.labels[rows])
