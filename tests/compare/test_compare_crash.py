"""A comparison that is killed anywhere goes on with the same command, to the same answer, and runs nothing twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from lab_kit import LabKit, make_lab

POINTS = (
    *("ledger.after_append", "ledger.after_head", "export.after_write", "run.after_manifest"),
    *("submit.after_intent", "submit.after_jobs"),
    *("trial.after_exit", "trial.after_fetch", "trial.after_score", "trial.after_record", "trial.after_store"),
    *("run.after_end", "run.after_discard"),
)
COMPARE = ("compare", "--plain", "--containment", "none", "--json")


def killed(kit: LabKit, fault: str) -> bool:
    """Whether the command was killed at the point (a name, or the number of a point that it passes)."""
    return kit.exec(*COMPARE, AUTOLAB_FAULT=fault).code == -signal.SIGKILL


def _judged(kit: LabKit) -> set[str]:
    """The attempts that the comparison's runs were judged by, as `LabKit.executed` names them."""
    manifests = [json.loads(path.read_text()) for path in kit.store.glob("compare/*/files/runs/*/run_manifest.json")]
    judged = {
        f"compare.{manifest['run_id']}/{trial['trial']}/a{trial['attempt']}"
        for manifest in manifests
        for trial in manifest["trials"]
    }
    assert judged
    return judged


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    made = make_lab(tmp_path_factory.mktemp("crash"), {})
    (made.root / "models" / "width.py").write_text("WIDTH = 4.0\n")
    return made


@pytest.mark.process
def test_a_comparison_killed_at_every_point_in_turn_ends_with_one_answer(kit: LabKit, tmp_path: Path) -> None:
    # Every point of it once, in one comparison: each call is killed a little further.
    passed = [point for point in POINTS if killed(kit, point)]
    assert passed == list(POINTS)
    number = 20
    while killed(kit, str(number)):
        number += 17
    ended = kit.autolab(*COMPARE)
    assert ended.code == 0, ended.err
    value = json.loads(ended.out)
    assert (value["candidates"][0]["answer"], value["ended"]) == ("better", True)
    assert set(kit.executed("start").values()) == {1}
    # The decision ends the trials under way that it did not need: only these may have started without an end.
    unended = kit.executed("start") - kit.executed("done")
    assert not unended.keys() & _judged(kit)
    again = kit.autolab(*COMPARE)
    assert json.loads(again.out) == value
