"""The engine's documents in the user's checkout: each entry is written once, and the old text stays byte for byte.

Entries wait in `Pending` while another branch is checked out or a merge is under way. Every step may be killed and
repeated.

Cost: a journal is read and written whole, and its roll-over bounds it. `results.tsv` and the paper targets have no
roll-over: they are copied whole for each entry, but searched in their last 256 KiB only.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from autolab.errors import LabError, RecordError
from autolab.files import sha256_of, sync_folder, write_whole
from autolab.lab import crash_points
from autolab.reports.results_table import COLUMNS, columns_of, identity, in_form
from autolab.text import many_lines

Place = Literal["top", "row", "section", "file"]

ROLL_OVER = 256 * 1024
"""Bytes from which a journal moves its older part to a file of its own; KEPT bytes of whole entries stay."""
KEPT = 64 * 1024
SEARCHED = 256 * 1024
"""Bytes at the head or the tail of a file in which an id is searched."""
LONGEST = 1_000_000
"""Characters of an entry."""
ROUNDS = 5
"""Attempts at a write, if another program keeps changing the file."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_BEGIN, _END = "<!-- autolab:", "<!-- /autolab:"


@dataclass(frozen=True)
class DocumentEntry:
    """One text for one document, whose `path` is relative to the lab.

    `place`: `top` (above everything), `row` (lines of results.tsv, at the end), `section` (at the end, between
    markers), `file` (the whole file, written once). RecordError: not an id, or a path outside the lab.
    """

    id: str
    path: str
    text: str
    place: Place

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", many_lines(self.text, LONGEST))
        if not _ID.fullmatch(self.id):
            raise RecordError(f"document entry: {self.id!r} is not an id; use letters, digits and . _ : -")
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\0" in self.path:
            raise RecordError(f"document entry {self.id}: {self.path!r} is not a path inside the lab")

    @property
    def marker(self) -> str:
        return f"{_BEGIN}{self.id} -->"

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, file: str) -> DocumentEntry:
        """The entry that `to_json` wrote into `file`. RecordError: something else wrote it."""
        try:
            fields = json.loads(text)
            if not all(isinstance(field, str) for field in fields.values()) or fields["place"] not in get_args(Place):
                raise ValueError("a field has the wrong type")
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(f"{file}: not a waiting document entry: {error}") from None


@dataclass(frozen=True)
class Closed:
    """The older part of a journal, in a file of its own since a roll-over."""

    path: str
    sha256: str


@dataclass(frozen=True)
class WrittenEntry:
    """The result of a write; hashes are of the whole file. `changed` is False if the entry was there already."""

    path: str
    sha256_before: str | None
    sha256_after: str
    changed: bool
    closed: Closed | None = None


def write(root: Path, entry: DocumentEntry) -> WrittenEntry:
    """Add `entry` to its file under `root`, atomically, if its id is not there yet.

    The file keeps its mode. If the entry is a `file` and the file exists, nothing is written, whoever wrote it.
    LabError: a symbolic link, not a plain file, a full disk or a read-only folder, a table with other columns, or a
    file that keeps changing during the write.
    """
    path = _inside(root, entry.path)
    # Another program may write the same file: an editor of the user's, for one.
    try:
        for _ in range(ROUNDS):
            written = _attempt(path, entry)
            if written is not None:
                return written
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"{entry.path}: cannot be written: {reason}: make room or access, then run again") from None
    raise LabError(
        f"{entry.path}: keeps changing while an entry is added: end the program that writes it, then run again"
    )


def _attempt(path: Path, entry: DocumentEntry) -> WrittenEntry | None:
    """One attempt; None if the file changed between reading and renaming."""
    old = _Snapshot.of(path)
    before = None
    if old.data is not None:
        before = sha256_of(old.data)
    new, closed = _with_entry(old.data, entry, path), None
    if new is None:
        # Only a file that exists can hold the entry already.
        assert before is not None
        return WrittenEntry(entry.path, before, before, changed=False)
    if entry.place == "top" and len(new) > ROLL_OVER:
        new, closed = _roll(path, entry, new, old.data or b"")
    if not _replace(path, new, old):
        return None
    return WrittenEntry(entry.path, before, sha256_of(new), changed=True, closed=closed)


