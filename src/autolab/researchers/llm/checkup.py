"""Whether the models that a configuration names can think here: address, key, model, form, a sample decision.

One short call a model is made and paid for; it stands in no ledger. Each failure says the way out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import parse_json
from autolab.researchers.base import Booked, Received, Sent
from autolab.researchers.llm.chat_model import WAYS, LLMResearcher, fits, unfenced
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import Message, call

CONNECT_S = 10.0
QUESTION = """# TASK
Decide about this finished iteration. The target is accuracy>=0.95. Measured: accuracy 0.91 [0.90, 0.92] for the
candidate, 0.88 [0.87, 0.89] for the baseline, over 8 pairs; verdict: supported. The target is not met.
"""


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at: for which model, whether it holds, and what was found."""

    holds: bool
    said: str


class _Unrecorded:
    """Calls outside of a lab: made, and not kept."""

    def __init__(self) -> None:
        self.booked: Booked | None = None

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        return transmit()

    def book(self, booked: Booked) -> None:
        self.booked = booked

    def wait(self, seconds: float, why: str) -> None:
        """A check makes one call and tries nothing again."""


def look(who: ResearcherConfig, contract: str) -> Iterator[Checked]:
    """Look at each model of `who`; `contract` says how a decision is answered. ResearcherError: it cannot be asked."""
    researcher = LLMResearcher(who)
    for note in researcher.notes:
        yield Checked(True, note)
    for one in researcher.minds:
        reached = _reach(one)
        yield reached
        if reached.holds:
            yield from _decide(one, who, contract)


def _reach(one: Model) -> Checked:
    parts = urlsplit(one.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = f"{parts.hostname}:{port}"
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S):
            return Checked(True, f"{one.name}: {place} answers")
    except OSError as error:
        way = "start it" if one.local or parts.hostname in ("127.0.0.1", "localhost") else "check network and base_url"
        return Checked(False, f"{one.name}: {place} cannot be reached ({error.strerror or error}): {way}")


def _decide(one: Model, who: ResearcherConfig, contract: str) -> Iterator[Checked]:
    """Key and model, then the form of the answer, then what it says: one call shows all three."""
    calls = _Unrecorded()
    talk = [Message("system", contract), Message("user", QUESTION)]
    said = call(one, talk, calls, timeout_s=who.timeout_s, max_tokens=who.max_tokens, settings=who.settings)
    if said.failed:
        yield Checked(False, f"{said.told} ({said.reason}){WAYS.get(said.reason, '')}")
        return
    cost = "price unknown" if said.dollars is None else f"${said.dollars:.4f}"
    yield Checked(
        True, f"{one.name}: takes the key, knows the model; {said.input_tokens}+{said.output_tokens} tokens, {cost}"
    )
    _, problem = fits(said.text, RequestKind.DECIDE_REPEAT) if said.reason == "ok" else ("", said.told)
    if problem:
        way = "a larger model, or settings that ask for JSON, may help"
        yield Checked(False, f"{one.name}: structured output: {problem}; {way}")
        return
    value = parse_json(unfenced(said.text), "reply.json")
    assert isinstance(value, dict)
    decision = value.get("decision", value.get("action", value.get("summary")))
    yield Checked(True, f"{one.name}: structured output: fits its form")
    sound = decision != "achieve"
    told = (
        "a sample decision"
        if sound
        else "a sample decision is wrong (the target was not met; the engine would refuse it)"
    )
    yield Checked(sound, f"{one.name}: {told}: {decision}, {str(value.get('reason', ''))[:160]}")
