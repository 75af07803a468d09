"""Collects what an attempt left: regular files only, within limits, under names that cannot deceive.

It is called when no process of the attempt lives. A process that does live could not lead the way out of the folder
either: every name is opened below a descriptor of its folder, and no link is followed. Nothing is unpacked and nothing
is unpickled. There is no recursion, so that no depth of folders breaks it.

A name is stored as it is if it is plain: printable ASCII without `%` and without `<>:"/\\|?*`. Every other byte is
stored as `%XX`; so is the first byte of a name that Autolab itself writes. Two names never become one, and
`unquote_to_bytes` of `urllib.parse` gives back the original name.

What some program would run, or take its settings from, is no result (`executed_names.not_a_result`): a `conftest.py`,
a `.git`, a Makefile. It goes into ARCHIVE, a file that no program looks into, and is not stored under its own name.
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
class OutputRules:
    """What a job declares about the files that it leaves.

    `results`: paths that are read later; they are stored under their own names even if they look like settings
    (`metrics.yaml`), but not if a program runs them by itself. `discarded`: folders at the top that are dropped."""

    results: frozenset[str] = frozenset()
    discarded: frozenset[str] = frozenset()


NO_RULES = OutputRules()


def collect(source: Path, exit_file: Path, destination: Path, limits: Limits, rules: OutputRules = NO_RULES) -> None:
    """Copies an attempt's folder and its exit document to `destination`, which appears whole or not at all.

    Takes readable regular files with one link; modes are not copied. What is no result goes into ARCHIVE. LEFT_OUT_FILE
    names what is left out or lies in ARCHIVE alone, with the reason. `exceeded` says whether a limit on bytes or
    entries was passed: files that still fit are taken, logs and files near the top first. Raises OSError, and
    ExecutorError for a destination that holds something else."""
    exit_document = exit_file.read_bytes()
    if os.path.lexists(destination):
        # A crash came after the rename below: then this attempt is there, whole.
        collected = destination / EXIT_FILE
        if not collected.is_file() or collected.read_bytes() != exit_document:
            raise ExecutorError(f"{destination} exists and does not hold this attempt; move it away")
        return
    # Renamed at the end: a reader sees all of an attempt, or nothing.
    temp = destination.parent / f".{destination.name}.part"
    remove_tree(temp)
    temp.mkdir(parents=True)
    top = os.open(source, _FOLDER)
    try:
        collection = _Collection(top, temp, limits, rules)
        collection.take_all()
        collection.close_archive()
    finally:
        os.close(top)
    if collection.count:
        left_out = {"count": collection.count, "left_out": collection.left_out, "over": collection.over}
        files.write_whole(temp / LEFT_OUT_FILE, json.dumps(left_out))
    files.write_whole(temp / EXIT_FILE, exit_document)
    os.rename(temp, destination)
    files.sync_folder(destination.parent)


def exceeded(collected: Path) -> str:
    """How the attempt collected in this folder passed a limit on bytes or entries, in one line; empty if it did not."""
    path = collected / LEFT_OUT_FILE
    return str(json.loads(path.read_bytes())["over"]) if path.exists() else ""


def reason_left_out(collected: Path, path: str) -> str:
    """Why the attempt collected in this folder is without the file stored at `path`; empty if no reason is recorded."""
    record = collected / LEFT_OUT_FILE
    if record.exists():
        for entry in json.loads(record.read_bytes())["left_out"]:
            if entry["path"] == path:
                return str(entry["reason"])
    return ""


def stored(name: bytes) -> str:
    """The name under which a file of this name is stored."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name)


def stored_path(path: str) -> str:
    """Where a file is stored that a trial left at this relative path."""
    return "/".join(stored(os.fsencode(part)) for part in path.split("/"))


def _stored_at(names: Names) -> str:
    path = "/".join(map(stored, names))
    # A file of the attempt must not take the place of one that Autolab writes beside it.
    if len(names) == 1 and path.lower() in (EXIT_FILE, LEFT_OUT_FILE, ARCHIVE):
        return f"%{names[0][0]:02X}{path[1:]}"
    return path


