"""Real trainings of the shipped labs, honest ones: their numbers, for tests of what must not look suspicious.

    python benchmarks/honest_trials.py OUT.json [--lab digits] [--seeds 10] [--folder DIR]

For each lab: the baseline, calibration's altered arm, and candidates of the kind that a researcher would try; some are
far better than the baseline (a convolutional network for the digits, thrice the text). Each arm trains on the same
seeds with the lab's own train.py, predict.py and eval.py, as a trial runs them. OUT.json gets one object a lab; labs
that it already holds and that are not named stay. A trial keeps:

    score      of eval.py on data/eval
    holdout    the primary metric on data/holdout, and on PARTS equal parts of it (every PARTS-th row)
    said       metrics.json, without what is no number of the model's quality
    agreement  the share of evaluation rows whose most probable class is the label
    cpu        processor seconds of the training

cifar10 and shakespeare need their data: AUTOLAB_DATASETS as for `autolab init`. Resumable: a trial whose folder holds
`done.json` is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autolab.cli import init
from autolab.lab.schemas.config import Config

PARTS = 20
FIRST_SEED = 710_000
"""A lab draws its own from its secret."""
PREPARED: dict[str, tuple[str, ...]] = {
    "cifar10": ("--train", "4000", "--eval", "1000", "--holdout", "1000"),
    "shakespeare": (),
}

SMALL_CNN = '''"""cnn: two convolutions."""
from torch import nn


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, 10),
        )

    def forward(self, images):
        return self.layers(images)
'''
WIDE_MLP = (
    SMALL_CNN.partition("class")[0]
    + """
class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10),
        )

    def forward(self, images):
        return self.layers(images)
"""
)
NORMED_CNN = (
    SMALL_CNN.partition("class")[0]
    + """
class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10),
        )

    def forward(self, images):
        return self.layers(images)
"""
)
NOISE = ("self._model(images), labels", "self._model(images + 0.15 * torch.randn_like(images)), labels")


@dataclass(frozen=True)
class Arm:
    """An honest change: settings, new files, and (file, old, new) edits."""

    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    edits: tuple[tuple[str, str, str], ...] = ()


def arms(lab: str, config: Config) -> dict[str, Arm]:
    """The arms of a lab by name; `baseline` and `altered` are calibration's."""
    known = {"baseline": Arm(), "altered": Arm(dict(config.calibrate.altered))}
    if lab == "digits":
        cnn = {"models/cnn.py": SMALL_CNN}
        return known | {
            "cnn": Arm({"model": "cnn"}, cnn),
            "cnn_short": Arm({"model": "cnn", "epochs": 10}, cnn),
            "wide": Arm({"model": "wide"}, {"models/wide.py": WIDE_MLP}),
            "noise": Arm(edits=(("recipe.py", *NOISE),)),
            "lr_half": Arm({"lr": 0.005}),
            "lr_lower": Arm({"lr": 0.008}),
            "epochs_half": Arm({"epochs": 30}),
        }
    if lab == "cifar10":
        return known | {
            "resnet18": Arm({"model": "resnet18"}),
            "norm": Arm({"model": "norm"}, {"models/norm.py": NORMED_CNN}),
            "epochs_double": Arm({"epochs": 6}),
            "lr_half": Arm({"lr": 0.001}),
        }
    return known | {
        "wide": Arm({"width": 192}),
        "thrice": Arm({"seen": 1_228_800}),
        "lr_half": Arm({"lr": 0.01}),
    }


@dataclass(frozen=True)
class Job:
    """One training of an arm at a seed, in a folder of its own."""

    lab: Path
    code: Path
    arm: Arm
    seed: int
    folder: Path
    config: Config


