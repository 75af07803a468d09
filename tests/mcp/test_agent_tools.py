"""The tools for coding agents, by the official SDK's own client: an agent that lies, repeats itself and forgets."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from adoption_kit import commit
from lab_kit import LabKit
from tools_kit import BENCHMARKS, Agent, Refused, agent, drawn_repository, effect_patch, trials_of

from autolab.lab.git import Git

pytestmark = pytest.mark.process

COMPARISONS = 50
NOTHING, GAIN = "0", "9"
"""Texts of effect.txt: a pair's difference deviates by 1."""


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return drawn_repository(tmp_path / "mine")


def entries(kit: LabKit) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (kit.store / "compare" / "queue").glob("*.json")]


def refusal(client: Agent, tool: str, **arguments: object) -> str:
    with pytest.raises(Refused) as refused:
        client.call(tool, **arguments)
    text = str(refused.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def test_an_agent_that_lies_repeats_and_forgets_gets_what_was_measured_and_nothing_runs_twice(kit: LabKit) -> None:
    with agent(kit) as client:
        # It hands in a score, in every way that it can think of.
        for tool, form in client.tools().items():
            assert form["additionalProperties"] is False, tool
        for more in ({"score": 0.99}, {"candidate_score": 1}, {"result": {"answer": "better"}}):
            assert "scores are measured here" in refusal(client, "compare", **more)
        (kit.root / "effect.txt").write_text(f"{GAIN}\n")
        first = client.call("compare", budget="30 trials")
        # The worktree is another one before the first training: what counts is what it was.
        (kit.root / "effect.txt").write_text("-9\n")
        assert (first["state"], first["decided"], first["ahead"], first["alpha"]) == ("queued", False, 0, 0.005)

        asked = []
        for number in range(COMPARISONS - 1):
            # One blank more is other code with the same mean; the mail around it says that it is better.
            budget = "2 trials" if number % 5 else "10 trials"
            asked.append({"patch": effect_patch(NOTHING + " " * (number + 1)), "budget": budget})
        answers = client.at_once([("compare", arguments) for arguments in asked])
        assert len({answer["id"] for answer in answers} | {first["id"]}) == 50
        alphas = sorted((answer["alpha"] for answer in answers), reverse=True)
        assert alphas == pytest.approx([2 * 0.005 / (k * (k + 1)) for k in range(2, 51)])
        assert [answer["question_on_this_base"] for answer in answers] == [
            round(((1 + 4 * 2 * 0.005 / answer["alpha"]) ** 0.5 - 1) / 2) for answer in answers
        ]
        # Behind those that were asked before, less those that are over by then.
        assert all(0 <= answer["ahead"] < answer["question_on_this_base"] for answer in answers)
        assert len({answer["ahead"] for answer in answers}) > 40
        assert all("NOT DECIDED YET" in answer["next"] for answer in answers)

        # It asks the same again, in another order and all the time.
        again = client.at_once([("compare", arguments) for arguments in reversed(asked)])
        assert [answer["id"] for answer in reversed(again)] == [answer["id"] for answer in answers]
        assert [answer["alpha"] for answer in reversed(again)] == [answer["alpha"] for answer in answers]
        # It forgets the ids, and finds them again.
        status = client.call("status")
        known = {brief["id"] for brief in [*status["queue"], *status["over"]]}
        assert first["id"] in known and {answer["id"] for answer in answers} <= known

        value = client.answered(first["id"])
        assert (value["answer"], value["decided"], value["containment"]) == ("better", True, "full")
        while waiting := client.call("status")["queue"]:
            assert [brief["ahead"] for brief in waiting] == list(range(len(waiting)))
            client.call("wait", id=waiting[-1]["id"], seconds=1)
        done = client.at_once([("results", {"id": answer["id"]}) for answer in answers])
        assert {value["state"] for value in done} == {"done"}
        assert not any(value["answer"] == "better" for value in done)
        told = {brief["says"] for brief in client.call("results")["results"]}
        spent = client.call("status")["trials"]
        while client.calls < 1000:
            calls = [("compare", asked[client.calls % 49]), ("wait", {"id": first["id"]}), ("status", {})]
            client.at_once([*calls, ("results", {}), ("lessons", {})])
        assert client.call("status")["trials"] == spent and client.call("status")["comparisons"] == 50
        assert {brief["says"] for brief in client.call("results")["results"]} == told
    # Each answer is of trainings that the ledger has, each of them once.
    recorded = trials_of(kit)
    for entry in entries(kit):
        counted = recorded.pop(entry["answer"]["key"])
        assert set(counted.values()) == {1} and counted.total() == entry["trials"] == entry["answer"]["trials"]
    assert recorded == {}


def test_a_server_that_is_killed_at_any_point_goes_on_and_runs_nothing_twice(kit: LabKit) -> None:
    asked = [{"patch": effect_patch(text), "budget": "30 trials"} for text in (GAIN, "-9", f"{GAIN} ")]
    ids: list[str] = []
    for point in ("submit.after_jobs", "trial.after_record", "77", "run.after_end"):
        with agent(kit, dies=True, AUTOLAB_FAULT=point) as client:
            if not ids:
                ids = [answer["id"] for answer in client.at_once([("compare", one) for one in asked])]
            for _ in range(100):
                client.call("wait", id=ids[-1], seconds=1)
            raise AssertionError(f"not killed at {point}")
    with agent(kit) as client:
        assert [client.call("compare", **one)["id"] for one in asked] == ids
        answers = [client.answered(one)["answer"] for one in ids]
    assert answers == ["better", "worse", "better"]
    for counted in trials_of(kit).values():
        assert set(counted.values()) == {1} and all(name.endswith("/1") for name in counted)


def test_two_servers_work_on_one_queue_in_turn_and_the_second_goes_on_when_the_first_ends(kit: LabKit) -> None:
    with agent(kit) as second_to_end:
        with agent(kit) as client:
            mine = client.call("compare", patch=effect_patch(GAIN), budget="30 trials")
            assert second_to_end.answered(mine["id"])["answer"] == "better"
            theirs = client.call("compare", patch=effect_patch("-9"), budget="30 trials")
        assert second_to_end.answered(theirs["id"])["answer"] == "worse"
    assert all(set(counted.values()) == {1} for counted in trials_of(kit).values())


def test_a_comparison_at_a_shell_and_one_of_an_agent_wait_for_each_other(kit: LabKit) -> None:
    (kit.root / "effect.txt").write_text(f"{GAIN}\n")
    with agent(kit) as client, open(kit.store / "compare" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asked = client.call("compare", patch=effect_patch("-9"), budget="30 trials")
        value = client.call("wait", id=asked["id"], seconds=2)
        assert (value["state"], value["decided"], value["trials"]) == ("running", False, 0)
        assert "another comparison runs in this repository" in value["says"]
        shell = kit.start("compare", "--plain", "--budget", "30 trials", PYTHONPATH=str(BENCHMARKS))
        assert shell.stdout is not None
        assert "this one begins when it has ended" in shell.stdout.readline()
        fcntl.flock(lock, fcntl.LOCK_UN)
        out, err = shell.communicate(timeout=60)
        assert shell.returncode == 0 and "better: score " in out, err
        assert client.answered(asked["id"])["answer"] == "worse"


def test_one_that_waits_leaves_the_queue_and_one_that_runs_ends_and_both_may_be_asked_again(kit: LabKit) -> None:
    with agent(kit) as client, open(kit.store / "compare" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = client.call("compare", patch=effect_patch(GAIN))
        queued = client.call("compare", patch=effect_patch(f"{GAIN} "))
        assert (queued["ahead"], queued["in_queue"]) == (1, 2)
        assert client.call("wait", id=running["id"], seconds=2)["state"] == "running"
        assert client.call("cancel", id=queued["id"])["state"] == "cancelled"
        assert "it ends after the trainings that run now" in client.call("cancel", id=running["id"])["next"]
        assert client.answered(running["id"])["state"] == "cancelled"
        fcntl.flock(lock, fcntl.LOCK_UN)
        # Another question has another alpha; the cancelled ones keep theirs.
        third = client.call("compare", patch=effect_patch(f"{GAIN}  "))
        again = client.call("compare", patch=effect_patch(f"{GAIN} "))
        assert (third["question_on_this_base"], again["question_on_this_base"]) == (3, 2)
        assert (again["id"], again["alpha"]) == (queued["id"], queued["alpha"])
        assert client.answered(again["id"])["answer"] == "better"


def test_a_budget_ends_undecided_and_a_larger_one_goes_on_with_the_same_alpha(kit: LabKit) -> None:
    with agent(kit) as client:
        small = client.answered(client.call("compare", patch=effect_patch(GAIN), budget="6 trials")["id"])
        assert (small["state"], small["answer"], small["decided"]) == ("done", "undecided", False)
        assert "UNDECIDED, no answer" in small["next"] and small["trials"] == 6
        large = client.answered(client.call("compare", patch=effect_patch(GAIN), budget="40 trials")["id"])
        assert (large["id"], large["alpha"], large["answer"]) == (small["id"], small["alpha"], "better")
        # Settings are a part of the question, and whoever asks for less certainty asks another one.
        other = client.call("compare", patch=effect_patch(GAIN), require="not-worse", delta=1)
        assert other["id"] != small["id"] and other["question_on_this_base"] == 2
        assert client.answered(other["id"])["answer"] == "not worse"


def test_no_call_takes_longer_than_it_says(kit: LabKit) -> None:
    with agent(kit) as client, open(kit.store / "compare" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asked = client.call("compare", patch=effect_patch(GAIN))
        began = time.monotonic()
        waits: list[tuple[str, dict[str, object]]] = [("wait", {"id": asked["id"], "seconds": 2})] * 100
        # A hundred that wait are in nobody's way.
        values = client.at_once([*waits, ("status", {})])
        assert time.monotonic() - began < 10
        assert {value["decided"] for value in values[:100]} == {False}
        fcntl.flock(lock, fcntl.LOCK_UN)
        began = time.monotonic()
        assert client.call("wait", id=asked["id"], seconds=50)["state"] == "done"
        assert time.monotonic() - began < 40, "it returns when there is an answer"


def test_what_cannot_be_asked_is_one_line(kit: LabKit) -> None:
    with agent(kit) as client:
        assert "'nothing' names no commit here" in refusal(client, "compare", base="nothing")
        assert "'nothing' names no commit here" in refusal(client, "compare", candidate="nothing")
        assert "'--all' names no commit" in refusal(client, "compare", candidate="--all")
        assert "base: 'nothing' names no commit" in refusal(client, "compare", base="nothing", patch=effect_patch("1"))
        assert "the working tree has no change against HEAD" in refusal(client, "compare")
        assert "HEAD has the files of HEAD" in refusal(client, "compare", candidate="HEAD")
        assert "it does not apply to HEAD" in refusal(client, "compare", patch="no patch at all")
        assert "it does not apply to HEAD" in refusal(client, "compare", patch=effect_patch("1").replace("-0", "-7"))
        assert "candidate and patch" in refusal(client, "compare", candidate="HEAD", patch=effect_patch("1"))
        assert "is no time and no number of trials" in refusal(
            client, "compare", patch=effect_patch("1"), budget="soon"
        )
        assert "not a positive number" in refusal(client, "compare", patch=effect_patch("1"), delta=-1)
        assert "is not KEY=VALUE" in refusal(client, "compare", settings={"a b": 1})
        assert "require" in refusal(client, "compare", patch=effect_patch("1"), require="best")
        assert "is the id of no comparison here" in refusal(client, "wait", id="0123456789ab")
        assert "is the id of no comparison here" in refusal(client, "cancel", id="../config")
        assert "is the id of no comparison here" in refusal(client, "results", id="none")
        assert "seconds is 1 to 50, not 500" in refusal(client, "wait", id="none", seconds=500)
        assert client.call("status")["comparisons"] == 0
        assert client.call("lessons")["lab"] is False
        assert "no lab here" in refusal(client, "propose", title="A gain")
        assert "scores are measured here" in refusal(client, "propose", title="A gain", score=0.99)
        inner = LabKit(kit.root / "inner", kit.counter)
        inner.root.mkdir()
        inner.git("init", "--quiet")
        commit(inner, {"x.txt": "1\n"})
        assert "is a repository of its own" in refusal(client, "compare")
        kit.git("add", "inner")
        kit.git("commit", "--quiet", "--message", "a submodule")
        (inner.root / "x.txt").write_text("2\n")
        assert "a submodule with changes: commit them there" in refusal(client, "compare")


def test_a_working_tree_is_read_while_another_thread_makes_commits(kit: LabKit) -> None:
    git, trees = Git(kit.root), set()

    def make() -> None:
        for _ in range(10):
            trees.add(Git(kit.root).commit_of_checkout("x").tree)

    (kit.root / "new.txt").write_text("more\n")
    thread = threading.Thread(target=make)
    thread.start()
    for number in range(10):
        git.commit_of_patch("HEAD", effect_patch(str(number + 1)).encode(), "y")
    thread.join()
    assert len(trees) == 1
