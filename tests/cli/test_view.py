"""What a user sees: counts and estimates that are honest, rows that fit, a terminal that is left as it was found."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from account_kit import confirmed
from exploration_kit import IDEAS, batch, exploration
from gates import Gate
from lab_kit import LabKit, design, implementation, iteration, make_twin, script
from rich.cells import cell_len
from rich.console import Console
from terminal_kit import Terminal

from autolab.cli.board import Board
from autolab.cli.live_view import LiveView
from autolab.cli.session import can_draw
from autolab.cli.view import Plain, pausing
from autolab.executors.base import Phase
from autolab.lab.schemas.campaign import Campaign, Exploration, Loop, State
from autolab.lab.schemas.config import Budget, StoppingRule
from autolab.lab.schemas.experiment import Interval, Lesson, Trial
from autolab.lab.schemas.outcomes import Gear, Stage
from autolab.reports import screen_documents
from autolab.stats.plan import Plan, PlannedArm
from autolab.trials.progress import JudgedIteration, Progress, RunningTrial, Watch, spell

ARMS = (PlannedArm("baseline", "baseline", "base", {}), PlannedArm("gelu", "variant", "candidate", {}))
PLAN = Plan(ARMS, (1, 2, 3), "val_loss", "minimize", 0.01, StoppingRule(rule="fixed"), True)
EARLY = replace(PLAN, rule=StoppingRule(), fixed=False)
HERE = State(iteration_id="i2", stage=Stage.LAUNCH)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A run whose trials begin and end when the test says so."""

    def __init__(self, *known: Trial, spent: int = 0, plan: Plan = PLAN) -> None:
        self.clock, self.trials = Clock(), {trial.trial: trial for trial in known}
        self.watch = Watch("run_0001", plan, self.trials, spent, self.clock)
        self.running: set[str] = set()

    def begin(self, *trials: str) -> Progress:
        self.running.update(trials)
        self.watch.look({name: Phase.RUNNING if name in self.running else Phase.QUEUED for name in self._open()})
        return self.watch.progress()

    def end(self, trial: Trial) -> Progress:
        self.running.discard(trial.trial)
        self.trials[trial.trial] = trial
        return self.begin()

    def _open(self) -> list[str]:
        return [name for i in range(3) for name in (f"baseline-s{i}", f"gelu-s{i}") if name not in self.trials]


def over(name: str, seconds: float = 10.0, loss: float = 0.5, **more: Any) -> Trial:
    arm, _, index = name.rpartition("-s")
    value = {"trial": name, "arm": arm, "index": int(index), "seed": 1, "attempt": 1, "commit": "c", "key": "k"}
    value |= {"content": "0", "outcome": "completed", "score": {"val_loss": loss}, "seconds": seconds}
    return Trial.from_value(value | more, "trial")


# Time left


def test_time_left_is_not_said_before_each_arm_with_trials_left_has_one_to_go_by() -> None:
    run = Run()
    assert run.begin("baseline-s0", "gelu-s0").ends is None
    assert run.end(over("baseline-s0")).ends is None
    assert "left" not in run.begin("baseline-s1").line(over("baseline-s0"))
    assert run.end(over("gelu-s0")).ends is not None


def test_time_left_is_that_of_the_trials_left_on_the_places_there_are() -> None:
    run = Run()
    run.begin("baseline-s0", "gelu-s0")
    run.end(over("baseline-s0", 10.0))
    run.end(over("gelu-s0", 20.0))
    progress = run.begin("baseline-s1", "gelu-s1")
    # baseline-s1 0-10, gelu-s1 0-20; then baseline-s2 10-20, gelu-s2 20-40
    assert progress.left(run.clock.now) == 40.0
    run.clock.now += 5
    assert run.watch.progress().left(run.clock.now) == 35.0
    run.clock.now += 30
    assert run.watch.progress().left(run.clock.now) == 20.0, "who takes longer than the others ends now, not before"


