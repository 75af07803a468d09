"""Whether the files that a run's trials share are still what they were: code, data, labels, evaluator, settings.

Sealing hashes every file once and keeps the hashes in the store. From then on a look compares kind, size, times and
inode alone; only a file that differs there is hashed again. A file that was changed, added or taken away breaks the
seal, and so does a folder. An export with a broken seal is put away, so that it is made again from git.

Covered: whatever wrote, from when an export was first sealed, also while no engine ran. Not covered: a program that
may write into the store (containment `none`) and forges the kept hashes too while no engine runs; who can set the
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


_FOLDER = Look(stat.S_IFDIR)  # its times say nothing that its files do not


class Sealed(NamedTuple):
    """One file: the hash of its content (of a link that leads to no file, of where it points), and its look then."""

    sha256: str
    look: Look


Files = Mapping[str, Sealed]
"""By relative name: `a/b` a file, `a/` a folder, `.` the whole, where that is one file."""


@dataclass
class Seal:
    """A file or a folder with everything in it, and what each file in it held. Rights may change.

    Once it was seen broken it stays so, also when the file is put back: something was measured meanwhile."""

    path: Path
    files: dict[str, Sealed]
    seen: str = ""

    @classmethod
    def of(cls, path: Path, known: Files | None = None) -> Seal:
        """Hash what is there, but for the files that look as they do in `known`. Raises OSError."""
        files = {}
        for name, look in _looks(path, None).items():
            before = (known or {}).get(name)
            files[name] = before if before and before.look == look else Sealed(_hash(path / name, look), look)
        return cls(path, files)

    @property
    def sha256(self) -> str:
        """Over the names and contents of all files, in the order of the names' parts."""
        names = [name for name, one in self.files.items() if stat.S_ISREG(one.look.kind)]
        ordered = sorted(names, key=lambda name: name.split("/"))
        return sha256_of("\n".join(f"{name} {self.files[name].sha256}" for name in ordered))

    def broken(self) -> str:
        """The first file that is not what it was, and how it changed; empty if all are. Costs a stat a file."""
        if not self.seen:
            found = _looks(self.path, self.files)
            names = sorted(self.files.keys() | found.keys())
            changes = ((name, self._change(name, found.get(name))) for name in names)
            told = (f"{name if name != '.' else self.path.name} was {how}" for name, how in changes if how)
            self.seen = next(told, "")
        return self.seen

    def _change(self, name: str, look: Look | None) -> str:
        sealed = self.files.get(name)
        if sealed is None:
            return "added"
        if look is None:
            return "taken away"
        if look != sealed.look:
            if look[:2] != sealed.look[:2] or _hash(self.path / name, look) != sealed.sha256:
                return "changed"
            self.files[name] = Sealed(sealed.sha256, look)
        return ""


@dataclass
class Seals:
    """All that the trials of a run share. Exports lie below `exports`; their hashes are kept in the folder `kept`."""

    exports: Path
    kept: Path
    seals: dict[str, Seal] = field(default_factory=dict)

    def add(self, what: str, path: Path) -> None:
        """Hold a file or folder below `exports` to the hashes that it had when it was first sealed.

        Its name says all of its content, so that it is the same again when it is made again. `what` is its name in
        messages."""
        record = self.kept / f"{'-'.join(path.relative_to(self.exports).parts)}.json"
        known = read(record)
        self.seals[what] = Seal.of(path) if known is None else Seal(path, dict(known))
        if not self.seals[what].broken() and self.seals[what].files != known:
            write_whole(record, json.dumps(self.seals[what].files))

    def add_own(self, what: str, path: Path) -> str:
        """Seal a user's own folder as it is now, which may be another than last time; its hash."""
        record = self.kept / f"own-{sha256_of(os.fsencode(path))[:16]}.json"
        known = read(record)
        self.seals[what] = Seal.of(path, known)
        if self.seals[what].files != known:
            write_whole(record, json.dumps(self.seals[what].files))
        return self.seals[what].sha256

    def broken(self) -> str:
        """What of it is not what it was, in one line; empty if all is."""
        for what, seal in self.seals.items():
            how = seal.broken()
            if how:
                return f"{what}: {how} since it was sealed: nothing that was measured with it counts"
        return ""

    def put_away(self) -> list[Path]:
        """Move every broken export aside, so that it is made again; where they lie now. A user's own stays."""
        moved = []
        for seal in self.seals.values():
            if seal.path.is_relative_to(self.exports) and seal.broken():
                folder = seal.path.relative_to(self.exports).parts[0]
                export = seal.path if folder == CONFIGS else self.exports / folder
                if os.path.lexists(export):
                    moved.append(export.rename(self.exports / f".tampered-{secrets.token_hex(4)}-{export.name}"))
        return moved


CONFIGS = "configs"
"""The folder of exports with a file for each arm's settings, of which one alone is put away."""


def read(record: Path) -> dict[str, Sealed] | None:
    """The hashes that were kept, None where there are none. LabError: the file is not what was written."""
    try:
        kept = json.loads(record.read_bytes())
        return {name: Sealed(sha256, Look(*look)) for name, (sha256, look) in kept.items()}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise LabError(f"{record}: not as Autolab wrote it; `autolab doctor --fix` puts it aside") from None


def _looks(path: Path, within: Container[str] | None) -> dict[str, Look]:
    """Every file below `path`, or `path` itself; nothing where there is nothing. No recursion.

    With `within`, folders that are not in it are named and not entered: however deep they are, they are news."""
    if not path.is_dir():
        return {".": _look(path)} if os.path.lexists(path) else {}
    found, folders = {}, [""]
    for folder in folders:
        with os.scandir(path / folder) as entries:
            for entry in entries:
                name = folder + entry.name
                if not entry.is_dir(follow_symlinks=False):
                    found[name] = _look(path / name)
                    continue
                found[f"{name}/"] = _FOLDER
                if within is None or f"{name}/" in within:
                    folders.append(f"{name}/")
    return found


def _look(path: Path) -> Look:
    """Of a link that leads to a file, that file's: it is what programs read."""
    facts = os.stat(path) if path.is_file() else os.lstat(path)
    return Look(stat.S_IFMT(facts.st_mode), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def _hash(path: Path, look: Look) -> str:
    if stat.S_ISREG(look.kind):
        return sha256_of_file(path)
    return f"link to {os.readlink(path)}" if stat.S_ISLNK(look.kind) else "neither file nor link"
