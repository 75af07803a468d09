"""The append-only, hash-chained record of everything that happened in a lab.

One JSON line an event: number, time, event, data, the hash of the line before, its own hash. A chain
alone cannot see that it was cut back, so `head` (beside it) keeps number, hash, size and time of the last
line, fsynced after each append. As long as size and time still fit, opening costs the same at line
10,000 as at line 10; when they do not, something else wrote the file, and the whole chain is checked.

Only the holder of the lab's lock passes `repair=True`: a torn last line that was never in the head is set
aside, a head that is one line behind is moved up. Readers skip such a line and repair nothing.
Anything else raises LedgerError with its place. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autolab import durable, fault
from autolab.errors import LedgerError

FIRST = "0" * 64
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
    """What the ledger was after the last append, and where and on which machine the lab stood."""

    lab_id: str
    path: str
    machine: str
    n: int = 0
    hash: str = FIRST
    size: int = 0
    mtime_ns: int = 0
    transition: int = -1
    """Offset of the newest transition, -1 before the first."""


def seal(n: int, time: str, event: str, data: dict[str, Any], prev: str) -> str:
    """The hash of a line: over its canonical JSON, the hash of the line before included."""
    body = {"n": n, "time": time, "event": event, "data": data, "prev": prev}
    return durable.sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def parse(raw: bytes, offset: int) -> Line | None:
    """A line, or None where the bytes are no line of a ledger."""
    try:
        value = json.loads(raw)
        line = Line(offset=offset, **value)
    except (ValueError, TypeError, UnicodeDecodeError):
        return None
    return line if isinstance(line.n, int) and isinstance(line.data, dict) else None


class Ledger:
    """`folder` holds `ledger.jsonl` and `head`. One writer (the lock's holder), any number of readers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.head_path = folder / "head"
        self._head: Head | None = None

    def create(self, lab_id: str, root: Path) -> None:
        """Begin a ledger with an empty chain."""
        durable.write(self.path, b"")
        self._save_head(Head(lab_id, str(root), machine()))

    @property
    def head(self) -> Head:
        if self._head is None:
            self._head = self.load_head()
        return self._head

    def load_head(self) -> Head:
        try:
            return Head(**json.loads(self.head_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise LedgerError(f"{self.head_path}: missing, though the lab has a ledger; {WAY_OUT}") from None
        except (ValueError, TypeError):
            raise LedgerError(f"{self.head_path}: not a head of a ledger; {WAY_OUT}") from None

    def open(self, *, repair: bool = False) -> Head:
        """Check that the chain is what the head says, and return the head that holds."""
        head = self.load_head()
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise LedgerError(f"{self.path}: missing, though its head counts {head.n} lines; {WAY_OUT}") from None
        if (found.st_size, found.st_mtime_ns) != (head.size, head.mtime_ns):
            head = self._reconcile(head, repair)
        self._head = head
        return head

    def _reconcile(self, head: Head, repair: bool) -> Head:
        last, end = self._check_chain()
        transition = head.transition
        if last is None or last.n < head.n:
            have = last.n if last else 0
            raise LedgerError(
                f"{self.path}: has {have} lines, its head counts {head.n}: the end is missing or torn; {WAY_OUT}"
            )
        if last.n > head.n + 1:
            raise LedgerError(f"{self.path}: has {last.n} lines, its head counts {head.n}: not written here; {WAY_OUT}")
        behind = last if last.n == head.n else next(self.lines(last.offset, before=True), None)
        if behind is not None and behind.n == head.n and behind.hash != head.hash:
            raise LedgerError(f"{self.path}: line {head.n} is not the one its head knows; {WAY_OUT}")
        if last.event == "transition":
            transition = max(transition, last.offset)
        if not repair:
            return replace(head, n=last.n, hash=last.hash, transition=transition)
        if end < self.path.stat().st_size:
            self._set_aside(end)
        found = self.path.stat()
        moved = replace(
            head, n=last.n, hash=last.hash, transition=transition, size=found.st_size, mtime_ns=found.st_mtime_ns
        )
        self._save_head(moved)
        return moved

    def _check_chain(self) -> tuple[Line | None, int]:
        """The last good line and where it ends; LedgerError at the first line that breaks the chain."""
        last, end, prev = None, 0, FIRST
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    return last, end
                line = parse(raw, end)
                self._check_line(number, line, prev)
                assert line is not None
                last, prev, end = line, line.hash, end + len(raw)
        return last, end

    def _check_line(self, number: int, line: Line | None, prev: str) -> None:
        if line is None:
            raise LedgerError(f"{self.path}: line {number}: not a line of a ledger; {WAY_OUT}")
        if line.hash != seal(line.n, line.time, line.event, line.data, line.prev):
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
            durable.write(self.path.with_name(f"ledger.torn.{end}"), torn)
            file.truncate(end)
            os.fsync(file.fileno())

    def append(self, event: str, data: dict[str, Any]) -> Line:
        """Write one event, fsynced before this returns. The caller holds the lab's lock."""
        head = self.head
        time = durable.utc_now()
        digest = seal(head.n + 1, time, event, data, head.hash)
        line = Line(head.n + 1, time, event, data, head.hash, digest, head.size)
        found = self._write(_raw(line), head.size)
        fault.point("ledger.after_append")
        transition = line.offset if event == "transition" else head.transition
        self._save_head(
            replace(head, n=line.n, hash=digest, size=found.st_size, mtime_ns=found.st_mtime_ns, transition=transition)
        )
        fault.point("ledger.after_head")
        return line

    def _write(self, raw: bytes, end: int) -> os.stat_result:
        """Add bytes at `end`; a write that fails (a full disk) leaves the file as it was."""
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(end)
            try:
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

    def lines(self, offset: int = 0, *, before: bool = False) -> Iterator[Line]:
        """Events from `offset` on; with `before`, only the one that ends there. An unfinished last line is skipped."""
        with open(self.path, "rb") as file:
            if before:
                offset = self._line_start(file, offset)
            file.seek(offset)
            for raw in file:
                line = parse(raw, offset) if raw.endswith(b"\n") else None
                if line is not None:
                    yield line
                offset += len(raw)
                if before:
                    return

    @staticmethod
    def _line_start(file: Any, end: int) -> int:
        """Where the line begins that ends at byte `end`."""
        start = end - 1
        while start > 0:
            block = min(4096, start)
            file.seek(start - block)
            at = file.read(block).rfind(b"\n")
            if at >= 0:
                return int(start - block + at + 1)
            start -= block
        return 0

    def transition(self) -> Line | None:
        """The newest transition, or None before the first."""
        return None if self.head.transition < 0 else next(self.lines(self.head.transition))

    def check(self) -> int:
        """Check every line against its hash and the chain; the number of lines."""
        last, _ = self._check_chain()
        return last.n if last else 0

    def rebuild(self, lab_id: str, root: Path) -> Path:
        """Make the chain anew from every line that can still be read; the copy of the old file is returned.

        Exact doubles are dropped; nothing else is. The new chain's last line names the copy and the lines
        whose content no longer fitted their hash: they are kept, and can no longer be vouched for.
        """
        old = self.path.read_bytes() if self.path.exists() else b""
        copy = self.path.with_name(f"ledger.broken.{durable.sha256(old)[:12]}.jsonl")
        durable.write(copy, old)
        found: dict[str, Line] = {}
        offset = 0
        for raw in old.splitlines(keepends=True):
            line = parse(raw, offset)
            if line is not None:
                found.setdefault(line.hash, line)
            offset += len(raw)
        out, head, moved, unverified = b"", Head(lab_id, str(root), machine()), {0: 0}, []
        for n, line in enumerate(found.values(), 1):
            moved[line.offset] = len(out)
            if line.hash != seal(line.n, line.time, line.event, line.data, line.prev):
                unverified.append(n)
            data = _moved(line.data, moved)
            digest = seal(n, line.time, line.event, data, head.hash)
            transition = len(out) if line.event == "transition" else head.transition
            out += _raw(Line(n, line.time, line.event, data, head.hash, digest))
            head = replace(head, n=n, hash=digest, transition=transition, size=len(out))
        durable.write(self.path, out)
        self._save_head(replace(head, mtime_ns=self.path.stat().st_mtime_ns))
        self.append("ledger_rebuilt", {"copy": copy.name, "lines": head.n, "unverified": unverified})
        return copy

    def _save_head(self, head: Head) -> None:
        durable.write(self.head_path, json.dumps(asdict(head)))
        self._head = head


def _raw(line: Line) -> bytes:
    body = {key: value for key, value in asdict(line).items() if key != "offset"}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _moved(data: dict[str, Any], moved: dict[int, int]) -> dict[str, Any]:
    """A transition's data with the place of its iteration's first line in the new file."""
    campaign = data.get("campaign")
    if not isinstance(campaign, dict) or not isinstance(campaign.get("iteration_offset"), int):
        return data
    before = max(offset for offset in moved if offset <= campaign["iteration_offset"])
    return data | {"campaign": campaign | {"iteration_offset": moved[before]}}


def machine() -> str:
    return platform.node() or "unnamed"
