"""A program is run apart, to its end, and nothing of its group is alive afterwards."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from autolab.sandbox import execute
from autolab.sandbox.box import OPEN
from autolab.sandbox.execute import Ended
from autolab.sandbox.exit_record import TrialOutcome
from autolab.sandbox.workdir import Document

pytestmark = pytest.mark.process

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its own")


def run(folder: Path, code: str, limit_s: float = 30, **environment: str) -> Ended:
    return execute.run([sys.executable, "-S", "-c", code], folder, environment, folder / "a" / "log", limit_s)


def dies(pid: int) -> bool:
    """True once the process has ended; the kernel tears down a killed one in its own time."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 10)[0])
    finally:
        os.close(watched)


def test_exit_status_signal_and_both_streams_are_told(tmp_path: Path) -> None:
    ended = run(tmp_path, "import os, sys; os.write(1, b'one\\n'); os.write(2, b'two\\n'); sys.exit(3)")
    assert ended == Ended(3, "one\ntwo") and ended.last_line == "two" and not ended.ok
    assert (tmp_path / "a" / "log").read_text() == "one\ntwo\n"
    assert run(tmp_path, "import os; os.abort()").code == -6
    assert run(tmp_path, "") == Ended(0) and Ended(0).ok


def test_nothing_but_the_given_environment_folder_and_an_empty_input_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    code = "import os, sys; print(os.environ.get('SECRET_TOKEN'), os.environ['A'], os.getcwd(), len(sys.stdin.read()))"
    assert run(tmp_path, code, A="b").tail == f"None b {tmp_path} 0"


def test_what_cannot_be_started_is_missing_and_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    missing = execute.run(["no-such-program"], tmp_path, {}, tmp_path / "log", 5)
    assert missing == Ended(127, missing="program not found") and not missing.ok
    found = execute.run([str(plain)], tmp_path, {}, tmp_path / "log", 5)
    assert found.missing == "program cannot be started (Permission denied)"


@needs_pidfd
@pytest.mark.parametrize("ending", ["while True: pass", "while True: print('x')", "raise SystemExit(0)"])
def test_the_whole_group_is_dead_at_the_end_and_a_limit_holds(tmp_path: Path, ending: str) -> None:
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
{ending}
"""
    ended = run(tmp_path, code, 1.5)
    assert ended.timed_out is ("while" in ending) and ended.ok is not ended.timed_out
    assert dies(int((tmp_path / "a" / "log").read_text().split()[0]))


@needs_pidfd
def test_who_leaves_the_session_and_holds_the_output_open_is_dead_too(tmp_path: Path) -> None:
    code = """
import os, time
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.write(tell, b"x")
    time.sleep(600)
os.read(told, 1)
"""
    began = time.monotonic()
    ended = run(tmp_path, code, 100)
    assert ended.ok and time.monotonic() - began < 60
    assert dies(int(ended.tail))


def test_output_without_end_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "OUTPUT_LIMIT", 1_000_000)
    ended = run(tmp_path, "while True: print('x' * 9999)")
    assert ended.passed == "run printed more than 1000000 bytes" and not ended.ok


def test_the_log_is_capped_and_still_ends_with_the_last_lines(tmp_path: Path) -> None:
    ended = run(tmp_path, "import sys; sys.stdout.write('x' * 3_000_000); print('\\nlast words')")
    log = (tmp_path / "a" / "log").read_bytes()
    assert len(log) < execute.LOG_LIMIT + 2 * execute.TAIL_BYTES
    assert log.endswith(b"last words\n") and b"are left out" in log
    assert ended.last_line == "last words" and len(ended.tail) <= execute.TAIL_CHARACTERS


def test_control_characters_do_not_reach_the_reader(tmp_path: Path) -> None:
    assert run(tmp_path, r"print('\x1b[31mred\x07\rnext')").tail == "\\x1b[31mred\\x07\nnext"


def job(folder: Path, code: str, limit_s: float = 60) -> Document:
    step = {"name": "run", "argv": [sys.executable, "-S", "-c", code], "cwd": str(folder), "env": {}}
    step |= {"time_limit_s": limit_s, "output_bytes": 10**8, "box": asdict(OPEN)}
    return {"key": "k", "folder": str(folder / "job"), "steps": [step]}


def test_a_caller_is_told_of_output_and_ends_the_job_once_there_is_enough(tmp_path: Path) -> None:
    code = "import time\nfor n in (1, 2):\n    print('number', n, flush=True)\ntime.sleep(600)"
    looks = []

    def on_output(cancel: Callable[[], None]) -> None:
        looks.append((tmp_path / "job" / "logs" / "run.out").read_text())
        if looks[-1].endswith("number 2\n"):
            cancel()

    end = execute.run_job(job(tmp_path, code), on_output)
    assert end.outcome is TrialOutcome.CANCELLED and end.seconds < 60
    assert looks[-1] == "number 1\nnumber 2\n"


def test_to_end_a_job_that_is_over_does_nothing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ends = []

    def on_output(cancel: Callable[[], None]) -> None:
        ends.append(cancel)
        fifo.write_text("go on")

    # It is not over before its output was seen.
    code = f"print('number 1', flush=True)\nopen({str(fifo)!r}).read()"
    assert execute.run_job(job(tmp_path, code), on_output).outcome is TrialOutcome.COMPLETED
    ends[-1]()


def test_a_caller_that_is_slow_to_look_holds_nothing_up(tmp_path: Path) -> None:
    """What it has not read yet says the same as what else would be sent."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # More pieces than a socket holds news of.
    code = f"import os\nfor _ in range(1000):\n    os.write(1, bytes(65536))\nopen({str(fifo)!r}, 'w').close()"
    looks = []

    def on_output(cancel: Callable[[], None]) -> None:
        # The first look lasts until the program has printed everything.
        if not looks:
            fifo.read_text()
        looks.append(True)

    end = execute.run_job(job(tmp_path, code), on_output)
    assert (end.outcome, end.output_bytes) == (TrialOutcome.COMPLETED, 1000 * 65536)
