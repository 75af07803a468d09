"""Files that are written whole or not at all. Standard library only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from autolab.text import whole


def write_whole(
    path: Path,
    content: str | bytes,
    *,
    mode: int | None = None,
    unchanged: Callable[[], bool] = lambda: True,
    sync: bool = True,
    make_folders: bool = True,
) -> bool:
    """Replace `path` atomically: temporary sibling, fsync, rename, fsync of the folder.

    Missing folders are created, unless `make_folders` is False: then OSError.
    `mode`: permission bits, else those of a new file. `unchanged` is called just before the rename: if it returns
    False, `path` stays as it is and the result is False. Without `sync` a power cut may lose the content: for views
    that nobody reads back. A file has one writer at a time (the lab's lock).
    """
    if make_folders:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.autolab-tmp")
    temporary.unlink(missing_ok=True)  # of a write that was killed
    data = _bytes(content)
    try:
        # O_EXCL follows no link that somebody puts at this name in the meantime.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if not unchanged():
            temporary.unlink()
            return False
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)  # a write does not name its file, and nobody knows the temporary one
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename or a new entry in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(content: str | bytes) -> str:
    return hashlib.sha256(_bytes(content)).hexdigest()


def _bytes(content: str | bytes) -> bytes:
    """The bytes to write; a lone surrogate, which UTF-8 cannot hold, becomes its escape."""
    if isinstance(content, str):
        return whole(content).encode()
    return content


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def utc_now() -> str:
    """The present in UTC to the millisecond, in the form of every document: `2026-02-12T23:30:00.000Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
