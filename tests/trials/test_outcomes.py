"""Every word for how a trial ends: what the loop does next, and where a user reads the word and its reason."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab_kit import Kept, LabKit, implementation, iteration, make_twin, review, script

from autolab.lab.schemas.outcomes import Recommendation, TrialOutcome, Verdict, recommend

STAND_IN = '''
"""Trials run here; the trial that $TRIAL names then counts as ended by $OUTCOME, as a runner would say it."""
import dataclasses, json, os
from autolab.executors.local import LocalExecutor
from autolab.executors.base import Phase, Status
from autolab.lab.schemas.outcomes import TrialOutcome

class StandIn(LocalExecutor):
    name = location = "standin"

    def poll(self, refs, timeout_s):
        return {key: self._ended(key, status) for key, status in super().poll(refs, timeout_s).items()}

    def _ended(self, key, status):
        if not status.over or f".{os.environ['TRIAL']}." not in key:
            return status
        outcome = TrialOutcome(os.environ["OUTCOME"])
        ended = dataclasses.replace(status.exit, outcome=outcome, message=f"train ran into its limit ({outcome})")
        return Status(Phase.LOST if outcome is TrialOutcome.LOST else Phase.FINISHED, ended)
'''


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A calibrated lab at launch, whose trials run on the stand-in; of its baseline only baseline-s3 is unknown yet."""
    folder = tmp_path_factory.mktemp("reviewed")
    (folder / "staged_ends.py").write_text(STAND_IN)
    rule = {"rule": "fixed", "alpha": 0.005, "max_pairs": 4, "confirm_pairs": 3}
    config = {"executor": {"name": "staged_ends:StandIn"}, "test": rule}
    answers = iteration(implementation=[implementation()] * 2, implementation_review=[review()] * 2)
    kit = make_twin(folder, script(answers), config=config)
    kit.env = {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
    kit.env |= {"TRIAL": "none", "OUTCOME": "completed"}
    calibrated = kit.autolab("calibrate")
    assert calibrated.code == 0, calibrated.err
    for _ in range(4):
        assert kit.autolab("run").code == 0
    assert kit.state()["stage"] == "launch"
    return Kept(kit)


def launched(reviewed: Kept, trial: str, outcome: str) -> LabKit:
    kit = reviewed.back()
    ended = kit.autolab("run", TRIAL=trial, OUTCOME=outcome)
    assert ended.code in (0, 3), ended.out + ended.err
    return kit


def run_of(kit: LabKit) -> tuple[Path, dict[str, Any]]:
    (folder,) = kit.iterations()
    assert kit.state()["last_run_id"] == "run_0001"
    manifest: dict[str, Any] = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
    return folder, manifest


def rows(kit: LabKit) -> list[dict[str, str]]:
    header, *found = (line.split("\t") for line in (kit.root / "results.tsv").read_text().splitlines())
    return [dict(zip(header, row, strict=True)) for row in found]


OWN = ("failed", "timeout", "out_of_memory", "disk_limit", "process_limit", "output_limit", "invalid_artifact")


@pytest.mark.process
@pytest.mark.parametrize("outcome", OWN)
def test_what_a_candidate_did_to_itself_goes_back_to_who_wrote_it_with_the_word_and_the_reason(
    reviewed: Kept, outcome: str
) -> None:
    kit = launched(reviewed, "steep-s1", outcome)
    state = kit.state()
    said = f"trial steep-s1: {outcome}: train ran into its limit ({outcome})"
    assert (state["stage"], state["bounces"]) == ("implementation", 1)
    assert state["reason"] == f"run_0001: {said}"
    _, manifest = run_of(kit)
    assert (manifest["status"], manifest["reason"], manifest["comparisons"]) == ("failed", said, [])
    assert {trial["outcome"] for trial in manifest["trials"] if trial["trial"] == "steep-s1"} == {outcome}
    assert {row["status"] for row in rows(kit)} == {"failed"}
    assert all(row["description"].endswith(said) for row in rows(kit)), rows(kit)


@pytest.mark.process
@pytest.mark.parametrize(("trial", "outcome"), [("steep-s1", "tampered"), ("baseline-s3", "out_of_memory")])
def test_tampering_and_a_baseline_that_breaks_are_a_users(reviewed: Kept, trial: str, outcome: str) -> None:
    kit = launched(reviewed, trial, outcome)
    state = kit.state()
    said = f"trial {trial}: {outcome}: train ran into its limit ({outcome})"
    assert (state["stage"], state["from_stage"]) == ("human_review", "launch")
    assert said in state["reason"]
    folder, manifest = run_of(kit)
    assert manifest["reason"] == said
    assert said in (folder / "failure_report.md").read_text()
    assert all(row["description"].endswith(said) for row in rows(kit)) and rows(kit)
    assert said in kit.autolab("status").out.replace("\n", " ")


@pytest.mark.process
def test_a_lost_trial_is_repeated_and_then_the_stage_tried_again(reviewed: Kept) -> None:
    kit = launched(reviewed, "steep-s1", "lost")
    state = kit.state()
    assert (state["stage"], state["stage_attempt"]) == ("launch", 2)
    assert "trial steep-s1 was lost 3 times" in state["reason"]
    assert [line["data"]["attempt"] for line in kit.events("trial_lost")] == [1, 2, 3]
    assert kit.autolab("run").code == 0
    assert kit.state()["stage"] == "extract_results"


@pytest.mark.process
def test_a_cancelled_trial_counts_nowhere_and_is_repeated(tmp_path: Path, reviewed: Kept) -> None:
    kit = reviewed.back()
    once = STAND_IN.replace("not in key:", 'not in key or not key.endswith(".a1"):')
    (tmp_path / "staged_ends.py").write_text(once)
    path = os.pathsep.join([str(tmp_path), kit.env["PYTHONPATH"]])
    assert kit.autolab("run", TRIAL="steep-s1", OUTCOME="cancelled", PYTHONPATH=path).code == 0
    assert kit.state()["stage"] == "extract_results"
    _, manifest = run_of(kit)
    assert {trial["outcome"] for trial in manifest["trials"]} == {"completed"}
    assert next(trial["attempt"] for trial in manifest["trials"] if trial["trial"] == "steep-s1") == 2


@pytest.mark.process
def test_a_trial_that_leaves_more_than_it_may_ends_as_disk_limit(tmp_path: Path) -> None:
    """Holes take no room while it runs; by their lengths its files are beyond the cap when they are collected."""
    huge = "import os, sys\nif not sys.argv[1:]:\n    for number in range(40):\n"
    huge += "        path = os.environ['AUTOLAB_TRIAL_DIR'] + f'/{number}'\n"
    huge += "        open(path, 'w').close()\n        os.truncate(path, 900_000)\n"
    answers = iteration(implementation=[implementation(f"4.0\n\n{huge}"), implementation()])
    commands = {name: {"command": f"{{python}} -S -B {name}.py", "disk_mb": 1} for name in ("train", "predict")}
    kit = make_twin(tmp_path, script(answers), config=commands)
    assert kit.autolab("calibrate").code == 0
    for _ in range(5):
        assert kit.autolab("run").code == 0
    state = kit.state()
    assert state["stage"] == "implementation"
    assert "trial steep-s0: disk_limit: it left more than 22000000 bytes" in state["reason"]


@pytest.mark.process
def test_completed_trials_lead_to_a_verdict_and_a_supported_one_to_a_confirmation(reviewed: Kept) -> None:
    kit = launched(reviewed, "none", "completed")
    assert kit.state()["stage"] == "extract_results"
    folder, manifest = run_of(kit)
    assert [comparison["verdict"] for comparison in manifest["comparisons"]] == ["supported"]
    confirm = json.loads((folder / "runs" / "run_0002" / "run_manifest.json").read_text())
    assert (confirm["kind"], {trial["outcome"] for trial in confirm["trials"]}) == ("confirm", {"completed"})
    assert kit.autolab("run").code == 0
    with open(folder / "analysis" / "tables" / "trials.csv", newline="") as table:
        assert {row["outcome"] for row in csv.DictReader(table)} == {"completed"}


@pytest.mark.process
@pytest.mark.parametrize(
    ("trial", "outcome", "stage"),
    [
        ("run_0002.steep-s1", "timeout", "implementation"),
        ("run_0002.baseline-s1", "timeout", "human_review"),
        ("run_0002.steep-s1", "tampered", "human_review"),
    ],
)
def test_what_breaks_in_a_confirmation_is_fixed_by_the_same_as_in_a_search(
    reviewed: Kept, trial: str, outcome: str, stage: str
) -> None:
    kit = launched(reviewed, trial, outcome)
    said = f"trial {trial.partition('.')[2]}: {outcome}: train ran into its limit ({outcome})"
    state = kit.state()
    assert state["stage"] == stage
    assert state["reason"].startswith("run_0002: ") and said in state["reason"]
    folder, manifest = run_of(kit)
    assert manifest["status"] == "completed", "the search stands as it was"
    confirm = json.loads((folder / "runs" / "run_0002" / "run_manifest.json").read_text())
    assert (confirm["kind"], confirm["status"], confirm["comparisons"]) == ("confirm", "failed", [])
    assert kit.events("confirmed") == []
    assert not (folder / "merge_request.md").exists()


def test_no_word_is_without_a_test() -> None:
    assert {str(outcome) for outcome in TrialOutcome} == {*OWN, "completed", "tampered", "cancelled", "lost"}


@pytest.mark.parametrize(
    ("verdict", "recommended"),
    [
        (Verdict.SUPPORTED, Recommendation.PROCEED),
        (Verdict.REFUTED, Recommendation.PIVOT),
        (Verdict.INCONCLUSIVE, Recommendation.INVESTIGATE),
        (None, Recommendation.INVESTIGATE),
    ],
)
def test_what_follows_from_a_verdict(verdict: Verdict | None, recommended: Recommendation) -> None:
    assert recommend(verdict) is recommended
