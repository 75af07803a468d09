"""A coding agent walks a tiny lab through the command line; what it changed is judged, whatever it says or does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_kit import AGENTS, FAKE, KEY, configure
from lab_kit import Finished, Kept, LabKit, make_lab, script
from standin import StandIn

from autolab.researchers.command.agent import RESULT

pytestmark = pytest.mark.process


def test_an_agent_walks_a_whole_iteration_and_every_run_is_on_record(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(), config={"researcher": {"name": "command", "command": FAKE}})
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert kit.state()["stage"] == "hypothesis", "the next iteration"
    stages = [line["data"]["stage"] for line in kit.events("answered")]
    assert stages == ["hypothesis", "design", "implementation", "implementation_review", "update_docs", "decide_repeat"]
    calls = [line["data"] for line in kit.events("call")]
    assert [(call["stage"], call["reason"], call["model"]) for call in calls] == [
        (stage, "ok", "command") for stage in stages
    ]
    told = ended.out + ended.err
    assert told.count("command: the cost of this request is not known") == 1
    assert "steep is supported" in told
    replayed = kit.autolab("replay", "1")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err


# In the implementation stage


@dataclass
class Waiting:
    """A lab that waits to ask its agent for the implementation, and comes back to that after each test."""

    kept: Kept
    folder: Path

    def ask(self, harm: str, *, containment: str = "none", **who: Any) -> tuple[LabKit, Finished]:
        kit = self.kept.back()
        configure(kit, containment=containment, researcher={"name": "command", "command": f"{FAKE} {harm}"} | who)
        return kit, kit.autolab("run")


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    folder = tmp_path_factory.mktemp("agents")
    kit = make_lab(folder, script(), config={"researcher": {"name": "command", "command": FAKE}})
    for word in ("calibrate", "run", "run"):
        ended = kit.autolab(word)
        assert ended.code == 0, ended.err
    assert kit.state()["stage"] == "implementation"
    yield Waiting(Kept(kit), folder)


def changed(kit: LabKit) -> dict[str, str]:
    """What the recorded candidate changes against its base: path -> letter."""
    said = kit.events("candidate")[-1]["data"]
    rows = kit.git("diff", "--name-status", said["base"], said["commit"]).splitlines()
    return {path: letter for letter, path in (row.split("\t") for row in rows)}


def checked(kit: LabKit) -> dict[str, str]:
    found: dict[str, str] = kit.events("checked")[-1]["data"]["checks"]
    return found


def test_what_changed_is_read_from_git_and_not_from_its_word(waiting: Waiting) -> None:
    kit, ended = waiting.ask("lies")
    assert ended.code == 0, ended.err
    reply = json.loads((kit.root / ".autolab" / "agent_result.json").read_text())
    assert reply["changed_files"] == ["models/width.py", "train.py", "no/such/file.py"]
    assert changed(kit) == {"models/width.py": "M"}
    assert checked(kit)["paths"] == "pass"
    assert kit.state()["stage"] == "implementation_review"


@pytest.mark.parametrize(
    ("harm", "path", "reason"),
    [
        ("frozen", "eval.py", "eval.py: FROZEN; put the change back"),
        ("rubbish", ".autolab/notes.md", ".autolab/notes.md: control plane; put the change back"),
    ],
)
def test_a_path_that_is_not_its_own_sends_back_and_the_lab_keeps_its_own(
    waiting: Waiting, harm: str, path: str, reason: str
) -> None:
    kit, ended = waiting.ask(harm)
    assert ended.code == 0, ended.err
    assert path in changed(kit)
    assert checked(kit) == {"paths": "fail"}
    state = kit.state()
    assert (state["stage"], state["stage_attempt"]) == ("implementation", 2)
    assert reason in state["reason"]
    assert kit.git("status", "--porcelain", "--", "eval.py", ".autolab/notes.md") == ""


def test_a_file_that_it_deletes_is_deleted_in_the_candidate(waiting: Waiting) -> None:
    kit, ended = waiting.ask("deletes")
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M", "predict.py": "D"}
    assert (kit.root / "predict.py").exists()


def test_a_commit_of_its_own_is_judged_by_its_difference_to_the_base(waiting: Waiting) -> None:
    kit, ended = waiting.ask("commits")
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M"}
    assert kit.state()["stage"] == "implementation_review"


@pytest.mark.parametrize("containment", ["none", "full"])
def test_branches_and_history_of_its_repository_are_its_own(waiting: Waiting, containment: str) -> None:
    before = waiting.kept.back().git("for-each-ref", "refs/heads")
    kit, ended = waiting.ask("rewrites", containment=containment)
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M"}
    assert set(before.splitlines()) <= set(kit.git("for-each-ref", "refs/heads").splitlines())


@pytest.mark.parametrize("containment", ["none", "full"])
def test_a_repository_that_it_makes_in_the_worktree_is_taken_away(waiting: Waiting, containment: str) -> None:
    kit, ended = waiting.ask("detaches", containment=containment)
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M"}
    (worktree,) = (kit.root / "5_worktrees").glob("h1-*")
    assert (worktree / ".git").is_file()
    (workspace,) = (kit.root / "5_worktrees").glob("agent-*")
    assert not (workspace / ".git").exists(), "it could have programs run by whoever looks there with git"


@pytest.mark.parametrize("containment", ["none", "partial", "full"])
def test_a_contained_agent_changes_nothing_outside_of_its_worktree(waiting: Waiting, containment: str) -> None:
    root = waiting.kept.back().root
    before = {name: (root / name).read_bytes() for name in ("program.md", ".git/config")}
    kit, ended = waiting.ask("outside", containment=containment)
    assert ended.code == 0, ended.err
    held = containment != "none"
    assert ({name: (root / name).read_bytes() for name in before} == before) == held
    assert ("# mine" in (root / ".autolab" / "config.yaml").read_text()) != held
    assert (root / "new.py").exists() != held
    assert changed(kit) == {"models/width.py": "M"}


# What it leaves and no commit may hold


LEFT = {
    "repository": "vendor/: a repository of its own; remove its .git, or the folder",
    "unborn": "models: a repository of its own; remove its .git",
    "leads_out": "models/latest: a symbolic link; leave the file itself",
    "relinks": "predict.py: a symbolic link; leave the file itself",
    "bytes": "models/caf\\xe9.py: the name is not UTF-8; rename the file",
}


@pytest.mark.parametrize("harm", LEFT)
def test_what_no_commit_may_hold_is_left_behind_and_goes_back_to_its_author(waiting: Waiting, harm: str) -> None:
    kit, ended = waiting.ask(harm, containment="full")
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M"}, "the rest of its work is kept"
    assert checked(kit) == {"paths": "fail"}
    state = kit.state()
    assert (state["stage"], state["stage_attempt"], state["reason"]) == ("implementation", 2, f"paths: {LEFT[harm]}")
    configure(kit, researcher={"name": "command", "command": FAKE})
    again = kit.autolab("run")
    assert again.code == 0, again.err
    assert kit.state()["stage"] == "implementation_review"
    assert changed(kit) == {"models/width.py": "M"}
    assert (kit.root / "predict.py").is_file() and not (kit.root / "predict.py").is_symlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("deep", "the command ended as disk_limit: agent made more than 100 folders inside each other"),
        ("long", "the command ended as disk_limit: agent made folders that no path leads to"),
        ("sparse", "the command ended as disk_limit: agent wrote more than 2000000000 bytes"),
        ("crowd", "the command ended as disk_limit: agent made more than 20000 files and folders"),
        ("ignores", "models/.gitignore: no regular file of at most 1,048,576 bytes; make it one, or remove it"),
    ],
)
def test_what_would_hold_the_loop_up_ends_the_agent_and_not_the_loop(waiting: Waiting, harm: str, reason: str) -> None:
    kit, ended = waiting.ask(harm)
    assert ended.code == 0, ended.err
    state = kit.state()
    assert (state["stage"], state["stage_attempt"]) == ("implementation", 2)
    assert reason in state["reason"]
    assert not kit.events("candidate")
    if harm != "ignores":
        assert not list((kit.root / "5_worktrees").glob("agent-*")), "what nobody reads does not stay"
    configure(kit, researcher={"name": "command", "command": FAKE})
    assert kit.autolab("run").code == 0
    assert kit.state()["stage"] == "implementation_review"


def test_its_share_of_the_disk_is_configured_and_counts_what_it_adds(waiting: Waiting) -> None:
    kit, ended = waiting.ask("crowd", max_files=100)
    assert "agent made more than 100 files and folders" in kit.state()["reason"], ended.err
    kit, ended = waiting.ask("sparse", disk_mb=1500)
    assert "agent wrote more than 1500000000 bytes" in kit.state()["reason"], ended.err
    kit, ended = waiting.ask("lies", max_files=3, disk_mb=0.01)
    assert kit.state()["stage"] == "implementation_review", "what was there before does not count"


def test_a_file_that_it_made_unreadable_is_part_of_its_work(waiting: Waiting) -> None:
    kit, ended = waiting.ask("closes")
    assert ended.code == 0, ended.err
    assert changed(kit) == {"models/width.py": "M", "models/closed/x.py": "A"}


def test_what_it_writes_where_it_cannot_look_is_a_finding_once(waiting: Waiting) -> None:
    kit, ended = waiting.ask("hides")
    assert ended.code == 0, ended.err
    assert "data/eval/labels.npy: evaluation data; put the change back" in kit.state()["reason"]
    assert "experiments/notes.md: control plane" in kit.state()["reason"]
    configure(kit, researcher={"name": "command", "command": FAKE})
    assert kit.autolab("run").code == 0
    assert kit.state()["stage"] == "implementation_review", "what it cannot see it need not put back"
    assert changed(kit) == {"models/width.py": "M"}


def test_a_completion_token_without_a_result_is_no_answer(waiting: Waiting) -> None:
    kit, ended = waiting.ask("token")
    assert ended.code == 0, ended.err
    assert not kit.events("candidate")
    state = kit.state()
    assert (state["stage"], state["stage_attempt"]) == ("implementation", 2)
    assert "the command left no .autolab/agent_result.json" in state["reason"]
    assert [line["data"]["reason"] for line in kit.events("call")][-1] == "no_result"


def test_an_agent_that_goes_past_its_time_is_ended_and_asked_again(waiting: Waiting) -> None:
    kit, ended = waiting.ask("lies", command=f"{AGENTS / 'endless'} {{prompt_file}}", time_limit_s=0.5)
    assert ended.code == 0, ended.err
    assert "the command ended as timeout" in kit.state()["reason"]
    assert [line["data"]["reason"] for line in kit.events("call")][-1] == "timeout"
    assert not kit.events("candidate")


def test_a_key_that_it_is_given_lies_nowhere_in_the_lab_afterwards(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_API_KEY", KEY)
    kit, ended = waiting.ask("lies", env=["AGENT_API_KEY"])
    assert ended.code == 0, ended.err
    assert "held a secret" not in ended.out + ended.err
    files = [path for path in kit.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def tool(command: str) -> dict[str, Any]:
    return {"tool_call": {"name": "bash", "arguments": json.dumps({"command": command})}}


DONE = {"status": "complete", "summary": "s", "changed_files": [], "completion_token_seen": True}
WORK = (
    "cat models/width.py; ls -a; cat ../../program.md",
    "echo 'WIDTH = 4.0' > models/width.py",
    f"mkdir -p .autolab && echo '{json.dumps(DONE | {'output': {'plan': 'Set the slope.'}})}' > {RESULT}",
    "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",
)


@pytest.mark.slow
def test_the_real_mini_swe_agent_does_the_implementation_inside_of_the_sandbox(waiting: Waiting) -> None:
    kit = waiting.kept.back()
    configure(kit, containment="full", researcher={"name": "mini", "model": "openai/scripted", "time_limit_s": 120})
    (waiting.folder / "home").mkdir()
    place = {"HOME": str(waiting.folder / "home"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with StandIn([tool(command) for command in WORK]) as server:
        ended = kit.autolab("run", **place, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.url)
    assert ended.code == 0, ended.out + ended.err
    assert len(server.requests) == len(WORK)
    assert changed(kit) == {"models/width.py": "M"}
    assert checked(kit)["paths"] == "pass"
    assert kit.state()["stage"] == "implementation_review"
    call = kit.events("call")[-1]["data"]
    assert (call["reason"], call["model"], call["dollars"]) == ("ok", "mini:openai/scripted", None)
    assert call["input_tokens"] > 1000 and call["output_tokens"] > 0
    (trajectory,) = kit.store.rglob("trajectory.json")
    seen = trajectory.read_text()
    assert "WIDTH = 2.0" in seen, "what its first command printed"
    assert "../../program.md: No such file or directory" in seen, "the lab is not in its sight"


def test_a_missing_agent_stops_the_loop_in_one_line(waiting: Waiting) -> None:
    kit = waiting.kept.back()
    configure(kit, researcher={"name": "aider"})
    ended = kit.autolab("run", PATH=os.pathsep.join(("/usr/bin", "/bin")))
    assert ended.code == 1
    assert "researcher: aider: aider: no such program" in ended.err
    assert (
        ended.err.strip().splitlines()[-1].endswith("install it: python -m pip install aider-install && aider-install")
    )
