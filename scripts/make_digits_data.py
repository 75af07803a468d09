"""Make the data files of the `digits` template from the UCI optical digits, byte for byte the same each time.

Run once, in an environment of its own (the trials' environment must hold no packaged copy of the data):

    python3 -m venv digits-env && digits-env/bin/pip install scikit-learn
    digits-env/bin/python scripts/make_digits_data.py src/autolab/templates/digits/data

The pictures are those that `sklearn.datasets.load_digits` carries: the 1,797 pictures of the test part of the UCI set,
8x8 pixels, grey values 0 to 16. Within each class they are put in the order of the SHA-256 of their pixels (all are
different) and dealt out, a third to each split. Within a split the order is again that of the hash.
Writes `<split>/inputs.npy` (uint8 [n, 8, 8]) and `<split>/labels.npy` (uint8 [n]) and prints their SHA-256.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
DEAL = ("train", "eval", "holdout")
"""Who gets the picture at place i (modulo 3) of a class."""


def split(images: Pixels, labels: Pixels) -> dict[str, list[int]]:
    """Row numbers of each split, stratified by class; depends on the pixels alone, not on the order of the rows."""
    rank = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    if len(set(rank)) != len(rank):
        sys.exit("make_digits_data.py: two pictures are equal, which could put one into two splits")
    rows: dict[str, list[int]] = {name: [] for name in sorted(set(DEAL))}
    for digit in range(10):
        ordered = sorted(np.flatnonzero(labels == digit).tolist(), key=rank.__getitem__)
        for place, row in enumerate(ordered):
            rows[DEAL[place % len(DEAL)]].append(row)
    return {name: sorted(chosen, key=rank.__getitem__) for name, chosen in rows.items()}


def main() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-not-found, import-untyped, unused-ignore]

    if len(sys.argv) != 2:
        sys.exit("usage: make_digits_data.py FOLDER")
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    for name, rows in split(images, labels).items():
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, values in (("inputs.npy", images[rows]), ("labels.npy", labels[rows])):
            np.save(folder / file, values, allow_pickle=False)
            print(hashlib.sha256((folder / file).read_bytes()).hexdigest(), f"{name}/{file}", values.shape)


if __name__ == "__main__":
    main()
