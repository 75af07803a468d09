"""How often does the whole loop keep what is nothing, and miss what is something? On real digits, by real trainings.

    python benchmarks/digits_decisions.py [--folder DIR] [--noops 200] [--planted 100] [--report-only]

First a knob is measured, outside of any lab: 50 seeds, each at two levels of NOISE (`labs/softdigits`), with train,
predict and evaluator as a trial runs them. Its mean gain becomes the labs' `success_delta`; it has to be about twice
the deviation of the paired differences, or the benchmark ends there. Then two labs go through `autolab loop`, one
iteration a call, a scripted researcher in both:

    noops     each candidate changes STREAM to a number of its own: other draws, the same distribution
    planted   each candidate changes NOISE from the measured worse level to the better one

No score is touched. Nothing is used twice: before each iteration the driver, as the user, commits a new `base.txt`,
so that the candidate branches from the worse level again and the baseline runs anew, on seeds of its own.

Resumable: killed anywhere, the same command goes on; what counts is what the labs have on disk. A later call may ask
for more iterations. Prints how long it will still take, then one table: what became of the candidates, trials executed,
no-ops whose measured difference was not zero, and the shares of no-ops kept and of planted effects missed with exact
95% bounds (Clopper-Pearson). A stated rate holds where those bounds do not exclude it: alpha for what the search
supports and for what is kept, 1 - power for what is missed. Exit code 1 where one does not hold. The time is that of
the finished calls, start of the process included; a call that was killed is not in it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autolab.cli import status
from autolab.lab import create

SOFTDIGITS = Path(__file__).resolve().parent / "labs" / "softdigits"
RULE: dict[str, Any] = {
    **{"mode": "each", "rule": "sequential", "alpha": 0.005, "max_pairs": 24, "confirm_pairs": 24},
    "holdout_questions": 1000,
}
POWER = 0.95
"""Stated: the chance that a planted effect is kept, search and confirmation together."""
SEEDS = range(930_000, 930_050)
"""Of the measurement of the knob. A lab draws its own from its secret."""
WORSE, BETTER = "NOISE = 0.19", "NOISE = 0.1"
RATIO = (1.6, 2.6)
"""What counts as about twice: 50 seeds know the ratio to within a quarter, one standard error."""
FIRST_STREAM = 1000
KNOBS = "models/knobs.py"
Edit = tuple[str, str]


@dataclass(frozen=True)
class Campaign:
    """One lab of the benchmark: its folder, how many iterations are wanted, and what the nth candidate changes."""

    lab: Path
    wanted: int
    seed: int
    edit: Callable[[int], Edit]

    @property
    def name(self) -> str:
        return self.lab.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("digits-decisions"), help="where all of it is kept")
    parser.add_argument("--noops", type=int, default=200)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--report-only", action="store_true", help="run nothing, print the table of what is there")
    given = parser.parse_args()
    folder = given.folder.resolve()
    campaigns = [
        Campaign(folder / "noops", given.noops, 1, lambda number: ("STREAM = 0", f"STREAM = {FIRST_STREAM + number}")),
        Campaign(folder / "planted", given.planted, 2, lambda number: (WORSE, BETTER)),
    ]
    if not given.report_only:
        knob = measured(folder)
        for campaign in campaigns:
            make(campaign, knob["gain"])
        run(campaigns)
    sys.exit(report(folder, campaigns))


# the knob


def compose(folder: Path, delta: float | None = None) -> None:
    """The lab's files in a new folder; `delta` in place of the smallest difference worth having."""
    for source in (create.TEMPLATES / "base", SOFTDIGITS):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(create.TEMPLATES / "pictures" / "eval.py", folder)
    shutil.copytree(create.TEMPLATES / "digits" / "data", folder / "data")
    path = folder / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text()) | {"test": RULE}
    if delta is not None:
        config["metric"]["success_delta"] = delta
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def measured(folder: Path) -> dict[str, float]:
    """What the knob does to the loss, from `knob.json` or by 50 seeds at both levels; every trial is kept."""
    known = folder / "knob.json"
    if not known.exists():
        levels(folder / "knob")
        jobs = [(folder / "knob", level, seed) for seed in SEEDS for level in (WORSE, BETTER)]
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            losses = list(pool.map(lambda job: trial(*job), jobs))
        write(known, json.dumps(effect(losses[::2], losses[1::2]), indent=2))
    knob: dict[str, float] = json.loads(known.read_text())
    if not RATIO[0] <= knob["gain"] / knob["deviation"] <= RATIO[1]:
        sys.exit(f"{known}: {knob['gain']} is not about twice {knob['deviation']}; choose other levels of NOISE")
    return knob


