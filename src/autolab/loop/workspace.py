"""Where a coding agent works: a copy of a commit without what its author may not see, and a repository of its own.

Left out at every stage: labels and inputs of the evaluation and the holdout, exact copies of these files elsewhere in
the commit, `.autolab`, `experiments` and the worktrees. The repository has one commit, made for the copy, so that no
object of the lab's is in reach. Training data that git does not hold is there as a link.

What the agent changed is carried over into the candidate's worktree by path: what is not left out becomes what it is
in the copy, and what is left out stays what it is in the base. So a file that was never there is no deletion. What no
commit may hold is left behind, and is a finding.

Not covered: labels that a lab holds in another form (a table of all rows, say) outside of the evaluation's folders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
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
TOLD = 10
"""Findings that are told one by one; a last one counts the rest."""


def hidden(config: Config) -> list[str]:
    """Paths that no author's folder holds."""
    splits = (config.evaluate.eval, config.evaluate.holdout) if config.evaluate is not None else ()
    return [*CONTROL, *(path for path in splits if path is not None)]


def data_beside(root: Path, config: Config, held: bool) -> dict[str, Path]:
    """The training data that lies in the lab and not in git (`held`): name in the copy -> where it lies.

    No split lies inside of it: the configuration refuses that. Data outside of the lab has no name in the copy and is
    not in here.
    """
    if config.data is None or held or Path(config.data).is_absolute() or not (root / config.data).exists():
        return {}
    return {config.data: root / config.data}


class Workspaces(Git):
    """The lab's repository, as the engine uses it for coding agents."""

    def make(self, place: Path, commit: str, base: str, config: Config) -> None:
        """See to it that `place` holds the files of `commit` that an author may see. One that is there stays.

        `base` says what else counts as hidden: exact copies in it of evaluation data.
        """
        if place.exists():
            return
        new = place.with_name(f".{place.name}.new")
        with disk(f"workspace {place}"):
            remove_tree(new)
        self.export(commit, new, None, [*hidden(config), *self._copies(base, config)])
        with disk(f"workspace {place}"):
            open_up(new)
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
        found: dict[str, bytes] = {}
        size = 0
        wanted = [entry for entry in self._files_in(self._known(commit)) if entry.name in names]
        for entry, content in self._blobs(wanted):
            found[entry.name] = content
            size += len(content)
            if size > most:
                break
        return found

    def data(self, base: str, config: Config) -> dict[str, Path]:
        """`data_beside` for this lab."""
        held = config.data is not None and not Path(config.data).is_absolute() and self.has_path(base, config.data)
        return data_beside(self.root, config, bool(held))

    def carry(self, place: Path, worktree: Path, parent: str, base: str, config: Config) -> list[Finding]:
        """Make `worktree` hold what `place` holds, and `base`'s files where a path is hidden; what was left behind.

        Ignored files are no part of it. The same again gives the same. `parent` is the commit that the copy was of.
        """
        tree = self._worktree(worktree)
        source = GitPlace(tree.git_dir, place.resolve())
        before = {entry.name: entry for entry in self._files_in(self._known(parent))}
        beside = self.data(base, config)
        there = self._files_of(source, write=True)
        found: list[Finding] = []
        wanted = {}
        for name, entry in there.items():
            if any(_within(name, link) for link in beside):
                continue
            problem = _unfit(entry, before.get(name))
            if not problem:
                wanted[name] = entry
                continue
            found.append(blocking_finding("paths", f"{_shown(name)}: {problem}", _shown(name)))
            if name in before:
                wanted[name] = before[name]
        found += _repositories(place, there)
        self._fill_with(tree, _with_hidden(wanted, self._hidden_entries(base, config)))
        return (
            found if len(found) <= TOLD else [*found[:TOLD], blocking_finding("paths", f"and {len(found) - TOLD} more")]
        )

    def _copies(self, base: str, config: Config) -> list[str]:
        """Files of `base` with the bytes of an evaluation split's arrays, outside of the training data."""
        entries, splits = self._files_in(self._known(base)), hidden(config)[len(CONTROL) :]
        arrays = {e.id for e in entries if e.name.endswith(".npy") and any(_within(e.name, path) for path in splits)}
        own = [config.data] if config.data is not None else []
        return [e.name for e in entries if e.id in arrays and not any(_within(e.name, path) for path in own)]

    def _hidden_entries(self, base: str, config: Config) -> list[TreeEntry]:
        paths = [*hidden(config), *self._copies(base, config)]
        return [e for e in self._files_in(self._known(base)) if any(_within(e.name, path) for path in paths)]

    def _fill_with(self, tree: GitPlace, wanted: Mapping[str, TreeEntry]) -> None:
        """Make the files of a worktree these; what git ignores stays."""
        there = self._files_of(tree, write=False)
        changed = [entry for name, entry in wanted.items() if there.get(name) != entry]
        with disk(f"files of {tree.folder}"):
            for name in sorted(there.keys() - wanted.keys()):
                remove_any(tree.folder / name)
                _prune(tree.folder / name, tree.folder)
            for entry, data in self._blobs(changed):
                target = tree.folder / entry.name
                for above in reversed(target.relative_to(tree.folder).parents[:-1]):
                    if not (tree.folder / above).is_dir() or (tree.folder / above).is_symlink():
                        remove_any(tree.folder / above)
                remove_any(target)
                create(target, entry.mode, data)


