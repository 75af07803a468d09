"""Reading a git repository: names of commits, files, differences, the user's uncommitted changes, read-only exports."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.errors import GitError
from autolab.lab.plumbing import (
    ANSWERS,
    LINK,
    GitPlace,
    Plumbing,
    TreeEntry,
    call_git,
    create,
    disk,
    entries_of,
    is_file,
    read_line,
    user_env,
)
from autolab.lab.submodules import with_submodules
from autolab.sandbox.collect import regular_files, remove_tree
from autolab.text import decode, many_lines

# The first match counts: a rebase may also leave CHERRY_PICK_HEAD.
_BUSY = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick"),
    ("BISECT_LOG", "bisect"),
)

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Change:
    """One path that differs between two commits. A rename is a `D` and an `A`.

    `status` is A (added), M (modified), D (deleted) or T (another type). Modes are 100644, 100755, 120000 (symbolic
    link) and 160000 (submodule). Mode and id of a missing side are zeros.
    """

    status: str
    path: str
    old_mode: str
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
    """The folder with HEAD and index of the checkout `root`. Runs no program. GitError: it is no checkout."""
    link = root / ".git"
    if link.is_dir():
        return link
    target = read_line(link).removeprefix("gitdir:").strip()
    if not target:
        raise GitError(f"{root} is not a git checkout: run git init there, or go to one")
    return Path(os.path.normpath(root / target))


def common_dir(root: Path) -> Path:
    """The folder that all worktrees of a repository share. Runs no program. GitError: `root` is no checkout."""
    own = git_dir(root)
    shared = read_line(own / "commondir")
    return Path(os.path.normpath(own / shared)) if shared else own


class GitReader(Plumbing):
    """What can be read of the repository with the checkout `root`. The user's files and settings stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        super().__init__(GitPlace(git_dir(self.root), self.root), common_dir(self.root).resolve())
        self._commits: deque[str] = deque(maxlen=ANSWERS)

    # --- the checkout ---

    def head(self) -> str | None:
        """The commit that is checked out; None on a branch without commits."""
        return self.resolve("HEAD")

    def branch(self) -> str | None:
        """The branch that is checked out, with or without commits; None if HEAD is detached."""
        return self._branch(self._checkout)

    def busy(self) -> str | None:
        """The operation the user is in the middle of: merge, rebase, cherry-pick, revert or bisect."""
        for file, name in _BUSY:
            if (self._checkout.git_dir / file).exists():
                return name
        return None

    def unmerged(self) -> list[str]:
        """Files of the checkout in which a merge, a rebase or a stash has left conflicts."""
        fields = self._fields("diff-files", "--name-only", "--diff-filter=U", "-z", user=True)
        return list(dict.fromkeys(map(os.fsdecode, fields)))

    def is_shallow(self) -> bool:
        """Whether older commits were not fetched."""
        return (common_dir(self.root) / "shallow").exists()

    def dirty(self, paths: Sequence[str] | None = None, *, run_filters: bool = False) -> list[str]:
        """Paths of the user's checkout with staged, unstaged or untracked changes. Writes nothing.

        An untracked folder is one entry, `name/`. The user's ignore rules and line endings apply. Their filters do
        not run, so a filtered file that was touched counts as changed; with `run_filters` they do, as in their own
        `git status`.
        """
        # Without a path git would report the whole checkout.
        if paths is not None and not paths:
            return []
        args = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal"]
        args += ["--ignore-submodules=dirty", "--", *(paths or ())]
        config = {} if run_filters else self._no_filters()
        # A field is two letters of status, a blank, and the path.
        return [os.fsdecode(field[3:]) for field in self._fields(*args, user=True, config=config)]

    def hidden_changes(self, commit: str) -> list[str]:
        """Files that differ from `commit`, and of which `git status` was told to say nothing.

        `git update-index --assume-unchanged` and `--skip-worktree` do that. Files that are left out of a sparse
        checkout are not there, and not listed.
        """
        changes = []
        for field in self._fields("ls-files", "-v", "-z", user=True):
            flag, name = os.fsdecode(field[:1]), os.fsdecode(field[2:])
            if (flag.islower() or flag == "S") and is_file(self.root / name):
                # With the user's line endings, and without their filters.
                own = self._line("hash-object", "--", name, user=True, config=self._no_filters())
                if own != self.has_path(commit, name):
                    changes.append(name)
        return changes

    def distrusted(self) -> bool:
        """Whether git refuses the user's own calls here, because the repository belongs to another user."""
        # Autolab's calls name the repository, and git asks for its owner only where it has to look for one.
        call = call_git(("rev-parse", "--git-dir"), self.root, user_env(), ok=range(256))
        return b"safe.directory" in call.stderr

    def filters(self, names: Iterable[str]) -> dict[str, str]:
        """File -> the filter that .gitattributes gives it, of those that have one."""
        lines = b"".join(os.fsencode(name) + b"\0" for name in names)
        fields = self._fields("check-attr", "-z", "--stdin", "filter", stdin=lines, user=True)
        filters = {}
        # Path, attribute, value, and again.
        for name, value in zip(map(os.fsdecode, fields[::3]), map(os.fsdecode, fields[2::3]), strict=True):
            if value not in ("unspecified", "unset", "set"):
                filters[name] = value
        return filters

    def filtered(self, commit: str) -> dict[str, str]:
        """File of `commit` -> its filter (`lfs`), where the checkout has other bytes because of it.

        A file in Git LFS counts also if the checkout has the pointer itself.
        """
        entries = {entry.name: entry for entry in self._files_in(self._known(commit)) if entry.mode.startswith("10")}
        filters = self.filters(entries)
        different = {}
        for entry, data in self._blobs([entries[name] for name in filters]):
            is_pointer = data.startswith(_LFS_POINTER)
            if is_pointer or not _has_bytes(self.root / entry.name, data):
                different[entry.name] = "lfs" if is_pointer else filters[entry.name]
        return dict(sorted(different.items()))

    # --- commits ---

    def refs(self) -> list[str]:
        """The full name of every ref, packed or not."""
        return decode(self._run("for-each-ref", "--format=%(refname)")).split()

    def missing_files(self, commit: str) -> list[str]:
        """Files of `commit` whose bytes are not here: a partial clone fetches them when they are checked out."""
        keys = r"^(extensions\.partialclone|remote\..*\.promisor)$"
        # Status 1: no key matches, and the clone is a whole one.
        if not self._fields("config", "-z", "--name-only", "--get-regexp", keys, ok=(0, 1)):
            return []
        # The one command that lists what is missing and does not try to fetch it, in older versions of git too.
        lines = self._run("rev-list", "--objects", "--missing=print", self.tree(commit)).decode("utf-8", "replace")
        missing = {line.removeprefix("?") for line in lines.split("\n") if line.startswith("?")}
        if not missing:
            return []
        return [entry.name for entry in self._files_in(self._known(commit)) if entry.id in missing]

    def resolve(self, rev: str) -> str | None:
        """The commit that a name stands for; None if there is none."""
        # git would read a leading dash as an option.
        if not rev or rev.startswith("-") or not rev.isprintable():
            return None
        if rev in self._commits:
            return rev
        commit = self._line("rev-parse", "--quiet", "--verify", f"{rev}^{{commit}}", ok=(0, 1))
        # A full id names this commit for ever, while a branch may move.
        if commit == rev:
            self._commits.append(rev)
        return commit or None

    def _known(self, rev: str) -> str:
        commit = self.resolve(rev)
        if commit is None:
            raise GitError(f"{rev!r} names no commit in {self.root}: git log --all shows those there are")
        return commit

    def tree(self, rev: str) -> str:
        """The tree of a commit: equal trees hold equal files."""
        return self._cached_run("rev-parse", "--verify", f"{self._known(rev)}^{{tree}}").decode().strip()

    def commit_time(self, rev: str) -> str:
        """When a commit was made: seconds since 1970, UTC."""
        return (
            self._cached_run("rev-list", "--max-count=1", "--no-commit-header", "--format=%ct", self._known(rev))
            .decode()
            .strip()
        )

    def describe(self, rev: str) -> str:
        """`git describe` of a commit, by annotated tags, else by any; empty if no tag is reachable."""
        for option in ([], ["--tags"]):
            call = self._call("describe", *option, self._known(rev), ok=(0, 128))
            if call.returncode == 0:
                return decode(call.stdout).strip()
        return ""

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` is `older` or descends from it."""
        call = self._call("merge-base", "--is-ancestor", self._known(older), self._known(newer), ok=(0, 1))
        return call.returncode == 0

    def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that two commits have in common; None if they have none."""
        call = self._call("merge-base", self._known(one), self._known(other), ok=(0, 1))
        return decode(call.stdout).strip() or None

    def has_path(self, commit: str, path: str) -> str | None:
        """The object id of a file or folder in a commit; None if it is not there."""
        # With a slash at the end git would list what the folder holds.
        entry = self._entry(commit, path.rstrip("/"))
        return None if entry is None else entry.id

    def _entry(self, commit: str, path: str) -> TreeEntry | None:
        entries = entries_of(self._cached_run("ls-tree", "-z", "--full-tree", self._known(commit), "--", path))
        return entries[0] if entries else None

    def read(self, commit: str, path: str) -> bytes | None:
        """The bytes of a file in a commit; None if there is no file of that name. A link is no file."""
        entry = self._entry(commit, path)
        if entry is None or not entry.mode.startswith("10"):
            return None
        _, content = next(self._blobs([entry]))
        return content

    def files_with(self, commit: str, word: str) -> list[str]:
        """The text files of a commit that hold a word."""
        options = ("--files-with-matches", "--fixed-strings", "-I", "-z", "--full-name")
        # Each name comes with the commit before it. Status 1: there is none.
        full = self._known(commit)
        fields = self._fields("grep", *options, "-e", word, full, ok=(0, 1))
        return [os.fsdecode(field).removeprefix(f"{full}:") for field in fields]

    def text(self, commit: str, path: str) -> str | None:
        """The text of a file in a commit; None if there is no file of that name."""
        content = self.read(commit, path)
        return None if content is None else decode(content)

    def files(self, commit: str) -> list[str]:
        """The path of every file in a commit."""
        return [entry.name for entry in self._files_in(self._known(commit))]

    def mentions(self, commit: str, text: str, among: Sequence[str]) -> bool:
        """Whether a file of the commit holds the text; `among` are patterns of paths, such as `*.py`."""
        call = self._call(
            "grep", "--quiet", "--fixed-strings", "-e", text, self._known(commit), "--", *among, ok=(0, 1)
        )
        return call.returncode == 0

    def strays(self, folder: Path, commit: str) -> list[Path]:
        """Regular files below `folder`, ignored ones too, whose bytes are not those that `commit` has at their path.

        Links are not followed. git's own `.git` at the top is left out; one further down is a folder like others.
        """
        ids = {entry.name: entry.id for entry in self._files_in(self._known(commit))}
        with disk(f"files of {folder}"):
            names = [os.path.relpath(path, folder) for path in regular_files(folder, folder / ".git")]
        same = set()
        for entry in self._hash(folder, [name for name in names if name in ids], write=False):
            if ids[entry.name] == entry.id:
                same.add(entry.name)
        return [folder / name for name in names if name not in same]

    # --- differences ---

    def diff(self, base: str, commit: str) -> list[Change]:
        """What differs from `base` to `commit`, by path. Renames are not guessed."""
        args = ["diff-tree", "-r", "--raw", "--no-abbrev", "-z", "--no-renames"]
        fields = self._fields(*args, self._known(base), self._known(commit))
        changes = []
        for meta, name in zip(fields[::2], fields[1::2], strict=True):
            old_mode, new_mode, old_id, new_id, status = os.fsdecode(meta).lstrip(":").split(" ")
            changes.append(Change(status[0], os.fsdecode(name), old_mode, new_mode, old_id, new_id))
        return changes

    def changed_paths(self, base: str, commit: str) -> list[str]:
        """The paths that differ between two commits."""
        return [change.path for change in self.diff(base, commit)]

    def diff_text(self, base: str, commit: str, limit_bytes: int) -> str:
        """The diff for a reader, at most `limit_bytes` of it. If it was cut, the last line says where."""
        args = ["diff-tree", "-r", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"]
        # Read as a stream: a candidate may have committed gigabytes.
        with self._stream(*args, self._known(base), self._known(commit)) as out:
            data = out.read(limit_bytes + 1)
        if len(data) <= limit_bytes:
            return many_lines(data)
        whole_lines = data[: data.rfind(b"\n", 0, limit_bytes) + 1]
        return many_lines(whole_lines) + f"[diff cut after {len(whole_lines)} bytes]\n"

    def log_entries(self, ref: str) -> Iterator[tuple[str, str]]:
        """(commit, subject) of a ref's first-parent history, newest first. git runs only as far as it is read."""
        tip = self.resolve(ref)
        if tip is None:
            return
        with self._stream("rev-list", "--first-parent", "--format=%H%x00%s", tip) as out:
            for line in out:
                # Before each entry git prints a line "commit ID", without the NUL.
                sha, mark, subject = decode(line).rstrip("\n").partition("\0")
                if mark:
                    yield sha, subject

    # --- exports ---

    def _exported(
        self, commit: str, only: Sequence[str] | None, exclude: Sequence[str]
    ) -> list[tuple[Plumbing, list[TreeEntry]]]:
        """The files of an export by the repository that has them: this one, and those of submodules."""
        listed = []
        for entry in self._files_in(self._known(commit)):
            # One that has no part in the export need not be here.
            is_needed = only is None or _within(entry.name, only) or any(_within(path, [entry.name]) for path in only)
            if is_needed and not _within(entry.name, exclude):
                listed.append(entry)
        sources = []
        for source, entries in with_submodules(self, listed, self.root, self.common):
            sources.append((source, _select(entries, only, exclude)))
        names = [entry.name for _, entries in sources for entry in entries]
        for path in only or ():
            if not any(_within(name, [path]) for name in names):
                raise GitError(f"export of {commit}: it has no {path}")
        return sources

    def export(
        self, commit: str, destination: Path, only: Sequence[str] | None = None, exclude: Sequence[str] = ()
    ) -> None:
        """Write the commit's files, byte for byte and read-only, to a plain folder. One that exists stays as it is.

        `only` and `exclude` are paths of files or folders. A submodule comes with the files of its commit, from the
        user's clone of it. GitError: one of `only` is not in the commit, a submodule is not here, or a link would lead
        out of the export.
        """
        if not destination.exists():
            sources = self._exported(commit, only, exclude)
            entries = [entry for _, part in sources for entry in part]
            with disk(f"export of {commit} to {destination}"):
                # Made beside and renamed: a destination that exists is complete.
                partial = destination.with_name(f".{destination.name}.partial")
                remove_tree(partial)
                partial.mkdir(parents=True)
                # Links last, of submodules too: no file is written through one.
                for is_link in (False, True):
                    for source, part in sources:
                        for entry, data in source._blobs([entry for entry in part if (entry.mode == LINK) == is_link]):
                            create(partial / entry.name, entry.mode, data, read_only=True)
                _refuse_escapes(partial, entries, commit)
                # From the bottom up: nothing can be done in a folder that is read-only.
                for folder, _, _ in os.walk(partial, topdown=False):
                    if folder != str(partial):
                        os.chmod(folder, 0o555)
                os.rename(partial, destination)
        with disk(f"export of {commit} to {destination}"):
            # After the rename, which some systems refuse for a read-only folder. Also after a crash between the two.
            os.chmod(destination, 0o555)


def _has_bytes(path: Path, data: bytes) -> bool:
    """Whether a file has these bytes. One of another length is not read: it may be large."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _select(entries: Sequence[TreeEntry], only: Sequence[str] | None, exclude: Sequence[str]) -> list[TreeEntry]:
    selection = []
    for entry in entries:
        if not _within(entry.name, exclude) and (only is None or _within(entry.name, only)):
            selection.append(entry)
    return selection


def _within(name: str, paths: Sequence[str]) -> bool:
    """Whether a file is one of these paths or lies in one of them."""
    return any(PurePosixPath(name).is_relative_to(PurePosixPath(path)) for path in paths)


def _refuse_escapes(folder: Path, entries: Iterable[TreeEntry], commit: str) -> None:
    # Looked at on the disk, where a link may lead through another link.
    top = folder.resolve()
    for entry in entries:
        if entry.mode == LINK and not (folder / entry.name).resolve().is_relative_to(top):
            raise GitError(f"export of {commit}: the link {entry.name} leads out of it: commit the file itself")
