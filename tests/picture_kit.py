"""The picture labs by hand: their three programs, each a process of its own, judged by what they leave."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = ("train.py", "predict.py", "data.py", "device.py", "optimiser.py", "recipe.py", "settings.py", "models")
"""What a trial's code export must hold for it to train and predict."""

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
Done = subprocess.CompletedProcess[str]


def run(script: str, lab: Path, *flags: str, **variables: object) -> Done:
    """One program of the lab, with the AUTOLAB_* variables given and no others."""
    given = {f"AUTOLAB_{name.upper()}": str(value) for name, value in variables.items()}
    command = [sys.executable, "-B", script, *flags]
    return subprocess.run(command, cwd=lab, env={**os.environ, **given}, capture_output=True, text=True, timeout=120)


def score(lab: Path, predictions: Path, labels: Path, out: Path) -> Done:
    """The frozen evaluator, as the engine runs it: isolated, with an empty environment."""
    command = [sys.executable, "-I", "-B", str(lab / "eval.py"), "--predictions", str(predictions)]
    command += ["--labels", str(labels), "--out", str(out)]
    return subprocess.run(command, cwd=out.parent, env={}, capture_output=True, text=True, timeout=60)


def one_line(done: Done) -> str:
    """The message of a command that refused: exit code 1 and exactly one line."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def copy(lab: Path, folder: Path, *names: str) -> Path:
    """Some files and folders of the lab, alone in `folder`."""
    folder.mkdir()
    for name in names:
        source = lab / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def settings(folder: Path, **values: object) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps(values))
    return path


class Trials:
    """Trains at a seed; the code lies apart from all data, the training data apart from the rest."""

    def __init__(self, lab: Path, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.code = copy(lab, folder / "code", *CODE)
        self.data = folder / "train"
        shutil.copytree(lab / "data" / "train", self.data)

    def train(self, seed: int, name: str, **values: object) -> Path:
        trial = self.folder / name
        trial.mkdir()
        config = settings(trial, **values)
        done = run("train.py", self.code, trial_dir=trial, seed=seed, config=config, data=self.data)
        assert done.returncode == 0, done.stderr
        return trial

    def predict(self, model: Path, inputs: Path, trial: Path) -> Done:
        return run("predict.py", self.code, model=model, inputs=inputs, trial_dir=trial)

    def result(self, trial: Path) -> dict[str, float]:
        """The score of a trial's predictions for the evaluation inputs, made where no label can be read."""
        inputs = self.folder / "inputs.npy"
        shutil.copy(self.lab / "data" / "eval" / "inputs.npy", inputs)
        predicted = self.predict(trial / "model", inputs, trial)
        assert predicted.returncode == 0, predicted.stderr
        labels = self.lab / "data" / "eval" / "labels.npy"
        scored = score(self.lab, trial / "predictions.npy", labels, trial / "score.json")
        assert scored.returncode == 0, scored.stderr
        result: dict[str, float] = json.loads((trial / "score.json").read_text())
        return result
