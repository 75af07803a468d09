"""The worktrees of candidates: each is a folder with its own branch, whose files are the bytes of its commits.

git keeps an entry for each, the folder `worktrees/NAME` in the common directory. Its file `gitdir` names the worktree's
`.git` file, and this names the entry. A worktree counts only if each names the other.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import GitError
from autolab.lab.plumbing import GitPlace, create, disk, read_line
from autolab.lab.refs import Refs, own_ref

UNFINISHED = "autolab is writing the files of this worktree"
"""The reason of the lock that a new worktree has until its last file is written. git prunes no locked worktree."""


@dataclass(frozen=True)
class Commit:
    """The ids of a commit and of its tree."""

    sha: str
    tree: str


class Worktrees(Refs):
    """The worktrees of a repository. One process at a time may write to them."""

    def add_worktree(self, path: Path, branch: str, base: str) -> None:
        """Make sure that `path` is a worktree on `branch`, which starts at `base`.

        Idempotent: after a crash at any point the same call finishes the work. A worktree that is there is kept with
        its changes. A folder that was deleted is made again from the branch. GitError: other files are in the way,
        the branch does not come from `base`, or the worktree is on another branch.
        """
        start, ref = self._known(base), own_ref(f"refs/heads/{branch}")
        tip = self.resolve(ref)
        if tip is not None and not self.is_ancestor(start, tip):
            raise GitError(
                f"branch {branch} exists and does not come from {base}: rename it (git branch -m), try again"
            )
        place = self._standing(path) or self._new_worktree(path, branch, start if tip is None else None)
        self._require_branch(place, path, branch)
        if _is_unfinished(place.git_dir):
            self._fill(place, ref)

    def commit_worktree(self, path: Path, message: str, branch: str | None = None) -> Commit:
        """Commit all files of the worktree that are not ignored on its branch (`exp/FOLDER` by default).

        If nothing changed: its present commit. Idempotent. What the worktree's index says does not count.
        """
        place = self._worktree(path)
        branch = f"exp/{path.name}" if branch is None else branch
        self._require_branch(place, path, branch)
        files = self._files_of(place, write=True)
        for entry in files.values():
            if not entry.id:
                raise GitError(f"{path / entry.name} is a repository of its own: remove its .git or ignore it")
        ref = own_ref(f"refs/heads/{branch}")
        tip = self._known(ref)
        with self._index() as index:
            tree = self._tree_of(files.values(), index)
            if tree != self.tree(tip):
                new = self._commit(tree, tip, message)
                # Not by `update_ref`, which refuses a branch that is checked out: it is, here.
                self._run("update-ref", "-m", "commit: autolab", ref, new, tip)
                tip = new
            # After the branch: a crash in between leaves an index that the same call replaces.
            with disk(f"index of {path}"):
                os.replace(index, place.git_dir / "index")
        return Commit(tip, tree)

    def worktree_equals(self, path: Path, commit: str) -> bool:
        """Whether the worktree is at `commit` with nothing staged, changed, missing or added."""
        place = self._standing(path)
        full = self._known(commit)
        if place is None or self._line("rev-parse", "HEAD", at=place) != full:
            return False
        # `git status` would believe flags such as assume-unchanged. Here the bytes are compared.
        tree = {entry.name: entry for entry in self._files_in(full)}
        staged = {entry.name: entry for entry in self._staged(place)}
        return staged == tree and self._files_of(place, write=False) == tree

    def repair_worktrees(self) -> list[Path]:
        """Tie the worktrees inside the lab to this repository again; the folders that were tied.

        They come loose when the lab is moved or copied, or when a worktree's `.git` file is lost. Nothing is written
        to the place that the lab came from. Worktrees outside of the checkout are left alone.
        """
        folders = []
        for entry in self._entries():
            folder = self._loose_folder(entry)
            if folder is not None:
                _tie(entry, folder)
                folders.append(folder)
        return folders

    def _loose_folder(self, entry: Path) -> Path | None:
        """The folder below the checkout that belongs to git's entry and is not tied to it; None if there is none."""
        link = _link_of(entry)
        if _entry_named_in(link) == entry:
            return None
        if link.is_relative_to(self.root) and link.parent.is_dir() and not os.path.lexists(link):
            return link.parent
        # The entry has the path from before a move. Some end of that path is the path below the new root.
        parts = link.parent.parts[1:]
        for start in range(len(parts)):
            folder = self.root.joinpath(*parts[start:])
            target = _entry_named_in(folder / ".git")
            if target is not None and target.name == entry.name:
                return folder
        return None

    # --- one worktree ---

    def _entries(self) -> list[Path]:
        folder = self.common / "worktrees"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _entry_at(self, path: Path) -> Path | None:
        """git's entry for a worktree at `path`, whether or not the folder is there."""
        link = path.resolve() / ".git"
        for entry in self._entries():
            if _link_of(entry) == link:
                return entry
        return None

    def _standing(self, path: Path) -> GitPlace | None:
        """The worktree at `path`; None if its folder or its entry is missing or incomplete."""
        entry = self._entry_at(path)
        if entry is None or _entry_named_in(path / ".git") != entry or not (entry / "HEAD").is_file():
            return None
        place = GitPlace(entry, path.resolve())
        # `git worktree add` writes a detached HEAD first. If it was killed there, the entry is of no use.
        if _is_unfinished(entry) and self._branch(place) is None:
            return None
        return place

    def _worktree(self, path: Path) -> GitPlace:
        place = self._standing(path)
        if place is None:
            raise GitError(f"{path} is not a worktree of {self.root}: autolab doctor --fix makes it again")
        if _is_unfinished(place.git_dir):
            raise GitError(f"worktree {path} was never finished: the same autolab command makes it again")
        return place

    def _require_branch(self, place: GitPlace, path: Path, branch: str) -> None:
        if self._branch(place) != branch:
            raise GitError(f"worktree {path} is not on {branch}: run git -C {path} switch {branch}, then try again")

    def _new_worktree(self, path: Path, branch: str, start: str | None) -> GitPlace:
        """An empty worktree, locked until its files are written. `start`: where a new branch begins."""
        folder = path.resolve()
        entry = self._entry_at(path)
        reason = "" if entry is None else read_line(entry / "locked")
        if reason not in ("", UNFINISHED):
            raise GitError(f"worktree {path} is locked ({reason}): run git worktree unlock {path}, then try again")
        with disk(f"git worktree add {path}"):
            names = os.listdir(folder) if folder.exists() else []
            # A call that was killed leaves this one file. Everything else in the way is somebody's work.
            if reason == UNFINISHED and names == [".git"]:
                (folder / ".git").unlink()
            elif names:
                raise GitError(f"{path} holds files and is no worktree of {self.root}: move it away, then try again")
            if entry is not None:
                # As `git worktree prune` does. That command would remove the entries of other lost folders too.
                shutil.rmtree(entry)
            folder.parent.mkdir(parents=True, exist_ok=True)
        if start is not None:
            self.update_ref(f"refs/heads/{branch}", start, None)
        # Without checkout, which would convert line endings and run filters: `_fill` writes the files.
        self._run("worktree", "add", "--no-checkout", "--lock", "--reason", UNFINISHED, str(folder), branch)
        place = self._standing(path)
        if place is None:
            raise GitError(f"git worktree add {path}: git said yes, but no worktree stands there: try again")
        return place

    def _fill(self, place: GitPlace, ref: str) -> None:
        """Write index and files of a new worktree. What an interrupted call left is written again."""
        with self._index() as index, disk(f"files of {place.folder}"):
            self._run("read-tree", ref, index=index)
            for entry, data in self._blobs(self._files_in(self._known(ref))):
                target = place.folder / entry.name
                target.unlink(missing_ok=True)
                create(target, entry.mode, data)
            # An empty tree may leave no index.
            if index.exists():
                os.replace(index, place.git_dir / "index")
            # Last: the lock says that the files may be incomplete.
            (place.git_dir / "locked").unlink()


def _is_unfinished(entry: Path) -> bool:
    return read_line(entry / "locked") == UNFINISHED


def _link_of(entry: Path) -> Path:
    """The `.git` file that git's entry names."""
    # Newer git may write a path relative to the entry.
    return (entry / read_line(entry / "gitdir")).resolve()


def _entry_named_in(link: Path) -> Path | None:
    """The entry that a worktree's `.git` file names; None if it is no such file."""
    text = read_line(link)
    if not text.startswith("gitdir:"):
        return None
    return (link.parent / text.removeprefix("gitdir:").strip()).resolve()


def _tie(entry: Path, folder: Path) -> None:
    link = folder.resolve() / ".git"
    for file, text in ((folder / ".git", f"gitdir: {entry}\n"), (entry / "gitdir", f"{link}\n")):
        with disk(f"worktree {folder}"):
            partial = file.with_name(f"{file.name}.autolab-partial")
            partial.write_bytes(os.fsencode(text))
            os.replace(partial, file)
