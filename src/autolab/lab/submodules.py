"""Submodules of a commit: their files as their own commits have them, read from the user's clone of each.

git keeps the repository of a submodule in `.git/modules/`; an old one lies in the submodule's folder. Nothing is
fetched, and no file of the checkout is read: what was changed there and not committed is not in an export.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from autolab.errors import GitError
from autolab.lab.plumbing import SUBMODULE, GitPlace, Plumbing, TreeEntry, read_line

DEEPEST = 8
"""Submodules within submodules."""


def with_submodules(
    source: Plumbing, entries: Sequence[TreeEntry], root: Path, common: Path, prefix: str = "", depth: int = 0
) -> Iterator[tuple[Plumbing, list[TreeEntry]]]:
    """The files of `entries` and those of their submodules, by the repository that has them.

    Names are relative to `root`, the checkout of `common`. GitError: a submodule is not here, and how to get it.
    """
    yield source, [replace(entry, name=f"{prefix}{entry.name}") for entry in entries if entry.mode != SUBMODULE]
    for entry in entries:
        if entry.mode != SUBMODULE:
            continue
        name = f"{prefix}{entry.name}"
        module = _open(root, name, common) if depth < DEEPEST else None
        if module is None or not module.holds(entry.id):
            way_out = f"git submodule update --init --recursive -- {name.split('/')[0]}"
            raise GitError(
                f"{name}: a submodule whose commit {entry.id[:12]} is not here, and trials need its files: {way_out}"
            )
        inner = module.files(entry.id)
        yield from with_submodules(module, inner, root, common, f"{name}/", depth + 1)


class _SubmoduleReader(Plumbing):
    """The repository of one submodule."""

    def holds(self, commit: str) -> bool:
        return self._call("cat-file", "-e", f"{commit}^{{commit}}", ok=(0, 1, 128)).returncode == 0

    def files(self, commit: str) -> list[TreeEntry]:
        return self._files_in(commit)


def _open(root: Path, name: str, common: Path) -> _SubmoduleReader | None:
    """The repository of the submodule at this path; None if there is none."""
    link = root / name / ".git"
    place = link
    if not link.is_dir():
        place = Path(os.path.normpath(root / name / read_line(link).removeprefix("gitdir:").strip()))
    real = Path(os.path.realpath(place))
    # A `.git` file can point anywhere, and git is to read nothing that is not this repository's own.
    is_own = any(real.is_relative_to(os.path.realpath(folder)) for folder in (root / name / ".git", common / "modules"))
    if not is_own or not (real / "HEAD").is_file():
        return None
    return _SubmoduleReader(GitPlace(real, root / name), real)
