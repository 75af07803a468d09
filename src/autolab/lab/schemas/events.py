"""The events of the ledger: one strict class for each kind of line, and the way in and out of a line.

`ledger.py` keeps lines of plain JSON and imports the standard library only. This module is the typed layer above it:
`append(ledger, Candidate(...))` records an event, `read(line)` gives it back, `events_of(lines, Candidate)` picks one
kind. A line that does not fit its class is refused with its number and field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal, TypedDict, TypeVar

from pydantic import Field, JsonValue

from autolab.errors import RecordError
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas.campaign import Campaign, Champion, Loop, State
from autolab.lab.schemas.config import Count, ResearcherConfig, TimeLimit
from autolab.lab.schemas.experiment import Calibration, Confirmation, Finding, Lesson, Trial
from autolab.lab.schemas.outcomes import DropReason, RequestKind, RunKind, Stage
from autolab.lab.schemas.plans import Entry
from autolab.lab.schemas.record import Record

Number = Annotated[int, Field(ge=1)]


class Event(Record):
    """Base of every event. `KIND` is the `event` of its lines, the class's fields are their `data`."""

    KIND: ClassVar[str]

    def value(self) -> dict[str, Any]:
        """The line's data. An optional field that is missing or None is left out."""
        data = super().value()
        for name, field in type(self).model_fields.items():
            is_given = name in self.model_fields_set and getattr(self, name) is not None
            if not is_given and not field.is_required():
                del data[field.alias or name]
        return data


E = TypeVar("E", bound=Event)


# The lab


class Init(Event):
    """The lab was made at `commit` of `branch`. `seed` is null if the lab's secret was drawn at random."""

    KIND = "init"

    lab_id: str
    seed: int | None
    branch: str
    commit: str


class LabMoved(Event):
    """The lab was moved to another folder or another machine."""

    KIND = "lab_moved"

    source: str = Field(alias="from")
    to: str
    machine: str


class Forked(Event):
    """A copied lab became a lab of its own. `was` is the id of the original."""

    KIND = "forked"

    source: str = Field(alias="from")
    was: str
    lab_id: str


class ControlChanged(Event):
    """The user changed a file of `.autolab/`."""

    KIND = "control_changed"

    file: str
    sha256: str


class LedgerRebuilt(Event):
    """`doctor --fix` made a new chain of `lines` old lines. Those in `unverified` did not fit their hashes."""

    KIND = "ledger_rebuilt"

    copy_name: str = Field(alias="copy")
    lines: Count
    unverified: tuple[int, ...]
    dropped: Count
    kept: str | None = None
    left_out: tuple[str, ...] = ()


class LedgerBegunAnew(Event):
    """`doctor --fix` began a new chain, as the old one held no state. `lost` counts its lines.

    `campaign` is true if the campaign was read back from its copy, false if it was put together from the iterations.
    """

    KIND = "ledger_begun_anew"

    lost: Count
    iterations: Count
    open: str | None
    campaign: bool


class Published(Event):
    """`autolab publish` committed `files` files of the record on the user's branch."""

    KIND = "published"

    commit: str
    files: Count


# The loop


class Reproduced(Record):
    """The result of `autolab reproduce` for the run `of` (`ITERATION_ID/RUN_ID`).

    `retracted` holds the commits of the champions that are no longer claimed.
    """

    of: str
    standing: str
    retracted: tuple[str, ...]


class Cause(TypedDict, total=False):
    """Why the state changed: the fields of `Transition` besides state and campaign."""

    why: str
    outcome: str
    from_stage: Stage
    reason: str
    log: str | None
    entry: Entry | None
    calibration: Calibration
    reproduced: Reproduced
    n: int
    loop: Loop
    of: str


class Transition(Event):
    """The complete new state of the lab and its cause: the `outcome` of the stage `from`, or else `why`.

    Some causes have a field of their own: `opened` has `entry`, `calibrated` has `calibration`, `reproduced` has
    `reproduced`, `loop_started` has `n` (its iterations), `loop_ended` has `loop`, and the user's decision on a
    suspicious candidate has `of` (its iteration). `log` is the commit of `refs/autolab/log` with the iteration's files.
    """

    KIND = "transition"

    state: State
    campaign: Campaign
    why: str = ""
    outcome: str | None = None
    from_stage: Stage | None = Field(default=None, alias="from")
    reason: str = ""
    log: str | None = None
    entry: Entry | None = None
    calibration: Calibration | None = None
    reproduced: Reproduced | None = None
    n: Number | None = None
    loop: Loop | None = None
    of: str | None = None


