"""Whether a trial could read the labels: where its boxes lead, and whether a copy of a labels file lies there.

Two looks. `refuse_reads` holds the paths that config.yaml adds (`reads`) against where the lab and its record lie; it
costs nothing. `copies` walks all that a box lets a trial read and compares each file with each labels file, first by
size, then by SHA-256: a copy under any name, a second name (hard link) and a link to one count.

An `Index` remembers each folder's time of modification, so that only folders that changed are read again.
Not covered: labels in another form (compressed, of another type, within a larger file); a file that was written over in
place since its folder was last read, until `autolab doctor` reads all of it; what an unreadable folder holds.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autolab.errors import LabError
from autolab.files import sha256_of_file, write_whole
from autolab.sandbox.box import SYSTEM

_PROC = "/proc"
INDEX = "reach.json"
"""The index's file in the lab's store."""


@dataclass(frozen=True)
class Copy:
    """A file that a trial could read, and the labels file (named as in the lab) that it equals."""

    path: str
    equals: str


# the paths that a user adds


def refuse_reads(root: Path, store: Path, reads: Mapping[str, Sequence[str]], hidden: Sequence[str]) -> None:
    """LabError for a path of `reads` (key of config.yaml -> paths) behind which labels, evaluator or record lie.

    `hidden`: what the lab at `root` keeps from trials, relative to it. Links are followed. So is a lab that lies in
    the system's own folders, which every box holds, refused."""
    kept = [os.path.realpath(store), *(os.path.realpath(root / path) for path in hidden)]
    for folder in SYSTEM:
        if Path(os.path.realpath(root)).is_relative_to(os.path.realpath(folder)):
            raise LabError(f"{root}: lies in {folder}, which every trial can read, labels too: move the lab elsewhere")
    for key, paths in reads.items():
        for path in paths:
            why = _why_not(path, os.path.realpath(root), kept)
            if why:
                raise LabError(f".autolab/config.yaml: {key}: {path}: {why}; name the folder that the program needs")


def _why_not(path: str, root: str, kept: Sequence[str]) -> str:
    everything = "leads to every file of this machine, the lab's labels too"
    # /proc/PID/root is every file of the machine; a path through it has no other name by which it could be judged.
    if Path(os.path.normpath(path)).is_relative_to(_PROC):
        return everything
    try:
        real = Path(os.path.realpath(path))
    except OSError as error:
        return f"{error.filename or path}: cannot be followed to where it leads: {error.strerror}"
    shown = "" if str(real) == os.path.normpath(path) else f"leads to {real}, which "
    if real.is_relative_to(_PROC) or str(real) == "/":
        return f"{shown}{everything}"
    if Path(root).is_relative_to(real):
        return f"{shown}holds the lab, with its labels and its record"
    for inner in kept:
        if real.is_relative_to(inner) or Path(inner).is_relative_to(real):
            return f"{shown}holds {inner}, which no trial may see"
    return ""


# what a launch can reach


@dataclass(frozen=True)
class SearchedPlace:
    """A file or folder that a trial reads: what it is, and how a user takes a copy of the labels out of it."""

    path: str
    what: str
    way: str


def refuse_copies(
    labels: Mapping[str, Path], places: Sequence[SearchedPlace], covers: Sequence[str], store: Path, keep: bool = True
) -> None:
    """LabError for a file that trials could read in one of `places` and that equals a labels file.

    With `keep` the index in the lab's `store` makes it quick; without, everything is read and nothing written."""
    path = store / INDEX
    index = None
    if keep:
        if path not in _indices:
            _indices[path] = Index.load(path)
        index = _indices[path]
    found = copies(labels, [place.path for place in places], covers, index)
    if index is not None and index.changed:
        index.save(path)
    for copy in found:
        place = next(place for place in places if Path(copy.path).is_relative_to(os.path.realpath(place.path)))
        raise LabError(
            f"{copy.path}: equals {copy.equals}, and every trial could read it there, in {place.what}: {place.way}"
        )


_indices: dict[Path, Index] = {}
"""Those that this process has read."""


# copies of the labels


