"""A user's repository as it was found, and what keeps it from becoming a lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autolab.errors import LabError
from autolab.lab.create import refuse_nested
from autolab.lab.git import Git, common_dir, find_root
from autolab.text import decode

RECORD_FOLDERS = ("experiments", "5_worktrees")


@dataclass(frozen=True)
class Repository:
    """Its root, the commit that is checked out, and the untracked paths, which no commit holds."""

    root: Path
    git: Git
    head: str
    untracked: tuple[str, ...]

    def holds(self, path: str) -> bool:
        """Whether the commit has the path."""
        return self.git.has_path(self.head, path) is not None

    def text(self, path: str) -> str:
        """The text of a file of the checkout."""
        return decode((self.root / path).read_bytes())


def open_repository(root: Path) -> Repository:
    """The repository at `root`. LabError: why no lab can be made of it as it stands, and the way out."""
    top = find_root(root) if root.is_dir() else None
    if top is None:
        raise LabError(f"{root}: not a git repository; run `git init` there and commit the training program")
    refuse_nested(root)
    if top != root:
        raise LabError(f"{root}: lies in the repository {top}; adopt that one: a lab is a whole repository")
    # The store lies in `.git`, which a worktree and a submodule share with their main checkout.
    if common_dir(root) != root / ".git":
        raise LabError(f"{root}: a worktree or a submodule of {common_dir(root)}; adopt the main checkout")
    if (root / ".autolab" / "config.yaml").exists():
        raise LabError(f"{root}: has .autolab/config.yaml already; `autolab init {root}` makes it a lab")
    git = Git(root)
    head, operation = git.head(), git.busy()
    if head is None:
        raise LabError(f"{root}: has no commit yet; experiments start from one: commit the training program")
    if git.branch() is None:
        raise LabError(f"{root}: no branch is checked out (HEAD is detached); run `git switch BRANCH`")
    if operation is not None:
        raise LabError(f"{root}: a {operation} is in progress; end it first")
    dirty = git.dirty()
    # Untracked files may stay: git leaves them alone, and so does the lab.
    changes = [path for path in dirty if git.has_path(head, path)]
    if changes:
        names = changes[0]
        if len(changes) > 1:
            names += f" and {len(changes) - 1} more"
        problem = "changed since the last commit, which experiments start from"
        raise LabError(f"{names}: {problem}; commit or stash")
    for folder in RECORD_FOLDERS:
        if git.has_path(head, folder):
            raise LabError(f"{folder}: the repository has it, and a lab keeps its own record there; rename it, commit")
    return Repository(root, git, head, tuple(dirty))
