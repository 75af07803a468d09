"""Requests and replies as OpenAI's Chat Completions and Anthropic's Messages write them."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from standin.script import ANSWERS, Fault, ScriptedReply, Usage

CHAT, MESSAGES, MODELS = "/v1/chat/completions", "/v1/messages", "/v1/models"
RUNNING = "/api/ps"
"""Where Ollama lists the models that run, with their context (https://docs.ollama.com/api/ps)."""

_SYSTEM = ("system", "developer")
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}
# Status -> OpenAI's type and code, Anthropic's type, of errors as the services document them.
_REJECTED = ("invalid_request_error", None, "invalid_request_error")
_BROKEN = ("server_error", None, "api_error")
_ERRORS: dict[int, tuple[str, str | None, str]] = {
    401: ("invalid_request_error", "invalid_api_key", "authentication_error"),
    403: ("invalid_request_error", None, "permission_error"),
    404: ("invalid_request_error", None, "not_found_error"),
    413: ("invalid_request_error", None, "request_too_large"),
    429: ("requests", "rate_limit_exceeded", "rate_limit_error"),
    504: ("server_error", None, "timeout_error"),
    529: ("server_error", None, "overloaded_error"),
}


@dataclass(frozen=True)
class ReceivedRequest:
    """A request. `system` and `text` (system and messages) are plain text; `messages` and `body` are as they came.

    `key` says whether a key came. What is missing from a request that is refused is empty.
    """

    number: int
    path: str
    model: str
    key: bool
    system: str
    messages: list[dict[str, Any]]
    body: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Wire:
    """A reply as it goes over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    scripted: ScriptedReply


def parse_request(number: int, path: str, key: bool, value: Any) -> ReceivedRequest:
    """The request whose body is `value`, which may be anything."""
    body = value if isinstance(value, dict) else {}
    found = body.get("messages")
    messages = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    system_messages = [one for one in messages if one.get("role") in _SYSTEM]
    rest = [one for one in messages if one.get("role") not in _SYSTEM]
    system = "\n".join([_words(body.get("system")), *(_words(one.get("content")) for one in system_messages)]).strip(
        "\n"
    )
    texts = [_words([one.get("content"), one.get("tool_calls")]) for one in rest]
    return ReceivedRequest(
        number, path, str(body.get("model", "")), key, system, rest, body, "\n".join([system, *texts])
    )


def _words(content: Any) -> str:
    """The text of a message's content, which may come in parts; what is no text, as JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list):
        return "\n".join(_words(part) for part in content)
    if isinstance(content, dict) and content.get("type") == "text":
        return str(content.get("text"))
    return json.dumps(content, ensure_ascii=False)


def wrong(request: ReceivedRequest) -> str | None:
    """Why a service would refuse the body; None where it would not."""
    body, messages = request.body, request.body.get("messages")
    if not body:
        return "the body is not a JSON object that asks something"
    if not isinstance(body.get("model"), str):
        return "model: missing"
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        return "messages: a list of messages is missing"
    if request.path == MESSAGES and not isinstance(body.get("max_tokens"), int):
        return "max_tokens: missing"
    return "stream: the stand-in answers whole; ask without it" if body.get("stream") else None


def refused(status: int, message: str, code: str | None = None) -> ScriptedReply:
    return ScriptedReply(status=status, error=Fault(message=message, code=code))


def on_wire(request: ReceivedRequest, reply: ScriptedReply, anthropic: bool) -> Wire:
    """The reply in the form of the service that was asked, padded, packed, with its headers."""
    body = _body(request, reply, anthropic)
    headers = {"Content-Type": "application/json"}
    if reply.gzip:
        body = gzip.compress(body)
    if reply.gzip or reply.bad_gzip:
        headers["Content-Encoding"] = "gzip"
    if reply.cut_chunked is None:
        headers["Content-Length"] = str(len(body))
    else:
        headers["Transfer-Encoding"] = "chunked"
    given = {name.title(): str(value) for name, value in reply.headers.items()}
    return Wire(reply.status, headers | given | {"Connection": "close"}, body, reply)