def test_failed_and_reused_trials_are_counted_for_what_they_are() -> None:
    run = Run(over("baseline-s0", reused_from="i1/run_0001/baseline-s0"), spent=1)
    run.trials["baseline-s1"] = over("baseline-s1", reused_from="i1/run_0001/baseline-s1")
    progress = run.end(over("gelu-s0", 1.0, outcome="failed"))
    baseline, gelu = progress.arms
    assert (baseline.done, baseline.planned, baseline.seconds) == (2, 3, 10.0)
    assert (gelu.done, gelu.seconds) == (1, None), "how long a failure took says nothing of the others"
    assert progress.spent == 2


def test_a_trial_that_an_earlier_command_started_has_no_beginning_here() -> None:
    run = Run(over("baseline-s0"), over("gelu-s0"))
    run.watch.adopt(["baseline-s1", "gelu-s1"])
    begun, waits = run.begin("baseline-s1").running, run.begin("gelu-s1").running
    assert [(one.trial, one.since) for one in begun] == [("baseline-s1", None)]
    assert {one.trial: one.since for one in waits} == {"baseline-s1": None, "gelu-s1": 100.0}
    assert begun[0].left(1e9) == 10.0, "it may take as long as any"


def test_the_gain_so_far_is_that_of_the_pairs_a_rule_reads_in_the_direction_of_good() -> None:
    run = Run(over("baseline-s0", loss=0.5), over("gelu-s0", loss=0.4), over("baseline-s2"), over("gelu-s2", loss=9.0))
    (pairs,) = run.watch.progress().pairs
    assert (pairs.done, pairs.planned, pairs.arm, pairs.baseline) == (1, 3, "gelu", "baseline")
    assert pairs.gain is not None and pairs.gain.mean == pytest.approx(0.1)


def test_where_a_rule_may_decide_early_counts_and_time_left_are_at_most_that() -> None:
    run = Run(over("baseline-s0"), over("gelu-s0", loss=0.4), plan=EARLY)
    progress = run.begin("baseline-s1", "gelu-s1")
    assert progress.line(over("gelu-s0")).startswith("   2 of at most 6  gelu-s0 completed")
    assert progress.line(over("gelu-s0")).endswith(", at most 20 s left")
    assert (progress.pairs[0].done, progress.pairs[0].planned) == (1, 3)
    fixed = Run(over("baseline-s0"), over("gelu-s0", loss=0.4)).begin("baseline-s1", "gelu-s1")
    assert fixed.line(over("gelu-s0")).endswith(", about 20 s left") and " 2 of 6 " in fixed.line(over("gelu-s0"))


def test_a_plan_without_a_rule_counts_the_cells_that_run_and_compares_nothing() -> None:
    only = frozenset({("baseline", 0), ("baseline", 1), ("baseline", 2), ("gelu", 0)})
    run = Run(over("baseline-s0"), over("gelu-s0"), plan=replace(PLAN, rule=None, only=only))
    progress = run.watch.progress()
    assert [(arm.name, arm.done, arm.planned) for arm in progress.arms] == [("baseline", 1, 3), ("gelu", 1, 1)]
    assert (progress.planned, progress.pairs, progress.early) == (4, (), False)


def test_pairs_are_trials_and_not_the_parts_of_an_evaluation_that_no_seed_changes() -> None:
    parts = {"predictions_sha256": "a", "parts": tuple(0.5 + 0.01 * part for part in range(20))}
    known = [
        over(f"{arm}-s{index}", **parts | {"predictions_sha256": arm})
        for arm in ("baseline", "gelu")
        for index in (0, 1)
    ]
    (pairs,) = Run(*known, plan=EARLY).watch.progress().pairs
    assert pairs.done == 2


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (55.4, "55 s"), (100, "2 min"), (5000, "83 min"), (57600, "16.0 h")]
)
def test_lengths_of_time_are_said_as_a_user_says_them(seconds: float, said: str) -> None:
    assert spell(seconds) == said


