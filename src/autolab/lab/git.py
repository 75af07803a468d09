"""The only door to git: candidates in worktrees, read-only exports, history by plumbing.

It has no reset, no clean, no force, no merge and no stash. Nothing of the user's is touched: not
their branches, index, stash, uncommitted files or configuration. What it writes are the refs in
`OWN_REFS`, worktree entries and objects; only `publish` and `commit_all`, the user's own commands,
write to the user's branch.

Bytes are bytes: a worktree, an export and the log hold what the commit holds, without filters or
end-of-line conversion, whatever the configuration or `.gitattributes` say. (So files kept in Git LFS
appear as pointers.) `publish` and `commit_all` alone convert and filter as the user's own git would.

Errors are `GitError`, one line. git 2.34 or newer, refs of any backend. A power loss is not covered:
files are renamed into place, but not fsynced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.errors import GitError
from autolab.lab.plumbing import (
    ANSWERS,
    ENGINE_ENV,
    LINK,
    SUBMODULE,
    GitPlace,
    Plumbing,
    TreeEntry,
    call_git,
    create,
    disk,
    entries_of,
    index_line,
    is_file,
    read_line,
    staged_entry,
)
from autolab.sandbox.collect import regular_files, remove_tree
from autolab.text import decode, many_lines, one_line

OWN_REFS = ("refs/autolab/", "refs/heads/autolab/", "refs/heads/exp/")
_UNFINISHED = "autolab is writing the files of this worktree"  # lock reason, from `worktree add` to the last file

_BUSY = (  # first match wins: a rebase may also leave CHERRY_PICK_HEAD
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick"),
    ("BISECT_LOG", "bisect"),
)


@dataclass(frozen=True)
class Commit:
    sha: str
    tree: str


@dataclass(frozen=True)
class Change:
    """One path that differs. A rename is a `D` and an `A`; modes and ids are zeros where absent."""

    status: str  # A added, M modified, D deleted, T type changed
    path: str
    old_mode: str  # 100644, 100755, 120000 (symbolic link), 160000 (submodule)
    new_mode: str
    old_id: str
    new_id: str


def find_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that is a git checkout. Runs no program."""
    here = Path(os.path.abspath(start))
    for folder in (here, *here.parents):
        link = folder / ".git"
        if link.is_file() or (link / "HEAD").exists():
            return folder
    return None


def git_dir(root: Path) -> Path:
    """The folder with HEAD and index of the checkout `root`. Runs no program."""
    link = root / ".git"
    if link.is_dir():
        return link
    target = read_line(link).removeprefix("gitdir:").strip()
    if not target:
        raise GitError(f"{root} is not a git checkout: run git init there, or go to one")
    return Path(os.path.normpath(root / target))


def common_dir(root: Path) -> Path:
    """The folder that all worktrees of a repository share. Runs no program."""
    own = git_dir(root)
    shared = read_line(own / "commondir")
    return Path(os.path.normpath(own / shared)) if shared else own


