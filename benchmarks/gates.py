"""How often does a gate call a change better that is none, and does it find one that is?

    python benchmarks/gates.py [--seed 0] [--quick] [--out FOLDER]        make bench-gates

Each comparison is a base and a candidate whose true difference is known, in deviations of a pair's difference. Nothing
is trained: a trial is a drawn number, and equal seeds give equal tables.

`autolab compare` itself answers 200 comparisons of a version with itself, 200 more where the trial of a pair that runs
second gets half a deviation, 100 planted gains of one deviation and of two, and harms of half a deviation to twenty: a
repository, commits, ledger, runs and the answer, with an executor that draws numbers (in_process.py). The least
difference is its own default. The gates in use elsewhere get the same numbers, and more of them (2,000 a row), each by
its published rule and with the base always first:

    one run each       a better single run is kept (greedy search)
    three of three     better in each of three paired seeds (CORAL)
    Welch, p < 0.25    three runs each, one-sided Welch test (parameter-golf)
    2 standard errors  a mean of three pairs more than two standard errors above 0 (cap-evolve, k = 2)
    2 MAD              one run, better by two median absolute deviations of the base's last five (pi-autoresearch)
    mean, no noise     the mean of three better, by more than a threshold of 0 (Arbor's default)

Ends with PASS or FAIL for each thing promised, and exit code 1 if one fails. About 12 minutes on one core.
"""

from __future__ import annotations

import argparse
import hashlib
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
from in_process import EFFECT, METRIC, drawn
from scipy.stats import ttest_ind

from autolab.compare.answer import answer_of
from autolab.compare.paired_runs import Allowance, ComparisonPhase, run_comparison
from autolab.compare.question import AskedComparison, asked
from autolab.compare.versions import VersionRequest, resolve
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Trial
from autolab.trials.progress import Progress

HARMS = (-2.0, -3.0, -5.0, -10.0, -20.0)
GAIN = 2.0
BIAS = 0.5
OWN_ROWS = (
    (0.0, 0.0, 200),
    (0.0, BIAS, 200),
    (GAIN, 0.0, 100),
    *((harm, 0.0, 100) for harm in HARMS),
    (1.0, 0.0, 100),
    (-0.5, 0.0, 100),
    (-1.0, 0.0, 100),
)
"""What `autolab compare` is asked: the true difference, the bias of the order, and how often."""
GATE_COMPARISONS = 2000
QUICK_SHARE = 20
CONFIG = """
goal: raise the score
metric: {primary: score, direction: maximize, success_delta: 1.0}
train: {command: "true", metrics: stdout}
containment: none
"""
AUTOLAB = "autolab compare"
HISTORY = 1000
"""Numbers from which a stream's earlier runs of the base are drawn: no comparison has so many pairs."""


class Silent:
    """A view that shows nothing."""

    def __call__(self, line: str) -> None:
        pass

    def phase(self, phase: ComparisonPhase) -> None:
        pass

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """How often a gate answered what, for one true difference; shares are of `comparisons`.

    `worse` is None for a gate that only keeps or does not. `trials`: the mean number of trials that it used.
    """

    gate: str
    effect: float
    bias: float
    comparisons: int
    better: int
    worse: int | None
    trials: float

    @property
    def better_share(self) -> float:
        return self.better / self.comparisons

    @property
    def worse_share(self) -> float:
        return (self.worse or 0) / self.comparisons


def stream(seed: int, effect: float, bias: float, number: int) -> int:
    """What the draws of one comparison depend on: rows of other differences, and other seeds, draw anew."""
    digest = hashlib.sha256(f"{seed} {effect:g} {bias:g} {number}".encode()).hexdigest()
    return int(digest[:12], 16)


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
            answer, used = compared(effect, bias, stream(seed, effect, bias, number), Path(folder))
        answers[answer] += 1
        trials += used
    return Row(AUTOLAB, effect, bias, count, answers["better"], answers["worse"], trials / count)


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


def gate_rows(effect: float, bias: float, count: int, seed: int) -> list[Row]:
    """The other gates; the base always runs first, so that the candidate has the bias."""
    kept: Counter[str] = Counter()
    for number in range(count):
        luck = stream(seed, effect, bias, number)
        base = np.array([drawn(luck, True, index) for index in range(3)])
        candidate = np.array([drawn(luck, False, index) + effect + bias for index in range(3)])
        history = np.array([drawn(luck, True, HISTORY + index) for index in range(5)])
        for name, (_, gate) in GATES.items():
            kept[name] += gate(base, candidate, history)
    return [Row(name, effect, bias, count, kept[name], None, trials) for name, (trials, _) in GATES.items()]


