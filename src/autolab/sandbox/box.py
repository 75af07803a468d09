"""Encloses one step before it becomes the job's own program. A `Box` says how; this says by what.

Standard library only: the keeper calls it, on whichever machine it runs.

- `full`: bubblewrap makes pid, mount, ipc, network and uts namespaces around the step. It sees the system's programs,
  its `reads`, its `writes`, an own /proc, /dev, /tmp and /dev/shm, and nothing else. Started by root it runs as a user
  of its own, which owns its `writes` and nothing besides. No capabilities, no way to get any, a seccomp filter.
- `partial`: Landlock and a seccomp filter on the step itself, the user of its own where it can reach its files. It
  still sees which files there are and which processes run; the rest of what it does not stop is in
  docs/containment.md. On macOS the Seatbelt profile counts as this level; it has not been run.
- `none`: nothing but the limits.

The limits are `limits`'s at every level.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import resource
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolab.sandbox.landlock import (
    LEAST,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    install_filter,
    landlock_version,
    no_new_privileges,
    prctl,
    restrict_paths,
    seccomp_filter,
)
from autolab.sandbox.limits import Group, Watcher

LEVELS = ("none", "partial", "full")
PROGRAMS = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin"
"""Where bubblewrap and setpriv are looked for; nobody's PATH is asked."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
)
FOR_THE_NETWORK = ("/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/nsswitch.conf", "/etc/pki")
FOR_THE_GPU = ("/sys/bus/pci", "/sys/devices", "/sys/module", "/sys/class", "/proc/driver/nvidia")
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
SCRATCH_MOUNT = "/tmp"
FILES = 1024
"""Descriptors a process may have where memory is only watched: what lies in sockets and pipes is nobody's to see."""
FIRST_UID = 1_900_000_000
"""Above the ranges that distributions give to people, services and containers; the keeper's pid is added."""
_WHOLE_MACHINE = ("--dev-bind", "/", "/", "--proc", "/proc")  # for tests alone
_NAMES = {
    "/etc/passwd": "root:x:0:0:root:/nonexistent:/bin/false\ntrial:x:{uid}:{gid}:trial:/tmp:/bin/sh\n",
    "/etc/group": "root:x:0:\ntrial:x:{gid}:\n",
    "/etc/hosts": "127.0.0.1 localhost trial\n::1 localhost\n",
}


@dataclass(frozen=True)
class Box:
    """What encloses a step: its level, what it sees, what it may use up (0: no limit).

    `reads` and `writes` are files and folders outside of the system's own; what is not named is not there at level
    `full`. `covers` are folders below them, or below the system's, of which no file can be read: at `full` they are
    empty, at `partial` their names are still seen. A path that does not exist when the step starts is left out. Memory,
    processes and threads count over all that the step starts; disk counts over `writes`. Without `own_user` a step
    started by root stays user 0, without capabilities: for one that works in folders of the user's. With `new_files`
    what was there before does not count for the disk, lengths of files do and not their blocks alone, and so many files
    and folders may be added; `uncounted` are those of `writes` that do not count. `without` names layers to leave out:
    for tests that show what each of them is good for, and for nothing else."""

    level: str = "none"
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    network: bool = False
    memory_bytes: int = 0
    processes: int = 0
    disk_bytes: int = 0
    own_user: bool = True
    new_files: int = 0
    uncounted: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


OPEN = Box()


class InvalidFolder(Exception):
    """A path that an earlier step has left in place of a folder; in one line."""


class NotEnclosed(OSError):
    """The sandbox itself could not be put up: nothing of the step has run."""


@dataclass
class Enclosure:
    """One step, ready to be entered by a forked child. `files` stay open over the exec; `close` when the step is over.

    `held_by` says what holds each limit: `cgroup v1`, `cgroup v2`, `rlimit` or `watcher`."""

    argv: list[str]
    cwd: str
    level: str
    group: Group
    watcher: Watcher
    rlimits: dict[int, int]
    user: tuple[int, int] | None
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    covers: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    """At `partial`: folders whose entries are seen, though not all of them can be read."""
    seccomp: bytes | None = None
    landlock: bool = False
    files: list[int] = field(default_factory=list)
    status: int | None = None
    held_by: dict[str, str] = field(default_factory=dict)

    def enter(self) -> None:
        """In the child, just before its exec. Raises OSError."""
        self.group.join()
        for limit, most in self.rlimits.items():
            _, hard = resource.getrlimit(limit)
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (least, least))
        for descriptor in self.files:
            os.set_inheritable(descriptor, True)
        if self.level != "partial":
            return
        if sys.platform == "linux":
            self._fence()

    def _fence(self) -> None:
        if self.user is not None:
            uid, gid = self.user
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            prctl(PR_SET_PDEATHSIG, 9)  # a change of user forgets it
        else:
            drop_capabilities()
        no_new_privileges()
        if self.landlock:
            restrict_paths(self.reads, self.writes, self.lists)
        if self.seccomp is not None:
            install_filter(self.seccomp)

    def entered(self) -> bool:
        """Whether bubblewrap got as far as starting the step's own program; asked once, when the step is over."""
        if self.status is None:
            return True
        said = os.read(self.status, 65536).decode()
        return any("exit-code" in json.loads(line) for line in said.split("\n") if line)

    def started(self) -> None:
        """In the parent, after the fork: what only the child needs."""
        while self.files:
            os.close(self.files.pop())

    def close(self) -> None:
        """When nothing of the step lives any more."""
        self.started()
        if self.status is not None:
            os.close(self.status)
        self.group.remove()


