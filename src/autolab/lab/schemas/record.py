"""The base class of every document on disk, and the strict readers of JSON and YAML.

A document is a frozen, strict pydantic model that forbids unknown keys. `from_text` reads one, or raises one line that
names file, line, field and reason. `to_json` and `to_yaml` write it. Nothing is repaired: duplicate keys, NaN,
infinities and wrong types are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from autolab.errors import RecordError
from autolab.text import LINE, many_lines, one_line

_REASONS = {
    "missing": "missing",
    "extra_forbidden": "unknown key",
    "finite_number": "must be a finite number",
    # `_plain` has refused everything else that is no JSON.
    "json_invalid": "nested too deeply",
}
MAX_FIELDS = 200_000
"""Most fields of one YAML document. The content of an alias counts each time that it is used."""
MAX_FAULTS = 12
"""Most faults of a value that are named one by one."""
_SHOWN = 60
"""Characters of a value that a message quotes."""
PROSE = 20_000
"""Characters of a text of several lines in a researcher's answer."""
SETTINGS = 20_000
"""Characters of settings in a researcher's answer, written as JSON."""


def _small(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(value, ensure_ascii=False))
    if size > SETTINGS:
        raise ValueError(f"{size:,} characters as JSON, at most {SETTINGS:,} are allowed; name only what differs")
    hidden = next(_invisible(value), None)
    # Not shown as an escape: that would be another value, and programs get the settings as they are.
    if hidden is not None:
        raise ValueError(f"{_quoted(hidden)} holds a character that cannot be seen; write it without")
    return value


def _invisible(value: JsonValue) -> Iterator[str]:
    """The texts of a JSON value, keys too, that hold control characters or others that nobody sees."""
    if isinstance(value, str):
        if many_lines(value, SETTINGS + 1) != value:
            yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _invisible(key)
            yield from _invisible(item)
    elif isinstance(value, list):
        for item in value:
            yield from _invisible(item)


Prose = Annotated[str, Field(max_length=PROSE), AfterValidator(many_lines)]
Sentence = Annotated[str, Field(max_length=LINE), AfterValidator(one_line)]
Settings = Annotated[dict[str, JsonValue], AfterValidator(_small)]
"""Texts and settings in a researcher's answer. Longer ones are refused, invisible characters become visible escapes."""


class Record(BaseModel):
    """Base of every document. `FILE` is the path of the document in a lab."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        # A command needs few of the classes, and to build a validator takes milliseconds.
        defer_build=True,
        allow_inf_nan=False,
        populate_by_name=True,
        # Else pydantic warns of names that begin with `model_`, and one of the documents' is `model_settings`.
        protected_namespaces=(),
    )
    FILE: ClassVar[str] = ""

    @classmethod
    def from_text(cls, text: str, file: str) -> Self:
        """Parse YAML, or JSON if `file` ends so. RecordError: the text does not fit; file, line, field, reason."""
        if file.endswith((".json", ".jsonl")):
            return cls.from_value(parse_json(text, file), file)
        value, lines = parse_yaml(text, file)
        return cls.from_value(value, file, lines)

    @classmethod
    def from_value(cls, value: object, file: str, lines: dict[str, int] | None = None) -> Self:
        """Validate plain JSON: a list fits a tuple, a text an enumeration, 1 a float. RecordError as in `from_text`."""
        lines = lines or {}
        text = _plain(value, file, lines)
        try:
            # From JSON text and not from the value: in strict mode pydantic takes no list for a tuple otherwise.
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise RecordError(_explain(error, value, file, lines)) from None

    @classmethod
    def faults(cls, value: object, file: str) -> list[str]:
        """All that `from_value` could refuse a value for, a line for each field: at most MAX_FAULTS. Empty: it fits."""
        try:
            cls.from_value(value, file)
        except RecordError as error:
            first = str(error)
        else:
            return []
        try:
            cls.model_validate_json(_plain(value, file, {}))
        except ValidationError as error:
            reasons = _explain_each(error, value, file, {})
            # A class may read another value than it was given.
            if not first.startswith(reasons[0]):
                return [first]
            more = len(reasons) - MAX_FAULTS
            return reasons[:MAX_FAULTS] + ([f"and {more} more"] if more > 0 else [])
        except RecordError:
            pass
        # A class may refuse what its fields take.
        return [first]

    @classmethod
    def load(cls, path: Path, name: str | None = None) -> Self:
        """Read and parse `path`. Messages call it `name`, by default the file's name."""
        name = name or path.name
        return cls.from_text(read_document(path, name), name)

    def value(self) -> dict[str, Any]:
        """The document as plain JSON values, with the names it has on disk."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        return json.dumps(self.value(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_yaml(self) -> str:
        import yaml

        _, dumper = _yaml()
        text: str = yaml.dump(self.value(), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
        return text


def read_document(path: Path, name: str) -> str:
    """The text of a document, which messages call `name`. RecordError: it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{name}: not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{name}: cannot be read: {error}") from None


