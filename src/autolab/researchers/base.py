"""The interface of a researcher: one verb, its task and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Hypothesis, Lesson, Results
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import OUTPUTS, Output

PROBE = "Answer with one word: here"
"""What a probe asks. By this text a record knows its probes."""

ReadFile = Callable[[str], str | None]
"""Reads a file of one commit by its path; None if the file or the commit is missing."""


@dataclass(frozen=True)
class Goal:
    """What the user wants. `given_with_loop`: the text comes from this loop's command, not from the configuration."""

    text: str
    given_with_loop: bool
    target: str | None


@dataclass(frozen=True)
class History:
    """What the lab has learned. `lessons` are newest first and bounded.

    `avoided_families` wait on a plateau. `seed` is drawn from the lab's secret and fixed for its life. `deviation` is
    that of a pair's difference, in the metric's units, as the calibration measured it; None before there is one.
    """

    lessons: tuple[Lesson, ...]
    avoided_families: frozenset[str]
    seed: int
    deviation: float | None = None


@dataclass(frozen=True)
class Documents:
    """The documents of this iteration; None before they are written. `refinement` counts from 0."""

    hypothesis_id: str
    refinement: int
    hypothesis: Hypothesis | None
    design: Design | None
    results: Results | None


@dataclass(frozen=True)
class Code:
    """The commit that the iteration branches from, with readers of it and of its candidate."""

    base_commit: str
    read_base: ReadFile
    read_candidate: ReadFile


@dataclass(frozen=True)
class Batch:
    """The batch of ideas that a hypothesis is asked for, and its place in it.

    `number` counts the lab's batches from 1, `place` the ideas of this batch from 1 to `size`. `earlier` are the ideas
    that it has already. With `concludes` one idea is wanted: the best point of the whole search, to be claimed.
    `wanted` are the ideas that one answer is to hold: this one and the next. `with_code`: they may hold their code.
    """

    number: int
    size: int
    place: int
    earlier: tuple[Hypothesis, ...]
    concludes: bool
    wanted: int = 1
    with_code: bool = False


@dataclass(frozen=True)
class LabSnapshot:
    """What the lab knows when it makes a request, for a researcher that does not read its prompt.

    `trouble`: why the stage was sent back, or what went wrong in the last attempt. `batch`: None where an idea is
    tested to its end.
    """

    config: Config
    goal: Goal
    history: History
    documents: Documents
    code: Code
    trouble: str
    batch: Batch | None = None


