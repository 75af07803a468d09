"""The calls made for one request: tried again while the service is out of reach, then the fall-back model is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Calls
from autolab.researchers.llm import context_window
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.outages import LONGEST_WAIT_S, OutageWaits, pause_s
from autolab.researchers.llm.output_parser import ReadAnswer, judged, read_answer
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import AGAIN, Message, ModelReply, call
from autolab.text import whole

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
        text = f"{problem}. Answer again in the form that was described, with one JSON object."
        self.messages.append(Message("user", text))

    def ask(self, model: Model) -> tuple[ModelReply, ReadAnswer]:
        """The model's reply, or the fall-back's if the model is out of reach; and what it holds.

        Whichever of the two is silent is waited for if the other cannot answer. The reason is `outage` if that was in
        vain.
        """
        waits = OutageWaits(self.config, self.calls)
        if self.fallback is None or self.fallback == model:
            return self._try(model, waits).result
        first = self._try(model, waits, then=self.fallback)
        if not first.reply.failed:
            return first.result
        self.calls.wait(0.0, f"{first.reply.detail}; asking {self.fallback.name}")
        second = self._try(self.fallback, waits, then=model)
        silent = [one for one, attempt in ((model, first), (self.fallback, second)) if attempt.is_silent]
        # What keeps one model from an answer, such as a refused key, is no reason to give up a service that may return.
        if not second.reply.failed or not silent:
            return second.result
        newest = second if second.is_silent else first
        service = waits.wait_for(silent, newest.reply, tries=None)
        if service is None:
            return waits.in_vain(newest.reply), newest.answer
        return self._try(service, waits).result

    def _try(self, model: Model, waits: OutageWaits, then: Model | None = None) -> _Try:
        """One model's reply. `then` is who is asked if its service is silent for a minute; None: it is waited for."""
        retries = rate_waits = 0
        while True:
            reply = call(model, self.messages, self.calls, self.config, self.form)
            reply = context_window.judged(reply, model, self.messages, self.config.max_tokens)
            answer = judged(read_answer(reply, self.form), self.form)
            # Before any wait: what was paid must be on record if the engine dies meanwhile.
            self.calls.book(reply.booked(answer.reason, answer.line))
            # Rate limits have a count of their own: a wait for one is no failure of the service.
            if reply.reason == "rate_limited" and rate_waits < RATE_WAITS:
                rate_waits += 1
                seconds = pause_s(rate_waits, reply)
            # At least once: only a failure that comes although a probe was answered is the request's.
            elif waits.covers(reply) and retries < max(1, self.config.retries):
                retries += 1
                tries = None if then is None else self.config.retries
                back = waits.wait_for((model,), reply, tries=tries, then=then.name if then else "")
                if back is not None:
                    continue
                return _Try(waits.in_vain(reply) if then is None else reply, answer, is_silent=True)
            elif reply.reason in AGAIN and retries < self.config.retries:
                retries += 1
                seconds = pause_s(retries, reply)
            else:
                return _Try(reply, answer)
            # The caller then asks the fall-back, or the user.
            if seconds > LONGEST_WAIT_S:
                return _Try(reply, answer)
            self.calls.wait(seconds, f"{reply.reason}: {reply.detail}")


@dataclass(frozen=True)
class _Try:
    """The last reply of a model, and what it holds. `is_silent`: its service did not answer a probe either."""

    reply: ModelReply
    answer: ReadAnswer
    is_silent: bool = False

    @property
    def result(self) -> tuple[ModelReply, ReadAnswer]:
        return self.reply, self.answer
