"""What a model's reply holds: the one JSON object of the stage's form, or a line about why it is none."""

from __future__ import annotations

import json
import re
from typing import TypeGuard

from autolab.errors import RecordError
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import OUTPUTS, AgentResult, Output
from autolab.researchers.llm.wire import line_for_user

_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


def without_fence(text: str) -> str:
    """The text within the one code fence around it, if there is one."""
    # Some services begin with a byte order mark, which JSON forbids.
    text = text.strip().removeprefix("\ufeff")
    fenced = _FENCE.match(text)
    return fenced[1] if fenced else text


def fits(text: str, kind: RequestKind, form: type[Output] | None = None) -> tuple[str, str]:
    """The kind of what is wrong with a reply and a line about it; both empty if it is the stage's output.

    `form`: the form of the answer where it is not that of the kind.
    """
    try:
        value = parse_json(without_fence(text), "reply.json")
    except RecordError as error:
        return "not_json", line_for_user(str(error))
    try:
        if not _gives_up(value):
            (form or OUTPUTS[kind]).from_value(value, "reply.json")
        # Who wrote the code is the engine's to say.
        if isinstance(value, dict) and "via" in value:
            raise RecordError("reply.json: via: unknown key")
        AgentResult.from_text(agent_result(value), "reply.json")
    except RecordError as error:
        return "invalid", line_for_user(str(error))
    return "", ""


def _gives_up(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a reply says that the stage cannot be done: `{"status": "failed", "summary": why}` and no more."""
    return isinstance(value, dict) and set(value) == {"status", "summary"} and value["status"] == "failed"


def agent_result(value: object) -> str:
    """A reply as an agent result."""
    result = value if _gives_up(value) else {"status": "complete", "summary": "answered", "output": value}
    return json.dumps(result | {"changed_files": [], "completion_token_seen": False}, ensure_ascii=False)
