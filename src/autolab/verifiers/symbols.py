"""Sequences of symbols that bytes can be read as, and the hashes of their windows.

A window is compared by how far back each of its symbols stood last, which no renaming changes: `3`, `3.0`, `three` and
`d` give the same hash.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from autolab.verifiers.pieces import ESCAPE, Piece

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FARTHEST = 48
"""How far back a symbol is looked for at most."""
GRAM = 4
"""Symbols that a window may not repeat over and over: else every alternation would be a run of the labels."""
CHUNK = 1 << 15
"""Symbols that are compared at a time."""
WIDE = 1 << 20
"""Bytes past which a piece is read in fewer ways: as bytes, words, numbers and names, in their own order."""
STRIDES = 4
"""A label stands with up to one value less beside it."""
_SEED = 0x9E3779B97F4A7C15
_MIXER = 0xBF58476D1CE4E5B9
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?!\w)")
_WORD = re.compile(rb"[\w.]+")


# windows


def distances(symbols: Array, reach: int) -> Array:
    """How many places back each symbol stood last; 0 if it did not within `reach`."""
    import numpy as np

    places = np.zeros(symbols.size, np.uint8)
    # From far to near: what is written last is the nearest.
    for back in range(min(reach, symbols.size - 1), 0, -1):
        np.copyto(places[back:], back, where=symbols[back:] == symbols[:-back])
    return places


def windows(labels: Array, reach: int, window: int) -> tuple[Array, Array]:
    """Hashes of the windows of a sequence that do not repeat themselves, and where each begins."""
    import numpy as np

    if labels.size < window + reach:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    places = distances(labels, reach)
    # The first `reach` symbols of a file that holds a part of the labels have other distances than here.
    starts = np.arange(reach, labels.size - window + 1)
    # A window counts if a third of its grams are new, by a running count of the new ones.
    is_new = distances(_rolled(places, GRAM), FARTHEST) == 0
    count = np.concatenate([[0], np.cumsum(is_new)])
    varied = count[starts + window - GRAM + 1] - count[starts] >= window // 3
    return _rolled(places, window)[reach:][varied], starts[varied]


def window_hashes(symbols: Array, reach: int, window: int) -> Iterator[Array]:
    """The hashes of all windows of a sequence, chunk by chunk; not of chunks in which hardly a symbol comes again."""
    import numpy as np

    # Chunks overlap, so that each window lies whole in one of them.
    length = CHUNK + reach + window - 1
    for start in range(0, symbols.size - reach - window + 1, CHUNK):
        places = distances(symbols[start : start + length], reach)
        if np.count_nonzero(places) >= window // 3:
            yield _rolled(places, window)[reach:]


@cache
def _powers(count: int) -> tuple[Array, Array, Array]:
    """Powers of an odd number and of its inverse modulo 2^64, and a random number for every small value."""
    import numpy as np

    factors = [np.full(count, factor, np.uint64) for factor in (_SEED, pow(_SEED, -1, 2**64))]
    for powers in factors:
        powers[0] = 1
        # Unsigned numbers of numpy wrap around: the product is modulo 2^64.
        np.cumprod(powers, out=powers)
    return factors[0], factors[1], np.random.default_rng(_SEED).integers(0, 2**64, 256, np.uint64)


def _rolled(values: Array, window: int) -> Array:
    """A 64-bit hash of each window of values."""
    import numpy as np

    if values.size < window:
        return np.empty(0, np.uint64)
    # Rounded up to a power of two, so that few tables are made.
    powers, inverse, table = _powers(1 << (values.size - 1).bit_length())
    # A random number for each value: sums of small numbers themselves would collide.
    mixed = table[values] if values.dtype == np.uint8 else values * np.uint64(_MIXER)
    # The hash is a polynomial: a difference of two prefix sums, divided by the power at which the window begins.
    sums = np.zeros(values.size + 1, np.uint64)
    np.cumsum(mixed * powers[: values.size], out=sums[1:])
    rolled: Array = (sums[window:] - sums[:-window]) * inverse[: values.size - window + 1]
    return rolled


# sequences


def sequences(piece: Piece, classes: Sequence[int]) -> Iterator[Array]:
    """Sequences of symbols in which labels of so many `classes` may stand."""
    is_wide = len(piece.raw) > WIDE
    for symbols in _tokens(piece.raw) if piece.text else _bytes(piece.raw):
        yield symbols
        # Labels beside other values, and one-hot rows.
        if not is_wide:
            yield from spread(symbols)
            for size in classes:
                yield from _grouped(symbols, size)
    if piece.text:
        yield from _characters(piece.raw)
        return
    yield from _words(piece.raw)
    if not is_wide and min(classes) <= 16:
        yield from _parts_of_bytes(piece.raw, min(classes))
    if piece.array is not None:
        yield from _of_array(piece.array)


def spread(symbols: Array) -> Iterator[Array]:
    """Every second, third and fourth of a sequence."""
    for stride in range(2, STRIDES + 1):
        for start in range(stride):
            yield symbols[start::stride]


def _tokens(raw: bytes) -> Iterator[Array]:
    """A text's numbers, its words, its escapes and its digits."""
    import numpy as np

    for pattern in (_NUMBER, _WORD, ESCAPE):
        names: dict[bytes, int] = {}
        tokens = (match.group() for match in pattern.finditer(raw))
        yield np.fromiter((names.setdefault(token, len(names)) for token in tokens), np.uint32)
    characters = np.frombuffer(raw, np.uint8)
    yield characters[_are_digits(characters)]


