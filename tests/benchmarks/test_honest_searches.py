"""Fifty honest searches over real trainings of the three labs raise no alarm, and a lookup of the labels does.

`data/honest_trials.json` holds what benchmarks/honest_trials.py measured: scores, self-reported numbers, shares of
right predictions and processor time of real trainings of the shipped labs. Here they become calibrations, searches and
confirmations, which go through the engine's own code for suspicions. Candidates include gains of 28 deviations of a
trial (a convolutional network in place of the digits' multilayer perceptron).
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lab_kit import LabKit

from autolab.lab.schemas.config import Config, Metric, StoppingRule
from autolab.lab.schemas.experiment import Calibration, Design, Manifest, Trial
from autolab.stats import plan, verdict
from autolab.trials.calibration import assess
from autolab.verifiers import suspicion

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STORED = Path(__file__).parents[1] / "data" / "honest_trials.json"
LABS = ("digits", "cifar10", "shakespeare")
SEARCHES = 50


@cache
def stored() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(STORED.read_text())
    return value


@dataclass(frozen=True)
class Stored:
    """One lab's trials."""

    lab: str

    @property
    def value(self) -> dict[str, Any]:
        found: dict[str, Any] = stored()[self.lab]
        return found

    @property
    def metric(self) -> str:
        return str(self.value["metric"])

    @property
    def candidates(self) -> list[str]:
        return sorted(self.value["arms"].keys() - {"baseline", "altered"})

    @property
    def seeds(self) -> int:
        return len(self.value["arms"]["baseline"])

    def trial(self, arm: str, source: str, index: int, stored_index: int, **changes: Any) -> Trial:
        one = self.value["arms"][source][stored_index]
        value = {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "seed": one["seed"], "attempt": 1}
        value |= {"commit": "c", "key": "k", "content": "c", "outcome": "completed", "score": one["score"]}
        value |= {"self_reported": one["said"], "agreement": one["agreement"], "rows": one["rows"]}
        value |= {"cpu_seconds": one["cpu"], "seconds": one["cpu"], "predictions_sha256": f"{arm}{stored_index}"}
        return Trial.from_value(value | changes, "a trial")

    def design(self, pairs: int) -> Design:
        value = {
            **{"id": "e1", "iteration_id": "i1", "hypothesis_id": "h1", "entrypoint": {"command": "c"}},
            "reproducibility": {"seeds": list(range(pairs))},
            "metrics": {
                "primary": self.metric,
                "success_delta": self.value["success_delta"],
                "direction": self.value["direction"],
            },
            **{"baselines": [{"name": "base"}], "variants": [{"name": "new"}]},
        }
        return Design.from_value(value, "design.yaml")

    def calibration(self, order: list[int]) -> Calibration:
        """As `autolab calibrate` assesses it, from these of the stored seeds."""
        metric = Metric(primary=self.metric, direction=self.value["direction"], success_delta=1.0)
        config = Config.from_value(
            {
                "metric": metric.value(),
                "predict": {"command": "p"},
                "evaluate": {"script": "eval.py", "eval": "data/eval"},
                "calibrate": {"seeds": len(order), "altered": {"epochs": 1}},
                "run_time_minutes": [0, 60],
            },
            "config",
        )
        trials = [self.trial("baseline", "baseline", index, at) for index, at in enumerate(order)]
        trials += [self.trial("altered", "altered", index, at) for index, at in enumerate(order)]
        trials.append(self.trial("again", "baseline", 0, order[0]))
        return assess(config, manifest(self.metric, trials, ()), 0)

    def run(self, source: str, order: list[int], **changes: Any) -> Manifest:
        """A judged run of a stored candidate; `changes` are its trials' own."""
        trials = [self.trial("base", "baseline", index, at) for index, at in enumerate(order)]
        trials += [self.trial("new", source, index, at, **changes) for index, at in enumerate(order)]
        made = manifest(self.metric, trials, ())
        design = self.design(len(order))
        judged = verdict.judge(plan.recorded_plan(made, design, None, None), trials)
        assert judged.status == "completed", judged.reason
        return made.model_copy(update={"comparisons": judged.comparisons})


