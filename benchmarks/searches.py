"""How much does a search find in real trainings, at 60 trials? Ours, Optuna's TPE, greedy steps, each with one claim.

    python benchmarks/searches.py [--folder searches] [--problems digits script] [--ways ours tpe greedy] [--seeds 3]
                                  [--trials 60] [--out FOLDER]                                    make bench-searches

Two problems, both on the real digits:

    digits    the lab of the shipped template (torch, sealed evaluator, holdout); five numbers of its recipe and model
    script    `labs/script`: a git repository with one train.py, seven numbers at its top; the loss is what it prints

Three ways, each from three seeds, with equal trials; what a way spends on calibration counts:

    ours      `autolab init`, `autolab loop` in mode explore with budget.trials, by the command line
    tpe       Optuna's TPESampler over the knobs, one trial at a time, all at one seed; then one claim
    greedy    one knob doubled or halved at a time, kept if its single score is better; then one claim

The claim of the last two is that of the engine: `stats.rules.decide` at alpha .005 on fresh seeds, with the 30% of the
trials that were set aside and what the search left over; in the lab with a holdout its answer too (`stats.holdout`). A
training that fails or ends beyond the score of a constant prediction counts as that score.

Then the point that each way ends with is trained with 20 more seeds beside the base, the same for all: its true gain,
with Student's 95% interval. The gain of a way is that of its point if it was claimed, else 0.

Ours trains as many at a time as a lab has slots, the others one. Resumable: killed anywhere, the same command goes on;
no training runs twice, and a lab's loop continues. About an hour on two cores; prints what searches and claims took.
Ends with PASS or FAIL for a kept gain in each of ours, and with exit code 1 if one fails. --out writes searches.md and
searches.json.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from honest_trials import Arm, code_of
from scipy.special import stdtrit

from autolab.cli import init
from autolab.errors import ExitCode
from autolab.ideas.searchers import NumericKnob, Point, SearchSpace
from autolab.lab.create import TEMPLATES
from autolab.lab.schemas.config import StoppingRule
from autolab.stats import holdout, rules

HERE = Path(__file__).resolve().parent
LABS = HERE / "labs"
RULE = StoppingRule(alpha=0.005)
RESERVE = 0.3
"""The share of the trials that is kept for the claim."""
MOST_PAIRS = 24
WORST = -math.log(10)
"""The score of a constant prediction of ten classes."""
SCREEN, CLAIM, TRUTH = 410_000, 420_000, 430_000
"""The first seeds of searches, of claims, and of what a point's gain is measured with in the end."""
TRUE_SEEDS = 20
MOST_ITERATIONS = 1000
"""The trials end the loop, not these."""


# Trainings


@dataclass(frozen=True)
class Outcome:
    """A training: its score (larger is better), that on the holdout and its parts (empty without one), its seconds."""

    score: float
    seconds: float
    holdout: float | None = None
    parts: tuple[float, ...] = ()


class Problem(Protocol):
    """Something that is trained. `wanted` is the least gain that a claim is about."""

    name: str
    space: SearchSpace
    wanted: float
    has_holdout: bool

    def code(self, point: Point) -> Path:
        """The folder with the code at a point."""

    def train(self, code: Path, point: Point, seed: int, asks_holdout: bool, folder: Path) -> Outcome:
        """One training in a new folder. RuntimeError: it failed."""

    def make_lab(self, folder: Path, seed: int, trials: int) -> None:
        """A lab of the base in mode explore, ready for `autolab loop`."""

    def champion(self, lab: Path) -> Path | None:
        """The folder with the champion's code; None: nothing was kept."""


