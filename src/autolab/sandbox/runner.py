"""One job: its steps in order, their limits, and the end of everything below them.

Standard library only. A runner is forked by the supervisor and runs in a process of its own, the subreaper of all that
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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

if __name__ == "__main__":  # -I leaves the folder out; behind everything else, so that nothing in it hides a module
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from autolab import files
from autolab.sandbox import kill_reasons
from autolab.sandbox.box import SCRATCH_MOUNT, Enclosure, InvalidFolder, enclose
from autolab.sandbox.exit_record import Exit, StepExit, TrialOutcome
from autolab.sandbox.landlock import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from autolab.sandbox.process_tree import LINUX, below, boot, end_children, process_table, start_of
from autolab.sandbox.workdir import Document, Workdir, drain, note, notify, write_json
from autolab.text import last_line, one_line

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
    runner = os.getpid()
    pid = os.fork()
    if pid == 0:
        errors = stdout[1] if step.get("merged") else stderr[1]
        _become(step, enclosure, runner, gate, (stdout[1], errors), failure[1])
    enclosure.started()
    for descriptor in (gate[0], stdout[1], stderr[1], failure[1]):
        os.close(descriptor)
    for descriptor in (stdout[0], stderr[0], failure[0]):
        os.set_blocking(descriptor, False)
    return Leader(pid, gate[1], stdout[0], stderr[0], failure[0])


def _become(
    step: Document,
    enclosure: Enclosure,
    runner: int,
    gate: tuple[int, int],
    outputs: tuple[int, int],
    failure: int,
) -> None:
    """In the child: waits at the gate, then is the command. Does not return."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(gate[1])  # else its own copy would keep the gate from closing when the runner dies
        if os.getppid() != runner or not os.read(gate[0], 1):
            os._exit(127)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(outputs[0], 1)
        os.dup2(outputs[1], 2)
        # Python ignores both signals, and an exec would hand that on.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
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

    def pump_all(self) -> None:
        """Takes what is left in the pipes of a step of which nothing lives."""
        for pipe in self.files:
            while self.pump(pipe):
                pass


# one job


GROUP = "autolab-"
"""Begins the names of control groups; the runner's pid follows."""
_ALL_WELL = "all steps exited with status 0"
_LIMIT_MESSAGES = {
    TrialOutcome.TIMEOUT: "passed its limit of {time_limit_s:g} s",
    TrialOutcome.OUTPUT_LIMIT: "printed more than {output_bytes} bytes",
    TrialOutcome.OUT_OF_MEMORY: "used more than {box[memory_bytes]} bytes of memory",
    TrialOutcome.PROCESS_LIMIT: "started more than {box[processes]} processes and threads",
    TrialOutcome.DISK_LIMIT: "wrote more than {box[disk_bytes]} bytes",
    TrialOutcome.CANCELLED: "was cancelled: the user stopped it, or its result is needed no more",
}
"""What a step did that was ended; the fields are those of the step."""
_UNSEEN = " (at containment full only the system, the interpreter and what `reads` in config.yaml names are there)"


class SupervisorDied(Exception):
    """The supervisor's end of a runner's socket has closed."""


