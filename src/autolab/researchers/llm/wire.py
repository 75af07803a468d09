"""One model call over HTTP: what is sent, what comes back, and what kind of reply that is.

Pydantic AI and its clients write the request. Under them stands `Recorder`, a transport: it hands the request to
`Calls`, which pays for it and records it, and ends the client's part. So every reply is on record before anything reads
it, and a recorded reply is read like a fresh one, by `reply_reader`: the clients refuse much of what services send.

A request that a service refuses for one parameter is made again without it, at once, and the lab remembers that.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Booked, Calls, Received, Sent
from autolab.researchers.llm import services
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.reply_reader import (
    Counts,
    ServiceError,
    ServiceReply,
    ToolCall,
    failed_generation,
    read_body,
    read_error,
)
from autolab.researchers.llm.request_parameters import refusable, request_parameters
from autolab.researchers.llm.service_errors import kind_of, refused_parameter, seconds_to_wait
from autolab.text import decode, one_line

if TYPE_CHECKING:
    import ssl

    import httpx2
    from pydantic import JsonValue
    from pydantic_ai.models import Model as ClientModel


MAX_BODY = 8 << 20
"""Bytes of a reply, unpacked. A longer reply is not read to its end."""
LONGEST_CONNECT_S = 30.0
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

    `wait_s`: how many seconds the service asks to wait. `dollars` is None if no price is known. `parameter`: what of
    the request the service does not take.
    """

    text: str
    reason: str
    detail: str = ""
    wait_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = 0.0
    tool_calls: tuple[ToolCall, ...] = ()
    parameter: str = ""

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
    form: AnswerForm | None = None,
) -> ModelReply:
    """Make one call, with the time limit, the longest reply and the settings of `config`. The caller books the reply.

    `form` is that of the answer, for a service that can be asked for one. A call that was refused for a parameter is
    booked here, and made again without it. ResearcherError: no request can be made of the settings. What `calls` raises
    (BudgetSpent, Paused) is passed on.
    """
    while True:
        left_out = calls.left_out(model.name, model.url)
        parameters = request_parameters(model, config.settings, config.max_tokens, form, left_out)
        may_be_refused = refusable(parameters, left_out)
        reservation, received = _send(model, messages, calls, config, parameters)
        reply = _model_reply(reservation, received, may_be_refused)
        # Each time one parameter less: this ends.
        if not reply.parameter:
            return reply
        calls.book(reply.booked())
        calls.leave_out(model.name, model.url, reply.parameter, reply.detail)


def _send(
    model: services.Model,
    messages: list[Message],
    calls: Calls,
    config: ResearcherConfig,
    parameters: dict[str, JsonValue],
) -> tuple[_Reservation, Received]:
    # A token holds three bytes or more in nearly every text: an upper limit without a tokenizer.
    prompt_bytes = sum(len(message.text.encode()) for message in messages)
    prompt_tokens = prompt_bytes // 3
    reservation = _Reservation(model, prompt_tokens, config.max_tokens)
    exchange = _Exchange(calls, reservation, config.timeout_s, _own_headers(model, config.settings))
    trouble = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(_request(model, messages, exchange.transport(), parameters))
    # All of them: pydantic-ai and the two clients document no common error. `_Recorded` ends every call that was made;
    # an error of ours that passed through the clients is raised again from `exchange.error`.
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    if exchange.error is not None:
        raise exchange.error
    if exchange.received is None:
        raise ResearcherError(
            f"researcher: {model.name}: no request could be made of its settings: {line_for_user(trouble)}"
        )
    return reservation, exchange.received


class _Recorded(Exception):
    """The reply is on record: the client's part is over."""


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
                exchange.send(str(request.url), dict(request.headers), body)
                raise _Recorded

        return Recorder()

    def send(self, url: str, client_headers: dict[str, str], body: bytes) -> None:
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
    model: services.Model,
    messages: list[Message],
    transport: httpx2.AsyncBaseTransport,
    parameters: dict[str, JsonValue],
) -> None:
    import httpx2
    from pydantic_ai.direct import model_request

    async with httpx2.AsyncClient(transport=transport, verify=_certificates()) as client:
        make_model = _openai_model if model.speaks == "openai" else _anthropic_model
        client_model = make_model(model, client)
        # The parameters go beside what the client writes: it has names of its own for some, and leaves others out.
        settings: dict[str, Any] = {"extra_body": parameters}
        if model.speaks == "anthropic":
            # This client wants the one, and refuses a long reply without the other. The transport has its own limit.
            settings |= {"max_tokens": parameters["max_tokens"], "timeout": 3600.0}
        await model_request(client_model, _messages(messages), model_settings=settings)  # type: ignore[arg-type]


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


