"""What a response surface is told beforehand of its switches, and what it expects of points."""

from __future__ import annotations

import pytest

from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import NumericKnob, SearchSpace

SPACE = SearchSpace(
    knobs=(NumericKnob("lr", 0.01, 1e-4, 1.0),), switches=tuple(f"idea{number}" for number in range(10))
)


def share_on(guess: float) -> float:
    """Of the switches, how many a first draw turns on."""
    guesses = dict.fromkeys(SPACE.switches, guess)
    points = ResponseSurface(SPACE, 1.0, seed=0, guesses=guesses).propose(40)[1:]
    return sum(bool(point[name]) for point in points for name in SPACE.switches) / (len(points) * len(SPACE.switches))


def test_a_guess_decides_how_often_a_switch_is_tried_first() -> None:
    # The share of a normal distribution around the guess that lies above 0; no more than six of ten are on.
    assert share_on(0.0) == pytest.approx(0.45, abs=0.05)
    assert share_on(-1.0) == pytest.approx(0.16, abs=0.05)
    assert share_on(1.0) == pytest.approx(0.84, abs=0.05)


def test_what_is_measured_overrules_a_guess() -> None:
    searcher = ResponseSurface(SPACE, 0.1, seed=0, guesses={"idea0": -1.0, "idea1": 2.0})
    searcher.observe([SPACE.base] * 4, [0.0] * 4)
    searcher.observe([SPACE.base | {"idea0": True}, SPACE.base | {"idea1": True}] * 4, [1.0, -1.0] * 4)
    best = searcher.best()
    assert best["idea0"] is True and best["idea1"] is False
