"""Mode `explore` through the real command line: batches are screened, the sum of their steps is claimed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import CLAIM, Kept, LabKit, batch, hypothesis, implementation, iteration, make_lab, review, script

pytestmark = [pytest.mark.process, pytest.mark.slow]

RULE = {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8}
"""Two pairs are never enough for it, four that are clear are."""
FLAT = ("flat", 1.0)


def explorer(folder: Path, *batches: dict[str, Any], holdout: bool = False, **config: Any) -> LabKit:
    config = {"screen": {"arms": 2}, **config, "test": {**RULE, **config.get("test", {})}}
    return make_lab(folder, script(*batches), config=config, holdout=holdout)


def campaign(kit: LabKit) -> dict[str, Any]:
    found: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return found


def names(kit: LabKit) -> list[str]:
    """The iterations without their times."""
    return [folder.name.partition("_")[2] for folder in kit.iterations()]


def titles(folder: Path) -> list[str]:
    """The ideas of a batch, in order."""
    found = {}
    for path in folder.glob("arms/*/hypothesis.md"):
        head = yaml.safe_load(path.read_text().split("---")[1])
        found[int(head["id"][1:])] = head["title"]
    return [found[number] for number in sorted(found)]


def lessons(kit: LabKit, folder: Path) -> dict[str, tuple[str | None, str]]:
    """Outcome and reason of each idea of a batch, by title."""
    found = [line["data"]["lesson"] for line in kit.events("learned")]
    return {one["title"]: (one["outcome"], one["reason"]) for one in found if one["iteration_id"] == folder.name}


def reconfigured(kit: LabKit, **keys: Any) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


# Two batches and a claim

BLOCKING = {"check": "fairness", "severity": "blocking", "file": None, "message": "trains on the evaluation"}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Four ideas, of which one has no code, one is blocked and two gain; then four, of which one breaks in training."""
    first = {
        "hypothesis": [hypothesis(title) for title in ("steeper", "a bit steeper", "no code", "unfair")],
        "implementation": [
            implementation(3.0),
            implementation(2.5),
            implementation("="),
            implementation("="),
            implementation(3.5),
        ],
        "implementation_review": [review(), review(), review(BLOCKING)],
    }
    second = batch(("again", 2.6), ("steepest", 4.0), ("too steep", 400.0), FLAT)
    second["hypothesis"] = second["hypothesis"][1:]
    kit = explorer(
        tmp_path_factory.mktemp("story"), first, second, CLAIM, holdout=True, screen={"arms": 4}, budget={"trials": 60}
    )
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    (kit.root.parent / "said.txt").write_text(ended.out)
    return Kept(kit)


def test_two_batches_and_a_claim_which_no_cap_counts(story: Kept) -> None:
    kit = story.kit
    assert names(kit) == ["batch1", "batch2", "claim1"]
    now = campaign(kit)
    assert (now["iterations"], now["uncapped"], now["batches"], now["claims_begun"]) == (3, 1, 2, 1)
    assert (now["ideas_screened"], now["provisional"]) == (8, 2)
    assert now["trials"] <= 60
    assert sum(now["trials_for"].values()) == now["trials"]
    assert "loop ended: 2 of 2 iterations done" in (kit.root.parent / "said.txt").read_text()


def test_an_idea_that_fails_is_dropped_with_its_reason_and_the_batch_goes_on(story: Kept) -> None:
    first, second, _ = story.kit.iterations()
    dropped = {line["data"]["arm"]: line["data"] for line in story.kit.events("idea_dropped")}
    assert {arm: one["reason"] for arm, one in dropped.items()} == {"h3-no-code": "failed", "h4-unfair": "review"}
    assert "trains on the evaluation" in dropped["h4-unfair"]["detail"]
    assert lessons(story.kit, first) == {
        "steeper": ("provisional", "screened"),
        "a bit steeper": ("dropped", "screened"),
        "no code": ("dropped", "failed"),
        "unfair": ("dropped", "review"),
    }
    assert lessons(story.kit, second)["too steep"] == ("dropped", "failed")
    assert lessons(story.kit, second)["steepest"] == ("provisional", "screened")


