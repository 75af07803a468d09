"""The prompts that a lab gives its researchers: which file a request reads, what it may quote, and how it is filled.

A prompt is a file of `.autolab/prompts`, which the user may edit. Its first line is
`<!-- autolab prompt NAME version N -->`, which is not sent; the rest is text with `{{name}}` where a value is quoted.
A *contract* is what a kind of researcher reads beside the stage's prompt: how to answer, with the schema of the answer.

The files are Jinja2 templates, rendered in its immutable sandbox. Only names in double braces, comments (`{# … #}`) and
`{% raw %}` are allowed: no attribute, call, filter, loop or include. Values are never parsed as templates.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Finding
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import Record
from autolab.lab.schemas.replies import OUTPUTS, HypothesisOutput, IdeasOutput
from autolab.text import decode, one_line
from autolab.verifiers.findings import blocking_finding

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

VALUE_LIMIT = 20_000
"""Characters of one value that a prompt quotes."""
LIMITS = {"files": 40_000, "history": 40_000}
"""The same for values with a limit of their own."""

FILES: dict[RequestKind, tuple[str, ...]] = {
    RequestKind.HYPOTHESIS: ("stage_hypothesis.md",),
    RequestKind.DESIGN: ("stage_design.md",),
    RequestKind.IMPLEMENTATION: ("stage_implementation.md",),
    RequestKind.IMPLEMENTATION_REVIEW: ("stage_implementation_review.md",),
    RequestKind.UPDATE_DOCS: ("stage_docs.md", "stage_update_docs.md"),
    RequestKind.DECIDE_REPEAT: ("stage_decide.md", "stage_decide_repeat.md"),
}
"""The prompt of each kind of request, in `.autolab/prompts`; of two names the first that exists."""

CONTRACTS = {"llm": "contract_llm.md", "command": "contract_command.md"}
"""The contract of each kind of researcher that reads prompts: a file beside the prompts."""

REQUIRED: dict[RequestKind, frozenset[str]] = {
    RequestKind.HYPOTHESIS: frozenset({"goal", "metric", "history", "plateau", "trouble"}),
    RequestKind.DESIGN: frozenset({"hypothesis_md", "files", "trouble"}),
    RequestKind.IMPLEMENTATION: frozenset({"design_yaml", "files", "review_feedback", "verifier_errors"}),
    RequestKind.IMPLEMENTATION_REVIEW: frozenset({"design_yaml", "diff_summary", "evidence"}),
    RequestKind.UPDATE_DOCS: frozenset({"summary_md", "paper_targets", "trouble"}),
    RequestKind.DECIDE_REPEAT: frozenset({"summary_md", "standing", "history", "trouble"}),
}
"""What a prompt of each kind must quote: without it an answer would be a guess."""

EVERYWHERE = frozenset(
    {
        *("iteration_id", "goal", "metric", "state_json", "program"),
        *("calibration", "best_so_far", "remaining"),
        *("trouble", "refused_answer"),
    }
)
"""What a prompt of any kind may quote."""
_OPTIONAL: dict[RequestKind, frozenset[str]] = {
    RequestKind.HYPOTHESIS: frozenset({"method", "wanted", "files", "curves", "failures"}),
    RequestKind.DESIGN: frozenset({"config", "history", "method"}),
    RequestKind.IMPLEMENTATION: frozenset({"hypothesis_md"}),
    RequestKind.IMPLEMENTATION_REVIEW: frozenset({"hypothesis_md", "verifier_outputs", "dry_run_output", "files"}),
    RequestKind.UPDATE_DOCS: frozenset({"results_yaml", "hypothesis_md"}),
    RequestKind.DECIDE_REPEAT: frozenset(
        {"target", "method", "hypothesis_md", "design_yaml", "diff_summary", "curves", "failures"}
    ),
}
PLACEHOLDERS: dict[RequestKind, frozenset[str]] = {
    kind: REQUIRED[kind] | EVERYWHERE | optional for kind, optional in _OPTIONAL.items()
}
"""What a prompt of each kind may quote."""

PARTS = ("ROLE", "INPUTS", "TASK", "DONE WHEN")
"""The headings of a prompt: who answers, from what, what the task is, and when it is done."""

_CONTRACT_NAMES = frozenset({"stage", "schema"})
AGENT_NAMES = frozenset({"time_limit", "budget", "reviewer", "checks"})
"""What the contract of a coding agent may use besides: how long it has, what is left, who reviews, what it may run."""
_KINDS = {name: kind for kind, names in FILES.items() for name in names}
_INLINE = frozenset({"iteration_id", "goal", "metric", "target", "standing", "wanted", "best_so_far", "remaining"})
_INLINE_LENGTH = 200
_FIRST = re.compile(r"\A<!-- autolab prompt (\S+) version (\d{1,9}) -->\n")
_HEADINGS = re.compile(rf"(?m)^# ({'|'.join(PARTS)})$")
_ALLOWED = frozenset({"Output", "TemplateData", "Name"})
"""Jinja2's nodes that a prompt may consist of. Everything else could run code or build text without a limit."""
_NOT_IN_SCHEMAS = frozenset({"via", "action", "body", "changes"})
"""Fields of an answer that the built-in researcher uses, or that say nothing: no schema shows them."""


