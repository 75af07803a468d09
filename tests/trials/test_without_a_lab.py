"""A git repository that is no lab: the inputs of trials are made for two commits of it, and one trial of each runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import json
import sys
from pathlib import Path

from autolab.executors.base import Phase
from autolab.executors.local import LocalExecutor
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.stats.plan import PlannedArm
from autolab.stats.scores import Scale
from autolab.trials.inputs import InputSource, set_up
from autolab.trials.job import Attempt, TrialCommands, tidy, trial_job
from autolab.trials.leak_checks import refuse_copied_labels
from autolab.trials.score import judge
from autolab.trials.stored import StoredTrials

root, store, *commits = sys.argv[1:]
config = Config.from_value(
    {
        "metric": {"primary": "error", "direction": "minimize", "success_delta": 0.1},
        "train": {"command": "{python} train.py"},
        "predict": {"command": "{python} predict.py", "time_limit_s": 60},
        "evaluate": {"script": "eval.py", "eval": "eval"},
        "containment": "none",
    },
    "a configuration",
)
source = InputSource(Git(Path(root)), Path(root), Path(store), Path(store) / "exports", b"secret")
inputs = set_up(source, config, dict(zip(("base", "other"), commits, strict=True)))
refuse_copied_labels(config, inputs, Path(store))
commands = TrialCommands.of(config.train.command, config)
executor = LocalExecutor(Path(store) / "runs", {})
scores = {}
for name in ("base", "other"):
    attempt = Attempt(f"here.compare.run.{name}-s0.a1", f"{name}-s0", 1, PlannedArm(name, "variant", name, {}), 7)
    job = trial_job(inputs, commands, attempt)
    (ref,) = executor.submit([job])
    status = executor.poll([ref], 0.0)[ref.key]
    while status.phase not in (Phase.FINISHED, Phase.LOST):
        status = executor.poll([ref], 10.0)[ref.key]
    folder = Path(store) / "fetched" / name
    executor.fetch(ref, folder)
    tidy(None, ref.key, folder)
    scored = judge(inputs, config, Scale("error", "minimize", False, None), status.exit, folder)
    scores[name] = [scored.outcome, scored.message, scored.score.get("error")]
executor.discard()
print(json.dumps({"scores": scores, "lab": "autolab.lab.lab" in sys.modules}))
"""
TRAIN = """
import os
from pathlib import Path

model = Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "model"
model.mkdir()
(model / "value").write_text("VALUE")
"""
PREDICT = """
import os
import struct
from pathlib import Path

value = float((Path(os.environ["AUTOLAB_MODEL"]) / "value").read_text())
head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1), }"
head += b" " * (-(len(head) + 11) % 64) + b"\\n"
content = b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(head)) + head + struct.pack("<4f", *[value] * 4)
(Path(os.environ["AUTOLAB_TRIAL_DIR"]) / "predictions.npy").write_bytes(content)
"""
EVALUATOR = """
import argparse
import json
import struct

parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name)
found = parser.parse_args()
rows = [struct.unpack("<4f", open(path, "rb").read()[-16:]) for path in (found.predictions, found.labels)]
error = sum(abs(a - b) for a, b in zip(*rows)) / 4
json.dump({"error": error}, open(found.out, "w"))
"""


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def committed(root: Path, value: str) -> str:
    (root / "train.py").write_text(TRAIN.replace("VALUE", value))
    git(root, "add", "-A")
    git(root, "commit", "-qm", f"value {value}")
    return git(root, "rev-parse", "HEAD")


@pytest.mark.process
def test_trials_of_two_commits_run_in_a_repository_that_is_no_lab(tmp_path: Path) -> None:
    root, store = tmp_path / "repository", tmp_path / "store"
    (root / "eval").mkdir(parents=True)
    store.mkdir()
    git(root, "init", "-q")
    np.save(root / "eval" / "inputs.npy", np.zeros((4, 1), dtype="<f4"))
    np.save(root / "eval" / "labels.npy", np.ones((4, 1), dtype="<f4"))
    (root / "predict.py").write_text(PREDICT)
    (root / "eval.py").write_text(EVALUATOR)
    commits = [committed(root, value) for value in ("0.25", "0.75")]
    command = [sys.executable, "-c", PROGRAM, str(root), str(store), *commits]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["scores"] == {"base": ["completed", "", 0.75], "other": ["completed", "", 0.25]}
    assert not result["lab"], "trials need no lab"
    assert git(root, "status", "--porcelain") == "" and not (root / ".autolab").exists()
