"""The acceptance matrix of seed 003 §16, by number, and how a loop ends: all through the command line."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import (
    HELPS,
    NOTHING,
    Kept,
    LabKit,
    decision,
    design,
    docs,
    hypothesis,
    implementation,
    iteration,
    make_twin,
    review,
    script,
)

pytestmark = pytest.mark.process

LOOP = ("loop", "--max-iterations", "1")
WRONG_SCOPE = {"check": "scope", "severity": "blocking", "message": "the slope is far out of scope"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the one helpful iteration that nothing disturbs."""
    kit = make_twin(tmp_path_factory.mktemp("unbroken"), script(HELPS))
    assert kit.autolab(*LOOP).code == 0
    return kit.tables()


CALIBRATION, SEARCH, CONFIRMATION = 4, 3, 6
"""Trials of the helpful iteration: the search finds its baseline measured, a confirmation takes over nothing."""


def done_once(kit: LabKit, trials: int) -> None:
    """By the count outside of the lab: so many trials were trained, each of them once."""
    starts = kit.executed("start")
    assert len(starts) == trials and set(starts.values()) == {1}, starts


def stage(kit: LabKit) -> str:
    return str(kit.state()["stage"])


def step_to(kit: LabKit, wanted: str) -> None:
    for _ in range(12):
        if stage(kit) == wanted:
            return
        stepped = kit.autolab("run")
        assert stepped.code == 0, stepped.err
    raise AssertionError(f"never at {wanted}: {kit.state()}")


def calibrated(kit: LabKit) -> LabKit:
    """What a loop does by itself, and a user before `autolab run`."""
    done = kit.autolab("calibrate")
    assert done.code == 0, done.err
    return kit


# the seven scenarios


