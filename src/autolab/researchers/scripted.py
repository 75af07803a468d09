"""A researcher that replays given answers: for audits, demonstrations, rehearsals and tests.

The script is a YAML file. `iterations:` is a list with one entry for each iteration of the lab, a mapping from stage to
a list of answers: the nth answer of a stage answers its nth request in that iteration. An answer has `output` and,
optionally, `status` and `summary`; or `raw`, a text that is returned as it is, to show the effect of a malformed
answer. If the script has no answer for a request, the result is `needs_retry` with that reason.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.lab.schemas.record import Record
from autolab.researchers.base import Answer, ResearcherDefaults, Task


class ScriptedAnswer(Record):
    output: dict[str, JsonValue] | None = None
    status: Literal["complete", "needs_retry", "failed"] = "complete"
    summary: str = "answered from a script"
    raw: str | None = None


class AnswerScript(Record):
    iterations: tuple[dict[RequestKind | Stage, tuple[ScriptedAnswer, ...]], ...]


class ScriptedResearcher(ResearcherDefaults):
    name = "scripted"
    options = frozenset({"script"})
    works_in_folder = False

    def __init__(self, config: ResearcherConfig) -> None:
        if config.script is None:
            raise ResearcherError("researcher: scripted needs `script: FILE` (or --script FILE)")
        self._script = AnswerScript.load(Path(config.script), config.script)

    def perform(self, task: Task) -> Answer:
        answer = self._find(task)
        if answer is None:
            place = f"iteration {task.iteration}, {task.kind}, request {task.number}"
            return Answer(_result("needs_retry", f"the script has no answer for {place}", None))
        # Returned unread: it is there to show what the engine does with a malformed answer.
        if answer.raw is not None:
            return Answer(answer.raw)
        return Answer(_result(answer.status, answer.summary, answer.output))

    def _find(self, task: Task) -> ScriptedAnswer | None:
        # By iteration and number, not by a counter in memory: the next engine goes on where this one died.
        if task.iteration > len(self._script.iterations):
            return None
        answers = self._script.iterations[task.iteration - 1].get(task.kind, ())
        return answers[task.number - 1] if task.number <= len(answers) else None


def _result(status: str, summary: str, output: dict[str, JsonValue] | None) -> str:
    result = {"status": status, "summary": summary, "changed_files": [], "completion_token_seen": False}
    return json.dumps(result | {"output": output})
