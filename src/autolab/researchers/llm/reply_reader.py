"""What a service's reply says: its text, the tools that it calls, how it ended, and what it counted.

The two forms are OpenAI's Chat Completions and Anthropic's Messages, and what services make of them: content in parts,
arguments of a tool as an object, an error in the place of a choice, lines that keep the connection alive before the
body. The clients refuse many of these, so a reply is read here. What a model thought (`reasoning_content`, `reasoning`,
blocks of thinking) is counted and not read.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.record import parse_json
from autolab.text import decode, decode_json, one_line

MAX_TOKENS_SAID = 10_000_000
"""The most tokens of one call that a service may report; more, or less than none, is not believed."""
_COMMENTS = re.compile(rb"\A(?:\s*:[^\n]*\n)+")
"""Lines that keep a connection alive. OpenRouter sends `: OPENROUTER PROCESSING`."""
_PLAIN = 2_000
"""Bytes of an error in plain words that are read."""
_TITLE = re.compile(r"(?is)<(title|h1)[^>]{0,200}>([^<]{1,300})")

_ENDINGS = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "model_context_window_exceeded"), "truncated"),
    **dict.fromkeys(("content_filter", "refusal", "safety", "prohibited_content", "recitation"), "refused"),
    **dict.fromkeys(("error", "insufficient_system_resource"), "overloaded"),
}
"""Reasons to end that mean more than an end, in small letters. Any other, or none, is an end."""


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model calls. `arguments` is JSON as the model wrote it, or as the service read it."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Counts:
    """Tokens by the service's count. `cached` and `cache_written` are parts of `input`."""

    input: int
    output: int
    cached: int = 0
    cache_written: int = 0


@dataclass(frozen=True)
class ServiceReply:
    """A reply with status 200.

    `ending`: ok, truncated, refused or overloaded. `thought`: characters of reasoning. `counts`: None if the service
    counted nothing, or nothing that can be believed.
    """

    text: str
    tool_calls: tuple[ToolCall, ...]
    ending: str
    refusal: str
    thought: int
    counts: Counts | None


@dataclass(frozen=True)
class ServiceError:
    """An error in the place of a reply. `status` is that of HTTP, or the one that the error names; 0 if there is none.

    `parameter` is what the service says is wrong with the request, as it names it.
    """

    status: int
    message: str
    code: str = ""
    parameter: str = ""


def read_body(body: bytes, speaks: Literal["openai", "anthropic"]) -> ServiceReply | ServiceError:
    """The reply in a body that came with status 200. RecordError in one line: it is no reply of this form."""
    value = _json_of(body)
    if not isinstance(value, dict):
        raise RecordError("not a reply of this service: no object")
    error = _error_of(value)
    if error is not None:
        return error
    return _chat_completion(value) if speaks == "openai" else _anthropic_message(value)


def read_error(status: int, body: bytes) -> ServiceError:
    """The error that a status other than 200 came with, as far as it can be read."""
    try:
        value = _json_of(body)
    except RecordError:
        # Some say it in plain words.
        return ServiceError(status, page_title(body) or decode(body[:_PLAIN]))
    # Google's OpenAI-compatible service sends a list with one error in it.
    if isinstance(value, list) and value:
        value = value[0]
    error = _error_of(value) if isinstance(value, dict) else None
    if error is None:
        return ServiceError(status, "")
    return ServiceError(status, error.message, error.code, error.parameter)


def failed_generation(body: bytes) -> str | None:
    """What a model wrote that its service then refused (Groq's `failed_generation`); None if an error holds none."""
    if b"failed_generation" not in body:
        return None
    try:
        value = _json_of(body)
    except RecordError:
        return None
    error = value.get("error") if isinstance(value, dict) else None
    written = error.get("failed_generation") if isinstance(error, dict) else None
    return written if isinstance(written, str) else None


def page_title(body: bytes) -> str:
    """`an HTML page: TITLE` if a body is one; else empty."""
    head = decode(body[:20_000])
    if "<html" not in head.lower() and "<!doctype" not in head.lower():
        return ""
    title = _TITLE.search(head)
    return f"an HTML page: {one_line(title[2], 200)}" if title else "an HTML page"


def _json_of(body: bytes) -> JsonValue:
    content = _COMMENTS.sub(b"", body)
    try:
        return parse_json(decode_json(content).strip(), "reply", any_number=True)
    except RecordError as error:
        if content.lstrip().startswith(b"data:"):
            raise RecordError("a stream of events came, and none was asked for") from None
        raise RecordError(page_title(body) or f"not a reply of this service: {error}") from None


# Errors


def _error_of(value: dict[str, JsonValue]) -> ServiceError | None:
    """The error that an object is: OpenAI's and Anthropic's `error`, FastAPI's `detail`, Mistral's `message`."""
    error = value.get("error")
    if error and "choices" not in value:
        return _service_error(error)
    for key in ("detail", "message"):
        # A completion has neither, and Anthropic's messages neither.
        if key in value and not {"choices", "content"} & value.keys():
            return _service_error(value if isinstance(value[key], str) else value[key])
    return None


def _service_error(error: JsonValue) -> ServiceError:
    if isinstance(error, list):
        return _fields_error(error)
    if not isinstance(error, dict):
        return ServiceError(0, error if isinstance(error, str) else "")
    if isinstance(error.get("detail"), list):
        return _service_error(error["detail"])
    message = error.get("message", error.get("detail", error.get("error")))
    code, kind = error.get("code"), error.get("type")
    status = error.get("status", code)
    name = code if isinstance(code, str) and code else kind
    parameter = error.get("param")
    return ServiceError(
        status=status if isinstance(status, int) and 100 <= status < 600 else 0,
        message=_with_cause(message if isinstance(message, str) else "", error),
        code=name if isinstance(name, str) else "",
        parameter=parameter if isinstance(parameter, str) else "",
    )


