"""What `autolab fetch` notes of a command that it ran: the record beside the files that the command made."""

from __future__ import annotations

from typing import ClassVar

from autolab.lab.schemas.data_entry import FETCHED
from autolab.lab.schemas.record import Record


class FetchedPart(Record):
    """Files that a command made in the repository or in its home: their number, bytes and hash (`Seal.sha256`)."""

    files: int
    bytes: int
    sha256: str


class FetchRecord(Record):
    """What made a folder of the store. `command` is as it was given, `commit` the code that it ran on.

    `parts` are the folders beside this file: `repository` has new files of the repository, by their paths in it, and
    `home` those of the command's home, such as `.cache/huggingface`.
    """

    FILE: ClassVar[str] = f".git/{FETCHED}/<NAME>/record.json"

    command: str
    commit: str
    time: str
    seconds: float
    parts: dict[str, FetchedPart]

    def __str__(self) -> str:
        files = sum(part.files for part in self.parts.values())
        megabytes = sum(part.bytes for part in self.parts.values()) / 1e6
        noun = "file" if files == 1 else "files"
        return f"{self.command}: {files} {noun}, {megabytes:.1f} MB, {self.time[:10]}, commit {self.commit[:12]}"