# the whole


def promises(rows: Sequence[Row]) -> list[tuple[str, bool]]:
    """What is promised of `autolab compare`, as shares of the comparisons that were made."""
    own = {(row.effect, row.bias): row for row in rows if row.gate == AUTOLAB}
    same, gain, biased = own[0.0, 0.0], own[GAIN, 0.0], own[0.0, BIAS]
    harms = [own[harm, 0.0] for harm in HARMS]
    least = min(harms, key=lambda row: row.worse_share)
    return [
        (f"a version with itself is better in {_count(same.better, same)}: at most 1%", same.better_share <= 0.01),
        (f"and worse in {_count(same.worse, same)}: at most 5%", same.worse_share <= 0.05),
        (f"with the order's bias better in {_count(biased.better, biased)}: at most 1%", biased.better_share <= 0.01),
        (f"and worse in {_count(biased.worse, biased)}: at most 5%", biased.worse_share <= 0.05),
        (
            f"a gain of {GAIN:g} deviations is found in {_count(gain.better, gain)}: at least 95%",
            gain.better_share >= 0.95,
        ),
        (
            f"harms of {-HARMS[0]:g} to {-HARMS[-1]:g} deviations are worse in {_count(least.worse, least)} or more:"
            " at least 95%",
            least.worse_share >= 0.95,
        ),
    ]


def _count(answers: int | None, row: Row) -> str:
    return f"{answers} of {row.comparisons}"


def own_table(rows: Sequence[Row]) -> str:
    """`autolab compare`, a line for each true difference."""
    lines = [
        "| true difference | second trial gets | comparisons | better | worse | trials |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [own_line(row) for row in rows if row.gate == AUTOLAB]
    return "\n".join(lines)


def own_line(row: Row) -> str:
    return f"| {row.effect:g} | {row.bias:g} | {row.comparisons} | {row.better} | {row.worse} | {row.trials:.1f} |"


def gate_table(rows: Sequence[Row]) -> str:
    """A line for each gate: how often it calls a candidate better, by what is true, and its trials."""
    lines = [
        "| gate | no difference | no difference, order bias | gain of 2 | harm of 2 | trials |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for gate in (AUTOLAB, *GATES):
        own = {(row.effect, row.bias): row for row in rows if row.gate == gate}
        columns = [own[0.0, 0.0], own[0.0, BIAS], own[GAIN, 0.0], own[-GAIN, 0.0]]
        shares = " | ".join(f"{100 * row.better_share:.1f}%" for row in columns)
        lines.append(f"| {gate} | {shares} | {_trials_text(columns)} |")
    return "\n".join(lines)


def _trials_text(rows: Sequence[Row]) -> str:
    fewest, most = min(row.trials for row in rows), max(row.trials for row in rows)
    return f"{fewest:.0f}" if fewest == most else f"{fewest:.0f} to {most:.0f}"


def report(rows: Sequence[Row]) -> str:
    """Both tables and the promises, as Markdown."""
    parts = [
        "`autolab compare`, in deviations of a pair's difference:\n",
        own_table(rows),
        "\nHow often each gate calls the candidate better:\n",
        gate_table(rows),
        "",
    ]
    parts += [f"- {'PASS' if holds else 'FAIL'} {text}" for text, holds in promises(rows)]
    return "\n".join(parts) + "\n"


def measure(seed: int, share: int) -> list[Row]:
    """All rows, each of a `share`-th of its comparisons."""
    rows = []
    for effect, bias, count in OWN_ROWS:
        rows.append(engine_row(effect, bias, count // share, seed))
        print(f"  {own_line(rows[-1])}", file=sys.stderr, flush=True)
    for effect, bias in ((0.0, 0.0), (0.0, BIAS), (GAIN, 0.0), (-GAIN, 0.0)):
        rows += gate_rows(effect, bias, GATE_COMPARISONS // share, seed)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the comparisons; exit code 0 whatever comes out"
    )
    parser.add_argument("--out", type=Path, help="write gates.md and gates.json there")
    options = parser.parse_args()
    rows = measure(options.seed, QUICK_SHARE if options.quick else 1)
    text = report(rows)
    print(text, end="")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gates.md").write_text(text)
        (options.out / "gates.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    failed = any(not holds for _, holds in promises(rows))
    return int(failed and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
