"""What a run may still cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autolab.lab.ledger import FIRST, Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.events import Event, RunEnded, RunStarted, TrialEnded
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.loop import launch


def line(n: int, event: Event) -> Line:
    return Line(n, "2026-01-01T00:00:00Z", event.KIND, event.value(), FIRST, FIRST)


def started(n: int, run: str = "run_0001", kind: RunKind = RunKind.SEARCH) -> Line:
    return line(
        n, RunStarted(run_id=run, kind=kind, seeds=(1,), protocol="p", design_sha256=None, rule=None, cells=None)
    )


def trial(n: int, run: str = "run_0001", reused: str | None = None) -> Line:
    """A trial of two seconds that ended."""
    ended = Trial(
        trial="a-s0",
        arm="a",
        index=0,
        seed=1,
        attempt=1,
        commit="c",
        key="k",
        content="h",
        outcome=TrialOutcome.COMPLETED,
        seconds=2.0,
        message="",
        reused_from=reused,
    )
    return line(n, TrialEnded(run_id=run, trial=ended))


def ended(n: int, run: str = "run_0001") -> Line:
    return line(n, RunEnded(run_id=run, status="completed", verdict=None, reason="", manifest_sha256="s"))


def iteration_of(acted: int, *lines: Line, trials: int = 0, budget: int | None = 100) -> Any:
    campaign = Campaign(trials=trials)
    config = SimpleNamespace(budget=Budget(trials=budget), train=SimpleNamespace(gpus=0))
    return SimpleNamespace(
        acted=acted, events=lambda: list(lines), campaign=campaign, config=config, calibration=lambda: None
    )


def left(kind: RunKind, acted: int, *lines: Line, trials: int = 0) -> int | None:
    return launch.trials_left_for(iteration_of(acted, *lines, trials=trials), kind)


BEGUN = started(1)


def test_without_a_cap_there_is_no_end() -> None:
    assert launch.trials_left_for(iteration_of(0, budget=None), RunKind.SEARCH) is None


def test_what_a_run_may_take_is_the_same_at_each_look_at_it() -> None:
    """A plan is made anew after a crash, and has to be the one that was begun."""
    assert left(RunKind.SEARCH, 0, trials=4) == 96
    fresh = [BEGUN, trial(2), trial(3, reused="i0/run_0001/a-s0")]
    assert left(RunKind.SEARCH, 0, *fresh, trials=4) == 96, "killed: the campaign does not count its trial yet"
    assert left(RunKind.SEARCH, 5, *fresh, trials=5) == 96, "tried again: now it does"


def test_trials_of_a_run_that_is_over_are_spent() -> None:
    over = [BEGUN, trial(2), ended(3)]
    assert left(RunKind.SEARCH, 5, *over, trials=5) == 95


def test_a_confirmation_has_what_the_search_of_the_same_launch_leaves() -> None:
    search = [BEGUN, trial(6), trial(7), trial(8, reused="i0/run_0001/a-s0")]
    assert left(RunKind.CONFIRM, 5, *search, ended(9), trials=4) == 94
    again = [started(10, "run_0002", RunKind.CONFIRM), trial(11, "run_0002")]
    assert left(RunKind.CONFIRM, 5, *search, ended(9), *again, trials=4) == 94


def test_trials_of_a_calibration_are_counted_by_the_calibration_alone() -> None:
    lines = [trial(6, "calibration_0001"), trial(7)]
    assert launch._counts(iteration_of(5, *lines)) == {"trials": 1, "trials_for": {"tests": 1}, "gpu_seconds": 0.0}
    assert left(RunKind.CONFIRM, 5, *lines, trials=4) == 95
