"""What a model refuses in a request is left out in the same attempt, remembered by the lab, the same in a replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_kit import LabKit, decision, hypothesis, implementation, iteration
from model_kit import model_lab, replies
from standin import Fault, ReceivedRequest, ScriptedReply, StandIn

pytestmark = pytest.mark.process

TWO = [
    *replies(iteration(decide_repeat=decision())),
    *replies(
        iteration(
            hypothesis=hypothesis("Steeper still"),
            implementation=implementation(8.0),
            decide_repeat=decision("stop", "it is done"),
        )
    ),
]
SETTINGS = {"name": "llm", "model": "vllm:scripted", "settings": {"temperature": 0.2, "top_p": 0.9}}


def strict(refused: Callable[[dict[str, Any]], str]) -> Callable[[ReceivedRequest], ScriptedReply | None]:
    """A service that refuses a body if `refused` says why; else the script answers."""

    def answer(request: ReceivedRequest) -> ScriptedReply | None:
        why = refused(request.body)
        return ScriptedReply(status=400, error=Fault(message=why)) if why else None

    return answer


def old_and_deterministic(body: dict[str, Any]) -> str:
    """No schemas, and no temperature."""
    if body.get("response_format", {}).get("type") == "json_schema":
        return "response_format.type `json_schema` is unavailable now"
    return "temperature: Extra inputs are not permitted" if "temperature" in body else ""


def lab(folder: Path) -> LabKit:
    return model_lab(folder, config={"researcher": SETTINGS})


def learned(kit: LabKit) -> list[str]:
    return [line["data"]["parameter"] for line in kit.events("parameter_refused")]


def test_what_is_refused_costs_no_attempt_and_is_known_to_the_next_process_and_to_a_replay(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    with StandIn(TWO, answer=strict(old_and_deterministic)) as server:
        flags = ("--base-url", server.url)
        first = kit.autolab("loop", *flags, "--max-iterations", "1")
        assert first.code == 0, first.out + first.err
        assert len(server.requests) == 2 + 6, "each refusal once, then six stages"
        second = kit.autolab("loop", *flags, "--max-iterations", "1")
        assert second.code == 0, second.out + second.err
        assert len(server.requests) == 2 + 12, "a new process begins with what was learned"
        bodies = [request.body for request in server.requests]
    assert learned(kit) == ["json_schema", "temperature"]
    assert "temperature is left out from now on" in first.out and "left out" not in second.out
    formats = [body.get("response_format", {}).get("type") for body in bodies]
    stages = ["json_object", "json_object", None, "json_object", "json_object", "json_object"]
    assert formats == ["json_schema", "json_object", *stages, *stages], "code is not asked for as JSON"
    assert all("temperature" not in body and body["top_p"] == 0.9 for body in bodies[2:])
    calls = [line["data"] for line in kit.events("call")]
    assert [call["reason"] for call in calls] == ["unsupported"] * 2 + ["ok"] * 12
    assert all(call["input_tokens"] == 0 for call in calls[:2])
    assert {line["data"]["state"]["attempts"].get("same_error", 0) for line in kit.events("transition")
            if "attempts" in line["data"]["state"]} <= {0}  # fmt: skip
    for number in ("1", "2"):
        replayed = kit.autolab("replay", number)
        assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


@pytest.mark.parametrize("point", ["call.after_reply", "call.after_book"])
def test_killed_between_a_refusal_and_its_memory_the_same_command_asks_nothing_twice(
    tmp_path: Path, point: str
) -> None:
    kit = lab(tmp_path)
    with StandIn(TWO, answer=strict(old_and_deterministic)) as server:
        flags = ("--base-url", server.url, "--max-iterations", "1")
        killed = kit.autolab("loop", *flags, AUTOLAB_FAULT=point)
        assert killed.code == -9, killed.out + killed.err
        ended = kit.autolab("loop", *flags)
        assert ended.code == 0, ended.out + ended.err
        assert len(server.requests) == 2 + 6
    assert learned(kit) == ["json_schema", "temperature"]
    assert "the same decisions" in kit.autolab("replay", "1").out


def test_a_value_that_is_wrong_is_told_to_the_user_and_not_left_out(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    with StandIn(TWO, answer=strict(lambda body: "temperature: must be 1 or more")) as server:
        ended = kit.autolab("loop", "--base-url", server.url, "--max-iterations", "1")
        assert ended.code == 3, ended.out + ended.err
        assert len(server.requests) == 1
    assert "temperature: must be 1 or more" in ended.out and learned(kit) == []


def test_a_reply_without_any_limit_is_never_asked_for(tmp_path: Path) -> None:
    """A service that takes neither name of the longest reply: a user is asked."""

    def neither(body: dict[str, Any]) -> str:
        name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return f"Unsupported parameter: '{name}' is not supported with this model."

    kit = lab(tmp_path)
    with StandIn(TWO, answer=strict(neither)) as server:
        ended = kit.autolab("loop", "--base-url", server.url, "--max-iterations", "1")
        assert ended.code == 3, ended.out + ended.err
        assert [sorted(body for body in request.body if body.startswith("max_")) for request in server.requests] == [
            ["max_tokens"], ["max_completion_tokens"],
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"max_tokens": 200_000}, "researcher.settings.max_tokens: the longest reply is `max_tokens` of the researcher"
         " itself; take it out and write `researcher.max_tokens: 16000`"),
        ({"extra_body": {"max_completion_tokens": 200_000}}, "researcher.settings.extra_body.max_completion_tokens: "),
        ({"extra_body": {"options": {"num_predict": -1}}}, "researcher.settings.extra_body.options.num_predict: "),
        ({"n": 8}, "researcher.settings.n: one reply is asked for, and one is paid for; take it out"),
        ({"extra_body": {"best_of": 8}}, "researcher.settings.extra_body.best_of: one reply is asked for"),
        ({"extra_body": {"plugins": [{"id": "web"}]}}, "researcher.settings.extra_body.plugins: it costs"),
        ({"response_format": {"type": "text"}}, "researcher.settings.response_format: the engine sets it"),
        ({"temprature": 0.2}, "researcher.settings.temprature: not known; known: "),
        ({"extra_body": [1]}, "researcher.settings.extra_body: must be names and values"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)  # fmt: skip
def test_settings_that_go_around_a_cap_or_are_unknown_are_refused_before_a_call(
    tmp_path: Path, settings: dict[str, Any], line: str
) -> None:
    kit = model_lab(tmp_path, config={"researcher": SETTINGS | {"settings": settings}})
    with StandIn(TWO) as server:
        ended = kit.autolab("loop", "--max-iterations", "1", "--base-url", server.url)
        assert ended.code == 1, ended.out + ended.err
        assert f"config.yaml: {line}" in ended.err and len(ended.err.strip().splitlines()) == 1
        assert server.requests == []
