"""A model that looks at what comes later is found out, whatever order the two runs have; an honest one is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lab_kit import TINY, LabKit, each_idea, implementation, iteration, script

from autolab.errors import LabError
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.trials import lookahead
from autolab.trials.evaluator import Problem
from autolab.trials.lookahead import ALTERED, STEPS, TRUE, Altered, alter, compare

ROWS, LENGTH, KINDS = 40, 12, 5
Array = np.ndarray[Any, Any]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npy"
    np.save(path, np.random.default_rng(0).integers(KINDS, size=(ROWS, LENGTH), dtype=np.uint8))
    return path


@pytest.fixture
def altered(inputs: Path, tmp_path: Path) -> Altered:
    return alter(inputs, b"secret", tmp_path / "exports")


def predictions(path: Path, values: Array, reach: int) -> Path:
    """Log-probabilities [n, T, KINDS] from the sum of the inputs up to each position, and `reach` beyond it."""
    seen = np.stack([values[:, : t + 1 + reach].sum(axis=1, dtype=np.int64) for t in range(values.shape[1])], axis=1)
    logits = np.sin(seen[..., None] + np.arange(KINDS)).astype(np.float32)
    np.save(path, logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    return path


def both(folder: Path, inputs: Path, altered: Altered, reach: int) -> tuple[Path, Path]:
    first = predictions(folder / "predictions.npy", np.load(inputs), reach)
    return first, predictions(folder / "second.npy", np.load(altered.inputs), reach)


def test_each_row_keeps_its_beginning_and_gets_an_end_of_another(inputs: Path, altered: Altered) -> None:
    true, changed = np.load(inputs), np.load(altered.inputs)
    assert changed.dtype == true.dtype and changed.shape == true.shape
    assert all(1 <= cut < LENGTH for cut in altered.cuts) and len(set(altered.cuts)) > 5
    for row, cut in enumerate(altered.cuts):
        assert (changed[row, :cut] == true[row, :cut]).all()
        others = np.delete(true, row, axis=0)[:, cut:]
        assert (others == changed[row, cut:]).all(axis=1).any()
    assert (changed != true).any(axis=1).mean() > 0.8


def test_a_secret_and_inputs_give_the_same_twice_and_another_secret_another(
    inputs: Path, altered: Altered, tmp_path: Path
) -> None:
    again, other = alter(inputs, b"secret", tmp_path / "exports"), alter(inputs, b"other", tmp_path / "exports")
    assert again == altered
    assert other.cuts != altered.cuts and other.inputs != altered.inputs


def test_the_order_of_the_runs_changes_from_trial_to_trial(altered: Altered) -> None:
    orders = [altered.order(f"run.trial-{number}.a1") for number in range(40)]
    assert all(set(order) == set(STEPS) and set(order.values()) == {TRUE, ALTERED} for order in orders)
    assert 8 < sum(order[STEPS[0]] == TRUE for order in orders) < 32
    assert altered.order("x") == altered.order("x")


def test_an_honest_model_passes(inputs: Path, altered: Altered, tmp_path: Path) -> None:
    assert compare(*both(tmp_path, inputs, altered, 0), altered.cuts) is None


def test_rounding_passes(inputs: Path, altered: Altered, tmp_path: Path) -> None:
    first, second = both(tmp_path, inputs, altered, 0)
    np.save(second, np.load(second) + np.float32(lookahead.ATOL / 2))
    assert compare(first, second, altered.cuts) is None


@pytest.mark.parametrize("reach", [1, 3])
def test_a_model_that_looks_ahead_is_named_with_row_and_position(
    inputs: Path, altered: Altered, tmp_path: Path, reach: int
) -> None:
    found = compare(*both(tmp_path, inputs, altered, reach), altered.cuts)
    assert isinstance(found, Problem) and found.outcome is TrialOutcome.TAMPERED
    true, changed = np.load(inputs), np.load(altered.inputs)
    differs = true != changed
    row = next(row for row, cut in enumerate(altered.cuts) if differs[row, cut : cut + reach].any())
    assert found.message.startswith(f"predictions.npy: row {row}, position ")
    assert "looks ahead" in found.message


def test_predictions_of_another_form_are_refused(inputs: Path, altered: Altered, tmp_path: Path) -> None:
    first, second = both(tmp_path, inputs, altered, 0)
    np.save(second, np.load(second)[1:])
    found = compare(first, second, altered.cuts)
    assert isinstance(found, Problem) and found.outcome is TrialOutcome.INVALID_ARTIFACT
    assert "shapes [40, 12, 5] and [39, 12, 5] in two runs; both must be [40, T, classes]" in found.message


@pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 1)])
def test_inputs_without_an_end_to_exchange_are_the_labs_mistake(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros(shape, np.uint8))
    with pytest.raises(LabError, match=r"inputs.npy: .*; evaluate.altered_suffix needs sequences"):
        alter(tmp_path / "inputs.npy", b"secret", tmp_path / "exports")


# Through the command line: a lab of sequences whose candidate sets how sharp the model is, or how far it looks.

TRAIN = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["AUTOLAB_TRIAL_DIR"])
if "--summary" in sys.argv:
    (folder / "summary.json").write_text(json.dumps({"parameters": 1}))
elif "--dry-run" not in sys.argv:
    (folder / "model").mkdir()
    (folder / "model" / "seed").write_text(os.environ["AUTOLAB_SEED"])
    (folder / "metrics.json").write_text('{"steps": 1}')
"""
PREDICT = f"""
import os
from pathlib import Path
import numpy as np
from models.width import WIDTH
inputs = np.load(os.environ["AUTOLAB_INPUTS"]).astype(int)
place, out = Path(os.environ["AUTOLAB_INPUTS"]), Path(os.environ["AUTOLAB_TRIAL_DIR"])
assert place == out / "inputs.npy" and len(list(out.iterdir())) == 1
reach = int(WIDTH)
seen = np.roll(inputs, -reach, axis=1) if reach else (inputs + 1) % {KINDS}
seed = int((Path(os.environ["AUTOLAB_MODEL"]) / "seed").read_text())
sharp = WIDTH + np.random.default_rng(seed).normal() / 100
logits = sharp * (np.arange({KINDS}) == seen[..., None])
logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
np.save(out / "predictions.npy", logits.astype(np.float32))
"""
EVAL = """
import argparse, json
import numpy as np
parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name)
given = parser.parse_args()
chosen = np.take_along_axis(np.load(given.predictions), np.load(given.labels).astype(int)[..., None], axis=-1)
json.dump({"val_loss": float(-chosen.mean()), "accuracy": 0.5}, open(given.out, "w"))
"""


