"""A run under way, for a user who watches: what runs and since when, pairs so far, how long it may take.

Nothing here decides anything: the rule reads trials and not these counts. Times are `time.monotonic()` of this
process, in seconds.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from autolab.executors.base import Phase
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.experiment import Hypothesis, Interval, Lesson, Results, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import rules, verdict
from autolab.stats.plan import Plan, PlannedArm, planned_cells
from autolab.stats.wording import heading, standing

Clock = Callable[[], float]
MOST_METRICS = 4
"""Metrics of a trial in its line."""


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
    """A trial that runs. `since` is None if an earlier command started it: then its start is not known."""

    trial: str
    since: float | None
    expected: float | None
    """Mean seconds of the arm's completed trials; None before the first."""

    def left(self, now: float) -> float | None:
        """Seconds it may still take, 0 if it takes longer than the others did; None if nothing is expected yet."""
        if self.expected is None or self.since is None:
            return self.expected
        return max(0.0, self.expected - (now - self.since))


@dataclass(frozen=True)
class Pairs:
    """A variant against the first baseline: pairs that the rule reads, and their gain in the direction of good.

    `gain` is None before the first pair. Of an open question it has the interval of a keep; of one that is decided
    otherwise, that of a refutation. `action` and `reason` are the ruling's. `likely`: pairs in all at which the rule
    likely decides; None if it is not known yet, or the planned ones would not be enough.
    """

    arm: str
    baseline: str
    planned: int
    done: int
    gain: Interval | None
    action: rules.RuleAction = rules.RuleAction.CONTINUE
    reason: str = ""
    likely: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether more pairs are to come."""
        return self.action is rules.RuleAction.CONTINUE and self.done < self.planned


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
    """When this command began to work on the run."""
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
        """The words before a number that need not be reached."""
        return "at most " if self.early else ""

    def left(self, now: float) -> float | None:
        """Seconds until all planned trials may be over; None as long as `ends` is."""
        if self.ends is None:
            return None
        return max(0.0, self.ends - now)

    def line(self, ended: Trial) -> str:
        """One trial that is over, with what it measured and the time that is left."""
        line = f"  {self.done:>2} of {self.most}{self.planned}  {outcome(ended, self.metric)}"
        seconds_left = self.left(self.at)
        if seconds_left is None or self.done >= self.planned:
            return line
        return f"{line}, {self.most or 'about '}{spell(seconds_left)} left"

    def paused_in(self, now: float) -> float | None:
        """Seconds until what runs now may be over; None if the time of one of the trials is not known yet."""
        # Nothing new starts during a pause, so the longest of them decides.
        longest = None
        for trial in self.running:
            seconds_left = trial.left(now)
            if seconds_left is None:
                return None
            longest = max(seconds_left, longest or 0.0)
        return longest


class Watch:
    """Counts what one command sees of a run: phases of trials in, `Progress` out."""

    def __init__(
        self, run_id: str, plan: Plan, trials: Mapping[str, Trial], spent: int, clock: Clock = time.monotonic
    ) -> None:
        """`trials` are those that are over, by name; the caller adds to it. `spent`: trials of earlier commands
        that the campaign does not count yet."""
        self._run_id, self._plan, self._trials, self._spent = run_id, plan, trials, spent
        self._arm_of = {cell.trial: cell.arm for cell in planned_cells(plan)}
        self._before = set(trials)
        self._since: dict[str, float | None] = {}
        self._adopted: set[str] = set()
        self._places = 0
        self._clock, self._began = clock, clock()

    def adopt(self, trials: Iterable[str]) -> None:
        """An earlier command submitted these: one that runs at the next look may have begun long ago."""
        self._adopted.update(trials)

    def look(self, phases: Mapping[str, Phase]) -> None:
        """The phases of all submitted trials that are not over."""
        now = self._clock()
        since: dict[str, float | None] = {}
        for trial, phase in phases.items():
            if phase is not Phase.RUNNING:
                continue
            # The first look after a start is its time, to within the seconds between two looks.
            if trial in self._since:
                since[trial] = self._since[trial]
            else:
                since[trial] = None if trial in self._adopted else now
        self._since = since
        self._adopted.clear()
        self._places = max(self._places, len(since))

    def progress(self) -> Progress:
        now, means = self._clock(), self._mean_seconds()
        running = []
        for name, since in self._since.items():
            running.append(RunningTrial(name, since, means[self._arm_of[name]]))
        # A reused trial cost nothing.
        spent = self._spent
        for name, trial in self._trials.items():
            if name not in self._before and trial.reused_from is None:
                spent += 1
        return Progress(
            run_id=self._run_id,
            metric=self._plan.metric,
            arms=tuple(self._count(arm, means[arm.name]) for arm in self._plan.arms),
            running=tuple(running),
            pairs=tuple(self._pairs()),
            spent=spent,
            began=self._began,
            at=now,
            ends=self._ends(now, running, means),
            early=self._may_end_early(),
        )

    def _may_end_early(self) -> bool:
        rule, arm_seeds = self._plan.rule, self._plan.arm_seeds
        # After each seed a screen leaves half of its variants behind.
        if arm_seeds is not None:
            return arm_seeds > 1
        return rule is not None and rule.rule != "fixed"

    def _mean_seconds(self) -> dict[str, float | None]:
        """Of each arm's completed trials."""
        # A trial that failed says nothing of how long one takes.
        means: dict[str, float | None] = {}
        for arm in self._plan.arms:
            seconds = []
            for trial in self._trials.values():
                if trial.arm == arm.name and trial.outcome is TrialOutcome.COMPLETED:
                    seconds.append(trial.seconds)
            means[arm.name] = sum(seconds) / len(seconds) if seconds else None
        return means

    def _count(self, arm: PlannedArm, seconds: float | None) -> ArmCount:
        return ArmCount(
            name=arm.name,
            role=arm.role,
            planned=sum(name == arm.name for name in self._arm_of.values()),
            done=sum(trial.arm == arm.name for trial in self._trials.values()),
            running=sum(self._arm_of[trial] == arm.name for trial in self._since),
            seconds=seconds,
        )

    def _pairs(self) -> Iterator[Pairs]:
        # Pairs as the rule counts them: the longest completed prefix, in seed order.
        trials = list(self._trials.values())
        judgement, likely = verdict.judge(self._plan, trials), verdict.outlook(self._plan, trials)
        for arm, ruling in judgement.rulings.items():
            gain = ruling.interval
            if ruling.action not in (rules.RuleAction.CONTINUE, rules.RuleAction.KEEP):
                gain = verdict.refutation_interval(arm, gain, self._plan, trials)
            yield Pairs(
                arm=arm,
                baseline=self._plan.baseline.name,
                planned=len(self._plan.seeds),
                done=ruling.pairs,
                gain=gain if ruling.pairs else None,
                action=ruling.action,
                reason=ruling.reason,
                likely=likely.get(arm),
            )

    def _ends(self, now: float, running: Sequence[RunningTrial], means: Mapping[str, float | None]) -> float | None:
        """When all planned trials may be over, if each takes the mean time of its arm; None before that is known."""
        if self._places == 0:
            return None
        # Places are as many as ever ran at once. Each waiting trial takes, in order, the place that is free first.
        free = [now] * (self._places - len(running))
        for trial in running:
            seconds_left = trial.left(now)
            if seconds_left is None:
                return None
            free.append(now + seconds_left)
        heapq.heapify(free)
        for name, arm in self._arm_of.items():
            if name in self._trials or name in self._since:
                continue
            seconds = means[arm]
            if seconds is None:
                return None
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)


