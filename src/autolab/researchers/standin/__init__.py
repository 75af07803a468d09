"""A server on loopback that stands in for a language model's service, and answers what a script says.

It speaks OpenAI's Chat Completions and Anthropic's Messages, so that a loop can be rehearsed without a key and without
paying, and every fault of a service and of the way to it shown at will. Standard library and records only.
"""

from __future__ import annotations

from autolab.researchers.standin.forms import ReceivedRequest
from autolab.researchers.standin.script import Call, Fault, Script, ScriptedReply, Usage
from autolab.researchers.standin.server import NO_REPLY, StandIn, serve

__all__ = ["NO_REPLY", "Call", "Fault", "ReceivedRequest", "Script", "ScriptedReply", "StandIn", "Usage", "serve"]
