"""How git is called, and how bytes get into it and out of it.

Every call names repository and work tree itself, so a tampered `.git` file, `core.worktree` or an
inherited `GIT_DIR` changes nothing. Configured programs, hooks and fsmonitor never run. Bytes go in by
`hash-object --no-filters` and come out by `cat-file`, so that no filter, no end-of-line conversion and
no attribute can change them. A call that fails is a `GitError`: what was tried, git's own last word.

The engine's calls read no system or personal configuration and, of the environment, nothing; what the repository's
own configuration could start (hooks, fsmonitor, filters, transports, credential and ssh programs) is overridden, and
no object is fetched from anywhere. So a commit can hold any bytes under any name, and a worktree's `.git` file can
point anywhere: the first is refused where it would be written outside of its folder, the second is not read.
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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict, Unpack

from autolab.errors import GitError
from autolab.text import decode, many_lines

LINK, SUBMODULE = "120000", "160000"
SYSTEM_PATH = "/usr/bin:/bin"
"""What git finds programs in beside its own; the user's PATH may hold folders that others write."""
_CONFIG = {  # for every call
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
    "core.commitGraph": "false",  # parents are what the commits say
    "diff.external": "false",
}
_USER_CONFIG = _CONFIG | {"user.useConfigOnly": "true"}  # a guessed name@host is nobody's identity
_ENV = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",  # reading never refreshes the user's index
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # an object is what its id says
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",  # of git 2.45; before it the next line alone keeps a missing object missing
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
"""Folders above a file that is written; deeper ones make walks and removals of a folder fail."""
ANSWERS = 128
"""Answers about objects that are kept: a few iterations' worth."""


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
    stdin: bytes
    ok: Collection[int]  # exit statuses that are answers
    at: GitPlace  # default: the user's checkout
    index: Path  # default: the one of the place
    user: bool  # in the user's environment and configuration, not the engine's
    config: Mapping[str, str]  # more of it


