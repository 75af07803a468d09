"""A method as the files of a lab: what a candidate that the assembler writes consists of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from autolab.lab.schemas.method import Method
from autolab.lab.schemas.replies import Edit, NewFile
from autolab.researchers.assembler.assemble import method_source
from autolab.researchers.assembler.model_source import model_source
from autolab.researchers.assembler.recipe_source import recipe_source

METHOD = "method.json"


class NotApplicable(Exception):
    """A change that cannot be made here, or changes nothing: why, in words that follow the change's name."""


@dataclass(frozen=True)
class WrittenMethod:
    """A candidate's code: whole files and edits. `plan` says in a line each what changed."""

    files: tuple[NewFile, ...]
    edits: tuple[Edit, ...]
    plan: tuple[str, ...]


def method_files(base: Method, made: Method, read: Callable[[str], str | None]) -> WrittenMethod:
    """A method as the files of a picture lab: what the assembler writes, and the name of the default model.

    NotApplicable if models/__init__.py names no default model.
    """
    files, edits, plan = [], [], []
    if made.model != base.model:
        source = model_source(made.model)
        files.append(NewFile(path=source.path, content=source.text))
        plan.append(f"`{source.path}`: the new model, assembled (sha256 {source.sha256[:12]})")
        default = re.search(r'(?m)^DEFAULT = ".*"$', read("models/__init__.py") or "")
        if default is None:
            raise NotApplicable('models/__init__.py: no line `DEFAULT = "..."` that names the default model')
        edits.append(Edit(path="models/__init__.py", search=default[0], replace=f'DEFAULT = "{made.model.name}"'))
        plan.append("`models/__init__.py`: it becomes the default, so that later work builds on it")
    if made.recipe != base.recipe:
        source = recipe_source(made.recipe)
        files.append(NewFile(path=source.path, content=source.text))
        old, new = base.recipe.value(), made.recipe.value()
        changed = ", ".join(f"{key} {old[key]} to {new[key]}" for key in new if new[key] != old[key])
        plan.append(f"`{source.path}`: {changed} (sha256 {source.sha256[:12]})")
    source = method_source(made)
    files.append(NewFile(path=source.path, content=source.text))
    plan.append(f"`{source.path}`: says so")
    return WrittenMethod(tuple(files), tuple(edits), tuple(plan))
