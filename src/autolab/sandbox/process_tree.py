"""The machine's processes: who is below whom, and the end of all of them.

Standard library only, as the supervisor is. On macOS the table comes from `ps`; that path has not been run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from autolab.sandbox.workdir import Document

LINUX = sys.platform == "linux"
UNKILLABLE_S = 10.0


class Process(NamedTuple):
    parent: int
    group: int  # the session; on macOS the process group
    start: str
    alive: bool


def process_table() -> dict[int, Process]:
    """Every process of the machine that can be seen from here."""
    return _table_of_proc() if LINUX else _table_of_ps()


def _table_of_proc() -> dict[int, Process]:
    found = ((int(entry), _process_of_proc(int(entry))) for entry in os.listdir("/proc") if entry.isdigit())
    return {pid: process for pid, process in found if process}


def _process_of_proc(pid: int) -> Process | None:
    """None if it has ended since somebody saw it. The fields follow the name, which may itself hold brackets."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(int(fields[1]), int(fields[3]), fields[19].decode(), fields[0] not in (b"Z", b"X"))


def _table_of_ps() -> dict[int, Process]:
    import subprocess

    command = ["ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="]
    rows = [row.split(None, 4) for row in subprocess.check_output(command, text=True).strip("\n").split("\n")]
    return {int(pid): Process(int(up), int(group), start, "Z" not in stat) for pid, up, group, stat, start in rows}


def start_of(pid: int) -> str:
    """When a living process began, in the machine's own terms: with `boot()`, what tells it from a later one."""
    process = _process_of_proc(pid) if LINUX else _table_of_ps().get(pid)
    if process is None:
        raise OSError(f"process {pid} is gone")
    return process.start


def boot() -> str:
    """Names this run of the machine, within which a pid and its start time mean one process. Empty on macOS."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() if LINUX else ""


def below(pid: int, table: Mapping[int, Process]) -> list[int]:
    """The children of `pid`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for child, process in table.items():
        children.setdefault(process.parent, []).append(child)
    found = [pid]
    for parent in found:
        found += children.get(parent, ())
    return found[1:]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or another user's: the wait for it says so
        os.kill(pid, signal.SIGKILL)


def end_children(spare: Collection[int] = ()) -> dict[int, tuple[int, Any]]:
    """Kills and reaps everything below this process, but for the children in `spare` and what is below these.

    Orphans come back to a subreaper and are found in the next round. Returns wait status and resource use by pid."""
    reaped: dict[int, tuple[int, Any]] = {}
    while True:
        table = process_table()
        strays = [pid for pid, process in table.items() if process.parent == os.getpid() and pid not in spare]
        if not strays:
            return reaped
        for stray in strays:
            for pid in (stray, *below(stray, table)):  # parents first: none is to see its child die and react
                kill(pid)
        for stray in strays:
            try:
                _, status, usage = os.wait4(stray, 0)
            except ChildProcessError:
                continue  # `ps`, which listed itself
            reaped[stray] = status, usage


def end_recorded(record: Document) -> None:
    """Kills what is left of the session in a started record, once its supervisor and keeper are gone.

    A session's number is not given anew while a member lives; one whose leader started at another time is another's."""
    if record["boot"] != boot():
        return
    deadline = time.monotonic() + UNKILLABLE_S
    while members := _members(record["pgid"], record["start"], process_table()):
        for pid in members:
            kill(pid)
        if time.monotonic() > deadline:
            raise OSError(f"process {members[0]} of {record['key']} does not die of SIGKILL; end it by hand")
        time.sleep(0.002)  # they are not our children: nothing tells us


def _members(group: int, start: str, table: Mapping[int, Process]) -> list[int]:
    leader = table.get(group)
    if leader and leader.start != start:
        return []
    if not LINUX:
        return [group] if leader and leader.alive else []
    return [pid for pid, one in table.items() if one.group == group and one.alive and int(one.start) >= int(start)]
