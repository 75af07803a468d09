"""A run is repeated from its manifest alone: identical, within the noise, or different and then not built on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import account_kit
import pytest
from lab_kit import HELPS, Kept, LabKit, hypothesis, implementation, iteration, make_lab, script

from autolab.cli import command_line
from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.schemas.experiment import Manifest
from autolab.stats import scores
from autolab.trials import calibration, interpreter, reproduce

pytestmark = pytest.mark.process

RULE = {"rule": "sequential", "alpha": 0.005, "max_pairs": 12, "confirm_pairs": 12}
STEEPER = iteration(hypothesis=hypothesis("Steeper still"), implementation=implementation(8.0))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab with two kept candidates, the second built on the first."""
    kit = make_lab(tmp_path_factory.mktemp("twice"), script(HELPS, STEEPER, HELPS), config={"test": RULE})
    assert kit.autolab("loop", "--max-iterations", "2").code == 0
    return Kept(kit)


@pytest.fixture
def kit(twice: Kept) -> LabKit:
    return twice.back()


def manifest(kit: LabKit, iteration: str, run: str) -> tuple[Path, dict[str, Any]]:
    path = next(kit.root.glob(f"experiments/*{iteration}/runs/{run}/run_manifest.json"))
    return path, json.loads(path.read_text())


def moved(kit: LabKit, iteration: str, run: str, by: float) -> None:
    """Numbers in the manifest that no training gave."""
    path, value = manifest(kit, iteration, run)
    for trial in value["trials"]:
        trial["score"]["val_loss"] += by
        trial["predictions_sha256"] = "0" * 64
    path.write_text(json.dumps(value))


def campaign(kit: LabKit) -> dict[str, Any]:
    value: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return value


def test_a_deterministic_run_comes_out_identical_in_fresh_exports(kit: LabKit) -> None:
    path, value = manifest(kit, "h1", "run_0002")
    before, shown = len(kit.executions()), f"{path.parts[-4]}/run_0002"
    shutil.rmtree(kit.store / "trials")
    said = kit.autolab("reproduce", shown)
    assert (said.code, said.err) == (0, ""), said.out
    assert said.out.count(" identical") == len(value["trials"]) and "identical: every trial gave the same" in said.out
    assert len(kit.executions()) - before == 2 * len(value["trials"]), "each ran once: a start and a done"
    found = json.loads((path.parents[1] / "reproduction_0001" / "reproduction.json").read_text())
    assert (found["of"], found["standing"]) == ("run_0002", "identical")
    assert found["noise_of"] == "calibration calibration_0001"
    assert not (kit.store / "reproduce").exists()
    assert len(campaign(kit)["champions"]) == 2, "nothing fell"


def test_one_trial_can_be_repeated_alone(kit: LabKit) -> None:
    path, _ = manifest(kit, "h1", "run_0001")
    before = len(kit.executions())
    said = kit.autolab("reproduce", f"{path.parts[-4][:20]}/run_0001", "--trial", "steep-s1", "--json")
    found = json.loads(said.out)
    assert (said.code, [one["trial"] for one in found["trials"]]) == (0, ["steep-s1"])
    assert len(kit.executions()) - before == 2


def test_numbers_that_moved_as_another_seed_would_move_them_are_within_the_noise(kit: LabKit) -> None:
    noise = json.loads((kit.root / ".autolab" / "calibration.json").read_text())["deviation"]
    moved(kit, "h2", "run_0001", noise / 4)
    path, _ = manifest(kit, "h2", "run_0001")
    said = kit.autolab("reproduce", f"{path.parts[-4]}/run_0001")
    assert said.code == 0 and "within the noise" in said.out and " identical" not in said.out


def of_baselines(*losses: float) -> Manifest:
    arm = {"name": "base", "role": "baseline", "code": "base", "settings": {}}
    (known, _) = account_kit.manifest().trials
    trials = [
        known.value() | {"trial": f"base-s{seed}", "index": seed, "seed": seed, "score": {"val_loss": loss}}
        for seed, loss in enumerate(losses)
    ]
    return account_kit.manifest(metric="val_loss", direction="minimize", arms=[arm], trials=trials)


