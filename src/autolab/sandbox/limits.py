"""What a step may use up, over the sum of its processes: memory, processes and threads, disk.

Standard library only, as the supervisor is. Memory and processes are the kernel's to hold where a control group can be
made (cgroup v1 or v2): then memory in files of /dev/shm, in memfds and in System V segments counts too. Elsewhere, and
for disk everywhere, a `Watcher` looks ten times a second at most, and what it finds too big is ended: it can be outrun
for that long, so what it holds is recorded as `watcher`. Source: Documentation/admin-guide/cgroup-v1, cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

OUT_OF_MEMORY, PROCESS_LIMIT, DISK_LIMIT = "out_of_memory", "process_limit", "disk_limit"
MOST_ENTRIES = 100_000
"""Files and folders that a step may have at once, whatever their size."""
DEEPEST = 100
"""Folders inside each other: past that the rest would be out of sight."""
UNREACHABLE = "made folders that no path leads to"
MOST_BEFORE = 1_000_000
"""Files and folders that a program may find; the count of those that it adds begins there."""
FREE_SOCKETS = 64
"""Sockets that count nothing; each one more counts as if its buffer were full, since nobody can see what lies in it."""
TICK_S = 0.1
SHARE = 20
"""A look that took a second of the processor is followed by at least this many seconds without one."""


# control groups


class Group:
    """One step's control group, in its version's form. `memory` or `pids` is None where that one could not be had."""

    def __init__(self, memory: Path | None, pids: Path | None, version: int) -> None:
        self.memory, self.pids, self.version = memory, pids, version

    @classmethod
    def make(cls, name: str, memory_bytes: int, processes: int) -> Group:
        """A new group below this process's own, or as near to it as may be written. 0 is no limit."""
        found: dict[str, Path] = {}
        version = 0
        for controller, wanted in (("memory", memory_bytes), ("pids", processes)):
            for version, base in _bases(controller) if wanted else ():
                folder = base / name
                try:
                    folder.mkdir(exist_ok=True)
                    _limit(folder, controller, version, wanted)
                except OSError:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                    continue
                found[controller] = folder
                break
        return cls(found.get("memory"), found.get("pids"), version)

    @property
    def folders(self) -> list[Path]:
        return list(dict.fromkeys(folder for folder in (self.memory, self.pids) if folder is not None))

    def join(self) -> None:
        """This process, and all that it starts from now on. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")

    def no_more_processes(self) -> None:
        """So that what is being killed cannot outrun it."""
        if self.pids is not None:
            (self.pids / "pids.max").write_text("0")

    def ran_out(self) -> str:
        """Which limit the kernel has enforced so far; empty if none."""
        if self.memory is not None:
            events = "memory.events" if self.version == 2 else "memory.oom_control"
            if _counted(self.memory / events, "oom_kill"):
                return OUT_OF_MEMORY
            counts_kills = "oom_kill" in _words(self.memory / events)  # kernels before 4.13 do not
            if not counts_kills and self.version == 1 and _count(self.memory / "memory.failcnt"):
                return OUT_OF_MEMORY
        if self.pids is not None and _counted(self.pids / "pids.events", "max"):
            return PROCESS_LIMIT
        return ""

    def remove(self) -> None:
        """Once all of it are dead and reaped. What cannot go yet is taken by a later `sweep`."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def sweep(prefix: str) -> None:
    """Removes groups called `<prefix><pid>…` of processes that are gone: asked of each after it was seen, so that the
    group of one that has just begun stays."""
    for controller in ("memory", "pids"):
        for _, base in _bases(controller):
            for folder in base.glob(f"{prefix}*"):
                owner = re.match(r"\d+", folder.name.removeprefix(prefix))
                if owner and not os.path.exists(f"/proc/{owner[0]}"):
                    with contextlib.suppress(OSError):
                        folder.rmdir()