def enclose(step: Mapping[str, Any], folder: str, name: str, keeper: int) -> Enclosure:
    """What a step's box asks for, made ready. `folder` is the attempt's, below which missing `writes` are made.

    Raises NotEnclosed where this machine cannot do it, Refused where a path below `folder` is a link."""
    box = step["box"]
    level, without = box["level"], set(box["without"])
    _check_paths([*box["reads"], *box["writes"]], folder)
    reads = [path for path in box["reads"] if os.path.lexists(path)]
    writes = [_made(path, folder) for path in box["writes"]]
    memory = 0 if "memory" in without else box["memory_bytes"]
    processes = 0 if "processes" in without else box["processes"]
    disk = 0 if "disk" in without else box["disk_bytes"]
    group = Group.make(name, memory, processes)
    user = _user(level, reads, writes, keeper) if box["own_user"] and "uid" not in without else None
    if user is not None:
        for path in writes:
            os.chown(path, user[0], os.getegid())  # our group: bubblewrap, without capabilities, has to pass through
            os.chmod(path, 0o710)
    rlimits = {resource.RLIMIT_CORE: 0} | ({resource.RLIMIT_FSIZE: disk} if disk else {})
    if processes and user is not None:
        rlimits[resource.RLIMIT_NPROC] = processes
    if memory and group.memory is None:
        rlimits[resource.RLIMIT_NOFILE] = FILES
    counted = group.pids is not None or resource.RLIMIT_NPROC in rlimits
    made = Enclosure(
        argv=list(step["argv"]),
        cwd=step["cwd"],
        level=level,
        group=group,
        watcher=Watcher(
            [path for path in writes if path not in box.get("uncounted", ())],
            disk,
            0 if group.memory else memory,
            0 if counted else processes,
            box.get("new_files", 0),
        ),
        rlimits=rlimits,
        user=user,
        reads=reads,
        writes=writes,
        # A job's file that an earlier version has left names none.
        covers=[path for path in box.get("covers", ()) if os.path.isdir(path) and "covers" not in without],
        held_by=_held_by(group, memory, processes, disk, rlimits),
    )
    try:
        if level == "full":
            _in_namespaces(made, box, without, memory, disk)
        elif level == "partial":
            _fenced(made, box, without)
    except OSError as error:
        made.close()
        raise NotEnclosed(error.errno, error.strerror or str(error), error.filename or "sandbox") from error
    return made


def _held_by(group: Group, memory: int, processes: int, disk: int, rlimits: Mapping[int, int]) -> dict[str, str]:
    cgroup = f"cgroup v{group.version}"
    found = {"memory": cgroup if group.memory else "watcher"} if memory else {}
    by_user = "rlimit" if resource.RLIMIT_NPROC in rlimits else "watcher"
    found |= {"processes": cgroup if group.pids else by_user} if processes else {}
    return found | ({"disk": "watcher"} if disk else {})


def _check_paths(paths: Iterable[str], folder: str) -> None:
    """What a step left below `folder` is not followed anywhere else by the next one's mounts."""
    for path in paths:
        if Path(path).is_relative_to(folder):
            inner = Path(os.path.relpath(path, folder))
            # Link by link: where one leads (`/proc/1/root`) may be nobody's to ask.
            if any(os.path.islink(os.path.join(folder, part)) for part in (inner, *inner.parents[:-1])):
                raise InvalidFolder(f"{inner}: a link, where a folder of its own was expected")


def _made(path: str, folder: str) -> str:
    if Path(path).is_relative_to(folder):
        os.makedirs(path, exist_ok=True)
    return path


# the user


def _user(level: str, reads: Iterable[str], writes: Iterable[str], keeper: int) -> tuple[int, int] | None:
    """A user that nobody else is, or None where the step keeps ours.

    In a mount namespace what it reads is brought to it; at `partial` it has to get there by itself."""
    if os.geteuid() != 0 or level == "none" or sys.platform != "linux":
        return None
    uid = _free_uid(keeper)
    if uid is None:
        return None
    if level == "partial" and not all(_reachable(path) for path in (*reads, *writes)):
        return None
    return uid, uid


