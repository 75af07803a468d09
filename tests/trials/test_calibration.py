"""What a lab can tell apart is known before anything is tried in it, and what it cannot is refused with the way out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import HELPS, LabKit, make_lab, script

pytestmark = pytest.mark.process

SEQUENTIAL = {"rule": "sequential", "alpha": 0.005, "max_pairs": 12, "confirm_pairs": 12}
METRIC = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.05, "report": ["accuracy"]}


def lab(folder: Path, **config: Any) -> LabKit:
    return make_lab(folder, script(HELPS), config={"test": SEQUENTIAL} | config)


def calibration(kit: LabKit) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((kit.root / ".autolab" / "calibration.json").read_text())
    return value


def committed(kit: LabKit, path: str, old: str, new: str) -> None:
    file = kit.root / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    subprocess.run(["git", "commit", "-qam", "change"], cwd=kit.root, check=True)


def test_calibrate_says_noise_price_determinism_and_pairs_and_the_next_ones_cost_one_trial(tmp_path: Path) -> None:
    kit = lab(tmp_path, calibrate={"seeds": 4, "altered": {"width": 1.05}})
    said = kit.autolab("calibrate")
    assert (said.code, said.err) == (0, "")
    found = calibration(kit)
    assert (found["seeds"], found["deterministic"], found["seeds_differ"]) == (4, True, True)
    assert found["deviation"] > 0 and found["rerun_difference"] == 0 and found["seconds"] > 0
    assert found["correlation"] > 0.7, "the altered arm shares its seeds with the baseline"
    assert found["difference_deviation"] < found["deviation"]
    assert found["pairs"] == 5, "any large effect takes as many pairs as the rule needs for one"
    assert "a gain of 0.05 is" in said.out and "about 5 of 12 pairs" in said.out and "gives the same bytes" in said.out
    assert "found        gains from " in said.out and " on can be found, over 12 pairs\n" in said.out
    assert "limit        a trial may take 30 s: train.time_limit_s\n" in said.out
    assert kit.autolab("calibrate").code == 0
    assert sum(kit.executed("done").values()) == 9 + 1, "only the baseline's first seed runs again"
    again = calibration(kit)
    assert [again[key] for key in ("mean", "deviation", "correlation")] == [
        found[key] for key in ("mean", "deviation", "correlation")
    ]
    assert json.loads(kit.autolab("calibrate", "--json").out)["run_id"] == "calibration_0003"


def test_the_first_experiment_finds_its_baseline_measured(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    searched = [line["data"]["trial"] for line in kit.events("trial") if line["data"]["run_id"] == "run_0001"]
    reused = [trial["trial"] for trial in searched if trial["reused_from"]]
    assert reused == ["baseline-s0", "baseline-s1", "baseline-s2"]


@pytest.mark.parametrize(
    ("draw", "said", "key"),
    [
        ("random.SystemRandom().gauss(0, 0.02)", "the same seed gave another result (moved by", "deterministic"),
        ("0.01", "all seeds gave the same result: is AUTOLAB_SEED used?", "seeds_differ"),
    ],
    ids=["forgets its seed", "ignores it"],
)
def test_a_training_that_does_not_use_its_seed_is_pointed_out(draw: str, said: str, key: str, tmp_path: Path) -> None:
    kit = lab(tmp_path)
    committed(kit, "train.py", "noise.gauss(0, 0.02)", draw)
    ended = kit.autolab("calibrate")
    assert ended.code == 0 and f"note: {said}" in ended.out
    assert calibration(kit)[key] is False


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"metric": METRIC | {"success_delta": 1e-6}}, "deviations of a pair's difference"),
        ({"run_time_minutes": [5, 40]}, "run_time_minutes asks for 5 to 40: more data, more epochs or a larger model"),
        ({"run_time_minutes": [0, 1e-6]}, "fewer epochs, less data or a smaller model, or another range"),
        ({"budget": {"trials": 12}}, "twice, which are 20 trials: budget.trials leaves"),
    ],
    ids=["too noisy", "too short", "too long", "too few trials"],
)
def test_what_cannot_be_resolved_is_refused_in_one_line_before_anybody_is_asked(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    kit = lab(tmp_path, **config)
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 1 and message in said.err and len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith("autolab: calibration refuses: ")
    assert kit.events("answered") == [], "nobody was asked"
    again = kit.autolab("calibrate")
    assert again.code == 1 and message in again.err


def test_the_refusal_names_an_effect_that_the_pairs_would_resolve(tmp_path: Path) -> None:
    kit = lab(tmp_path, metric=METRIC | {"success_delta": 1e-6})
    refused = calibration_refusal(kit)
    enough = refused.partition("success_delta of ")[2].partition(" or more")[0]
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("1.0e-06", f"{float(enough) * 1.1:g}"))
    assert kit.autolab("calibrate").code == 0


def calibration_refusal(kit: LabKit) -> str:
    said = kit.autolab("calibrate")
    assert said.code == 1
    refused = calibration(kit)["refused"]
    assert refused in said.err
    return str(refused)


UNNAMED = METRIC | {"success_delta": None}


def test_without_a_named_difference_the_calibration_takes_it_and_every_claim_names_it(tmp_path: Path) -> None:
    kit = lab(tmp_path, metric=UNNAMED, budget={"trials": 60})
    asked = kit.autolab("run")
    assert asked.code == 1 and len(asked.err.splitlines()) == 1 and kit.events("answered") == []
    assert "metric.success_delta: null is taken from the calibration: run `autolab calibrate` first" in asked.err
    said = kit.autolab("calibrate")
    assert said.code == 0, said.err
    found = calibration(kit)
    taken = found["success_delta"]
    assert found["derived"] and taken > 0
    line = f"the smallest difference in val_loss is {taken:g}, taken from the noise and the budget, for all of this"
    assert f"difference   {line} protocol\n" in said.out
    assert f"gains from {taken:g} on can be found, in 56 trials\n" in said.out
    looped = kit.autolab("loop", "--max-iterations", "1")
    assert looped.code == 0, looped.err
    assert line in looped.out and "calibrating" not in looped.out, "the calibration holds"
    (iteration,) = kit.iterations()
    assert f"success_delta: {taken:g}\n" in (iteration / "hypothesis.md").read_text()
    assert yaml.safe_load((iteration / "design.yaml").read_text())["metrics"]["success_delta"] == taken
    # Fewer trials are left by now: a difference taken anew would be larger.
    again = kit.autolab("calibrate")
    assert again.code == 0 and calibration(kit)["success_delta"] == taken
    assert f"gains from {taken:g} on can be found" not in again.out


def test_a_loop_takes_the_difference_itself_and_says_what_it_can_find(tmp_path: Path) -> None:
    kit = lab(tmp_path, metric=UNNAMED)
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0, said.err
    taken = calibration(kit)["success_delta"]
    assert said.out.count(f"the smallest difference in val_loss is {taken:g}, taken from the noise") == 1
    assert said.out.count(f"gains from {taken:g} on can be found, over 12 pairs\n") == 1
    replayed = kit.autolab("replay", "h1")
    assert replayed.code == 0, replayed.err


def test_a_proposal_names_the_difference_that_the_calibration_took(tmp_path: Path) -> None:
    kit = lab(tmp_path, metric=UNNAMED)
    propose = ("propose", "--title", "Wider", "--set", "width=1.5")
    early = kit.autolab(*propose)
    assert early.code == 1 and "run `autolab calibrate` first" in early.err and len(early.err.splitlines()) == 1
    assert kit.autolab("calibrate").code == 0
    assert kit.autolab(*propose).code == 0
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0, said.err
    taken = calibration(kit)["success_delta"]
    (iteration,) = kit.iterations()
    assert f"val_loss improves by at least {taken:g}" in (iteration / "hypothesis.md").read_text()


def test_a_claim_alone_has_to_fit_into_the_budget_of_a_lab_that_explores(tmp_path: Path) -> None:
    kit = lab(tmp_path, test=SEQUENTIAL | {"mode": "explore"}, budget={"trials": 16})
    said = kit.autolab("calibrate")
    assert said.code == 0 and "about 5 of 12 pairs" in said.out and "on can be found, in 12 trials\n" in said.out
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("mode: explore", "mode: each"))
    said = kit.autolab("calibrate")
    assert said.code == 1 and "5 pairs, twice, which are 20 trials: budget.trials leaves 11" in said.err


def test_a_run_is_not_launched_without_a_calibration_of_this_protocol(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    for _ in range(4):
        assert kit.autolab("run").code == 0
    said = kit.autolab("run")
    assert said.code == 1 and "the lab has not been calibrated: run `autolab calibrate` first" in said.err
    assert kit.autolab("calibrate").code == 0
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("success_delta: 0.05", "success_delta: 0.06"))
    said = kit.autolab("run")
    assert said.code == 1 and "was calibrated with another evaluator, data, metric or environment" in said.err
    assert kit.autolab("calibrate").code == 0 and kit.autolab("run").code == 0


def test_another_evaluator_in_mid_campaign_is_a_new_protocol(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS, HELPS), config={"test": SEQUENTIAL})
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    first = calibration(kit)["protocol"]
    committed(kit, "eval.py", '"""The frozen evaluator', '"""The evaluator')
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "evaluator, data, metric or environment changed" in said.out
    assert calibration(kit)["protocol"] != first
    newest = [line["data"]["trial"] for line in kit.events("trial") if line["data"]["run_id"] == "calibration_0002"]
    assert newest and all(trial["reused_from"] is None for trial in newest), "nothing is compared across epochs"


def test_trials_of_a_calibration_count_and_a_cap_holds_for_them_too(tmp_path: Path) -> None:
    kit = lab(tmp_path, budget={"trials": 3})
    said = kit.autolab("calibrate")
    assert said.code == 1 and "budget: trials: 0 done, 4 wanted, 3 allowed" in said.err
    assert kit.executions() == []
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(path.read_text().replace("trials: 3", "trials: 300"))
    assert kit.autolab("calibrate").code == 0
    assert "4 trials" in kit.autolab("status").out


def test_a_declared_deviation_that_is_too_small_is_pointed_out(tmp_path: Path) -> None:
    kit = lab(tmp_path, test={"rule": "sprt", "deviation": 1e-7, "max_pairs": 4, "confirm_pairs": 4})
    said = kit.autolab("calibrate")
    assert said.code == 0 and "test.deviation: 1e-07 is declared" in said.out and "raise it" in said.out


def test_a_baseline_that_fails_ends_the_calibration_in_one_line(tmp_path: Path) -> None:
    kit = lab(tmp_path)
    committed(kit, "models/width.py", "WIDTH = 2.0", "WIDTH = 1000")
    said = kit.autolab("calibrate")
    assert said.code == 1 and len(said.err.splitlines()) == 1 and "a width above 100 has no shape" in said.err
    assert "baseline, then calibrate again" in said.err
