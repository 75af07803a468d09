"""Make data/train, data/eval and data/holdout from the tiny Shakespeare (Karpathy 2015): 1.1 MB of his plays.

    python prepare.py

The text is tinyshakespeare.txt in the folder AUTOLAB_DATASETS where that is set, else it is downloaded into data/ (1.1
MB). Its SHA-256 is checked; AUTOLAB_SHAKESPEARE_SHA256 allows a text of your own, of the same characters. What is wrong
is said in one line with exit code 1, and data/ keeps what it had.

The split is by position: the first 80% of the text are train, the next 10% eval, the last 10% holdout, so that what is
evaluated are other scenes than those trained on. A split is inputs.npy (uint8 [n, 64]: tokens, places in
settings.CHARACTERS) and labels.npy (of the same shape: at each place the token that follows). The rows of train lie end
to end; of eval and holdout 250 rows are taken, evenly spread, between which at least one character is left out, so that
no row holds the end of another.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fetch import FetchError, fetch
from settings import CHARACTERS, LENGTH

DATA = Path(__file__).resolve().parent / "data"
ADDRESS = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
NAME = "tinyshakespeare.txt"
ROWS = 250
Tokens = npt.NDArray[np.uint8]


class Refused(Exception):
    """One line: which file, what is wrong with it, the way out."""


def read() -> bytes:
    """The text's bytes. Refused or FetchError in one line."""
    wanted = os.environ.get("AUTOLAB_SHAKESPEARE_SHA256", "") or SHA256
    datasets = os.environ.get("AUTOLAB_DATASETS", "")
    if not datasets:
        path = DATA / NAME
        fetch(ADDRESS, path, f"sha256:{wanted}")
        return path.read_bytes()
    path = Path(datasets).expanduser().resolve() / NAME
    if not path.is_file():
        raise Refused(f"AUTOLAB_DATASETS: {path.parent} holds no {NAME}; put it there, or unset the variable")
    text = path.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if found != wanted:
        raise Refused(f"{path}: sha256 {found} instead of {wanted}; another text, or AUTOLAB_SHAKESPEARE_SHA256 for it")
    return text


def encode(text: bytes) -> Tokens:
    """Places in CHARACTERS. Refused for a byte that is none of them."""
    places = np.full(256, 255, dtype=np.uint8)
    places[list(CHARACTERS.encode("ascii"))] = np.arange(len(CHARACTERS), dtype=np.uint8)
    tokens = places[np.frombuffer(text, dtype=np.uint8)]
    unknown = np.flatnonzero(tokens == 255)
    if len(unknown):
        at = int(unknown[0])
        raise Refused(f"{NAME}: byte {at} is {text[at : at + 1]!r}, which settings.CHARACTERS does not have")
    return tokens


def split(tokens: Tokens) -> dict[str, tuple[Tokens, Tokens]]:
    """Inputs and labels of each split. Refused for a text that is too short."""
    ends = len(tokens) * 8 // 10, len(tokens) * 9 // 10
    train, evaluated, holdout = np.split(tokens, ends)
    whole = (len(train) - 1) // LENGTH
    splits = {"train": rows(train, np.arange(whole) * LENGTH)}
    for name, part in (("eval", evaluated), ("holdout", holdout)):
        count = min(ROWS, len(part) // (LENGTH + 2))
        if count < 2:
            raise Refused(f"{NAME}: {len(tokens)} characters are too few; {20 * (LENGTH + 2)} are needed")
        splits[name] = rows(part, np.linspace(0, len(part) - LENGTH - 1, count).astype(np.int64))
    return splits


def rows(part: Tokens, starts: npt.NDArray[np.int64]) -> tuple[Tokens, Tokens]:
    places = starts[:, None] + np.arange(LENGTH)
    return part[places], part[places + 1]


def write(splits: dict[str, tuple[Tokens, Tokens]]) -> None:
    """All splits beside their places first, then each into its own: a full disk leaves data/ as it was."""
    new = {name: DATA / f"{name}.new" for name in splits}
    try:
        for name, parts in splits.items():
            shutil.rmtree(new[name], ignore_errors=True)
            new[name].mkdir(parents=True)
            for part, values in zip(("inputs", "labels"), parts, strict=True):
                whole = io.BytesIO()  # not straight to the file: numpy does not say why a write failed
                np.save(whole, values, allow_pickle=False)
                (new[name] / f"{part}.npy").write_bytes(whole.getbuffer())
    except BaseException:
        for folder in new.values():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    for name, folder in new.items():
        shutil.rmtree(DATA / name, ignore_errors=True)
        folder.rename(DATA / name)
        print(f"data/{name}: {len(splits[name][0])} rows of {LENGTH} characters")


def main() -> None:
    try:
        write(split(encode(read())))
    except (Refused, FetchError) as error:
        sys.exit(f"prepare.py: {error}")
    except OSError as error:
        sys.exit(f"prepare.py: {error.filename or DATA}: {error.strerror or error}; make room or access, run again")
    except KeyboardInterrupt:
        sys.exit("prepare.py: interrupted; run again, it goes on from here")


if __name__ == "__main__":
    main()
