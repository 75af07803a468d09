"""What a preparing command made, as a folder of the store: new files of its copy of the repository and of its home.

Committed files that it changed are not kept, as git holds them. Each file is moved, read-only, and nothing is followed:
a link is kept if it stays within the result.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from autolab.errors import LabError
from autolab.files import write_whole
from autolab.lab.schemas.fetch_record import FetchedPart, FetchRecord
from autolab.sandbox.collect import remove_tree
from autolab.trials import fetched_data
from autolab.trials.seal import Seal

NOT_DATA = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"})
TEMPORARY = ".tmp"
"""The folder of a home for temporary files."""
NOT_OF_HOME = (
    TEMPORARY,
    *(".config", ".local", ".npm", ".python_history", ".cache/pip", ".cache/uv", ".cache/matplotlib"),
    *(".cache/fontconfig", ".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".cache/mesa_shader_cache"),
)
"""Names in a home that are no data, or that hold keys."""
NAMED = 5
"""Files that a note names at most."""


@dataclass
class FetchResult:
    """The result while it is put together in `folder`; `notes` are for the user."""

    folder: Path
    data: tuple[Path, ...] = ()
    """Where the data lies that the command was given: links to it are no result."""
    notes: list[str] = field(default_factory=list)
    parts: dict[str, FetchedPart] = field(default_factory=dict)

    def add_repository(self, copy: Path, code: Path) -> None:
        """The new files of a `copy` of the commit's files in `code`."""
        changed = []
        new = []
        for name in _files(copy):
            if not os.path.lexists(code / name):
                new.append(name)
            elif not _equal(copy / name, code / name):
                changed.append(name)
        if changed:
            self.notes.append(f"changed and not kept, as git holds them: {_some(changed)}")
        self._take(fetched_data.REPOSITORY, copy, new)

    def add_home(self, home: Path) -> None:
        names = []
        for name in _files(home):
            if not any(f"{name}/".startswith(f"{other}/") for other in NOT_OF_HOME):
                names.append(name)
        self._take(fetched_data.IN_HOME, home, names)

    def _take(self, part: str, source: Path, names: list[str]) -> None:
        """Move the files of these names to the result, read-only."""
        top = self.folder / part
        left_out = []
        size = count = 0
        for name in names:
            path, target = source / name, top / name
            facts = path.lstat()
            if stat.S_ISLNK(facts.st_mode) and not _stays_within(source, path):
                if not any(Path(os.readlink(path)).is_relative_to(place) for place in self.data):
                    left_out.append(name)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target)
            count += 1
            if stat.S_ISREG(facts.st_mode):
                # Readable for all: if root started this, trials run as other users.
                os.chmod(target, 0o555 if facts.st_mode & 0o100 else 0o444)
                size += facts.st_size
            if os.geteuid() == 0:
                os.lchown(target, 0, 0)
        if left_out:
            self.notes.append(f"not kept, as these links lead out of what was made: {_some(left_out)}")
        if count:
            _open_folders(top)
            self.parts[part] = FetchedPart(files=count, bytes=size, sha256=Seal.of(top).sha256)

    def keep(self, store: Path, name: str, record: FetchRecord) -> None:
        """Put the result into the store, in place of an earlier one: whole or not at all."""
        write_whole(self.folder / fetched_data.RECORD, record.to_json(), mode=0o644)
        os.chmod(self.folder, 0o755)
        store.mkdir(exist_ok=True)
        old = self.folder.with_name("old")
        if (store / name).exists():
            os.rename(store / name, old)
        os.rename(self.folder, store / name)
        if old.exists():
            remove_tree(old)


def _files(top: Path) -> Iterator[str]:
    """Names of regular files and links below `top`, sorted in each folder; no folder is entered through a link."""
    folders = [""]
    for folder in folders:
        with os.scandir(top / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = folder + entry.name
                if entry.name in NOT_DATA:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield name


def _equal(path: Path, other: Path) -> bool:
    if path.is_symlink() or other.is_symlink():
        return path.is_symlink() and other.is_symlink() and os.readlink(path) == os.readlink(other)
    if path.stat().st_size != other.stat().st_size:
        return False
    return path.read_bytes() == other.read_bytes()


def _stays_within(top: Path, link: Path) -> bool:
    """Whether a relative link leads to something in `top`; an absolute one would lead nowhere after the move."""
    target = os.readlink(link)
    if os.path.isabs(target):
        return False
    return Path(os.path.normpath(link.parent / target)).is_relative_to(top)


def _open_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        if os.geteuid() == 0:
            os.lchown(folder, 0, 0)
        os.chmod(folder, 0o755)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def require_something(result: FetchResult, command: str) -> None:
    """LabError: the command made no file that could be kept."""
    if not result.parts:
        noted = f" ({'; '.join(result.notes)})" if result.notes else ""
        raise LabError(f"{command}: ended well, and made no new file in the repository or in its home{noted}")