def _body(request: ReceivedRequest, reply: ScriptedReply, anthropic: bool) -> bytes:
    if reply.body is not None:
        return reply.body.encode() + b" " * reply.pad
    if reply.body_base64 is not None:
        return base64.b64decode(reply.body_base64) + b" " * reply.pad
    value = _object(request, reply, anthropic)
    return json.dumps({name: one for name, one in value.items() if name not in reply.without}).encode()


def _object(request: ReceivedRequest, reply: ScriptedReply, anthropic: bool) -> dict[str, Any]:
    silent = all(getattr(reply, name) is None for name in ANSWERS)
    if reply.error is not None or (silent and reply.status != 200):
        value = _error(reply, reply.error or Fault(), anthropic)
    else:
        value = _message(request, reply) if anthropic else _completion(request, reply)
    return _merged(value, reply.wrap)


def _merged(value: dict[str, Any], over: Mapping[str, JsonValue]) -> dict[str, Any]:
    """`over` laid on `value`: a mapping goes into a mapping, anything else takes the place of what was there."""
    both = dict(value)
    for name, new in over.items():
        old = both.get(name)
        both[name] = _merged(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
    return both


def _error(reply: ScriptedReply, fault: Fault, anthropic: bool) -> dict[str, Any]:
    kind, code, other = _ERRORS.get(reply.status, _BROKEN if reply.status >= 500 else _REJECTED)
    message = (f"scripted status {reply.status}" if fault.message is None else fault.message) + " " * reply.pad
    if anthropic:
        return {"type": "error", "error": {"type": fault.type or other, "message": message}}
    return {"error": {"message": message, "type": fault.type or kind, "param": None, "code": fault.code or code}}


def _reply_text(reply: ScriptedReply) -> str:
    """The text of a reply, its padding included: spaces at its end, so that JSON stays JSON."""
    text = reply.text if reply.output is None else json.dumps(reply.output, ensure_ascii=False)
    return (text or reply.refusal or "") + " " * reply.pad


def _tokens(request: ReceivedRequest, reply: ScriptedReply) -> Usage:
    """As scripted; else a token for each four characters begun."""
    length = len(_reply_text(reply)) + (len(reply.tool_call.arguments) if reply.tool_call else 0)
    return reply.usage or Usage(input=-(-len(request.text) // 4), output=-(-length // 4))


def _completion(request: ReceivedRequest, reply: ScriptedReply) -> dict[str, Any]:
    """OpenAI's chat completion object."""
    usage, call = _tokens(request, reply), reply.tool_call
    message: dict[str, Any] = {"role": "assistant", "content": _reply_text(reply), "refusal": None}
    if reply.refusal is not None:
        message |= {"content": None, "refusal": _reply_text(reply)}
    if call is not None:
        function = {"name": call.name, "arguments": call.arguments}
        calls = [{"id": f"call_{request.number}", "type": "function", "function": function}]
        message |= {"content": _reply_text(reply) or None, "tool_calls": calls}
    finish = reply.finish or ("tool_calls" if call else "stop")
    return {
        "id": f"chatcmpl-{request.number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        },
    }


def _message(request: ReceivedRequest, reply: ScriptedReply) -> dict[str, Any]:
    """Anthropic's message object."""
    usage, call, text = _tokens(request, reply), reply.tool_call, _reply_text(reply)
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    if call is not None:
        block = {"type": "tool_use", "id": f"toolu_{request.number}", "name": call.name}
        content.append(block | {"input": read_as(call.arguments)})
    usual = "tool_calls" if call else "content_filter" if reply.refusal is not None else "stop"
    return {
        "id": f"msg_{request.number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": _STOP_REASONS[reply.finish or usual],
        "stop_sequence": None,
        "usage": {"input_tokens": usage.input, "output_tokens": usage.output},
    }


def read_as(text: str | bytes) -> Any:
    """What a text is as JSON; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def models(names: Sequence[str], anthropic: bool) -> dict[str, Any]:
    """The list of models, of which there is one at least."""
    if anthropic:
        made = "2026-01-01T00:00:00Z"
        known = [{"type": "model", "id": name, "display_name": name, "created_at": made} for name in names]
        return {"data": known, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in names]
    return {"object": "list", "data": listed}
