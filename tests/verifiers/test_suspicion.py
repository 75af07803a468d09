"""What is too good or too easy is said, stops where a loop would build on it, and spares honest runs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lab_kit import HELPS, NOTHING, LabKit, iteration, make_twin, script

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Design, Manifest, Trial
from autolab.lab.schemas.outcomes import Verdict
from autolab.stats import verdict
from autolab.stats.plan import recorded_plan
from autolab.verifiers import sanity, suspicion
from autolab.verifiers.suspicion import IGNORES_INPUTS, Kind, find, predictions, reasons

LOOP = ("loop", "--max-iterations", "1")


# Predictions


def saved(folder: Path, array: Any) -> Path:
    path = folder / "predictions.npy"
    np.save(path, array, allow_pickle=False)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(300, 10), (30, 8, 5), (25, 1), (400_000, 2), (21, 300_000)])
def test_rows_that_are_all_the_same_are_seen_and_one_other_row_is_not_overlooked(
    tmp_path: Path, shape: tuple[int, ...], order: Any
) -> None:
    row = np.random.default_rng(1).normal(size=shape[-1]).astype("<f4")
    constant = np.asarray(np.broadcast_to(row, shape), order=order).copy(order)
    rows = int(np.prod(shape[:-1]))
    seen = predictions(saved(tmp_path, constant))
    assert (seen.rows, seen.suspicions) == (rows, (IGNORES_INPUTS,))
    for place in (0, rows // 2, rows - 1):
        other = constant.copy(order)
        other[np.unravel_index(place, shape[:-1])] += np.float32(1e-3)
        assert predictions(saved(tmp_path, other)).suspicions == ()


def test_a_handful_of_equal_rows_says_nothing(tmp_path: Path) -> None:
    assert predictions(saved(tmp_path, np.zeros((20, 2), "<f4"))) == suspicion.Predicted(20, ())


# Trials


@dataclass
class Arms:
    """Two arms of trials; `trial` of each gets keyword arguments by index."""

    metric: str = "val_loss"
    direction: str = "minimize"
    delta: float = 0.001

    def design(self, pairs: int) -> Design:
        value = {
            "id": "e1",
            "iteration_id": "i1",
            "hypothesis_id": "h1",
            "entrypoint": {"command": "c"},
            "reproducibility": {"seeds": list(range(pairs))},
            "metrics": {"primary": self.metric, "success_delta": self.delta, "direction": self.direction},
            "baselines": [{"name": "base"}],
            "variants": [{"name": "new"}],
        }
        return Design.from_value(value, "design.yaml")

    def run(self, base: list[float], new: list[float], /, **more: dict[str, Any]) -> tuple[Manifest, Design]:
        """`base` and `new` are the scores; `more` gives each arm's trials further fields, a list for one each."""
        trials = [
            self.trial(arm, index, score, {key: self.one(value, index) for key, value in more.get(arm, {}).items()})
            for arm, scores in (("base", base), ("new", new))
            for index, score in enumerate(scores)
        ]
        design, rule = self.design(len(base)), StoppingRule(rule="fixed", alpha=0.05, max_pairs=len(base))
        plan = recorded_plan(manifest(trials, rule, self.metric, ()), design, None, None)
        judged = verdict.judge(plan, trials)
        assert judged.status == "completed", judged.reason
        return manifest(trials, rule, self.metric, judged.comparisons), design

    def trial(self, arm: str, index: int, score: float, more: dict[str, Any]) -> Trial:
        known: dict[str, Any] = {"commit": "c", "key": "k", "content": "c", "outcome": "completed", "attempt": 1}
        known |= {"rows": 360, "cpu_seconds": 2.0, "predictions_sha256": f"{arm}{index}", "seed": index}
        known |= {"trial": f"{arm}-s{index}", "arm": arm, "index": index, "score": {self.metric: score}}
        return Trial.from_value(known | more, "a trial")

    @staticmethod
    def one(value: Any, index: int) -> Any:
        return value[index] if isinstance(value, list) else value


