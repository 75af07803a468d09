"""Runs one program to its end for the engine: a candidate's check, the evaluator, a question to an interpreter.

A `runner` of its own runs it, as the supervisor's run the trials: enclosed as its box says and within its limits. All
that the program started is dead when it is over. If the engine dies, the runner and everything below it are killed.
One server forks the runners. It starts with the first program and ends with the engine.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autolab.errors import LabError
from autolab.sandbox import kill_reasons, runner
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.sandbox.workdir import Document
from autolab.text import many_lines

LOG_LIMIT = 256 * 1024
"""Bytes of output that a log keeps from its beginning; past them it keeps the last TAIL_BYTES."""
OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of output past which a program is ended."""
TAIL_LINES, TAIL_CHARACTERS, TAIL_BYTES = 20, 2_000, 8_192


@dataclass(frozen=True)
class Ended:
    """How a program ended. `code` is its exit status, or minus the signal that killed it.

    `missing` says why it could not be started at all, `passed` which limit other than time it passed, `killed` which
    signal ended it and who may have sent that. `tail` is the end of what it printed, printable. `contained`: its level,
    and what enforced each limit.
    """

    code: int
    tail: str = ""
    timed_out: bool = False
    missing: str | None = None
    passed: str | None = None
    killed: str | None = None
    contained: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def ok(self) -> bool:
        return self.code == 0 and not self.timed_out and self.missing is None and self.passed is None

    @property
    def last_line(self) -> str:
        return self.tail.rpartition("\n")[2][:500]


def run(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, limit_s: float, box: Box = OPEN
) -> Ended:
    """Run `argv` in `folder` with exactly `environment`, no input, and its output in `log`.

    `{scratch}` in the environment is filled with a folder for temporary files. When it ends, or after `limit_s`
    seconds, nothing of it is alive. OSError if the log cannot be written; LabError if it could not be enclosed.
    """
    # Looked up here, so that a missing program is told apart from one that fails.
    missing = _missing(argv[0], folder, environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    if missing is not None:
        log.write_bytes(b"")
        return missing
    # Beside the log's folder, which the program may write in: the runner's own files have to be out of its reach.
    place = log.absolute().parent.with_name(f".{log.parent.name}.{log.name}.run")
    remove_tree(place)  # of an engine that was killed
    scratch = runner.scratch_folder(box.level, str(place))
    step = {
        "name": "run",
        "argv": list(argv),
        "cwd": str(folder.absolute()),
        "env": {name: value.replace("{scratch}", scratch) for name, value in environment.items()},
        "time_limit_s": limit_s,
        "output_bytes": OUTPUT_LIMIT,
        "merged": True,
        "box": asdict(box),
    }
    try:
        end = run_job({"key": log.name, "folder": str(place), "steps": [step]})
        tail = _shorten(place / "logs" / "run.out", log)
    finally:
        remove_tree(place)
    return _ended(end, tail)


def _missing(program: str, folder: Path, environment: Mapping[str, str]) -> Ended | None:
    """Why a program cannot be started; None if it can."""
    path = folder / program if "/" in program else Path(program)
    if shutil.which(path, path=environment.get("PATH", os.defpath)) is not None:
        return None
    if "/" in program and path.exists():
        return Ended(126, missing="program cannot be started (Permission denied)")
    return Ended(127, missing="program not found")


def run_job(job: Document, on_output: Callable[[Callable[[], None]], None] | None = None) -> Exit:
    """Run a job in a runner's process, to its exit. LabError: somebody killed the runner.

    `on_output` is called after the job has printed something, which then stands in its logs. What it is given ends the
    job as `cancelled`; that may be called at any time, by any thread.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(_server(), [b"j"], [theirs.fileno()])
        try:
            if on_output is not None:
                job = job | {"news": True}
            ours.sendall(json.dumps(job).encode() + b"\n")
            reply = read_to_end(ours) if on_output is None else _read_with_news(ours, on_output)
        except BaseException:
            # An interrupt: the runner ends what it runs, and then itself. Nothing may be alive when this returns.
            ours.shutdown(socket.SHUT_WR)
            read_to_end(ours)
            raise
    if not reply:
        raise LabError(f"{job['key']}: its runner was killed, and what it ran with it; try again")
    return Exit.from_json(reply, "a runner's reply")


def _read_with_news(runner_socket: socket.socket, on_output: Callable[[Callable[[], None]], None]) -> bytes:
    """The reply; before it comes a line end for each time that the job has printed something."""

    def cancel() -> None:
        # Too late where the job is over meanwhile.
        with contextlib.suppress(OSError):
            runner_socket.sendall(b"c")

    content = b""
    # A runner that is over leaves a cancel unread, which resets the connection behind the reply.
    with contextlib.suppress(ConnectionResetError):
        while block := runner_socket.recv(65536):
            content += block
            if not content.strip():
                content = b""
                on_output(cancel)
    return content


def read_to_end(source: socket.socket) -> bytes:
    """All that comes until the other end is closed."""
    content = b""
    while block := source.recv(65536):
        content += block
    return content


_servers: dict[int, tuple[subprocess.Popen[bytes], socket.socket]] = {}
"""The runners' server of this process, by its pid: a fork of it needs one of its own."""


def _server() -> socket.socket:
    """The socket of the server that forks runners; started with the first program, it ends with this process."""
    if os.getpid() in _servers:
        server, ours = _servers[os.getpid()]
        if server.poll() is None:
            return ours
        ours.close()
    ours, theirs = socket.socketpair()
    # A session of its own: Ctrl-C at a terminal reaches the engine alone, which ends its runners in order.
    command = [sys.executable, "-I", "-S", "-B", str(runner.__file__)]
    with theirs:
        server = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env={}, cwd="/", start_new_session=True
        )
    _servers[os.getpid()] = server, ours
    atexit.register(_end, os.getpid(), server, ours)
    return ours


