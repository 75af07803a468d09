"""What looks too good or too easy to be true, in predictions and in a run's trials. It proves nothing: it is said, and
where a result would be built on, a candidate that calls for it is set aside until a user has looked.

    ignores inputs   every row of the predictions is the same                                             alone
    jump             the gain is beyond JUMP_DEVIATIONS deviations of the baseline's trials, and          alone
                     beyond ALTERED_TIMES times the effect of calibration's altered arm
    labels           the predictions equal the labels more often than the accuracy allows that the        alone
                     training reports of data it held back
    trained          the same by the accuracy that it reports of its own training data
    perfect          the primary metric is as good as it can be, and no baseline trial's is
    short            training took under a quarter of the baseline's processor time, and came out better
    claim            the training says of itself much more than the evaluator found                       never counts

One that counts alone sets a candidate aside, and so do two different others. A jump counts alone only where an altered
arm was calibrated and an evaluator measured; else it is one of the others, by the deviations alone.

Nothing here knows what a program did: a forger who adds noise to one row and is modest passes. A deviation is that of
the baseline's trials or of calibration's, whichever is larger, and never less than what one row of the evaluation can
move. What the constants spare is held by tests/benchmarks/test_honest_searches.py: fifty searches over real trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from math import prod, sqrt
from pathlib import Path
from statistics import mean, median

from autolab.lab.schemas.experiment import Calibration, Comparison, Design, Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import open_regular
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, npy_header
from autolab.stats.metric_names import is_accuracy, is_loss, is_of_training, is_share
from autolab.stats.rules import mean_and_deviation
from autolab.stats.scores import measured

ROWS = 20
"""Of fewer rows equal predictions and a perfect score can be honest."""
PAIRS = 3
"""Of fewer pairs no deviation is taken."""
JUMP_DEVIATIONS = 10.0
ALTERED_TIMES = 3.0
HELD_BACK, ERRORS, SHIFT = 200, 4.0, 0.03
"""Examples that a training is taken to have held back, standard errors and shift of the data between its share and the
evaluation that are allowed: .5 allows .69, .8 allows .96, .9 allows everything. Generous: with fewer examples or more
shift an honest training would be named; what the baseline's trials are off by is allowed on top."""
CLAIM_DEVIATIONS = 10.0
SHORT = 0.25
PERFECT_LOSS = 1e-6
IGNORES_INPUTS = "every row of the predictions is the same, whatever the input"
_BLOCK = 1 << 20


class Kind(StrEnum):
    IGNORES_INPUTS = "ignores inputs"
    PERFECT = "perfect"
    JUMP = "jump"
    LABELS = "labels"
    TRAINED = "trained"
    SHORT = "short"
    CLAIM = "claim"


@dataclass(frozen=True)
class Suspicion:
    """One thing that is odd about one arm; `message` names the arm, `alone` says that it is enough."""

    kind: Kind
    arm: str
    message: str
    alone: bool = False


@dataclass(frozen=True)
class Predicted:
    """How many predictions a file holds, and what is odd about them."""

    rows: int
    suspicions: tuple[str, ...]


