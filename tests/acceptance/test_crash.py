"""kill -9 at every crash point, at every process, and what the same command makes of it.

The loop under test crosses everything: a calibration, an iteration whose first candidate breaks in training, is sent
back, fixed, measured again, confirmed, asked about on the holdout and kept, and one whose candidate edits a file.
A second one crosses both gears: two batches, an idea that fails, a claim that is kept and one that fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import CLAIM, NOTHING, TINY, LabKit, batch, design, implementation, iteration, make_lab, review, script
from warm import SHARED

from autolab.lab import crash_points
from autolab.lab.ledger import Ledger
from autolab.reports.results_table import COLUMNS
from autolab.sandbox import workdir

FIXED = iteration(
    implementation=[implementation(400.0), implementation(4.0)], implementation_review=[review(), review()]
)
TWO_PAIRS = {"test": {"rule": "fixed", "alpha": 0.02, "max_pairs": 2, "confirm_pairs": 2}}
LOOP = ("loop", "--max-iterations", "2")
ONE = ("loop", "--max-iterations", "1")
CHUNKS = 16
"""Parts of the sweep, so that tests can run side by side; part k takes every 16th of the points to try."""
FEWER_CHUNKS = 4
"""The same where few points are tried, as each worker makes the reference for itself."""
FEW = 40
"""From this CRASH_EVERY on, the sweep takes little more than one point of each name."""
COSTS = ("memory_gb", "seconds")
Loop = Callable[..., tuple[int, str]]


@dataclass(frozen=True)
class Reference:
    """A lab before a loop, with the count of its trainings, and what the unbroken loop made of it."""

    lab: LabKit
    fresh: Path
    count: str
    points: list[str]
    left: dict[str, Any]

    @classmethod
    def make(cls, lab: LabKit, *words: str) -> Reference:
        fresh, log = lab.counter.with_name("fresh"), lab.counter.with_name("points.txt")
        subprocess.run(["cp", "-a", str(lab.root), str(fresh)], check=True)
        count = said_in(lab.counter)
        ended = lab.autolab(*words, AUTOLAB_FAULT="0", AUTOLAB_FAULT_LOG=str(log))
        assert ended.code == 0, ended.err
        return cls(lab, fresh, count, log.read_text().split(), left_by(lab))

    def begin(self) -> LabKit:
        """The lab as it was before the loop, in the same place: a copy elsewhere would be another lab."""
        subprocess.run(["chmod", "-R", "u+w", str(self.lab.root)], check=True)
        shutil.rmtree(self.lab.root)
        subprocess.run(["cp", "-a", str(self.fresh), str(self.lab.root)], check=True)
        self.lab.counter.write_text(self.count)
        return self.lab


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("crash")
    return Reference.make(make_lab(folder, script(FIXED, NOTHING), config=TWO_PAIRS, holdout=True), *LOOP)


@pytest.fixture(scope="module")
def loop(reference: Reference) -> Loop:
    return loop_of(reference, *LOOP)


def loop_of(reference: Reference, *words: str) -> Loop:
    """One loop in a process of its own: its exit status (negative: killed) and everything printed."""
    out = reference.fresh.with_name("out.txt")

    def run(**env: str) -> tuple[int, str]:
        return SHARED.run(reference.lab.root, *words, out=out, env={**os.environ, **env}), out.read_text()

    return run


# What must hold after any crash


def left_by(lab: LabKit) -> dict[str, Any]:
    """What a loop left, without ids, times and costs: tables, candidates' files, documents, decisions."""
    kept = lab.git("for-each-ref", "--format=%(tree)", "refs/autolab/keep").split()
    documents = ("RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv", "paper/paperbanana.md")
    stages = [(line["data"].get("from"), line["data"]["state"]["stage"]) for line in lab.events("transition")]
    return {
        "tables": lab.tables(),
        "candidates": sorted(kept),
        "documents": {name: plain(lab, (lab.root / name).read_text()) for name in documents},
        "reports": [plain(lab, path.read_text()) for path in sorted((lab.root / "9_reports").glob("2*.md"))],
        "events": Counter(line["event"] for line in lab.events() if line["event"] in ONCE),
        "champion": lab.git("for-each-ref", "--format=%(tree)", "refs/heads/autolab/champion"),
        "working": lab.git("for-each-ref", "--format=%(tree)", "refs/heads/autolab/working"),
        "claims": lab.events("transition")[-1]["data"]["campaign"]["claims"],
        "confirmed": [confirmed_in(line["data"]["confirmation"]) for line in lab.events("confirmed")],
        "questions": [line["data"]["question"] for line in lab.events("holdout_asked")],
        "state": lab.state() | {"iteration_id": None},
        "stages": stages,
    }


