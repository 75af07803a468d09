"""A chat model as researcher: OpenAI, Anthropic, or any service that speaks like OpenAI.

For each request the model reads how to answer (`task.contract`) and what to do (`task.prompt`). It replies with one
JSON object of the stage's form, bare or in one code fence; nothing of it is repaired. The first reply that does not fit
goes back once with the reason; after the second, the stage counts a failed attempt. A service that is out of reach is
tried again with growing pauses, or after the time it asks for; then the fall-back model is asked. What a user has to
fix (a key, a name, a quota) gives an answer of status `failed`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from autolab.errors import RecordError, ResearcherError
from autolab.lab.extras import install_command
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import OUTPUTS, AgentResult
from autolab.researchers.base import Answer, Calls, ResearcherDefaults, Task
from autolab.researchers.llm.services import Model, installed, named_model
from autolab.researchers.llm.wire import AGAIN, CONTENT, Message, ModelReply, call, line_for_user
from autolab.text import whole

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
LONGEST_WAIT_S = 6 * 3600.0
"""A service that asks to wait longer than this counts as out of reach."""
RATE_WAITS = 200
"""Waits for the rate limits of one request; with the longest pause each, some hours."""
LONGEST_QUOTED = 100_000
"""Characters of a reply that does not fit, as it is sent back."""
_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)
_KEYS = ("model", "base_url", "api_key_env", "fallback", "stages", "timeout_s", "retries", "max_tokens", "settings")

WAYS = {
    "unauthorized": "; set the key that this service wants, then `autolab review retry`",
    "not_found": "; check model and base_url (`autolab doctor --llm`), then `autolab review retry`",
    "quota": "; top up the account or name another model, then `autolab review retry`",
    "redirect": "; give the address that it redirects to as base_url",
    "too_long": "; choose a model with a longer context, or lower max_tokens",
}
"""What a user can do about a kind of failure."""


class LLMResearcher(ResearcherDefaults):
    name: str = "llm"
    contract = "llm"
    options = frozenset({*_KEYS, "price"})
    works_in_folder = False

    def __init__(self, config: ResearcherConfig, *, keyless: bool = False) -> None:
        """`keyless`: for a replay, which sends nothing. ResearcherError: no extra, no model, no key."""
        if not installed():
            raise ResearcherError(f"researcher: llm needs the extra `llm`: {install_command('llm')}")
        if config.model is None:
            raise ResearcherError("researcher: llm needs `model: PROVIDER:NAME` (or --model openai:gpt-5)")
        self._config = config
        self.name = f"llm {config.model}"
        self._model = named_model(config.model, config, keyless)
        self._stages: dict[str, Model] = {}
        for stage, name in config.stages.items():
            self._stages[stage] = named_model(name, config, keyless)
        self._fallback = named_model(config.fallback, config, keyless) if config.fallback else None
        way = "its calls are counted in tokens alone (to count dollars, set researcher.price)"
        for model in self.models:
            if model.dollars_at_most(1, 1) is None:
                self.notes += (f"no price is known for {model.name}: {way}",)
        # One model without a price is enough: the sum of dollars would leave its calls out.
        self.counts = frozenset({"tokens"} if self.notes else {"tokens", "dollars"})

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that it may ask, each once."""
        models = [self._model, *self._stages.values()]
        if self._fallback:
            models.append(self._fallback)
        # `doctor` pays for one call for each, so none may be there twice.
        return tuple(dict.fromkeys(models))

    def perform(self, task: Task) -> Answer:
        assert task.calls is not None
        conversation = _Conversation(self._config, self._fallback, task.calls, task.kind)
        conversation.messages = [Message("system", task.contract), Message("user", task.prompt)]
        model = self._stages.get(task.kind, self._model)
        reply, problem = conversation.ask(model)
        if reply.reason in CONTENT or problem:
            conversation.send_back(reply, problem or reply.detail)
            # The same model would refuse again; another may not.
            if reply.reason == "refused" and self._fallback:
                model = self._fallback
            reply, problem = conversation.ask(model)
        return _answer(reply, problem)


