"""The question that a confirmation puts to the holdout: do the same trained models gain there too?

The holdout answers yes or no. Every question is counted before it is put.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from autolab.errors import LabError
from autolab.lab import crash_points
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.events import HoldoutAsked, events_of
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import holdout
from autolab.stats.scores import Scale
from autolab.trials import score
from autolab.trials.evaluation import DataSplit, Evaluation, rows_of
from autolab.trials.evaluator import Problem, check_predictions
from autolab.trials.inputs import TrialInputs
from autolab.trials.run_record import RunRecord

SCORED = (".score", ".parts")
"""Suffixes of the folders, beside the predictions, in which they are scored."""
Answer = Literal["passed", "failed", "none", "used_up", "not_asked"]


class HoldoutAnswer(NamedTuple):
    """The answer, and what the error of the test was estimated from (`replicates`; None without a test)."""

    answer: Answer
    replicates: holdout.Replicates | None = None


@dataclass(frozen=True)
class HoldoutQuestion:
    """A confirmed run that is to be tested on the holdout.

    `claims`: the campaign's count before it. `allowed`: questions that a protocol may put. `inputs` makes the run's
    inputs; it is called when the question is put. `tell` takes lines for the user. `tail` is the one-sided error of the
    test.
    """

    record: RunRecord
    confirm: Manifest
    claims: Claims
    allowed: int
    inputs: Callable[[], TrialInputs]
    tell: Callable[[str], None]
    tail: float = holdout.TAIL

    def put(self) -> HoldoutAnswer:
        """passed or failed; none in a lab without a holdout, used_up if no question is left.

        Nothing else of the test is shown or recorded: a number would help a researcher to fit the holdout.
        LabError: the baseline's predictions cannot be scored.
        """
        # Made only now: to export the holdout is part of opening it.
        inputs = self.inputs()
        evaluation = inputs.evaluation
        if evaluation is None or evaluation.holdout is None:
            return HoldoutAnswer("none")
        if not self._is_counted():
            number = 1
            if self.claims.protocol == inputs.protocol:
                number += self.claims.questions
            if number > self.allowed:
                return HoldoutAnswer("used_up")
            # Counted before it is opened: an answer that a crash swallowed has been paid for.
            question = HoldoutAsked(run_id=self.confirm.run_id, protocol=inputs.protocol, question=number)
            events.append(self.record.ledger, question)
            crash_points.point("holdout.after_debit")
        test = self._test(_HoldoutScores(self.record, self.confirm, evaluation, evaluation.holdout))
        if test is None:
            return HoldoutAnswer("failed")
        return HoldoutAnswer("passed" if test.passed else "failed", test.replicates)

    def _is_counted(self) -> bool:
        """Whether a crash came after this very question was counted."""
        questions = events_of(self.record.events, HoldoutAsked)
        return any(question.run_id == self.confirm.run_id for question in questions)

    def _test(self, scores: _HoldoutScores) -> holdout.HoldoutTest | None:
        """The test of the confirmation's pairs on the holdout; None if the candidate cannot be scored there.

        LabError: the baseline cannot. Every pair is scored as a whole, the first few on parts of the rows too.
        """
        confirm, comparison = self.confirm, self.confirm.comparisons[0]
        sign = 1 if confirm.direction == "maximize" else -1
        pairs, count = comparison.pairs or 0, holdout.parts_of(rows_of(scores.split.labels))
        number = 2 * pairs + 2 * count * min(holdout.PAIRS, pairs)
        work = f"scoring {pairs} pairs on the holdout, {number} scores in all"
        self.tell(f"{comparison.arm} gains on fresh seeds too: {work}")
        gains: list[float] = []
        part_gains: list[tuple[float, ...]] = []
        for index in range(pairs):
            before, after = _trial(confirm, comparison.baseline, index), _trial(confirm, comparison.arm, index)
            base_score, new_score = scores.whole(before), scores.whole(after)
            # A baseline that cannot be scored is the user's to fix; the question stays counted, and is put again.
            if isinstance(base_score, Problem):
                raise LabError(f"holdout: trial {before.trial} of {confirm.run_id}: {base_score.message}")
            # A candidate that cannot be scored there has not shown that it gains.
            if isinstance(new_score, Problem):
                self.tell(f"note: holdout: trial {after.trial} of {confirm.run_id}: {new_score.message}")
                return None
            gains.append(sign * (new_score - base_score))
            if count and index < holdout.PAIRS:
                base_parts, new_parts = scores.on_parts(before, count), scores.on_parts(after, count)
                # An evaluator that scores the whole but no part leaves the error over seeds alone.
                if base_parts and new_parts:
                    differences = zip(base_parts, new_parts, strict=True)
                    part_gains.append(tuple(sign * (new - base) for base, new in differences))
        test = holdout.passes(gains, part_gains, self.tail)
        if test.replicates in ("seeds", "nothing"):
            self.tell("note: the holdout's rows cannot be told apart, so its error is over the seeds alone")
        return test


@dataclass(frozen=True)
class _HoldoutScores:
    """The metric of a confirmation's trials on the holdout's `split`."""

    record: RunRecord
    confirm: Manifest
    evaluation: Evaluation
    split: DataSplit

    @property
    def metric(self) -> str:
        # A confirmed run has compared something.
        assert self.confirm.metric is not None
        return self.confirm.metric

    def whole(self, trial: Trial) -> float | Problem:
        """The score of one trial, cut at the bound as on the evaluation."""
        scale = Scale.of(self.confirm)
        # A training that diverged counts as the bound on the evaluation, and so it does here.
        if scale.bound is not None and scale.cut(trial) == "diverged":
            return scale.bound
        predictions = self.record.held(trial.key)
        folder = predictions.with_suffix(SCORED[0])
        # What a trial wrote: nothing else has checked it since.
        checked = check_predictions(predictions, None)
        if isinstance(checked, Problem):
            return checked
        numbers = self.evaluation.score(predictions, self.split.labels, folder, self.metric)
        if isinstance(numbers, Problem):
            # The evaluator may refuse predictions that are finite on the evaluation's rows and not on these.
            is_refusal = numbers.outcome is TrialOutcome.INVALID_ARTIFACT
            if scale.bound is not None and is_refusal and not score.finite(predictions):
                return scale.bound
            return numbers
        value = None
        if self.metric in numbers:
            value = scale.counted(numbers[self.metric])
        if value is None:
            return Problem(TrialOutcome.INVALID_ARTIFACT, f"score.json: {self.metric} is no finite number")
        return value

    def on_parts(self, trial: Trial, count: int) -> tuple[float, ...]:
        """The same on each part of the holdout's rows; empty if they cannot be told apart."""
        predictions = self.record.held(trial.key)
        folder = predictions.with_suffix(SCORED[1])
        return self.evaluation.parts(self.metric, predictions, self.split.labels, folder, count)


def _trial(confirm: Manifest, arm: str, index: int) -> Trial:
    return next(trial for trial in confirm.trials if (trial.arm, trial.index) == (arm, index))
