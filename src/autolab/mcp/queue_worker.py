"""The thread that measures what agents asked for, one comparison at a time, in the order of the queue."""

from __future__ import annotations

import contextlib
import fcntl
import sys
import threading
import traceback
from collections.abc import Iterator

from autolab.compare.allowance import allowance_of
from autolab.compare.answer import ComparisonAnswer, answer_of, line_of, value_of
from autolab.compare.paired_runs import ComparisonPhase, run_comparison
from autolab.compare.question import AskedComparison
from autolab.compare.training_config import refuse_settings
from autolab.errors import AutolabError
from autolab.lab.schemas.experiment import Trial
from autolab.mcp.agent_training import AgentTraining
from autolab.mcp.comparison_queue import ComparisonQueue, QueueEntry, QueueState
from autolab.trials.measurement import Ending
from autolab.trials.progress import Progress

PAIRS = 24
POLL_S = 1.0
"""Seconds between two looks for what another process put into the queue, or for the turn that another server has."""


class QueueWorker:
    """`start` and `stop` are for one server; of several in a repository, one works and the others wait."""

    def __init__(self, queue: ComparisonQueue, training: AgentTraining) -> None:
        self._queue, self._training = queue, training
        self._stopping, self._awake = threading.Event(), threading.Event()
        # A daemon: a user's second Ctrl-C ends the server at once. What was killed goes on with the next.
        self._thread = threading.Thread(target=self._work, name="comparisons", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was put into the queue."""
        self._awake.set()

    def stop(self) -> None:
        """Pause at a safe point: trainings that run now are waited for, and nothing else begins."""
        self._stopping.set()
        self._awake.set()
        self._thread.join()

    def _work(self) -> None:
        problem = ""
        with self._turn():
            while not self._stopping.is_set():
                self._awake.clear()
                try:
                    entry = self._queue.next()
                    if entry is not None:
                        self._answer(entry)
                        continue
                except (AutolabError, OSError) as error:
                    # The queue itself cannot be read or written; whoever calls a tool is told the same.
                    if str(error) != problem:
                        problem = str(error)
                        print(f"autolab mcp: {problem}", file=sys.stderr)
                self._awake.wait(POLL_S)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the turn to work on the queue, once no other server of the repository has it."""
        with open(self._queue.folder / "worker", "a", encoding="utf-8") as file:
            while not self._stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._stopping.wait(POLL_S)
            yield

    def _answer(self, entry: QueueEntry) -> None:
        """Bring an entry to an end, or back into the queue if the server stops before."""
        try:
            config, identity = self._training.config(lambda line: self._note(entry, line))
        except (AutolabError, OSError) as error:
            self._refuse_all(str(error))
            return
        self._queue.update(entry.id, training=identity, note="")
        question = AskedComparison(
            base=entry.base,
            candidates=(entry.candidate,),
            metric=config.metric.primary,
            direction=config.metric.direction,
            delta=entry.delta,
            alpha=entry.alpha,
            require=entry.require,
            confirm=entry.confirm,
            pairs=PAIRS,
        )
        view = _QueueView(self._queue, entry)
        allowance = allowance_of(entry.budget, "budget")
        try:
            if entry.candidate.settings:
                refuse_settings(config)
            outcome = run_comparison(
                self._training.root, config, question, allowance, view, lambda: self._is_to_end(entry)
            )
            self._record(entry, answer_of(outcome))
        except (AutolabError, OSError) as error:
            self._queue.update(entry.id, state=QueueState.FAILED, note=str(error))
        except Exception as error:
            # A bug of ours ends this comparison and not the server.
            traceback.print_exc()
            self._queue.update(entry.id, state=QueueState.FAILED, note=f"a bug of Autolab: {error!r}")

    def _note(self, entry: QueueEntry, line: str) -> None:
        self._queue.update(entry.id, note=line.strip())

    def _is_to_end(self, entry: QueueEntry) -> bool:
        now = self._queue.find(entry.id)
        return self._stopping.is_set() or (now is not None and now.cancel)

    def _refuse_all(self, problem: str) -> None:
        """What keeps one training from running keeps all: each of them would look at it again, for a minute."""
        for entry in self._queue.entries():
            if entry.state in (QueueState.RUNNING, QueueState.QUEUED):
                self._queue.update(entry.id, state=QueueState.FAILED, note=problem)

    def _record(self, entry: QueueEntry, answer: ComparisonAnswer) -> None:
        outcome = answer.outcome
        measured = {"trials": outcome.spent, "seconds": round(outcome.seconds, 3)}
        if answer.problem:
            # A version that fails does so again; a machine that failed may work the next time.
            is_final = outcome.ending in (Ending.DONE, Ending.CODE, Ending.BASELINE)
            self._queue.update(entry.id, state=QueueState.FAILED, note=answer.problem, is_final=is_final, **measured)
            return
        now = self._queue.find(entry.id) or entry
        if outcome.ending is Ending.PAUSED and not outcome.budget_spent:
            state = QueueState.CANCELLED if now.cancel else QueueState.QUEUED
            self._queue.update(entry.id, state=state, note="", **(measured if outcome.key else {}))
            return
        (candidate,) = answer.candidates
        self._queue.update(
            entry.id,
            state=QueueState.DONE,
            note="",
            pairs=candidate.pairs,
            budget_spent=outcome.budget_spent,
            standing=candidate.standing.value,
            line=line_of(answer, candidate),
            answer=value_of(answer),
            **measured,
        )


class _QueueView:
    """Writes what is measured so far into the entry, where every server of the repository can read it."""

    def __init__(self, queue: ComparisonQueue, entry: QueueEntry) -> None:
        self._queue, self._entry = queue, entry
        self._trials, self._seconds = entry.trials, entry.seconds

    def __call__(self, line: str) -> None:
        self._queue.update(self._entry.id, note=line.strip())

    def phase(self, phase: ComparisonPhase) -> None:
        pass

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        if ended is None:
            return
        if ended.reused_from is None:
            self._trials += 1
            self._seconds += ended.seconds
        pairs = max((pair.done for pair in progress.pairs), default=0)
        seconds = round(self._seconds, 3)
        self._queue.update(self._entry.id, pairs=pairs, trials=self._trials, seconds=seconds, note="")
