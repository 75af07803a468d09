"""Files with numbers that a first run left: tables, JSON and TensorBoard's events.

Each is named as `train.metrics` names it, with `*` for the parts of its path that change from run to run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from autolab.sandbox.collect import InvalidFile, open_regular, regular_files
from autolab.sandbox.executed_names import runs_by_itself
from autolab.trials.event_files import NAME, is_event_file

ENDINGS = (".csv", ".tsv", ".json", ".jsonl")
FILES = 200
FILE_BYTES = 16 * 2**20
TOTAL_BYTES = 64 * 2**20
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_CHANGES = re.compile(
    rf"\d{{4}}[-_.]?\d\d[-_.]?\d\d|\d\d[-_:.]\d\d[-_:.]\d\d|(?:{_MONTHS})\d\d|\d{{9,}}|\bseed[-_=]?\d"
    r"|(?<![0-9a-z])(?=[a-z]*\d)(?=\d*[a-f])[0-9a-f]{7,}(?![0-9a-z])",
    re.IGNORECASE,
)
"""In a name: a date, a time, a counter of seconds, a seed, a hash."""


class WrittenFile(NamedTuple):
    """`source`: how `train.metrics` names it."""

    source: str
    content: bytes


def written_files(copy: Path, export: Path, folder: Path) -> list[WrittenFile]:
    """Those in the copy of `export` that are not in it with these bytes, and those in the trial's folder.

    The program may have left anything: no link is followed, and FILES of them are read.
    """
    contents: dict[str, bytes] = {}
    total = 0
    for top in (folder, copy):
        for path in sorted(_regular(top)):
            name = os.path.relpath(path, top)
            content = _content(Path(path))
            is_committed = top == copy and (export / name).is_file() and (export / name).read_bytes() == content
            if content is None or is_committed or name in contents:
                continue
            total += len(content)
            if len(contents) >= FILES or total > TOTAL_BYTES:
                break
            contents[name] = content
    return [WrittenFile(source_of(name, [*contents]), content) for name, content in contents.items()]


def _regular(top: Path) -> Iterator[str]:
    if not top.is_dir():
        return
    for path in regular_files(top, top / ".git"):
        name = os.path.relpath(path, top)
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        has_form = is_event_file(name) or name.endswith(ENDINGS)
        # Of a name with a star the path could not be told from a pattern.
        if has_form and not is_hidden and "*" not in name and not runs_by_itself(name):
            yield path


def _content(path: Path) -> bytes | None:
    try:
        with open_regular(path, FILE_BYTES) as file:
            return file.read()
    except InvalidFile:
        return None


def source_of(name: str, names: Sequence[str]) -> str:
    """The name with a star for each part that changes; as it is if the pattern would match another of the names too."""
    parts = []
    for part in name.split("/"):
        if is_event_file(part):
            parts.append(f"{NAME}.*")
        elif _CHANGES.search(part):
            ending = PurePosixPath(part).suffix if part.endswith(ENDINGS) else ""
            parts.append(f"*{ending}")
        else:
            parts.append(part)
    pattern = "/".join(parts)
    same = [other for other in names if _matches(other, pattern)]
    return pattern if same == [name] else name


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and PurePosixPath(name).match(pattern)