def _free_uid(keeper: int) -> int | None:
    """In a container only some users exist: then one of the highest; None where there are too few to be alone."""
    last = 0
    for line in Path("/proc/self/uid_map").read_text().strip("\n").split("\n"):
        inside, _, count = (int(word) for word in line.split())
        last = max(last, inside + count - 1)
    wanted = FIRST_UID + keeper
    if wanted <= last:
        return wanted
    return last - 1 - keeper % 1000 if last > 2000 else None


def _reachable(path: str) -> bool:
    """Whether any user can go there and read: looked at by mode bits, which is all that containers use."""
    whole = Path(path)
    above = all(folder.stat().st_mode & stat.S_IXOTH for folder in whole.resolve().parents)
    return above and bool(whole.stat().st_mode & stat.S_IROTH)


# level full


def find_program(name: str) -> str:
    """The absolute path of a program of the system. Raises OSError."""
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        raise OSError(errno.ENOENT, f"{name} was not found in {PROGRAMS}", name)
    return found


def _in_namespaces(made: Enclosure, box: Mapping[str, Any], without: set[str], memory: int, disk: int) -> None:
    status, said = os.pipe()
    made.status = status
    made.files.append(said)
    argv = [find_program("bwrap"), "--die-with-parent", "--new-session", "--unshare-cgroup-try"]
    argv += ["--json-status-fd", str(said)]
    argv += [f"--unshare-{kind}" for kind in ("pid", "ipc") if kind not in without]
    argv += ["--unshare-uts", "--hostname", "trial"]
    if not box["network"] and "net" not in without:
        argv.append("--unshare-net")
    argv += _privileges(made, without)
    argv += _WHOLE_MACHINE if "mounts" in without else _mounts(made, box["network"], memory, disk)
    if "seccomp" not in without:
        argv += ["--seccomp", str(_filter(made, memory))]
    argv += ["--chdir", made.cwd, "--"]
    made.argv = argv + _as_user(made, box, without) + made.argv


def _filter(made: Enclosure, memory: int) -> int:
    shared = made.group.memory is not None or not memory
    return _held(made, "filter", seccomp_filter(sockets=True, alone=False, shared_memory=shared))


