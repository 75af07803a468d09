"""One call over HTTP: its limits, what of it travels where, and that no reply is beyond judging."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_kit import design, docs, hypothesis, implementation, review
from standin import ScriptedReply, StandIn

from autolab.errors import BudgetSpent, RecordError, ResearcherError
from autolab.lab.schemas.config import Price, ResearcherConfig
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import OUTPUTS, AgentResult
from autolab.researchers.base import AfterPause, Booked, Outage, Received, Sent, Task, TaskFolders
from autolab.researchers.llm import chat_model, conversation, output_parser, wire
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.services import Model, named_model
from autolab.researchers.llm.wire import AGAIN, CONTENT, Message, ModelReply, call, post

KEY = "wire-key-5f2c9a71d3e84b60aa17"
ASKS = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
HOW = {"content-type": "application/json"}
REASONS = AGAIN | CONTENT | {"ok", "too_large", "redirect", "rate_limited", "quota", "unauthorized"}
REASONS |= {"not_found", "rejected", "too_long"}
GOOD = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}
GOOD |= {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
GOOD |= {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
SPOKEN = {"id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
SPOKEN |= {"stop_sequence": None, "content": [{"type": "text", "text": "yes"}]}
SPOKEN |= {"usage": {"input_tokens": 7, "output_tokens": 3}}


class Recorded:
    """Whoever pays, without a wire: each call is answered with the next of `received`, the last for ever."""

    def __init__(self, *received: Received) -> None:
        self._left = list(received)
        self.sent: list[Sent] = []
        self.booked: list[Booked] = []
        self.waited: list[float] = []
        self.refused: set[str] = set()

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        self.sent.append(sent)
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def book(self, booked: Booked) -> None:
        self.booked.append(booked)

    def wait(self, seconds: float, why: str) -> None:
        self.waited.append(seconds)

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        return AfterPause.GIVEN_UP

    def answers_again(self, service: str) -> None: ...

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return frozenset(self.refused)

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        self.refused.add(parameter)


class Through:
    """Whoever pays, and really sends."""

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        return transmit()

    def book(self, booked: Booked) -> None: ...

    def wait(self, seconds: float, why: str) -> None: ...

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        return AfterPause.GIVEN_UP

    def answers_again(self, service: str) -> None: ...

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return frozenset()

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None: ...


NOWHERE = "http://127.0.0.1:1"
OPENAI = Model("openai:gpt-5", "openai", "gpt-5", "openai", f"{NOWHERE}/v1", KEY, None, False, False)
SONNET = "claude-sonnet-4-5"
CLAUDE = Model(f"anthropic:{SONNET}", "anthropic", SONNET, "anthropic", NOWHERE, KEY, None, False, False)


def answered(value: Any, status: int = 200, **headers: str) -> Received:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Received(status, {"content-type": "application/json"} | named, body, 0.1)


def judged(received: Received, one: Model = OPENAI) -> ModelReply:
    talk = [Message("system", "Answer."), Message("user", "What?")]
    return call(one, talk, Recorded(received), ResearcherConfig(timeout_s=1, max_tokens=100))


# post


def test_a_reply_comes_whole_with_the_headers_that_matter() -> None:
    headers = {"X-Request-Id": "r1", "Retry-After": 3, "Set-Cookie": "no"}
    with StandIn([{"body": "hello", "headers": headers}]) as server:
        got = post(f"{server.url}/chat/completions", HOW, ASKS, 10)
    assert (got.status, got.body, got.fault) == (200, b"hello", "")
    assert got.headers == {"content-type": "application/json", "retry-after": "3", "x-request-id": "r1"}
    assert got.seconds > 0


@pytest.mark.parametrize(
    "reply",
    [{"text": "x", "slow_s": 30}, {"text": "x", "delay_s": 30}, {"text": "x", "slow_s": 30, "cut_chunked": 100}],
    ids=["a body that drips", "nothing", "chunks that drip"],
)
def test_a_call_takes_no_longer_than_its_limit(reply: dict[str, Any]) -> None:
    began = time.monotonic()
    with StandIn([reply]) as server:
        got = post(f"{server.url}/chat/completions", HOW, ASKS, 0.2)
        assert time.monotonic() - began < 5
    assert (got.status, got.fault) == (0, "timeout: no whole reply in 0.2 s")


@contextmanager
def dripping(line: bytes) -> Iterator[str]:
    """A server whose headers never end: each of them comes in time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.02):
                    try:
                        taken.sendall(line)
                    except OSError:  # the client went away
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            over.set()
            thread.join()


