"""What a user sees of a comparison: the phase, each candidate's gain so far, what it costs; here as plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from autolab.cli.view import Plain
from autolab.compare.answer import Standing, standing_of
from autolab.compare.paired_runs import Allowance, ComparisonPhase
from autolab.compare.question import AskedComparison
from autolab.lab.schemas.experiment import Interval, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.reports.rounding import decimals_of, interval_of, shown
from autolab.trials.progress import Pairs, Progress, spell

PHASES = {
    RunKind.WARM_UP: "warm-up",
    RunKind.NOISE: "noise",
    RunKind.SEARCH: "pairs",
    RunKind.CONFIRM: "confirmation",
}


@dataclass
class ComparisonState:
    """A comparison under way, as its view was told. Each value is replaced whole: another thread may read it."""

    question: AskedComparison
    allowance: Allowance
    phase: ComparisonPhase | None = None
    since: float = field(default_factory=time.monotonic)
    """When the phase began."""
    trials: int = 0
    seconds: float = 0.0
    """What all trainings took that are over."""
    pairs: tuple[Pairs, ...] = ()
    confirmation: Pairs | None = None

    def begin(self, phase: ComparisonPhase) -> None:
        self.phase, self.since = phase, time.monotonic()
        self.trials, self.seconds = phase.trials, phase.seconds

    def take(self, progress: Progress, ended: Trial | None) -> list[Pairs]:
        """Take over how far a run is; the pairs that this call changed."""
        if ended is not None:
            self.trials += 1
            self.seconds += ended.seconds
        before = self._seen()
        if self._is(RunKind.SEARCH):
            self.pairs = progress.pairs
        elif self._is(RunKind.CONFIRM):
            self.confirmation = next(iter(progress.pairs), None)
        changed = []
        for pairs in progress.pairs:
            if pairs.done != before.get(pairs.arm, 0):
                changed.append(pairs)
        return changed

    def _seen(self) -> dict[str, int]:
        """Pairs of the present run by arm."""
        if self._is(RunKind.CONFIRM):
            return {self.confirmation.arm: self.confirmation.done} if self.confirmation is not None else {}
        return {pairs.arm: pairs.done for pairs in self.pairs}

    def _is(self, kind: RunKind) -> bool:
        return self.phase is not None and self.phase.kind is kind

    @property
    def phases(self) -> tuple[RunKind, ...]:
        """Those of this comparison, in order."""
        kinds = [RunKind.WARM_UP, RunKind.SEARCH]
        if self.question.delta is None:
            kinds.insert(1, RunKind.NOISE)
        if self.question.confirm:
            kinds.append(RunKind.CONFIRM)
        return tuple(kinds)

    def label(self, arm: str) -> str:
        """What the user calls a candidate."""
        return next(version.label for version in self.question.candidates if version.name == arm)

    def title(self) -> str:
        """`HEAD → lr=0.2, wide.patch`."""
        labels = ", ".join(version.label for version in self.question.candidates)
        return f"{self.question.base.label} → {labels}"

    def phase_text(self) -> str:
        """What the present phase does."""
        assert self.phase is not None
        base = self.question.base.label
        match self.phase.kind:
            case RunKind.WARM_UP:
                return f"{base} once, thrown away: the first training pays for caches"
            case RunKind.NOISE:
                return f"{base} on three seeds: what can the pairs resolve?"
            case RunKind.CONFIRM:
                return "the gain once more, on fresh seeds"
            case _:
                return f"at most {self.question.pairs}; {self.metric_text()}"

    def metric_text(self) -> str:
        """The metric, its good direction, and the least difference if it is known."""
        good = "lower" if self.question.direction == "minimize" else "higher"
        text = f"{self.question.metric}, {good} is better"
        delta = self.phase.delta if self.phase is not None else self.question.delta
        if delta is None:
            return text
        if self.question.require == "not_worse":
            return f"{text}; is a loss of {delta:g} ruled out?"
        return f"{text}; a gain of {delta:g} is worth having"

    def costs(self, now: float) -> Iterator[str]:
        """What it has cost, and what the budget leaves: `12 of 40 trials`, `36 s of training`."""
        trials = self.allowance.trials
        yield f"{self.trials} trials" if trials is None else f"{self.trials} of {trials} trials"
        if self.seconds:
            yield f"{spell(self.seconds)} of training"
        seconds = self.allowance.seconds
        if seconds is not None and self.phase is not None:
            seconds_left = seconds - self.phase.used_s - (now - self.since)
            if seconds_left > 0:
                yield f"{spell(seconds_left)} of {spell(seconds)} left"
            else:
                yield f"the {spell(seconds)} are over"

    def standing(self, pairs: Pairs) -> Standing | None:
        """The answer about a candidate; None while more pairs are to come."""
        return None if pairs.is_open else standing_of(self.question.require, pairs.action, pairs.reason)


@dataclass(frozen=True)
class Outlook:
    """What a run may still take, in trials and in seconds (None: not known yet).

    `most` counts every planned pair of the candidates that are open. `likely` is None as long as it is not known of
    each of them how many pairs it takes if those to come are like those so far.
    """

    most: int
    most_s: float | None
    likely: int | None
    likely_s: float | None

    @classmethod
    def of(cls, progress: Progress, now: float) -> Outlook:
        if progress.pairs and not any(pairs.is_open for pairs in progress.pairs):
            return cls(0, None, None, None)
        done = {arm.name: arm.done for arm in progress.arms}
        planned = progress.planned - progress.done
        unneeded = 0
        for pairs in progress.pairs:
            if not pairs.is_open:
                unneeded += pairs.planned - done[pairs.arm]
        most = planned - unneeded
        likely = _likely_trials(progress.pairs, done)
        seconds = progress.left(now)
        if seconds is None or not planned:
            return cls(most, None, likely, None)
        each = seconds / planned
        return cls(most, each * most, likely, None if likely is None else each * likely)


def _likely_trials(comparisons: Sequence[Pairs], done: Mapping[str, int]) -> int | None:
    """Trials of all candidates that are open, and of the base that they share."""
    trials, longest = 0, 0
    for pairs in comparisons:
        if not pairs.is_open:
            continue
        if pairs.likely is None:
            return None
        trials += max(0, pairs.likely - done[pairs.arm])
        longest = max(longest, pairs.likely - done[pairs.baseline])
    return trials + longest or None


def pairs_text(count: int) -> str:
    if not count:
        return "no pair yet"
    return "1 pair" if count == 1 else f"{count} pairs"


def gain_text(gain: Interval | None, with_interval: bool = True) -> str:
    """`+0.035 (99% CI -0.010 to 0.080)`."""
    if gain is None:
        return ""
    text = shown(gain.mean, decimals_of(gain))
    if gain.mean > 0:
        text = f"+{text}"
    if with_interval and gain.low is not None:
        text += f" ({interval_of(gain)})"
    return text


def likely_text(pairs: Pairs) -> str:
    """How many more pairs an open question is likely to take; open at the end, if the planned ones are not enough."""
    if pairs.likely is not None:
        more = pairs.likely - pairs.done
        return f"likely {more} more" if pairs.done else ""
    if pairs.done < 2:
        return ""
    return "may stay open"


def time_text(outlook: Outlook) -> str:
    """`about 24 s left`; `at most 3 min left` before more is known; empty before that."""
    if outlook.likely_s is not None:
        return f"about {spell(outlook.likely_s)} left"
    if outlook.most_s:
        return f"at most {spell(outlook.most_s)} left"
    return ""


class PlainComparison(Plain):
    """Lines: one as a phase begins, each trial that no pair reads, each pair of each candidate."""

    def __init__(self, state: ComparisonState, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._state = state
        self._announced: RunKind | None = None

    def phase(self, phase: ComparisonPhase) -> None:
        self._state.begin(phase)

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self._progress = progress
        phase = self._state.phase
        # Not when it begins: of a phase that is over nothing is said.
        if phase is not None and phase.kind is not self._announced:
            self._announced = phase.kind
            self(f"{PHASES[phase.kind]}: {self._state.phase_text()}")
        changed = self._state.take(progress, ended)
        if ended is None:
            return
        if not progress.pairs or ended.outcome is not TrialOutcome.COMPLETED:
            self(progress.line(ended))
        for pairs in changed:
            self(self._pair_line(pairs, progress))

    def _pair_line(self, pairs: Pairs, progress: Progress) -> str:
        state = self._state
        parts = [f"gain {gain_text(pairs.gain)}"]
        standing = state.standing(pairs)
        if standing is not None:
            parts.append(standing.value)
        elif text := likely_text(pairs):
            parts.append(text)
        parts.append(time_text(Outlook.of(progress, progress.at)))
        label = f" of {state.label(pairs.arm)}" if len(state.question.candidates) > 1 else ""
        costs = ", ".join(state.costs(progress.at))
        return f"  pair {pairs.done}{label}: {', '.join(filter(None, parts))}; {costs}"
