"""The holdout passes a gain that is there beyond its error over rows and seeds, and no other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.stats import holdout
from autolab.stats.holdout import PAIRS, PARTS, passes

SPLIT = 0.37
"""By how many deviations of a trial a change is off through the split of digits alone: the median of 15 changes."""


@dataclass(frozen=True)
class World:
    """Gains in deviations of a trial: a true effect, what the split adds, and what each seed and row adds to that.

    `interaction` is the part of the rows' deviation that differs from model to model.
    """

    effect: float
    split: float = SPLIT
    correlation: float = 0.0
    interaction: float = 0.3

    def test(self, draw: np.random.Generator, pairs: int, parts: int = PARTS) -> holdout.HoldoutTest:
        of_row = self.split * math.sqrt(parts)
        seeds = draw.normal(size=(pairs, 1)) * math.sqrt(2 * (1 - self.correlation))
        rows = draw.normal(size=(1, parts)) * of_row
        gains = self.effect + seeds + rows + draw.normal(size=(pairs, parts)) * of_row * self.interaction
        return passes(list(gains.mean(axis=1)), [list(row) for row in gains[:PAIRS]])


def share(world: World, pairs: int, times: int = 1500, parts: int = PARTS) -> float:
    draw = np.random.default_rng(7)
    return sum(world.test(draw, pairs, parts).passed for _ in range(times)) / times


@pytest.mark.parametrize(("pairs", "most"), [(3, 0.045), (8, 0.03), (20, 0.025)])
@pytest.mark.parametrize("split", [0.05, SPLIT, 0.8])
@pytest.mark.parametrize("parts", [4, PARTS])
def test_a_gain_of_nothing_passes_one_time_in_forty(pairs: int, most: float, split: float, parts: int) -> None:
    """1,500 draws: three standard errors of the share are 1.2%. Three seeds know their variance too badly for 2.5%."""
    assert share(World(0.0, split), pairs, parts=parts) <= most + 0.012


def test_a_mean_of_at_least_nothing_is_a_coin_and_seeds_alone_are_not_enough() -> None:
    """What stood here before: half of all nulls pass, and many more than 2.5% if the rows do not count."""
    draw = np.random.default_rng(7)
    nulls = [World(0.0, 0.8, 0.8).test(draw, 8) for _ in range(1000)]
    assert 0.4 < sum(one.mean >= 0 for one in nulls) / 1000 < 0.6
    without = [passes([one.mean + step * 0.2 for step in (-1, 0, 1)], []) for one in nulls]
    assert sum(one.passed for one in without) / 1000 > 0.15
    assert sum(one.passed for one in nulls) / 1000 <= 0.037


@pytest.mark.parametrize(
    ("effect", "correlation", "pairs", "least"),
    [
        (2.0, 0.0, 8, 0.84),  # .89 if the variances were known
        (2.0, 0.0, 12, 0.93),
        (2.0, 0.8, 6, 0.97),
        (3.0, 0.0, 8, 0.985),  # .998
        (3.0, 0.8, 5, 0.998),
    ],
)
def test_a_gain_of_two_and_of_three_trial_deviations_passes(
    effect: float, correlation: float, pairs: int, least: float
) -> None:
    """12 pairs without correlation, 6 with .8, are what a confirmation of that effect takes on average."""
    assert share(World(effect, correlation=correlation), pairs) >= least


def test_the_error_is_that_of_the_two_crossed_means() -> None:
    found = passes([1.0, 2.0, 3.0], [[1.0, 3.0, 2.0, 2.0]] * 3)
    assert found.mean == 2.0 and found.replicates == "rows and seeds"
    assert found.error == pytest.approx(math.sqrt(1 / 3 + (2 / 3) / 4))


def test_equal_gains_of_all_seeds_leave_the_rows() -> None:
    """A training that gives the same output for every seed."""
    rows = [0.1, 0.2, 0.15, 0.12, 0.18]
    found = passes([0.15, 0.15], [rows, rows])
    assert (found.passed, found.replicates) == (True, "rows")
    assert not passes([0.15, 0.15], [[2.0, -2.0, 0.15, 1.0, -0.4]] * 2).passed


def test_rows_that_cannot_be_told_apart_leave_the_seeds_and_without_both_nothing_passes() -> None:
    assert passes([0.2, 0.21, 0.19], []).replicates == "seeds"
    assert passes([0.2, 0.21, 0.19], []).passed
    found = passes([0.2, 0.2], [])
    assert (found.passed, found.replicates, found.error) == (False, "nothing", math.inf)


@given(
    st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=8),
    st.lists(st.lists(st.floats(-1e100, 1e100), min_size=4, max_size=4), max_size=3),
)
def test_any_numbers_get_an_answer_and_no_better_ones_than_their_mean(
    gains: list[float], parts: list[list[float]]
) -> None:
    found = passes(gains, parts)
    assert not math.isnan(found.z) and found.error > 0
    assert not (found.passed and found.mean <= 0)
    assert passes([-gain for gain in gains], parts).z == pytest.approx(-found.z)


def test_unequal_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="same parts"):
        passes([1.0], [[1.0, 2.0], [1.0]])


@pytest.mark.parametrize(("rows", "parts"), [(0, 0), (19, 0), (20, 4), (60, 12), (99, 19), (100, 20), (5000, 20)])
def test_few_rows_are_cut_into_fewer_parts(rows: int, parts: int) -> None:
    assert holdout.parts_of(rows) == parts