def test_1_a_blocking_finding_sends_the_candidate_back_to_implementation_and_the_fixed_one_passes(
    tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    answers = iteration(
        implementation=[implementation(90.0), implementation()], implementation_review=[review(WRONG_SCOPE), review()]
    )
    kit = make_twin(tmp_path, script(answers))
    step_to(kit, "implementation_review")
    assert kit.autolab("run").code == 0
    state = kit.state()
    assert (state["stage"], state["bounces"]) == ("implementation", 1)
    assert WRONG_SCOPE["message"] in state["reason"]
    assert not kit.executions(), "nothing may run before the review passes"
    (folder,) = kit.iterations()
    assert json.loads((folder / "review_result.json").read_text())["status"] == "needs_retry"

    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.err
    assert (
        WRONG_SCOPE["message"] in (kit.store / "requests" / folder.name / "implementation-2" / "prompt.md").read_text()
    )
    assert json.loads((folder / "review_result.json").read_text())["status"] == "pass"
    assert kit.tables() == unbroken


SYNC_BREAKS = '''
"""Trials run here, as if they ran elsewhere: bringing their files home fails while the file $NO_SYNC exists."""
import os
from autolab.errors import ExecutorError
from autolab.executors.local import LocalExecutor

class Elsewhere(LocalExecutor):
    name = location = "elsewhere"

    def fetch(self, ref, destination):
        if os.path.exists(os.environ["NO_SYNC"]):
            raise ExecutorError("rsync: connection reset by the far side", transient=True)
        super().fetch(ref, destination)
'''


def faraway(modules: Path, broken: Path) -> dict[str, str]:
    path = [str(modules), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "NO_SYNC": str(broken)}


def test_2_a_failed_sync_keeps_the_lab_in_launch_and_later_fetches_the_same_trials(
    tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    (tmp_path / "faraway.py").write_text(SYNC_BREAKS)
    broken = tmp_path / "no_sync"
    kit = make_twin(tmp_path, script(HELPS), config={"executor": {"name": "faraway:Elsewhere"}})
    kit.env = faraway(tmp_path, broken)
    step_to(calibrated(kit), "launch")
    broken.touch()
    for attempt in (2, 3):
        assert kit.autolab("run").code == 0
        state = kit.state()
        assert (state["stage"], state["sync_status"], state["stage_attempt"]) == ("launch", "failed", attempt)
        assert "rsync: connection reset" in state["reason"]
    (folder,) = kit.iterations()
    assert not (folder / "results.yaml").exists() and not (folder / "analysis").exists()
    assert "failed" in kit.autolab("status").out

    broken.unlink()
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.err
    assert not kit.events("trial_lost")
    done_once(kit, CALIBRATION + SEARCH + CONFIRMATION)
    assert kit.tables() == unbroken
    manifest = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
    assert (manifest["location"], manifest["sync"]["artifact_sync_to_local"]["status"]) == ("elsewhere", "ok")


def test_2_a_sync_that_never_comes_back_waits_for_a_user_and_retry_reruns_nothing(tmp_path: Path) -> None:
    (tmp_path / "faraway.py").write_text(SYNC_BREAKS)
    broken = tmp_path / "no_sync"
    config = {"executor": {"name": "faraway:Elsewhere"}, "attempts": {"stage": 2, "bounces": 1}}
    kit = make_twin(tmp_path, script(HELPS), config=config)
    kit.env = faraway(tmp_path, broken)
    calibrated(kit)
    broken.touch()
    assert kit.autolab(*LOOP).code == 3
    state = kit.state()
    assert (state["stage"], state["from_stage"], state["sync_status"]) == ("human_review", "launch", "failed")
    broken.unlink()
    assert kit.autolab("review", "retry").code == 0
    assert kit.autolab(*LOOP).code == 0
    done_once(kit, CALIBRATION + SEARCH + CONFIRMATION)


def test_3_a_repository_without_tests_passes_by_dry_run_and_smoke(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(HELPS))
    policy = kit.root / ".autolab" / "verifier_policy.yaml"
    commands = yaml.safe_load(policy.read_text()) | {"test_command": "{python} -m pytest", "require_tests": False}
    policy.write_text(yaml.safe_dump(commands))
    assert not list(kit.root.rglob("test_*.py"))
    assert kit.autolab(*LOOP).code == 0
    (folder,) = kit.iterations()
    checks = json.loads((folder / "review_result.json").read_text())["required_checks"]
    assert (checks["tests"], checks["dry_run"], checks["env_smoke"]) == ("skip", "pass", "pass")


def test_3_the_fallback_bites_when_the_dry_run_fails(tmp_path: Path) -> None:
    broken = {"output": {"plan": "Break it.", "files": [{"path": "models/width.py", "content": "WIDTH = oops\n"}]}}
    kit = make_twin(tmp_path, script(iteration(implementation=[broken, implementation()])))
    step_to(kit, "implementation")
    assert kit.autolab("run").code == 0
    assert stage(kit) == "implementation" and "dry_run" in kit.state()["reason"]
    assert not kit.executions()


MALFORMED = {
    "truncated": '{"status": "complete", "summary": "a',
    "not a number": '{"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": NaN}',
    "wrong type": '{"status": "complete", "summary": 3, "changed_files": [], "completion_token_seen": false}',
    "unknown status": '{"status": "done", "summary": "", "changed_files": [], "completion_token_seen": true}',
    "no output": '{"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": true}',
    "unknown key": '{"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": true, "x": 1}',
    "a token alone": "COMPLETE",
}


def test_4_a_malformed_answer_needs_retry_and_is_logged(tmp_path: Path, unbroken: dict[str, Any]) -> None:
    answers = [*({"raw": text} for text in MALFORMED.values()), hypothesis()]
    kit = make_twin(tmp_path, script(iteration(hypothesis=answers)), config={"attempts": {"stage": len(answers)}})
    for number, text in enumerate(MALFORMED.values(), 1):
        stepped = kit.autolab("run")
        assert (stepped.code, stepped.err) == (0, "")
        state = kit.state()
        assert (state["stage"], state["stage_attempt"]) == ("hypothesis", number + 1)
        assert state["reason"].startswith(".autolab/agent_result.json: ")
        logs = kit.root / ".autolab" / "logs" / "iterations" / state["iteration_id"]
        assert (logs / f"hypothesis-{number}.reply.json").read_text() == text
    assert [e["data"]["outcome"] for e in kit.events("transition")[-2:]] == ["retry", "retry"]
    assert kit.autolab(*LOOP).code == 0
    assert kit.tables() == unbroken


AGENT = """
import json, os, sys
from pathlib import Path
workspace, counts, answers = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
stage = os.environ["AUTOLAB_STAGE"]
counts.mkdir(exist_ok=True)
number = len(list(counts.glob(stage + ".*")))
(counts / f"{stage}.{number}").touch()
answer = answers[stage][number]
if "raw" in answer:
    (workspace / ".autolab" / "agent_result.json").write_text(answer["raw"])
sys.exit(answer.get("exit", 0))
"""


def agent_lab(folder: Path, answers: dict[str, list[dict[str, Any]]]) -> LabKit:
    """A lab whose researcher is a program: each answer is what it leaves (`raw`) and how it exits."""
    (folder / "agent.py").write_text(AGENT)
    (folder / "answers.json").write_text(json.dumps(answers))
    command = f"{sys.executable} -S {folder / 'agent.py'} {{workspace}} {folder / 'counts'} {folder / 'answers.json'}"
    return make_twin(folder, script(), config={"researcher": {"name": "command", "command": command}})


def left(answer: dict[str, Any]) -> dict[str, Any]:
    result = {"status": "complete", "summary": "done", "changed_files": [], "completion_token_seen": True}
    return {"raw": json.dumps(result | answer)}


def test_4_a_command_that_leaves_no_whole_fresh_result_is_asked_again(tmp_path: Path, unbroken: dict[str, Any]) -> None:
    good = {name: [left(answer) for answer in answers] for name, answers in iteration().items()}
    stale = good["implementation"][0] | {"exit": 1}
    answers = good | {
        "hypothesis": [{}, {"raw": MALFORMED["truncated"]}, {"raw": MALFORMED["not a number"]}, *good["hypothesis"]],
        "implementation": [stale, {}, *good["implementation"]],
    }
    kit = agent_lab(tmp_path, answers)
    assert kit.autolab("run").code == 0
    assert "left no .autolab/agent_result.json" in kit.state()["reason"]
    step_to(kit, "implementation")
    assert kit.autolab("run").code == 0
    assert "ended as failed" in kit.state()["reason"]
    assert kit.autolab("run").code == 0
    state = kit.state()
    assert (state["stage"], state["stage_attempt"]) == ("implementation", 3)
    assert "left no .autolab/agent_result.json" in state["reason"], "the result of the failed call was taken"
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert kit.tables() == unbroken


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab whose review has refused the candidate until the limit: it waits for a user."""
    answers = iteration(
        implementation=[implementation(3.0), implementation()],
        implementation_review=[review(WRONG_SCOPE), review(WRONG_SCOPE), review()],
    )
    kit = make_twin(tmp_path_factory.mktemp("waiting"), script(answers), config={"attempts": {"bounces": 1}})
    (kit.root / "notes.txt").write_text("mine\n")
    (kit.root / "program.md").write_text("changed by me\n")
    kit.git("add", "program.md")
    (kit.root / "program.md").write_text("changed by me, again\n")
    assert kit.autolab(*LOOP).code == 3
    return Kept(kit)


def test_5_an_exhausted_review_waits_for_a_user_and_destroys_nothing(waiting: Kept) -> None:
    kit = waiting.back()
    state = kit.state()
    assert (state["stage"], state["from_stage"]) == ("human_review", "implementation_review")
    assert "sent back 1 times" in state["reason"] and WRONG_SCOPE["message"] in state["reason"]
    (folder,) = kit.iterations()
    report = (folder / "failure_report.md").read_text()
    assert WRONG_SCOPE["message"] in report and "autolab review approve" in report
    branch = "exp/h1-a-steeper-slope"
    assert branch in report
    subjects = kit.git("log", "--format=%s", f"main..{branch}").splitlines()
    assert len(subjects) == 2, "both candidates stay on the branch"
    assert len(kit.git("for-each-ref", "refs/autolab/keep").splitlines()) == 2
    assert (kit.root / "5_worktrees" / "h1-a-steeper-slope" / "models" / "width.py").read_text() == "WIDTH = 4.0\n"
    assert (kit.root / "notes.txt").read_text() == "mine\n"
    assert (kit.root / "program.md").read_text() == "changed by me, again\n"
    assert kit.git("show", ":program.md") == "changed by me\n", "what was staged stays staged"
    assert not kit.tried()
    for command in (("run",), LOOP):
        again = kit.autolab(*command)
        assert again.code == 3 and "waits for" in again.out
    assert kit.state() == state


def test_5_approve_launches_the_candidate_on_the_users_word(waiting: Kept, unbroken: dict[str, Any]) -> None:
    kit = waiting.back()
    assert kit.autolab("review", "approve").code == 0
    assert stage(kit) == "launch"
    (folder,) = kit.iterations()
    signed = json.loads((folder / "review_result.json").read_text())
    assert (signed["status"], signed["reviewer"]) == ("pass", "user")
    assert kit.autolab(*LOOP).code == 0
    assert kit.tables() == unbroken


def test_5_retry_has_the_candidate_reviewed_again(waiting: Kept, unbroken: dict[str, Any]) -> None:
    kit = waiting.back()
    assert kit.autolab("review", "retry").code == 0
    assert stage(kit) == "implementation_review"
    assert kit.autolab(*LOOP).code == 0
    assert kit.tables() == unbroken


def test_5_stop_ends_the_campaign_and_keeps_everything(waiting: Kept) -> None:
    kit = waiting.back()
    branch = kit.git("rev-parse", "exp/h1-a-steeper-slope")
    assert kit.autolab("review", "stop").code == 0
    assert stage(kit) == "stop"
    assert json.loads(kit.autolab("status", "--json").out)["loop"] is None
    refused = kit.autolab(*LOOP)
    assert refused.code == 1 and refused.err.count("\n") == 1 and "--goal" in refused.err
    assert kit.git("rev-parse", "exp/h1-a-steeper-slope") == branch
    assert (kit.root / "notes.txt").exists() and kit.git("show", ":program.md") == "changed by me\n"


def test_5_a_reviewer_that_never_answers_leaves_nothing_to_approve(tmp_path: Path) -> None:
    answers = iteration(implementation_review=[{"raw": "fine!"}, {"raw": "fine!"}, review()])
    kit = make_twin(tmp_path, script(answers), config={"attempts": {"stage": 2}})
    assert kit.autolab(*LOOP).code == 3
    assert "2 attempts used up" in kit.state()["reason"]
    refused = kit.autolab("review", "approve")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "autolab review retry" in refused.err
    assert stage(kit) == "human_review" and not kit.tried()
    assert kit.autolab("review", "retry").code == 0
    assert kit.autolab(*LOOP).code == 0


def test_6_words_go_to_both_paper_targets_beside_what_stands_there(tmp_path: Path) -> None:
    paper = [
        {"path": "paper/paperbanana.md", "text": "The slope carries the separation."},
        {"path": "paper/ralph.md", "text": "The loop needed one iteration."},
    ]
    kit = make_twin(
        tmp_path, script(iteration(update_docs=docs(paper=None) | {"output": docs()["output"] | {"paper": paper}}))
    )
    before = {update["path"]: (kit.root / update["path"]).read_text() for update in paper}
    assert kit.autolab(*LOOP).code == 0
    (folder,) = kit.iterations()
    for update in paper:
        now = (kit.root / update["path"]).read_text()
        assert update["text"] in now and now.startswith(before[update["path"]])
        assert update["path"] in (folder / "docs_update.md").read_text()


def test_6_an_answer_without_an_update_or_a_reason_is_sent_back(tmp_path: Path) -> None:
    silent, unknown = docs(paper=None), docs(paper=None)
    unknown["output"]["paper"] = [{"path": "README.md", "text": "Look at me."}]
    reason = docs(paper=None, no_changes="The paper says it already.")
    kit = make_twin(tmp_path, script(iteration(update_docs=[silent, unknown, reason])))
    step_to(calibrated(kit), "update_docs")
    assert kit.autolab("run").code == 0
    assert stage(kit) == "update_docs" and "no_changes" in kit.state()["reason"]
    assert kit.autolab("run").code == 0
    assert stage(kit) == "update_docs" and "README.md" in kit.state()["reason"]
    assert kit.autolab("run").code == 0
    assert stage(kit) == "decide_repeat"
    (folder,) = kit.iterations()
    assert "The paper says it already." in (folder / "docs_update.md").read_text()


@pytest.mark.parametrize("after", ["engine.submitted", "engine.first_result"])
def test_7_a_loop_killed_in_launch_goes_on_without_submitting_twice(
    tmp_path: Path, unbroken: dict[str, Any], after: str
) -> None:
    slow = design(train={"seconds": 0.3})
    kit = make_twin(tmp_path, script(iteration(design=slow)))
    loop = kit.start(*LOOP)
    assert loop.stdout is not None
    for awaited in ("] launch", "completed in")[: 1 if after == "engine.submitted" else 2]:
        assert any(awaited in line for line in loop.stdout)
    if after == "engine.submitted":
        wait_for_start(kit)
    loop.send_signal(signal.SIGKILL)
    loop.communicate()
    assert stage(kit) == "launch"

    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.err
    total = CALIBRATION + 2 * SEARCH + CONFIRMATION  # with settings of its own the search measures its baseline too
    done_once(kit, total)
    keys = [key for event in kit.events("submitted") for key in event["data"]["keys"]]
    assert len(keys) == len(set(keys)) == total and not kit.events("trial_lost")
    assert scores(kit.tables()) == scores(unbroken)
    assert ended.out.rstrip().endswith("1 of 1 iterations done")


def wait_for_start(kit: LabKit) -> None:
    """Until the first trial has begun, which the training itself says."""
    import time

    deadline = time.monotonic() + 60
    while not kit.tried() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert kit.tried()


def scores(tables: dict[str, Any]) -> Any:
    """The search and the confirmation of the first iteration."""
    return [tables[f"0/{run}"] for run in ("run_0001", "run_0002")]


# the gate before launch


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab at launch, its candidate reviewed; sent back, it gets the same candidate and review again."""
    answers = iteration(implementation=[implementation()] * 2, implementation_review=[review()] * 2)
    kit = make_twin(tmp_path_factory.mktemp("reviewed"), script(answers))
    step_to(calibrated(kit), "launch")
    return Kept(kit)


def edit_worktree(kit: LabKit) -> None:
    (kit.root / "5_worktrees" / "h1-a-steeper-slope" / "models" / "width.py").write_text("WIDTH = 99.0\n")


def stage_in_worktree(kit: LabKit) -> None:
    edit_worktree(kit)
    kit.git("-C", "5_worktrees/h1-a-steeper-slope", "add", "models/width.py")


def commit_in_worktree(kit: LabKit) -> None:
    stage_in_worktree(kit)
    kit.git("-C", "5_worktrees/h1-a-steeper-slope", "commit", "-qm", "after the review")


def edit_review(**changes: Any) -> Callable[[LabKit], None]:
    def edit(kit: LabKit) -> None:
        (path,) = kit.root.glob("experiments/*/review_result.json")
        value = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: part for key, part in value.items() if part is not ...}))

    return edit


