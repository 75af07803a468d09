"""How often does a gate call a change better that is none, and does it find one that is?

    python benchmarks/gates.py [--seed 0] [--quick] [--out FOLDER]        make bench-gates

Each comparison is a base and a candidate whose true difference is known, in deviations of a pair's difference. Nothing
is trained; a trial is a drawn number. Two parts:

    compare   `autolab compare` itself: a repository, commits, ledger, runs, the answer, with an executor that draws
              numbers in place of trainings (in_process.py). 200 comparisons of a version with itself, 100 with a
              planted gain of two deviations, harms of two to twenty. The least difference is its own default
    gates     the same numbers through the gates in use elsewhere, each by its published rule, 2,000 times a row

    one run each       a better single run is kept (greedy search)
    three of three     better in each of three paired seeds (CORAL)
    Welch, p < 0.25    three runs each, one-sided Welch test (parameter-golf)
    2 standard errors  a mean of three pairs more than two standard errors above 0 (cap-evolve, k = 2)
    2 MAD              one run, better by two median absolute deviations of the base's last five (pi-autoresearch)
    mean, no noise     the mean of three better, by more than a threshold of 0 (Arbor's default)

With --bias, which is a part of the whole run, the trial that runs second in a pair gets half a deviation.
Ends with PASS or FAIL for each thing promised, and exit code 1 if one fails. About 12 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from in_process import EFFECT, METRIC
from scipy.stats import ttest_ind

from autolab.compare.answer import answer_of
from autolab.compare.paired_runs import Allowance, run_comparison
from autolab.compare.question import AskedComparison, asked
from autolab.compare.versions import VersionRequest, resolve
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Trial
from autolab.trials.progress import Progress

HARMS = (-2.0, -3.0, -5.0, -10.0, -20.0)
GAIN = 2.0
BIAS = 0.5
CONFIG = """
goal: raise the score
metric: {primary: score, direction: maximize, success_delta: 1.0}
train: {command: "true", metrics: stdout}
containment: none
"""
OWN = 1 / math.sqrt(2)
"""The deviation of one trial: that of a pair's difference is then 1."""


class Silent:
    """A view that shows nothing."""

    def __call__(self, line: str) -> None:
        pass

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """How often a gate answered what, for one true difference. `trials`: the mean number of trials that it used."""

    gate: str
    effect: float
    bias: float
    comparisons: int
    better: int
    worse: int
    trials: float


# autolab compare


def compared(effect: float, bias: float, luck: int, folder: Path) -> tuple[str, int]:
    """The answer of `autolab compare` to one candidate, and the trials that it used."""
    _git(folder, "init", "-q")
    (folder / EFFECT).write_text("0\n")
    _git(folder, "add", "-A")
    _git(folder, "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-q", "-m", "base")
    # A blank more is another tree: of a version with itself nothing would be measured.
    (folder / EFFECT).write_text(f"{effect} \n")
    config = Config.from_text(CONFIG, "config.yaml")
    options = {"luck": luck, "bias": bias}
    executor = config.executor.model_copy(update={"name": "in_process:InProcess", "options": options})
    config = config.model_copy(update={"executor": executor})
    base, candidates = resolve(Git(folder), VersionRequest("HEAD"))
    question = AskedComparison(
        base=asked(base),
        candidates=tuple(map(asked, candidates)),
        metric=METRIC,
        direction="maximize",
        delta=None,
        alpha=0.005,
        require="better",
        confirm=False,
        pairs=24,
    )
    answer = answer_of(run_comparison(folder, config, question, Allowance(), Silent(), lambda: False))
    return answer.candidates[0].standing.value, answer.outcome.spent


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def engine_row(effect: float, bias: float, count: int, seed: int) -> Row:
    answers: Counter[str] = Counter()
    trials = 0
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            # Numbers of their own for each row: rows are independent.
            luck = seed * 1_000_000 + int(abs(effect) * 1000) * 1000 + int(bias * 10) * 500 + number
            answer, used = compared(effect, bias, luck, Path(folder))
        answers[answer] += 1
        trials += used
    return Row("autolab compare", effect, bias, count, answers["better"], answers["worse"], trials / count)


# the gates in use elsewhere

Gate = Callable[[np.ndarray, np.ndarray, np.ndarray], bool]
"""Whether it keeps, by the base's and the candidate's scores at shared seeds, and earlier runs of the base."""


def _three_standard_errors(base: np.ndarray, candidate: np.ndarray) -> float:
    differences = candidate[:3] - base[:3]
    return float(differences.mean() / (differences.std(ddof=1) / math.sqrt(3)))