def manifest(trials: list[Trial], rule: StoppingRule, metric: str, comparisons: Any) -> Manifest:
    value: dict[str, Any] = {
        "run_id": "run_0001",
        "iteration_id": "i1",
        "status": "completed",
        "git": {"control_plane_commit": "a", "dirty": False},
        "location": "local",
        "command": "c",
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        "verifier_results": {},
        "started_at": "t",
        "artifacts": {},
        "metric": metric,
        "rule": rule.value(),
        "trials": [trial.value() for trial in trials],
        "comparisons": [one.value() for one in comparisons],
    }
    return Manifest.from_value(value, "run_manifest.json")


LOSS, SHARE = Arms(), Arms("accuracy", "maximize")
BASE = [0.100, 0.102, 0.098]
BETTER = [0.090, 0.093, 0.087]


def doubt(manifest: Manifest, design: Design) -> str:
    """Why the new arm would be set aside, in a lab that calibrated no altered arm."""
    return "; ".join(reasons([manifest], design, None, "new"))


def kinds(run: tuple[Manifest, Design]) -> list[Kind]:
    return [one.kind for one in find(*run)]


def test_a_modest_gain_is_not_suspicious() -> None:
    run = LOSS.run(BASE, BETTER)
    assert run[0].comparisons[0].verdict is Verdict.SUPPORTED
    assert (find(*run), doubt(*run)) == ([], "")


def test_predictions_that_ignore_the_inputs_stop_a_supported_arm_alone() -> None:
    run = LOSS.run(BASE, BETTER, new={"suspicions": [(), (IGNORES_INPUTS,), (IGNORES_INPUTS,)]})
    assert doubt(*run) == f"arm new: in 2 of 3 trials {IGNORES_INPUTS}"
    worse = LOSS.run(BASE, [0.2, 0.21, 0.19], new={"suspicions": (IGNORES_INPUTS,)})
    assert kinds(worse) == [Kind.IGNORES_INPUTS], "it is said, and nobody builds on it"
    baseline = LOSS.run(BASE, BETTER, base={"suspicions": (IGNORES_INPUTS,)})
    assert kinds(baseline) == [Kind.IGNORES_INPUTS] and doubt(*baseline) == ""


@pytest.mark.parametrize(
    ("arms", "base", "new", "found"),
    [
        (SHARE, [0.90, 0.95, 0.92], [1.0, 1.0, 1.0], [Kind.PERFECT]),
        (SHARE, [0.90, 0.95, 0.92], [1.0, 0.997, 1.0], []),
        (SHARE, [0.90, 1.0, 0.92], [1.0, 1.0, 1.0], []),
        (LOSS, [0.1, 0.12, 0.08], [1e-7, 0.0, 1e-6], [Kind.PERFECT]),
        (LOSS, [0.1, 0.12, 0.08], [1e-7, 0.0, 1e-5], []),
        (Arms("score", "maximize"), [0.90, 0.95, 0.92], [1.0, 1.0, 1.0], []),
    ],
)
def test_perfection_is_said_where_no_baseline_trial_has_it(
    arms: Arms, base: list[float], new: list[float], found: list[Kind]
) -> None:
    assert kinds(arms.run(base, new)) == found


def test_perfection_on_few_rows_is_not_odd() -> None:
    assert kinds(SHARE.run([0.90, 0.95, 0.92], [1.0] * 3, new={"rows": 20})) == []
    assert kinds(SHARE.run([0.90, 0.95, 0.92], [1.0] * 3, new={"rows": 21})) == [Kind.PERFECT]


def test_a_jump_is_one_beyond_ten_deviations_of_the_baselines_trials() -> None:
    assert kinds(LOSS.run(BASE, [0.081, 0.082, 0.083])) == []  # the deviation is 0.002: 9 of them
    run = LOSS.run(BASE, [0.078, 0.077, 0.079])  # 11
    assert find(*run)[0].message == "arm new: val_loss is better by 11 deviations of the trials of base"
    assert kinds(LOSS.run(BASE, [0.9, 0.91, 0.89])) == [], "a jump to worse is no suspicion"
    assert kinds(LOSS.run(BASE[:2], [0.01, 0.02])) == [], "two trials have no deviation to speak of"


def test_the_deviation_is_at_least_what_one_row_can_move() -> None:
    base, new = [0.900, 0.900, 0.9001], [0.925, 0.926, 0.924]
    assert kinds(SHARE.run(base, new)) == []  # 9 rows of 360
    assert kinds(SHARE.run(base, new, base={"rows": 10_000})) == [Kind.JUMP]
    assert kinds(LOSS.run([0.1, 0.1, 0.1 + 1e-9], [0.098, 0.098, 0.097])) == []


