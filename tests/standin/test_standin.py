"""The stand-in: both services' forms through their own clients, every fault on the wire as it is."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from autolab.errors import RecordError
from standin import NO_REPLY, ReceivedRequest, Script, ScriptedReply, StandIn

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
HELLO: list[Any] = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hello"}]
ASK = {"model": "scripted", "messages": HELLO, "max_tokens": 50}


@contextmanager
def chat(server: StandIn, key: str = "sk-any") -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=server.url,
        api_key=key,
        max_retries=0,
        timeout=20,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


@contextmanager
def claude(server: StandIn, key: str = "sk-any") -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=server.origin,
        api_key=key,
        max_retries=0,
        timeout=20,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


def completion(server: StandIn, **more: Any) -> Any:
    with chat(server) as client:
        return client.chat.completions.create(model="scripted", messages=HELLO, **more)


def message(server: StandIn) -> Any:
    with claude(server) as client:
        said: Any = [{"role": "user", "content": "hello"}]
        return client.messages.create(model="scripted", max_tokens=50, system="be short", messages=said)


@contextmanager
def raw(
    server: StandIn, path: str = CHAT, body: object = ASK, method: str = "POST", **headers: str
) -> Iterator[http.client.HTTPResponse]:
    """One request by hand; the response as it comes, unread."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.origin.rpartition(":")[2]), timeout=20)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, {"Content-Type": "application/json"} | named)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def said(server: StandIn, path: str = CHAT, body: object = ASK, method: str = "POST", **headers: str) -> Any:
    """(status, JSON body) of one request by hand."""
    with raw(server, path, body, method, **headers) as response:
        return response.status, json.loads(response.read())


# The two services


def test_openai_client_reads_a_text() -> None:
    with StandIn([{"text": "good morning"}]) as server:
        found = completion(server)
    assert found.choices[0].message.content == "good morning"
    assert found.choices[0].finish_reason == "stop"
    assert found.model == "scripted"
    # "be short" and "hello" with a line break between: 14 characters; "good morning": 12
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (4, 3, 7)


def test_anthropic_client_reads_a_text() -> None:
    with StandIn([{"text": "good morning"}]) as server:
        found = message(server)
    assert [(part.type, part.text) for part in found.content] == [("text", "good morning")]
    assert found.stop_reason == "end_turn"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (4, 3)


def test_output_is_one_json_object() -> None:
    with StandIn([{"output": {"decision": "stop", "reason": "größer"}, "times": 2}]) as server:
        assert json.loads(completion(server).choices[0].message.content) == {"decision": "stop", "reason": "größer"}
        assert json.loads(message(server).content[0].text) == {"decision": "stop", "reason": "größer"}


def test_usage_is_as_scripted() -> None:
    with StandIn([{"text": "a", "usage": {"input": 1000, "output": 20}, "times": 2}]) as server:
        assert completion(server).usage.total_tokens == 1020
        assert message(server).usage.input_tokens == 1000


@pytest.mark.parametrize(
    ("finish", "stop"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "tool_use")],
)
def test_finish_is_said_in_each_services_words(finish: str, stop: str) -> None:
    with StandIn([{"text": "a", "finish": finish, "times": 2}]) as server:
        assert completion(server).choices[0].finish_reason == finish
        assert message(server).stop_reason == stop


def test_tool_call_comes_instead_of_a_text() -> None:
    with StandIn([{"tool_call": {"name": "shell", "arguments": '{"cmd": "ls"}'}, "times": 2}]) as server:
        choice, other = completion(server).choices[0], message(server)
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")
    call = choice.message.tool_calls[0]
    assert (call.type, call.function.name, call.function.arguments) == ("function", "shell", '{"cmd": "ls"}')
    assert other.stop_reason == "tool_use"
    assert [(part.type, part.name, part.input) for part in other.content] == [("tool_use", "shell", {"cmd": "ls"})]


def test_tool_arguments_that_are_no_json_are_sent_as_they_are() -> None:
    with StandIn([{"tool_call": {"name": "shell", "arguments": "{half"}, "times": 2}]) as server:
        assert completion(server).choices[0].message.tool_calls[0].function.arguments == "{half"
        assert message(server).content[0].input == "{half"


def test_refusal_has_each_services_form() -> None:
    with StandIn([{"refusal": "I will not", "times": 2}]) as server:
        choice, other = completion(server).choices[0], message(server)
    assert (choice.message.content, choice.message.refusal) == (None, "I will not")
    assert (other.stop_reason, other.content[0].text) == ("refusal", "I will not")


