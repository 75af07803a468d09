"""The one verb of a researcher, and what goes in and out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autolab.records.lab import Stage


@dataclass(frozen=True)
class Task:
    """One ask.

    `number` counts the asks of this stage in this iteration, from 1; `iteration` counts the lab's
    iterations, from 1. `workspace` is where the researcher may look and, in the implementation stage,
    change files; elsewhere what it changes there is thrown away. `scratch` keeps what must survive a
    crash of the engine. `key` names the effect, so that one under way is adopted and not repeated.
    """

    key: str
    stage: Stage
    iteration_id: str
    iteration: int
    number: int
    prompt: str
    workspace: Path
    scratch: Path


@dataclass(frozen=True)
class Answer:
    """The raw text of an agent result, or None with the reason why there is none."""

    raw: str | None
    note: str = ""


class Researcher(Protocol):
    """Raises ResearcherError only for what a retry cannot mend (a missing program, a missing script)."""

    @property
    def name(self) -> str: ...

    @property
    def works_in_folder(self) -> bool:
        """Whether it wants files to look at; one that only answers is spared the copy."""
        ...

    def perform(self, task: Task) -> Answer: ...