def run(words: Sequence[str], folder: Path, **env: str) -> str:
    """What a program prints. RuntimeError with its last words if it fails."""
    whole = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **env}
    ended = subprocess.run(words, cwd=folder, env=whole, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {(ended.stderr or ended.stdout).strip()[-300:]}")
    return ended.stdout


def number(value: float) -> str:
    """As it is written into code: four digits, whole numbers without a point."""
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"


class Script:
    """The repository of one script: its knobs are constants of train.py, its loss is what it prints."""

    name = "script"
    space = SearchSpace(
        knobs=(
            NumericKnob("LR", 0.03, 0.002, 0.5),
            NumericKnob("MOMENTUM", 0.8, 0.05, 0.98),
            NumericKnob("WEIGHT_DECAY", 0.003, 0.00002, 0.1),
            NumericKnob("DROPOUT", 0.4, 0.02, 0.8),
            NumericKnob("LABEL_SMOOTHING", 0.05, 0.003, 0.4),
            NumericKnob("BATCH_SIZE", 32, 4, 256, integer=True),
            NumericKnob("HIDDEN_SIZE", 32, 4, 256, integer=True),
        )
    )
    wanted = 0.02
    has_holdout = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._repository = folder / "repository"

    def repository(self) -> Path:
        """The repository, made if it is not there."""
        if not (self._repository / ".git").exists():
            part = self._repository.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(LABS / "script", part)
            self._write_data(part / "digits.npz")
            run(["git", "init", "--quiet", "--initial-branch", "main"], part)
            _commit(part, "A script that trains")
            part.rename(self._repository)
        return self._repository

    def _write_data(self, path: Path) -> None:
        data = TEMPLATES / "digits" / "data"
        parts = {name: [np.load(data / split / f"{name}.npy") for split in SPLITS] for name in ("inputs", "labels")}
        # Few rows are trained on: runs differ more, and there is more to regularise.
        few = slice(TRAINED_ON), slice(TRAINED_ON, None)
        arrays = {}
        for key, name in (("pictures", "inputs"), ("labels", "labels")):
            taken, left = (parts[name][-1][rows] for rows in few)
            arrays[key] = taken
            arrays[f"held_out_{key}"] = np.concatenate([*parts[name][:-1], left])
        for key in ("pictures", "held_out_pictures"):
            arrays[key] = arrays[key].reshape(-1, 64)
        np.savez(path, **arrays)

    def code(self, point: Point) -> Path:
        text = (self.repository() / "train.py").read_text()
        for name, value in point.items():
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {number(value)}", text)
            if found != 1:
                raise RuntimeError(f"train.py: {name} stands there {found} times, not once")
        folder = self._folder / "code" / _name_of(point)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.py").write_text(text)
        shutil.copy(self._repository / "digits.npz", folder)
        return folder

    def train(self, code: Path, point: Point, seed: int, asks_holdout: bool, folder: Path) -> Outcome:
        begun = time.monotonic()
        said = run([sys.executable, "-B", "train.py"], code, AUTOLAB_SEED=str(seed))
        seconds = time.monotonic() - begun
        (loss,) = re.findall(r"val_loss: (\S+)", said)
        return Outcome(_bounded(-float(loss)), seconds)

    def make_lab(self, folder: Path, seed: int, trials: int) -> None:
        shutil.copytree(self.repository(), folder)
        words = ["--metric", "val_loss", "--direction", "minimize", "--delta", str(self.wanted)]
        words += ["--train-command", "python train.py", "--yes", "--probe-seconds", "20"]
        autolab("init", "--from-existing", str(folder), "--seed", str(seed), *words)
        _set_up(folder, trials)

    def champion(self, lab: Path) -> Path | None:
        return _checked_out(lab, self._folder / "code")


SPLITS = ("train", "eval", "holdout")
TRAINED_ON = 298
"""Pictures on which the script trains."""


class Digits:
    """The lab of the shipped template: knobs are settings of a training, and two numbers of its model."""

    name = "digits"
    space = SearchSpace(
        knobs=(
            NumericKnob("lr", 0.01, 0.0006, 0.16),
            NumericKnob("weight_decay", 0.1, 0.003, 3.2),
            NumericKnob("batch_size", 64, 16, 512, integer=True),
            NumericKnob("units", 128, 16, 512, integer=True),
            NumericKnob("dropout", 0.3, 0.02, 0.8),
        )
    )
    wanted = 0.01
    has_holdout = True
    _MODEL = "models/mlp.py"
    _SETTINGS = ("lr", "weight_decay", "batch_size")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template"
        self._python: list[str] = []

    def python(self) -> list[str]:
        """A python that has imported torch: importing takes longer than the training. It ends with this process."""
        if not self._python:
            place = Path(tempfile.mkdtemp())
            atexit.register(shutil.rmtree, place, ignore_errors=True)
            program, door = str(HERE / "warm_python.py"), str(place / "door")
            server = subprocess.Popen([sys.executable, program, door, "--serve"], cwd="/", env={})
            atexit.register(server.terminate)
            while not Path(door).exists() and server.poll() is None:
                time.sleep(0.05)
            self._python = [sys.executable, "-B", program, door]
        return self._python

    def template(self) -> Path:
        """The files of the lab, made if they are not there."""
        if not self._template.exists():
            part = self._template.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            init.compose("digits", part)
            part.rename(self._template)
        return self._template

    def code(self, point: Point) -> Path:
        units, dropout = number(point["units"]), number(point["dropout"])
        layers = "Linear(64, 128)", "Linear(128, 10)", "Dropout(0.3)"
        changed = f"Linear(64, {units})", f"Linear({units}, 10)", f"Dropout({dropout})"
        edits = [(self._MODEL, f"nn.{old}", f"nn.{new}") for old, new in zip(layers, changed, strict=True)]
        folder = self._folder / "code" / _name_of(point)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return code_of(self.template(), Arm(edits=tuple(edits)), folder)

    def train(self, code: Path, point: Point, seed: int, asks_holdout: bool, folder: Path) -> Outcome:
        settings = folder / "settings.json"
        chosen = {name: value for name, value in point.items() if name in self._SETTINGS}
        if "batch_size" in chosen:
            chosen["batch_size"] = int(chosen["batch_size"])
        settings.write_text(json.dumps(chosen))
        data = self.template() / "data"
        env = {"AUTOLAB_TRIAL_DIR": str(folder), "AUTOLAB_CONFIG": str(settings)}
        begun = time.monotonic()
        words = [*self.python(), "train.py"]
        run(words, code, **env, AUTOLAB_SEED=str(seed), AUTOLAB_DATA=str(data / "train"))
        loss, _ = self._losses(code, folder, "eval")
        outcome = Outcome(_bounded(-loss), time.monotonic() - begun)
        if not asks_holdout:
            return outcome
        held_out, parts = self._losses(code, folder, "holdout")
        scores = tuple(_bounded(-part) for part in parts)
        return Outcome(outcome.score, time.monotonic() - begun, _bounded(-held_out), scores)

    def _losses(self, code: Path, folder: Path, split: str) -> tuple[float, list[float]]:
        """The loss on a split, and on every n-th row of it from each of the first n on."""
        inputs = self.template() / "data" / split
        there = folder / split
        there.mkdir()
        model = {"AUTOLAB_MODEL": str(folder / "model"), "AUTOLAB_INPUTS": str(inputs / "inputs.npy")}
        run([*self.python(), "predict.py"], code, **model, AUTOLAB_TRIAL_DIR=str(there))
        logs = np.load(there / "predictions.npy").astype(np.float64)
        labels = np.load(inputs / "labels.npy").astype(np.int64)
        own = -logs[np.arange(len(labels)), labels]
        count = holdout.parts_of(len(labels))
        return float(own.mean()), [float(own[first::count].mean()) for first in range(count)]

    def make_lab(self, folder: Path, seed: int, trials: int) -> None:
        autolab("init", str(folder), "--seed", str(seed))
        _set_up(folder, trials)

    def champion(self, lab: Path) -> Path | None:
        return _checked_out(lab, self._folder / "code")


def _bounded(score: float) -> float:
    """Not below a constant prediction's; that one for what is no number."""
    return max(score, WORST) if math.isfinite(score) else WORST


def _name_of(point: Point) -> str:
    return hashlib.sha256(json.dumps(dict(point), sort_keys=True).encode()).hexdigest()[:12]


def _commit(folder: Path, message: str) -> None:
    run(["git", "add", "--all"], folder)
    who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost"]
    run(["git", *who, "commit", "--quiet", "--message", message], folder)


# Ours


def autolab(*words: str) -> None:
    run([sys.executable, "-m", "autolab", *words], Path.cwd())


def _set_up(lab: Path, trials: int) -> None:
    """Mode explore and the budget, committed as a user does."""
    path = lab / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["test"] = {**config["test"], "mode": "explore"}
    config["budget"] = {"trials": trials, "iterations": None}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    _commit(lab, f"{trials} trials, in mode explore")


def _checked_out(lab: Path, codes: Path) -> Path | None:
    """The code of the lab's champion, without its record."""
    branch = ["git", "rev-parse", "--verify", "--quiet", "autolab/champion"]
    found = subprocess.run(branch, cwd=lab, capture_output=True, text=True, check=False)
    commit = found.stdout.strip()
    base = run(["git", "rev-parse", "main"], lab).strip()
    if not commit or commit == base:
        return None
    folder = codes / f"champion-{commit[:12]}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=lab, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=part, input=archive.stdout, check=True)
        part.rename(folder)
    return folder


@dataclass(frozen=True)
class End:
    """What a way hands over. `code` and `point` of it; `claimed`; trials in all, and pairs of the claim."""

    code: Path | None
    point: Point
    claimed: bool
    trials: int
    pairs: int | None
    seconds: float


def ours(problem: Problem, folder: Path, seed: int, trials: int) -> End:
    """A whole loop by the command line; one that was killed goes on, one that ended is only read."""
    lab, ended = folder / "lab", folder / "ended.json"
    if not (lab / ".git" / "autolab" / "head").exists():
        shutil.rmtree(lab, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        problem.make_lab(lab, seed, trials)
    if not ended.exists():
        begun = time.monotonic()
        words = [sys.executable, "-m", "autolab", "loop", "--plain", "--max-iterations", str(MOST_ITERATIONS)]
        with (folder / "loop.log").open("a") as log:
            code = subprocess.run(words, cwd=lab, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if code not in (ExitCode.DONE, ExitCode.BUDGET):
            raise RuntimeError(f"{lab}: the loop ended with exit code {code}; {folder / 'loop.log'} says why")
        ended.write_text(json.dumps({"seconds": time.monotonic() - begun}))
    status = json.loads(run([sys.executable, "-m", "autolab", "status", "--json"], lab))
    champion = problem.champion(lab)
    seconds = float(json.loads(ended.read_text())["seconds"])
    return End(champion, {}, champion is not None, _spent(status), None, seconds)


def _spent(status: Mapping[str, Any]) -> int:
    return int(status["trials"])


# The other ways


class Ledger:
    """The trainings of a problem, each once: a line of JSON a training."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self._problem, self._folder = problem, folder
        self._path = folder / "trainings.jsonl"
        self._known: dict[str, Outcome] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            # The last line of a killed run may be half a line.
            whole = self._path.read_text().rpartition("\n")[0]
            self._path.write_text(f"{whole}\n" if whole else "")
            for line in whole.splitlines():
                value = json.loads(line)
                key = value.pop("key")
                self._known[key] = Outcome(**value | {"parts": tuple(value["parts"])})

    def at(self, point: Point, seed: int, asks_holdout: bool = False) -> Outcome:
        """One training at a point."""
        return self._outcome(_name_of(point), lambda: self._problem.code(point), point, seed, asks_holdout)

    def of(self, code: Path, seed: int) -> Outcome:
        """One training of a champion's code, with the settings that stand there."""
        return self._outcome(code.name, lambda: code, {}, seed, False)

    def _outcome(self, name: str, code: Callable[[], Path], point: Point, seed: int, asks_holdout: bool) -> Outcome:
        key = f"{name} {seed}{' holdout' if asks_holdout else ''}"
        if key not in self._known:
            outcome = self._trained(code(), point, seed, asks_holdout)
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key} | asdict(outcome)) + "\n")
            self._known[key] = outcome
        return self._known[key]

    def _trained(self, code: Path, point: Point, seed: int, asks_holdout: bool) -> Outcome:
        folder = self._folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        begun = time.monotonic()
        try:
            return self._problem.train(code, point, seed, asks_holdout, folder)
        except RuntimeError as error:
            print(f"{self._problem.name}: {error}", file=sys.stderr)
            parts = (WORST,) * holdout.PARTS if asks_holdout else ()
            return Outcome(WORST, time.monotonic() - begun, WORST if asks_holdout else None, parts)


