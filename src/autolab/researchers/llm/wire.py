"""One model call over HTTP: what is sent, what comes back, and what kind of reply that is.

Pydantic AI writes the request and reads the reply. Between them stands `Recorder`, a transport: it hands the request to
`Calls`, which pays for it and records it, and hands the recorded reply back. So every reply is on record before
anything reads it, and a recorded reply is read like a fresh one. The clients' own retries are off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.record import parse_json
from autolab.researchers.base import Booked, Calls, Received, Sent
from autolab.researchers.llm import services
from autolab.text import decode, decode_json, one_line

if TYPE_CHECKING:
    import ssl

    import httpx2
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model as ClientModel
    from pydantic_ai.usage import RequestUsage


MAX_BODY = 8 << 20
"""Bytes of a reply, unpacked. A longer reply is not read to its end."""
LONGEST_CONNECT_S = 30.0
MAX_TOKENS_SAID = 10_000_000
"""The most tokens of one call that a service may report; more, or less than none, is not believed."""
_REQUEST_HEADERS = frozenset({"accept", "content-type", "user-agent", "anthropic-version", "anthropic-beta"})
"""Headers of the clients that are sent; besides them only the key and `extra_headers` are."""
_REPLY_HEADERS = ("content-type", "retry-after", "location", "request-id", "x-request-id")
"""Headers of a reply that are recorded."""
_ERROR_BODY = 100_000
"""Bytes of an error's body that are searched for its reason."""

OUTAGES = frozenset({"unreachable", "timeout", "cut", "overloaded", "server_error"})
"""Kinds of failure of a service that may be down for a while."""
AGAIN = OUTAGES | {"bad_body"}
"""Kinds of failure that may be over at the next try."""
CONTENT = frozenset({"truncated", "refused", "empty", "tool_call", "not_json", "invalid"})
"""Kinds of failure that lie in what the model wrote."""


@dataclass(frozen=True)
class ModelReply:
    """The outcome of one call: a text, or the kind of failure with a line about it.

    `wait_s`: how many seconds the service asks to wait. `dollars` is None if no price is known.
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
        """Whether no model replied at all."""
        return self.reason != "ok" and self.reason not in CONTENT

    def booked(self, reason: str = "", detail: str = "") -> Booked:
        """For `Calls.book`. `reason` and `detail`: what the reader of the text found wrong with it, if anything."""
        return Booked(reason or self.reason, detail or self.detail, self.input_tokens, self.output_tokens, self.dollars)


@dataclass(frozen=True)
class Message:
    """One message of a conversation, by `system`, `user` or `model`."""

    role: str
    text: str


@dataclass(frozen=True)
class _Reservation:
    """What a call takes at most; it is booked if the service's own count is missing or not credible."""

    model: services.Model
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def dollars(self) -> float | None:
        return self.model.dollars_at_most(self.input_tokens, self.output_tokens)


def call(
    model: services.Model,
    messages: list[Message],
    calls: Calls,
    config: ResearcherConfig,
) -> ModelReply:
    """Make one call, with the time limit, the longest reply and the settings of `config`. The caller books the reply.

    ResearcherError: no request can be made of the settings. What `calls` raises (BudgetSpent, Paused) is passed on.
    """
    # A token holds three bytes or more in nearly every text: an upper limit without a tokenizer.
    prompt_bytes = sum(len(message.text.encode()) for message in messages)
    prompt_tokens = prompt_bytes // 3
    reservation = _Reservation(model, prompt_tokens, config.max_tokens)
    exchange = _Exchange(calls, reservation, config.timeout_s, _own_headers(model, config.settings))
    response: ModelResponse | None = None
    trouble = ""
    try:
        # pydantic-ai warns of a usage that makes no sense; it is booked as reserved.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The user's settings win: some services have another name for the limit and refuse this one.
            settings: dict[str, Any] = {"max_tokens": config.max_tokens} | config.settings
            response = asyncio.run(_request(model, messages, exchange.transport(), settings))
    # All of them: pydantic-ai and the two clients document no common error, and a hostile body raises whatever their
    # parsing meets (validation, type, key and unicode errors). What came is on record and is judged below; an error of
    # ours that passed through the clients is raised again from `exchange.error`.
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    if exchange.error is not None:
        raise exchange.error
    if exchange.received is None:
        raise ResearcherError(
            f"researcher: {model.name}: no request could be made of its settings: {line_for_user(trouble)}"
        )
    return _model_reply(reservation, exchange.received, response, trouble)