def remove_review(kit: LabKit) -> None:
    (path,) = kit.root.glob("experiments/*/review_result.json")
    path.write_text("")


GATE: dict[str, tuple[Callable[[LabKit], None], str]] = {
    "worktree edited": (edit_worktree, "changed since commit"),
    "worktree staged": (stage_in_worktree, "changed since commit"),
    "review without commit": (edit_review(commit=...), "review_result.json"),
    "review of another commit": (edit_review(commit="0" * 40), "review_result.json"),
    "review not passed": (edit_review(status="needs_retry"), "review_result.json"),
    "check failed": (edit_review(required_checks={"dry_run": "fail"}), "review_result.json"),
    "checks edited": (edit_review(required_checks={"dry_run": "pass"}), "changed since the review was recorded"),
    "review emptied": (remove_review, "review_result.json"),
}


@pytest.mark.parametrize("case", GATE)
def test_launch_is_forbidden_by_a_review_that_does_not_fit_the_candidate(
    reviewed: Kept, case: str, unbroken: dict[str, Any]
) -> None:
    kit = reviewed.back()
    spoil, said = GATE[case]
    spoil(kit)
    assert kit.autolab("run").code == 0
    state = kit.state()
    assert state["stage"] == "implementation" and "launch is forbidden" in state["reason"]
    assert said in state["reason"]
    assert not kit.tried(), "a trial ran through a closed gate"
    if case == "worktree edited":
        assert kit.autolab(*LOOP).code == 0
        assert kit.tables() == unbroken


