"""Paid calls: each is reserved before it is sent, booked after it, and recorded whatever comes back.

A call leaves three durable things, in this order: a `call_sent` line with the request in a file beside it, the reply in
a file, and a `call` line with the cost. If the engine dies after the first, the reply may have been paid for and is
lost: that call is booked as `lost`, at the reserved cost, and made once more. Every other call is answered from its
file and never sent again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from autolab import files
from autolab.errors import BudgetSpent, ResearcherError
from autolab.lab import crash_points, redaction
from autolab.lab.budget import spent_by_calls
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.events import Call, CallSent, ParameterRefused
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.lab.schemas.replies import StoredReply
from autolab.loop.waits import Waits
from autolab.researchers.base import PROBE, AfterPause, Booked, Outage, Received, Sent
from autolab.text import decode

SAID_CHARACTERS = 500
"""Characters of a service's words about a failure that the ledger keeps."""


class RequestFields(TypedDict):
    """The fields that every event about a request has."""

    stage: Stage
    kind: RequestKind
    number: int


@dataclass(frozen=True)
class RequestId:
    """Identifies a request. `number` counts those of its kind within the iteration, from 1."""

    iteration_id: str
    stage: Stage
    kind: RequestKind
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    def fields(self) -> RequestFields:
        return {"stage": self.stage, "kind": self.kind, "number": self.number}

    def folder(self, store: Path) -> Path:
        """Where its prompt, its reply and its calls are kept."""
        return store / "requests" / self.iteration_id / self.name


@dataclass(frozen=True)
class CallBudget:
    """The caps, and what was spent before this step: `campaign`, and the calls booked after the ledger's line `acted`.

    `events` returns the iteration's ledger lines as they are now.
    """

    caps: Budget
    campaign: Campaign
    acted: int
    events: Callable[[], Iterable[Line]]


class RefusedParameters:
    """The parameters that models have refused, before a request and in it."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], set[str]] = {}

    @classmethod
    def before(cls, request: RequestId, ledger: Ledger, lines: Iterable[Line]) -> RefusedParameters:
        """What the ledger knew before the first call of a request. `lines` are those of the request's iteration.

        Not what was learned in the request itself: it is answered from its record up to the same place, and learns it
        there again.
        """
        first = None
        for line in lines:
            if line.event == CallSent.KIND and is_call_of(request, events.read(line, CallSent)):
                first = line.n
                break
        refused = cls()
        for line in ledger.lines_of(ParameterRefused.KIND):
            if first is None or line.n < first:
                event = events.read(line, ParameterRefused)
                refused.add(event.model, event.url, event.parameter)
        return refused

    def of(self, model: str, url: str) -> frozenset[str]:
        return frozenset(self._names.get((model, url), ()))

    def add(self, model: str, url: str, parameter: str) -> None:
        self._names.setdefault((model, url), set()).add(parameter)


def is_call_of(request: RequestId, event: CallSent | Call) -> bool:
    """Whether a call's event is one of this request."""
    return RequestId(event.iteration_id, event.stage, event.kind, event.number) == request


class RecordedCalls:
    """The calls of one request in a replay: answered from `folder` in their old order; nothing can be sent."""

    def __init__(self, folder: Path, refused: RefusedParameters) -> None:
        """`refused`: what the lab knew when the request was recorded."""
        self._folder, self._refused = folder, refused
        numbers = [int(path.name.partition(".")[0]) for path in folder.glob("*.reply.json")]
        self._numbers = sorted(numbers)

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        """ResearcherError: the request makes more calls than it made when it was recorded."""
        if not self._numbers:
            raise ResearcherError(f"{self._folder}: the record has no reply to another call")
        return _load(_reply_path(self._folder, self._numbers.pop(0)))

    def book(self, booked: Booked) -> None:
        """Nothing is paid in a replay."""

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return self._refused.of(model, url)

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        self._refused.add(model, url, parameter)

    def wait(self, seconds: float, why: str) -> None:
        """A replay does not wait."""

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        """What the engine did then: without a next reply on record, it gave up."""
        if not self._numbers:
            return AfterPause.GIVEN_UP
        return _as_recorded(self._folder, self._numbers[0])

    def answers_again(self, service: str) -> None:
        """A replay tells of no outage."""


