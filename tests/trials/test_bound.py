"""Scores are cut at a bound that the design fixes: what diverges counts as the bound, and its share is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import HELPS, LabKit, hypothesis, implementation, iteration, make_lab, script

from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.trials import metrics
from autolab.trials.evaluator import Problem, read_metrics

RULE = {"rule": "sequential", "alpha": 0.005, "max_pairs": 12, "confirm_pairs": 12}
LOOP = ("loop", "--max-iterations", "1")


def diverging(where: str) -> dict[str, Any]:
    """A steeper slope, whose trainings diverge where their folder's path holds this: `run_0002/…/steep-s1`."""
    here = '__import__("os").environ.get("AUTOLAB_TRIAL_DIR", "")'
    words = " and ".join(f'"{word}" in {here}' for word in where.split())
    return iteration(implementation=implementation(f'float("nan") if {words} else 4.0'))


def folder_of(kit: LabKit) -> Path:
    return next(kit.root.glob("experiments/*_h1"))


def manifest(kit: LabKit, run: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder_of(kit) / "runs" / run / "run_manifest.json").read_text())
    return value


def results(kit: LabKit) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((folder_of(kit) / "results.yaml").read_text())
    return value


def committed(kit: LabKit, path: str, old: str, new: str) -> None:
    file = kit.root / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    kit.git("commit", "-qam", "change")


@pytest.mark.process
def test_the_bound_stands_in_the_design_before_the_run_and_in_what_is_claimed(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE})
    said = kit.autolab(*LOOP)
    assert said.code == 0, said.err
    calibrated = json.loads((kit.root / ".autolab" / "calibration.json").read_text())
    assert calibrated["constant"] == calibrated["bound"] == pytest.approx(math.log(2)), "uniform over two classes"
    design = yaml.safe_load((folder_of(kit) / "design.yaml").read_text())
    bounds = [design["test"]["bound"], *(manifest(kit, run)["rule"]["bound"] for run in ("run_0001", "run_0002"))]
    bounds += [line["data"]["rule"]["bound"] for line in kit.events("run_started") if line["data"]["rule"]]
    assert set(bounds) == {calibrated["bound"]} and len(bounds) == 5
    summary = (folder_of(kit) / "analysis" / "summary.md").read_text()
    assert "No trial diverged, and none scored worse than 0.69315, the bound that design.yaml sets." in summary
    trials = (folder_of(kit) / "analysis" / "tables" / "trials.csv").read_text().splitlines()
    assert "cut" in trials[0].split(",")


@pytest.mark.process
@pytest.mark.parametrize("allowed", [None, 0.5])
def test_a_gain_with_more_cut_trials_than_the_champions_is_not_kept_unless_the_lab_allows_their_share(
    allowed: float | None, tmp_path: Path
) -> None:
    """The second training on fresh seeds diverges; at the bound it costs little, so the mean gain comes back."""
    test = RULE | {"bound": 0.18, "max_failure_share": allowed}
    kit = make_lab(tmp_path, script(diverging("run_0002 steep-s1")), config={"test": test}, holdout=True)
    said = kit.autolab(*LOOP)
    assert said.code == 0, said.err
    (compared,) = manifest(kit, "run_0002")["comparisons"]
    base, steep = compared["cut"]
    assert (compared["bound"], compared["verdict"]) == (0.18, "supported")
    assert (base["cut"], steep["cut"], steep["diverged"]) == (0, 1, 1)
    (diverged,) = (trial for trial in manifest(kit, "run_0002")["trials"] if trial["diverged"])
    assert (diverged["trial"], diverged["outcome"], diverged["diverged"]) == ("steep-s1", "completed", ["val_loss"])
    found = results(kit)["confirmation"]
    report = max((kit.root / "9_reports").glob("20*.md")).read_text()
    share = f"1 of {steep['trials']}, 1 diverged (at most {100 * steep['at_most']:.3g}% in the long run,"
    assert f"- Trials of steep that diverged or scored worse (each counts as 0.18): {share}" in report
    summary = (folder_of(kit) / "analysis" / "summary.md").read_text()
    assert "- *cut*: A trial that diverges, or that scores worse than 0.18, counts as 0.18." in summary
    if allowed is None:
        assert (found["outcome"], found["reason"], found["holdout"]) == ("retracted", "more_cut", "not_asked")
        assert kit.events("holdout_asked") == [], "a question that could change nothing is not paid for"
        assert "verdict: retracted" in said.out
        assert "but more trials were cut than of the baseline" in report and "was not repeated" not in report
        assert "test.max_failure_share allows no more" in report
        assert kit.events("transition")[-1]["data"]["campaign"]["champions"] == []
    else:
        assert (found["outcome"], found["holdout"]) == ("kept", "passed"), "there it counts as the bound, too"


REFUSES = 'import math\nif any(map(math.isnan, rows)):\n    sys.exit("predictions: not finite")\nchosen = ['


