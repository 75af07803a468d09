"""Labels of the evaluation or the holdout, searched for in the files that a candidate adds or changes.

A table of labels is a long run of them in their order, whatever they are called, so windows of a sequence are compared
by how far back each symbol stood last (`symbols`). A run counts once its windows, each of some 64 bits of information,
cover `LEAST` labels; its first `FARTHEST` at most do not count. By chance that does not happen.

Searched: numbers, words, digits and escapes of a text; bytes and words of 2, 4 and 8 of anything else, so every
integer and float type at any offset; arrays in .npy, also by the place of their maximum; rows that are one-hot; and
everything that is written or packed into these (`pieces`). Orders: that of the file, backwards, every second, by
column, and by the hash of the inputs (`_KEYS`) as a lookup table sorted by its keys has it; with up to three other
values beside each label.

Not found: labels that are encrypted, computed, scattered or broken every few places; another order; a run shorter than
`LEAST`; binary classes packed among other bits; labels whose sequence holds little information (sorted by class, or
nearly all alike). What such a table gains is for `suspicion` and a reviewer to notice.
"""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.lab.schemas.experiment import Finding
from autolab.text import one_line
from autolab.verifiers.findings import blocking_finding
from autolab.verifiers.pieces import SHORTEST, pieces
from autolab.verifiers.symbols import FARTHEST, WIDE, distances, sequences, spread, window_hashes, windows

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LEAST = 64
"""Labels in order that make a finding."""
BITS = 64.0
"""Information in a window: with some 2^45 comparisons a search none fits by chance."""
LONGEST = 512
"""Symbols of a window at most; at least they are SHORTEST."""
NEAREST = 8
"""How far back a symbol is looked for at least; at most it is FARTHEST."""
SEARCHED = 8_000_000
"""Bytes of changed files that are searched; more are refused."""
MOST_LABELS = 200_000
"""The number of labels of a split that are searched for, from its first on."""
INPUTS_BYTES = 1 << 28

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
    """One split's arrays: its name in findings, its labels, and its inputs, if they are at hand."""

    name: str
    labels: Path
    inputs: Path | None = None


