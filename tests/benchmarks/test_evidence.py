"""Evidence that cannot hold is one clear line, through the command line; and a campaign of ideas with known truth."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_kit import HELPS, LabKit, design, iteration, make_lab, script

pytestmark = pytest.mark.process

SEQUENTIAL = {"rule": "sequential", "alpha": 0.005, "max_pairs": 12, "confirm_pairs": 12}
METRIC = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.05, "report": ["accuracy"]}
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def set_config(kit: LabKit, old: str, new: str) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    assert old in path.read_text(), path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    return make_lab(tmp_path_factory.mktemp("evidence"), script(HELPS), config={"test": SEQUENTIAL})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("success_delta: 0.05", "success_delta: 0", "metric.success_delta"),
        ("success_delta: 0.05", "success_delta: .nan", "metric.success_delta"),
        ("max_pairs: 12", "max_pairs: 2", "the sequential rule decides from 3 pairs on"),
        ("rule: sequential", "rule: sprt", "deviation: missing; sprt needs that of a pair's difference"),
        ("alpha: 0.005", "alpha: 0", "test.alpha"),
        ("confirm_pairs: 12", "confirm_pairs: 12\n  fdr: 2", "test.fdr"),
        ("seeds: 3", "seeds: 2", "calibrate.seeds"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_by_field(old: str, new: str, message: str, kit: LabKit) -> None:
    path = kit.root / ".autolab" / "config.yaml"
    before = path.read_text()
    set_config(kit, old, new)
    said = kit.autolab("loop", "--max-iterations", "1")
    path.write_text(before)
    assert said.code == 1 and message in said.err and len(said.err.splitlines()) == 1, said.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": [7]}, "one seed shows no spread; give at least 2, or {max_pairs: n}"),
        ({"seeds": [7, 7]}, "a seed is given twice, which would count one training as two"),
        ({"success_delta": 0}, "success_delta"),
        ({"variants": [{"name": f"v{n}"} for n in range(25)]}, "trials, and "),
    ],
    ids=["one seed", "a seed twice", "no effect", "more arms than trials allow"],
)
def test_a_design_that_cannot_show_anything_goes_back_with_the_reason(
    more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    answers = iteration(design=[design(**more)])
    kit = make_lab(tmp_path, script(answers), config={"test": SEQUENTIAL, "budget": {"trials": 60}})
    kit.autolab("loop", "--max-iterations", "1")
    reasons = [line["data"].get("reason", "") for line in kit.events("transition")]
    assert any(message in reason for reason in reasons), reasons
    assert not kit.events("submitted") or all(
        "calibration" in line["data"]["run_id"] for line in kit.events("submitted")
    )


def test_an_arm_that_ignores_seed_and_change_is_not_taken_for_precise(tmp_path: Path) -> None:
    """Zero variance: equal numbers from every seed are one number, and 20 parts of 100 rows would be too few here."""
    kit = make_lab(tmp_path, script(HELPS), config={"test": SEQUENTIAL})
    file = kit.root / "train.py"
    file.write_text(file.read_text().replace("noise.gauss(0, 0.02)", "0.01"))
    kit.git("commit", "-qam", "no noise")
    said = kit.autolab("loop", "--max-iterations", "1")
    assert said.code == 0 and "deterministic" in said.out
    results = next(kit.root.glob("experiments/*h1/results.yaml")).read_text()
    assert "reason: deterministic" in results


def test_trials_that_are_taken_out_of_a_manifest_are_missed(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), config={"test": SEQUENTIAL})
    for _ in range(4):
        assert kit.autolab("run").code == 0
    assert kit.autolab("calibrate").code == 0 and kit.autolab("run").code == 0
    path = next(kit.root.glob("experiments/*h1/runs/run_0001/run_manifest.json"))
    value = json.loads(path.read_text())
    value["trials"] = [trial for trial in value["trials"] if trial["trial"] != "baseline-s1"]
    path.write_text(json.dumps(value))
    said = kit.autolab("run")
    assert said.code == 1
    (line,) = said.err.splitlines()
    assert "run_manifest.json: was changed after the run ended" in line
    assert "remove the file: the recorded one comes back" in line
    path.unlink()
    said = kit.autolab("run")
    assert said.code == 0 and "verdict: supported" in said.out, said.out + said.err
    assert any(trial["trial"] == "baseline-s1" for trial in json.loads(path.read_text())["trials"])


@pytest.mark.nightly
def test_ideas_with_known_truth_become_what_they_are(tmp_path: Path) -> None:
    """Real digits, real trainings: what helps is kept, other draws are not, a cheat fails the holdout."""
    campaign = benchmark("campaign")
    became = {}
    for idea, folder in campaign.campaign(tmp_path, 3):
        became[idea.truth] = campaign.digits.outcome(folder)
        assert campaign.explained(folder), "the report says what its words mean"
    assert became.pop("other draws") in ("futile", "refuted")
    assert became == {"helps": "kept", "cheats": "search_only"}


def benchmark(name: str) -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))
