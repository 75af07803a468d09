"""What real services and models send, and what becomes of it: a table, each row with where it was seen.

A row's replies are served by the tests' own server. `model` names the service whose profile asks; its address is that
server's. The answer wanted is a decision, or an implementation where `stage` says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ANSWER = {"decision": "stop", "reason": "the plateau holds"}
J = json.dumps(ANSWER)
USED = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}
FULL = {"prompt_tokens": 120, "completion_tokens": 16_000, "total_tokens": 16_120}
RESERVED = -1
"""Tokens: as many as were reserved for the call."""


@dataclass(frozen=True)
class WireForm:
    """One row. `ends` are the kinds of the calls' ends, in order; `tokens` is what the last of them books.

    `accepted`: whether the answer is taken in the end. `says`: part of the line about the first end. `lacks` and `has`:
    keys that the last request does not or does hold.
    """

    name: str
    source: str
    model: str
    sent: tuple[dict[str, Any], ...]
    ends: tuple[str, ...]
    accepted: bool
    tokens: int
    says: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    stage: str = "decide_repeat"
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


def chat(content: Any, *, finish: Any = "stop", usage: Any = USED, before: str = "", **message: Any) -> dict[str, Any]:
    """A chat completion with status 200; `before` stands in front of the body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return {"body": before + json.dumps(body), "headers": {"Content-Type": "application/json"}}


def claude(*content: Any, stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    """A message of Anthropic's with status 200."""
    body = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": list(content)}
    body |= {"stop_reason": stop, "stop_sequence": None, "usage": {"input_tokens": 120, "output_tokens": 30} | usage}
    return {"body": json.dumps(body), "headers": {"Content-Type": "application/json"}}


def error(status: int, body: Any, **headers: Any) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"status": status, "body": text, "headers": headers}


def taken(name: str, source: str, model: str, reply: dict[str, Any], tokens: int = 150, **more: Any) -> WireForm:
    """The first reply is the answer."""
    return WireForm(name, source, model, (reply,), ("ok",), True, tokens, **more)


def sent_back(
    name: str, source: str, model: str, reply: dict[str, Any], reason: str, says: str, tokens: int = 150, **more: Any
) -> WireForm:
    """The reply holds no answer: it goes back once, and the same comes again."""
    return WireForm(name, source, model, (reply,), (reason, reason), False, tokens, says, **more)


def failed(
    name: str, source: str, model: str, reply: dict[str, Any], reason: str, says: str, tokens: int = 0, **more: Any
) -> WireForm:
    """The service gives no reply."""
    return WireForm(name, source, model, (reply,), (reason,), False, tokens, says, **more)


def left_out(name: str, source: str, model: str, refusal: dict[str, Any], says: str, **more: Any) -> WireForm:
    """A parameter is refused; without it the answer comes, in the same attempt."""
    return WireForm(name, source, model, (refusal, chat(J)), ("unsupported", "ok"), True, 150, says, **more)