def _with_entry(old: bytes | None, entry: DocumentEntry, path: Path) -> bytes | None:
    """The file with the entry in it; None if the entry is there already."""
    if entry.place == "row":
        return _with_rows(old, entry)
    text = entry.text.strip("\r\n").replace("\r\n", "\n")
    # Entries are recognised by their markers, so a marker in a text would stand for another entry.
    for marker in (_BEGIN, _END):
        text = text.replace(marker, marker.replace("<", "&lt;"))
    if entry.place == "file":
        if old is not None:
            return None
        return f"{text}\n\n{entry.marker}\n".encode()
    if entry.place == "section":
        return _with_section(old or b"", entry, text)
    return _with_top(old or b"", entry, text, path)


def _with_section(old: bytes, entry: DocumentEntry, text: str) -> bytes | None:
    if entry.marker.encode() in old[-SEARCHED:]:
        return None
    section = f"{entry.marker}\n{text}\n{_END}{entry.id} -->\n".encode()
    if not old:
        return section
    # A blank line before the section, whether or not the old text ends its last line.
    if not old.endswith(b"\n"):
        old += b"\n"
    return old + b"\n" + section


def _with_top(old: bytes, entry: DocumentEntry, text: str, path: Path) -> bytes | None:
    marker = entry.marker.encode()
    if marker in old[:SEARCHED]:
        return None
    # A roll-over may have moved it away since it was written.
    _, closed = _last_closed(path)
    if closed and marker in closed[:SEARCHED]:
        return None
    new = f"{entry.marker}\n{text}\n".encode()
    if old:
        new += b"\n" + old
    return new


def _with_rows(old: bytes | None, entry: DocumentEntry) -> bytes | None:
    """The table with the rows that its tail does not hold yet; None if there are none.

    Rows take the form of the table that is there, which may have been begun before a column was added.
    """
    old = old or b""
    header = "\t".join(COLUMNS).encode()
    columns = columns_of(_decoded((old or header).split(b"\n", 1)[0]))
    if columns is None:
        names = " ".join(COLUMNS)
        raise LabError(f"{entry.path}: line 1: other columns than {names}: move the file away, then run again")
    # A run's rows are written together, but a user may have deleted one.
    identities = {identity(_decoded(row), columns) for row in old[-SEARCHED:].split(b"\n")}
    missing = b""
    for line in entry.text.split("\n"):
        if not line.strip():
            continue
        row = in_form(line, columns)
        if identity(row, columns) not in identities:
            missing += row.encode() + b"\n"
    if old and not missing:
        return None
    table = old or header
    if not table.endswith(b"\n"):
        table += b"\n"
    return table + missing


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _roll(path: Path, entry: DocumentEntry, new: bytes, old: bytes) -> tuple[bytes, Closed | None]:
    """Move the older entries of `new` to `<name>.<n>.md`; the newer part and that file are `new`, byte for byte.

    The file is on disk before the journal loses the entries. If a roll-over was killed in between, the journal still
    ends in that file's text: then the file is used as it is.
    """
    entry_ends = len(new) - len(old)
    number, last = _last_closed(path)
    # A part that does not begin with a marker is the end of the journal by chance, unless it is all of it.
    if last and old.endswith(last) and (old == last or last.startswith(_BEGIN.encode())):
        target = path.with_name(f"{path.stem}.{number}{path.suffix}")
        newer, older = new[: -len(last)], last
    else:
        target = path.with_name(f"{path.stem}.{number + 1}{path.suffix}")
        # Cut before the last entry that begins within KEPT, but never through the entry just added.
        middle = entry_ends
        for match in re.finditer(rb"(?m)^<!-- autolab:", new):
            if entry_ends <= match.start() <= KEPT:
                middle = match.start()
        newer, older = new[:middle], new[middle:]
        if not older:
            return new, None
        if not _replace(target, older, _Snapshot.of(target)):
            raise LabError(f"{target.name}: was made by another program meanwhile: move it away, then run again")
        crash_points.point("document.after_write")
    name = str(PurePosixPath(entry.path).with_name(target.name))
    return newer, Closed(name, sha256_of(older))


