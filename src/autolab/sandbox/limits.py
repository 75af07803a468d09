"""What a step may use up, over the sum of its processes: memory, processes and threads, disk.

Standard library only, as the supervisor is. Where a control group can be made (cgroup v1 or v2), the kernel limits
memory and processes: then memory in files of /dev/shm, in memfds and in System V segments counts too. Elsewhere, and
for disk everywhere, a `Watcher` looks ten times a second at most and ends what is too big. A program can outrun it
for that long, so the record calls such a limit `watcher`. Source: Documentation/admin-guide/cgroup-v1, cgroup-v2.rst.
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

from autolab.sandbox.exit_record import TrialOutcome

MOST_ENTRIES = 100_000
"""Files and folders that a step may have at once, whatever their size."""
DEEPEST = 100
"""Folders inside each other: past that the rest would be out of sight."""
MOST_BEFORE = 1_000_000
"""Files and folders that a program may find; the count of those that it adds begins there."""
FREE_SOCKETS = 64
"""Sockets that count nothing. Each further one counts as if its buffer were full: nobody can see what is in it."""
TICK_S = 0.1
SHARE = 20
"""A look that took a second of the processor is followed by at least this many seconds without one."""


# control groups


class Group:
    """One step's control group. `memory` or `pids` is None if that controller could not be used."""

    def __init__(self, memory: Path | None, pids: Path | None, version: int) -> None:
        self.memory, self.pids, self.version = memory, pids, version

    @classmethod
    def make(cls, name: str, memory_bytes: int, processes: int) -> Group:
        """A new group below this process's own, or as near to it as may be written. 0 is no limit."""
        memory, memory_version = _make_folder(name, "memory", memory_bytes)
        pids, pids_version = _make_folder(name, "pids", processes)
        return cls(memory, pids, memory_version or pids_version)

    @property
    def folders(self) -> set[Path]:
        return {folder for folder in (self.memory, self.pids) if folder is not None}

    def join(self) -> None:
        """Add this process, and all that it starts from now on. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")  # 0 is the process that writes

    def no_more_processes(self) -> None:
        """Forbid forks, so that what is being killed cannot outrun the killer."""
        if self.pids is not None:
            (self.pids / "pids.max").write_text("0")

    def ran_out(self) -> TrialOutcome | None:
        """Which limit the kernel has enforced so far; None if none."""
        if self.memory is not None and _ran_out_of_memory(self.memory, self.version):
            return TrialOutcome.OUT_OF_MEMORY
        if self.pids is not None and _counter(self.pids / "pids.events", "max"):
            return TrialOutcome.PROCESS_LIMIT
        return None

    def remove(self) -> None:
        """Once all of it are dead and reaped. What cannot go yet is taken by a later `sweep`."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_folder(name: str, controller: str, limit: int) -> tuple[Path | None, int]:
    """A group with this limit, and its version; None and 0 if no group can be made or none is needed."""
    if not limit:
        return None, 0
    for version, base in _bases(controller):
        folder = base / name
        try:
            folder.mkdir(exist_ok=True)
            _set_limit(folder, controller, version, limit)
        except OSError:
            # Not ours to write, or without this controller: the next base may do.
            with contextlib.suppress(OSError):
                folder.rmdir()
        else:
            return folder, version
    return None, 0


def sweep(prefix: str) -> None:
    """Removes groups called `<prefix><pid>…` of processes that are gone."""
    for controller in ("memory", "pids"):
        for _, base in _bases(controller):
            for folder in base.glob(f"{prefix}*"):
                # Looked up after the group was seen: the group of a process that has just started stays.
                owner = re.match(r"\d+", folder.name.removeprefix(prefix))
                if owner and not os.path.exists(f"/proc/{owner[0]}"):
                    with contextlib.suppress(OSError):
                        folder.rmdir()


