"""The options of `autolab compare`: what a budget is, and what no comparison can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_kit import LabKit

from autolab.cli.command_line import main
from autolab.cli.comparisons import QuestionFlags
from autolab.compare.paired_runs import Allowance
from autolab.errors import UsageError


@pytest.mark.parametrize(
    ("budget", "allowance"),
    [
        (None, Allowance()),
        ("40 trials", Allowance(trials=40)),
        ("1 trial", Allowance(trials=1)),
        ("90s", Allowance(seconds=90)),
        ("30min", Allowance(seconds=1800)),
        (" 1.5 h ", Allowance(seconds=5400)),
        ("2d", Allowance(seconds=172_800)),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_trials(budget: str | None, allowance: Allowance) -> None:
    assert QuestionFlags(budget=budget).allowance() == allowance


@pytest.mark.parametrize(
    ("budget", "way_out"),
    [
        ("40", '"40 trials", 40min or 40h'),
        ("0h", '2h, 30min or "40 trials"'),
        ("0 trials", '2h, 30min or "40 trials"'),
        ("2.5 trials", '2h, 30min or "40 trials"'),
        ("-2h", '2h, 30min or "40 trials"'),
        ("soon", '2h, 30min or "40 trials"'),
    ],
)
def test_a_budget_without_a_unit_or_of_nothing_names_those_there_are(budget: str, way_out: str) -> None:
    with pytest.raises(UsageError, match="--budget: ") as refused:
        QuestionFlags(budget=budget).allowance()
    assert str(refused.value).endswith(f"give {way_out}")


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--pairs", "2"), "--pairs: 2 pairs decide nothing; give at least 3"),
        (("--alpha", "0"), "--alpha: 0 is no error rate"),
        (("--alpha", "nan"), "--alpha: nan is no error rate"),
        (("--delta", "0"), "--delta: 0 is no least difference"),
        (("--delta", "nan"), "--delta: nan is no least difference"),
        (("--json", "--markdown"), "--json or --markdown, not both"),
        (("--dir", "nowhere"), "--dir: nowhere is no folder"),
        (("--patch", "a", "--patch", "b"), "--patch: a cannot be read"),
        (("--set", "lr=1", "--set", "lr=2"), "--set: lr is given twice; all settings together make one candidate"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_2(
    comparable: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(comparable)
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.fixture
def comparable(tmp_path: Path) -> Path:
    """A repository whose training is known already, so that nothing is tried."""
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    kit.git("init", "-q")
    kit.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "base")
    folder = tmp_path / ".git" / "autolab" / "compare"
    folder.mkdir(parents=True)
    config = 'goal: g\nmetric: {primary: loss, direction: minimize, success_delta: 1.0}\ntrain: {command: "true"}\n'
    (folder / "config.yaml").write_text(config)
    return tmp_path
