"""A chat model as researcher: OpenAI, Anthropic, or any service that speaks like OpenAI.

For each request the model reads how to answer (`task.contract`) and what to do (`task.prompt`). It replies with one
JSON object of the stage's form, bare or in one code fence; nothing of it is repaired. The first reply that does not fit
goes back once with the reason; after the second, the stage counts a failed attempt. A service that is out of reach is
tried again with growing pauses, or after the time it asks for; then the fall-back model is asked. What a user has to
fix (a key, a name, a quota) gives an answer of status `failed`.
"""

from __future__ import annotations

from autolab.errors import ResearcherError
from autolab.lab.extras import install_command
from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Answer, ResearcherDefaults, Task
from autolab.researchers.llm.answer_form import form_of
from autolab.researchers.llm.conversation import Conversation
from autolab.researchers.llm.output_parser import ReadAnswer, agent_result, for_user
from autolab.researchers.llm.request_parameters import check_settings
from autolab.researchers.llm.services import Model, installed, named_model
from autolab.researchers.llm.wire import AGAIN, CONTENT, Message, ModelReply

_KEYS = ("model", "base_url", "api_key_env", "fallback", "stages", "timeout_s", "max_tokens", "settings")

WAYS = {
    "unauthorized": "; set the key that this service wants",
    "not_found": "; check model and base_url (`autolab doctor --llm`)",
    "quota": "; top up the account or name another model",
    "redirect": "; give the address that it redirects to as base_url",
    "too_long": "; choose a model with a longer context, or lower max_tokens",
    "outage": "; start the service, or name another model or a fallback",
    "context_cut": "",
    "rejected": "; check model and settings (`autolab doctor --llm`)",
}
"""What a user can do about a kind of failure."""
GO_ON = ", then `autolab review retry` and the same command"
"""How the loop goes on after that."""


class LLMResearcher(ResearcherDefaults):
    name: str = "llm"
    contract = "llm"
    options = frozenset({*_KEYS, "price", "retries", "outage_hours"})
    works_in_folder = False
    codes_ideas = True

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
        check_settings(config.settings, self.models)
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
        conversation = Conversation(self._config, self._fallback, task.calls, form_of(task))
        conversation.messages = [Message("system", task.contract), Message("user", task.prompt)]
        model = self._stages.get(task.kind, self._model)
        reply, answer = conversation.ask(model)
        problem = answer.problem or answer.objection
        if reply.reason in CONTENT or problem:
            conversation.send_back(reply, problem or reply.detail)
            # The same model would refuse again; another may not.
            if reply.reason == "refused" and self._fallback:
                model = self._fallback
            reply, answer = conversation.ask(model)
        return _answer(reply, answer)


def _answer(reply: ModelReply, answer: ReadAnswer) -> Answer:
    if answer.problem:
        return Answer(None, f"the reply does not fit: {answer.problem}", refused=reply.text)
    # What the engine objects to has the form: the stage refuses it, and knows what else may be done.
    if reply.reason == "ok":
        return Answer(agent_result(answer.value))
    failure = f"{reply.reason}: {reply.detail}"
    # No answer counts as a failed attempt, which is tried again; an answer `failed` waits for the user at once.
    if reply.reason in AGAIN or reply.reason in CONTENT or reply.reason == "too_large":
        return Answer(None, failure)
    return Answer(for_user(failure + WAYS.get(reply.reason, "; set it right") + GO_ON))
