"""Screens: which ideas of a batch look worth building upon, measured at one seed or a few. Nothing is claimed. Pure.

Successive halving over seeds: every variant gets the first seed, the better half of those that did not fail the next
one, and so on. A *rung* is all the trials of one seed. Only a complete rung says who goes on, and the order of the
arms breaks a tie, so that equal trials give an equal result, whoever finished first.

A variant's failed trial drops that variant alone. A failed trial of the baseline ends the run, since no gain can be
measured without it, and so does a trial that tampered: the inputs that it changed are those of the other arms too.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Comparison, CutTrials, Interval, Trial
from autolab.lab.schemas.outcomes import DropReason, TrialOutcome, Verdict
from autolab.stats.plan import Cell, CellKey, Plan, PlannedArm
from autolab.stats.scores import gain

SCREENED = "screened"
"""The reason of a screen's verdict and of its comparisons."""
LEVEL = 0.95
"""Written into the intervals of a screen, which have no ends."""


def screen_plan(
    arms: Sequence[PlannedArm], seeds: Sequence[int], *, arm_seeds: int, config: Config, bound: float | None
) -> Plan:
    """A batch: `arms` are the baseline and the variants, each measured at the first `arm_seeds` of `seeds` at most.

    With more seeds than that the baseline is measured at all of them, and each variant is compared with its mean over
    them: where trainings at one seed are hardly correlated, that has less noise than a pair. ValueError: the first
    arm is no baseline or not the only one, or there are too few seeds.
    """
    if [arm.role == "baseline" for arm in arms] != [True] + [False] * (len(arms) - 1):
        raise ValueError("a screen has one baseline, which is its first arm")
    if not 1 <= arm_seeds <= len(seeds):
        raise ValueError(f"{arm_seeds} seeds of a variant, of {len(seeds)}")
    return Plan(
        arms=tuple(arms),
        seeds=tuple(seeds),
        metric=config.metric.primary,
        direction=config.metric.direction,
        delta=config.metric.difference,
        rule=None,
        fixed=False,
        self_reported=config.evaluate is None,
        bound=bound,
        arm_seeds=arm_seeds,
    )


class Dropped(NamedTuple):
    """Why a variant left a screen. `message` names the trial, in one line."""

    reason: DropReason
    message: str


@dataclass
class Screened:
    """What the trials of a screen say so far.

    `needed` are the cells of all rungs up to the first incomplete one, in order; `read` their trials, up to the first
    that is missing or that ends the run; `failure` names that one. `is_over`: no further trial is needed. `scores` are
    those of each variant that did not fail, one a complete rung.
    """

    needed: list[Cell] = field(default_factory=list)
    read: list[Trial] = field(default_factory=list)
    failure: str | None = None
    is_over: bool = False
    scores: dict[str, list[float]] = field(default_factory=dict)
    dropped: dict[str, Dropped] = field(default_factory=dict)


def settled_in_screen(trials: Iterable[Trial]) -> dict[CellKey, Trial]:
    """Trials by cell. One that was ended early counts, since it drops its arm; a lost one is repeated."""
    by_cell = {}
    for trial in trials:
        if trial.outcome is not TrialOutcome.LOST:
            by_cell[trial.arm, trial.index] = trial
    return by_cell


def screened(plan: Plan, trials: Iterable[Trial]) -> Screened:
    """Go from rung to rung as far as the trials of this screen reach."""
    by_cell = settled_in_screen(trials)
    state = Screened()
    alive = plan.variants
    for index in range(arm_seeds_of(plan)):
        if not alive:
            break
        rung = _rung(plan, alive, index)
        state.needed += rung
        for cell in rung:
            trial = by_cell.get(cell.key)
            # What finished beyond a gap does not count yet: the result must not depend on who finished first.
            if trial is None:
                return state
            state.read.append(trial)
            state.failure = _fatal(plan, trial)
            if state.failure:
                return state
        alive = _better_half(plan, _passed(plan, alive, index, by_cell, state), state.scores)
    state.is_over = True
    return state


def arm_seeds_of(plan: Plan) -> int:
    """The seeds of a variant, at most. ValueError: not a screen."""
    if plan.arm_seeds is None:
        raise ValueError("the plan is no screen")
    return plan.arm_seeds