GH = "https://github.com/"
TEMPERATURE = {
    "error": {
        "message": "Unsupported value: 'temperature' does not support 0.5 with this model."
        " Only the default (1) value is supported.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_value",
    }
}
MAX_TOKENS = {
    "error": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
        " instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}
BAD_SCHEMA = "Invalid schema for response_format 'default': In context=(), 'additionalProperties' is required to be"
BAD_SCHEMA += " supplied and to be false."
EXTRA = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted", "input": 16000}
FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
CLOUDFLARE = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<center><h1>502 Bad Gateway</h1></center>"
CLOUDFLARE += "\n<hr><center>cloudflare</center>\n</body></html>"
DRAFT = 'Okay, the user wants {"decision": "refine", ...}. But the plateau {holds}. I answer {"decision": "stop"}.'
CODE = {"plan": "a steeper slope", "files": [{"path": "models/new.py"}], "edits": [{"path": "models/width.py"}]}
FENCES = """

```python models/new.py
SETTINGS = {"plan": "of another kind"}
```

models/width.py
```
<<<<<<< SEARCH
WIDTH = 1
=======
WIDTH = 2
>>>>>>> REPLACE
```
"""

REASONING = [
    taken("Qwen3 on vLLM without a reasoning parser", GH + "vllm-project/vllm/issues/21130", "vllm:qwen3",
          chat(f"<think>\n{DRAFT}\n</think>\n\n{J}")),
    taken("DeepSeek R1 on its own: a closing mark alone", GH + "deepseek-ai/DeepSeek-R1/issues/526", "vllm:r1",
          chat(f"{DRAFT}\n</think>\n\n{J}")),
    taken("R1 on llama.cpp, whose template writes the opening mark", GH + "ggml-org/llama.cpp/issues/11861",
          "openai:r1", chat(f'a quote " and a brace {{ that stay open\n</think>\n{J}')),
    taken("R1 distilled, on LocalAI, prose after its thoughts", GH + "mudler/LocalAI/issues/4761", "openai:r1-7b",
          chat(f"Okay, the user is asking.\n</think>\n\nHere is my decision:\n\n```json\n{J}\n```")),
    sent_back("R1 that does not close its thoughts", GH + "ggml-org/llama.cpp/issues/14679", "openai:r1",
              chat(f"<think>\nSo I say {J}"), "not_json", "only reasoning, which has no end"),
    taken("DeepSeek's reasoner", "https://api-docs.deepseek.com/guides/reasoning_model", "deepseek:deepseek-reasoner",
          chat(J, reasoning_content=DRAFT)),
    taken("Qwen3 on Ollama: reasoning beside the content", GH + "ollama/ollama/issues/17969", "ollama:qwen3:1.7b",
          chat(J, reasoning=DRAFT)),
    sent_back("Gemma 4 on Ollama: all of it in the reasoning", GH + "ollama/ollama/issues/15288", "ollama:gemma4:26b",
              chat("", reasoning=J), "empty", f"the reply is empty; {len(J)} characters of reasoning came"),
    sent_back("Qwen3 on vLLM, thinking switched off: content null", GH + "vllm-project/vllm/issues/17609",
              "vllm:helium", chat(None, reasoning_content=J, tool_calls=[]), "empty", "the reply is empty"),
    sent_back("gpt-oss on vLLM: nothing, though tokens were written", GH + "vllm-project/vllm/issues/41902",
              "vllm:gpt-oss-120b", chat(None, reasoning=None), "empty", "the reply is empty"),
    taken("gpt-oss with its channels in the content", GH + "kekzl/imp/pull/768", "openai:gpt-oss-20b",
          chat(f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{J}")),
    taken("gpt-oss with the names of its channels", GH + "Augustas11/macprovider/issues/743", "openai:gpt-oss-20b",
          chat(f"analysisWe need to answer. And nothing else.assistantfinal{J}")),
    taken("Magistral: content in parts, one of thinking", GH + "langchain4j/langchain4j/pull/4474",
          "mistral:magistral-medium", chat([{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]},
                                            {"type": "text", "text": J}])),
    taken("Magistral as it was: marks of thinking", GH + "vercel/ai/pull/8072", "mistral:magistral-small",
          chat(f"<think>{DRAFT}</think>{J}")),
    taken("Claude with extended thinking", "https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking",
          "anthropic:claude-sonnet-4-5", claude({"type": "thinking", "thinking": DRAFT, "signature": "s"},
                                                {"type": "redacted_thinking", "data": "x"},
                                                {"type": "text", "text": J})),
    sent_back("Claude that only thinks", GH + "LiveBench/LiveBench/pull/425", "anthropic:claude-sonnet-4-5",
              claude({"type": "thinking", "thinking": DRAFT, "signature": "s"}), "empty", "characters of reasoning"),
]  # fmt: skip

PROSE = [
    taken("OpenAI's chat completion", "https://platform.openai.com/docs/api-reference/chat/create", "openai:gpt-5",
          chat(J)),
    taken("Anthropic's message", "https://docs.anthropic.com/en/api/messages", "anthropic:claude-haiku-4-5",
          claude({"type": "text", "text": J})),
    taken("a fence with words around, format ignored", GH + "ollama/ollama/issues/14645", "ollama:qwen3.5",
          chat(f"Sure! Here is the JSON:\n\n```json\n{J}\n```\n\nLet me know if {{x}} is meant.")),
    taken("backticks in prose and in a text", GH + "langgenius/dify/issues/41958", "openai:m",
          chat("Here is `the` result: " + json.dumps(ANSWER | {"reason": "use `print`"}))),
    taken("a fence within a text of the object", GH + "vectorize-io/hindsight/issues/2542", "openai:m",
          chat(json.dumps(ANSWER | {"reason": "```x```"}))),
    taken("no fence, prose before and after", GH + "sreerevanth/repopilot/issues/157", "openai:m",
          chat(f"My decision is {J} because {{a, b}} hold.")),
    taken("a fence of another language before it", GH + "NVIDIA-NeMo/labs-OO-Agents/pull/238", "openai:m",
          chat(f"Run\n```bash\nautolab status\n```\nthen:\n```json\n{J}\n```")),
    taken("null for optional keys", GH + "TanStack/ai/issues/731", "openrouter:m",
          chat(json.dumps(ANSWER | {"next_config": None}))),
    taken("code in fences beside the object", "https://aider.chat/2024/08/14/code-in-json.html", "openai:m",
          chat(json.dumps(CODE) + FENCES), stage="implementation"),
    sent_back("code that no fence holds", "https://aider.chat/2024/08/14/code-in-json.html", "openai:m",
              chat(json.dumps(CODE)), "invalid", "files.0: no fence names the path 'models/new.py'",
              stage="implementation"),
    sent_back("two objects, one after the other", GH + "letta-ai/letta/pull/269", "openai:m", chat(f"{J}\n{J}"),
              "not_json", "2 JSON objects, and one is wanted"),
    sent_back("a comma at the end", GH + "bytedance/deer-flow/pull/2373", "openai:m", chat(J[:-1] + ",}"),
              "not_json", 'in: {"decision": "stop", "reason": "the plateau holds",}'),
    sent_back("a comment in the object", GH + "MorpheusAIs/Lite-Client/pull/15", "openai:m",
              chat(J.replace("{", "{ // why\n", 1)), "not_json", "in: { // why"),
    sent_back("a raw line break in a text", GH + "misospace/pr-reviewer-action/issues/449", "openai:m",
              chat("```json\n" + J.replace("the plateau", "the\nplateau") + "\n```"), "not_json", "Invalid control"),
    sent_back("a list around the object", GH + "misospace/pr-reviewer-action/issues/449", "openai:m", chat(f"[{J}]"),
              "invalid", "should be an object"),
    sent_back("keys of its own: every fault is named", GH + "browserbase/stagehand/issues/1204", "deepseek:chat",
              chat('{"action": "fill", "element": {"id": "a"}, "twoStep": false}'), "invalid",
              "; reason: missing; element: unknown key; twoStep: unknown key"),
]  # fmt: skip

TOOLS = [
    taken("Claude calls the form's tool",
          "https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use",
          "anthropic:claude-sonnet-4-5",
          claude({"type": "text", "text": "I decide."},
                 {"type": "tool_use", "id": "t1", "name": "decide_repeat", "input": ANSWER}, stop="tool_use")),
    taken("llama.cpp: arguments as an object", GH + "ggml-org/llama.cpp/issues/20198", "openai:m",
          chat(None, finish="tool_calls", tool_calls=[
              {"id": "1", "type": "function", "function": {"name": "decide_repeat", "arguments": ANSWER}}])),
    taken("Ollama: arguments as an object, no id", GH + "BerriAI/litellm/pull/24095", "ollama:m",
          chat("", tool_calls=[{"function": {"name": "decide_repeat", "arguments": ANSWER}}])),
    taken("LiteLLM's tool in the place of a schema", GH + "BerriAI/litellm/issues/6741", "openai:claude",
          chat(None, finish="tool_calls", tool_calls=[
              {"id": "1", "type": "function", "function": {"name": "json_tool_call", "arguments": J}}])),
    taken("qwen2.5-coder on Ollama: the call as text", GH + "NousResearch/hermes-agent/issues/5867",
          "ollama:qwen2.5-coder:14b", chat(json.dumps({"name": "decide_repeat", "arguments": ANSWER}))),
    sent_back("a tool that there is not, as text", GH + "NousResearch/hermes-agent/issues/107125", "openai:m",
              chat('{"name": "terminal", "arguments": {"command": "ls"}}'), "invalid", "unknown key"),
    sent_back("a tool that there is not", "https://platform.openai.com/docs/guides/function-calling", "openai:gpt-5",
              chat(None, finish="tool_calls", tool_calls=[
                  {"id": "1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}]),
              "tool_call", "a tool, 'shell', and there is none of this name"),
    sent_back("a call with half of its arguments", GH + "ggml-org/llama.cpp/issues/22072", "openai:m",
              chat(None, finish="tool_calls", tool_calls=[
                  {"id": "1", "type": "function", "function": {"name": "decide_repeat", "arguments": J[:-9]}}]),
              "not_json", "not JSON"),
]  # fmt: skip

ENDINGS = [
    sent_back("OpenAI: cut at the longest reply", "https://platform.openai.com/docs/api-reference/chat/object",
              "openai:gpt-5", chat(J[:20], finish="length", usage=FULL), "truncated", "cut off at the longest allowed",
              tokens=16_120),
    sent_back("OpenAI: a refusal", "https://platform.openai.com/docs/guides/structured-outputs", "openai:gpt-5",
              chat(None, refusal="I can't help with that."), "refused", "I can't help with that."),
    sent_back("Azure: the reply was filtered", GH + "theopenco/llmgateway/pull/2974", "openai:gpt-4o",
              chat("", finish="content_filter"), "refused", "without a word"),
    sent_back("Azure: the prompt was filtered", GH + "compl-ai/compl-ai/issues/20", "openai:gpt-4o",
              error(400, {"error": {"message": FILTERED, "type": None, "param": "prompt", "code": "content_filter",
                                    "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
              "refused", "content management policy", tokens=0),
    sent_back("Claude: a refusal without content", GH + "brightwave-inc/tidebreak/issues/555",
              "anthropic:claude-opus-4", claude(stop="refusal"), "refused", "without a word"),
    sent_back("Claude: cut at the longest reply", "https://platform.claude.com/docs/en/api/handling-stop-reasons.md",
              "anthropic:claude-haiku-4-5",
              claude({"type": "text", "text": J[:20]}, stop="max_tokens", output_tokens=16_000), "truncated", "cut off",
              tokens=16_120),
    taken("no reason for the end", GH + "openai/openai-openapi/pull/20", "openai:gpt-3.5-turbo",
          chat(J, finish=None)),
    taken("another word for the end", GH + "genkit-ai/genkit/pull/6259", "openai:grok", chat(J, finish="end_turn")),
    sent_back("z.AI: cut by its context", GH + "genkit-ai/genkit/pull/6259", "openai:glm",
              chat(J, finish="model_context_window_exceeded"), "truncated", "cut off at the longest allowed"),
    failed("DeepSeek: broken off for want of machines", GH + "genkit-ai/genkit/pull/6259", "deepseek:deepseek-chat",
           chat(J[:20], finish="insufficient_system_resource"), "overloaded", "broke off", tokens=RESERVED),
    failed("OpenRouter: an upstream died", GH + "gethouston/houston/pull/1211", "openrouter:m",
           chat(J[:20], finish="error"), "overloaded", "broke off", tokens=RESERVED),
    sent_back("DeepSeek: nothing but spaces in JSON mode", "https://api-docs.deepseek.com/guides/json_mode.md",
              "deepseek:deepseek-chat", chat(" " * 400), "empty", "the reply is empty"),
    failed("Gemini by LiteLLM: no choice left", GH + "BerriAI/litellm/issues/36881", "openai:gemini",
           {"body": json.dumps({"id": "c", "object": "chat.completion", "choices": [], "usage": USED})}, "bad_body",
           "it has no choices", tokens=RESERVED),
    failed("vLLM: choices null", GH + "langchain-ai/langchain/pull/35236", "vllm:m",
           {"body": json.dumps({"id": "c", "object": "chat.completion", "choices": None})}, "bad_body", "no choices",
           tokens=RESERVED),
]  # fmt: skip

USAGE = [
    taken("no usage", GH + "vercel/ai/pull/20102", "openai:exa", chat(J, usage=None), RESERVED),
    taken("usage in fractions", GH + "philschmid/easyllm/issues/40", "openai:claude-v2",
          chat(J, usage={"prompt_tokens": 9.5, "completion_tokens": 2.25, "total_tokens": 11.75}), 13),
    taken("null for the parts of a count", GH + "typedef-ai/fenic/pull/380", "openrouter:m",
          chat(J, usage=USED | {"prompt_tokens_details": {"cached_tokens": None}})),
    taken("null for the counts", GH + "openai/openai-agents-python/pull/1181", "openai:m",
          chat(J, usage={"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}), RESERVED),
    taken("tokens below nothing", GH + "anomalyco/opencode/issues/26073", "openai:kimi-k2.6",
          chat(J, usage={"prompt_tokens": 120, "completion_tokens": -46, "total_tokens": 74}), RESERVED),
    taken("more from the cache than was sent", GH + "earendil-works/pi/issues/2048", "openrouter:grok-4",
          chat(J, usage=USED | {"prompt_tokens_details": {"cached_tokens": 6452}}), RESERVED),
    taken("Gemini: reasoning counted in the sum alone", GH + "project-arbr/arbr-control-plane/pull/253",
          "gemini:gemini-2.5-flash", chat(J, usage={"prompt_tokens": 6, "completion_tokens": 0, "total_tokens": 22}),
          22),
    taken("Kimi K3 on Baseten: reasoning beyond the completion", GH + "vercel/ai/pull/18614", "openai:kimi",
          chat(J, usage={"prompt_tokens": 951, "completion_tokens": 6000, "total_tokens": 6952,
                         "completion_tokens_details": {"reasoning_tokens": 6001}}), 6952),
    taken("DeepSeek's count of its cache", "https://api-docs.deepseek.com/guides/kv_cache", "deepseek:deepseek-chat",
          chat(J, usage=USED | {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 56})),
    taken("Claude's cache, counted beside the input", "https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching",
          "anthropic:claude-haiku-4-5", claude({"type": "text", "text": J}, cache_read_input_tokens=1000,
                                               cache_creation_input_tokens=200), 1350),
]  # fmt: skip

ON_THE_WAY = [
    taken("OpenRouter: comments before the body", GH + "router-for-me/CLIProxyAPI/issues/417", "openrouter:m",
          chat(J, before=": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n")),
    taken("DeepSeek: empty lines before the body", "https://api-docs.deepseek.com/quick_start/rate_limit",
          "deepseek:deepseek-chat", chat(J, before="\n" * 40)),
    failed("DeepSeek: 200, and nothing", GH + "deepseek-ai/DeepSeek-R1/issues/314", "deepseek:deepseek-reasoner",
           error(200, ""), "bad_body", "not a reply of this service", tokens=RESERVED),
    failed("a page with 200: the address lacks /v1", GH + "ChatGPTNextWeb/NextChat/issues/4761", "openai:m",
           error(200, "<!DOCTYPE html><html><head><title>One API</title></head></html>",
                 **{"Content-Type": "text/html"}), "bad_body", "an HTML page: One API", tokens=RESERVED),
    failed("Cloudflare's page of a bad gateway", GH + "n3d1117/chatgpt-telegram-bot/issues/637", "openai:gpt-5",
           error(502, CLOUDFLARE, **{"Content-Type": "text/html"}), "server_error",
           "HTTP 502: an HTML page: 502 Bad Gateway"),
    failed("Cloudflare's page of an unknown error", GH + "n8n-io/n8n/issues/18275", "openai:gpt-5",
           error(520, "<!DOCTYPE html>\n<html><head><title>api.openai.com | 520: Web server is returning an unknown"
                 " error</title></head></html>"), "server_error", "520: Web server is returning an unknown error"),
    failed("Cloudflare's bad gateway as JSON", GH + "stanfordnlp/dspy/pull/203", "openai:gpt-5",
           error(502, {"error": {"code": 502, "message": "Bad gateway.", "param": None, "type": "cf_bad_gateway"}}),
           "server_error", "HTTP 502: Bad gateway."),
    failed("a stream that nobody asked for", GH + "openai/openai-go/issues/227", "openrouter:m",
           error(200, ': OPENROUTER PROCESSING\n\ndata: {"choices": []}\n\ndata: [DONE]\n'), "bad_body",
           "a stream of events came", tokens=RESERVED),
]  # fmt: skip

REFUSALS = [
    left_out("o-series and GPT-5: max_tokens", GH + "griptape-ai/ComfyUI-Griptape/issues/312", "openai:gpt-5",
             error(400, MAX_TOKENS), "max_tokens is left out", has=("max_completion_tokens",), lacks=("max_tokens",)),
    left_out("Copilot: max_tokens, in fewer words", GH + "caozhiyuan/copilot-api/issues/164", "openai:gpt-5",
             error(400, {"error": {"message": MAX_TOKENS["error"]["message"], "code": "invalid_request_body"}}),
             "max_tokens is left out", has=("max_completion_tokens",), lacks=("max_tokens",)),
    left_out("GPT-5: temperature", GH + "diffbot/code-gpt-docs/issues/445", "openai:gpt-5", error(400, TEMPERATURE),
             "temperature is left out", settings={"temperature": 0.5, "top_p": 1}, has=("top_p",),
             lacks=("temperature",)),
    left_out("Claude behind LiteLLM and Bedrock: temperature", GH + "RooCodeInc/Roo-Code/issues/12162", "openai:opus",
             error(400, {"error": {"message": "litellm.BadRequestError: BedrockException - {\"message\":\"The model"
                                   " returned the following errors: `temperature` is deprecated for this model.\"}",
                                   "type": None, "param": None, "code": "400"}}),
             "temperature is left out", settings={"temperature": 0.5}, lacks=("temperature",)),
    WireForm("Claude: temperature", GH + "The-PR-Agent/pr-agent/issues/2456", "anthropic:claude-opus-4-8",
             (error(400, {"type": "error", "error": {"type": "invalid_request_error",
                                                     "message": "`temperature` is deprecated for this model."}}),
              claude({"type": "text", "text": J})), ("unsupported", "ok"), True, 150, "temperature is left out",
             settings={"temperature": 0.5}, lacks=("temperature",)),
    left_out("Mistral: frequency_penalty, JSON in a text", GH + "mistralai/platform-docs-public/issues/7", "mistral:m",
             error(422, {"object": "error", "message": json.dumps({"detail": [
                 EXTRA | {"loc": ["body", "frequency_penalty"]}]}), "type": "internal_error_proxy", "code": "1000"}),
             "frequency_penalty is left out", settings={"frequency_penalty": 0.1}, lacks=("frequency_penalty",)),
    left_out("Mistral: max_completion_tokens, by its field", GH + "editor-code-assistant/eca/issues/231", "groq:m",
             error(422, {"object": "error", "message": {"detail": [EXTRA | {"loc": ["body", "max_completion_tokens"]}]},
                         "type": "invalid_request_error", "param": None, "code": None}),
             "max_completion_tokens is left out", has=("max_tokens",), lacks=("max_completion_tokens",)),
    left_out("vLLM: max_completion_tokens, as Python writes it", GH + "voideditor/void/issues/128", "groq:m",
             error(400, {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body',"
                         " 'max_completion_tokens'), 'msg': 'Extra inputs are not permitted', 'input': 8192}]",
                         "type": "BadRequestError", "param": None, "code": 400}),
             "max_completion_tokens is left out", has=("max_tokens",), lacks=("max_completion_tokens",)),
    WireForm("Mistral: two at once, one after the other", GH + "Gitlawb/openclaude/issues/739", "groq:m",
             (error(422, {"detail": [EXTRA | {"loc": ["body", "store"]},
                                     EXTRA | {"loc": ["body", "max_completion_tokens"]}]}),
              error(422, {"detail": [EXTRA | {"loc": ["body", "max_completion_tokens"]}]}), chat(J)),
             ("unsupported", "unsupported", "ok"), True, 150, "store is left out", settings={"store": False},
             has=("max_tokens",), lacks=("store", "max_completion_tokens")),
    left_out("DeepSeek behind a router: json_schema", GH + "BerriAI/litellm/pull/31466", "openrouter:deepseek",
             error(400, {"error": {"message": "This response_format type is unavailable now",
                                   "type": "invalid_request_error", "param": None, "code": "invalid_request_error"}}),
             "json_schema is left out", has=("response_format",)),
    left_out("DeepSeek: json_schema, as its parser says it", GH + "browser-use/browser-use/pull/215", "vllm:deepseek",
             error(422, "Failed to deserialize the JSON body into the target type: response_format:"
                   " response_format.type `json_schema` is unavailable now at line 1 column 12440"),
             "json_schema is left out", has=("response_format",)),
    left_out("DeepSeek: no word of json in the prompt", GH + "browserbase/stagehand/issues/1204", "deepseek:chat",
             error(400, {"error": {"message": "Prompt must contain the word 'json' in some form to use"
                                   " 'response_format' of type 'json_object'.", "type": "invalid_request_error"}}),
             "json_object is left out", lacks=("response_format",)),
    left_out("LM Studio: json_object", GH + "lmstudio-ai/lmstudio-bug-tracker/issues/189", "together:m",
             error(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}),
             "json_object is left out", lacks=("response_format",)),
    left_out("OpenRouter: what its upstream said of the schema", GH + "dottxt-ai/outlines/issues/1666",
             "openrouter:openai/gpt-4o", error(400, {"error": {
                 "message": "Provider returned error", "code": 400, "metadata": {"provider_name": "OpenAI", "raw":
                 json.dumps({"error": {"message": BAD_SCHEMA, "param": "response_format", "code": None}})}}}),
             "json_schema is left out", has=("response_format",)),
    left_out("LiteLLM: the schema, with a status as a text", GH + "google/adk-python/pull/4039", "openrouter:m",
             error(400, {"error": {"message": f"litellm.BadRequestError: AzureException - {BAD_SCHEMA}", "type": None,
                                   "param": None, "code": "400"}}), "json_schema is left out",
             has=("response_format",)),
    left_out("Groq: a model without schemas", GH + "ItzCrazyKns/Vane/issues/980", "groq:llama",
             error(400, {"error": {"message": "This model does not support response format `json_schema`. See"
                                   " supported models at https://console.groq.com/docs/structured-outputs",
                                   "type": "invalid_request_error"}}), "json_schema is left out",
             has=("response_format",)),
    left_out("llama.cpp: no grammar of the schema", GH + "flagdizero/jenny-android-ai-agent/issues/2", "lmstudio:m",
             error(400, {"code": 400, "message": "Failed to initialize samplers: failed to parse grammar",
                         "type": "invalid_request_error"}), "json_schema is left out", lacks=("response_format",)),
    taken("Groq: its JSON mode refused a fence", GH + "build-with-groq/g1/pull/23", "groq:llama",
          error(400, {"error": {"message": "Failed to generate JSON. Please adjust your prompt.",
                                "type": "invalid_request_error", "code": "json_validate_failed",
                                "failed_generation": f"```json\n{J}\n```"}}), RESERVED),
    sent_back("Groq: its JSON mode refused nothing", GH + "thepersonalaicompany/amurex-backend/issues/38", "groq:llama",
              error(400, {"error": {"message": "Failed to generate JSON. Please adjust your prompt.",
                                    "code": "json_validate_failed", "failed_generation": ""}}), "empty",
              "the reply is empty", tokens=RESERVED),
    failed("Ollama: a level of thinking that it does not name as ours", GH + "ollama/ollama/issues/12561", "ollama:m",
           error(400, {"error": {"message": 'think value "medium" is not supported for this model',
                                 "type": "api_error", "param": None, "code": None}}), "rejected", "think value",
           settings={"reasoning_effort": "medium"}),
]  # fmt: skip

ERRORS = [
    WireForm("OpenAI: tokens a minute", GH + "FoundationAgents/MetaGPT/issues/523", "openai:gpt-4",
             (error(429, {"error": {"message": "Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10000, Used"
                                    " 8554, Requested 3082. Please try again in 9.816s.", "type": "tokens",
                                    "code": "rate_limit_exceeded"}}), chat(J)), ("rate_limited", "ok"), True, 150,
             "Rate limit reached"),
    WireForm("OpenRouter: an upstream's limit, with 200", GH + "open-webui/computer/issues/293", "openrouter:glm",
             (error(200, {"error": {"message": "Provider returned error", "code": 429, "metadata": {
                 "raw": "z-ai/glm-5.3-flash is temporarily rate-limited upstream."}}}), chat(J)),
             ("rate_limited", "ok"), True, 150, "temporarily rate-limited upstream"),
    failed("OpenRouter: an error in the place of the choice",
           "https://openrouter.ai/docs/errors", "openrouter:m",
           {"body": json.dumps({"id": "g", "choices": [{"index": 0, "finish_reason": "error", "error": {
               "code": 502, "message": "Upstream idle timeout exceeded"}, "message": {"content": ""}}]})},
           "server_error", "HTTP 502: Upstream idle timeout exceeded"),
    failed("OpenRouter: no credit", GH + "continuedev/continue/issues/10298", "openrouter:gpt-5",
           error(402, {"error": {"message": "This request requires more credits, or fewer max_tokens. You requested up"
                                 " to 4096 tokens, but can only afford 4000.", "code": 402}}), "quota",
           "requires more credits"),
    failed("Anthropic: overloaded", GH + "anthropics/claude-code/issues/70365", "anthropic:claude-sonnet-4-5",
           error(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), "overloaded",
           "HTTP 529: Overloaded"),
    failed("Gemini: the key is wrong, as 400", GH + "continuedev/continue/issues/10530", "gemini:gemini-3-pro",
           error(400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
                                  "status": "INVALID_ARGUMENT"}}]), "unauthorized", "API key not valid"),
    failed("Ollama: the model is not there", GH + "netease-youdao/QAnything/issues/555", "ollama:ollama",
           error(404, {"error": {"message": 'model "ollama" not found, try pulling it first', "type": "api_error",
                                 "param": None, "code": None}}), "not_found", "try pulling it first"),
    failed("Ollama: the same, as a text", GH + "stackblitz-labs/bolt.diy/issues/434", "ollama:m",
           error(404, {"error": 'model "m" not found, try pulling it first'}), "not_found", "try pulling it first"),
    failed("Ollama: its runner died", GH + "ollama/ollama/issues/14093", "ollama:llama3.3:70b",
           error(500, {"error": {"message": "model runner has unexpectedly stopped, this may be due to resource"
                                 " limitations or an internal error", "type": "api_error"}}), "server_error",
           "model runner has unexpectedly stopped"),
    failed("vLLM: the prompt is too long", GH + "vllm-project/vllm/issues/20409", "vllm:m",
           error(400, {"object": "error", "message": "This model's maximum context length is 16384 tokens. However, you"
                       " requested 122946 tokens.", "type": "BadRequestError", "param": None, "code": 400}), "too_long",
           "maximum context length is 16384"),
    failed("vLLM: the same in other words", GH + "vllm-project/vllm/issues/4667", "vllm:m",
           error(400, {"object": "error", "message": "max_tokens must be at least 1, got -186.",
                       "type": "BadRequestError", "param": None, "code": 400}), "too_long", "got -186"),
    failed("llama.cpp: too long, with 200", GH + "oobabooga/textgen/issues/7257", "openai:m",
           error(200, {"error": {"code": 400, "message": "the request exceeds the available context size. try"
                                 " increasing the context size or enable context shift",
                                 "type": "exceed_context_size_error", "n_prompt_tokens": 14429, "n_ctx": 8192}}),
           "too_long", "exceeds the available context size"),
    failed("llama.cpp: too long, as 500", GH + "ggml-org/llama.cpp/pull/15780", "openai:m",
           error(500, {"error": {"code": 500, "message": "the request exceeds the available context size.",
                                 "type": "exceed_context_size_error"}}), "too_long", "available context size"),
    failed("Groq: more than a minute's tokens", GH + "elizaOS/eliza/issues/4040", "groq:llama",
           error(413, {"error": {"message": "Request too large for model `llama-3.1-8b-instant` on tokens per minute"
                                 " (TPM): Limit 6000, Requested 6294", "type": "tokens",
                                 "code": "rate_limit_exceeded"}}), "too_long", "Request too large"),
]  # fmt: skip

WIRE_FORMS = [*REASONING, *PROSE, *TOOLS, *ENDINGS, *USAGE, *ON_THE_WAY, *REFUSALS, *ERRORS]
