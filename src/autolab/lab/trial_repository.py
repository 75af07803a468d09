"""The git repository of a trial: HEAD is the true commit, and what it holds is the export alone.

A program that asks git for its commit, its changes or its files gets an answer. No object of the user's repository is
in reach: the files are stored anew, from the export, as one commit without a parent, and `refs/replace/` puts that
commit in the place of the true one. So `git rev-parse HEAD` is right, and `git show HEAD:eval.py` finds nothing.

The same commit and export give the same bytes: a repository that was tampered with is made again under its old seal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.files import sha256_of, write_whole
from autolab.lab.git_reader import GitReader
from autolab.lab.plumbing import GitPlace, Plumbing, disk
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.environment import TRIAL_CONFIG

# The repository belongs to the engine's user, and a trial may run as another, whom git would refuse.
_SETTINGS = "[safe]\n\tdirectory = *\n[core]\n\tfsmonitor = false\n[advice]\n\tdetachedHead = false\n"
_CONFIG = "[core]\n\tbare = false\n\tfilemode = true\n\tlogallrefupdates = false\n\trepositoryformatversion = "
_AUTHOR = "Autolab <autolab@localhost>"


@dataclass(frozen=True)
class TrialRepository:
    """What the repository of one commit is to say. `describe`: the user's `git describe`, "" if that has no answer.

    `unchanged`: files that a trial gets with another content, such as its seed, and that do not count as changed.
    `ignored`: paths that are no files of the commit, such as the link to the data.
    """

    commit: str
    time: str
    """Of the commit: seconds since 1970, UTC."""
    describe: str
    unchanged: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, git: GitReader, commit: str, unchanged: Sequence[str] = (), ignored: Sequence[str] = ()
    ) -> TrialRepository:
        return cls(commit, git.commit_time(commit), git.describe(commit), tuple(unchanged), tuple(ignored))

    @property
    def key(self) -> str:
        """Eight digits that stand for all that the repository says beside its files."""
        return sha256_of(repr(self))[:8]

    def make(self, export: Path, destination: Path) -> None:
        """Make the repository of the files in `export`. One that exists stays as it is. GitError: it cannot be made."""
        if destination.exists():
            return
        with disk(f"repository of {export}"):
            # Made beside and renamed: a destination that exists is complete.
            partial = destination.with_name(f".{destination.name}.partial")
            remove_tree(partial)
            for name in ("objects", "refs/heads", "info"):
                (partial / name).mkdir(parents=True)
            form = "0\n"
            # A repository whose ids are of SHA-256 says so.
            if len(self.commit) == 64:
                form = "1\n[extensions]\n\tobjectformat = sha256\n"
            write_whole(partial / "config", _CONFIG + form)
            write_whole(partial / TRIAL_CONFIG, _SETTINGS)
            write_whole(partial / "HEAD", f"{self.commit}\n")
            patterns = [f"/{path}\n" for path in self.ignored]
            write_whole(partial / "info" / "exclude", "".join(patterns))
            _Objects(partial, export).add(self)
            _close(partial)
            os.rename(partial, destination)


class _Objects(Plumbing):
    """The objects, the index and the refs of a new repository."""

    def __init__(self, place: Path, export: Path) -> None:
        super().__init__(GitPlace(place, export), place)
        self._place, self._export = place, export

    def add(self, asked: TrialRepository) -> None:
        names = _files(self._export)
        index = self._place / "index"
        tree = self._tree_of(self._hash(self._export, names, write=True), index)
        unchanged = [path for path in asked.unchanged if path in names]
        if unchanged:
            self._run("update-index", "--assume-unchanged", "--", *unchanged, index=index)
        signed = f"{_AUTHOR} {asked.time} +0000"
        text = f"tree {tree}\nauthor {signed}\ncommitter {signed}\n\nThe files of {asked.commit} that a trial sees\n"
        commit = self._object("commit", text)
        refs = [f"{commit} refs/replace/{asked.commit}"]
        if asked.describe:
            # A tag of that name on the commit itself gives the same answer without the history.
            text = f"object {asked.commit}\ntype commit\ntag {asked.describe}\ntagger {signed}\n\n{asked.describe}\n"
            refs.append(f"{self._object('tag', text)} refs/tags/{asked.describe}")
        write_whole(self._place / "packed-refs", "".join(f"{ref}\n" for ref in refs))

    def _object(self, kind: str, text: str) -> str:
        return self._line("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=text.encode())


def _files(export: Path) -> list[str]:
    """Every file and link of an export, relative to it."""
    names = []
    for folder, folders, files in os.walk(export):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names += [os.path.relpath(os.path.join(folder, name), export) for name in (*links, *files)]
    # git's own file in the export leads here.
    return sorted(name for name in names if name != ".git")


def _close(place: Path) -> None:
    """Read-only, and readable for all: a trial may run as another user."""
    for folder, _, files in os.walk(place, topdown=False):
        for name in files:
            os.chmod(os.path.join(folder, name), 0o444)
        if folder != str(place):
            os.chmod(folder, 0o555)
    os.chmod(place, 0o755)
