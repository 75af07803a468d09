"""A method as the files of a lab: the code of a candidate that the assembler writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autolab.lab.schemas.method import Method
from autolab.lab.schemas.replies import Edit, ImplementationOutput, NewFile
from autolab.researchers.assembler.model_source import model_source
from autolab.researchers.assembler.recipe_source import recipe_source
from autolab.researchers.assembler.source import Source

METHOD = "method.json"


class NotApplicable(Exception):
    """A change that cannot be made here, or changes nothing: why, in words that follow the change's name."""


@dataclass(frozen=True)
class WrittenMethod:
    """A candidate's code: whole files and edits. `plan` says in one line each what changed."""

    files: tuple[NewFile, ...]
    edits: tuple[Edit, ...]
    plan: tuple[str, ...]

    def implementation(self, via: str | None) -> ImplementationOutput:
        """The answer to a request for code; `via` names what wrote it."""
        plan = "\n".join(f"- {line}" for line in self.plan)
        return ImplementationOutput(plan=plan, files=self.files, edits=self.edits, via=via)


def method_files(base: Method, changed: Method, read: Callable[[str], str | None]) -> WrittenMethod:
    """The files that turn a picture lab's method `base` into `changed`; `read` reads a file of the base.

    NotApplicable: models/__init__.py names no default model.
    """
    files, edits, plan = [], [], []

    def add(source: Source, change: str) -> None:
        files.append(NewFile(path=source.path, content=source.text))
        plan.append(f"`{source.path}`: {change}")

    if changed.model != base.model:
        source = model_source(changed.model)
        add(source, f"the new model, assembled (sha256 {source.sha256[:12]})")
        default = re.search(r'(?m)^DEFAULT = ".*"$', read("models/__init__.py") or "")
        if default is None:
            raise NotApplicable('models/__init__.py: no line `DEFAULT = "..."` that names the default model')
        replacement = f'DEFAULT = "{changed.model.name}"'
        edits.append(Edit(path="models/__init__.py", search=default[0], replace=replacement))
        # Trials run the default model, so a new model must become it.
        plan.append("`models/__init__.py`: it becomes the default, so that later work builds on it")
    if changed.recipe != base.recipe:
        source = recipe_source(changed.recipe)
        old = base.recipe.value()
        changes = []
        for key, value in changed.recipe.value().items():
            if value != old[key]:
                changes.append(f"{key} {old[key]} to {value}")
        add(source, f"{', '.join(changes)} (sha256 {source.sha256[:12]})")
    add(method_source(changed), "describes both")
    return WrittenMethod(tuple(files), tuple(edits), tuple(plan))


def method_source(method: Method) -> Source:
    """`method.json` with every value written out, a layer a line."""
    return Source(Method.FILE, _json(method.value()) + "\n")


def _json(value: Any, indent: str = "") -> str:
    """JSON with one line for each layer and for each list of plain values."""
    inner = indent + "  "
    # A layer, which has a type, stays on one line: a change of it is one line of a diff.
    if isinstance(value, dict) and "type" not in value:
        lines = [f"{json.dumps(key)}: {_json(part, inner)}" for key, part in value.items()]
        brackets = "{}"
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        lines = [_json(part, inner) for part in value]
        brackets = "[]"
    else:
        return json.dumps(value)
    body = f",\n{inner}".join(lines)
    return f"{brackets[0]}\n{inner}{body}\n{indent}{brackets[1]}"
