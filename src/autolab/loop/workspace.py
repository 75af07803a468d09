"""Where a coding agent works: a copy of a commit without what its author may not see, and a repository of its own.

Left out at every stage: labels and inputs of the evaluation and the holdout, exact copies of these files elsewhere in
the commit, `.autolab`, `experiments` and the worktrees. The repository has one commit, made for the copy, so that no
object of the lab's is in reach. Training data that git does not hold is there as a link.

What the agent changed is carried over into the candidate's worktree by path: a visible path becomes what it is in the
copy, and a hidden path stays what it is in the base. So a file that was never there does not count as deleted. What no
commit may hold is left behind, and is a finding.

Not covered: labels that a lab holds in another form (a table of all rows, say) outside of the evaluation's folders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from autolab.lab.git import Git
from autolab.lab.plumbing import ENGINE_ENV, LINK, GitPlace, TreeEntry, call_git, create, disk
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Finding
from autolab.sandbox.collect import remove_any, remove_tree
from autolab.sandbox.path_names import DEEPEST, LONGEST_NAME, LONGEST_PATH
from autolab.text import one_line
from autolab.verifiers.findings import blocking_finding

CONTROL = (".autolab", "experiments", "5_worktrees")
"""The lab's own folders: its settings, its record, its candidates."""
IGNORE_FILE_BYTES = 1 << 20
"""Bytes of a `.gitignore`, which git reads whole."""
LISTED_FINDINGS = 10
"""Findings that are listed one by one; a last one counts the rest."""


def splits_of(config: Config) -> list[str]:
    """The folders of the evaluation and the holdout."""
    if config.evaluate is None:
        return []
    splits = [config.evaluate.eval]
    if config.evaluate.holdout is not None:
        splits.append(config.evaluate.holdout)
    return splits


class Workspaces(Git):
    """The lab's repository, as the engine uses it for coding agents."""

    def make(self, place: Path, commit: str, base: str, config: Config) -> None:
        """Make sure that `place` holds the files of `commit` that an author may see. One that exists stays as it is.

        Exact copies in `base` of evaluation data are hidden too.
        """
        if place.exists():
            return
        # Made beside and renamed, so that a crash leaves no half copy in the place of a whole one.
        new = place.with_name(f".{place.name}.new")
        with disk(f"workspace {place}"):
            remove_tree(new)
        self.export(commit, new, None, self._hidden(base, config))
        with disk(f"workspace {place}"):
            open_up(new)
            # Before the links, which its commit is not to hold.
            _own_repository(new)
            for name, source in self.data(base, config).items():
                link = new / name
                link.parent.mkdir(parents=True, exist_ok=True)
                if not os.path.lexists(link):
                    link.symlink_to(source)
            (new / ".autolab").mkdir()
            os.rename(new, place)

    def contents(self, commit: str, names: Collection[str], most: int) -> dict[str, bytes]:
        """The files of these names in a commit, until together they have more than `most` bytes."""
        contents: dict[str, bytes] = {}
        size = 0
        entries = [entry for entry in self._files_in(self._known(commit)) if entry.name in names]
        for entry, content in self._blobs(entries):
            contents[entry.name] = content
            size += len(content)
            # A candidate may hold more than fits into memory.
            if size > most:
                break
        return contents

    def data(self, base: str, config: Config) -> dict[str, Path]:
        """The training data that lies in the lab and not in git: its name in a copy -> where it lies.

        No split lies inside of it: the configuration refuses that. Data outside of the lab has no name in a copy.
        """
        named = {}
        for entry in config.data_entries:
            source = entry.source(self.root)
            has_name = not entry.lies_outside and not entry.is_fetched and entry.is_relative
            if has_name and not entry.upward and not self.has_path(base, entry.place) and source.exists():
                named[entry.place] = source
        return named

    def carry(self, place: Path, worktree: Path, parent: str, base: str, config: Config) -> list[Finding]:
        """Make `worktree` hold the files of `place`, and of `base` where a path is hidden. Ignored files stay out.

        Returns findings on what was left behind. `parent` is the commit that the copy was of. Carrying again changes
        nothing.
        """
        tree = self._worktree(worktree)
        before = {entry.name: entry for entry in self._files_in(self._known(parent))}
        links = self.data(base, config)
        entries = self._files_of(GitPlace(tree.git_dir, place.resolve()), write=True)
        findings: list[Finding] = []
        carried = {}
        for name, entry in entries.items():
            # The links to training data are ours, and no change of the agent's.
            if _within_any(name, links):
                continue
            problem = _unfit(entry, before.get(name))
            if not problem:
                carried[name] = entry
                continue
            findings.append(_left_behind(name, problem))
            # What cannot be carried stays as it was.
            if name in before:
                carried[name] = before[name]
        findings += _repositories(place, entries)
        hidden = self._hidden_entries(base, config)
        self._fill_with(tree, _with_hidden(carried, hidden))
        more = len(findings) - LISTED_FINDINGS
        if more > 0:
            findings[LISTED_FINDINGS:] = [blocking_finding("paths", f"and {more} more")]
        return findings

    def _hidden(self, base: str, config: Config) -> list[str]:
        """Paths that no author's folder holds: control, splits, and files of `base` that copy a split's arrays."""
        splits, copies = splits_of(config), []
        entries = self._files_in(self._known(base))
        # A blob's id is its content's hash: a copy under another name has the same one.
        arrays = {entry.id for entry in entries if entry.name.endswith(".npy") and _within_any(entry.name, splits)}
        for entry in entries:
            is_training_data = _within_any(entry.name, config.data_in_repository)
            if entry.id in arrays and not is_training_data:
                copies.append(entry.name)
        return [*CONTROL, *splits, *copies]

    def _hidden_entries(self, base: str, config: Config) -> list[TreeEntry]:
        hidden = self._hidden(base, config)
        return [entry for entry in self._files_in(self._known(base)) if _within_any(entry.name, hidden)]

    def _fill_with(self, tree: GitPlace, files: Mapping[str, TreeEntry]) -> None:
        """Make these the files of a worktree; what git ignores stays."""
        present = self._files_of(tree, write=False)
        changed = [entry for name, entry in files.items() if present.get(name) != entry]
        with disk(f"files of {tree.folder}"):
            for name in sorted(present.keys() - files.keys()):
                remove_any(tree.folder / name)
                _prune(tree.folder / name, tree.folder)
            for entry, content in self._blobs(changed):
                target = tree.folder / entry.name
                for parent in reversed(target.relative_to(tree.folder).parents[:-1]):
                    folder = tree.folder / parent
                    # What stands in the place of a folder may be a link, which must not be followed.
                    if folder.is_symlink() or not folder.is_dir():
                        remove_any(folder)
                remove_any(target)
                create(target, entry.mode, content)


