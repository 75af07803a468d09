"""A run under way, counted for a user who watches: what runs and since when, pairs so far, how long it may take.

Nothing here decides anything: the rule reads trials and not these counts. Times are `time.monotonic()` of this
process, in seconds.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self

from autolab.executors.base import Phase
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.experiment import Hypothesis, Interval, Lesson, Results, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import verdict
from autolab.stats.plan import Plan, planned_cells
from autolab.stats.wording import heading, standing

if TYPE_CHECKING:
    pass


Clock = Callable[[], float]


@dataclass(frozen=True)
class ArmCount:
    """One arm: its trials that are over (reused ones too) and that run, and the mean time of the completed ones."""

    name: str
    role: Literal["baseline", "variant"]
    planned: int
    done: int
    running: int
    seconds: float | None


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs. `since` is None where an earlier command started it: then nobody here knows when."""

    trial: str
    since: float | None
    expected: float | None
    """Mean seconds of the arm's completed trials; None before the first."""

    def left(self, now: float) -> float | None:
        """Seconds it may still take, 0 where it takes longer than the others did; None where there is no telling."""
        if self.expected is None:
            return None
        return self.expected if self.since is None else max(0.0, self.expected - (now - self.since))


@dataclass(frozen=True)
class Pairs:
    """A variant against the first baseline: pairs that the rule reads, and their mean gain in the direction of good."""

    arm: str
    baseline: str
    planned: int
    done: int
    gain: float | None


@dataclass(frozen=True)
class Progress:
    """How far a run is, at one moment."""

    run_id: str
    metric: str
    arms: tuple[ArmCount, ...]
    running: tuple[RunningTrial, ...]
    pairs: tuple[Pairs, ...]
    spent: int
    """Trials of it that the campaign does not count yet; reused ones cost nothing."""
    began: float
    """When this command took the run up."""
    at: float
    ends: float | None
    """When all planned trials may be over; None until each arm that has trials left has a completed one."""
    early: bool = False
    """The rule may decide before all of them are over: what is planned, and the time left, are at most that."""

    @property
    def done(self) -> int:
        return sum(arm.done for arm in self.arms)

    @property
    def planned(self) -> int:
        return sum(arm.planned for arm in self.arms)

    @property
    def most(self) -> str:
        """What stands before a number that need not be reached."""
        return "at most " if self.early else ""

    def left(self, now: float) -> float | None:
        return None if self.ends is None else max(0.0, self.ends - now)

    def line(self, ended: Trial) -> str:
        """One trial that is over, with what it measured and the time that is left."""
        left = self.left(self.at) if self.done < self.planned else None
        said = f", {self.most or 'about '}{spell(left)} left" if left is not None else ""
        return f"  {self.done:>2} of {self.most}{self.planned}  {outcome(ended)}{said}"

    def paused_in(self, now: float) -> float | None:
        """Seconds until what runs now may be over; None where a trial's time is not known yet."""
        lefts = [one.left(now) for one in self.running]
        known = [left for left in lefts if left is not None]
        return max(known) if known and len(known) == len(lefts) else None


