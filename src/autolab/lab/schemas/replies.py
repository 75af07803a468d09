"""A researcher's answer: the keys of every answer, and a typed output for each kind of request.

An answer comes from a model or a program. So texts and lists have limits, and invisible characters become visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, JsonValue, model_validator

from autolab.errors import RecordError
from autolab.lab.schemas.config import Direction, Positive
from autolab.lab.schemas.experiment import Arm, Criterion, Finding, MaxPairs
from autolab.lab.schemas.outcomes import Decision, RequestKind
from autolab.lab.schemas.record import PROSE, SETTINGS, Prose, Record, Sentence, Settings
from autolab.sandbox.executed_names import fold
from autolab.sandbox.path_names import not_plain
from autolab.text import many_lines, one_line, short_name

FILE_CHARACTERS = 1_000_000
"""Most characters of a file that an answer writes."""
PAPER_CHARACTERS = 50_000
PAPERS_CHARACTERS = 200_000
"""Most characters of all paper files of one answer."""
MANY = 100
"""Most entries of a list in an answer."""
PROBLEMS = 5
"""Most faulty ideas of one answer whose faults a message names."""
MOST_FILES = 200
"""Most files that one answer changes."""
MOST_EDITS = 1_000
MOST_SEEDS = 1_000
_LARGEST_SEED = 2**63 - 1


def _short_in_all(texts: tuple[str, ...]) -> tuple[str, ...]:
    """ValueError: texts that are short one by one and long together."""
    _require_short(sum(map(len, texts)), PROSE)
    return texts


def _require_short(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"{size:,} characters in all, at most {limit:,} are allowed; say it shorter")


def _without_null(text: str) -> str:
    place = text.find("\0")
    if place >= 0:
        line = text.count("\n", 0, place) + 1
        raise ValueError(f"line {line} holds a NUL character, which no source file has; write the escape of it")
    return text


def _plain_path(path: str) -> str:
    problem = not_plain(path)
    if problem is not None:
        raise ValueError(problem)
    return path


Metric = Annotated[str, Field(max_length=200), AfterValidator(short_name)]
Sentences = Annotated[tuple[Sentence, ...], Field(max_length=MANY), AfterValidator(_short_in_all)]
Code = Annotated[str, Field(max_length=FILE_CHARACTERS), AfterValidator(_without_null)]
"""A file's content or a part of it: no character is changed."""
Path = Annotated[str, Field(max_length=2_000), AfterValidator(_plain_path)]
"""A plain path. Whether the researcher may change the file is for the path policy to say."""


class AgentResult(Record):
    """The answer to one request. `completion_token_seen` is recorded and decides nothing."""

    FILE: ClassVar[str] = ".autolab/agent_result.json"

    status: Literal["complete", "needs_retry", "failed"]
    summary: Prose
    changed_files: tuple[Sentence, ...]
    completion_token_seen: bool
    output: dict[str, JsonValue] | None = None
    needs_user: bool = False
    """Only a user can fix what keeps this status `failed`: a refused key, a spent quota, an unknown model."""


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


