"""How git is called, and how bytes get into it and out of it.

Every call names repository and work tree itself, so a tampered `.git` file, `core.worktree` or an inherited `GIT_DIR`
changes nothing. Configured programs, hooks and fsmonitor never run. Bytes go in by `hash-object --no-filters` and come
out by `cat-file`: no filter, no end-of-line conversion and no attribute can change them. A call that fails is a
`GitError` with the command and git's last line.

The engine's calls read no system or personal configuration and no environment. The programs that the repository's own
configuration could start (hooks, fsmonitor, filters, transports, credential and ssh programs) are overridden, and no
object is fetched. A commit can hold any bytes under any name: a name that leads out of its folder is refused when the
file is written. A worktree's `.git` file can point anywhere: git is never asked to follow it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict, Unpack

from autolab.errors import GitError
from autolab.text import decode, many_lines

LINK, SUBMODULE = "120000", "160000"
SYSTEM_PATH = "/usr/bin:/bin"
"""Where git finds programs besides its own. The user's PATH may hold folders that others write."""
# For every call. The keys of the last line name programs: `false` ends at once and does nothing.
_CONFIG = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "gc.auto": "0",
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "UTF-8",
    "protocol.allow": "never",
    "credential.helper": "",
    "submodule.recurse": "false",
} | dict.fromkeys(("core.sshCommand", "core.askPass", "core.gitProxy", "core.editor", "core.pager"), "false")
_ENGINE_CONFIG = _CONFIG | {
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.sparseCheckout": "false",
    "core.splitIndex": "false",
    # The graph file is a cache beside the commits. Whoever writes it could give a commit other parents.
    "core.commitGraph": "false",
    "diff.external": "false",
}
# Without this git makes up an identity, login@host, and commits under it.
_USER_CONFIG = _CONFIG | {"user.useConfigOnly": "true"}
_ENV = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # Else `git status` writes the user's index, to remember what it has looked at.
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    # Refs under refs/replace/ and the grafts file put other content behind an id.
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
    # A partial clone fetches missing objects. git before 2.45 ignores the first of these; the second stops it too.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_PAGER": "cat",
}
ENGINE_ENV = _ENV | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "PATH": SYSTEM_PATH,
    "GIT_AUTHOR_NAME": "Autolab",
    "GIT_AUTHOR_EMAIL": "autolab@localhost",
    "GIT_COMMITTER_NAME": "Autolab",
    "GIT_COMMITTER_EMAIL": "autolab@localhost",
}
_USER_KEEPS = {
    *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),
}


DEEPEST = 256
"""Most folders above a file that is written. Deeper ones make walks and removals of a folder fail."""
ANSWERS = 128
"""Results about objects that stay in memory: those of a few iterations."""


@dataclass(frozen=True)
class TreeEntry:
    """A file in a tree, an index or a folder: its path, git's mode, the id of its bytes."""

    name: str
    mode: str
    id: str


@dataclass(frozen=True)
class GitPlace:
    """Where a call works: a repository (or a worktree's entry in it) and the folder of its files."""

    git_dir: Path
    folder: Path


class Options(TypedDict, total=False):
    """How a call differs from the usual one: on the user's checkout and its index, in the engine's environment."""

    stdin: bytes
    ok: Collection[int]
    """Exit statuses that are results."""
    at: GitPlace
    index: Path
    user: bool
    """Use the user's environment and configuration."""
    config: Mapping[str, str]
    """More configuration."""


