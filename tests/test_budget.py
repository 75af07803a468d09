"""Caps over the life of a lab are reached at their number, neither before nor after."""

from __future__ import annotations

import pytest

from autolab import budget
from autolab.engine import refuse_unbuilt
from autolab.errors import RecordError
from autolab.records.lab import Budget, Campaign, Config


@pytest.mark.parametrize(
    ("caps", "done", "phrase"),
    [
        ({"iterations": None}, {"iterations": 10**6, "trials": 10**6, "seconds": 1e9}, ""),
        ({"iterations": 3}, {"iterations": 2}, ""),
        ({"iterations": 3}, {"iterations": 3}, "iterations: 3 of 3"),
        ({"iterations": 0}, {}, "iterations: 0 of 0"),
        ({"trials": 6}, {"trials": 5}, ""),
        ({"trials": 6}, {"trials": 6}, "trials: 6 done, 1 wanted, 6 allowed"),
        ({"wall_hours": 0.5}, {"seconds": 1799.0}, ""),
        ({"wall_hours": 0.5}, {"seconds": 1800.0}, "wall_hours: 0.50 of 0.5"),
    ],
)
def test_a_cap_is_reached_before_another_iteration(caps: dict[str, float], done: dict[str, float], phrase: str) -> None:
    assert budget.spent(Budget(**caps), Campaign(**done)) == phrase  # type: ignore[arg-type]


@pytest.mark.parametrize(("wanted", "enough"), [(0, True), (4, True), (5, False)])
def test_a_run_that_wants_more_trials_than_are_left_is_not_begun(wanted: int, enough: bool) -> None:
    said = budget.spent_within(Budget(trials=10), Campaign(trials=6), wanted)
    assert said == ("" if enough else "trials: 6 done, 5 wanted, 10 allowed")


def test_an_iteration_that_has_begun_is_not_held_against_the_cap_of_iterations() -> None:
    assert budget.spent_within(Budget(iterations=1), Campaign(iterations=1)) == ""


@pytest.mark.parametrize("key", budget.UNCOUNTED)
def test_a_cap_that_nothing_counts_is_refused(key: str) -> None:
    config = Config.from_text("metric: {primary: a, direction: minimize, success_delta: 1}\n", "config.yaml")
    capped = config.model_copy(update={"budget": Budget(**{key: 1})})  # type: ignore[arg-type]
    with pytest.raises(RecordError, match=rf"config\.yaml: budget\.{key}: nothing counts it"):
        refuse_unbuilt(capped)
