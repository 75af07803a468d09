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
from autolab.sandbox.path_names import LONGEST_NAME, LONGEST_PATH
from autolab.text import decode
from autolab.verifiers import paths


def apply(iteration: Iteration, output: ImplementationOutput, parent: str) -> str:
    """Write an answer's changes into the worktree, all or none; the reason where none were.

    Contents are computed from `parent`, not from what lies in the folder, so that applying twice is the
    same as once.
    """
    for path in (*(file.path for file in output.files), *(edit.path for edit in output.edits), *output.delete):
        if problem := _unfit(path):
            return problem
    contents: dict[str, str | None] = {}
    for file in output.files:
        contents[file.path] = file.content
    for edit in output.edits:
        old = contents[edit.path] if edit.path in contents else iteration.lab.git.text(parent, edit.path)
        if old is None:
            return f"edit of {edit.path}: no such file in {parent[:12]}"
        if edit.path not in contents and not _is_utf8(iteration.lab.git, parent, edit.path):
            return f"edit of {edit.path}: is not UTF-8, so that what is not replaced could not be kept; write it whole"
        if old.count(edit.search) != 1 or not edit.search:
            return f"edit of {edit.path}: the text to replace stands there {old.count(edit.search)} times, not once"
        contents[edit.path] = old.replace(edit.search, edit.replace)
    contents |= dict.fromkeys(output.delete)
    for path in contents:
        problem = _misplaced(iteration.worktree, path, contents)
        if problem:
            return problem
    lab, config = iteration.lab, iteration.config
    in_base = set(lab.git.files(iteration.base_commit))
    problem = _refused(contents, config, in_base, unlocked=unlocked(lab.root, config))
    if problem:
        return problem
    for path, text in contents.items():
        place = iteration.worktree / path
        if text is None:
            place.unlink(missing_ok=True)
        else:
            files.write_whole(place, text, mode=stat.S_IMODE(place.stat().st_mode) if place.exists() else None)
    return ""


def _unfit(path: str) -> str:
    """Why a path is none below the worktree, as far as its spelling says."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or str(pure) != path:
        return f"{_quoted(path)}: not a plain path below the worktree"
    if path != path.encode(errors="replace").decode():
        return f"{_quoted(path)}: the name is not UTF-8; rename the file"
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in pure.parts):
        return f"{path[:80]!r}...: too long for a file's name"
    return ""


def _quoted(path: str) -> str:
    return repr(path) if len(path) <= 80 else f"{path[:80]!r}..."


def _misplaced(worktree: Path, path: str, contents: Collection[str]) -> str:
    """Why no file can be written at a path: what stands there, or above it, is no file, or no folder."""
    place = worktree
    for part in PurePosixPath(path).parts[:-1]:
        place = place / part
        if place.is_symlink():
            return f"{path}: {part} is a symbolic link, which is not written through"
        if str(place.relative_to(worktree)) in contents or (place.exists() and not place.is_dir()):
            return f"{path}: {part} is a file, so that nothing can lie below it"
    place = worktree / path
    return f"{path}: is a folder, not a file" if place.is_dir() and not place.is_symlink() else ""


def _refused(contents: Mapping[str, str | None], config: Config, in_base: Collection[str], *, unlocked: bool) -> str:
    """Why an answer's changes may not be written: the first path that is not the researcher's."""
    changes = [
        Change("D" if text is None else "M" if path in in_base else "A", path, "100644", "100644", "", "")
        for path, text in contents.items()
    ]
    findings = paths.path_policy(changes, config, unlocked=unlocked, existing=in_base)
    return next((finding.message for finding in findings if finding.severity == "blocking"), "")


def unlocked(root: Path, config: Config) -> bool:
    """META_MODE, read from the user's journal in the checkout at `root`."""
    for name in config.files.human:
        path = root / name
        if path.exists() and paths.meta_mode(decode(path.read_bytes())):
            return True
    return False


def _is_utf8(git: Git, commit: str, path: str) -> bool:
    try:
        (git.read(commit, path) or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