def open_up(top: Path) -> None:
    """Give us every right to the files and folders below `top`, whatever a program has taken away. Follows no link."""
    folders = [top]
    # The list grows while the loop walks through it.
    for folder in folders:
        # Before it is listed: without these rights that would fail.
        os.chmod(folder, stat.S_IMODE(folder.lstat().st_mode) | 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                    os.chmod(entry.path, mode | 0o600)


def _own_repository(place: Path) -> None:
    """A repository at `place` with one commit of all that is there now."""
    # No hook and no template of the user's may run or get in here.
    for words in (
        ("init", "--quiet", "--template=", "-b", "main", "."),
        ("add", "--all", "--force"),
        ("commit", "--quiet", "--allow-empty", "--no-verify", "-m", "The lab's code, as it is to be changed"),
    ):
        call_git(("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", *words), place, ENGINE_ENV)
    info = place / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "exclude").write_text("/.autolab/\n")


def unreadable(place: Path) -> str:
    """Why git must not look at a copy; empty if it may. It would wait for ever for a `.gitignore` that is a pipe."""
    for entry in _walk(place):
        if entry.name != ".gitignore":
            continue
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or status.st_size > IGNORE_FILE_BYTES:
            name = _shown(os.path.relpath(entry.path, place))
            return f"{name}: no regular file of at most {IGNORE_FILE_BYTES:,} bytes; make it one, or remove it"
    return ""


def _walk(top: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below `top`, without what lies in folders called `.git`. Follows no link."""
    folders = [str(top)]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name.lower() != ".git":
                    folders.append(entry.path)
                yield entry


def _unfit(entry: TreeEntry, before: TreeEntry | None) -> str:
    """Why an entry cannot become part of a commit; empty if it can, or was part of it before."""
    name = entry.name
    if entry == before:
        return ""
    if not entry.id:
        return "a repository of its own; remove its .git, or the folder"
    if entry.mode == LINK:
        return "a symbolic link; leave the file itself"
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    # Longer and deeper paths cannot be exported, measured and removed again on every system.
    if name.count("/") >= DEEPEST:
        return f"lies more than {DEEPEST} folders deep; put it higher up"
    longest = max(len(part) for part in raw.split(b"/"))
    if len(raw) > LONGEST_PATH or longest > LONGEST_NAME:
        return f"longer than {LONGEST_PATH} bytes; choose a shorter path"
    return ""


def _left_behind(name: str, problem: str) -> Finding:
    path = _shown(name)
    return blocking_finding("paths", f"{path}: {problem}", path)


def _repositories(place: Path, names: Iterable[str]) -> list[Finding]:
    """Findings on folders above these files that hold a `.git`. Git lists such a folder's files if it has no commit."""
    folders: set[str] = set()
    for name in names:
        folders |= _folders_above(name)
    # Git itself lists a repository with a commit, as a name with a slash at its end: it has a finding already.
    folders -= {name.rstrip("/") for name in names}
    nested = sorted(folder for folder in folders if os.path.lexists(place / folder / ".git"))
    return [_left_behind(folder, "a repository of its own; remove its .git") for folder in nested]


def _with_hidden(carried: Mapping[str, TreeEntry], hidden: Iterable[TreeEntry]) -> dict[str, TreeEntry]:
    """The carried files, and the hidden ones except where a carried file takes their place or lies above or below."""
    files = dict(carried)
    folders: set[str] = set()
    for name in carried:
        folders |= _folders_above(name)
    for entry in hidden:
        if entry.name not in folders and not _folders_above(entry.name) & carried.keys():
            files.setdefault(entry.name, entry)
    return files


def _folders_above(name: str) -> set[str]:
    """The folders that a file lies in, without the top."""
    return {str(folder) for folder in PurePosixPath(name).parents} - {"."}


def _prune(path: Path, top: Path) -> None:
    """Remove the empty folders above `path`, up to `top`."""
    for folder in path.parents:
        if folder == top or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _within(name: str, path: str) -> bool:
    return PurePosixPath(name).is_relative_to(PurePosixPath(path))


def _within_any(name: str, paths: Iterable[str]) -> bool:
    return any(_within(name, path) for path in paths)


def _shown(name: str) -> str:
    return one_line(os.fsencode(name))