def _bases(controller: str) -> list[tuple[int, Path]]:
    """Folders in which a group with this controller may be possible, with the version, the nearest first."""
    try:
        groups = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).strip("\n").split("\n")
        mounts = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).strip("\n").split("\n")
    except OSError:
        return []
    own_path = "/"
    unified_path = "/"
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers:
            unified_path = path
        elif controller in controllers.split(","):
            own_path = path
    bases: list[tuple[int, Path]] = []
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, top = before.split(" ")[3:5]
        if kind == "cgroup" and controller in options.split(","):
            bases.append((1, Path(top, os.path.relpath(own_path, root))))
        elif kind == "cgroup2":
            own_group = Path(top, os.path.relpath(unified_path, root))
            # In version 2 a group with processes can have no children with controllers: mostly the one above it can.
            for base in (own_group, own_group.parent, Path(top)):
                if base.is_relative_to(top) and controller in _words(base / "cgroup.subtree_control"):
                    bases.append((2, base))
    return [(version, base) for version, base in bases if os.access(base, os.W_OK)]


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _set_limit(folder: Path, controller: str, version: int, limit: int) -> None:
    if controller == "pids":
        (folder / "pids.max").write_text(str(limit))
        return
    if version == 2:
        (folder / "memory.max").write_text(str(limit))
        swap, swap_limit = folder / "memory.swap.max", 0
    else:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        swap, swap_limit = folder / "memory.memsw.limit_in_bytes", limit
    if swap.exists():  # absent in kernels that do not count swap
        swap.write_text(str(swap_limit))


def _ran_out_of_memory(folder: Path, version: int) -> bool:
    if version == 2:
        return _counter(folder / "memory.events", "oom_kill") > 0
    if "oom_kill" in _words(folder / "memory.oom_control"):
        return _counter(folder / "memory.oom_control", "oom_kill") > 0
    # Kernels before 4.13 count no kills: the group met its limit at least.
    failures = _words(folder / "memory.failcnt")
    return bool(failures) and failures[0] != "0"


def _counter(file: Path, name: str) -> int:
    words = _words(file)
    return int(words[words.index(name) + 1]) if name in words else 0


# watching


class ResourceUsage(NamedTuple):
    """Bytes, the longest file, how many files and folders, and what cannot be counted, if anything."""

    disk: int
    longest: int
    entries: int = 0
    beyond: str = ""


class Watcher:
    """Looks now and then at what no control group limits. Limits of 0 are none.

    With `new_files` what lies in `writes` now does not count, lengths do, and so many files and folders may be added:
    for a program that works on files which others read whole afterwards. `disk_message` says how the disk's limit was
    passed."""

    def __init__(
        self, writes: Sequence[str], disk_bytes: int, memory_bytes: int, processes: int, new_files: int = 0
    ) -> None:
        self.writes = writes if disk_bytes else ()
        self.disk_bytes, self.memory_bytes, self.processes = disk_bytes, memory_bytes, processes
        self.new_files = new_files
        self.before = ResourceUsage(0, 0)
        if new_files:
            self.before = disk_usage(self.writes, lengths=True, most=MOST_BEFORE)
        self.most_entries = self.before.entries + (new_files or MOST_ENTRIES)
        self.next = 0.0
        self.disk_message = ""

    def wait(self) -> float:
        """Seconds until the next look."""
        if self.disk_bytes or self.memory_bytes or self.processes:
            return max(0.0, self.next - time.monotonic())
        return float("inf")

    def look(self, pids: Callable[[], Collection[int]]) -> TrialOutcome | None:
        """Which limit is passed, if the time for a look has come; None if none. `pids` lists the step's processes."""
        if self.wait():
            return None
        # This thread's own processor time: a busy machine does not make looks rarer.
        began = time.thread_time()
        limit = self.judge(pids())
        self.next = time.monotonic() + max(TICK_S, SHARE * (time.thread_time() - began))
        return limit

    def at_the_end(self, failed: bool) -> TrialOutcome | None:
        """The same for the disk, once nothing of the step lives."""
        if not self.disk_bytes:
            return None
        usage = self.usage()
        # A step that failed with a file of the full length was stopped by the limit on the length of a file.
        if failed and usage.longest >= self.disk_bytes:
            return self.full(usage) or TrialOutcome.DISK_LIMIT
        return self.full(usage)

    def judge(self, pids: Collection[int]) -> TrialOutcome | None:
        if self.processes and sum(_tasks(pid) for pid in pids) > self.processes:
            return TrialOutcome.PROCESS_LIMIT
        if self.memory_bytes:
            # Resident memory first: it is quick to get, and never too small: shared pages count once a process.
            room = self.memory_bytes - _socket_buffers(pids)
            if _resident(pids) > room and _proportional(pids) > room:
                return TrialOutcome.OUT_OF_MEMORY
        if self.disk_bytes:
            return self.full(self.usage(_deleted(pids, self.writes)))
        return None

    def usage(self, deleted: dict[tuple[int, int], int] | None = None) -> ResourceUsage:
        return disk_usage(self.writes, deleted, lengths=self.new_files > 0, most=self.most_entries)

    def full(self, usage: ResourceUsage) -> TrialOutcome | None:
        """DISK_LIMIT if there is more than may be, which `disk_message` then says."""
        if usage.entries > self.most_entries:
            self.disk_message = f"made more than {self.new_files or MOST_ENTRIES} files and folders"
        elif usage.beyond:
            self.disk_message = usage.beyond
        elif usage.disk - self.before.disk > self.disk_bytes:
            self.disk_message = f"wrote more than {self.disk_bytes} bytes"
        return TrialOutcome.DISK_LIMIT if self.disk_message else None