def _rung(plan: Plan, alive: Iterable[PlannedArm], index: int) -> list[Cell]:
    """The cells of one seed: the baseline's, and those of the variants that got so far."""
    names = [arm.name for arm in alive]
    seed = plan.seeds[index]
    if not plan.has_common_baseline:
        names = [plan.baseline.name, *names]
        return [Cell(name, index, seed) for name in names]
    cells = []
    if index == 0:
        cells = [Cell(plan.baseline.name, place, other) for place, other in enumerate(plan.seeds)]
    return cells + [Cell(name, index, seed) for name in names]


def _fatal(plan: Plan, trial: Trial) -> str | None:
    """Why this trial ends the whole run; None if it ends its variant at most."""
    if trial.arm != plan.baseline.name and trial.outcome is not TrialOutcome.TAMPERED:
        return None
    return plan.scale.failure(trial)


def _passed(
    plan: Plan, alive: Iterable[PlannedArm], index: int, by_cell: Mapping[CellKey, Trial], state: Screened
) -> list[PlannedArm]:
    """The variants that have a score in this rung, which is added to `state`; the others are dropped there."""
    passed = []
    for arm in alive:
        trial = by_cell[arm.name, index]
        failure = plan.scale.failure(trial)
        if failure:
            reason = DropReason.FAILED
            if trial.outcome is TrialOutcome.CANCELLED:
                reason = DropReason.PRUNED
            state.dropped[arm.name] = Dropped(reason, failure)
            state.scores.pop(arm.name, None)
            continue
        state.scores.setdefault(arm.name, []).append(_score(plan, trial))
        passed.append(arm)
    return passed


def _better_half(
    plan: Plan, arms: Sequence[PlannedArm], scores: Mapping[str, Sequence[float]]
) -> tuple[PlannedArm, ...]:
    """The half with the better means, in the order of the arms; of three, two."""
    # All of them have the same seeds: their order is that of their gains.
    means = {arm.name: gain(plan.direction, 0.0, _mean(scores[arm.name])) for arm in arms}
    best_first = sorted(arms, key=lambda arm: -means[arm.name])
    better = best_first[: math.ceil(len(arms) / 2)]
    return tuple(arm for arm in arms if arm in better)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _score(plan: Plan, trial: Trial) -> float:
    score = plan.scale.score(trial)
    assert score is not None  # a trial that `failure` passes has one
    return score


# What a screen that is over says


def screen_comparisons(plan: Plan, state: Screened) -> tuple[Comparison, ...]:
    """One for each variant that did not fail, in the order of the arms."""
    return tuple(_comparisons(plan, state))


def _comparisons(plan: Plan, state: Screened) -> Iterator[Comparison]:
    baseline = [_score(plan, trial) for trial in state.read if trial.arm == plan.baseline.name]
    for arm in plan.variants:
        scores = state.scores.get(arm.name)
        if not scores:
            continue
        pairs = len(scores)
        compared_with = _mean(baseline) if plan.has_common_baseline else _mean(baseline[:pairs])
        mean = gain(plan.direction, compared_with, _mean(scores))
        yield Comparison(
            arm=arm.name,
            baseline=plan.baseline.name,
            metric=plan.metric,
            difference=Interval(n=pairs, mean=mean, low=None, high=None, level=LEVEL),
            verdict=Verdict.INCONCLUSIVE,
            reason=SCREENED,
            pairs=pairs,
            bound=plan.bound,
            cut=tuple(_cut(plan, arm.name, state)),
        )


def _cut(plan: Plan, variant: str, state: Screened) -> Iterator[CutTrials]:
    """How many trials of each arm were cut, of those that the gain rests on; empty without a bound."""
    if plan.bound is None:
        return
    seeds = len(state.scores[variant])
    for arm in (plan.baseline.name, variant):
        trials = [trial for trial in state.read if trial.arm == arm]
        if not plan.has_common_baseline:
            trials = [trial for trial in trials if trial.index < seeds]
        yield plan.scale.cut_trials(arm, trials)


def screen_lead(comparisons: Sequence[Comparison]) -> str | None:
    """The variant that got furthest, and of those the one with the largest gain; the arms' order breaks a tie."""
    best = max(comparisons, key=lambda one: (one.difference.n, one.difference.mean), default=None)
    return None if best is None else best.arm


def dropped_arms(plan: Plan, trials: Iterable[Trial]) -> dict[str, Dropped]:
    """The variants that left this screen because a trial of theirs failed or was ended early."""
    return screened(plan, trials).dropped
