"""What waits for the user, and what `autolab review` does about it."""

from __future__ import annotations

from collections.abc import Callable

from autolab.errors import LabError, RecordError
from autolab.files import sha256_of, utc_now, write_whole
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Approved, CandidateRecorded, SetAside
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import exploring, quarantine
from autolab.loop.opening import base_of
from autolab.loop.review import recorded_review
from autolab.loop.stages import resume

RETRY = "`autolab review retry`"


def review(lab: Lab, answer: str, tell: Callable[[str], None]) -> State:
    """Carry out a user's answer to a lab that waits: approve, retry or stop. LabError: it does not fit the stage."""
    state, campaign = lab.load()
    if answer == "approve":
        _sign(lab, state, campaign)
    try:
        after = resume(state, answer)
    except ValueError as error:
        raise LabError(f"review {answer}: {error}") from None
    # A stopped loop is over: no later command goes on with its count.
    if after.stage is Stage.STOP:
        campaign = campaign.model_copy(update={"loop": None})
    elif answer == "retry":
        # There may be more of a budget that ended the asking for ideas.
        campaign = campaign.model_copy(update={"exploration": exploring.asked_anew(campaign.exploration)})
    lab.transition(after, campaign, why=f"review {answer}", log=lab.last_log())
    tell(f"{state.stage} -> {after.stage}")
    return after


def waiting_for_user(lab: Lab, iteration: str | None) -> list[str]:
    """Lines about what waits for the user: the lab itself, and candidates that were set aside. Reads only.

    With `iteration` only that iteration's candidate; LabError if it does not wait.
    """
    state, campaign = lab.load()
    rows = []
    if iteration is not None:
        iteration_id = quarantine.find(lab, campaign, iteration).candidate.iteration_id
        campaign = campaign.model_copy(update={"suspicious": (iteration_id,), "approved": ()})
    elif state.stage is Stage.HUMAN_REVIEW:
        rows.append(f"the lab waits at {state.from_stage}: {state.reason}; {way_on(state)}")
    rows += quarantine.text(lab, campaign)
    return rows or ["nothing waits for you"]


def review_suspicious(lab: Lab, config: Config, answer: str, iteration: str, tell: Callable[[str], None]) -> None:
    """Carry out a user's answer to a candidate that was set aside: approve or stop.

    LabError: `iteration` names no waiting candidate, or the candidate has to be tested again.
    """
    state, campaign = lab.load()
    suspect = quarantine.find(lab, campaign, iteration)
    iteration_id = suspect.candidate.iteration_id
    if answer == "stop":
        quarantine.reject(lab, campaign, iteration_id)
        tell(f"{iteration_id} is rejected; its code stays on its branch")
    elif state.iteration_id is not None:
        # The iteration under way is measured against the present champion, which has to stay until its end.
        quarantine.postpone(lab, campaign, iteration_id)
        tell(f"{iteration_id} is approved; it becomes champion when {state.iteration_id}, now under way, is over")
    else:
        base, _ = base_of(lab, config, campaign, tell)
        problem = quarantine.take(lab, campaign, suspect, base)
        if problem:
            raise LabError(f"review approve: {problem}")
        tell(_taken(suspect))


def take_approved(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> Campaign:
    """Between iterations: candidates approved during the last one become champion, or go on waiting with a note."""
    for iteration_id in campaign.approved:
        suspect = quarantine.find(lab, campaign, iteration_id)
        # Anew for each: the one before may have become the base.
        base, _ = base_of(lab, config, campaign, tell)
        problem = quarantine.take(lab, campaign, suspect, base)
        if problem:
            tell(f"note: {problem}")
        else:
            tell(_taken(suspect))
        _, campaign = lab.load()
    return campaign


def _taken(suspect: SetAside) -> str:
    candidate = suspect.candidate
    return f"kept by your word: autolab/champion is {candidate.commit[:12]} of {candidate.iteration_id}"


def _sign(lab: Lab, state: State, campaign: Campaign) -> None:
    """Record the user's approval of the review, and write it as a pass.

    LabError: no iteration waits, the review is not of its candidate, or required checks did not pass.
    """
    if state.iteration_id is None or state.stage is not Stage.HUMAN_REVIEW:
        raise LabError(f"review approve: nothing waits for a user: the lab is at {state.stage}")
    path = lab.iteration(state.iteration_id).review_result
    lines = list(lab.ledger.lines(campaign.iteration_offset))
    try:
        review = recorded_review(path, str(path.relative_to(lab.root)), lines)
    except RecordError as error:
        raise LabError(f"review approve: {error}; {RETRY} has it reviewed again") from None
    candidates = list(events.events_of(lines, CandidateRecorded))
    if not candidates or review.commit != candidates[-1].commit:
        raise LabError(f"review approve: the review is of an older candidate; {RETRY} has it reviewed")
    # The user may overrule a reviewer, and not the checks that make a measurement fair.
    checks = review.required_checks
    if not checks:
        raise LabError(f"review approve: required checks were not run; {RETRY} sends it back to be fixed")
    failed = ", ".join(name for name, status in checks.items() if status == "fail")
    if failed:
        raise LabError(f"review approve: required checks failed: {failed}; {RETRY} sends it back to be fixed")
    overruled = []
    for finding in review.blocking_findings:
        overruled.append(finding if isinstance(finding, str) else finding.message)
    approval = review.model_copy(update={"status": "pass", "reviewer": "user", "reviewed_at": utc_now()})
    text = approval.to_json()
    events.append(lab.ledger, Approved(commit=review.commit, over=tuple(overruled), sha256=sha256_of(text)))
    # Only after the line: the gate believes a review that the ledger holds, and nothing else.
    write_whole(path, text)


def way_on(state: State) -> str:
    """The commands that take a lab on that waits or has stopped."""
    if state.stage is Stage.HUMAN_REVIEW:
        return "answer with `autolab review approve|retry|stop`"
    return "go on with `autolab loop --goal ... --max-iterations N` or `autolab review retry`"
