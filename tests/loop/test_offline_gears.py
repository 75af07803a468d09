"""The offline researcher in mode `explore` through the command line: its campaign is replayed and reproduced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import TINY, Kept, LabKit

pytestmark = [pytest.mark.process, pytest.mark.slow]

RULE = {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8}
CONSTANTS = "WIDTH = 2.0  # slope\nUNUSED_BUDGET = 8\nUNUSED_LIMIT = 30\n"
SEARCHER = {"arms": 3, "searcher": "bandit"}
"""It builds upon steps one by one, where `auto` would take one at its end."""


def offline_lab(folder: Path, **screen: Any) -> LabKit:
    """The tiny lab with its slope and two constants that change nothing in its training script."""
    template = folder / "template"
    shutil.copytree(TINY, template)
    train = template / "train.py"
    train.write_text(train.read_text().replace("from models.width import WIDTH", CONSTANTS))
    path = template / ".autolab" / "config.yaml"
    told = yaml.safe_load(path.read_text())
    told |= {"researcher": {"name": "offline"}, "test": RULE, "screen": screen}
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", str(template), "--seed", "3")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    return kit


def campaign(kit: LabKit) -> dict[str, Any]:
    found: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return found


def names(kit: LabKit) -> list[str]:
    return [folder.name.partition("_")[2] for folder in kit.iterations()]


KINDS = [pytest.param({"arms": 3}, id="surface"), pytest.param(SEARCHER, id="bandit", marks=pytest.mark.nightly)]


@pytest.fixture(scope="module", params=KINDS)
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Two batches and what they lead to."""
    kit = offline_lab(tmp_path_factory.mktemp("offline"), **request.param)
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    return Kept(kit)


def test_two_batches_lead_to_one_claim_that_is_kept(searched: Kept) -> None:
    kit = searched.kit
    assert names(kit)[-1] == "claim1"
    (confirmed,) = kit.events("confirmed")
    assert confirmed["data"]["confirmation"]["outcome"] == "kept"


def test_every_iteration_replays_to_the_same_decisions(searched: Kept) -> None:
    kit = searched.back()
    for name in names(kit):
        ended = kit.autolab("replay", name)
        assert ended.code == 0, ended.out + ended.err
        assert "the same decisions: " in ended.out and "nothing sent" in ended.out, name


def test_a_screened_idea_and_the_claim_are_reproduced_to_the_last_digit(searched: Kept) -> None:
    kit = searched.back()
    tried = []
    for folder in (kit.iterations()[0], kit.iterations()[-1]):
        manifest = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
        trial = next(one["trial"] for one in manifest["trials"] if one["arm"] != "baseline")
        ended = kit.autolab("reproduce", f"{folder.name}/run_0001", "--trial", trial)
        assert ended.code == 0, ended.out + ended.err
        assert "identical" in ended.out
        tried.append(manifest["kind"])
    assert tried == ["screen", "claim"]
    assert len(campaign(kit)["champions"]) == 1, "what comes out the same stands"


# A user's commit in mid-campaign


def committed(kit: LabKit) -> str:
    """The user's commit of code of their own."""
    (kit.root / "models" / "mine.py").write_text("X = 1\n")
    kit.git("add", "models/mine.py")
    kit.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "mine")
    return kit.git("rev-parse", "HEAD").strip()


def staged(kit: LabKit, stages: int) -> None:
    assert kit.autolab("calibrate").code == 0
    for _ in range(stages):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err


def test_a_commit_while_a_batch_is_measured_ends_the_stack_once_the_batch_is_over(tmp_path: Path) -> None:
    kit = offline_lab(tmp_path, **SEARCHER)
    staged(kit, 8 + 4)
    assert (kit.state()["stage"], campaign(kit)["exploration"]["unclaimed"]) == ("launch", 1)
    step = campaign(kit)["exploration"]["steps"][0]["commit"]
    mine = committed(kit)
    first = kit.autolab("loop", "--max-iterations", "1")
    assert first.code == 0, first.out + first.err
    assert names(kit) == ["batch1", "batch2"], "what stands on another base is not claimed"
    second = kit.autolab("loop", "--max-iterations", "1", "--goal", "go on")
    assert second.code == 0, second.out + second.err
    assert "2 provisional steps on" in second.out and "their branches stay" in second.out
    assert names(kit) == ["batch1", "batch2", "batch3", "claim1"]
    assert base_of(kit.iterations()[2]) == base_of(kit.iterations()[3]) == mine
    assert step in kit.git("for-each-ref", "--format=%(objectname)", "refs/heads/exp")
    assert len(kit.events("exploration_fixed")) == 2


def test_a_commit_while_a_claim_is_measured_leaves_the_claim_what_it_is(tmp_path: Path) -> None:
    kit = offline_lab(tmp_path, **SEARCHER, claim_every=1)
    staged(kit, 8 + 1)
    assert names(kit) == ["batch1", "claim1"]
    mine, old = committed(kit), campaign(kit)["exploration"]["base"]
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert "models/mine.py was committed on main: the next candidate branches from there" in ended.out
    assert names(kit) == ["batch1", "claim1", "batch2", "claim2"]
    assert [base_of(folder) for folder in kit.iterations()] == [old, old, mine, mine]
    assert [one["parent"] for one in campaign(kit)["champions"]] == [old, mine]
    assert [one["number"] for one in campaign(kit)["claims"]["alphas"]] == [1, 2]


def base_of(folder: Path) -> str:
    base: str = yaml.safe_load((folder / "design.yaml").read_text())["base_commit"]
    return base
