"""What waits for the user, and what `autolab review` does about it."""

from __future__ import annotations

from collections.abc import Callable

from autolab.errors import LabError, RecordError
from autolab.files import sha256_of, utc_now, write_whole
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import quarantine
from autolab.loop.opening import base_of
from autolab.loop.review import recorded_review
from autolab.loop.stages import resume


def review(lab: Lab, answer: str, tell: Callable[[str], None]) -> State:
    """A user's answer to a lab that waits: approve, retry or stop."""
    state, campaign = lab.load()
    if answer == "approve":
        _sign(lab, state, campaign)
    try:
        after = resume(state, answer)
    except ValueError as error:
        raise LabError(f"review {answer}: {error}") from None
    if after.stage is Stage.STOP:
        campaign = campaign.model_copy(update={"loop": None})
    lab.transition(after, campaign, why=f"review {answer}", log=lab.last_log())
    tell(f"{state.stage} -> {after.stage}")
    return after


def waiting_for_user(lab: Lab, named: str | None) -> list[str]:
    """What waits for a user, a line a fact: the lab itself, and candidates that were set aside; reads only.

    With `named` that candidate alone; LabError if it does not wait.
    """
    state, campaign = lab.load()
    if named is not None:
        name = quarantine.find(lab, campaign, named).iteration_id
        campaign = campaign.model_copy(update={"suspicious": (name,), "approved": ()})
    waits = named is None and state.stage is Stage.HUMAN_REVIEW
    rows = [f"the lab waits at {state.from_stage}: {state.reason}; {way_on(state)}"] if waits else []
    return [*rows, *quarantine.text(lab, campaign)] or ["nothing waits for you"]


def review_suspicious(lab: Lab, config: Config, answer: str, named: str, tell: Callable[[str], None]) -> None:
    """A user's answer to a candidate that was set aside: approve or stop.

    LabError: none is named so, or it cannot be taken as it was tested.
    """
    state, campaign = lab.load()
    one = quarantine.find(lab, campaign, named)
    if answer == "stop":
        quarantine.reject(lab, campaign, one)
        tell(f"{one.iteration_id} is rejected; its code stays on its branch")
        return
    if state.iteration_id is not None:
        quarantine.postpone(lab, campaign, one)
        tell(f"{one.iteration_id} is approved; it becomes champion when {state.iteration_id}, now under way, is over")
        return
    why_not = quarantine.take(lab, campaign, one, base_of(lab, config, campaign, tell)[0])
    if why_not:
        raise LabError(f"review approve: {why_not}")
    tell(f"kept by your word: autolab/champion is {one.candidate.commit[:12]} of {one.iteration_id}")


def take_approved(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> Campaign:
    """Between iterations: what was approved during the last one becomes champion, or is said to need another test."""
    for name in campaign.approved:
        one = quarantine.find(lab, campaign, name)
        why_not = quarantine.take(lab, campaign, one, base_of(lab, config, campaign, tell)[0])
        kept = f"kept by your word: autolab/champion is {one.candidate.commit[:12]} of {name}"
        tell(f"note: {why_not}" if why_not else kept)
        campaign = lab.load()[1]
    return campaign


def _sign(lab: Lab, state: State, campaign: Campaign) -> None:
    """A pass signed by the user, only where the required checks passed on the candidate's commit."""
    if state.iteration_id is None or state.stage is not Stage.HUMAN_REVIEW:
        raise LabError(f"review approve: nothing waits for a user: the lab is at {state.stage}")
    path = lab.iteration(state.iteration_id).review_result
    events = list(lab.ledger.lines(campaign.iteration_offset))
    try:
        review = recorded_review(path, str(path.relative_to(lab.root)), events)
    except RecordError as error:
        raise LabError(f"review approve: {error}; `autolab review retry` has it reviewed again") from None
    if review.commit not in [line.data["commit"] for line in events if line.event == "candidate"][-1:]:
        raise LabError("review approve: the review is of an older candidate; `autolab review retry` has it reviewed")
    failed = [name for name, value in review.required_checks.items() if value == "fail"]
    if failed or not review.required_checks:
        what = f"failed: {', '.join(failed)}" if failed else "were not run"
        raise LabError(f"review approve: required checks {what}; `autolab review retry` sends it back to be fixed")
    signed = review.model_copy(update={"status": "pass", "reviewer": "user", "reviewed_at": utc_now()})
    over = [finding if isinstance(finding, str) else finding.message for finding in review.blocking_findings]
    sha = sha256_of(signed.to_json())
    lab.ledger.append("approved", {"commit": review.commit, "over": over, "sha256": sha})
    write_whole(path, signed.to_json())


def way_on(state: State) -> str:
    if state.stage is Stage.HUMAN_REVIEW:
        return "answer with `autolab review approve|retry|stop`"
    return "go on with `autolab loop --goal ... --max-iterations N` or `autolab review retry`"
