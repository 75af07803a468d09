"""The labs that Autolab ships hold labels equal to those of a lab made from them: no trial finds them, by calibrate."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml
from lab_kit import TINY, LabKit

from autolab.lab.create import TEMPLATES

pytestmark = pytest.mark.process

TRAIN = """\
import json, os
folder = os.environ["AUTOLAB_TRIAL_DIR"]
os.mkdir(f"{folder}/model")
open(f"{folder}/model/weights", "w").close()
with open(f"{folder}/metrics.json", "w") as file:
    json.dump({"train_loss": 1.0}, file)
"""
PREDICT = """\
import os
import autolab
import numpy as np
rows = len(np.load(os.environ["AUTOLAB_INPUTS"]))
guess = np.full((rows, 10), 0.1)
for split in ("eval", "holdout"):
    try:
        labels = np.load(f"{os.path.dirname(autolab.__file__)}/templates/digits/data/{split}/labels.npy")
    except OSError:
        continue
    if len(labels) == rows:
        guess = np.where(np.arange(10) == labels[:, None], 1 - 9e-6, 1e-6)
np.save(os.environ["AUTOLAB_TRIAL_DIR"] + "/predictions.npy", np.log(guess).astype(np.float32), allow_pickle=False)
"""


@pytest.mark.parametrize(("level", "loss"), [("full", math.log(10)), ("partial", math.log(10)), ("none", 0.0)])
def test_a_prediction_that_opens_the_shipped_labels_gains_nothing(tmp_path: Path, level: str, loss: float) -> None:
    """At `none` it does: that is what the cheat is worth."""
    template = tmp_path / "template"
    shutil.copytree(TINY, template)
    shutil.rmtree(template / "data")
    shutil.copytree(TEMPLATES / "digits" / "data", template / "data")
    shutil.copyfile(TEMPLATES / "pictures" / "eval.py", template / "eval.py")
    (template / "train.py").write_text(TRAIN)
    (template / "predict.py").write_text(PREDICT)
    path = template / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text()) | {"containment": level, "researcher": {"name": "offline"}}
    config["evaluate"]["holdout"] = "data/holdout"
    for step in ("train", "predict"):
        config[step]["command"] = config[step]["command"].replace("-S -B", "-B")
    path.write_text(yaml.safe_dump(config))
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    made = kit.autolab("init", str(tmp_path / "lab"), "--template", str(template), "--seed", "1")
    assert made.code == 0, made.err
    kit.root = tmp_path / "lab"
    ended = kit.autolab("calibrate")
    (manifest,) = kit.root.glob("experiments/calibration/runs/*/run_manifest.json")
    trials = json.loads(manifest.read_text())["trials"]
    assert {trial["outcome"] for trial in trials} == {"completed"}, ended.out + ended.err
    assert [trial["score"]["val_loss"] for trial in trials] == pytest.approx([loss] * len(trials), abs=1e-3)
