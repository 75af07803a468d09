"""The form of every document on disk, and the one way in and out of it.

A document is a frozen, strict pydantic model that forbids unknown keys. `parse` turns text into it or
raises one line that names file, line, field and reason; `to_json` and `to_yaml` are the way back.
Nothing is repaired on the way: duplicate keys, NaN, infinities and wrong types are refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from autolab.errors import RecordError

_REASONS = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
}


class Record(BaseModel):
    """Base of every document. `FILE` is its path in a lab, for docs/files.md."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        defer_build=True,
        allow_inf_nan=False,
        populate_by_name=True,
        protected_namespaces=(),
    )
    FILE: ClassVar[str] = ""

    @classmethod
    def from_text(cls, text: str, file: str) -> Self:
        """Parse YAML or JSON text (by the ending of `file`); RecordError names file, line, field, reason."""
        if file.endswith((".json", ".jsonl")):
            return cls.from_value(parse_json(text, file), file)
        value, lines = parse_yaml(text, file)
        return cls.from_value(value, file, lines)

    @classmethod
    def from_value(cls, value: object, file: str, lines: dict[str, int] | None = None) -> Self:
        """Validate a plain value with the strictness of JSON (a list is a tuple, "pass" an enum, 1 a float)."""
        try:
            return cls.model_validate_json(json.dumps(value))
        except ValidationError as error:
            raise RecordError(explain(error, file, lines or {})) from None

    @classmethod
    def load(cls, path: Path, shown: str | None = None) -> Self:
        """Read and parse `path`; `shown` is the name that messages use (default: the file's name)."""
        name = shown or path.name
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RecordError(f"{name}: not found") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{name}: cannot be read: {error}") from None
        return cls.from_text(text, name)

    def value(self) -> dict[str, Any]:
        """The document as plain JSON values, with the names it has on disk."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        return json.dumps(self.value(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_yaml(self) -> str:
        import yaml

        return yaml.safe_dump(self.value(), sort_keys=False, allow_unicode=True, width=110)


def explain(error: ValidationError, file: str, lines: dict[str, int]) -> str:
    """The first thing wrong as one line, with the number of further ones."""
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function-", "json-or-python")))
    reason = _REASONS.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] not in ("missing", "extra_forbidden") and isinstance(first.get("input"), str | int | float | bool):
        reason += f", got {first['input']!r}"
    line = lines.get(field) or lines.get(field.rpartition(".")[0])
    where = f"{file}: line {line}" if line else file
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {field}: {reason}{more}" if field else f"{where}: {reason}{more}"


def parse_json(text: str, file: str) -> JsonValue:
    """JSON as the standard has it: duplicate keys, NaN and infinities are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise RecordError(f"{file}: {key}: key given twice")
            found[key] = value
        return found

    def constant(name: str) -> float:
        raise RecordError(f"{file}: {name} is not a number that JSON has; write a finite number or null")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        raise RecordError(f"{file}: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None


def parse_yaml(text: str, file: str) -> tuple[JsonValue, dict[str, int]]:
    """YAML as plain JSON values, and the line of each field (`a.b.0.c` -> line, from 1)."""
    import yaml

    loader = _yaml_loader()(text)
    try:
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        _walk(node, "", lines, file)
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise RecordError(f"{file}: {where}not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecordError(f"{file}: not YAML: {error}") from None
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None
    finally:
        loader.dispose()
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        field = next(iter(_not_finite(value)))
        line = lines.get(field)
        raise RecordError(f"{file}:{f' line {line}:' if line else ''} {field}: must be a finite number") from None
    except TypeError as error:
        raise RecordError(f"{file}: {error}") from None
    return value, lines


def _yaml_loader() -> Any:
    """A safe loader with YAML 1.2 numbers (1e-3 is a number) and without dates (they stay text)."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if not tag.endswith((":timestamp", ":float"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def _walk(node: Any, path: str, lines: dict[str, int], file: str) -> None:
    """Note the line of every field and refuse a key given twice (PyYAML keeps the last one silently)."""
    import yaml

    if node is None:
        return
    if path:
        lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise RecordError(f"{file}: line {key.start_mark.line + 1}: {name}: key given twice")
            seen.add(name)
            _walk(value, f"{path}.{name}" if path else name, lines, file)
            lines[f"{path}.{name}" if path else name] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, f"{path}.{index}" if path else str(index), lines, file)


def _not_finite(value: Any, path: str = "") -> list[str]:
    if isinstance(value, float):
        return [path] if value != value or value in (float("inf"), float("-inf")) else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in pairs for found in _not_finite(part, f"{path}.{key}" if path else str(key))]
