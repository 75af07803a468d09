"""What a coding agent says that its work took. It is the agent's word: nothing else counts it."""

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
    """Tokens, those read from a cache among the input; `dollars` is None where the agent knew no price."""

    input_tokens: int
    output_tokens: int
    dollars: float | None


COUNTS: dict[str, frozenset[str]] = {
    "claude_json": frozenset({"tokens", "dollars"}),
    "codex_json": frozenset({"tokens"}),
    "mini": frozenset({"tokens", "dollars"}),
}
"""What each way of reading gives."""


def read(way: str, printed: bytes, folder: Path) -> AgentUsage | None:
    """The usage in the tail of what an agent printed, or in its own folder; None where it cannot be read."""
    try:
        return _WAYS[way](printed, folder)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # the agent wrote something else


def regular(path: Path, limit: int) -> bytes | str:
    """The bytes of a file that a program left, or in a word why they are not read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "not a regular file" if os.path.lexists(path) else "missing"
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return "not a regular file"
    with open(descriptor, "rb") as file:
        raw = file.read(limit + 1)
    return raw if len(raw) <= limit else f"larger than {limit} bytes"


def _claude(printed: bytes, _: Path) -> AgentUsage:
    """The one object that `claude -p --output-format json` prints at its end."""
    output = json.loads(printed.decode().strip().rpartition("\n")[2])
    used = output["usage"]
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    read_in = _count(used["input_tokens"]) + sum(_count(used.get(name) or 0) for name in cached)
    return AgentUsage(read_in, _count(used["output_tokens"]), _dollars(output["total_cost_usd"]))


def _codex(printed: bytes, _: Path) -> AgentUsage:
    """The sum over the `turn.completed` events of `codex exec --json`; cached input is part of the input."""
    lines = [decode_json(line) for line in printed.split(b"\n") if b'"turn.completed"' in line]
    used = [event["usage"] for event in map(json.loads, lines) if event["type"] == "turn.completed"]
    if not used:
        raise ValueError("no turn was completed")
    read_in, written = (sum(_count(turn[name]) for turn in used) for name in ("input_tokens", "output_tokens"))
    return AgentUsage(read_in, written, None)


def _mini(_: bytes, folder: Path) -> AgentUsage:
    """mini's trajectory. It says 0 dollars for a model whose price it does not know."""
    raw = regular(folder / "trajectory.json", MAX_TRAJECTORY_BYTES)
    if isinstance(raw, str):
        raise ValueError(raw)
    output = json.loads(raw)
    extras = [message.get("extra") or {} for message in output["messages"]]
    used = [extra["response"]["usage"] for extra in extras if extra.get("response")]
    read_in, written = (sum(_count(call[name]) for call in used) for name in ("prompt_tokens", "completion_tokens"))
    return AgentUsage(read_in, written, _dollars(output["info"]["model_stats"]["instance_cost"]) or None)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r} is no count")
    return value


def _dollars(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise ValueError(f"{value!r} is no sum of money")
    return float(value)


_WAYS: dict[str, Callable[[bytes, Path], AgentUsage]] = {"claude_json": _claude, "codex_json": _codex, "mini": _mini}
