"""A prompt that a service cut is an error of its own, and one that was read whole is never suspected."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolab.researchers.llm import context_window
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import Message, ModelReply

ROOT = Path(__file__).resolve().parents[2]
QWEN = Model("ollama:qwen3:8b", "ollama", "qwen3:8b", "openai", "http://127.0.0.1:11434/v1", "none", None, False, True)
GPT = Model("openai:gpt-5", "openai", "gpt-5", "openai", "https://api.openai.com/v1", "k", None, False, False)
PROSE = (ROOT / "docs" / "containment.md").read_text()
CODE = (ROOT / "src" / "autolab" / "loop" / "engine.py").read_text()


def judged(model: Model, text: str, tokens: int, *, written: int = 500, reason: str = "ok") -> ModelReply:
    reply = ModelReply("{}", reason, "", None, tokens, written, None)
    return context_window.judged(reply, model, [Message("system", "Answer."), Message("user", text)], 16_000)


@pytest.mark.parametrize("model", [QWEN, GPT], ids=["ollama", "openai"])
@pytest.mark.parametrize(
    "text", [PROSE, CODE, "数据集很小 噪声很大 " * 900, "0.123 4.5e-3\n" * 900, "a" * 30_000, "- " * 9_000]
)
def test_a_prompt_that_was_read_whole_is_never_suspected(model: Model, text: str) -> None:
    """Whatever the tokenizer, down to one token a word or a number, and six bytes a token."""
    tokens = max(context_window.fewest_tokens([text]) + 1, len(text.encode()) // 6)
    reply = judged(model, text, tokens + 50)
    assert reply.reason == "ok", reply.detail


@pytest.mark.parametrize("context", [4096, 8192, 32_768])
@pytest.mark.parametrize("left", [1.0, 0.5])
@pytest.mark.parametrize("longer", [1.3, 2.0, 8.0])
def test_a_prompt_that_ollama_cut_is_seen_by_what_it_reports(context: int, left: float, longer: float) -> None:
    """Ollama leaves the whole context or half of it; the prompt had 3.8 bytes a token."""
    text = (CODE * 40)[: int(context * longer * 3.8)]
    reply = judged(QWEN, text, int(context * left) + (2 if left < 1 else 0))
    assert reply.reason == "context_cut" and reply.text == ""
    assert "the prompt was cut off" in reply.detail and "OLLAMA_CONTEXT_LENGTH=" in reply.detail
    assert "PARAMETER num_ctx" in reply.detail


def test_a_hosted_service_is_suspected_only_far_below_what_any_tokenizer_makes() -> None:
    fewest = context_window.fewest_tokens([CODE * 3])
    assert judged(GPT, CODE * 3, int(fewest * 0.6)).reason == "ok", "a tokenizer that joins words"
    cut = judged(GPT, CODE * 3, int(fewest * 0.45))
    assert cut.reason == "context_cut" and "serve the model with a context of" in cut.detail


def test_a_count_without_sense_is_no_cut_prompt() -> None:
    for tokens in (0, 1, 7, 1000):
        assert judged(QWEN, CODE, tokens).reason == "ok"


def test_a_reply_that_ends_long_before_its_limit_met_the_end_of_the_context() -> None:
    cut = judged(QWEN, "What?", 3_000, written=1_096, reason="truncated")
    assert cut.reason == "context_cut" and "full at 4,096" in cut.detail
    assert judged(QWEN, "What?", 3_000, written=16_000, reason="truncated").reason == "truncated"
    assert judged(GPT, "What?", 3_000, written=1_096, reason="truncated").reason == "truncated"


def test_the_way_out_gives_room_for_this_prompt_and_the_longest_reply() -> None:
    assert "OLLAMA_CONTEXT_LENGTH=32768 " in context_window.way_out(QWEN, 20_000)
    assert "OLLAMA_CONTEXT_LENGTH=40960 " in context_window.way_out(QWEN, 33_000)
    elsewhere = Model("openai:q", "openai", "q", "openai", "http://box:11434/v1", "none", None, True, False)
    assert "ollama serve" in context_window.way_out(elsewhere, 1)
