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
import math
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from autolab import files, text
from autolab.errors import LedgerError
from autolab.lab import crash_points, redaction

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
    return files.sha256_of(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def parse(raw: bytes, offset: int) -> Line | None:
    """A line, or None where the bytes are no line of a ledger: no JSON, or what `append` never writes."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
        line = Line(offset=offset, **value)
    except (ValueError, TypeError, RecursionError):
        return None
    words = (line.time, line.event, line.prev, line.hash)
    fits = type(line.n) is int and isinstance(line.data, dict) and all(isinstance(word, str) for word in words)
    # Judged by the value and not by its bytes: `\\ud83d` is a backslash and five letters, a text like any other.
    half = _MAY_BE_HALF.search(raw) is not None and text.has_surrogates([*words, line.data])
    return line if fits and not half else None


_MAY_BE_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Without these bytes no string of a line can hold a lone surrogate: `append` writes none, as none can be hashed."""


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


@dataclass(frozen=True)
class LeftOut:
    """A line of a broken ledger that is not in the new chain: its number, what it was as far as that can be read
    (`trial` names run and trial), why it was left out, and its bytes."""

    number: int
    event: str
    trial: str
    reason: str
    raw: bytes

    def __str__(self) -> str:
        of = f" {self.trial}" if self.trial else ""
        return f"line {self.number} ({self.event or 'unknown event'}{of}): {self.reason}"


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did: the copy of the old file, and the lines that are only in `kept` now (None without any)."""

    copy: Path
    left_out: tuple[LeftOut, ...] = ()
    kept: Path | None = None


class Ledger:
    """`folder` holds `ledger.jsonl` and `head`. One writer (the lock's holder), any number of readers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.head_path = folder / "head"
        self._head: Head | None = None

    def create(self, lab_id: str, root: Path) -> None:
        """Begin a ledger with an empty chain."""
        files.write_whole(self.path, b"")
        self._save_head(Head(lab_id, str(root), machine()))

    def begin_as(self, source: Ledger, last: Line, root: Path) -> None:
        """Begin a ledger as `source` was right after its transition `last`, for a lab at `root`."""
        with open(source.path, "rb") as file:
            file.seek(last.offset)
            end = last.offset + len(file.readline())
            file.seek(0)
            files.write_whole(self.path, file.read(end))
        mtime, lab_id = self.path.stat().st_mtime_ns, source.head.lab_id
        self._save_head(Head(lab_id, str(root), machine(), last.n, last.hash, end, mtime, last.offset))

    @property
    def head(self) -> Head:
        if self._head is None:
            self._head = self.load_head()
        return self._head

    def load_head(self) -> Head:
        try:
            value = json.loads(self.head_path.read_text(encoding="utf-8"))
            head = Head(**value)
        except FileNotFoundError:
            raise LedgerError(f"{self.head_path}: missing, though the lab has a ledger; {WAY_OUT}") from None
        except (ValueError, TypeError, RecursionError):
            head, value = None, {}
        kinds = {field.name: int if field.type == "int" else str for field in fields(Head)}
        if head is None or any(type(part) is not kinds[name] for name, part in value.items()):
            raise LedgerError(f"{self.head_path}: not a head of a ledger; {WAY_OUT}")
        return head

    def open(self, *, repair: bool = False) -> Head:
        """Check that the chain is what the head says, and return the head that holds."""
        while True:
            head = self.load_head()
            try:
                found = self.path.stat()
            except FileNotFoundError:
                raise LedgerError(f"{self.path}: missing, though its head counts {head.n} lines; {WAY_OUT}") from None
            if (found.st_size, found.st_mtime_ns) == (head.size, head.mtime_ns) and self._ends_as(head):
                break
            try:
                head = self._reconcile(head, repair)
                break
            except LedgerError:
                if repair or self.load_head() == head:  # else the writer went on between our looks: look again
                    raise
        self._head = head
        return head

    def _ends_as(self, head: Head) -> bool:
        """Whether the last line and the newest transition are those that the head names."""
        last = next(self.lines(head.size, before=True), None) if head.size else None
        newest = next(self.lines(head.transition), None) if head.transition >= 0 else None
        names_one = newest is not None and newest.event == "transition"
        ends = (last.n, last.hash) if last else (0, FIRST)
        return ends == (head.n, head.hash) and (names_one or head.transition == -1)

    def _reconcile(self, head: Head, repair: bool) -> Head:
        last, end, transition = self._check_chain()
        n, digest, known = (last.n, last.hash, last.prev) if last else (0, FIRST, FIRST)
        if n < head.n:
            raise LedgerError(
                f"{self.path}: has {n} lines, its head counts {head.n}: the end is missing or torn; {WAY_OUT}"
            )
        if n > head.n + 1:
            raise LedgerError(f"{self.path}: has {n} lines, its head counts {head.n}: not written here; {WAY_OUT}")
        if head.hash != (digest if n == head.n else known):
            raise LedgerError(f"{self.path}: line {head.n} is not the one its head knows; {WAY_OUT}")
        if not repair:
            return replace(head, n=n, hash=digest, transition=transition)
        if end < self.path.stat().st_size:
            self._set_aside(end)
        found = self.path.stat()
        moved = replace(head, n=n, hash=digest, transition=transition, size=found.st_size, mtime_ns=found.st_mtime_ns)
        self._save_head(moved)
        return moved

    def _check_chain(self) -> tuple[Line | None, int, int]:
        """The last good line, where it ends, and where the newest transition begins; LedgerError at the first line
        that breaks the chain."""
        last, end, prev, transition = None, 0, FIRST, -1
        with open(self.path, "rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                line = parse(raw, end)
                self._check_line(number, line, prev)
                assert line is not None
                transition = end if line.event == "transition" else transition
                last, prev, end = line, line.hash, end + len(raw)
        return last, end, transition

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
            files.write_whole(self.path.with_name(f"ledger.torn.{end}"), torn)
            file.truncate(end)
            os.fsync(file.fileno())

    def append(self, event: str, data: dict[str, Any]) -> Line:
        """Write one event, without secrets, fsynced before this returns. The caller holds the lab's lock.

        Lone surrogates are made visible first (`text.whole_value`): neither a file nor a hash can hold one.
        """
        head = self.head
        time, data = files.utc_now(), text.whole_value(redaction.clean_value(data))
        digest = seal(head.n + 1, time, event, data, head.hash)
        line = Line(head.n + 1, time, event, data, head.hash, digest, head.size)
        found = self._write(_raw(line), head.size)
        crash_points.point("ledger.after_append")
        transition = line.offset if event == "transition" else head.transition
        self._save_head(
            replace(head, n=line.n, hash=digest, size=found.st_size, mtime_ns=found.st_mtime_ns, transition=transition)
        )
        crash_points.point("ledger.after_head")
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
        if self.head.transition < 0:
            return None
        line = next(self.lines(self.head.transition), None)
        if line is None or line.event != "transition":
            raise LedgerError(f"{self.path}: the newest transition is not where its head says; {WAY_OUT}")
        return line

    def check(self) -> int:
        """Check every line against its hash and the chain; the number of lines."""
        last, _, _ = self._check_chain()
        return last.n if last else 0

    def rebuild(self, lab_id: str, root: Path) -> Rebuilt:
        """Make the chain anew from every line that can still be read.

        Left out are exact doubles, lines that cannot be read, and `trial` lines that no longer fit their hash: a
        score is measured, not edited in; of a run under way it is made again from the trial's files. Other lines that
        do not fit are kept. The old file is copied, and what is left out (but the doubles) stands in a file of its own
        beside the ledger. The new chain's last line names both, each line left out, and the lines not vouched for.
        """
        old = self.path.read_bytes() if self.path.exists() else b""
        copy = self.path.with_name(f"ledger.broken.{files.sha256_of(old)[:12]}.jsonl")
        files.write_whole(copy, old)
        lines, left_out = _sorted_out(old)
        out, head, unverified = bytearray(), Head(lab_id, str(root), machine()), []
        begins, after = {0: 0}, 0
        for line in lines:
            n = head.n + 1
            if not _fits(line):
                unverified.append(n)
            data = _moved(line.data, begins, after)
            digest = seal(n, line.time, line.event, data, head.hash)
            transition = len(out) if line.event == "transition" else head.transition
            out += _raw(Line(n, line.time, line.event, data, head.hash, digest))
            head = replace(head, n=n, hash=digest, transition=transition, size=len(out))
            after = len(out) if line.event == "transition" else after
        kept = self._keep(left_out, copy) if left_out else None
        files.write_whole(self.path, bytes(out))
        self._save_head(replace(head, mtime_ns=self.path.stat().st_mtime_ns))
        event = {"copy": copy.name, "lines": head.n, "unverified": unverified, "dropped": len(left_out)}
        if kept is not None:
            event |= {"kept": kept.name, "left_out": [str(one) for one in left_out]}
        self.append("ledger_rebuilt", event)
        return Rebuilt(copy, tuple(left_out), kept)

    def _keep(self, left_out: Sequence[LeftOut], copy: Path) -> Path:
        """The lines left out, as they were, in a file beside the ledger."""
        kept = copy.with_name(copy.name.replace("ledger.broken.", "ledger.left_out."))
        files.write_whole(kept, b"".join(one.raw + b"\n" for one in left_out))
        return kept

    def _save_head(self, head: Head) -> None:
        files.write_whole(self.head_path, json.dumps(asdict(head)))
        self._head = head


def _sorted_out(old: bytes) -> tuple[list[Line], list[LeftOut]]:
    """The lines of a broken ledger that go into a new chain, each once, and those that do not."""
    lines: dict[str, tuple[Line, bytes]] = {}
    left_out: list[LeftOut] = []
    for number, raw in enumerate(old.split(b"\n"), 1):
        line = parse(raw, 0)
        if line is None:
            if raw.strip():
                left_out.append(_left_out(number, raw, "cannot be read as a line of a ledger"))
        elif line.hash in lines:
            if raw != lines[line.hash][1]:
                left_out.append(_left_out(number, raw, "another line has its hash"))
        elif line.event == "trial" and not _fits(line):
            left_out.append(_left_out(number, raw, "changed since it was measured"))
        else:
            lines[line.hash] = line, raw
    return [line for line, _ in lines.values()], left_out


def _fits(line: Line) -> bool:
    return line.hash == seal(line.n, line.time, line.event, line.data, line.prev)


_EVENT = re.compile(r'"event" ?: ?"([a-z_]{1,40})"')
_RUN = re.compile(r'"run_id" ?: ?"([\w-]{1,40})"')
_TRIAL = re.compile(r'"trial" ?: ?"([\w.-]{1,120})"')


def _left_out(number: int, raw: bytes, reason: str) -> LeftOut:
    """A line that is left out, with what can be seen of it even where it is torn."""
    shown = text.decode(raw)
    event, run, trial = (found[1] if (found := form.search(shown)) else "" for form in (_EVENT, _RUN, _TRIAL))
    return LeftOut(number, event, "/".join(part for part in (run, trial) if part), reason, raw)


def _raw(line: Line) -> bytes:
    body = {key: value for key, value in asdict(line).items() if key != "offset"}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _moved(data: dict[str, Any], begins: dict[int, int], after: int) -> dict[str, Any]:
    """A transition's data with the place in the new file at which its iteration begins.

    The old place says only which transitions belong together (lines before it may have come or gone): the
    iteration begins `after` the transition before the first of them.
    """
    campaign = data.get("campaign")
    if not isinstance(campaign, dict) or not isinstance(campaign.get("iteration_offset"), int):
        return data
    place = begins.setdefault(campaign["iteration_offset"], after)
    return data | {"campaign": campaign | {"iteration_offset": place}}


def machine() -> str:
    return platform.node() or "unnamed"
