"""The loop as data: a table of stages and a pure function from state and outcome to the next state.

    hypothesis -> design -> implementation -> implementation_review -> launch
        -> extract_results -> update_docs -> decide_repeat -> (hypothesis | design | stop)

Nothing here reads a file or a clock, so every path through the loop can be tried in a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autolab.lab.schemas.campaign import State
from autolab.lab.schemas.outcomes import Stage


class StageAction(StrEnum):
    """What is done in a stage: nothing but these four."""

    ASK = "ask"
    MEASURE = "measure"
    EXTRACT = "extract"
    DECIDE = "decide"


class StageOutcome(StrEnum):
    """What came of one attempt at a stage."""

    COMPLETE = "complete"
    RETRY = "retry"
    SEND_BACK = "send_back"
    ESCALATE = "escalate"
    REFINE = "refine"
    NEW_HYPOTHESIS = "new_hypothesis"
    STOP = "stop"
    SUSPEND = "suspend"
    """A budget is spent: the lab stops where it is, and the stage is still to be done."""
    SET_ASIDE = "set_aside"
    """The iteration is over without a decision: a proposal or a claim failed a gate, or a batch has no idea."""


@dataclass(frozen=True)
class StageSpec:
    """What is done in a stage, and the stages that follow if it completes or sends back."""

    action: StageAction
    complete: Stage | None
    send_back: Stage | None = None


TABLE: dict[Stage, StageSpec] = {
    Stage.HYPOTHESIS: StageSpec(StageAction.ASK, Stage.DESIGN),
    Stage.DESIGN: StageSpec(StageAction.ASK, Stage.IMPLEMENTATION),
    Stage.IMPLEMENTATION: StageSpec(StageAction.ASK, Stage.IMPLEMENTATION_REVIEW),
    Stage.IMPLEMENTATION_REVIEW: StageSpec(StageAction.ASK, Stage.LAUNCH, Stage.IMPLEMENTATION),
    Stage.LAUNCH: StageSpec(StageAction.MEASURE, Stage.EXTRACT_RESULTS, Stage.IMPLEMENTATION),
    Stage.EXTRACT_RESULTS: StageSpec(StageAction.EXTRACT, Stage.UPDATE_DOCS),
    Stage.UPDATE_DOCS: StageSpec(StageAction.ASK, Stage.DECIDE_REPEAT),
    Stage.DECIDE_REPEAT: StageSpec(StageAction.DECIDE, None),
}
"""The stages in which something is done. At HUMAN_REVIEW and STOP the lab waits."""

_MAY_BE_SET_ASIDE = (Stage.HYPOTHESIS, Stage.IMPLEMENTATION, Stage.IMPLEMENTATION_REVIEW, Stage.LAUNCH)
_DECIDED = {
    StageOutcome.REFINE: Stage.DESIGN,
    StageOutcome.NEW_HYPOTHESIS: Stage.HYPOTHESIS,
    StageOutcome.STOP: Stage.STOP,
}


def waits(stage: Stage) -> bool:
    """Whether the lab waits for a user at this stage."""
    return stage not in TABLE


def advance(state: State, outcome: StageOutcome, reason: str = "") -> State:
    """The state after `outcome` at `state.stage`. ValueError: the table has no such way.

    A retry counts an attempt and a way back counts a bounce; past their limits the lab waits for a user. The reason of
    a failure stays in the state until a stage completes, so that `status` shows it. An iteration ends by a decision, or
    because it is set aside; one that is stopped elsewhere goes on where it was.
    """
    spec = TABLE.get(state.stage)
    if spec is None:
        raise ValueError(f"stage {state.stage} waits for a user")
    decides = spec.action is StageAction.DECIDE
    # A stop in the middle keeps the iteration's id, so that `review retry` goes on with it.
    if outcome is StageOutcome.SUSPEND or (outcome is StageOutcome.STOP and not decides):
        return _enter(state, Stage.STOP, reason)
    if outcome is StageOutcome.ESCALATE:
        return _enter(state, Stage.HUMAN_REVIEW, reason)
    if outcome is StageOutcome.RETRY:
        if state.stage_attempt >= state.max_stage_attempts:
            return _enter(state, Stage.HUMAN_REVIEW, f"{state.stage_attempt} attempts used up: {reason}")
        # The reason stays: the next prompt quotes it.
        return state.model_copy(update={"stage_attempt": state.stage_attempt + 1, "reason": reason})
    if outcome is StageOutcome.SEND_BACK and spec.send_back is not None:
        if state.bounces >= state.max_bounces:
            return _enter(state, Stage.HUMAN_REVIEW, f"sent back {state.bounces} times: {reason}")
        return _enter(state, spec.send_back, reason).model_copy(update={"bounces": state.bounces + 1})
    if outcome is StageOutcome.COMPLETE and spec.complete is not None:
        return _enter(state, spec.complete, "")
    if decides and outcome in _DECIDED:
        # Only a stop is something that `status` has to explain.
        if outcome is not StageOutcome.STOP:
            reason = ""
        return _end(state, _DECIDED[outcome], reason)
    if outcome is StageOutcome.SET_ASIDE and state.stage in _MAY_BE_SET_ASIDE:
        return _end(state, Stage.HYPOTHESIS, "")
    raise ValueError(f"no way from {state.stage} by {outcome}")


def resume(state: State, answer: str) -> State:
    """The state after a user's `review approve|retry|stop`. ValueError: the answer does not fit the stage."""
    if answer == "stop":
        return _enter(state, Stage.STOP, "stopped by a user")
    if not waits(state.stage):
        raise ValueError(f"nothing waits for a user: the lab is at {state.stage}")
    back = state.from_stage
    if answer == "approve":
        if back is not Stage.IMPLEMENTATION_REVIEW:
            raise ValueError(f"there is no review to approve: the lab came here from {back or 'the start'}")
        stage = Stage.LAUNCH
    elif back in TABLE:
        stage = back
    else:
        stage = Stage.HYPOTHESIS
    # The user's answer gives every limit a new start, else the next failure would come back at once.
    return _enter(state, stage, "").model_copy(update={"from_stage": None, "bounces": 0})


def _end(state: State, stage: Stage, reason: str) -> State:
    """The state between two iterations. The next one gets its id when it is opened: that may be days later."""
    update = {"iteration_id": None, "last_run_id": None, "sync_status": "na", "bounces": 0, "from_stage": None}
    return _enter(state, stage, reason).model_copy(update=update)


def _enter(state: State, stage: Stage, reason: str) -> State:
    update: dict[str, object] = {"stage": stage, "stage_attempt": 1, "reason": reason}
    # From one waiting stage to another the way back stays the same.
    if waits(stage) and not waits(state.stage):
        update["from_stage"] = state.stage
    return state.model_copy(update=update)
