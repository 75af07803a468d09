"""Is the baseline of the `digits` template a straw man? Ours against scikit-learn's MLPClassifier.

    python benchmarks/digits_baseline.py [--seeds 10] [--environment FOLDER]

Both train on the template's train split and are scored on its eval split, once a seed. Ours runs as a trial does
(train, predict, eval.py, each a process of its own) with the interpreter that runs this file; scikit-learn runs in an
environment of its own, which is made in FOLDER (a temporary one if not given) and needs a package index. One thread
each. Prints accuracy and log loss (nats a picture), mean and sample deviation, and the ratio of the log losses.
What it does not show: the settings of our baseline were chosen on pictures that are now in eval and holdout,
scikit-learn's are its defaults but for the width and the number of epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from autolab.cli import init

SCIKIT_LEARN = "scikit-learn==1.7.2"
Scores = list[dict[str, float]]

PEER = """
import json, sys, warnings
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score, log_loss
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore", ConvergenceWarning)
lab, seeds, width, epochs = sys.argv[1], *map(int, sys.argv[2:])
def split(name):
    inputs, labels = (np.load(f"{lab}/data/{name}/{part}.npy", allow_pickle=False) for part in ("inputs", "labels"))
    return inputs.reshape(len(inputs), -1) / 16.0, labels
(x, y), (X, Y) = split("train"), split("eval")
for seed in range(seeds):
    model = MLPClassifier(hidden_layer_sizes=(width,), max_iter=epochs, random_state=seed).fit(x, y)
    p = model.predict_proba(X)
    answers = p.argmax(axis=1)
    score = {"val_loss": log_loss(Y, p), "accuracy": (answers == Y).mean(), "f1": f1_score(Y, answers, average="macro")}
    print(json.dumps({name: float(value) for name, value in score.items()}))
"""

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def environment(folder: Path) -> Path:
    """The interpreter of an environment with scikit-learn in it; made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", SCIKIT_LEARN], check=True)
    return python


def peer(python: Path, lab: Path, seeds: int, width: int, epochs: int) -> Scores:
    command = [str(python), "-c", PEER, str(lab), str(seeds), str(width), str(epochs)]
    done = subprocess.run(command, env=ONE_THREAD, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def trial(seed: int, lab: Path, folder: Path) -> dict[str, float]:
    """Our baseline at one seed: the three commands of a trial."""
    score = folder / "score.json"
    given = {
        **ONE_THREAD,
        "AUTOLAB_TRIAL_DIR": str(folder),
        "AUTOLAB_SEED": str(seed),
        "AUTOLAB_DATA": str(lab / "data" / "train"),
        "AUTOLAB_MODEL": str(folder / "model"),
        "AUTOLAB_INPUTS": str(lab / "data" / "eval" / "inputs.npy"),
    }
    given.pop("AUTOLAB_CONFIG", None)
    for script in ("train.py", "predict.py"):
        subprocess.run([sys.executable, script], cwd=lab, env=given, check=True, stderr=subprocess.DEVNULL)
    labels = str(lab / "data" / "eval" / "labels.npy")
    files = ["--predictions", str(folder / "predictions.npy"), "--labels", labels, "--out", str(score)]
    subprocess.run([sys.executable, "-I", "-B", str(lab / "eval.py"), *files], env={}, check=True)
    result: dict[str, float] = json.loads(score.read_text())
    return result


def ours(seeds: int, lab: Path) -> Scores:
    scores = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            scores.append(trial(seed, lab, Path(folder)))
    return scores


def row(name: str, scores: Scores) -> str:
    cells = []
    for metric in ("accuracy", "f1", "val_loss"):
        values = [score[metric] for score in scores]
        cells.append(f"{metric} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    return f"{name:42} n={len(scores)}  " + "  ".join(cells)


def mean_loss(scores: Scores) -> float:
    return statistics.mean(score["val_loss"] for score in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description="The digits template's baseline against scikit-learn's MLPClassifier.")
    parser.add_argument("--seeds", type=int, default=10, help="trainings a model, at least 2")
    parser.add_argument("--environment", type=Path, help="folder for scikit-learn's environment; kept")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds: a deviation needs at least 2")
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder) / "lab"
        init.compose("digits", lab)
        python = environment(given.environment or Path(folder) / "environment")
        peers = {
            f"scikit-learn, {width} units, {epochs} epochs": peer(python, lab, given.seeds, width, epochs)
            for width, epochs in ((64, 200), (128, 200), (128, 1000))
        }
        own = ours(given.seeds, lab)
    for name, scores in peers.items():
        print(row(name, scores))
    print(row("digits template, baseline", own))
    best = min(peers.values(), key=mean_loss)
    print(f"log loss, ours over scikit-learn's best: {mean_loss(own) / mean_loss(best):.2f}")


if __name__ == "__main__":
    main()
