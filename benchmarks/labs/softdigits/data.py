"""The pictures as the network sees them, and the random streams that a training draws from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
WHITE = 16.0
"""The grey value of full intensity."""
PURPOSES = ("initialisation", "order", "noise")


def pixels(path: Path | str) -> Floats:
    """Pictures [n, 64], intensities 0..1. OSError or ValueError where the file is not that."""
    grey = np.load(path, allow_pickle=False)
    if grey.dtype != np.uint8 or grey.shape[1:] != (8, 8):
        raise ValueError(f"{path}: pictures are uint8 [n, 8, 8], these are {grey.dtype} {list(grey.shape)}")
    return grey.reshape(len(grey), 64).astype(np.float32) / np.float32(WHITE)


def stream(seed: int, variant: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """Numbers for one purpose in one epoch, the same whatever was drawn for others before.

    A counter-based generator: seed, variant and purpose make the key, the epoch the high word of the counter. So two
    networks with one seed see the same pictures in the same order with the same noise, whatever their weights take.
    J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    key = np.random.SeedSequence([seed, variant, PURPOSES.index(purpose)]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, epoch]))
