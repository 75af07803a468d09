"""The searcher that models the score: what it finds where the truth is known, and that it can be made anew."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import NumericKnob, Point, SearchSpace

KNOBS = SearchSpace(knobs=(NumericKnob("lr", 0.01, 1e-5, 10.0), NumericKnob("width", 32, 4, 512, integer=True)))
SWITCHES = SearchSpace(switches=tuple(f"idea{number}" for number in range(12)))


def knob_score(point: Point) -> float:
    """Best at a step size of 0.08 and a width of 64."""
    lr, width = math.log2(float(point["lr"]) / 0.08), math.log2(float(point["width"]) / 64)
    return -(lr**2) - width**2


def switch_score(point: Point) -> float:
    """Two ideas help by 2, three harm by 2, the others do nothing."""
    effects = {"idea0": 2.0, "idea5": 2.0, "idea1": -2.0, "idea2": -2.0, "idea7": -2.0}
    return sum(effect for name, effect in effects.items() if point[name])


def searched(space: SearchSpace, score: object, batches: int, seed: int = 0) -> ResponseSurface:
    """A search whose trials deviate by 0.5."""
    assert callable(score)
    luck = np.random.default_rng(seed)
    searcher = ResponseSurface(space, deviation=0.5, seed=seed)
    for _ in range(batches):
        points = searcher.propose(4)
        searcher.observe(points, [score(point) + 0.5 * luck.standard_normal() for point in points])
    return searcher


@pytest.mark.parametrize("seed", range(5))
def test_knobs_end_near_their_best_values(seed: int) -> None:
    best = searched(KNOBS, knob_score, 8, seed).best()
    assert knob_score(best) > -0.5
    assert knob_score(KNOBS.base) < -9


@pytest.mark.parametrize("seed", range(5))
def test_ideas_that_help_are_told_from_those_that_harm(seed: int) -> None:
    best = searched(SWITCHES, switch_score, 8, seed).best()
    assert switch_score(best) == 4


def test_the_base_is_the_first_point_and_what_is_claimed_where_nothing_helps() -> None:
    searcher = ResponseSurface(SWITCHES, deviation=1.0, seed=3)
    assert searcher.best() == SWITCHES.base
    assert searcher.propose(4)[0] == SWITCHES.base
    harmful = searched(SWITCHES, lambda point: -3.0 * sum(map(bool, point.values())), 6)
    assert harmful.best() == SWITCHES.base


def test_a_search_that_is_made_anew_from_its_record_goes_on_as_before() -> None:
    first = ResponseSurface(KNOBS, deviation=0.5, seed=1)
    record = []
    for _ in range(3):
        points = first.propose(4)
        scores = [knob_score(point) for point in points]
        first.observe(points, scores)
        record.append((points, scores))
    again = ResponseSurface(KNOBS, deviation=0.5, seed=1)
    for points, scores in record:
        assert again.propose(4) == points
        again.observe(points, scores)
    assert again.propose(4) == first.propose(4)
    assert again.best() == first.best()


def test_what_fails_is_left() -> None:
    """Every training with a step size above 0.05 fails."""
    searcher = ResponseSurface(KNOBS, deviation=0.5, seed=0)
    for _ in range(8):
        points = searcher.propose(4)
        scores = [None if float(point["lr"]) > 0.05 else knob_score(point) for point in points]
        searcher.observe(points, scores)
    assert float(searcher.best()["lr"]) <= 0.08
    failed = ResponseSurface(KNOBS, deviation=0.5, seed=0)
    failed.observe(failed.propose(4), [None] * 4)
    assert len(failed.propose(2)) == 2


def test_values_stay_within_their_bounds_and_near_what_was_measured() -> None:
    searcher = searched(KNOBS, lambda point: float(point["lr"]) + float(point["width"]), 12)
    for point in searcher.propose(50):
        assert 1e-5 <= float(point["lr"]) <= 10
        assert 4 <= float(point["width"]) <= 512 and float(point["width"]).is_integer()
    fresh = ResponseSurface(KNOBS, deviation=0.5, seed=0)
    for point in fresh.propose(50):
        # One step, a factor of two, from the base, which is all that is known.
        assert 0.005 <= float(point["lr"]) <= 0.02


def test_a_space_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="is not between"):
        NumericKnob("lr", 1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="no logarithm"):
        NumericKnob("decay", 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="no step"):
        NumericKnob("decay", 0.0, 0.0, 1.0, log=False, step=0)
    with pytest.raises(ValueError, match="have one name"):
        SearchSpace(switches=("a", "a"))
    with pytest.raises(ValueError, match="no model"):
        ResponseSurface(KNOBS, deviation=0.0, seed=0)