def test_headers_that_drip_are_within_the_limit_too() -> None:
    with dripping(b"X-More: 1\r\n") as url:
        assert post(url, HOW, ASKS, 0.2).fault == "timeout: no whole reply in 0.2 s"


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "packed"])
def test_a_reply_beyond_the_limit_is_not_read_to_its_end(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY", 1 << 20)
    with StandIn([{"text": "x", "pad": 8 << 20, "gzip": packed}]) as server:
        got = post(f"{server.url}/chat/completions", HOW, ASKS, 20)
    assert (got.status, got.fault, got.body) == (0, "too_large: more than 1,048,576 bytes", b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with StandIn() as other, StandIn([{"status": status, "headers": {"Location": f"{other.url}/models"}}]) as server:
        got = post(f"{server.url}/chat/completions", HOW | {"authorization": f"Bearer {KEY}"}, ASKS, 10)
        assert (got.status, got.headers["location"]) == (status, f"{other.url}/models")
        assert not other.requests


# what is sent


@pytest.mark.parametrize("form", ["openai", "anthropic"])
def test_the_key_is_in_one_header_and_nowhere_else(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    def noted(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
        seen.append((url, headers, body))
        return answered(GOOD if form == "openai" else SPOKEN)

    monkeypatch.setattr(wire, "post", noted)
    one = OPENAI if form == "openai" else CLAUDE
    told = call(one, [Message("user", "What?")], Through(), ResearcherConfig(timeout_s=1, max_tokens=100))
    assert (told.text, told.reason) == ("yes", "ok")
    ((url, headers, body),) = seen
    held = {name: value for name, value in headers.items() if KEY in value}
    assert held == ({"authorization": f"Bearer {KEY}"} if form == "openai" else {"x-api-key": KEY})
    assert set(headers) - set(held) <= {"accept", "content-type", "user-agent", "anthropic-version"}
    assert KEY not in url and KEY.encode() not in body and KEY not in repr(one)


FOUND = (
    *("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"),
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
)


@pytest.mark.parametrize("form", ["openai", "anthropic"])
def test_what_else_the_environment_holds_does_not_travel(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOUND:
        monkeypatch.setenv(name, f"found-{name}")
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Own: found-in-custom")
    seen: list[Any] = []

    def noted(url: str, headers: dict[str, str], body: bytes, timeout_s: float) -> Received:
        seen.append((url, headers, body))
        return answered({}, 500)

    monkeypatch.setattr(wire, "post", noted)
    one = named_model(f"{form}:m", ResearcherConfig(name="llm", model=f"{form}:m", base_url="http://127.0.0.1:1/v1"))
    more = {"extra_headers": {"X-Title": "lab"}}
    call(one, [Message("user", "What?")], Through(), ResearcherConfig(timeout_s=1, max_tokens=9, settings=more))
    assert "found-" not in str(seen) and seen[0][1]["x-title"] == "lab"


@pytest.mark.parametrize("form", ["openai", "anthropic"])
def test_talk_and_settings_go_out_as_they_are(form: str) -> None:
    with StandIn([{"text": "yes"}]) as server:
        url = server.url if form == "openai" else server.origin
        one = named_model(f"{form}:m", ResearcherConfig(name="llm", model=f"{form}:m", base_url=url))
        talk = [
            Message("system", "Be brief."),
            Message("user", "What?"),
            Message("model", "so"),
            Message("user", "No."),
        ]
        told = call(one, talk, Through(), ResearcherConfig(timeout_s=10, max_tokens=77, settings={"temperature": 0.5}))
    (asked,) = server.requests
    assert told.reason == "ok" and asked.system == "Be brief." and asked.model == "m"
    assert [turn["role"] for turn in asked.messages] == ["user", "assistant", "user"]
    assert asked.body["temperature"] == 0.5 and 77 in (
        asked.body.get("max_tokens"),
        asked.body.get("max_completion_tokens"),
    )


def test_what_whoever_pays_says_is_raised_as_it_is() -> None:
    class Broke(Through):
        def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
            raise BudgetSpent("tokens: all gone")

    with pytest.raises(BudgetSpent, match="all gone"):
        call(OPENAI, [Message("user", "What?")], Broke(), ResearcherConfig(timeout_s=1, max_tokens=100))


def test_settings_of_which_no_request_can_be_made_are_said() -> None:
    # No configuration that was checked holds such a value: a set is no JSON.
    with pytest.raises(ResearcherError, match=r"^researcher: openai:gpt-5: no request could be made of its settings: "):
        call(
            OPENAI,
            [Message("user", "?")],
            Through(),
            ResearcherConfig.model_construct(timeout_s=1, max_tokens=9, settings={"user": {1}}),
        )


# what is booked


def test_usage_is_booked_as_the_service_says_it() -> None:
    told = judged(answered(GOOD))
    assert (told.input_tokens, told.output_tokens) == (7, 3)
    assert told.dollars == pytest.approx((7 * 1.25 + 3 * 10) / 1e6)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": 9, "total_tokens": 4},
        {"prompt_tokens": 5, "completion_tokens": -9, "total_tokens": 4},
        {"prompt_tokens": 10**12, "completion_tokens": 1, "total_tokens": 1},
        {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6, "prompt_tokens_details": {"cached_tokens": 99}},
    ],
)
def test_usage_that_is_not_to_be_believed_is_booked_as_reserved(usage: Any) -> None:
    paid = Recorded(answered(GOOD | {"usage": usage}))
    told = call(OPENAI, [Message("user", "x" * 300)], paid, ResearcherConfig(timeout_s=1, max_tokens=50))
    assert told.reason == "ok" and (told.input_tokens, told.output_tokens) == (100, 50)
    assert paid.sent[0].tokens == 150 and told.dollars == paid.sent[0].dollars


@pytest.mark.parametrize(
    ("fault", "tokens"), [("timeout: x", 150), ("cut: x", 150), ("too_large: x", 150), ("unreachable: x", 0)]
)
def test_a_call_that_a_service_may_have_begun_is_booked_as_reserved(fault: str, tokens: int) -> None:
    paid = Recorded(Received(0, {}, b"", 1.0, fault))
    told = call(OPENAI, [Message("user", "x" * 300)], paid, ResearcherConfig(timeout_s=1, max_tokens=50))
    assert told.reason == fault.partition(":")[0] and told.input_tokens + told.output_tokens == tokens
    assert (told.dollars or 0) > 0 if tokens else told.dollars == 0


# Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0), ("0.5", 0.5), (" 7 ", 7.0), ("0", 0.0), ("-5", 0.0), ("1e9", 1e9), ("", None), ("soon", None),
        ("nan", None), ("inf", None), ("-inf", None), ("9" * 400, None), ("Fri, 01 Jan 99999 00:00:00 GMT", None),
        ("Fri, 32 Jan 2026 00:00:00 GMT", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("2015", 2015.0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date_or_nothing(header: str, seconds: float | None) -> None:
    assert judged(answered({}, 429, retry_after=header)).wait_s == seconds


def test_a_date_to_come_is_waited_for() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert judged(answered({}, 503, retry_after=when)).wait_s == pytest.approx(99, abs=2)


# Whatever comes


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
STATUSES = st.sampled_from([200, 200, 201, 204, 302, 400, 401, 402, 404, 408, 413, 422, 429, 500, 503, 529, 599])


def sound(told: ModelReply) -> None:
    assert told.reason in REASONS
    assert told.input_tokens >= 0 and told.output_tokens >= 0
    assert told.dollars is None or told.dollars >= 0
    assert told.reason == "ok" or told.detail
    assert told.detail.isprintable() and len(told.detail) < 500


@settings(max_examples=120)
@given(body=st.binary(max_size=200), status=STATUSES, header=st.text(st.characters(codec="latin-1"), max_size=30),
       one=st.sampled_from([OPENAI, CLAUDE]))  # fmt: skip
def test_any_bytes_are_some_kind_of_reply(body: bytes, status: int, header: str, one: Model) -> None:
    sound(judged(answered(body, status, retry_after=header), one))


@settings(max_examples=120)
@given(value=ANY_JSON, status=STATUSES, one=st.sampled_from([OPENAI, CLAUDE]))
def test_any_value_is_some_kind_of_reply(value: Any, status: int, one: Model) -> None:
    sound(judged(answered(value, status), one))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in pairs for place in places(part, (*at, key)))]


def mutated(value: Any, at: tuple[Any, ...], new: Any, drop: bool) -> Any:
    """The value with another one at `at`, or with nothing there."""
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(at) == 1 and drop:
        del copy[at[0]]
    else:
        copy[at[0]] = mutated(copy[at[0]], at[1:], new, drop)
    return copy


@settings(max_examples=250)
@given(data=st.data(), new=ANY_JSON, drop=st.booleans(), one=st.sampled_from([OPENAI, CLAUDE]))
def test_any_change_of_a_good_reply_is_some_kind_of_reply(
    data: st.DataObject, new: Any, drop: bool, one: Model
) -> None:
    good = GOOD if one is OPENAI else SPOKEN
    at = data.draw(st.sampled_from(places(good)))
    sound(judged(answered(mutated(good, at, new, drop)), one))


OUTPUT = {
    Stage.HYPOTHESIS: hypothesis()["output"],
    Stage.DESIGN: design()["output"],
    Stage.IMPLEMENTATION: implementation()["output"],
    Stage.IMPLEMENTATION_REVIEW: review()["output"],
    Stage.UPDATE_DOCS: docs()["output"],
}


def accepts(stage: Stage, text: str) -> bool:
    try:
        OUTPUTS[stage].from_value(parse_json(text, "x.json"), "x.json")
    except RecordError:
        return False
    return True


@settings(max_examples=250)
@given(data=st.data(), stage=st.sampled_from(list(OUTPUT)), new=ANY_JSON, drop=st.booleans())
def test_a_reply_fits_where_its_stage_takes_it_and_nowhere_else(
    data: st.DataObject, stage: Stage, new: Any, drop: bool
) -> None:
    at = data.draw(st.sampled_from(places(OUTPUT[stage])))
    text = json.dumps(mutated(OUTPUT[stage], at, new, drop))
    got = output_parser.read_answer(ModelReply(text, "ok"), AnswerForm(stage, OUTPUTS[stage]))
    assert (got.reason == "") == accepts(stage, text)
    assert got.reason in ("", "invalid", "not_json") and got.problem.isprintable()


def perform(text: str, tmp_path: Path) -> tuple[chat_model.Answer, Recorded]:
    paid = Recorded(answered(mutated(GOOD, ("choices", 0, "message", "content"), text, False)))
    who = ResearcherConfig(
        name="llm", model="openai:m", base_url="http://127.0.0.1:1/v1", price=Price(input=1, output=1)
    )
    task = Task("k", Stage.HYPOTHESIS, "i", 1, 1, "What?", TaskFolders(tmp_path, tmp_path), none, "So.", paid)
    return chat_model.LLMResearcher(who).perform(task), paid


def none() -> Any:
    raise AssertionError("a model reads its prompt, not the lab's snapshot")


@settings(max_examples=120)
@given(text=st.text(st.characters(exclude_categories=()), max_size=60) | ANY_JSON.map(json.dumps))
def test_any_text_is_an_answer_or_the_reason_why_there_is_none(text: str, tmp_path_factory: Any) -> None:
    answer, paid = perform(text, Path("."))
    assert answer.raw is None and answer.note.isprintable()
    assert len(paid.sent) == 2 and {one.reason for one in paid.booked} <= CONTENT


def test_a_reply_that_fits_is_a_complete_result(tmp_path: Path) -> None:
    answer, paid = perform(json.dumps(OUTPUT[Stage.HYPOTHESIS]), tmp_path)
    assert answer.raw is not None
    result = AgentResult.from_text(answer.raw, "x.json")
    assert result.status == "complete" and result.output == OUTPUT[Stage.HYPOTHESIS]
    assert [one.reason for one in paid.booked] == ["ok"]


def test_a_long_reply_goes_back_shortened(tmp_path: Path) -> None:
    _, paid = perform("no " * 500_000, tmp_path)
    assert [one.reason for one in paid.booked] == ["not_json", "not_json"]
    assert len(paid.sent[1].body) < 2 * conversation.LONGEST_QUOTED


def test_a_script_of_faults_is_what_it_says(tmp_path: Path) -> None:
    """The stand-in and the reader agree on what a good reply is."""
    with StandIn(answer=lambda _: ScriptedReply(text="yes")) as server:
        got = post(f"{server.url}/chat/completions", HOW, ASKS, 10)
    assert judged(got).text == "yes"
