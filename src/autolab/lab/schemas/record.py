"""The form of every document on disk, and the one way in and out of it.

A document is a frozen, strict pydantic model that forbids unknown keys. `parse` turns text into it or
raises one line that names file, line, field and reason; `to_json` and `to_yaml` are the way back.
Nothing is repaired on the way: duplicate keys, NaN, infinities and wrong types are refused.
"""

from __future__ import annotations

import functools
import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from autolab.errors import RecordError
from autolab.text import LINE, many_lines, one_line

_REASONS = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    "json_invalid": "nested too deeply",  # all else that JSON could lack was refused before
}
MAX_FIELDS = 200_000
"""Fields of one YAML document, aliases counted as often as they stand for something."""
_SHOWN = 60


PROSE = 20_000
"""Characters of one answer's text of many lines."""
SETTINGS = 20_000
"""Characters of settings, written as JSON."""


def _small(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(value, ensure_ascii=False))
    if size > SETTINGS:
        raise ValueError(f"{size:,} characters as JSON, more than the {SETTINGS:,} allowed; name what differs alone")
    return value


Prose = Annotated[str, Field(max_length=PROSE), AfterValidator(many_lines)]
Sentence = Annotated[str, Field(max_length=LINE), AfterValidator(one_line)]
Settings = Annotated[dict[str, JsonValue], AfterValidator(_small)]
"""Texts and settings as a researcher gives them: longer ones are refused, characters that nobody sees are shown."""


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
        text = _plain(value, file, lines or {})
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise RecordError(_explain(error, value, file, lines or {})) from None

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

        text: str = yaml.dump(self.value(), Dumper=_yaml()[1], sort_keys=False, allow_unicode=True, width=110)
        return text


def _explain(error: ValidationError, value: object, file: str, lines: dict[str, int]) -> str:
    """The first thing wrong as one line, with the number of further ones."""
    problems = [(_field(p["loc"], value, p["type"] == "missing"), p) for p in error.errors(include_url=False)]
    # Where a field may have one of two forms, both are complained of: the one that got further is the one meant.
    within = [found for found in problems if _lies_in(found[0], problems[0][0])]
    field, first = max(within, key=lambda found: found[0].count("."))
    reason = _REASONS.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] not in ("missing", "extra_forbidden") and isinstance(first.get("input"), str | int | float | bool):
        reason += f", got {_short(first['input'])}" if first["type"] != "json_invalid" else ""
    others = len({name for name, _ in problems if not _lies_in(field, name)})
    more = f" (and {others} more)" if others else ""
    return _place(file, field, lines) + reason + more


def _lies_in(field: str, other: str) -> bool:
    return not other or f"{field}.".startswith(f"{other}.")


def _field(loc: tuple[int | str, ...], value: Any, missing: bool) -> str:
    """The path of a field as its document has it: pydantic puts the names of types between."""
    path: list[str] = []
    for part in loc:
        known = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if part in known or (missing and part == loc[-1]):
            value = known.get(part)
            path.append(str(part))
    return ".".join(path)


def _place(file: str, field: str, lines: dict[str, int]) -> str:
    """`file: line 3: field: `, as far as known."""
    line = lines.get(field) or lines.get(field.rpartition(".")[0])
    return f"{file}: " + (f"line {line}: " if line else "") + (f"{field}: " if field else "")


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else repr(value[:_SHOWN])
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."