@dataclass
class Index:
    """What a walk has seen: each folder's time of modification (ns), and the files whose size is one of `sizes`."""

    sizes: tuple[int, ...] = ()
    folders: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """File of such a size -> what told that it is the same (size, mtime, ctime, inode), and its SHA-256."""
    changed: bool = False
    """Whether the last walk found anything that was not as it is here."""

    @classmethod
    def load(cls, path: Path) -> Index:
        """The index at `path`; an empty one where there is none that can be read: it is only ever a shortcut."""
        try:
            value = json.loads(path.read_bytes())
            hashes = {name: (tuple(look), str(sha)) for name, (look, sha) in value["hashes"].items()}
            folders = {str(name): int(modified) for name, modified in value["folders"].items()}
            return cls(tuple(value["sizes"]), folders, hashes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def save(self, path: Path) -> None:
        value = {"sizes": self.sizes, "folders": self.folders, "hashes": self.hashes}
        write_whole(path, json.dumps(value), sync=False)


def copies(
    labels: Mapping[str, Path], places: Iterable[str], covers: Iterable[str], index: Index | None = None
) -> list[Copy]:
    """Every file below `places`, but for `covers`, that equals a labels file (name in the lab -> path).

    `index` is brought up to date; without one everything is read. Empty labels files are passed over."""
    index = index if index is not None else Index()
    wanted: dict[str, str] = {}
    sizes = set()
    for name, original in labels.items():
        size = original.stat().st_size
        if size:
            wanted.setdefault(sha256_of_file(original), name)
            sizes.add(size)
    if index.sizes != tuple(sorted(sizes)):
        index.sizes, index.folders, index.hashes = tuple(sorted(sizes)), {}, {}
    if not sizes:
        return []
    hidden = {os.path.realpath(path) for path in covers}
    folders: dict[str, int] = {}
    hashes: dict[str, tuple[tuple[int, ...], str]] = {}
    found = []
    for path in _files(places, hidden, index, folders):
        one = _hashed(path, index)
        if one is None:
            continue
        hashes[path] = one
        if one[1] in wanted:
            found.append(Copy(path, wanted[one[1]]))
    index.changed = (folders, hashes) != (index.folders, index.hashes)
    index.folders, index.hashes = folders, hashes
    return sorted(found, key=lambda copy: copy.path)


def _files(places: Iterable[str], hidden: set[str], index: Index, folders: dict[str, int]) -> Iterator[str]:
    """Files of a size that counts, each once; fills `folders` with the folders that were looked at."""
    known: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for path in index.hashes:
        known.setdefault(os.path.dirname(path), []).append(path)
    for path in index.folders:
        below.setdefault(os.path.dirname(path), []).append(path)
    waiting = []
    for place in places:
        real = os.path.realpath(place)
        if os.path.isdir(real):
            waiting.append(real)
        elif os.path.isfile(real) and os.stat(real).st_size in index.sizes:
            yield real
    while waiting:
        folder = waiting.pop()
        if folder in folders or folder in hidden:
            continue
        try:
            modified = os.stat(folder).st_mtime_ns
            if index.folders.get(folder) == modified:
                inner, files = below.get(folder, []), known.get(folder, [])
            else:
                inner, files = _read(folder, index.sizes)
        except OSError:
            continue  # taken away meanwhile, or not ours to read
        folders[folder] = modified
        waiting += inner
        yield from files


def _read(folder: str, sizes: Sequence[int]) -> tuple[list[str], list[str]]:
    """Subfolders, and files of these sizes. A link to a file is that file; one to a folder leads where it is bound."""
    inner, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.path)
                continue
            try:
                facts = entry.stat()
            except OSError:
                continue  # a link to nothing
            if stat.S_ISREG(facts.st_mode) and facts.st_size in sizes:
                files.append(entry.path)
    return inner, files


def _hashed(path: str, index: Index) -> tuple[tuple[int, ...], str] | None:
    """How a file looks, and its SHA-256; None where it is none of a size that counts any more."""
    try:
        facts = os.stat(path)
        look = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        before = index.hashes.get(path)
        if before is not None and before[0] == look:
            return before
        return (look, sha256_of_file(Path(path))) if facts.st_size in index.sizes else None
    except OSError:
        return None
