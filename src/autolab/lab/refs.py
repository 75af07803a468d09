"""Autolab's own refs: pins, branches, and the log of a lab's files. No other ref is written here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from autolab.errors import GitError
from autolab.lab.git_reader import GitReader
from autolab.lab.plumbing import create, disk, is_file

OWN_REFS = ("refs/autolab/", "refs/heads/autolab/", "refs/heads/exp/")
CHAMPION = "refs/heads/autolab/champion"
WORKING = "refs/heads/autolab/working"
LOG = "refs/autolab/log"
_FOLDERS = (
    *("refs/heads/exp", "refs/heads/autolab", "refs/autolab", "refs/autolab/keep"),
    *("refs/autolab/keep/plans", "refs/autolab/keep/proposals"),
)
"""Names that have to stay free, because a lab makes refs below them, and git has none below a ref."""
_LEAVES = (CHAMPION, WORKING, LOG)
"""Refs below which there must be none, for the same reason."""


def own_ref(ref: str) -> str:
    """The ref itself. GitError: it is not Autolab's."""
    if not ref.startswith(OWN_REFS):
        raise GitError(f"{ref} is not one of Autolab's refs ({', '.join(OWN_REFS)}): it is left alone")
    return ref


class Refs(GitReader):
    """The refs in `OWN_REFS` of a repository."""

    def update_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move one of Autolab's refs from `old` to `new`; if `old` is None, create it.

        GitError: the ref is elsewhere by now, or it is a branch that is checked out somewhere.
        """
        # A branch that moves under a checkout makes its files look changed by the user.
        if own_ref(ref) in self._checked_out(ref):
            raise GitError(f"{ref} is checked out and must move: switch to another branch there, then try again")
        commit = self._known(new)
        # git compares the old value under its lock. The empty text means that the ref must not exist.
        self._run("update-ref", "-m", "autolab", ref, commit, "" if old is None else self._known(old))

    def require_free_names(self) -> None:
        """GitError: a ref of the user's has a name that keeps git from making a lab's refs; the way out."""
        for folder in _FOLDERS:
            # git lists no damaged ref, but its file is in the way.
            if is_file(self.common / folder) and self.resolve(folder) is None:
                raise GitError(f"{self.common / folder}: a damaged ref, and a lab makes refs below it: move it away")
        for ref in self.refs():
            needed = _needed(ref)
            if needed:
                raise GitError(f"{_kind(ref)} keeps git from making a lab's {_short(needed)}; {_renaming(ref)}")

    def _checked_out(self, ref: str) -> set[str]:
        # Only branches can be checked out. This saves a call for each step of the log.
        if not ref.startswith("refs/heads/"):
            return set()
        lines = os.fsdecode(self._run("worktree", "list", "--porcelain")).split("\n")
        return {line.removeprefix("branch ") for line in lines if line.startswith("branch ")}

    def pin(self, ref: str, commit: str) -> None:
        """Keep a commit for ever under `ref`. Repeated: no change. GitError: the ref pins another commit."""
        full, present = self._known(commit), self.resolve(own_ref(ref))
        if present is None:
            self.update_ref(ref, full, None)
        elif present != full:
            raise GitError(f"{ref} pins {present} and not {full}: a pin is never moved; use another id")

    def snapshot(self, ref: str, root: Path, paths: Iterable[str], message: str) -> str:
        """Append a commit to `ref` that holds just these files of `root`; its id.

        If files and message are those of the tip: the tip. The cost is that of the files, not of the history.
        GitError: a file is missing, or `ref` moved meanwhile.
        """
        tip = self.resolve(own_ref(ref))
        names = sorted(set(paths))
        for name in names:
            if not is_file(root / name):
                raise GitError(f"{root / name} is not there to be recorded on {ref}: a file was expected")
        with self._index() as index:
            tree = self._tree_of(self._hash(root, names, write=True), index)
        if tip is not None and tree == self.tree(tip) and self._message(tip) == message.strip():
            return tip
        commit = self._commit(tree, tip, message)
        self.update_ref(ref, commit, tip)
        return commit

    def restore_missing(self, commit: str, root: Path) -> list[str]:
        """Write the commit's files that do not exist under `root`; their paths. Overwrites nothing, follows no link."""
        missing = [entry for entry in self._files_in(self._known(commit)) if not os.path.lexists(root / entry.name)]
        names = []
        real = os.path.realpath(root)
        with disk(f"files of {commit} to {root}"):
            for entry, data in self._blobs(missing):
                target = root / entry.name
                if os.path.realpath(target.parent) != os.path.join(real, os.path.dirname(entry.name)).rstrip("/"):
                    raise GitError(f"{target}: a folder above it is a symbolic link: put a real folder in its place")
                partial = target.with_name(f".{target.name}.autolab-partial")
                partial.unlink(missing_ok=True)
                create(partial, entry.mode, data)
                # A rename would overwrite a file that somebody made meanwhile. A link fails, and their file stays.
                with contextlib.suppress(FileExistsError):
                    os.link(partial, target, follow_symlinks=False)
                    names.append(entry.name)
                partial.unlink()
        return sorted(names)


def _needed(ref: str) -> str:
    """What a lab cannot have beside this ref; empty if nothing."""
    if ref in _FOLDERS:
        return f"{ref}/"
    for leaf in _LEAVES:
        if ref.startswith(f"{leaf}/"):
            return leaf
    return ""


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def _kind(ref: str) -> str:
    word = "the branch" if ref.startswith("refs/heads/") else "the ref"
    return f"{word} {_short(ref)}"


def _renaming(ref: str) -> str:
    """How to give a ref another name, with its commits."""
    if ref.startswith("refs/heads/"):
        return f"rename it: git branch -m {_short(ref)} NEW_NAME"
    return f"keep it elsewhere and delete it: git update-ref refs/kept/NAME {ref} && git update-ref -d {ref}"
