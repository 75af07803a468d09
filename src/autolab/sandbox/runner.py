"""One job: its steps in order, their limits, and the end of everything below them.

Standard library only. A keeper is forked by the supervisor and runs in a process of its own, the subreaper of all that
its job starts. Each step's first process, its leader, is held at a gate until its pid is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

if __name__ == "__main__":  # -I leaves the folder out; behind everything else, so that nothing in it hides a module
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from autolab.sandbox import kill_reasons
from autolab.sandbox.box import SCRATCH_MOUNT, Enclosure, InvalidFolder, enclose
from autolab.sandbox.landlock import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from autolab.sandbox.limits import DISK_LIMIT, OUT_OF_MEMORY, PROCESS_LIMIT
from autolab.sandbox.process_tree import LINUX, below, boot, end_children, process_table, start_of
from autolab.sandbox.workdir import Document, Workdir, drain, note, now, notify, write_json
from autolab.text import last_line, one_line

EXITED, COMPLETED, FAILED, TIMEOUT = "exited", "completed", "failed", "timeout"
OUTPUT_LIMIT, CANCELLED, LOST, INVALID = "output_limit", "cancelled", "lost", "invalid_artifact"
SCRATCH_FOLDER = "scratch"
"""Where below an attempt's folder a step's temporary files go, where it has no /tmp of its own. Not a result."""


def scratch_folder(level: str, folder: str) -> str:
    """Where a step of an attempt in `folder` has its temporary files: a /tmp of its own, or a folder beside its own."""
    return SCRATCH_MOUNT if level == "full" else f"{folder}/{SCRATCH_FOLDER}"


# one step


class Leader(NamedTuple):
    """A step's first process, held before its exec. The descriptors are this side's ends."""

    pid: int
    gate: int  # write a byte: it goes on; close: it ends
    stdout: int
    stderr: int
    failure: int  # says why the command could not be run


def spawn(step: Document, enclosure: Enclosure) -> Leader:
    """Forks the process of one step and holds it at a gate; past it, it is enclosed and then the step's program.

    A warm server would fork here in its place: the rest knows only a pid, a gate and three pipes."""
    gate, stdout, stderr, failure = (os.pipe() for _ in range(4))
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        outputs = (stdout[1], stdout[1] if step.get("merged") else stderr[1])
        _become(step, enclosure, keeper, gate, outputs, failure[1])
    enclosure.started()
    for descriptor in (gate[0], stdout[1], stderr[1], failure[1]):
        os.close(descriptor)
    for descriptor in (stdout[0], stderr[0], failure[0]):
        os.set_blocking(descriptor, False)
    return Leader(pid, gate[1], stdout[0], stderr[0], failure[0])


def _become(
    step: Document,
    enclosure: Enclosure,
    keeper: int,
    gate: tuple[int, int],
    outputs: tuple[int, int],
    failure: int,
) -> None:
    """In the child: waits at the gate, then is the command. Does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(gate[1])  # else its own copy would keep the gate from closing when the keeper dies
        if os.getppid() != keeper or not os.read(gate[0], 1):
            os._exit(127)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(outputs[0], 1)
        os.dup2(outputs[1], 2)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both, and an exec would hand that on
            signal.signal(ignored, signal.SIG_DFL)
        os.chdir(enclosure.cwd if enclosure.level != "full" else "/")
        enclosure.enter()
        os.execvpe(enclosure.argv[0], enclosure.argv, step["env"])
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None) or step["argv"][0]
        reason = getattr(error, "strerror", None) or error
        os.write(failure, one_line(f"{where}: {reason}").encode()[:1000])
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


GROUP = "autolab-"
"""Begins the names of control groups; the keeper's pid follows."""
_PASSED = {
    OUT_OF_MEMORY: "used more than {memory_bytes} bytes of memory",
    PROCESS_LIMIT: "started more than {processes} processes and threads",
    DISK_LIMIT: "wrote more than {disk_bytes} bytes",
}


_UNSEEN = " (at containment full only the system, the interpreter and what `reads` in config.yaml names are there)"


class SupervisorDied(Exception):
    """The supervisor's end of a keeper's socket has closed."""