def _explain(error: ValidationError, value: object, file: str, lines: dict[str, int]) -> str:
    """The first problem as one line, with the number of other fields that have one."""
    first, *others = _explain_each(error, value, file, lines)
    return f"{first} (and {len(others)} more)" if others else first


def _explain_each(error: ValidationError, value: object, file: str, lines: dict[str, int]) -> list[str]:
    """A line for each field that has a problem."""
    problems = [(_field(problem, value), problem) for problem in error.errors(include_url=False)]
    reasons = []
    while problems:
        # A field that may have one of two forms has problems with both. The one that fits down to a deeper field is
        # meant.
        top, _ = problems[0]
        candidates = [(field, problem) for field, problem in problems if _lies_in(field, top)]
        field, first = max(candidates, key=lambda candidate: candidate[0].count("."))
        reason = _REASONS.get(first["type"], first["msg"].removeprefix("Value error, "))
        if first["type"] not in _SELF_EXPLAINING and isinstance(first.get("input"), str | int | float | bool):
            reason += f", got {_quoted(first['input'])}"
        reasons.append(_place(file, field, lines) + reason)
        problems = [(other, problem) for other, problem in problems if not _lies_in(field, other) and other != top]
    return reasons


_SELF_EXPLAINING = ("missing", "extra_forbidden", "json_invalid")
"""Problems whose message quotes no value."""


def _lies_in(field: str, other: str) -> bool:
    return not other or f"{field}.".startswith(f"{other}.")


def _field(problem: Any, value: Any) -> str:
    """The path of a problem's field in its document."""
    path: list[str] = []
    location = problem["loc"]
    for part in location:
        parts = _parts(value)
        is_missing = problem["type"] == "missing" and part == location[-1]
        # pydantic puts names of types between the keys. They are no keys of the document.
        if part in parts or is_missing:
            value = parts.get(part)
            path.append(str(part))
    return ".".join(path)


def _parts(value: Any) -> dict[Any, Any]:
    """The entries of an object or a list by key or index; none for any other value."""
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, list) else {}


def _place(file: str, field: str, lines: dict[str, int]) -> str:
    """`file: line 3: field: `, as far as known."""
    place = f"{file}: "
    # A field that is missing has no line: that of the object which should have it.
    line = lines.get(field) or lines.get(field.rpartition(".")[0])
    if line:
        place += f"line {line}: "
    if field:
        place += f"{field}: "
    return place


def _quoted(value: object) -> str:
    # Cut before `repr` too: a text may have megabytes.
    text = repr(value[:_SHOWN]) if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}..."


