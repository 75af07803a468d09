"""Committed files that a filter changes at checkout, such as Git LFS and git-crypt: trials get the committed bytes.

An export holds what the commit holds, so a file in Git LFS is a pointer of some 130 bytes there. A training that reads
it would fail, or train on the pointer. So the files that the program reads are refused; others are named in a note.
Which files it reads is told by their names in the sources of the program: a name that is put together is not found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from autolab.adoption.refusals import Refusals
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import Program
from autolab.errors import LabError
from autolab.lab.schemas.config import Config

NAMED = 3
LFS = "lfs"


@dataclass(frozen=True)
class FilteredFiles:
    """The files whose committed bytes differ from the checkout's, with their filter: those that the program reads,
    and the others."""

    read: dict[str, str]
    others: dict[str, str]


def filtered_files(repository: Repository, program: Program, config: Config) -> FilteredFiles:
    """The committed files that trials do not get as the checkout has them."""
    read, others = {}, {}
    for path, name in repository.git.filtered(repository.head).items():
        if _is_read(path, program, config):
            read[path] = name
        else:
            others[path] = name
    return FilteredFiles(read, others)


def refuse_read(files: FilteredFiles, *, has_data: bool, refusals: Refusals) -> None:
    """Refuse files that the program reads and that trials get in another form. `has_data`: the user names the data."""
    by_filter: dict[str, list[str]] = {}
    for path, name in files.read.items():
        # The data that the user names are read where they lie.
        if name != LFS or path.endswith(".py") or not has_data:
            by_filter.setdefault(name, []).append(path)
    for name, paths in by_filter.items():
        them = "it" if len(paths) == 1 else "them"
        if name == LFS:
            way_out = " ".join(f"--include={path}" for path in paths[:NAMED])
            refusals.add(
                LabError(
                    f"{_some(paths)}: kept in Git LFS, so trials get its pointer and not its content; put the data into"
                    " a folder that git does not hold and name it: --data FOLDER, or: git lfs migrate export"
                    f" {way_out}"
                )
            )
        else:
            refusals.add(
                LabError(
                    f"{_some(paths)}: the filter {name} changes {them} at checkout, and trials get the committed"
                    f" bytes; commit {them} as the program reads {them}: take the filter out of .gitattributes,"
                    " git add --renormalize, commit"
                )
            )


def note_of(files: FilteredFiles) -> str:
    """What the user is told of the files that are not refused; empty if there are none."""
    paths = sorted({**files.read, **files.others})
    if not paths:
        return ""
    kinds = sorted({*files.read.values(), *files.others.values()})
    return f"trials get the committed bytes, before the filter {', '.join(kinds)}, of: {_some(paths)}"


def _is_read(path: str, program: Program, config: Config) -> bool:
    """Whether the training's data hold the file, or the sources of the program are it or name it or its folder."""
    place = PurePosixPath(path)
    if place.suffix == ".py" or path == program.script:
        return True
    if any(place.is_relative_to(folder) for folder in config.data_in_repository):
        return True
    names = [place.name, *(parent.name for parent in place.parents if parent.name)]
    # In a text of the program: as a word of its own, not as a part of another name.
    pattern = "|".join(map(re.escape, names))
    return re.search(rf"""["'][^"'\n]*(?<![\w-])({pattern})(?![\w-])""", program.text + program.neighbours) is not None


def _some(paths: Sequence[str]) -> str:
    names = ", ".join(paths[:NAMED])
    if len(paths) > NAMED:
        names += f" and {len(paths) - NAMED} more"
    return names
