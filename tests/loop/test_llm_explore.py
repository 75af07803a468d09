"""Mode `explore` with a language model, through the command line: batches of ideas, a claim, budgets, replay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lab_kit import Kept, LabKit, hypothesis, implementation, review
from model_kit import model_flags, model_lab, reply
from standin import StandIn

pytestmark = [pytest.mark.process, pytest.mark.slow]

CONFIG = {
    "test": {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8},
    "screen": {"arms": 2},
}


def ideas(*proposed: tuple[str, float | str]) -> list[dict[str, Any]]:
    """The replies of a model that proposes these (title, width) and writes their code, which its review passes."""
    told = [reply("hypothesis", hypothesis(title)["output"]) for title, _ in proposed]
    told += [reply("implementation", implementation(width)["output"]) for _, width in proposed]
    return told + [reply("implementation_review", review()["output"]) for _ in proposed]


def prompts(server: StandIn, stage: str) -> list[str]:
    """What a model was asked of a stage."""
    told = [one.text for one in server.requests]
    return [text for text in told if re.search(f"(?m)^stage: {stage}$", text)]


def campaign(kit: LabKit) -> dict[str, Any]:
    found: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return found


def names(kit: LabKit) -> list[str]:
    return [folder.name.partition("_")[2] for folder in kit.iterations()]


def outcomes(kit: LabKit) -> dict[str, tuple[str | None, str]]:
    found = [line["data"]["lesson"] for line in kit.events("learned")]
    return {one["title"]: (one["outcome"], one["reason"]) for one in found}


NO_JSON = [reply("hypothesis", text="I would rather talk.", times=4)]
STORY = [
    *ideas(("steeper", 3.0)),
    *NO_JSON,
    *ideas(("steepest", 4.0), ("a bit steeper", 3.9)),
]
"""A batch whose second idea never becomes an answer, and one of two ideas."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, list[str]]:
    """A campaign of two batches and a claim; with the hypothesis prompts that the model got."""
    kit = model_lab(tmp_path_factory.mktemp("story"), config=CONFIG)
    with StandIn(STORY) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "2")
        assert ended.code == 0, ended.out + ended.err
        return Kept(kit), prompts(server, "hypothesis")


def test_two_batches_of_a_model_end_in_a_claim(story: tuple[Kept, list[str]]) -> None:
    kit = story[0].kit
    assert names(kit) == ["batch1", "batch2", "claim1"]
    assert outcomes(kit)["steeper"][0] == outcomes(kit)["steepest"][0] == "provisional"
    (confirmed,) = kit.events("confirmed")
    assert confirmed["data"]["confirmation"]["outcome"] == "kept"


def test_an_idea_that_never_becomes_an_answer_leaves_the_batch_to_the_others(story: tuple[Kept, list[str]]) -> None:
    first, second, _ = story[0].kit.iterations()
    assert [path.parent.name for path in first.glob("arms/*/hypothesis.md")] == ["h1-steeper"]
    assert len(list(second.glob("arms/*/hypothesis.md"))) == 2
    assert campaign(story[0].kit)["ideas_screened"] == 3


def test_a_model_is_told_of_its_batch_and_of_what_the_base_holds(story: tuple[Kept, list[str]]) -> None:
    first, *refused, third, fourth = story[1]
    assert len(refused) == 4, "twice at once, and twice more"
    assert "This idea is number 1 of a batch of 2." in first and "The base holds" not in first
    assert (
        "number 2 of a batch of 2" in refused[0] and "Already in the batch, so give another:\n- steeper" in refused[0]
    )
    assert "number 1 of a batch of 2" in third
    assert "The base holds 1 unclaimed step, each by a single measurement, the newest last: steeper." in third
    assert "1. steeper [no family]" in third and "provisional (screened)" in third
    assert "give another:\n- steepest" in fourth
    # A prompt does not grow with the batches.
    assert len(fourth) < 1.1 * len(first)


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_a_batch_of_a_model_is_replayed_without_a_service(story: tuple[Kept, list[str]], number: str) -> None:
    replayed = story[0].kit.autolab("replay", number)
    assert replayed.code == 0, replayed.out + replayed.err
    assert "nothing sent" in replayed.out and "the same decisions" in replayed.out


def test_a_budget_that_ends_in_a_batch_leaves_enough_for_what_stands(tmp_path: Path) -> None:
    """Nothing is paid after the second batch's first idea: it has no code, and the step before it is claimed."""
    told = [*ideas(("steeper", 3.0), ("flat", 1.0)), *ideas(("steepest", 4.0), ("wide", 3.9))]
    told = [one | {"usage": {"input": 9000, "output": 3000}} for one in told]
    kit = model_lab(tmp_path, config=CONFIG | {"budget": {"tokens": 100_000}})
    with StandIn(told) as server:
        ended = kit.autolab("loop", *model_flags(server), "--max-iterations", "5")
        assert len(server.requests) == 7
    assert ended.code == 4, ended.out + ended.err
    # After a kept claim the next batch finds that it cannot ask, and the loop is over.
    assert names(kit) == ["batch1", "batch2", "claim1", "batch3"]
    assert outcomes(kit)["steeper"] == ("provisional", "screened")
    assert outcomes(kit)["steepest"] == ("dropped", "failed")
    assert "budget: tokens: 84,000 used" in ended.out
    (confirmed,) = kit.events("confirmed")
    assert confirmed["data"]["confirmation"]["outcome"] == "kept"
    assert campaign(kit)["tokens"] == 84_000


def test_killed_in_a_batch_the_same_command_asks_nothing_twice(tmp_path: Path) -> None:
    kit = model_lab(tmp_path, config=CONFIG)
    with StandIn(ideas(("steeper", 3.0), ("flat", 1.0))) as server:
        words = ("loop", *model_flags(server), "--max-iterations", "1")
        killed = kit.autolab(*words, AUTOLAB_FAULT="call.after_reply")
        assert killed.code == -9, killed.out + killed.err
        ended = kit.autolab(*words)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == 6
    assert names(kit) == ["batch1", "claim1"]
