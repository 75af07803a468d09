"""Whether the models that a configuration names work here: address, key, model, form of the answer, a sample decision.

One short call a model is made and paid for; no ledger records it. Each failure comes with the way out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.replies import DecisionOutput
from autolab.researchers.base import Booked, Received, Sent
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.chat_model import WAYS, LLMResearcher
from autolab.researchers.llm.output_parser import read_answer
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import Message, call

CONNECT_S = 10.0
QUESTION = """# TASK
Decide about this finished iteration. The target is accuracy>=0.95. Measured: accuracy 0.91 [0.90, 0.92] for the
candidate, 0.88 [0.87, 0.89] for the baseline, over 8 pairs; verdict: supported. The target is not met.
"""


@dataclass(frozen=True)
class ModelCheck:
    """One finding about one model, and whether it is good."""

    holds: bool
    finding: str


class _Unrecorded:
    """Calls outside of a lab: they are made, and not recorded."""

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        return transmit()

    def book(self, booked: Booked) -> None:
        """There is no budget to book in."""

    def wait(self, seconds: float, why: str) -> None:
        """A check makes one call and tries nothing again."""


def look(config: ResearcherConfig, contract: str) -> Iterator[ModelCheck]:
    """Check each model of `config`; `contract` says how to answer. ResearcherError: it cannot be asked."""
    researcher = LLMResearcher(config)
    for note in researcher.notes:
        yield ModelCheck(True, note)
    for model in researcher.models:
        address = _reach(model)
        yield address
        # A call to a service that cannot be reached would only repeat that, after its time limit.
        if address.holds:
            yield from _decide(model, config, contract)


def _reach(model: Model) -> ModelCheck:
    parts = urlsplit(model.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = f"{parts.hostname}:{port}"
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S):
            return ModelCheck(True, f"{model.name}: {place} answers")
    except OSError as error:
        # On this machine the user can start the service; elsewhere only look for what is in between.
        here = model.local or parts.hostname in ("127.0.0.1", "localhost")
        way = "start it" if here else "check network and base_url"
        return ModelCheck(False, f"{model.name}: {place} cannot be reached ({error.strerror or error}): {way}")


def _decide(model: Model, config: ResearcherConfig, contract: str) -> Iterator[ModelCheck]:
    """Key and model, then the form of the answer, then the decision in it: one call shows all three."""
    messages = [Message("system", contract), Message("user", QUESTION)]
    reply = call(model, messages, _Unrecorded(), config)
    # Before the form: without a reply there is nothing to check.
    if reply.failed:
        yield ModelCheck(False, f"{reply.detail} ({reply.reason}){WAYS.get(reply.reason, '')}")
        return
    cost = "price unknown" if reply.dollars is None else f"${reply.dollars:.4f}"
    tokens = f"{reply.input_tokens}+{reply.output_tokens} tokens"
    yield ModelCheck(True, f"{model.name}: takes the key, knows the model; {tokens}, {cost}")
    answer = read_answer(reply, AnswerForm("decide_repeat", DecisionOutput))
    problem = answer.problem or reply.detail
    if problem:
        way = "a larger model, or settings that ask for JSON, may help"
        yield ModelCheck(False, f"{model.name}: structured output: {problem}; {way}")
        return
    yield ModelCheck(True, f"{model.name}: structured output: fits its form")
    value = answer.value
    assert isinstance(value, dict)
    decision = value.get("decision", value.get("action", value.get("summary")))
    # The question has one wrong answer: its target is not met.
    sound = decision != "achieve"
    verdict = "a sample decision"
    if not sound:
        verdict += " is wrong (the target was not met; the engine would refuse it)"
    yield ModelCheck(sound, f"{model.name}: {verdict}: {decision}, {str(value.get('reason', ''))[:160]}")
