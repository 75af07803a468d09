"""What a run may still cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop import launch


def event(
    n: int, event: str, run: str = "run_0001", reused: str | None = None, kind: str = "search"
) -> SimpleNamespace:
    data: dict[str, Any] = {"run_id": run}
    more = {"trial": {"trial": {"reused_from": reused, "seconds": 2.0}}, "run_started": {"kind": kind}}
    return SimpleNamespace(n=n, event=event, data=data | more.get(event, {}))


def iteration_of(acted: int, *events: SimpleNamespace, trials: int = 0, budget: int | None = 100) -> Any:
    campaign = Campaign(trials=trials)
    config = SimpleNamespace(budget=Budget(trials=budget), train=SimpleNamespace(gpus=0))
    return SimpleNamespace(
        acted=acted, events=lambda: list(events), campaign=campaign, config=config, calibration=lambda: None
    )


def left(kind: RunKind, acted: int, *events: SimpleNamespace, trials: int = 0) -> int | None:
    return launch._trials_left(iteration_of(acted, *events, trials=trials), kind)


BEGUN = event(1, "run_started")


def test_without_a_cap_there_is_no_end() -> None:
    assert launch._trials_left(iteration_of(0, budget=None), RunKind.SEARCH) is None


def test_what_a_run_may_take_is_the_same_at_each_look_at_it() -> None:
    """A plan is made anew after a crash, and has to be the one that was begun."""
    assert left(RunKind.SEARCH, 0, trials=4) == 96
    fresh = [BEGUN, event(2, "trial"), event(3, "trial", reused="i0/run_0001/a-s0")]
    assert left(RunKind.SEARCH, 0, *fresh, trials=4) == 96, "killed: the campaign does not count its trial yet"
    assert left(RunKind.SEARCH, 5, *fresh, trials=5) == 96, "tried again: now it does"


def test_trials_of_a_run_that_is_over_are_spent() -> None:
    over = [BEGUN, event(2, "trial"), event(3, "run_ended")]
    assert left(RunKind.SEARCH, 5, *over, trials=5) == 95


def test_a_confirmation_has_what_the_search_of_the_same_launch_leaves() -> None:
    search = [BEGUN, event(6, "trial"), event(7, "trial"), event(8, "trial", reused="i0/run_0001/a-s0")]
    assert left(RunKind.CONFIRM, 5, *search, event(9, "run_ended"), trials=4) == 94
    again = [event(10, "run_started", "run_0002", kind="confirm"), event(11, "trial", "run_0002")]
    assert left(RunKind.CONFIRM, 5, *search, event(9, "run_ended"), *again, trials=4) == 94


def test_trials_of_a_calibration_are_counted_by_the_calibration_alone() -> None:
    events = [event(6, "trial", "calibration_0001"), event(7, "trial")]
    assert launch._counts(iteration_of(5, *events)) == {"trials": 1, "gpu_seconds": 0.0}
    assert left(RunKind.CONFIRM, 5, *events, trials=4) == 95