class JobRunner:
    """Runs the steps of one job, in a process of its own that is the subreaper of all below it.

    Without a `place` it serves a caller that waits for it (`serve`) and leaves no records."""

    def __init__(self, place: Workdir | None, name: str, job: Document, control: socket.socket) -> None:
        self.place, self.name, self.job, self.control = place, name, job, control
        self.folder = Path(job["folder"])
        self.steps: list[StepExit] = []
        self.reaped: dict[int, tuple[int, Any]] = {}
        self.logs: dict[str, tuple[int, int]] = {}
        self.started_at = files.utc_now()
        self.contained: dict[str, str] = {}
        self.kills_before: dict[str, int] = {}

    def run(self) -> Exit:
        """To the exit, which is written too. SupervisorDied: nobody waits for it; everything below is dead."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.children, wakeup = os.pipe()
        for descriptor in (self.children, wakeup):
            os.set_blocking(descriptor, False)
        # A child's end becomes a byte in a pipe, so that one wait sees it together with outputs and cancels.
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        outcome, message = TrialOutcome.COMPLETED, _ALL_WELL
        # OSError: the machine's fault (a full disk, no sandbox), not the step's: the attempt can be made again.
        try:
            self.prepare()
            for step in self.job["steps"]:
                outcome, message = self.run_step(step)
                if outcome is not TrialOutcome.COMPLETED:
                    break
        except OSError as error:
            end_children()
            outcome, message = TrialOutcome.LOST, f"{error.filename or self.folder}: {error.strerror or error}"
        except SupervisorDied:
            end_children()
            raise
        end = Exit.of_steps(self.job["key"], outcome, message, self.started_at, self.steps, self.contained)
        if self.place is not None:
            write_json(self.place.exit(self.name), end.document)
            note(f"{self.name}: {outcome}: {message}")
            notify(self.place.events)
        return end

    def prepare(self) -> None:
        """The attempt's folders, and all log files, opened before any code of the job runs."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        # No link is followed, whoever has put it there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        for step in self.job["steps"]:
            name = step["name"]
            (self.folder / name).mkdir(exist_ok=True)
            if step["box"]["level"] != "full":
                (self.folder / SCRATCH_FOLDER).mkdir(exist_ok=True)
            stdout = os.open(logs / f"{name}.out", flags, 0o644)
            self.logs[name] = stdout, os.open(logs / f"{name}.err", flags, 0o644)

    def run_step(self, step: Document) -> tuple[TrialOutcome, str]:
        """Outcome and message of one step, at whose end nothing of it is alive.

        A limit or a cancel is SIGKILL at once: a grace would be time past the limit, for files that nobody reads."""
        box = step["box"]
        scratch = scratch_folder(box["level"], str(self.folder))
        # At `full` a step has a /tmp of its own; the machine's is never written.
        writes = [path for path in (*box["writes"], scratch) if path != SCRATCH_MOUNT]
        step = step | {"box": box | {"writes": writes}}
        try:
            enclosure = enclose(step, str(self.folder), f"{GROUP}{os.getpid()}-{step['name']}", os.getpid())
        except InvalidFolder as error:
            return TrialOutcome.INVALID_ARTIFACT, str(error)
        self.contained = {"level": enclosure.level} | enclosure.held_by
        leader = spawn(step, enclosure)
        try:
            return self.follow(step, enclosure, leader)
        finally:
            enclosure.close()

    def follow(self, step: Document, enclosure: Enclosure, leader: Leader) -> tuple[TrialOutcome, str]:
        """Let the leader through its gate, watch it to its end, end what it leaves behind, and judge."""
        self.record(step, leader.pid)
        self.reaped.clear()
        stdout, stderr = self.logs[step["name"]]
        output = Output(step["output_bytes"], {leader.stdout: stdout, leader.stderr: stderr})
        started, clock = files.utc_now(), time.monotonic()
        self.kills_before = kill_reasons.out_of_memory_kills()
        os.write(leader.gate, b"g")
        limit = self.watch(step, enclosure, leader, output)
        seconds = time.monotonic() - clock
        # The leader is dead or has passed a limit; what it started is ended with it.
        enclosure.group.no_more_processes()
        self.end_step(leader.pid)
        output.pump_all()
        failure = _read_all(leader.failure)
        for descriptor in leader[1:]:
            os.close(descriptor)
        code = _code(self.reaped[leader.pid][0], enclosure.level)
        usages = [usage for _, usage in self.reaped.values()]
        self.steps.append(_step_exit(step["name"], code, usages, seconds, output.bytes, started))
        if limit is None and not failure and not enclosure.entered():
            raise OSError(0, self.not_enclosed(step, code), "bwrap")
        if limit is None:
            limit = _passed_limit(code, output, enclosure)
        return self.judge(step, limit, failure, code, enclosure.watcher.disk_message)

    def not_enclosed(self, step: Document, code: int) -> str:
        """Why bubblewrap ended before it reported the program's end."""
        if code == -signal.SIGKILL:
            return f"the sandbox {kill_reasons.kill_message(code, self.kills_before)}"
        # Only bubblewrap can have printed: the step's own program never started.
        stream = "out" if step.get("merged") else "err"
        printed = (self.folder / "logs" / f"{step['name']}.{stream}").read_bytes()
        return f"the sandbox could not be put up: {last_line(printed) or 'it said nothing'}"

    def record(self, step: Document, pid: int) -> None:
        """Durable before the gate opens: a job without such a record has run no code."""
        if self.place is None:
            return
        process = {"pid": pid, "pgid": pid, "start": start_of(pid), "boot": boot(), "runner": os.getpid()}
        write_json(
            self.place.start(self.name),
            {"key": self.job["key"], "step": step["name"], "started": self.started_at, **process},
        )
        # The engine counts a job as running from its first step on.
        if not self.steps:
            notify(self.place.events)

    def watch(self, step: Document, enclosure: Enclosure, leader: Leader, output: Output) -> TrialOutcome | None:
        """Waits for the first of: the leader's exit (None), its limits, a cancel. Raises SupervisorDied."""
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
                        return TrialOutcome.CANCELLED
                    if key.fd == self.children:
                        drain(self.children)
                        self.reap()
                    elif not output.pump(key.fd):
                        selector.unregister(key.fd)
                    elif self.job.get("news"):
                        self.tell_news()
                # Before the limits: a program that ended by itself is judged by its end.
                if leader.pid in self.reaped:
                    return None
                if output.over:
                    return TrialOutcome.OUTPUT_LIMIT
                if limit := watcher.look(lambda: below(os.getpid(), process_table())):
                    return limit
        return TrialOutcome.TIMEOUT

    def tell_news(self) -> None:
        """For a caller that follows what the job prints; white space before the reply."""
        # Of a caller that is busy: what it has not read yet says the same.
        with contextlib.suppress(BlockingIOError):
            self.control.send(b"\n", socket.MSG_DONTWAIT)

    def reap(self) -> bool:
        """Takes in the dead below this process; True if others still live."""
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

    def judge(
        self, step: Document, limit: TrialOutcome | None, failure: str, code: int, disk_message: str
    ) -> tuple[TrialOutcome, str]:
        """`disk_message` is what the watcher saw of the disk, if that ended the step."""
        name = step["name"]
        if limit is TrialOutcome.DISK_LIMIT and disk_message:
            return limit, f"{name} {disk_message}"
        if limit is not None:
            message = f"{name} {_LIMIT_MESSAGES[limit].format(**step)}"
            # A job that was written before there were origins has none.
            origin = step.get("time_limit_origin")
            if limit is TrialOutcome.TIMEOUT and origin:
                message += f" ({origin})"
            return limit, message
        if failure:
            return TrialOutcome.FAILED, f"{name} could not be run: {failure}"
        killed = kill_reasons.kill_message(code, self.kills_before)
        if killed is not None:
            return TrialOutcome.FAILED, f"{name} {killed}"
        if code == 0:
            return TrialOutcome.COMPLETED, _ALL_WELL
        message = f"{name} exited with status {code}"
        # 127 is a shell's word for a program that it did not find.
        if code == 127 and step["box"]["level"] == "full":
            message += _UNSEEN
        return TrialOutcome.FAILED, message


