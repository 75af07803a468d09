"""Model services: their addresses, the keys they take, what their requests may hold, and what their models cost.

A key is sent to its own service and nowhere else. With a `base_url` of the user's no key is sent, unless `api_key_env`
names one.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from autolab.errors import ResearcherError
from autolab.lab import redaction
from autolab.lab.schemas.config import Price, ResearcherConfig

Limit = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class Profile:
    """What a service's requests may hold, as its documentation (`source`) said on the day when it was `checked`.

    `limit` is its name for the longest reply. `formats` are its ways to ask for JSON, the best first; without one the
    contract alone asks for it. What a model then refuses is learned (`base.Calls.leave_out`).
    """

    limit: Limit
    formats: tuple[str, ...]
    source: str
    checked: str


@dataclass(frozen=True)
class Service:
    """`key`: the environment variable that holds its key. A `local` service is on this machine and costs nothing."""

    speaks: Literal["openai", "anthropic"]
    url: str
    key: str | None
    profile: Profile
    local: bool = False
    prices: str = ""
    """Its name in the table of prices, if that is another."""


SCHEMA, OBJECT = "json_schema", "json_object"
CHECKED = "2026-12-01"

# A schema is never sent as strict: our forms hold free mappings, which strict modes refuse. Anthropic has a strict
# schema, or a forced tool, which its thinking models refuse: so there the contract alone asks for the form.
UNKNOWN = Profile("max_tokens", (), "https://platform.openai.com/docs/api-reference/chat/create", CHECKED)
"""What is assumed of a server at an address of the user's: the least that servers agree on."""

SERVICES = {
    "openai": Service(
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        Profile(
            "max_completion_tokens",
            (SCHEMA, OBJECT),
            "https://platform.openai.com/docs/api-reference/chat/create",
            CHECKED,
        ),
    ),
    "anthropic": Service(
        "anthropic",
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        Profile("max_tokens", (), "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking", CHECKED),
    ),
    "openrouter": Service(
        "openai",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        Profile("max_tokens", (SCHEMA, OBJECT), "https://openrouter.ai/docs/structured-outputs", CHECKED),
    ),
    "deepseek": Service(
        "openai",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        Profile("max_tokens", (OBJECT,), "https://api-docs.deepseek.com/guides/json_mode", CHECKED),
    ),
    "mistral": Service(
        "openai",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        Profile(
            "max_tokens",
            (SCHEMA, OBJECT),
            "https://docs.mistral.ai/capabilities/structured-output/custom_structured_output/",
            CHECKED,
        ),
    ),
    "groq": Service(
        "openai",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        Profile("max_completion_tokens", (SCHEMA, OBJECT), "https://console.groq.com/docs/structured-outputs", CHECKED),
    ),
    "together": Service(
        "openai",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        Profile("max_tokens", (OBJECT,), "https://www.together.ai/blog/function-calling-json-mode", CHECKED),
    ),
    "gemini": Service(
        "openai",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        Profile("max_tokens", (OBJECT,), "https://ai.google.dev/gemini-api/docs/openai", CHECKED),
        prices="google",
    ),
    "ollama": Service(
        "openai",
        "http://127.0.0.1:11434/v1",
        None,
        Profile("max_tokens", (SCHEMA, OBJECT), "https://docs.ollama.com/api/openai-compatibility", CHECKED),
        local=True,
    ),
    "vllm": Service(
        "openai",
        "http://127.0.0.1:8000/v1",
        None,
        Profile("max_tokens", (SCHEMA, OBJECT), "https://docs.vllm.ai/en/latest/features/structured_outputs/", CHECKED),
        local=True,
    ),
    "lmstudio": Service(
        "openai",
        "http://127.0.0.1:1234/v1",
        None,
        Profile("max_tokens", (SCHEMA,), "https://lmstudio.ai/docs/advanced/structured-output", CHECKED),
        local=True,
    ),
}


@dataclass(frozen=True)
class Model:
    """One model of one service. `key` is the key itself; nothing prints it."""

    name: str
    service: str
    model_id: str
    speaks: Literal["openai", "anthropic"]
    url: str
    key: str
    price: Price | None
    """Dollars for a million tokens, if the user gave them."""
    own_url: bool
    local: bool

    @property
    def profile(self) -> Profile:
        # Whoever names a service and an address means that service elsewhere; openai: is everybody's form.
        if self.service == "openai" and self.own_url:
            return UNKNOWN
        return SERVICES[self.service].profile

    def __repr__(self) -> str:
        return f"Model({self.name} at {self.url})"

    def dollars(self, usage: Any) -> float | None:
        """The cost of a call with this usage; None if no price is known.

        Prices come from the user, else from the package genai-prices as it was released (its file data.py).
        """
        if self.price is not None:
            return float(usage.input_tokens * self.price.input + usage.output_tokens * self.price.output) / 1e6
        if self.local:
            return 0.0
        # A service of the same name elsewhere has prices of its own.
        if self.own_url:
            return None
        # Loaded late: its table of prices is large, and most commands call no model.
        import genai_prices

        provider = SERVICES[self.service].prices or self.service
        try:
            return float(genai_prices.calc_price(usage, self.model_id, provider_id=provider).total_price)
        except LookupError:
            return None

    def dollars_at_most(self, input_tokens: int, output_tokens: int) -> float | None:
        # Without cached tokens: those are cheaper, so this is an upper limit.
        import genai_prices

        return self.dollars(genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def named_model(name: str, config: ResearcherConfig, keyless: bool = False) -> Model:
    """The model `provider:name` as `config` configures it. ResearcherError: unknown provider, bad address, no key."""
    provider, _, model_id = name.partition(":")
    if not model_id or provider not in SERVICES:
        providers = ", ".join(f"{provider}:" for provider in SERVICES)
        raise ResearcherError(
            f"researcher: model: {name!r} is not PROVIDER:NAME; known: {providers}; any other OpenAI-compatible service"
            " is openai:NAME with its base_url"
        )
    service = SERVICES[provider]
    url, variable = service.url, service.key
    # Address and key of the configuration are those of its main model's provider.
    configured = provider == (config.model or "").partition(":")[0]
    own_url = configured and config.base_url is not None
    if configured and config.base_url is not None:
        # No key by default: that of the provider must not reach another service.
        url, variable = config.base_url, None
    if configured and config.api_key_env:
        variable = config.api_key_env
    if not _is_address(url):
        raise ResearcherError(f"researcher: base_url: {url!r} is not an address like http://127.0.0.1:8000/v1")
    key = _key(None if keyless else variable)
    return Model(name, provider, model_id, service.speaks, url.rstrip("/"), key, config.price, own_url, service.local)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    # No port, or brackets that are no address.
    except ValueError:
        return False


def _key(variable: str | None) -> str:
    """The key in an environment variable, which is redacted from now on; without a variable, a word in its place."""
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ResearcherError(
            f"researcher: {variable} is not set: export {variable}=... (a key is read from the environment alone), or"
            " name another variable with api_key_env"
        )
    # From here on no text that holds the key is written.
    redaction.register(variable, key)
    return key


@functools.cache
def installed() -> bool:
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("pydantic_ai", "openai", "anthropic"))