def test_a_commit_made_in_the_worktree_after_the_review_is_not_launched(reviewed: Kept) -> None:
    kit = reviewed.back()
    commit_in_worktree(kit)
    ended = kit.autolab("run")
    assert not kit.tried()
    assert ended.code in (0, 1) and stage(kit) in ("implementation", "launch")
    assert "launch is forbidden" in kit.state()["reason"] or ended.err.count("\n") == 1


# how a loop ends


def test_run_walks_one_transition_a_call(tmp_path: Path, unbroken: dict[str, Any]) -> None:
    kit = make_twin(tmp_path, script(HELPS))
    way = ["design", "implementation", "implementation_review", "launch", "extract_results", "update_docs"]
    here = "hypothesis"
    for there in (*way, "decide_repeat", "hypothesis"):
        if here == "launch":
            refused = kit.autolab("run")
            assert refused.code == 1 and refused.err.count("\n") == 1 and "run `autolab calibrate` first" in refused.err
            assert stage(calibrated(kit)) == "launch"
        stepped = kit.autolab("run")
        assert stepped.code == 0 and stepped.out.rstrip().endswith(f"{here} -> {there}")
        assert stage(kit) == there
        here = there
    assert kit.tables() == unbroken


@pytest.mark.parametrize(
    ("target", "refusal"),
    [
        ((), "there is no target"),
        (("--target", "val_loss<=0.001"), "the target is <= 0.001"),
        (("--target", "0.001"), "the target is <= 0.001"),
    ],
)
def test_achieve_is_refused_without_a_target_that_is_met(tmp_path: Path, target: tuple[str, ...], refusal: str) -> None:
    kit = make_twin(tmp_path, script(iteration(decide_repeat=[decision("achieve"), decision()])))
    ended = kit.autolab(*LOOP, *target)
    assert ended.code == 0 and "achieve is refused" in ended.out and refusal in ended.out
    assert stage(kit) == "hypothesis"
    decisions = [record["planning_decision"]["action"] for record in json.loads(kit.autolab("registry", "--json").out)]
    assert decisions == ["new_hypothesis"]