def _bases(controller: str) -> list[tuple[int, Path]]:
    """Folders in which a group with this controller may be possible, the nearest first."""
    try:
        lines = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).strip("\n").split("\n")
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).strip("\n").split("\n")
    except OSError:
        return []
    own = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    found = []
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split(" ", 2)
        top, root = Path(before.split(" ")[4]), before.split(" ")[3]
        if kind == "cgroup" and controller in options.split(","):
            path = next((path for names, path in own.items() if controller in names.split(",")), "/")
            found.append((1, top / os.path.relpath(path, root)))
        elif kind == "cgroup2":
            here = top / os.path.relpath(own.get("", "/"), root)
            for base in (here, here.parent, top):
                if base.is_relative_to(top) and controller in _words(base / "cgroup.subtree_control"):
                    found.append((2, base))
    return [(version, base) for version, base in found if os.access(base, os.W_OK)]


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _limit(folder: Path, controller: str, version: int, wanted: int) -> None:
    if controller == "pids":
        (folder / "pids.max").write_text(str(wanted))
        return
    names = ("memory.max",) if version == 2 else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    (folder / names[0]).write_text(str(wanted))
    swap, most = ("memory.swap.max", 0) if version == 2 else ("memory.memsw.limit_in_bytes", wanted)
    if (folder / swap).exists():  # absent in kernels that do not count swap
        (folder / swap).write_text(str(most))


def _counted(file: Path, name: str) -> int:
    words = _words(file)
    return int(words[words.index(name) + 1]) if name in words else 0


def _count(file: Path) -> int:
    words = _words(file)
    return int(words[0]) if words and words[0].isdigit() else 0


# watching


class ResourceUsage(NamedTuple):
    """Bytes, the longest file, how many files and folders, and what there is that cannot be counted, if anything."""

    disk: int
    longest: int
    entries: int = 0
    beyond: str = ""


class Watcher:
    """Looks now and then at what no control group holds. Limits of 0 are none.

    With `new_files` what lies in `writes` now does not count, lengths do, and so many files and folders may be added:
    for a program that works on files which others read whole afterwards. `said` is how the disk's limit was passed."""

    def __init__(
        self, writes: Sequence[str], disk_bytes: int, memory_bytes: int, processes: int, new_files: int = 0
    ) -> None:
        self.writes = writes if disk_bytes else ()
        self.disk_bytes, self.memory_bytes, self.processes = disk_bytes, memory_bytes, processes
        self.new_files = new_files
        self.before = disk_usage(self.writes, lengths=True, most=MOST_BEFORE) if new_files else ResourceUsage(0, 0)
        self.next = 0.0
        self.said = ""

    @property
    def idle(self) -> bool:
        return not (self.disk_bytes or self.memory_bytes or self.processes)

    def wait(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self.next - time.monotonic()) if not self.idle else float("inf")

    def look(self, everyone: Callable[[], Collection[int]]) -> str:
        """Which limit is passed, if the time for a look has come; empty if none. `everyone`: the step's processes."""
        if self.wait():
            return ""
        began = time.thread_time()
        found = self.judge(everyone())
        self.next = time.monotonic() + max(TICK_S, SHARE * (time.thread_time() - began))
        return found

    def at_the_end(self, failed: bool) -> str:
        """The same for the disk, once nothing of the step lives. One that failed may have met the end of a file."""
        if not self.disk_bytes:
            return ""
        usage = self.usage()
        return self.full(usage) or (DISK_LIMIT if failed and usage.longest >= self.disk_bytes else "")

    def judge(self, pids: Collection[int]) -> str:
        if self.processes and sum(_tasks(pid) for pid in pids) > self.processes:
            return PROCESS_LIMIT
        if self.memory_bytes:
            room = self.memory_bytes - _socket_buffers(pids)
            if _resident(pids) > room and _proportional(pids) > room:
                return OUT_OF_MEMORY
        if self.disk_bytes:
            return self.full(self.usage(_deleted(pids, self.writes)))
        return ""

    def usage(self, deleted: dict[tuple[int, int], int] | None = None) -> ResourceUsage:
        most = self.before.entries + self.new_files if self.new_files else MOST_ENTRIES
        return disk_usage(self.writes, deleted, lengths=self.new_files > 0, most=most)

    def full(self, usage: ResourceUsage) -> str:
        """DISK_LIMIT where there is more than may be, which `said` then says."""
        if usage.entries > self.before.entries + (self.new_files or MOST_ENTRIES):
            self.said = f"made more than {self.new_files or MOST_ENTRIES} files and folders"
        elif usage.beyond:
            self.said = usage.beyond
        elif usage.disk - self.before.disk > self.disk_bytes:
            self.said = f"wrote more than {self.disk_bytes} bytes"
        return DISK_LIMIT if self.said else ""


