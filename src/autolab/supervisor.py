"""Runs a batch of jobs on one machine and outlives the engine that asked for it.

    python -I -S -B supervisor.py WORKDIR

Standard library only; `executors/local.py` is the other side of the work folder. Three kinds of process:

    supervisor           one a work folder: the queue and the slots; a daemon in a session of its own
    └── keeper           one a running job, forked: runs the steps in order, writes the exit
        └── leader       one a step: the job's own command, in a session of its own

A job is over when `exits/<name>.json` is there, and only then. It is written last, after everything below the keeper
was killed and reaped, and lies where no job is told to write. There are no clocks but the steps' limits: who waits,
waits for a byte.

Who dies takes along what is below it. A supervisor that dies closes its end of each keeper's socket, and the keeper
kills its tree. A keeper that dies takes its leader along (PR_SET_PDEATHSIG), and what else was below it falls to the
supervisor (PR_SET_CHILD_SUBREAPER), which kills it. The keepers share the supervisor's lock: a free lock means that the
supervisor and all keepers are gone. The next supervisor calls `lost` what was started and has no exit, and runs what
was never started.

Not covered: a daemon that left its session, when supervisor and keeper are both killed at one blow; a job that writes
into the work folder on purpose (a sandbox prevents both, see `spawn`). macOS has neither prctl nor /proc: there only
the step's process group is killed; that path has not been run.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

HELD = 3  # exit status: another supervisor (or a keeper of a dead one) has this work folder
EXITED, COMPLETED, FAILED, TIMEOUT = "exited", "completed", "failed", "timeout"
OUTPUT_LIMIT, CANCELLED, LOST = "output_limit", "cancelled", "lost"
UNKILLABLE_S = 10.0
LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

Document = dict[str, Any]


class Workdir:
    """Every path of a run's work folder. `name` is `<trial>.a<attempt>`, the handle of a job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = root / "lock"  # held for life by the supervisor and its keepers
        self.queue = root / "queue"  # held while jobs are added, and while the supervisor decides to leave
        self.settings = root / "supervisor.json"
        self.log = root / "supervisor.log"
        self.wake = root / "wake"  # FIFO, read by the supervisor
        self.events = root / "events"  # FIFO, read by the engine
        self.jobs, self.started, self.cancels, self.exits = (
            root / part for part in ("jobs", "started", "cancel", "exits")
        )

    def folder(self, trial: str, attempt: int) -> Path:
        """The writable folder of one attempt."""
        return self.root / "trials" / trial / f"a{attempt}"

    def job(self, name: str) -> Path:
        return self.jobs / f"{name}.json"

    def start(self, name: str) -> Path:
        return self.started / f"{name}.json"

    def exit(self, name: str) -> Path:
        return self.exits / f"{name}.json"

    def make(self) -> None:
        """Creates what is missing of it. Raises OSError."""
        for folder in (self.jobs, self.started, self.cancels, self.exits):
            folder.mkdir(parents=True, exist_ok=True)
        for fifo in (self.wake, self.events):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(fifo, 0o600)


# Files, locks and bells


def read_json(path: Path) -> Document:
    document: Document = json.loads(path.read_bytes())
    return document


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Atomic and durable: the whole file or none, after a power cut too. An OSError names `path`."""
    temp = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with open(temp, "wb") as file:
            file.write(json.dumps(document).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        sync_folder(path.parent)
    except OSError as error:
        temp.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(folder: Path) -> set[str]:
    """The job names of which `folder` holds a document."""
    return {entry[:-5] for entry in os.listdir(folder) if entry.endswith(".json") and not entry.startswith(".")}


def take_lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock until it is closed; None if it is held and `wait` is False."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def listen(fifo: Path) -> int:
    """A descriptor that turns readable at each `ring`. Open for writing too: else the first ring would also end it."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def ring(fifo: Path) -> bool:
    """Wakes whoever listens; False if nobody does."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: no reader; ENOENT: no work folder any more
        return False
    try:
        os.write(descriptor, b".")
    except BlockingIOError:
        pass  # full of unread bytes: the listener will wake
    finally:
        os.close(descriptor)
    return True


def drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def note(text: str) -> None:
    """A line of the supervisor's log, which is its standard output."""
    os.write(1, f"{now()} {text}\n".encode(errors="backslashreplace"))


# Processes


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


def _prctl(option: int, value: int) -> None:
    if LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


# One step


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
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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


# One job


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
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
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


# The queue


class Running(NamedTuple):
    name: str
    job: Document
    keeper: int
    control: socket.socket