class Watch:
    """What one command sees of a run: it is shown the trials' phases, and says how far the run is."""

    def __init__(
        self, run_id: str, plan: Plan, trials: Mapping[str, Trial], spent: int, clock: Clock = time.monotonic
    ) -> None:
        """`trials` are those that are over, by name, and will grow; `spent` is what earlier commands left uncounted."""
        self._run_id, self._plan, self._trials, self._spent = run_id, plan, trials, spent
        self._arm_of = {cell.trial: cell.arm for cell in planned_cells(plan)}
        self._before = set(trials)
        self._since: dict[str, float | None] = {}
        self._adopted: set[str] = set()
        self._places = 0
        self._clock, self._began = clock, clock()

    def adopt(self, trials: Iterable[str]) -> None:
        """An earlier command submitted these; one that runs when it is next looked at may have begun long ago."""
        self._adopted.update(trials)

    def look(self, phases: Mapping[str, Phase]) -> None:
        """The phases of all submitted trials that are not over."""
        now = self._clock()
        running = [trial for trial, phase in phases.items() if phase is Phase.RUNNING]
        begun = {trial: None if trial in self._adopted else now for trial in running}
        self._since = begun | {trial: since for trial, since in self._since.items() if trial in begun}
        self._adopted.clear()
        self._places = max(self._places, len(running))

    def progress(self) -> Progress:
        now, means = self._clock(), self._means()
        running = [RunningTrial(trial, since, means[self._arm_of[trial]]) for trial, since in self._since.items()]
        fresh = [trial for name, trial in self._trials.items() if name not in self._before]
        return Progress(
            run_id=self._run_id,
            metric=self._plan.metric,
            arms=tuple(self._count(arm.name, arm.role, means[arm.name]) for arm in self._plan.arms),
            running=tuple(running),
            pairs=tuple(self._pairs()),
            spent=self._spent + sum(trial.reused_from is None for trial in fresh),
            began=self._began,
            at=now,
            ends=self._ends(now, running, means),
            early=self._plan.rule is not None and self._plan.rule.rule != "fixed",
        )

    def _means(self) -> dict[str, float | None]:
        found: dict[str, list[float]] = {arm.name: [] for arm in self._plan.arms}
        for trial in self._trials.values():
            if trial.outcome is TrialOutcome.COMPLETED:
                found[trial.arm].append(trial.seconds)
        return {arm: sum(seconds) / len(seconds) if seconds else None for arm, seconds in found.items()}

    def _count(self, arm: str, role: Literal["baseline", "variant"], seconds: float | None) -> ArmCount:
        done = sum(trial.arm == arm for trial in self._trials.values())
        running = sum(self._arm_of[trial] == arm for trial in self._since)
        planned = sum(name == arm for name in self._arm_of.values())
        return ArmCount(arm, role, planned, done, running, seconds)

    def _pairs(self) -> Iterator[Pairs]:
        rulings = verdict.judge(self._plan, list(self._trials.values())).rulings
        for arm, ruling in rulings.items():
            mean = ruling.interval.mean if ruling.pairs else None
            yield Pairs(arm, self._plan.baseline.name, len(self._plan.seeds), ruling.pairs, mean)

    def _ends(self, now: float, running: Sequence[RunningTrial], means: Mapping[str, float | None]) -> float | None:
        """The trials left, in order, each where a place is free first; places are as many as ever ran at once."""
        over = self._trials.keys() | self._since.keys()
        waiting = [means[arm] for name, arm in self._arm_of.items() if name not in over]
        lefts = [one.left(now) for one in running]
        if self._places == 0 or None in waiting or None in lefts:
            return None
        free = [now + (left or 0.0) for left in lefts] + [now] * (self._places - len(lefts))
        heapq.heapify(free)
        for seconds in waiting:
            heapq.heapreplace(free, free[0] + (seconds or 0.0))
        return max(free)


def outcome(trial: Trial) -> str:
    """A trial that is over, in one line: `small_cnn-s4 completed in 3.7 s  val_loss 0.05099, accuracy 0.9866`."""
    said = [f"{name} {value:.4g}" for name, value in (trial.score or trial.self_reported).items()]
    said += [trial.message[:160]] if trial.message else []
    return f"{trial.trial} {trial.outcome} in {trial.seconds:.1f} s{'  ' if said else ''}{', '.join(said)}"


def spell(seconds: float) -> str:
    """A length of time as a user says it: 8 s, 12 min, 3.4 h."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class JudgedIteration:
    """An iteration's hypothesis, and what the evidence says of it, as a heading: `supported, kept`.

    `gain` is the lead variant's in the search; of a kept one what is claimed, with the interval of fresh seeds.
    """

    iteration_id: str
    hypothesis_id: str
    title: str
    verdict: str
    gain: Interval | None

    @classmethod
    def now(cls, hypothesis: Hypothesis, results: Results) -> Self:
        lead = max(results.assessment.comparisons, key=lambda c: c.difference.mean, default=None)
        gain, again = lead.difference if lead else None, results.confirmation
        if again is not None and again.outcome == "kept":
            gain = again.difference.model_copy(update={"mean": again.shrunken})
        return cls(results.iteration_id, hypothesis.id, hypothesis.title, standing(results), gain)

    @classmethod
    def before(cls, lesson: Lesson) -> Self:
        verdict = heading(lesson.verdict, lesson.status, lesson.reason, lesson.outcome, lesson.evaluation_only)
        return cls(lesson.iteration_id, lesson.hypothesis_id, lesson.title, verdict, lesson.gain)


class View(Protocol):
    """Where a command tells what it does. Called like a function it takes a line of lasting value."""

    def __call__(self, line: str) -> None: ...

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        """A stage begins; `title` is the hypothesis's, empty before there is one."""

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        """Where a run stands: when a trial `ended`, when one began, and about once a second."""

    def judged(self, judged: JudgedIteration) -> None:
        """The present iteration has its verdict."""

    def pause(self) -> None:
        """The user asked to stop; said once. Signal handlers call it, so it takes no lock."""
