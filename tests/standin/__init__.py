"""A server on loopback that stands in for a language model's service, and answers what a script says.

It speaks OpenAI's Chat Completions and Anthropic's Messages, so that a loop runs without a key and without
paying, and a test can show every fault of a service and of the way to it.
"""

from __future__ import annotations

from standin.forms import ReceivedRequest
from standin.ollama import Ollama
from standin.script import Call, Fault, Script, ScriptedReply, Usage
from standin.server import NO_REPLY, StandIn

__all__ = ["NO_REPLY", "Call", "Fault", "Ollama", "ReceivedRequest", "Script", "ScriptedReply", "StandIn", "Usage"]