def test_pausing_names_what_it_waits_for_and_for_how_long() -> None:
    run = Run(over("baseline-s0"), over("gelu-s0", 1e6))
    now = time.monotonic()
    progress = replace(run.watch.progress(), running=(RunningTrial("a", now - 8, 20.0), RunningTrial("b", now, 5.0)))
    assert pausing(Stage.LAUNCH, progress).endswith("in about 12 s, after the running trials: a, b")
    progress = replace(
        progress, running=(*progress.running, RunningTrial("c", now, None), RunningTrial("d", now, None))
    )
    assert pausing(Stage.LAUNCH, progress).endswith("after the running trials: a, b, c and 1 more")
    assert pausing(Stage.DESIGN, None).endswith("after the present step, design")


# Verdicts


def test_a_kept_one_shows_what_is_claimed_with_the_interval_of_fresh_seeds() -> None:
    told = confirmed("kept")
    now = JudgedIteration.now(told.hypothesis, told.results)
    assert now.verdict == "supported, kept" and now.gain is not None
    assert (now.gain.mean, now.gain.low, now.gain.high) == (0.0195, 0.021 - 0.006, 0.021 + 0.006)
    fell = confirmed("retracted", "failed")
    now = JudgedIteration.now(fell.hypothesis, fell.results)
    assert now.verdict == "retracted" and now.gain is not None and now.gain.mean == 0.027


def test_an_earlier_iteration_is_told_with_what_became_of_it() -> None:
    about = {"iteration": 1, "iteration_id": "i1", "hypothesis_id": "h1", "title": "t", "family": None, "changes": {}}
    about |= {"base": "b", "commit": None, "status": "completed", "delta": 0.01, "decision": "refine"}
    for verdict, outcome, reason, said in (
        ("supported", "kept", "", "supported, kept"),
        ("inconclusive", "retracted", "retracted", "retracted"),
        ("inconclusive", None, "futile", "inconclusive, futile"),
    ):
        lesson = Lesson.from_value(about | {"verdict": verdict, "outcome": outcome, "reason": reason}, "lesson")
        assert JudgedIteration.before(lesson).verdict == said


# The picture