def confirmed_in(one: dict[str, Any]) -> tuple[str, str, int, float]:
    return one["outcome"], one["holdout"], one["claim"], one["alpha"]


ONCE = (
    *("loop_started", "transition", "candidate", "run_started", "run_ended", "answered"),
    *("confirmed", "holdout_asked", "learned", "exploration_fixed", "idea_dropped"),
)
"""Events of which a broken loop has as many as an unbroken one."""


def plain(lab: LabKit, text: str) -> str:
    """A document without ids, commits, times and costs."""
    for number, folder in enumerate(lab.iterations()):
        text = text.replace(folder.name, f"<iteration {number}>")
    text = re.sub(r"\b\d{4}-\d\d-\d\d(T[\d:.-]+Z)?", "<time>", text)
    text = re.sub(r"\b[0-9a-f]{12,40}\b", "<commit>", text)
    text = re.sub(r"\b[\d.]+ (s|min)\b", "<seconds>", text)
    # Which trials were still running when the test ended depends on the machine.
    text = re.sub(r", \d+ unused ones?", "", text)
    return "\n".join(map(without_costs, text.splitlines()))


def without_costs(row: str) -> str:
    """A row of results.tsv without memory and seconds; any other line as it is."""
    cells = row.split("\t")
    if len(cells) != len(COLUMNS):
        return row
    return "\t".join(cell for cell, column in zip(cells, COLUMNS, strict=True) if column not in COSTS)


def check(reference: Reference, lost: bool = False) -> None:
    lab, left = reference.lab, left_by(reference.lab)
    for name, value in reference.left.items():
        assert left[name] == value, name
    check_trials(lab, lost)
    ledger = Ledger(lab.store)
    assert ledger.open().n == ledger.check()
    assert lab.state() == lab.events("transition")[-1]["data"]["state"]
    assert not list((lab.store / "pending").glob("*"))
    assert alive_in(lab.root) == []


NEVER_STARTED = "cancelled before it started"


def check_trials(lab: LabKit, lost: bool) -> None:
    """Each trial recorded once, each finished one executed once by the count outside of the lab.

    `lost`: whether an attempt was lost; then and only then there is a second one.
    """
    recorded: list[str] = []
    completed: list[str] = []
    iteration_id = ""
    for line in lab.events():
        if line["event"] == "transition":
            iteration_id = line["data"]["state"]["iteration_id"]
        if line["event"] != "trial":
            continue
        trial, run_id = line["data"]["trial"], line["data"]["run_id"]
        place = "calibration" if run_id.startswith("calibration") else iteration_id
        recorded.append(f"{place}.{run_id}/{trial['trial']}")
        if trial["reused_from"] is None and trial["outcome"] == "completed":
            completed.append(f"{recorded[-1]}/a{trial['attempt']}")
    assert len(recorded) == len(set(recorded)), "a trial is recorded twice"
    started, done = lab.executed("start"), lab.executed("done")
    assert {key: done[key] for key in completed} == dict.fromkeys(completed, 1)
    assert max(started.values()) == 1, "an attempt was started twice"
    # A pause takes back what waits for a place, which on a slow machine has been sent already and is sent again later.
    ended = Counter(line["data"]["message"] == NEVER_STARTED for line in lab.events("trial_lost"))
    assert bool(ended[False]) == lost
    assert {key.rpartition("/")[2] for key in completed} == ({"a1", "a2"} if lost or ended[True] else {"a1"})


