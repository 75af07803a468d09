"""Whether the files that a run's trials share are still what they were: code, data, labels, evaluator, settings.

Sealing hashes every file once and keeps the hashes in the store. From then on a look compares kind, size, times and
inode alone; only a file that differs there is hashed again. A file that was changed, added or taken away breaks the
seal, and so does a folder. An export with a broken seal is put away, so that it is made again from git.

Covered: every change since an export was first sealed, also while no engine ran. Not covered: a program that may write
into the store (containment `none`) and forges the recorded hashes too while no engine runs; a user who can set the
machine's clock.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from autolab.errors import LabError
from autolab.files import sha256_of, sha256_of_file, write_whole


class Look(NamedTuple):
    """What tells cheaply that a file may have changed: kind, size, times in nanoseconds, inode."""

    kind: int
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    inode: int = 0


# A folder's own times say nothing that its files do not.
_FOLDER = Look(stat.S_IFDIR)


class Sealed(NamedTuple):
    """One file: the hash of its content (of a dangling link: where it points), and its look at that time."""

    sha256: str
    look: Look


Files = Mapping[str, Sealed]
"""By relative name: `a/b` a file, `a/` a folder, `.` the whole, where that is one file."""


@dataclass
class Seal:
    """A file or a folder with everything in it, and what each file in it held. Rights may change.

    A broken seal stays broken, also when the file is put back: something was measured meanwhile."""

    path: Path
    files: dict[str, Sealed]
    change: str = ""
    """The first change that was noticed."""
    without: frozenset[str] = frozenset()
    """Files and folders in it that nobody reads, by their names; they may change."""

    @classmethod
    def of(cls, path: Path, recorded: Files | None = None, without: frozenset[str] = frozenset()) -> Seal:
        """Hash every file, except for those that look as they do in `recorded`. Raises OSError."""
        files = {}
        for name, look in _looks(path, None, without).items():
            sealed = recorded.get(name) if recorded else None
            # A large data set is hashed once, and after that only where a file looks different.
            if sealed is None or sealed.look != look:
                sealed = Sealed(_hash(path / name, look), look)
            files[name] = sealed
        return cls(path, files, without=without)

    @property
    def sha256(self) -> str:
        """Over the names and contents of all files, in the order of the names' parts."""
        names = [name for name, sealed in self.files.items() if stat.S_ISREG(sealed.look.kind)]
        names.sort(key=lambda name: name.split("/"))
        return sha256_of("\n".join(f"{name} {self.files[name].sha256}" for name in names))

    def broken(self) -> str:
        """The first file that is not what it was, and how it changed; empty if all are. Costs a stat a file."""
        if self.change:
            return self.change
        looks = _looks(self.path, self.files, self.without)
        for name in sorted(self.files.keys() | looks.keys()):
            change = self._change(name, looks.get(name))
            if change:
                label = self.path.name if name == "." else name
                self.change = f"{label} was {change}"
                break
        return self.change

    def _change(self, name: str, look: Look | None) -> str:
        sealed = self.files.get(name)
        if sealed is None:
            return "added"
        if look is None:
            return "taken away"
        if look == sealed.look:
            return ""
        # Of another kind or size it need not be hashed.
        if look[:2] != sealed.look[:2] or _hash(self.path / name, look) != sealed.sha256:
            return "changed"
        # Touched alone: the new times are remembered, so that it is not hashed at each look.
        self.files[name] = Sealed(sealed.sha256, look)
        return ""


@dataclass
class Seals:
    """Everything that the trials of a run share. Exports lie below `exports`, their hashes in the folder `records`."""

    exports: Path
    records: Path
    seals: dict[str, Seal] = field(default_factory=dict)

    def add(self, label: str, path: Path) -> None:
        """Hold a file or folder below `exports` to the hashes that it had when it was first sealed.

        Its name must stand for all of its content. `label` is its name in messages."""
        record = self.records / f"{'-'.join(path.relative_to(self.exports).parts)}.json"
        recorded = read(record)
        # With a record nothing is hashed anew: a change since then must not become part of the seal.
        seal = Seal.of(path) if recorded is None else Seal(path, dict(recorded))
        self.seals[label] = seal
        if not seal.broken() and seal.files != recorded:
            write_whole(record, json.dumps(seal.files))

    def add_own(self, label: str, path: Path, without: frozenset[str] = frozenset()) -> str:
        """Seal a user's own file or folder as it is now, and return its hash. The user may change it between two runs.

        What `without` names in it is not part of it."""
        record = self.records / f"own-{sha256_of(os.fsencode(path))[:16]}.json"
        recorded = read(record)
        seal = Seal.of(path, recorded, without)
        self.seals[label] = seal
        if seal.files != recorded:
            write_whole(record, json.dumps(seal.files))
        return seal.sha256

    def broken(self) -> str:
        """The first change of any of it, in one line; empty if there is none."""
        for label, seal in self.seals.items():
            change = seal.broken()
            if change:
                return f"{label}: {change} since it was sealed: nothing that was measured with it counts"
        return ""

    def put_away(self) -> list[Path]:
        """Move every broken export aside, so that it is made again. Returns the new paths. A user's own data stays."""
        paths = []
        for seal in self.seals.values():
            if not seal.path.is_relative_to(self.exports) or not seal.broken():
                continue
            folder = seal.path.relative_to(self.exports).parts[0]
            export = seal.path if folder == CONFIGS else self.exports / folder
            # Two seals may lie in one export, which is moved once.
            if os.path.lexists(export):
                paths.append(export.rename(self.exports / f".tampered-{secrets.token_hex(4)}-{export.name}"))
        return paths


CONFIGS = "configs"
"""The folder of exports with a file for each arm's settings, of which one alone is put away."""


def read(record: Path) -> dict[str, Sealed] | None:
    """The recorded hashes; None if there is no record. LabError: the record is damaged."""
    try:
        value = json.loads(record.read_bytes())
        return {name: Sealed(sha256, Look(*look)) for name, (sha256, look) in value.items()}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise LabError(f"{record}: not as Autolab wrote it; `autolab doctor --fix` puts it aside") from None


def _looks(path: Path, within: Container[str] | None, without: frozenset[str] = frozenset()) -> dict[str, Look]:
    """Every file and folder below `path`, or `path` itself if it is a file; empty if it does not exist.

    With `within`, folders that are not in it are listed and not entered: a new folder breaks a seal, however deep."""
    if not path.is_dir():
        return {".": _look(path)} if os.path.lexists(path) else {}
    looks, folders = {}, [""]
    # The list grows while it is read: recursion would fail on a tree that a trial made deep on purpose.
    for folder in folders:
        with os.scandir(path / folder) as entries:
            for entry in entries:
                name = folder + entry.name
                if name in without:
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    looks[name] = _look(path / name)
                    continue
                name += "/"
                looks[name] = _FOLDER
                if within is None or name in within:
                    folders.append(name)
    return looks


def _look(path: Path) -> Look:
    # A link to a file counts as that file: its content is what programs read.
    facts = os.stat(path) if path.is_file() else os.lstat(path)
    return Look(stat.S_IFMT(facts.st_mode), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def _hash(path: Path, look: Look) -> str:
    if stat.S_ISREG(look.kind):
        return sha256_of_file(path)
    if stat.S_ISLNK(look.kind):
        return f"link to {os.readlink(path)}"
    # A pipe or a socket may never be opened: reading it could wait forever.
    return "neither file nor link"