class Plumbing:
    """git on one checkout. Methods that write are for one process at a time."""

    def __init__(self, checkout: GitPlace, common: Path) -> None:
        self._checkout = checkout
        self.common = common
        self._asked = functools.lru_cache(ANSWERS)(self._ask)

    # --- files and objects ---

    def _staged(self, place: GitPlace) -> list[TreeEntry]:
        return [staged_entry(field) for field in self._fields("ls-files", "--stage", "-z", at=place)]

    def _files_of(self, place: GitPlace, *, write: bool) -> dict[str, TreeEntry]:
        """Name, mode and id of every file of a worktree that is not ignored. A repository inside it
        has an empty id; a submodule of the commit keeps its entry."""
        staged = {entry.name: entry for entry in self._staged(place)}
        others = {os.fsdecode(f) for f in self._fields("ls-files", "--others", "--exclude-standard", "-z", at=place)}
        kept = {name: entry for name, entry in staged.items() if entry.mode == SUBMODULE}
        kept |= {name: TreeEntry(name, SUBMODULE, "") for name in others if name.endswith("/")}

        @functools.cache
        def real(parent: str) -> bool:  # below a link lie the files of another place
            return os.path.realpath(place.folder / parent) == str(place.folder / parent)

        names = sorted((staged.keys() | others) - kept.keys())
        with disk(f"files of {place.folder}"):
            files = [n for n in names if real(os.path.dirname(n)) and is_file(place.folder / n)]
            return kept | {entry.name: entry for entry in self._hash(place.folder, files, write=write)}

    def _files_in(self, commit: str) -> list[TreeEntry]:
        return entries_of(self._asked("ls-tree", "-r", "-z", "--full-tree", commit))

    def _hash(self, root: Path, names: Sequence[str], *, write: bool) -> list[TreeEntry]:
        """Entries of these files as their bytes are, unfiltered; with `write` git has them afterwards."""
        option = ["-w"] if write else []
        place = GitPlace(self._checkout.git_dir, root)
        links = [name for name in names if (root / name).is_symlink()]
        plain = [name for name in names if not (root / name).is_symlink()]
        listed = b"".join(_quoted(name) + b"\n" for name in plain)
        ids = self._run("hash-object", *option, "--no-filters", "--stdin-paths", stdin=listed, at=place).split()
        entries = [TreeEntry(n, _mode(root / n), i.decode()) for n, i in zip(plain, ids, strict=True)]
        for name in links:
            target = os.fsencode(os.readlink(root / name))
            entries.append(TreeEntry(name, LINK, self._line("hash-object", *option, "--stdin", stdin=target)))
        return entries

    def _tree_of(self, entries: Iterable[TreeEntry], index: Path) -> str:
        lines = b"".join(index_line(entry) for entry in entries)
        self._run("update-index", "-z", "--index-info", stdin=lines, index=index)
        return self._line("write-tree", index=index)

    def _commit(self, tree: str, parents: Sequence[str], message: str, *, user: bool = False) -> str:
        args = [arg for parent in parents for arg in ("-p", parent)]
        text = message.strip() + "\n"
        return self._line("commit-tree", tree, *args, "-F", "-", stdin=many_lines(text).encode(), user=user)

    def _message(self, commit: str) -> str:
        return decode(self._run("cat-file", "commit", commit).partition(b"\n\n")[2]).strip()

    def _blobs(self, entries: Sequence[TreeEntry]) -> Iterator[tuple[TreeEntry, bytes]]:
        """The bytes of each file: plain files first, so that no link can lead a later file elsewhere."""
        ordered = sorted((e for e in entries if e.mode != SUBMODULE), key=lambda e: e.mode == LINK)
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
                git.stdout.read(1)
                yield entry, data

    # --- calling ---

    def _branch(self, place: GitPlace) -> str | None:
        name = self._call("symbolic-ref", "--quiet", "HEAD", ok=(0, 1), at=place).stdout.decode().strip()
        return name.removeprefix("refs/heads/") or None

    def _no_filters(self) -> dict[str, str]:
        """Configuration that leaves every configured filter without a program."""
        wanted = r"^filter\..*\.(clean|smudge|process|required)$"
        names = self._call("config", "-z", "--name-only", "--get-regexp", wanted, ok=(0, 1), user=True).stdout
        keys = [os.fsdecode(name) for name in names.split(b"\0") if name]
        return {key: "false" if key.endswith(".required") else "" for key in keys}

    @contextlib.contextmanager
    def _index(self) -> Iterator[Path]:
        """An index file of our own, not there at first; what a killed call left is taken away."""
        folder = self.common / "autolab"
        index = folder / f"index-{os.getpid()}"
        left = (index, index.with_name(index.name + ".lock"))
        with disk(f"index in {folder}"):
            folder.mkdir(exist_ok=True)
            for file in left:
                file.unlink(missing_ok=True)
        try:
            yield index
        finally:
            for file in left:
                file.unlink(missing_ok=True)

    def _env(self, options: Options) -> dict[str, str]:
        place = options.get("at", self._checkout)
        user = options.get("user", False)
        config = {**(_USER_CONFIG if user else _ENGINE_CONFIG), **options.get("config", {})}
        env = (_user_env() if user else ENGINE_ENV) | _as_env(config)
        env |= {"GIT_DIR": str(place.git_dir), "GIT_WORK_TREE": str(place.folder)}
        if "index" in options:
            env["GIT_INDEX_FILE"] = str(options["index"])
        return env

    def _call(self, *args: str, **options: Unpack[Options]) -> subprocess.CompletedProcess[bytes]:
        folder = options.get("at", self._checkout).folder
        return call_git(args, folder, self._env(options), options.get("stdin", b""), options.get("ok", (0,)))

    def _run(self, *args: str, **options: Unpack[Options]) -> bytes:
        return self._call(*args, **options).stdout

    def _ask(self, *args: str) -> bytes:
        """For `_asked`: what git says of objects named by their full ids, which never changes, so it is asked once."""
        return self._run(*args)

    def _line(self, *args: str, **options: Unpack[Options]) -> str:
        return self._run(*args, **options).decode().strip()

    def _fields(self, *args: str, **options: Unpack[Options]) -> list[bytes]:
        return [field for field in self._run(*args, **options).split(b"\0") if field]

    def _popen(self, args: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
        out, nothing = subprocess.PIPE, subprocess.DEVNULL
        argv = [_program(), *args]
        env, folder = self._env({}), self._checkout.folder
        return subprocess.Popen(argv, cwd=folder, env=env, stdin=stdin, stdout=out, stderr=nothing, process_group=0)

    @contextlib.contextmanager
    def _stream(self, *args: str) -> Iterator[IO[bytes]]:
        """The output of a call while it runs; leaving early ends it."""
        with self._popen(args, stdin=subprocess.DEVNULL) as git:
            assert git.stdout is not None
            yield git.stdout
        if git.returncode not in (0, -signal.SIGPIPE):
            raise GitError(f"git {args[0]} in {self._checkout.folder} ended with {git.returncode}: git fsck says more")


@functools.cache
def _program() -> str:
    """git's absolute path, looked for once and only where nobody else can have put it."""
    found = shutil.which("git", path=_sound_path())
    if found is None and shutil.which("git"):
        where = os.path.dirname(shutil.which("git") or "") or "."
        raise GitError(f"git on PATH lies in {where}, where others may write: put git's own folder on PATH instead")
    if found is None:
        raise GitError("git was not found on PATH: install git, then run the same command again")
    return found


def _sound_path() -> str:
    """PATH without folders that are relative, writable for everybody, inside of a lab, or closed to this user."""

    def sound(entry: str) -> bool:
        folder = Path(os.path.realpath(entry))
        try:
            if not os.path.isabs(entry) or not folder.is_dir() or folder.stat().st_mode & stat.S_IWOTH:
                return False
            return not any((above / ".autolab").exists() for above in (folder, *folder.parents))
        except OSError:  # closed to this user, as root's folders are where `su` kept PATH: nothing in it can be started
            return False

    return os.pathsep.join(filter(sound, os.environ.get("PATH", os.defpath).split(os.pathsep)))


def call_git(
    args: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: bytes = b"", ok: Collection[int] = (0,)
) -> subprocess.CompletedProcess[bytes]:
    """Run git to its end, in a process group of its own: a Ctrl-C meant for the loop does not cut it short."""
    argv = [_program(), *args]
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, input=stdin, capture_output=True, check=False, process_group=0)
    except OSError as error:
        raise GitError(f"git {args[0]} could not start in {cwd}: {error.strerror}") from error
    if done.returncode not in ok:
        raise GitError(f"git {args[0]} in {cwd}: {_last_word(done)}")
    return done