def test_runners_up_come_first_in_the_next_batch(story: Kept) -> None:
    _, second, _ = story.kit.iterations()
    assert titles(second) == ["a bit steeper", "steepest", "too steep", "flat"]
    claim = yaml.safe_load(next(second.glob("arms/h5-*/hypothesis.md")).read_text().split("---")[1])
    assert claim["parent"] == story.kit.iterations()[0].name


def test_the_claim_is_kept_and_moves_the_champion(story: Kept) -> None:
    kit = story.kit
    (confirmed,) = kit.events("confirmed")
    one = confirmed["data"]["confirmation"]
    assert (one["outcome"], one["holdout"], one["claim"], one["alpha"]) == ("kept", "passed", 1, 0.02)
    assert kit.git("rev-parse", "autolab/champion") == kit.git("rev-parse", "exp/h6-steepest")
    assert len(kit.events("holdout_asked")) == 1
    assert campaign(kit)["exploration"] is None
    assert campaign(kit)["claims"]["alphas"][0]["pairs"] == 4


def test_what_judges_an_exploration_is_written_down_once_before_its_first_batch(story: Kept) -> None:
    (fixed,) = story.kit.events("exploration_fixed")
    opened = next(line for line in story.kit.events("transition") if line["data"].get("why") == "opened")
    assert fixed["n"] < opened["n"]
    assert fixed["data"]["reserve"] == 16
    assert fixed["data"]["alphas"] == [0.02, pytest.approx(0.02 / 3), pytest.approx(0.02 / 6)]


def test_the_next_ideas_branch_from_the_champion_and_are_fixed_anew(story: Kept) -> None:
    kit = story.back()
    path = kit.root / ".autolab" / "script.yaml"
    more = yaml.safe_load(path.read_text())
    more["iterations"].append(batch(("steeper yet", 4.1), FLAT, FLAT, FLAT))
    path.write_text(yaml.safe_dump(more))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert len(kit.events("exploration_fixed")) == 2
    design = yaml.safe_load((kit.iterations()[3] / "design.yaml").read_text())
    assert design["base_commit"] == kit.git("rev-parse", "exp/h6-steepest").strip()


# The record


@pytest.mark.parametrize("name", ["batch1", "batch2", "claim1"])
def test_replay_decides_the_same_and_asks_nobody(story: Kept, name: str) -> None:
    kit = story.back()
    before = len(kit.executions())
    ended = kit.autolab("replay", name)
    assert ended.code == 0, ended.out + ended.err
    assert "the same decisions: " in ended.out and "nothing sent" in ended.out
    # A trial that failed runs again, and those of a claim, whose predictions for the holdout are gone.
    assert (len(kit.executions()) > before) == (name != "batch1")


def test_a_screen_and_a_claim_are_reproduced(story: Kept) -> None:
    kit = story.back()
    first, _, claim = kit.iterations()
    for run, trial in ((f"{first.name}/run_0001", "h1-steeper-s0"), (f"{claim.name}/run_0001", "working-s0")):
        ended = kit.autolab("reproduce", run, "--trial", trial)
        assert ended.code == 0, ended.out + ended.err
        assert "identical" in ended.out


def test_a_claim_that_comes_out_different_falls_and_ends_the_stack(story: Kept) -> None:
    kit = story.back()
    path = kit.root / ".autolab" / "script.yaml"
    more = yaml.safe_load(path.read_text())
    more["iterations"] += [batch(("steeper yet", 4.1), FLAT, FLAT, FLAT), batch(FLAT, FLAT, FLAT, FLAT)]
    path.write_text(yaml.safe_dump(more))
    for _ in range(8):
        assert kit.autolab("run").code == 0
    assert campaign(kit)["exploration"]["unclaimed"] == 1
    claim = kit.iterations()[2]
    manifest = claim / "runs" / "run_0001" / "run_manifest.json"
    value = json.loads(manifest.read_text())
    for trial in value["trials"]:
        # Numbers that no training gave.
        trial["score"]["val_loss"] += 1.0
        trial["predictions_sha256"] = "0" * 64
    manifest.write_text(json.dumps(value))
    said = kit.autolab("reproduce", f"{claim.name}/run_0001", "--trial", "working-s0")
    assert said.code == 1 and "retracted: " in said.out, said.out + said.err
    assert campaign(kit)["champions"] == []
    ended = kit.autolab("run")
    assert "1 provisional step on" in ended.out and "their branches stay" in ended.out
    assert campaign(kit)["exploration"]["unclaimed"] == 0
    assert kit.git("rev-parse", "autolab/working") == kit.git("rev-parse", "HEAD")


