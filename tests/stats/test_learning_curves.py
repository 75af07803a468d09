"""Curves say early who is behind only where the lab's own finished ones were ranked as their ends."""

from __future__ import annotations

import random

import pytest
from scipy.stats import spearmanr

from autolab.stats.learning_curves import FinishedCurve, behind, rank_correlation, telling_step


def curves(*ends: float, told_from: int, length: int = 6) -> list[FinishedCurve]:
    """Before the step `told_from` in the reverse order of their ends, from there on in their order."""
    found = []
    for end in ends:
        values = {float(step): end if step >= told_from else -end for step in range(1, length + 1)}
        found.append(FinishedCurve(values, end))
    return found


@pytest.mark.parametrize(("told_from", "step"), [(1, 1.0), (3, 3.0), (5, 5.0), (6, None)])
def test_the_first_step_that_ranks_trainings_as_their_ends_is_found(told_from: int, step: float | None) -> None:
    assert telling_step(curves(*range(8), told_from=told_from)) == step, "at the last step nothing is saved"


def test_seven_curves_say_nothing() -> None:
    assert telling_step(curves(*range(7), told_from=1)) is None


def test_equal_ends_have_no_order() -> None:
    assert telling_step(curves(*[1.0] * 9, told_from=1)) is None


def test_only_steps_that_all_curves_have_are_looked_at() -> None:
    known = curves(*range(8), told_from=1)
    fewer = {step: value for step, value in known[3].values.items() if step > 2}
    known[3] = FinishedCurve(fewer, known[3].end)
    assert telling_step(known) == 3.0


def test_curves_of_another_length_are_refused() -> None:
    mixed = curves(*range(8), told_from=1) + curves(9.0, told_from=1, length=7)
    with pytest.raises(ValueError, match="not comparable"):
        telling_step(mixed)


@pytest.mark.parametrize(
    # By the differences d of the ranks of ten: 1 - sum(d^2) / 165.
    ("values", "tells"), [((3, 2, 1, 0, 4, 5, 6, 9, 8, 7), True), ((4, 3, 2, 1, 0, 5, 6, 7, 8, 9), False)],
)  # fmt: skip
def test_a_correlation_of_eight_tenths_is_enough(values: tuple[int, ...], tells: bool) -> None:
    known = [FinishedCurve({1.0: value, 2.0: end}, end) for end, value in enumerate(values)]
    assert telling_step(known) == (1.0 if tells else None)


@pytest.mark.parametrize("seed", range(20))
def test_the_rank_correlation_is_spearmans(seed: int) -> None:
    chance = random.Random(seed)
    first = [float(chance.randint(0, 6)) for _ in range(12)]
    second = [chance.gauss(value, 3) for value in first]
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_who_is_below_the_baseline_is_behind() -> None:
    assert behind({"a": 0.4, "b": 0.5, "c": 0.6}, 0.5) == ["a"]