class MeteredCalls:
    """The calls of one request, numbered from 1, with requests and replies in `folder`."""

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        request: RequestId,
        budget: CallBudget,
        tell: Callable[[str], None],
        waits: Waits,
    ) -> None:
        self._ledger, self._folder, self._request, self._budget = ledger, folder, request, budget
        self._tell, self._waits = tell, waits
        self._number = 0
        # What an engine before this one has announced and booked for the same request.
        lines = list(budget.events())
        self._reserved = {sent.call: sent for sent in events.events_of(lines, CallSent) if self._is_mine(sent)}
        self._booked = {call.call for call in events.events_of(lines, Call) if self._is_mine(call)}
        self._refused = RefusedParameters.before(request, ledger, lines)

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        self._number += 1
        # Announced and never answered: the reply is lost, and may have been paid for.
        while self._number in self._reserved and not self._path("reply.json").exists():
            self._book_lost(self._reserved[self._number])
            self._number += 1
        reply = self._path("reply.json")
        if not reply.exists():
            self._reserve(sent)
            crash_points.point("call.after_intent")
            # A probe in an outage may hang; the request itself is worth waiting for.
            received = self._waits.interruptible(transmit) if self._waits.in_outage else transmit()
            files.write_whole(reply, _without_secrets(received).to_json())
            crash_points.point("call.after_reply")
        # Also a fresh reply is read from its file, so that a replay sees what this engine saw.
        self._received = _load(reply)
        return self._received

    def book(self, booked: Booked) -> None:
        # An engine that died after this line has booked the call already.
        if self._number in self._booked:
            return
        reply = self._path("reply.json")
        sent = self._reserved[self._number]
        self._record(
            sent,
            reason=booked.reason,
            said=booked.detail[:SAID_CHARACTERS],
            status=self._received.status,
            input_tokens=booked.input_tokens,
            output_tokens=booked.output_tokens,
            dollars=booked.dollars,
            path=str(reply.relative_to(self._ledger.path.parent)),
            sha256=files.sha256_of_file(reply),
        )
        crash_points.point("call.after_book")
        # The caller reports a failure that cost nothing, when it waits or tries again.
        if (booked.input_tokens or booked.output_tokens) and not self._waits.in_outage:
            self._tell(f"  {sent.model}: {_summary(booked, self._received.seconds)}")

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return self._refused.of(model, url)

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        self._refused.add(model, url, parameter)
        learned = ParameterRefused(model=model, url=url, parameter=parameter, said=why[:SAID_CHARACTERS])
        # An engine that died after this line has written it already.
        for line in self._ledger.lines_of(ParameterRefused.KIND):
            event = events.read(line, ParameterRefused)
            if (event.model, event.url, event.parameter) == (model, url, parameter):
                return
        events.append(self._ledger, learned)
        self._tell(f"  {why}")

    def wait(self, seconds: float, why: str) -> None:
        # The next call is on record, so nothing will be sent that had to wait.
        if self._next_on_record() is not None:
            return
        if seconds <= 0:
            return self._tell(f"  {why}")
        self._waits.pause(seconds, self._reserved[self._number].model, why)

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        number = self._next_on_record()
        if number is not None:
            return _as_recorded(self._folder, number)
        if not self._waits.pause_in_outage(outage, seconds):
            return AfterPause.GIVEN_UP
        return AfterPause.PROBE

    def answers_again(self, service: str) -> None:
        self._waits.answers_again(service)

    def _next_on_record(self) -> int | None:
        """Number of the next call that was answered before, by an engine that died or paused; None if none was."""
        number = self._number + 1
        # Announced and never answered: it is booked as lost, and made again under the next number.
        while number in self._reserved and not _reply_path(self._folder, number).exists():
            number += 1
        return number if _reply_path(self._folder, number).exists() else None

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._number}.{name}"

    def _fields(self) -> dict[str, Any]:
        return {"iteration_id": self._request.iteration_id, **self._request.fields()}

    def _is_mine(self, event: CallSent | Call) -> bool:
        return is_call_of(self._request, event)

    def _reserve(self, sent: Sent) -> None:
        """Announce a call, with the most that it may cost. BudgetSpent: that would pass a cap."""
        budget = self._budget
        # The campaign counts the calls up to line `acted`, the sum those after it.
        tokens, dollars = calls_cost(budget.events(), budget.acted)
        cap = spent_by_calls(
            budget.caps, budget.campaign.tokens + tokens, budget.campaign.dollars + dollars, sent.tokens, sent.dollars
        )
        if cap:
            raise BudgetSpent(cap)
        # The file before the line: a line never names a request that cannot be read.
        text = redaction.clean_json(sent.body.decode("utf-8", errors="replace"))
        files.write_whole(self._path("request.json"), text)
        intent = CallSent(
            **self._fields(),
            call=self._number,
            model=sent.model,
            url=sent.url,
            request_sha256=files.sha256_of(text),
            tokens=sent.tokens,
            dollars=sent.dollars,
        )
        events.append(self._ledger, intent)
        self._reserved[self._number] = intent

    def _book_lost(self, sent: CallSent) -> None:
        """Book a call whose reply was never kept, at the reserved cost: it may have been paid for."""
        if sent.call in self._booked:
            return
        self._record(
            sent,
            reason="lost",
            said="the engine ended before the reply was kept",
            status=0,
            input_tokens=sent.tokens,
            output_tokens=0,
            dollars=sent.dollars,
            path=None,
            sha256=None,
        )

    def _record(self, sent: CallSent, **outcome: Any) -> None:
        """Write the `call` line of a call that was sent."""
        call = Call(**self._fields(), call=sent.call, model=sent.model, url=sent.url, **outcome)
        events.append(self._ledger, call)
        self._booked.add(sent.call)


