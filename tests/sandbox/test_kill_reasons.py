"""Of a program that a signal ended the report says which, and who sent it as far as that can be known."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest
from lab_kit import implementation, iteration, make_lab, script

from autolab.sandbox import execute, kill_reasons
from autolab.sandbox.box import OPEN, PROGRAMS, Box
from autolab.sandbox.execute import Ended
from autolab.sandbox.exit_record import TrialOutcome
from autolab.sandbox.kill_reasons import kill_message, signal_of
from autolab.sandbox.limits import Group

UNKNOWN = "by itself or by somebody outside of Autolab; perhaps the machine ran out of memory"


@pytest.mark.parametrize(
    ("code", "number"),
    [(-9, 9), (137, 9), (139, 11), (143, 15), (134, 6), (1, None), (0, None), (127, None), (128, None), (255, None)],
)
def test_a_shells_status_is_told_as_the_signal_that_it_was(code: int, number: int | None) -> None:
    assert signal_of(code) == number


def test_who_sent_a_kill_is_said_as_far_as_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 3\noom_kill 4\nnothing 1\n")
    monkeypatch.setattr(kill_reasons, "_COUNTERS", ((str(counter), "oom_kill"), (str(tmp_path / "none"), "oom_kill")))
    before = kill_reasons.out_of_memory_kills()
    assert before == {str(counter): 4}
    assert kill_message(-9, before) == f"was killed by SIGKILL: {UNKNOWN}"
    assert kill_message(137, before) == f"was killed by SIGKILL (exit status 137): {UNKNOWN}"
    counter.write_text("oom_kill 5\n")
    said = kill_message(-9, before)
    assert said is not None and "out-of-memory killer ended a program on this machine meanwhile" in said
    assert "out-of-memory" not in str(kill_message(-signal.SIGTERM, before)), "that one sends SIGKILL alone"
    counter.write_text("oom_kill\n")
    assert kill_message(-9, before) == f"was killed by SIGKILL: {UNKNOWN}", "a counter that has gone says nothing"
    assert kill_message(3, before) is None and kill_message(-60, before) == "was killed by signal 60"


def test_a_group_that_met_its_limit_says_so_in_kernels_that_do_not_count_kills(tmp_path: Path) -> None:
    group = Group(tmp_path, None, 1)
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    (tmp_path / "memory.failcnt").write_text("0\n")
    assert group.ran_out() is None
    (tmp_path / "memory.failcnt").write_text("12\n")
    assert group.ran_out() is TrialOutcome.OUT_OF_MEMORY
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert group.ran_out() is None, "where kills are counted, a full group that went on has ended nobody"


def run(folder: Path, code: str, box: Box = OPEN) -> Ended:
    argv = [sys.executable, "-S", "-c", code]
    return execute.run(argv, folder, {"PATH": "/usr/bin:/bin"}, folder / "a" / "log", 60, box)


@pytest.mark.process
@pytest.mark.parametrize("level", ["none", "partial", "full"])
def test_every_level_tells_of_it_alike(tmp_path: Path, level: str) -> None:
    if level == "full" and shutil.which("bwrap", path=PROGRAMS) is None:
        pytest.fail("level full needs bubblewrap, which is not here: apt-get install bubblewrap", pytrace=False)
    (tmp_path / "w").mkdir()
    reads = tuple({sys.prefix, sys.base_prefix, "/usr"})
    box = Box(level=level, reads=reads, writes=(str(tmp_path / "w"),)) if level != "none" else OPEN
    killed = run(tmp_path, "import os; os.kill(os.getpid(), 9)", box)
    assert killed.killed == f"was killed by SIGKILL: {UNKNOWN}" and not killed.ok
    crashed = run(tmp_path, "import os; os.kill(os.getpid(), 11)", box)
    assert "was killed by SIGSEGV: it touched memory" in str(crashed.killed)
    assert run(tmp_path, "raise SystemExit(3)", box).killed is None


@pytest.mark.process
def test_a_limit_of_ours_is_said_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    box = Box(level="none", writes=(str(tmp_path / "w"),), memory_bytes=200_000_000)
    ended = run(
        tmp_path, "import mmap; m = mmap.mmap(-1, 10**9); m.write(bytes(10**9)); import time; time.sleep(60)", box
    )
    assert ended.killed is None and ended.passed == "run used more than 200000000 bytes of memory"


@pytest.mark.process
def test_through_the_command_line_a_wrapped_training_that_was_killed_is_no_status_137(tmp_path: Path) -> None:
    """`sh` ends with 137 for its child's SIGKILL: the trial's message names the signal."""
    code = "4.0\n\nimport os, sys\n\nif not sys.argv[1:]:\n    os.kill(os.getpid(), 9)\n"
    shell = f"sh -c '{sys.executable} -S -B train.py; exit $?'"
    kit = make_lab(
        tmp_path,
        script(iteration(implementation=implementation(code))),
        config={"train": {"command": shell, "time_limit_s": 30}, "attempts": {"stage": 1, "bounces": 0}},
    )
    kit.autolab("loop", "--max-iterations", "1")
    messages = [line["data"]["trial"]["message"] for line in kit.events("trial")]
    killed = [message for message in messages if message]
    assert killed and all(f"train was killed by SIGKILL (exit status 137): {UNKNOWN}" in one for one in killed)