def disk_usage(
    folders: Sequence[str],
    deleted: dict[tuple[int, int], int] | None = None,
    lengths: bool = False,
    most: int = MOST_ENTRIES,
) -> ResourceUsage:
    """What lies below `folders` and changes meanwhile; a file with several names counts once. Follows no link.

    With `lengths` a hole in a file counts like what is written. The count ends past `most` files and folders."""
    sizes = dict(deleted or {})
    longest = entries = 0
    queue = [(folder, 0) for folder in folders]
    for folder, depth in queue:
        try:
            content = os.scandir(folder)
        except PermissionError:  # made so that nobody looks
            return ResourceUsage(sum(sizes.values()), longest, entries, "made a folder that nobody may look into")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return ResourceUsage(sum(sizes.values()), longest, entries, UNREACHABLE)
            continue  # it has just gone
        with content:
            for entry in content:
                entries += 1
                if entries > most or depth > DEEPEST:
                    deep = f"made more than {DEEPEST} folders inside each other" if depth > DEEPEST else ""
                    return ResourceUsage(sum(sizes.values()), longest, entries, deep)
                try:
                    facts = entry.stat(follow_symlinks=False)
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        return ResourceUsage(sum(sizes.values()), longest, entries, UNREACHABLE)
                    continue  # it has just gone
                else:
                    taken = facts.st_blocks * 512
                    sizes[facts.st_dev, facts.st_ino] = max(taken, facts.st_size) if lengths else taken
                    if stat.S_ISDIR(facts.st_mode):
                        queue.append((entry.path, depth + 1))
                    else:
                        longest = max(longest, facts.st_size)
    return ResourceUsage(sum(sizes.values()), longest, entries)


def _deleted(pids: Collection[int], folders: Sequence[str]) -> dict[tuple[int, int], int]:
    """Files without a name that are still open or mapped, on the same file systems as `folders`."""
    devices = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            devices.add(os.stat(folder).st_dev)
    found = {}
    for pid in pids:
        for kind in ("fd", "map_files"):
            with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/{kind}") as links:
                for link in links:
                    with contextlib.suppress(OSError):
                        facts = link.stat()
                        if facts.st_nlink == 0 and facts.st_dev in devices and stat.S_ISREG(facts.st_mode):
                            found[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return found


def _socket_buffers(pids: Collection[int]) -> int:
    """Bytes that the kernel may hold for the sockets of these processes, one that several have open counted once."""
    sockets = set()
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as links:
            for link in links:
                with contextlib.suppress(OSError):
                    target = os.readlink(link.path)
                    if target.startswith("socket:"):
                        sockets.add(target)
    words = _words(Path("/proc/sys/net/core/wmem_default"))
    buffer = int(words[0]) if words else 0
    return max(0, len(sockets) - FREE_SOCKETS) * buffer


def _field(path: str, name: str) -> int:
    try:
        with open(path) as file:
            return next((int(line.split()[1]) for line in file if line.startswith(name)), 0)
    except OSError:  # it has just ended
        return 0


def _tasks(pid: int) -> int:
    return _field(f"/proc/{pid}/status", "Threads:")


def _resident(pids: Collection[int]) -> int:
    return 1024 * sum(_field(f"/proc/{pid}/status", "VmRSS:") for pid in pids)


def _proportional(pids: Collection[int]) -> int:
    """Pages that several processes share count once in all: slower to ask, so asked only where it may matter."""
    return 1024 * sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)
