"""Switches that exclude each other: whatever is drawn or claimed, at most one of a choice is on."""

from __future__ import annotations

import numpy as np
import pytest

from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import NumericKnob, Point, SearchSpace
from autolab.ideas.tpe_searcher import TpeSearcher

CHOICES = (("gelu", "silu", "mish"), ("less", "more"))
SPACE = SearchSpace(
    knobs=(NumericKnob("lr", 0.01, 1e-4, 1.0),),
    switches=("gelu", "silu", "less", "more", "mish", "ema"),
    choices=CHOICES,
)
PLAIN = SearchSpace(knobs=SPACE.knobs, switches=SPACE.switches)
EFFECTS = {"gelu": 1.0, "silu": 3.0, "mish": 0.5, "less": -2.0, "more": -1.0, "ema": 2.0}


def score(point: Point) -> float:
    return sum(effect for name, effect in EFFECTS.items() if point[name])


def on(point: Point) -> set[str]:
    return {name for name in SPACE.switches if point[name]}


def is_allowed(point: Point) -> bool:
    return all(len(on(point) & set(choice)) <= 1 for choice in CHOICES)


@pytest.mark.parametrize("kind", ["surface", "tpe"])
def test_no_two_members_of_a_choice_are_on(kind: str) -> None:
    searcher = ResponseSurface(SPACE, 0.5, seed=1) if kind == "surface" else TpeSearcher(SPACE, seed=1)
    luck = np.random.default_rng(1)
    for _ in range(6):
        points = searcher.propose(6)
        assert all(map(is_allowed, points))
        searcher.observe(points, [score(point) + 0.5 * luck.standard_normal() for point in points])
    assert is_allowed(searcher.best())


def test_without_choices_some_draws_have_two() -> None:
    """Else the test above would show nothing."""
    assert not all(map(is_allowed, ResponseSurface(PLAIN, 0.5, seed=1).propose(12)))


@pytest.mark.parametrize("seed", range(4))
def test_the_best_member_is_claimed_and_none_where_all_harm(seed: int) -> None:
    searcher = ResponseSurface(SPACE, 0.5, seed)
    luck = np.random.default_rng(seed)
    for _ in range(10):
        points = searcher.propose(4)
        searcher.observe(points, [score(point) + 0.5 * luck.standard_normal() for point in points])
    assert on(searcher.best()) == {"silu", "ema"}


def test_a_choice_that_holds_one_wanted_member_changes_no_draw() -> None:
    """With the same seed the drawn effects are the same: only the smaller of two wanted members goes."""
    for free, bound in zip(
        ResponseSurface(PLAIN, 0.5, 3).propose(20), ResponseSurface(SPACE, 0.5, 3).propose(20), strict=True
    ):
        assert on(bound) <= on(free)
        assert free["lr"] == bound["lr"] and free["ema"] == bound["ema"]
        for choice in CHOICES:
            assert bool(on(bound) & set(choice)) == bool(on(free) & set(choice))


def test_choices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="b: a choice between what are no switches"):
        SearchSpace(switches=("a",), choices=(("a", "b"),))
    with pytest.raises(ValueError, match="belongs to two choices"):
        SearchSpace(switches=("a", "b", "c"), choices=(("a", "b"), ("b", "c")))
