"""Calls that are paid for: reserved before, booked after, on record whatever came of them.

Three things are durable for each, in this order: `call_sent` in the ledger (what is asked of whom, and what it may take
at most) beside the request in a file, the reply in a file, and `call` in the ledger (what it was and what it took). An
engine that dies between the first two has perhaps paid for a reply that nobody has: that call is booked as `lost`, at
what was reserved, and made once more. Every other one is answered from its file and never sent again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from autolab import files
from autolab.errors import BudgetSpent, Paused, ResearcherError
from autolab.lab import crash_points, redaction
from autolab.lab.budget import spent_by_calls
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.record import Record
from autolab.researchers.base import Booked, Received, Sent

SLICE_S = 0.5
"""How often a wait looks whether the user asked to stop."""


class StoredReply(Record):
    """A reply as it is kept: without secrets; `base64` where its bytes are no text."""

    status: int
    headers: dict[str, str]
    body: str
    base64: bool
    seconds: float
    fault: str


@dataclass(frozen=True)
class CallBudget:
    """What may be spent, and what was before this step; `events` gives the iteration's ledger lines."""

    caps: Budget
    campaign: Campaign
    acted: int
    events: Callable[[], Iterable[Line]]


class MeteredCalls:
    """The calls of one request, numbered from 1, in `folder`.

    `request` holds what their ledger lines say of the request that they serve.

    With `budget` None nothing may be sent: there are only the replies in `folder` (a replay).
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        request: dict[str, object],
        budget: CallBudget | None,
        tell: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self._ledger, self._folder, self._request, self._budget = ledger, folder, request, budget
        self._tell, self._stop = tell, stop
        self._number, self._sent = 0, Sent("", "", b"", 0, None)
        of_request = [line for line in (budget.events() if budget else ()) if _is_of(line, request)]
        self._reserved = {line.data["call"]: line.data for line in of_request if line.event == "call_sent"}
        self._booked = {line.data["call"] for line in of_request if line.event == "call"}

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        self._number, self._sent = self._next(), sent
        while (recorded := self._recorded(self._number)) is None and self._number in self._reserved:
            self._lose(self._number)
            self._number += 1
        if recorded is not None:
            return recorded
        if self._budget is None:
            raise ResearcherError(f"{self._folder}: the record has no reply to call {self._number}")
        self._reserve(self._budget, sent)
        crash_points.point("call.after_intent")
        self._keep(transmit())
        crash_points.point("call.after_reply")
        kept = self._recorded(self._number)
        assert kept is not None
        return kept

    def book(self, booked: Booked) -> None:
        if self._number in self._booked or self._budget is None:
            return
        reply = self._path("reply.json")
        outcome = {"reason": booked.reason, "said": booked.detail[:500], "status": self._status()}
        cost = {"input_tokens": booked.input_tokens, "output_tokens": booked.output_tokens, "dollars": booked.dollars}
        place = {"path": str(reply.relative_to(self._ledger.path.parent)), "sha256": files.sha256_of_file(reply)}
        self._ledger.append("call", self._line() | outcome | cost | place)
        self._booked.add(self._number)
        crash_points.point("call.after_book")
        if booked.input_tokens or booked.output_tokens:  # what cost nothing is told by whoever waits or goes on
            self._tell(f"  {self._sent.model}: {_heard(booked, self._seconds())}")

    def wait(self, seconds: float, why: str) -> None:
        if self._budget is None or self._recorded(self._number + 1) is not None:
            return
        if seconds <= 0:
            return self._tell(f"  {why}")
        until = datetime.now().astimezone() + timedelta(seconds=seconds)
        self._tell(f"  {why}; waits {_span(seconds)}, until {until:%H:%M:%S}")
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._stop():
                raise Paused("a user asked to stop")
            time.sleep(min(SLICE_S, left))

    def _next(self) -> int:
        """The number of the next call. In a replay there are none but those that were answered."""
        if self._budget is not None:
            return self._number + 1
        kept = (int(path.name.partition(".")[0]) for path in self._folder.glob("*.reply.json"))
        return min((number for number in kept if number > self._number), default=self._number + 1)

    # what is on record

    def _path(self, name: str, number: int | None = None) -> Path:
        return self._folder / f"{number or self._number}.{name}"

    def _line(self, number: int | None = None) -> dict[str, object]:
        return self._request | {"call": number or self._number, "model": self._sent.model, "url": self._sent.url}

    def _recorded(self, number: int) -> Received | None:
        path = self._path("reply.json", number)
        if not path.exists():
            return None
        kept = StoredReply.load(path, f"{path.parent.name}/{path.name}")
        body = base64.b64decode(kept.body) if kept.base64 else kept.body.encode()
        return Received(kept.status, kept.headers, body, kept.seconds, kept.fault)

    def _status(self) -> int:
        kept = self._recorded(self._number)
        return kept.status if kept else 0

    def _seconds(self) -> float:
        kept = self._recorded(self._number)
        return kept.seconds if kept else 0.0

    def _reserve(self, budget: CallBudget, sent: Sent) -> None:
        tokens, dollars = taken(budget.events(), budget.acted)
        spent = spent_by_calls(
            budget.caps, budget.campaign.tokens + tokens, budget.campaign.dollars + dollars, sent.tokens, sent.dollars
        )
        if spent:
            raise BudgetSpent(spent)
        request_file = self._path("request.json")
        text = redaction.clean_json(sent.body.decode("utf-8", errors="replace"))
        files.write_whole(request_file, text)
        reserved = {"request_sha256": files.sha256_of(text), "tokens": sent.tokens, "dollars": sent.dollars}
        self._ledger.append("call_sent", self._line() | reserved)

    def _keep(self, received: Received) -> None:
        try:
            body, is_packed = redaction.clean_json(received.body.decode("utf-8")), False
        except UnicodeDecodeError:
            shown = redaction.clean(received.body.decode("latin-1"))  # each byte a character: a key in it is found
            body, is_packed = base64.b64encode(shown.encode("latin-1")).decode(), True
        headers = {name: redaction.clean(value) for name, value in received.headers.items()}
        fault = redaction.clean(received.fault)
        kept = StoredReply(
            status=received.status,
            headers=headers,
            body=body,
            base64=is_packed,
            seconds=round(received.seconds, 3),
            fault=fault,
        )
        files.write_whole(self._path("reply.json"), kept.to_json())

    def _lose(self, number: int) -> None:
        """Book a call whose reply nobody has, at what was reserved: it may have been paid for."""
        if number in self._booked:
            return
        reserved = self._reserved[number]
        outcome = {"reason": "lost", "said": "the engine ended before the reply was kept", "status": 0}
        cost = {"input_tokens": reserved["tokens"], "output_tokens": 0, "dollars": reserved["dollars"]}
        recipient = {name: reserved[name] for name in ("model", "url")}
        self._ledger.append("call", self._line(number) | recipient | outcome | cost | {"path": None, "sha256": None})
        self._booked.add(number)


def _heard(booked: Booked, seconds: float) -> str:
    """One call in a few words, for the user who watches."""
    tokens = f"{booked.input_tokens:,} + {booked.output_tokens:,} tokens"
    cost = f", ${booked.dollars:.4f}" if booked.dollars else ""
    return f"{'answered' if booked.reason == 'ok' else booked.reason} in {seconds:.1f} s, {tokens}{cost}"


def taken(events: Iterable[Line], since: int) -> tuple[int, float]:
    """Tokens and dollars of the calls that were booked after line `since`; one without a price adds no dollars."""
    lines = list(_booked(events, since))
    tokens = sum(line.data["input_tokens"] + line.data["output_tokens"] for line in lines)
    return tokens, sum(line.data["dollars"] or 0.0 for line in lines)


def _booked(events: Iterable[Line], since: int) -> Iterator[Line]:
    return (line for line in events if line.event == "call" and line.n > since)


def _is_of(line: Line, request: dict[str, object]) -> bool:
    return line.event in ("call", "call_sent") and all(line.data.get(name) == value for name, value in request.items())


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
