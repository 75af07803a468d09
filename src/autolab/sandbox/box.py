"""Encloses one step before it becomes the job's own program: a `Box` names the limits, `enclose` sets them up.

Standard library only: the runner calls it, on whichever machine it runs.

- `full`: bubblewrap makes pid, mount, ipc, network and uts namespaces around the step. It sees the system's programs,
  its `reads`, its `writes`, a /proc, /dev, /tmp and /dev/shm of its own, and nothing else. Started by root it runs as a
  user of its own, which owns its `writes` and nothing else. It has no capabilities and cannot get any; a seccomp filter
  refuses system calls.
- `partial`: Landlock and a seccomp filter on the step itself, and a user of its own if that user can reach its files.
  The step still sees which files there are and which processes run; docs/containment.md lists what else it does not
  stop. On macOS the Seatbelt profile counts as this level; it has not been run.
- `none`: nothing but the limits.

At every level `limits` holds memory, processes and disk.
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
from dataclasses import dataclass, field, replace
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
"""Where bubblewrap and setpriv are looked for, whatever PATH says."""
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
"""Descriptors a process may have if memory is only watched: nobody can see what lies in sockets and pipes."""
FIRST_UID = 1_900_000_000
"""Above the ranges that distributions give to people, services and containers; the runner's pid is added."""
_WHOLE_MACHINE = ("--dev-bind", "/", "/", "--proc", "/proc")  # for tests alone
_WITHOUT: dict[str, dict[str, Any]] = {
    "memory": {"memory_bytes": 0},
    "processes": {"processes": 0},
    "disk": {"disk_bytes": 0},
    "covers": {"covers": ()},
    "uid": {"own_user": False},
}
"""What a layer that is left out changes in a box; the other layers are left out where they are set up."""
_NAMES = {
    "/etc/passwd": "root:x:0:0:root:/nonexistent:/bin/false\ntrial:x:{uid}:{gid}:trial:/tmp:/bin/sh\n",
    "/etc/group": "root:x:0:\ntrial:x:{gid}:\n",
    "/etc/hosts": "127.0.0.1 localhost trial\n::1 localhost\n",
}


@dataclass(frozen=True)
class Box:
    """What encloses a step: its level, what it sees, what it may use up (0: no limit).

    `reads` and `writes` are files and folders outside of the system's own. At level `full` no other path is there. A
    path that does not exist when the step starts is left out. `covers` are files and folders below them, or below the
    system's, that cannot be read: at `full` they are empty, at `partial` their names are still seen. `mounts` are
    (source, place): at `full` alone the source can also be read at the place, where something else or nothing may lie.
    `lists` are folders whose entries are seen at `partial` though they cannot be read, as at `full` those that are
    bound are: Python lists the folder that it imports from.

    Memory, processes and threads count over all that the step starts; disk counts over `writes` without `uncounted`.
    With `new_files` the disk counts only what is added, by the lengths of files, and so many files and folders.

    Without `own_user` a step started by root stays user 0, without capabilities: for one that works in folders of the
    user's. `without` names layers to leave out, for tests that show what each layer is good for."""

    level: str = "none"
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    lists: tuple[str, ...] = ()
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

    `held_by` says what enforces each limit: `cgroup v1`, `cgroup v2`, `rlimit` or `watcher`."""

    argv: list[str]
    cwd: str
    level: str
    group: Group
    watcher: Watcher
    rlimits: dict[int, int]
    user: tuple[int, int] | None
    reads: list[str]
    writes: list[str]
    covers: list[str]
    held_by: dict[str, str]
    lists: list[str] = field(default_factory=list)
    """At `partial`: folders whose entries are seen, though not all of them can be read."""
    seccomp: bytes | None = None
    landlock: bool = False
    network: bool = False
    files: list[int] = field(default_factory=list)
    status: int | None = None
    """Descriptor from which bubblewrap's reports are read."""

    def enter(self) -> None:
        """In the child, just before its exec. Raises OSError."""
        self.group.join()
        for resource_id, limit in self.rlimits.items():
            _, hard = resource.getrlimit(resource_id)
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.setrlimit(resource_id, (limit, limit))
        for descriptor in self.files:
            os.set_inheritable(descriptor, True)
        if self.level == "partial" and sys.platform == "linux":
            self._give_up_rights()

    def _give_up_rights(self) -> None:
        # The group first: a user without rights may change neither.
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
            restrict_paths(self.reads, self.writes, self.lists, network=self.network)
        if self.seccomp is not None:
            install_filter(self.seccomp)

    def entered(self) -> bool:
        """Whether bubblewrap got as far as starting the step's own program; asked once, when the step is over."""
        if self.status is None:
            return True
        reports = os.read(self.status, 65536).decode().split("\n")
        return any("exit-code" in json.loads(report) for report in reports if report)

    def started(self) -> None:
        """In the parent, after the fork: close what only the child needs."""
        while self.files:
            os.close(self.files.pop())

    def close(self) -> None:
        """When nothing of the step lives any more."""
        self.started()
        if self.status is not None:
            os.close(self.status)
        self.group.remove()

    def add_file(self, name: str, content: bytes) -> int:
        """A descriptor from which bubblewrap reads `content`."""
        descriptor = os.memfd_create(name)
        self.files.append(descriptor)
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