def _plain(value: object, file: str, lines: dict[str, int]) -> bytes:
    """The value as JSON text. RecordError: it holds something that JSON does not have."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None
    except UnicodeEncodeError:
        raise RecordError(f"{file}: holds a lone surrogate (half a character); take it out") from None
    except ValueError as error:
        # NaN or an infinity, or else a value that contains itself.
        field = next(_not_finite(value), None)
        if field is None:
            raise RecordError(f"{file}: {error}") from None
        raise RecordError(_place(file, field, lines) + "must be a finite number") from None
    except TypeError as error:
        raise RecordError(f"{file}: {error}") from None


def parse_json(text: str, file: str, *, any_number: bool = False) -> JsonValue:
    """Strict JSON. RecordError: not JSON, a key given twice, NaN or an infinity (`1e999` is one).

    With `any_number`, NaN and infinities are read as Python writes them.
    """
    # Python's reader takes the last of two equal keys, and NaN and infinities, which JSON does not have.

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, value in pairs:
            if key in entries:
                raise RecordError(f"{file}: {_quoted(key)[1:-1]}: key given twice")
            entries[key] = value
        return entries

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
    except ValueError:
        # Python has a limit on the digits of an integer: to convert one takes quadratic time.
        raise RecordError(f"{file}: a number has more digits than can be read") from None


# A step reads the same few documents many times, and YAML is slow.
@lru_cache(maxsize=16)
def parse_yaml(text: str, file: str) -> tuple[JsonValue, dict[str, int]]:
    """YAML as a value of plain JSON, and the line of each field (`a.b.0.c` -> 7; lines count from 1).

    Keys are text as written. `on`, `yes` and their like are booleans, as in YAML 1.1. Numbers are written as in JSON,
    or like `1e-3` and `.5`: `010`, `0x1f`, `1_000`, `8:00:00` and dates are text. RecordError: not such YAML.
    """
    import yaml

    loader = None
    try:
        loader_class, _ = _yaml()
        loader = loader_class(text)
        node = loader.get_single_node()
        lines: dict[str, int] = {}
        _walk(loader, node, "", lines, file)
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        place = f"{file}: "
        if error.problem_mark:
            place += f"line {error.problem_mark.line + 1} column {error.problem_mark.column + 1}: "
        raise RecordError(f"{place}not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecordError(f"{file}: not YAML: {error}") from None
    except RecursionError:
        raise RecordError(f"{file}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    # YAML can say more than JSON: an infinity, an alias to the value that it stands in.
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

    # Without PyYAML's rules for numbers and dates, which read `010` as 8 and `8:00:00` as 28800.
    resolvers = {}
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items():
        resolvers[first] = [(tag, rule) for tag, rule in rules if tag.removeprefix(_TAG) in ("bool", "null", "merge")]
    Loader.yaml_implicit_resolvers = resolvers
    for name, rule in _NUMBERS.items():
        Loader.add_implicit_resolver(_TAG + name, rule, list("-+0123456789."))
        Dumper.add_implicit_resolver(_TAG + name, rule, list("-+0123456789."))
    return Loader, Dumper


def _walk(loader: Any, node: Any, path: str, lines: dict[str, int], file: str) -> None:
    """Note the line of every field. Refuse what JSON does not have, and a key given twice (PyYAML takes the last)."""
    import yaml

    if node is None:
        return
    line = node.start_mark.line + 1
    if path:
        lines.setdefault(path, line)
    # A few aliases of aliases make billions of fields of a short text.
    if len(lines) > MAX_FIELDS:
        raise RecordError(f"{file}: line {line}: more than {MAX_FIELDS} fields, aliases counted")
    # A tag written in the text (`!!int "3"`, `!!python/name:os.system`) is not the one that the value itself has.
    if node.tag != _TAG + "str" and node.tag != loader.resolve(type(node), node.value, (True, False)):
        tag = node.tag.replace(_TAG, "!!")
        raise RecordError(f"{file}: line {line}: {path}: a tag ({tag}) is not read; write the plain value")
    prefix = f"{path}." if path else ""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(loader, value, f"{prefix}{index}", lines, file)
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            key_line, name = key.start_mark.line + 1, key.value
            if not isinstance(name, str):
                raise RecordError(f"{file}: line {key_line}: a key has to be a plain text")
            if name in keys:
                raise RecordError(f"{file}: line {key_line}: {_quoted(name)[1:-1]}: key given twice")
            keys.add(name)
            # JSON's keys are text: `on:` and `1:` stay as they are written.
            if key.tag != _TAG + "merge":
                key.tag = _TAG + "str"
            lines[prefix + name] = key_line
            _walk(loader, value, prefix + name, lines, file)


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    """The paths of the numbers in a value that are NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    for key, part in _parts(value).items():
        yield from _not_finite(part, f"{path}.{key}" if path else str(key))