def test_achieve_with_a_met_target_ends_the_loop_and_a_goal_begins_again(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(iteration(decide_repeat=decision("achieve")), NOTHING))
    ended = kit.autolab("loop", "--max-iterations", "5", "--target", "val_loss<=0.1")
    assert ended.code == 0 and "loop ended: achieve" in ended.out
    assert stage(kit) == "stop" and len(kit.iterations()) == 1
    refused = kit.autolab("loop", "--max-iterations", "5")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "--goal" in refused.err
    refused = kit.autolab("run")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "--goal" in refused.err
    again = kit.autolab(*LOOP, "--goal", "Something else")
    assert again.code == 0 and len(kit.iterations()) == 2
    assert "Something else" in next(kit.store.glob("requests/*_h2/hypothesis-1/prompt.md")).read_text()


def test_achieve_is_refused_where_the_candidate_is_not_supported(tmp_path: Path) -> None:
    answers = NOTHING | {"decide_repeat": [decision("achieve"), decision()]}
    kit = make_twin(tmp_path, script(answers))
    ended = kit.autolab(*LOOP, "--target", "val_loss<=0.9")
    assert ended.code == 0 and "achieve is refused: the verdict is" in ended.out


def test_patience_ends_a_loop_without_gain_and_a_loop_ends_by_its_count(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(HELPS, NOTHING, NOTHING, NOTHING))
    ended = kit.autolab("loop", "--max-iterations", "4", "--patience", "1")
    assert ended.code == 0 and "no gain in 1 iterations (patience 1)" in ended.out
    assert len(kit.iterations()) == 2
    for count in (3, 4):
        ended = kit.autolab(*LOOP)
        assert ended.code == 0 and "1 of 1 iterations done" in ended.out
        assert len(kit.iterations()) == count, "the same command again is another iteration"


