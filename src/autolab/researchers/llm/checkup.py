"""Whether the models that a configuration names work here: address, key, model, form of the answer, a sample decision.

One call a model is made and paid for, as long as the lab's longest prompt; no ledger records it. It shows too whether
the model reads such a prompt whole, how long that takes, and what an iteration will cost. Each failure comes with the
way out.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.replies import DecisionOutput
from autolab.researchers.base import AfterPause, Booked, Outage, Received, Sent
from autolab.researchers.llm import context_window
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.chat_model import WAYS, LLMResearcher
from autolab.researchers.llm.output_parser import read_answer
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import Message, ModelReply, call
from autolab.trials.progress import spell

CONNECT_S = 10.0
MATERIAL = """# DATA
The longest prompt of this lab. It is here for its length alone: nothing in it is asked of you.
{fence}data prompt
{text}
{fence}

"""
QUESTION = """# TASK
Decide about this finished iteration. The target is accuracy>=0.95. Measured: accuracy 0.91 [0.90, 0.92] for the
candidate, 0.88 [0.87, 0.89] for the baseline, over 8 pairs; verdict: supported. The target is not met.
"""


WAYS_HERE = WAYS | {"timeout": "; raise timeout_s, or take a faster model"}


@dataclass(frozen=True)
class Load:
    """What the lab will ask: its longest prompt, and how many requests make up one `unit` of its loop."""

    prompt: str
    unit: str
    requests: int


@dataclass(frozen=True)
class ModelCheck:
    """One finding about one model, and whether it is good."""

    holds: bool
    finding: str


class _Unrecorded:
    """Calls of one model outside of a lab: they are made, and not recorded."""

    def __init__(self) -> None:
        self._left_out: set[str] = set()

    def send(self, sent: Sent, transmit: Callable[[], Received]) -> Received:
        return transmit()

    def book(self, booked: Booked) -> None:
        """There is no budget to book in."""

    def left_out(self, model: str, url: str) -> frozenset[str]:
        return frozenset(self._left_out)

    def leave_out(self, model: str, url: str, parameter: str, why: str) -> None:
        self._left_out.add(parameter)

    def wait(self, seconds: float, why: str) -> None:
        """A check makes one call and tries nothing again."""

    def pause_in_outage(self, outage: Outage, seconds: float) -> AfterPause:
        """A check waits for nothing."""
        return AfterPause.GIVEN_UP

    def answers_again(self, service: str) -> None:
        """A check waits for nothing."""


def look(config: ResearcherConfig, contract: str, load: Load) -> Iterator[ModelCheck]:
    """Check each model of `config`; `contract` says how to answer. ResearcherError: it cannot be asked."""
    researcher = LLMResearcher(config)
    for note in researcher.notes:
        yield ModelCheck(True, note)
    for model in researcher.models:
        address = _reach(model)
        yield address
        # A call to a service that cannot be reached would only repeat that, after its time limit.
        if address.holds:
            yield from _decide(model, config, contract, load)


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


def _decide(model: Model, config: ResearcherConfig, contract: str, load: Load) -> Iterator[ModelCheck]:
    """Key, model and context, then the form of the answer, then the decision in it: one call shows all of them."""
    # A fence one backtick longer than any run in the text cannot be closed by the text.
    longest_run = max(map(len, re.findall(r"`+", load.prompt)), default=0)
    material = MATERIAL.format(fence="`" * max(3, longest_run + 1), text=load.prompt.rstrip())
    messages = [Message("system", contract), Message("user", material + QUESTION)]
    form = AnswerForm("decide_repeat", DecisionOutput)
    began = time.monotonic()
    reply = call(model, messages, _Unrecorded(), config, form)
    seconds = time.monotonic() - began
    reply = context_window.judged(reply, model, messages, config.max_tokens)
    # Before the form: without a reply there is nothing to check.
    if reply.failed:
        yield ModelCheck(False, f"{reply.detail} ({reply.reason}){WAYS_HERE.get(reply.reason, '')}")
        return
    cost = _cost(reply, 1)
    characters = sum(len(message.text) for message in messages)
    tokens = f"{reply.input_tokens:,} tokens in, {reply.output_tokens:,} out"
    size = f"the lab's longest prompt, {characters:,} characters, was read whole"
    yield ModelCheck(True, f"{model.name}: takes the key, knows the model; {size}: {tokens}, {spell(seconds)}, {cost}")
    yield from _context(model, reply, config)
    most = f"up to {reply.input_tokens * load.requests:,} tokens in"
    written = f"{reply.output_tokens * load.requests:,} out if replies are as long as this one"
    total = f"{spell(seconds * load.requests)}, {_cost(reply, load.requests)}"
    yield ModelCheck(True, f"{model.name}: {load.unit} asks {load.requests} times: {most}, {written}, {total}")
    answer = read_answer(reply, form)
    problem = answer.problem or reply.detail
    if problem:
        way = "a larger model may help"
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


def _cost(reply: ModelReply, times: int) -> str:
    return "price unknown" if reply.dollars is None else f"${reply.dollars * times:.4f}"


def _context(model: Model, reply: ModelReply, config: ResearcherConfig) -> Iterator[ModelCheck]:
    """Whether the model's context holds such a prompt and the longest reply, where its service tells the context."""
    context = context_window.running_context(model) if context_window.is_ollama(model) else None
    if context is None:
        return
    needed = reply.input_tokens + config.max_tokens
    if context >= needed:
        yield ModelCheck(True, f"{model.name}: its context of {context:,} tokens holds that and the longest reply")
        return
    left = max(0, context - reply.input_tokens)
    problem = f"its context of {context:,} tokens leaves {left:,} for a reply, of {config.max_tokens:,} (max_tokens)"
    way = context_window.way_out(model, needed)
    yield ModelCheck(False, f"{model.name}: {problem}; {way}, or lower max_tokens")
