"""Does the offline researcher find gains, and more than chance does with the same trials?

    python benchmarks/research.py digits  --seeds 0 1 2 --iterations 20 --work DIR
    python benchmarks/research.py cifar10 --iterations 10 --settings subset=1000 epochs=2 --work DIR

The second wants CIFAR-10 in the folder AUTOLAB_DATASETS, or fetches it.

For each lab seed two labs run through `autolab loop` in mode `each`: one whose researcher chooses by its bandit, one
that draws from the same catalogue without looking (`policy: random`) until it has had as many trials. Both build on
what was kept, by the same rule; they differ in what is tried next and in nothing else. Then the commit that each ended
with, and the template's, are trained on 20 fresh seeds that no search has seen, with the evaluator of the lab.

Resumable: labs go on where they were, and trainings that are done are not repeated; run the same command again. Trials
start in a process that has torch loaded (`warm_python.py`), which changes their time and not their results. On two
free cores the digits take about an hour and the pictures a quarter of one.

Prints a row a lab: trials, candidates kept, the gain that the search claims (the template's mean minus the last
kept candidate's, the latter on the seeds of its confirmation), and the gain measured anew, paired by seed, with a 95%
interval.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
FRESH = range(900_000, 900_020)
CODE = ("train.py", "predict.py")
OVER = ("stop", "human_review")
"""Stages in which a campaign has ended, by its budget or for want of ideas."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("template", choices=("digits", "cifar10"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--settings", nargs="*", default=[], help="NAME=VALUE in place of a default of settings.py")
    given = parser.parse_args()
    python = warm_python(given.work)
    rows = []
    for seed in given.seeds:
        bandit = search(given, seed, "bandit", python, None)
        chance = search(given, seed, "random", python, state(bandit)["trials"])
        rows += [(seed, "bandit", bandit), (seed, "random", chance)]
    print(f"\n{given.template}, {given.iterations} iterations of the bandit a lab, {len(FRESH)} fresh seeds")
    print("| lab seed | choice | iterations | trials | kept | claimed gain | gain on fresh seeds | accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for seed, policy, lab in rows:
        print(row(lab, seed, policy, python), flush=True)


def warm_python(work: Path) -> Path:
    """A program to name as `python` in config.yaml."""
    path = work.resolve() / "python"
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {HERE / "warm_python.py"} {path}.sock "$@"\n')
    path.chmod(0o755)
    return path


def search(given: argparse.Namespace, seed: int, policy: str, python: Path, trials: int | None) -> Path:
    """One lab to the end of its campaign; `trials` is what it may spend in place of a number of iterations."""
    lab: Path = given.work.resolve() / f"{given.template}-{policy}-{seed}"
    if not (lab / ".git" / "autolab" / "head").exists():
        autolab("init", str(lab), "--template", given.template, "--seed", str(seed))
        change_settings(lab, given.settings)
    path = lab / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text()) | {"python": str(python)}
    config["researcher"] = {"name": "offline", "policy": policy}
    config["budget"] = {"iterations": None, "trials": trials}
    config["test"]["mode"] = "each"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    done = state(lab)
    count = given.iterations if trials is None else 10 * given.iterations
    if done["loop"] is not None or (done["iterations"] < count and done["state"]["stage"] not in OVER):
        left = done["loop"]["max_iterations"] if done["loop"] else count - done["iterations"]
        autolab("loop", "--max-iterations", str(left), "--dir", str(lab), allowed=(0, 3, 4))
    return lab


def change_settings(lab: Path, wanted: list[str]) -> None:
    """Other defaults for a training, committed before anything is measured."""
    path = lab / "settings.py"
    for name, value in (one.split("=") for one in wanted):
        text, count = re.subn(rf"(?m)^(    {name}: \w+ = ).*$", rf"\g<1>{value}", path.read_text())
        if count != 1:
            sys.exit(f"--settings: {name} stands {count} times in {path}, not once")
        path.write_text(text)
    if wanted:
        git(lab, "commit", "-qam", f"settings: {' '.join(wanted)}")


