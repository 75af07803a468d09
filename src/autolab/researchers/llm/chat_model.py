"""A chat model as researcher: OpenAI, Anthropic, or whatever speaks like OpenAI.

For each request it reads how to answer (`task.contract`) and what to do (`task.prompt`), and replies with one JSON
object of the stage's form, bare or in one code fence; nothing of it is repaired. The first reply that does not fit goes
back once with what is wrong; after that the stage counts an attempt. A service that cannot be had is tried again with
growing pauses, or as long as it asks for, then the fall-back model is asked. What a user has to fix (a key, a name,
a quota) is `failed`, and a user is asked.
"""

from __future__ import annotations

import json
import re
from typing import Any

from autolab.errors import RecordError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import parse_json
from autolab.lab.schemas.replies import OUTPUTS, AgentResult
from autolab.researchers.base import Answer, Calls, ResearcherDefaults, Task
from autolab.researchers.llm.services import Model, installed, named_model
from autolab.researchers.llm.wire import AGAIN, CONTENT, Message, ModelReply, call, shown
from autolab.text import whole

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
LONGEST_WAIT_S = 6 * 3600.0
"""A service that asks to wait longer than this is out of reach: a user is told."""
RATE_WAITS = 200
"""Waits for one request's rate limits; with the longest pause each, some hours."""
LONGEST_QUOTED = 100_000
"""Characters of a reply that does not fit, as it is sent back."""
_FENCE = re.compile(r"\A```(?:json|JSON)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


class LLMResearcher(ResearcherDefaults):
    name: str = "llm"
    contract = "llm"
    options = frozenset(
        ("model", "base_url", "api_key_env", "fallback", "stages", "timeout_s", "retries", "max_tokens", "settings")
    ) | {"price"}
    works_in_folder = False

    def __init__(self, config: ResearcherConfig, *, keyless: bool = False) -> None:
        """`keyless` is for a replay, which asks nobody."""
        if not installed():
            raise ResearcherError("researcher: llm needs the extra `llm`: pip install 'autolab[llm]'")
        if config.model is None:
            raise ResearcherError("researcher: llm needs `model: PROVIDER:NAME` (or --model openai:gpt-5)")
        self._config = config
        self.name = f"llm {config.model}"
        self._model = named_model(config.model, config, keyless)
        self._stages: dict[str, Model] = {
            stage: named_model(name, config, keyless) for stage, name in config.stages.items()
        }
        self._fallback = named_model(config.fallback, config, keyless) if config.fallback else None
        unpriced = [one.name for one in self.models if one.dollars_at_most(1, 1) is None]
        self.counts = frozenset({"tokens"} if unpriced else {"tokens", "dollars"})
        way = "its calls are counted in tokens alone (researcher.price says it)"
        self.notes = tuple(f"no price is known for {name}: {way}" for name in unpriced)

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that it may ask, each once."""
        last = (self._fallback,) if self._fallback else ()
        return tuple(dict.fromkeys((self._model, *self._stages.values(), *last)))

    def perform(self, task: Task) -> Answer:
        assert task.calls is not None
        first = self._stages.get(task.kind, self._model)
        messages = [Message("system", task.contract), Message("user", task.prompt)]
        reply, problem = self._ask(first, messages, task.calls, task.kind)
        if reply.reason in CONTENT or problem:
            wrong = problem or reply.detail
            if reply.text:
                messages += [Message("model", _quoted(reply.text))]
            messages += [Message("user", f"{wrong}. Answer again, as it was said: one JSON object, nothing around it.")]
            again = self._fallback if reply.reason == "refused" and self._fallback else first
            reply, problem = self._ask(again, messages, task.calls, task.kind)
        return _answer(reply, problem, task.kind)

    def _ask(self, model: Model, messages: list[Message], calls: Calls, kind: RequestKind) -> tuple[ModelReply, str]:
        """One model's answer, or the fall-back's where it cannot be had; and what does not fit in its text."""
        reply, problem = self._try(model, messages, calls, kind)
        if reply.failed and self._fallback and self._fallback != model:
            calls.wait(0.0, f"{reply.detail}; asking {self._fallback.name}")
            return self._try(self._fallback, messages, calls, kind)
        return reply, problem

    def _try(self, model: Model, messages: list[Message], calls: Calls, kind: RequestKind) -> tuple[ModelReply, str]:
        config, tries, limited = self._config, 0, 0
        while True:
            reply = call(
                model,
                messages,
                calls,
                timeout_s=config.timeout_s,
                max_tokens=config.max_tokens,
                settings=config.settings,
            )
            reason, problem = fits(reply.text, kind) if reply.reason == "ok" else ("", "")
            calls.book(reply.booked(reason, problem))
            if reply.reason == "rate_limited" and limited < RATE_WAITS:
                limited += 1
                pause = reply.wait_s or _pause(limited)
            elif reply.reason in AGAIN and tries < config.retries:
                tries += 1
                pause = reply.wait_s or _pause(tries)
            else:
                return reply, problem
            if pause > LONGEST_WAIT_S:
                return reply, problem
            calls.wait(pause, f"{reply.reason}: {reply.detail}")


def _pause(number: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (number - 1))


def _quoted(text: str) -> str:
    """A reply as it goes back: not at any length, and no half characters, which no request can hold."""
    return whole(text[:LONGEST_QUOTED])


def unfenced(text: str) -> str:
    text = text.strip().removeprefix("\ufeff")
    found = _FENCE.match(text)
    return found[1] if found else text


def fits(text: str, kind: RequestKind) -> tuple[str, str]:
    """The kind of what is wrong with a reply and a line about it; both empty where it is the stage's output."""
    try:
        value = parse_json(unfenced(text), "reply.json")
    except RecordError as error:
        return "not_json", shown(str(error))
    try:
        if not _gives_up(value):
            OUTPUTS[kind].from_value(value, "reply.json")
        if isinstance(value, dict) and "via" in value:  # who wrote the code is the engine's to say
            raise RecordError("reply.json: via: unknown key")
        AgentResult.from_text(_result(value), "reply.json")
    except RecordError as error:
        return "invalid", shown(str(error))
    return "", ""


def _gives_up(value: Any) -> bool:
    """Whether a reply says that the stage cannot be done: `{"status": "failed", "summary": why}` and no more."""
    return isinstance(value, dict) and set(value) == {"status", "summary"} and value["status"] == "failed"


def _answer(reply: ModelReply, problem: str, kind: RequestKind) -> Answer:
    if problem:
        return Answer(None, f"the reply does not fit: {problem}")
    if reply.reason == "ok":
        return Answer(_result(parse_json(unfenced(reply.text), "reply.json")))
    if reply.reason in AGAIN or reply.reason in CONTENT or reply.reason == "too_large":
        return Answer(None, f"{reply.reason}: {reply.detail}")
    way = WAYS.get(reply.reason, "")
    return Answer(_result({"status": "failed", "summary": f"{reply.reason}: {reply.detail}{way}"}))


WAYS = {
    "unauthorized": "; set the key that this service wants, then `autolab review retry`",
    "not_found": "; check model and base_url (`autolab doctor --llm`), then `autolab review retry`",
    "quota": "; top up the account or name another model, then `autolab review retry`",
    "redirect": "; give the address that it redirects to as base_url",
    "too_long": "; choose a model with a longer context, or lower max_tokens",
}


def _result(value: Any) -> str:
    """A reply as an agent result."""
    result = value if _gives_up(value) else {"status": "complete", "summary": "answered", "output": value}
    return json.dumps(result | {"changed_files": [], "completion_token_seen": False}, ensure_ascii=False)