def alive_in(folder: Path) -> list[str]:
    """Command lines of living processes that name `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and int(entry.name) != os.getpid():
            found.append(words)
    return found


# The sweep


@pytest.mark.process
def test_every_named_point_is_passed_by_the_loop(reference: Reference) -> None:
    counted = Counter(reference.points)
    print(f"\n{len(reference.points)} crash points in a two-iteration loop:", dict(counted))
    elsewhere = ("call.", "proposal.", "reproduce.")
    others = {point for point in crash_points.POINTS if point.startswith(elsewhere)}
    assert set(counted) == set(crash_points.POINTS) - others, "the others have tests of their own, which pass them"


def points_to_try(reference: Reference, every: int) -> list[int]:
    """Every `every`th point, and of each name the first; unless few are asked for, the last of each too."""
    passed, chosen = reference.points, set(range(1, len(reference.points) + 1, every))
    chosen |= {passed.index(name) + 1 for name in set(passed)}
    if every < FEW:
        chosen |= {len(passed) - passed[::-1].index(name) for name in set(passed)}
    return sorted(chosen)


def sweep(reference: Reference, loop: Loop, tried: list[int]) -> None:
    assert tried, "no point to kill at: such a sweep proves nothing"
    for n in tried:
        reference.begin()
        code, said = loop(AUTOLAB_FAULT=str(n))
        if code == 0:  # chance decides how many trials of the broken run are recorded, and so the number of points
            assert n > len(reference.points) - 20, f"point {n} was not passed: {said}"
        else:
            assert code == -signal.SIGKILL, f"point {n}: {said}"
            code, said = loop()
        assert code == 0, f"killed at point {n} ({reference.points[n - 1]}), the same command said: {said[-600:]}"
        try:
            check(reference)
        except AssertionError as error:
            error.add_note(f"killed at point {n} ({reference.points[n - 1]})")
            raise
    print(f"\nkilled at {len(tried)} of {len(reference.points)} points")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("part", range(FEWER_CHUNKS))
def test_killed_at_the_first_point_of_each_name_the_same_command_ends_with_the_same_tables(
    reference: Reference, loop: Loop, part: int
) -> None:
    """And at every 40th point (every CRASH_EVERY-th, where that is set)."""
    every = int(os.environ.get("CRASH_EVERY", str(FEW)))
    sweep(reference, loop, points_to_try(reference, every)[part::FEWER_CHUNKS])


@pytest.mark.process
@pytest.mark.nightly
@pytest.mark.parametrize("part", range(CHUNKS))
def test_killed_at_any_point_the_same_command_ends_with_the_same_tables(
    reference: Reference, loop: Loop, part: int
) -> None:
    sweep(reference, loop, points_to_try(reference, 1)[part::CHUNKS])


def die_in_turn(reference: Reference, loop: Loop, later: Callable[[int], int]) -> tuple[Counter[str], int]:
    """One lab, whose first process dies in each stage at the first point, the next ones `later`, until it is done."""
    reference.begin()
    log, deaths = reference.fresh.with_name("lives.txt"), Counter[str]()
    n, before = 1, -1
    while (ended := loop(AUTOLAB_FAULT=str(n), AUTOLAB_FAULT_LOG=str(log)))[0] != 0:
        assert ended[0] == -signal.SIGKILL, f"life {deaths.total() + 1}, killed at point {n}: {ended[1]}"
        deaths[log.read_text().split()[-1]] += 1
        now = len(reference.lab.events("transition"))
        n, before = (1 if now > before else later(n)), now
    check(reference)
    print(f"\n{deaths.total() + 1} lives: {dict(deaths)}")
    return deaths, len(reference.lab.events("transition"))


@pytest.mark.process
@pytest.mark.slow
def test_dying_again_and_again_one_lab_comes_to_the_same_end(reference: Reference, loop: Loop) -> None:
    """In each stage at its first point, its second, its fourth ..."""
    deaths, transitions = die_in_turn(reference, loop, lambda n: 2 * n)
    assert deaths.total() > 1.5 * transitions


@pytest.mark.process
@pytest.mark.nightly
def test_dying_at_every_point_in_turn_one_lab_comes_to_the_same_end(reference: Reference, loop: Loop) -> None:
    """In each stage the first process dies at its first point, the next at its second, until the stage is done."""
    deaths, _ = die_in_turn(reference, loop, lambda n: n + 1)
    # Fewer than the points of an unbroken loop: what one life made durable, the next need not do again.
    assert deaths.total() > len(reference.points) / 3


# Both gears

EXPLORE = {"mode": "explore", "rule": "fixed", "alpha": 0.02, "max_pairs": 2, "confirm_pairs": 2}
GEARS = {"test": EXPLORE, "screen": {"arms": 2, "claim_every": 1}}
BATCHES = (batch(("steeper", 4.0), ("too steep", 400.0)), batch(("a little more", 4.2), ("flat", 1.0)))
HELD_OUT_ROWS = 15
"""So few that the holdout is scored as a whole alone: a loop then takes half the time."""
OF_A_CLAIM = (
    *("ledger.after_append", "iteration.after_folder", "run.after_manifest", "submit.after_intent"),
    *("trial.after_store", "run.after_end", "holdout.after_debit", "confirm.after_record"),
    *("document.after_queue", "champion.after_ref"),
)
"""Points of which the sweep through a claim takes the first, outside of `make nightly`."""


def explorer(folder: Path) -> LabKit:
    """A lab in mode `explore`: the first batch's step is kept, that of the second one fails its claim."""
    lab = make_lab(folder, script(BATCHES[0], CLAIM, BATCHES[1], CLAIM), config=GEARS, holdout=True)
    for path in (lab.root / "data" / "holdout").iterdir():
        raw = path.read_bytes()
        path.write_bytes(raw[:128].replace(b"(60,)", b"(%d,)" % HELD_OUT_ROWS) + raw[128 : 128 + 4 * HELD_OUT_ROWS])
    lab.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "A small holdout")
    return lab


