"""Caps over the life of a lab are reached at their number, neither before nor after."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolab.errors import BudgetSpent, RecordError
from autolab.lab import budget
from autolab.lab.ledger import Ledger
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget, Config
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.loop.calls import CallBudget, MeteredCalls, RequestId
from autolab.loop.clock import LoopClock
from autolab.loop.deadline import Deadline
from autolab.loop.preflight import refuse_unbuilt
from autolab.loop.waits import Waits
from autolab.researchers.base import Booked, Received, Sent


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


def test_gpu_hours_are_refused_where_nothing_says_how_many_gpus_a_training_uses() -> None:
    text = "metric: {primary: a, direction: minimize, success_delta: 1}\nbudget: {gpu_hours: 1}\n"
    with pytest.raises(RecordError, match=r"config\.yaml: budget\.gpu_hours: train\.gpus is 0"):
        refuse_unbuilt(Config.from_text(text, "config.yaml"))
    refuse_unbuilt(Config.from_text(text + "train: {command: ./train, gpus: 2}\n", "config.yaml"))


@pytest.mark.parametrize(
    ("caps", "taken", "next_call", "phrase"),
    [
        ({}, (10**9, 10.0**6), (10**9, 10.0**6), ""),
        ({"tokens": 100}, (60, 0.0), (40, 0.0), ""),
        ({"tokens": 100}, (60, 0.0), (41, 0.0), "tokens: 60 used, up to 41 wanted by the next call, 100 allowed"),
        ({"tokens": 100}, (120, 0.0), (1, 0.0), "tokens: 120 used, up to 1 wanted by the next call, 100 allowed"),
        ({"dollars": 1.0}, (0, 0.5), (0, 0.5), ""),
        ({"dollars": 1.0}, (0, 0.5), (0, 0.6), "dollars: 0.5000 used, up to 0.6000 wanted by the next call, 1 allowed"),
        ({"dollars": 1.0}, (0, 1.0), (0, 0.0), "dollars: 1.0000 used, up to 0.0000 wanted by the next call, 1 allowed"),
        (
            {"dollars": 1.0},
            (0, 1.0),
            (0, None),
            "dollars: 1.0000 used, up to 0.0000 wanted by the next call, 1 allowed",
        ),
    ],
)
def test_a_call_is_allowed_only_where_all_that_it_may_take_is_left(
    caps: dict[str, float], taken: tuple[int, float], next_call: tuple[int, float | None], phrase: str
) -> None:
    assert budget.spent_by_calls(Budget(**caps), *taken, *next_call) == phrase  # type: ignore[arg-type]


class Service:
    """A service that counts what is sent to it, for the calls of one ask."""

    def __init__(self, folder: Path, **caps: float) -> None:
        self.folder, self.caps, self.sent = folder, Budget(**caps), 0  # type: ignore[arg-type]
        self.ledger = Ledger(folder)
        self.ledger.create("lab", folder)

    def engine(self) -> MeteredCalls:
        """What an engine that has just begun knows of these calls."""
        budget = CallBudget(self.caps, Campaign(), 0, lambda: list(self.ledger.lines()))
        request = RequestId("an iteration", Stage.DESIGN, RequestKind.DESIGN, 1)
        calls = self.folder / "calls"
        clock = LoopClock()
        place = (request.stage, request.kind, request.number)
        deadline = Deadline.of_step(None, 0.0, clock)
        waits = Waits(self.ledger, place, deadline, clock, lambda line: None, lambda: False)
        return MeteredCalls(self.ledger, calls, request, budget, lambda line: None, waits)

    def transmit(self) -> Received:
        self.sent += 1
        return Received(200, {}, f"reply {self.sent}".encode(), 0.1)


CALL = Sent("a model", "https://model.example", b"{}", 1_000, 0.5)


def test_a_call_on_record_is_answered_from_there_and_one_whose_reply_was_lost_is_booked(tmp_path: Path) -> None:
    service = Service(tmp_path)
    assert service.engine().send(CALL, service.transmit).body == b"reply 1"
    paid = service.engine()
    assert paid.send(CALL, service.transmit).body == b"reply 1" and service.sent == 1
    paid.book(Booked("ok", "", 10, 20, 0.25))

    def dies() -> Received:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paid.send(CALL, dies)
    again = service.engine()
    assert [again.send(CALL, service.transmit).body for _ in range(2)] == [b"reply 1", b"reply 2"]
    booked = [line.data for line in service.ledger.lines() if line.event == "call"]
    assert [(call["reason"], call["dollars"]) for call in booked] == [("ok", 0.25), ("lost", 0.5)]


def test_a_call_that_could_pass_a_cap_is_not_sent(tmp_path: Path) -> None:
    service = Service(tmp_path, dollars=0.6)
    paid = service.engine()
    paid.send(CALL, service.transmit)
    paid.book(Booked("ok", "", 10, 20, 0.2))
    with pytest.raises(BudgetSpent, match=r"dollars: 0\.2000 used, up to 0\.5000 wanted by the next call"):
        paid.send(CALL, service.transmit)
    assert service.sent == 1
    assert [line.event for line in service.ledger.lines()] == ["call_sent", "call"], "what is not sent is not announced"


@pytest.mark.parametrize(
    ("hours", "spent_s", "gpus", "seconds", "left"),
    [(1.0, 0.0, 1, 600.0, 6), (1.0, 3000.0, 1, 600.0, 1), (1.0, 3001.0, 1, 600.0, 0), (1.0, 0.0, 4, 600.0, 1),
     (1.0, 9999.0, 1, 600.0, 0), (None, 0.0, 1, 600.0, None), (1.0, 0.0, 0, 600.0, None), (1.0, 0.0, 1, None, None)],
)  # fmt: skip
def test_gpu_hours_pay_for_so_many_trials(
    hours: float | None, spent_s: float, gpus: int, seconds: float | None, left: int | None
) -> None:
    campaign = Campaign(gpu_seconds=spent_s)
    assert budget.trials_left(Budget(gpu_hours=hours), campaign, gpus, seconds) == left


@pytest.mark.parametrize(
    ("caps", "left"),
    [
        (Budget(), None),
        (Budget(dollars=1.0, tokens=10), None),
        (Budget(trials=10), 3),
        (Budget(trials=7), 0),
        (Budget(trials=5), 0),
        (Budget(wall_hours=2.0), 5),
        (Budget(wall_hours=2.0, trials=10), 3),
        (Budget(wall_hours=1.2, trials=10), 0),
        (Budget(gpu_hours=1.0, wall_hours=2.0, trials=100), 4),
    ],
)
def test_the_cap_that_binds_says_how_many_trials_are_left(caps: Budget, left: int | None) -> None:
    campaign = Campaign(trials=7, seconds=4000.0, gpu_seconds=1000.0)
    assert budget.trials_left(caps, campaign, gpus=1, seconds=600.0) == left


def test_hours_buy_no_known_number_of_trials_before_a_trial_was_timed() -> None:
    caps = Budget(trials=10, wall_hours=1.0, gpu_hours=1.0)
    assert budget.trials_left(caps, Campaign(trials=7, seconds=3600.0), gpus=1, seconds=None) == 3


def test_what_is_four_fifths_spent_is_named_and_nothing_else() -> None:
    caps = Budget(iterations=10, trials=100, wall_hours=1.0, gpu_hours=2.0, tokens=1000, dollars=2.0)
    spent = Campaign(iterations=8, trials=79, seconds=2880.0, gpu_seconds=100.0, tokens=999, dollars=1.6)
    assert [name for name, _ in budget.near(caps, spent)] == ["iterations", "wall_hours", "tokens", "dollars"]
    assert dict(budget.near(caps, spent))["dollars"] == "dollars 80% spent (1.6 of 2)"