def _held(made: Enclosure, name: str, content: bytes) -> int:
    """A descriptor from which bubblewrap reads `content`."""
    descriptor = os.memfd_create(name)
    made.files.append(descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _privileges(made: Enclosure, without: set[str]) -> list[str]:
    if os.geteuid() != 0:
        return ["--unshare-user", "--uid", str(os.getuid()), "--gid", str(os.getgid()), "--cap-drop", "ALL"]
    if "capabilities" in without:
        return ["--cap-add", "ALL"]
    kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP") if made.user is not None else ("CAP_SETPCAP",)
    return ["--cap-drop", "ALL", *(word for name in kept for word in ("--cap-add", name))]


def _as_user(made: Enclosure, box: Mapping[str, Any], without: set[str]) -> list[str]:
    """What becomes the step's program inside: takes its user and lays down the last capabilities."""
    if os.geteuid() != 0:
        wanted = box["processes"] if "processes" not in without else 0
        return [find_program("prlimit"), f"--nproc={wanted}:{wanted}"] if wanted else []
    argv = [find_program("setpriv"), "--no-new-privs"]
    if made.user is not None:
        uid, gid = made.user
        argv += ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    if "capabilities" in without:
        every = ",".join(f"+cap_{number}" for number in _capabilities())
        return [*argv, "--inh-caps", every, "--ambient-caps", every, "--"]
    return [*argv, "--inh-caps", "-all", "--bounding-set", "-all", "--"]


def _capabilities() -> list[int]:
    """Those that this process may have, by number."""
    lines = Path("/proc/self/status").read_text().split("\n")
    held = int(next(line for line in lines if line.startswith("CapBnd")).split()[1], 16)
    return [number for number in range(64) if held >> number & 1]


def _mounts(made: Enclosure, network: bool, memory: int, disk: int) -> list[str]:
    argv: list[str] = []
    for path in SYSTEM:
        if os.path.islink(path):
            argv += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            argv += ["--ro-bind", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/etc"]
    scratch = [size for size in (disk, memory // 2) if size]
    argv += ["--perms", "1777", *_size(min(scratch, default=0)), "--tmpfs", SCRATCH_MOUNT]
    argv += ["--perms", "1777", *_size(memory // 2), "--tmpfs", "/dev/shm"]
    uid, gid = made.user or (os.getuid(), os.getgid())
    for path, text in _NAMES.items():
        held = _held(made, "names", text.format(uid=uid, gid=gid).encode())
        argv += ["--perms", "0444", "--ro-bind-data", str(held), path]
    places = {path: "--ro-bind" for path in (*SETTINGS, *(FOR_THE_NETWORK if network else ()))}
    cards = glob.glob("/dev/nvidia*")
    places |= {path: "--ro-bind" for path in FOR_THE_GPU if cards} | {path: "--dev-bind" for path in cards}
    places |= {path: "--ro-bind" for path in made.reads} | {path: "--bind" for path in made.writes}
    argv += _binds(places)
    for path in made.covers:
        argv += ["--perms", "0755", "--tmpfs", path, "--remount-ro", path]
    return [*argv, "--remount-ro", "/dev", "--remount-ro", "/"]


def _size(most: int) -> list[str]:
    return ["--size", str(most)] if most else []


def _binds(places: Mapping[str, str]) -> list[str]:
    """Each place at its own path, the outer ones first; folders above them can be passed by anyone."""
    argv: list[str] = []
    made = {"/", "/dev", "/proc", "/etc", SCRATCH_MOUNT}
    bound = [path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    for path in sorted(places, key=lambda path: (path.count("/"), path)):
        how, whole = places[path], Path(path)
        if how == "--ro-bind" and any(whole.is_relative_to(outer) for outer in bound):
            continue
        if not os.path.exists(path):
            continue
        for folder in reversed(whole.parents):
            if str(folder) not in made and not any(folder.is_relative_to(outer) for outer in bound):
                argv += ["--perms", "0755", "--dir", str(folder)]
                made.add(str(folder))
        argv += [how, path, path]
        bound.append(path)
    return argv


# level partial


def _fenced(made: Enclosure, box: Mapping[str, Any], without: set[str]) -> None:
    if sys.platform == "darwin":
        made.argv = [
            "/usr/bin/sandbox-exec",
            "-p",
            seatbelt(made.reads, made.writes, box["network"], made.covers),
            *made.argv,
        ]
        return
    version = landlock_version()
    if version < LEAST and "landlock" not in without:
        raise OSError(errno.ENOSYS, f"version {version}, and {LEAST} is needed (Linux 6.2)", "landlock")
    made.landlock = "landlock" not in without
    made.reads = [*SYSTEM, *SETTINGS, *made.reads, "/proc", *(FOR_THE_NETWORK if box["network"] else ())]
    cards = glob.glob("/dev/nvidia*")
    made.reads += FOR_THE_GPU if cards else ()
    made.writes = [*made.writes, *DEVICES, *cards]
    made.reads, made.lists = around(made.reads, made.covers)
    if "seccomp" not in without:
        made.seccomp = seccomp_filter(sockets=box["network"], alone=True, shared_memory=False)


def around(reads: Iterable[str], covers: Iterable[str]) -> tuple[list[str], list[str]]:
    """The reads without what lies in `covers`, and the folders above those, which may be listed and no more.

    Landlock knows no exception to a folder that may be read: what lies beside a cover is named one by one. What a link
    leads to is named where it lies, or not at all."""
    hidden = {os.path.realpath(path) for path in covers}
    granted: list[str] = []
    listed: list[str] = []
    waiting = list(reads)
    while waiting:
        path = waiting.pop()
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(cover) for cover in hidden):
            continue
        if not any(Path(cover).is_relative_to(real) for cover in hidden):
            granted.append(path)
            continue
        listed.append(path)
        with os.scandir(path) as entries:
            waiting += [entry.path for entry in entries if not entry.is_symlink()]
    return granted, listed


def seatbelt(reads: Iterable[str], writes: Iterable[str], network: bool, covers: Iterable[str] = ()) -> str:
    """A profile for macOS's sandbox-exec: everything is refused but what is named. Not run on a Mac so far."""
    system = ("/usr", "/bin", "/sbin", "/System", "/Library", "/private/etc", "/private/var/db", "/dev")
    quoted = [json.dumps(path, ensure_ascii=False) for path in (*system, *reads)]
    writable = [json.dumps(path, ensure_ascii=False) for path in writes]
    lines = ["(version 1)", "(deny default)", "(allow process-fork process-exec sysctl-read mach-lookup)"]
    lines += ["(allow file-read-metadata)", "(allow signal (target same-sandbox))"]
    lines += [f"(allow file-read* (subpath {path}))" for path in (*quoted, *writable)]
    lines += [f"(allow file-write* (subpath {path}))" for path in writable]
    lines += ['(allow file-write* (literal "/dev/null"))']
    lines += [f"(deny file-read-data (subpath {json.dumps(path, ensure_ascii=False)}))" for path in covers]
    return "\n".join([*lines, "(allow network*)"] if network else lines)