@pytest.fixture(scope="module")
def gears(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Two batches, and a claim after each: one kept, one failed."""
    return Reference.make(explorer(tmp_path_factory.mktemp("gears")), *LOOP)


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The decision of a batch and the claim that follows: what came before is in the lab already."""
    lab = explorer(tmp_path_factory.mktemp("claim"))
    assert lab.autolab("calibrate").code == 0
    while lab.state()["stage"] != "decide_repeat":
        ended = lab.autolab("run")
        assert ended.code == 0, ended.err
    return Reference.make(lab, *ONE)


@pytest.mark.process
@pytest.mark.slow
def test_both_gears_leave_one_kept_claim_and_one_that_failed(gears: Reference) -> None:
    """What the sweeps compare with is what it is meant to be."""
    kept, failed = gears.left["confirmed"]
    assert kept == ("kept", "passed", 1, 0.02)
    assert failed == ("retracted", "not_asked", 2, pytest.approx(0.02 / 3))
    assert gears.left["questions"] == [1]
    assert gears.left["events"]["idea_dropped"] == 0, "the idea that fails does so in its trial"
    assert gears.left["working"] == gears.left["champion"]


@pytest.mark.process
@pytest.mark.slow
def test_a_claim_killed_at_the_first_point_of_its_names_ends_the_same(claim: Reference) -> None:
    assert set(OF_A_CLAIM) <= set(claim.points)
    begins = first_of_claim(claim)
    sweep(claim, loop_of(claim, *ONE), [claim.points.index(name, begins) + 1 for name in OF_A_CLAIM])


def first_of_claim(claim: Reference) -> int:
    """How many points the decision of the batch passes, at most: the claim's first file is brought after them."""
    return claim.points.index("iteration.after_folder", claim.points.index("log.after_snapshot"))


@pytest.mark.process
@pytest.mark.nightly
@pytest.mark.parametrize("part", range(CHUNKS))
def test_a_claim_killed_at_any_point_ends_the_same(claim: Reference, part: int) -> None:
    sweep(claim, loop_of(claim, *ONE), points_to_try(claim, 1)[part::CHUNKS])


@pytest.mark.process
@pytest.mark.nightly
@pytest.mark.parametrize("part", range(CHUNKS))
def test_both_gears_killed_at_any_point_end_the_same(gears: Reference, part: int) -> None:
    sweep(gears, loop_of(gears, *LOOP), points_to_try(gears, 1)[part::CHUNKS])


# Processes that die: the engine, the supervisor, both; the engine while a program of its researcher works

SLOW = {"seconds": 0.6}
PATIENCE_S = 60.0


def slow_script() -> dict[str, Any]:
    arms = {
        "baselines": [{"name": "baseline", "config_overrides": SLOW}],
        "variants": [{"name": "steep", "config_overrides": SLOW}],
    }
    return script(iteration(design=design(**arms)))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A loop with trials of more than half a second, two at a time."""
    config = TWO_PAIRS | {"executor": {"name": "local", "options": {"slots": 2}}}
    return Reference.make(make_lab(tmp_path_factory.mktemp("slow"), slow_script(), config=config), *ONE)


def wait_for(truth: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not truth():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def mid_trial(lab: LabKit, loop: subprocess.Popen[str]) -> None:
    """Until two trials of the search run that have not ended."""

    def said(word: str) -> int:
        return sum(line[0] == word for line in lab.tried())

    wait_for(lambda: said("start") >= 2 or loop.poll() is not None, "no trial started")
    assert loop.poll() is None, loop.communicate()
    assert said("done") < said("start")


def kill_supervisor(lab: LabKit) -> None:
    """By the runners that the work folder names, and only if it is this lab's."""
    (log,) = lab.store.glob("runs/*/supervisor.log")
    said = [line.split() for line in log.read_text().splitlines()]
    pid = int([words[2] for words in said if words[1] == "supervisor"][-1].rstrip(","))
    assert str(log.parent) in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)


