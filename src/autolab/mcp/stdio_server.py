"""The server that a coding agent starts: the tools over standard input and output, by the official SDK."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, InputRequiredResult
from pydantic import ValidationError

from autolab import __version__
from autolab.errors import AutolabError, ExitCode
from autolab.lab.redaction import clean
from autolab.mcp.agent_tools import AgentTools
from autolab.mcp.queue_worker import QueueWorker

INSTRUCTIONS = """\
Autolab decides whether a change of a training is a real gain. Do not judge single runs: call `compare`, then `wait`
about once a minute until `decided` is true or the state is over. Only its answer says that a change is better."""


class StdioServer(MCPServer[Any]):
    """The SDK's server, whose refusals are one line. An argument that a tool does not know is refused."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_one_line(name, error.__cause__)) from None
            if isinstance(error.__cause__, AutolabError):
                raise ToolError(clean(str(error.__cause__))) from None
            raise


def server_of(tools: AgentTools) -> StdioServer:
    functions = (tools.compare, tools.wait, tools.status, tools.results, tools.cancel, tools.lessons, tools.propose)
    return StdioServer(
        "autolab",
        instructions=INSTRUCTIONS,
        version=__version__,
        tools=[_strict(Tool.from_function(function)) for function in functions],
        log_level="ERROR",
    )


def serve(tools: AgentTools, worker: QueueWorker) -> None:
    """Answer calls until standard input closes; then pause what runs at a safe point."""
    server = server_of(tools)
    worker.start()
    _leave_on_signals(worker)
    try:
        server.run("stdio")
    except* OSError:
        # The agent is gone with an answer on the way.
        pass
    finally:
        worker.stop()


def _leave_on_signals(worker: QueueWorker) -> None:
    """Ctrl-C and SIGTERM pause at a safe point, as in every command; a second one ends the server at once."""
    asked = threading.Event()

    def leave() -> None:
        worker.stop()
        # Not by an exception: a thread of the SDK waits for a line of input, and Python would wait for that thread.
        os._exit(ExitCode.DONE)

    def handle(number: int, _: object) -> None:
        if asked.is_set():
            os._exit(ExitCode.ERROR)
        asked.set()
        threading.Thread(target=leave, name="leave", daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def _strict(tool: Tool) -> Tool:
    """The tool with a form that has no other arguments: by itself the SDK leaves unknown ones out silently."""
    model = tool.fn_metadata.arg_model
    model.model_config["extra"] = "forbid"
    model.model_rebuild(force=True)
    tool.parameters = model.model_json_schema(by_alias=True)
    return tool


def _one_line(name: str, error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{name}: there is no argument {field!r}; scores are measured here and never taken from a caller"
    return f"{name}: {field}: {problem['msg']}"
