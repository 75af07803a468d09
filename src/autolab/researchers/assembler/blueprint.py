"""A model that a researcher describes as data: what a lab with a method.json can check about it, and write from it.

A design's `model` may hold a `model_config` and a `recipe`. What they leave out comes from the base: the pictures'
shape, the number of classes, the other keys of the recipe. A new network has a name of its own.
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
"""Reads a file of the base commit; None if it is missing."""


def description(read: Read) -> str:
    """The base's method and what another method may hold, for a prompt."""
    text = read(METHOD)
    if text is None:
        return "This lab has no method.json: leave model_config and next_config out, and write code."
    parts = [f"method.json, the present model and recipe:\n{text.rstrip()}"]
    for name, kind in ((MODEL, ModelConfig), (RECIPE, RecipeConfig)):
        # One text for the readers of the code and the language model: the two cannot drift apart.
        summary = " ".join((kind.__doc__ or "").split())
        parts.append(f"{name}: {summary} Its schema:\n{prompts.schema(kind)}")
    return "\n\n".join(parts)


def unfit(read: Read, model: Mapping[str, JsonValue] | None, name: str) -> str:
    """Why a design's `model` cannot be assembled, in one line; empty if it can, or if there is nothing to assemble."""
    try:
        _files(read, model, name)
    except RecordError as error:
        return str(error)
    return ""


def implementation(read: Read, model: Mapping[str, JsonValue] | None, name: str) -> ImplementationOutput | None:
    """The code of a design's `model`; None if the lab has no method.json, or `model` describes no model.

    RecordError: it cannot be assembled.
    """
    files = _files(read, model, name)
    return None if files is None else files.implementation(via="assembler")


def with_base_files(output: ImplementationOutput, changed: list[str], read: Read) -> ImplementationOutput:
    """`output`, with every other file of `changed` as in the base."""
    own = {file.path for file in output.files}
    own |= {edit.path for edit in output.edits}
    files, delete = list(output.files), []
    for path in changed:
        if path in own:
            continue
        text = read(path)
        # The candidate added this file: the base has none to put back.
        if text is None:
            delete.append(path)
        else:
            files.append(NewFile(path=path, content=text))
    return output.model_copy(update={"files": tuple(files), "delete": tuple(delete)})


def _files(read: Read, model: Mapping[str, JsonValue] | None, name: str) -> WrittenMethod | None:
    """The files of `model`; None if there is nothing to assemble. RecordError: it cannot be assembled."""
    text = read(METHOD)
    if text is None or model is None or model.keys().isdisjoint((MODEL, RECIPE)):
        return None
    base = Method.from_text(text, METHOD)
    method = _method(base, model, name)
    _refuse_other(base, method, read)
    try:
        return method_files(base, method, read)
    except NotApplicable as error:
        raise RecordError(str(error)) from None


def _method(base: Method, model: Mapping[str, JsonValue], name: str) -> Method:
    """The base's method with the changes of `model`. RecordError: one of them is malformed."""
    value = base.value()
    network, recipe = model.get(MODEL), model.get(RECIPE, {})
    if network is not None:
        if not isinstance(network, dict):
            raise RecordError(f"model: {MODEL}: is not a mapping")
        # What the answer gives wins, so that a wrong shape is an error and not replaced silently.
        defaults = {"name": _name(name), "input": value["model"]["input"], "classes": value["model"]["classes"]}
        value["model"] = defaults | network
    if not isinstance(recipe, dict):
        raise RecordError(f"model: {RECIPE}: is not a mapping")
    value["recipe"] |= recipe
    # The parts by themselves first: an error then names the field as the answer has it.
    ModelConfig.from_value(value["model"], f"model: {MODEL}")
    RecipeConfig.from_value(value["recipe"], f"model: {RECIPE}")
    return Method.from_value(value, "model")


def _refuse_other(base: Method, method: Method, read: Read) -> None:
    """RecordError: other pictures or classes than the lab's, or the name of a model that must not change."""
    lab, answer = base.model.value(), method.model.value()
    for key in ("input", "classes"):
        # A model of other pictures would be an answer to another question.
        if lab[key] != answer[key]:
            raise RecordError(f"model: {MODEL}: {key}: {answer[key]}, but the lab's is {lab[key]}")
    if method.model == base.model:
        return
    # The base's own model may be refined under its name; a baseline must stay what it was measured as.
    name = method.model.name
    overwrites = name != base.model.name and read(f"models/{name}.py") is not None
    if overwrites or name in base.baselines:
        raise RecordError(f"model: {MODEL}: name: models/{name}.py is there already; choose another name")


def _name(text: str) -> str:
    """A name for a new model that has none."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")
    return f"model_{plain}"[:48]
