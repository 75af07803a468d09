"""The append-only, hash-chained record of everything that happened in a lab.

An event is one line of JSON: number, time, event, data, the hash of the line before, its own hash. A chain cannot
show that its end was cut off. So the file `head` beside it holds number, hash, size and time of the last line, and is
fsynced after each append. While size and time of the ledger fit the head, opening reads two lines, however long the
ledger is. If they do not fit, something else wrote the file, and the whole chain is checked.

Only the holder of the lab's lock passes `repair=True`: it sets a torn last line aside that the head does not count,
and moves up a head that is one line behind. Readers skip such a line and repair nothing. Any other damage raises a
LedgerError that names its place. Standard library only.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from autolab import __version__, files, text
from autolab.errors import LabError, LedgerError
from autolab.lab import crash_points, redaction

FIRST = "0" * 64
READABLE = {"0.2.0"}
"""Versions of Autolab whose records this one reads."""
BEFORE_VERSIONS = "0.1.0"
"""The version whose heads do not name a version."""
WAY_OUT = "`autolab doctor --fix` keeps a copy and makes the chain anew"


@dataclass(frozen=True)
class Line:
    """One event; `offset` is where its line begins in the file, in bytes."""

    n: int
    time: str
    event: str
    data: dict[str, Any]
    prev: str
    hash: str
    offset: int = 0


@dataclass(frozen=True)
class Head:
    """The end of the ledger after the last append, and where and on which machine the lab was."""

    lab_id: str
    path: str
    machine: str
    n: int = 0
    hash: str = FIRST
    size: int = 0
    mtime_ns: int = 0
    transition: int = -1
    """Offset of the newest transition, -1 before the first."""
    version: str = __version__
    """The Autolab that began the record: one of `READABLE`, else the lab is refused."""


def seal(n: int, time: str, event: str, data: dict[str, Any], prev: str) -> str:
    """The hash of a line: over its canonical JSON, the hash of the line before included."""
    # Sorted keys and no blanks: the same content has one text, whatever wrote it.
    body = {"n": n, "time": time, "event": event, "data": data, "prev": prev}
    return files.sha256_of(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def parse(raw: bytes, offset: int) -> Line | None:
    """The line; None if the bytes are not JSON, or are nothing that `append` writes."""
    try:
        # Python would read NaN, and 1e999 as an infinity, neither of which `append` can write.
        value = json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
        line = Line(offset=offset, **value)
    except (ValueError, TypeError, RecursionError):
        return None
    # Any JSON object with these keys has come this far. True is an int to `isinstance`.
    texts = (line.time, line.event, line.prev, line.hash)
    if type(line.n) is not int or not isinstance(line.data, dict) or not all(isinstance(part, str) for part in texts):
        return None
    # The bytes alone do not tell: `\\ud83d` is a backslash and five letters, a text like any other.
    if _MAY_BE_SURROGATE.search(raw) and text.has_surrogates([*texts, line.data]):
        return None
    return line


_MAY_BE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""A line with a lone surrogate holds these bytes. `append` writes no such line: it could not be hashed."""


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


