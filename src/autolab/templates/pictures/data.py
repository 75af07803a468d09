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

    def batches(self, pictures: Pictures, size: int) -> Iterator[Pictures]:
        """One epoch in a new order; the last batch holds what is left."""
        order = torch.from_numpy(self._order.permutation(len(pictures.labels))).to(pictures.labels.device)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield Pictures(pictures.images[rows], pictures.labels[rows])
