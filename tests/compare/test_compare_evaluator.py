"""`autolab compare --evaluator`: the base's evaluator measures all versions, and no version brings its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from adoption_kit import commit, repository
from lab_kit import LabKit

pytestmark = pytest.mark.process

TRAIN = """\
import os

import numpy as np

SEED = int(os.environ.get("AUTOLAB_SEED", "0"))
STEPS = 2
rng = np.random.default_rng(SEED)
rows = rng.normal(size=(200, 3))
labels = rows.argmax(axis=1)
weights = rng.normal(size=(3, 3))
for step in range(STEPS):
    shares = np.exp(rows @ weights)
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    weights -= 0.5 * rows.T @ shares / len(labels)
print("accuracy: 0.5")
os.makedirs("out", exist_ok=True)
np.savez("out/model.npz", weights=weights)
"""
PREDICT = """\
import os
from pathlib import Path

import numpy as np

CHECKPOINT = "out/model.npz"
model = np.load(Path(os.environ["AUTOLAB_MODEL"]) / Path(CHECKPOINT).name)
rows = np.load(os.environ["AUTOLAB_INPUTS"]) @ model["weights"]
np.save(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy", rows.astype("float32"))
"""
EVAL = """\
import argparse
import json

import numpy as np

parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name)
given = parser.parse_args()
hits = np.load(given.predictions).argmax(axis=1) == np.load(given.labels)
json.dump({"accuracy": float(hits.mean())}, open(given.out, "w"))
"""
WORDS = ("--metric", "accuracy", "--probe-seconds", "0", "--delta", "0.05", "--plain", "--evaluator", "eval.py")


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    files = {"train.py": TRAIN, "predict.py": PREDICT, "eval.py": EVAL, ".gitignore": "eval_data/\n"}
    kit = repository(tmp_path / "mine", files)
    folder = kit.root / "eval_data" / "eval"
    folder.mkdir(parents=True)
    inputs = np.random.default_rng(9).normal(size=(120, 3)).astype("float32")
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", inputs.argmax(axis=1))
    return kit


def test_a_version_whose_evaluator_always_gives_1_gains_nothing(kit: LabKit) -> None:
    cheat = EVAL.replace("float(hits.mean())", "1.0")
    commit(kit, {"eval.py": cheat, "train.py": TRAIN.replace("accuracy: 0.5", "accuracy: 1.0")})
    ended = kit.autolab("compare", "HEAD~1", "HEAD", *WORDS)
    assert ended.code == 5, ended.out + ended.err
    assert "the same output in every pair" in ended.out
    assert "evaluator: eval.py of HEAD~1 measured all versions" in ended.out
    assert "containment full" in ended.out
    # What the training learns is measured, not what it says.
    commit(kit, {"train.py": TRAIN.replace("STEPS = 2", "STEPS = 60").replace("accuracy: 0.5", "accuracy: 0.1")})
    ended = kit.autolab("compare", "HEAD~2", "HEAD", *WORDS[4:], "--json")
    assert ended.code == 0, ended.out + ended.err
    value = json.loads(ended.out)
    assert (value["evaluator"], value["containment"]) == ("eval.py", "full")
    assert value["candidates"][0]["after"] > 0.9


def test_all_that_an_evaluator_lacks_is_one_line(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": TRAIN})
    (kit.root / "train.py").write_text(TRAIN + "# changed\n")
    ended = kit.autolab("compare", *WORDS)
    assert (ended.code, ended.err.count("\n")) == (1, 1), ended.out + ended.err
    for part in ("eval.py in HEAD", "predict.py in HEAD", "eval_data/eval/ with inputs.npy and labels.npy"):
        assert part in ended.err
    assert "autolab init --evaluator" in ended.err
    outside = kit.autolab("compare", *WORDS[:-1], str(tmp_path / "eval.py"))
    assert outside.code == 2 and "is not in" in outside.err
