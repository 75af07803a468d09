"""The prompts that a lab gives its researchers: which file a request reads, what it may quote, and how it is filled.

A prompt begins with `<!-- autolab prompt NAME version N -->`, which is not sent. A *contract* is what a kind of
researcher reads beside the stage's prompt: how to answer, with the schema of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Finding
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import Record
from autolab.lab.schemas.replies import OUTPUTS, HypothesisOutput
from autolab.text import decode
from autolab.verifiers.findings import blocking_finding

VALUE_LIMIT = 20_000
"""Characters of one value that a prompt quotes."""
LIMITS = {"files": 40_000}
"""Of those that have a limit of their own."""

FILES: dict[RequestKind, tuple[str, ...]] = {
    RequestKind.HYPOTHESIS: ("stage_hypothesis.md",),
    RequestKind.DESIGN: ("stage_design.md",),
    RequestKind.IMPLEMENTATION: ("stage_implementation.md",),
    RequestKind.IMPLEMENTATION_REVIEW: ("stage_implementation_review.md",),
    RequestKind.UPDATE_DOCS: ("stage_docs.md", "stage_update_docs.md"),
    RequestKind.DECIDE_REPEAT: ("stage_decide.md", "stage_decide_repeat.md"),
}
"""The prompt of each kind of request, in `.autolab/prompts`; of two names the first that is there."""

CONTRACTS = {"llm": "contract_llm.md", "command": "contract_command.md"}
"""What each kind of researcher that reads prompts is told of how to answer: a file beside the prompts."""

_EVERYWHERE = "iteration_id goal metric state_json trouble program"
REQUIRED: dict[RequestKind, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        RequestKind.HYPOTHESIS: "goal metric history plateau trouble",
        RequestKind.DESIGN: "hypothesis_md files trouble",
        RequestKind.IMPLEMENTATION: "design_yaml files review_feedback verifier_errors",
        RequestKind.IMPLEMENTATION_REVIEW: "design_yaml diff_summary evidence",
        RequestKind.UPDATE_DOCS: "summary_md paper_targets trouble",
        RequestKind.DECIDE_REPEAT: "summary_md standing history trouble",
    }.items()
}
"""What a prompt of each kind has to quote: without it an answer would be a guess."""

PLACEHOLDERS: dict[RequestKind, frozenset[str]] = {
    kind: REQUIRED[kind] | frozenset((*_EVERYWHERE.split(), *names.split()))
    for kind, names in {
        RequestKind.HYPOTHESIS: "method",
        RequestKind.DESIGN: "config history method",
        RequestKind.IMPLEMENTATION: "hypothesis_md",
        RequestKind.IMPLEMENTATION_REVIEW: "hypothesis_md verifier_outputs dry_run_output",
        RequestKind.UPDATE_DOCS: "results_yaml",
        RequestKind.DECIDE_REPEAT: "target method",
    }.items()
}
"""What a prompt of each kind may quote."""

PARTS = ("ROLE", "INPUTS", "TASK", "DONE WHEN")
"""The headings of a prompt: its contract with whoever answers."""

_KINDS = {name: kind for kind, names in FILES.items() for name in names}
_INLINE = ("iteration_id", "goal", "metric", "target", "standing")
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIRST = re.compile(r"\A<!-- autolab prompt (\S+) version (\d{1,9}) -->\n")
_BUILT_IN = ("via", "action", "body", "changes")
"""Fields of an answer that the built-in researcher uses, or that say nothing: no schema shows them."""


def check(folder: Path) -> list[Finding]:
    """Findings on every `*.md` of `.autolab/prompts`: a name that is read, its first line, what it quotes."""
    found = []
    for path in sorted(folder.glob("*.md")):
        text = decode(path.read_bytes())
        problems = _wrong(path.name, text) or _role(text, _KINDS.get(path.name))
        found += [blocking_finding("prompts", f"{_shown(path.name)}: {why}", _shown(path.name)) for why in problems]
    wanted = [*FILES.values(), *((name,) for name in CONTRACTS.values())]
    missing = [names[0] for names in wanted if not any((folder / name).exists() for name in names)]
    return found + [
        blocking_finding("prompts", f"{_shown(name)}: missing; copy it from a new lab", name) for name in missing
    ]


def require(path: Path) -> None:
    """RecordError in one line for a prompt file that `compose` would refuse."""
    problems = _wrong(path.name, path.read_text(encoding="utf-8", errors="replace"))
    if problems:
        raise RecordError(f"{_shown(path.name)}: {problems[0]}")


def version(text: str) -> int:
    """Of a prompt, by its first line; RecordError where that does not say it."""
    first = _FIRST.match(text)
    if first is None:
        raise RecordError("prompt: line 1: says no version; write <!-- autolab prompt NAME version 1 -->")
    return int(first[2])


def compose(name: str, text: str, values: Mapping[str, str]) -> str:
    """The prompt of the file `name`, filled. RecordError in one line for one that `check` would not let pass."""
    wrong = _wrong(name, text)
    if wrong:
        raise RecordError(f"{_shown(name)}: {wrong[0]}")
    return render(text, values)


def contract(text: str, kind: RequestKind) -> str:
    """A contract for one stage. The placeholders are `stage` and `schema`, that of the stage's answer."""
    values = {"stage": str(kind), "schema": schema(OUTPUTS[kind])}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise RecordError(f"contract: {{{{{match[1]}}}}} is not a known placeholder; known: schema, stage")
        return values[match[1]]

    return _PLACEHOLDER.sub(fill, _FIRST.sub("", text))