def sequence_lab(folder: Path, width: float) -> LabKit:
    """A lab whose baseline is honest and whose candidate sets `width`: from 1 on it looks so far ahead."""
    template = folder / "template"
    shutil.copytree(TINY, template)
    for name, text in (("train.py", TRAIN), ("predict.py", PREDICT), ("eval.py", EVAL)):
        (template / name).write_text(text)
    (template / "models" / "width.py").write_text("WIDTH = 0.25\n")
    rng = np.random.default_rng(3)
    text = (np.arange(ROWS * (LENGTH + 1)) + rng.integers(2, size=ROWS * (LENGTH + 1))).reshape(ROWS, -1) % KINDS
    for name, part in (("inputs", text[:, :-1]), ("labels", text[:, 1:])):
        np.save(template / "data" / "eval" / f"{name}.npy", part.astype(np.uint8))
    path = template / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text()) | {"train": {"command": "{python} train.py"}}
    config |= {"predict": {"command": "{python} predict.py"}}
    config["metric"]["success_delta"] = 0.1  # twice what three pairs resolve, whichever seeds the environment gives
    config["evaluate"] = {"script": "eval.py", "eval": "data/eval", "altered_suffix": True}
    path.write_text(yaml.safe_dump(each_idea(config)))
    answers = script(iteration(implementation=implementation(width)))
    (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers))
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", str(template), "--seed", "1")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    return kit


def trials(kit: LabKit) -> list[dict[str, Any]]:
    (manifest,) = kit.root.glob("experiments/*/runs/run_0001/run_manifest.json")
    found: list[dict[str, Any]] = json.loads(manifest.read_text())["trials"]
    return found


@pytest.mark.process
def test_an_honest_candidate_is_measured_and_nothing_of_the_check_is_kept(tmp_path: Path) -> None:
    kit = sequence_lab(tmp_path, 0.9)
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert {trial["outcome"] for trial in trials(kit)} == {"completed"}
    assert "verdict: supported" in ended.out
    attempts = list(kit.root.glob("experiments/*/runs/run_0001/trials/*/a1"))
    assert len(attempts) == 3, "the baseline's trials are those of its calibration"
    attempts += kit.root.glob("experiments/*/runs/calibration_0001/trials/*/a1")
    attempts += kit.root.glob("experiments/*/runs/run_0002/trials/*/a1")
    assert len(attempts) == 3 + 4 + 6, "the confirmation measures both arms anew"
    for attempt in attempts:
        assert sorted(path.name for path in attempt.iterdir() if path.is_dir()) == ["logs", "predict", "score", "train"]
        assert [path.name for path in (attempt / "predict").iterdir()] == ["predictions.npy"]


@pytest.mark.process
def test_a_candidate_that_looks_ahead_waits_for_a_user(tmp_path: Path) -> None:
    kit = sequence_lab(tmp_path, 1.25)
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 3, ended.out + ended.err
    state = kit.state()
    assert state["stage"] == "human_review"
    assert "tampered: predictions.npy: row " in state["reason"] and "position" in state["reason"]
    found = {trial["arm"]: trial["outcome"] for trial in trials(kit)}
    assert found == {"baseline": "completed", "steep": "tampered"}
    assert "verdict" not in ended.out
