"""Behaves as Ollama does with a model that thinks: a short context, into which a long prompt is cut without a word.

What is cut is the beginning, in which the task is said, and the service reports the tokens that were left. The replies
look as those of qwen3: thoughts, prose, a fence. See `autolab.researchers.llm.context_window` for the sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from standin.forms import RUNNING, ReceivedRequest
from standin.script import Script, ScriptedReply

LOST = "I'm not sure what you would like me to do with this. Could you tell me more about your goal?"
THOUGHTS = "Okay, let me look at this. The user wants one object. I should say why, and keep to the form {}.\n"
CHARACTERS = 4
"""A token of this model."""


class Ollama:
    """The `answer` of a `StandIn`. `script`: replies as in a script, each with an output."""

    def __init__(self, script: Sequence[Mapping[str, Any]], context: int) -> None:
        self._replies = list(Script.from_value({"replies": [dict(reply) for reply in script]}, "script").replies)
        self.context = context

    def __call__(self, request: ReceivedRequest) -> ScriptedReply | None:
        if request.path == RUNNING:
            loaded = {"name": "qwen3:8b", "model": "qwen3:8b", "context_length": self.context}
            return ScriptedReply.from_value({"body": json.dumps({"models": [loaded]})}, "reply")
        seen = request.text[-self.context * CHARACTERS :]
        text = self._text(seen)
        read = -(-len(seen) // CHARACTERS)
        room = self.context - read
        limit = request.body.get("max_tokens") or request.body.get("max_completion_tokens") or room
        written = -(-len(text) // CHARACTERS)
        # A prompt that fills the context loses its middle once more while the model writes.
        most = min(limit, room) if room > 0 else limit
        finish = "length" if written > most else "stop"
        written = min(written, most)
        reply = {"text": text[: written * CHARACTERS] or " ", "finish": finish}
        return ScriptedReply.from_value(reply | {"usage": {"input": read, "output": written}}, "reply")

    def _text(self, seen: str) -> str:
        for number, reply in enumerate(self._replies):
            if reply.when is None or re.search(reply.when, seen):
                del self._replies[number]
                answer = json.dumps(reply.output, ensure_ascii=False, indent=2)
                return f"<think>\n{THOUGHTS}</think>\n\nHere it is:\n\n```json\n{answer}\n```\n\nTell me if it helps!"
        return f"<think>\n{THOUGHTS}</think>\n\n{LOST}"