def autolab(*words: str, allowed: tuple[int, ...] = (0,)) -> None:
    """A command, its output passed through; ends this program where it fails."""
    ended = subprocess.run([sys.executable, "-m", "autolab", *words], check=False)
    if ended.returncode not in allowed:
        sys.exit(f"autolab {' '.join(words)}: exit code {ended.returncode}")


def state(lab: Path) -> dict[str, Any]:
    said = subprocess.run(
        [sys.executable, "-m", "autolab", "status", "--dir", str(lab), "--json"], capture_output=True, check=True
    )
    value: dict[str, Any] = json.loads(said.stdout)
    return value


# measured anew


def row(lab: Path, seed: int, policy: str, python: Path) -> str:
    from autolab.stats import rules

    records = [json.loads(path.read_text()) for path in sorted((lab / "experiments").glob("*/record.json"))]
    kept = [record for record in records if record["outcome"] == "kept"]
    first = yaml.safe_load((lab / "experiments" / records[0]["iteration_id"] / "design.yaml").read_text())[
        "base_commit"
    ]
    best = kept[-1]["commit"] if kept else None
    before = fresh(lab, first, python)
    metric = yaml.safe_load((lab / ".autolab" / "config.yaml").read_text())["metric"]["primary"]
    told = state(lab)
    head = f"| {seed} | {policy} | {told['iterations']} | {told['trials']} | {len(kept)} "
    if best is None:
        return head + "| 0 | 0 | |"
    after = fresh(lab, best, python)
    gains = [a[metric] - b[metric] for a, b in zip(before, after, strict=True)]
    found = rules.student_interval(gains, 0.025)
    claimed = baseline_mean(lab, records[0], metric) - kept[-1]["eval_metrics"][metric]
    accuracy = sum(score["accuracy"] for score in after) / len(after)
    was = sum(score["accuracy"] for score in before) / len(before)
    measured = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{head}| {claimed:+.4f} | {measured} | {was:.4f} to {accuracy:.4f} |"


def baseline_mean(lab: Path, record: dict[str, Any], metric: str) -> float:
    """What the first run measured for the template's own arm."""
    path = lab / "experiments" / record["iteration_id"] / "runs" / record["run_id"] / "metrics.json"
    arms = json.loads(path.read_text())["arms"]
    return float(
        next(iter(arms.values()))[metric]["mean"] if "baseline" not in arms else arms["baseline"][metric]["mean"]
    )


def fresh(lab: Path, commit: str, python: Path) -> list[dict[str, float]]:
    """Scores of a commit on the fresh seeds, each trained once for all time."""
    code = lab / ".git" / "fresh" / commit[:12]
    if not (code / "train.py").exists():
        code.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(lab), "archive", commit], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(code)], input=archive, check=True)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda seed: one(lab, code, seed, python), FRESH))


def one(lab: Path, code: Path, seed: int, python: Path) -> dict[str, float]:
    folder = code / "trials" / str(seed)
    score = folder / "score.json"
    if not score.exists():
        folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "AUTOLAB_TRIAL_DIR": str(folder), "AUTOLAB_SEED": str(seed), "OMP_NUM_THREADS": "1"}
        env |= {"AUTOLAB_DATA": str(lab / "data" / "train"), "AUTOLAB_MODEL": str(folder / "model")}
        env |= {"AUTOLAB_INPUTS": str(lab / "data" / "eval" / "inputs.npy"), "PYTHONDONTWRITEBYTECODE": "1"}
        for script in CODE:
            subprocess.run([python, script], cwd=code, env=env, check=True, capture_output=True)
        words = [
            "--predictions",
            str(folder / "predictions.npy"),
            "--labels",
            str(lab / "data" / "eval" / "labels.npy"),
        ]
        script = [sys.executable, "-I", "-B", str(lab / "eval.py")]
        subprocess.run([*script, *words, "--out", str(score)], check=True, env={})
    value: dict[str, float] = json.loads(score.read_text())
    return value


def git(lab: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(lab), *words], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
