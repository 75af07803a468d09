"""The loop as a table: every state has exactly one next state, and none is a dead end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from autolab.lab.schemas.campaign import State
from autolab.lab.schemas.outcomes import Stage
from autolab.loop.stages import TABLE, StageAction, StageOutcome, advance, resume, waits

ATTEMPTS, BOUNCES = 2, 2

# The loop as it was agreed on: where a stage leads, and what it may be sent back to.
WAYS = {
    "hypothesis": ("ask", {"complete": "design", "set_aside": "hypothesis"}),
    "design": ("ask", {"complete": "implementation"}),
    "implementation": ("ask", {"complete": "implementation_review", "set_aside": "hypothesis"}),
    "implementation_review": ("ask", {"complete": "launch", "send_back": "implementation", "set_aside": "hypothesis"}),
    "launch": ("measure", {"complete": "extract_results", "send_back": "implementation", "set_aside": "hypothesis"}),
    "extract_results": ("extract", {"complete": "update_docs"}),
    "update_docs": ("ask", {"complete": "decide_repeat"}),
    "decide_repeat": ("decide", {"refine": "design", "new_hypothesis": "hypothesis", "stop": "stop"}),
}
IN_THE_TABLE = ("complete", "send_back")
EVERYWHERE = {"retry", "stop", "suspend", "escalate"}


def state(stage: Stage = Stage.HYPOTHESIS, **more: object) -> State:
    value = {"iteration_id": "i1", "max_stage_attempts": ATTEMPTS, "max_bounces": BOUNCES, "stage": stage}
    return State.from_value(value | more, "state.json")


def states() -> Iterator[State]:
    """Every state that a campaign can be in, its words left out."""
    places = itertools.product(Stage, range(1, ATTEMPTS + 1), range(BOUNCES + 1), (None, *Stage))
    for stage, attempt, bounces, origin in places:
        if waits(stage) or origin is None:
            yield state(stage, stage_attempt=attempt, bounces=bounces, from_stage=origin)


def test_the_table_is_the_designs() -> None:
    assert {
        stage: (spec.action, {name: to for name in IN_THE_TABLE if (to := getattr(spec, name))})
        for stage, spec in TABLE.items()
    } == {
        stage: (action, {name: to for name, to in ways.items() if name in IN_THE_TABLE})
        for stage, (action, ways) in WAYS.items()
    }


@pytest.mark.parametrize("stage", list(TABLE))
def test_a_stage_leads_where_the_design_says_and_nowhere_else(stage: Stage) -> None:
    ways = WAYS[stage][1]
    for outcome in StageOutcome:
        if outcome in ways:
            assert advance(state(stage), outcome, "why").stage == ways[outcome]
        elif outcome not in EVERYWHERE:
            with pytest.raises(ValueError, match=f"no way from {stage} by {outcome}"):
                advance(state(stage), outcome, "why")


@pytest.mark.parametrize("now", list(states()), ids=lambda s: f"{s.stage}-{s.stage_attempt}-{s.bounces}-{s.from_stage}")
def test_every_state_has_one_next_state_or_waits(now: State) -> None:
    if waits(now.stage):
        with pytest.raises(ValueError, match="waits for"):
            advance(now, StageOutcome.COMPLETE)
        return
    for outcome in {*WAYS[now.stage][1], *EVERYWHERE}:
        after = advance(now, StageOutcome(outcome), "because")
        assert after == advance(now, StageOutcome(outcome), "because")
        assert 1 <= after.stage_attempt <= ATTEMPTS
        assert 0 <= after.bounces <= BOUNCES
        moved = (after.stage, after.iteration_id) != (now.stage, now.iteration_id)
        assert moved or after.stage_attempt == now.stage_attempt + 1, "a step changes something"
        if waits(after.stage):
            assert after.reason, "who waits says for what"


def test_every_stage_is_reached_from_the_first_and_leads_to_the_end() -> None:
    edges = {stage: {advance(state(stage), StageOutcome(o), "r").stage for o in WAYS[stage][1]} for stage in TABLE}
    for stage in TABLE:
        assert Stage.STOP in _reached(stage, edges)
        assert stage in _reached(Stage.HYPOTHESIS, edges)


def _reached(start: Stage, edges: dict[Stage, set[Stage]]) -> set[Stage]:
    found, fresh = {start}, {start}
    while fresh:
        fresh = {to for stage in fresh for to in edges.get(stage, set())} - found
        found |= fresh
    return found


def test_there_are_four_actions_and_each_is_used() -> None:
    assert {spec.action for spec in TABLE.values()} == set(StageAction)


# Limits


@pytest.mark.parametrize("stage", list(TABLE))
def test_attempts_used_up_lead_to_a_user(stage: Stage) -> None:
    now = state(stage)
    for attempt in range(2, ATTEMPTS + 1):
        now = advance(now, StageOutcome.RETRY, "once more")
        assert (now.stage, now.stage_attempt, now.reason) == (stage, attempt, "once more")
    now = advance(now, StageOutcome.RETRY, "still broken")
    assert (now.stage, now.from_stage) == (Stage.HUMAN_REVIEW, stage)
    assert now.reason == f"{ATTEMPTS} attempts used up: still broken"


@pytest.mark.parametrize("stage", [Stage.IMPLEMENTATION_REVIEW, Stage.LAUNCH])
def test_bounces_used_up_lead_to_a_user(stage: Stage) -> None:
    now = state(stage)
    for bounce in range(1, BOUNCES + 1):
        now = advance(now, StageOutcome.SEND_BACK, "fix it")
        assert (now.stage, now.bounces, now.stage_attempt) == (Stage.IMPLEMENTATION, bounce, 1)
        now = now.model_copy(update={"stage": stage})
    now = advance(now, StageOutcome.SEND_BACK, "fix it")
    assert (now.stage, now.from_stage) == (Stage.HUMAN_REVIEW, stage)
    assert now.reason == f"sent back {BOUNCES} times: fix it"


def test_a_completed_stage_forgets_its_attempts_and_its_reason_but_not_the_bounces() -> None:
    now = advance(state(Stage.IMPLEMENTATION, stage_attempt=2, bounces=1, reason="r"), StageOutcome.COMPLETE)
    assert (now.stage_attempt, now.reason, now.bounces) == (1, "", 1)


@pytest.mark.parametrize("outcome", [StageOutcome.REFINE, StageOutcome.NEW_HYPOTHESIS, StageOutcome.STOP])
def test_a_decision_ends_the_iteration(outcome: StageOutcome) -> None:
    old = state(Stage.DECIDE_REPEAT, bounces=2, last_run_id="run_0002", sync_status="ok")
    now = advance(old, outcome, "achieve: it holds")
    assert (now.iteration_id, now.last_run_id, now.sync_status, now.bounces) == (None, None, "na", 0)
    assert now.reason == ("achieve: it holds" if outcome is StageOutcome.STOP else "")


@pytest.mark.parametrize("stage", [stage for stage in TABLE if stage is not Stage.DECIDE_REPEAT])
def test_a_stop_elsewhere_keeps_the_iteration_and_where_it_was(stage: Stage) -> None:
    now = advance(state(stage), StageOutcome.STOP, "budget: trials")
    assert (now.stage, now.iteration_id, now.from_stage) == (Stage.STOP, "i1", stage)
    back = resume(now, "retry")
    assert (back.stage, back.iteration_id, back.from_stage) == (stage, "i1", None)


@pytest.mark.parametrize("stage", list(TABLE))
def test_a_suspended_stage_is_still_to_be_done_the_decision_too(stage: Stage) -> None:
    now = advance(state(stage), StageOutcome.SUSPEND, "budget: tokens")
    assert (now.stage, now.iteration_id, now.from_stage, now.reason) == (Stage.STOP, "i1", stage, "budget: tokens")
    back = resume(now, "retry")
    assert (back.stage, back.iteration_id, back.from_stage) == (stage, "i1", None)


# A user's answer


@pytest.mark.parametrize("stage", list(TABLE))
def test_human_review_is_reached_from_everywhere_and_left_by_each_answer(stage: Stage) -> None:
    waiting = advance(state(stage, bounces=1), StageOutcome.ESCALATE, "unclear")
    assert (waiting.stage, waiting.from_stage, waiting.reason) == (Stage.HUMAN_REVIEW, stage, "unclear")
    again = resume(waiting, "retry")
    assert (again.stage, again.stage_attempt, again.bounces, again.from_stage) == (stage, 1, 0, None)
    stopped = resume(waiting, "stop")
    assert (stopped.stage, stopped.from_stage) == (Stage.STOP, stage)
    assert resume(stopped, "retry").stage is stage, "a stopped lab goes on where it was"
    if stage is Stage.IMPLEMENTATION_REVIEW:
        assert resume(waiting, "approve").stage is Stage.LAUNCH
    else:
        with pytest.raises(ValueError, match=f"no review to approve: the lab came here from {stage}"):
            resume(waiting, "approve")


@pytest.mark.parametrize("stage", list(TABLE))
def test_a_lab_that_does_not_wait_can_only_be_stopped(stage: Stage) -> None:
    for answer in ("approve", "retry"):
        with pytest.raises(ValueError, match=f"nothing waits for .*: the lab is at {stage}"):
            resume(state(stage), answer)
    assert resume(state(stage), "stop").stage is Stage.STOP


def test_a_lab_that_ended_by_decision_begins_with_a_hypothesis() -> None:
    ended = advance(state(Stage.DECIDE_REPEAT), StageOutcome.STOP, "stop: enough")
    assert (resume(ended, "retry").stage, resume(ended, "retry").iteration_id) == (Stage.HYPOTHESIS, None)


@pytest.mark.parametrize("now", [s for s in states() if waits(s.stage)], ids=lambda s: f"{s.stage}-{s.from_stage}")
def test_a_waiting_state_is_always_leavable(now: State) -> None:
    assert not waits(resume(now, "retry").stage)