class JobRunner:
    """Runs the steps of one job, in a process of its own that is the subreaper of all below it.

    Without a `place` it serves a caller that waits for it (`serve`) and leaves no records."""

    def __init__(self, place: Workdir | None, name: str, job: Document, control: socket.socket) -> None:
        self.place, self.name, self.job, self.control = place, name, job, control
        self.folder = Path(job["folder"])
        self.steps: list[Document] = []
        self.reaped: dict[int, tuple[int, Any]] = {}
        self.logs: dict[str, tuple[int, int]] = {}
        self.begun = now()
        self.contained: dict[str, str] = {}
        self.kills_before: dict[str, int] = {}

    def run(self) -> Document:
        """To the exit, which is written too; raises SupervisorDied, with everything below killed, if nobody is left
        to tell."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.children, wakeup = os.pipe()
        for descriptor in (self.children, wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
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
        document = exit_document(self.job, outcome, message, self.steps, self.begun, self.contained)
        if self.place is not None:
            write_json(self.place.exit(self.name), document)
            note(f"{self.name}: {outcome}: {message}")
            notify(self.place.events)
        return document

    def prepare(self) -> None:
        """The attempt's folders, and all log files, opened before any code of the job runs."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        for step in self.job["steps"]:
            name = step["name"]
            (self.folder / name).mkdir(exist_ok=True)
            if step["box"]["level"] != "full":
                (self.folder / SCRATCH_FOLDER).mkdir(exist_ok=True)
            out, err = (os.open(logs / f"{name}.{stream}", flags, 0o644) for stream in ("out", "err"))
            self.logs[name] = out, err

    def run_step(self, step: Document) -> tuple[str, str]:
        """Outcome and message of one step, at whose end nothing of it is alive.

        A limit or a cancel is SIGKILL at once: a grace would be time past the limit, for files that nobody reads."""
        box = step["box"]
        own = scratch_folder(box["level"], str(self.folder))
        writes = [path for path in (*box["writes"], own) if path != SCRATCH_MOUNT]
        step = step | {"box": box | {"writes": writes}}
        try:
            enclosure = enclose(step, str(self.folder), f"{GROUP}{os.getpid()}-{step['name']}", os.getpid())
        except InvalidFolder as refused:
            return INVALID, str(refused)
        self.contained = {"level": enclosure.level} | enclosure.held_by
        leader = spawn(step, enclosure)
        try:
            return self.follow(step, enclosure, leader)
        finally:
            enclosure.close()

    def follow(self, step: Document, enclosure: Enclosure, leader: Leader) -> tuple[str, str]:
        self.record(step, leader.pid)
        self.reaped.clear()
        out, err = self.logs[step["name"]]
        output = Output(step["output_bytes"], {leader.stdout: out, leader.stderr: err})
        started, clock = now(), time.monotonic()
        self.kills_before = kill_reasons.out_of_memory_kills()
        os.write(leader.gate, b"g")
        ended = self.watch(step, enclosure, leader, output)
        seconds = time.monotonic() - clock
        enclosure.group.no_more_processes()
        self.end_step(leader.pid)
        for pipe in (leader.stdout, leader.stderr):
            while output.pump(pipe):
                pass
        failure = _read_all(leader.failure)
        for descriptor in leader[1:]:
            os.close(descriptor)
        code = _code(self.reaped[leader.pid][0], enclosure.level)
        usages = [usage for _, usage in self.reaped.values()]
        self.steps.append(step_document(step["name"], code, usages, seconds, output.bytes, started))
        if ended == EXITED and not failure and not enclosure.entered():
            raise OSError(0, self.not_enclosed(step, code), "bwrap")
        if ended == EXITED and output.over:
            ended = OUTPUT_LIMIT
        if ended == EXITED:
            ended = enclosure.watcher.at_the_end(code != 0) or ended
        if ended == EXITED and code != 0:
            too_long = kill_reasons.signal_of(code) == signal.SIGXFSZ
            ended = DISK_LIMIT if too_long else enclosure.group.ran_out() or ended
        return self.judge(step, ended, failure, enclosure.watcher.said)

    def not_enclosed(self, step: Document, code: int) -> str:
        """Why bubblewrap ended before it had told of the program's end."""
        if code == -signal.SIGKILL:
            return f"the sandbox {kill_reasons.told(code, self.kills_before)}"
        return f"the sandbox could not be put up: {_last_line(self.folder, step)}"

    def record(self, step: Document, pid: int) -> None:
        """Durable before the gate opens: whoever finds no such record knows that no code of the job ran."""
        if self.place is None:
            return
        who = {"pid": pid, "pgid": pid, "start": start_of(pid), "boot": boot(), "keeper": os.getpid()}
        what = {"key": self.job["key"], "step": step["name"], "started": self.begun}
        write_json(self.place.start(self.name), what | who)
        if not self.steps:
            notify(self.place.events)

    def watch(self, step: Document, enclosure: Enclosure, leader: Leader, output: Output) -> str:
        """Waits for the first of: the leader's exit, its limits, a cancel. Raises SupervisorDied."""
        watcher = enclosure.watcher
        deadline = time.monotonic() + step["time_limit_s"]
        with selectors.DefaultSelector() as selector:
            for source in (self.control, self.children, leader.stdout, leader.stderr):
                selector.register(source, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(min(left, watcher.wait())):
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
                if passed := watcher.look(lambda: below(os.getpid(), process_table())):
                    return passed
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

    def judge(self, step: Document, ended: str, failure: str, said: str) -> tuple[str, str]:
        """`said` is what the watcher saw of the disk, where that is what ended the step."""
        name, result = step["name"], self.steps[-1]
        if ended == TIMEOUT:
            return TIMEOUT, f"{name} passed its limit of {step['time_limit_s']:g} s"
        if ended == OUTPUT_LIMIT:
            return OUTPUT_LIMIT, f"{name} printed more than {step['output_bytes']} bytes"
        if ended == DISK_LIMIT and said:
            return ended, f"{name} {said}"
        if ended in _PASSED:
            return ended, f"{name} {_PASSED[ended].format(**step['box'])}"
        if ended == CANCELLED:
            return CANCELLED, f"{name} was cancelled: the user stopped it, or its result is needed no more"
        if failure:
            return FAILED, f"{name} could not be run: {failure}"
        code = result["returncode"] if result["signal"] is None else -result["signal"]
        killed = kill_reasons.told(code, self.kills_before)
        if killed is not None:
            return FAILED, f"{name} {killed}"
        if code != 0:
            unseen = code == 127 and step["box"]["level"] == "full"
            return FAILED, f"{name} exited with status {code}{_UNSEEN if unseen else ''}"
        return COMPLETED, "all steps exited with status 0"


def _last_line(folder: Path, step: Document) -> str:
    """What bubblewrap said last: nothing else had a chance to say anything."""
    name = "out" if step.get("merged") else "err"
    return last_line((folder / "logs" / f"{step['name']}.{name}").read_bytes()) or "it said nothing"


def _read_all(pipe: int) -> str:
    try:
        return one_line(os.read(pipe, 4096))
    except BlockingIOError:
        return ""


def _code(status: int, level: str) -> int:
    """The exit status, or minus the signal. bubblewrap tells of a signal as a shell does, by 128 and its number."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if level == "full" and 128 < code <= 128 + signal.NSIG else code


def step_document(name: str, code: int, usages: Sequence[Any], seconds: float, output: int, started: str) -> Document:
    """`cpu_seconds` is the sum, `max_rss_bytes` the largest over what was reaped: the step's processes and the children
    that they waited for.

    The peak is never less than the keeper's own size (about 10 MB): the kernel carries it over the exec."""
    return {
        "name": name,
        "returncode": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "seconds": round(seconds, 6),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 6),
        "max_rss_bytes": max(usage.ru_maxrss for usage in usages) * (1 if sys.platform == "darwin" else 1024),
        "output_bytes": output,
        "started": started,
        "ended": now(),
    }


def exit_document(
    job: Document, outcome: str, message: str, steps: list[Document], started: str, contained: Document
) -> Document:
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
        "contained": contained,
    }


def serve() -> int:
    """Forks a keeper for each socket that is sent over standard input, until the other end is closed.

    To fork costs a fraction of a new interpreter's start."""
    door = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a keeper ended: it says so itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, 1, 1)
        if not message:
            return 0
        os.set_inheritable(descriptors[0], False)  # as it comes, it would outlive an exec
        if os.fork() == 0:
            door.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
            _keep_one(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _keep_one(caller: socket.socket) -> NoReturn:
    """A line of JSON with the job comes in, its exit document goes back. Does not return.

    Where the caller closes its end first, everything is killed and nothing said."""
    try:
        received = b""
        while not received.endswith(b"\n"):
            block = caller.recv(65536)
            if not block:
                os._exit(1)
            received += block
        job = json.loads(received)
        caller.sendall(json.dumps(JobRunner(None, job["key"], job, caller).run()).encode())
        os._exit(0)
    except SupervisorDied:
        os._exit(1)
    except BaseException:  # a forked process must not return into its parent's stack
        traceback.print_exc()
    finally:
        os._exit(70)


if __name__ == "__main__":
    sys.exit(serve())
