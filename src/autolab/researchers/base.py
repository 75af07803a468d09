"""The one verb of a researcher, and what goes in and out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Hypothesis, Lesson, Results
from autolab.lab.schemas.outcomes import RequestKind

ReadFile = Callable[[str], str | None]
"""Reads a file of one commit by its path; None if the file or the commit is missing."""


@dataclass(frozen=True)
class Goal:
    """What the user wants. `given_with_loop`: the text came with this loop, not from the lab's configuration."""

    text: str
    given_with_loop: bool
    target: str | None


@dataclass(frozen=True)
class History:
    """What the lab has learned. `lessons` are newest first and bounded.

    `avoided_families` wait on a plateau. `seed` is drawn from the lab's secret and fixed for its life.
    """

    lessons: tuple[Lesson, ...]
    avoided_families: frozenset[str]
    seed: int


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
class LabSnapshot:
    """What the lab knows at one request, for a researcher that does not read its prompt.

    `trouble` is what sent the stage back, or what went wrong in the attempt before.
    """

    config: Config
    goal: Goal
    history: History
    documents: Documents
    code: Code
    trouble: str


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
    """What a call came to: `ok` or the kind of its failure, with a line about it, and what it cost.

    `dollars` is None where no price is known.
    """

    reason: str
    detail: str
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
class TaskFolders:
    """Where a researcher works, and what a program that it starts may reach.

    `workspace` is where it may look and, for an implementation, change files; elsewhere what it changes there is
    thrown away. `scratch` keeps what must survive a crash of the engine. `containment` is the level at which its
    program is to run. `lab` is the lab's folder, which that program is to be kept out of; `data` is where the training
    data lies that the workspace has as links.
    """

    workspace: Path
    scratch: Path
    containment: str = "none"
    lab: Path | None = None
    data: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Task:
    """One request.

    `key` names the effect, so that one under way is adopted and not repeated. `number` counts the requests of this
    kind in this iteration, from 1; `iteration` counts the lab's iterations, from 1. `snapshot` is gathered when it is
    called for. `contract` says how to answer, for one that reads its prompt. `calls` is where one that pays for its
    answers has them recorded.
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


@dataclass(frozen=True)
class Answer:
    """The raw text of an agent result, or None with the reason why there is none; or a note for the user."""

    raw: str | None
    note: str = ""


class ResearcherDefaults:
    """What the engine assumes of a researcher that says nothing else; the built-in ones inherit it."""

    contract: str | None = None
    """Key of its contract in `prompts.CONTRACTS`; None if it does not read its prompt."""
    counts: frozenset[str] = frozenset()
    """Which of `tokens` and `dollars` it tells of its spending. A cap on anything else is refused with it."""
    notes: tuple[str, ...] = ()
    """Lines for the user when a command starts."""
    chooses_families: bool = False
    """Whether it leaves out tired families by itself, so that its hypothesis is not refused for one."""
    names_author: bool = False
    """Whether its word on who wrote the code (`via`) is believed."""


class Researcher(Protocol):
    """A researcher as the engine sees it. The loader completes a class of the user's from `ResearcherDefaults`."""

    @property
    def name(self) -> str: ...

    @property
    def works_in_folder(self) -> bool:
        """Whether it wants files to look at; one that only answers is spared the copy."""
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

    def perform(self, task: Task) -> Answer:
        """Answer one request. ResearcherError: only for what a retry cannot fix (a missing program or script)."""
        ...
