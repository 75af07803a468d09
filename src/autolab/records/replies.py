"""What a researcher answers: four keys and, per stage, a typed output."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, JsonValue

from autolab.records.base import Record
from autolab.records.experiment import Arm, Criterion, Finding, MaxPairs
from autolab.records.lab import Direction, Positive, Stage
from autolab.records.outcomes import Decision


class AgentResult(Record):
    """The answer of one ask. A completion token is noted, and proves nothing."""

    FILE: ClassVar[str] = ".autolab/agent_result.json"

    status: Literal["complete", "needs_retry", "failed"]
    summary: str
    changed_files: tuple[str, ...]
    completion_token_seen: bool
    output: dict[str, JsonValue] | None = None


Title = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]
"""One line that says something: it becomes a heading, a branch and a row of tables."""


class HypothesisOutput(Record):
    """One testable claim; metric, direction and delta default to the lab's.

    `model` (or `model_config`) is the network proposed, for a lab with a method.json; `action` may say what this is.
    """

    action: Literal["propose"] = "propose"
    title: Title
    mechanism: str
    success: str
    risk_bounds: tuple[str, ...]
    references: tuple[str, ...] = ()
    metric: str | None = None
    direction: Direction | None = None
    success_delta: Positive | None = None
    family: str | None = None
    changes: dict[str, JsonValue] = {}
    model: dict[str, JsonValue] | None = Field(None, validation_alias=AliasChoices("model", "model_config"))
    assumptions: tuple[str, ...] = ()
    notes: str = ""
    body: str = ""


class DesignOutput(Record):
    """The experiment; ids, entrypoint, base commit and seeds come from the lab where not given."""

    description: str
    baselines: tuple[Arm, ...]
    variants: tuple[Arm, ...]
    train: dict[str, JsonValue] = {}
    model: dict[str, JsonValue] | None = None
    changes: dict[str, JsonValue] = {}
    dataset: str | None = None
    seeds: tuple[int, ...] | MaxPairs | None = None
    secondary: tuple[str, ...] = ()
    success_delta: Positive | None = None
    criteria: tuple[Criterion, ...] = ()


class NewFile(Record):
    path: str
    content: str


class Edit(Record):
    """Replace the one place where `search` stands in `path`."""

    path: str
    search: str
    replace: str


class ImplementationOutput(Record):
    """Changes for the worktree, applied all or none. An agent that edited the worktree itself leaves them empty.

    `via` says who wrote the code, where it was not the researcher itself.
    """

    plan: str
    via: str | None = None
    files: tuple[NewFile, ...] = ()
    edits: tuple[Edit, ...] = ()
    delete: tuple[str, ...] = ()


class ReviewOutput(Record):
    """The reviewer's findings. The checks are the verifiers', the gate is the engine's."""

    findings: tuple[Finding, ...]
    notes: str = ""


class PaperUpdate(Record):
    path: str
    text: str


class DocsOutput(Record):
    """The reader's words about the numbers: observation, inference and claim apart."""

    observation: str
    inference: str
    claim: str
    paper: tuple[PaperUpdate, ...] = ()
    no_changes: str | None = None


class DecisionOutput(Record):
    """What to do next, and why. `achieve` holds only if the measured metric meets the target.

    `decision` may be called `action`. `next_config` is the network that a refinement is to try.
    """

    decision: Decision = Field(validation_alias=AliasChoices("decision", "action"))
    reason: str
    next_config: dict[str, JsonValue] | None = None


Output = HypothesisOutput | DesignOutput | ImplementationOutput | ReviewOutput | DocsOutput | DecisionOutput

OUTPUTS: dict[Stage, type[Output]] = {
    Stage.HYPOTHESIS: HypothesisOutput,
    Stage.DESIGN: DesignOutput,
    Stage.IMPLEMENTATION: ImplementationOutput,
    Stage.IMPLEMENTATION_REVIEW: ReviewOutput,
    Stage.UPDATE_DOCS: DocsOutput,
    Stage.DECIDE_REPEAT: DecisionOutput,
}