def trial(job: Job) -> dict[str, Any]:
    """Train, predict twice, score; what is kept of it. RuntimeError with the program's last words if one fails."""
    done = job.folder / "done.json"
    if done.is_file():
        value: dict[str, Any] = json.loads(done.read_text())
        return value
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    settings = job.folder / "settings.json"
    settings.write_text(json.dumps(job.arm.settings))
    env = {"AUTOLAB_SEED": str(job.seed), "AUTOLAB_CONFIG": str(settings), "AUTOLAB_DATA": str(job.lab / "data/train")}
    usage = _run(job, job.folder, env, "train.py")
    value = {"seed": job.seed, "cpu": round(usage, 2)}
    said = json.loads((job.folder / "metrics.json").read_text())
    value["said"] = {key: round(number, 6) for key, number in said.items() if key not in ("steps", "parameters")}
    for split in ("eval", "holdout"):
        folder, source = job.folder / split, job.lab / "data" / split
        folder.mkdir()
        wanted = {"AUTOLAB_MODEL": str(job.folder / "model"), "AUTOLAB_INPUTS": str(source / "inputs.npy")}
        _run(job, folder, wanted, "predict.py")
        predictions = folder / "predictions.npy"
        words = ["--predictions", str(predictions), "--labels", str(source / "labels.npy")]
        _run(job, folder, {}, "eval.py", *words, "--out", str(folder / "score.json"))
        score = json.loads((folder / "score.json").read_text())
        values, labels = np.load(predictions), np.load(source / "labels.npy").astype(np.int64)
        if split == "eval":
            value["score"] = {key: round(number, 6) for key, number in score.items()}
            value["agreement"] = round(float((values.argmax(axis=-1) == labels).mean()), 6)
            value["rows"] = int(labels.size)
        else:
            primary = job.config.metric.primary
            value["holdout"] = round(score[primary], 6)
            value["parts"] = [round(part, 5) for part in _parts(values, labels, primary)]
    done.write_text(json.dumps(value))
    shutil.rmtree(job.folder / "model")
    for split in ("eval", "holdout"):
        shutil.rmtree(job.folder / split)
    return value


def _parts(values: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], primary: str) -> list[float]:
    """The loss on every PARTS-th row, from each of the first PARTS on; eval.py's own unit."""
    own = -np.take_along_axis(values.astype(np.float64), labels[..., None], axis=-1)[..., 0]
    unit = np.log(2) if primary == "val_bpb" else 1.0
    return [float(own[part::PARTS].mean() / unit) for part in range(PARTS)]


def _run(job: Job, folder: Path, env: dict[str, str], program: str, *words: str) -> float:
    """Run one of the lab's programs; its processor seconds."""
    whole = {**os.environ, "AUTOLAB_TRIAL_DIR": str(folder), "OMP_NUM_THREADS": "1", **env}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-B", program, *words], cwd=job.code, env=whole, stderr=errors, stdout=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{folder}: {program}: {errors.read().decode(errors='replace')[-800:]}")
    return usage.ru_utime + usage.ru_stime


def code_of(lab: Path, arm: Arm, folder: Path) -> Path:
    """The lab's code with an arm's change, without data."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(lab, folder, ignore=shutil.ignore_patterns("data", ".git", "__pycache__"))
    for path, text in arm.files.items():
        (folder / path).write_text(text)
    for path, old, new in arm.edits:
        text = (folder / path).read_text()
        if old not in text:
            raise RuntimeError(f"{path}: {old!r} is not in it any more")
        (folder / path).write_text(text.replace(old, new))
    return folder


def collect(lab: str, seeds: int, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """All trials of one lab."""
    root = folder / lab / "lab"
    if not root.exists():
        init.compose(lab, root)
        if lab in PREPARED:
            subprocess.run([sys.executable, "prepare.py", *PREPARED[lab]], cwd=root, check=True)
    config = Config.load(root / ".autolab" / "config.yaml")
    jobs = {}
    for name, arm in arms(lab, config).items():
        code = code_of(root, arm, folder / lab / "code" / name)
        for index in range(seeds):
            place = folder / lab / "trials" / f"{name}-{index}"
            jobs[name, index] = Job(root, code, arm, FIRST_SEED + index, place, config)
    # Seed by seed, so that a run that is cut off leaves whole pairs.
    order = sorted(jobs, key=lambda key: key[1])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in jobs}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, index), value in zip(order, pool.map(lambda key: trial(jobs[key]), order), strict=True):
            found[name].append(value)
            tell(f"{lab} {name} {index}: {value['score']} {value['said']}")
    metric = config.metric
    about = {"metric": metric.primary, "direction": metric.direction, "success_delta": metric.success_delta}
    return about | {"arms": found}


def main() -> None:
    parser = argparse.ArgumentParser(description="Real trainings of the shipped labs, for tests.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--lab", action="append", choices=("digits", "cifar10", "shakespeare"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "autolab-honest-trials")
    given = parser.parse_args()
    known: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for lab in given.lab or ("digits", "cifar10", "shakespeare"):
        known[lab] = collect(lab, given.seeds, given.folder, lambda line: print(line, flush=True))
        given.out.parent.mkdir(parents=True, exist_ok=True)
        rows = json.dumps(known, sort_keys=True)
        given.out.write_text(rows.replace('{"agreement"', '\n{"agreement"') + "\n")


if __name__ == "__main__":
    main()
