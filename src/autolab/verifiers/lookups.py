"""Labels of the evaluation or the holdout, looked for in the files that a candidate adds or changes.

A table of labels is a long run of them in their order, whatever they are called: so a sequence is compared by how far
back each of its symbols stood last, which no renaming changes (`3`, `3.0`, `three` and `d` alike). A run counts once
its windows, each of some 64 bits of information, cover `LEAST` labels; its first `FARTHEST` at most do not count. By
chance that does not happen.

Looked at: numbers, words, digits and escapes of a text; bytes and words of 2, 4 and 8 of anything else, so every
integer and float type at any offset; arrays in .npy, also by the place of their maximum; rows that are one-hot;
base64, hexadecimal and base85 in a text; zlib, gzip, bzip2, xz and zip in all of these, up to `DEEPEST` inside each
other. Orders: that of the file, backwards, every second, by column, and by the hash of the inputs (`_KEYS`) as a
lookup table sorted by its keys has it; with up to three other values beside each label.

Not found: labels that are encrypted, computed, scattered or broken every few places; another order; a run shorter than
`LEAST`; binary classes packed among other bits; labels whose sequence holds little information (sorted by class, or
nearly all alike). What such a table gains is for `suspicion` and a reviewer.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import hashlib
import io
import lzma
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.lab.schemas.experiment import Finding
from autolab.text import one_line
from autolab.verifiers.findings import blocking_finding

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


LEAST = 64
"""Labels in order that make a finding."""
BITS = 64.0
"""Information in a window: with some 2^45 comparisons a search none fits by chance."""
SHORTEST, LONGEST = 24, 512
"""Symbols of a window."""
NEAREST, FARTHEST = 8, 48
"""How far back a symbol is looked for, at least and at most."""
SEARCHED = 8_000_000
"""Bytes of changed files that are searched; more are refused."""
UNPACKED = 16_000_000
"""Bytes that are looked at in all, with what was decoded."""
DEEPEST = 3
MOST_LABELS = 200_000
"""Of a longer split the first so many are looked for."""
GRAM = 4
"""Symbols of what a window may not repeat over and over: else every alternation would be a run of the labels."""
CHUNK = 1 << 15
"""Symbols that are compared at a time."""
WIDE = 1 << 20
"""Bytes past which a piece is read in fewer ways: as bytes, words, numbers and names, in their own order."""
INPUTS_BYTES = 1 << 28
STRIDES = 4
"""A label stands with up to one value less beside it."""
_SEED = 0x9E3779B97F4A7C15

_KEYS: tuple[Callable[[bytes], bytes], ...] = (
    lambda row: row,
    lambda row: hashlib.sha256(row).digest(),
    lambda row: hashlib.sha1(row).digest(),
    lambda row: hashlib.md5(row).digest(),
    lambda row: hashlib.blake2b(row).digest(),
    lambda row: zlib.crc32(row).to_bytes(4, "big"),
)
"""What a lookup table may be sorted by, of a row's bytes."""


@dataclass(frozen=True)
class Split:
    """One split's arrays: its name in findings, its labels, and its inputs, where they are at hand."""

    name: str
    labels: Path
    inputs: Path | None = None