class Plumbing:
    """git on one checkout. Methods that write are for one process at a time."""

    def __init__(self, checkout: GitPlace, common: Path) -> None:
        self._checkout = checkout
        self.common = common
        # Only for calls that name objects by their full ids: what git says of these never changes.
        self._cached_run = functools.lru_cache(ANSWERS)(self._run)

    # --- files and objects ---

    def _staged(self, place: GitPlace) -> list[TreeEntry]:
        return [staged_entry(field) for field in self._fields("ls-files", "--stage", "-z", at=place)]

    def _files_of(self, place: GitPlace, *, write: bool) -> dict[str, TreeEntry]:
        """The entries of all files of a worktree that are not ignored, by name.

        A repository inside the worktree has an empty id. A submodule of the commit keeps its entry.
        """
        entries = {}
        names = set()
        for entry in self._staged(place):
            names.add(entry.name)
            if entry.mode == SUBMODULE:
                entries[entry.name] = entry
        for field in self._fields("ls-files", "--others", "--exclude-standard", "-z", at=place):
            name = os.fsdecode(field)
            names.add(name)
            # git lists a repository inside the worktree as a folder and does not look into it.
            if name.endswith("/"):
                entries[name] = TreeEntry(name, SUBMODULE, "")
        plain = sorted(names - entries.keys())
        with disk(f"files of {place.folder}"):
            # A staged file may lie below a folder that has become a link since: that is a file of another place.
            folders = {os.path.dirname(name) for name in plain}
            real = {name for name in folders if os.path.realpath(place.folder / name) == str(place.folder / name)}
            files = [name for name in plain if os.path.dirname(name) in real and is_file(place.folder / name)]
            for entry in self._hash(place.folder, files, write=write):
                entries[entry.name] = entry
        return entries

    def _files_in(self, commit: str) -> list[TreeEntry]:
        return entries_of(self._cached_run("ls-tree", "-r", "-z", "--full-tree", commit))

    def _hash(self, root: Path, names: Sequence[str], *, write: bool) -> list[TreeEntry]:
        """The entries of these files, from their unfiltered bytes. With `write` git stores the bytes too."""
        option = ["-w"] if write else []
        place = GitPlace(self._checkout.git_dir, root)
        entries = []
        plain = []
        for name in names:
            # hash-object would follow the link and hash the file behind it.
            if (root / name).is_symlink():
                target = os.fsencode(os.readlink(root / name))
                entries.append(TreeEntry(name, LINK, self._line("hash-object", *option, "--stdin", stdin=target)))
            else:
                plain.append(name)
        paths = b"".join(_quoted(name) + b"\n" for name in plain)
        ids = self._run("hash-object", *option, "--no-filters", "--stdin-paths", stdin=paths, at=place).split()
        for name, id in zip(plain, ids, strict=True):
            entries.append(TreeEntry(name, _mode(root / name), id.decode()))
        return entries

    def _tree_of(self, entries: Iterable[TreeEntry], index: Path) -> str:
        lines = b"".join(index_line(entry) for entry in entries)
        self._run("update-index", "-z", "--index-info", stdin=lines, index=index)
        return self._line("write-tree", index=index)

    def _commit(self, tree: str, parent: str | None, message: str, *, user: bool = False) -> str:
        args = ["-p", parent] if parent else []
        text = message.strip() + "\n"
        return self._line("commit-tree", tree, *args, "-F", "-", stdin=many_lines(text).encode(), user=user)

    def _message(self, commit: str) -> str:
        return decode(self._run("cat-file", "commit", commit).partition(b"\n\n")[2]).strip()

    def _blobs(self, entries: Sequence[TreeEntry]) -> Iterator[tuple[TreeEntry, bytes]]:
        """Each file with its bytes, plain files first and links last. Submodules are left out."""
        # If a link were written first, a later file could be written through it to somewhere else.
        files = [entry for entry in entries if entry.mode != SUBMODULE]
        ordered = sorted(files, key=lambda entry: entry.mode == LINK)
        if not ordered:
            return
        with self._popen(("cat-file", "--batch"), stdin=subprocess.PIPE) as git:
            assert git.stdin is not None and git.stdout is not None
            for entry in ordered:
                _refuse_unsafe(entry.name)
                git.stdin.write(entry.id.encode() + b"\n")
                git.stdin.flush()
                head = git.stdout.readline().split()
                if len(head) != 3 or head[1] != b"blob":
                    where = self._checkout.folder
                    raise GitError(f"object {entry.id} ({entry.name}) cannot be read: git fsck in {where} says more")
                data = git.stdout.read(int(head[2]))
                # The protocol ends each object with a newline.
                git.stdout.read(1)
                yield entry, data

    # --- calling ---

    def _branch(self, place: GitPlace) -> str | None:
        name = self._call("symbolic-ref", "--quiet", "HEAD", ok=(0, 1), at=place).stdout.decode().strip()
        return name.removeprefix("refs/heads/") or None

    def _no_filters(self) -> dict[str, str]:
        """Configuration that leaves every configured filter without a program."""
        keys = r"^filter\..*\.(clean|smudge|process|required)$"
        config = {}
        # Status 1: no key matches.
        for field in self._fields("config", "-z", "--name-only", "--get-regexp", keys, ok=(0, 1), user=True):
            key = os.fsdecode(field)
            # A required filter without a program would make git refuse the file.
            config[key] = "false" if key.endswith(".required") else ""
        return config

    @contextlib.contextmanager
    def _index(self) -> Iterator[Path]:
        """The path of an index for one operation, so that the user's own is not touched. No file is there at first."""
        folder = self.common / "autolab"
        # Of this thread alone: one may compare while another reads the working tree.
        index = folder / f"index-{os.getpid()}-{threading.get_native_id()}"
        leftovers = (index, index.with_name(index.name + ".lock"))
        with disk(f"index in {folder}"):
            folder.mkdir(exist_ok=True)
            # A killed process may have had this process id. git refuses to write while a lock file is there.
            for file in leftovers:
                file.unlink(missing_ok=True)
        try:
            yield index
        finally:
            for file in leftovers:
                file.unlink(missing_ok=True)

    def _env(self, options: Options) -> dict[str, str]:
        if options.get("user", False):
            env, config = user_env(), _USER_CONFIG
        else:
            env, config = ENGINE_ENV, _ENGINE_CONFIG
        place = options.get("at", self._checkout)
        env = env | _as_env({**config, **options.get("config", {})})
        env |= {"GIT_DIR": str(place.git_dir), "GIT_WORK_TREE": str(place.folder)}
        if "index" in options:
            env["GIT_INDEX_FILE"] = str(options["index"])
        return env

    def _call(self, *args: str, **options: Unpack[Options]) -> subprocess.CompletedProcess[bytes]:
        folder = options.get("at", self._checkout).folder
        return call_git(args, folder, self._env(options), options.get("stdin", b""), options.get("ok", (0,)))

    def _run(self, *args: str, **options: Unpack[Options]) -> bytes:
        return self._call(*args, **options).stdout

    def _line(self, *args: str, **options: Unpack[Options]) -> str:
        return self._run(*args, **options).decode().strip()

    def _fields(self, *args: str, **options: Unpack[Options]) -> list[bytes]:
        return [field for field in self._run(*args, **options).split(b"\0") if field]

    def _popen(self, args: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_program(), *args],
            cwd=self._checkout.folder,
            env=self._env({}),
            stdin=stdin,
            stdout=subprocess.PIPE,
            # Nobody reads it while the output is read: a full pipe would stop git.
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @contextlib.contextmanager
    def _stream(self, *args: str) -> Iterator[IO[bytes]]:
        """The output of a call while it runs. Leaving the context early ends the call."""
        with self._popen(args, stdin=subprocess.DEVNULL) as git:
            assert git.stdout is not None
            yield git.stdout
        # A reader that has enough closes the pipe, and git dies of the signal.
        if git.returncode not in (0, -signal.SIGPIPE):
            raise GitError(f"git {args[0]} in {self._checkout.folder} ended with {git.returncode}: git fsck says more")


