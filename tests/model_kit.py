"""Asks and answers for tests: labs whose researcher is a language model, what the stand-in answers it, single tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab_kit import LabKit, make_lab
from standin import StandIn

from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import AgentResult
from autolab.researchers.base import Calls, LabSnapshot, Task, TaskFolders


def model_lab(folder: Path, *, config: dict[str, Any] | None = None, **more: Any) -> LabKit:
    """A tiny lab whose configured researcher answers nothing: a model has to be named."""
    return make_lab(folder, {"iterations": []}, config=config, **more)


def model_flags(server: StandIn, *more: str) -> tuple[str, ...]:
    """The flags that make `server` the researcher."""
    return ("--researcher", "llm", "--model", "openai:scripted", "--base-url", server.url, *more)


def reply(stage: str, output: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A scripted reply to the next ask of a stage."""
    given = {} if output is None else {"output": output}
    return {"when": f"(?m)^stage: {stage}$", **given, **more}


def replies(scripted: dict[str, Any]) -> list[dict[str, Any]]:
    """What lab_kit's `iteration` holds for the scripted researcher, as replies of a model."""
    return [reply(stage, one["output"]) for stage, answers in scripted.items() for one in answers]


def task(
    folder: Path,
    stage: RequestKind = RequestKind.DECIDE_REPEAT,
    iteration: int = 1,
    number: int = 1,
    calls: Calls | None = None,
) -> Task:
    workspace = folder / "workspace"
    (workspace / "models").mkdir(parents=True, exist_ok=True)
    return Task(
        key=f"0123abcd.i1.{stage}-{number}.a1",
        kind=stage,
        iteration_id="i1",
        iteration=iteration,
        number=number,
        prompt="What next?\n",
        folders=TaskFolders(workspace, folder / f"scratch-{stage}-{number}"),
        snapshot=_no_snapshot,
        calls=calls,
    )


def _no_snapshot() -> LabSnapshot:
    raise AssertionError("this researcher reads its prompt")


def answer(raw: str | None) -> AgentResult:
    assert raw is not None
    return AgentResult.from_text(raw, "agent_result.json")
