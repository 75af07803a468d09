"""Download one file: with progress, resumed where it broke off, checked. Standard library only.

    fetch("https://example.org/set.tar.gz", Path("data/set.tar.gz"), "md5:d41d8cd98f00b204e9800998ecf8427e")

While it is incomplete it lies beside its place as `set.tar.gz.part`; cut off or killed, it goes on from there: the
server is asked for the rest alone (HTTP Range), or for the whole again if it cannot send a part.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 18
SILENCE_S = 60.0
"""How long a server may say nothing."""
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class FetchError(Exception):
    """One line: which address or file, what is wrong with it, the way out."""


def fetch(address: str, path: Path, checksum: str) -> None:
    """The file at `address` (http or https) as `path`; at once if it lies there already.

    `checksum` is `NAME:HEX` with a NAME that hashlib knows. FetchError, and no `path`, if the address cannot be
    reached, the disk is full or the checksum is another. What was received stays for the next call, unless its
    checksum is wrong.
    """
    if path.exists():
        if (found := _digest(path, checksum)) != checksum:
            raise FetchError(f"{path}: {found} instead of {checksum}: cut off or another file; delete it, run again")
        return
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    while not _receive(address, part):
        print(f"{path.name}: broke off at {_mb(_size(part))}, asking for the rest", flush=True)
    if (found := _digest(part, checksum)) != checksum:
        part.unlink()
        raise FetchError(f"{address}: sent {found} instead of {checksum}: cut off, damaged or another file; run again")
    os.replace(part, path)


def _receive(address: str, part: Path) -> bool:
    """One request for what `part` lacks. Whether it is whole now; FetchError if the request brought nothing."""
    have = _size(part)
    why = "the connection was closed early"
    try:
        if _append(address, part, have):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # there is nothing behind what we have
            return True
        raise FetchError(f"{address}: the server answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise FetchError(f"{address}: not reached: {error.reason}; check network and address, run again") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise FetchError(f"{part}: {error.strerror} after {_mb(_size(part))}; make room, run again") from None
        why = str(error)
    if _size(part) <= have:
        raise FetchError(f"{address}: {why} after {_mb(_size(part))}; run again, it goes on from there")
    return False


def _append(address: str, part: Path, have: int) -> bool:
    """Write what the server sends behind the first `have` bytes; whether it sent all that it announced."""
    if not address.startswith(("http://", "https://")):
        raise FetchError(f"{address}: not an http or https address")
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:
        start, total = _extent(address, answer, have)
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - start > free:
            raise FetchError(f"{part}: needs {_mb(total - start)}, {_mb(free)} are free; make room, run again")
        progress = Progress(part.name.removesuffix(".part"), start, total)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            _copy(answer, file, progress)
            return total is None or file.tell() == total


def _extent(address: str, answer: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the file is, where the server says so; bytes."""
    if answer.status != http.client.PARTIAL_CONTENT:
        length = answer.headers.get("Content-Length")
        return 0, int(length) if length else None
    said = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if said is None or int(said[1]) > have:
        raise FetchError(f"{address}: the server sends another part than it was asked for; delete the .part file")
    return int(said[1]), int(said[2])


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, progress: Progress) -> None:
    try:
        while block := answer.read(BLOCK):
            file.write(block)
            progress.add(len(block))
    finally:
        progress.end()


class Progress:
    """Percent, MB and time left: one line that is written over on a terminal, a line each tenth elsewhere."""

    def __init__(self, name: str, start: int, total: int | None) -> None:
        self._name = name
        self._start = self._done = start
        self._total = total
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._next = 0.0
        """On a terminal when to write again (s), elsewhere at how many bytes."""

    def add(self, size: int) -> None:
        self._done += size
        now = time.monotonic()
        if self._live and now >= self._next:
            print(f"\r{self._line(now)}\x1b[K", end="", flush=True)
            self._next = now + 0.2
        elif not self._live and self._done >= self._next:
            print(self._line(now), flush=True)
            tenth = (self._total or 100_000_000) / 10
            self._next = (self._done // tenth + 1) * tenth

    def end(self) -> None:
        if self._live:
            print(f"\r{self._line(time.monotonic())}\x1b[K", flush=True)

    def _line(self, now: float) -> str:
        if self._total is None:
            return f"{self._name}: {_mb(self._done)}"
        said = f"{self._name}: {100 * self._done // self._total}% of {_mb(self._total)}"
        if self._done == self._start or self._done >= self._total:
            return said
        left = (self._total - self._done) * (now - self._began) / (self._done - self._start)
        return f"{said}, about {left:.0f} s left"


def _digest(path: Path, checksum: str) -> str:
    """The file's checksum of the same kind, as `NAME:HEX`."""
    name = checksum.partition(":")[0]
    with path.open("rb") as file:
        return f"{name}:{hashlib.file_digest(file, name).hexdigest()}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