ROOM = "make room or access, then run the same command again"
_DISK = (
    *(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)),
    "Out of diskspace",  # git's own words, where a write ended short
)


def _last_word(done: subprocess.CompletedProcess[bytes]) -> str:
    said = [line.strip() for line in many_lines(done.stderr).split("\n") if line.strip()]
    telling = [line for line in said if line.startswith(("fatal:", "error:"))] or said
    word = telling[-1] if telling else f"it ended with {done.returncode} and no word"
    if any(reason in line for line in telling for reason in _DISK):
        return f"{'; '.join(telling)}; {ROOM}"
    locked = ".lock': File exists" in word
    return f"{word} If no other git command is running, remove that file, then try again" if locked else word


def _as_env(config: Mapping[str, str]) -> dict[str, str]:
    """Configuration for one call, above every file's; by environment, so that any key can be said."""
    env = {"GIT_CONFIG_COUNT": str(len(config))}
    for i, (key, value) in enumerate(config.items()):
        env |= {f"GIT_CONFIG_KEY_{i}": key, f"GIT_CONFIG_VALUE_{i}": value}
    return env


def _user_env() -> dict[str, str]:
    """The user's own, for their filters and identity, less what would steer git or lead it to others' programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _USER_KEEPS}
    return kept | _ENV | {"PATH": _sound_path()}


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """What the disk refuses, said in one line: `what` was being done, the reason, the file."""
    try:
        yield
    except OSError as error:
        raise GitError(f"{what}: {error.strerror}: {error.filename}; {ROOM}") from error


def read_line(file: Path) -> str:
    """The one line of a small file; empty if there is no such file."""
    try:
        return os.fsdecode(file.read_bytes()).rstrip("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


# --- entries of trees and indexes ---


def entries_of(listed: bytes) -> list[TreeEntry]:
    """What `git ls-tree -z` says: mode, type, id, tab, name."""
    entries = []
    for field in listed.split(b"\0")[:-1]:
        meta, _, name = field.partition(b"\t")
        mode, _, id = meta.decode().split(" ")
        entries.append(TreeEntry(os.fsdecode(name), mode, id))
    return entries


def staged_entry(field: bytes) -> TreeEntry:
    """What `git ls-files --stage -z` says: mode, id, stage, tab, name. One with conflicts has no id."""
    meta, _, name = field.partition(b"\t")
    mode, id, stage = meta.decode().split(" ")
    return TreeEntry(os.fsdecode(name), mode, id if stage == "0" else "")


def index_line(entry: TreeEntry) -> bytes:
    return f"{entry.mode} {entry.id}\t".encode() + os.fsencode(entry.name) + b"\0"


def _quoted(name: str) -> bytes:
    """A name as `hash-object --stdin-paths` reads it back, whatever bytes it holds."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == LINK:
        os.symlink(os.fsdecode(data), path)
        return
    permissions = (0o777 if mode == "100755" else 0o666) & (0o555 if read_only else 0o777)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions), "wb") as file:
        file.write(data)
        if read_only:
            os.fchmod(file.fileno(), permissions)  # whatever the umask: trials may be users of their own


def _refuse_unsafe(name: str) -> None:
    """A tree made by hand may name any path; git itself checks this only when it fills an index."""
    if name.count("/") > DEEPEST:
        raise GitError(f"a commit holds {name[:40]}..., more than {DEEPEST} folders deep: leave that commit out")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in name.split("/")):
        raise GitError(f"a commit holds a file named {name!r}, which no folder may take: leave that commit out")
