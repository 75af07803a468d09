"""Labs whose researcher is a language model, and what the stand-in answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab_kit import LabKit, make_lab

from autolab.standin import StandIn


def thinking_lab(folder: Path, *, config: dict[str, Any] | None = None, **more: Any) -> LabKit:
    """A tiny lab whose configured researcher answers nothing: a model has to be named."""
    return make_lab(folder, {"iterations": []}, config=config, **more)


def asks(server: StandIn, *more: str) -> tuple[str, ...]:
    """The flags that make `server` the researcher."""
    return ("--researcher", "llm", "--model", "openai:scripted", "--base-url", server.url, *more)


def reply(stage: str, output: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A scripted reply to the next ask of a stage."""
    given = {} if output is None else {"output": output}
    return {"when": f"(?m)^stage: {stage}$", **given, **more}


def replies(scripted: dict[str, Any]) -> list[dict[str, Any]]:
    """What lab_kit's `iteration` holds for the scripted researcher, as replies of a model."""
    return [reply(stage, one["output"]) for stage, answers in scripted.items() for one in answers]