def _model_reply(reservation: _Reservation, received: Received, refusable: frozenset[str]) -> ModelReply:
    """What kind of reply came. `refusable` are the parameters of the request that can be left out."""
    model = reservation.model
    if received.status == 0:
        reason, _, detail = received.fault.partition(": ")
        # A service may bill what it began.
        cost = reservation if reason in ("timeout", "cut", "too_large") else None
        return _failure(model, reason, detail, cost)
    if received.status != 200:
        return _refusal(reservation, received, read_error(received.status, received.body), refusable)
    try:
        reply = read_body(received.body, model.speaks)
    except RecordError as error:
        return _failure(model, "bad_body", line_for_user(str(error)), reservation)
    if isinstance(reply, ServiceError):
        # An error that came as 200 and does not say which: the service began something.
        if reply.status in (0, 200):
            return _failure(model, "bad_body", f"an error came: {line_for_user(reply.message)}", reservation)
        return _refusal(reservation, received, reply, refusable)
    reason, detail = _kind(reply)
    if reason == "overloaded":
        return _failure(model, reason, detail, reservation)
    return ModelReply(reply.text, reason, detail, None, *_cost(reservation, reply.counts), reply.tool_calls)


def _refusal(
    reservation: _Reservation, received: Received, error: ServiceError, refusable: frozenset[str]
) -> ModelReply:
    """The kind of an error, and what of the request the service does not take."""
    text = decode(received.body[:_ERROR_BODY])
    written = failed_generation(received.body)
    # Groq checks what a model wrote in its JSON mode: that is a reply, which is read like any other.
    if written is not None:
        reason, detail = ("ok", "") if written.strip() else ("empty", "the reply is empty")
        return ModelReply(written, reason, detail, None, *_cost(reservation, None))
    message = line_for_user(error.message) or line_for_user(text[:2000]) or "no word about why"
    detail = f"HTTP {error.status}: {message}"
    parameter = refused_parameter(error, refusable)
    if parameter:
        detail = f"{detail}; {parameter} is left out from now on"
        return replace(_failure(reservation.model, "unsupported", detail, None), parameter=parameter)
    wait_s = seconds_to_wait(received.headers.get("retry-after", ""))
    return _failure(reservation.model, kind_of(error, text), detail, None, wait_s)


def _failure(
    model: services.Model, reason: str, detail: str, cost: _Reservation | None, wait_s: float | None = None
) -> ModelReply:
    detail = f"{model.name}: {detail}"
    if cost is None:
        return ModelReply("", reason, detail, wait_s)
    return ModelReply("", reason, detail, wait_s, cost.input_tokens, cost.output_tokens, cost.dollars)


def _kind(reply: ServiceReply) -> tuple[str, str]:
    """The kind of a reply by what the service says of it, before the text is read; and a line about it."""
    # Before the text: a cut reply may be sound JSON by chance, with its end missing.
    if reply.ending == "truncated":
        return "truncated", f"the reply was cut off at the longest allowed (max_tokens){_thought(reply)}"
    if reply.ending == "refused" or reply.refusal:
        return "refused", f"the model refuses: {line_for_user(reply.refusal or reply.text) or 'without a word'}"
    if reply.ending == "overloaded":
        return "overloaded", "the service broke off the reply"
    if not reply.text.strip() and not reply.tool_calls:
        return "empty", f"the reply is empty{_thought(reply)}"
    return "ok", ""


def _thought(reply: ServiceReply) -> str:
    return f"; {reply.thought:,} characters of reasoning came" if reply.thought else ""


def _cost(reservation: _Reservation, counts: Counts | None) -> tuple[int, int, float | None]:
    """Input tokens, output tokens and dollars by the service's count; the reservation if that cannot be believed."""
    if counts is None:
        return reservation.input_tokens, reservation.output_tokens, reservation.dollars
    # Loaded late, as in `services`.
    import genai_prices

    usage = genai_prices.Usage(
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.cached,
        cache_write_tokens=counts.cache_written,
    )
    try:
        return counts.input, counts.output, reservation.model.dollars(usage)
    # Parts (cached tokens) that are more than the whole have no price.
    except ValueError:
        return reservation.input_tokens, reservation.output_tokens, reservation.dollars


def line_for_user(text: str) -> str:
    """Text from outside as one line for a user: `text.one_line`, 300 characters at most."""
    return one_line(text, 300)
