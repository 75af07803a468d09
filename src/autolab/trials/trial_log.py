"""The trials of a run as the ledger records them, and how more of them are recorded.

A line is written before the effect (`submitted`) or after it (`trial`, `trial_lost`). So a new process knows which
trials are over, which may be running, and which attempt of a trial is the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from autolab.errors import ExecutorError, RecordError
from autolab.lab import crash_points
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.events import Submitted, TrialEnded, TrialLost, events_of, read
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.exit_record import Exit
from autolab.stats.plan import Cell, Plan
from autolab.trials.run_record import RunRecord

MAX_LOST = 3
"""Attempts that one trial may lose to infrastructure before the stage itself is tried again."""


class TrialLog:
    """The trials of one run, as recorded."""

    def __init__(self, record: RunRecord, run_id: str, plan: Plan) -> None:
        self._record, self._run_id, self._plan = record, run_id, plan
        self._stored = record.stored_trials
        self._attempts: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._submitted: set[str] = set()
        self.trials: dict[str, Trial] = {}
        """Those that are over, by name."""
        self.uncounted = 0
        """Trials that ended in an earlier command and that the campaign does not count yet."""
        self._read(record.events)

    def _read(self, lines: Sequence[Line]) -> None:
        for submitted in events_of(lines, Submitted):
            if submitted.run_id == self._run_id:
                self._submitted.update(submitted.keys)
        for lost in events_of(lines, TrialLost):
            if lost.run_id == self._run_id:
                self._attempts[lost.trial] = lost.attempt + 1
        for line in lines:
            if line.event == TrialEnded.KIND:
                ended = read(line, TrialEnded)
                if ended.run_id == self._run_id:
                    self._take_over(ended.trial, line)

    def _take_over(self, trial: Trial, line: Line) -> None:
        self.trials[trial.trial] = trial
        # A crash may have come between the line and the file that finds it again.
        if not self._stored.place(trial.content).exists():
            self._store(trial, line)
        self.uncounted += line.n > self._record.acted and trial.reused_from is None

    def attempt(self, trial: str) -> int:
        """The number of a trial's present attempt, 1 being the first."""
        return self._attempts.get(trial, 1)

    def key(self, trial: str) -> str:
        """The effect key of a trial's present attempt."""
        return self._record.key(self._run_id, trial, self.attempt(trial))

    def is_submitted(self, key: str) -> bool:
        """Whether the attempt with this key was announced, so that an executor may have it."""
        return key in self._submitted

    def announce(self, keys: Sequence[str]) -> None:
        """Record that jobs with these keys will be submitted, as far as that is not on record."""
        fresh = [key for key in keys if key not in self._submitted]
        if fresh:
            events.append(self._record.ledger, Submitted(run_id=self._run_id, keys=tuple(fresh)))
            self._submitted.update(fresh)
            crash_points.point("submit.after_intent")

    def lose(self, trial: str, end: Exit | None) -> None:
        """Record an attempt that was lost, or cancelled to pause: the same seed runs again as the next attempt.

        ExecutorError: the trial was lost too often.
        """
        attempt = self.attempt(trial)
        message = end.message if end else "the executor lost it"
        lost = TrialLost(run_id=self._run_id, trial=trial, attempt=attempt, message=message)
        events.append(self._record.ledger, lost)
        self._attempts[trial] = attempt + 1
        # An attempt that was cancelled to pause says nothing about the infrastructure.
        if end is None or end.outcome is TrialOutcome.LOST:
            self._losses[trial] = self._losses.get(trial, 0) + 1
            if self._losses[trial] == MAX_LOST:
                raise ExecutorError(f"trial {trial} was lost {MAX_LOST} times: {message}", transient=True)

    def add(self, trial: Trial) -> None:
        """Make a finished trial durable: the ledger line that counts, then a file to find it by content."""
        line = events.append(self._record.ledger, TrialEnded(run_id=self._run_id, trial=trial))
        crash_points.point("trial.after_record")
        self.trials[trial.trial] = trial
        self._store(trial, line)

    def _store(self, trial: Trial, line: Line) -> None:
        """Let later runs find a trial that ended here."""
        ended_here = trial.outcome is TrialOutcome.COMPLETED and trial.reused_from is None
        if ended_here and not self._plan.arm(trial.arm).fresh:
            self._stored.keep(line)
            crash_points.point("trial.after_store")

    def reuse(
        self,
        cells: Iterable[Cell],
        content: Callable[[Cell], str],
        tell: Callable[[str], None],
        is_whole: Callable[[Trial], bool] = lambda trial: True,
    ) -> None:
        """Take over completed trials of the same code, settings, seed, data, evaluator and environment.

        `content` gives the content key of a cell. A trial that is not `is_whole` lacks its predictions for the holdout,
        which this run needs.
        """
        sources: list[str] = []
        incomplete = 0
        for cell in cells:
            # Of a trial that an executor may have, a second result would make two of one seed.
            if self._plan.arm(cell.arm).fresh or cell.trial in self.trials or self._was_submitted(cell.trial):
                continue
            try:
                stored = self._stored.find(content(cell))
            except RecordError as error:
                tell(f"note: {error}; measured anew")
                continue
            if stored is None:
                continue
            trial, source = stored
            if is_whole(trial):
                update = {"trial": cell.trial, "arm": cell.arm, "index": cell.index, "reused_from": source}
                self.add(trial.model_copy(update=update))
                sources.append(source)
            else:
                incomplete += 1
        if incomplete:
            tell(f"{incomplete} trials are known, and run again: their predictions for the holdout are gone")
        if sources:
            more = " ..." if len(sources) > 1 else ""
            tell(f"{len(sources)} trials reused, not run again: {sources[0]}{more}")

    def _was_submitted(self, trial: str) -> bool:
        """Whether any attempt of the trial was announced."""
        # A key ends in `.<trial>.a<attempt>`.
        return any(key.rpartition(".")[0].endswith(f".{trial}") for key in self._submitted)