def test_verify_finds_nothing_and_doctor_brings_back_what_was_damaged(story: Kept) -> None:
    kit = story.back()
    assert kit.autolab("verify").code == 0
    first, _, claim = kit.iterations()
    arm = first / "arms" / "h1-steeper"
    kept = {path: path.read_bytes() for path in (arm / "design.yaml", arm / "hypothesis.md", claim / "results.yaml")}
    (arm / "design.yaml").write_text("not: [a design")
    (arm / "review_result.json").write_text("{")
    (arm / "hypothesis.md").unlink()
    (claim / "results.yaml").write_text("x: 1\n")
    (kit.store / "lessons.jsonl").unlink()
    said = kit.autolab("verify")
    assert said.code == 1
    for name in ("arms/h1-steeper/design.yaml", "arms/h1-steeper/review_result.json", "claim1/results.yaml"):
        assert name in said.out + said.err
    fixed = kit.autolab("doctor", "--fix")
    assert "Traceback" not in fixed.err
    assert {path: path.read_bytes() for path in kept} == kept
    json.loads((arm / "review_result.json").read_text())
    assert kit.autolab("verify").code == 0


def test_rows_of_batches_that_were_torn_are_written_again(story: Kept) -> None:
    kit = story.back()
    table = kit.root / "results.tsv"
    rows = table.read_text().splitlines()
    (torn,) = [number for number, row in enumerate(rows) if "a bit steeper; dropped" in row and "batch1" in row]
    lost, rows[torn] = rows[torn], "torn"
    table.write_text("\n".join(rows) + "\n")
    assert kit.autolab("doctor", "--fix").code == 0
    assert lost.split("\t")[:8] in [row.split("\t")[:8] for row in table.read_text().splitlines()]
    assert len(table.read_text().splitlines()) == len(rows)
    assert kit.autolab("verify").code == 0


def test_the_registry_lists_batches_and_claims(story: Kept) -> None:
    kit = story.back()
    said = kit.autolab("registry")
    assert said.code == 0, said.err
    for name in ("batch1", "batch2", "claim1"):
        assert name in said.out


# What may go wrong


NO_CODE = batch(("c", "="), ("d", "="), ("", "="), ("", "="))
"""Two ideas whose code does not pass, each tried twice."""


def test_a_batch_whose_ideas_all_fail_claims_nothing_and_patience_ends_the_loop(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("a", 400.0), ("b", 401.0)), NO_CODE)
    ended = kit.autolab("loop", "--max-iterations", "5", "--patience", "2")
    assert ended.code == 0, ended.out + ended.err
    assert "no gain in 2 iterations (patience 2)" in ended.out
    assert names(kit) == ["batch1", "batch2"]
    assert {outcome for outcome, _ in lessons(kit, kit.iterations()[0]).values()} == {"dropped"}
    assert campaign(kit)["exploration"]["unclaimed"] == 0


GIVES_UP = {"hypothesis": [{"status": "failed", "summary": "nothing is left to try"}]}


def test_a_researcher_that_gives_up_claims_what_is_there_then_the_loop_ends(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 4.0), FLAT), GIVES_UP, CLAIM, GIVES_UP, batch(("steeper", 5.0), FLAT))
    ended = kit.autolab("loop", "--max-iterations", "9")
    assert ended.code == 0, ended.out + ended.err
    assert names(kit) == ["batch1", "batch2", "claim1", "batch3"]
    assert [line["data"]["confirmation"]["outcome"] for line in kit.events("confirmed")] == ["kept"]
    assert kit.state()["stage"] == "stop"
    assert "loop ended: the researcher gave up: nothing is left to try" in ended.out
    # Who begins another loop may have given it more.
    again = kit.autolab("loop", "--max-iterations", "1", "--goal", "with other ideas")
    assert again.code == 0, again.out + again.err
    assert names(kit)[4:] == ["batch4", "claim2"]