class Trials:
    """The trials of one search, all at one seed: what is left of them."""

    def __init__(self, ledger: Ledger, seed: int, left: int) -> None:
        self._ledger, self._seed = ledger, seed
        self.left = left
        self.seconds = 0.0

    def score(self, point: Point) -> float:
        self.left -= 1
        outcome = self._ledger.at(point, SCREEN + self._seed)
        self.seconds += outcome.seconds
        return outcome.score


Way = Callable[[Trials, SearchSpace, int], Point]


def tpe(trials: Trials, space: SearchSpace, seed: int) -> Point:
    # Only here: it takes a second to load, and the other ways do without it.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict(space.base))
    while trials.left > 0:
        trial = study.ask()
        point: dict[str, float | bool] = {}
        for knob in space.knobs:
            if knob.integer:
                point[knob.name] = trial.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log)
            else:
                point[knob.name] = trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)
        study.tell(trial, trials.score(point))
    return study.best_params


def greedy(trials: Trials, space: SearchSpace, seed: int) -> Point:
    point = dict(space.base)
    best = trials.score(point)
    steps = [(knob, sign) for knob in space.knobs for sign in (1, -1)]
    np.random.default_rng(seed).shuffle(steps)
    # A step that paid is taken once more; the search ends where none does.
    at, failures = 0, 0
    while trials.left > 0 and failures < len(steps):
        knob, sign = steps[at % len(steps)]
        tried = point | {knob.name: knob.value(knob.position(float(point[knob.name])) + sign)}
        # At the end of its range a knob has no further step.
        score = trials.score(tried) if tried != point else -math.inf
        if score > best:
            point, best, failures = tried, score, 0
        else:
            at, failures = at + 1, failures + 1
    return point