class _Uncountable(Exception):
    """The count ends here, and why; empty if there are too many entries."""


class _DiskCount:
    """What lies below some folders; a file with several names counts once."""

    def __init__(self, sizes: dict[tuple[int, int], int], lengths: bool, most: int) -> None:
        self.sizes, self.lengths, self.most = sizes, lengths, most
        self.longest = self.entries = 0

    def walk(self, folders: Sequence[str]) -> None:
        """Count all of it, which may change meanwhile. Follows no link. _Uncountable: it cannot be counted."""
        queue = [(folder, 0) for folder in folders]
        for folder, depth in queue:
            try:
                content = os.scandir(folder)
            except PermissionError:
                raise _Uncountable("made a folder that nobody may look into") from None
            except OSError as error:
                _refuse_unreachable(error)
                continue
            with content:
                for entry in content:
                    if self.add(entry, depth):
                        queue.append((entry.path, depth + 1))

    def add(self, entry: os.DirEntry[str], depth: int) -> bool:
        """Count one entry; whether it is a folder."""
        self.entries += 1
        if depth > DEEPEST:
            raise _Uncountable(f"made more than {DEEPEST} folders inside each other")
        if self.entries > self.most:
            raise _Uncountable
        try:
            facts = entry.stat(follow_symlinks=False)
        except OSError as error:
            _refuse_unreachable(error)
            return False
        size = facts.st_blocks * 512
        if self.lengths:
            size = max(size, facts.st_size)
        # By inode: a file with several names counts once.
        self.sizes[facts.st_dev, facts.st_ino] = size
        if stat.S_ISDIR(facts.st_mode):
            return True
        self.longest = max(self.longest, facts.st_size)
        return False


def _refuse_unreachable(error: OSError) -> None:
    """An entry that has just gone is nothing; one whose path is too long for the kernel could hide anything."""
    if error.errno == errno.ENAMETOOLONG:
        raise _Uncountable("made folders that no path leads to") from None


def disk_usage(
    folders: Sequence[str],
    deleted: dict[tuple[int, int], int] | None = None,
    lengths: bool = False,
    most: int = MOST_ENTRIES,
) -> ResourceUsage:
    """What lies below `folders`, and the `deleted` files that are still open, by device and inode.

    With `lengths` a hole in a file counts like what is written. The count ends past `most` files and folders."""
    count = _DiskCount(dict(deleted or {}), lengths, most)
    beyond = ""
    try:
        count.walk(folders)
    except _Uncountable as problem:
        beyond = str(problem)
    return ResourceUsage(sum(count.sizes.values()), count.longest, count.entries, beyond)


def _deleted(pids: Collection[int], folders: Sequence[str]) -> dict[tuple[int, int], int]:
    """Files without a name that are still open or mapped, on the same file systems as `folders`."""
    devices = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            devices.add(os.stat(folder).st_dev)
    sizes = {}
    for pid in pids:
        for kind in ("fd", "map_files"):
            with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/{kind}") as links:
                for link in links:
                    with contextlib.suppress(OSError):
                        facts = link.stat()
                        if facts.st_nlink == 0 and facts.st_dev in devices and stat.S_ISREG(facts.st_mode):
                            sizes[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return sizes


def _socket_buffers(pids: Collection[int]) -> int:
    """Bytes that the kernel may hold for the sockets of these processes; a shared socket counts once."""
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
    """The number of a line `name: number`; 0 if there is none, or the process has just ended."""
    with contextlib.suppress(OSError), open(path) as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def _tasks(pid: int) -> int:
    return _field(f"/proc/{pid}/status", "Threads:")


def _resident(pids: Collection[int]) -> int:
    return 1024 * sum(_field(f"/proc/{pid}/status", "VmRSS:") for pid in pids)


def _proportional(pids: Collection[int]) -> int:
    """Bytes of memory in which pages shared by several processes count once. Slow, so asked only where it matters."""
    return 1024 * sum(_field(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)