def test_steps_of_a_failed_claim_come_first_and_the_next_claim_is_stricter(tmp_path: Path) -> None:
    """The first step gains less than is wanted: fresh seeds rule the wanted gain out."""
    second = batch(("steep", 4.0), FLAT)
    second["hypothesis"] = second["hypothesis"][1:]
    second["implementation"][0] = implementation(2.1)
    second["hypothesis"] = [hypothesis("steep")]
    second["implementation"][1] = implementation(4.0)
    kit = explorer(tmp_path, batch(("a bit", 2.1), FLAT), CLAIM, second, CLAIM, screen={"arms": 2, "claim_every": 1})
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    assert names(kit) == ["batch1", "claim1", "batch2", "claim2"]
    assert titles(kit.iterations()[2]) == ["a bit", "steep"]
    one, two = [line["data"]["confirmation"] for line in kit.events("confirmed")]
    assert (one["outcome"], one["claim"], one["alpha"]) == ("retracted", 1, 0.02)
    assert (two["outcome"], two["claim"], two["alpha"]) == ("kept", 2, pytest.approx(0.02 / 3))
    design = yaml.safe_load((kit.iterations()[2] / "design.yaml").read_text())
    first = yaml.safe_load((kit.iterations()[0] / "design.yaml").read_text())
    assert design["base_commit"] == first["base_commit"]
    assert len(kit.events("exploration_fixed")) == 1, "the base is the same"


def test_a_target_that_seems_reached_is_claimed_at_once_and_achieved(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 4.0), FLAT), CLAIM)
    ended = kit.autolab("loop", "--max-iterations", "5", "--target", "val_loss <= 0.06")
    assert ended.code == 0, ended.out + ended.err
    assert names(kit) == ["batch1", "claim1"]
    assert kit.state()["stage"] == "stop"
    assert "achieve" in ended.out


# Budgets

UNSURE = "(2.05, 3.0, 8.0)[int(__import__('os').environ.get('AUTOLAB_SEED', '1')) % 3]"
"""A slope that a seed draws: it gains nothing, .07 or .14. Five pairs are alike in 1 of 81 cases, else show nothing."""


def test_a_claim_that_the_budget_cuts_short_goes_on_with_the_same_pairs(tmp_path: Path) -> None:
    kit = explorer(
        tmp_path,
        batch(("unsure", UNSURE), FLAT),
        CLAIM,
        test={"alpha": 0.005, "confirm_pairs": 24, "max_pairs": 24},
        budget={"trials": 4 + 2 + 11},
    )
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert names(kit) == ["batch1", "claim1"]
    assert "not decided when the budget ended" in ended.out, ended.out
    assert kit.events("confirmed") == []
    cut = campaign(kit)
    assert cut["trials"] <= 17
    assert [(one["number"], one["pairs"]) for one in cut["claims"]["alphas"]] == [(1, 5)]
    reconfigured(kit, budget={"trials": 80})
    again = kit.autolab("loop", "--max-iterations", "1", "--goal", "go on")
    assert "Traceback" not in again.err
    claims = [name for name in names(kit) if name.startswith("claim")]
    assert claims[:2] == ["claim1", "claim2"]
    assert names(kit)[2] == "claim2", "it goes on before another batch"
    one = kit.events("confirmed")[0]["data"]["confirmation"]
    assert (one["claim"], one["alpha"]) == (1, 0.005)
    # Nothing was measured twice.
    trained = [key.split("/")[1] for key in kit.executed("done") if "_claim" in key.split("/")[0]]
    assert len(trained) > 10 and len(trained) == len(set(trained))
    assert max(kit.executed("start").values()) == 1
    assert campaign(kit)["claims"]["confirmations"] == 1


def test_a_budget_that_holds_a_claim_alone_screens_nothing(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 4.0), FLAT), budget={"trials": 4 + 8})
    ended = kit.autolab("loop", "--max-iterations", "3")
    assert ended.code == 4, ended.out + ended.err
    assert "set aside for a claim" in ended.out
    assert names(kit) == []


def test_what_a_claim_leaves_over_is_screened_with(tmp_path: Path) -> None:
    batches = [batch(("steep", 4.0), FLAT), batch(FLAT, ("flatter", 0.9)), batch(("flat 3", 0.8), ("flat 4", 0.7))]
    kit = explorer(
        tmp_path,
        batches[0],
        CLAIM,
        batches[1],
        batches[2],
        screen={"arms": 2, "claim_every": 1, "reserve": 0.9},
        budget={"trials": 30},
    )
    ended = kit.autolab("loop", "--max-iterations", "9")
    assert ended.code in (0, 4), ended.out + ended.err
    assert names(kit)[:3] == ["batch1", "claim1", "batch2"]
    assert campaign(kit)["trials"] <= 30