def trial(folder: Path, level: str, seed: int) -> float:
    """Loss on the evaluation split of one training at a level of the knob, run as in a lab."""
    code = folder / level.replace(" = ", "-")
    score = code / "trials" / f"{seed}" / "score.json"
    if not score.exists():
        score.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "AUTOLAB_SEED": str(seed)}
        env |= {"AUTOLAB_TRIAL_DIR": str(score.parent), "AUTOLAB_MODEL": str(score.parent / "model")}
        env |= {"AUTOLAB_DATA": str(code / "data/train"), "AUTOLAB_INPUTS": str(code / "data/eval/inputs.npy")}
        for program in ("train.py", "predict.py"):
            subprocess.run([sys.executable, "-B", program], cwd=code, env=env, check=True)
        files = ["--predictions", str(score.parent / "predictions.npy"), "--labels", str(code / "data/eval/labels.npy")]
        subprocess.run([sys.executable, "-I", "-B", str(code / "eval.py"), *files, "--out", str(score)], check=True)
    return float(json.loads(score.read_text())["val_loss"])


def levels(folder: Path) -> None:
    """The lab's code at both levels of the knob."""
    for level in (WORSE, BETTER):
        code = folder / level.replace(" = ", "-")
        if not code.exists():
            shutil.rmtree(code.with_suffix(".part"), ignore_errors=True)
            compose(code.with_suffix(".part"))
            changed(code.with_suffix(".part") / KNOBS, (WORSE, level))
            code.with_suffix(".part").rename(code)


def effect(worse: list[float], better: list[float]) -> dict[str, float]:
    """Mean gain, deviation of the paired differences, both arms' deviations and their correlation."""
    gains = [w - b for w, b in zip(worse, better, strict=True)]
    found = {"seeds": len(gains), "gain": statistics.mean(gains), "deviation": statistics.stdev(gains)}
    found |= {"worse": statistics.mean(worse), "worse_deviation": statistics.stdev(worse)}
    found |= {"better": statistics.mean(better), "better_deviation": statistics.stdev(better)}
    return found | {"correlation": statistics.correlation(worse, better)}


def changed(path: Path, edit: Edit) -> None:
    text = path.read_text()
    if text.count(edit[0]) != 1:
        sys.exit(f"{path}: {edit[0]!r} stands there {text.count(edit[0])} times, not once")
    path.write_text(text.replace(*edit))


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.rename(path)


# the labs


def make(campaign: Campaign, delta: float) -> None:
    """The lab, if it is not there. `autolab init` goes on where it was killed."""
    template = campaign.lab.with_suffix(".template")
    if (campaign.lab / ".git" / "autolab" / "head").exists():
        return
    shutil.rmtree(template, ignore_errors=True)
    compose(template, round(delta, 5))
    autolab("init", str(campaign.lab), "--template", str(template), "--seed", str(campaign.seed))


def run(campaigns: list[Campaign]) -> None:
    """Every iteration that is still wanted, the labs side by side."""
    with concurrent.futures.ThreadPoolExecutor(len(campaigns)) as pool:
        for ended in [pool.submit(go_on, campaign, campaigns) for campaign in campaigns]:
            ended.result()


def go_on(campaign: Campaign, campaigns: list[Campaign]) -> None:
    """One lab's iterations, one at a time."""
    idle = 0
    while (before := done(campaign.lab)) < campaign.wanted and idle < 3:
        began = time.perf_counter()
        iterate(campaign, before + 1)
        seconds = time.perf_counter() - began
        with (campaign.lab.with_suffix(".times")).open("a") as file:
            file.write(f"{seconds:.3f}\n")
        idle = 0 if done(campaign.lab) > before else idle + 1  # a loop that a kill left at its end ends, no more
        print(f"{progress(campaign)}; about {left(campaigns) / 60:.0f} min left", flush=True)
    if idle:
        sys.exit(f"{campaign.lab}: three calls of `autolab loop` brought no iteration to its end")


def done(lab: Path) -> int:
    """Iterations that have ended. Waits for a command that a killed driver left behind."""
    while (value := status.read(lab))["held_by"] is not None:
        time.sleep(0.2)
    return int(value["iterations"]) - (value["state"]["iteration_id"] is not None)


