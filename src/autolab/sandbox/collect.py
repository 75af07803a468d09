"""Bringing home what an attempt left: regular files alone, within caps, under names that cannot deceive.

For folders in which nothing lives any more; one that does live cannot lead the way out of the folder either, since
every name is opened below a descriptor of its folder and no link is followed. Nothing is unpacked and nothing is
unpickled. There is no recursion, so that no depth of folders breaks it.

A name is stored as it is if it is plain: printable ASCII without `%` and without `<>:"/\\|?*`. Every other byte is
stored as `%XX`; so is the first one of a name that is ours. Two names never become one, and `unquote_to_bytes` of
`urllib.parse` gives back the name that was.

What some program would run, or take its settings from, is no result (`executed_names.not_a_result`): a `conftest.py`,
a `.git`, a Makefile. It is kept in one file that no program looks into, ARCHIVE, and is not stored under its own name.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import islice
from pathlib import Path

from autolab import files
from autolab.errors import ExecutorError
from autolab.sandbox import executed_names

EXIT_FILE = "exit.json"
"""Of a collected attempt: its Exit, as a document."""
LEFT_OUT_FILE = "left_out.json"
"""Of a collected attempt: {"count", "left_out": [{"path", "reason"}], "over"}; absent if all was taken."""
ARCHIVE = "not_results.zip"
"""Of a collected attempt: its code, settings and hidden files, under the paths that they had; absent without any."""
LEFT_OUT_NAMES = 100
"""Entries that are named in it; `count` counts them all."""
LOGS = "logs"
BLOCK = 1 << 20
_ZEROS = bytes(BLOCK)
_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b'%<>:"/\\|?*')
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe in its place would block
_EXCHANGED = (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENXIO)

Names = tuple[bytes, ...]
"""A place below the attempt's folder, as the file system names it."""


@dataclass(frozen=True)
class Limits:
    """Caps on what one attempt may leave. Bytes are the sum of the files' lengths, holes included; entries are files,
    folders and whatever else has a name; depth is that of folders; names and paths are measured as they are stored."""

    total_bytes: int = 4_000_000_000
    entries: int = 10_000
    depth: int = 32
    name_bytes: int = 255
    path_bytes: int = 2_000


@dataclass(frozen=True)
class Known:
    """What is known of an attempt's files beforehand.

    `results`: paths that are read later; they are stored loose even if they look like settings (`metrics.yaml`), but
    not if a program runs them by itself. `discarded`: folders at the top that are no part of what it left."""

    results: frozenset[str] = frozenset()
    discarded: frozenset[str] = frozenset()


NOTHING = Known()


def collect(source: Path, exit_file: Path, destination: Path, limits: Limits, known: Known = NOTHING) -> None:
    """Copies an attempt's folder and its exit document to `destination`, which appears whole or not at all.

    Takes readable regular files with one link; modes are not copied. What is no result goes into ARCHIVE. What is left
    out, or lies there alone, is named in LEFT_OUT_FILE with its reason, and `exceeded` says whether a cap on bytes or
    entries was passed: files that still fit are taken, shallow ones and logs first. Raises OSError, and ExecutorError
    for a destination that holds something else."""
    if os.path.lexists(destination):
        if not (destination / EXIT_FILE).is_file() or (destination / EXIT_FILE).read_bytes() != exit_file.read_bytes():
            raise ExecutorError(f"{destination} exists and does not hold this attempt; move it away")
        return
    temp = destination.parent / f".{destination.name}.part"
    remove_tree(temp)
    temp.mkdir(parents=True)
    top = os.open(source, _FOLDER)
    try:
        taking = _Taking(top, temp, limits, known)
        taking.take_all()
        taking.close_archive()
    finally:
        os.close(top)
    if taking.count:
        files.write_whole(temp / LEFT_OUT_FILE, json.dumps(taking.told()))
    files.write_whole(temp / EXIT_FILE, exit_file.read_bytes())
    os.rename(temp, destination)
    files.sync_folder(destination.parent)


def exceeded(collected: Path) -> str:
    """How the attempt collected in this folder passed a cap on bytes or entries, in one line; empty if it did not."""
    path = collected / LEFT_OUT_FILE
    return str(json.loads(path.read_bytes())["over"]) if path.exists() else ""


def reason_left_out(collected: Path, path: str) -> str:
    """Why the attempt collected in this folder is without the file stored at `path`; empty if it is not named."""
    record = collected / LEFT_OUT_FILE
    if not record.exists():
        return ""
    named = json.loads(record.read_bytes())["left_out"]
    return next((str(one["reason"]) for one in named if one["path"] == path), "")


