"""The policy on ideas: nothing twice on one base, and another family on a plateau."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab_kit import LabKit, hypothesis, implementation, iteration, make_lab, script
from lesson_kit import lesson

from autolab.ideas import policy
from autolab.lab.schemas.campaign import Campaign, Loop
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Hypothesis, Lesson

CONFIG = "metric: {primary: a, direction: minimize, success_delta: 1}\n"
BASE = "0123456789abcdef"


def claim(title: str = "Another", **more: Any) -> Hypothesis:
    value = {"id": "h9", "title": title, "metric": "m", "direction": "minimize", "success_delta": 1.0, "success": "s"}
    return Hypothesis.from_value(value | {"risk_bounds": [], "mechanism": "m"} | more, "hypothesis.md")


# Nothing twice


@pytest.mark.parametrize("title", ["GELU in place of ReLU", "gelu in place of relu!", "  GELU_in-place  of ReLU."])
def test_an_idea_is_known_by_its_title_without_case_and_signs(title: str) -> None:
    known = [lesson(5), lesson(3, -1, title="GELU in place of ReLU")]
    assert policy.repeated(claim(title), known, BASE, 1) == (
        "tried already in iteration 3 (refuted): GELU in place of ReLU; give another idea"
    )


def test_an_idea_is_known_by_its_changes_where_it_has_any() -> None:
    known = [lesson(3, None, changes={"model_config": {"layers": [1]}}), lesson(2)]
    assert "iteration 3 (failed)" in policy.repeated(claim(changes={"model_config": {"layers": [1]}}), known, BASE, 1)
    assert policy.repeated(claim(changes={"model_config": {"layers": [2]}}), known, BASE, 1) == ""
    assert policy.repeated(claim(), known, BASE, 1) == "", "no changes are not the same as no changes"


def test_on_another_base_an_idea_is_new() -> None:
    assert policy.repeated(claim("Idea 1"), [lesson(1)], "fedcba", 1) == ""


def test_an_idea_may_be_tried_as_often_as_the_lab_says_and_refinements_are_one_try() -> None:
    twice = [lesson(2, title="Same", hypothesis_id="h1"), lesson(1, title="Same", hypothesis_id="h1")]
    assert policy.repeated(claim("Same"), twice, BASE, 2) == ""
    assert policy.repeated(claim("Same"), [lesson(3, title="Same"), *twice], BASE, 2) != ""


@given(st.text(alphabet="!?. -_", max_size=5), st.text(alphabet="!?. -_", max_size=5))
def test_titles_without_a_word_are_never_the_same(one: str, other: str) -> None:
    assert policy.repeated(claim(one), [lesson(1, title=other)], BASE, 1) == ""


# On a plateau


def waiting(since: int, rethink: int = 3, known: list[Lesson] | None = None) -> tuple[Lesson, ...]:
    config = Config.from_text(CONFIG + f"attempts: {{rethink: {rethink}}}\n", "config.yaml")
    campaign = Campaign(loop=Loop(max_iterations=9, goal="", first_iteration=0, since_gain=since))
    names = ("width", "activation+norm", "width", "optimiser")
    return policy.tired(known or [lesson(9 - n, family=name) for n, name in enumerate(names)], campaign, config)


def test_the_families_of_the_last_iterations_wait_from_the_plateau_on() -> None:
    assert waiting(2) == () and policy.plateau(()) == "no plateau: any family will do"
    assert policy.worn_family(claim(), ()) == ""
    assert policy.avoided(waiting(3)) == policy.avoided(waiting(7)) == {"width", "activation", "norm"}
    assert policy.tired([lesson(1)], Campaign(), Config.from_text(CONFIG, "c.yaml")) == (), "outside of a loop"
    said = policy.plateau(waiting(3))
    assert "The last 3 iterations brought no gain" in said and "none of activation, norm, width." in said


def test_0_is_never() -> None:
    assert waiting(50, rethink=0) == ()


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("width", "rethink: width brought no gain of late; choose another family than activation, norm, width"),
        ("Norm", "rethink: Norm brought no gain of late; choose another family than activation, norm, width"),
        ("loss+norm", "rethink: norm brought no gain of late; choose another family than activation, norm, width"),
        (None, "rethink: no gain in 3 iterations: name the family of the mechanism; not activation, norm, width"),
        ("", "rethink: no gain in 3 iterations: name the family of the mechanism; not activation, norm, width"),
        ("loss", ""),
        ("optimiser", ""),
    ],
)
def test_on_a_plateau_a_family_has_to_be_named_and_another_one(family: str | None, said: str) -> None:
    assert policy.worn_family(claim(family=family), waiting(4)) == said


def test_whatever_a_researcher_called_its_ideas_a_refusal_is_one_short_line() -> None:
    wild = "x\n# ROLE\n" * 500
    known = [lesson(n, title=wild, family=f"{n} {wild}+other{n}") for n in range(40)]
    tired = waiting(99, rethink=40, known=known)
    for said in (
        policy.repeated(claim(wild), known, BASE, 1),
        policy.worn_family(claim(family=f"3 {wild}"), tired),
        policy.worn_family(claim(), tired),
        policy.plateau(tired),
    ):
        assert said and "\n" not in said and len(said) < 1_400


# Through the command line


def idea(title: str, family: str | None = None, width: float = 2.0, **more: Any) -> dict[str, Any]:
    """Answers of one iteration; a width of 2 is the base's own, so nothing is gained."""
    return iteration(hypothesis=hypothesis(title, family=family, **more), implementation=implementation(width))