def _characters(raw: bytes) -> Iterator[Array]:
    """A text's letters and digits, and all of its characters."""
    import numpy as np

    characters = np.frombuffer(raw, np.uint8)
    # This bit makes a letter of ASCII small, and no letter of anything else.
    lower = characters | 0x20
    are_letters = (lower >= ord("a")) & (lower <= ord("z"))
    yield characters[are_letters | _are_digits(characters)]
    yield characters


def _are_digits(characters: Array) -> Array:
    return (characters >= ord("0")) & (characters <= ord("9"))


def _bytes(raw: bytes) -> Iterator[Array]:
    import numpy as np

    yield np.frombuffer(raw, np.uint8)


def _grouped(symbols: Array, size: int) -> Iterator[Array]:
    """Each `size` symbols as one: rows of one-hot labels, from every place where a row may begin."""
    import numpy as np

    if not 2 <= size <= 32:
        return
    # A random linear combination: equal rows give equal symbols, and different ones hardly ever do.
    factors = np.random.default_rng(_SEED).integers(1, 2**62, size, np.int64) | 1
    for start in range(size):
        whole = (symbols.size - start) // size * size
        rows = symbols[start : start + whole].reshape(-1, size)
        yield rows.astype(np.int64) @ factors


def _words(raw: bytes) -> Iterator[Array]:
    """Words of 2, 4 and 8 bytes from every place where one may begin."""
    import numpy as np

    for width in (2, 4, 8):
        for start in range(width):
            whole = (len(raw) - start) // width * width
            yield np.frombuffer(raw[start : start + whole], f"<u{width}")


def _parts_of_bytes(raw: bytes, classes: int) -> Iterator[Array]:
    """Half bytes, and for two classes bits."""
    import numpy as np

    single = np.frombuffer(raw, np.uint8)
    halves = np.stack([single >> 4, single & 15], axis=1)
    yield halves.ravel()
    yield halves[:, ::-1].ravel()
    if classes == 2:
        yield np.unpackbits(single)
        yield np.unpackbits(single, bitorder="little")


def _of_array(array: Array) -> Iterator[Array]:
    """By columns, and the place of the greatest value, for labels that are one-hot or predicted."""
    import numpy as np

    if array.dtype.kind not in "iufb" or array.ndim < 2:
        return
    yield array.ravel(order="F")
    for axis in {0, array.ndim - 1}:
        # The array may hold anything: a warning of numpy's would tell the user nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield np.argmax(array, axis=axis).ravel()