def board(**more: Any) -> Board:
    run = Run(over("baseline-s0"), over("gelu-s0", loss=0.4))
    progress = run.begin("baseline-s1", "gelu-s1")
    now = time.monotonic()
    loop = Loop(max_iterations=3, goal="", first_iteration=0)
    made = Board(Budget(trials=200, wall_hours=8))
    made.begin(HERE, Campaign(iterations=2, trials=20, seconds=3600, hypothesis_id="h2", loop=loop), "Warm-up")
    made.progress = replace(progress, began=now - 60, ends=now + 300, running=(RunningTrial("gelu-s1", now - 4, 10.0),))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def drawn(made: Board, width: int = 100, height: int = 30, *, later: float = 0.0) -> str:
    """The picture without colours, as it will be in `later` seconds."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(made.picture(width, height, time.monotonic() + later))
    return capture.get()


def judged(iteration_id: str, verdict: str = "supported, kept") -> JudgedIteration:
    return JudgedIteration(
        iteration_id, "h1", "Small CNN", verdict, Interval(n=3, mean=0.1, low=0.05, high=0.15, level=0.99)
    )


def test_the_picture_says_where_the_loop_is_what_runs_and_what_is_spent() -> None:
    text = drawn(board(verdicts=[judged("i1")]))
    assert "iteration 2 of 3 · h2 Warm-up" in text
    assert "✓ ✓ ✓ ✓ ▸ launch · · · for" in text
    assert re.search(r"run_0001 +━+ +2 of 6 trials, about 5 min left, 60 s so far", text)
    assert re.search(r"━+╸? +gelu-s1  about 6 s left, 4 s of 10 s", text)
    assert "1 of 3, gain so far +0.1 in val_loss  gelu against baseline" in text
    assert re.search(r"h1  supported, kept +\+0.100 \(99% CI 0.050 to 0.150\) +Small CNN", text)
    assert "20 of 200 trials · 2 of 50 iterations · 1.00 of 8 h" in text


def test_the_picture_says_what_thinking_took_where_it_took_any() -> None:
    made = board()
    assert "tokens" not in drawn(made)
    made.campaign = made.campaign.model_copy(update={"tokens": 12_345, "dollars": 0.678})
    assert "1.00 of 8 h · 12,345 tokens · $0.68" in drawn(made)
    made.budget = made.budget.model_copy(update={"tokens": 50_000, "dollars": 5.0})
    assert "12,345 of 50,000 tokens · $0.68 of $5" in drawn(made, 120)


def test_the_picture_of_a_run_that_may_end_early_says_at_most() -> None:
    made = board()
    assert made.progress is not None
    made.progress = replace(made.progress, early=True)
    assert "2 of at most 6 trials, at most 5 min left, 60 s so far" in drawn(made)
    assert "1 of at most 3, gain so far +0.1 in val_loss  gelu against baseline" in drawn(made)


def test_the_picture_moves_while_nothing_is_told() -> None:
    made = board()
    assert "gelu-s1  about 1 s left, 9 s of 10 s" in drawn(made, later=5)
    assert "gelu-s1  longer than those before, 24 s of 10 s" in drawn(made, later=20)
    assert re.search(r"last +\d\d:\d\d:\d\d, 16.0 h ago  launch began", drawn(made, later=57_600))


def test_a_verdict_takes_the_place_of_the_gain_so_far() -> None:
    made = board(verdicts=[judged("i2", "refuted"), judged("i1")])
    assert "so far" not in drawn(made).partition("verdicts")[0].partition("left")[2].replace("60 s so far", "")
    assert "refuted" in drawn(made)
    made.begin(State(iteration_id="i3", stage=Stage.HYPOTHESIS), Campaign(iterations=3, hypothesis_id="h3"), "")
    assert "run_0001" not in drawn(made), "another iteration"


@pytest.mark.parametrize("width", [*range(20, 130, 7), 200])
@pytest.mark.parametrize("height", [5, 8, 12, 20, 60])
def test_no_row_is_wider_and_no_picture_higher_than_the_terminal_has_room_for(width: int, height: int) -> None:
    title = "用深度可分离卷积 and GELU, a title that goes on and on " * 3
    many = tuple(RunningTrial(f"a_variant_with_a_long_name-s{i}", 0.0, None if i % 2 else 1e5) for i in range(64))
    made = exploring(Gear.SCREEN, title)
    made.pausing, made.verdicts = True, [replace(judged(f"i{i}"), title=title) for i in range(9)]
    assert made.progress is not None
    made.progress = replace(made.progress, running=many, pairs=made.progress.pairs * 8)
    made.note("line\n\x1b[A" * 40)
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(made, end="")
    rows = capture.get().splitlines()
    assert "\x1b" not in capture.get()
    assert max(map(cell_len, rows)) <= width
    assert tuple(map(cell_len, rows)) == made.widths
    assert len(rows) < height
    if height > 12:
        assert rows[-1].startswith("Ctrl-C"), "the last rows are not cut off"
    if height == 60 and width > 60:
        assert sum("a_variant_with" in row for row in rows) > 20


def test_trials_that_have_no_room_are_counted() -> None:
    made = board()
    assert made.progress is not None
    made.progress = replace(made.progress, running=tuple(RunningTrial(f"t{i}", 0.0, None) for i in range(64)))
    shown = len(re.findall(r"  t\d+  ", drawn(made, height=20)))
    assert shown > 5 and f"and {64 - shown} more run" in drawn(made, height=20)


def test_what_trials_wrote_cannot_move_the_cursor() -> None:
    lines: list[str] = []
    Plain(lines.append)("it said \x1b[2J\x07\r hello\n\tand\u3000更多")
    assert lines == ["it said \\x1b[2J\\x07\n hello\n\tand\u3000更多"]


# Batches and claims


def exploring(gear: Gear, title: str) -> Board:
    made = board()
    lab = Exploration(base="1a2b3c4d" * 5, protocol="e", reserve=14, steps=exploration().steps, unclaimed=3, batches=3)
    counts = {"iterations": 4, "uncapped": 1, "claims_begun": 1, "batches": 3, "gear": gear, "exploration": lab}
    progress = made.progress
    made.begin(HERE, made.campaign.model_copy(update=counts), title)
    made.progress = progress
    return made


def test_the_picture_names_a_batch_and_a_claim_and_the_steps_that_are_unclaimed() -> None:
    screened = drawn(exploring(Gear.SCREEN, "4 ideas"))
    assert "· iteration 3 of 3 · batch 3: 4 ideas ─" in screened
    assert "working   3 steps unclaimed on 1a2b3c4d1a2b · 14 trials set aside for the claim" in screened
    assert "3 of 50 iterations · 1 claim · " in screened, "a claim counts in no cap"
    assert "· after iteration 3 of 3 · claim 1: 3 steps ─" in drawn(exploring(Gear.CLAIM, "3 steps"))
    assert "working" not in drawn(board()) and "claim" not in drawn(board())


def styles_of_verdicts(*verdicts: str) -> list[str]:
    """The style in which the picture shows each."""
    made = board(verdicts=[judged(f"i{number}", verdict) for number, verdict in enumerate(verdicts)])
    console = Console(file=io.StringIO(), width=100, height=30)
    found = []
    for line in console.render_lines(made.picture(100, 30, time.monotonic()), pad=False):
        for segment in line:
            if segment.text.strip() in verdicts:
                found.append(str(segment.style))
    return found


def test_what_is_provisional_claimed_or_screened_has_a_colour_of_its_own() -> None:
    open_question, *others = styles_of_verdicts(
        "inconclusive (screened)", "provisional", "claimed on this evaluation alone", "refuted", "screened"
    )
    assert open_question == "yellow" and others == ["cyan", "bold green", "red", "dim"]
    assert styles_of_verdicts("claim failed", "supported, kept", "dropped") == ["yellow", "green", "dim"]


@pytest.mark.parametrize(
    ("verdict", "outcome", "says"),
    [
        ("supported", "kept", "claimed"),
        ("inconclusive", "search_only", "claim failed"),
        ("refuted", "retracted", "claim failed"),
        ("inconclusive", "retracted", "claim failed"),
        (None, None, "failed, no verdict"),
    ],
)
def test_a_claim_that_a_lesson_tells_of_has_the_words_of_claims(
    verdict: str | None, outcome: str | None, says: str
) -> None:
    about = {"iteration": 1, "iteration_id": "x_claim2", "hypothesis_id": "claim2", "title": "t", "family": None}
    about |= {"base": "b", "commit": None, "delta": 0.01, "decision": "refine", "changes": {}, "reason": ""}
    status = "completed" if verdict else "failed"
    lesson = Lesson.from_value(about | {"verdict": verdict, "outcome": outcome, "status": status}, "lesson")
    assert re.search(rf"claim2  {says} +t", drawn(board(verdicts=[JudgedIteration.before(lesson)])))
    alone = replace(JudgedIteration.before(lesson), verdict="supported, kept on this evaluation alone")
    assert "claimed on this evaluation alone" in drawn(board(verdicts=[alone]))


def test_a_single_measurement_is_shown_as_one() -> None:
    text = drawn(board(verdicts=[screen_documents.judged(batch())]))
    assert re.search(r"verdicts +batch3  provisional  \+0.0123 \(n = 1\)  Small CNN", text)


def test_a_batch_is_told_in_lines_the_best_idea_first() -> None:
    lines: list[str] = []
    for line in screen_documents.terminal_lines(batch(*IDEAS[::-1])):
        Plain(lines.append)(line)
    assert lines == [
        "batch3: One of 4 ideas is built upon: Small CNN, +0.0123 in val_loss at one seed, unclaimed.",
        "  h5 Small CNN, +0.0123 in val_loss at one seed: provisional",
        "  h6 GELU | with a bar, -0.0011 in val_loss at one seed: dropped, behind",
        "  h8 Weight decay, not measured: dropped, review (the tests fail: test_model)",
        "  h7 Mixup, not measured: dropped, failed (trial h7-mixup-s0: failed: exit status 1)",
    ]


# On a terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as made:
        yield made


LOOP = ("loop", "--max-iterations", "1")
SHORT = design(seeds=[1, 2])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every gate here stands: its path is in the candidate's code, which the seeds of a confirmation hang on."""
    return tmp_path_factory.mktemp("gates")