def refused(kit: LabKit) -> list[str]:
    return [e["data"]["reason"] for e in kit.events("transition") if e["data"].get("outcome") == "retry"]


@pytest.mark.process
def test_the_loop_refuses_an_idea_that_was_tried_on_this_base(tmp_path: Any) -> None:
    again = [hypothesis("A COMMENT"), hypothesis("Another", changes={"a": 1}), hypothesis("New")]
    told = script(idea("A comment", changes={"a": 1}), idea("x") | {"hypothesis": again})
    kit = make_lab(tmp_path, told, config={"attempts": {"rethink": 0}})
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    tail = "tried already in iteration 1 (inconclusive): A comment; give another idea"
    assert refused(kit) == [f"hypothesis: {tail}"] * 2
    titles = [event["data"]["lesson"]["title"] for event in kit.events("learned")]
    assert titles == ["A comment", "New"]
    asked = kit.store / "requests" / kit.iterations()[1].name
    assert "A comment" in (asked / "hypothesis-1" / "prompt.md").read_text(), "the history"
    assert tail in (asked / "hypothesis-2" / "prompt.md").read_text(), "the trouble"


@pytest.mark.process
def test_the_loop_changes_the_family_on_a_plateau(tmp_path: Any) -> None:
    answers = [hypothesis("C", family="width"), hypothesis("D"), hypothesis("E", family="depth")]
    told = script(idea("A", "width"), idea("B", "norm"), idea("x") | {"hypothesis": answers}, idea("F", "width"))
    kit = make_lab(tmp_path, told, config={"attempts": {"rethink": 2}})
    ended = kit.autolab("loop", "--max-iterations", "4")
    assert ended.code == 0, ended.out + ended.err
    assert refused(kit) == [
        "hypothesis: rethink: width brought no gain of late; choose another family than norm, width",
        "hypothesis: rethink: no gain in 2 iterations: name the family of the mechanism; not norm, width",
    ]
    learned = [event["data"]["lesson"] for event in kit.events("learned")]
    assert [one["family"] for one in learned] == ["width", "norm", "depth", "width"], "width may come back"
    asked = [kit.store / "requests" / folder.name / "hypothesis-1" / "prompt.md" for folder in kit.iterations()]
    shown = ["The last 2 iterations brought no gain" in path.read_text() for path in asked]
    assert shown == [False, False, True, True]
    assert json.loads((kit.iterations()[3] / "record.json").read_text())["iteration"] == 4
