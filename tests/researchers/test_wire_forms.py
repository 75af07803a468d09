"""What real services and models send is taken, sent back or told to a user as the table says, over real HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
from model_kit import task
from standin import ReceivedRequest, ScriptedReply, StandIn
from wire_forms import ANSWER, RESERVED, WIRE_FORMS, J, WireForm

from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import MAX_FAULTS
from autolab.lab.schemas.replies import OUTPUTS, AgentResult, DecisionOutput, DesignOutput, ImplementationOutput
from autolab.researchers.base import AfterPause, Booked, Outage, Received, Sent
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.chat_model import LLMResearcher
from autolab.researchers.llm.output_parser import PROBLEM_CHARACTERS, ReadAnswer, read_answer
from autolab.researchers.llm.request_parameters import wire_schema
from autolab.researchers.llm.services import SERVICES
from autolab.researchers.llm.wire import ModelReply

LEAST_ROWS = 60


class Remembering:
    """Whoever pays: sends, books, waits for nothing, and remembers what was refused."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.booked: list[Booked] = []
        self._refused: set[str] = set()

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        self.sent.append(sent)
        return transmit()

    def book(self, booked: Booked) -> None:
        self.booked.append(booked)

    def wait(self, seconds: float, why: str) -> None: ...

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        return AfterPause.GIVEN_UP

    def answers_again(self, service: str) -> None: ...

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return frozenset(self._refused)

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        self._refused.add(parameter)


def test_the_table_is_large_and_each_row_says_where_it_was_seen() -> None:
    names = [row.name for row in WIRE_FORMS]
    assert len(names) >= LEAST_ROWS and len(set(names)) == len(names)
    for row in WIRE_FORMS:
        parts = urlsplit(row.source)
        assert parts.scheme == "https" and parts.hostname and len(parts.path) > 1, row.name
        # What is refused has its line.
        assert row.says or row.ends == ("ok",), row.name