def kill_engine(loop: subprocess.Popen[str]) -> None:
    loop.kill()
    loop.communicate()


@pytest.mark.process
def test_supervisor_killed_its_trials_die_and_get_a_new_attempt(slow: Reference) -> None:
    lab = slow.begin()
    loop = lab.start(*ONE)
    mid_trial(lab, loop)
    kill_supervisor(lab)
    _, said = loop.communicate(timeout=PATIENCE_S)
    assert loop.returncode == 0, said
    check(slow, lost=True)
    cut_short = [key for key in lab.executed("start") if key not in lab.executed("done")]
    assert cut_short and all(key.endswith("/a1") for key in cut_short)


@pytest.mark.process
def test_engine_killed_its_supervisor_goes_on_and_is_adopted(slow: Reference) -> None:
    lab = slow.begin()
    loop = lab.start(*ONE)
    mid_trial(lab, loop)
    kill_engine(loop)
    ended = lab.autolab(*ONE)
    assert ended.code == 0, ended.err
    check(slow, lost=False)
    assert lab.executed("start") == lab.executed("done")


def test_ringing_for_an_engine_that_is_killed_at_that_instant_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once was: the runner took the broken pipe for a broken trial, and a new attempt was made."""
    fifo, really_open = tmp_path / "events", os.open
    os.mkfifo(fifo)
    engine = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def killed_once_open(path: Path, flags: int) -> int:
        descriptor = really_open(path, flags)
        os.close(engine)
        return descriptor

    monkeypatch.setattr(os, "open", killed_once_open)
    assert workdir.notify(fifo) is False


@pytest.mark.process
@pytest.mark.parametrize("last", [1, 2, 3])
def test_killed_after_the_loop_has_ended_the_same_command_adds_nothing(slow: Reference, last: int) -> None:
    lab, n = slow.begin(), len(slow.points) + 1 - last
    assert lab.autolab(*ONE, AUTOLAB_FAULT=str(n)).code == -signal.SIGKILL
    assert lab.events("transition")[-1]["data"]["why"] == "loop_ended"
    ended = lab.autolab(*ONE)
    assert ended.code == 0 and "loop ended: 1 of 1 iterations done" in ended.out
    check(slow)


@pytest.mark.process
def test_engine_and_supervisor_killed_only_what_ran_gets_a_new_attempt(slow: Reference) -> None:
    lab = slow.begin()
    loop = lab.start(*ONE)
    mid_trial(lab, loop)
    kill_engine(loop)
    kill_supervisor(lab)
    ended = lab.autolab(*ONE)
    assert ended.code == 0, ended.err
    check(slow, lost=True)


def said_in(file: Path) -> str:
    return file.read_text() if file.exists() else ""


AGENT = """
import json, os, sys, time
from pathlib import Path

stage, here = os.environ["AUTOLAB_STAGE"], Path(__file__).parent
def count(word):
    with open(here / "agent.txt", "a") as file:
        file.write(f"{word} {stage} {os.getpid()}\\n")
count("start")
time.sleep(1.0 if stage == "implementation" else 0)
if stage == "implementation":
    Path("models/width.py").write_text("WIDTH = 4.0\\n")