class Request(Event):
    """A request to a researcher. `number` counts the requests of its kind within the iteration."""

    stage: Stage
    kind: RequestKind
    number: Number


class Asked(Request):
    """A request is about to be sent to `researcher`, which is configured as `who`.

    `ideas`: how many a batch asks for in this one, where the answer may hold several, or an idea's code.
    """

    KIND = "asked"

    key: str
    researcher: str
    who: ResearcherConfig
    prompt_sha256: str
    prompt_version: int
    ideas: Number | None = None


class Answered(Request):
    """The reply to a request was stored in the file `reply`, relative to the store."""

    KIND = "answered"

    reply: str
    sha256: str


class CallSent(Request):
    """A paid call is about to be made for a request. `tokens` and `dollars` are reserved for it."""

    KIND = "call_sent"

    iteration_id: str
    call: Number
    model: str
    url: str
    request_sha256: str
    tokens: Count
    dollars: float | None


class Call(Request):
    """The end of a paid call. `reason` is `ok` or the kind of its failure, `status` is that of HTTP, or 0."""

    KIND = "call"

    iteration_id: str
    call: Number
    model: str
    url: str
    reason: str
    said: str
    status: int
    input_tokens: Count
    output_tokens: Count
    dollars: float | None
    path: str | None
    sha256: str | None


class Waiting(Request):
    """The loop waits for the model service `service`, for the `reason`. One line a state, and not one a try.

    `since` is the beginning of the outage. `until` is when the wait ends, or is given up; null: the number of tries
    decides.
    """

    KIND = "waiting"

    service: str
    reason: str
    since: str
    until: str | None


class WaitEnded(Request):
    """The wait for `service` is over: it `answered`, it was `given up`, or the time that it asked for is `over`."""

    KIND = "wait_ended"

    service: str
    outcome: Literal["answered", "given up", "over"]


class ParameterRefused(Event):
    """A model at an address does not take a parameter: no later request of the lab sends it there.

    `parameter` is the service's name for it; `json_schema` and `json_object` are ways to ask for JSON.
    """

    KIND = "parameter_refused"

    model: str
    url: str
    parameter: str
    said: str


class ExplorationFixed(Event):
    """What is fixed before the first idea on a base is screened. Nothing of it changes until the base does.

    `champion` is the commit that claims compare with. `alphas` are those of the first claims, `reserve` the trials set
    aside for a claim (null: no budget binds), `triggers` say when a claim comes.
    """

    KIND = "exploration_fixed"

    champion: str
    protocol: str
    metric: str
    success_delta: float
    rule: dict[str, JsonValue]
    alphas: tuple[float, ...]
    bound: float | None
    reserve: Count | None
    arms: Number
    seeds: Number
    margin: float
    triggers: tuple[str, ...]


class IdeaDropped(Event):
    """An idea of a batch was dropped before it was measured. `detail` is one line."""

    KIND = "idea_dropped"

    arm: str
    reason: DropReason
    detail: str


class CandidateRecorded(Event):
    """A commit became the iteration's candidate. `via` says who wrote its code."""

    KIND = "candidate"

    commit: str
    base: str
    slug: str
    via: str


class Checked(Event):
    """The verifiers checked a commit."""

    KIND = "checked"

    commit: str
    checks: dict[str, Literal["pass", "skip", "fail"]]
    findings: tuple[Finding, ...]


class Reviewed(Event):
    """A review of a commit was written. `sha256` is that of review_result.json."""

    KIND = "reviewed"

    commit: str | None
    status: str
    sha256: str


class Approved(Event):
    """The user let a candidate pass in spite of the findings `over`."""

    KIND = "approved"

    commit: str | None
    over: tuple[str, ...]
    sha256: str


class SetAside(Event):
    """A candidate's gain is suspicious, for the `reasons`. It waits for the user's decision."""

    KIND = "set_aside"

    candidate: Champion
    title: str
    reasons: tuple[str, ...]


class Learned(Event):
    """The lesson of an iteration was recorded."""

    KIND = "learned"

    lesson: Lesson


class DocumentEdited(Event):
    """Somebody else changed a document that the engine writes. `sha256` is that of their text."""

    KIND = "document_edited"

    path: str
    sha256: str | None