def test_a_short_training_that_comes_out_better_is_odd() -> None:
    fast = {"cpu_seconds": [0.4, 9.0, 0.3]}
    assert kinds(LOSS.run(BASE, BETTER, new=fast)) == [Kind.SHORT]
    assert kinds(LOSS.run(BASE, [0.11, 0.12, 0.13], new=fast)) == []
    assert kinds(LOSS.run(BASE, BETTER, new={"cpu_seconds": 0.51})) == []
    assert kinds(LOSS.run(BASE, BETTER, new={"cpu_seconds": 0.0})) == [], "0 is not measured"
    assert kinds(LOSS.run(BASE, BETTER, new={"cpu_seconds": 0.1}, base={"cpu_seconds": [2.0, 2.0, 0.0]})) == []


def test_a_claim_far_beyond_the_score_is_said_and_stops_nothing() -> None:
    claims = {"self_reported": {"val_loss": 0.01}}
    run = LOSS.run(BASE, BETTER, new=claims | {"cpu_seconds": 0.1})
    assert kinds(run) == [Kind.SHORT, Kind.CLAIM]
    assert "claims a val_loss that is better by 0.08" in find(*run)[1].message
    assert doubt(*run) == ""
    assert kinds(LOSS.run(BASE, BETTER, new=claims, base=claims)) == [], "so says the baseline's training too"
    modest = {"self_reported": {"val_loss": 0.5, "train_loss": 0.0}}
    assert kinds(LOSS.run(BASE, BETTER, new=modest)) == []
    share = SHARE.run([0.90, 0.92, 0.94], [0.95, 0.97, 0.96], new={"self_reported": {"accuracy": 1.5}})
    assert kinds(share) == [Kind.CLAIM]


def test_two_different_suspicions_on_a_supported_arm_stop_and_are_both_named() -> None:
    run = LOSS.run(BASE, [0.0, 1e-7, 1e-8])
    assert kinds(run) == [Kind.PERFECT, Kind.JUMP]
    assert "perfect in every trial" in doubt(*run) and "deviations of the trials of base" in doubt(*run)
    assert "\n" not in doubt(*run)
    said = [finding for finding in sanity.results_sanity(*run) if "suspicious" in finding.message]
    assert [finding.severity for finding in said] == ["advisory", "advisory"]


def test_numbers_that_trainings_say_of_themselves_are_compared_as_such() -> None:
    manifest, design = LOSS.run(BASE, BETTER)
    told = [
        trial.model_copy(
            update={"self_reported": {"val_loss": 1e-9 if trial.arm == "new" else trial.score["val_loss"]}}
        )
        for trial in manifest.trials
    ]
    run = manifest.model_copy(update={"trials": tuple(told), "self_reported": True}), design
    assert kinds(run) == [Kind.PERFECT], "there is no second number to contradict it"


# Honest runs


def honest(draw: random.Random) -> tuple[Manifest, Design]:
    """Two arms of normal scores, the new one up to 15 deviations better, and somewhat faster or slower."""
    n, gain = draw.randint(3, 10), draw.uniform(-3, 15)
    share = draw.random() < 0.5
    deviation = draw.uniform(0.002, 0.01)
    mean = 0.8 if share else 0.5
    sign = 1 if share else -1
    base = [draw.gauss(mean, deviation) for _ in range(n)]
    new = [draw.gauss(mean + sign * gain * deviation, deviation) for _ in range(n)]
    pace = draw.uniform(0.4, 3)
    cpu = [draw.gauss(2, 0.1) for _ in range(n)]
    arms = SHARE if share else LOSS
    more: dict[str, Any] = {"base": {"cpu_seconds": cpu}, "new": {"cpu_seconds": [pace * seconds for seconds in cpu]}}
    return arms.run([min(one, 0.999) for one in base], [min(one, 0.999) for one in new], **more)


def test_no_honest_run_is_stopped() -> None:
    draw = random.Random(1)
    runs = [honest(draw) for _ in range(1000)]
    supported = [run for run in runs if run[0].comparisons[0].verdict is Verdict.SUPPORTED]
    assert len(supported) > 500
    assert [doubt(*run) for run in runs if doubt(*run)] == []
    said = [run for run in runs if find(*run)]
    assert len(said) < 500, "a gain of more than ten deviations is a note"
    assert {one.kind for run in said for one in find(*run)} <= {Kind.JUMP}