@pytest.mark.parametrize("row", WIRE_FORMS, ids=lambda row: row.name)
def test_a_form_ends_as_the_table_says(row: WireForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMS_KEY", "forms-key-5f2c9a71d3e84b60")
    replies = [ScriptedReply.from_value(reply, "reply.json") for reply in row.sent]

    def next_reply(_: ReceivedRequest) -> ScriptedReply:
        return replies.pop(0) if len(replies) > 1 else replies[0]

    calls = Remembering()
    with StandIn(answer=next_reply) as server:
        speaks = SERVICES[row.model.partition(":")[0]].speaks
        config = ResearcherConfig(
            name="llm",
            model=row.model,
            base_url=server.url if speaks == "openai" else server.origin,
            api_key_env="FORMS_KEY",
            retries=0,
            settings=row.settings,
        )
        request = task(tmp_path, RequestKind(row.stage), calls=calls)
        answer = LLMResearcher(config).perform(request)
    assert tuple(booked.reason for booked in calls.booked) == row.ends
    first, last = calls.booked[0], calls.booked[-1]
    assert row.says in first.detail and "\n" not in first.detail
    tokens = calls.sent[-1].tokens if row.tokens == RESERVED else row.tokens
    assert last.input_tokens + last.output_tokens == tokens
    result = AgentResult.from_text(answer.raw, "result.json") if answer.raw is not None else None
    accepted = result is not None and result.status == "complete"
    assert accepted == row.accepted
    if accepted and row.stage == "decide_repeat":
        assert result is not None and result.output is not None
        assert {"decision", "reason"} <= result.output.keys() and result.output["decision"] == ANSWER["decision"]
    body = json.loads(calls.sent[-1].body)
    assert set(row.has) <= body.keys() and body.keys().isdisjoint(row.lacks)
    # Whatever was left out: a reply always has a longest length.
    assert 16_000 in (body.get("max_tokens"), body.get("max_completion_tokens"))


# Reading


DECISION = AnswerForm("decide_repeat", DecisionOutput)
LARGE = 8 << 20
"""Bytes: the longest reply that is read at all."""
HOSTILE = {
    "braces": "{" * LARGE,
    "objects in objects": '{"a":' * (LARGE // 5),
    "empty objects": "{}" * (LARGE // 2),
    "a list that never ends": '{"decision":[' + "{}," * (LARGE // 3),
    "quotes": '{"' * (LARGE // 2),
    "escaped quotes": '{"' + '\\"' * (LARGE // 2),
    "fences that nothing closes": "```x\n" * (LARGE // 5),
    "fences of many lengths": "".join("`" * length + "x\n" for length in range(3, 4000)),
    "fences closed at once": "~~~\n" * (LARGE // 4),
    "marks of reasoning": "<think>" * (LARGE // 7),
    "closing marks": "</think>" * (LARGE // 8),
    "drafts between closing marks": '{"decision": "a </think>' * (LARGE // 24),
    "long objects that never end": ('{"k":[' + "1," * 3000) * 1300,
    "blanks in braces": ("{" + " " * 1000) * (LARGE // 1000),
    "a comma at the end of it all": "{" + '"a":1,' * (LARGE // 6) + "}",
}
LONGEST_S = 20.0
"""Seconds for the largest reply on a busy machine; what grows with the square takes hours."""


@pytest.mark.parametrize("name", HOSTILE)
def test_the_largest_hostile_reply_is_refused_in_linear_time(name: str) -> None:
    began = time.process_time()
    answer = read_answer(ModelReply(HOSTILE[name], "ok"), DECISION)
    assert answer.reason in ("not_json", "invalid")
    assert answer.problem.isprintable() and len(answer.problem) <= PROBLEM_CHARACTERS
    assert time.process_time() - began < LONGEST_S


def read(text: str, form: AnswerForm = DECISION) -> ReadAnswer:
    return read_answer(ModelReply(text, "ok"), form)


def test_every_fault_is_named_and_their_number_is_bounded() -> None:
    problem = read('{"decision": "fly", "why": 1, "next_config": 3}').problem
    assert problem.startswith("reply.json: decision: Input should be 'refine'")
    assert all(
        part in problem for part in ("; reason: missing", "; why: unknown key", "; next_config: Input should be")
    )
    many = read(json.dumps({f"key{number}": 1 for number in range(300)})).problem
    assert many.count("unknown key") == MAX_FAULTS - 2 and many.endswith("; and 290 more")


def test_two_answers_are_refused_and_an_example_of_another_kind_is_not_one() -> None:
    assert read(f'Not {{"lr": 0.1}}, but:\n{J}').value == ANSWER
    assert "2 JSON objects" in read(f"{J}\n```json\n{J}\n```").problem
    # A draft that is no JSON, and still meant as an answer, counts.
    assert "2 JSON objects" in read(f'{{"decision": "refine",}}\n{J}').problem


def test_an_optional_null_is_left_out_and_one_in_free_settings_stays() -> None:
    design = AnswerForm("design", DesignOutput)
    arms = {"description": "x", "baselines": [], "variants": [{"name": "a", "config_overrides": {"clip": None}}]}
    value = read(json.dumps(arms | {"seeds": None, "criteria": None, "train": {"warm": None}}), design).value
    assert value == arms | {"train": {"warm": None}}
    assert read('{"decision": "stop", "reason": null}').reason == "invalid", "a key that is needed is not optional"


CODE_FORM = AnswerForm("implementation", ImplementationOutput)


def test_code_beside_the_object_is_taken_in_character_for_character() -> None:
    text = json.dumps({"plan": "p", "files": [{"path": "a/b.md"}], "edits": [{"path": "c.py"}]})
    text += "\n\n````md a/b.md\n# A \"title\"\n\n```python\nx = '\\n'\n```\n````\n\n**c.py**\n\n```\n"
    text += "<<<<<<< SEARCH\none\n=======\ntwo\n>>>>>>> REPLACE\n<<<<<<< SEARCH\n\n=======\n>>>>>>> REPLACE\n```\n"
    assert read(text, CODE_FORM).value == {
        "plan": "p",
        "files": [{"path": "a/b.md", "content": "# A \"title\"\n\n```python\nx = '\\n'\n```\n"}],
        "edits": [
            {"path": "c.py", "search": "one\n", "replace": "two\n"},
            {"path": "c.py", "search": "\n", "replace": ""},
        ],
    }


@pytest.mark.parametrize(
    ("fences", "problem"),
    [
        ("", "no fence names the path 'a.py'"),
        ("```python\nx\n```", "no fence names the path 'a.py'"),
        ("```python a.py\nx\n```\n```python a.py\ny\n```", "2 fences name the path 'a.py'"),
        ("```python a.py\nx\n", "no fence names the path 'a.py'"),
    ],
)
def test_code_that_is_not_there_or_twice_is_refused(fences: str, problem: str) -> None:
    got = read('{"plan": "p", "files": [{"path": "a.py"}]}\n' + fences, CODE_FORM)
    assert got.reason == "invalid" and problem in got.problem


def test_an_edit_whose_fence_holds_more_than_its_blocks_is_refused() -> None:
    fence = "```python a.py\nx = 1\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n```"
    got = read('{"plan": "p", "edits": [{"path": "a.py"}]}\n' + fence, CODE_FORM)
    assert "edits.0: the fence of a.py is not made of SEARCH/REPLACE blocks alone" in got.problem


# What is asked


def test_each_profile_says_where_it_is_from_and_when_it_was_checked() -> None:
    for name, service in SERVICES.items():
        profile = service.profile
        assert urlsplit(profile.source).scheme == "https", name
        assert date.fromisoformat(profile.checked).year >= 2026, name
        assert set(profile.formats) <= {"json_schema", "json_object"} and len(set(profile.formats)) == len(
            profile.formats
        )


@pytest.mark.parametrize("kind", list(OUTPUTS))
def test_a_schema_goes_out_without_what_grammars_cannot_hold(kind: RequestKind) -> None:
    text = json.dumps(wire_schema(AnswerForm(kind, OUTPUTS[kind])))
    for word in ("maxLength", "pattern", "maxItems", "minItems", "exclusiveMinimum"):
        assert f'"{word}"' not in text
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