class DocumentWritten(Event):
    """An entry was written to a document. If that grew too long, its older part went to the file `closed`."""

    KIND = "document_written"

    path: str
    entry: str
    sha256: str
    closed: str | None = None
    closed_sha256: str | None = None


class PlanStored(Event):
    """A plan was stored under a short id, for a later iteration."""

    KIND = "plan_stored"

    id: str
    title: str
    sha256: str


class CandidateStored(Event):
    """A candidate's commit was stored for a stored plan."""

    KIND = "candidate_stored"

    id: str
    plan: str
    commit: str
    sha256: str


class ProposalSetAside(Event):
    """A proposal was set aside before an iteration tested it, for this reason."""

    KIND = "proposal_set_aside"

    id: str
    by: str
    title: str
    reason: str


# Runs


class RunStarted(Event):
    """A run begins. Its trials belong to it only as long as all these fields hold.

    `cells` holds arm and index of the trials to run, if these are not all trials of the design. `time_limit` is that
    of its trainings. It may change while the run goes on, but only because the user sets another.
    """

    KIND = "run_started"

    run_id: str
    kind: RunKind
    seeds: tuple[int, ...]
    protocol: str
    design_sha256: str | None
    rule: dict[str, JsonValue] | None
    cells: tuple[tuple[str, int], ...] | None = None
    time_limit: TimeLimit | None = None


class Submitted(Event):
    """Jobs with these effect keys are about to be handed to the executor."""

    KIND = "submitted"

    run_id: str
    keys: tuple[str, ...]


class TrialLost(Event):
    """An attempt was lost, or cancelled for a pause. The same seed runs again as the next attempt."""

    KIND = "trial_lost"

    run_id: str
    trial: str
    attempt: Number
    message: str


class TrialEnded(Event):
    """A trial ended."""

    KIND = "trial"

    run_id: str
    trial: Trial


class TrialKnown(Event):
    """A replay takes over a trial of the past."""

    KIND = "trial_known"

    run_id: str
    trial: Trial


class RunEnded(Event):
    """A run ended. `manifest_sha256` is the hash of its final manifest, null for an abandoned run."""

    KIND = "run_ended"

    run_id: str
    status: Literal["completed", "failed"]
    verdict: str | None
    reason: str
    manifest_sha256: str | None


class HoldoutAsked(Event):
    """The holdout is about to be used: the question is counted before it is asked."""

    KIND = "holdout_asked"

    run_id: str
    protocol: str
    question: Number


class Confirmed(Event):
    """A supported variant of the run `of` was measured again on fresh seeds."""

    KIND = "confirmed"

    run_id: str
    of: str
    confirmation: Confirmation


EVENTS: dict[str, type[Event]] = {
    event.KIND: event
    for event in (
        *(Init, LabMoved, Forked, ControlChanged, LedgerRebuilt, LedgerBegunAnew, Published),
        *(Transition, Asked, Answered, CallSent, Call, CandidateRecorded, Checked, Reviewed, Approved, SetAside),
        *(Waiting, WaitEnded, ParameterRefused, ExplorationFixed, IdeaDropped),
        *(Learned, DocumentEdited, DocumentWritten, PlanStored, CandidateStored, ProposalSetAside),
        *(RunStarted, Submitted, TrialLost, TrialEnded, TrialKnown, RunEnded, HoldoutAsked, Confirmed),
    )
}
"""Every kind of line that a ledger can hold, by the name in its `event`."""


def append(ledger: Ledger, event: Event) -> Line:
    """Record an event: one durable line of the ledger, without secrets. The caller holds the lab's lock."""
    return ledger.append(event.KIND, event.value())


def read(line: Line, kind: type[E]) -> E:
    """The event of a line of this kind. RecordError: its data does not fit; the message names line and field."""
    return kind.from_value(line.data, f"ledger.jsonl line {line.n}")


def read_any(line: Line) -> Event:
    """The event of a line of any kind. RecordError: no such kind, or data that does not fit."""
    kind = EVENTS.get(line.event)
    if kind is None:
        raise RecordError(f"ledger.jsonl line {line.n}: {line.event}: no event of this Autolab")
    return read(line, kind)


def events_of(lines: Iterable[Line], kind: type[E]) -> Iterator[E]:
    """The events of one kind, in the order of their lines."""
    return (read(line, kind) for line in lines if line.event == kind.KIND)