def _with_cause(message: str, error: dict[str, JsonValue]) -> str:
    """The message with what the service behind a router said (OpenRouter's `metadata.raw`)."""
    metadata = error.get("metadata")
    cause = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message}: {cause}" if isinstance(cause, str) and cause else message


def _fields_error(problems: list[JsonValue]) -> ServiceError:
    """FastAPI's list of problems, each with the place of a field."""
    messages, parameter = [], ""
    for problem in problems[:5]:
        if not isinstance(problem, dict):
            continue
        place = problem.get("loc")
        names = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
        parameter = parameter or ".".join(names)
        messages.append(f"{'.'.join(names)}: {problem.get('msg', '')}")
    return ServiceError(0, "; ".join(messages), "", parameter)


# Chat Completions


def _chat_completion(value: dict[str, JsonValue]) -> ServiceReply | ServiceError:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise RecordError("not a reply of this service: it has no choices")
    if len(choices) > 1:
        raise RecordError(f"{len(choices)} choices came, and one was asked for")
    choice = choices[0]
    if not isinstance(choice, dict):
        raise RecordError("not a reply of this service: its choice is no object")
    if choice.get("error"):
        return _service_error(choice["error"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise RecordError("not a reply of this service: its choice has no message")
    text, thought = _content(message.get("content"))
    for key in ("reasoning_content", "reasoning"):
        reasoning = message.get(key)
        if isinstance(reasoning, str):
            thought = max(thought, len(reasoning))
    refusal = message.get("refusal")
    return ServiceReply(
        text=text,
        tool_calls=_tool_calls(message),
        ending=_ending(choice.get("finish_reason")),
        refusal=refusal if isinstance(refusal, str) else "",
        thought=thought,
        counts=_chat_counts(value.get("usage")),
    )


def _content(content: JsonValue) -> tuple[str, int]:
    """The text of a message's content, and how many characters of reasoning stand beside it."""
    if content is None:
        return "", 0
    if isinstance(content, str):
        return content, 0
    if not isinstance(content, list):
        raise RecordError("not a reply of this service: its text is none")
    texts, thought = [], 0
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise RecordError("not a reply of this service: a part of its text is none")
        if "thinking" in str(part.get("type")):
            thought += len(str(part.get("thinking", "")))
        elif part.get("type") in ("text", "output_text"):
            text = part.get("text")
            if not isinstance(text, str):
                raise RecordError("not a reply of this service: its text is none")
            texts.append(text)
    return "".join(texts), thought


def _tool_calls(message: dict[str, JsonValue]) -> tuple[ToolCall, ...]:
    calls = message.get("tool_calls")
    # As it was before there were several.
    old_form = message.get("function_call")
    functions: list[JsonValue] = [old_form] if old_form else []
    for call in calls if isinstance(calls, list) else []:
        functions.append(call.get("function") if isinstance(call, dict) else None)
    found = []
    for function in functions:
        named = function if isinstance(function, dict) else {}
        found.append(ToolCall(str(named.get("name") or ""), _arguments(named.get("arguments"))))
    return tuple(found)


def _arguments(arguments: JsonValue) -> str:
    """A tool's arguments as JSON: a text as OpenAI has it, or the object itself, as Ollama's own form has it."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _ending(reason: JsonValue) -> str:
    return _ENDINGS.get(reason.lower(), "ok") if isinstance(reason, str) else "ok"


def _chat_counts(usage: JsonValue) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    counts = _believed(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached, 0)
    total = _count(usage.get("total_tokens"))
    # Some services leave the tokens of reasoning out of those of the completion, and bill them.
    if counts is None or total is None or total <= counts.input + counts.output:
        return counts
    return replace(counts, output=total - counts.input)


# Messages


def _anthropic_message(value: dict[str, JsonValue]) -> ServiceReply:
    content = value.get("content")
    if not isinstance(content, list | str):
        raise RecordError("not a reply of this service: it has no content")
    text, thought = _content(content)
    calls = []
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and "tool_use" in str(block.get("type")):
            calls.append(ToolCall(str(block.get("name") or ""), _arguments(block.get("input"))))
    return ServiceReply(text, tuple(calls), _ending(value.get("stop_reason")), "", thought, _message_counts(value))


def _message_counts(value: dict[str, JsonValue]) -> Counts | None:
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    counts = _believed(usage.get("input_tokens"), usage.get("output_tokens"), 0, 0)
    parts = _believed(read, written, 0, 0) if read or written else Counts(0, 0)
    if counts is None or parts is None:
        return None
    # Anthropic counts what comes from the cache, or goes there, beside the input.
    return Counts(counts.input + parts.input + parts.output, counts.output, parts.input, parts.output)


def _believed(sent: JsonValue, received: JsonValue, cached: JsonValue, written: JsonValue) -> Counts | None:
    """None if a count is missing or cannot be: the budget would not end if nonsense made calls free."""
    counts = [_count(sent), _count(received), _count(cached or 0), _count(written or 0)]
    numbers = [count for count in counts if count is not None]
    if len(numbers) < len(counts) or not any(numbers[:2]):
        return None
    # A part that is more than the whole has no price.
    return None if numbers[2] > numbers[0] else Counts(*numbers)


def _count(value: JsonValue) -> int | None:
    """A number of tokens, rounded up; None if it is none, below zero or beyond belief."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN compares as false with everything.
    return math.ceil(value) if 0 <= value <= MAX_TOKENS_SAID else None
