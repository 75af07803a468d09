"""One job: its steps in order, their limits, and the end of everything below them.

Standard library only. A keeper is forked by the supervisor and runs in a process of its own, the subreaper of all that
its job starts. Each step's first process, its leader, is held at a gate until its pid is on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from autolab.workdir import Document, Workdir, drain, note, now, ring, write_json

EXITED, COMPLETED, FAILED, TIMEOUT = "exited", "completed", "failed", "timeout"
OUTPUT_LIMIT, CANCELLED, LOST = "output_limit", "cancelled", "lost"
UNKILLABLE_S = 10.0
LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


# processes


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
    rows = [row.split(None, 4) for row in subprocess.check_output(command, text=True).splitlines()]
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


def prctl(option: int, value: int) -> None:
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


# one step


class Leader(NamedTuple):
    """A step's first process, held before its exec. The descriptors are this side's ends."""

    pid: int
    gate: int  # write a byte: it goes on; close: it ends
    stdout: int
    stderr: int
    failure: int  # says why the command could not be run


def spawn(step: Document) -> Leader:
    """Forks the process of one step and holds it at a gate.

    This is the seam for containment: a sandbox wraps `step["argv"]` here (or a warm server forks here), and the rest
    of the supervisor knows only a pid, a gate and three pipes. As it stands, nothing is contained: what the command
    leaves behind is killed by `end_children`, what it reads and writes is its own affair."""
    gate, stdout, stderr, failure = (os.pipe() for _ in range(4))
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(step, keeper, gate, stdout[1], stderr[1], failure[1])
    for descriptor in (gate[0], stdout[1], stderr[1], failure[1]):
        os.close(descriptor)
    for descriptor in (stdout[0], stderr[0], failure[0]):
        os.set_blocking(descriptor, False)
    return Leader(pid, gate[1], stdout[0], stderr[0], failure[0])


def _become(step: Document, keeper: int, gate: tuple[int, int], stdout: int, stderr: int, failure: int) -> None:
    """In the child: waits at the gate, then is the command. Does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(gate[1])  # else its own copy would keep the gate from closing when the keeper dies
        if os.getppid() != keeper or not os.read(gate[0], 1):
            os._exit(127)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and an exec would hand that on
            signal.signal(ignored, signal.SIG_DFL)
        os.chdir(step["cwd"])
        os.execvpe(step["argv"][0], step["argv"], step["env"])
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or step["argv"][0]
        os.write(failure, f"{where}: {getattr(error, 'strerror', None) or error}".encode(errors="replace")[:1000])
    finally:
        os._exit(127)


class Output:
    """What a step prints: stored up to a cap that both streams share, counted beyond it."""

    def __init__(self, cap: int, files: dict[int, int]) -> None:
        self.cap, self.files, self.bytes = cap, files, 0

    @property
    def over(self) -> bool:
        return self.bytes > self.cap

    def pump(self, pipe: int) -> bool:
        """Takes what is in the pipe, at most 64 KiB; False if nothing was, or the pipe has ended."""
        try:
            data = os.read(pipe, 65536)
        except BlockingIOError:
            return False
        room = memoryview(data)[: max(0, self.cap - self.bytes)]
        self.bytes += len(data)
        while room:
            room = room[os.write(self.files[pipe], room) :]
        return bool(data)


# one job


class SupervisorDied(Exception):
    """The supervisor's end of a keeper's socket has closed."""