def test_empty_text_is_an_empty_reply() -> None:
    with StandIn([{"text": "", "times": 2}]) as server:
        assert completion(server).choices[0].message.content == ""
        assert message(server).content == []


def test_models_are_listed_in_both_forms() -> None:
    with StandIn(Script(models=("small", "large"), replies=())) as server, chat(server) as one, claude(server) as two:
        assert [model.id for model in one.models.list()] == ["small", "large"]
        assert [model.id for model in two.models.list()] == ["small", "large"]


def test_a_model_is_listed_where_the_script_names_none() -> None:
    with StandIn() as server, chat(server) as client:
        assert [model.id for model in client.models.list()] == ["scripted"]


# Refusals of a service


def test_unknown_model_is_not_found_and_takes_no_reply() -> None:
    script = Script.from_value({"models": ["small"], "replies": [{"text": "a"}]}, "s")
    with StandIn(script) as server, chat(server) as one, claude(server) as two:
        with pytest.raises(openai.NotFoundError) as missing:
            one.chat.completions.create(model="big", messages=HELLO)
        with pytest.raises(anthropic.NotFoundError, match="'big' does not exist"):
            two.messages.create(model="big", max_tokens=5, messages=HELLO[1:])
        assert missing.value.code == "model_not_found"
        assert one.chat.completions.create(model="small", messages=HELLO).choices[0].message.content == "a"


def test_wrong_key_is_unauthorized() -> None:
    script = Script.from_value({"key": "sk-right", "replies": [{"text": "a", "times": 2}]}, "s")
    with StandIn(script) as server:
        with chat(server, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        with claude(server, "sk-wrong") as other, pytest.raises(anthropic.AuthenticationError):
            other.messages.create(model="m", max_tokens=5, messages=HELLO[1:])
        assert said(server)[0] == 401
        assert said(server, Authorization="Bearer sk-right")[0] == 200
        assert said(server, MESSAGES, x_api_key="sk-right")[0] == 200
        assert [one.key for one in server.requests] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (CHAT, b"not json", "the body is not a JSON object that asks something"),
        (CHAT, b"\xff\xfe", "the body is not a JSON object that asks something"),
        (CHAT, b"", "the body is not a JSON object that asks something"),
        (CHAT, b"[" * 100_000, "the body is not a JSON object that asks something"),
        (CHAT, [1], "the body is not a JSON object that asks something"),
        (CHAT, {"messages": HELLO}, "model: missing"),
        (CHAT, {"model": "m"}, "messages: a list of messages is missing"),
        (CHAT, {"model": "m", "messages": []}, "messages: a list of messages is missing"),
        (CHAT, {"model": "m", "messages": ["hello"]}, "messages: a list of messages is missing"),
        (CHAT, ASK | {"stream": True}, "stream: the stand-in answers whole; ask without it"),
        (MESSAGES, {"model": "m", "messages": HELLO}, "max_tokens: missing"),
    ],
)
def test_body_that_a_service_would_refuse_is_a_bad_request(path: str, body: object, reason: str) -> None:
    with StandIn([{"text": "a"}]) as server:
        status, value = said(server, path, body)
        assert (status, value["error"]["message"]) == (400, reason)
        assert value["error"]["type"] == "invalid_request_error"
        assert ("type" in value) == (path == MESSAGES)
        assert completion(server).choices[0].message.content == "a"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/responses"), ("GET", CHAT), ("POST", "/v1/models"), ("PUT", CHAT), ("GET", "/")]
)
def test_another_address_is_not_found(method: str, path: str) -> None:
    with StandIn() as server:
        status, value = said(server, path, ASK, method)
    assert (status, value["error"]["message"]) == (404, f"no such address: {method} {path}")


def test_another_address_of_anthropic_is_said_in_its_form() -> None:
    with StandIn() as server:
        status, value = said(server, f"{MESSAGES}/count_tokens")
    assert (status, value["type"], value["error"]["type"]) == (404, "error", "not_found_error")


def test_query_is_no_part_of_the_address() -> None:
    with StandIn([{"text": "a"}]) as server:
        assert said(server, f"{MESSAGES}?beta=true")[0] == 200


# Which reply