result = {"status": "complete", "summary": "done", "changed_files": [], "completion_token_seen": True}
result["output"] = json.loads((here / "answers.json").read_text())[stage]
Path(".autolab").mkdir(exist_ok=True)
Path(".autolab/agent_result.json").write_text(json.dumps(result))
count("done")
"""


@pytest.mark.process
def test_engine_killed_while_an_agent_works_the_agent_is_adopted_not_started_twice(tmp_path: Path) -> None:
    answers = {stage: given[0]["output"] for stage, given in iteration().items()}
    answers["implementation"] = {"plan": "Set the slope."}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    (tmp_path / "agent.py").write_text(AGENT)
    counter = tmp_path / "agent.txt"
    config = TWO_PAIRS | {"researcher": {"name": "command", "command": f"{sys.executable} {tmp_path / 'agent.py'}"}}
    lab = make_lab(tmp_path, script(), config=config)
    loop = lab.start(*ONE)
    wait_for(lambda: "start implementation " in said_in(counter) or loop.poll() is not None, "the agent did not start")
    kill_engine(loop)
    assert loop.returncode == -signal.SIGKILL and "done implementation " not in said_in(counter)
    ended = lab.autolab(*ONE)
    assert ended.code == 0, ended.out + ended.err
    said = Counter(tuple(line.split()[:2]) for line in counter.read_text().splitlines())
    assert said == {(word, stage): 1 for word in ("start", "done") for stage in answers}
    assert lab.tables()["0/run_0001"][0] == "completed"


@pytest.mark.process
def test_a_reproduction_killed_once_it_is_recorded_retracts_nothing_and_runs_again(tmp_path: Path) -> None:
    lab, log = make_lab(tmp_path, script(iteration()), config=TWO_PAIRS), tmp_path / "points.txt"
    again = ("reproduce", "run_0002", "--trial", "steep-s0")
    assert lab.autolab(*ONE).code == 0
    standing = lab.git("rev-parse", "autolab/champion")
    assert lab.autolab(*again, AUTOLAB_FAULT="0", AUTOLAB_FAULT_LOG=str(log)).code == 0
    last = log.read_text().split().index("reproduce.after_record") + 1
    killed = lab.autolab(*again, AUTOLAB_FAULT=str(last), AUTOLAB_FAULT_LOG=str(log))
    assert (killed.code, log.read_text().split()[-1]) == (-signal.SIGKILL, "reproduce.after_record")
    ended = lab.autolab(*again)
    assert ended.code == 0 and "identical" in ended.out
    assert lab.git("rev-parse", "autolab/champion") == standing
    assert set(lab.executed("start").values()) == {1}
    assert lab.autolab("verify").code == 0


# A user who stops it


@pytest.mark.process
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stop"])
def test_stopped_it_pauses_and_the_same_command_goes_on(how: str, slow: Reference) -> None:
    lab = slow.begin()
    loop = lab.start(*ONE)
    mid_trial(lab, loop)
    if how == "stop":
        asked = lab.autolab("stop")
        assert asked.code == 0 and f"pid {loop.pid}" in asked.out
    else:
        loop.send_signal(getattr(signal, how))
    out, err = loop.communicate(timeout=PATIENCE_S)
    assert loop.returncode == 0, err
    assert re.search("paused|paused", out)
    assert lab.state()["stage"] == "launch"
    assert alive_in(lab.root) == []
    assert lab.executed("start") == lab.executed("done"), "what ran when it was asked is brought home"
    ended = lab.autolab(*ONE)
    assert ended.code == 0, ended.err
    check(slow, lost=False)


@pytest.mark.process
def test_a_second_signal_leaves_at_once_and_nothing_is_lost(slow: Reference) -> None:
    lab = slow.begin()
    loop = lab.start(*ONE)
    mid_trial(lab, loop)
    loop.send_signal(signal.SIGINT)
    assert loop.stderr
    assert re.search("pausing|pausing", loop.stderr.readline())
    loop.send_signal(signal.SIGINT)
    _, err = loop.communicate(timeout=PATIENCE_S)
    assert loop.returncode == 1 and "interrupted" in err and "Traceback" not in err
    ended = lab.autolab(*ONE)
    assert ended.code == 0, ended.err
    check(slow, lost=False)


@pytest.mark.process
def test_stop_with_nothing_running_says_so(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, script(NOTHING))
    asked = lab.autolab("stop")
    assert asked.code == 1
    assert "nothing runs here" in asked.err and len(asked.err.splitlines()) == 1


# The lab's own beginning


@pytest.mark.process
def test_init_killed_at_a_point_the_same_command_makes_a_whole_lab(tmp_path: Path) -> None:
    template = tiny_template(tmp_path)
    n, whole = 0, False
    while not whole:
        n += 1
        root = tmp_path / f"lab{n}"
        kit = LabKit(tmp_path, tmp_path / "count.txt")
        whole = kit.autolab("init", str(root), "--template", template, AUTOLAB_FAULT=str(n)).code == 0
        check_begun(replace(kit, root=root), template)
    assert n > 4


@pytest.mark.process
@pytest.mark.parametrize("eighth", range(1, 8))
def test_init_killed_at_any_moment_the_same_command_makes_a_whole_lab(tmp_path: Path, eighth: int) -> None:
    template, kit = tiny_template(tmp_path), LabKit(tmp_path, tmp_path / "count.txt")
    began = time.monotonic()
    assert kit.autolab("init", str(tmp_path / "whole"), "--template", template).code == 0
    seconds = time.monotonic() - began
    root = tmp_path / "lab"
    making = kit.start("init", str(root), "--template", template)
    with suppress(subprocess.TimeoutExpired):
        making.communicate(timeout=seconds * eighth / 8)
    kill_engine(making)
    check_begun(replace(kit, root=root), template)


def tiny_template(folder: Path) -> str:
    template = folder / "template"
    shutil.copytree(TINY, template)
    (template / ".autolab" / "script.yaml").write_text(json.dumps(script()))
    return str(template)


def check_begun(kit: LabKit, template: str) -> None:
    """A killed `init` left a whole lab, which the same command says, or none, which it makes."""
    again = replace(kit, root=kit.root.parent).autolab("init", str(kit.root), "--template", template)
    assert again.code == 0 or "is a lab already" in again.err, again.err
    verified = kit.autolab("verify")
    assert verified.code == 0, verified.out + verified.err
    assert kit.state()["stage"] == "hypothesis"
    assert kit.git("status", "--porcelain") == ""


# The same with real trainings, by `make crash`

COUNTING = """#!/bin/sh
# The lab's interpreter, counting the trainings of trials outside of the lab.
say() {{
  place=${{AUTOLAB_TRIAL_DIR#*/autolab/runs/}}
  echo "$1 ${{place#*/}} $AUTOLAB_SEED $$ ${{place%%/*}}" >> {counter}
}}
case "$AUTOLAB_TRIAL_DIR $*" in
  */autolab/runs/*" train.py") say start; {python} "$@" || exit $?; say done ;;
  *) exec {python} "$@" ;;
esac
"""


def real_lab(folder: Path) -> LabKit:
    """Digits with the offline researcher, two pairs a run."""
    counter, python = folder / "count.txt", folder / "python"
    python.write_text(COUNTING.format(counter=counter, python=sys.executable))
    python.chmod(0o755)
    kit = LabKit(folder, counter)
    made = kit.autolab("init", str(folder / "lab"), "--template", "digits", "--seed", "1")
    assert made.code == 0, made.err
    config = folder / "lab" / ".autolab" / "config.yaml"
    rule = {"rule": "fixed", "alpha": 0.1, "max_pairs": 2, "confirm_pairs": 2}
    cheap = {"python": str(python), "test": rule, "calibrate": {"seeds": 3}, "run_time_minutes": [0, 5]}
    told = yaml.safe_load(config.read_text()) | cheap
    told["metric"]["success_delta"] = 0.05  # what two pairs resolve
    config.write_text(yaml.safe_dump(told))
    return replace(kit, root=folder / "lab")


@pytest.mark.crash_real
def test_killed_at_a_sample_of_points_real_trainings_end_with_the_same_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every 16th point; CRASH_EVERY=1 takes all, CRASH_FROM=N begins at the Nth. Says how long it will take."""
    every, first = int(os.environ.get("CRASH_EVERY", "16")), int(os.environ.get("CRASH_FROM", "1"))
    began = time.monotonic()
    real = Reference.make(real_lab(tmp_path), *LOOP)
    seconds, points = time.monotonic() - began, range(first, len(real.points) + 1, every)
    with capsys.disabled():
        print(
            f"\n{len(real.points)} points, {len(points)} of them to try: about {len(points) * seconds / 60:.0f} minutes"
        )
        for n in points:
            name, lab = real.points[n - 1], real.begin()
            ended = lab.autolab(*LOOP, AUTOLAB_FAULT=str(n), timeout=20 * seconds)
            if ended.code == -signal.SIGKILL:
                ended = lab.autolab(*LOOP, timeout=20 * seconds)
            else:
                assert n > len(real.points) - 20, ended.err
            assert ended.code == 0, f"killed at point {n} ({name}): {ended.out[-600:]}{ended.err}"
            check(real)
            print(
                f"killed at point {n} ({name}): the same tables, {lab.executed('done').total()} trainings", flush=True
            )
