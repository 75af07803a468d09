"""A user's repository as it was found, and what keeps it from becoming a lab."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.adoption.refusals import Refusals
from autolab.errors import LabError
from autolab.lab.create import refuse_nested
from autolab.lab.git import Git, common_dir, find_root
from autolab.lab.refs import CHAMPION
from autolab.text import decode

RECORD_FOLDERS = ("experiments", "5_worktrees")
_STARTS = "which experiments start from"


@dataclass(frozen=True)
class Repository:
    """Its root, the commit that is checked out, and the untracked paths, which no commit holds.

    `folder`: the one below the root that was named to adopt, where the program runs; empty for the root."""

    root: Path
    git: Git
    head: str
    untracked: tuple[str, ...]
    lacks_files: bool = False
    """Whether files of the commit are not fetched, so that nothing can be exported."""
    folder: str = ""

    def holds(self, path: str) -> bool:
        """Whether the commit has the path."""
        return self.git.has_path(self.head, path) is not None

    @property
    def main_checkout(self) -> Path:
        """The checkout that a worktree belongs to, where the files lie that git does not hold; else the root itself."""
        return main_checkout(self.root)

    def text(self, path: str) -> str:
        """The text of a file of the checkout."""
        return decode((self.root / path).read_bytes())


def main_checkout(root: Path) -> Path:
    """The checkout with the `.git` folder of the worktree at `root`; `root` itself if it is no worktree."""
    folder = common_dir(root)
    return folder.parent if folder.name == ".git" else root


def open_repository(place: Path, refusals: Refusals, *, for_lab: bool = True) -> Repository:
    """The repository at `place` or above; what its user can change beside other things is collected in `refusals`.

    Without `for_lab` it may have changes, and anything that is in the way of a lab's own branches and folders.
    LabError: why it cannot be used at all as it stands, and the way out.
    """
    root = find_root(place) if place.is_dir() else None
    if root is None:
        raise LabError(f"{place}: not a git repository; run `git init` there and commit the training program")
    refuse_nested(root)
    own = "" if place == root else str(place.relative_to(root))
    # A lab's store lies in `.git`, which a worktree and a submodule share with their main checkout.
    if for_lab and common_dir(root) != root / ".git":
        raise LabError(f"{root}: a worktree or a submodule of {common_dir(root)}; adopt the main checkout")
    if for_lab and (root / ".autolab" / "config.yaml").exists():
        raise LabError(f"{root}: has .autolab/config.yaml already; `autolab init {root}` makes it a lab")
    git = Git(root)
    if git.distrusted():
        raise LabError(distrust(root))
    head = _head(git)
    dirty = git.dirty()
    if for_lab:
        _refuse_for_lab(git, head, dirty, refusals)
    lacks_files = True
    with refusals.collect():
        require_whole(git, head)
        lacks_files = False
    if own and git.has_path(head, own) is None:
        raise LabError(f"{place}: git does not hold this folder of {root}; commit it, or adopt {root}")
    return Repository(root, git, head, tuple(dirty), lacks_files, own)


def _refuse_for_lab(git: Git, head: str, dirty: list[str], refusals: Refusals) -> None:
    """Collect what would be in the way of a lab in this repository."""
    with refusals.collect():
        _require_branch(git)
    with refusals.collect():
        _refuse_changes(git, head, dirty)
    for folder in RECORD_FOLDERS:
        with refusals.collect():
            _require_free(git, head, folder)
    with refusals.collect():
        _require_refs(git)


def distrust(root: Path) -> str:
    """What is said where git refuses to work in a repository of another user, and the way out."""
    way_out = f"git config --global --add safe.directory {root}"
    return f"{root}: belongs to another user, so git itself refuses to work there; if you trust it: {way_out}"


def require_whole(git: Git, commit: str) -> None:
    """LabError: a partial clone has not fetched files of the commit, and trials get all of them."""
    missing = git.missing_files(commit)
    if missing:
        way_out = "git diff --numstat $(git mktree </dev/null) HEAD >/dev/null"
        raise LabError(
            f"{_first_of(missing)}: not fetched into this partial clone, and trials need it; to fetch it: {way_out}"
        )


def _head(git: Git) -> str:
    """The commit that is checked out. LabError: there is none."""
    head, root = git.head(), git.root
    if head is None:
        others = [ref.removeprefix("refs/heads/") for ref in git.refs() if ref.startswith("refs/heads/")]
        # A branch that was never committed to, such as the default one of a repository with commits elsewhere.
        if others:
            raise LabError(
                f"{root}: the branch {git.branch()} has no commit; experiments start from one: git switch {others[0]}"
            )
        raise LabError(f"{root}: has no commit yet; experiments start from one: commit the training program")
    return head


def _require_branch(git: Git) -> None:
    """LabError: no branch is checked out, or an operation is in progress, which may be why."""
    operation = git.busy()
    if operation is not None:
        raise LabError(f"{git.root}: a {operation} is in progress; end it first")
    if git.branch() is None:
        raise LabError(f"{git.root}: no branch is checked out (HEAD is detached); run `git switch BRANCH`")


def _refuse_changes(git: Git, head: str, dirty: Sequence[str]) -> None:
    """LabError: committed files have changed. Untracked files may stay: git leaves them alone, and so does the lab."""
    changes = _changes(git, [path for path in dirty if git.has_path(head, path)])
    if changes:
        raise LabError(f"{_first_of(changes)}: changed since the last commit, {_STARTS}; commit or stash")
    hidden = git.hidden_changes(head)
    if hidden:
        way_out = "git update-index --no-assume-unchanged --no-skip-worktree FILE, then commit or stash"
        raise LabError(f"{_first_of(hidden)}: changed since the last commit, {_STARTS}, and hidden from git: {way_out}")


def _require_free(git: Git, head: str, folder: str) -> None:
    """LabError: the folder for a lab's record has files of the user's."""
    if git.has_path(head, folder):
        raise LabError(f"{folder}: the repository has it, and a lab keeps its own record there; rename it, commit")
    # An empty one can be filled.
    if _is_taken(git.root / folder):
        raise LabError(f"{folder}: has files that git does not hold, and a lab keeps its record there; rename it")


def _changes(git: Git, paths: Sequence[str]) -> list[str]:
    """Those of these committed paths that have changed, also by what the user's own filters say."""
    filtered = git.filters(paths)
    # Without its filter a file may look changed that is not.
    changed = git.dirty([*filtered], run_filters=True)
    return [path for path in paths if path not in filtered or path in changed]


def _require_refs(git: Git) -> None:
    """LabError, GitError: a lab could not make its branches and refs here, or would move one of the user's."""
    git.require_free_names()
    if CHAMPION in git.refs():
        name = CHAMPION.removeprefix("refs/heads/")
        raise LabError(f"the branch {name} exists, and a lab moves it to what it keeps; git branch -m {name} NEW_NAME")


def _is_taken(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return any(path.iterdir())
    return os.path.lexists(path)


def _first_of(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"