SEARCHES: dict[str, Way] = {"tpe": tpe, "greedy": greedy}
WAYS = ("ours", *SEARCHES)


def searched(problem: Problem, ledger: Ledger, way: str, seed: int, trials: int) -> End:
    """A search at one seed, then one claim with what was set aside and what the search left over."""
    reserve = int(RESERVE * trials)
    search = Trials(ledger, seed, trials - reserve)
    point = SEARCHES[way](search, problem.space, seed)
    spent = trials - reserve - search.left
    if dict(point) == problem.space.base:
        return End(None, point, False, spent, 0, search.seconds)
    first = CLAIM + 1000 * (len(WAYS) * seed + WAYS.index(way))
    claim = claimed(problem, ledger, point, min(MOST_PAIRS, (trials - spent) // 2), first)
    return End(None, point, claim.kept, spent + 2 * claim.pairs, claim.pairs, search.seconds + claim.seconds)


@dataclass(frozen=True)
class Claim:
    kept: bool
    pairs: int
    seconds: float


def claimed(problem: Problem, ledger: Ledger, point: Point, planned: int, first: int) -> Claim:
    """The engine's rule, pair by pair on the seeds from `first` on, and the holdout where there is one."""
    pairs: list[tuple[Outcome, Outcome]] = []
    kept = False
    for seed in range(first, first + planned):
        arms = (problem.space.base, point)
        base, candidate = (ledger.at(arm, seed, problem.has_holdout) for arm in arms)
        pairs.append((base, candidate))
        if len(pairs) < rules.FIRST:
            continue
        gains = [after.score - before.score for before, after in pairs]
        ruling = rules.decide(gains, delta=problem.wanted, rule=RULE, planned=planned, arms=1)
        if ruling.final:
            kept = ruling.action is rules.RuleAction.KEEP
            break
    seconds = sum(outcome.seconds for pair in pairs for outcome in pair)
    return Claim(kept and (not problem.has_holdout or _holdout_agrees(pairs)), len(pairs), seconds)


def _holdout_agrees(pairs: Sequence[tuple[Outcome, Outcome]]) -> bool:
    gains = [(after.holdout or 0.0) - (before.holdout or 0.0) for before, after in pairs]
    parts = [
        [new - old for old, new in zip(before.parts, after.parts, strict=True)]
        for before, after in pairs[: holdout.PAIRS]
    ]
    return holdout.passes(gains, parts).passed


# What is found


@dataclass(frozen=True)
class Result:
    """One campaign. `gain` is that of its end point on fresh seeds with its 95% interval, claimed or not."""

    problem: str
    way: str
    seed: int
    point: dict[str, float | bool]
    claimed: bool
    gain: float
    low: float
    high: float
    trials: int
    pairs: int | None
    seconds: float

    @property
    def counted(self) -> float:
        """What is not claimed counts as 0."""
        return self.gain if self.claimed else 0.0


def true_gain(problem: Problem, ledger: Ledger, end: End) -> tuple[float, float, float]:
    """Mean gain over the base on 20 fresh seeds, and Student's 95% interval; zeros where the end is the base."""
    is_base = end.code is None and dict(end.point) in ({}, problem.space.base)
    if is_base:
        return 0.0, 0.0, 0.0
    gains = []
    for seed in range(TRUTH, TRUTH + TRUE_SEEDS):
        after = ledger.at(end.point, seed) if end.code is None else ledger.of(end.code, seed)
        gains.append(after.score - ledger.at(problem.space.base, seed).score)
    mean = statistics.fmean(gains)
    half = float(stdtrit(len(gains) - 1, 0.975)) * statistics.stdev(gains) / math.sqrt(len(gains))
    return mean, mean - half, mean + half


def campaign(problem: Problem, folder: Path, way: str, seed: int, trials: int) -> Result:
    ledger = Ledger(problem, folder)
    if way == "ours":
        end = ours(problem, folder / f"ours-{seed}", seed, trials)
    else:
        end = searched(problem, ledger, way, seed, trials)
    gain, low, high = true_gain(problem, ledger, end)
    point = {name: float(number(value)) for name, value in end.point.items()}
    return Result(problem.name, way, seed, point, end.claimed, gain, low, high, end.trials, end.pairs, end.seconds)


# What is printed


def table(results: Sequence[Result]) -> list[str]:
    lines = [
        "| problem | way | seed | claimed | gain on 20 fresh seeds (95%) | trials | pairs of the claim | seconds |"
    ]
    lines += ["| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |"]
    for one in results:
        gain = f"{one.gain:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        pairs = "-" if one.pairs is None else str(one.pairs)
        cells = [one.problem, one.way, str(one.seed), "yes" if one.claimed else "no", gain, str(one.trials), pairs]
        lines.append(f"| {' | '.join([*cells, f'{one.seconds:.0f}'])} |")
    lines += ["", "| problem | way | mean gain, 0 where not claimed | claims |", "| --- | --- | ---: | ---: |"]
    for problem, way in dict.fromkeys((one.problem, one.way) for one in results):
        mine = [one for one in results if (one.problem, one.way) == (problem, way)]
        mean = statistics.fmean(one.counted for one in mine)
        claims = sum(one.claimed for one in mine)
        lines.append(f"| {problem} | {way} | {mean:+.4f} | {claims} of {len(mine)} |")
    return lines


def promises(results: Sequence[Result]) -> list[tuple[bool, str]]:
    """A kept gain in each of ours."""
    found = []
    for one in results:
        if one.way == "ours":
            kept = "kept" if one.claimed else "nothing kept"
            text = f"{one.problem}, seed {one.seed}: ours ends with a kept gain: {kept}, {one.gain:+.4f}"
            found.append((one.claimed and one.low > 0, text))
    return found


PROBLEMS: dict[str, Callable[[Path], Problem]] = {"script": Script, "digits": Digits}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("searches"), help="where all of it is kept")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--out", type=Path, help="folder for searches.md and searches.json")
    asked = parser.parse_args(words)
    results: list[Result] = []
    for name in asked.problems:
        folder = asked.folder.resolve() / name
        problem = PROBLEMS[name](folder)
        # Seed by seed, so that a run that is cut off leaves all ways of some.
        for seed in range(1, asked.seeds + 1):
            for way in asked.ways:
                one = campaign(problem, folder, way, seed, asked.trials)
                told = f"{one.gain:+.4f}, {'claimed' if one.claimed else 'not claimed'}"
                print(f"{name}, {way}, seed {seed}: {told}", file=sys.stderr, flush=True)
                results.append(one)
    held = promises(results)
    seconds = sum(one.seconds for one in results)
    lines = [*table(results), "", f"Searches and claims took {seconds / 60:.0f} minutes."]
    lines += [f"- {'PASS' if holds else 'FAIL'} {text}" for holds, text in held]
    text = "\n".join(lines)
    print(text)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "searches.md").write_text(text + "\n")
        (asked.out / "searches.json").write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    return 0 if all(holds for holds, _ in held) else 1


if __name__ == "__main__":
    sys.exit(main())