@dataclass
class _Collection:
    """One attempt while it is collected: what was taken so far, and what was left out."""

    top: int
    destination: Path
    limits: Limits
    rules: OutputRules
    archive: zipfile.ZipFile | None = None
    entries: int = 0
    taken_bytes: int = 0
    count: int = 0
    over: str = ""
    left_out: list[dict[str, str]] = field(default_factory=list)

    def take_all(self) -> None:
        """Level by level, logs first, then in the order of names, until the limit on entries ends it."""
        waiting: deque[Names] = deque([()])
        while waiting:
            folder = waiting.popleft()
            try:
                descriptor = self.open_folder(folder)
            except OSError as error:
                self.leave_out(folder, _reason(error))
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
        """Takes the files of one folder. Returns its own folders, which are made at the destination."""
        with os.scandir(descriptor) as scanned:
            # One more than may be taken, which shows that there are too many: a folder may hold millions.
            entries = list(islice(scanned, self.limits.entries - self.entries + 1))
        inner = []
        for entry in sorted(entries, key=lambda entry: (entry.name != LOGS, entry.name)):
            names = (*folder, os.fsencode(entry.name))
            # Only at the top: below it the name is the program's to choose.
            if not folder and entry.name in self.rules.discarded:
                continue
            self.entries += 1
            if problem := self.too_many() or self.unfit(names):
                self.leave_out(names, problem)
            elif entry.is_dir(follow_symlinks=False):
                if not self.not_a_result(names, folder=True):
                    (self.destination / _stored_at(names)).mkdir(mode=0o755)
                inner.append(names)
            elif entry.is_file(follow_symlinks=False):
                self.take_file(descriptor, names)
            else:
                self.leave_out(names, "a link" if entry.is_symlink() else "a pipe, socket or device")
        return inner

    def unfit(self, names: Names) -> str:
        path = _stored_at(names)
        if len(names) > self.limits.depth:
            return f"deeper than {self.limits.depth}"
        if len(path.rpartition("/")[2]) > self.limits.name_bytes:
            return f"its name is longer than {self.limits.name_bytes} bytes"
        if len(path) > self.limits.path_bytes:
            return f"its path is longer than {self.limits.path_bytes} bytes"
        return ""

    def too_many(self) -> str:
        if self.entries <= self.limits.entries:
            return ""
        self.over = f"it left more than {self.limits.entries} files and folders"
        return self.over

    def take_file(self, folder: int, names: Names) -> None:
        try:
            descriptor = os.open(names[-1], _FILE, dir_fd=folder)
        except OSError as error:
            self.leave_out(names, _reason(error))
            return
        try:
            # Facts of the open file: whatever its name is exchanged for now does not matter.
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self.leave_out(names, "exchanged while it was collected")
            elif facts.st_nlink != 1:
                # Another name of it may lie outside of the attempt's folder.
                self.leave_out(names, f"a file with {facts.st_nlink} links")
            elif self.taken_bytes + facts.st_size > self.limits.total_bytes:
                self.over = self.over or f"it left more than {self.limits.total_bytes} bytes"
                size = f"{facts.st_size} bytes, with which there are more than {self.limits.total_bytes}"
                self.leave_out(names, size)
            else:
                self.taken_bytes += facts.st_size
                self.store(descriptor, facts, names)
        finally:
            os.close(descriptor)

    def store(self, descriptor: int, facts: os.stat_result, names: Names) -> None:
        """Copies an open file to its own name, or into the archive if no program should come across that name."""
        reason = self.not_a_result(names)
        if not reason:
            _copy(descriptor, facts.st_size, self.destination / _stored_at(names))
            return
        if self.archive is None:
            self.archive = zipfile.ZipFile(self.destination / ARCHIVE, "x")
        # Without a time of its own: the same files give the same archive.
        member = zipfile.ZipInfo(_stored_at(names))  # plain names without `..`, whoever unpacks it
        member.external_attr = 0o644 << 16
        if facts.st_blocks * 512 < facts.st_size:
            member.compress_type = zipfile.ZIP_DEFLATED  # a file with holes would fill the disk
        with self.archive.open(member, "w", force_zip64=True) as writer:
            for block in _blocks(descriptor, facts.st_size):
                writer.write(block)
        self.leave_out(names, f"{reason}: in {ARCHIVE} alone")

    def not_a_result(self, names: Names, *, folder: bool = False) -> str:
        path = "/".join(os.fsdecode(name) for name in names)
        if folder:
            path += "/inside"  # of a folder that ends with .py only the files in it matter
        if path in self.rules.results:
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

    def leave_out(self, names: Names, reason: str) -> None:
        self.count += 1
        if len(self.left_out) < LEFT_OUT_NAMES:
            self.left_out.append({"path": _stored_at(names)[: self.limits.path_bytes], "reason": reason})


