"""What a model's reply holds: the one JSON object of the stage's form, or a line with all that is wrong with it.

Found, and not repaired: a trailing comma, a comment, a key given twice or not known, NaN are refused. Two things are
read in for the model: an optional key that is null is left out, and code may stand in a fence beside the object.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import AgentResult
from autolab.researchers import prompts
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.object_search import CodeBlock, code_blocks_by_path, find_object
from autolab.researchers.llm.reply_reader import ToolCall
from autolab.researchers.llm.wire import ModelReply, line_for_user
from autolab.text import one_line

PROBLEM_CHARACTERS = 3_000
"""Characters of a line that names all faults of a reply."""
_QUOTED = 120
"""Characters of a line that is no JSON, as it is quoted."""
_TOOLS_OF_PROXIES = ("json_tool_call",)
"""What LiteLLM calls the tool that it makes of a schema."""
_BLOCK = re.compile(r"^<{5,9} SEARCH\n(.*?)^={5,9}\n(.*?)^>{5,9} REPLACE[ \t]*\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class ReadAnswer:
    """What a reply holds: the `value` of the form, or the kind of what is wrong with it and a line about that.

    All three are empty for a reply without a text, whose own reason says why. `objection` is what the engine has
    against a value that has the form.
    """

    value: JsonValue = None
    reason: str = ""
    problem: str = ""
    objection: str = ""

    @property
    def line(self) -> str:
        """What is wrong, in one line."""
        return self.problem or line_for_user(self.objection.partition("\n")[0])


def read_answer(reply: ModelReply, form: AnswerForm) -> ReadAnswer:
    """Read the answer that a reply holds: its text, or the arguments of the form's own tool."""
    if reply.reason != "ok":
        return ReadAnswer()
    schema: JsonValue = json.loads(prompts.schema(form.output))
    names = _names(schema) | {"status", "summary", "arguments"}
    try:
        text, blocks = _answer_text(reply, form, names)
    except RecordError as error:
        return _refused("not_json", str(error))
    if isinstance(text, ReadAnswer):
        return text
    try:
        value = parse_json(text, "reply.json")
    except RecordError as error:
        return _refused("not_json", f"{error}{_quoted_line(text)}")
    value = _unwrapped(value, form)
    faults: list[str] = []
    if form.holds_code and isinstance(value, dict):
        faults += _take_in_code(value, blocks)
    if not _gives_up(value):
        value = _without_nulls(value, schema, schema, _aliases(form))
        faults += form.output.faults(value, "reply.json")
    # Who wrote the code is the engine's to say.
    if isinstance(value, dict) and "via" in value:
        faults.append("reply.json: via: unknown key")
    if not faults:
        faults += AgentResult.faults(json.loads(agent_result(value)), "reply.json")
    if not faults:
        return ReadAnswer(value)
    others = [fault.removeprefix("reply.json: ") for fault in faults[1:]]
    return _refused("invalid", "; ".join([faults[0], *others]))


def _refused(reason: str, problem: str) -> ReadAnswer:
    return ReadAnswer(reason=reason, problem=one_line(problem, PROBLEM_CHARACTERS))


def _answer_text(
    reply: ModelReply, form: AnswerForm, names: frozenset[str]
) -> tuple[str | ReadAnswer, tuple[CodeBlock, ...]]:
    """The object as text, and the code blocks beside it; or why a tool that was called is no answer."""
    if not reply.tool_calls:
        return find_object(reply.text, names)
    if len(reply.tool_calls) > 1:
        return _refused("tool_call", f"the model called {len(reply.tool_calls)} tools, and one answer is wanted"), ()
    call = reply.tool_calls[0]
    if not _is_answer(call, form):
        return _refused("tool_call", f"the model called a tool, {call.name!r}, and there is none of this name"), ()
    try:
        find_object(reply.text, names)
    except RecordError:
        # What stands beside the call is prose.
        return call.arguments, ()
    raise RecordError("a JSON object beside the call of the tool, and one answer is wanted; give one of them")


def _is_answer(call: ToolCall, form: AnswerForm) -> bool:
    return call.name in (form.name, *_TOOLS_OF_PROXIES)


def _unwrapped(value: JsonValue, form: AnswerForm) -> JsonValue:
    """The arguments of a call of the form's own tool that a model wrote as text; else the value itself."""
    if isinstance(value, dict) and set(value) == {"name", "arguments"} and value["name"] == form.name:
        return value["arguments"]
    return value


def _names(schema: JsonValue) -> frozenset[str]:
    """The names of all fields of a schema, also of those in its parts."""
    if isinstance(schema, list):
        return frozenset().union(*map(_names, schema))
    if not isinstance(schema, dict):
        return frozenset()
    fields = schema.get("properties")
    names = frozenset(fields) if isinstance(fields, dict) else frozenset()
    return names.union(*map(_names, schema.values()))


def _aliases(form: AnswerForm) -> frozenset[str]:
    """Other names of optional fields, which a schema does not show."""
    names: set[str] = set()
    for name, field in form.output.model_fields.items():
        choices = getattr(field.validation_alias, "choices", None)
        if choices and not field.is_required():
            names |= {name, *map(str, choices)}
    return frozenset(names)


