"""A researcher's answer: the keys of every answer, and a typed output for each kind of request.

An answer comes from a model or a program. So texts and lists have limits, and invisible characters become visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.config import Direction, Positive
from autolab.lab.schemas.experiment import Arm, Criterion, Finding, MaxPairs
from autolab.lab.schemas.outcomes import Decision, RequestKind
from autolab.lab.schemas.record import Prose, Record, Sentence, Settings
from autolab.text import many_lines, one_line, short_name

FILE_CHARACTERS = 1_000_000
"""Most characters of a file that an answer writes."""
PAPER_CHARACTERS = 50_000
MANY = 100
"""Most entries of a list in an answer."""
PROBLEMS = 5
"""Most faulty ideas of one answer whose faults a message names."""

Metric = Annotated[str, Field(max_length=200), AfterValidator(short_name)]
Sentences = Annotated[tuple[Sentence, ...], Field(max_length=MANY)]
Code = Annotated[str, Field(max_length=FILE_CHARACTERS)]
"""A file's content or a part of it: no character is changed."""
Path = Annotated[str, Field(max_length=2_000)]
"""Not changed here: `loop/edits.py` refuses what is no plain path below the worktree."""


class AgentResult(Record):
    """The answer to one request. `completion_token_seen` is recorded and decides nothing."""

    FILE: ClassVar[str] = ".autolab/agent_result.json"

    status: Literal["complete", "needs_retry", "failed"]
    summary: Prose
    changed_files: tuple[Sentence, ...]
    completion_token_seen: bool
    output: dict[str, JsonValue] | None = None


class StoredReply(Record):
    """A service's reply to a paid call, without secrets. `base64`: its bytes are not UTF-8, and `body` encodes them."""

    status: int
    headers: dict[str, str]
    body: str
    base64: bool
    seconds: float
    fault: str


Title = Annotated[
    str,
    Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
    AfterValidator(one_line),
]
"""One line that is not blank. It becomes a heading, a branch and a row of tables."""


class HypothesisOutput(Record):
    """One testable claim. Metric, direction and success_delta default to the lab's.

    `model` (or `model_config`) is the proposed network, for a lab with a method.json.
    """

    action: Literal["propose"] = "propose"
    title: Title
    mechanism: Prose
    success: Prose
    risk_bounds: Sentences
    references: Sentences = ()
    metric: Metric | None = None
    direction: Direction | None = None
    success_delta: Positive | None = None
    family: Metric | None = None
    changes: Settings = {}
    model: Settings | None = Field(None, validation_alias=AliasChoices("model", "model_config"))
    assumptions: Sentences = ()
    notes: Prose = ""
    body: Prose = ""


class IdeasOutput(Record):
    """Several claims in one answer. Each is read by itself: one that does not fit spoils none of the others."""

    ENTRY: ClassVar[type[HypothesisOutput]] = HypothesisOutput

    ideas: Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=MANY)]

    @classmethod
    def from_value(cls, value: object, file: str, lines: dict[str, int] | None = None) -> Self:
        """As of every record. One claim without the list around it is a list of one. RecordError: none fits."""
        if isinstance(value, dict) and "title" in value:
            value = {"ideas": [value]}
        output = super().from_value(value, file, lines)
        entries = output.entries()
        problems = [entry for entry in entries if isinstance(entry, str)]
        if len(problems) == len(entries):
            raise RecordError(f"{file}: {'; '.join(shortened(problems))}")
        return output

    def entries(self) -> list[HypothesisOutput | str]:
        """The claims in their order; in the place of one that does not fit, a line that says why."""
        entries: list[HypothesisOutput | str] = []
        for number, value in enumerate(self.ideas, 1):
            try:
                entries.append(self.ENTRY.from_value(value, f"idea {number}"))
            except RecordError as error:
                entries.append(str(error))
        return entries


def shortened(problems: Sequence[str]) -> list[str]:
    """The first few problems of many, and how many more there are."""
    if len(problems) <= PROBLEMS:
        return list(problems)
    return [*problems[:PROBLEMS], f"and {len(problems) - PROBLEMS} more"]


class DesignOutput(Record):
    """The experiment. Ids, entrypoint and base commit come from the lab, and seeds too if they are left out."""

    description: Prose
    baselines: tuple[Arm, ...]
    variants: tuple[Arm, ...]
    train: Settings = {}
    model: Settings | None = None
    changes: Settings = {}
    dataset: Sentence | None = None
    seeds: tuple[int, ...] | MaxPairs | None = None
    secondary: Annotated[tuple[Metric, ...], Field(max_length=MANY)] = ()
    success_delta: Positive | None = None
    criteria: tuple[Criterion, ...] = ()


class NewFile(Record):
    """A file to write, new or in place of the present one."""

    path: Path
    content: Code


class Edit(Record):
    """Replace `search` in the file `path`, where it must occur exactly once."""

    path: Path
    search: Code
    replace: Code


class ImplementationOutput(Record):
    """Changes to the worktree, applied all or none. An agent that edited the worktree itself leaves them empty.

    `via` says who wrote the code, if it was not the researcher itself.
    """

    plan: Prose
    via: Sentence | None = None
    files: tuple[NewFile, ...] = ()
    edits: tuple[Edit, ...] = ()
    delete: tuple[Path, ...] = ()


class ReviewOutput(Record):
    """The reviewer's findings. The engine decides, from these and from the verifiers' checks."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=MANY)]
    notes: Prose = ""


class PaperUpdate(Record):
    """New text for one paper file."""

    path: Path
    text: Annotated[str, Field(max_length=PAPER_CHARACTERS), AfterValidator(many_lines)]


class DocsOutput(Record):
    """What the numbers show, what follows from that, and what is claimed."""

    observation: Prose
    inference: Prose
    claim: Prose
    paper: Annotated[tuple[PaperUpdate, ...], Field(max_length=MANY)] = ()
    no_changes: Prose | None = None


class DecisionOutput(Record):
    """What to do next, and why. `achieve` holds only if the measured metric meets the target.

    `decision` may be called `action`. `next_config` is the network that a refinement is to try.
    """

    decision: Decision = Field(validation_alias=AliasChoices("decision", "action"))
    reason: Prose
    next_config: Settings | None = None


Output = (
    HypothesisOutput | IdeasOutput | DesignOutput | ImplementationOutput | ReviewOutput | DocsOutput | DecisionOutput
)

OUTPUTS: dict[RequestKind, type[Output]] = {
    RequestKind.HYPOTHESIS: HypothesisOutput,
    RequestKind.DESIGN: DesignOutput,
    RequestKind.IMPLEMENTATION: ImplementationOutput,
    RequestKind.IMPLEMENTATION_REVIEW: ReviewOutput,
    RequestKind.UPDATE_DOCS: DocsOutput,
    RequestKind.DECIDE_REPEAT: DecisionOutput,
}
"""The form of the answer to each kind of request. A batch may ask for `IdeasOutput` in place of a hypothesis."""