def _read_all(pipe: int) -> str:
    try:
        return one_line(os.read(pipe, 4096))
    except BlockingIOError:
        return ""


def _code(status: int, level: str) -> int:
    """The exit status, or minus the signal. bubblewrap reports a signal as a shell does, by 128 and its number."""
    code = os.waitstatus_to_exitcode(status)
    if level == "full" and 128 < code <= 128 + signal.NSIG:
        return 128 - code
    return code


def _passed_limit(code: int, output: Output, enclosure: Enclosure) -> TrialOutcome | None:
    """Which limit a step passed that ended by itself; None if none."""
    if output.over:
        return TrialOutcome.OUTPUT_LIMIT
    if limit := enclosure.watcher.at_the_end(code != 0):
        return limit
    if code == 0:
        return None
    if kill_reasons.signal_of(code) == signal.SIGXFSZ:
        return TrialOutcome.DISK_LIMIT
    return enclosure.group.ran_out()


def _step_exit(
    name: str, code: int, usages: Iterable[Any], seconds: float, output_bytes: int, started: str
) -> StepExit:
    """The record of a step that ends now, from the resource usage of its processes."""
    cpu_seconds = 0.0
    peak = 0
    for usage in usages:
        cpu_seconds += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss)
    unit = 1 if sys.platform == "darwin" else 1024
    returncode, number = (code, None) if code >= 0 else (None, -code)
    return StepExit(
        name=name,
        returncode=returncode,
        signal=number,
        seconds=round(seconds, 6),
        cpu_seconds=round(cpu_seconds, 6),
        max_rss_bytes=unit * peak,
        output_bytes=output_bytes,
        started=started,
        ended=files.utc_now(),
    )


# a server of runners


def serve() -> int:
    """Forks a runner for each socket that is sent over standard input, until the other end is closed.

    To fork costs a fraction of a new interpreter's start."""
    door = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a runner reports its own end
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, 1, 1)
        if not message:
            return 0
        os.set_inheritable(descriptors[0], False)  # as it comes, it would outlive an exec
        if os.fork() == 0:
            door.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
            _serve_caller(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _serve_caller(caller: socket.socket) -> NoReturn:
    """A line of JSON with the job comes in, its exit record goes back. Does not return.

    If the caller closes its end first, everything is killed and nothing sent."""
    try:
        received = b""
        while not received.endswith(b"\n"):
            block = caller.recv(65536)
            if not block:
                os._exit(1)
            received += block
        job = json.loads(received)
        end = JobRunner(None, job["key"], job, caller).run()
        caller.sendall(json.dumps(end.document).encode())
        os._exit(0)
    except SupervisorDied:
        os._exit(1)
    except BaseException:  # a forked process must not return into its parent's stack
        traceback.print_exc()
    finally:
        os._exit(70)


if __name__ == "__main__":
    sys.exit(serve())
