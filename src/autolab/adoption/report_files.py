"""Files of numbers that a program left, such as Lightning's `metrics.csv`: in its copy of the code or its trial folder,
by their endings, under names that every trial will have again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.sandbox.executed_names import runs_by_itself
from autolab.trials.job import COPY

ENDINGS = (".csv", ".tsv", ".jsonl", ".json")
FILES = 20
"""Files that are read at most, the first ones by their names."""
FILE_BYTES = 4 * 2**20
"""Larger ones are passed over."""
LISTED = 50_000
"""Files whose names are looked at, at most."""

# A date, a time or an id: the next trial's file is called otherwise.
_CHANGES = re.compile(r"\d{4}|\d\d[-_:]\d\d|(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}", re.IGNORECASE)


def report_files(attempt: Path, code: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a probe in `attempt` by their names as `train.metrics` has them; none that `code` has as it is."""
    count = 0
    for folder in (attempt / "train", attempt / COPY):
        for path in _paths(folder):
            name = str(path.relative_to(folder))
            if _CHANGES.search(name) or runs_by_itself(name):
                continue
            content = _content(path)
            if content and content != _content(code / name):
                yield name, content
                count += 1
            if count == FILES:
                return


def _paths(folder: Path) -> list[Path]:
    """Files with the endings below a folder; links to folders, such as that of the data, are not followed."""
    paths = []
    looked_at = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        looked_at += len(names)
        if looked_at > LISTED:
            break
        paths += [Path(place, name) for name in names if name.endswith(ENDINGS) and not name.startswith(".")]
    return sorted(paths)


def _content(path: Path) -> bytes:
    """Empty if it is no regular file of at most FILE_BYTES: the program may have left anything there."""
    try:
        with open_regular(path, FILE_BYTES) as file:
            return file.read(FILE_BYTES)
    except InvalidFile:
        return b""
