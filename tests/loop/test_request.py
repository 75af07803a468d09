"""Requests are known by iteration, kind and number, whatever the stage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_kit import HELPS, LabKit, hypothesis, make_lab, script

from autolab.cli.view import Plain
from autolab.lab.lab import Lab
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.lab.schemas.plans import Entry
from autolab.lab.schemas.replies import OUTPUTS, DesignOutput, HypothesisOutput
from autolab.loop.clock import LoopClock
from autolab.loop.deadline import Deadline
from autolab.loop.engine import Engine
from autolab.loop.iteration import Iteration
from autolab.loop.preflight import relative
from autolab.loop.request import Requests, ValidReply
from autolab.researchers import prompts
from autolab.researchers.base import Answer, ResearcherDefaults, Task

VALUES = dict.fromkeys(("history", "plateau", "method", "wanted"), "none")
DESIGN = {"hypothesis_md": "none", "config": "none", "history": "none", "method": "none", "files": "none"}


class Numbered(ResearcherDefaults):
    """A researcher whose hypotheses are named after the request; it counts what it was asked."""

    name, works_in_folder = "numbered", False

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def perform(self, task: Task) -> Answer:
        self.tasks.append(task)
        outputs = {RequestKind.HYPOTHESIS: hypothesis(f"Idea {task.number}"), RequestKind.DESIGN: HELPS["design"][0]}
        result = {"status": "complete", "summary": "s", "changed_files": [], "completion_token_seen": False}
        return Answer(json.dumps(result | outputs[task.kind]))


@contextlib.contextmanager
def opened(kit: LabKit) -> Iterator[Iteration]:
    lab = Lab(kit.root)
    with lab.hold("a test"):
        config = relative(lab, lab.config())
        engine = Engine(lab, config, Plain(lambda line: None), lambda: False)
        engine.open(Entry(stage=Stage.HYPOTHESIS))
        yield Iteration.read(lab, config)


def title(reply: ValidReply | str) -> str:
    assert isinstance(reply, ValidReply) and isinstance(reply.output, HypothesisOutput)
    return reply.output.title


@pytest.mark.process
def test_requests_of_one_step_are_numbered_by_kind_and_found_again_after_a_crash(tmp_path: Path) -> None:
    kit, researcher = make_lab(tmp_path, script(HELPS)), Numbered()
    deadline = Deadline.of_step(None, 0.0, LoopClock())
    with opened(kit) as iteration:
        for _ in range(2):  # the second time as an engine that comes after one that was killed
            step = Requests(researcher, researcher, Plain(lambda line: None), lambda: False, deadline)
            assert title(step.send(iteration, RequestKind.HYPOTHESIS, VALUES)) == "Idea 1"
            assert title(step.send(iteration, RequestKind.HYPOTHESIS, VALUES)) == "Idea 2"
            design = step.send(iteration, RequestKind.DESIGN, DESIGN)
            assert isinstance(design, ValidReply) and isinstance(design.output, DesignOutput)
        folders = sorted(path.name for path in (kit.store / "requests" / iteration.iteration_id).iterdir())
    assert folders == ["design-1", "hypothesis-1", "hypothesis-2"]
    assert [(task.kind, task.number) for task in researcher.tasks] == [
        ("hypothesis", 1),
        ("hypothesis", 2),
        ("design", 1),
    ]
    for event in ("asked", "answered"):
        lines = [line["data"] for line in kit.events(event)]
        assert [(data["stage"], data["kind"], data["number"]) for data in lines] == [
            ("hypothesis", "hypothesis", 1),
            ("hypothesis", "hypothesis", 2),
            ("hypothesis", "design", 1),
        ], event
    keys = [line["data"]["key"] for line in kit.events("asked")]
    assert [key.split(".")[2] for key in keys] == ["hypothesis-1", "hypothesis-2", "design-1"]


@pytest.mark.parametrize("kind", RequestKind)
def test_every_kind_has_a_prompt_what_it_quotes_and_a_form_of_its_answer(kind: RequestKind) -> None:
    assert kind in OUTPUTS and prompts.FILES[kind] and prompts.REQUIRED[kind] <= prompts.PLACEHOLDERS[kind]