def enclose(step: Mapping[str, Any], folder: str, name: str, runner: int) -> Enclosure:
    """Make ready what a step's box asks for. `folder` is the attempt's, below which missing `writes` are made.

    NotEnclosed: this machine cannot do it. InvalidFolder: a path below `folder` is a link."""
    box = _reduced(Box(**step["box"]))
    _refuse_links([*box.reads, *box.writes], folder)
    reads = [path for path in box.reads if os.path.lexists(path)]
    for path in box.writes:
        if Path(path).is_relative_to(folder):
            os.makedirs(path, exist_ok=True)
    group = Group.make(name, box.memory_bytes, box.processes)
    user = _user(box, reads, runner)
    if user is not None:
        for path in box.writes:
            os.chown(path, user[0], os.getegid())  # our group: bubblewrap, without capabilities, has to pass through
            os.chmod(path, 0o710)
    rlimits = _rlimits(box, group, user)
    held_by = _held_by(box, group, rlimits)
    enclosure = Enclosure(
        argv=list(step["argv"]),
        cwd=step["cwd"],
        level=box.level,
        group=group,
        watcher=_watcher(box, held_by),
        rlimits=rlimits,
        user=user,
        reads=reads,
        writes=list(box.writes),
        covers=[path for path in box.covers if os.path.exists(path)],
        held_by=held_by,
    )
    # Descriptors and a control group are open: they must not outlive a failure.
    try:
        if box.level == "full":
            _in_namespaces(enclosure, box)
        elif box.level == "partial":
            _restricted(enclosure, box)
    except OSError as error:
        enclosure.close()
        raise NotEnclosed(error.errno, error.strerror or str(error), error.filename or "sandbox") from error
    return enclosure


def _reduced(box: Box) -> Box:
    """The box without the limits, covers and user that a test leaves out."""
    for layer in box.without:
        box = replace(box, **_WITHOUT.get(layer, {}))
    return box


def _rlimits(box: Box, group: Group, user: tuple[int, int] | None) -> dict[int, int]:
    rlimits = {resource.RLIMIT_CORE: 0}  # a core file would count for the disk, and hold the memory of a stranger
    if box.disk_bytes:
        rlimits[resource.RLIMIT_FSIZE] = box.disk_bytes
    # The kernel counts processes by user: of ours there are others.
    if box.processes and user is not None:
        rlimits[resource.RLIMIT_NPROC] = box.processes
    # The watcher sees no memory that lies in sockets and pipes: few descriptors bound it.
    if box.memory_bytes and group.memory is None:
        rlimits[resource.RLIMIT_NOFILE] = FILES
    return rlimits