def _last_closed(path: Path) -> tuple[int, bytes | None]:
    """Number and content of the newest part that was moved away; 0 and None if there is none."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.([1-9][0-9]*){re.escape(path.suffix)}")
    number = 0
    for file in path.parent.glob("*"):
        match = pattern.fullmatch(file.name)
        if match:
            number = max(number, int(match[1]))
    if number == 0:
        return 0, None
    return number, _Snapshot.of(path.with_name(f"{path.stem}.{number}{path.suffix}")).data


@dataclass(frozen=True)
class _Snapshot:
    """A file's content, and the numbers that change with the file; `data` is None if there is no file."""

    data: bytes | None
    mode: int | None = None
    identity: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> _Snapshot:
        # A link would lead out of the lab, and a pipe would block for ever.
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return cls(None)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LabError(f"{path.name}: not a plain file: move it away, then run again")
            return cls(file.read(), stat.S_IMODE(status.st_mode), _identity(status))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _replace(path: Path, data: bytes, old: _Snapshot) -> bool:
    """Replace `old` by `data`; False, and nothing is written, if the file changed since it was read."""
    return write_whole(path, data, mode=old.mode, unchanged=lambda: _identity_now(path) == old.identity)


def _identity_now(path: Path) -> tuple[int, ...]:
    try:
        return _identity(os.lstat(path))
    except FileNotFoundError:
        return ()


def _inside(root: Path, relative: str) -> Path:
    """The path under `root`. LabError: a part of it is a symbolic link, or it is not a plain file."""
    path = root
    for part in PurePosixPath(relative).parts:
        path = path / part
        if path.is_symlink():
            name = path.relative_to(root)
            raise LabError(f"{name}: is a symbolic link; the engine writes plain files only: replace it by the file")
    if path.exists() and not path.is_file():
        raise LabError(f"{relative}: not a plain file: move it away, then run again")
    return path


def known(path: Path) -> dict[str, str]:
    """The hash of each document as the engine left it. LabError: the file of hashes is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        # Refused below, as any other value that is no object.
        value = None
    if not isinstance(value, dict) or not all(isinstance(sha, str) for sha in value.values()):
        raise LabError(f"{path}: not as Autolab wrote it; `autolab doctor --fix` makes it again")
    return value


class Pending:
    """The queue of entries for the checkout, one file each (`<seq>-<id>.json`), oldest first.

    If the process is killed, nothing is lost or doubled: an entry leaves the queue after it is in its document, and a
    document takes an id once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, entry: DocumentEntry) -> None:
        """Queue `entry`, unless one with its id for its path is queued already."""
        if self._files_of(entry):
            return
        number = 1
        files = self._files()
        if files:
            newest, _, _ = files[-1].name.partition("-")
            number = int(newest) + 1
        write_whole(self.folder / f"{number:012d}-{entry.id}.json", entry.to_json())
        crash_points.point("document.after_queue")

    def waiting(self) -> list[DocumentEntry]:
        return [self.read(path) for path in self._files()]

    def forget(self, entry: DocumentEntry) -> None:
        """Take a written entry out of the queue."""
        for path in self._files_of(entry):
            path.unlink()
            sync_folder(self.folder)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        # Other names are temporary files of a write that was killed.
        return sorted(path for path in self.folder.iterdir() if re.match(r"\d{12}-.+\.json$", path.name))

    def _files_of(self, entry: DocumentEntry) -> list[Path]:
        """The files of entries with this id and path; several documents share an id."""
        files = []
        for path in self._files():
            _, _, name = path.name.partition("-")
            if name == f"{entry.id}.json" and self.read(path).path == entry.path:
                files.append(path)
        return files

    def read(self, path: Path) -> DocumentEntry:
        """One queued entry. RecordError: the file cannot be read, or holds no entry."""
        way_out = "`autolab doctor --fix` puts it aside"
        try:
            return DocumentEntry.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{path}: cannot be read: {error}; {way_out}") from None
        except RecordError as error:
            raise RecordError(f"{error}; {way_out}") from None
