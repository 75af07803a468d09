"""What a user sees of `autolab compare`: facts that hold, rows that fit, a terminal that is left as it was found."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from gates import Gate
from lab_kit import make_lab
from rich.cells import cell_len
from rich.console import Console
from terminal_kit import Terminal

from autolab.cli.comparison_board import ComparisonBoard
from autolab.cli.comparison_view import ComparisonState, Outlook, PlainComparison
from autolab.compare.paired_runs import Allowance, ComparisonPhase
from autolab.compare.question import AskedComparison, AskedVersion
from autolab.executors.base import Phase
from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import RunKind
from autolab.stats import rules
from autolab.stats.plan import Plan, PlannedArm
from autolab.trials.progress import Progress, Watch

BETTER = (0.5, 0.49, 0.51, 0.5, 0.495)
WORSE = tuple(-gain for gain in BETTER)
OPEN = (0.12, 0.0, 0.16, 0.05, 0.1)
"""Gains of the first pairs: what the rule says after five of them."""


def version(name: str, label: str) -> AskedVersion:
    return AskedVersion(name=name, label=label, commit="c", tree="t", settings={})


def asked(*labels: str, confirm: bool = False) -> AskedComparison:
    candidates = [version(f"arm{number}", label) for number, label in enumerate(labels)]
    return AskedComparison(
        base=version("baseline", "main"),
        candidates=tuple(candidates),
        metric="val loss",
        direction="minimize",
        delta=None,
        alpha=0.005,
        require="better",
        confirm=confirm,
        pairs=24,
    )


class Comparison:
    """The pairs of a comparison, each measured when the test says so: `gains` by candidate."""

    def __init__(self, question: AskedComparison, allowance: Allowance | None = None) -> None:
        self.state = ComparisonState(question, allowance or Allowance())
        arms = [PlannedArm("baseline", "baseline", "base", {})]
        arms += [PlannedArm(candidate.name, "variant", candidate.name, {}) for candidate in question.candidates]
        rule = StoppingRule(alpha=question.alpha, max_pairs=24, harm=True)
        plan = Plan(
            arms=tuple(arms),
            seeds=tuple(range(24)),
            metric="val loss",
            direction="minimize",
            delta=0.1,
            rule=rule,
            fixed=False,
            self_reported=True,
        )
        self.trials: dict[str, Trial] = {}
        self.watch = Watch("run_0001", plan, self.trials, 0)
        self.state.begin(ComparisonPhase(RunKind.SEARCH, 4, 12.0, 15.0, 0.1))

    def end(self, arm: str, index: int, loss: float, **more: object) -> Trial:
        value = {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "seed": index, "attempt": 1, "commit": "c"}
        value |= {"key": "k", "content": "0", "outcome": "completed", "self_reported": {"val loss": loss}, "seconds": 3}
        trial = Trial.from_value(value | more, "trial")
        self.trials[trial.trial] = trial
        return trial

    def pairs(self, **gains: Sequence[float]) -> Progress:
        """The five pairs of each candidate."""
        self.watch.look({"baseline-s23": Phase.RUNNING})
        for index in range(len(BETTER)):
            loss = 2.0 + index / 100
            self.end("baseline", index, loss)
            for arm, gain in gains.items():
                self.end(arm, index, loss - gain[index])
        progress = self.watch.progress()
        self.state.take(progress, None)
        return progress


def drawn(comparison: Comparison, progress: Progress | None, width: int = 100, height: int = 30) -> str:
    board = ComparisonBoard(comparison.state)
    board.progress = progress
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(board, end="")
    return capture.get()


def test_a_row_for_each_candidate_says_pairs_gain_interval_and_what_is_likely() -> None:
    comparison = Comparison(asked("lr=0.2", "wide.patch", "comment", confirm=True))
    progress = comparison.pairs(arm0=BETTER, arm1=WORSE, arm2=OPEN)
    text = drawn(comparison, progress)
    assert "Autolab · main → lr=0.2, wide.patch, comment" in text
    assert "✓ warm-up ✓ noise ▸ pairs · confirmation for" in text
    assert re.search(r"lr=0.2 +5 pairs +\+0.499 \(99.67% CI 0.\d+ to 0.\d+\) +better", text)
    assert re.search(r"wide.patch +3 pairs +-0.500 \(90% CI -0.\d+ to -0.\d+\) +worse", text)
    assert re.search(r"comment +5 pairs +\+0.09 \(99.67% CI -0.\d+ to 0.\d+\) +likely 11 more", text)
    assert "val loss, lower is better; a gain of 0.1 is worth having" in text


def test_what_is_likely_and_at_most_counts_open_candidates_alone() -> None:
    comparison = Comparison(asked("good", "open"))
    progress = comparison.pairs(arm0=BETTER, arm1=OPEN)
    good, other = progress.pairs
    assert (good.is_open, other.is_open) == (False, True)
    assert other.likely is not None and 5 < other.likely <= 24
    outlook = Outlook.of(progress, progress.at)
    assert outlook.most == 2 * 19, "the base and the open one"
    assert outlook.likely == 2 * (other.likely - 5)
    assert outlook.likely_s == pytest.approx(3 * outlook.likely, rel=0.2)
    decided = Comparison(asked("good"))
    assert Outlook.of(decided.pairs(arm0=BETTER), 0.0) == Outlook(0, None, None, None)


def test_the_likely_number_of_pairs_is_where_the_rule_decides_if_all_are_alike() -> None:
    question = rules.Question(0.1, 0.005, 24, 0.0, StoppingRule(harm=True))
    alike = [0.5, 0.1] * 12
    likely = rules.likely_pairs(alike[:8], question)
    assert likely is not None
    decides = [
        n for n in range(3, 25) if rules.decide(alike[:n], delta=0.1, rule=question.rule, planned=24, arms=1).final
    ]
    assert abs(likely - decides[0]) <= 2
    assert rules.likely_pairs([0.5], question) is None
    assert rules.likely_pairs([0.16, -0.12, 0.24, -0.05, 0.09], question) is None, "24 pairs are not enough"


def test_the_budget_says_what_is_left() -> None:
    now = time.monotonic()
    counted = Comparison(asked("lr"), Allowance(trials=40)).state
    assert list(counted.costs(now)) == ["4 of 40 trials", "12 s of training"]
    timed = Comparison(asked("lr"), Allowance(seconds=3600)).state
    assert list(timed.costs(timed.since))[-1] == "60 min of 60 min left"
    assert list(timed.costs(timed.since + 3600))[-1] == "the 60 min are over"


@pytest.mark.parametrize("width", [20, 45, 60, 80, 110, 160])
@pytest.mark.parametrize("height", [6, 12, 24])
def test_no_row_is_wider_and_no_picture_higher_than_the_terminal(width: int, height: int) -> None:
    labels = [f"深度可分离卷积 and a long name {number}" for number in range(9)]
    comparison = Comparison(asked(*labels, confirm=True))
    progress = comparison.pairs(
        **dict.fromkeys((candidate.name for candidate in comparison.state.question.candidates), OPEN)
    )
    rows = drawn(comparison, progress, width, height).splitlines()
    assert max(map(cell_len, rows)) <= width and len(rows) < height
    if width >= 45 and height >= 12:
        assert any(row.startswith("gain") for row in rows)
        assert any(re.search(r"\+\d more", row) for row in rows) == (height < 24)
        assert rows[-1].startswith("last"), "the last rows are not cut off"


def test_at_60_columns_pairs_gain_and_answer_are_whole() -> None:
    comparison = Comparison(asked("lr=0.2", "wide.patch"))
    text = drawn(comparison, comparison.pairs(arm0=BETTER, arm1=OPEN), 60, 12)
    assert re.search(r"lr=0.2 +5 pairs +\+0.499 +better", text)
    assert re.search(r"wide.patch +5 pairs +\+0.\d+ +likely \d+ more", text)


def test_plain_lines_say_the_phase_once_each_pair_and_a_failure() -> None:
    comparison = Comparison(asked("lr=0.2"), Allowance(trials=40))
    lines: list[str] = []
    view = PlainComparison(comparison.state, lines.append)
    view.phase(ComparisonPhase(RunKind.SEARCH, 4, 12.0, 15.0, 0.1))
    assert lines == [], "a phase in which nothing runs is not said"
    for index in range(4):
        for arm, loss in (("baseline", 2.0), ("arm0", 1.5 + index / 100)):
            trial = comparison.end(arm, index, loss)
            view.trials(comparison.watch.progress(), trial)
    assert lines[0] == "pairs: at most 24; val loss, lower is better; a gain of 0.1 is worth having"
    assert [line.partition(":")[0] for line in lines[1:]] == ["  pair 1", "  pair 2", "  pair 3", "  pair 4"]
    assert lines[1] == "  pair 1: gain +0.5; 6 of 40 trials, 18 s of training"
    assert re.fullmatch(r"  pair 4: gain .*, likely \d+ more; 12 of 40 trials, 36 s of training", lines[4])
    failed = comparison.end("arm0", 4, 1.5, outcome="failed", self_reported={}, message="no memory")
    view.trials(comparison.watch.progress(), failed)
    assert "arm0-s4 failed in 3.0 s  no memory" in lines[5]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as made:
        yield made


@pytest.mark.process
def test_live_a_comparison_pauses_goes_on_and_leaves_its_answer_alone_on_the_terminal(
    tmp_path: Path, terminal: Terminal
) -> None:
    with Gate(tmp_path) as gate:
        kit = make_lab(tmp_path, {}, config={"executor": {"name": "local", "options": {"slots": 1}}})
        (kit.root / "models" / "width.py").write_text(f"WIDTH = {gate.code()}")
        compare = ("compare", "--containment", "none", "--delta", "0.05")
        terminal.start(kit, *compare)
        # Read on the way: a terminal that nobody reads fills up. The row stays while the trial waits.
        terminal.until("candidate-s0  [0-9]")
        gate.reached()
        terminal.when(lambda rows: any("working tree  no pair yet" in row for row in rows))
        terminal.when(lambda rows: any(row.startswith("phase     ✓ warm-up ▸ pairs for") for row in rows))
        terminal.resize(60, 12)
        terminal.when(lambda rows: any(row.startswith("── Autolab · HEAD") and len(row) == 60 for row in rows))
        terminal.press(b"\x03")
        terminal.until("Ctrl-C .*pausing .*after the running trials")
        gate.open()
        assert terminal.ended() == 6
        assert terminal.as_found()
        assert terminal.screen()[-1] == "paused; the same command goes on from here"
        assert terminal.start(kit, *compare).ended() == 0
    assert terminal.as_found()
    assert any(row.startswith("better: val_loss ") for row in terminal.screen())
    assert not any("Autolab ·" in row for row in terminal.screen()), "nothing is left of the picture"