def _held_by(box: Box, group: Group, rlimits: Mapping[int, int]) -> dict[str, str]:
    """What enforces each limit that the box has."""
    cgroup = f"cgroup v{group.version}"
    held_by: dict[str, str] = {}
    if box.memory_bytes:
        held_by["memory"] = cgroup if group.memory else "watcher"
    if box.processes and group.pids:
        held_by["processes"] = cgroup
    elif box.processes:
        held_by["processes"] = "rlimit" if resource.RLIMIT_NPROC in rlimits else "watcher"
    if box.disk_bytes:
        held_by["disk"] = "watcher"
    return held_by


def _watcher(box: Box, held_by: Mapping[str, str]) -> Watcher:
    return Watcher(
        writes=[path for path in box.writes if path not in box.uncounted],
        disk_bytes=box.disk_bytes,
        memory_bytes=box.memory_bytes if held_by.get("memory") == "watcher" else 0,
        processes=box.processes if held_by.get("processes") == "watcher" else 0,
        new_files=box.new_files,
    )


def _refuse_links(paths: Iterable[str], folder: str) -> None:
    """InvalidFolder: a step left a link below `folder`, where the next step's mounts would follow it."""
    for path in paths:
        if not Path(path).is_relative_to(folder):
            continue
        inner = Path(os.path.relpath(path, folder))
        # Link by link: this process may not be allowed to resolve a link (`/proc/1/root`).
        for part in (inner, *inner.parents[:-1]):
            if os.path.islink(os.path.join(folder, part)):
                raise InvalidFolder(f"{inner}: a link, where a folder of its own was expected")


# the user


def _user(box: Box, reads: Iterable[str], runner: int) -> tuple[int, int] | None:
    """A user that nobody else is; None if the step keeps ours."""
    if not box.own_user or os.geteuid() != 0 or box.level == "none" or sys.platform != "linux":
        return None
    uid = _free_uid(runner)
    if uid is None:
        return None
    # A mount namespace brings the files to the step; at `partial` the step has to get there by itself.
    if box.level == "partial" and not all(_reachable(path) for path in (*reads, *box.writes)):
        return None
    return uid, uid


def _free_uid(runner: int) -> int | None:
    """In a container only some users exist: then one of the highest; None if there are too few to be alone."""
    last = 0
    for line in Path("/proc/self/uid_map").read_text().strip("\n").split("\n"):
        inside, _, count = map(int, line.split())
        last = max(last, inside + count - 1)
    if FIRST_UID + runner <= last:
        return FIRST_UID + runner
    return last - 1 - runner % 1000 if last > 2000 else None


def _reachable(path: str) -> bool:
    """Whether any user can go there and read, by the mode bits, which is all that containers use."""
    if not Path(path).stat().st_mode & stat.S_IROTH:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in Path(path).resolve().parents)


# level full


def find_program(name: str) -> str:
    """The absolute path of a program of the system. Raises OSError."""
    path = shutil.which(name, path=PROGRAMS)
    if path is None:
        raise OSError(errno.ENOENT, f"{name} was not found in {PROGRAMS}", name)
    return path


def _in_namespaces(enclosure: Enclosure, box: Box) -> None:
    enclosure.status, reports = os.pipe()
    enclosure.files.append(reports)
    argv = [find_program("bwrap"), "--die-with-parent", "--new-session", "--unshare-cgroup-try"]
    argv += ["--json-status-fd", str(reports)]
    for namespace in ("pid", "ipc"):
        if namespace not in box.without:
            argv.append(f"--unshare-{namespace}")
    argv += ["--unshare-uts", "--hostname", "trial"]
    if not box.network and "net" not in box.without:
        argv.append("--unshare-net")
    argv += _privileges(enclosure, box)
    if "mounts" in box.without:
        argv += _WHOLE_MACHINE
    else:
        argv += _mounts(enclosure, box)
    if "seccomp" not in box.without:
        # Memory that no process maps can be counted only by a control group.
        shared_memory = enclosure.group.memory is not None or not box.memory_bytes
        program = seccomp_filter(sockets=True, alone=False, shared_memory=shared_memory)
        argv += ["--seccomp", str(enclosure.add_file("filter", program))]
    argv += ["--chdir", enclosure.cwd, "--"]
    enclosure.argv = argv + _as_user(enclosure, box) + enclosure.argv


