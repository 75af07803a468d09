"""What a model's reply holds: the one JSON object of the stage's form, or a line about why it is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import AgentResult
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.wire import ModelReply, line_for_user

_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


def without_fence(text: str) -> str:
    """The text within the one code fence around it, if there is one."""
    # Some services begin with a byte order mark, which JSON forbids.
    text = text.strip().removeprefix("\ufeff")
    fenced = _FENCE.match(text)
    return fenced[1] if fenced else text


@dataclass(frozen=True)
class ReadAnswer:
    """What a reply holds: the `value` of the form, or the kind of what is wrong with it and a line about that.

    All three are empty for a reply without a text, whose own reason says why.
    """

    value: JsonValue = None
    reason: str = ""
    problem: str = ""


def read_answer(reply: ModelReply, form: AnswerForm) -> ReadAnswer:
    """Read the answer that a reply holds."""
    if reply.reason != "ok":
        return ReadAnswer()
    try:
        value = parse_json(without_fence(reply.text), "reply.json")
    except RecordError as error:
        return ReadAnswer(reason="not_json", problem=line_for_user(str(error)))
    try:
        if not _gives_up(value):
            form.output.from_value(value, "reply.json")
        # Who wrote the code is the engine's to say.
        if isinstance(value, dict) and "via" in value:
            raise RecordError("reply.json: via: unknown key")
        AgentResult.from_text(agent_result(value), "reply.json")
    except RecordError as error:
        return ReadAnswer(reason="invalid", problem=line_for_user(str(error)))
    return ReadAnswer(value)


def _gives_up(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a reply says that the stage cannot be done: `{"status": "failed", "summary": why}` and no more."""
    return isinstance(value, dict) and set(value) == {"status", "summary"} and value["status"] == "failed"


def agent_result(value: object) -> str:
    """A reply as an agent result."""
    result = value if _gives_up(value) else {"status": "complete", "summary": "answered", "output": value}
    return json.dumps(result | {"changed_files": [], "completion_token_seen": False}, ensure_ascii=False)
