"""The prompts that a lab gives its researchers: which file a stage reads, what it may quote, and how it is filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from autolab.errors import RecordError
from autolab.records.experiment import Finding
from autolab.records.lab import Stage
from autolab.verifiers import blocking

VALUE_LIMIT = 20_000
"""Characters of one value that a prompt quotes."""

FILES: dict[Stage, tuple[str, ...]] = {
    Stage.HYPOTHESIS: ("stage_hypothesis.md",),
    Stage.DESIGN: ("stage_design.md",),
    Stage.IMPLEMENTATION: ("stage_implementation.md",),
    Stage.IMPLEMENTATION_REVIEW: ("stage_implementation_review.md",),
    Stage.UPDATE_DOCS: ("stage_docs.md", "stage_update_docs.md"),
    Stage.DECIDE_REPEAT: ("stage_decide.md", "stage_decide_repeat.md"),
}
"""Each stage's prompt in `.autolab/prompts`; of two names the first that is there."""

PLACEHOLDERS: dict[Stage, frozenset[str]] = {
    stage: frozenset(("iteration_id", "goal", "metric", "state_json", *names.split()))
    for stage, names in {
        Stage.HYPOTHESIS: "history",
        Stage.DESIGN: "hypothesis_md config history",
        Stage.IMPLEMENTATION: "hypothesis_md design_yaml review_feedback verifier_errors",
        Stage.IMPLEMENTATION_REVIEW: "design_yaml diff_summary verifier_outputs dry_run_output",
        Stage.UPDATE_DOCS: "summary_md results_yaml paper_targets",
        Stage.DECIDE_REPEAT: "summary_md target history",
    }.items()
}
"""What a prompt of each stage may quote."""

PARTS = ("ROLE", "INPUTS", "TASK", "DONE WHEN")
"""The headings of a prompt: its contract with whoever answers."""

_STAGES = {name: stage for stage, names in FILES.items() for name in names}
_INLINE = ("iteration_id", "metric", "target")
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def check(folder: Path) -> list[Finding]:
    """Findings on every `*.md` of `.autolab/prompts`: a stage that exists, placeholders that it knows."""
    found = []
    for path in sorted(folder.glob("*.md")):
        shown, stage = f".autolab/prompts/{path.name}", _STAGES.get(path.name)
        if stage is None:
            found.append(blocking("prompts", f"{shown}: names no stage; known: {', '.join(_STAGES)}", shown))
            continue
        names = set(_PLACEHOLDER.findall(path.read_text(encoding="utf-8", errors="replace")))
        for name in sorted(names - PLACEHOLDERS[stage]):
            known = ", ".join(sorted(PLACEHOLDERS[stage]))
            found.append(blocking("prompts", f"{shown}: {{{{{name}}}}} is not known in {stage}; known: {known}", shown))
        found += _role(path, stage, shown)
    missing = [names[0] for stage, names in FILES.items() if not any((folder / name).exists() for name in names)]
    return found + [
        blocking("prompts", f".autolab/prompts/{name}: missing; copy it from a new lab", name) for name in missing
    ]


def _role(path: Path, stage: Stage, shown: str) -> list[Finding]:
    """A prompt says who answers, with what, what is to be done and when that is the case; rendered, in this order."""
    values = dict.fromkeys(PLACEHOLDERS[stage], "an example")
    try:
        text = render(path.read_text(encoding="utf-8", errors="replace"), values)
    except RecordError:
        return []  # said above
    heads = re.findall(r"(?m)^# (ROLE|INPUTS|TASK|DONE WHEN)$", text)
    if heads == list(PARTS):
        return []
    told = ", ".join(f"`# {part}`" for part in PARTS)
    return [blocking("prompts", f"{shown}: needs the headings {told}, in this order and once each", shown)]


def render(text: str, values: Mapping[str, str], *, limit: int = VALUE_LIMIT) -> str:
    """Fill the placeholders. A value is fenced as data that nothing in it can close, and capped at `limit` characters.

    RecordError on a placeholder that no stage knows, or that has no value. Values are not searched for
    placeholders again.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if not any(name in known for known in PLACEHOLDERS.values()):
            raise RecordError(f"prompt: {{{{{name}}}}} is not a known placeholder; see `autolab verify`")
        if name not in values:
            raise RecordError(f"prompt: {{{{{name}}}}} has no value in this stage: remove it from the prompt")
        return _as_data(name, values[name], limit)

    return _PLACEHOLDER.sub(fill, text)


def _as_data(name: str, value: str, limit: int) -> str:
    if name in _INLINE and len(value) <= 200 and value.isprintable():
        return value
    if len(value) > limit:
        head, tail = limit * 3 // 4, limit - limit * 3 // 4
        value = f"{value[:head]}\n[... {len(value) - limit} characters left out ...]\n{value[-tail:]}"
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"\n{fence}data {name}\n{value.rstrip()}\n{fence}\n"
