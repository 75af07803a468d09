"""What `autolab fetch` brought: one folder for each command in the git common dir, sealed, read-only.

.git/autolab.fetched/<name>/repository/   new files of the repository, by their paths in it
                            home/         new files of the command's home, such as .cache/huggingface
                            record.json   the command, the commit, when, how much, the hash of each part
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from autolab.errors import LabError
from autolab.lab.schemas.data_entry import FETCHED, HOME, DataEntry
from autolab.lab.schemas.record import Record

REPOSITORY, IN_HOME = "repository", "home"
PLACES = {REPOSITORY: ".", IN_HOME: HOME}
"""Where in a trial each part is seen."""


class FetchedPart(Record):
    """Files that a command made in the repository or in its home: their number, bytes and hash (`Seal.sha256`)."""

    files: int
    bytes: int
    sha256: str


class FetchRecord(Record):
    """What made a folder of the store. `command` is as it was given, `commit` the code that it ran on, in UTC."""

    FILE: ClassVar[str] = "record.json"

    command: str
    commit: str
    time: str
    seconds: float
    parts: dict[str, FetchedPart]

    def __str__(self) -> str:
        files = sum(part.files for part in self.parts.values())
        megabytes = sum(part.bytes for part in self.parts.values()) / 1e6
        return f"{self.command}: {files} files, {megabytes:.1f} MB, {self.time[:10]}, commit {self.commit[:12]}"


def records(common: Path) -> Iterator[tuple[str, FetchRecord]]:
    """The name and the record of each finished fetch in the git common dir `common`. RecordError: one is damaged."""
    store = common / FETCHED
    if not store.is_dir():
        return
    for folder in sorted(store.iterdir()):
        # A folder without a record was not finished: it is made beside, and renamed as a whole.
        if (folder / FetchRecord.FILE).is_file():
            yield (
                folder.name,
                FetchRecord.load(folder / FetchRecord.FILE, f"{FETCHED}/{folder.name}/{FetchRecord.FILE}"),
            )


def entries(common: Path) -> Iterator[tuple[DataEntry, FetchRecord]]:
    """What `data` in config.yaml says of each part of the store."""
    for name, record in records(common):
        for part in record.parts:
            yield DataEntry(path=f".git/{FETCHED}/{name}/{part}", at=PLACES[part]), record


def require_unchanged(root: Path, entry: DataEntry, sha256: str) -> None:
    """LabError: a folder of the store is not what its command made."""
    folder = (root / entry.path).parent
    record = FetchRecord.load(folder / FetchRecord.FILE, os.path.relpath(folder / FetchRecord.FILE, root))
    part = record.parts.get(Path(entry.path).name)
    if part is None or part.sha256 != sha256:
        raise LabError(
            f"{entry.path}: changed since it was fetched; fetch it again: autolab fetch --again -- {record.command}"
        )
