"""One model call over HTTP: what is sent, what came back, and what kind of reply it was.

Pydantic AI writes the request and reads the reply; in between stands `Recorder`, a transport that hands the request to
whoever pays (`Calls`) and the recorded reply back. So every reply is on record before anything reads it, and a recorded
one goes the same way as a fresh one. Its clients' own retries are off: `llm` decides about those.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.record import parse_json
from autolab.researchers.base import Booked, Calls, Received, Sent
from autolab.researchers.llm import services
from autolab.text import decode, decode_json, one_line

if TYPE_CHECKING:
    import ssl

    import httpx2
    from pydantic_ai.messages import ModelResponse


MAX_BODY = 8 << 20
"""Bytes of a reply, unpacked. A longer one is not read to its end."""
LONGEST_CONNECT_S = 30.0
MAX_TOKENS_SAID = 10_000_000
"""Tokens of one call that a service may claim; more, or less than none, is not believed."""
_SENT = ("accept", "content-type", "user-agent", "anthropic-version", "anthropic-beta")
"""Headers of the clients that go out; no others do but the key and `extra_headers`."""
_KEPT = ("content-type", "retry-after", "location", "request-id", "x-request-id")

AGAIN = frozenset({"unreachable", "timeout", "cut", "bad_body", "overloaded", "server_error"})
"""Kinds of failure that may be over at the next try."""
CONTENT = frozenset({"truncated", "refused", "empty", "tool_call", "not_json", "invalid"})
"""Kinds of failure that lie in what the model said."""


@dataclass(frozen=True)
class ModelReply:
    """What came of one call: the text, or the kind of failure with a line about it.

    `wait_s` is how long the service asks to wait.
    """

    text: str
    reason: str
    detail: str = ""
    wait_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = 0.0

    @property
    def failed(self) -> bool:
        """Whether there was no reply of a model at all."""
        return self.reason != "ok" and self.reason not in CONTENT

    def booked(self, reason: str = "", detail: str = "") -> Booked:
        """As it is booked; `reason` and `detail` are of whoever read the text, where that found something."""
        return Booked(reason or self.reason, detail or self.detail, self.input_tokens, self.output_tokens, self.dollars)


@dataclass(frozen=True)
class Message:
    """One message of a conversation: who says it (`system`, `user`, `model`), and what."""

    role: str
    text: str


def call(
    model: services.Model,
    messages: list[Message],
    calls: Calls,
    *,
    timeout_s: float,
    max_tokens: int,
    settings: dict[str, Any],
) -> ModelReply:
    """Make one call and say what it came to. The caller books it."""
    most = sum(len(message.text.encode()) for message in messages) // 3 + max_tokens
    prompt = most - max_tokens
    dollars = model.dollars_at_most(prompt, max_tokens)
    line = _Line(calls, Sent(model.name, model.url, b"", most, dollars), timeout_s, _own_headers(model, settings))
    response: ModelResponse | None = None
    trouble = ""
    try:
        with warnings.catch_warnings():  # of a usage that is none: it is booked as reserved
            warnings.simplefilter("ignore")
            response = asyncio.run(_request(model, messages, line.transport(), {"max_tokens": max_tokens} | settings))
    # All of them: pydantic-ai and the two clients document no common error, and a hostile body raises whatever their
    # parsing meets (validation, type, key and unicode errors). What came is on record and is judged below; an error of
    # ours that passed through the clients is raised again from `line.raised`.
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    if line.raised is not None:
        raise line.raised
    received = line.received
    if received is None:
        raise ResearcherError(f"researcher: {model.name}: no request could be made of its settings: {shown(trouble)}")
    return _judged(model, received, response, trouble, (prompt, max_tokens))


class _Line:
    """The wire of one call: what went over it, and an error of whoever pays, which the clients would swallow."""

    def __init__(self, calls: Calls, sent: Sent, timeout_s: float, own: dict[str, str]) -> None:
        self._calls, self._sent, self._timeout_s, self._own = calls, sent, timeout_s, own
        self.received: Received | None = None
        self.raised: BaseException | None = None

    def transport(self) -> Any:
        import httpx2

        line = self

        class Recorder(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                body = await request.aread()
                received = line.exchange(str(request.url), dict(request.headers), body)
                if received.status == 0:
                    raise httpx2.ConnectError(received.fault, request=request)
                headers = {"content-type": received.headers.get("content-type", "application/json")}
                return httpx2.Response(received.status, headers=headers, content=received.body, request=request)

        return Recorder()

    def exchange(self, url: str, headers: dict[str, str], body: bytes) -> Received:
        sent = Sent(self._sent.model, url, body, self._sent.tokens, self._sent.dollars)
        headers = {name: value for name, value in headers.items() if name in _SENT} | self._own
        try:
            self.received = self._calls.send(sent, lambda: post(url, headers, body, self._timeout_s))
        # All of them, also KeyboardInterrupt: the clients would take BudgetSpent, Paused or a full disk for a failed
        # connection. `call` raises it again.
        except BaseException as error:
            self.raised = error
            raise
        return self.received


def _own_headers(model: services.Model, settings: dict[str, Any]) -> dict[str, str]:
    """The key, and what the configuration adds. The clients' own would hold what they find in the environment."""
    more = settings.get("extra_headers")
    key = {"authorization": f"Bearer {model.key}"} if model.speaks == "openai" else {"x-api-key": model.key}
    return {str(name).lower(): str(value) for name, value in (more if isinstance(more, dict) else {}).items()} | key