# Users


def test_stage_by_stage_then_a_commit_of_the_user_ends_the_stack(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 4.0), FLAT), batch(("steep too", 3.9), FLAT), CLAIM)
    assert kit.autolab("calibrate").code == 0
    for _ in range(8):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err
    assert names(kit) == ["batch1"] and kit.state()["iteration_id"] is None
    step = campaign(kit)["exploration"]["steps"][0]["commit"]
    assert kit.git("rev-parse", "autolab/working").strip() == step
    (kit.root / "README.md").write_text("mine\n")
    (kit.root / "models" / "mine.py").write_text("X = 1\n")
    kit.git("add", "models/mine.py")
    kit.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "mine")
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert "1 provisional step on" in ended.out and "their branches stay" in ended.out
    assert kit.git("rev-parse", "exp/h1-steep").strip() == step
    assert names(kit) == ["batch1", "batch2", "claim1"]
    design = yaml.safe_load((kit.iterations()[1] / "design.yaml").read_text())
    assert design["base_commit"] == kit.git("rev-parse", "HEAD").strip()
    assert len(kit.events("exploration_fixed")) == 2


def test_a_loop_that_ends_after_a_commit_of_the_user_says_that_its_steps_end_unclaimed(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 4.0), FLAT), CLAIM)
    assert kit.autolab("calibrate").code == 0
    loop = kit.start("loop", "--max-iterations", "1")
    assert loop.stdout is not None
    lines = []
    while "decide_repeat" not in (line := loop.stdout.readline()):
        assert loop.poll() is None
        lines.append(line)
        if "update_docs" in line:
            (kit.root / "models" / "mine.py").write_text("X = 1\n")
            kit.git("add", "models/mine.py")
            kit.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "mine")
    out, err = loop.communicate(timeout=120)
    assert loop.returncode == 0, err
    assert "1 provisional step on" in out and "end unclaimed: another commit stands now" in out
    assert names(kit) == ["batch1"]


def test_the_working_branch_is_a_view_and_stop_claims_nothing(tmp_path: Path) -> None:
    kit = explorer(tmp_path, batch(("steep", 3.0), FLAT), batch(("steeper", 4.0), ("x", 0.9)), CLAIM)
    assert kit.autolab("calibrate").code == 0
    for _ in range(8):
        assert kit.autolab("run").code == 0
    # Whoever moves the branch changes nothing, and whoever looks at it is in nobody's way.
    kit.git("branch", "-f", "autolab/working", "HEAD")
    kit.git("worktree", "add", "-q", str(tmp_path / "look"), "autolab/working")
    loop = kit.start("loop", "--max-iterations", "1")
    assert loop.stdout is not None
    while "implementation" not in loop.stdout.readline():
        assert loop.poll() is None
    loop.send_signal(signal.SIGINT)
    out, err = loop.communicate(timeout=120)
    assert loop.returncode == 0, err
    assert "paused" in out and not any("claim" in name for name in names(kit))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert names(kit) == ["batch1", "batch2", "claim1"]
    assert "note: refs/heads/autolab/working" in ended.out, "it is checked out, and stays"
    design = yaml.safe_load((kit.iterations()[1] / "design.yaml").read_text())
    assert design["base_commit"] == kit.git("rev-parse", "exp/h1-steep").strip()
    assert campaign(kit)["champions"][-1]["commit"] == kit.git("rev-parse", "exp/h3-steeper").strip()


def test_a_proposal_is_tested_to_its_end(tmp_path: Path) -> None:
    kit = explorer(tmp_path, iteration(), batch(FLAT, ("flatter", 0.9)))
    assert kit.autolab("calibrate").code == 0
    done = kit.autolab("propose", "--set", "width=0.5", "--title", "A flat slope", "--by", "a user")
    assert done.code == 0, done.err
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert [name[:2] for name in names(kit)] == ["h1"]
    record = json.loads((kit.iterations()[0] / "record.json").read_text())
    assert record["verdict"] == "refuted"