def iterate(campaign: Campaign, number: int) -> None:
    """A base of its own for iteration `number`, and the loop for it; all of it may be done again."""
    (campaign.lab / "base.txt").write_text(f"{number}\n")
    if git(campaign.lab, "status", "--porcelain", "base.txt"):
        git(campaign.lab, "commit", "-q", "-m", f"Base {number}", "base.txt")
    script = campaign.lab.with_suffix(".script.yaml")
    earlier: list[dict[str, Any]] = [{}] * (number - 1)
    write(script, json.dumps({"iterations": [*earlier, answers(campaign.edit(number), number)]}))
    words = ["--max-iterations", "1", "--plain", "--script", str(script)]
    autolab("loop", "--dir", str(campaign.lab), *words)


def answers(edit: Edit, number: int) -> dict[str, Any]:
    """What the scripted researcher says in one iteration. Seeds, metric and rule are the lab's."""
    claim = {"title": f"{edit[1]} ({number})", "mechanism": f"{edit[1]} in place of {edit[0]}."}
    claim |= {"success": "val_loss falls by success_delta"}
    design = {"description": "One constant changes.", "baselines": [{"name": "baseline"}]}
    change = {"path": KNOBS, "search": edit[0], "replace": edit[1]}
    words = {"observation": "See the table.", "inference": "See the verdict.", "claim": "None beyond this lab."}
    said: dict[str, dict[str, Any]] = {
        "hypothesis": {**claim, "risk_bounds": ["none"]},
        "design": {**design, "variants": [{"name": "candidate"}]},
        "implementation": {"plan": "Change the constant.", "edits": [change]},
        "implementation_review": {"findings": []},
        "update_docs": {**words, "no_changes": "There is no paper."},
        "decide_repeat": {"decision": "new_hypothesis", "reason": "The next candidate waits."},
    }
    return {stage: [{"output": output}] for stage, output in said.items()}


def progress(campaign: Campaign) -> str:
    newest = iterations(campaign.lab)[-1]
    executed = sum(map(trials_executed, runs(newest)))
    return f"{campaign.name} {done(campaign.lab)}/{campaign.wanted}: {outcome(newest)}, {executed} trials"


def left(campaigns: list[Campaign]) -> float:
    """Seconds still to go, those of the slower lab, by the mean of its calls; one without any counts as the other."""
    spent = {campaign.name: times(campaign) for campaign in campaigns}
    known = statistics.mean([seconds for each in spent.values() for seconds in each])
    mean = {name: statistics.mean(each) if each else known for name, each in spent.items()}
    return max(mean[c.name] * max(0, c.wanted - len(iterations(c.lab))) for c in campaigns)


def times(campaign: Campaign) -> list[float]:
    path = campaign.lab.with_suffix(".times")
    return [float(line) for line in path.read_text().splitlines()] if path.exists() else []


def autolab(*words: str) -> None:
    """A command; ends this program, with what the command said, where it fails."""
    ended = subprocess.run([sys.executable, "-m", "autolab", *words], check=False, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{ended.stdout}{ended.stderr}autolab {' '.join(words)}: exit code {ended.returncode}")


def git(lab: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(lab), *words], capture_output=True, text=True, check=True).stdout


# what the labs have on disk


def iterations(lab: Path) -> list[Path]:
    """Folders of the iterations that were decided, oldest first."""
    found = (path.parent for path in (lab / "experiments").glob("*/record.json"))
    return sorted(folder for folder in found if folder.name != "calibration")