@dataclass
class _Conversation:
    """The messages of one request, and the calls made for it."""

    config: ResearcherConfig
    fallback: Model | None
    calls: Calls
    kind: RequestKind
    messages: list[Message] = field(default_factory=list)

    def send_back(self, reply: ModelReply, problem: str) -> None:
        """Add a reply that does not fit, and what is wrong with it."""
        if reply.text:
            # Not at any length, and without half characters, which no request can hold.
            self.messages.append(Message("model", whole(reply.text[:LONGEST_QUOTED])))
        text = f"{problem}. Answer again in the form that was described: one JSON object, nothing around it."
        self.messages.append(Message("user", text))

    def ask(self, model: Model) -> tuple[ModelReply, str]:
        """The model's reply, or the fall-back's if the model is out of reach; and what does not fit in its text."""
        reply, problem = self._try(model)
        if reply.failed and self.fallback and self.fallback != model:
            self.calls.wait(0.0, f"{reply.detail}; asking {self.fallback.name}")
            return self._try(self.fallback)
        return reply, problem

    def _try(self, model: Model) -> tuple[ModelReply, str]:
        retries = rate_waits = 0
        while True:
            reply = call(model, self.messages, self.calls, self.config)
            reason = problem = ""
            if reply.reason == "ok":
                reason, problem = fits(reply.text, self.kind)
            # Before any wait: what was paid must be on record if the engine dies meanwhile.
            self.calls.book(reply.booked(reason, problem))
            # Rate limits have a count of their own: a wait for one is no failure of the service.
            if reply.reason == "rate_limited" and rate_waits < RATE_WAITS:
                rate_waits += 1
                pause_s = reply.wait_s or _pause_s(rate_waits)
            elif reply.reason in AGAIN and retries < self.config.retries:
                retries += 1
                pause_s = reply.wait_s or _pause_s(retries)
            else:
                return reply, problem
            # The caller then asks the fall-back, or the user.
            if pause_s > LONGEST_WAIT_S:
                return reply, problem
            self.calls.wait(pause_s, f"{reply.reason}: {reply.detail}")


def _pause_s(number: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (number - 1))


def without_fence(text: str) -> str:
    """The text within the one code fence around it, if there is one."""
    # Some services begin with a byte order mark, which JSON forbids.
    text = text.strip().removeprefix("\ufeff")
    fenced = _FENCE.match(text)
    return fenced[1] if fenced else text


def fits(text: str, kind: RequestKind) -> tuple[str, str]:
    """The kind of what is wrong with a reply and a line about it; both empty if it is the stage's output."""
    try:
        value = parse_json(without_fence(text), "reply.json")
    except RecordError as error:
        return "not_json", line_for_user(str(error))
    try:
        if not _gives_up(value):
            OUTPUTS[kind].from_value(value, "reply.json")
        # Who wrote the code is the engine's to say.
        if isinstance(value, dict) and "via" in value:
            raise RecordError("reply.json: via: unknown key")
        AgentResult.from_text(_result(value), "reply.json")
    except RecordError as error:
        return "invalid", line_for_user(str(error))
    return "", ""


def _gives_up(value: Any) -> bool:
    """Whether a reply says that the stage cannot be done: `{"status": "failed", "summary": why}` and no more."""
    return isinstance(value, dict) and set(value) == {"status", "summary"} and value["status"] == "failed"


def _answer(reply: ModelReply, problem: str) -> Answer:
    if problem:
        return Answer(None, f"the reply does not fit: {problem}")
    if reply.reason == "ok":
        return Answer(_result(parse_json(without_fence(reply.text), "reply.json")))
    failure = f"{reply.reason}: {reply.detail}"
    # No answer counts as a failed attempt, which is tried again; an answer `failed` waits for the user at once.
    if reply.reason in AGAIN or reply.reason in CONTENT or reply.reason == "too_large":
        return Answer(None, failure)
    return Answer(_result({"status": "failed", "summary": failure + WAYS.get(reply.reason, "")}))


def _result(value: Any) -> str:
    """A reply as an agent result."""
    result = value if _gives_up(value) else {"status": "complete", "summary": "answered", "output": value}
    return json.dumps(result | {"changed_files": [], "completion_token_seen": False}, ensure_ascii=False)
