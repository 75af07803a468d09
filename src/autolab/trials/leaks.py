"""Whether a trial could read the labels: where its boxes lead, and whether a copy of a labels file lies there.

Two checks. `refuse_reads` compares the paths that config.yaml adds (`reads`) with where the lab and its record lie; it
costs nothing. `copies` walks all that a box lets a trial read and compares each file with each labels file, first by
size, then by SHA-256: a copy under any name, a second name (hard link) and a link to one count.

An `Index` remembers each folder's time of modification, so that only folders that changed are read again.
Not covered: labels in another form (compressed, of another type, within a larger file); a file that was overwritten in
place since its folder was last read, until `autolab doctor` reads all of it; what an unreadable folder holds.
"""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
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

    `hidden`: what the lab at `root` keeps from trials, relative to it. Links are followed. A lab in one of the system's
    folders is refused too, because every box holds those."""
    lab = os.path.realpath(root)
    for folder in SYSTEM:
        if Path(lab).is_relative_to(os.path.realpath(folder)):
            raise LabError(f"{root}: lies in {folder}, which every trial can read, labels too: move the lab elsewhere")
    # Where these really lie: the store or the data may be links that lead out of the lab.
    secret_paths = [os.path.realpath(path) for path in (store, *(root / name for name in hidden))]
    for key, paths in reads.items():
        for path in paths:
            reason = _reason_to_refuse(path, lab, secret_paths)
            if reason:
                raise LabError(f".autolab/config.yaml: {key}: {path}: {reason}; name the folder that the program needs")


def _reason_to_refuse(path: str, lab: str, secret_paths: Sequence[str]) -> str:
    everything = "leads to every file of this machine, the lab's labels too"
    # /proc/PID/root is every file of the machine; a path through it has no other name by which it could be judged.
    if Path(os.path.normpath(path)).is_relative_to(_PROC):
        return everything
    try:
        real = Path(os.path.realpath(path))
    except OSError as error:
        return f"{error.filename or path}: cannot be followed to where it leads: {error.strerror}"
    leads_to = "" if str(real) == os.path.normpath(path) else f"leads to {real}, which "
    if real.is_relative_to(_PROC) or str(real) == "/":
        return f"{leads_to}{everything}"
    if Path(lab).is_relative_to(real):
        return f"{leads_to}holds the lab, with its labels and its record"
    # Either way round: a path into a secret folder shows a part of it.
    for secret in secret_paths:
        if real.is_relative_to(secret) or Path(secret).is_relative_to(real):
            return f"{leads_to}holds {secret}, which no trial may see"
    return ""


# copies in what a run's trials read


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

    With `keep` the index in the lab's `store` makes it quick. Without, everything is read and nothing is written."""
    file, index = store / INDEX, Index()
    if keep:
        if file not in _indices:
            _indices[file] = Index.load(file)
        index = _indices[file]
    matches = copies(labels, [place.path for place in places], covers, index)
    # Saved before the refusal too: the user will call again after each file that they take out.
    if keep and index.changed:
        index.save(file)
    if matches:
        copy = matches[0]
        place = next(place for place in places if Path(copy.path).is_relative_to(os.path.realpath(place.path)))
        raise LabError(
            f"{copy.path}: equals {copy.equals}, and every trial could read it there, in {place.what}: {place.way}"
        )


_indices: dict[Path, Index] = {}
"""The indices that this process has read, by file."""

_Fingerprint = tuple[tuple[int, ...], str]
"""Size, mtime, ctime and inode of a file, and the SHA-256 that it had with them."""


@dataclass
class Index:
    """What a walk has seen: each folder's time of modification (ns), and the files whose size is one of `sizes`."""

    sizes: tuple[int, ...] = ()
    folders: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, _Fingerprint] = field(default_factory=dict)
    changed: bool = False
    """Whether the last walk saw anything else than is recorded here."""

    @classmethod
    def load(cls, path: Path) -> Index:
        """The index at `path`; an empty one if it cannot be read, since it is only a shortcut."""
        try:
            value = json.loads(path.read_bytes())
            hashes = {name: (tuple(look), str(sha256)) for name, (look, sha256) in value["hashes"].items()}
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
    """Every file below `places`, but not below `covers`, that equals a labels file (name in the lab -> path).

    `index` is brought up to date; without one everything is read. Empty labels files are passed over."""
    index = index if index is not None else Index()
    names: dict[str, str] = {}
    sizes = set()
    # Any empty file equals an empty labels file, and shows nothing.
    for name, original in labels.items():
        size = original.stat().st_size
        if size:
            names.setdefault(sha256_of_file(original), name)
            sizes.add(size)
    # The index lists files of these sizes alone: for other sizes it has to be made anew.
    if index.sizes != tuple(sorted(sizes)):
        index.sizes, index.folders, index.hashes = tuple(sorted(sizes)), {}, {}
    if not sizes:
        return []
    walk = _Walk(index, covers)
    matches = []
    for path in walk.files(places):
        sha256 = walk.sha256(path)
        if sha256 in names:
            matches.append(Copy(path, names[sha256]))
    index.changed = (walk.folders, walk.hashes) != (index.folders, index.hashes)
    # Only what this walk saw: folders that are gone leave the index.
    index.folders, index.hashes = walk.folders, walk.hashes
    return sorted(matches, key=lambda copy: copy.path)


class _Walk:
    """One walk over places, with the index of an earlier one; it fills `folders` and `hashes` as those of an index."""

    def __init__(self, index: Index, covers: Iterable[str]) -> None:
        self.folders: dict[str, int] = {}
        self.hashes: dict[str, _Fingerprint] = {}
        self._index = index
        self._covers = {os.path.realpath(path) for path in covers}
        self._earlier_folders: dict[str, list[str]] = defaultdict(list)
        self._earlier_files: dict[str, list[str]] = defaultdict(list)
        for path in index.folders:
            self._earlier_folders[os.path.dirname(path)].append(path)
        for path in index.hashes:
            self._earlier_files[os.path.dirname(path)].append(path)

    def files(self, places: Iterable[str]) -> Iterator[str]:
        """Files with the size of a labels file, each once."""
        folders = []
        for place in places:
            real = os.path.realpath(place)
            if os.path.isdir(real):
                folders.append(real)
            elif os.path.isfile(real) and os.stat(real).st_size in self._index.sizes:
                yield real
        while folders:
            folder = folders.pop()
            # Places lie in each other: each folder is read once.
            if folder in self.folders or folder in self._covers:
                continue
            try:
                # Before the folder is read: a file that appears meanwhile has it read again next time.
                modified = os.stat(folder).st_mtime_ns
                if self._index.folders.get(folder) == modified:
                    inner, files = self._earlier_folders[folder], self._earlier_files[folder]
                else:
                    inner, files = _read(folder, self._index.sizes)
            except OSError:
                continue  # removed meanwhile, or not readable for this user
            self.folders[folder] = modified
            folders += inner
            yield from files

    def sha256(self, path: str) -> str | None:
        """Record and return a file's hash; None if it no longer has the size of a labels file."""
        try:
            facts = os.stat(path)
            look = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
            earlier = self._index.hashes.get(path)
            if earlier is not None and earlier[0] == look:
                self.hashes[path] = earlier
            elif facts.st_size in self._index.sizes:
                self.hashes[path] = look, sha256_of_file(Path(path))
            else:
                return None
        except OSError:
            return None
        return self.hashes[path][1]


def _read(folder: str, sizes: Sequence[int]) -> tuple[list[str], list[str]]:
    """Subfolders, and files of these sizes. A link to a file is that file; one to a folder is not followed."""
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