def _reason(error: OSError) -> str:
    """Why one entry could not be opened; what is wrong with the whole disk is raised."""
    if isinstance(error, PermissionError):
        return "cannot be read"
    if error.errno in _EXCHANGED:
        return "exchanged while it was collected"
    raise error


def _blocks(descriptor: int, size: int) -> Iterator[bytes]:
    """What an open file holds, at most `size` bytes: it may grow or shrink meanwhile."""
    remaining = size
    while remaining and (block := os.read(descriptor, min(remaining, BLOCK))):
        remaining -= len(block)
        yield block


def _copy(descriptor: int, size: int, destination: Path) -> None:
    """At most `size` bytes, of which those that are a block of zeros become a hole."""
    with open(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as writer:
        for block in _blocks(descriptor, size):
            if block == _ZEROS:
                writer.seek(BLOCK, os.SEEK_CUR)
            else:
                writer.write(block)
        writer.truncate()  # a hole at the end is not written
        os.fchmod(writer.fileno(), 0o644)  # whatever the umask: another user scores it
        os.fsync(writer.fileno())


def regular_files(top: Path, besides: Path) -> Iterator[str]:
    """Paths of the regular files below `top`, which a program may have filled with anything; none in `besides`.

    Follows no link and does not recurse. Raises OSError."""
    waiting = [str(top)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as scanned:
                entries = list(scanned)
        except OSError as error:
            # So deep that no path leads there: git and readers cannot get there either.
            if error.errno != errno.ENAMETOOLONG:
                raise
            continue
        for entry in entries:
            if entry.path == str(besides):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def remove_any(path: Path) -> None:
    """Removes what has this name, if anything: a folder with all in it, a file, a link. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(top: Path) -> None:
    """Removes a folder in which no process works any more; nothing to do if there is none.

    Follows no link and does not recurse, so any depth will do (`shutil.rmtree` fails at some 1,000). Raises OSError."""
    if not os.path.lexists(top):
        return
    if not stat.S_ISDIR(os.lstat(top).st_mode):
        raise NotADirectoryError(20, "Not a folder", str(top))
    folders = [top]
    for folder in folders:
        os.chmod(folder, 0o700)  # a program may have taken its own rights away
        with os.scandir(folder) as entries:
            content = list(entries)
        for entry in content:
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
            elif folder == top:
                folders.append(path)
            else:
                # Moved up to `top`: the path of a deeply nested folder is too long to be removed.
                os.chmod(path, 0o700)  # a folder that cannot be written cannot be moved
                folders.append(path.rename(top / secrets.token_hex(16)))
    for folder in reversed(folders):
        folder.rmdir()


class InvalidFile(Exception):
    """What is wrong with an artifact, in words that follow its name."""


def open_regular(path: Path, limit: int) -> BufferedReader:
    """Open a regular file of at most `limit` bytes without following a link or waiting on a pipe.

    InvalidFile: it is missing, no regular file, or larger."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidFile("not found") from None
    except OSError as error:
        if path.is_symlink():
            raise InvalidFile("a link, which is not followed") from None
        raise InvalidFile(f"cannot be opened: {error.strerror}") from None
    facts = os.fstat(descriptor)
    is_regular = stat.S_ISREG(facts.st_mode)
    if is_regular and facts.st_size <= limit:
        return open(descriptor, "rb")
    os.close(descriptor)
    if is_regular:
        raise InvalidFile(f"{facts.st_size} bytes, more than the {limit} allowed")
    raise InvalidFile("not a regular file")
