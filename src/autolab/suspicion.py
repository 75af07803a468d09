"""What looks too good or too easy to be true, in predictions and in a run's trials. It proves nothing: it is said, and
stops for a person where a result would be built on.

    ignores inputs   every row of the predictions is the same
    perfect          the primary metric is as good as it can be, and no baseline trial's is
    jump             the gain is beyond JUMP_DEVIATIONS deviations of the baseline's trials
    short            training took under a quarter of the baseline's processor time, and came out better
    claim            the training says of itself much more than the evaluator found

Nothing here knows what a program did: a forger who adds noise to one row and is modest passes. A deviation is that of
the baseline's trials, and never less than what one row of the evaluation can move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from math import prod
from pathlib import Path
from statistics import mean, median

from autolab.evaluation import PREDICTIONS_BYTES, npy_header, open_regular
from autolab.experiment import SHARES, measured
from autolab.records.experiment import Comparison, Design, Manifest, Trial
from autolab.records.outcomes import Outcome, Verdict
from autolab.stats import mean_and_deviation

ROWS = 20
"""Of fewer rows equal predictions and a perfect score can be honest."""
PAIRS = 3
"""Of fewer pairs no deviation is taken."""
JUMP_DEVIATIONS = 20.0
CLAIM_DEVIATIONS = 10.0
SHORT = 0.25
PERFECT_LOSS = 1e-6
LOSSES = frozenset({"loss", "nll", "mse", "rmse", "mae", "error", "perplexity", "bpb"})
IGNORES_INPUTS = "every row of the predictions is the same, whatever the input"
_BLOCK = 1 << 20


class Kind(StrEnum):
    IGNORES_INPUTS = "ignores inputs"
    PERFECT = "perfect"
    JUMP = "jump"
    SHORT = "short"
    CLAIM = "claim"


@dataclass(frozen=True)
class Suspicion:
    """One thing that is odd about one arm; `message` names the arm."""

    kind: Kind
    arm: str
    message: str


@dataclass(frozen=True)
class Predicted:
    """How many predictions a file holds, and what is odd about them."""

    rows: int
    suspicions: tuple[str, ...]


def predictions(path: Path) -> Predicted:
    """Look at a file that `evaluation.check_predictions` has passed. A row is what stands along the last axis."""
    with open_regular(path, PREDICTIONS_BYTES) as file:
        head = npy_header(file)
        file.seek(head.start)
        rows, values = prod(head.shape[:-1]), head.shape[-1]
        if rows <= ROWS:
            return Predicted(rows, ())
        # In Fortran's order each value of a row stands there for all rows in turn.
        pieces, size = (values, 4) if head.fortran else (1, 4 * values)
        same = all(_repeats(file, size, rows) for _ in range(pieces))
    return Predicted(rows, (IGNORES_INPUTS,) if same else ())


def _repeats(file: BufferedReader, size: int, times: int) -> bool:
    """Whether the next `times` pieces of `size` bytes are equal; the file then stands behind them."""
    first = file.read(size)
    pattern = first * min(times, max(1, _BLOCK // size))
    left = size * (times - 1)
    while left:
        block = file.read(min(left, len(pattern)))
        if not block or block != pattern[: len(block)]:
            return False
        left -= len(block)
    return True


def find(manifest: Manifest, design: Design) -> list[Suspicion]:
    """All that is odd about a run's arms, from the trials that its comparisons rest on, arm by arm."""
    found = list(_ignored(manifest))
    for compared in manifest.comparisons:
        found += _Pairs.of(manifest, design, compared).suspicions()
    return found


def doubt(manifest: Manifest, design: Design) -> str:
    """Why a person is to look before a supported arm is believed, in one line; empty if nothing calls for it.

    One suspicion alone calls for it if the predictions ignore the inputs, else two different ones on the same arm. What
    a training claims is no measurement, and does not count."""
    found = [one for one in find(manifest, design) if one.kind is not Kind.CLAIM]
    for compared in manifest.comparisons:
        mine = [one for one in found if one.arm == compared.arm]
        kinds = {one.kind for one in mine}
        if compared.verdict is Verdict.SUPPORTED and (len(kinds) > 1 or Kind.IGNORES_INPUTS in kinds):
            return "; ".join(one.message for one in mine)
    return ""