async def _request(
    model: services.Model, messages: list[Message], transport: Any, settings: dict[str, Any]
) -> ModelResponse:
    import httpx2
    from pydantic_ai import models
    from pydantic_ai.direct import model_request

    async with httpx2.AsyncClient(transport=transport, verify=_trusted()) as client:
        client_model: models.Model[Any]
        if model.speaks == "openai":
            from openai import AsyncOpenAI
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai import OpenAIProvider

            sdk = AsyncOpenAI(api_key=model.key, base_url=model.url, http_client=client, max_retries=0)
            client_model = OpenAIChatModel(model.model_id, provider=OpenAIProvider(openai_client=sdk))
        else:
            from anthropic import AsyncAnthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            root = model.url.removesuffix("/v1")
            own = AsyncAnthropic(api_key=model.key, base_url=root, http_client=client, max_retries=0)
            client_model = AnthropicModel(model.model_id, provider=AnthropicProvider(anthropic_client=own))
        return await model_request(client_model, _messages(messages), model_settings=settings)  # type: ignore[arg-type]


def _messages(messages: list[Message]) -> list[Any]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    made: list[Any] = []
    for message in messages:
        if message.role == "model":
            made.append(ModelResponse(parts=[TextPart(message.text)]))
        else:
            part = SystemPromptPart(message.text) if message.role == "system" else UserPromptPart(message.text)
            made.append(ModelRequest(parts=[part]))
    return made


def post(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
    """POST, with one limit for the whole call and one for the size of the reply; no redirect is followed.

    What goes wrong on the way is a Received with status 0 and `fault` as "kind: what". The call has a loop of its own,
    as only so it can be ended at any point, and a thread for it, as in the caller's the clients' loop is running; a
    user who leaves at once does not wait for that thread.
    """
    found: Future[Received] = Future()

    def work() -> None:
        try:
            found.set_result(asyncio.run(_posted(url, headers, body, timeout_s)))
        # All of them: a future without a result would let the caller wait for ever; `result` raises it there.
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=work, name="call", daemon=True).start()
    return found.result()


