"""Everything that Autolab does with git: candidates in worktrees, read-only exports, history, the user's own commits.

`Git` is put together from what can be read (`git_reader.py`), Autolab's refs (`refs.py`) and the candidates' worktrees
(`worktrees.py`). It has no reset, no clean, no force, no merge and no stash. Nothing of the user's is touched: not
their branches, index, stash, uncommitted files or configuration. It writes the refs in `OWN_REFS`, worktree entries and
objects. Only `publish` and `commit_all`, which the user orders, write to the user's branch. They are in this file.

Bytes are bytes: a worktree, an export and the log hold what the commit holds, without filters or end-of-line
conversion, whatever the configuration or `.gitattributes` say. So files in Git LFS appear as pointers. `publish` and
`commit_all` alone convert and filter as the user's own git would.

Errors are `GitError`, one line. git 2.34 or newer, refs of any backend. A power loss is not covered: files are renamed
into place, but not fsynced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from autolab.errors import GitError
from autolab.lab.git_reader import Change, common_dir, find_root
from autolab.lab.plumbing import ENGINE_ENV, SUBMODULE, TreeEntry, call_git, disk, index_line, staged_entry
from autolab.lab.worktrees import Commit, Worktrees
from autolab.text import one_line

__all__ = ["Change", "Commit", "Git", "common_dir", "find_root"]


class Git(Worktrees):
    """git on the checkout `root`. Methods that write are for one process at a time (the lab's lock)."""

    @staticmethod
    def init(path: Path) -> Git:
        """Make `path` a repository with the branch `main`, without commits. An existing one stays as it is."""
        with disk(f"git init {path}"):
            path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            call_git(["init", "--quiet", "-b", "main", "."], path, ENGINE_ENV | {"GIT_DEFAULT_REF_FORMAT": "files"})
        return Git(path)

    @staticmethod
    def shared(source: Path, folder: Path, branch: str, commit: str) -> None:
        """Make `folder` a repository that reads the objects of the one at `source`, with `commit` on `branch`."""
        repository = Git.init(folder)
        alternates = repository.common / "objects" / "info" / "alternates"
        alternates.write_text(f"{common_dir(source).resolve()}/objects\n")
        call_git(["checkout", "--quiet", "-B", branch, commit], folder, ENGINE_ENV)

    def commit_all(self, message: str) -> str:
        """Make the first commit of a repository that `init` made, with every file that is not ignored; its id.

        It is in the user's name if git knows one, else in Autolab's. Repeated: the same commit. GitError: the
        repository has commits and uncommitted changes, which are not Autolab's to commit.
        """
        head = self.head()
        if head is not None:
            if self.dirty():
                raise GitError(f"{self.root} has commits of its own and uncommitted files: commit them, then go on")
            return head
        self._run("add", "--all", user=True)
        tree = self._line("write-tree", user=True)
        commit = self._commit(tree, None, message, user=self._knows_user())
        self._run("update-ref", "-m", "commit (initial): autolab init", "HEAD", commit, "")
        return commit

    def commit_of_checkout(self, message: str, as_committed: Callable[[str], bool] = lambda path: False) -> Commit:
        """A commit of the checkout as it lies there, on no branch: changed and untracked files that are not ignored.

        Paths for which `as_committed` is true are taken from the commit that is checked out, which is the parent. The
        user's branch, index and files stay as they are. GitError: a repository lies in it that is no submodule, or a
        submodule has changes of its own.
        """
        head = self.head()
        present = self._files_of(self._checkout, write=True)
        files = {name: entry for name, entry in present.items() if not as_committed(name)}
        for entry in self._files_in(head) if head else ():
            if as_committed(entry.name):
                files[entry.name] = entry
        for entry in files.values():
            if not entry.id:
                raise GitError(f"{self.root / entry.name} is a repository of its own: remove its .git or ignore it")
        changed = self._fields("diff-files", "--name-only", "-z", "--ignore-submodules=none", user=True)
        for name in map(os.fsdecode, changed):
            if name in files and files[name].mode == SUBMODULE:
                raise GitError(f"{self.root / name}: a submodule with changes: commit them there, and git add {name}")
        with self._index() as index:
            tree = self._tree_of(files.values(), index)
        return Commit(self._commit(tree, head, message), tree)

    def commit_of_patch(self, base: str, patch: bytes, message: str) -> Commit:
        """A commit of `base` with a patch applied, on no branch. GitError: the patch does not apply."""
        full = self._known(base)
        tree = self._patched(full, patch)
        return Commit(self._commit(tree, full, message), tree)

    def commit_of_changes(self, base: str, origin: str, changed: str, message: str, left_out: Sequence[str]) -> Commit:
        """A commit of `base`, on no branch, with what differs from `origin` to `changed`, but for the files `left_out`.

        GitError: the change does not apply to `base`, whose files differ from those of `origin`.
        """
        full, names = self._known(base), set(left_out)
        # A file that is left out becomes that of the origin again: mode 0 removes one that the origin does not have.
        lines = [
            index_line(TreeEntry(change.path, change.old_mode, change.old_id))
            for change in self.diff(origin, changed)
            if change.path in names
        ]
        with self._index() as index:
            self._run("read-tree", self._known(changed), index=index)
            self._run("update-index", "-z", "--index-info", stdin=b"".join(lines), index=index)
            tree = self._line("write-tree", index=index)
        if self.tree(origin) != self.tree(full):
            # No merge: that could run a program which the repository's configuration names.
            form = ["-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color"]
            patch = self._run("diff-tree", *form, "--no-ext-diff", "--no-textconv", self.tree(origin), tree)
            tree = self._patched(full, patch) if patch else self.tree(full)
        return Commit(self._commit(tree, full, message), tree)

    def _patched(self, commit: str, patch: bytes) -> str:
        """The tree of a commit with a patch applied. GitError: it does not apply."""
        with self._index() as index:
            self._run("read-tree", commit, index=index)
            self._run("apply", "--cached", "--binary", "-", stdin=patch, index=index)
            return self._line("write-tree", index=index)

    def publish(self, paths: Sequence[str], message: str) -> str | None:
        """Commit exactly these files (new, changed or deleted) on the user's branch; None if they have not changed.

        Like `git commit --only`, without hooks: whatever else is staged, changed or untracked stays as it is. A path
        that neither exists nor is tracked is ignored. After a crash the same call commits the same files.
        """
        paths = [os.path.normpath(path) for path in paths]
        head = self._publishable(paths)
        # In an index that starts from the commit: the user's own may have other files staged.
        with self._index() as index:
            if head is not None:
                self._run("read-tree", head, index=index, user=True)
            names = b"".join(os.fsencode(path) + b"\0" for path in paths)
            self._run("update-index", "--add", "--remove", "-z", "--stdin", stdin=names, index=index, user=True)
            tree = self._line("write-tree", index=index, user=True)
            fields = self._fields("ls-files", "--stage", "-z", index=index, user=True)
        # `git mktree` of nothing prints the id of the empty tree, whichever hash the repository uses.
        if tree == (self.tree(head) if head else self._line("mktree")):
            return None
        commit = self._commit(tree, head, message, user=True)
        entries = [staged_entry(field) for field in fields]
        # The index before the branch. If the branch moved first, a crash would leave the old files staged, and the
        # user's next commit would undo this one.
        self._stage(paths, {entry.name: entry for entry in entries}, zeros="0" * len(tree))
        subject = one_line(message.strip().partition("\n")[0])
        self._run("update-ref", "-m", f"commit: {subject or 'autolab publish'}", "HEAD", commit, head or "", user=True)
        return commit

    def commit_beside(self, commit: str, paths: Sequence[str]) -> str:
        """A commit of `commit` with these files as they lie on disk. No branch, no index and no ref knows of it."""
        with self._index() as index:
            self._run("read-tree", commit, index=index)
            tree = self._tree_of(self._hash(self.root, paths, write=True), index)
        return self._commit(tree, commit, "files that are not committed yet")

    def _publishable(self, paths: Sequence[str]) -> str | None:
        """The commit to publish on; None on a branch without commits. GitError: not now, and what to do first."""
        operation = self.busy()
        if operation is not None:
            way_out = f"git {operation} --continue or git {operation} --abort"
            if operation == "bisect":
                way_out = "git bisect reset"
            raise GitError(
                f"publish: a {operation} is in progress in {self.root}: end it with {way_out}, then publish again"
            )
        if self.branch() is None:
            raise GitError(f"publish: HEAD is detached in {self.root}: run git switch <branch>, then publish again")
        if not self._knows_user():
            raise GitError("publish: git has no name for you: run git config --global user.name and user.email first")
        for path in paths:
            if os.path.isabs(path) or path.startswith("..") or (self.root / path).is_dir():
                raise GitError(f"publish: {path} is no file of {self.root}: name files by their path in it")
        # Without a path ls-files would list the conflicts of all files.
        if paths and self._run("ls-files", "--unmerged", "-z", "--", *paths, user=True):
            raise GitError("publish: a file to publish has conflicts: resolve and git add it, then publish again")
        return self.head()

    def _stage(self, paths: Iterable[str], committed: Mapping[str, TreeEntry], zeros: str) -> None:
        """Put these paths, as committed, into the user's index; every other entry keeps its bytes."""
        # Mode 0 removes a path from the index.
        entries = [committed.get(path, TreeEntry(path, "0", zeros)) for path in paths]
        self._run("update-index", "-z", "--index-info", stdin=b"".join(map(index_line, entries)), user=True)

    def _knows_user(self) -> bool:
        # `git var` fails where it would have to guess: `_USER_CONFIG` forbids that.
        for name in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            if self._call("var", name, ok=range(256), user=True).returncode != 0:
                return False
        return True
