"""What `autolab fetch` brought: one folder for each command in the git common dir, sealed, read-only.

.git/autolab.fetched/<name>/repository/   new files of the repository, by their paths in it
                            home/         new files of the command's home, such as .cache/huggingface
                            record.json   the command, the commit, when, how much, the hash of each part
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from autolab.errors import LabError
from autolab.lab.schemas.data_entry import FETCHED, HOME, DataEntry
from autolab.lab.schemas.fetch_record import FetchRecord

REPOSITORY, IN_HOME = "repository", "home"
RECORD = "record.json"
PLACES = {REPOSITORY: ".", IN_HOME: HOME}
"""Where in a trial each part is seen."""


def records(common: Path) -> Iterator[tuple[str, FetchRecord]]:
    """The name and the record of each finished fetch in the git common dir `common`. RecordError: one is damaged."""
    store = common / FETCHED
    if not store.is_dir():
        return
    for folder in sorted(store.iterdir()):
        # A folder without a record was not finished: it is made beside, and renamed as a whole.
        if (folder / RECORD).is_file():
            yield (
                folder.name,
                FetchRecord.load(folder / RECORD, f"{FETCHED}/{folder.name}/{RECORD}"),
            )


def entries(common: Path) -> Iterator[tuple[DataEntry, FetchRecord]]:
    """What `data` in config.yaml says of each part of the store."""
    for name, record in records(common):
        for part in record.parts:
            yield DataEntry(path=f".git/{FETCHED}/{name}/{part}", at=PLACES[part]), record


def require_unchanged(root: Path, entry: DataEntry, sha256: str) -> None:
    """LabError: a folder of the store is not what its command made."""
    folder = (root / entry.path).parent
    record = FetchRecord.load(folder / RECORD, os.path.relpath(folder / RECORD, root))
    part = record.parts.get(Path(entry.path).name)
    if part is None or part.sha256 != sha256:
        raise LabError(
            f"{entry.path}: changed since it was fetched; fetch it again: autolab fetch --again -- {record.command}"
        )
