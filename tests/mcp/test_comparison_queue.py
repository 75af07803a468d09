"""The queue of agents' comparisons, and the limits of a call, without a server."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from pathlib import Path

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from autolab.adoption.detection import AdoptionRequest
from autolab.cli.agent_server import mcp
from autolab.cli.comparisons import TrainingFlags
from autolab.compare.question import AskedVersion
from autolab.errors import LabError, RecordError
from autolab.mcp import agent_tools
from autolab.mcp.agent_tools import AgentTools
from autolab.mcp.agent_training import AgentTraining
from autolab.mcp.comparison_queue import AgentQuestion, ComparisonQueue, QueueState, alpha_of
from autolab.mcp.queue_worker import QueueWorker
from autolab.mcp.stdio_server import server_of
from autolab.trials import containment
from autolab.trials.containment import Ability


def question(tree: str, base: str = "b" * 40, **more: float) -> AgentQuestion:
    first = AskedVersion(name="baseline", label="HEAD", commit="1" * 40, tree=base)
    other = AskedVersion(name="candidate", label="patch", commit="2" * 40, tree=tree)
    return AgentQuestion(first, other, more.get("delta"), "better", False)


@pytest.fixture
def queue(tmp_path: Path) -> ComparisonQueue:
    return ComparisonQueue(tmp_path / "queue")


def test_all_questions_on_one_base_together_stay_below_twice_the_first_alpha() -> None:
    alphas = [alpha_of(k) for k in range(1, 3000)]
    assert alphas[:3] == pytest.approx([0.005, 0.005 / 3, 0.005 / 6])
    assert 0.0099 < sum(alphas) < 0.01
    assert alpha_of(10**6) == 1e-9, "what the stopping rule takes at least"


def test_another_base_has_alphas_of_its_own(queue: ComparisonQueue) -> None:
    asked = [queue.submit(question(tree), "60 trials", "") for tree in "xyz"]
    assert [entry.asked for entry in asked] == [1, 2, 3]
    assert [entry.alpha for entry in asked] == [alpha_of(1), alpha_of(2), alpha_of(3)]
    assert queue.submit(question("x", base="c" * 40), "60 trials", "").asked == 1
    assert queue.submit(question("y"), "1 trials", "").asked == 2


def test_the_commit_and_the_label_are_no_part_of_a_question_and_delta_is(queue: ComparisonQueue) -> None:
    first = queue.submit(question("x"), "60 trials", "")
    other = question("x")
    renamed = other.candidate.model_copy(update={"commit": "3" * 40, "label": "main"})
    assert queue.submit(AgentQuestion(other.base, renamed, None, "better", False), "60 trials", "") == first
    assert queue.submit(question("x", delta=0.1), "60 trials", "").id != first.id


def test_a_training_that_is_judged_otherwise_now_is_another_question(queue: ComparisonQueue) -> None:
    first = queue.submit(question("x"), "60 trials", "")
    queue.update(first.id, training="accuracy", state=QueueState.DONE)
    assert queue.submit(question("x"), "60 trials", "accuracy").id == first.id
    other = queue.submit(question("x"), "60 trials", "loss")
    assert (other.id != first.id, other.asked) == (True, 2)
    assert queue.submit(question("x"), "60 trials", "loss").id == other.id


def test_one_that_was_running_when_its_server_was_killed_is_the_next(queue: ComparisonQueue) -> None:
    first, second = (queue.submit(question(tree), "60 trials", "") for tree in "xy")
    assert (queue.next() or second).id == first.id
    again = ComparisonQueue(queue.folder)
    assert (again.next() or second).id == first.id
    again.update(first.id, state=QueueState.DONE)
    assert (queue.next() or first).id == second.id


def test_what_failed_by_itself_is_not_run_again_and_what_failed_for_another_reason_is(queue: ComparisonQueue) -> None:
    entry = queue.submit(question("x"), "60 trials", "")
    queue.update(entry.id, state=QueueState.FAILED, is_final=True)
    assert queue.submit(question("x"), "60 trials", "").state is QueueState.FAILED
    queue.update(entry.id, is_final=False)
    assert queue.submit(question("x"), "60 trials", "").state is QueueState.QUEUED


def test_an_edited_file_of_the_queue_is_named(queue: ComparisonQueue) -> None:
    entry = queue.submit(question("x"), "60 trials", "")
    path = queue.folder / f"{entry.id}.json"
    path.write_text(path.read_text().replace('"state"', '"score": 0.99, "state"'))
    with pytest.raises(RecordError, match=f"queue/{entry.id}.json: score"):
        queue.entries()


def test_threads_that_ask_at_once_get_places_and_alphas_of_their_own(queue: ComparisonQueue) -> None:
    asked = []

    def ask(tree: str) -> None:
        asked.append(ComparisonQueue(queue.folder).submit(question(tree), "60 trials", ""))

    threads = [threading.Thread(target=ask, args=(f"tree {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.asked for entry in asked) == list(range(1, 21))
    assert len({entry.number for entry in asked}) == 20


@pytest.mark.parametrize("tool", ["compare", "wait", "status", "results", "cancel", "lessons", "propose"])
def test_no_tool_takes_a_score(queue: ComparisonQueue, tmp_path: Path, tool: str) -> None:
    training = AgentTraining(tmp_path, AdoptionRequest(), AdoptionRequest())
    server = server_of(AgentTools(training, queue, QueueWorker(queue, training)))
    arguments = {"id": "x", "title": "x"} if tool in ("wait", "cancel", "propose") else {}
    with pytest.raises(ToolError, match="scores are measured here and never taken from a caller"):
        asyncio.run(server.call_tool(tool, {**arguments, "score": 0.99}))


def test_a_call_that_takes_too_long_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_tools, "LONGEST_S", 0.05)
    never = threading.Event()

    async def call() -> None:
        began = time.monotonic()
        with pytest.raises(LabError, match=r"^not read in 0.05 s$"):
            await agent_tools._in_time(never.wait, "not read in {limit} s")
        assert time.monotonic() - began < 5
        never.set()

    asyncio.run(call())


def test_without_containment_nothing_of_an_agent_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(containment, "ability", lambda store: Ability("partial", "no bwrap", "install bubblewrap"))
    training = AgentTraining(tmp_path, AdoptionRequest(), AdoptionRequest())
    with pytest.raises(LabError, match=r"full cannot be had here, .*no bwrap; install bubblewrap"):
        training.config(print)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError, match=r"^mcp: needs the extra `mcp`: \S+ -m pip install 'mcp<3,>=2.3'$"):
        mcp(training=TrainingFlags())