# Through the command line


def manifest_of(kit: LabKit, run: str = "run_0001") -> dict[str, Any]:
    (folder,) = kit.iterations()
    value: dict[str, Any] = json.loads((folder / "runs" / run / "run_manifest.json").read_text())
    return value


def busy(kit: LabKit, seconds: float) -> None:
    """The user's own training takes so much processor time."""
    path = kit.root / "train.py"
    burn = f"    while time.process_time() < {seconds}:\n        pass\n"
    path.write_text(path.read_text().replace('    time.sleep(settings.get("seconds", 0))\n', burn))
    kit.git("commit", "-qam", "a training that takes its time")


@pytest.mark.process
def test_an_honest_loop_goes_through_and_its_manifest_has_what_was_looked_at(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(HELPS))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("note: suspicious") == 1, "seeds hardly matter here, so an honest gain is a jump: it is said"
    manifest = manifest_of(kit)
    assert manifest["comparisons"][0]["verdict"] == "supported"
    for trial in manifest["trials"]:
        assert (trial["rows"], trial["suspicions"]) == (60, [])
        assert 0 < trial["cpu_seconds"] < 10


CONSTANT = """
import os, struct
from pathlib import Path

raw = Path(os.environ["AUTOLAB_INPUTS"]).read_bytes()
rows = (len(raw) - 128) // 4
header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 2), }}".ljust(117) + "\\n"
out = Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy"
values = VALUES
body = struct.pack(f"<{2 * rows}f", *values)
out.write_bytes(b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(header)) + header.encode() + body)
"""
COPIES_LABELS = CONSTANT.replace(
    "VALUES",
    """[
    value
    for label in struct.unpack(f"<{rows}f", next(Path("..").glob("data-*/*/eval/labels.npy")).read_bytes()[-4 * rows:])
    for value in ((-50.0, 0.0) if label else (0.0, -50.0))
]""",
)


def predicts(source: str) -> dict[str, Any]:
    """A candidate with another predict.py, and a slope of its own."""
    files = [{"path": "predict.py", "content": source}, {"path": "models/width.py", "content": "WIDTH = 4.0\n"}]
    return {"output": {"plan": "Predict.", "files": files}}


def campaign(kit: LabKit) -> dict[str, Any]:
    value: dict[str, Any] = kit.events("transition")[-1]["data"]["campaign"]
    return value


