"""The tokens and dollars that a coding agent reports for its work. Nothing else counts them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.text import decode_json

MAX_TRAJECTORY_BYTES = 64 << 20
MOST = 10**12
"""Tokens or dollars of one run; more is no count."""


@dataclass(frozen=True)
class AgentUsage:
    """Tokens read from a cache count as input; `dollars` is None if the agent knew no price."""

    input_tokens: int
    output_tokens: int
    dollars: float | None


COUNTS: dict[str, frozenset[str]] = {
    "claude_json": frozenset({"tokens", "dollars"}),
    "codex_json": frozenset({"tokens"}),
    "mini": frozenset({"tokens", "dollars"}),
}
"""What each form of report counts."""


def read(form: str, output: bytes, folder: Path) -> AgentUsage | None:
    """The usage in the tail of an agent's output, or in its own folder; None if it cannot be read."""
    try:
        return _READERS[form](output, folder)
    # The agent wrote something else: a new version, an error, or text of a program that it ran.
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def regular(path: Path, limit: int) -> bytes | str:
    """The bytes of a file that a program left, or why they are not read, in a few words."""
    try:
        # Links, pipes and devices are the program's to make: never follow one, never wait on one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "not a regular file" if os.path.lexists(path) else "missing"
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return "not a regular file"
    with open(descriptor, "rb") as file:
        raw = file.read(limit + 1)
    return raw if len(raw) <= limit else f"larger than {limit} bytes"


def _claude(output: bytes, _: Path) -> AgentUsage:
    """The one object that `claude -p --output-format json` prints at its end."""
    report = json.loads(output.decode().strip().rpartition("\n")[2])
    usage = report["usage"]
    input_tokens = _count(usage["input_tokens"])
    for name in ("cache_creation_input_tokens", "cache_read_input_tokens"):
        input_tokens += _count(usage.get(name) or 0)
    return AgentUsage(input_tokens, _count(usage["output_tokens"]), _dollars(report["total_cost_usd"]))


def _codex(output: bytes, _: Path) -> AgentUsage:
    """The sum over the `turn.completed` events of `codex exec --json`; cached input is part of the input."""
    turns = []
    for line in output.split(b"\n"):
        # Searched first: the tail may begin within a line, and most lines are long texts.
        if b'"turn.completed"' in line:
            event = json.loads(decode_json(line))
            if event["type"] == "turn.completed":
                turns.append(event["usage"])
    if not turns:
        raise ValueError("no turn was completed")
    return AgentUsage(_sum(turns, "input_tokens"), _sum(turns, "output_tokens"), None)


def _mini(_: bytes, folder: Path) -> AgentUsage:
    """mini's trajectory. It says 0 dollars for a model whose price it does not know."""
    content = regular(folder / "trajectory.json", MAX_TRAJECTORY_BYTES)
    if isinstance(content, str):
        raise ValueError(content)
    trajectory = json.loads(content)
    calls = []
    for message in trajectory["messages"]:
        extra = message.get("extra") or {}
        if extra.get("response"):
            calls.append(extra["response"]["usage"])
    dollars = _dollars(trajectory["info"]["model_stats"]["instance_cost"]) or None
    return AgentUsage(_sum(calls, "prompt_tokens"), _sum(calls, "completion_tokens"), dollars)


def _sum(usages: list[dict[str, Any]], name: str) -> int:
    return sum(_count(usage[name]) for usage in usages)


def _count(value: Any) -> int:
    # True is an int for Python. A negative count would give budget back.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r} is no count")
    return value


def _dollars(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r} is no sum of money")
    return float(value)


_READERS: dict[str, Callable[[bytes, Path], AgentUsage]] = {"claude_json": _claude, "codex_json": _codex, "mini": _mini}