def test_replies_are_taken_in_order_and_then_there_is_none() -> None:
    with StandIn([{"text": "one"}, {"text": "two", "times": 2}]) as server:
        assert [completion(server).choices[0].message.content for _ in range(3)] == ["one", "two", "two"]
        with pytest.raises(openai.InternalServerError, match=NO_REPLY):
            completion(server)
        assert len(server.requests) == 4


def test_times_zero_is_for_ever() -> None:
    with StandIn([{"text": "again", "times": 0}]) as server:
        assert {said(server)[1]["choices"][0]["message"]["content"] for _ in range(5)} == {"again"}


@pytest.mark.parametrize(
    ("when", "fits"),
    [("be short", True), ("^be", True), ("short\nhello", True), ("hel+o", True), ("HELLO", False), ("(?i)HELLO", True)],
)
def test_when_is_searched_in_system_and_messages(when: str, fits: bool) -> None:
    with StandIn([{"text": "fits", "when": when, "times": 0}, {"text": "else", "times": 0}]) as server:
        expected = "fits" if fits else "else"
        assert completion(server).choices[0].message.content == expected
        assert message(server).content[0].text == expected


def test_when_sees_parts_and_tool_results() -> None:
    parts = [
        {"role": "system", "content": [{"type": "text", "text": "part of the system"}]},
        {"role": "user", "content": [{"type": "text", "text": "part of a message"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "shell"}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "a result"}]},
    ]
    with StandIn([{"text": "a"}]) as server:
        said(server, CHAT, ASK | {"messages": parts})
        asked = server.requests[0]
    assert asked.system == "part of the system"
    assert asked.messages == parts[1:]
    assert asked.text.splitlines()[:2] == ["part of the system", "part of a message"]
    assert '"name": "shell"' in asked.text and '"content": "a result"' in asked.text


def test_each_reply_is_taken_once_by_many_at_a_time() -> None:
    with StandIn([{"text": str(number)} for number in range(40)]) as server:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: said(server)[1]["choices"][0]["message"]["content"], range(40)))
        assert sorted(map(int, found)) == list(range(40))
        assert sorted(one.number for one in server.requests) == list(range(1, 41))


def test_function_is_asked_before_the_script() -> None:
    def obey(asked: ReceivedRequest) -> ScriptedReply | None:
        return ScriptedReply(text=f"obeyed {asked.system}") if "obey" in asked.text else None

    with StandIn([{"text": "scripted"}], answer=obey) as server:
        assert completion(server).choices[0].message.content == "scripted"
        body = ASK | {"messages": [{"role": "developer", "content": "me"}, {"role": "user", "content": "obey"}]}
        assert said(server, CHAT, body)[1]["choices"][0]["message"]["content"] == "obeyed me"


def test_what_the_function_raises_ends_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(asked: ReceivedRequest) -> ScriptedReply | None:
        raise LookupError("no idea")

    with pytest.raises(LookupError, match="no idea"):  # noqa: SIM117
        with StandIn(answer=broken) as server, pytest.raises(openai.APIConnectionError):
            completion(server)
    assert "no idea" in capfd.readouterr().err


# What goes wrong


def test_rate_limit_says_when_to_come_back() -> None:
    with StandIn([{"status": 429, "headers": {"Retry-After": 7, "x-request-id": "r1"}, "times": 2}]) as server:
        with pytest.raises(openai.RateLimitError) as one:
            completion(server)
        with pytest.raises(anthropic.RateLimitError) as two:
            message(server)
    assert one.value.response.headers["retry-after"] == "7"
    assert (one.value.code, one.value.request_id) == ("rate_limit_exceeded", "r1")
    assert two.value.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "scripted status 429"},
    }


