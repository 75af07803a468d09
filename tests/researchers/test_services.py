"""Which models there are, whose key goes where, and what a call costs."""

from __future__ import annotations

from typing import Any

import pytest
from genai_prices import Usage

from autolab.errors import ResearcherError
from autolab.lab import redaction
from autolab.lab.schemas.config import Price, ResearcherConfig
from autolab.lab.schemas.outcomes import Stage
from autolab.researchers.llm.chat_model import LLMResearcher
from autolab.researchers.llm.services import SERVICES, Model, named_model

KEY = "services-key-5f2c9a71d3e84b60"
OWN = "http://127.0.0.1:9/v1"
KEYED = {name: one.key for name, one in SERVICES.items() if one.key}


@pytest.fixture(autouse=True)
def _keys_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYED.values(), "MY_KEY"):
        monkeypatch.delenv(str(name), raising=False)


def who(model: str, **more: Any) -> ResearcherConfig:
    return ResearcherConfig(name="llm", model=model, **more)


def named(model: str, **more: Any) -> Model:
    return named_model(model, who(model, **more))


# Names


@pytest.mark.parametrize("name", ["gpt-5", "openai:", ":gpt-5", "nobody:gpt-5", "", "OPENAI:gpt-5", "openai gpt-5"])
def test_what_is_no_name_of_a_model_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ResearcherError) as caught:
        named(name)
    said = str(caught.value)
    assert said.startswith(
        f"researcher: model: {name!r} is not PROVIDER:NAME; known: openai:, anthropic:, openrouter:,"
    )
    assert said.endswith("any other OpenAI-compatible service is openai:NAME with its base_url") and "\n" not in said


def test_a_models_name_may_hold_colons_and_slashes() -> None:
    assert named("ollama:qwen3:8b").model_id == "qwen3:8b"
    assert named("openai:org/model:free", base_url=OWN).model_id == "org/model:free"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://x/v1", "file:///etc/passwd", "http://", "https:///v1", "http://[::1/v1", "",
        "http://127.0.0.1:99999/v1", "http://127.0.0.1:port/v1", "http://127.0.0.1:0/v1", "http://a\x1b[31m/v1",
    ],
)  # fmt: skip
def test_a_base_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ResearcherError, match=r"researcher: base_url: .* is not an address like http://127\.0\.0\.1"):
        named("openai:m", base_url=url)


def test_a_base_url_is_for_the_models_own_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    one = who("openai:m", base_url=OWN, fallback="anthropic:claude-sonnet-4-5")
    assert named_model("openai:other", one).url == OWN
    fallback = named_model("anthropic:claude-sonnet-4-5", one)
    assert (fallback.url, fallback.key, fallback.own_url) == (SERVICES["anthropic"].url, KEY, False)


# Keys


@pytest.mark.parametrize("service", KEYED)
def test_a_missing_key_is_said_in_one_line_with_the_way_out(service: str) -> None:
    with pytest.raises(ResearcherError) as caught:
        named(f"{service}:m")
    variable = KEYED[service]
    assert str(caught.value) == (
        f"researcher: {variable} is not set: export {variable}=... (a key is read from the environment alone), or name"
        " another variable with api_key_env"
    )


@pytest.mark.parametrize("service", KEYED)
def test_the_services_own_key_is_taken_and_is_a_secret(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"{service}-{KEY[::-1]}"
    monkeypatch.setenv(str(KEYED[service]), f" {key}\n")
    one = named(f"{service}:m")
    assert (one.key, one.url, one.speaks) == (key, SERVICES[service].url, SERVICES[service].speaks)
    assert key not in repr(one) and redaction.clean(f"wrong key {key}") == f"wrong key [redacted:{KEYED[service]}]"


@pytest.mark.parametrize("service", ["openai", "anthropic"])
def test_an_address_of_ones_own_gets_no_key_of_the_service(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(str(KEYED[service]), KEY)
    assert named(f"{service}:m", base_url=OWN).key == "none"


def test_a_named_variable_holds_the_key_of_ones_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResearcherError, match="MY_KEY is not set"):
        named("openai:m", base_url=OWN, api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", f"{KEY}-mine")
    assert named("openai:m", base_url=OWN, api_key_env="MY_KEY").key == f"{KEY}-mine"
    assert redaction.clean(f"{KEY}-mine") == "[redacted:MY_KEY]"


def test_a_named_variable_is_not_for_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    one = who("openai:m", base_url=OWN, api_key_env="MY_KEY", stages={Stage.DESIGN: "ollama:small"})
    assert named_model("ollama:small", one).key == "none"


def test_a_replay_needs_no_key() -> None:
    assert named_model("openai:gpt-5", who("openai:gpt-5"), keyless=True).key == "none"


# Prices


USAGE = Usage(input_tokens=1_000_000, output_tokens=100_000)


def test_known_models_have_the_price_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert named("openai:gpt-5").dollars(USAGE) == pytest.approx(1.25 + 1.0)
    assert named("anthropic:claude-haiku-4-5").dollars(USAGE) == pytest.approx(1.0 + 0.5)


def test_ones_own_price_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    price = Price(input=3, output=20)
    assert named("openai:gpt-5", price=price).dollars(USAGE) == pytest.approx(5.0)
    assert named("ollama:m", price=price).dollars(USAGE) == pytest.approx(5.0)
    assert named("openai:m", price=price, base_url=OWN).dollars_at_most(0, 1000) == pytest.approx(0.02)


@pytest.mark.parametrize("service", [name for name, one in SERVICES.items() if one.local])
def test_a_service_on_ones_own_machine_costs_nothing(service: str) -> None:
    one = named(f"{service}:m")
    assert (one.dollars(USAGE), one.key) == (0.0, "none") and one.url.startswith("http://127.0.0.1:")


def test_what_is_not_known_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert named("openai:gpt-nobody-knows").dollars(USAGE) is None
    assert named("openai:gpt-5", base_url=OWN).dollars(USAGE) is None, "another's gpt-5 has a price of its own"


def test_a_researcher_counts_dollars_only_where_every_model_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert LLMResearcher(who("openai:gpt-5")).counts == {"tokens", "dollars"}
    mixed = LLMResearcher(who("openai:gpt-5", fallback="openai:gpt-nobody-knows"))
    assert mixed.counts == {"tokens"}
    (note,) = mixed.notes
    assert "openai:gpt-nobody-knows" in note and "tokens alone" in note and "researcher." in note