class Supervisor:
    """The jobs of one work folder, in the order of submission, as many side by side as there are slots."""

    def __init__(self, place: Workdir, lock: int) -> None:
        self.place, self.lock = place, lock
        self.slots: int = read_json(place.settings)["slots"]
        self.wake = listen(place.wake)
        self.known: set[str] = set()
        self.queue: list[tuple[int, str, Document]] = []
        self.running: dict[str, Running] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wake, selectors.EVENT_READ)

    def recover(self) -> None:
        """Ends what a dead supervisor left and says so: started, no exit. With the lock held no keeper lives."""
        for name in sorted(names(self.place.started) - names(self.place.exits)):
            record = read_json(self.place.start(name))
            end_recorded(record)
            cancelled = (self.place.cancels / name).exists()
            message = f"the supervisor died while {record['step']} ran"
            self.close(name, record, CANCELLED if cancelled else LOST, message, record["started"], record["step"])

    def run(self) -> None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        note(f"supervisor {os.getpid()}, {self.slots} slots")
        while True:
            self.admit()
            self.cancel()
            self.start()
            if not self.running and self.leave():
                return
            for key, _ in self.selector.select() if self.running else ():
                if key.fd == self.wake:
                    drain(self.wake)
                else:
                    self.bury(key.data)

    def admit(self) -> None:
        """Takes in the jobs that were added. A file that is no job is over before it starts."""
        for name in sorted(names(self.place.jobs) - self.known):
            self.known.add(name)
            if self.place.exit(name).exists():
                continue
            try:
                job = read_json(self.place.job(name))
                self.queue.append((job["order"], name, job))
            except (ValueError, KeyError) as error:
                self.close(name, {"key": name}, LOST, f"{self.place.job(name)} is not a job: {error}", now())
        self.queue.sort(key=lambda entry: entry[:2])

    def cancel(self) -> None:
        asked = set(os.listdir(self.place.cancels))
        for _, name, job in [entry for entry in self.queue if entry[1] in asked]:
            self.close(name, job, CANCELLED, "cancelled before it started", now())
        self.queue = [entry for entry in self.queue if entry[1] not in asked]
        for name in asked & self.running.keys():
            with contextlib.suppress(BrokenPipeError):  # it has just ended: the selector says so next
                self.running[name].control.send(b"c")  # a second byte says nothing new

    def start(self) -> None:
        """In order, without overtaking: a wide job at the front waits, and so do those behind it."""
        free = self.slots - sum(self.width(one.job) for one in self.running.values())
        while self.queue and self.width(self.queue[0][2]) <= free:
            _, name, job = self.queue.pop(0)
            free -= self.width(job)
            self.launch(name, job)

    def width(self, job: Document) -> int:
        return min(int(job["cores"]), self.slots)

    def launch(self, name: str, job: Document) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self.keep(name, job, ours, theirs)
        theirs.close()
        self.running[name] = Running(name, job, pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, name)

    def keep(self, name: str, job: Document, ours: socket.socket, theirs: socket.socket) -> None:
        """In the child: lets go of what is the supervisor's, all but the lock, and keeps the job. Does not return."""
        status = 70
        try:
            self.selector.close()
            os.close(self.wake)
            for held in (ours, *(one.control for one in self.running.values())):
                held.close()
            Keeper(self.place, name, job, theirs).run()
            status = 0
        except SupervisorDied:
            note(f"{name}: killed, its supervisor is gone")
            ring(self.place.events)
        except BaseException:  # a forked process must not return into its parent's stack
            traceback.print_exc()
        finally:
            os._exit(status)

    def bury(self, name: str) -> None:
        """A keeper has ended. Without an exit it was killed: then what it kept has fallen to us."""
        one = self.running.pop(name)
        self.selector.unregister(one.control)
        one.control.close()
        _, status = os.waitpid(one.keeper, 0)
        if self.place.exit(name).exists():
            return
        end_children(spare={other.keeper for other in self.running.values()})
        started, step = now(), ""
        if self.place.start(name).exists():
            record = read_json(self.place.start(name))
            end_recorded(record)
            started, step = record["started"], record["step"]
        self.close(name, one.job, LOST, f"its keeper ended with {os.waitstatus_to_exitcode(status)}", started, step)

    def close(self, name: str, job: Document, outcome: str, message: str, started: str, step: str = "") -> None:
        write_json(self.place.exit(name), exit_document(job, outcome, message, [], started) | {"step": step})
        note(f"{name}: {outcome}: {message}")
        ring(self.place.events)

    def leave(self) -> bool:
        """Ends the supervisor unless a job came in. The queue is locked: none can come between the look and the end."""
        queue = take_lock(self.place.queue, wait=True)
        assert queue is not None
        try:
            if names(self.place.jobs) - self.known:
                return False
            os.close(self.wake)
            os.close(self.lock)
            return True
        finally:
            os.close(queue)


def main(workdir: str) -> int:
    """Takes the lock, clears up after a predecessor, then goes on as a daemon while the caller gets the status:

    0 it runs; HELD somebody else has the folder; 1 it cannot, and standard error says why in one line."""
    place = Workdir(Path(workdir))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nothing to wait for
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        lock = take_lock(place.lock, wait=False)
        if lock is None:
            return HELD
        supervisor = Supervisor(place, lock)
        supervisor.recover()
        if os.fork():
            return 0
        os.dup2(1, 2)
        supervisor.run()
    except OSError as error:
        print(f"{error.filename or workdir}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
