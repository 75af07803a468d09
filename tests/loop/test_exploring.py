"""Which gear comes next, what is set aside, and how much a long exploration weighs: without a lab."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from autolab.lab.schemas.campaign import STEPS, Campaign, Champion, Exploration, Loop
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Calibration, Interval
from autolab.lab.schemas.outcomes import Fate, Gear
from autolab.loop import exploring
from autolab.loop.exploring import Ground, Situation, next_gear
from autolab.reports.screen_documents import ScreenedIdea

GROUND = Ground("base", "home", "protocol")
CALIBRATION = Calibration(
    protocol="protocol",
    commit="base",
    run_id="calibration_0001",
    at="2026-01-01T00:00:00Z",
    metric="loss",
    success_delta=0.1,
    seeds=5,
    mean=1.0,
    deviation=0.02,
    quantum=0.0,
    seconds=1.0,
    slowest_seconds=1.0,
    max_rss_bytes=1,
    deterministic=True,
    rerun_difference=0.0,
    seeds_differ=True,
    difference_deviation=0.02,
    pairs=4,
    max_pairs=24,
)


def config(**keys: Any) -> Config:
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    return Config.from_value({"metric": metric, "test": {"mode": "explore"}, **keys}, "config.yaml")


def situation(exploration: Exploration | None = None, trials: int = 0, **more: Any) -> Situation:
    keys = more.pop("config", {})
    campaign = Campaign(trials=trials, exploration=exploration, loop=more.pop("loop", None))
    given = Situation(config(**keys), campaign, GROUND, CALIBRATION, concludes=False, alpha=0.005, fewest=10)
    return replace(given, **more)


def exploration(**more: Any) -> Exploration:
    return Exploration(base="base", protocol="protocol", **more)


def idea(number: int, gain: float, fate: Fate = Fate.DROPPED, title: str = "an idea") -> ScreenedIdea:
    interval = Interval(n=1, mean=gain, low=None, high=None, level=0.95)
    arm = f"h{number}-{title[:20]}"
    return ScreenedIdea(arm, f"h{number}", title, None, {}, "c" * 40, interval, 1.0, 1, 1.0, fate, "", "")


def stepped(count: int = 1, **more: Any) -> Exploration:
    found = exploration(**more)
    for number in range(count):
        found = exploring.after_batch(found, f"batch{number}", f"h{number}-an idea", [idea(number, 0.05)], ())
    return found


# which gear


def test_a_loop_begins_with_a_batch_and_ends_with_a_claim_if_there_are_steps() -> None:
    assert next_gear(situation()).gear is Gear.SCREEN
    over = "2 of 2 iterations done"
    assert next_gear(situation(stepped(), ending=over)).gear is Gear.CLAIM
    ended = next_gear(situation(exploration(batches=2), ending=over))
    assert (ended.gear, ended.reason) == (None, over)


@pytest.mark.parametrize("moved", [Ground("other", "home", "protocol"), Ground("base", "home", "another")])
def test_another_commit_or_protocol_ends_the_stack(moved: Ground) -> None:
    here = replace(situation(stepped(), ending="over"), ground=moved)
    assert next_gear(here).gear is None
    assert "1 provisional step on base end unclaimed" in exploring.ended(here.campaign, moved)
    assert exploring.ended(here.campaign, GROUND) == ""


def test_a_claim_comes_after_so_many_batches_if_that_is_asked_for() -> None:
    every = {"config": {"screen": {"claim_every": 2}}}
    assert next_gear(situation(stepped(1), **every)).gear is Gear.SCREEN
    assert next_gear(situation(stepped(2), **every)).gear is Gear.CLAIM


def test_a_claim_comes_once_the_promise_is_larger_than_the_wanted_gain_by_an_error() -> None:
    gain = {"config": {"screen": {"claim_on_gain": True}}}
    assert next_gear(situation(stepped(2), **gain)).gear is Gear.SCREEN  # .10, and .12 is needed
    assert next_gear(situation(stepped(3), **gain)).gear is Gear.CLAIM
    assert next_gear(situation(stepped(3, failed_at=0.2), **gain)).gear is Gear.SCREEN, "the same promise failed"


def test_a_target_is_claimed_once_it_seems_reached_from_where_the_champion_stands() -> None:
    loop = Loop(max_iterations=9, goal="", first_iteration=0, target="loss <= 0.9")
    assert next_gear(situation(stepped(1), loop=loop)).gear is Gear.SCREEN
    assert next_gear(situation(stepped(3), loop=loop)).gear is Gear.CLAIM
    champion = Champion(
        iteration_id="i", run_id="r", commit="base", parent="p", protocol="protocol", gain=0.1, metrics={"loss": 0.94}
    )
    there = situation(stepped(1), loop=loop)
    moved = replace(there, campaign=there.campaign.model_copy(update={"champions": (champion,)}))
    assert next_gear(moved).gear is Gear.CLAIM


def test_a_claim_that_was_cut_short_goes_on_before_another_batch() -> None:
    assert next_gear(situation(stepped(claim_open=True))).gear is Gear.CLAIM


def test_the_reserve_is_left_and_a_batch_is_as_large_as_the_rest_allows() -> None:
    capped = {"budget": {"trials": 40}}
    begun = next_gear(situation(config=capped)).exploration
    assert begun is not None and begun.reserve == 12 and begun.size == 4
    # Four ideas and the base's own trial need five.
    sizes = [next_gear(situation(trials=spent, config=capped)).exploration for spent in (24, 25, 27)]
    assert [found.size for found in sizes if found is not None] == [4, 4, 2]


@pytest.mark.parametrize("spent", range(41))
def test_no_batch_ever_takes_what_a_claim_needs(spent: int) -> None:
    here = situation(stepped(reserve=12), trials=spent, config={"budget": {"trials": 40}})
    found = next_gear(here)
    left = 40 - spent
    if found.gear is Gear.SCREEN:
        assert found.exploration is not None and found.exploration.size <= left - 12
    elif found.gear is Gear.CLAIM:
        assert left >= 10
    else:
        assert left < 10 and "stay unclaimed" in found.reason and found.reason.startswith("budget")


def test_a_stricter_claim_is_given_more() -> None:
    found = next_gear(situation(stepped(reserve=10), fewest=12, config={"budget": {"trials": 40}})).exploration
    assert found is not None and found.reserve == 12


def test_a_search_that_concludes_does_so_once_before_its_claim() -> None:
    batches = exploring.after_batch(
        exploration(waits_for_conclusion=True), "batch1", None, [idea(1, 0.3), idea(2, 0.1)], ()
    )
    assert (batches.unclaimed, batches.predicted, batches.first) == (0, 0.3, ())
    conclusion = next_gear(situation(batches, concludes=True, ending="over"))
    assert conclusion.gear is Gear.SCREEN and conclusion.exploration is not None
    assert (conclusion.exploration.concluding, conclusion.exploration.size) == (True, 1)
    done = exploring.after_batch(conclusion.exploration, "batch2", "h3-an idea", [idea(3, 0.25)], ())
    assert (done.unclaimed, done.predicted, done.concluded) == (1, 0.25, True)
    assert next_gear(situation(done, concludes=True, ending="over")).gear is Gear.CLAIM


# after a claim


def test_a_failed_claim_makes_its_steps_the_first_ideas() -> None:
    before = stepped(2, first=())
    after = exploring.after_failed_claim(before)
    assert (after.working, after.unclaimed, after.predicted) == ("base", 0, 0.0)
    assert [carried.iteration_id for carried in after.first] == ["batch0", "batch1"]
    assert after.failed_at == pytest.approx(0.1)


# a long exploration

LONG = "a title that says at some length what it is that the idea changes, and then again, and why " * 3


def weight(found: Exploration) -> int:
    return len(json.dumps(Campaign(exploration=found).value()))


def test_a_thousand_steps_weigh_no_more_than_fifty() -> None:
    found, weights = exploration(), []
    for number in range(1, 1001):
        ideas = [idea(4 * number + place, 0.01, title=LONG) for place in range(4)]
        arms = [one.arm for one in ideas]
        found = exploring.after_batch(found, f"2026-01-01T00-00-00Z_batch{number}", arms[0], ideas, arms[1:])
        weights.append(weight(found))
    assert found.unclaimed == 1000 and found.predicted == pytest.approx(10)
    assert len(found.steps) == len(found.first) == STEPS
    print(f"\nbytes of a campaign: {weights[9]} at step 10, {weights[-1]} at step 1,000")
    # Numbers alone grow: 64 became 1,000.
    assert weights[-1] < 1.02 * weights[63]
    failed = exploring.after_failed_claim(found)
    assert len(failed.first) == STEPS and failed.failed_at == pytest.approx(10)