@dataclass
class _Labels:
    """The labels of one split, in the orders in which they are searched for."""

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
    """The labels of a lab's splits, ready to be searched for. `allowed` are arrays that candidates may know: training
    data, in which a run of the labels may stand as well."""

    def __init__(self, splits: Iterable[Split], allowed: Iterable[Path] = ()) -> None:
        import numpy as np

        self._splits: list[_Labels] = []
        # One reach and one window for all, so that a sequence is read once.
        self._reach, self._window = NEAREST, SHORTEST
        for split in splits:
            prepared = _prepared(split)
            if prepared is not None:
                self._splits.append(prepared)
                self._reach = max(self._reach, prepared.reach)
                self._window = max(self._window, prepared.window)
        self._classes = sorted({split.classes for split in self._splits})
        # An empty array first: numpy concatenates no empty list, as in a lab whose labels cannot be searched for.
        hashes, where = [np.empty(0, np.uint64)], [np.empty((0, 3), np.int64)]
        for split_number, split_labels in enumerate(self._splits):
            for order_number, order in enumerate(split_labels.orders):
                of_order, starts = windows(split_labels.labels[order], self._reach, self._window)
                hashes.append(of_order)
                numbers = np.full_like(starts, split_number), np.full_like(starts, order_number)
                where.append(np.stack([*numbers, starts], axis=1))
        all_hashes, all_places = np.concatenate(hashes), np.concatenate(where)
        sorting = np.argsort(all_hashes, kind="stable")
        self._hashes, self._where = all_hashes[sorting], all_places[sorting]
        """For each hash, sorted: which split, which order of it, and where the window begins there."""
        if self._splits:
            self._forget(allowed)

    def _forget(self, allowed: Iterable[Path]) -> None:
        """Search no longer for windows that these arrays hold."""
        import numpy as np

        for path in allowed:
            # A run in a larger array may be reported although it is the training data's.
            if path.suffix != ".npy" or path.stat().st_size > SEARCHED:
                continue
            array = _loaded(path)
            if array is None:
                continue
            for symbols in _read_as(array.ravel()):
                for hashes in window_hashes(symbols, self._reach, self._window):
                    unmatched = ~np.isin(self._hashes, hashes)
                    self._hashes, self._where = self._hashes[unmatched], self._where[unmatched]

    def findings(self, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> list[Finding]:
        """A blocking finding for every file that holds a run of labels which it did not hold `before`."""
        if not self._hashes.size:
            return []
        # Refused and not passed over: else a large file would be the place to hide a table.
        if sum(map(len, files.values())) > SEARCHED:
            largest = _shown(max(files, key=lambda name: len(files[name])))
            message = f"the changed files have more than the {SEARCHED:,} bytes that can be searched for labels"
            way_out = f"leave out what a training can make, {largest} first"
            return [blocking_finding("labels", f"{message}; {way_out}", largest)]
        findings = []
        for name, content in files.items():
            counts = self.label_counts(content)
            # A table that the base holds already is the user's.
            earlier = self.label_counts(before[name]) if counts and name in before else {}
            for split, count in counts.items():
                if count > earlier.get(split, 0):
                    message = f"{_shown(name)}: holds {count} of the labels of {split} in their order"
                    way_out = "predictions are to be computed from the inputs: take the table out"
                    findings.append(blocking_finding("labels", f"{message}; {way_out}", _shown(name)))
        return findings

    def label_counts(self, content: bytes) -> dict[str, int]:
        """How many labels of each split a file holds in runs, for those of which it holds enough to count."""
        import numpy as np

        # A mask, not a count: pieces that hold the same labels twice, in base64 and decoded, count once.
        masks = [np.zeros(split.count, bool) for split in self._splits]
        for piece in pieces(content):
            for symbols in sequences(piece, self._classes):
                for hashes in window_hashes(symbols, self._reach, self._window):
                    self._mark(hashes, masks)
        counts = {}
        for split, mask in zip(self._splits, masks, strict=True):
            count = int(mask.sum())
            if count >= split.least(self._window):
                counts[split.name] = count
        return counts

    def _mark(self, hashes: Array, masks: list[Array]) -> None:
        """Mark in `masks`, one array a split, the labels whose windows are among `hashes`."""
        import numpy as np

        # Nearly all windows fit nowhere: the search in the sorted hashes drops them at once.
        at = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        hits = hashes[self._hashes[at] == hashes]
        if not hits.size:
            return
        where = self._where[np.isin(self._hashes, hits)]
        for split, number in np.unique(where[:, :2], axis=0):
            order = self._splits[split].orders[number]
            starts = where[(where[:, 0] == split) & (where[:, 1] == number), 2]
            # A position lies in a window if more windows begin up to it than end.
            edges = np.zeros(order.size + 1, np.int64)
            np.add.at(edges, starts, 1)
            np.add.at(edges, starts + self._window, -1)
            masks[split][order[np.cumsum(edges[:-1]) > 0]] = True


def _prepared(split: Split) -> _Labels | None:
    """None if the labels are no numbers, too few, or hold too little information."""
    import numpy as np

    array = _loaded(split.labels)
    if array is None or array.dtype.kind not in "iufb" or array.size < SHORTEST:
        return None
    rows = MOST_LABELS if array.ndim == 1 else max(1, MOST_LABELS * len(array) // array.size)
    array = array[:rows]
    values, labels = np.unique(array.ravel(), return_inverse=True)
    label_bits = _entropy(labels)
    # Twice the number of equally frequent classes: most labels stood last within that reach.
    reach = min(FARTHEST, max(NEAREST, int(2 * 2**label_bits)))
    # Windows are compared by distances, which hold hardly any information where labels are sorted by class.
    bits = min(label_bits, _entropy(distances(labels, reach)))
    if bits < BITS / LONGEST:
        return None
    window = max(SHORTEST, math.ceil(BITS / bits))
    orders = list(_orders(array, split.inputs))
    return _Labels(split.name, labels.size, len(values), reach, window, labels.astype(np.uint32), orders)


def _entropy(values: Array) -> float:
    """Bits of information in a value, from how often each small integer occurs."""
    import numpy as np

    shares = np.bincount(values) / values.size
    shares = shares[shares > 0]
    return -float((shares * np.log2(shares)).sum())


def _read_as(flat: Array) -> Iterator[Array]:
    """What a candidate's file may say that holds this array: forward, backward, or a part at even distances."""
    yield flat
    yield flat[::-1]
    if flat.size <= WIDE:
        yield from spread(flat)


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
    if inputs is None or array.ndim != 1 or inputs.stat().st_size > INPUTS_BYTES:
        return
    rows = _loaded(inputs)
    if rows is None or len(rows) < len(array):
        return
    rows = rows[: len(array)]
    # As the file has them, and as float32, which is what most programs make of their inputs before they hash them.
    for kind in dict.fromkeys((rows.dtype, np.dtype("<f4"))):
        lines = [row.tobytes() for row in np.ascontiguousarray(rows.astype(kind))]
        for key in _KEYS:
            keys = [key(line) for line in lines]
            yield np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _loaded(path: Path) -> Array | None:
    import numpy as np

    try:
        array: Array = np.load(path, allow_pickle=False)
    # A header may claim more than the memory.
    except (OSError, ValueError, EOFError, MemoryError):
        return None
    return array


def _shown(name: str) -> str:
    return one_line(os.fsencode(name))
