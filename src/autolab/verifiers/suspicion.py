"""What looks too good or too easy to be true, in predictions and in a run's trials. It proves nothing. It is reported,
and a candidate with enough of it is set aside until a user has looked, before anything is built on it.

    ignores inputs   every row of the predictions is the same                                             alone
    jump             the gain is beyond JUMP_DEVIATIONS deviations of the baseline's trials, and          alone
                     beyond ALTERED_TIMES times the effect of calibration's altered arm
    labels           the predictions equal the labels more often than the accuracy allows that the        alone
                     training reports of data it held back
    trained          the same by the accuracy that it reports of its own training data
    perfect          the primary metric is as good as it can be, and no baseline trial's is
    short            training took under a quarter of the baseline's processor time, and came out better
    claim            the training says of itself much more than the evaluator found                       never counts

One that counts alone sets a candidate aside, and so do two different others. A jump counts alone only if an altered
arm was calibrated and an evaluator measured; else it is one of the others, by the deviations alone.

Nothing here knows what a program did: a forger who adds noise to one row and is modest passes. A deviation is that of
the baseline's trials or of calibration's, whichever is larger, and never less than what one row of the evaluation can
move. tests/benchmarks/test_honest_searches.py holds that the constants spare honest candidates, in fifty searches over
real trainings.
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
"""The number of examples that a training is assumed to hold back, the standard errors that are allowed, and the shift
that is allowed between those examples and the evaluation: .5 allows .69, .8 allows .96, .9 allows everything. Generous:
with fewer examples or more shift an honest training would be named. The baseline's own difference is allowed on top."""
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
    """The share of predictions whose largest value stands at the label; None if the labels are no classes of them.

    Labels are classes if they are integers or booleans, one for each row of values along the predictions' last axis,
    within it; [n, 1] is [n].
    """
    import numpy as np

    try:
        values = np.load(predictions, mmap_mode="r", allow_pickle=False)
        truth = np.load(labels, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if truth.ndim > 1 and truth.shape[-1] == 1 and truth.ndim == values.ndim:
        truth = truth[..., 0]
    if truth.dtype.kind == "b":
        truth = truth.astype(np.uint8)
    if truth.dtype.kind not in "iu" or truth.ndim == 0 or truth.size == 0 or values.shape[:-1] != truth.shape:
        return None
    classes = values.shape[-1]
    if classes < 2 or truth.min() < 0 or truth.max() >= classes:
        return None
    # In blocks of about a million values: the files may be larger than the memory.
    step = max(1, _BLOCK // prod(values.shape[1:]))
    equal = 0
    for start in range(0, len(truth), step):
        block = slice(start, start + step)
        equal += int((values[block].argmax(axis=-1) == truth[block]).sum())
    return equal / int(truth.size)


def predictions(path: Path) -> Predicted:
    """Look at a file that `evaluator.check_predictions` has passed. A row is what stands along the last axis."""
    with open_regular(path, PREDICTIONS_BYTES) as file:
        header = npy_header(file)
        file.seek(header.start)
        rows, values = prod(header.shape[:-1]), header.shape[-1]
        if rows <= ROWS:
            return Predicted(rows, ())
        # Compared as bytes of float32: two rows that differ in one bit did look at their inputs.
        if header.fortran:
            # In Fortran's order the first value of all rows comes first, then the second, and so on.
            is_constant = all(_repeats(file, 4, rows) for _ in range(values))
        else:
            is_constant = _repeats(file, 4 * values, rows)
    return Predicted(rows, (IGNORES_INPUTS,) if is_constant else ())


def _repeats(file: BufferedReader, size: int, times: int) -> bool:
    """Whether the next `times` pieces of `size` bytes are equal; the file then stands behind them."""
    first = file.read(size)
    # About a mebibyte of repetitions, so that a long file is compared in few steps.
    pattern = first * min(times, max(1, _BLOCK // size))
    remaining = size * (times - 1)
    while remaining:
        block = file.read(min(remaining, len(pattern)))
        # An empty block: the file was cut since its length was checked.
        if not block or block != pattern[: len(block)]:
            return False
        remaining -= len(block)
    return True


def find(manifest: Manifest, design: Design, calibration: Calibration | None = None) -> list[Suspicion]:
    """All that is odd about a run's arms, from the trials that its comparisons rest on, arm by arm."""
    # Of another protocol, its deviation is that of other data or another metric.
    if calibration is not None and calibration.protocol != manifest.protocol:
        calibration = None
    suspicions = list(_ignored_inputs(manifest))
    for comparison in manifest.comparisons:
        suspicions += _Pairs.of(manifest, design, comparison, calibration).suspicions()
    return suspicions


def reasons(
    manifests: Iterable[Manifest], design: Design, calibration: Calibration | None, arm: str
) -> tuple[str, ...]:
    """Why a user should look before `arm` is believed, a line each, from the runs that support it; else empty."""
    messages: dict[Kind, str] = {}
    enough = False
    for manifest in manifests:
        for suspicion in find(manifest, design, calibration):
            # What a training claims of itself is no measurement.
            if suspicion.arm == arm and suspicion.kind is not Kind.CLAIM:
                # Search and confirmation report the same kind in other numbers: the last one counts.
                messages[suspicion.kind] = suspicion.message
                enough = enough or suspicion.alone
    # An honest candidate may have one odd thing about it by chance; two different ones are rare.
    if enough or len(messages) > 1:
        return tuple(messages.values())
    return ()


def _ignored_inputs(manifest: Manifest) -> Iterator[Suspicion]:
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = _completed(manifest, arm, None)
        ignoring = [trial for trial in trials if IGNORES_INPUTS in trial.suspicions]
        if ignoring:
            message = f"arm {arm}: in {len(ignoring)} of {len(trials)} trials {IGNORES_INPUTS}"
            yield Suspicion(Kind.IGNORES_INPUTS, arm, message, alone=True)


def _completed(manifest: Manifest, arm: str, pairs: int | None) -> list[Trial]:
    """An arm's completed trials with an index below `pairs`; with None all of them."""
    completed = []
    for trial in manifest.trials:
        if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED and (pairs is None or trial.index < pairs):
            completed.append(trial)
    return completed


@dataclass(frozen=True)
class _Arm:
    """The trials of an arm that measured the metric which is compared."""

    name: str
    metric: str
    self_reported: bool
    trials: list[Trial]

    @classmethod
    def of(cls, manifest: Manifest, name: str, comparison: Comparison) -> _Arm:
        metric, self_reported = comparison.metric, manifest.self_reported
        trials = []
        for trial in _completed(manifest, name, comparison.pairs):
            if metric in measured(trial, self_reported):
                trials.append(trial)
        return cls(name, metric, self_reported, trials)

    @property
    def rows(self) -> int:
        """The fewest predictions of a trial; 0 without trials."""
        return min((trial.rows for trial in self.trials), default=0)

    @property
    def values(self) -> list[float]:
        return [self._value(trial) for trial in self.trials]

    def _value(self, trial: Trial) -> float:
        return measured(trial, self.self_reported)[self.metric]

    @property
    def agreements(self) -> list[float]:
        return [trial.agreement for trial in self.trials if trial.agreement is not None]

    def perfect(self) -> list[bool]:
        """Trial by trial, whether its value is as good as it can be."""
        # A loss is a sum of rounded numbers, seldom exactly 0. Of any other metric the best value is not known.
        share, loss = is_share(self.metric), is_loss(self.metric)
        return [(share and value == 1) or (loss and abs(value) <= PERFECT_LOSS) for value in self.values]

    def claim(self) -> float:
        """By how much a training reports a larger value of itself than was measured; a median, 0 without any."""
        gaps = []
        for trial in self.trials:
            if self.metric in trial.self_reported:
                gaps.append(trial.self_reported[self.metric] - self._value(trial))
        # The median: one trial that logged something else does not make a claim.
        return median(gaps) if gaps else 0.0

    def reported_accuracy(self, *, of_training_data: bool) -> float | None:
        """The mean over trials of the largest accuracy that each reports of its training data, or else of data it held
        back. None if none does, as a share."""
        # The largest, which is in favour of the candidate: it may print the accuracies of several epochs or heads.
        largest = []
        for trial in self.trials:
            accuracies = []
            for name, value in trial.self_reported.items():
                if is_accuracy(name) and is_of_training(name) is of_training_data:
                    accuracies.append(value)
            # A percentage, or anything else that is no share, says nothing here.
            if accuracies and min(accuracies) >= 0 and max(accuracies) <= 1:
                largest.append(max(accuracies))
        return mean(largest) if largest else None


@dataclass(frozen=True)
class _Pairs:
    """An arm against its baseline. `calibration`: None if there is none of this protocol and metric."""

    comparison: Comparison
    direction: str | None
    arm: _Arm
    base: _Arm
    calibration: Calibration | None

    @classmethod
    def of(cls, manifest: Manifest, design: Design, comparison: Comparison, calibration: Calibration | None) -> _Pairs:
        arm = _Arm.of(manifest, comparison.arm, comparison)
        base = _Arm.of(manifest, comparison.baseline, comparison)
        if calibration is not None and calibration.metric != comparison.metric:
            calibration = None
        return cls(comparison, design.metrics.direction, arm, base, calibration)

    def suspicions(self) -> Iterator[Suspicion]:
        yield from self._perfect()
        yield from self._jump()
        yield from self._labels(Kind.LABELS, "data it held back", alone=True)
        yield from self._labels(Kind.TRAINED, "its training data", alone=False)
        yield from self._short()
        yield from self._claim()

    def _suspicion(self, kind: Kind, message: str, *, alone: bool = False) -> Suspicion:
        return Suspicion(kind, self.arm.name, f"arm {self.arm.name}: {message}", alone)

    def _perfect(self) -> Iterator[Suspicion]:
        perfect = self.arm.perfect()
        # Where the baseline is perfect too, the task is easy.
        if perfect and all(perfect) and self.arm.rows > ROWS and not any(self.base.perfect()):
            yield self._suspicion(
                Kind.PERFECT, f"{self.arm.metric} is perfect in every trial, and in none of {self.base.name}"
            )

    def _jump(self) -> Iterator[Suspicion]:
        deviation, gain = self._deviation(), self.comparison.difference.mean
        effect = None
        # The altered arm shows what an ordinary change of settings moves. A self-reported metric shows nothing.
        if self.calibration is not None and self.calibration.altered_effect is not None and not self.arm.self_reported:
            effect = abs(self.calibration.altered_effect)
        if not deviation or gain <= max(JUMP_DEVIATIONS * deviation, ALTERED_TIMES * (effect or 0.0)):
            return
        message = f"{self.arm.metric} is better by {gain / deviation:.0f} deviations of the trials of {self.base.name}"
        if effect:
            message += f", {gain / effect:.0f} times the effect of calibration's altered arm"
        yield self._suspicion(Kind.JUMP, message, alone=effect is not None)

    def _deviation(self) -> float:
        """That of the baseline's trials, at least the part of one row; 0 if it cannot be told."""
        values = self.base.values
        # If the seed changes nothing two trials are all there is, and calibration has shown that.
        constant = self.calibration is not None and not self.calibration.seeds_differ
        if len(values) < PAIRS and not constant:
            return 0.0
        deviations = [mean_and_deviation(values)[1] or 0.0]
        if self.calibration is not None:
            deviations.append(self.calibration.deviation)
        # Trials that agree by chance, or a metric in steps of one row, would make any gain a jump.
        if self.base.rows:
            scale = 1.0 if is_share(self.base.metric) else abs(mean(values))
            deviations.append(scale / self.base.rows)
        return max(deviations)

    def _labels(self, kind: Kind, data: str, *, alone: bool) -> Iterator[Suspicion]:
        """Whether predictions hit the labels more often than the training's own accuracy on some data allows."""
        rows, agreements = self.arm.rows, self.arm.agreements
        of_training_data = kind is Kind.TRAINED
        reported = self.arm.reported_accuracy(of_training_data=of_training_data)
        if reported is None or not agreements or rows <= ROWS:
            return
        shift = SHIFT
        reported_by_base = self.base.reported_accuracy(of_training_data=of_training_data)
        # If the honest baseline does better there than it reports, so may the candidate.
        if self.base.agreements and reported_by_base is not None:
            shift += max(0.0, mean(self.base.agreements) - reported_by_base)
        # The standard error of a difference of two proportions; at 0 and 1 the variance is not taken for 0.
        variance = max(reported * (1 - reported), 1 / HELD_BACK)
        error = sqrt(variance * (1 / rows + 1 / HELD_BACK))
        share = mean(agreements)
        if share > reported + shift + ERRORS * error:
            message = f"the predictions equal {100 * share:.1f}% of the labels, and the training reports an accuracy of"
            yield self._suspicion(kind, f"{message} {100 * reported:.1f}% on {data}", alone=alone)

    def _short(self) -> Iterator[Suspicion]:
        # Processor time: the time on the clock depends on what else the machine did.
        seconds = [trial.cpu_seconds for trial in self.arm.trials]
        base_seconds = [trial.cpu_seconds for trial in self.base.trials]
        # 0 in a trial: its time was not measured.
        if not seconds or not base_seconds or min(*seconds, *base_seconds) <= 0:
            return
        share = median(seconds) / median(base_seconds)
        if share < SHORT and self.comparison.difference.mean > 0:
            spent = f"training took {100 * share:.0f}% of the processor time of {self.base.name}"
            yield self._suspicion(Kind.SHORT, f"{spent} and came out better")

    def _claim(self) -> Iterator[Suspicion]:
        deviation = self._deviation()
        sign = {"maximize": 1, "minimize": -1, None: 0}[self.direction]
        claim, base_claim = sign * self.arm.claim(), sign * self.base.claim()
        # A baseline that claims as much: the lab's trainings report on easier data, for instance their own.
        if deviation and claim > CLAIM_DEVIATIONS * deviation >= base_claim:
            message = f"the training claims a {self.arm.metric} that is better by {claim:.3g} than what was measured"
            yield self._suspicion(Kind.CLAIM, message)
