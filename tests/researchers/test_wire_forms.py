"""What real services and models send is taken, sent back or told to a user as the table says, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from model_kit import task
from standin import ReceivedRequest, ScriptedReply, StandIn
from wire_forms import ANSWER, RESERVED, WIRE_FORMS, WireForm

from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import AgentResult
from autolab.researchers.base import AfterPause, Booked, Outage, Received, Sent
from autolab.researchers.llm.chat_model import LLMResearcher
from autolab.researchers.llm.services import SERVICES

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
