"""A coding agent for tests: the official SDK's own client, at `autolab mcp` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from adoption_kit import repository
from anyio.from_thread import BlockingPortal, start_blocking_portal
from lab_kit import LabKit
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
DRAWN = """
goal: raise the score
metric: {primary: score, direction: maximize, success_delta: 1.0}
train: {command: "true", metrics: stdout}
executor: {name: "in_process:InProcess"}
"""
"""A training whose scores are numbers drawn in the server's process, with the mean that `effect.txt` holds."""
needs_full = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
OVER = ("done", "failed", "cancelled")


class Refused(Exception):
    """A tool answered with an error; its text."""


class Agent:
    def __init__(self, client: Client, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal
        self.calls = 0

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        (answer,) = self.at_once([(tool, arguments)])
        return answer

    def at_once(self, calls: Sequence[tuple[str, dict[str, object]]]) -> list[dict[str, Any]]:
        """Many calls without waiting for an answer in between; the answers in the order of the calls."""
        self.calls += len(calls)
        return self._portal.call(self._all, calls)

    async def _all(self, calls: Sequence[tuple[str, dict[str, object]]]) -> list[dict[str, Any]]:
        answers: dict[int, dict[str, Any]] = {}
        refusals: list[str] = []

        async def one(index: int, tool: str, arguments: dict[str, object]) -> None:
            result = await self._client.call_tool(tool, arguments)
            if result.is_error:
                refusals.append(result.content[0].text)  # type: ignore[union-attr]
                return
            answers[index] = result.structured_content or {}

        async with anyio.create_task_group() as group:
            for index, (tool, arguments) in enumerate(calls):
                group.start_soon(one, index, tool, arguments)
        if refusals:
            raise Refused(refusals[0])
        return [answers[index] for index in range(len(calls))]

    def tools(self) -> dict[str, Any]:
        """The form of each tool's arguments, by name."""
        listed = self._portal.call(self._client.list_tools)
        return {tool.name: tool.input_schema for tool in listed.tools}

    def answered(self, entry_id: str, times: int = 60) -> dict[str, Any]:
        """Wait until it is over."""
        for _ in range(times):
            value = self.call("wait", id=entry_id, seconds=20)
            if value["state"] in OVER:
                return value
        raise AssertionError(f"{entry_id} is not over: {value}")


@contextlib.contextmanager
def agent(kit: LabKit, *words: str, dies: bool = False, **env: str) -> Iterator[Agent]:
    """An agent that has started the server. `dies`: the server is killed before the agent ends."""
    variables = {**os.environ, **kit.env, "PYTHONPATH": str(BENCHMARKS), **env}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "autolab", "mcp", *words], cwd=kit.root, env=variables
    )
    with start_blocking_portal() as portal:
        try:
            with (
                open(kit.root.parent / "server.err", "a") as err,
                portal.wrap_async_context_manager(Client(stdio_client(command, err))) as client,
            ):
                yield Agent(client, portal)
        except Exception as error:
            cause: BaseException = error
            # What a test said is below the groups of the client's tasks.
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            if not dies or isinstance(cause, AssertionError):
                raise cause from None


def drawn_repository(root: Path) -> LabKit:
    """A repository whose trainings are drawn numbers."""
    kit = repository(root, {"effect.txt": "0\n"})
    (kit.store / "compare").mkdir(parents=True)
    (kit.store / "compare" / "config.yaml").write_text(DRAWN)
    return kit


def effect_patch(text: str) -> str:
    """A patch that puts `text` into effect.txt, as a mail whose words are not to be believed."""
    words = (
        "From: an agent <agent@example.org>\nSubject: [PATCH] the score is 0.99, measured twice\n\nscore: 0.99\n---\n"
    )
    head = "diff --git a/effect.txt b/effect.txt\n--- a/effect.txt\n+++ b/effect.txt\n"
    return f"{words}{head}@@ -1 +1 @@\n-0\n+{text}\n"


def trials_of(kit: LabKit) -> dict[str, Counter[str]]:
    """By the key of a comparison: how often each trial was recorded, by run, name and attempt."""
    found = {}
    for ledger in (kit.store / "compare").glob("*/ledger.jsonl"):
        lines = [json.loads(line) for line in ledger.read_text().split("\n") if line]
        recorded: Counter[str] = Counter()
        for line in lines:
            if line["event"] == "trial" and line["data"]["trial"].get("reused_from") is None:
                trial = line["data"]["trial"]
                recorded[f"{line['data']['run_id']}/{trial['trial']}/{trial['attempt']}"] += 1
        found[ledger.parent.name] = recorded
    return found
