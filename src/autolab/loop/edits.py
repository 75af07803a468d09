"""An answer's changes, written into the candidate's worktree: all or none, and only what is the researcher's."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from autolab import files
from autolab.lab.git import Change, Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.replies import Edit, ImplementationOutput
from autolab.loop.iteration import Iteration
from autolab.sandbox.path_names import not_plain
from autolab.text import decode
from autolab.verifiers import paths

QUOTED = 80
"""Characters of a path that a message quotes."""
FAULTY = 5
"""Faulty edits of one answer whose nearest lines are shown."""
NEAREST_LINES = 12
LINE_CHARACTERS = 200
SEARCHED_LINES = 20_000
"""Lines of a file that are compared with the text of a faulty edit."""


Contents = dict[str, str | None]
"""The new text of each changed path; None for one that is deleted."""


def apply(iteration: Iteration, output: ImplementationOutput, parent: str) -> str:
    """Write an answer's changes into the worktree, all or none. Returns why none were written, or an empty text."""
    worktree = iteration.worktree
    contents = new_contents(iteration, output, parent)
    if isinstance(contents, str):
        return contents
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


def new_contents(iteration: Iteration, output: ImplementationOutput, parent: str) -> Contents | str:
    """What an answer would write; or one line about why it may not, below it the nearest lines of a faulty edit.

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
    return problem or contents


def _contents(git: Git, output: ImplementationOutput, parent: str) -> Contents | str:
    """The new text of each changed path; or why the edits cannot be made."""
    contents: Contents = {file.path: file.content for file in output.files}
    faults: list[tuple[str, str]] = []
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
        if count == 1:
            old = old.replace(edit.search, edit.replace)
        else:
            line = f"edit of {edit.path}: the text to replace stands there {count} times, not once"
            faults.append((line, _places(edit, old, count)))
        contents[edit.path] = old
    return _faults(faults) if faults else contents | dict.fromkeys(output.delete)


def _faults(faults: Sequence[tuple[str, str]]) -> str:
    """The first faulty edit in one line, and how many more there are; below it where the texts might stand."""
    line = faults[0][0]
    if len(faults) > 1:
        line += f" (and {len(faults) - 1} more)"
    hints = [hint for _, hint in faults[:FAULTY] if hint]
    return "\n".join([line, *hints])


def _places(edit: Edit, text: str, count: int) -> str:
    """Where an edit may have been meant: the lines on which its text stands, or else the lines nearest to it."""
    if count > 1:
        return f"{edit.path}: it stands on the lines {_line_numbers(text, edit.search)}; quote more lines around one"
    wanted = edit.search.strip("\n").split("\n")
    lines = text.split("\n")[:SEARCHED_LINES]
    # The longest line says most about which place is meant.
    offset = max(range(len(wanted)), key=lambda number: len(wanted[number].strip()))
    nearest = _nearest(wanted[offset], lines)
    if nearest is None:
        return ""
    first = max(0, nearest - offset)
    last = min(len(lines), first + min(len(wanted), NEAREST_LINES))
    rows = [f"{edit.path}: nearest to the text to replace are the lines {first + 1} to {last}, as they are:"]
    for line in lines[first:last]:
        rows.append(line[:LINE_CHARACTERS])
    return "\n".join(rows)


def _nearest(wanted: str, lines: Sequence[str]) -> int | None:
    """The index of the line that is most like a text; None if none is much like it."""
    short = wanted.strip()[:LINE_CHARACTERS].casefold()
    if not short:
        return None
    stripped = [line.strip()[:LINE_CHARACTERS].casefold() for line in lines]
    # Wrong spaces and capitals are the usual mistakes.
    if short in stripped:
        return stripped.index(short)
    matches = difflib.get_close_matches(short, dict.fromkeys(stripped), n=1, cutoff=0.6)
    return stripped.index(matches[0]) if matches else None


def _line_numbers(text: str, search: str) -> str:
    """The first few lines on which a text begins."""
    numbers: list[str] = []
    place = text.find(search)
    while place >= 0 and len(numbers) < FAULTY:
        numbers.append(str(text.count("\n", 0, place) + 1))
        place = text.find(search, place + 1)
    return ", ".join(numbers)


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