def outcome(trial: Trial, metric: str = "") -> str:
    """A trial that is over, in one line: `small_cnn-s4 completed in 3.7 s  val_loss 0.05099, accuracy 0.9866`.

    `metric` comes first, before a few others: a program may print its settings too, and all of them are read.
    """
    values = trial.score or trial.self_reported
    names = sorted(values, key=lambda name: name != metric)
    details = [f"{name} {values[name]:.4g}" for name in names[:MOST_METRICS]]
    if trial.message:
        details.append(trial.message[:160])
    line = f"{trial.trial} {trial.outcome} in {trial.seconds:.1f} s"
    return f"{line}  {', '.join(details)}" if details else line


def spell(seconds: float) -> str:
    """A length of time for a user: 8 s, 12 min, 3.4 h."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class JudgedIteration:
    """An iteration's hypothesis, and what the evidence says of it, as a heading: `supported, kept`.

    `gain` is the lead variant's in the search. If the variant was kept, it is the claimed gain, with the interval of
    the fresh seeds.
    """

    iteration_id: str
    hypothesis_id: str
    title: str
    verdict: str
    gain: Interval | None

    @classmethod
    def now(cls, hypothesis: Hypothesis, results: Results) -> Self:
        differences = [comparison.difference for comparison in results.assessment.comparisons]
        gain = max(differences, key=lambda difference: difference.mean, default=None)
        confirmation = results.confirmation
        # The search's own gain is too good: it was picked for being the best.
        if confirmation is not None and confirmation.outcome == "kept":
            gain = confirmation.difference.model_copy(update={"mean": confirmation.shrunken})
        return cls(results.iteration_id, hypothesis.id, hypothesis.title, standing(results), gain)

    @classmethod
    def before(cls, lesson: Lesson) -> Self:
        verdict = heading(lesson.verdict, lesson.status, lesson.reason, lesson.outcome, lesson.evaluation_only)
        return cls(lesson.iteration_id, lesson.hypothesis_id, lesson.title, verdict, lesson.gain)


class RunView(Protocol):
    """What a user sees of a run. Called like a function, it prints a line that stays."""

    def __call__(self, line: str) -> None: ...

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        """The progress of a run: shown when a trial `ended`, when one began, and about once a second."""


class View(RunView, Protocol):
    """What a user sees of a command in a lab."""

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        """A stage begins; `title` is the hypothesis's, empty before there is one."""

    def judged(self, judged: JudgedIteration) -> None:
        """The current iteration has its verdict."""

    def pause(self) -> None:
        """The user asked to stop; said once. Signal handlers call it, so it takes no lock."""