def results(iteration: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.load((iteration / "results.yaml").read_text(), Loader=yaml.CSafeLoader)
    return value


def runs(iteration: Path) -> list[dict[str, Any]]:
    """Manifests of the iteration's runs: search, and confirm where there was one."""
    return [json.loads(path.read_text()) for path in sorted(iteration.glob("runs/*/run_manifest.json"))]


def outcome(iteration: Path) -> str:
    """One word for what became of the candidate.

    kept, retracted; search_only, unconfirmed: supported by the search and not confirmed; else why it was not supported:
    refuted, futile, budget, no_change.
    """
    found = results(iteration)
    if (confirmation := found.get("confirmation")) is not None:
        return str(confirmation["outcome"])
    assessment = found["assessment"]
    if assessment["verdict"] == "inconclusive":
        return str(assessment["reason"])
    return "unconfirmed" if assessment["verdict"] == "supported" else str(assessment["verdict"])


def search_supports(iteration: Path) -> bool:
    searched = [run for run in runs(iteration) if run["kind"] == "search"]
    return any(said["verdict"] == "supported" for run in searched for said in run["comparisons"])


def differs(iteration: Path) -> bool:
    """Whether the search measured a difference other than zero."""
    searched = [run for run in runs(iteration) if run["kind"] == "search"]
    return any(said["difference"]["mean"] != 0 for run in searched for said in run["comparisons"])


def trials_executed(run: dict[str, Any]) -> int:
    return sum(one["reused_from"] is None for one in run["trials"])


def trials_reused(run: dict[str, Any]) -> int:
    return len(run["trials"]) - trials_executed(run)


# the table


def report(folder: Path, campaigns: list[Campaign]) -> int:
    """Print what was measured; 1 where a stated rate does not hold, else 0."""
    if not all((campaign.lab / ".autolab").exists() for campaign in campaigns):
        sys.exit(f"{folder}: no labs of this benchmark in it; run it without --report-only first")
    knob = json.loads((folder / "knob.json").read_text())
    ratio = knob["gain"] / knob["deviation"]
    print(f"\n{WORSE} to {BETTER} over {knob['seeds']} seeds: val_loss {knob['worse']:.4f} to {knob['better']:.4f},")
    print(
        f"gain {knob['gain']:.5f}, deviation of the paired difference {knob['deviation']:.5f} (gain {ratio:.2f} of it),"
    )
    print(f"correlation of the arms {knob['correlation']:.2f}. Rule: {json.dumps(RULE)}\n")
    columns = [column(campaign) for campaign in campaigns]
    print(f"| | {' | '.join(campaign.name for campaign in campaigns)} |")
    print("| --- |" + " --- |" * len(campaigns))
    for name in columns[0]:
        print(f"| {name} | {' | '.join(str(values[name]) for values in columns)} |")
    noops, planted = ([*iterations(campaign.lab)] for campaign in campaigns)
    alpha = RULE["alpha"]
    held = [
        rate("no-ops that the search supports", sum(map(search_supports, noops)), len(noops), alpha),
        rate("no-ops kept", sum(outcome(one) == "kept" for one in noops), len(noops), alpha),
        rate("planted effects missed", sum(outcome(one) != "kept" for one in planted), len(planted), 1 - POWER),
    ]
    return 0 if all(held) else 1


OUTCOMES = ("kept", "retracted", "search_only", "unconfirmed", "futile", "refuted", "budget", "no_change")


def column(campaign: Campaign) -> dict[str, object]:
    """The table's numbers of one lab."""
    folders = iterations(campaign.lab)
    became = Counter(outcome(folder) for folder in folders)
    manifests = [manifest for folder in folders for manifest in runs(folder)]
    executed = Counter({kind: 0 for kind in ("search", "confirm")})
    for manifest in manifests:
        executed[manifest["kind"]] += trials_executed(manifest)
    seconds = [one["seconds"] for manifest in manifests for one in manifest["trials"]]
    values: dict[str, object] = {"iterations": len(folders)}
    values |= {name: became.pop(name, 0) for name in OUTCOMES}
    values |= {"any other": ", ".join(f"{name} {count}" for name, count in became.items()) or 0}
    values |= {"supported by the search": sum(map(search_supports, folders))}
    values |= {"difference other than zero": sum(map(differs, folders))}
    values |= {f"trials executed, {kind}": count for kind, count in executed.items()}
    values |= {"trials reused": sum(map(trials_reused, manifests))}
    values |= {"seconds a trial, mean": f"{statistics.mean(seconds):.2f}" if seconds else ""}
    return values | {"wall time, min": f"{sum(times(campaign)) / 60:.1f}"}


def rate(name: str, events: int, trials: int, stated: float) -> bool:
    """Print a share beside the stated rate; whether its exact bounds leave room for that rate or a lower one."""
    low, high = exact_bounds(events, trials)
    holds = low <= stated
    said = "holds" if holds else "DOES NOT HOLD"
    share = f"{events / trials:.2%}" if trials else "none"
    print(f"{name}: {events} of {trials}, {share} [{low:.2%}, {high:.2%}]; stated at most {stated:.1%}: {said}")
    return holds


def exact_bounds(events: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934)."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(events, trials - events + 1, tail)) if events else 0.0
    high = float(betaincinv(events + 1, trials - events, 1 - tail)) if events < trials else 1.0
    return low, high


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