def _plain(value: object, file: str, lines: dict[str, int]) -> bytes:
    """The value as JSON text; RecordError for what JSON does not have."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None
    except UnicodeEncodeError:
        raise RecordError(f"{file}: holds half a character (a lone surrogate), which no text can") from None
    except ValueError as error:
        field = next(iter(_not_finite(value)), None)
        if field is None:
            raise RecordError(f"{file}: {error}") from None
        raise RecordError(_place(file, field, lines) + "must be a finite number") from None
    except TypeError as error:
        raise RecordError(f"{file}: {error}") from None


def parse_json(text: str, file: str, *, any_number: bool = False) -> JsonValue:
    """JSON as the standard has it: duplicate keys, NaN and infinities (`1e999` is one) are refused.

    With `any_number` NaN and infinities are read as Python writes them.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise RecordError(f"{file}: {_short(key)[1:-1]}: key given twice")
            found[key] = value
        return found

    def finite(name: str) -> float:
        number = float(name)
        if any_number or abs(number) < float("inf"):
            return number
        raise RecordError(f"{file}: {name[:_SHOWN]} is not a number that JSON has; write a finite number or null")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)  # type: ignore[no-any-return]
    except json.JSONDecodeError as error:
        raise RecordError(f"{file}: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None
    except ValueError:  # Python's limit on digits
        raise RecordError(f"{file}: a number has more digits than can be read") from None


@functools.lru_cache(maxsize=16)  # a step reads its few documents again and again
def parse_yaml(text: str, file: str) -> tuple[JsonValue, dict[str, int]]:
    """YAML as plain JSON values, and the line of each field (`a.b.0.c` -> line, from 1).

    Keys are text as written. `on`, `yes` and their like are booleans as YAML 1.1 has them; numbers are those of
    JSON, with `1e-3` and `.5` besides: `010`, `0x1f`, `1_000`, `8:00:00` and dates stay text.
    """
    import yaml

    loader = None
    try:
        loader = _yaml()[0](text)
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        _walk(loader, node, "", lines, file)
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
        if loader is not None:
            loader.dispose()
    _plain(value, file, lines)
    return value, lines


_TAG = "tag:yaml.org,2002:"
_NUMBERS = {
    "int": re.compile(r"^[-+]?(0|[1-9][0-9]{0,999})$"),
    "float": re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
}


@cache
def _yaml() -> tuple[Any, Any]:
    """A safe loader that reads what `parse_yaml` promises, and a dumper that quotes what it would misread."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    class Dumper(yaml.SafeDumper):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag.removeprefix(_TAG) in ("bool", "null", "merge")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, rule in _NUMBERS.items():
        Loader.add_implicit_resolver(_TAG + name, rule, list("-+0123456789."))
        Dumper.add_implicit_resolver(_TAG + name, rule, list("-+0123456789."))
    return Loader, Dumper


def _walk(loader: Any, node: Any, path: str, lines: dict[str, int], file: str) -> None:
    """Note the line of every field; refuse what has no place in JSON, and a key given twice (PyYAML takes the last)."""
    import yaml

    if node is None:
        return
    where = f"{file}: line {node.start_mark.line + 1}: "
    if path:
        lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > MAX_FIELDS:
        raise RecordError(f"{where}more than {MAX_FIELDS} fields, aliases counted")
    if node.tag != _TAG + "str" and node.tag != loader.resolve(type(node), node.value, (True, False)):
        raise RecordError(f"{where}{path}: a tag ({node.tag.replace(_TAG, '!!')}) is not read; write the plain value")
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(loader, value, f"{path}.{index}" if path else str(index), lines, file)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            where, name = f"{file}: line {key.start_mark.line + 1}: ", key.value
            if not isinstance(name, str):
                raise RecordError(f"{where}a key has to be a plain text")
            if name in seen:
                raise RecordError(f"{where}{_short(name)[1:-1]}: key given twice")
            seen.add(name)
            key.tag = key.tag if key.tag == _TAG + "merge" else _TAG + "str"
            field = f"{path}.{name}" if path else name
            lines[field] = key.start_mark.line + 1
            _walk(loader, value, field, lines, file)


def _not_finite(value: Any, path: str = "") -> list[str]:
    if isinstance(value, float):
        return [path] if value != value or value in (float("inf"), float("-inf")) else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in pairs for found in _not_finite(part, f"{path}.{key}" if path else str(key))]