@contextlib.contextmanager
def gate_at(place: Path) -> Iterator[Gate]:
    try:
        with Gate(place) as gate:
            yield gate
    finally:
        for path in place.iterdir():
            path.unlink()


def waiting(gate: Gate) -> dict[str, Any]:
    """Its candidate's trials wait at the gate."""
    return script(iteration(design=SHORT, implementation=implementation(gate.code())))


def gated(folder: Path, gate: Gate) -> LabKit:
    """Its first candidate trial waits at the gate, and everything behind it in the queue."""
    return make_twin(folder, waiting(gate), config={"executor": {"name": "local", "options": {"slots": 1}}})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, place: Path) -> dict[str, Any]:
    """The tables of the same iteration undisturbed, in plain lines, without rich."""
    with gate_at(place) as gate:
        gate.open()
        kit = make_twin(tmp_path_factory.mktemp("unbroken"), waiting(gate))
        run = (
            f"import sys; from autolab.cli.command_line import main; print(main({list(LOOP)!r}), 'rich' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", run], cwd=kit.root, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 False\n"), "a loop that prints lines loads no rich"
    assert "\x1b" not in done.stdout
    return kit.tables()


@pytest.mark.process
def test_live_ctrl_c_pauses_and_the_same_command_ends_with_the_same_tables(
    tmp_path: Path, terminal: Terminal, place: Path, unbroken: dict[str, Any]
) -> None:
    with gate_at(place) as gate:
        kit = gated(tmp_path, gate)
        terminal.start(kit, *LOOP)
        # Read on the way: a terminal that nobody reads fills up. The row stays while the trial waits.
        terminal.until("steep-s0  [0-9]")
        gate.reached()
        terminal.until("steep-s0  [2-9] s, the first of its arm")  # nothing happens, and it moves
        terminal.press(b"\x1ahello\r")
        terminal.press(b"\x03")
        asked = terminal.until("Ctrl-C .*pausing .*after the running trials: steep-s0")
        assert "hello" not in asked and "^C" not in asked
        gate.open()
        assert terminal.ended() == 0
        assert terminal.as_found()
        assert terminal.screen()[-1].endswith("the same command goes on from here")
        assert kit.state()["stage"] == "launch"

        assert terminal.start(kit, *LOOP).ended() == 0
    assert terminal.as_found()
    assert any(row.endswith("verdict: supported, kept on this evaluation alone") for row in terminal.screen())
    assert terminal.screen()[-1].endswith("loop ended: 1 of 1 iterations done")
    assert not any("Autolab ·" in row for row in terminal.screen()), "nothing is left of the picture"
    assert kit.tables() == unbroken


