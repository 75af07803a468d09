"""What a request holds besides its messages: the longest reply, the way to ask for JSON, and the user's settings.

Settings have the names that Pydantic AI gives them, or those of the service; any other parameter of the service goes
into `extra_body`. None of them can change what a call may cost at most: that is checked before the first call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set

from pydantic import JsonValue

from autolab.errors import ResearcherError
from autolab.researchers import prompts
from autolab.researchers.llm.answer_form import AnswerForm
from autolab.researchers.llm.services import OBJECT, SCHEMA, Limit, Model

_BOTH = ("temperature", "top_p", "top_k")
_NAMES: dict[str, dict[str, str]] = {
    "openai": {
        **{
            name: name
            for name in (
                *_BOTH,
                *("min_p", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"),
                *("reasoning_effort", "reasoning", "verbosity", "user", "store", "prompt_cache_key"),
            )
        },
        "stop_sequences": "stop",
        "openai_reasoning_effort": "reasoning_effort",
        "openai_text_verbosity": "verbosity",
        "openai_user": "user",
        "openai_store": "store",
        "openai_prompt_cache_key": "prompt_cache_key",
    },
    "anthropic": {
        **{name: name for name in (*_BOTH, "stop_sequences", "thinking", "metadata")},
        "anthropic_thinking": "thinking",
        "anthropic_metadata": "metadata",
    },
}
"""A setting -> the parameter of the request, for each form that services speak."""
_OWN = ("extra_headers", "extra_body")

_LONGEST_REPLY = "the longest reply is `max_tokens` of the researcher itself"
_ONE_REPLY = "one reply is asked for, and one is paid for"
_ENGINE = "the engine sets it"
_PAID_APART = "it costs what no price here counts"
_REFUSED = {
    **dict.fromkeys(
        (
            *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "max_gen_len"),
            *("max_tokens_to_sample", "max_length", "num_predict", "n_predict", "min_tokens", "ignore_eos"),
        ),
        _LONGEST_REPLY,
    ),
    **dict.fromkeys(("n", "best_of", "num_return_sequences", "use_beam_search", "echo"), _ONE_REPLY),
    **dict.fromkeys(
        (
            *("model", "messages", "system", "prompt", "stream", "stream_options", "tools", "tool_choice"),
            *("functions", "function_call", "response_format", "timeout"),
        ),
        _ENGINE,
    ),
    **dict.fromkeys(
        ("models", "route", "plugins", "web_search_options", "service_tier", "modalities", "audio", "prediction"),
        _PAID_APART,
    ),
}
"""Parameters that would change what a call costs at most, or what its reply means -> why they are refused."""
_NESTED = ("options", "generation_config", "generationConfig", "extra_body", "sampling_params")
"""Objects of a body in which services look for parameters too."""

_OTHER_LIMIT: dict[Limit, Limit] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_LEFT_OUT_OF_SCHEMAS = frozenset(
    {
        *("maxLength", "minLength", "pattern", "maxItems", "minItems", "default"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)
"""What grammars made of a schema cannot hold, or only at a great cost; the answer is checked for it all the same."""


def check_settings(settings: Mapping[str, JsonValue], models: tuple[Model, ...]) -> None:
    """ResearcherError: a setting is unknown to every service of the models, or would go around a limit."""
    known = {name for model in models for name in _NAMES[model.speaks]}.union(_OWN)
    for name in settings:
        place = f"config.yaml: researcher.settings.{name}"
        if name in _REFUSED:
            raise ResearcherError(f"{place}: {_REFUSED[name]}; take it out{_way(name)}")
        if name not in known:
            names = ", ".join(sorted(known))
            way = "anything else of a service goes into extra_body"
            raise ResearcherError(f"{place}: not known; known: {names} ({way})")
    for name, value in _own_objects(settings):
        if not isinstance(value, dict):
            raise ResearcherError(f"config.yaml: researcher.settings.{name}: must be names and values")
    for place, name in _body_names(settings.get("extra_body"), "extra_body"):
        if name in _REFUSED:
            raise ResearcherError(
                f"config.yaml: researcher.settings.{place}.{name}: {_REFUSED[name]}; take it out{_way(name)}"
            )


def _way(name: str) -> str:
    return " and write `researcher.max_tokens: 16000`" if _REFUSED[name] == _LONGEST_REPLY else ""


def _own_objects(settings: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    for name in _OWN:
        if name in settings:
            yield name, settings[name]


def _body_names(value: JsonValue, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        yield place, name
        if name in _NESTED:
            yield from _body_names(part, f"{place}.{name}")


def request_parameters(
    model: Model, settings: Mapping[str, JsonValue], max_tokens: int, form: AnswerForm | None, left_out: Set[str]
) -> dict[str, JsonValue]:
    """The parameters of a request by the service's names, without those that the model has refused before."""
    limit = model.profile.limit
    # A service has one name or the other; a reply without a limit could cost anything.
    if limit in left_out:
        limit = _OTHER_LIMIT[limit]
    parameters: dict[str, JsonValue] = {limit: max_tokens}
    names = _NAMES[model.speaks]
    for name, value in settings.items():
        if name in names:
            parameters[names[name]] = value
    extra = settings.get("extra_body")
    if isinstance(extra, dict):
        parameters |= extra
    chosen = [way for way in model.profile.formats if way not in left_out]
    # In a mode for JSON the code would have to be escaped into it, which costs its quality.
    if form is not None and chosen and not form.holds_code:
        parameters["response_format"] = _response_format(chosen[0], form)
    return {name: value for name, value in parameters.items() if name == limit or name not in left_out}


def refusable(parameters: Mapping[str, JsonValue], left_out: Set[str]) -> frozenset[str]:
    """The names of what may be left out of a request with these parameters, if the service refuses it."""
    names = set(parameters)
    way = parameters.get("response_format")
    if isinstance(way, dict):
        names.add(str(way.get("type")))
    names.discard("response_format")
    # Both names of the limit were tried: the service means something else.
    if left_out & {"max_tokens", "max_completion_tokens"}:
        names -= {"max_tokens", "max_completion_tokens"}
    return frozenset(names)


def _response_format(way: str, form: AnswerForm) -> JsonValue:
    if way == OBJECT:
        return {"type": OBJECT}
    assert way == SCHEMA
    return {"type": SCHEMA, "json_schema": {"name": form.name, "strict": False, "schema": wire_schema(form)}}


def wire_schema(form: AnswerForm) -> JsonValue:
    """The form's JSON schema as services take it: the contract's, without limits of lengths and numbers."""
    schema: JsonValue = json.loads(prompts.schema(form.output))
    return _plain_schema(schema)


def _plain_schema(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_plain_schema(part) for part in value]
    if not isinstance(value, dict):
        return value
    document: dict[str, JsonValue] = {}
    for key, part in value.items():
        # The keys below are names of fields, which may be any word.
        if key in ("properties", "$defs") and isinstance(part, dict):
            document[key] = {name: _plain_schema(field) for name, field in part.items()}
        elif key not in _LEFT_OUT_OF_SCHEMAS:
            document[key] = _plain_schema(part)
    return document