def agreement(predictions: Path, labels: Path) -> float | None:
    """The share of predictions whose largest value stands at the label; None where labels are no classes of them.

    Labels are classes where they are integers, one for each row of values along the predictions' last axis, within it.
    """
    import numpy as np

    try:
        values, wanted = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (predictions, labels))
    except (OSError, ValueError):
        return None
    fits = wanted.dtype.kind in "iu" and wanted.ndim > 0 and values.shape[:-1] == wanted.shape and wanted.size > 0
    if not fits or values.shape[-1] < 2 or wanted.min() < 0 or wanted.max() >= values.shape[-1]:
        return None
    step = max(1, _BLOCK // max(1, prod(values.shape[1:])))
    starts = range(0, len(wanted), step)
    equal = sum(int((values[at : at + step].argmax(axis=-1) == wanted[at : at + step]).sum()) for at in starts)
    return equal / int(wanted.size)


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


def find(manifest: Manifest, design: Design, known: Calibration | None = None) -> list[Suspicion]:
    """All that is odd about a run's arms, from the trials that its comparisons rest on, arm by arm.

    A calibration of another protocol says nothing of them.
    """
    mine = known if known is not None and known.protocol == manifest.protocol else None
    found = list(_ignored(manifest))
    for compared in manifest.comparisons:
        found += _Pairs.of(manifest, design, compared, mine).suspicions()
    return found


def reasons(manifests: Iterable[Manifest], design: Design, known: Calibration | None, arm: str) -> tuple[str, ...]:
    """Why a user is to look before `arm` is believed, a line each, from the runs that support it; empty if nothing
    calls for it. What a training claims is no measurement, and does not count."""
    found = [odd for manifest in manifests for odd in find(manifest, design, known) if odd.arm == arm]
    counted = [odd for odd in found if odd.kind is not Kind.CLAIM]
    kinds = {odd.kind for odd in counted}
    enough = any(odd.alone for odd in counted) or len(kinds) > 1
    # The search and the confirmation say the same of an arm in other numbers: the last one counts.
    return tuple({odd.kind: odd.message for odd in counted}.values()) if enough else ()


def _ignored(manifest: Manifest) -> Iterator[Suspicion]:
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = _completed(manifest, arm, None)
        ignoring = [trial for trial in trials if IGNORES_INPUTS in trial.suspicions]
        if ignoring:
            message = f"arm {arm}: in {len(ignoring)} of {len(trials)} trials {IGNORES_INPUTS}"
            yield Suspicion(Kind.IGNORES_INPUTS, arm, message, alone=True)


def _completed(manifest: Manifest, arm: str, pairs: int | None) -> list[Trial]:
    """An arm's completed trials with an index below `pairs`; with None all of them."""
    own = [trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED]
    return [trial for trial in own if pairs is None or trial.index < pairs]


@dataclass(frozen=True)
class _Pairs:
    """The trials of an arm and of its baseline that measured what is compared."""

    compared: Comparison
    design: Design
    arm: list[Trial]
    base: list[Trial]
    self_reported: bool
    known: Calibration | None

    @classmethod
    def of(cls, manifest: Manifest, design: Design, compared: Comparison, known: Calibration | None) -> _Pairs:
        names, own = (compared.arm, compared.baseline), manifest.self_reported
        sides = (_completed(manifest, name, compared.pairs) for name in names)
        arm, base = ([trial for trial in side if compared.metric in measured(trial, own)] for side in sides)
        return cls(compared, design, arm, base, own, known)

    def suspicions(self) -> Iterator[Suspicion]:
        name, against = f"arm {self.compared.arm}", self.compared.baseline
        metric, gain = self.compared.metric, self.compared.difference.mean
        if self._all_perfect(self.arm) and not any(self._perfect(trial) for trial in self.base):
            yield self._odd(Kind.PERFECT, f"{name}: {metric} is perfect in every trial, and in none of {against}")
        deviation = self._deviation()
        effect = self._altered_effect()
        if deviation and gain > max(JUMP_DEVIATIONS * deviation, ALTERED_TIMES * (effect or 0.0)):
            told = f"{name}: {metric} is better by {gain / deviation:.0f} deviations of the trials of {against}"
            beyond = f", {gain / effect:.0f} times the effect of calibration's altered arm" if effect else ""
            yield Suspicion(Kind.JUMP, self.compared.arm, told + beyond, alone=effect is not None)
        yield from self._labels()
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
        value, metric = self._value(trial), self.compared.metric
        return (is_share(metric) and value == 1) or (is_loss(metric) and abs(value) <= PERFECT_LOSS)

    def _value(self, trial: Trial) -> float:
        return measured(trial, self.self_reported)[self.compared.metric]

    def _deviation(self) -> float:
        """That of the baseline's trials, at least the part of one row; 0 where it cannot be told."""
        values = [self._value(trial) for trial in self.base]
        calibrated = self.known is not None and self.known.metric == self.compared.metric
        # Where the seed changes nothing two trials are all there is, and calibration has shown that.
        constant = calibrated and self.known is not None and not self.known.seeds_differ
        if len(values) < PAIRS and not constant:
            return 0.0
        rows = min((trial.rows for trial in self.base), default=0)
        scale = 1.0 if is_share(self.compared.metric) else abs(mean(values))
        own = mean_and_deviation(values)[1] or 0.0
        usual = self.known.deviation if calibrated and self.known is not None else 0.0
        return max(own, usual, scale / rows if rows else 0.0)

    def _altered_effect(self) -> float | None:
        """By how much calibration's altered arm moved the metric; None where there was none, or nothing measured it."""
        known = self.known
        if known is None or known.altered_effect is None or self.self_reported:
            return None
        return abs(known.altered_effect) if known.metric == self.compared.metric else None

    def _labels(self) -> Iterator[Suspicion]:
        """Whether predictions hit the labels more often than the training's own accuracies allow, by either kind."""
        right = [trial.agreement for trial in self.arm if trial.agreement is not None]
        rows = min((trial.rows for trial in self.arm), default=0)
        if not right or rows <= ROWS:
            return
        for kind, alone, of in ((Kind.LABELS, True, "data it held back"), (Kind.TRAINED, False, "its training data")):
            own, usual = _accuracy(self.arm, kind), _accuracy(self.base, kind)
            if own is None:
                continue
            equal = [trial.agreement for trial in self.base if trial.agreement is not None]
            off = max(0.0, mean(equal) - usual) if equal and usual is not None else 0.0
            spread = sqrt(max(own * (1 - own), 1 / HELD_BACK) * (1 / rows + 1 / HELD_BACK))
            if mean(right) > own + off + ERRORS * spread + SHIFT:
                told = f"arm {self.compared.arm}: the predictions equal {100 * mean(right):.1f}% of the labels, and"
                told += f" the training reports an accuracy of {100 * own:.1f}% on {of}"
                yield Suspicion(kind, self.compared.arm, told, alone)

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


def _accuracy(trials: Iterable[Trial], kind: Kind) -> float | None:
    """The mean over trials of the largest accuracy that each reports of data it held back, or of its training data."""
    found = []
    for trial in trials:
        values = [
            value
            for name, value in trial.self_reported.items()
            if is_accuracy(name) and is_of_training(name) is (kind is Kind.TRAINED)
        ]
        # A percentage, or no share at all: nothing can be said.
        found += [max(values)] if values and min(values) >= 0 and max(values) <= 1 else []
    return mean(found) if found else None