def _privileges(enclosure: Enclosure, box: Box) -> list[str]:
    if os.geteuid() != 0:
        return ["--unshare-user", "--uid", str(os.getuid()), "--gid", str(os.getgid()), "--cap-drop", "ALL"]
    if "capabilities" in box.without:
        return ["--cap-add", "ALL"]
    # setpriv, inside, needs these to change the user, and gives them up (`_as_user`).
    argv = ["--cap-drop", "ALL", "--cap-add", "CAP_SETPCAP"]
    if enclosure.user is not None:
        argv += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return argv


def _as_user(enclosure: Enclosure, box: Box) -> list[str]:
    """What becomes the step's program inside: takes its user and gives up the last capabilities."""
    if os.geteuid() != 0:
        if not box.processes:
            return []
        return [find_program("prlimit"), f"--nproc={box.processes}:{box.processes}"]
    argv = [find_program("setpriv"), "--no-new-privs"]
    if enclosure.user is not None:
        uid, gid = enclosure.user
        argv += ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
    if "capabilities" in box.without:
        capabilities = ",".join(f"+cap_{number}" for number in _capabilities())
        return [*argv, "--inh-caps", capabilities, "--ambient-caps", capabilities, "--"]
    return [*argv, "--inh-caps", "-all", "--bounding-set", "-all", "--"]


def _capabilities() -> list[int]:
    """Those that this process may have, by number."""
    status = Path("/proc/self/status").read_text()
    bits = int(status.partition("CapBnd:")[2].split()[0], 16)
    return [number for number in range(64) if bits >> number & 1]


def _mounts(enclosure: Enclosure, box: Box) -> list[str]:
    argv: list[str] = []
    for path in SYSTEM:
        if os.path.islink(path):
            argv += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            argv += ["--ro-bind", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--dir", "/etc"]
    # Files in memory count as memory: neither file system may take all of it.
    memory_share = box.memory_bytes // 2
    sizes = [size for size in (box.disk_bytes, memory_share) if size]
    argv += _scratch(SCRATCH_MOUNT, min(sizes, default=0))
    argv += _scratch("/dev/shm", memory_share)
    uid, gid = enclosure.user or (os.getuid(), os.getgid())
    for path, text in _NAMES.items():
        descriptor = enclosure.add_file("names", text.format(uid=uid, gid=gid).encode())
        argv += ["--perms", "0444", "--ro-bind-data", str(descriptor), path]
    sources = {place: source for source, place in box.mounts}
    argv += _binds(_places(enclosure, box) | dict.fromkeys(sources, "--ro-bind"), sources)
    # Last: a cover lies on top of what was mounted before.
    for path in enclosure.covers:
        if os.path.isdir(path):
            argv += ["--perms", "0755", "--tmpfs", path, "--remount-ro", path]
        else:
            argv += ["--perms", "0444", "--ro-bind-data", str(enclosure.add_file("cover", b"")), path]
    return [*argv, "--remount-ro", "/dev", "--remount-ro", "/"]


def _scratch(path: str, most_bytes: int) -> list[str]:
    """A file system in memory that anybody may write, of at most so many bytes (0: no limit)."""
    size = ["--size", str(most_bytes)] if most_bytes else []
    return ["--perms", "1777", *size, "--tmpfs", path]


def _places(enclosure: Enclosure, box: Box) -> dict[str, str]:
    """How each path is mounted; a path that is named twice is mounted as the last says."""
    places = dict.fromkeys(SETTINGS, "--ro-bind")
    if box.network:
        places |= dict.fromkeys(FOR_THE_NETWORK, "--ro-bind")
    if cards := glob.glob("/dev/nvidia*"):
        places |= dict.fromkeys(FOR_THE_GPU, "--ro-bind")
        places |= dict.fromkeys(cards, "--dev-bind")
    places |= dict.fromkeys(enclosure.reads, "--ro-bind")
    return places | dict.fromkeys(enclosure.writes, "--bind")


def _binds(places: Mapping[str, str], sources: Mapping[str, str]) -> list[str]:
    """Each place from its source or its own path, the outer ones first; anyone may pass the folders above them."""
    argv: list[str] = []
    folders = {"/", "/dev", "/proc", "/etc", SCRATCH_MOUNT}
    bound = [path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path)]
    for path in sorted(places, key=lambda path: (path.count("/"), path)):
        source = sources.get(path, path)
        if not os.path.exists(source):
            continue
        # What an outer mount shows already needs no mount of its own, unless it may be written.
        if places[path] == "--ro-bind" and path not in sources and _lies_in(path, bound):
            continue
        for parent in reversed(Path(path).parents):
            folder = str(parent)
            if folder not in folders and not _lies_in(folder, bound):
                argv += ["--perms", "0755", "--dir", folder]
                folders.add(folder)
        argv += [places[path], source, path]
        bound.append(path)
    return argv