@dataclass
class _Known:
    """The labels of one split, in the orders in which they are looked for."""

    name: str
    count: int
    classes: int
    reach: int
    window: int
    labels: Array
    orders: list[Array]

    def least(self, window: int) -> int:
        return min(LEAST, max(window, self.count // 2))


class Lookups:
    """The labels of a lab's splits, ready to be looked for. `allowed` are arrays that candidates may know: training
    data, in which a run of the labels may stand as well."""

    def __init__(self, splits: Iterable[Split], allowed: Iterable[Path] = ()) -> None:
        import numpy as np

        self._known = [known for split in splits if (known := _prepared(split)) is not None]
        # One reach and one window for all, so that a sequence is read once.
        self._reach = max((known.reach for known in self._known), default=NEAREST)
        self._window = max((known.window for known in self._known), default=SHORTEST)
        self._classes = sorted({known.classes for known in self._known})
        self._hashes = np.empty(0, np.uint64)
        self._where = np.empty((0, 3), np.int64)
        """For each hash, sorted: which split, which order of it, and where the window begins there."""
        parts = [self._windows(number) for number in range(len(self._known))]
        if parts:
            hashes, where = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
            sorting = np.argsort(hashes, kind="stable")
            self._hashes, self._where = hashes[sorting], where[sorting]
            self._forget(allowed)

    def _windows(self, split: int) -> tuple[Array, Array]:
        import numpy as np

        known = self._known[split]
        found, where = [np.empty(0, np.uint64)], [np.empty((0, 3), np.int64)]
        for number, order in enumerate(known.orders):
            hashes, begins = _windows(known.labels[order], self._reach, self._window)
            found.append(hashes)
            where.append(np.stack([np.full_like(begins, split), np.full_like(begins, number), begins], axis=1))
        return np.concatenate(found), np.concatenate(where)

    def _forget(self, allowed: Iterable[Path]) -> None:
        import numpy as np

        for path in allowed:
            array = _loaded(path) if path.suffix == ".npy" and path.stat().st_size <= SEARCHED else None
            if array is None:
                continue
            for symbols in _read_as(array.ravel()):
                for hashes in _hashes(symbols, self._reach, self._window):
                    kept = ~np.isin(self._hashes, hashes)
                    self._hashes, self._where = self._hashes[kept], self._where[kept]

    def findings(self, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> list[Finding]:
        """A blocking finding for every file that holds a run of labels which it did not hold `before`."""
        if not self._hashes.size:
            return []
        if sum(map(len, files.values())) > SEARCHED:
            largest = _shown(max(files, key=lambda name: len(files[name])))
            told = f"the changed files have more than the {SEARCHED:,} bytes that can be searched for labels"
            return [blocking_finding("labels", f"{told}; leave out what a training can make, {largest} first", largest)]
        found = []
        for name, content in files.items():
            held = self.held(content)
            if held and name in before:
                earlier = self.held(before[name])
                held = {split: count for split, count in held.items() if count > earlier.get(split, 0)}
            for split, count in held.items():
                told = f"{_shown(name)}: holds {count} of the labels of {split} in their order"
                way = "predictions are to be computed from the inputs: take the table out"
                found.append(blocking_finding("labels", f"{told}; {way}", _shown(name)))
        return found

    def held(self, content: bytes) -> dict[str, int]:
        """How many labels of each split a file holds in runs, for those of which it holds enough to count."""
        import numpy as np

        found = [np.zeros(known.count, bool) for known in self._known]
        for piece in _pieces(content):
            for symbols in _streams(piece, self._classes):
                for hashes in _hashes(symbols, self._reach, self._window):
                    self._mark(hashes, found)
        counts = {known.name: int(mask.sum()) for known, mask in zip(self._known, found, strict=True)}
        least = {known.name: known.least(self._window) for known in self._known}
        return {name: count for name, count in counts.items() if count >= least[name]}

    def _mark(self, hashes: Array, found: list[Array]) -> None:
        """Mark in `found`, one array a split, the labels whose windows are among `hashes`."""
        import numpy as np

        at = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        hits = hashes[self._hashes[at] == hashes]
        if not hits.size:
            return
        where = self._where[np.isin(self._hashes, hits)]
        for split, number in np.unique(where[:, :2], axis=0):
            order = self._known[split].orders[number]
            starts = where[(where[:, 0] == split) & (where[:, 1] == number), 2]
            edges = np.zeros(order.size + 1, np.int64)
            np.add.at(edges, starts, 1)
            np.add.at(edges, starts + self._window, -1)
            found[split][order[np.cumsum(edges[:-1]) > 0]] = True


# the labels


def _prepared(split: Split) -> _Known | None:
    """None where the labels are no numbers, too few, or say too little."""
    import numpy as np

    array = _loaded(split.labels)
    if array is None or array.dtype.kind not in "iufb" or array.size < SHORTEST:
        return None
    array = array[:MOST_LABELS] if array.ndim == 1 else array[: max(1, MOST_LABELS * len(array) // array.size)]
    values, labels = np.unique(array.ravel(), return_inverse=True)
    shares = np.bincount(labels) / labels.size
    bits = float(-(shares * np.log2(shares)).sum())
    reach = min(FARTHEST, max(NEAREST, int(2 * 2**bits)))
    distances = _distances(labels, reach)
    shares = np.bincount(distances) / distances.size
    told = min(bits, -sum(share * math.log2(share) for share in shares if share))
    if told < BITS / LONGEST:
        return None
    window = max(SHORTEST, math.ceil(BITS / told))
    orders = list(_orders(array, split.inputs))
    return _Known(split.name, labels.size, len(values), reach, window, labels.astype(np.uint32), orders)


def _windows(labels: Array, reach: int, window: int) -> tuple[Array, Array]:
    """Hashes of the windows of a sequence that do not repeat themselves, and where each begins."""
    import numpy as np

    if labels.size < window + reach:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    distances = _distances(labels, reach)
    starts = np.arange(reach, labels.size - window + 1)
    new = np.concatenate([[0], np.cumsum(_distances(_rolled(distances, GRAM), FARTHEST) == 0)])
    kept = new[starts + window - GRAM + 1] - new[starts] >= window // 3
    return _rolled(distances, window)[reach:][kept], starts[kept]


def _read_as(flat: Array) -> Iterator[Array]:
    """What a candidate's file may say that holds this array: forward, backward, or a part at even distances."""
    yield flat
    yield flat[::-1]
    if flat.size <= WIDE:
        yield from _spread(flat)


def _orders(array: Array, inputs: Path | None) -> Iterator[Array]:
    """Orders in which labels may stand in a table, as positions in the flattened array."""
    import numpy as np

    forward = np.arange(array.size)
    yield forward
    yield forward[::-1]
    yield forward[::2]
    yield forward[1::2]
    if array.ndim > 1:
        yield forward.reshape(array.shape).ravel(order="F")
    rows = _loaded(inputs) if inputs is not None and inputs.stat().st_size <= INPUTS_BYTES else None
    if rows is None or array.ndim != 1 or len(rows) < len(array):
        return
    rows = rows[: len(array)]
    for kind in dict.fromkeys((rows.dtype, np.dtype("<f4"))):
        lines = [row.tobytes() for row in np.ascontiguousarray(rows.astype(kind))]
        for key in _KEYS:
            keys = [key(line) for line in lines]
            yield np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _loaded(path: Path) -> Array | None:
    import numpy as np

    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError):
        return None
    return array


# sequences


def _distances(symbols: Array, reach: int) -> Array:
    """How many places back each symbol stood last; 0 where it did not within `reach`."""
    import numpy as np

    found = np.zeros(symbols.size, np.uint8)
    for back in range(min(reach, symbols.size - 1), 0, -1):
        np.copyto(found[back:], back, where=symbols[back:] == symbols[:-back])
    return found


@cache
def _powers(count: int) -> tuple[Array, Array, Array]:
    """Powers of an odd number and of its inverse modulo 2^64, and a random number for every small value."""
    import numpy as np

    factors = [np.full(count, factor, np.uint64) for factor in (_SEED, pow(_SEED, -1, 2**64))]
    for powers in factors:
        powers[0] = 1
        np.cumprod(powers, out=powers)
    return factors[0], factors[1], np.random.default_rng(_SEED).integers(0, 2**64, 256, np.uint64)


def _rolled(values: Array, window: int) -> Array:
    """A 64-bit hash of each window of values."""
    import numpy as np

    if values.size < window:
        return np.empty(0, np.uint64)
    powers, inverse, table = _powers(1 << (values.size - 1).bit_length())
    mixed = table[values] if values.dtype == np.uint8 else values * np.uint64(0xBF58476D1CE4E5B9)
    summed = np.zeros(values.size + 1, np.uint64)
    np.cumsum(mixed * powers[: values.size], out=summed[1:])
    rolled: Array = (summed[window:] - summed[:-window]) * inverse[: values.size - window + 1]
    return rolled


def _hashes(symbols: Array, reach: int, window: int) -> Iterator[Array]:
    """The hashes of all windows of a sequence, piece by piece; not of pieces in which hardly a symbol comes again."""
    import numpy as np

    for start in range(0, symbols.size - reach - window + 1, CHUNK):
        distances = _distances(symbols[start : start + CHUNK + reach + window - 1], reach)
        if np.count_nonzero(distances) >= window // 3:
            yield _rolled(distances, window)[reach:]


# what a file may be read as


@dataclass(frozen=True)
class _Piece:
    """Bytes of a file, or decoded from it; an array where its form is known."""

    raw: bytes
    text: bool
    array: Any = None


def _pieces(content: bytes) -> Iterator[_Piece]:
    """A file and everything that is packed into it, up to UNPACKED bytes in all."""
    left = UNPACKED
    waiting, seen = [(content, 0)], {content}
    while waiting and left > 0:
        raw, depth = waiting.pop(0)
        raw = raw[:left]
        left -= len(raw)
        text = _is_text(raw)
        yield _Piece(raw, text, _array(raw))
        if depth < DEEPEST:
            for inner in (*_decoded(raw, text), *_unpacked(raw, left)):
                if len(inner) >= SHORTEST and inner not in seen:
                    seen.add(inner)
                    waiting.append((inner, depth + 1))


def _is_text(raw: bytes) -> bool:
    if re.search(rb"[\x00-\x08\x0e-\x1a]", raw):
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _array(raw: bytes) -> Any:
    import numpy as np

    if raw[:6] != b"\x93NUMPY":
        return None
    try:
        return np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError):
        return None


_JOIN = re.compile(rb"[\"'][\s\\+,]*[bBrRuUfF]{0,2}[\"']")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}={0,2}")
_HEX = re.compile(rb"[0-9a-fA-F]{48,}")
_BASE85 = re.compile(rb"[0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~./,:\[\]\"']{48,}")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|([0-7]{1,3})|([abtnvfr\\'\"]))")
_SHORT = dict(zip(b"abtnvfr\\'\"", b"\a\b\t\n\v\f\r\\'\"", strict=True))


def _decoded(raw: bytes, text: bool) -> Iterator[bytes]:
    """What is written in a text as base64, hexadecimal, base85 or escapes."""
    if not text:
        return
    joined = _JOIN.sub(b"", raw)
    for source in dict.fromkeys((joined, re.sub(rb"\s+", b"", joined))):
        for run in _HEX.findall(source):
            yield binascii.unhexlify(run[: len(run) // 2 * 2])
        for run in _BASE64.findall(source):
            plain = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            for cut in (plain, plain[1:]):  # the b of b"..." may stand before it
                yield base64.b64decode(cut[: len(cut) // 4 * 4] + _padded(cut[len(cut) // 4 * 4 :]))
    for run in _BASE85.findall(joined):
        for cut in re.split(rb"[\"']", run):
            for way in (base64.b85decode, base64.a85decode):
                try:
                    yield way(cut)
                except ValueError:
                    continue
    if b"\\" in raw:
        yield _ESCAPE.sub(_unescaped, joined)


def _padded(rest: bytes) -> bytes:
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _unescaped(match: re.Match[bytes]) -> bytes:
    hexadecimal = match[1] or match[2]
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    return bytes([int(match[3], 8) & 255]) if match[3] else bytes([_SHORT[match[4][0]]])


_MAGIC: tuple[tuple[re.Pattern[bytes], Callable[[], Any]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), lambda: zlib.decompressobj(31)),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]"), lambda: zlib.decompressobj()),
    (re.compile(rb"BZh[1-9]1AY"), bz2.BZ2Decompressor),
    (re.compile(rb"\xfd7zXZ\0"), lzma.LZMADecompressor),
)
_TRIED = 64
"""Places where packed data may begin, of each kind."""


def _unpacked(raw: bytes, most: int) -> Iterator[bytes]:
    """What is packed in some bytes, wherever it begins."""
    if b"PK\x03\x04" in raw:
        yield from _zipped(raw, most)
    for magic, unpacker in _MAGIC:
        for number, match in enumerate(magic.finditer(raw)):
            if number == _TRIED:
                break
            try:
                yield unpacker().decompress(raw[match.start() :], max(1, most))
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                continue


def _zipped(raw: bytes, most: int) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            for member in packed.infolist()[:_TRIED]:
                with packed.open(member) as file:
                    yield file.read(most)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError):
        return


# what bytes may be read as


def _streams(piece: _Piece, classes: Sequence[int]) -> Iterator[Array]:
    """Sequences of symbols in which labels may stand."""
    wide = len(piece.raw) > WIDE
    for symbols in _tokens(piece.raw) if piece.text else _bytes(piece.raw):
        yield symbols
        if not wide:
            yield from _spread(symbols)
            for size in classes:
                yield from _grouped(symbols, size)
    if piece.text:
        yield from _characters(piece.raw)
        return
    yield from _words(piece.raw)
    if not wide and min(classes) <= 16:
        yield from _parts(piece.raw, min(classes))
    if piece.array is not None:
        yield from _of_array(piece.array)


_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?!\w)")
_WORD = re.compile(rb"[\w.]+")


def _tokens(raw: bytes) -> Iterator[Array]:
    """A text's numbers, its words and its digits."""
    import numpy as np

    for pattern in (_NUMBER, _WORD, _ESCAPE):
        names: dict[bytes, int] = {}
        found = (match.group() for match in pattern.finditer(raw))
        yield np.fromiter((names.setdefault(token, len(names)) for token in found), np.uint32)
    characters = np.frombuffer(raw, np.uint8)
    yield characters[(characters >= 0x30) & (characters <= 0x39)]


def _characters(raw: bytes) -> Iterator[Array]:
    """A text's letters and digits, and all of its characters."""
    import numpy as np

    characters = np.frombuffer(raw, np.uint8)
    letter = ((characters | 0x20) >= 0x61) & ((characters | 0x20) <= 0x7A)
    yield characters[letter | ((characters >= 0x30) & (characters <= 0x39))]
    yield characters


def _bytes(raw: bytes) -> Iterator[Array]:
    import numpy as np

    yield np.frombuffer(raw, np.uint8)


def _spread(symbols: Array) -> Iterator[Array]:
    """Every second, third and fourth of a sequence."""
    for stride in range(2, STRIDES + 1):
        for start in range(stride):
            yield symbols[start::stride]


def _grouped(symbols: Array, size: int) -> Iterator[Array]:
    """Each `size` symbols as one: rows of one-hot labels, from every place where a row may begin."""
    import numpy as np

    if not 2 <= size <= 32:
        return
    factors = np.random.default_rng(_SEED).integers(1, 2**62, size, np.int64) | 1
    for start in range(size):
        rows = symbols[start : start + (symbols.size - start) // size * size].reshape(-1, size)
        yield rows.astype(np.int64) @ factors


def _words(raw: bytes) -> Iterator[Array]:
    """Words of 2, 4 and 8 bytes from every place where one may begin."""
    import numpy as np

    for width in (2, 4, 8):
        for start in range(width):
            yield np.frombuffer(raw[start : start + (len(raw) - start) // width * width], f"<u{width}")


def _parts(raw: bytes, classes: int) -> Iterator[Array]:
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
    """By rows, by columns, and the place of the greatest value, for labels that are one-hot or predicted."""
    import numpy as np

    if array.dtype.kind not in "iufb" or array.ndim < 2:
        return
    yield array.ravel(order="F")
    for axis in {0, array.ndim - 1}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield np.argmax(array, axis=axis).ravel()


def _shown(name: str) -> str:
    return one_line(os.fsencode(name))