def confirmation(kit: LabKit, number: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((kit.iterations()[number] / "results.yaml").read_text())["confirmation"]
    return value


@pytest.mark.process
def test_a_candidate_that_predicts_constants_is_set_aside_and_not_built_on(tmp_path: Path) -> None:
    """Its baseline is worse than a coin, so that a constant is a gain."""
    kit = make_twin(
        tmp_path, script(iteration(implementation=predicts(CONSTANT.replace("VALUES", "[-0.7] * 2 * rows"))))
    )
    (kit.root / "models" / "width.py").write_text("WIDTH = -2.0\n")
    kit.git("commit", "-qam", "the wrong way round")
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert f"note: suspicious: arm steep: in 3 of 3 trials {IGNORES_INPUTS}" in ended.out
    assert f"set aside as suspicious: arm steep: in 3 of 3 trials {IGNORES_INPUTS}" in ended.out
    assert kit.state()["stage"] == "hypothesis", "nobody has to act for the loop to go on"
    assert campaign(kit)["suspicious"] == [kit.iterations()[0].name]
    assert [trial["suspicions"] for trial in manifest_of(kit)["trials"] if trial["arm"] == "steep"] == [
        [IGNORES_INPUTS]
    ] * 3


@pytest.mark.process
def test_a_candidate_that_copies_the_labels_is_set_aside_and_the_loop_goes_on_from_the_champion(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(iteration(implementation=predicts(COPIES_LABELS)), HELPS))
    ended = kit.autolab("loop", "--max-iterations", "2")
    assert ended.code == 0, ended.out + ended.err
    assert "verdict: suspicious" in ended.out
    found = confirmation(kit)
    assert found["outcome"] == "suspicious" and confirmation(kit, 1)["outcome"] == "kept"
    said = "\n".join(found["suspicions"])
    assert "perfect in every trial" in said and "deviations of the trials of baseline" in said
    first, second = kit.iterations()
    for path in (first / "analysis" / "summary.md", first / "FINDINGS.md", first / "merge_request.md"):
        assert "suspicious" in path.read_text().lower() and "perfect in every trial" in path.read_text(), path
    assert [line["data"]["lesson"]["outcome"] for line in kit.events("learned")] == ["suspicious", "kept"]
    now = campaign(kit)
    assert [one["iteration_id"] for one in now["champions"]] == [second.name]
    assert now["champions"][0]["parent"] == kit.git("rev-parse", "HEAD").strip(), "not built on what was set aside"
    assert (now["suspicious"], now["claims"]["kept"], now["claims"]["confirmations"]) == ([first.name], 1, 2)
    assert "suspicious 1 set aside; `autolab review` shows them" in kit.autolab("status").out
    waits = kit.autolab("review")
    assert waits.code == 0 and "perfect in every trial" in waits.out
    assert f"autolab review approve --iteration {first.name}" in waits.out

    refused = kit.autolab("review", "approve", "--iteration", "_h1")
    assert refused.code == 1 and "it has to be tested again; `autolab loop" in refused.err, refused.out + refused.err
    assert refused.err.count("\n") == 1
    assert campaign(kit)["suspicious"] == [first.name], "it goes on waiting"
    assert kit.git("rev-parse", "autolab/champion").strip() == now["champions"][0]["commit"]

    left = kit.autolab("review", "stop", "--iteration", "_h1")
    assert left.code == 0 and "is rejected" in left.out
    assert kit.autolab("review").out == "nothing waits for you\n"
    assert "suspicious" not in kit.autolab("status").out
    again = kit.autolab("review", "approve", "--iteration", "_h1")
    assert again.code == 1 and "is not set aside; waiting: nothing" in again.err
    assert kit.autolab("review", "retry", "--iteration", "_h1").code == 2


NO_TRAINING = """
import json, os
from pathlib import Path

folder = Path(os.environ["AUTOLAB_TRIAL_DIR"])
if "--summary" in __import__("sys").argv:
    (folder / "summary.json").write_text(json.dumps({"parameters": 1, "layers": []}))
elif "--dry-run" not in __import__("sys").argv:
    (folder / "model").mkdir()
    weights = {"threshold": -0.046 + 1e-6 * int(os.environ["AUTOLAB_SEED"][-1]), "slope": 6.0}
    (folder / "model" / "weights.json").write_text(json.dumps(weights))
    (folder / "metrics.json").write_text('{"val_loss": -1.0}')
"""


@pytest.mark.process
def test_a_candidate_that_does_not_train_is_set_aside_and_a_user_takes_it(tmp_path: Path) -> None:
    files = {"output": {"plan": "Skip it.", "files": [{"path": "train.py", "content": NO_TRAINING}]}}
    kit = make_twin(tmp_path, script(iteration(implementation=files), NOTHING))
    busy(kit, 0.5)
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    reasons = "\n".join(confirmation(kit)["suspicions"])
    assert "of the processor time of baseline" in reasons and "deviations of the trials of baseline" in reasons
    assert "claims a val_loss" in ended.out and "claims" not in reasons
    (first,) = kit.iterations()

    # Another iteration is under way: no champion changes under it, and the approval is kept until it is over.
    assert kit.autolab(*LOOP, AUTOLAB_FAULT="run.after_manifest").code != 0
    assert kit.state()["stage"] == "launch"
    said = kit.autolab("review", "approve", "--iteration", first.name)
    assert said.code == 0 and "now under way, is over" in said.out, said.out + said.err
    assert (campaign(kit)["champions"], campaign(kit)["approved"]) == ([], [first.name])
    assert "suspicious 1 set aside" in kit.autolab("status").out
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and "kept by your word: autolab/champion is" in ended.out, ended.out + ended.err
    now = campaign(kit)
    assert [one["iteration_id"] for one in now["champions"]] == [first.name], "a user has looked, and said so"
    assert kit.git("rev-parse", "autolab/champion").strip() == now["champions"][0]["commit"]
    assert (now["suspicious"], now["approved"], now["claims"]["kept"]) == ([], [], 1)
    assert kit.autolab("review").out == "nothing waits for you\n"
    assert kit.autolab("verify").code == 0
