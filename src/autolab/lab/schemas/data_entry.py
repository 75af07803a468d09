"""One entry of `data` in config.yaml: where data lies on this machine, and where the training program looks for it."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Tag, ValidationError, model_validator

from autolab.lab.schemas.record import Record

HOME = "~"
CACHES = ("~/.cache", "~/.keras")
"""Places below which libraries keep what they download; they write locks and notes there while they read."""
FETCHED = "autolab.fetched"
"""The folder in the git common dir that holds what `autolab fetch` brought."""
MOST_UPWARD = 4
"""Folders above the repository that `at` may name, such as ../../data."""
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/proc", "/sys", "/dev")
"""Folders of the system, in which nothing can be shown that lies elsewhere."""


class DataEntry(Record):
    """Data of the training: a file or a folder, which trials read and cannot change.

    `path` is where it lies: relative to the repository (`data/x`, `../data`), in the user's home (`~/corpora/x`) or
    absolute. `at` is where the program looks for it, in the same forms: relative to the repository's root, in the home
    that a trial has, or absolute; by default the same as `path`. At another absolute place than its own only
    containment `full` can show it. With `writable` each trial gets a folder of links to the files, which is thrown
    away with it, so that the program can write beside them; caches of libraries (`~/.cache/…`) always get one.
    """

    path: str
    at: str | None = None
    writable: bool = False

    @model_validator(mode="after")
    def _has_a_place(self) -> DataEntry:
        for key, value in (("path", self.path), ("at", self.at)):
            if value is None:
                continue
            if not value or not value.isprintable():
                raise ValueError(f"{key}: {value!r} is not the path of a file or folder")
            if value.startswith("~") and value != HOME and not value.startswith("~/"):
                raise ValueError(f"{key}: {value!r}: write ~/… or the absolute path")
        if os.path.normpath(self.path) in ("/", HOME):
            raise ValueError(f"path: {self.path!r} is everything that you have; name the folder that the program needs")
        self._refuse_system()
        if self.upward > MOST_UPWARD:
            raise ValueError(f"at: {self.place} leads too far up; use the absolute path")
        return self

    def _refuse_system(self) -> None:
        if self.at is None:
            return
        is_of_the_system = any(PurePosixPath(self.place).is_relative_to(folder) for folder in _SYSTEM)
        if self.place == "/" or is_of_the_system:
            raise ValueError(f"at: {self.place} belongs to the system; name another folder")

    @property
    def place(self) -> str:
        """Where the program looks: a normal path, relative to the repository, below `~`, or absolute."""
        return os.path.normpath(self.at if self.at is not None else self.path)

    @property
    def in_home(self) -> bool:
        return self.place == HOME or self.place.startswith("~/")

    @property
    def is_relative(self) -> bool:
        """Whether the program names it from the folder of the repository."""
        return not self.in_home and not self.place.startswith("/")

    @property
    def is_plain(self) -> bool:
        """Whether it is seen where it lies, as one folder always was."""
        return not self.writable and self.place == os.path.normpath(self.path) and not self.in_home and not self.upward

    @property
    def upward(self) -> int:
        """How many folders above the repository's root the place begins."""
        return self.place.split("/").count("..") if self.is_relative else 0

    @property
    def is_linked_tree(self) -> bool:
        """Whether a trial gets real folders with links to the files in them."""
        if self.writable or self.place == HOME:
            return True
        return self.in_home and any(PurePosixPath(self.place).is_relative_to(cache) for cache in CACHES)

    @property
    def lies_outside(self) -> bool:
        """Whether the data lies outside of the repository."""
        return self.path.startswith(("/", "~")) or os.path.normpath(self.path).split("/")[0] == ".."

    @property
    def is_fetched(self) -> bool:
        """Whether `autolab fetch` brought it."""
        return self.path.startswith(f".git/{FETCHED}/")

    def source(self, root: Path) -> Path:
        """Where it lies on this machine; `root` is the repository's."""
        return Path(os.path.normpath(root / os.path.expanduser(self.path)))

    def __str__(self) -> str:
        text = self.path if self.at is None else f"{self.path} at {self.at}"
        return f"{text} (writable)" if self.writable else text


def _form(value: object) -> str:
    """Which of the forms of `data` a value has; its problems are then those of this form alone."""
    if isinstance(value, DataEntry | dict):
        return "entry"
    return "list" if isinstance(value, list | tuple) else "path"


def _entry_path(value: str) -> str:
    """A path alone has to fit as that of an entry does."""
    try:
        DataEntry(path=value)
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    return value


PlainPath = Annotated[str, AfterValidator(_entry_path), Tag("path")]
Item = Annotated[PlainPath | Annotated[DataEntry, Tag("entry")], Discriminator(_form)]
Data = Annotated[
    PlainPath | Annotated[DataEntry, Tag("entry")] | Annotated[tuple[Item, ...], Tag("list")],
    Discriminator(_form),
]
"""The value of `data`: a path, an entry, or a list of both."""