@dataclass(frozen=True)
class Quotation:
    """A value that a prompt quotes."""

    name: str
    text: str

    def as_data(self) -> str:
        """The text, fenced as data. Nothing in it can close the fence; a text over its limit is cut in the middle.

        A short printable line with a name that the engine or the user chose stays in its line.
        """
        text = self.text
        # Without a line break it cannot pose as a heading or an instruction of its own.
        if self.name in _INLINE and len(text) <= _INLINE_LENGTH and text.isprintable():
            return text
        limit = LIMITS.get(self.name, VALUE_LIMIT)
        left_out = len(text) - limit
        if left_out > 0:
            # Both ends say most: a log its first and last lines, a document its subject and its result.
            head = limit * 3 // 4
            tail = limit - head
            text = f"{text[:head]}\n[... {left_out} characters left out ...]\n{text[-tail:]}"
        # A fence one backtick longer than any run in the text cannot be closed by the text.
        longest = max(map(len, re.findall(r"`+", text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"\n{fence}data {self.name}\n{text.rstrip() or 'none'}\n{fence}\n"


def check(folder: Path) -> list[Finding]:
    """Findings about every `*.md` of `.autolab/prompts`, and about each file that is missing."""
    findings = []
    for path in sorted(folder.glob("*.md")):
        text = decode(path.read_bytes())
        # Headings are read in the filled prompt, which only a sound template gives.
        for problem in _problems(path.name, text) or _missing_headings(path.name, text):
            findings.append(_finding(path.name, problem))
    contracts = [(name,) for name in CONTRACTS.values()]
    for names in (*FILES.values(), *contracts):
        if not any((folder / name).exists() for name in names):
            findings.append(_finding(names[0], "missing; copy it from a new lab"))
    return findings


def require(path: Path) -> None:
    """RecordError in one line for a prompt file that `compose` would refuse."""
    _raise_first(path.name, _problems(path.name, decode(path.read_bytes())))


def version(text: str) -> int:
    """The version in a prompt's first line. RecordError: there is none."""
    first = _FIRST.match(text)
    if first is None:
        raise RecordError("prompt: line 1: no version; write <!-- autolab prompt NAME version 1 -->")
    return int(first[2])


def compose(name: str, text: str, values: Mapping[str, str]) -> str:
    """The prompt of the file `name`, filled. RecordError in one line if `check` would refuse the file."""
    _raise_first(name, _problems(name, text))
    return render(text, values)


def render(text: str, values: Mapping[str, str]) -> str:
    """Fill a template: each value is quoted as data. The line with the version is left out.

    RecordError: the text is no template of ours, or a placeholder has no value.
    """
    return _fill("prompt", text, {name: Quotation(name, value) for name, value in values.items()})


def sizes(text: str, values: Mapping[str, str]) -> dict[str, int]:
    """Characters of each part of a filled prompt: its own text as `instructions`, and each value that it quotes."""
    from jinja2 import nodes

    parts: dict[str, int] = {}
    for node in _parse(text).find_all(nodes.Name):
        parts[node.name] = parts.get(node.name, 0) + len(Quotation(node.name, values[node.name]).as_data())
    return {"instructions": len(render(text, values)) - sum(parts.values()), **parts}


def contract(
    text: str, kind: RequestKind, values: Mapping[str, str] | None = None, form: type[Record] | None = None
) -> str:
    """A contract for one stage: its `stage` and `schema` are filled, and `values`, which an agent's may use.

    `form`: the form of the answer where it is not that of the kind. RecordError: it has another placeholder.
    """
    return _fill("contract", text, {"stage": str(kind), "schema": schema(form or OUTPUTS[kind]), **(values or {})})


def schema(kind: type[Record]) -> str:
    """The JSON schema of a record on one line, without titles, descriptions and what only the built-in one uses."""
    return json.dumps(_schema(kind), ensure_ascii=False, separators=(",", ":"))


def _schema(kind: type[Record]) -> dict[str, Any]:
    document: dict[str, Any] = _without_words(kind.model_json_schema())
    properties = document["properties"]
    # A model would fill them in if it saw them.
    for name in _NOT_IN_SCHEMAS:
        properties.pop(name, None)
    # Here it is the network itself; a design's `model` is more than that.
    if issubclass(kind, HypothesisOutput):
        properties["model_config"] = properties.pop("model")
    if issubclass(kind, IdeasOutput):
        entry = _schema(kind.ENTRY)
        document["$defs"] = document.get("$defs", {}) | entry.pop("$defs", {})
        properties["ideas"]["items"] = entry
    for part in document.get("$defs", {}).values():
        part.get("properties", {}).pop("via", None)
    return document


def _without_words(value: Any) -> Any:
    """A JSON schema without its own `title` and `description`; a field may have one of these names."""
    if isinstance(value, list):
        return [_without_words(part) for part in value]
    if not isinstance(value, dict):
        return value
    document = {}
    for key, part in value.items():
        # The keys below are names of fields, not words of the schema language.
        if key == "properties":
            document[key] = {name: _without_words(field) for name, field in part.items()}
        elif key not in ("title", "description"):
            document[key] = _without_words(part)
    return document


def _problems(name: str, text: str) -> list[str]:
    """What keeps a file from being used, each as one line that follows its name."""
    if name in CONTRACTS.values():
        subject, allowed, needed = "a contract", _CONTRACT_NAMES, _CONTRACT_NAMES
        if name == CONTRACTS["command"]:
            allowed |= AGENT_NAMES
    elif name in _KINDS:
        kind = _KINDS[name]
        subject, allowed, needed = str(kind), PLACEHOLDERS[kind], REQUIRED[kind]
    else:
        # A misspelt name would leave the user's text unread without a word.
        names = ", ".join((*_KINDS, *CONTRACTS.values()))
        return [f"no request reads a file of this name; known: {names}"]
    try:
        placeholders = _placeholders(_parse(text))
    except RecordError as error:
        return [str(error)]
    stem = name.removesuffix(".md")
    problems = []
    first = _FIRST.match(text)
    if first is None or first[1] != stem:
        problems.append(f"line 1: must be <!-- autolab prompt {stem} version 1 -->")
    names = ", ".join(sorted(allowed))
    for placeholder in sorted(placeholders.keys() - allowed):
        line = placeholders[placeholder]
        problems.append(f"line {line}: {{{{{placeholder}}}}} is not known in {subject}; known: {names}")
    for placeholder in sorted(needed - placeholders.keys()):
        problems.append(f"{{{{{placeholder}}}}} is missing, and {subject} needs it; put it under # INPUTS")
    return problems


def _missing_headings(name: str, text: str) -> list[str]:
    if name in CONTRACTS.values():
        return []
    # As it is sent: a comment is not, and a value must not count as a heading.
    example = render(text, dict.fromkeys(PLACEHOLDERS[_KINDS[name]], "an example"))
    if _HEADINGS.findall(example) == list(PARTS):
        return []
    headings = ", ".join(f"`# {part}`" for part in PARTS)
    return [f"needs the headings {headings}, in this order and once each"]


def _raise_first(name: str, problems: list[str]) -> None:
    if problems:
        raise RecordError(f".autolab/prompts/{name}: {problems[0]}")


def _finding(name: str, problem: str) -> Finding:
    path = f".autolab/prompts/{name}"
    return blocking_finding("prompts", f"{path}: {problem}", path)


# The template engine


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    # Loaded late: `autolab status` and most checks read no template.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_finalize, keep_trailing_newline=True)


def _finalize(value: object) -> object:
    """What stands in the place of a placeholder. A contract's values are the engine's own and stand as they are."""
    return value.as_data() if isinstance(value, Quotation) else value


def _parse(text: str) -> nodes.Template:
    """The template's tree. RecordError with the line: a syntax error, or more than text and names."""
    from jinja2 import TemplateSyntaxError, nodes

    way = "write {{name}} to quote a value, and {% raw %}…{% endraw %} around braces that are text"
    try:
        tree = _environment().parse(text)
    except TemplateSyntaxError as error:
        raise RecordError(f"line {error.lineno}: {one_line(error.message or 'syntax error')}; {way}") from None
    # A text of brackets alone reaches this before the parser finds anything wrong with it.
    except RecursionError:
        raise RecordError(f"brackets are nested too deeply; {way}") from None
    # Every node, not the names alone: a filter or a call may hide inside of an allowed one.
    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _ALLOWED:
            raise RecordError(f"line {node.lineno}: Jinja2's {kind} is not allowed in a prompt; {way}")
    return tree


def _placeholders(tree: nodes.Template) -> dict[str, int]:
    """The names that a template quotes, with the first line of each.

    Not `meta.find_undeclared_variables`, which leaves out `self` and gives no lines.
    """
    from jinja2 import nodes

    lines: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        lines.setdefault(node.name, node.lineno)
    return lines


def _fill(subject: str, text: str, values: Mapping[str, object]) -> str:
    try:
        tree = _parse(text)
    except RecordError as error:
        raise RecordError(f"{subject}: {error}") from None
    for name, line in _placeholders(tree).items():
        if name not in values:
            names = ", ".join(sorted(values))
            raise RecordError(f"{subject}: line {line}: {{{{{name}}}}} has no value here; known: {names}")
    # After rendering nothing is parsed again, so a value with braces stays text.
    return _FIRST.sub("", _environment().from_string(tree).render(values))