class _Exchange:
    """The HTTP exchange of one call: the reply, or the error of `calls`, which the clients would swallow."""

    def __init__(self, calls: Calls, reservation: _Reservation, timeout_s: float, own_headers: dict[str, str]) -> None:
        self._calls, self._reservation = calls, reservation
        self._timeout_s, self._own_headers = timeout_s, own_headers
        self.received: Received | None = None
        self.error: BaseException | None = None

    def transport(self) -> httpx2.AsyncBaseTransport:
        import httpx2

        exchange = self

        class Recorder(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                body = await request.aread()
                received = exchange.send(str(request.url), dict(request.headers), body)
                # What the failure really was is judged by `received`, not by the error that the clients raise.
                if received.status == 0:
                    raise httpx2.ConnectError(received.fault, request=request)
                # No other header: the clients need none to read the reply, and some would make them act.
                content_type = received.headers.get("content-type", "application/json")
                headers = {"content-type": content_type}
                return httpx2.Response(received.status, headers=headers, content=received.body, request=request)

        return Recorder()

    def send(self, url: str, client_headers: dict[str, str], body: bytes) -> Received:
        reservation = self._reservation
        sent = Sent(reservation.model.name, url, body, reservation.tokens, reservation.dollars)
        # By a list of what may pass: clients add headers that describe this machine and its user.
        headers = {name: value for name, value in client_headers.items() if name in _REQUEST_HEADERS}
        headers |= self._own_headers
        try:
            self.received = self._calls.send(sent, lambda: post(url, headers, body, self._timeout_s))
        # All of them, also KeyboardInterrupt: the clients would take BudgetSpent, Paused or a full disk for a failed
        # connection. `call` raises it again.
        except BaseException as error:
            self.error = error
            raise
        return self.received


def _own_headers(model: services.Model, settings: dict[str, Any]) -> dict[str, str]:
    """The key, and the headers of the configuration. The clients' own would carry what the environment holds."""
    headers = {}
    extra = settings.get("extra_headers")
    if isinstance(extra, dict):
        headers = {str(name).lower(): str(value) for name, value in extra.items()}
    # After the user's, so that a key always goes to the service that it belongs to.
    if model.speaks == "openai":
        headers["authorization"] = f"Bearer {model.key}"
    else:
        headers["x-api-key"] = model.key
    return headers


async def _request(
    model: services.Model, messages: list[Message], transport: httpx2.AsyncBaseTransport, settings: dict[str, Any]
) -> ModelResponse:
    import httpx2
    from pydantic_ai.direct import model_request

    async with httpx2.AsyncClient(transport=transport, verify=_certificates()) as client:
        make_model = _openai_model if model.speaks == "openai" else _anthropic_model
        client_model = make_model(model, client)
        return await model_request(client_model, _messages(messages), model_settings=settings)  # type: ignore[arg-type]


def _openai_model(model: services.Model, client: httpx2.AsyncClient) -> ClientModel[Any]:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    sdk = AsyncOpenAI(api_key=model.key, base_url=model.url, http_client=client, max_retries=0)
    return OpenAIChatModel(model.model_id, provider=OpenAIProvider(openai_client=sdk))


def _anthropic_model(model: services.Model, client: httpx2.AsyncClient) -> ClientModel[Any]:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    # This client adds /v1 by itself, unlike OpenAI's.
    url = model.url.removesuffix("/v1")
    sdk = AsyncAnthropic(api_key=model.key, base_url=url, http_client=client, max_retries=0)
    return AnthropicModel(model.model_id, provider=AnthropicProvider(anthropic_client=sdk))


def _messages(messages: list[Message]) -> list[Any]:
    """The conversation as Pydantic AI has it."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    turns: list[Any] = []
    for message in messages:
        if message.role == "model":
            turns.append(ModelResponse(parts=[TextPart(message.text)]))
            continue
        part = SystemPromptPart if message.role == "system" else UserPromptPart
        turns.append(ModelRequest(parts=[part(message.text)]))
    return turns


def post(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
    """POST, within `timeout_s` seconds from first to last byte and MAX_BODY bytes of reply; no redirect is followed.

    A failure on the way is a Received with status 0 and `fault` as "kind: what".
    """
    # A loop of its own, because only so the call can be ended at any point; in a thread, because the clients' loop runs
    # in the caller's. A daemon: a user who leaves at once does not wait for it.
    outcome: Future[Received] = Future()

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(_post(url, headers, body, timeout_s)))
        # All of them: without a result the caller would wait for ever; `result` raises the error there.
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name="call", daemon=True).start()
    return outcome.result()


async def _post(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
    import httpx2

    start = time.monotonic()
    # One deadline for the whole exchange: a service that sends a byte now and then never meets a timeout for one read.
    limits = httpx2.Timeout(None, connect=min(timeout_s, LONGEST_CONNECT_S))
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(timeout=limits, follow_redirects=False, verify=_certificates()) as client,
            client.stream("POST", url, headers=headers, content=body) as reply,
        ):
            content = await _read(reply)
            reply_headers = {name: reply.headers[name] for name in _REPLY_HEADERS if name in reply.headers}
            return Received(reply.status_code, reply_headers, content, time.monotonic() - start)
    # From the special to the general: TimeoutError is that of `asyncio.timeout`, httpx2 has errors of its own.
    except _TooLarge:
        fault = f"too_large: more than {MAX_BODY:,} bytes"
    except TimeoutError:
        fault = f"timeout: no whole reply in {timeout_s:g} s"
    except (httpx2.ConnectTimeout, httpx2.ConnectError, httpx2.UnsupportedProtocol, httpx2.ProxyError) as error:
        fault = f"unreachable: {_reason_of(error)}"
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:  # cut off, no HTTP, broken encoding
        fault = f"cut: {type(error).__name__}: {error}"
    return Received(0, {}, b"", time.monotonic() - start, fault)


def _reason_of(error: Exception) -> str:
    """Why no connection came about, as the system says it: `Connection refused`."""
    causes: list[BaseException] = [error]
    while causes:
        cause = causes.pop(0)
        if isinstance(cause, ConnectionError) and cause.errno:
            return os.strerror(cause.errno)
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, BaseExceptionGroup):
            causes += cause.exceptions
        causes += [inner for inner in (cause.__cause__, cause.__context__) if inner is not None]
    return str(error) or type(error).__name__


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The certificates that are trusted. Read once: that takes longer than a call on this machine."""
    import httpx2

    return httpx2.create_ssl_context()


class _TooLarge(Exception):
    """A reply of more than MAX_BODY bytes."""


async def _read(reply: httpx2.Response) -> bytes:
    """The body, unpacked. _TooLarge: it has more than MAX_BODY bytes; the rest is not read."""
    content = bytearray()
    # Unpacked block by block: a small reply may unpack to more than the memory holds.
    async for block in reply.aiter_bytes():
        content += block
        if len(content) > MAX_BODY:
            raise _TooLarge
    return bytes(content)


def _model_reply(
    reservation: _Reservation, received: Received, response: ModelResponse | None, trouble: str
) -> ModelReply:
    """What kind of reply came. `response` is what the client made of it, or None with the `trouble` it had."""
    if received.status == 0:
        reason, _, detail = received.fault.partition(": ")
        # A service may bill what it began.
        cost = reservation if reason in ("timeout", "cut", "too_large") else None
        return _failure(reservation.model, reason, detail, cost)
    message = _error_message(received.body)
    if received.status != 200:
        reason, wait_s = _refusal(received)
        message = message or line_for_user(decode(received.body[:2000])) or "no word about why"
        return _failure(reservation.model, reason, f"HTTP {received.status}: {message}", None, wait_s)
    if response is None:
        detail = f"not a reply of this service: {message or line_for_user(trouble)}"
        return _failure(reservation.model, "bad_body", detail, reservation)
    texts = [part.content for part in response.parts if part.part_kind == "text"]
    # The clients do not check every type.
    if not all(isinstance(text, str) for text in texts):
        return _failure(reservation.model, "bad_body", "not a reply of this service: its text is none", reservation)
    text = "".join(texts)
    reason, detail = _kind(response, text)
    return ModelReply(text, reason, detail, None, *_usage(reservation, response.usage))


def _failure(
    model: services.Model, reason: str, detail: str, cost: _Reservation | None, wait_s: float | None = None
) -> ModelReply:
    detail = f"{model.name}: {detail}"
    if cost is None:
        return ModelReply("", reason, detail, wait_s)
    return ModelReply("", reason, detail, wait_s, cost.input_tokens, cost.output_tokens, cost.dollars)


def _kind(response: ModelResponse, text: str) -> tuple[str, str]:
    """The kind of a reply by what the service says of it, before the text is read; and a line about it."""
    refusal = (response.provider_details or {}).get("refusal")
    # Before the text: a cut reply may be sound JSON by chance, with its end missing.
    if response.finish_reason == "length":
        return "truncated", "the reply was cut off at the longest allowed (max_tokens)"
    if response.finish_reason == "content_filter" or refusal:
        return "refused", f"the model refuses: {line_for_user(str(refusal or text)) or 'without a word'}"
    if any(part.part_kind == "tool-call" for part in response.parts):
        return "tool_call", "the model called a tool, and there are none"
    if not text.strip():
        return "empty", "the reply is empty"
    return "ok", ""


def _usage(reservation: _Reservation, usage: RequestUsage) -> tuple[int, int, float | None]:
    """Input tokens, output tokens and dollars by the service's count; the reservation if that cannot be believed."""
    counts = (usage.input_tokens, usage.output_tokens)
    # A service that counts nothing, or nonsense, must not make calls free: the budget would never end.
    if any(counts) and all(0 <= count <= MAX_TOKENS_SAID for count in counts):
        # Parts (cached tokens) that are more than the whole have no price.
        with contextlib.suppress(ValueError):
            return (*counts, reservation.model.dollars(usage))
    return reservation.input_tokens, reservation.output_tokens, reservation.dollars


_TOO_LONG = ("context_length", "context length", "context window", "too long")
_REASONS = {
    401: "unauthorized",
    402: "quota",
    403: "unauthorized",
    404: "not_found",
    408: "timeout",
    413: "too_long",
    503: "overloaded",
    529: "overloaded",
}


def _refusal(received: Received) -> tuple[str, float | None]:
    """The kind of a status other than 200, and how many seconds the service asks to wait."""
    status = received.status
    body = received.body[:_ERROR_BODY].decode("utf-8", errors="replace").lower()
    wait_s = _retry_after(received.headers.get("retry-after", ""))
    if status == 429:
        # Not by "billing" alone: OpenAI names that page in the message of a mere rate limit too.
        if "insufficient_quota" in body or "exceeded your current quota" in body:
            return "quota", wait_s
        return "rate_limited", wait_s
    if status in (400, 422) and any(phrase in body for phrase in _TOO_LONG):
        return "too_long", None
    if status == 400 and "credit balance" in body:  # as Anthropic says it
        return "quota", None
    if status in _REASONS:
        return _REASONS[status], wait_s
    if 300 <= status < 400:
        return "redirect", None
    # A 2xx other than 200 has no reply in it either.
    if status >= 500 or status < 300:
        return "server_error", wait_s
    return "rejected", None


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110 §10.2.3); None if it holds neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    # A date that has passed means now; "inf" and "nan" are numbers for Python.
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _error_message(body: bytes) -> str:
    """The message of an error object, in one line; empty if the body is none."""
    try:
        value = parse_json(decode_json(body), "error")
    except RecordError:
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return line_for_user(message) if isinstance(message, str) else ""


def line_for_user(text: str) -> str:
    """Text from outside as one line for a user: `text.one_line`, 300 characters at most."""
    return one_line(text, 300)