@functools.cache
def _program() -> str:
    """git's absolute path. It is looked for once, and only in folders that nobody else can write to."""
    path = shutil.which("git", path=_sound_path())
    if path is not None:
        return path
    unsound = shutil.which("git")
    if unsound:
        folder = os.path.dirname(unsound) or "."
        raise GitError(f"git on PATH lies in {folder}, where others may write: put git's own folder on PATH instead")
    raise GitError("git was not found on PATH: install git, then run the same command again")


def _sound_path() -> str:
    """PATH without folders in which others could put a program called git."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(filter(_is_sound, entries))


def _is_sound(entry: str) -> bool:
    """Whether a folder of PATH is absolute, open to this user, not writable for everybody, and in no lab."""
    folder = Path(os.path.realpath(entry))
    try:
        if not os.path.isabs(entry) or not folder.is_dir() or folder.stat().st_mode & stat.S_IWOTH:
            return False
        # A candidate's code can write to the lab.
        return not any((parent / ".autolab").exists() for parent in (folder, *folder.parents))
    except OSError:
        # Closed to this user, as root's folders are after `su`, which keeps PATH. Nothing in it could be started.
        return False


def call_git(
    args: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes = b"", ok: Collection[int] = (0,)
) -> subprocess.CompletedProcess[bytes]:
    """Run git to its end. GitError: it did not start, or its exit status is not in `ok`."""
    argv = [_program(), *args]
    try:
        # In a process group of its own: a Ctrl-C in the terminal stops the loop, but not git in the middle of a write.
        call = subprocess.run(argv, cwd=cwd, env=env, input=stdin, capture_output=True, check=False, process_group=0)
    except OSError as error:
        raise GitError(f"git {args[0]} could not start in {cwd}: {error.strerror}") from error
    if call.returncode not in ok:
        raise GitError(f"git {args[0]} in {cwd}: {_last_word(call)}")
    return call


ROOM = "make room or access, then run the same command again"
_DISK = (
    *(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)),
    # git says this itself after a short write.
    "Out of diskspace",
)


def _last_word(call: subprocess.CompletedProcess[bytes]) -> str:
    """Why a call failed, in one line: git's last error, and the way out if the disk or a lock is the cause."""
    lines = [line.strip() for line in many_lines(call.stderr).split("\n") if line.strip()]
    # Hints and warnings may follow the error.
    errors = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    if not errors:
        return f"it ended with {call.returncode} and no word"
    # On a full disk the last error is often a consequence ("unable to write"); the reason stands above it.
    text = "; ".join(errors)
    if any(reason in text for reason in _DISK):
        return f"{text}; {ROOM}"
    if ".lock': File exists" in errors[-1]:
        return f"{errors[-1]} If no other git command is running, remove that file, then try again"
    return errors[-1]


