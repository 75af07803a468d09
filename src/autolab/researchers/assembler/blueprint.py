"""A model that a researcher describes as data: what a lab with a method.json can say of it, and make of it.

A design's `model` may hold a `model_config` and a `recipe`. What they leave out is the base's: the pictures' shape, the
number of classes, the keys of the recipe. A new network has a name of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.method import Method, ModelConfig, RecipeConfig
from autolab.lab.schemas.replies import ImplementationOutput, NewFile
from autolab.researchers import prompts
from autolab.researchers.assembler.written_method import METHOD, NotApplicable, WrittenMethod, method_files

MODEL, RECIPE = "model_config", "recipe"
Read = Callable[[str], str | None]
"""Reads a file of the base commit; None where there is none."""


def told(read: Read) -> str:
    """The base's method and what another one may hold, for a prompt."""
    text = read(METHOD)
    if text is None:
        return "This lab has no method.json: leave model_config and next_config out, and write code."
    parts = [f"method.json, the present model and recipe:\n{text.rstrip()}"]
    for name, kind in ((MODEL, ModelConfig), (RECIPE, RecipeConfig)):
        parts.append(f"{name}: {' '.join((kind.__doc__ or '').split())} Its schema:\n{prompts.schema(kind)}")
    return "\n\n".join(parts)


def unfit(read: Read, model: Mapping[str, JsonValue] | None, name: str) -> str:
    """Why a design's `model` cannot be assembled, in one line; empty where it can, or where it describes none."""
    if not _describes(read, model):
        return ""
    assert model is not None
    try:
        _files(read, model, name)
    except RecordError as error:
        return str(error)
    return ""


def written(read: Read, model: Mapping[str, JsonValue] | None, name: str) -> ImplementationOutput | None:
    """A design's `model` as the assembler writes it; None where the lab has no method.json or it describes none.

    RecordError: it cannot be assembled.
    """
    if not _describes(read, model):
        return None
    assert model is not None
    files = _files(read, model, name)
    plan = "\n".join(f"- {line}" for line in files.plan)
    return ImplementationOutput(plan=plan, files=files.files, edits=files.edits, via="assembler")


def alone(made: ImplementationOutput, changed: list[str], read: Read) -> ImplementationOutput:
    """`made`, with every other file of `changed` as in the base."""
    mine = {file.path for file in made.files} | {edit.path for edit in made.edits}
    others = {path: read(path) for path in changed if path not in mine}
    back = tuple(NewFile(path=path, content=text) for path, text in others.items() if text is not None)
    gone = tuple(path for path, text in others.items() if text is None)
    return made.model_copy(update={"files": made.files + back, "delete": gone})


def _describes(read: Read, model: Mapping[str, JsonValue] | None) -> bool:
    return bool(model) and bool({MODEL, RECIPE} & set(model or ())) and read(METHOD) is not None


def _files(read: Read, model: Mapping[str, JsonValue], name: str) -> WrittenMethod:
    base = Method.from_text(read(METHOD) or "", METHOD)
    try:
        return method_files(base, _made(base, model, name, read), read)
    except NotApplicable as error:
        raise RecordError(str(error)) from None


def _made(base: Method, model: Mapping[str, JsonValue], name: str, read: Read) -> Method:
    value, shown = base.value(), "model"
    network, recipe = model.get(MODEL), model.get(RECIPE, {})
    if network is not None:
        if not isinstance(network, dict):
            raise RecordError(f"{shown}: {MODEL}: is not a mapping")
        kept = {key: value["model"][key] for key in ("input", "classes")}
        value["model"] = {"name": _name(name), **kept, **network}
    if not isinstance(recipe, dict):
        raise RecordError(f"{shown}: {RECIPE}: is not a mapping")
    value["recipe"] |= recipe
    # The parts by themselves first: an error names the field as the answer has it.
    ModelConfig.from_value(value["model"], f"{shown}: {MODEL}")
    RecipeConfig.from_value(value["recipe"], f"{shown}: {RECIPE}")
    made = Method.from_value(value, shown)
    _refuse_other(base, made, read)
    return made


def _refuse_other(base: Method, made: Method, read: Read) -> None:
    """RecordError for other pictures than the lab's, and for the name of a model that is to stay what it is."""
    for key in ("input", "classes"):
        was, now = base.model.value()[key], made.model.value()[key]
        if was != now:
            raise RecordError(f"model: {MODEL}: {key}: {now}, but the lab's is {was}")
    name = made.model.name
    stays = name in base.baselines or (name != base.model.name and read(f"models/{name}.py") is not None)
    if made.model != base.model and stays:
        raise RecordError(f"model: {MODEL}: name: models/{name}.py is there already; choose another name")


def _name(text: str) -> str:
    """A name for a new model that gave none."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")
    return f"model_{plain}"[:48]
