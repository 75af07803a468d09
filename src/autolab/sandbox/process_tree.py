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
    table = {}
    for entry in os.listdir("/proc"):
        process = _process_of_proc(int(entry)) if entry.isdigit() else None
        if process is not None:
            table[int(entry)] = process
    return table


def _process_of_proc(pid: int) -> Process | None:
    """None if the process has ended since it was seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The fields follow the program's name, which may itself hold brackets.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, session, start = fields[0], int(fields[1]), int(fields[3]), fields[19].decode()
    return Process(parent, session, start, state not in (b"Z", b"X"))


def _table_of_ps() -> dict[int, Process]:
    import subprocess

    command = ["ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="]
    table = {}
    for row in subprocess.check_output(command, text=True).strip("\n").split("\n"):
        pid, parent, group, state, start = row.split(None, 4)
        table[int(pid)] = Process(int(parent), int(group), start, "Z" not in state)
    return table


def start_of(pid: int) -> str:
    """When a living process began, in the machine's own terms. With `boot()` it tells processes of one pid apart."""
    process = _process_of_proc(pid) if LINUX else _table_of_ps().get(pid)
    if process is None:
        raise OSError(f"process {pid} is gone")
    return process.start


def boot() -> str:
    """Names this boot of the machine, within which a pid and its start time mean one process. Empty on macOS."""
    if not LINUX:
        return ""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def below(pid: int, table: Mapping[int, Process]) -> list[int]:
    """The children of `pid`, their children, and so on."""
    children: dict[int, list[int]] = {}
    for child, process in table.items():
        children.setdefault(process.parent, []).append(child)
    pids = [pid]
    for parent in pids:
        pids += children.get(parent, ())
    return pids[1:]


def kill(pid: int) -> None:
    # Gone, or another user's: whoever waits for it will see.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def end_children(spare: Collection[int] = ()) -> dict[int, tuple[int, Any]]:
    """Kills and reaps everything below this process, but for the children in `spare` and what is below these.

    Returns wait status and resource use by pid."""
    reaped: dict[int, tuple[int, Any]] = {}
    while True:  # orphans come back to a subreaper and are found in the next round
        table = process_table()
        strays = [pid for pid, process in table.items() if process.parent == os.getpid() and pid not in spare]
        if not strays:
            return reaped
        for stray in strays:
            # Parents first: no parent is to see its child die and react.
            for pid in (stray, *below(stray, table)):
                kill(pid)
        for stray in strays:
            try:
                _, status, usage = os.wait4(stray, 0)
            except ChildProcessError:
                continue  # `ps`, which listed itself
            reaped[stray] = status, usage


def end_recorded(record: Document) -> None:
    """Kills what is left of the session in a started record, once its supervisor and runner are gone.

    The kernel reuses no session number while a member lives. A leader that started at another time is another's."""
    if record["boot"] != boot():
        return
    deadline = time.monotonic() + UNKILLABLE_S
    while members := _members(record["pgid"], record["start"], process_table()):
        for pid in members:
            kill(pid)
        if time.monotonic() > deadline:
            raise OSError(f"process {members[0]} of {record['key']} does not die of SIGKILL; end it by hand")
        time.sleep(0.002)  # they are not our children: nothing reports their end


def _members(group: int, start: str, table: Mapping[int, Process]) -> list[int]:
    leader = table.get(group)
    if leader and leader.start != start:
        return []
    if not LINUX:
        return [group] if leader and leader.alive else []
    members = []
    for pid, process in table.items():
        # A member is never older than the leader: a process that is belongs to another session of this number.
        if process.group == group and process.alive and int(process.start) >= int(start):
            members.append(pid)
    return members
