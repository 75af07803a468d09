"""What a run may still cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autolab import conclusion


def event(n: int, event: str, run: str = "run_0001", reused: str | None = None) -> SimpleNamespace:
    data: dict[str, Any] = {"run_id": run}
    return SimpleNamespace(
        n=n, event=event, data=data | ({"trial": {"reused_from": reused}} if event == "trial" else {})
    )


def desk(acted: int, *events: SimpleNamespace) -> Any:
    return SimpleNamespace(acted=acted, events=lambda: list(events))


def test_trials_of_a_run_that_is_over_are_no_discount_on_the_next() -> None:
    first = [event(1, "trial"), event(2, "trial"), event(3, "run_ended")]
    assert conclusion._counted(desk(5, *first)) == 0
    assert conclusion._counted(desk(5, *first[:2])) == 2, "of a run under way they are paid"


def test_trials_since_the_last_act_are_not_paid_yet_unless_they_cost_nothing() -> None:
    events = [event(6, "trial"), event(7, "trial", reused="i0/run_0001/a-s0")]
    assert conclusion._counted(desk(5, *events)) == 1
    assert conclusion._executed(desk(5, *events)) == 1
    assert conclusion._executed(desk(6, *events)) == 0
