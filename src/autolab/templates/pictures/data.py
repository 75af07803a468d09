"""The pictures as a model sees them, and the random streams that a training draws from."""

# ruff: noqa: F722, F821
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from settings import MEAN, SHAPE, STD, WHITE


@dataclass(frozen=True)
class Pictures:
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, "n"]

    def to(self, device: torch.device) -> Pictures:
        return Pictures(self.images.to(device), self.labels.to(device))


def load(folder: Path, subset: int = 0) -> Pictures:
    """The first `subset` pictures of `folder` (inputs.npy, labels.npy), 0 for all.

    ValueError if the files do not fit together or hold too few, OSError if one is missing.
    """
    pixels = np.load(folder / "inputs.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    if labels.shape != pixels.shape[:1]:
        raise ValueError(f"{folder}: {len(pixels)} pictures, but labels of shape {list(labels.shape)}")
    if subset > len(labels):
        raise ValueError(f"subset: {subset} pictures are asked for, {folder} holds {len(labels)}; 0 takes all")
    rows = slice(subset or None)
    return Pictures(to_input(pixels[rows]), torch.from_numpy(labels[rows].astype(np.int64)))


def to_input(pixels: UInt8[np.ndarray, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Grey values as what a model takes: intensities 0..1, less a channel's mean, over its deviation.

    Grey pictures may come without the channel, as [n, h, w]. ValueError for another type or shape.
    """
    if pixels.ndim == 3:
        pixels = rearrange(pixels, "n h w -> n 1 h w")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != SHAPE:
        raise ValueError(f"pictures are uint8 [n, {str(SHAPE)[1:-1]}], these are {pixels.dtype} {list(pixels.shape)}")
    mean, std = (rearrange(torch.tensor(values), "c -> 1 c 1 1") for values in (MEAN, STD))
    images = (torch.from_numpy(np.array(pixels)).to(torch.float32) / WHITE - mean) / std
    return images.contiguous(memory_format=torch.channels_last)  # convolutions take a quarter less time, so laid out


class Streams:
    """Independent random streams from one seed: initialisation, order of the data, noise of each step.

    They are counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a number depends on the
    seed, what it is for, and the epoch or step, not on what was drawn before. So two models with the same seed see the
    same pictures in the same order, augmented alike, however many numbers either draws for its weights or its dropout.
    """

    INITIALISATION, ORDER, NOISE = range(3)

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._epoch = self._step = 0
        self.noise = torch.Generator()
        """For augmentation: pass it as `generator=`."""

    def _at(self, purpose: int, place: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self._seed, purpose], np.uint64), counter=[0, 0, 0, place])

    def begin_initialisation(self) -> None:
        """From here torch's global generator serves the weights."""
        torch.manual_seed(self._at(self.INITIALISATION, 0).random_raw() >> 1)

    def begin_step(self) -> None:
        """From here torch's global generator serves dropout, and `noise` augmentation, of the next step."""
        seed = self._at(self.NOISE, self._step).random_raw() >> 1
        torch.manual_seed(seed)
        self.noise.manual_seed(seed)
        self._step += 1

    def batches(self, pictures: Pictures, size: int) -> Iterator[Pictures]:
        """One epoch in a new order, each batch with the streams of its step; the last batch holds what is left."""
        rows = np.random.Generator(self._at(self.ORDER, self._epoch)).permutation(len(pictures.labels))
        self._epoch += 1
        order = torch.from_numpy(rows).to(pictures.labels.device)
        for part in order.split(size):
            self.begin_step()
            yield Pictures(pictures.images[part], pictures.labels[part])