@dataclass(frozen=True)
class Sent:
    """A call of a paid service, before it is made: its model, address, body (without keys), and most tokens.

    `dollars` is the most that it costs; None if no price is known.
    """

    model: str
    url: str
    body: bytes
    tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Received:
    """The reply: HTTP status, headers and body; or status 0 with the failure on the way in `fault`."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    fault: str = ""


@dataclass(frozen=True)
class Booked:
    """The outcome of a call: `ok` or the kind of its failure, with a line about it, and its cost.

    `dollars` is None if no price is known.
    """

    reason: str
    detail: str
    input_tokens: int
    output_tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Outage:
    """The service of the model `service` does not answer. `kind` and `detail`: of its newest failure.

    `limit_s`: how long it is waited for, in seconds from the first pause; None: the caller counts its tries, and then
    turns to `then`.
    """

    service: str
    kind: str
    detail: str
    limit_s: float | None
    then: str = ""


class AfterPause(StrEnum):
    """What comes after a pause in an outage: a probe of one token, the request itself, or nothing more."""

    PROBE = "probe"
    REQUEST = "request"
    GIVEN_UP = "given_up"


class Calls(Protocol):
    """Pays for and records the calls of one request. Each call is sent, then booked, before the next call.

    A call that was answered before (to an engine that died, or in the iteration that is replayed) is answered from the
    record, in order, and not sent.
    """

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        """The recorded reply, or that of `transmit`. BudgetSpent: the budget does not allow the call."""
        ...

    def book(self, booked: Booked) -> None: ...

    def left_out(self, model: str, url: str) -> frozenset[str]:
        """The parameters that the model at this address has refused, before this request or in it."""
        ...

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        """Remember that it refused one, for this and later requests."""
        ...

    def wait(self, seconds: float, why: str) -> None:
        """Wait, and tell the user until when. Paused: the user asked to stop meanwhile.

        BudgetSpent: the loop's hours are over.
        """
        ...

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        """Wait before the next try, and tell the user of the outage once. Raises as `wait` does.

        A record without probes, made before there were any, goes on with the request.
        """
        ...

    def answers_again(self, service: str) -> None:
        """The outage is over, as a probe was answered."""
        ...


@dataclass(frozen=True)
class WorkChecks:
    """A shell script in the scratch folder that runs the lab's checks in the workspace, and what it needs to read.

    `names`: of the checks. `reads`: files and folders, among them the trials' Python; `covers`: what below these no
    trial may read.
    """

    program: Path
    names: tuple[str, ...]
    reads: tuple[str, ...]
    covers: tuple[str, ...]


@dataclass(frozen=True)
class TaskFolders:
    """Where a researcher works, and what a program that it starts may reach.

    `workspace`: files to read and, for an implementation, to change; for other requests changes are thrown away.
    `scratch`: what must survive a crash of the engine. `containment`: the level at which its program must run. `lab`:
    the lab's folder, which its program must not see. `data`: the training data that the workspace holds as links.
    `checks`: what its program may use to check its work.
    """

    workspace: Path
    scratch: Path
    containment: str = "none"
    lab: Path | None = None
    data: tuple[Path, ...] = ()
    checks: WorkChecks | None = None


Objection = Callable[[Any], str]
"""What the engine has against an output of the right form: a line, and below it what may help; empty if nothing."""


def no_objection(output: object) -> str:
    """For a request to which the form says all that can be said before the answer is used."""
    return ""


@dataclass(frozen=True)
class Task:
    """One request.

    `key` identifies the request, so that a program under way is adopted and not started again. `number` counts the
    requests of this kind in this iteration, from 1; `iteration` counts the lab's iterations, from 1. `snapshot` is
    collected when it is called. `contract` says how to answer, for a researcher that reads its prompt. `calls` pays for
    and records the calls of a researcher that makes any. `output` is the form of the answer; None: that of its kind.
    `objection` is what the engine would refuse it for: a researcher that can be told gives another at once.
    """

    key: str
    kind: RequestKind
    iteration_id: str
    iteration: int
    number: int
    prompt: str
    folders: TaskFolders
    snapshot: Callable[[], LabSnapshot]
    contract: str = ""
    calls: Calls | None = None
    output: type[Output] | None = None
    objection: Objection = no_objection

    @property
    def form(self) -> type[Output]:
        """The form of the answer."""
        return self.output or OUTPUTS[self.kind]


@dataclass(frozen=True)
class Answer:
    """The raw text of an agent result, with an optional note for the user; or None, and `note` is the reason.

    `refused` is then what was written in place of an answer: the next attempt is shown it.
    """

    raw: str | None
    note: str = ""
    refused: str = ""


class ResearcherDefaults:
    """What the engine assumes of a researcher that does not say otherwise; the built-in researchers inherit it."""

    contract: str | None = None
    """Key of its contract in `prompts.CONTRACTS`; None if it does not read its prompt."""
    counts: frozenset[str] = frozenset()
    """Which of `tokens` and `dollars` it reports. A cap on the other is refused with this researcher."""
    notes: tuple[str, ...] = ()
    """Lines for the user when a command starts."""
    chooses_families: bool = False
    """Whether it avoids tired families by itself, so that its hypothesis is not refused for one."""
    names_author: bool = False
    """Whether the engine believes what it says about who wrote the code (`via`)."""
    codes_ideas: bool = False
    """Whether it may give the code of an idea together with the idea, of which a batch has several."""

    def concludes(self, config: Config) -> bool:
        """Whether it learns from all screens on a base together, and is asked for the best point at their end.

        Then no batch moves the working commit but the last one, which holds that point alone.
        """
        return False

    def require_usable(self, lab: Path, in_workspace: Callable[[str], bool]) -> None:
        """ResearcherError: what it needs of the machine is missing. `in_workspace`: whether its folder holds a path."""


class Researcher(Protocol):
    """A researcher as the engine sees it. The loader completes a class of the user's from `ResearcherDefaults`."""

    @property
    def name(self) -> str: ...

    @property
    def works_in_folder(self) -> bool:
        """Whether it needs a folder with the lab's files."""
        ...

    @property
    def contract(self) -> str | None: ...

    @property
    def counts(self) -> frozenset[str]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def chooses_families(self) -> bool: ...

    @property
    def names_author(self) -> bool: ...

    @property
    def codes_ideas(self) -> bool: ...

    def concludes(self, config: Config) -> bool: ...

    def require_usable(self, lab: Path, in_workspace: Callable[[str], bool]) -> None: ...

    def perform(self, task: Task) -> Answer:
        """Answer one request. ResearcherError: only if a retry cannot help (a missing program or script)."""
        ...