def open_up(top: Path) -> None:
    """Give us every right to the files and folders below `top`, whatever a program has taken away. Follows no link."""
    folders = [top]
    for folder in folders:
        os.chmod(folder, stat.S_IMODE(folder.lstat().st_mode) | 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                    if mode & 0o600 != 0o600:
                        os.chmod(entry.path, mode | 0o600)


def _own_repository(place: Path) -> None:
    """One commit of all that is there; what is put there later is no part of it."""
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
    """Why git must not look at a copy; empty where it may. For a `.gitignore` that is a pipe it would wait for ever."""
    folders = [place]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name.lower() != ".git":
                    folders.append(Path(entry.path))
                if entry.name != ".gitignore":
                    continue
                facts = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > IGNORE_FILE_BYTES:
                    what = f"no regular file of at most {IGNORE_FILE_BYTES:,} bytes; make it one, or remove it"
                    return f"{_shown(os.path.relpath(entry.path, place))}: {what}"
    return ""


def _unfit(entry: TreeEntry, before: TreeEntry | None) -> str:
    """Why an entry cannot become part of a commit; empty where it can, or was part of it before."""
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
    if name.count("/") >= DEEPEST:
        return f"lies more than {DEEPEST} folders deep; put it higher up"
    if len(raw) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in name.split("/")):
        return f"longer than {LONGEST_PATH} bytes; choose a shorter path"
    return ""


def _repositories(place: Path, names: Iterable[str]) -> list[Finding]:
    """Folders above these files, but for the top, with a `.git`: git lists their files, until they have a commit."""
    above = {str(folder) for name in names for folder in PurePosixPath(name).parents if str(folder) != "."}
    listed = {name.rstrip("/") for name in names if name.endswith("/")}
    nested = sorted(folder for folder in above - listed if os.path.lexists(place / folder / ".git"))
    why = "a repository of its own; remove its .git"
    return [blocking_finding("paths", f"{_shown(folder)}: {why}", _shown(folder)) for folder in nested]


def _with_hidden(wanted: Mapping[str, TreeEntry], kept: Iterable[TreeEntry]) -> dict[str, TreeEntry]:
    """What was carried, and of what is hidden all that it leaves room for."""
    folders = {str(folder) for name in wanted for folder in PurePosixPath(name).parents}

    def has_room(name: str) -> bool:
        return name not in folders and not any(str(folder) in wanted for folder in PurePosixPath(name).parents)

    return {entry.name: entry for entry in kept if has_room(entry.name)} | dict(wanted)


def _prune(path: Path, top: Path) -> None:
    """Remove the folders above `path` that hold nothing any more, up to `top`."""
    for folder in path.parents:
        if folder == top or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _within(name: str, path: str) -> bool:
    return PurePosixPath(name).is_relative_to(PurePosixPath(path))


def _shown(name: str) -> str:
    return one_line(os.fsencode(name))