def _end(owner: int, server: subprocess.Popen[bytes], ours: socket.socket) -> None:
    """At the end of the process that started the server, not of its forks."""
    if os.getpid() == owner:
        ours.close()
        server.wait()


def _ended(end: Exit, tail: str) -> Ended:
    if end.outcome is TrialOutcome.LOST:
        raise LabError(f"{end.key}: {end.message}; `autolab doctor` shows what can be enclosed here")
    # Only a job that was lost ends without a step: nothing cancels this one, and its folder is new.
    (step,) = end.steps
    if step.signal is not None:
        code = -step.signal
    else:
        assert step.returncode is not None
        code = step.returncode
    passed = killed = None
    if end.outcome is TrialOutcome.FAILED and kill_reasons.signal_of(code) is not None:
        killed = end.message.removeprefix("run ")
    elif end.outcome not in (TrialOutcome.COMPLETED, TrialOutcome.FAILED, TrialOutcome.TIMEOUT):
        passed = end.message
    return Ended(
        code=code,
        tail=tail,
        timed_out=end.outcome is TrialOutcome.TIMEOUT,
        passed=passed,
        killed=killed,
        contained=end.contained,
    )


def _shorten(output: Path, log: Path) -> str:
    """Put the output in its log, without the middle if it is long. Returns its last lines, printable."""
    size = output.stat().st_size
    with output.open("rb") as source:
        head = source.read(LOG_LIMIT)
        source.seek(max(0, size - TAIL_BYTES))
        last = source.read()
    # The beginning names what was run, the end says how it failed: the middle is left out.
    missing = size - len(head)
    if missing > 0:
        note = f"\n[{missing} bytes past {LOG_LIMIT} are left out; the last ones follow]\n"
        head += note.encode() + last[-missing:]
    log.write_bytes(head)
    lines = many_lines(last).rstrip().split("\n")
    return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]