def calls_cost(lines: Iterable[Line], since: int) -> tuple[int, float]:
    """Tokens and dollars of the calls booked after line `since`. A call without a known price adds no dollars."""
    tokens, dollars = 0, 0.0
    recent = [line for line in lines if line.n > since]
    for call in events.events_of(recent, Call):
        tokens += call.input_tokens + call.output_tokens
        dollars += call.dollars or 0.0
    return tokens, dollars


def _reply_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.reply.json"


def _as_recorded(folder: Path, number: int) -> AfterPause:
    """What the recorded call of this number was, in an outage."""
    request = decode((folder / f"{number}.request.json").read_bytes())
    return AfterPause.PROBE if PROBE in request else AfterPause.REQUEST


def _load(path: Path) -> Received:
    reply = StoredReply.load(path, f"{path.parent.name}/{path.name}")
    body = reply.body.encode()
    if reply.base64:
        body = base64.b64decode(reply.body)
    return Received(reply.status, reply.headers, body, reply.seconds, reply.fault)


def _without_secrets(received: Received) -> StoredReply:
    try:
        body = redaction.clean_json(received.body.decode("utf-8"))
        is_binary = False
    except UnicodeDecodeError:
        # Latin-1 maps each byte to a character, so that a key among the bytes is still recognised.
        text = redaction.clean(received.body.decode("latin-1"))
        body = base64.b64encode(text.encode("latin-1")).decode()
        is_binary = True
    # A service may return the key in a header or in its words about a failure.
    headers = {name: redaction.clean(value) for name, value in received.headers.items()}
    return StoredReply(
        status=received.status,
        headers=headers,
        body=body,
        base64=is_binary,
        seconds=round(received.seconds, 3),
        fault=redaction.clean(received.fault),
    )


def _summary(booked: Booked, seconds: float) -> str:
    """A booked call in a few words, for the user who watches."""
    status = "answered" if booked.reason == "ok" else booked.reason
    text = f"{status} in {seconds:.1f} s, {booked.input_tokens:,} tokens in, {booked.output_tokens:,} out"
    if booked.dollars:
        text = f"{text}, ${booked.dollars:.4f}"
    return text
