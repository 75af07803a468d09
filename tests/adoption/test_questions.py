"""Questions of an adoption: what a user, --yes and a script answer; the proposed delta; refusals in one list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from autolab.adoption.questions import (
    Choice,
    UserQuestion,
    data_question,
    delta_question,
    direction_question,
    program_question,
    refuse,
    take_likely,
)
from autolab.adoption.refusals import Refusals
from autolab.adoption.smallest_difference import proposed_delta
from autolab.cli import adoption_terminal
from autolab.errors import AutolabError, LabError, UsageError
from autolab.trials.readings import Series

METRIC = UserQuestion(
    flag="--metric",
    text="Which number decides?",
    choices=(Choice("val loss", "5 values, last 3.5"), Choice("acc", "5 values, last 0.1")),
    refusal="--metric: name the number that decides",
    is_likely=True,
    may_type="the name of another number",
    complaint=lambda name: "" if name == "goodness" else f"it printed no {name}",
    listed=("  --metric acc",),
)


@pytest.fixture
def told() -> list[str]:
    return []


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """What the user types, a line a prompt; the prompts are in the list that comes back. Then Ctrl-D."""
    prompts: list[str] = []
    rest: Iterator[str] = iter(lines)

    def read(prompt: str) -> str:
        prompts.append(prompt)
        for line in rest:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", read)
    return prompts


@pytest.mark.parametrize(
    ("line", "answer"),
    [("", "val loss"), ("2", "acc"), ("acc", "acc"), (" val loss ", "val loss"), ("goodness", "goodness")],
)
def test_enter_a_number_a_value_and_another_text_are_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, answer: str
) -> None:
    (prompt,) = [typed(monkeypatch, line)]
    assert adoption_terminal.ask(METRIC) == answer
    shown = capsys.readouterr().out
    assert "  1. val loss  5 values, last 3.5\n  2. acc       5 values, last 0.1\n" in shown
    assert prompt == ["--metric (1-2, the name of another number, Enter for the first): "]


def test_what_is_no_answer_is_said_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "3", "0", "bleu", "1")
    assert adoption_terminal.ask(METRIC) == "val loss"
    said = capsys.readouterr().out
    assert "  3 is not one of 1-2\n  0 is not one of 1-2\n  it printed no bleu\n" in said
    typed(monkeypatch, "", "up", "maximize")
    assert adoption_terminal.ask(direction_question("goodness")) == "maximize"
    said = capsys.readouterr().out
    assert "none of them is likely: choose one by its number\n  up is not one of minimize, maximize\n" in said
    typed(monkeypatch, "-1", "nan", "much", "0.5")
    assert adoption_terminal.ask(delta_question("loss", "0.02", "about 1% of 2.1, its last value")) == "0.5"
    said = capsys.readouterr().out
    assert (
        "-1 is not a positive number\n" in said and "nan is not a positive" in said and "much is not a number" in said
    )


def test_the_only_choice_of_a_number_is_no_number_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "1")
    assert adoption_terminal.ask(delta_question("loss", "20", "about 1%")) == "1", "the delta 1, not the first choice"


def test_ctrl_d_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        adoption_terminal.ask(METRIC)


def test_a_script_is_refused_with_the_flag_and_with_yes_gets_what_is_likely(told: list[str]) -> None:
    with pytest.raises(UsageError, match="--metric: name the number"):
        refuse(told.append)(METRIC)
    assert told.pop() == "  --metric acc"
    assert take_likely(told.append)(METRIC) == "val loss"
    assert told.pop() == '  --metric "val loss": taken as the likely answer (--yes)'
    for ask in (refuse(told.append), take_likely(told.append)):
        with pytest.raises(UsageError, match="goodness does not say which way is good; give minimize or maximize"):
            ask(direction_question("goodness"))
        with pytest.raises(UsageError, match=r"such as 'python main\.py'"):
            ask(program_question([], str))
    assert told == []
    with pytest.raises(UsageError, match="--metric"):
        take_likely(told.append)(replace(METRIC, is_likely=False))


def test_without_a_likely_data_folder_a_script_gets_none(told: list[str]) -> None:
    assert refuse(told.append)(data_question(["data", "out"], is_likely=True)) == "none"
    assert take_likely(told.append)(data_question(["data", "out"], is_likely=True)) == "data"
    assert take_likely(told.append)(data_question(["out", "runs"], is_likely=False)) == "none"


@pytest.mark.parametrize(
    ("last", "decimals", "delta", "reason"),
    [
        (3.8940, 4, 0.05, "about 1% of 3.8940"),
        (1.2, 4, 0.01, "about 1% of 1.2000"),
        (0.98, 2, 0.01, "about 1% of 0.98"),
        (98.31, 2, 1.0, "about 1% of 98.31"),
        (2.0, 0, 1.0, "the last digit that is printed of 2"),
        (0.0312, 4, 0.0002, "about 1% of 0.0312"),
        (0.0012, 4, 0.0001, "the last digit that is printed of 0.0012"),
        (-150.0, 3, 2.0, "about 1% of -150.000"),
        (23_456.0, 0, 200.0, "about 1% of 23456"),
        (9.9e-7, 9, 1e-8, "about 1% of 0.000000990"),
    ],
)
def test_the_proposed_delta_is_a_round_hundredth_and_not_below_what_is_printed(
    last: float, decimals: int, delta: float, reason: str
) -> None:
    proposal = proposed_delta(Series("x", 3, 9.0, last, decimals, True))
    assert proposal is not None and proposal[0] == delta and reason in proposal[1]


@pytest.mark.parametrize("last", [0.0, math.nan])
def test_a_value_that_says_nothing_proposes_no_delta(last: float) -> None:
    assert proposed_delta(Series("x", 3, 9.0, last, 3, True)) is None


def settled(refusals: Refusals, told: list[str]) -> AutolabError:
    with pytest.raises(AutolabError) as caught:
        refusals.settle(told.append)
    return caught.value


def test_one_refusal_is_itself_and_several_are_a_list(told: list[str]) -> None:
    refusals = Refusals()
    refusals.settle(told.append)
    with refusals.collect(before_run=False):
        raise UsageError("--metric: unclear")
    assert str(settled(refusals, told)) == "--metric: unclear" and told == []
    assert not refusals.keeps_from_running
    with refusals.collect():
        raise UsageError("--delta: -1")
    with refusals.collect():
        raise UsageError("--delta: -1")
    error = settled(refusals, told)
    assert isinstance(error, UsageError) and str(error) == "2 things are missing, see above; nothing was written"
    assert told == ["  missing: --metric: unclear", "  missing: --delta: -1"]
    assert refusals.keeps_from_running
    refusals.add(LabError("train.py: changed"))
    assert isinstance(settled(refusals, told), LabError)


def test_what_keeps_a_run_from_its_end_is_listed_with_the_rest(told: list[str]) -> None:
    refusals = Refusals()
    refusals.add_problems(["no module x: install it"])
    assert "one thing is missing, see above; --probe-seconds 0 leaves this try out" in str(settled(refusals, told))
    refusals.add(UsageError("--metric: unclear"), before_run=False)
    error = settled(refusals, told)
    assert isinstance(error, LabError) and "2 things are missing, see above" in str(error)
    assert told[-2:] == ["  missing: no module x: install it", "  missing: --metric: unclear"]
