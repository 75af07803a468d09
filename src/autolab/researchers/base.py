"""The one verb of a researcher, and what goes in and out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Hypothesis, Lesson, Results
from autolab.lab.schemas.outcomes import RequestKind


@dataclass(frozen=True)
class Context:
    """What the lab knows, for a researcher that does not read its prompt.

    `seed` is drawn from the lab's secret and fixed for its life. `lessons` are newest first and bounded. `intent`
    says that the user gave the goal with this loop. `trouble` is what sent the stage back or went wrong in the
    attempt before. `base` and `candidate` read a file of the commit that the iteration branches from, and of its
    candidate; None where there is no such file or no candidate. `avoid` are the families that wait on a plateau.
    """

    config: Config
    goal: str
    intent: bool
    target: str | None
    seed: int
    lessons: tuple[Lesson, ...]
    base_commit: str
    hypothesis_id: str
    refinement: int
    hypothesis: Hypothesis | None
    design: Design | None
    results: Results | None
    trouble: str
    base: Callable[[str], str | None]
    candidate: Callable[[str], str | None]
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sent:
    """A call of a paid service, before it is made: whose, where to, its body (without keys), and what it takes at most.

    `dollars` is None where no price is known.
    """

    model: str
    url: str
    body: bytes
    tokens: int
    dollars: float | None


@dataclass(frozen=True)
class Received:
    """What came back: HTTP status, headers and body; or status 0, with what went wrong on the way in `fault`."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    fault: str = ""


@dataclass(frozen=True)
class Booked:
    """What a call came to: `ok` or the kind of its failure, with what was said of it, and what it took.

    `dollars` is None where no price is known.
    """

    reason: str
    said: str
    input_tokens: int
    output_tokens: int
    dollars: float | None


class Calls(Protocol):
    """Where the calls of one request are paid for and recorded: each is sent, then booked, before the next one.

    A call that was answered before (by an engine that died, or in the iteration that is replayed) is answered from the
    record, in order, and not sent.
    """

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        """The recorded reply, or that of `transmit`, once the budget allows it; BudgetSpent where it does not."""
        ...

    def book(self, booked: Booked) -> None: ...

    def wait(self, seconds: float, why: str) -> None:
        """Wait, and tell the user until when; Paused if they ask to stop meanwhile."""
        ...


@dataclass(frozen=True)
class Task:
    """One request.

    `number` counts the requests of this kind in this iteration, from 1; `iteration` counts the lab's
    iterations, from 1. `workspace` is where the researcher may look and, for an implementation,
    change files; elsewhere what it changes there is thrown away. `scratch` keeps what must survive a
    crash of the engine. `key` names the effect, so that one under way is adopted and not repeated. `context` is
    gathered when it is called for. `containment` is the level at which a program that it starts is to run.
    `contract` says how to answer, for one that reads its prompt. `calls` is where one that pays for its answers has
    them recorded. `lab` is the lab's folder, which a program that it starts is to be kept out of; `data` is where the
    training data lies that the workspace has as links.
    """

    key: str
    kind: RequestKind
    iteration_id: str
    iteration: int
    number: int
    prompt: str
    workspace: Path
    scratch: Path
    context: Callable[[], Context]
    containment: str = "none"
    contract: str = ""
    calls: Calls | None = None
    lab: Path | None = None
    data: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The raw text of an agent result, or None with the reason why there is none; or a note for the user."""

    raw: str | None
    note: str = ""


class Researcher(Protocol):
    """Raises ResearcherError only for what a retry cannot fix (a missing program, a missing script).

    It may also have `kind`, whose contract it reads (`prompts.CONTRACTS`); `counts`, which of tokens and dollars it
    tells of its spending (none, if missing: such caps are refused with it); `notes`, lines for the user at the start.
    """

    @property
    def name(self) -> str: ...

    @property
    def works_in_folder(self) -> bool:
        """Whether it wants files to look at; one that only answers is spared the copy."""
        ...

    def perform(self, task: Task) -> Answer: ...
