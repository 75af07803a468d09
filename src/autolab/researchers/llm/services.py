"""Model services: where they are, which key they take, what a model of theirs costs.

A key goes to the service that it belongs to and nowhere else: with a `base_url` of your own none is sent, unless
`api_key_env` names one.
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


@dataclass(frozen=True)
class Service:
    """`key` is the variable that holds its key; `local` is one on your own machine, which costs nothing."""

    speaks: Literal["openai", "anthropic"]
    url: str
    key: str | None = None
    local: bool = False


SERVICES = {
    "openai": Service("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Service("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "openrouter": Service("openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "deepseek": Service("openai", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    "ollama": Service("openai", "http://127.0.0.1:11434/v1", local=True),
    "vllm": Service("openai", "http://127.0.0.1:8000/v1", local=True),
    "lmstudio": Service("openai", "http://127.0.0.1:1234/v1", local=True),
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
    """Dollars for a million tokens, where the user says it."""
    own_url: bool
    local: bool

    def __repr__(self) -> str:
        return f"Model({self.name} at {self.url})"

    def dollars(self, usage: Any) -> float | None:
        """What a call with this usage costs; None where no price is known.

        The table is that of the package genai-prices, which Pydantic AI brings: its file data.py, of its release.
        """
        if self.price is not None:
            return float(usage.input_tokens * self.price.input + usage.output_tokens * self.price.output) / 1e6
        if self.local:
            return 0.0
        if self.own_url:
            return None  # a service of the same name elsewhere has prices of its own
        import genai_prices

        try:
            return float(genai_prices.calc_price(usage, self.model_id, provider_id=self.service).total_price)
        except LookupError:
            return None

    def dollars_at_most(self, input_tokens: int, output_tokens: int) -> float | None:
        import genai_prices

        return self.dollars(genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens))


def named_model(name: str, config: ResearcherConfig, keyless: bool = False) -> Model:
    """The model `provider:name` as `config` configures it; ResearcherError where it cannot be asked."""
    service, colon, model = name.partition(":")
    if not colon or not model or service not in SERVICES:
        names = ", ".join(f"{one}:" for one in SERVICES)
        raise ResearcherError(f"researcher: model: {name!r} is not PROVIDER:NAME; known: {names}; any other"
                              " OpenAI-compatible service is openai:NAME with its base_url")  # fmt: skip
    known = SERVICES[service]
    own = config.base_url is not None and service == (config.model or "").partition(":")[0]
    url = known.url if not own or config.base_url is None else config.base_url
    if not _is_address(url):
        raise ResearcherError(f"researcher: base_url: {url!r} is not an address like http://127.0.0.1:8000/v1")
    variable = config.api_key_env if service == (config.model or "").partition(":")[0] else None
    key = _key(None if keyless else variable or (None if own else known.key))
    return Model(name, service, model, known.speaks, url.rstrip("/"), key, config.price, own, known.local)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # no port, or brackets that are no address
        return False


def _key(variable: str | None) -> str:
    """The key in an environment variable, from now on a secret; a service without one is given a word in its place."""
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ResearcherError(f"researcher: {variable} is not set: export {variable}=... (a key is read from the"
                              " environment alone), or name another variable with api_key_env")  # fmt: skip
    redaction.register(variable, key)
    return key


@functools.cache
def installed() -> bool:
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("pydantic_ai", "openai", "anthropic"))