def manifest(metric: str, trials: list[Trial], comparisons: Any) -> Manifest:
    value: dict[str, Any] = {
        **{"run_id": "run_0001", "iteration_id": "i1", "status": "completed", "location": "local", "command": "c"},
        "git": {"control_plane_commit": "a", "dirty": False, "base_commit": "b"},
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        **{"verifier_results": {}, "started_at": "t", "artifacts": {}, "metric": metric, "protocol": "e"},
        "rule": StoppingRule(rule="fixed", alpha=0.05).value(),
        "trials": [trial.value() for trial in trials],
        "comparisons": list(comparisons),
    }
    return Manifest.from_value(value, "run_manifest.json")


def search(number: int) -> tuple[str, dict[str, tuple[str, ...]]]:
    """One search: a lab, a calibration on seeds of its own, every candidate searched and confirmed on other draws of
    the stored seeds. The reasons why each would be set aside."""
    draw = random.Random(number)
    lab = Stored(LABS[number % len(LABS)])
    known = lab.calibration(draw.sample(range(lab.seeds), draw.randint(3, lab.seeds)))
    found = {}
    for candidate in lab.candidates:
        runs = [lab.run(candidate, draw.sample(range(lab.seeds), draw.randint(3, lab.seeds))) for _ in range(2)]
        design = lab.design(len(runs[0].trials) // 2)
        found[candidate] = suspicion.reasons(runs, design, known, "new")
    return lab.lab, found


def test_fifty_honest_searches_raise_no_alarm() -> None:
    found = [search(number) for number in range(SEARCHES)]
    assert {lab for lab, _ in found} == set(LABS)
    assert sum(len(candidates) for _, candidates in found) > 200
    assert [(lab, one) for lab, candidates in found for one in candidates.items() if one[1]] == []


def test_among_the_honest_candidates_are_gains_far_beyond_the_noise() -> None:
    """Else that no alarm is raised would say nothing: by the deviations alone several would be jumps."""
    largest = {}
    for name in LABS:
        lab = Stored(name)
        base = [trial["score"][lab.metric] for trial in lab.value["arms"]["baseline"]]
        for candidate in lab.candidates:
            own = [trial["score"][lab.metric] for trial in lab.value["arms"][candidate]]
            largest[candidate] = (statistics.fmean(base) - statistics.fmean(own)) / statistics.stdev(base)
    assert largest["cnn"] > 2 * suspicion.JUMP_DEVIATIONS
    assert sum(gain > suspicion.JUMP_DEVIATIONS for gain in largest.values()) >= 2


@pytest.mark.parametrize("name", LABS)
def test_a_lookup_of_the_labels_is_set_aside_in_every_lab(name: str) -> None:
    """The training is the baseline's, its predictions are the labels, all or all but one in a hundred."""
    lab = Stored(name)
    for right, loss in ((1.0, 1e-7), (0.99, 0.01)):
        score = {lab.metric: loss, "accuracy": right}
        order = list(range(lab.seeds))
        cheat = lab.run("baseline", order, score=score, agreement=right)
        reasons = suspicion.reasons([cheat], lab.design(lab.seeds), lab.calibration(order), "new")
        assert any("times the effect of calibration's altered arm" in reason for reason in reasons), (right, reasons)


def test_without_an_altered_arm_a_jump_alone_is_a_note() -> None:
    lab = Stored("digits")
    order = list(range(lab.seeds))
    run, design = lab.run("cnn", order), lab.design(lab.seeds)
    without = lab.calibration(order).model_copy(update={"altered_effect": None, "altered": {}})
    assert [one.kind for one in suspicion.find(run, design, without)] == [suspicion.Kind.JUMP]
    assert suspicion.reasons([run], design, without, "new") == ()
    small = lab.calibration(order).model_copy(update={"altered_effect": 0.001})
    assert len(suspicion.reasons([run], design, small, "new")) == 1, "with one whose effect is small it is enough"
    said = run.model_copy(
        update={
            "self_reported": True,
            "trials": tuple(trial.model_copy(update={"self_reported": trial.score}) for trial in run.trials),
        }
    )
    assert suspicion.reasons([said], design, small, "new") == (), "self-reported: a note"


@pytest.mark.parametrize(
    ("right", "reported", "usual", "named"),
    [
        (0.99, 0.45, 0.45, True),
        (0.99, 0.80, 0.78, True),
        (0.60, 0.45, 0.45, False),  # noise of a small share that was held back
        (0.99, 0.90, 0.90, False),  # too near to tell
        (0.92, 0.70, 0.45, False),  # the evaluation is easier for the baseline too, by .3
    ],
)
def test_more_labels_than_the_reported_accuracy_allows(
    right: float, reported: float, usual: float, named: bool
) -> None:
    """`usual` is what the baseline's trainings report, whose predictions equal 45, 78 or 75% of the labels."""
    lab = Stored("digits")
    order = list(range(lab.seeds))
    run = lab.run("wide", order)
    base_right = 0.75 if reported == 0.70 else usual
    sides = {"new": (right, reported), "base": (base_right, usual)}
    trials = tuple(
        trial.model_copy(
            update={"agreement": sides[trial.arm][0], "self_reported": {"val_accuracy": sides[trial.arm][1]}}
        )
        for trial in run.trials
    )
    run = run.model_copy(update={"trials": trials})
    reasons = suspicion.reasons([run], lab.design(lab.seeds), None, "new")
    assert bool(reasons) is named, reasons
    trained = tuple(
        trial.model_copy(update={"self_reported": {"train_accuracy": sides[trial.arm][1]}}) for trial in run.trials
    )
    run = run.model_copy(update={"trials": trained})
    assert suspicion.reasons([run], lab.design(lab.seeds), None, "new") == (), "augmentation lowers that honestly"
    kinds = [one.kind for one in suspicion.find(run, lab.design(lab.seeds))]
    assert (suspicion.Kind.TRAINED in kinds) is named


# A lookup of the labels through the command line, on real digits with real trainings


LOOKUP = '''"""The labels of the rows, from where nobody should have left them."""

import os
from pathlib import Path

import numpy as np

rows = len(np.load(os.environ["AUTOLAB_INPUTS"], allow_pickle=False))
labels = np.load(Path("{folder}") / f"{{rows}}.npy")
chances = np.full((rows, 10), 0.001)
chances[np.arange(rows), labels] = 0.991
np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", np.log(chances).astype("<f4"))
'''


@pytest.mark.nightly
@pytest.mark.process
def test_a_lookup_of_the_labels_on_digits_is_set_aside_the_loop_goes_on_and_a_user_decides(tmp_path: Path) -> None:
    """It passes fresh seeds and the holdout, whose labels it has too, and is not perfect: the gain gives it away."""
    campaign = benchmark("campaign")
    lab, template, script = tmp_path / "lab", tmp_path / "template", tmp_path / "script.yaml"
    campaign.digits.compose(template, campaign.DELTA)
    for split in ("eval", "holdout"):
        labels = np.load(template / "data" / split / "labels.npy")
        np.save(tmp_path / f"{len(labels)}.npy", labels)
    source = (template / "predict.py").read_text()
    cheat = campaign.Idea("A lookup", "cheats", (("predict.py", source, LOOKUP.format(folder=tmp_path)),))
    harmless = next(idea for idea in campaign.ideas(template) if idea.truth == "nothing")
    answers = [campaign.answers(idea) for idea in (cheat, harmless)]
    script.write_text(json.dumps({"iterations": answers}))
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    assert kit.autolab("init", str(lab), "--template", str(template), "--seed", "12").code == 0
    kit.root = lab
    ended = kit.autolab("loop", "--max-iterations", "2", "--plain", "--script", str(script), timeout=600)
    assert ended.code == 0, ended.out + ended.err
    assert "verdict: suspicious" in ended.out and "verdict: inconclusive, no change" in ended.out
    first, _ = kit.iterations()
    found = yaml.safe_load((first / "results.yaml").read_text())["confirmation"]
    assert (found["holdout"], found["outcome"]) == ("passed", "suspicious")
    assert len(found["suspicions"]) == 1 and "times the effect of calibration's altered arm" in found["suspicions"][0]
    now = kit.events("transition")[-1]["data"]["campaign"]
    assert now["champions"] == [] and now["suspicious"] == [first.name]
    assert now["base_commit"] == kit.git("rev-parse", "HEAD").strip(), "the second idea was tried on what stands"
    taken = kit.autolab("review", "approve", "--iteration", first.name)
    assert taken.code == 0 and "kept by your word" in taken.out, taken.out + taken.err
    now = kit.events("transition")[-1]["data"]["campaign"]
    assert [one["iteration_id"] for one in now["champions"]] == [first.name]
    assert kit.git("rev-parse", "autolab/champion").strip() == now["champions"][0]["commit"]


def benchmark(name: str) -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module