def _ignored(manifest: Manifest) -> Iterator[Suspicion]:
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = _completed(manifest, arm, None)
        ignoring = [trial for trial in trials if IGNORES_INPUTS in trial.suspicions]
        if ignoring:
            message = f"arm {arm}: in {len(ignoring)} of {len(trials)} trials {IGNORES_INPUTS}"
            yield Suspicion(Kind.IGNORES_INPUTS, arm, message)


def _completed(manifest: Manifest, arm: str, pairs: int | None) -> list[Trial]:
    """An arm's completed trials with an index below `pairs`; with None all of them."""
    own = [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is Outcome.COMPLETED]
    return [trial for trial in own if pairs is None or trial.index < pairs]


@dataclass(frozen=True)
class _Pairs:
    """The trials of an arm and of its baseline that measured what is compared."""

    compared: Comparison
    design: Design
    arm: list[Trial]
    base: list[Trial]
    self_reported: bool

    @classmethod
    def of(cls, manifest: Manifest, design: Design, compared: Comparison) -> _Pairs:
        names, known = (compared.arm, compared.baseline), manifest.self_reported
        sides = (_completed(manifest, name, compared.pairs) for name in names)
        arm, base = ([trial for trial in side if compared.metric in measured(trial, known)] for side in sides)
        return cls(compared, design, arm, base, known)

    def suspicions(self) -> Iterator[Suspicion]:
        name, against = f"arm {self.compared.arm}", self.compared.baseline
        metric, gain = self.compared.metric, self.compared.difference.mean
        if self._all_perfect(self.arm) and not any(self._perfect(trial) for trial in self.base):
            yield self._odd(Kind.PERFECT, f"{name}: {metric} is perfect in every trial, and in none of {against}")
        deviation = self._deviation()
        if deviation and gain > JUMP_DEVIATIONS * deviation:
            told = f"{name}: {metric} is better by {gain / deviation:.0f} deviations of the trials of {against}"
            yield self._odd(Kind.JUMP, told)
        share = self._share_of_cpu()
        if share is not None and share < SHORT and gain > 0:
            told = f"{name}: training took {100 * share:.0f}% of the processor time of {against} and came out better"
            yield self._odd(Kind.SHORT, told)
        claim = self._claim(self.arm)
        if deviation and claim > CLAIM_DEVIATIONS * deviation >= self._claim(self.base):
            told = f"{name}: the training claims a {metric} that is better by {claim:.3g} than what was measured"
            yield self._odd(Kind.CLAIM, told)

    def _odd(self, kind: Kind, message: str) -> Suspicion:
        return Suspicion(kind, self.compared.arm, message)

    def _all_perfect(self, trials: list[Trial]) -> bool:
        return bool(trials) and all(self._perfect(trial) and trial.rows > ROWS for trial in trials)

    def _perfect(self, trial: Trial) -> bool:
        value, words = self._value(trial), set(self.compared.metric.lower().split("_"))
        return bool((words & SHARES and value == 1) or (words & LOSSES and abs(value) <= PERFECT_LOSS))

    def _value(self, trial: Trial) -> float:
        return measured(trial, self.self_reported)[self.compared.metric]

    def _deviation(self) -> float:
        """That of the baseline's trials, at least the part of one row; 0 where it cannot be told."""
        values = [self._value(trial) for trial in self.base]
        if len(values) < PAIRS:
            return 0.0
        rows = min(trial.rows for trial in self.base)
        scale = 1.0 if set(self.compared.metric.lower().split("_")) & SHARES else abs(mean(values))
        return max(mean_and_deviation(values)[1] or 0.0, scale / rows if rows else 0.0)

    def _share_of_cpu(self) -> float | None:
        """Median processor time of training against the baseline's; None where it was not measured."""
        mine, theirs = ([trial.cpu_seconds for trial in trials] for trials in (self.arm, self.base))
        return median(mine) / median(theirs) if mine and theirs and min(*mine, *theirs) > 0 else None

    def _claim(self, trials: list[Trial]) -> float:
        """By how much trainings say more of themselves than was measured, in the direction of good; a median."""
        sign = {"maximize": 1, "minimize": -1, None: 0}[self.design.metrics.direction]
        metric = self.compared.metric
        gaps = [trial.self_reported[metric] - self._value(trial) for trial in trials if metric in trial.self_reported]
        return sign * median(gaps) if gaps else 0.0