@pytest.mark.parametrize(("by", "standing"), [(4.0, "within_noise"), (5.0, "different")])
def test_one_trial_beyond_the_noise_is_different_where_the_mean_hardly_moves(
    by: float, standing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three deviations of a difference are 4.2 of a trial; the mean of eight may move by 1.5."""
    monkeypatch.setattr(calibration, "current_calibration", lambda lab: None)
    was = of_baselines(*([0.1, 0.3] * 4))
    noise = (8 / 7) ** 0.5 * 0.1
    now = of_baselines(0.1 + by * noise, *([0.3, 0.1] * 3), 0.3)
    lab = cast(Lab, None)
    found = reproduce._compare(lab, was, was.trials, now, ())
    assert found.noise == pytest.approx(noise)
    assert (found.trials[0].standing, found.standing) == (standing, standing)


def test_a_champion_that_cannot_be_reproduced_falls_with_what_was_built_on_it(kit: LabKit) -> None:
    first, second = campaign(kit)["champions"]
    moved(kit, "h1", "run_0002", 1.0)
    path, _ = manifest(kit, "h1", "run_0002")
    said = kit.autolab("reproduce", f"{path.parts[-4]}/run_0002")
    assert said.code == 1 and "DIFFERENT" in said.out and said.out.count("retracted: ") == 2
    assert campaign(kit)["champions"] == []
    fallen = kit.events("transition")[-1]["data"]["reproduced"]["retracted"]
    assert fallen == [first["commit"], second["commit"]]
    assert "champion" not in kit.autolab("status").out
    assert kit.git("rev-parse", "autolab/champion").strip() == first["parent"]
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    assert campaign(kit)["champions"][0]["parent"] == kit.git("rev-parse", "HEAD").strip(), "back to the parent"


def test_a_search_that_cannot_be_reproduced_is_said_and_takes_nothing_with_it(kit: LabKit) -> None:
    moved(kit, "h1", "run_0001", 1.0)
    path, _ = manifest(kit, "h1", "run_0001")
    assert kit.autolab("reproduce", f"{path.parts[-4]}/run_0001").code == 1
    assert len(campaign(kit)["champions"]) == 2


@pytest.mark.parametrize("holds", [True, False], ids=["it holds", "it does not hold"])
def test_a_champion_of_another_protocol_is_confirmed_anew_before_it_is_built_on(
    holds: bool, kit: LabKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other packages are a new protocol; what they do to the trainings is told to them by a variable of the user's."""
    first, second = campaign(kit)["champions"]
    asked = interpreter.packages_hash
    monkeypatch.setattr(
        interpreter, "packages_hash", lambda python: asked(python).model_copy(update={"packages_sha256": "f" * 64})
    )
    if not holds:
        measured = scores.measured
        worse = {trial: 9.0 for trial in ("steep",)}
        monkeypatch.setattr(
            scores,
            "measured",
            lambda trial, own: {name: worse.get(trial.arm, value) for name, value in measured(trial, own).items()},
        )
    monkeypatch.chdir(kit.root)
    assert command_line.main(["loop", "--max-iterations", "1", "--plain"]) == 0
    said = [line["data"]["reproduced"] for line in kit.events("transition") if line["data"].get("why") == "reproduced"]
    if holds:
        assert [(one["standing"], one["retracted"]) for one in said] == [("kept", [])]
        held = campaign(kit)["champions"][1]
        assert held["commit"] == second["commit"] and held["protocol"] != second["protocol"]
        assert held["run_id"] == "reproduction_0001"
    else:
        assert [one["retracted"] for one in said] == [[second["commit"]], [first["commit"]]], "the newest first"
        opened = [line["data"]["campaign"] for line in kit.events("transition") if line["data"].get("why") == "opened"]
        assert (opened[-1]["champions"], opened[-1]["base_commit"]) == ([], first["parent"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run_0001",), "runs have this name: "),
        (("run_0009",), "run_0009: no such run in experiments/; name one as <iteration>/run_0001"),
        (("../../etc/run_0001",), "is no id of an iteration or run"),
        (("calibration/calibration_0001", "--trial", "steep-s1"), "is not a completed trial of calibration_0001"),
    ],
    ids=["of several", "unknown", "a path", "unknown trial"],
)
def test_what_cannot_be_found_is_one_line(words: tuple[str, ...], message: str, kit: LabKit) -> None:
    said = kit.autolab("reproduce", *words)
    assert said.code in (1, 2) and message in said.err and len(said.err.splitlines()) == 1


def test_a_part_of_an_iterations_id_names_its_run(tmp_path: Path) -> None:
    lab = Lab.__new__(Lab)
    lab.root = tmp_path
    for folder in ("20260301-1402_h1", "20260301-1530_h12", "20260302-0900_h2"):
        run = tmp_path / "experiments" / folder / "runs" / "run_0001"
        run.mkdir(parents=True)
        (run / "run_manifest.json").write_text("{}")
    for name, folder in (("h1", "20260301-1402_h1"), ("h12", "20260301-1530_h12"), ("0900", "20260302-0900_h2")):
        assert reproduce.find_run(lab, f"{name}/run_0001").parts[-4] == folder
    with pytest.raises(LabError, match="3 runs have this name"):
        reproduce.find_run(lab, "run_0001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluator": {"path": "eval.py", "sha256": "0" * 64}}, "is not the one of run_0001, 000000000000"),
        ({"data": {"eval": "0" * 40}}, "data: the eval split is not the one of run_0001; put those files back"),
        ({"lab": {}}, "such a run cannot be reproduced"),
    ],
    ids=["evaluator", "data", "no configuration"],
)
def test_another_question_is_refused(change: dict[str, Any], message: str, kit: LabKit) -> None:
    path, value = manifest(kit, "h1", "run_0001")
    path.write_text(json.dumps(value | change))
    said = kit.autolab("reproduce", f"{path.parts[-4]}/run_0001")
    assert said.code == 1 and message in said.err and len(said.err.splitlines()) == 1


def test_another_environment_is_said(kit: LabKit) -> None:
    path, value = manifest(kit, "h1", "run_0001")
    value["environment"]["packages_sha256"] = "0" * 64
    path.write_text(json.dumps(value))
    said = kit.autolab("reproduce", f"{path.parts[-4]}/run_0001", "--trial", "steep-s0")
    assert said.code == 0 and "note: other packages are installed than then" in said.out


def test_a_killed_reproduction_goes_on_where_it_was(kit: LabKit) -> None:
    path, value = manifest(kit, "h1", "run_0002")
    words = ("reproduce", f"{path.parts[-4]}/run_0002")
    before = len(kit.executions())
    assert kit.autolab(*words, AUTOLAB_FAULT="trial.after_record").code != 0
    assert kit.autolab(*words).code == 0
    assert len(kit.executions()) - before == 2 * len(value["trials"]), "no trial ran twice"