@pytest.mark.process
def test_live_sigterm_pauses_too_and_a_second_signal_leaves_at_once_and_loses_nothing(
    tmp_path: Path, terminal: Terminal, place: Path, unbroken: dict[str, Any]
) -> None:
    with gate_at(place) as gate:
        kit = gated(tmp_path, gate)
        terminal.start(kit, *LOOP)
        terminal.until("steep-s0  [0-9]")
        gate.reached()
        terminal.process.send_signal(signal.SIGTERM)
        terminal.until("pausing ")
        terminal.press(b"\x03")
        assert terminal.ended() == 1, "though the trial still waits at the gate"
        assert terminal.as_found()
        assert terminal.screen()[-1] == "autolab: interrupted; the same command goes on from here"
        gate.open()
        ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.err
    assert kit.tables() == unbroken
    assert kit.executed("start") == kit.executed("done"), "the trial that was left alone went on"


@pytest.mark.process
def test_a_dumb_terminal_gets_lines_and_an_answer_to_ctrl_c_and_an_error_is_one_line_on_any_terminal(
    tmp_path: Path, terminal: Terminal
) -> None:
    with Gate(tmp_path) as gate:
        kit = gated(tmp_path, gate)
        terminal.start(kit, *LOOP, TERM="dumb")
        gate.reached()
        terminal.press(b"\x03")
        said = terminal.until("autolab: pausing .*Ctrl-C again stops at once")
        assert re.search(r"pausing after the (running trials: .*steep-s0|present step, launch)", said)
        gate.open()
        assert terminal.ended() == 0
    assert "\x1b" not in said + terminal.said.decode()
    assert terminal.screen()[-1].endswith("the same command goes on from here")

    (folder,) = kit.iterations()
    (folder / "design.yaml").write_text("nothing\n")
    assert terminal.start(kit, *LOOP).ended() == 1
    assert terminal.as_found()
    assert re.match("autolab: experiments/.*/design.yaml: ", terminal.screen()[-1])