@pytest.mark.parametrize(("cap", "said"), [({"iterations": 1}, "iterations: 1 of 1"), ({"trials": 13}, "trials: 13")])
def test_a_spent_budget_stops_with_its_own_exit_code(tmp_path: Path, cap: dict[str, int], said: str) -> None:
    kit = make_twin(tmp_path, script(HELPS, NOTHING), config={"budget": cap})
    ended = kit.autolab("loop", "--max-iterations", "3")
    assert ended.code == 4 and said in ended.out
    state = kit.state()
    assert state["stage"] == "stop" and state["reason"].startswith("budget")
    assert len(kit.iterations()) == 1
    done_once(kit, CALIBRATION + SEARCH + CONFIRMATION)


def test_a_budget_that_a_confirmation_does_not_fit_ends_before_it(tmp_path: Path) -> None:
    spent = CALIBRATION + SEARCH
    kit = make_twin(tmp_path, script(HELPS), config={"budget": {"trials": spent + CONFIRMATION - 1}})
    ended = kit.autolab(*LOOP)
    assert ended.code == 4 and "supported, and not confirmed: the budget ends here" in ended.out
    done_once(kit, spent)
    assert not kit.events("confirmed") and not kit.git("for-each-ref", "refs/heads/autolab").strip()


def test_a_budget_that_the_design_does_not_fit_goes_back_to_the_designer(tmp_path: Path) -> None:
    answers = iteration(design=[design(seeds=[1, 2, 3, 4, 5]), design(seeds=[1, 2])])
    kit = make_twin(tmp_path, script(answers), config={"budget": {"trials": CALIBRATION + 8}})
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "8 are left of budget.trials" in ended.out
    done_once(kit, CALIBRATION + 4 + 4)