class Git(Plumbing):
    """git on the checkout `root`. Writing methods are for one process at a time (the lab's lock)."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        super().__init__(GitPlace(git_dir(self.root), self.root), common_dir(self.root).resolve())
        self._commits: deque[str] = deque(maxlen=ANSWERS)

    @staticmethod
    def init(path: Path) -> Git:
        """Make `path` a repository with the branch `main`, unborn. An existing one stays as it is."""
        with disk(f"git init {path}"):
            path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            call_git(["init", "--quiet", "-b", "main", "."], path, ENGINE_ENV | {"GIT_DEFAULT_REF_FORMAT": "files"})
        return Git(path)

    @staticmethod
    def shared(source: Path, folder: Path, branch: str, commit: str) -> Git:
        """A new repository in `folder` that reads the objects of the one at `source`, with `commit` on `branch`."""
        made = Git.init(folder)
        made.common.joinpath("objects", "info", "alternates").write_text(f"{common_dir(source).resolve()}/objects\n")
        call_git(["checkout", "--quiet", "-B", branch, commit], folder, ENGINE_ENV)
        return made

    def commit_all(self, message: str) -> str:
        """The first commit of a repository that `init` made: everything not ignored. Its id.

        In the user's name if git knows one, else Autolab's. Again: the same commit. A repository
        that has commits already and something uncommitted is refused: it is not Autolab's to commit."""
        head = self.head()
        if head is not None:
            if self.dirty():
                raise GitError(f"{self.root} has commits of its own and uncommitted files: commit them, then go on")
            return head
        self._run("add", "--all", user=True)
        tree = self._line("write-tree", user=True)
        commit = self._commit(tree, [], message, user=self._knows_user())
        self._run("update-ref", "-m", "commit (initial): autolab init", "HEAD", commit, "")
        return commit

    # --- asking ---

    def head(self) -> str | None:
        """The commit that is checked out; None on an unborn branch."""
        return self.resolve("HEAD")

    def branch(self) -> str | None:
        """The branch that is checked out, unborn or not; None where HEAD is detached."""
        return self._branch(self._checkout)

    def busy(self) -> str | None:
        """The operation the user is in the middle of: merge, rebase, cherry-pick, revert or bisect."""
        return next((name for file, name in _BUSY if (self._checkout.git_dir / file).exists()), None)

    def resolve(self, rev: str) -> str | None:
        """The commit a name stands for; None if there is none."""
        if not rev or rev.startswith("-") or not rev.isprintable():
            return None
        if rev in self._commits:
            return rev
        done = self._call("rev-parse", "--quiet", "--verify", f"{rev}^{{commit}}", ok=(0, 1))
        found = done.stdout.decode().strip() or None
        if found == rev:  # a full id, which names this commit for ever
            self._commits.append(rev)
        return found

    def tree(self, rev: str) -> str:
        """The tree of a commit: equal trees hold equal files."""
        return self._asked("rev-parse", "--verify", f"{self._known(rev)}^{{tree}}").decode().strip()

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` is `older` or descends from it."""
        done = self._call("merge-base", "--is-ancestor", self._known(older), self._known(newer), ok=(0, 1))
        return done.returncode == 0

    def has_path(self, commit: str, path: str) -> str | None:
        """The object id of a file or folder in a commit; None if it is not there."""
        found = self._asked("ls-tree", "-z", "--full-tree", self._known(commit), "--", path.rstrip("/"))
        return entries_of(found)[0].id if found else None

    def read(self, commit: str, path: str) -> bytes | None:
        """The bytes of a file in a commit; None if there is no file of that name."""
        found = entries_of(self._run("ls-tree", "-z", "--full-tree", self._known(commit), "--", path))
        if not found or found[0].mode[:2] != "10":
            return None
        return next(self._blobs(found[:1]))[1]

    def text(self, commit: str, path: str) -> str | None:
        """A file as `commit` has it, as text; None where there is none."""
        content = self.read(commit, path)
        return None if content is None else decode(content)

    def files(self, commit: str) -> list[str]:
        """The path of every file in a commit."""
        return [entry.name for entry in self._files_in(self._known(commit))]

    def strays(self, folder: Path, commit: str) -> list[Path]:
        """Regular files below `folder`, ignored ones too, whose bytes are not those that `commit` has at their path.

        Links are not followed; git's own `.git` at the top is left out, one further down is a folder like others."""
        known = {entry.name: entry.id for entry in self._files_in(self._known(commit))}
        with disk(f"files of {folder}"):
            names = [os.path.relpath(path, folder) for path in regular_files(folder, folder / ".git")]
        hashed = self._hash(folder, [name for name in names if name in known], write=False)
        same = {entry.name for entry in hashed if known[entry.name] == entry.id}
        return [folder / name for name in names if name not in same]

    def diff(self, base: str, commit: str) -> list[Change]:
        """What differs from `base` to `commit`, by path, without guessing renames."""
        fields = self._fields(
            "diff-tree", "-r", "--raw", "--no-abbrev", "-z", "--no-renames", self._known(base), self._known(commit)
        )
        changes = []
        for meta, name in zip(fields[::2], fields[1::2], strict=True):
            old_mode, new_mode, old_id, new_id, status = os.fsdecode(meta).lstrip(":").split(" ")
            changes.append(Change(status[0], os.fsdecode(name), old_mode, new_mode, old_id, new_id))
        return changes

    def changed_paths(self, base: str, commit: str) -> list[str]:
        return [change.path for change in self.diff(base, commit)]

    def diff_text(self, base: str, commit: str, limit_bytes: int) -> str:
        """The diff for a reader, at most `limit_bytes` of it; a last line says where it was cut."""
        args = ["diff-tree", "-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"]
        with self._stream(*args, self._known(base), self._known(commit)) as out:
            data = out.read(limit_bytes + 1)
        if len(data) <= limit_bytes:
            return many_lines(data)
        kept = data[: data.rfind(b"\n", 0, limit_bytes) + 1]
        return many_lines(kept) + f"[diff cut after {len(kept)} bytes]\n"

    def dirty(self, paths: Sequence[str] | None = None) -> list[str]:
        """Paths of the user's checkout with staged, unstaged or untracked changes; reads only.

        An untracked folder is one entry, `name/`. The user's ignore rules and line endings apply,
        their filters do not run: a filtered file that was touched counts as changed."""
        if paths is not None and not paths:
            return []
        args = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal"]
        args += ["--ignore-submodules=dirty", "--", *(paths or ())]
        return [os.fsdecode(field[3:]) for field in self._fields(*args, user=True, config=self._no_filters())]

    # --- candidates ---

    def add_worktree(self, path: Path, branch: str, base: str) -> None:
        """See to it that `path` is a worktree on `branch`, which starts at `base`.

        Idempotent: after a crash anywhere the same call finishes; a right one is adopted with the work
        in it; a folder that was deleted comes back from the branch. Refused: files of others in the
        way, a branch that does not come from `base`, a worktree on another branch."""
        start, ref = self._known(base), _own(f"refs/heads/{branch}")
        tip = self.resolve(ref)
        if tip is not None and not self.is_ancestor(start, tip):
            raise GitError(
                f"branch {branch} exists and does not come from {base}: rename it (git branch -m), try again"
            )
        place = self._standing(path) or self._new_worktree(path, branch, start if tip is None else None)
        if self._branch(place) != branch:
            raise GitError(f"worktree {path} is not on {branch}: run git -C {path} switch {branch}, then try again")
        if read_line(place.git_dir / "locked") == _UNFINISHED:
            self._fill(place, ref)

    def repair_worktrees(self) -> list[Path]:
        """Tie the worktrees inside the lab to this repository again, after it was moved or copied or a
        worktree's `.git` file was lost; the folders that were tied.

        Never writes to the place it came from. Worktrees outside of the checkout are left alone."""
        repaired = []
        for admin in self._admins():
            link = _gitdir_file(admin)
            if _points_to(link) == admin:
                continue
            if link.is_relative_to(self.root) and link.parent.is_dir() and not os.path.lexists(link):
                _tie(admin, link.parent)
                repaired.append(link.parent)
                continue
            parts = link.parent.parts[1:]
            for folder in (self.root.joinpath(*parts[i:]) for i in range(len(parts))):
                target = _points_to(folder / ".git")
                if target is not None and target.name == admin.name:
                    _tie(admin, folder)
                    repaired.append(folder)
                    break
        return repaired

    def commit_worktree(self, path: Path, message: str, branch: str | None = None) -> Commit:
        """Commit all that is in the worktree and not ignored on its branch (`exp/<folder>` by default).

        Nothing changed: its present commit. Idempotent, whatever state the worktree's index is in."""
        place = self._worktree(path)
        branch = f"exp/{path.name}" if branch is None else branch
        if self._branch(place) != branch:
            raise GitError(f"worktree {path} is not on {branch}: run git -C {path} switch {branch}, then try again")
        files = self._files_of(place, write=True)
        for entry in files.values():
            if not entry.id:
                raise GitError(f"{path / entry.name} is a repository of its own: remove its .git or ignore it")
        ref = _own(f"refs/heads/{branch}")
        tip = self._known(ref)
        with self._index() as index:
            tree = self._tree_of(files.values(), index)
            if tree != self.tree(tip):
                new = self._commit(tree, [tip], message)
                self._run("update-ref", "-m", "commit: autolab", ref, new, tip)
                tip = new
            with disk(f"index of {path}"):
                os.replace(index, place.git_dir / "index")
        return Commit(tip, tree)

    def worktree_equals(self, path: Path, commit: str) -> bool:
        """Whether the worktree is at `commit` with nothing staged, changed, missing or added.

        Files are compared by their bytes, so flags such as assume-unchanged hide nothing."""
        place = self._standing(path)
        wanted = self._known(commit)
        if place is None or self._line("rev-parse", "HEAD", at=place) != wanted:
            return False
        tree = {entry.name: entry for entry in self._files_in(wanted)}
        staged = {entry.name: entry for entry in self._staged(place)}
        return staged == tree and self._files_of(place, write=False) == tree

    def export(
        self, commit: str, destination: Path, only: Sequence[str] | None = None, exclude: Sequence[str] = ()
    ) -> None:
        """The commit's files, byte for byte and read-only, as a plain folder.

        `only` and `exclude` are paths of files or folders; each of `only` must be there. An existing
        destination is complete and stays. Refused: submodules, links that lead out of the export."""
        if not destination.exists():
            entries = _select(self._files_in(self._known(commit)), only, exclude, commit)
            with disk(f"export of {commit} to {destination}"):
                partial = destination.with_name(f".{destination.name}.partial")
                remove_tree(partial)
                partial.mkdir(parents=True)
                for entry, data in self._blobs(entries):
                    create(partial / entry.name, entry.mode, data, read_only=True)
                _refuse_escapes(partial, entries, commit)
                for folder, _, _ in os.walk(partial, topdown=False):
                    if folder != str(partial):
                        os.chmod(folder, 0o555)
                os.rename(partial, destination)
        with disk(f"export of {commit} to {destination}"):
            os.chmod(destination, 0o555)  # last: some systems refuse to rename a read-only folder

    # --- record ---

    def snapshot(self, ref: str, root: Path, paths: Iterable[str], message: str) -> str:
        """Append a commit to `ref` that holds just these files of `root`; its id.

        Same files and message as the tip: the tip. The cost is that of the files, not of the history.
        A file that is missing, or a `ref` that moved meanwhile, is refused."""
        tip = self.resolve(_own(ref))
        names = sorted(set(paths))
        for name in names:
            if not is_file(root / name):
                raise GitError(f"{root / name} is not there to be recorded on {ref}: a file was expected")
        with self._index() as index:
            tree = self._tree_of(self._hash(root, names, write=True), index)
        if tip is not None and tree == self.tree(tip) and self._message(tip) == message.strip():
            return tip
        commit = self._commit(tree, [tip] if tip else [], message)
        self.update_ref(ref, commit, tip)
        return commit

    def log_entries(self, ref: str) -> Iterator[tuple[str, str]]:
        """(commit, subject) of a ref's first-parent history, newest first, read as it is asked for."""
        tip = self.resolve(ref)
        if tip is None:
            return
        with self._stream("rev-list", "--first-parent", "--format=%H%x00%s", tip) as out:
            for line in out:
                sha, mark, subject = decode(line).rstrip("\n").partition("\0")
                if mark:
                    yield sha, subject

    def restore_missing(self, commit: str, root: Path) -> list[str]:
        """Write the commit's files that do not exist under `root`; their paths. Never overwrites, follows no link."""
        gone = [e for e in self._files_in(self._known(commit)) if not os.path.lexists(root / e.name)]
        restored, real = [], os.path.realpath(root)
        with disk(f"files of {commit} to {root}"):
            for entry, data in self._blobs(gone):
                target = root / entry.name
                if os.path.realpath(target.parent) != os.path.join(real, os.path.dirname(entry.name)).rstrip("/"):
                    raise GitError(f"{target}: a folder above it is a symbolic link: put a real folder in its place")
                partial = target.with_name(f".{target.name}.autolab-partial")
                partial.unlink(missing_ok=True)
                create(partial, entry.mode, data)
                with contextlib.suppress(FileExistsError):  # made by someone meanwhile: theirs stays
                    os.link(partial, target, follow_symlinks=False)
                    restored.append(entry.name)
                partial.unlink()
        return sorted(restored)

    def pin(self, ref: str, commit: str) -> None:
        """Keep a commit for ever under `ref`. Again: nothing. Another commit there: refused."""
        wanted, present = self._known(commit), self.resolve(_own(ref))
        if present is None:
            self.update_ref(ref, wanted, None)
        elif present != wanted:
            raise GitError(f"{ref} pins {present} and not {wanted}: a pin is never moved; use another id")

    def update_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move one of Autolab's refs from `old` (None: it must not exist) to `new`, or refuse.

        A branch that is checked out somewhere is not moved under the user's feet."""
        if _own(ref) in self._checked_out(ref):
            raise GitError(f"{ref} is checked out and must move: switch to another branch there, then try again")
        wanted = self._known(new)
        self._run("update-ref", "-m", "autolab", ref, wanted, "" if old is None else self._known(old))

    # --- the user's own command ---

    def publish(self, paths: Sequence[str], message: str) -> str | None:
        """Commit exactly these files (new, changed or deleted) on the user's branch; None: no change.

        Like `git commit --only`, without hooks: whatever else is staged, changed or untracked stays as
        it is. A path that neither exists nor is tracked is nothing. The index is written before the
        branch: after a crash in between the files are staged and the same call commits them."""
        paths = [os.path.normpath(path) for path in paths]
        head = self._publishable(paths)
        with self._index() as index:
            if head is not None:
                self._run("read-tree", head, index=index, user=True)
            listed = b"".join(os.fsencode(path) + b"\0" for path in paths)
            self._run(
                *("update-index", "--add", "--remove", "-z", "--stdin"),
                stdin=listed, index=index, user=True,
            )  # fmt: skip
            tree = self._line("write-tree", index=index, user=True)
            staged = [staged_entry(f) for f in self._fields("ls-files", "--stage", "-z", index=index, user=True)]
        if tree == (self.tree(head) if head else self._line("mktree")):
            return None
        commit = self._commit(tree, [head] if head else [], message, user=True)
        self._stage(paths, {entry.name: entry for entry in staged}, zeros="0" * len(tree))
        log = f"commit: {one_line(message.strip().partition(chr(10))[0]) or 'autolab publish'}"
        self._run("update-ref", "-m", log, "HEAD", commit, head or "", user=True)
        return commit

    def _publishable(self, paths: Sequence[str]) -> str | None:
        """The commit to publish on (None: unborn), or a refusal with the way out."""
        busy = self.busy()
        if busy is not None:
            out = "git bisect reset" if busy == "bisect" else f"git {busy} --continue or git {busy} --abort"
            raise GitError(f"publish: a {busy} is in progress in {self.root}: end it with {out}, then publish again")
        if self.branch() is None:
            raise GitError(f"publish: HEAD is detached in {self.root}: run git switch <branch>, then publish again")
        if not self._knows_user():
            raise GitError("publish: git has no name for you: run git config --global user.name and user.email first")
        for path in paths:
            if os.path.isabs(path) or path.startswith("..") or (self.root / path).is_dir():
                raise GitError(f"publish: {path} is no file of {self.root}: name files by their path in it")
        if paths and self._run("ls-files", "--unmerged", "-z", "--", *paths, user=True):
            raise GitError("publish: a file to publish has conflicts: resolve and git add it, then publish again")
        return self.head()

    def _stage(self, paths: Iterable[str], committed: Mapping[str, TreeEntry], zeros: str) -> None:
        """Put these paths, as committed, into the user's index; every other entry keeps its bytes."""
        entries = [committed.get(path, TreeEntry(path, "0", zeros)) for path in paths]
        self._run("update-index", "-z", "--index-info", stdin=b"".join(map(index_line, entries)), user=True)

    def _knows_user(self) -> bool:
        asked = ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT")
        return all(self._call("var", what, ok=range(256), user=True).returncode == 0 for what in asked)

    # --- worktrees inside ---

    def _admins(self) -> list[Path]:
        folder = self.common / "worktrees"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _entry_of(self, path: Path) -> Path | None:
        """git's entry for a worktree at `path`, whether or not it stands."""
        wanted = path.resolve() / ".git"
        return next((admin for admin in self._admins() if _gitdir_file(admin) == wanted), None)

    def _standing(self, path: Path) -> GitPlace | None:
        """The worktree at `path`; None if its folder or its entry is missing or half made."""
        admin = self._entry_of(path)
        if admin is None or _points_to(path / ".git") != admin or not (admin / "HEAD").is_file():
            return None
        place = GitPlace(admin, path.resolve())
        half_made = read_line(admin / "locked") == _UNFINISHED and self._branch(place) is None
        return None if half_made else place

    def _worktree(self, path: Path) -> GitPlace:
        place = self._standing(path)
        if place is None:
            raise GitError(f"{path} is not a worktree of {self.root}: autolab doctor --fix makes it again")
        if read_line(place.git_dir / "locked") == _UNFINISHED:
            raise GitError(f"worktree {path} was never finished: the same autolab command makes it again")
        return place

    def _new_worktree(self, path: Path, branch: str, start: str | None) -> GitPlace:
        """An empty worktree, locked until its files are written. `start`: where a new branch begins."""
        folder = path.resolve()
        admin = self._entry_of(path)
        reason = "" if admin is None else read_line(admin / "locked")
        if reason not in ("", _UNFINISHED):
            raise GitError(f"worktree {path} is locked ({reason}): run git worktree unlock {path}, then try again")
        with disk(f"git worktree add {path}"):
            left = [item.name for item in folder.iterdir()] if folder.exists() else []
            if reason == _UNFINISHED and left == [".git"]:
                (folder / ".git").unlink()
            elif left:
                raise GitError(f"{path} holds files and is no worktree of {self.root}: move it away, then try again")
            if admin is not None:
                shutil.rmtree(admin)  # what git worktree prune does, for this one entry
            folder.parent.mkdir(parents=True, exist_ok=True)
        if start is not None:
            self.update_ref(f"refs/heads/{branch}", start, None)
        self._run("worktree", "add", "--no-checkout", "--lock", "--reason", _UNFINISHED, str(folder), branch)
        place = self._standing(path)
        if place is None:
            raise GitError(f"git worktree add {path}: git said yes, but no worktree stands there: try again")
        return place

    def _fill(self, place: GitPlace, ref: str) -> None:
        """Write index and files of a new worktree; what an interrupted call left is written again."""
        with self._index() as index, disk(f"files of {place.folder}"):
            self._run("read-tree", ref, index=index)
            for entry, data in self._blobs(self._files_in(self._known(ref))):
                target = place.folder / entry.name
                target.unlink(missing_ok=True)
                create(target, entry.mode, data)
            if index.exists():  # an empty tree may leave none
                os.replace(index, place.git_dir / "index")
            (place.git_dir / "locked").unlink()

    def _checked_out(self, ref: str) -> set[str]:
        if not ref.startswith("refs/heads/"):
            return set()
        listed = os.fsdecode(self._run("worktree", "list", "--porcelain")).split("\n")
        return {line.removeprefix("branch ") for line in listed if line.startswith("branch ")}

    def _known(self, rev: str) -> str:
        commit = self.resolve(rev)
        if commit is None:
            raise GitError(f"{rev!r} names no commit in {self.root}: git log --all shows those there are")
        return commit


def _own(ref: str) -> str:
    if not ref.startswith(OWN_REFS):
        raise GitError(f"{ref} is not one of Autolab's refs ({', '.join(OWN_REFS)}): it is left alone")
    return ref


# --- worktree entries: <common>/worktrees/<name>/gitdir names <folder>/.git, which names the entry ---


def _gitdir_file(admin: Path) -> Path:
    return (admin / read_line(admin / "gitdir")).resolve()


def _points_to(link: Path) -> Path | None:
    text = read_line(link)
    if not text.startswith("gitdir:"):
        return None
    return (link.parent / text.removeprefix("gitdir:").strip()).resolve()


def _tie(admin: Path, folder: Path) -> None:
    for file, text in ((folder / ".git", f"gitdir: {admin}\n"), (admin / "gitdir", f"{folder.resolve() / '.git'}\n")):
        with disk(f"worktree {folder}"):
            partial = file.with_name(f"{file.name}.autolab-partial")
            partial.write_bytes(os.fsencode(text))
            os.replace(partial, file)


def _select(
    entries: Sequence[TreeEntry], only: Sequence[str] | None, exclude: Sequence[str], commit: str
) -> list[TreeEntry]:
    def within(name: str, prefix: str) -> bool:
        return PurePosixPath(name).is_relative_to(PurePosixPath(prefix))

    for wanted in only or ():
        if not any(within(entry.name, wanted) for entry in entries):
            raise GitError(f"export of {commit}: it has no {wanted}")
    chosen = [e for e in entries if only is None or any(within(e.name, prefix) for prefix in only)]
    chosen = [e for e in chosen if not any(within(e.name, prefix) for prefix in exclude)]
    for entry in chosen:
        if entry.mode == SUBMODULE:
            raise GitError(f"export of {commit}: {entry.name} is a submodule: commit its files, or leave it out")
    return chosen


def _refuse_escapes(folder: Path, entries: Iterable[TreeEntry], commit: str) -> None:
    top = folder.resolve()
    for entry in entries:
        if entry.mode == LINK and not (folder / entry.name).resolve().is_relative_to(top):
            raise GitError(f"export of {commit}: the link {entry.name} leads out of it: commit the file itself")
