"""An answer's changes, written into the candidate's worktree: all or none, and only what is the researcher's."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from autolab import files
from autolab.lab.git import Change, Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop.iteration import Iteration
from autolab.sandbox.path_names import not_plain
from autolab.text import decode
from autolab.verifiers import paths

QUOTED = 80
"""Characters of a path that a message quotes."""


def apply(iteration: Iteration, output: ImplementationOutput, parent: str) -> str:
    """Write an answer's changes into the worktree, all or none. Returns why none were written, or an empty text.

    Contents are computed from `parent` and not from what lies in the folder, so that applying twice is as once.
    """
    lab, config, worktree = iteration.lab, iteration.config, iteration.worktree
    for path in output.paths:
        problem = not_plain(path)
        if problem is not None:
            return f"{_quoted(path)}: {problem}"
    contents = _contents(lab.git, output, parent)
    if isinstance(contents, str):
        return contents
    # Every path is judged before the first is written: all changes are made, or none.
    for path in contents:
        problem = _misplaced(worktree, path, contents)
        if problem:
            return problem
    in_base = set(lab.git.files(iteration.base_commit))
    problem = _refused(contents, config, in_base, unlocked(lab.root, config))
    if problem:
        return problem
    for path, text in contents.items():
        place = worktree / path
        if text is None:
            place.unlink(missing_ok=True)
            continue
        mode = None
        # A script stays executable.
        if place.exists():
            mode = stat.S_IMODE(place.stat().st_mode)
        files.write_whole(place, text, mode=mode)
    return ""


def _contents(git: Git, output: ImplementationOutput, parent: str) -> dict[str, str | None] | str:
    """The new text of each changed path, None for one that is deleted; or why an edit cannot be made."""
    contents: dict[str, str | None] = {file.path: file.content for file in output.files}
    for edit in output.edits:
        old = contents.get(edit.path)
        if old is None:
            raw = git.read(parent, edit.path)
            if raw is None:
                return f"edit of {edit.path}: no such file in {parent[:12]}"
            try:
                old = raw.decode()
            except UnicodeDecodeError:
                return f"edit of {edit.path}: is not UTF-8, so the rest of the file could not be kept; write it whole"
        # An empty text stands everywhere. One that stands there twice does not say which place is meant.
        count = old.count(edit.search) if edit.search else 0
        if count != 1:
            return f"edit of {edit.path}: the text to replace stands there {count} times, not once"
        contents[edit.path] = old.replace(edit.search, edit.replace)
    return contents | dict.fromkeys(output.delete)


def _quoted(path: str) -> str:
    if len(path) <= QUOTED:
        return repr(path)
    return f"{path[:QUOTED]!r}..."


def _misplaced(worktree: Path, path: str, contents: Collection[str]) -> str:
    """Why no file can be written at a path: a file stands in the place of a folder, or a folder in that of the file."""
    place = worktree
    for part in PurePosixPath(path).parts[:-1]:
        place = place / part
        if place.is_symlink():
            return f"{path}: {part} is a symbolic link, which is not written through"
        if str(place.relative_to(worktree)) in contents or (place.exists() and not place.is_dir()):
            return f"{path}: {part} is a file, so that nothing can lie below it"
    place = worktree / path
    if place.is_dir() and not place.is_symlink():
        return f"{path}: is a folder, not a file"
    return ""


def _refused(contents: Mapping[str, str | None], config: Config, in_base: Collection[str], unlocked: bool) -> str:
    """Why the changes may not be written: the first path that is not the researcher's to change."""
    changes = []
    for path, text in contents.items():
        status = "M" if path in in_base else "A"
        if text is None:
            status = "D"
        changes.append(Change(status, path, "100644", "100644", "", ""))
    for finding in paths.path_policy(changes, config, unlocked=unlocked, existing=in_base):
        if finding.severity == "blocking":
            return finding.message
    return ""


def unlocked(root: Path, config: Config) -> bool:
    """Whether META_MODE is on, by the user's journal in the checkout at `root`."""
    for name in config.files.human:
        path = root / name
        if path.exists() and paths.meta_mode(decode(path.read_bytes())):
            return True
    return False
