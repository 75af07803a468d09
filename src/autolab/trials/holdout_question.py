"""The question that a confirmation puts to the holdout: do the same trained models gain there too?

The holdout answers yes or no, and every question is counted before it is put.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from autolab.errors import LabError
from autolab.lab import crash_points
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import holdout
from autolab.stats.scores import Scale
from autolab.trials import score
from autolab.trials.evaluation import DataSplit, Evaluation, rows_of
from autolab.trials.evaluator import Problem, check_predictions
from autolab.trials.inputs import TrialInputs
from autolab.trials.run_record import RunRecord


class HoldoutAnswer(NamedTuple):
    """`answer`: passed, failed, none, used_up or not_asked; `replicates`: what its error was taken from."""

    answer: str
    replicates: holdout.Replicates | None = None


@dataclass(frozen=True)
class HoldoutQuestion:
    """A confirmed run that is to be held against the holdout.

    `claims`: the campaign's count before it. `allowed`: questions that a protocol may put. `inputs` makes those of the
    run; it is called when the question is put. `tell` takes lines for the user.
    """

    record: RunRecord
    confirm: Manifest
    claims: Claims
    allowed: int
    inputs: Callable[[], TrialInputs]
    tell: Callable[[str], None]

    def put(self) -> HoldoutAnswer:
        """passed or failed; none in a lab without a holdout, used_up where no question is left.

        Nothing else of it is said or written: a number would tell a researcher where to go on.
        LabError: the baseline's predictions cannot be scored.
        """
        inputs = self.inputs()
        evaluation = inputs.evaluation
        if evaluation is None or evaluation.holdout is None:
            return HoldoutAnswer("none")
        asked = [line for line in self.record.events if line.event == "holdout_asked"]
        before = self.claims.questions if self.claims.protocol == inputs.protocol else 0
        if not any(line.data["run_id"] == self.confirm.run_id for line in asked):
            if before >= self.allowed:
                return HoldoutAnswer("used_up")
            # Counted before it is opened: an answer that a crash swallowed has been paid for.
            question = {"run_id": self.confirm.run_id, "protocol": inputs.protocol, "question": before + 1}
            self.record.ledger.append("holdout_asked", question)
            crash_points.point("holdout.after_debit")
        tested = self._tested(_HoldoutScores(self.record, self.confirm, evaluation, evaluation.holdout))
        if tested is None:
            return HoldoutAnswer("failed")
        return HoldoutAnswer("passed" if tested.passed else "failed", tested.replicates)

    def _tested(self, scores: _HoldoutScores) -> holdout.HoldoutTest | None:
        """The test of the confirmation's pairs on the holdout; None if the candidate cannot be scored there.

        LabError: the baseline cannot. Every pair is scored as a whole, the first few on parts of the rows too.
        """
        confirm, compared = self.confirm, self.confirm.comparisons[0]
        sign = 1 if confirm.direction == "maximize" else -1
        pairs, count = compared.pairs or 0, holdout.parts_of(rows_of(scores.split.labels))
        number = 2 * pairs + 2 * count * min(holdout.PAIRS, pairs)
        self.tell(f"{compared.arm} held on fresh seeds: {pairs} pairs scored on the holdout, {number} scores in all")
        gains: list[float] = []
        parts: list[tuple[float, ...]] = []
        for index in range(pairs):
            before, after = (_trial(confirm, arm, index) for arm in (compared.baseline, compared.arm))
            base, new = scores.whole(before), scores.whole(after)
            if isinstance(base, Problem):
                raise LabError(f"holdout: trial {before.trial} of {confirm.run_id}: {base.message}")
            if isinstance(new, Problem):
                self.tell(f"note: holdout: trial {after.trial} of {confirm.run_id}: {new.message}")
                return None
            gains.append(sign * (new - base))
            if count and index < holdout.PAIRS:
                sides = [scores.on_parts(trial, count) for trial in (before, after)]
                # An evaluator that takes the whole and not a part leaves the seeds alone.
                parts += [tuple(sign * (y - x) for x, y in zip(*sides, strict=True))] if all(sides) else []
        tested = holdout.passes(gains, parts)
        if tested.replicates in ("seeds", "nothing"):
            self.tell("note: the holdout's rows cannot be told apart, so its error is over the seeds alone")
        return tested


@dataclass(frozen=True)
class _HoldoutScores:
    """The metric of a confirmation's trials on the holdout's `split`."""

    record: RunRecord
    confirm: Manifest
    evaluation: Evaluation
    split: DataSplit

    @property
    def metric(self) -> str:
        assert self.confirm.metric is not None  # a confirmed run has compared something
        return self.confirm.metric

    def whole(self, trial: Trial) -> float | Problem:
        """Of one trial, cut at the bound as on the evaluation."""
        scale = Scale.of(self.confirm)
        if scale.bound is not None and scale.cut(trial) == "diverged":
            return scale.bound
        predictions, folder = self.record.held(trial.key), self.record.held_folder / f"{trial.key}.score"
        checked = check_predictions(predictions, None)
        if isinstance(checked, Problem):
            return checked
        measured = self.evaluation.score(predictions, self.split.labels, folder, self.metric)
        if isinstance(measured, Problem):
            diverged = measured.outcome is TrialOutcome.INVALID_ARTIFACT and not score.finite(predictions)
            return scale.bound if scale.bound is not None and diverged else measured
        value = scale.counted(measured[self.metric]) if self.metric in measured else None
        if value is None:
            return Problem(TrialOutcome.INVALID_ARTIFACT, f"score.json: {self.metric} is no finite number")
        return value

    def on_parts(self, trial: Trial, count: int) -> tuple[float, ...]:
        """The same on each part of the holdout's rows; empty if they cannot be told apart."""
        folder = self.record.held_folder / f"{trial.key}.parts"
        return self.evaluation.parts(self.metric, self.record.held(trial.key), self.split.labels, folder, count)


def _trial(confirm: Manifest, arm: str, index: int) -> Trial:
    return next(trial for trial in confirm.trials if (trial.arm, trial.index) == (arm, index))
