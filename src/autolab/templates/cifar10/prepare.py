"""Make data/train, data/eval and data/holdout from CIFAR-10 (Krizhevsky 2009).

    python prepare.py                                              all of it: 50,000, 5,000 and 5,000 pictures
    python prepare.py --train 4000 --eval 1000 --holdout 1000      the first so many of each

The pictures come from the folder `cifar-10-batches-py` in AUTOLAB_DATASETS where that is set, else from the official
archive, which is downloaded into data/ (170 MB; AUTOLAB_CIFAR10_URL and AUTOLAB_CIFAR10_MD5 name a mirror, or an
archive of your own in the same form). What is wrong is said in one line with exit code 1, and data/ keeps what it had.

The splits depend on the pixels alone. train: the set's training pictures in the order of the SHA-256 of their pixels,
so that the first n are always the same. eval and holdout: the set's test pictures, stratified: each class's in that
order, in turn to eval and to holdout; then each split in that order again. A split is inputs.npy (uint8
[n, 3, 32, 32]) and labels.npy (uint8 [n]).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tyro

from batches import CLASSES, Batch, Refused, parse
from fetch import FetchError, fetch

DATA = Path(__file__).resolve().parent / "data"
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
LARGEST = 64_000_000
"""Bytes of a batch file, at most; the official ones have 31 million."""


@dataclass(frozen=True)
class Sizes:
    """Make data/ from CIFAR-10. How many pictures of each split, the first in the order of their hash; 0 takes all."""

    train: int = 0
    eval: int = 0
    holdout: int = 0


def read() -> dict[str, Batch]:
    """The set's batches by name. Refused or FetchError in one line."""
    datasets = os.environ.get("AUTOLAB_DATASETS", "")
    if datasets:
        return dict(from_folder(Path(datasets).expanduser().resolve()))
    archive = DATA / "cifar-10-python.tar.gz"
    checksum = os.environ.get("AUTOLAB_CIFAR10_MD5", "") or MD5
    fetch(os.environ.get("AUTOLAB_CIFAR10_URL", "") or ADDRESS, archive, f"md5:{checksum}")
    print(f"reading {archive.name}", flush=True)
    return from_archive(archive)


def from_folder(datasets: Path) -> Iterator[tuple[str, Batch]]:
    """The batch files of an unpacked archive."""
    folder = datasets / FOLDER
    if not folder.is_dir():
        raise Refused(f"AUTOLAB_DATASETS: {datasets} holds no folder {FOLDER}; unpack it there, or unset the variable")
    print(f"reading {folder}", flush=True)
    for name in (*TRAIN, *TEST):
        path = folder / name
        if not path.is_file():
            raise Refused(f"{path}: no such file; unpack the whole archive there")
        yield name, parse(path.read_bytes(), str(path))


def from_archive(path: Path) -> dict[str, Batch]:
    """The batch files in the archive. Only these are read, one after the other, and nothing is unpacked to disk."""
    found: dict[str, Batch] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if folder == FOLDER and name in (*TRAIN, *TEST):
                    found[name] = parse(content(archive, member), f"{path}: {member.name}")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise Refused(f"{path}: no whole .tar.gz archive ({error}); delete it, then run again") from None
    missing = [name for name in (*TRAIN, *TEST) if name not in found]
    if missing:
        raise Refused(f"{path}: holds no {FOLDER}/{missing[0]}; delete it, then run again")
    return found


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A plain file's bytes. Refused for a link, a folder, a device, and what is too large."""
    file = archive.extractfile(member) if member.isreg() else None
    if file is None or member.size > LARGEST:
        raise Refused(f"{archive.name}: {member.name} is no plain file of at most {LARGEST} bytes")
    return file.read()


def joined(batches: list[Batch]) -> Batch:
    return Batch(np.concatenate([b.pixels for b in batches]), np.concatenate([b.labels for b in batches]))


def split(batches: dict[str, Batch]) -> dict[str, Batch]:
    """The three splits, each in the order of the SHA-256 of the pixels."""
    train, test = (joined([batches[name] for name in names]) for names in (TRAIN, TEST))
    rank = ranked(test.pixels)
    turns = [rank[test.labels[rank] == label] for label in range(CLASSES)]
    chosen = {name: np.concatenate([turn[first::2] for turn in turns]) for name, first in (("eval", 0), ("holdout", 1))}
    rows = {name: rank[np.isin(rank, mine)] for name, mine in chosen.items()}
    return {"train": taken(train, ranked(train.pixels))} | {name: taken(test, mine) for name, mine in rows.items()}


def ranked(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Row numbers in the order of the SHA-256 of each picture's pixels."""
    return np.argsort([hashlib.sha256(picture.tobytes()).digest().hex() for picture in pixels], kind="stable")


def taken(batch: Batch, rows: npt.NDArray[np.intp]) -> Batch:
    return Batch(batch.pixels[rows], batch.labels[rows])


def shortened(splits: dict[str, Batch], sizes: Sizes) -> dict[str, Batch]:
    """The first so many of each. Refused if there are fewer."""
    short = {}
    for name, batch in splits.items():
        size = getattr(sizes, name)
        if not 0 <= size <= len(batch.labels):
            raise Refused(f"--{name}: {size} pictures are asked for, there are {len(batch.labels)}; 0 takes all")
        short[name] = taken(batch, np.arange(size or len(batch.labels)))
    return short


def write(splits: dict[str, Batch]) -> None:
    """All splits beside their places first, then each into its own: a full disk leaves data/ as it was."""
    new = {name: DATA / f"{name}.new" for name in splits}
    try:
        for name, batch in splits.items():
            shutil.rmtree(new[name], ignore_errors=True)
            new[name].mkdir(parents=True)
            for part, values in (("inputs", batch.pixels), ("labels", batch.labels)):
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
        print(f"data/{name}: {len(splits[name].labels)} pictures")


def main() -> None:
    sizes = tyro.cli(Sizes)
    try:
        write(shortened(split(read()), sizes))
    except (Refused, FetchError) as error:
        sys.exit(f"prepare.py: {error}")
    except OSError as error:
        sys.exit(f"prepare.py: {error.filename or DATA}: {error.strerror or error}; make room or access, run again")
    except KeyboardInterrupt:
        sys.exit("prepare.py: interrupted; run again, it goes on from here")


if __name__ == "__main__":
    main()