@pytest.mark.process
@pytest.mark.parametrize("evaluator", ["scores it", "refuses it"])
def test_a_candidate_that_always_diverges_is_measured_as_the_worst(evaluator: str, tmp_path: Path) -> None:
    """Its predictions are no numbers: whether the evaluator says so by NaN or refuses them, the training diverged."""
    kit = make_lab(tmp_path, script(diverging("steep")), config={"test": RULE})
    if evaluator == "refuses it":
        committed(kit, "eval.py", "chosen = [", REFUSES)
    said = kit.autolab(*LOOP)
    assert (said.code, said.err) == (0, "")
    run = manifest(kit, "run_0001")
    steep = [trial for trial in run["trials"] if trial["arm"] == "steep"]
    assert {trial["outcome"] for trial in steep} == {"completed"}
    assert all(trial["diverged"] == ["val_loss"] and "val_loss" not in trial["score"] for trial in steep)
    assert "diverged: val_loss is not a finite number, counted as the bound" in said.out
    (compared,) = run["comparisons"]
    assert (compared["verdict"], compared["cut"][1]["cut"]) == ("refuted", compared["pairs"])
    assert compared["difference"]["mean"] == pytest.approx(0.1516 - math.log(2), abs=0.001)
    assert "counted as the bound" in (folder_of(kit) / "analysis" / "tables" / "trials.csv").read_text()


SELF_REPORTED: dict[str, Any] = {
    "metric": {"primary": "train_loss", "direction": "minimize", "success_delta": 0.05},
    **{"evaluate": None, "predict": None},
}
OWN_LOSS = hypothesis(metric="train_loss", direction="minimize")


@pytest.mark.process
@pytest.mark.parametrize("value", ['float("nan")', 'float("inf")', "1e200"])
@pytest.mark.parametrize("bound", [2.0, None])
def test_a_self_reported_loss_that_is_not_finite_is_cut_at_the_bound_or_else_a_failure(
    bound: float | None, value: str, tmp_path: Path
) -> None:
    """NaN, infinity and 1e200 have the same outcome. The baseline does not scatter, so no bound comes from it."""
    plain = '{"train_loss": 1.0 / width}))\n    (folder / "h'
    broken = plain.replace("1.0 / width", f"{value} if width == 4.0 else 1.0 / width")
    there, back = (
        implementation(4.0, edits=[{"path": "train.py", "search": old, "replace": new}])
        for old, new in ((plain, broken), (broken, plain))
    )
    answers = iteration(hypothesis=OWN_LOSS, implementation=[there, back])
    answers["implementation_review"] *= 2
    kit = make_lab(tmp_path, script(answers), config=SELF_REPORTED | {"test": RULE | {"bound": bound}})
    ended = kit.autolab(*LOOP)
    assert (ended.code, ended.err) == (0, "")
    run = manifest(kit, "run_0001")
    if bound is None:
        assert run["status"] == "failed" and "metrics.json: train_loss: must be a finite number" in run["reason"]
        return
    assert run["status"] == "completed" and run["comparisons"][0]["cut"][1]["diverged"] > 0
    steep = [trial for trial in run["trials"] if trial["arm"] == run["comparisons"][0]["arm"]]
    assert steep and all(trial["diverged"] == ["train_loss"] and not trial["self_reported"] for trial in steep)
    assert run["comparisons"][0]["difference"]["mean"] == pytest.approx(0.5 - bound)


@pytest.mark.process
def test_a_bound_that_would_cut_the_baseline_itself_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(HELPS), config={"test": RULE | {"bound": 0.1}})
    said = kit.autolab(*LOOP)
    assert said.code == 1 and len(said.err.splitlines()) == 1
    assert ".autolab/config.yaml: test.bound: 0.1 would cut the baseline itself" in said.err
    assert "name a worse score, or null" in said.err
    assert kit.events("answered") == []


# How a number that is none arrives


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1e200", "1" + "0" * 400])
@pytest.mark.parametrize("compared", [None, "accuracy", "val_loss"])
def test_of_a_score_only_what_is_compared_may_be_no_finite_number(
    value: str, compared: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "score.json"
    path.write_text(f'{{"val_loss": {value}, "accuracy": 0.1, "perplexity": {value}}}')
    found = read_metrics(path, compared)
    if compared != "val_loss":
        assert isinstance(found, Problem) and found.outcome is TrialOutcome.INVALID_ARTIFACT
        return
    assert isinstance(found, dict)
    assert math.isnan(found.pop("val_loss")) and found == {"accuracy": 0.1}


@pytest.mark.parametrize("value", ["nan", "-inf", "Infinity", "1e999", "1e200", "-1" + "0" * 400])
def test_of_printed_lines_only_what_is_compared_may_be_no_finite_number(value: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "train.out").write_text(f"steps: 7\nval_bpb: {value}\n")
    found = metrics.read(tmp_path, metrics.STDOUT, ("val_bpb",), "val_bpb")
    assert isinstance(found, dict)
    assert math.isnan(found.pop("val_bpb")) and found == {"steps": 7.0}
    refused = metrics.read(tmp_path, metrics.STDOUT, ("val_bpb",))
    assert isinstance(refused, Problem) and "is not a finite number" in refused.message


@pytest.mark.parametrize("text", ["nought", "1,5", ""])
def test_a_text_that_is_no_number_is_no_divergence(text: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "train.out").write_text(f"val_bpb: {text}\n")
    assert isinstance(metrics.read(tmp_path, metrics.STDOUT, ("val_bpb",), "val_bpb"), Problem)
