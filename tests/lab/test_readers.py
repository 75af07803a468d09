"""One writer, many readers: a second command is refused by name, and `status` is quick, right and without effect."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gates import Gate, ended
from lab_kit import HELPS, NOTHING, Finished, LabKit, implementation, iteration, make_lab, script

from autolab.errors import LedgerError
from autolab.lab.ledger import Ledger


def well(done: Finished) -> Finished:
    assert done.code == 0, done.out + done.err
    return done


def refused(done: Finished, *words: str) -> None:
    """Exit 1, nothing on stdout, one line on stderr with these words in it."""
    assert (done.code, done.out) == (1, ""), done.out + done.err
    assert len(done.err.splitlines()) == 1, done.err
    for word in words:
        assert word in done.err, done.err


def files(folder: Path) -> dict[str, tuple[int, str]]:
    """Time and content of every file below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path)] = (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


# one at a time


@pytest.mark.process
def test_while_a_loop_runs_every_other_writer_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    with Gate(tmp_path) as gate:
        lab = make_lab(tmp_path, script(iteration(implementation=implementation(gate.code()))))
        loop = lab.start("loop", "--max-iterations", "1")
        gate.reached()
        first = ("`autolab loop --max-iterations 1`", f"pid {loop.pid}")
        before = len(lab.events())
        others = (["loop", "--max-iterations", "1"], ["run"], ["review", "retry"], ["publish"], ["doctor", "--fix"])
        for words in others:
            refused(lab.autolab(*words), *first)
        assert {line["event"] for line in lab.events()[before:]} <= {"trial"}, "the loop's own, and nothing else"
        held = json.loads(well(lab.autolab("status", "--json")).out)["held_by"]
        assert all(word in held for word in first)
        well(lab.autolab("doctor"))
        well(lab.autolab("verify"))
        gate.open()
        well(ended(loop))
    assert json.loads(well(lab.autolab("status", "--json")).out)["held_by"] is None
    well(lab.autolab("publish"))


@pytest.mark.process
def test_readers_that_look_at_the_lock_keep_no_writer_out(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(HELPS))
    look = (
        "import sys\nfrom pathlib import Path\nfrom autolab.lab.location import holder\n"
        "print('looking', flush=True)\nwhile True:\n    holder(Path(sys.argv[1]))\n"
    )
    looking = [
        subprocess.Popen([sys.executable, "-c", look, str(lab.store)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in looking:
            assert process.stdout is not None
            assert process.stdout.readline() == "looking\n"
        for _ in range(5):
            well(lab.autolab("publish"))
    finally:
        for process in looking:
            process.kill()
            process.communicate()


# status


def state_key(state: dict[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


class Hammer:
    """Calls `read` again and again in a thread of its own, and keeps what each call gave."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read, self._over = read, threading.Event()
        self.given: list[Any] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self.given.append(self._read())

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.process
def test_status_during_a_loop_is_always_a_state_of_the_ledger_and_never_goes_back(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(HELPS, NOTHING))

    def read() -> tuple[Finished, Finished]:
        return lab.autolab("status", "--json"), lab.autolab("status")

    with Hammer(read) as hammer:
        well(lab.autolab("loop", "--max-iterations", "2"))
    order: dict[str, list[int]] = {}
    for place, line in enumerate(lab.events("transition")):
        order.setdefault(state_key(line["data"]["state"]), []).append(place)
    reached = 0
    assert len(hammer.given) > 5
    for as_json, as_text in hammer.given:
        well(as_text)
        state = json.loads(well(as_json).out)["state"]
        assert as_json.err + as_text.err == ""
        assert state_key(state) in order, "a state that never was"
        later = [place for place in order[state_key(state)] if place >= reached]
        assert later, "a state from before the one that was seen"
        reached = later[0]
        assert any(f"stage      {name}" in as_text.out for name in {json.loads(key)["stage"] for key in order})


def test_a_reader_between_any_two_writes_of_the_ledger_is_right_or_one_line_behind(tmp_path: Path) -> None:
    """Thousands of appends against readers in threads: the window that a process start cannot hit."""
    writer = Ledger(tmp_path)
    writer.create("00000000", tmp_path)
    writer.append("transition", {"i": 0})
    failures: list[LedgerError] = []

    def read() -> int:
        try:
            reader = Ledger(tmp_path)
            reader.open()
            line = reader.transition()
        except LedgerError as error:
            failures.append(error)
            return -1
        assert line is not None
        return int(line.data["i"])

    with Hammer(read) as one, Hammer(read) as two:
        for i in range(1, 400):
            writer.append("transition", {"i": i})
    assert failures == []
    for given in (one.given, two.given):
        assert given == sorted(given)
        assert len(set(given)) > 5


@pytest.mark.process
def test_status_writes_nothing_whether_the_lab_is_whole_or_its_last_line_torn(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(HELPS))
    well(lab.autolab("loop", "--max-iterations", "1"))
    whole = json.loads(well(lab.autolab("status", "--json")).out)
    before = files(lab.root)
    well(lab.autolab("status"))
    assert files(lab.root) == before

    with open(lab.store / "ledger.jsonl", "ab") as ledger:
        ledger.write(b'{"n": 99, "time": "2026-')
    before = files(lab.root)
    for _ in range(2):
        assert json.loads(well(lab.autolab("status", "--json")).out) == whole
        assert files(lab.root) == before
    well(lab.autolab("publish"))
    assert list(lab.store.glob("ledger.torn.*")), "the holder of the lock sets it aside"


@pytest.mark.process
def test_status_outside_of_a_lab_says_so_in_one_line(tmp_path: Path) -> None:
    nowhere = LabKit(tmp_path, tmp_path / "count")
    refused(nowhere.autolab("status"), "not in a lab", "`autolab init DIR`")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    refused(nowhere.autolab("status"), "a git repository, but no lab")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git"]


@pytest.mark.process
def test_status_in_a_worktree_of_the_lab_shows_the_lab(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(HELPS))
    well(lab.autolab("loop", "--max-iterations", "1"))
    (worktree,) = (path for path in (lab.root / "5_worktrees").iterdir() if path.is_dir())
    assert json.loads(well(lab.autolab("status", "--dir", str(worktree), "--json")).out)["lab"] == str(lab.root)


@pytest.mark.process
def test_status_imports_the_standard_library_only(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(HELPS))
    show = (
        "import sys; from autolab.cli.command_line import main; main(['status']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", show], cwd=lab.root, capture_output=True, text=True, check=True)
    start = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    new = {name.partition(".")[0] for name in set(done.stderr.split()) - set(start.stdout.split())}
    assert new - sys.stdlib_module_names == {"autolab"}
    assert not {"asyncio", "unittest", "pydoc", "email", "http", "ssl"} & new


def cost(*command: str, cwd: Path) -> tuple[float, float]:
    """Wall seconds and processor seconds of a command; the latter hardly feel what else the machine does."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


@pytest.mark.process
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_status_takes_less_than_a_fifth_of_a_second_and_a_few_starts_of_python(tmp_path: Path, form: list[str]) -> None:
    """Measured in turns with an interpreter that does nothing; the least of each, as other programs can only add."""
    lab = make_lab(tmp_path, script(HELPS))
    well(lab.autolab("loop", "--max-iterations", "1"))
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "autolab", "status"], cwd=lab.root, env=compiled, check=True)
    status, nothing = [], []
    for _ in range(9):
        status.append(cost(sys.executable, "-m", "autolab", "status", *form, cwd=lab.root))
        nothing.append(cost(sys.executable, "-c", "pass", cwd=lab.root))
    assert min(wall for wall, _ in status) < 0.2
    ratio = min(used for _, used in status) / min(used for _, used in nothing)
    assert ratio < 10, f"{ratio:.1f} starts of python"


# the cost of a long history


def filled(folder: Path, lines: int) -> Ledger:
    """A ledger of `lines` lines, fsyncs left out, whose newest transition is near the end."""
    ledger = Ledger(folder)
    ledger.create("00000000", folder)
    real = os.fsync
    os.fsync = lambda _: None
    try:
        for i in range(lines - 3):
            ledger.append("transition" if i % 10 == 0 else "trial", {"i": i, "text": "x" * 200})
        ledger.append("transition", {"i": lines})
        ledger.append("trial", {"i": lines + 1})
        ledger.append("trial", {"i": lines + 2})
    finally:
        os.fsync = real
    return ledger


def test_opening_appending_and_reading_cost_the_same_after_a_hundred_lines_and_after_two_thousand(
    tmp_path: Path,
) -> None:
    def step(folder: Path) -> float:
        began = time.process_time()
        ledger = Ledger(folder)
        ledger.open(repair=True)
        line = ledger.transition()
        assert line is not None
        assert len(list(ledger.lines(line.offset))) >= 3
        ledger.append("trial", {"i": 1})
        return time.process_time() - began

    for name, lines in (("short", 100), ("long", 2_000)):
        (tmp_path / name).mkdir()
        filled(tmp_path / name, lines)
    pairs = [(step(tmp_path / "short"), step(tmp_path / "long")) for _ in range(25)]
    short, long = (min(times) for times in zip(*pairs, strict=True))
    assert long < 3 * short, f"{long * 1e3:.2f} ms against {short * 1e3:.2f} ms"