def stored(name: bytes) -> str:
    """The name under which a file of this name is kept."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name)


def stored_path(path: str) -> str:
    """Where a file is kept that a trial left at this relative path."""
    return "/".join(stored(os.fsencode(part)) for part in path.split("/"))


def _stored_at(names: Names) -> str:
    path = "/".join(map(stored, names))
    ours = len(names) == 1 and path.lower() in (EXIT_FILE, LEFT_OUT_FILE, ARCHIVE)
    return f"%{names[0][0]:02X}{path[1:]}" if ours else path


@dataclass
class _Taking:
    """One attempt on its way home: what was taken so far, and what was not."""

    top: int
    destination: Path
    limits: Limits
    known: Known
    archive: zipfile.ZipFile | None = None
    entries: int = 0
    taken_bytes: int = 0
    count: int = 0
    over: str = ""
    named: list[dict[str, str]] = field(default_factory=list)

    def take_all(self) -> None:
        """Level by level, in the order of names but logs first, until the cap on entries ends it."""
        waiting: deque[Names] = deque([()])
        while waiting:
            folder = waiting.popleft()
            try:
                descriptor = self.open_folder(folder)
            except OSError as error:
                self.leave(folder, _why(error))
                continue
            try:
                waiting += self.take_folder(descriptor, folder)
            finally:
                os.close(descriptor)
            if self.entries > self.limits.entries:
                return

    def open_folder(self, names: Names) -> int:
        descriptor = os.open(".", _FOLDER, dir_fd=self.top)
        for name in names:
            try:
                inner = os.open(name, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def take_folder(self, descriptor: int, folder: Names) -> list[Names]:
        """Takes the files of one folder; its own folders come back, made at the destination."""
        with os.scandir(descriptor) as scanned:
            found = list(islice(scanned, self.limits.entries - self.entries + 1))
        inner = []
        for entry in sorted(found, key=lambda entry: (entry.name != LOGS, entry.name)):
            names = (*folder, os.fsencode(entry.name))
            if not folder and entry.name in self.known.discarded:
                continue
            self.entries += 1
            if problem := self.too_many() or self.unfit(names):
                self.leave(names, problem)
            elif entry.is_dir(follow_symlinks=False):
                if not self.not_a_result(names, folder=True):
                    (self.destination / _stored_at(names)).mkdir(mode=0o755)
                inner.append(names)
            elif entry.is_file(follow_symlinks=False):
                self.take_file(descriptor, names)
            else:
                self.leave(names, "a link" if entry.is_symlink() else "a pipe, socket or device")
        return inner

    def unfit(self, names: Names) -> str:
        path = _stored_at(names)
        if len(names) > self.limits.depth:
            return f"deeper than {self.limits.depth}"
        if len(path.rpartition("/")[2]) > self.limits.name_bytes:
            return f"its name is longer than {self.limits.name_bytes} bytes"
        return f"its path is longer than {self.limits.path_bytes} bytes" if len(path) > self.limits.path_bytes else ""

    def too_many(self) -> str:
        if self.entries > self.limits.entries:
            self.over = f"it left more than {self.limits.entries} files and folders"
        return self.over if self.entries > self.limits.entries else ""

    def take_file(self, folder: int, names: Names) -> None:
        try:
            descriptor = os.open(names[-1], _FILE, dir_fd=folder)
        except OSError as error:
            self.leave(names, _why(error))
            return
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self.leave(names, "exchanged while it was collected")
            elif facts.st_nlink != 1:
                self.leave(names, f"a file with {facts.st_nlink} links")
            elif self.taken_bytes + facts.st_size > self.limits.total_bytes:
                self.over = self.over or f"it left more than {self.limits.total_bytes} bytes"
                self.leave(names, f"{facts.st_size} bytes, with which there are more than {self.limits.total_bytes}")
            else:
                self.taken_bytes += facts.st_size
                self.store(descriptor, facts, names)
        finally:
            os.close(descriptor)

    def store(self, descriptor: int, facts: os.stat_result, names: Names) -> None:
        """Copies an open file to its own name, or into the archive if no program should come across that name."""
        why = self.not_a_result(names)
        if not why:
            _copy(descriptor, facts.st_size, self.destination / _stored_at(names))
            return
        if self.archive is None:
            self.archive = zipfile.ZipFile(self.destination / ARCHIVE, "x")
        member = zipfile.ZipInfo(_stored_at(names))  # plain names without `..`, whoever unpacks it
        member.external_attr = 0o644 << 16
        has_holes = facts.st_blocks * 512 < facts.st_size
        member.compress_type = zipfile.ZIP_DEFLATED if has_holes else zipfile.ZIP_STORED
        left = facts.st_size
        with self.archive.open(member, "w", force_zip64=True) as writer:
            while left and (block := os.read(descriptor, min(left, BLOCK))):
                left -= len(block)
                writer.write(block)
        self.leave(names, f"{why}: in {ARCHIVE} alone")

    def not_a_result(self, names: Names, *, folder: bool = False) -> str:
        path = "/".join(os.fsdecode(name) for name in names)
        if folder:
            path += "/inside"  # of a folder that ends with .py only the files in it matter
        if path in self.known.results:
            return executed_names.runs_by_itself(path) or ""
        return executed_names.not_a_result(path) or ""

    def close_archive(self) -> None:
        """Makes the archive durable and readable for others, as the loose files are."""
        if self.archive is None:
            return
        self.archive.close()
        with open(self.destination / ARCHIVE, "rb") as file:
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())

    def leave(self, names: Names, reason: str) -> None:
        self.count += 1
        if len(self.named) < LEFT_OUT_NAMES:
            self.named.append({"path": _stored_at(names)[: self.limits.path_bytes], "reason": reason})

    def told(self) -> dict[str, object]:
        return {"count": self.count, "left_out": self.named, "over": self.over}


def _why(error: OSError) -> str:
    """Why one entry could not be opened; what is wrong with the whole disk is raised."""
    if isinstance(error, PermissionError):
        return "cannot be read"
    if error.errno in _EXCHANGED:
        return "exchanged while it was collected"
    raise error


def _copy(descriptor: int, size: int, destination: Path) -> None:
    """At most `size` bytes, of which those that are a block of zeros become a hole."""
    with open(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb", buffering=0) as writer:
        left = size
        while left and (block := os.read(descriptor, min(left, BLOCK))):
            left -= len(block)
            if block == _ZEROS:
                writer.seek(BLOCK, os.SEEK_CUR)
            else:
                _write(writer.fileno(), block)
        writer.truncate(size - left)
        os.fchmod(writer.fileno(), 0o644)  # whatever the umask: who scores it is another user
        os.fsync(writer.fileno())


def _write(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def regular_files(top: Path, besides: Path) -> Iterator[str]:
    """Paths of the regular files below `top`, which a program may have filled with anything; none in `besides`.

    Follows no link and does not recurse. Raises OSError."""
    left = [str(top)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                found = [entry for entry in entries if entry.path != str(besides)]
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # so deep that no path leads there, for git and readers neither
                raise
            continue
        left += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        yield from (entry.path for entry in found if entry.is_file(follow_symlinks=False))


def remove_any(path: Path) -> None:
    """Removes whatever has this name, if anything has: a folder with all in it, a file, a link. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(top: Path) -> None:
    """Removes a folder in which nothing lives any more; nothing to do where there is none.

    Follows no link and does not recurse: nested folders are first moved up to `top`, so any depth will do
    (`shutil.rmtree` fails at some 1,000). Raises OSError."""
    if not os.path.lexists(top):
        return
    if not stat.S_ISDIR(os.lstat(top).st_mode):
        raise NotADirectoryError(20, "Not a folder", str(top))
    folders = [top]
    for folder in folders:
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            content = list(entries)
        for entry in content:
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
            elif folder == top:
                folders.append(path)
            else:
                os.chmod(path, 0o700)  # a folder that cannot be written cannot be moved
                folders.append(path.rename(top / secrets.token_hex(16)))
    for folder in reversed(folders):
        folder.rmdir()


class InvalidFile(Exception):
    """An artifact is not what it must be, in words that follow its name."""


def open_regular(path: Path, limit: int) -> BufferedReader:
    """Open a regular file of at most `limit` bytes without following a link or waiting on a pipe. Raises Refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidFile("not found") from None
    except OSError as error:
        kind = "a link, which is not followed" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise InvalidFile(kind) from None
    status = os.fstat(descriptor)
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file"
    elif status.st_size > limit:
        reason = f"{status.st_size} bytes, more than the {limit} allowed"
    if reason:
        os.close(descriptor)
        raise InvalidFile(reason)
    return open(descriptor, "rb")