async def _posted(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
    import httpx2

    began = time.monotonic()
    limits = httpx2.Timeout(None, connect=min(timeout_s, LONGEST_CONNECT_S))
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(timeout=limits, follow_redirects=False, verify=_trusted()) as client,
            client.stream("POST", url, headers=headers, content=body) as reply,
        ):
            whole = await _read(reply)
            headers_kept = {name: reply.headers[name] for name in _KEPT if name in reply.headers}
            return Received(reply.status_code, headers_kept, whole, time.monotonic() - began)
    except _TooLarge:
        fault = f"too_large: more than {MAX_BODY:,} bytes"
    except TimeoutError:
        fault = f"timeout: no whole reply in {timeout_s:g} s"
    except (httpx2.ConnectTimeout, httpx2.ConnectError, httpx2.UnsupportedProtocol, httpx2.ProxyError) as error:
        fault = f"unreachable: {error or type(error).__name__}"
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:  # cut off, no HTTP, broken encoding
        fault = f"cut: {type(error).__name__}: {error}"
    return Received(0, {}, b"", time.monotonic() - began, fault)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates hold. Read once: it takes longer than a call on this machine."""
    import httpx2

    return httpx2.create_ssl_context()


class _TooLarge(Exception):
    """A reply beyond MAX_BODY."""


async def _read(reply: httpx2.Response) -> bytes:
    """The body, unpacked; _TooLarge as soon as it is."""
    whole = bytearray()
    async for block in reply.aiter_bytes():
        whole += block
        if len(whole) > MAX_BODY:
            raise _TooLarge
    return bytes(whole)


def _judged(
    model: services.Model, received: Received, response: ModelResponse | None, trouble: str, most: tuple[int, int]
) -> ModelReply:
    if received.status == 0:
        reason, _, detail = received.fault.partition(": ")
        paid = most if reason in ("timeout", "cut", "too_large") else (0, 0)  # a service may bill what it began
        return _failed(model, reason, detail, paid)
    if received.status != 200:
        reason, wait = _refusal(received)
        return _failed(model, reason, f"HTTP {received.status}: {_message(received.body)}", (0, 0), wait)
    if response is None:
        return _failed(
            model, "bad_body", f"not a reply of this service: {_error(received.body) or shown(trouble)}", most
        )
    texts = [part.content for part in response.parts if part.part_kind == "text"]
    if not all(isinstance(one, str) for one in texts):  # the clients do not look at every type
        return _failed(model, "bad_body", "not a reply of this service: its text is none", most)
    used, text = _used(model, response, most), "".join(texts)
    reason, detail = _kind(response, text)
    return ModelReply(text, reason, detail, None, *used)


def _failed(
    model: services.Model, reason: str, detail: str, paid: tuple[int, int], wait: float | None = None
) -> ModelReply:
    dollars = model.dollars_at_most(*paid) if any(paid) else 0.0
    return ModelReply("", reason, f"{model.name}: {detail}", wait, *paid, dollars)


def _kind(response: ModelResponse, text: str) -> tuple[str, str]:
    """What kind of reply this is by the service's own word, before the text is read."""
    details = response.provider_details or {}
    if response.finish_reason == "length":
        return "truncated", "the reply was cut off at the longest allowed (max_tokens)"
    if response.finish_reason == "content_filter" or details.get("refusal"):
        return "refused", f"the model refuses: {shown(str(details.get('refusal') or text)) or 'without a word'}"
    if any(part.part_kind == "tool-call" for part in response.parts):
        return "tool_call", "the model called a tool, and there are none"
    if not text.strip():
        return "empty", "the reply is empty"
    return "ok", ""


def _used(model: services.Model, response: ModelResponse, most: tuple[int, int]) -> tuple[int, int, float | None]:
    """Tokens and dollars by the service's count; at most what was reserved where that cannot be believed."""
    usage = response.usage
    counts = (usage.input_tokens, usage.output_tokens)
    try:
        if any(counts) and all(0 <= count <= MAX_TOKENS_SAID for count in counts):
            return (*counts, model.dollars(usage))
    except ValueError:  # parts (cached tokens) that are more than the whole have no price
        pass
    return (*most, model.dollars_at_most(*most))


_TOO_LONG = ("context_length", "context length", "context window", "too long")
_STATUS = {401: "unauthorized", 402: "quota", 403: "unauthorized", 404: "not_found", 408: "timeout", 413: "too_long",
           503: "overloaded", 529: "overloaded"}  # fmt: skip


def _refusal(received: Received) -> tuple[str, float | None]:
    """The kind of a status other than 200, and how many seconds the service asks to wait."""
    status, body = received.status, received.body[:100_000].decode("utf-8", errors="replace").lower()
    wait = _retry_after(received.headers.get("retry-after", ""))
    if status == 429:
        # Not by "billing" alone: OpenAI names that page in the message of a mere rate limit too.
        used_up = "insufficient_quota" in body or "exceeded your current quota" in body
        return ("quota" if used_up else "rate_limited"), wait
    if status in (400, 422) and any(word in body for word in _TOO_LONG):
        return "too_long", None
    if status == 400 and "credit balance" in body:  # as Anthropic says it
        return "quota", None
    if status in _STATUS:
        return _STATUS[status], wait
    if 300 <= status < 400:
        return "redirect", None
    return ("server_error", wait) if status >= 500 or status < 300 else ("rejected", None)


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110 §10.2.3)."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message(body: bytes) -> str:
    """What came with a failure, in one line: the service's own word if there is one."""
    return _error(body) or shown(decode(body[:2000])) or "no word about why"


def _error(body: bytes) -> str:
    """The message of an error object; empty where there is none."""
    try:
        value = parse_json(decode_json(body), "error")
    except RecordError:
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    found = error.get("message") if isinstance(error, dict) else error
    return shown(found) if isinstance(found, str) else ""


def shown(text: str) -> str:
    """What somebody else says, as one line for a user: `text.one_line`, 300 characters at most."""
    return one_line(text, 300)