def _as_env(config: Mapping[str, str]) -> dict[str, str]:
    """Configuration for one call, stronger than every file's."""
    # Not by `git -c`: it splits at the first `=`, which the name of a filter may hold.
    env = {"GIT_CONFIG_COUNT": str(len(config))}
    for i, (key, value) in enumerate(config.items()):
        env |= {f"GIT_CONFIG_KEY_{i}": key, f"GIT_CONFIG_VALUE_{i}": value}
    return env


def user_env() -> dict[str, str]:
    """The user's environment, for their filters and identity, without what would steer git to other places."""
    env = {}
    for name, value in os.environ.items():
        if not name.startswith("GIT_") or name in _USER_KEEPS:
            env[name] = value
    return env | _ENV | {"PATH": _sound_path()}


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """Turn an OSError into a GitError of one line: what was being done, the reason, the file."""
    try:
        yield
    except OSError as error:
        raise GitError(f"{what}: {error.strerror}: {error.filename}; {ROOM}") from error


def read_line(file: Path) -> str:
    """The one line of a small file; empty if the file is missing."""
    try:
        return os.fsdecode(file.read_bytes()).rstrip("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


# --- entries of trees and indexes ---


def entries_of(output: bytes) -> list[TreeEntry]:
    """The entries in the output of `git ls-tree -z`: mode, type, id, tab, name."""
    entries = []
    for field in output.split(b"\0")[:-1]:
        meta, _, name = field.partition(b"\t")
        mode, _, id = meta.decode().split(" ")
        entries.append(TreeEntry(os.fsdecode(name), mode, id))
    return entries


def staged_entry(field: bytes) -> TreeEntry:
    """The entry in a field of `git ls-files --stage -z`: mode, id, stage, tab, name."""
    meta, _, name = field.partition(b"\t")
    mode, id, stage = meta.decode().split(" ")
    # Another stage is one side of a conflict: no id, so that it equals no file.
    return TreeEntry(os.fsdecode(name), mode, id if stage == "0" else "")


def index_line(entry: TreeEntry) -> bytes:
    return f"{entry.mode} {entry.id}\t".encode() + os.fsencode(entry.name) + b"\0"


def _quoted(name: str) -> bytes:
    """A name as `hash-object --stdin-paths` reads it, whatever bytes it holds. (It has no `-z`.)"""
    raw = os.fsencode(name).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + raw.replace(b"\n", b"\\n").replace(b"\r", b"\\r") + b'"'


def is_file(path: Path) -> bool:
    """A plain file or a symbolic link, wherever that leads."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _mode(path: Path) -> str:
    return "100755" if path.lstat().st_mode & stat.S_IXUSR else "100644"


def create(path: Path, mode: str, data: bytes, *, read_only: bool = False) -> None:
    """Make a file or a symbolic link, and the folders above it. FileExistsError: there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == LINK:
        os.symlink(os.fsdecode(data), path)
        return
    permissions = 0o777 if mode == "100755" else 0o666
    if read_only:
        permissions &= 0o555
    # O_EXCL follows no link that stands there already.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions), "wb") as file:
        file.write(data)
        if read_only:
            # The umask took rights away from others. A trial may run as another user, and must be able to read.
            os.fchmod(file.fileno(), permissions)


def _refuse_unsafe(name: str) -> None:
    """GitError: a file of this name would be written outside of its folder, into `.git`, or too deep."""
    # git itself checks names only when it fills an index, and a tree can be made without one.
    if name.count("/") > DEEPEST:
        raise GitError(f"a commit holds {name[:40]}..., more than {DEEPEST} folders deep: leave that commit out")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in name.split("/")):
        raise GitError(f"a commit holds a file named {name!r}, which no folder may take: leave that commit out")
