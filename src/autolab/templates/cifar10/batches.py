"""Read a batch file of CIFAR-10's Python version: a pickled dict, of which nothing but data is built.

Unpickling runs what a file names. Here a file may name what an array of bytes is written with, and gets stand-ins for
that; everything else it names is refused unseen.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHAPE = (3, 32, 32)
CLASSES = 10


class Refused(Exception):
    """One line: which file, and what is wrong with it."""


@dataclass(frozen=True)
class Batch:
    pixels: npt.NDArray[np.uint8]
    """[n, 3, 32, 32]"""
    labels: npt.NDArray[np.uint8]
    """[n], 0 to 9"""


def parse(content: bytes, where: str) -> Batch:
    """The pictures and labels of one batch file. Refused, under the name `where`, if it is none."""
    try:
        held = _Reader(io.BytesIO(content), encoding="bytes").load()
        table = {key.decode() if isinstance(key, bytes) else key: value for key, value in held.items()}
        pixels, labels = table["data"].values, np.array(table["labels"])
        if labels.dtype.kind != "i" or labels.shape != pixels.shape[:1] or not len(labels):
            raise ValueError(f"{len(pixels)} pictures, labels {labels.dtype} {list(labels.shape)}")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise ValueError(f"labels {labels.min()}..{labels.max()}")
        return Batch(pixels.reshape(-1, *SHAPE), labels.astype(np.uint8))
    except Exception as error:  # what random bytes make a pickle raise is documented nowhere
        raise Refused(f"{where}: no batch file of CIFAR-10 ({type(error).__name__}: {error})") from None


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, name: str | bytes, align: object, copy: object) -> None:
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: a byte has none."""


class _Array:
    """Stands in for numpy.ndarray while it is read; `values` is the array, uint8 [n, 3072]."""

    values: npt.NDArray[np.uint8]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, raw = state
        if kind.name != "u1" or by_column or type(raw) is not bytes:
            raise pickle.UnpicklingError(f"an array of type {kind.name}")
        self.values = np.frombuffer(raw, np.uint8).reshape(shape)


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _encode(text: str, coding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    return str(text).encode("latin1")


class _Reader(pickle.Unpickler):
    _KNOWN = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no data")
        return self._KNOWN[module, name]
