"""Calls of a replay: from the record, in their order, and none is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolab.errors import ResearcherError
from autolab.lab.schemas.replies import StoredReply
from autolab.loop.calls import RecordedCalls, RefusedParameters
from autolab.researchers.base import PROBE, AfterPause, Outage, Received, Sent

CALL = Sent("a model", "https://model.example", b"{}", 1_000, None)


def send() -> Received:
    pytest.fail("a replay sends nothing")


def test_a_replay_answers_calls_from_the_record_in_their_order_and_sends_none(tmp_path: Path) -> None:
    bodies = {1: "first", 3: "third", 10: "tenth"}  # the reply to the second was lost
    for number, body in bodies.items():
        reply = StoredReply(status=200, headers={}, body=body, base64=False, seconds=0.1, fault="")
        (tmp_path / f"{number}.reply.json").write_text(reply.to_json())
    calls = RecordedCalls(tmp_path, RefusedParameters())
    assert [calls.send(CALL, send).body.decode() for _ in bodies] == list(bodies.values())
    with pytest.raises(ResearcherError, match="no reply to another call"):
        calls.send(CALL, send)


def test_a_replay_knows_probes_by_their_text_and_a_record_without_any_goes_on_with_its_requests(tmp_path: Path) -> None:
    outage = Outage("a model", "unreachable", "Connection refused", 60.0)
    asked = ["What?", PROBE, "What?"]
    for number, text in enumerate(asked, 1):
        reply = StoredReply(status=200, headers={}, body="{}", base64=False, seconds=0.1, fault="")
        (tmp_path / f"{number}.reply.json").write_text(reply.to_json())
        (tmp_path / f"{number}.request.json").write_text(f'{{"messages": [{{"content": "{text}"}}]}}')
    calls = RecordedCalls(tmp_path, RefusedParameters())
    following = []
    for _ in asked:
        calls.send(CALL, send)
        following.append(calls.pause_in_outage(outage, 2.0))
    assert following == [AfterPause.PROBE, AfterPause.REQUEST, AfterPause.GIVEN_UP]