def _lies_in(path: str | Path, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


# level partial


def _restricted(enclosure: Enclosure, box: Box) -> None:
    if sys.platform == "darwin":
        profile = seatbelt(enclosure.reads, enclosure.writes, box.network, enclosure.covers, box.lists)
        enclosure.argv = ["/usr/bin/sandbox-exec", "-p", profile, *enclosure.argv]
        return
    enclosure.landlock = "landlock" not in box.without
    enclosure.network = box.network
    version = landlock_version()
    if enclosure.landlock and version < LEAST:
        raise OSError(errno.ENOSYS, f"version {version}, and {LEAST} is needed (Linux 6.2)", "landlock")
    reads = [*SYSTEM, *SETTINGS, *enclosure.reads, "/proc"]
    if box.network:
        reads += FOR_THE_NETWORK
    if cards := glob.glob("/dev/nvidia*"):
        reads += FOR_THE_GPU
    enclosure.writes += [*DEVICES, *cards]
    enclosure.reads, enclosure.lists = around(reads, enclosure.covers)
    enclosure.lists += box.lists
    if "seccomp" not in box.without:
        enclosure.seccomp = seccomp_filter(sockets=box.network, alone=True, shared_memory=False)


def around(reads: Iterable[str], covers: Iterable[str]) -> tuple[list[str], list[str]]:
    """The reads without what lies in `covers`, and the folders above those, which may be listed and no more.

    Landlock knows no exception to a folder that may be read: what lies beside a cover is named one by one. The target
    of a link is named where it lies, or not at all."""
    # Real paths: a cover that is reached through a link hides its target.
    hidden = [os.path.realpath(path) for path in covers]
    granted: list[str] = []
    listed: list[str] = []
    waiting = list(reads)
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        if _lies_in(real, hidden):
            continue
        if not any(_lies_in(cover, [real]) for cover in hidden):
            granted.append(path)
            continue
        listed.append(path)
        with os.scandir(path) as entries:
            waiting += [entry.path for entry in entries if not entry.is_symlink()]
    return granted, listed


def seatbelt(
    reads: Iterable[str],
    writes: Iterable[str],
    network: bool,
    covers: Iterable[str] = (),
    lists: Iterable[str] = (),
) -> str:
    """A profile for macOS's sandbox-exec: everything is refused but what is named. Not run on a Mac so far."""
    system = ("/usr", "/bin", "/sbin", "/System", "/Library", "/private/etc", "/private/var/db", "/dev")
    writes = list(writes)
    lines = ["(version 1)", "(deny default)", "(allow process-fork process-exec sysctl-read mach-lookup)"]
    lines += ["(allow file-read-metadata)", "(allow signal (target same-sandbox))"]
    lines += [f"(allow file-read* {_subpath(path)})" for path in (*system, *reads, *writes)]
    lines += [f"(allow file-read* (literal {json.dumps(path, ensure_ascii=False)}))" for path in lists]
    lines += [f"(allow file-write* {_subpath(path)})" for path in writes]
    lines += ['(allow file-write* (literal "/dev/null"))']
    lines += [f"(deny file-read-data {_subpath(path)})" for path in covers]
    if network:
        lines.append("(allow network*)")
    return "\n".join(lines)


def _subpath(path: str) -> str:
    return f"(subpath {json.dumps(path, ensure_ascii=False)})"