class Keeper:
    """Runs the steps of one job, in a process of its own that is the subreaper of all below it."""

    def __init__(self, place: Workdir, name: str, job: Document, control: socket.socket) -> None:
        self.place, self.name, self.job, self.control = place, name, job, control
        self.folder = Path(job["folder"])
        self.steps: list[Document] = []
        self.reaped: dict[int, tuple[int, Any]] = {}
        self.logs: dict[str, tuple[int, int]] = {}
        self.begun = now()

    def run(self) -> None:
        """To the written exit; raises SupervisorDied, with everything below killed, if nobody is left to tell."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.children, bell = os.pipe()
        for descriptor in (self.children, bell):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        outcome, message = COMPLETED, "all steps exited with status 0"
        try:
            self.prepare()
            for step in self.job["steps"]:
                outcome, message = self.run_step(step)
                if outcome != COMPLETED:
                    break
        except OSError as error:
            end_children()
            outcome, message = LOST, f"{error.filename or self.folder}: {error.strerror or error}"
        except SupervisorDied:
            end_children()
            raise
        write_json(self.place.exit(self.name), exit_document(self.job, outcome, message, self.steps, self.begun))
        note(f"{self.name}: {outcome}: {message}")
        ring(self.place.events)

    def prepare(self) -> None:
        """The attempt's folders, and all log files, opened before any code of the job runs."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        for step in self.job["steps"]:
            name = step["name"]
            (self.folder / name).mkdir(exist_ok=True)
            out, err = (os.open(logs / f"{name}.{stream}", flags, 0o644) for stream in ("out", "err"))
            self.logs[name] = out, err

    def run_step(self, step: Document) -> tuple[str, str]:
        """Outcome and message of one step, at whose end nothing of it is alive.

        A limit or a cancel is SIGKILL at once: a grace would be time past the limit, for files that nobody reads."""
        leader = spawn(step)
        self.record(step, leader.pid)
        out, err = self.logs[step["name"]]
        output = Output(step["output_bytes"], {leader.stdout: out, leader.stderr: err})
        started, clock = now(), time.monotonic()
        os.write(leader.gate, b"g")
        ended = self.watch(step, leader, output)
        seconds = time.monotonic() - clock
        self.end_step(leader.pid)
        for pipe in (leader.stdout, leader.stderr):
            while output.pump(pipe):
                pass
        failure = _read_all(leader.failure)
        for descriptor in leader[1:]:
            os.close(descriptor)
        status, usage = self.reaped[leader.pid]
        self.steps.append(step_document(step["name"], status, usage, seconds, output.bytes, started))
        if ended == EXITED and output.over:
            ended = OUTPUT_LIMIT
        return self.judge(step, ended, failure)

    def record(self, step: Document, pid: int) -> None:
        """Durable before the gate opens: whoever finds no such record knows that no code of the job ran."""
        who = {"pid": pid, "pgid": pid, "start": start_of(pid), "boot": boot(), "keeper": os.getpid()}
        what = {"key": self.job["key"], "step": step["name"], "started": self.begun}
        write_json(self.place.start(self.name), what | who)
        if not self.steps:
            ring(self.place.events)

    def watch(self, step: Document, leader: Leader, output: Output) -> str:
        """Waits for the first of: the leader's exit, its limits, a cancel. Raises SupervisorDied."""
        deadline = time.monotonic() + step["time_limit_s"]
        with selectors.DefaultSelector() as selector:
            for source in (self.control, self.children, leader.stdout, leader.stderr):
                selector.register(source, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.fileobj is self.control:
                        if not self.control.recv(1):
                            raise SupervisorDied
                        return CANCELLED
                    if key.fd == self.children:
                        drain(self.children)
                        self.reap()
                    elif not output.pump(key.fd):
                        selector.unregister(key.fd)
                if leader.pid in self.reaped:
                    return EXITED
                if output.over:
                    return OUTPUT_LIMIT
        return TIMEOUT

    def reap(self) -> bool:
        """Takes in who has died below; True if others still live."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.reaped[pid] = status, usage

    def end_step(self, leader: int) -> None:
        if not LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        if self.reap():
            self.reaped |= end_children()

    def judge(self, step: Document, ended: str, failure: str) -> tuple[str, str]:
        name, result = step["name"], self.steps[-1]
        if ended == TIMEOUT:
            return TIMEOUT, f"{name} passed its limit of {step['time_limit_s']:g} s"
        if ended == OUTPUT_LIMIT:
            return OUTPUT_LIMIT, f"{name} printed more than {step['output_bytes']} bytes"
        if ended == CANCELLED:
            return CANCELLED, f"{name} was cancelled"
        if failure:
            return FAILED, f"{name} could not be run: {failure}"
        if result["signal"] is not None:
            return FAILED, f"{name} was killed by signal {result['signal']}"
        if result["returncode"] != 0:
            return FAILED, f"{name} exited with status {result['returncode']}"
        return COMPLETED, "all steps exited with status 0"


def _read_all(pipe: int) -> str:
    try:
        return os.read(pipe, 4096).decode(errors="replace")
    except BlockingIOError:
        return ""


def step_document(name: str, status: int, usage: Any, seconds: float, output: int, started: str) -> Document:
    """`max_rss_bytes` and `cpu_seconds` are those of the leader and of the children it waited for.

    The peak is never less than the keeper's own size (about 10 MB): the kernel carries it over the exec."""
    code = os.waitstatus_to_exitcode(status)
    return {
        "name": name,
        "returncode": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "seconds": round(seconds, 6),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 6),
        "max_rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "output_bytes": output,
        "started": started,
        "ended": now(),
    }


def exit_document(job: Document, outcome: str, message: str, steps: list[Document], started: str) -> Document:
    """What `exits/<name>.json` holds: the steps' own numbers, and over them the attempt's."""
    last = steps[-1] if steps else {"name": "", "returncode": None, "signal": None}
    return {
        "key": job["key"],
        "outcome": outcome,
        "step": last["name"],
        "returncode": last["returncode"],
        "signal": last["signal"],
        "seconds": round(sum(step["seconds"] for step in steps), 6),
        "cpu_seconds": round(sum(step["cpu_seconds"] for step in steps), 6),
        "max_rss_bytes": max((step["max_rss_bytes"] for step in steps), default=0),
        "output_bytes": sum(step["output_bytes"] for step in steps),
        "started": started,
        "ended": now(),
        "message": " ".join(message.split()),
        "steps": steps,
    }