def schema(kind: type[Record]) -> str:
    """The JSON schema of a record on one line, without titles, descriptions and what only the built-in one uses."""
    made = _plain(kind.model_json_schema(), top=True)
    if kind is HypothesisOutput:  # the network itself; a design's `model` is more than that
        made["properties"]["model_config"] = made["properties"].pop("model")
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any, *, top: bool = False) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    made = {key: _plain(part) for key, part in value.items() if key not in ("title", "description", "properties")}
    if "properties" in value:
        hidden = _BUILT_IN if top else ()
        # A field may be called `title`: what is left out above are the schema's own words.
        made["properties"] = {name: _plain(part) for name, part in value["properties"].items() if name not in hidden}
    return made


def _wrong(name: str, text: str) -> list[str]:
    """What keeps a file from being used, each as one line that follows its name."""
    kind = _KINDS.get(name)
    if kind is None and name not in CONTRACTS.values():
        return [f"names no kind of request; known: {', '.join((*_KINDS, *CONTRACTS.values()))}"]
    stem = name.removesuffix(".md")
    first = _FIRST.match(text)
    problems = [] if first and first[1] == stem else [f"line 1: has to be <!-- autolab prompt {stem} version 1 -->"]
    named = set(_PLACEHOLDER.findall(text))
    known, needed = (PLACEHOLDERS[kind], REQUIRED[kind]) if kind else (_FOR_CONTRACTS, _FOR_CONTRACTS)
    of = str(kind) if kind else "a contract"
    listed = ", ".join(sorted(known))
    problems += [f"{{{{{one}}}}} is not known in {of}; known: {listed}" for one in sorted(named - known)]
    return problems + [
        f"quotes no {{{{{one}}}}}, which {of} needs; put it under INPUTS" for one in sorted(needed - named)
    ]


_FOR_CONTRACTS = frozenset(("stage", "schema"))


def _role(text: str, kind: RequestKind | None) -> list[str]:
    """A prompt says who answers, with what, what is to be done and when that is the case; rendered, in this order."""
    if kind is None:
        return []
    rendered = _PLACEHOLDER.sub("an example", text)
    heads = re.findall(r"(?m)^# (ROLE|INPUTS|TASK|DONE WHEN)$", rendered)
    headings = ", ".join(f"`# {part}`" for part in PARTS)
    return [] if heads == list(PARTS) else [f"needs the headings {headings}, in this order and once each"]


def _shown(name: str) -> str:
    return f".autolab/prompts/{name}"


def render(text: str, values: Mapping[str, str], *, limit: int = VALUE_LIMIT) -> str:
    """Fill the placeholders. A value is fenced as data that nothing in it can close, and capped at `limit` characters.

    RecordError on a placeholder that no stage knows, or that has no value. Values are not searched for
    placeholders again. The line that says the version is left out.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if not any(name in known for known in PLACEHOLDERS.values()):
            raise RecordError(f"prompt: {{{{{name}}}}} is not a known placeholder; see `autolab verify`")
        if name not in values:
            raise RecordError(f"prompt: {{{{{name}}}}} has no value in this stage: remove it from the prompt")
        return _as_data(name, values[name], LIMITS.get(name, limit))

    return _PLACEHOLDER.sub(fill, _FIRST.sub("", text))


def _as_data(name: str, value: str, limit: int) -> str:
    if name in _INLINE and len(value) <= 200 and value.isprintable():
        return value
    if len(value) > limit:
        head, tail = limit * 3 // 4, limit - limit * 3 // 4
        value = f"{value[:head]}\n[... {len(value) - limit} characters left out ...]\n{value[-tail:]}"
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}data {name}\n{value.rstrip() or 'none'}\n{fence}\n"