def _small_arms(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    size = sum(len(str(arm.config_overrides)) for arm in arms)
    if size > SETTINGS:
        raise ValueError(f"settings of {size:,} characters in all, at most {SETTINGS:,} are allowed")
    return arms


Arms = Annotated[tuple[Arm, ...], Field(max_length=MANY), AfterValidator(_small_arms)]
Seed = Annotated[int, Field(ge=-_LARGEST_SEED, le=_LARGEST_SEED)]
Seeds = Annotated[tuple[Seed, ...], Field(max_length=MOST_SEEDS)]


class DesignOutput(Record):
    """The experiment. Ids, entrypoint and base commit come from the lab, and seeds too if they are left out."""

    description: Prose
    baselines: Arms
    variants: Arms
    train: Settings = {}
    model: Settings | None = None
    changes: Settings = {}
    dataset: Sentence | None = None
    seeds: Seeds | MaxPairs | None = None
    secondary: Annotated[tuple[Metric, ...], Field(max_length=MANY)] = ()
    success_delta: Positive | None = None
    criteria: Annotated[tuple[Criterion, ...], Field(max_length=MANY)] = ()


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

    A path stands in one of the three lists alone, and once: only edits may come back to it. `via` says who wrote the
    code, if it was not the researcher itself.
    """

    plan: Prose
    via: Sentence | None = None
    files: tuple[NewFile, ...] = ()
    edits: tuple[Edit, ...] = ()
    delete: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that it changes; one that has several edits is there once."""
        edited = dict.fromkeys(edit.path for edit in self.edits)
        return (*(file.path for file in self.files), *edited, *self.delete)

    @property
    def is_empty(self) -> bool:
        return not self.paths

    @model_validator(mode="after")
    def _has_each_path_once(self) -> Self:
        paths = self.paths
        if len(paths) > MOST_FILES:
            raise ValueError(f"changes {len(paths):,} files, at most {MOST_FILES} are allowed")
        if len(self.edits) > MOST_EDITS:
            raise ValueError(f"{len(self.edits):,} edits, at most {MOST_EDITS:,} are allowed; write the file whole")
        if len(set(paths)) < len(paths):
            path = next(path for path in paths if paths.count(path) > 1)
            raise ValueError(f"{path[:200]}: given twice; name each file once, in files, in edits or in delete")
        self._require_names_apart()
        return self

    def _require_names_apart(self) -> None:
        """ValueError: a file system without case would take two written files for one."""
        seen: dict[str, str] = {}
        # Without the deleted ones: a file may be renamed to another spelling.
        for path in self.paths[: len(self.paths) - len(self.delete)]:
            other = seen.setdefault(fold(path), path)
            if other != path:
                raise ValueError(
                    f"{path[:200]}: the same name as {other[:200]} on a file system without case; name one of them"
                )


class IdeasOutput(Record):
    """Several claims in one answer. Each is read by itself: one that does not fit spoils none of the others."""

    ENTRY: ClassVar[type[HypothesisOutput]] = HypothesisOutput

    ideas: Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=MANY)]

    @classmethod
    def from_value(cls, value: object, file: str, lines: dict[str, int] | None = None) -> Self:
        """As of every record. One claim without the list around it is a list of one. RecordError: none fits."""
        output = super().from_value(_listed(value), file, lines)
        entries = output.entries()
        problems = [entry for entry in entries if isinstance(entry, str)]
        if len(problems) == len(entries):
            raise RecordError(f"{file}: {'; '.join(shortened(problems))}")
        return output

    @classmethod
    def faults(cls, value: object, file: str) -> list[str]:
        return super().faults(_listed(value), file)

    def entries(self) -> list[HypothesisOutput | str]:
        """The claims in their order; in the place of one that does not fit, a line that says why."""
        entries: list[HypothesisOutput | str] = []
        for number, value in enumerate(self.ideas, 1):
            try:
                entries.append(self.ENTRY.from_value(value, f"idea {number}"))
            except RecordError as error:
                entries.append(str(error))
        return entries


class CodedIdea(HypothesisOutput):
    """A claim with its code, where that is a small change. Without it the code is asked for later."""

    implementation: ImplementationOutput | None = None

    @model_validator(mode="after")
    def _names_no_author(self) -> Self:
        if self.implementation is not None and self.implementation.via is not None:
            raise ValueError("implementation.via: unknown key")
        return self


class CodedIdeasOutput(IdeasOutput):
    """Several claims in one answer, each of which may hold its code."""

    ENTRY = CodedIdea


def _listed(value: object) -> object:
    """A single claim as a list of one; anything else as it is."""
    return {"ideas": [value]} if isinstance(value, dict) and "title" in value else value


def shortened(problems: Sequence[str]) -> list[str]:
    """The first few problems of many, and how many more there are."""
    if len(problems) <= PROBLEMS:
        return list(problems)
    return [*problems[:PROBLEMS], f"and {len(problems) - PROBLEMS} more"]


def _few_words(findings: Sequence[Finding]) -> Sequence[Finding]:
    _require_short(sum(len(finding.message) for finding in findings), PROSE)
    return findings


class ReviewOutput(Record):
    """The reviewer's findings. The engine decides, from these and from the verifiers' checks."""

    findings: Annotated[tuple[Finding, ...], Field(max_length=MANY), AfterValidator(_few_words)]
    notes: Prose = ""


class PaperUpdate(Record):
    """New text for one paper file."""

    path: Path
    text: Annotated[str, Field(max_length=PAPER_CHARACTERS), AfterValidator(many_lines)]


def _few_papers(papers: Sequence[PaperUpdate]) -> Sequence[PaperUpdate]:
    _require_short(sum(len(paper.text) for paper in papers), PAPERS_CHARACTERS)
    return papers


class DocsOutput(Record):
    """What the numbers show, what follows from that, and what is claimed."""

    observation: Prose
    inference: Prose
    claim: Prose
    paper: Annotated[tuple[PaperUpdate, ...], Field(max_length=MANY), AfterValidator(_few_papers)] = ()
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