def _without_nulls(value: JsonValue, part: JsonValue, schema: JsonValue, aliases: frozenset[str]) -> JsonValue:
    """The value without optional keys that are null, wherever `part`, a part of the schema, knows the keys."""
    form = _resolved(part, schema)
    if isinstance(value, list):
        return [_without_nulls(item, form.get("items"), schema, frozenset()) for item in value]
    fields, required = form.get("properties"), form.get("required")
    # Of a free mapping null may be a value.
    if not isinstance(value, dict) or not isinstance(fields, dict):
        return value
    needed = required if isinstance(required, list) else []
    optional = (fields.keys() | aliases) - {name for name in needed if isinstance(name, str)}
    kept: dict[str, JsonValue] = {}
    for name, item in value.items():
        if item is not None or name not in optional:
            kept[name] = _without_nulls(item, fields.get(name), schema, frozenset())
    return kept


def _resolved(part: JsonValue, schema: JsonValue) -> Mapping[str, JsonValue]:
    """A part of a schema behind its references, and behind the choice of null or one other form."""
    while isinstance(part, dict):
        reference, choices = part.get("$ref"), part.get("anyOf")
        if isinstance(reference, str) and isinstance(schema, dict):
            definitions = schema.get("$defs")
            part = definitions.get(reference.rpartition("/")[2]) if isinstance(definitions, dict) else None
        elif isinstance(choices, list):
            forms = [choice for choice in choices if choice != {"type": "null"}]
            part = forms[0] if len(forms) == 1 else None
        else:
            return part
    return {}


def _quoted_line(text: str) -> str:
    """The line of a syntax error; empty if the error is of another kind."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        start = text.rfind("\n", 0, error.pos) + 1
        end = text.find("\n", error.pos)
        line = text[start : end if end >= 0 else len(text)]
        # The part around the error: a line may hold the whole reply.
        first = max(0, error.pos - start - _QUOTED // 2)
        return f", in: {line[first : first + _QUOTED]}"
    except (ValueError, RecursionError):
        return ""
    return ""


# Code beside the object


def _take_in_code(value: dict[str, JsonValue], blocks: tuple[CodeBlock, ...]) -> list[str]:
    """Fill files without content and edits without search from the blocks that name their paths; what is wrong."""
    contents: dict[str, list[str]] = {}
    for path, content in code_blocks_by_path(blocks):
        contents.setdefault(path, []).append(content)
    faults: list[str] = []
    for index, entry in enumerate(_entries(value, "files")):
        if set(entry) == {"path"}:
            place = f"reply.json: files.{index}"
            fence = _one_block(contents, entry["path"], place, faults)
            # Also with a fault: a file without its code would be complained of again in other words.
            entry["content"] = fence or ""
    edits: list[JsonValue] = []
    entries = _entries(value, "edits")
    for index, entry in enumerate(entries):
        if set(entry) != {"path"}:
            edits.append(entry)
            continue
        place = f"reply.json: edits.{index}"
        fence = _one_block(contents, entry["path"], place, faults)
        replacements = _replacements(fence or "")
        if fence is not None and not replacements:
            faults.append(f"{place}: the fence of {entry['path']} is not made of SEARCH/REPLACE blocks alone")
        for search, replace in replacements:
            edits.append({"path": entry["path"], "search": search, "replace": replace})
    if entries:
        value["edits"] = edits
    return faults


def _entries(value: dict[str, JsonValue], name: str) -> list[dict[str, JsonValue]]:
    entries = value.get(name)
    if not isinstance(entries, list):
        return []
    # One entry that is none: the form says so.
    objects = [entry for entry in entries if isinstance(entry, dict)]
    return objects if len(objects) == len(entries) else []


def _one_block(contents: Mapping[str, list[str]], path: JsonValue, place: str, faults: list[str]) -> str | None:
    found = contents.get(path, []) if isinstance(path, str) else []
    if len(found) == 1:
        return found[0]
    number = f"{len(found)} fences name" if found else "no fence names"
    faults.append(f"{place}: {number} the path {str(path)[:200]!r}; give the code in one fence, or in the object")
    return None


def _replacements(content: str) -> list[tuple[str, str]]:
    """What is searched and what replaces it; empty if the text holds anything else."""
    found = [(block[1], block[2]) for block in _BLOCK.finditer(content)]
    return [] if _BLOCK.sub("", content).strip() else found


# What the engine reads


def judged(answer: ReadAnswer, form: AnswerForm) -> ReadAnswer:
    """The same answer with the engine's objection, if it has the form."""
    if answer.value is None or answer.reason or _gives_up(answer.value):
        return answer
    objection = form.objection(form.output.from_value(answer.value, "reply.json"))
    return dataclasses.replace(answer, reason="invalid", objection=objection) if objection else answer


def _gives_up(value: JsonValue) -> TypeGuard[dict[str, JsonValue]]:
    """Whether a reply says that the stage cannot be done: `{"status": "failed", "summary": why}` and no more."""
    return isinstance(value, dict) and set(value) == {"status", "summary"} and value["status"] == "failed"


def agent_result(value: JsonValue) -> str:
    """A reply as an agent result."""
    result: dict[str, JsonValue] = {"status": "complete", "summary": "answered", "output": value}
    if _gives_up(value):
        result = value
    return json.dumps(result | {"changed_files": [], "completion_token_seen": False}, ensure_ascii=False)


def for_user(problem: str) -> str:
    """An agent result that asks a user to fix something; no reply of a model makes one."""
    result = {"status": "failed", "summary": problem, "changed_files": [], "completion_token_seen": False}
    return json.dumps(result | {"needs_user": True}, ensure_ascii=False)