def _deviations(history: np.ndarray) -> float:
    return float(np.median(np.abs(history - np.median(history))))


GATES: dict[str, tuple[int, Gate]] = {
    "one run each": (2, lambda base, candidate, history: bool(candidate[0] > base[0])),
    "three of three": (6, lambda base, candidate, history: bool((candidate[:3] > base[:3]).all())),
    "Welch, p < 0.25": (
        6,
        lambda base, candidate, history: bool(
            ttest_ind(candidate[:3], base[:3], equal_var=False, alternative="greater").pvalue < 0.25
        ),
    ),
    "2 standard errors": (6, lambda base, candidate, history: _three_standard_errors(base, candidate) > 2),
    "2 MAD": (7, lambda base, candidate, history: bool(candidate[0] - base[0] > 2 * _deviations(history))),
    "mean, no noise": (6, lambda base, candidate, history: bool(candidate[:3].mean() > base[:3].mean())),
}
"""By name: the trials that it uses, and the gate."""


def gate_rows(effect: float, bias: float, count: int, rng: np.random.Generator) -> list[Row]:
    """The other gates; the base always runs first, so that the candidate has the bias."""
    kept: Counter[str] = Counter()
    harmed: Counter[str] = Counter()
    for _ in range(count):
        base = OWN * rng.standard_normal(3)
        candidate = effect + bias + OWN * rng.standard_normal(3)
        history = OWN * rng.standard_normal(5)
        for name, (_, gate) in GATES.items():
            kept[name] += gate(base, candidate, history)
            harmed[name] += gate(candidate, base, history)
    rows = []
    for name, (trials, _) in GATES.items():
        rows.append(Row(name, effect, bias, count, kept[name], harmed[name], trials))
    return rows


# the whole


def promises(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """What is promised of `autolab compare`, as shares of the comparisons that were made."""
    own = {(row.effect, row.bias): row for row in rows if row.gate == "autolab compare"}
    same, gain, biased = own[0.0, 0.0], own[GAIN, 0.0], own[0.0, BIAS]
    least = min((own[harm, 0.0].worse / own[harm, 0.0].comparisons, harm) for harm in HARMS)
    return [
        (f"a version with itself is better in {same.better} of {same.comparisons}: at most 1%", _share(same) <= 0.01),
        (f"and worse in {same.worse}: at most 5%", same.worse <= 0.05 * same.comparisons),
        (
            f"a gain of two deviations is found in {gain.better} of {gain.comparisons}: at least 95%",
            _share(gain) >= 0.95,
        ),
        (f"a harm is called worse in {100 * least[0]:.0f}% or more of each row: at least 95%", least[0] >= 0.95),
        (
            f"with the order's bias better in {biased.better} of {biased.comparisons}: at most 1%",
            _share(biased) <= 0.01,
        ),
    ]


def _share(row: Row) -> float:
    return row.better / row.comparisons


def table(rows: Sequence[Row]) -> str:
    lines = ["| gate | true difference | bias | better | worse | trials |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        better, worse = 100 * row.better / row.comparisons, 100 * row.worse / row.comparisons
        lines.append(
            f"| {row.gate} | {row.effect:g} | {row.bias:g} | {better:.1f}% | {worse:.1f}% | {row.trials:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the comparisons; promises are not held")
    parser.add_argument("--out", type=Path, help="write gates.md and gates.json there")
    options = parser.parse_args()
    share = 20 if options.quick else 1
    rng = np.random.default_rng(options.seed)
    rows = []
    for effect, bias, count in [
        (0.0, 0.0, 200),
        (0.0, BIAS, 200),
        (GAIN, 0.0, 100),
        (1.0, 0.0, 100),
        *((harm, 0.0, 100) for harm in HARMS),
        (-0.5, 0.0, 100),
        (-1.0, 0.0, 100),
    ]:
        rows.append(engine_row(effect, bias, count // share, options.seed))
        print(f"  {table(rows[-1:]).splitlines()[-1]}", file=sys.stderr, flush=True)
    for effect, bias in ((0.0, 0.0), (0.0, BIAS), (GAIN, 0.0), (-2.0, 0.0)):
        rows += gate_rows(effect, bias, 2000 // share, rng)
    print(table(rows))
    failed = False
    for text, holds in promises(rows):
        failed |= not holds
        print(f"{'PASS' if holds else 'FAIL'}  {text}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gates.md").write_text(table(rows) + "\n")
        (options.out / "gates.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return int(failed and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
