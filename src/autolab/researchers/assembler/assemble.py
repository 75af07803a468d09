"""The files of a whole method."""

from __future__ import annotations

import json
from typing import Any

from autolab.lab.schemas.method import Method
from autolab.researchers.assembler.model_source import model_source
from autolab.researchers.assembler.recipe_source import recipe_source
from autolab.researchers.assembler.source import Source


def assemble(method: Method) -> tuple[Source, ...]:
    """`models/<name>.py`, `recipe.py` and `method.json`, in this order. RecordError for layers that do not fit."""
    return model_source(method.model), recipe_source(method.recipe), method_source(method)


def method_source(method: Method) -> Source:
    """`method.json` with every value written out, a layer a line."""
    return Source(Method.FILE, _json(method.value()) + "\n")


def _json(value: Any, indent: str = "") -> str:
    """JSON with one line for each layer and for each list of plain values."""
    if isinstance(value, dict) and "type" not in value:
        lines = [f"{json.dumps(key)}: {_json(part, indent + '  ')}" for key, part in value.items()]
        return _lines("{", lines, "}", indent)
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return _lines("[", [_json(part, indent + "  ") for part in value], "]", indent)
    return json.dumps(value)


def _lines(first: str, lines: list[str], last: str, indent: str) -> str:
    return f"{first}\n{indent}  " + f",\n{indent}  ".join(lines) + f"\n{indent}{last}"
