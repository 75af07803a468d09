"""The calls made for one request: tried again while the service is out of reach, then the fall-back model is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Calls
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.output_parser import ReadAnswer, read_answer
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import AGAIN, Message, ModelReply, call
from autolab.text import whole

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
LONGEST_WAIT_S = 6 * 3600.0
"""A service that asks to wait longer than this counts as out of reach."""
RATE_WAITS = 200
"""Waits for the rate limits of one request; with the longest pause each, some hours."""
LONGEST_QUOTED = 100_000
"""Characters of a reply that does not fit, as it is sent back."""


@dataclass
class Conversation:
    """The messages of one request, and the calls made for it."""

    config: ResearcherConfig
    fallback: Model | None
    calls: Calls
    form: AnswerForm
    messages: list[Message] = field(default_factory=list)

    def send_back(self, reply: ModelReply, problem: str) -> None:
        """Add a reply that does not fit, and what is wrong with it."""
        if reply.text:
            # Not at any length, and without half characters, which no request can hold.
            self.messages.append(Message("model", whole(reply.text[:LONGEST_QUOTED])))
        text = f"{problem}. Answer again in the form that was described: one JSON object, nothing around it."
        self.messages.append(Message("user", text))

    def ask(self, model: Model) -> tuple[ModelReply, ReadAnswer]:
        """The model's reply, or the fall-back's if the model is out of reach; and what it holds."""
        reply, answer = self._try(model)
        if reply.failed and self.fallback and self.fallback != model:
            self.calls.wait(0.0, f"{reply.detail}; asking {self.fallback.name}")
            return self._try(self.fallback)
        return reply, answer

    def _try(self, model: Model) -> tuple[ModelReply, ReadAnswer]:
        retries = rate_waits = 0
        while True:
            reply = call(model, self.messages, self.calls, self.config)
            answer = read_answer(reply, self.form)
            # Before any wait: what was paid must be on record if the engine dies meanwhile.
            self.calls.book(reply.booked(answer.reason, answer.problem))
            # Rate limits have a count of their own: a wait for one is no failure of the service.
            if reply.reason == "rate_limited" and rate_waits < RATE_WAITS:
                rate_waits += 1
                pause_s = reply.wait_s or _pause_s(rate_waits)
            elif reply.reason in AGAIN and retries < self.config.retries:
                retries += 1
                pause_s = reply.wait_s or _pause_s(retries)
            else:
                return reply, answer
            # The caller then asks the fall-back, or the user.
            if pause_s > LONGEST_WAIT_S:
                return reply, answer
            self.calls.wait(pause_s, f"{reply.reason}: {reply.detail}")


def _pause_s(number: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (number - 1))
