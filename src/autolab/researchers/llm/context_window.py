"""Whether a model has seen the whole prompt: some services cut off what does not fit, and answer as if nothing was.

What a service reports as prompt tokens is compared with the fewest that the prompt can have. Tokenizers split a text
before they merge anything: a token of letters never holds a blank, punctuation or a digit inside, so each run of
letters and each run of digits takes one token at least. That holds for the byte pair encodings with a splitting
pattern (https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py; Llama 3, Qwen, DeepSeek and Mistral
have patterns like these) and for SentencePiece as it is trained by default (split_by_whitespace, split_by_number,
split_by_unicode_script, https://github.com/google/sentencepiece/blob/master/doc/options.md). Measured over the prose
and the code of this repository with the vocabularies of DeepSeek, Qwen, Mistral 7B and Mistral Nemo: 1.8 to 2.2 tokens
a run, 1.4 in the least dense file, and 1.0 in words made for it (`a_b c-d`).
A hosted service may have a tokenizer that joins words, as SuperBPE does (https://arxiv.org/abs/2503.13423: a third
fewer tokens), so it is suspected only below half of that number. Writing without blanks (Chinese) makes long runs, for
which this finds nothing; and nothing is a false alarm.

Cached tokens: what OpenAI's form reports contains them, and `reply_reader` adds those that Anthropic counts apart
(`cache_read_input_tokens`, https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching).

Ollama's context is 4,096 tokens on a GPU of less than 24 GiB, whatever the model could do
(https://docs.ollama.com/context-length), and a request of OpenAI's form cannot change it
(https://github.com/ollama/ollama/issues/5902). A prompt that is longer is cut, and reported as exactly the context
(https://github.com/ollama/ollama/issues/15944: 6,678 tokens became 4,096) or as about half of it
(https://github.com/ollama/ollama/issues/17889: 7,900 became 2,050); a reply ends where the context is full.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from autolab.errors import RecordError
from autolab.lab.schemas.record import parse_json
from autolab.researchers.llm.services import Model
from autolab.researchers.llm.wire import CONTENT, Message, ModelReply
from autolab.text import decode_json

OLLAMA_PORT = 11434
SANE_CONTEXT = 32_768
"""Tokens that are proposed at least: a prompt, some thinking and a reply with a file in it."""
_LOOK_S = 10.0
_LONGEST_LIST = 1 << 20
"""Bytes of Ollama's list of models that are read."""
_RUN = re.compile(r"[^\W\d_]+|\d+")
_SMALLEST_CUT = 1024
"""Tokens of the smallest prompt that a service makes: half of a context of 2,048, Ollama's default in 2024."""
_CONTEXT_STEP = 2048
"""Contexts are multiples of it: a prompt that has exactly such a size was probably made to fit."""
_DENSE_BYTES = 4.4
"""Bytes a token, above which a prompt of just a context's size is not believed; measured: 3.8, prose alone 4.9."""


def fewest_tokens(texts: Sequence[str]) -> int:
    """The tokens that these texts have at least, with any tokenizer that does not join words."""
    return sum(1 for text in texts for _ in _RUN.finditer(text))


def is_ollama(model: Model) -> bool:
    try:
        port = urlsplit(model.url).port
    except ValueError:
        port = None
    return model.service == "ollama" or port == OLLAMA_PORT


def running_context(model: Model) -> int | None:
    """The context that Ollama gave a model it has loaded (https://docs.ollama.com/api/ps); None if it does not tell."""
    parts = urlsplit(model.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_LOOK_S)
    try:
        connection.request("GET", "/api/ps")
        body = connection.getresponse().read(_LONGEST_LIST)
        value = parse_json(decode_json(body), "api/ps")
    # An older Ollama, or another server: then only what it reports with a reply can be judged.
    except (OSError, http.client.HTTPException, RecordError):
        return None
    finally:
        connection.close()
    models = value.get("models") if isinstance(value, dict) else None
    for entry in models if isinstance(models, list) else []:
        if isinstance(entry, dict) and model.model_id in (entry.get("name"), entry.get("model")):
            context = entry.get("context_length")
            return context if isinstance(context, int) else None
    return None


def judged(reply: ModelReply, model: Model, messages: Sequence[Message], max_tokens: int) -> ModelReply:
    """The reply; as a failure of the kind `context_cut`, with the way out, if its model has not seen the whole prompt.

    Also if the reply had to end long before `max_tokens`, because the context was full.
    """
    if reply.reason != "ok" and reply.reason not in CONTENT:
        return reply
    texts = [message.text for message in messages]
    problem = _cut_prompt(reply, model, texts) or _full_context(reply, model, max_tokens)
    if not problem:
        return reply
    prompt_bytes = sum(len(text.encode(errors="replace")) for text in texts)
    detail = f"{model.name}: {problem}; {way_out(model, prompt_bytes // 3 + max_tokens)}"
    return replace(reply, reason="context_cut", text="", detail=detail)


def way_out(model: Model, tokens: int) -> str:
    """What gives the model a context of `tokens`, rounded up."""
    size = max(SANE_CONTEXT, -(-tokens // 8192) * 8192)
    if is_ollama(model):
        serve = f"`OLLAMA_CONTEXT_LENGTH={size} ollama serve`"
        modelfile = f"`FROM {model.model_id}` and `PARAMETER num_ctx {size}`"
        return f"start Ollama with {serve}, or make a model of a Modelfile: {modelfile}"
    return f"serve the model with a context of {size:,} tokens"


def _cut_prompt(reply: ModelReply, model: Model, texts: Sequence[str]) -> str:
    """Why the prompt was cut; empty if it may have been seen whole."""
    reported = reply.input_tokens
    # What a service that counts nothing is booked at is above any lower bound; a few tokens are a count without sense.
    if reported < _SMALLEST_CUT:
        return ""
    fewest = fewest_tokens(texts)
    is_own = model.local or model.own_url
    if reported < (fewest if is_own else fewest / 2):
        return f"the prompt was cut off: it has {fewest:,} tokens or more, and the service read {reported:,}"
    prompt_bytes = sum(len(text.encode(errors="replace")) for text in texts)
    if is_ollama(model) and reported % _CONTEXT_STEP == 0 and prompt_bytes > reported * _DENSE_BYTES:
        return f"the prompt was cut off at the model's context of {reported:,} tokens"
    return ""


def _full_context(reply: ModelReply, model: Model, max_tokens: int) -> str:
    """Why the reply had to end early; empty if it was not for the context."""
    # Elsewhere the service may have a limit of its own for replies.
    is_here = model.local or is_ollama(model)
    if reply.reason != "truncated" or not is_here or reply.output_tokens >= max_tokens / 2:
        return ""
    total = reply.input_tokens + reply.output_tokens
    return (
        f"the reply was cut off after {reply.output_tokens:,} of {max_tokens:,} tokens, as the context was full at"
        f" {total:,}"
    )