# Live, in this process


@contextlib.contextmanager
def shown_on(terminal: Terminal) -> Iterator[LiveView]:
    """A live view on `terminal`, left by whatever its block raises."""
    with pytest.MonkeyPatch.context() as patch, os.fdopen(os.dup(terminal.slave), "w") as out:
        patch.setattr(sys, "stdout", out)
        patch.setenv("TERM", "xterm-256color")
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        assert can_draw()
        with LiveView(Budget(), []) as made:
            yield made


def test_it_is_chosen_only_where_somebody_looks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR")
    assert not can_draw(), "standard output is a file here"
    with os.fdopen(os.dup(terminal.slave), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert can_draw()
        for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(name, value)
                assert not can_draw(), name
    with os.fdopen(os.dup(terminal.slave), "w", encoding="latin-1") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert not can_draw()


def test_no_thread_outlives_it_whatever_is_raised(terminal: Terminal) -> None:
    before = threading.enumerate()
    for raised in (ValueError, KeyboardInterrupt):
        with pytest.raises(raised), shown_on(terminal):
            (refresh,) = set(threading.enumerate()) - set(before)
            raise raised
        refresh.join(10)
        assert threading.enumerate() == before
        terminal.until(r"\x1b\[\?25h")


def test_lines_of_lasting_value_are_kept_and_completed_trials_only_shown(terminal: Terminal) -> None:
    run = Run()
    with shown_on(terminal) as live:
        live("h1: [bold]not markup[/bold]")
        live.trials(run.end(over("baseline-s0")), over("baseline-s0"))
        failed = over("gelu-s0", outcome="failed", score={}, message="it broke")
        live.trials(run.end(failed), failed)
    terminal.drain()
    clock, line, failed = "[0-9:]{8} ", *terminal.screen()
    assert re.fullmatch(rf"{clock}h1: \[bold\]not markup\[/bold\]", line)
    assert re.fullmatch(rf"{clock}gelu-s0 failed in 10.0 s  it broke", failed)


@pytest.mark.parametrize("width", [60, 30, 140])
def test_after_a_resize_the_picture_is_drawn_once_and_fits(terminal: Terminal, width: int) -> None:
    with shown_on(terminal) as live:
        live.stage(HERE, Campaign(iterations=1, hypothesis_id="h1"), "Small CNN")
        live.trials(Run().begin("baseline-s0", "gelu-s0"))
        terminal.when(lambda rows: len(rows) > 7 and len(rows[0]) == 100)
        terminal.resize(width, 20)
        terminal.when(lambda rows: len(rows[0]) == width)
        live("and a line")
        rows = terminal.when(lambda rows: len(rows[-1]) > len("last") and "and a line" in rows[0])
        assert [row.partition(" ")[0] for row in rows[1:]] == [
            "──",
            "stage",
            "run_0001",
            "",
            "",
            "pairs",
            "spent",
            "last",
        ]
        assert max(map(len, rows)) <= width