@dataclass(frozen=True)
class LeftOut:
    """A line of a broken ledger that is not in the new chain, why, and its bytes.

    `event` and `trial` (run and trial) are empty if they cannot be read.
    """

    number: int
    event: str
    trial: str
    reason: str
    raw: bytes

    def __str__(self) -> str:
        event = self.event or "unknown event"
        subject = f"{event} {self.trial}".rstrip()
        return f"line {self.number} ({subject}): {self.reason}"


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did: the copy of the old file, the lines left out, and the file that holds them (if any)."""

    copy: Path
    left_out: tuple[LeftOut, ...] = ()
    kept: Path | None = None


@dataclass(frozen=True)
class _Chain:
    """The end of a chain: number, hashes and end of its last whole line, and the offset of its newest transition."""

    n: int = 0
    hash: str = FIRST
    prev: str = FIRST
    end: int = 0
    transition: int = -1


class Ledger:
    """The files `ledger.jsonl` and `head` in `folder`. One writer (the lock's holder), any number of readers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.head_path = folder / "head"
        self._head: Head | None = None

    def create(self, lab_id: str, root: Path) -> None:
        """Begin a ledger with an empty chain."""
        files.write_whole(self.path, b"")
        self._save_head(Head(lab_id, str(root), machine()))

    def begin_as(self, source: Ledger, last: Line, root: Path) -> None:
        """Begin as a copy of `source` up to its transition `last`, for a lab at `root`."""
        # A `Line` has no end, so the bytes are read once more.
        with open(source.path, "rb") as file:
            file.seek(last.offset)
            end = last.offset + len(file.readline())
            file.seek(0)
            files.write_whole(self.path, file.read(end))
        mtime = self.path.stat().st_mtime_ns
        lab_id = source.head.lab_id
        self._save_head(Head(lab_id, str(root), machine(), last.n, last.hash, end, mtime, last.offset))

    @property
    def head(self) -> Head:
        if self._head is None:
            self._head = self.load_head()
        return self._head

    def load_head(self) -> Head:
        """The head on disk. LedgerError: it is missing or damaged. LabError: another version made it."""
        try:
            value = json.loads(self.head_path.read_text(encoding="utf-8"))
            head = Head(**value)
        except FileNotFoundError:
            raise LedgerError(f"{self.head_path}: missing, though the lab has a ledger; {WAY_OUT}") from None
        except (ValueError, TypeError, RecursionError):
            raise self._no_head() from None
        # A dataclass does not check its types.
        for field in fields(Head):
            kind = int if field.type == "int" else str
            if type(getattr(head, field.name)) is not kind:
                raise self._no_head()
        version = value.get("version", BEFORE_VERSIONS)
        if version not in READABLE:
            raise LabError(
                f"{head.path}: made by Autolab {version}, whose record Autolab {__version__} does not read;"
                f" go on with version {version}, or begin a new lab with `autolab init`"
            )
        return head

    def _no_head(self) -> LedgerError:
        return LedgerError(f"{self.head_path}: not a head of a ledger; {WAY_OUT}")

    def open(self, *, repair: bool = False) -> Head:
        """Check that the ledger ends as its head says; the head that holds. LedgerError: it is damaged."""
        while True:
            head = self.load_head()
            try:
                facts = self.path.stat()
            except FileNotFoundError:
                raise LedgerError(f"{self.path}: missing, though its head counts {head.n} lines; {WAY_OUT}") from None
            # What an editor or a copy changed has another time, even if it has the same size.
            if (facts.st_size, facts.st_mtime_ns) == (head.size, head.mtime_ns) and self._ends_as(head):
                break
            try:
                head = self._reconcile(head, repair)
                break
            except LedgerError:
                # A reader may have looked between two writes of the writer. If the head has moved, it looks again.
                if repair or self.load_head() == head:
                    raise
        self._head = head
        return head

    def _ends_as(self, head: Head) -> bool:
        """Whether the last line and the newest transition are those that the head names."""
        last = self.line_before(head.size)
        if (head.n, head.hash) != ((last.n, last.hash) if last else (0, FIRST)):
            return False
        if head.transition < 0:
            return head.transition == -1
        newest = next(self.lines(head.transition), None)
        return newest is not None and newest.event == "transition"

    def _reconcile(self, head: Head, repair: bool) -> Head:
        """The head that fits the chain, if the chain goes at most one line beyond `head`; written with `repair`."""
        chain = self._check_chain()
        # One line more is what a crash between the line and the head leaves. Fewer, or more, is somebody else's work.
        if chain.n < head.n:
            raise LedgerError(
                f"{self.path}: has {chain.n} lines, its head counts {head.n}: the end is missing or torn; {WAY_OUT}"
            )
        if chain.n > head.n + 1:
            raise LedgerError(
                f"{self.path}: has {chain.n} lines, its head counts {head.n}: not written here; {WAY_OUT}"
            )
        if head.hash != (chain.hash if chain.n == head.n else chain.prev):
            raise LedgerError(f"{self.path}: line {head.n} is not the one its head knows; {WAY_OUT}")
        actual = replace(head, n=chain.n, hash=chain.hash, transition=chain.transition)
        if not repair:
            return actual
        # A crash in the middle of a write leaves half a line.
        if chain.end < self.path.stat().st_size:
            self._set_aside(chain.end)
        facts = self.path.stat()
        actual = replace(actual, size=facts.st_size, mtime_ns=facts.st_mtime_ns)
        self._save_head(actual)
        return actual

    def _check_chain(self) -> _Chain:
        """Check every whole line against its hash and the line before. LedgerError at the first that does not fit."""
        chain = _Chain()
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                line = parse(raw, chain.end)
                if line is None:
                    raise LedgerError(f"{self.path}: line {number}: not a line of a ledger; {WAY_OUT}")
                self._check_line(number, line, chain.hash)
                chain = _Chain(
                    n=number,
                    hash=line.hash,
                    prev=line.prev,
                    end=chain.end + len(raw),
                    transition=chain.end if line.event == "transition" else chain.transition,
                )
        return chain

    def _check_line(self, number: int, line: Line, prev: str) -> None:
        if not _fits(line):
            raise LedgerError(f"{self.path}: line {number}: changed since it was written; {WAY_OUT}")
        if line.n == number - 1 and line.prev != prev:
            raise LedgerError(f"{self.path}: line {number}: doubled; {WAY_OUT}")
        if line.n != number or line.prev != prev:
            raise LedgerError(f"{self.path}: line {number}: a line before it is missing or was replaced; {WAY_OUT}")

    def _set_aside(self, end: int) -> None:
        """Cut the torn tail off, keeping its bytes beside the ledger."""
        with open(self.path, "r+b") as file:
            file.seek(end)
            torn = file.read()
            # The copy first: a crash in between keeps the bytes twice.
            files.write_whole(self.path.with_name(f"ledger.torn.{end}"), torn)
            file.truncate(end)
            os.fsync(file.fileno())

    def append(self, event: str, data: dict[str, Any]) -> Line:
        """Write one event, fsynced before this returns. The caller holds the lab's lock.

        Secrets are taken out, and lone surrogates become visible escapes: neither a file nor a hash can hold one.
        """
        head, time = self.head, files.utc_now()
        data = text.whole_value(redaction.clean_value(data))
        digest = seal(head.n + 1, time, event, data, head.hash)
        line = Line(head.n + 1, time, event, data, head.hash, digest, head.size)
        # The line before the head: after a crash in between, `open` moves the head up to it.
        facts = self._write(_raw(line), head.size)
        crash_points.point("ledger.after_append")
        head = replace(head, n=line.n, hash=line.hash, size=facts.st_size, mtime_ns=facts.st_mtime_ns)
        if event == "transition":
            head = replace(head, transition=line.offset)
        self._save_head(head)
        crash_points.point("ledger.after_head")
        return line

    def _write(self, raw: bytes, end: int) -> os.stat_result:
        """Add bytes at `end`. If the write fails (a full disk), the file is cut back to what it was."""
        # Without a buffer, which would hide a failed write until the file is closed.
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(end)
            try:
                # A full disk may take a part of the bytes and raise nothing.
                if file.write(raw) != len(raw):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            return os.fstat(file.fileno())

    def relocate(self, root: Path) -> None:
        """Note that the lab now stands at `root` on this machine."""
        self._save_head(replace(self.head, path=str(root), machine=machine()))

    def rename(self, lab_id: str) -> None:
        """Give the lab an id of its own (a fork)."""
        self._save_head(replace(self.head, lab_id=lab_id))

    def lines(self, offset: int = 0) -> Iterator[Line]:
        """The events from byte `offset` on. An unfinished last line is skipped."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            for raw in file:
                # Without its newline the writer is still at it, or was killed.
                line = parse(raw, offset) if raw.endswith(b"\n") else None
                if line is not None:
                    yield line
                offset += len(raw)

    def lines_of(self, event: str) -> Iterator[Line]:
        """The events of one kind, from the whole history. Only lines that may be of this kind are parsed."""
        mark, offset = f'"event":"{event}"'.encode(), 0
        with open(self.path, "rb") as file:
            for raw in file:
                line = parse(raw, offset) if mark in raw and raw.endswith(b"\n") else None
                # The words may also stand in a line's data.
                if line is not None and line.event == event:
                    yield line
                offset += len(raw)

    def line_before(self, end: int) -> Line | None:
        """The event whose line ends at byte `end`, read from there backwards; None if there is none."""
        # Not from the beginning: a ledger may have gigabytes, and each command opens it.
        start = end - 1
        with open(self.path, "rb") as file:
            while start > 0:
                block = min(4096, start)
                file.seek(start - block)
                newline = file.read(block).rfind(b"\n")
                start -= block
                if newline >= 0:
                    start += newline + 1
                    break
        return next(self.lines(start), None) if end > 0 else None

    def transition(self) -> Line | None:
        """The newest transition, or None before the first."""
        if self.head.transition < 0:
            return None
        line = next(self.lines(self.head.transition), None)
        if line is None or line.event != "transition":
            raise LedgerError(f"{self.path}: the newest transition is not where its head says; {WAY_OUT}")
        return line

    def check(self) -> int:
        """The number of lines. LedgerError: one of them does not fit its hash or the chain."""
        return self._check_chain().n

    def rebuild(self, lab_id: str, root: Path) -> Rebuilt:
        """Make a new chain of every line that can still be read. The old file is copied first.

        Left out are exact doubles, lines that cannot be read, and `trial` lines that do not fit their hash: a score is
        measured and not edited in, and a run under way measures it again. Other lines that do not fit their hash are
        taken over. What is left out (except doubles) is kept in a file beside the ledger. The last line of the new
        chain names both files, each line left out, and the numbers of the lines that do not fit.
        """
        old = self.path.read_bytes() if self.path.exists() else b""
        digest = files.sha256_of(old)[:12]
        copy = self.path.with_name(f"ledger.broken.{digest}.jsonl")
        files.write_whole(copy, old)
        lines, left_out = _sort(old)
        chain = _NewChain(Head(lab_id, str(root), machine()))
        for line in lines:
            chain.add(line)
        remainder = None
        if left_out:
            remainder = self.path.with_name(f"ledger.left_out.{digest}.jsonl")
            files.write_whole(remainder, b"".join(line.raw + b"\n" for line in left_out))
        # All copies are durable before the ledger itself is replaced.
        files.write_whole(self.path, bytes(chain.content))
        self._save_head(replace(chain.head, mtime_ns=self.path.stat().st_mtime_ns))
        # Plain values: the event's class, `LedgerRebuilt`, is above this module.
        event: dict[str, Any] = {"copy": copy.name, "lines": chain.head.n, "unverified": chain.unverified}
        event["dropped"] = len(left_out)
        if remainder is not None:
            event |= {"kept": remainder.name, "left_out": [str(line) for line in left_out]}
        self.append("ledger_rebuilt", event)
        return Rebuilt(copy, tuple(left_out), remainder)

    def _save_head(self, head: Head) -> None:
        files.write_whole(self.head_path, json.dumps(asdict(head)))
        self._head = head


class _NewChain:
    """The chain that a broken ledger's lines are put into, one after another."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.content = bytearray()
        self.unverified: list[int] = []
        self._begins = {0: 0}
        self._after_transition = 0

    def add(self, line: Line) -> None:
        n = self.head.n + 1
        start = len(self.content)
        if not _fits(line):
            self.unverified.append(n)
        data = self._with_new_place(line.data)
        digest = seal(n, line.time, line.event, data, self.head.hash)
        self.content += _raw(Line(n, line.time, line.event, data, self.head.hash, digest))
        end = len(self.content)
        self.head = replace(self.head, n=n, hash=digest, size=end)
        if line.event == "transition":
            self.head = replace(self.head, transition=start)
            self._after_transition = end

    def _with_new_place(self, data: dict[str, Any]) -> dict[str, Any]:
        """A transition's data with the offset in the new file at which its iteration begins.

        The old offset only says which transitions belong together, as lines before it may be gone. The iteration
        begins after the transition that precedes the first of them.
        """
        campaign = data.get("campaign")
        if not isinstance(campaign, dict) or not isinstance(campaign.get("iteration_offset"), int):
            return data
        place = self._begins.setdefault(campaign["iteration_offset"], self._after_transition)
        return data | {"campaign": campaign | {"iteration_offset": place}}


def _sort(old: bytes) -> tuple[list[Line], list[LeftOut]]:
    """The lines of a broken ledger that go into a new chain, each once, and those that do not."""
    lines: dict[str, Line] = {}
    raw_lines: dict[str, bytes] = {}
    left_out: list[LeftOut] = []
    for number, raw in enumerate(old.split(b"\n"), 1):
        line = parse(raw, 0)
        if line is None:
            if raw.strip():
                left_out.append(_left_out(number, raw, "cannot be read as a line of a ledger"))
        elif line.hash in lines:
            # An exact double is a copy of a line that is taken: nothing is lost.
            if raw != raw_lines[line.hash]:
                left_out.append(_left_out(number, raw, "another line has its hash"))
        elif line.event == "trial" and not _fits(line):
            left_out.append(_left_out(number, raw, "changed since it was measured"))
        else:
            lines[line.hash], raw_lines[line.hash] = line, raw
    return list(lines.values()), left_out


def _fits(line: Line) -> bool:
    """Whether a line has the hash of its content."""
    return line.hash == seal(line.n, line.time, line.event, line.data, line.prev)


_EVENT = re.compile(r'"event" ?: ?"([a-z_]{1,40})"')
_RUN = re.compile(r'"run_id" ?: ?"([\w-]{1,40})"')
_TRIAL = re.compile(r'"trial" ?: ?"([\w.-]{1,120})"')


def _left_out(number: int, raw: bytes, reason: str) -> LeftOut:
    """A line that is left out, with the event, run and trial that can be seen in it even if it is torn."""
    readable = text.decode(raw)
    matches = [form.search(readable) for form in (_EVENT, _RUN, _TRIAL)]
    event, run, trial = (match[1] if match else "" for match in matches)
    return LeftOut(number, event, f"{run}/{trial}".strip("/"), reason, raw)


def _raw(line: Line) -> bytes:
    body = asdict(line)
    del body["offset"]
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def machine() -> str:
    """The name of this machine."""
    return platform.node() or "unnamed"
