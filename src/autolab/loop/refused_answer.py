"""The answer of the last attempt, if the lab refused it: the next prompt shows it, so that it can be fixed."""

from __future__ import annotations

import json
from pathlib import Path

from autolab.errors import RecordError
from autolab.lab.schemas import events
from autolab.lab.schemas.events import Asked, CandidateRecorded
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import parse_json
from autolab.loop.calls import RequestId
from autolab.loop.iteration import Iteration
from autolab.text import BLOCK, both_ends, decode, many_lines

FILE = "refused.txt"
"""In a request's folder: what a model wrote that is no answer of the form. `reply.json` holds every other answer."""
NONE = "none"


def quotation(iteration: Iteration, request: RequestId) -> str:
    """The answer to the request before this one, as text; `NONE` if there was none, or it was not refused.

    An implementation that became a candidate is not quoted: the prompt shows the candidate's source.
    """
    if iteration.state.stage_attempt <= 1 or request.number <= 1:
        return NONE
    kind, number = request.kind, request.number - 1
    previous = RequestId(request.iteration_id, request.stage, kind, number)
    if kind is RequestKind.IMPLEMENTATION and _became_candidate(iteration, previous):
        return NONE
    return shown(_answer(previous.folder(iteration.lab.store))) or NONE


def shown(text: str) -> str:
    """An answer as a prompt shows it: invisible characters as escapes, not at any length."""
    return both_ends(many_lines(text, 1 << 30), BLOCK)


def _became_candidate(iteration: Iteration, request: RequestId) -> bool:
    asked = False
    for line in iteration.events():
        if line.event == CandidateRecorded.KIND and asked:
            return True
        if line.event == Asked.KIND:
            event = events.read(line, Asked)
            if event.kind is request.kind and event.number == request.number:
                asked = True
    return False


def _answer(folder: Path) -> str:
    """What a request's folder holds of its answer: the output alone if it has one."""
    refused, reply = folder / FILE, folder / "reply.json"
    if refused.exists():
        return decode(refused.read_bytes())
    if not reply.exists():
        return ""
    text = decode(reply.read_bytes())
    try:
        result = parse_json(text, reply.name)
    except RecordError:
        return text
    # Of an agent result the output is the answer; what stands around it says nothing of it.
    if isinstance(result, dict) and result.get("output") is not None:
        return json.dumps(result["output"], indent=1, ensure_ascii=False)
    return text
