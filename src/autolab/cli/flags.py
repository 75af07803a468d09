"""Flags that belong together, as one object each. On the command line they stand flat, without a prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from autolab.errors import UsageError
from autolab.lab.schemas.record import PROSE
from autolab.loop.engine import LoopRequest
from autolab.text import many_lines, one_line

FLAT = arg(name="")
"""Marks a parameter whose fields are flags of the command itself."""


@dataclass(frozen=True)
class SearchFlags:
    """How long a loop goes on, and what for.

    Args:
        max_iterations: Iterations of this loop.
        goal: What you want, in one sentence.
        target: METRIC>=NUMBER, METRIC<=NUMBER, or a number for the primary metric.
        target_accuracy: The same as --target "accuracy>=X".
        patience: End after this many iterations without a supported gain.
    """

    max_iterations: Annotated[int, arg(aliases=["--max-iter"])]
    goal: str = ""
    target: str | None = None
    target_accuracy: float | None = None
    patience: int | None = None

    def request(self) -> LoopRequest:
        """What the flags ask of a loop; UsageError names the one that asks for nothing."""
        if self.max_iterations < 1:
            raise UsageError(f"--max-iterations: {self.max_iterations} is not a positive number")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"--patience: {self.patience} is not a positive number")
        if self.goal and not re.search(r"[^\W\d_]", self.goal):
            raise UsageError(f"--goal: {self.goal!r} holds no word; say what you want in one sentence, in any language")
        goal = many_lines(self.goal)  # words of a command line need not be UTF-8
        if len(goal) > PROSE:
            raise UsageError(f"--goal: {len(goal):,} characters; say it in {PROSE:,} or fewer")
        target = self.target if self.target_accuracy is None else f"accuracy>={self.target_accuracy:g}"
        return LoopRequest(self.max_iterations, goal, None if target is None else one_line(target), self.patience)


@dataclass(frozen=True)
class ResearcherFlags:
    """Who thinks, in place of config.yaml's researcher.

    Args:
        researcher: Who thinks: offline, llm, claude, codex, aider, mini, command, scripted, or package.module:Class.
        script: Answers of the scripted researcher, a YAML file.
        command: The command researcher's program, with {prompt_file} and {workspace}.
        model: The language model that thinks, PROVIDER:NAME, such as openai:gpt-5 or ollama:qwen3.
        base_url: Address of an OpenAI-compatible service, in place of the provider's own.
        llm_timeout: Seconds for one call of the model.
    """

    researcher: str | None = None
    script: str | None = None
    command: str | None = None
    model: Annotated[str | None, arg(aliases=["--llm-model"])] = None
    base_url: Annotated[str | None, arg(aliases=["--llm-base-url"])] = None
    llm_timeout: float | None = None


@dataclass(frozen=True)
class TrialFlags:
    """Where and how trials run, in place of config.yaml's keys.

    Args:
        executor: Where trials run: local, or package.module:Class.
        containment: Level for this command, in place of config.yaml's. At none, programs run with your rights.
        resolve: Go on where a gain has become unlikely, until it is refuted.
    """

    executor: str | None = None
    containment: Literal["full", "partial", "none"] | None = None
    resolve: bool = False


@dataclass(frozen=True)
class RecordFlags:
    """What is kept: everything. The flags are there for scripts that pass them.

    Args:
        keep: Everything is always kept; the flag is there for scripts that pass it.
        llm_raw: Every prompt and raw reply is always kept, too.
    """

    keep: bool = True
    llm_raw: bool = True

    def refuse_less(self) -> None:
        """UsageError for a flag that would keep less."""
        if not self.keep:
            raise UsageError("--no-keep: the record is never thrown away; leave the flag out")
        if not self.llm_raw:
            raise UsageError("--no-llm-raw: every reply is kept as it came; leave the flag out")


@dataclass(frozen=True)
class LabFlags:
    """Which lab, and how a user watches it.

    Args:
        plain: Lines only, on a terminal too.
        dir: A folder in the lab.
    """

    plain: bool = False
    dir: Path = Path(".")


@dataclass(frozen=True)
class CheckedModelFlags:
    """Which model `doctor --llm` looks at, in place of config.yaml's.

    Args:
        researcher: With --llm, look at this one, in place of config.yaml's.
        model: With --llm, look at this model.
        base_url: With --llm, its address.
        json: One JSON object.
    """

    researcher: str | None = None
    model: Annotated[str | None, arg(aliases=["--llm-model"])] = None
    base_url: Annotated[str | None, arg(aliases=["--llm-base-url"])] = None
    json: bool = False