@pytest.mark.parametrize(
    ("status", "theirs"),
    [
        (400, "invalid_request_error"),
        (403, "permission_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_status_alone_is_the_services_error(status: int, theirs: str) -> None:
    with StandIn([{"status": status, "times": 2}]) as server:
        found, value = said(server)
        assert found == status
        assert value["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
        found, value = said(server, MESSAGES)
        assert (found, value["error"]["type"]) == (status, theirs)


def test_error_can_be_spelled_out_and_come_with_200() -> None:
    fault = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota"}
    with StandIn([{"status": 429, "error": fault}, {"error": {"message": "upstream gone"}}]) as server:
        with pytest.raises(openai.RateLimitError) as caught:
            completion(server)
        assert caught.value.code == "insufficient_quota"
        assert said(server) == (
            200,
            {"error": {"message": "upstream gone", "type": "invalid_request_error", "param": None, "code": None}},
        )


def test_redirect_has_its_place() -> None:
    with (
        StandIn([{"status": 302, "headers": {"Location": "http://127.0.0.1:1/v1"}}]) as server,
        raw(server) as response,
    ):
        assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("wrap", "place", "found"),
    [
        ({"choices": None}, ("choices",), None),
        ({"choices": [{"message": 3}]}, ("choices", 0), {"message": 3}),
        (
            {"usage": {"prompt_tokens": "many"}},
            ("usage",),
            {"prompt_tokens": "many", "completion_tokens": 1, "total_tokens": 5},
        ),
        ({"id": 5}, ("id",), 5),
        ({"extra": {"a": [1]}}, ("extra",), {"a": [1]}),
    ],
)
def test_wrap_is_laid_over_the_services_object(wrap: dict[str, Any], place: tuple[Any, ...], found: object) -> None:
    with StandIn([{"text": "abc", "wrap": wrap}]) as server:
        value = said(server)[1]
    for step in place:
        value = value[step]
    assert value == found


def test_wrap_is_laid_over_an_error_too() -> None:
    with StandIn([{"status": 500, "wrap": {"error": "just a text"}}]) as server:
        assert said(server) == (500, {"error": "just a text"})


def test_without_leaves_names_out() -> None:
    with StandIn([{"text": "abc", "without": ["usage", "id"]}]) as server:
        value = said(server)[1]
    assert sorted(value) == ["choices", "created", "model", "object"]


def test_raw_body_comes_as_it_is() -> None:
    odd = base64.b64encode(b"\xff\x00{").decode()
    html = {"body": "<html>proxy</html>", "headers": {"content-type": "text/html"}, "status": 502}
    with StandIn([html, {"body_base64": odd}, {"body": ""}]) as server:
        with raw(server) as response:
            assert (response.status, response.headers["Content-Type"]) == (502, "text/html")
            assert response.read() == b"<html>proxy</html>"
        with raw(server) as response:
            assert response.read() == b"\xff\x00{"
        with raw(server) as response:
            assert (response.status, response.read()) == (200, b"")


def test_cut_promises_more_than_comes() -> None:
    with StandIn([{"text": "a" * 500, "cut": 100, "times": 2}]) as server:
        with raw(server) as response, pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
        assert len(caught.value.partial) == 100
        assert caught.value.expected is not None and caught.value.expected > 400
        with pytest.raises(openai.APIConnectionError):
            completion(server)


@pytest.mark.parametrize("size", [0, 100])
def test_cut_chunked_never_sends_the_last_chunk(size: int) -> None:
    with StandIn([{"text": "a" * 500, "cut_chunked": size, "times": 2}]) as server:
        with raw(server) as response:
            assert response.headers["Transfer-Encoding"] == "chunked"
            with pytest.raises(http.client.IncompleteRead) as caught:
                response.read()
        assert len(caught.value.partial) == size
        with pytest.raises(openai.APIConnectionError):
            completion(server)


def test_drop_answers_nothing() -> None:
    with StandIn([{"drop": True, "times": 2}]) as server:
        with pytest.raises(http.client.RemoteDisconnected), raw(server):
            pass
        with claude(server) as client, pytest.raises(anthropic.APIConnectionError):
            client.messages.create(model="m", max_tokens=5, messages=HELLO[1:])
        assert len(server.requests) == 2


def test_pad_makes_a_huge_reply_that_is_still_json() -> None:
    size = 3_000_000
    with StandIn(
        [{"output": {"a": 1}, "pad": size}, {"status": 500, "pad": size}, {"body": "{}", "pad": size}]
    ) as server:
        text = completion(server).choices[0].message.content
        assert len(text) == size + len('{"a": 1}') and json.loads(text) == {"a": 1}
        assert len(said(server)[1]["error"]["message"]) > size
        with raw(server) as response:
            assert len(response.read()) == size + 2


def test_gzip_is_unpacked_by_the_client_and_a_false_one_is_not() -> None:
    with StandIn([{"text": "packed", "gzip": True, "times": 2}, {"text": "plain", "bad_gzip": True}]) as server:
        assert completion(server).choices[0].message.content == "packed"
        with raw(server) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert json.loads(gzip.decompress(response.read()))["object"] == "chat.completion"
        with pytest.raises(openai.APIError):
            completion(server)


def test_delay_comes_before_the_answer() -> None:
    with StandIn([{"text": "late", "delay_s": 0.2}, {"text": "later", "delay_s": 30}]) as server:
        begun = time.monotonic()
        assert completion(server).choices[0].message.content == "late"
        assert time.monotonic() - begun >= 0.2
        with pytest.raises(openai.APITimeoutError):
            completion(server, timeout=0.2)


def test_slow_body_comes_in_pieces() -> None:
    with StandIn([{"text": "a" * 400, "slow_s": 0.2}]) as server:
        begun = time.monotonic()
        with raw(server) as response:
            json.loads(response.read())
        assert time.monotonic() - begun >= 0.18


# Its life


def test_end_of_the_block_ends_every_thread_and_connection() -> None:
    before = set(threading.enumerate())
    came = threading.Event()

    def noted(asked: ReceivedRequest) -> None:
        came.set()

    with StandIn([{"text": "late", "delay_s": 600}], answer=noted) as server:
        port = int(server.origin.rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port))
        half = socket.create_connection(("127.0.0.1", port))
        half.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        waiting = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        waiting.request("POST", CHAT, json.dumps(ASK))
        assert came.wait(20)
    assert set(threading.enumerate()) <= before
    with pytest.raises(http.client.RemoteDisconnected):
        waiting.getresponse()
    assert idle.recv(1) == b"" and half.recv(1) == b""
    for one in (idle, half, waiting):
        one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_client_that_goes_away_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    with StandIn([{"text": "a", "pad": 20_000_000, "delay_s": 0.05}, {"text": "next"}]) as server:
        gone = socket.create_connection(("127.0.0.1", int(server.origin.rpartition(":")[2])))
        data = json.dumps(ASK).encode()
        gone.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(data), data))
        gone.recv(1)
        gone.close()
        assert completion(server).choices[0].message.content == "next"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("replies:\n  - {text: a}\n  - {}\n", "line 3: replies.1: answers nothing; give one of output, text, "),
        (
            "replies:\n  - {text: a, output: {}}\n",
            "line 2: replies.0: output and text are given; a reply is one of them",
        ),
        ("replies:\n  - {text: a, when: '('}\n", "line 2: replies.0: when: '(' is not a regular expression"),
        ("replies:\n  - {text: a, status: 99}\n", "line 2: replies.0.status: Input should be greater than or equal to"),
        ("replies:\n  - {text: 3}\n", "line 2: replies.0.text: Input should be a valid string, got 3"),
        ("replies:\n  - {text: a, finish: end}\n", "line 2: replies.0.finish: "),
        ("replies:\n  - {body: a, finish: stop}\n", "line 2: replies.0: finish is for what the service would answer"),
        ("replies:\n  - {body: a, without: [id]}\n", "line 2: replies.0: without is for what the service would answer"),
        ("replies:\n  - {text: a, cut: 0, cut_chunked: 0}\n", "line 2: replies.0: cut and cut_chunked are given"),
        ("replies:\n  - {text: a, gzip: true, bad_gzip: true}\n", "line 2: replies.0: gzip and bad_gzip are given"),
        ("replies:\n  - {body_base64: '%'}\n", "line 2: replies.0: body_base64: Only base64 data is allowed"),
        (
            'replies:\n  - {text: a, headers: {A: "b\\nc"}}\n',
            "line 2: replies.0: headers: 'A' is not a name and a value",
        ),
        ("replies:\n  - {text: a, headers: {A b: c}}\n", "line 2: replies.0: headers: 'A b' is not a name and a value"),
        ("replies:\n  - {text: a, delay_s: -1}\n", "line 2: replies.0.delay_s: "),
        ("replies:\n  - {text: a, tool_call: {name: b}}\n", "line 2: replies.0: text and tool_call are given"),
        ("replies:\n  - {txt: a}\n", "line 2: replies.0.txt: unknown key"),
        ("replies:\n  - {text: a, text: b}\n", "line 2: text: key given twice"),
        ("models: [a]\n", "replies: missing"),
        ("replies: [\n", "not YAML"),
    ],
)
def test_bad_script_is_one_line_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        Script.from_text(text, "s.yaml")
    assert str(caught.value).startswith("s.yaml: ") and reason in str(caught.value)


def test_scripted_reply_in_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(RecordError, match=r"script: replies\.0: answers nothing"):
        StandIn([{"times": 2}])
