"""Campaigns on paper: ideas whose truth is known, the policies that judge them, the trials that they spend.

A trial's outcome is the quality of its code, a part that trials of one seed share, and a part of its own; the unit is
the deviation of the two parts together. `decisions.py` says which policies there are and runs them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit as t_quantile

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats import rules
from autolab.stats.plan import Plan, PlannedArm
from autolab.stats.verdict import judge

PAIRS, ALPHA, IDEAS, HOLDOUT_NOISE = 24, 0.005, 100, 0.2
FIELDS = ("ideas", "good", "found", "kept", "false", "trials", "gain", "claimed")
Look = Callable[[list[float], "World"], tuple[bool, int]]


@dataclass(frozen=True)
class World:
    """Where ideas come from and how trials scatter; `effect` is that of a good idea, and delta."""

    name: str
    effect: float = 2.0
    correlation: float = 0.8
    good: float = 0.1
    harmful: float = 0.2
    heavy: bool = False

    @property
    def own(self) -> float:
        """The deviation of the part of a trial that its pair does not share; the shared part is in no difference."""
        return math.sqrt(1 - self.correlation)

    def ideas(self, rng: np.random.Generator) -> list[float]:
        kinds = rng.choice([1, 0, -1], size=IDEAS, p=[self.good, 1 - self.good - self.harmful, self.harmful])
        return [float(kind) * self.effect for kind in kinds]

    def noise(self, rng: np.random.Generator, size: int = PAIRS) -> np.ndarray:
        """Own parts; heavy ones are Student's t with 3 degrees of freedom, brought to the same deviation."""
        return self.own * (rng.standard_t(3, size) / math.sqrt(3) if self.heavy else rng.standard_normal(size))


# Policies


@lru_cache
def rule(name: str, world: World) -> StoppingRule:
    if name == "sprt":
        return StoppingRule(rule="sprt", alpha=ALPHA, beta=0.1, deviation=math.sqrt(2) * world.own)
    return StoppingRule.from_value({"rule": name, "alpha": ALPHA}, "benchmark")


def engine(name: str, planned: int = PAIRS) -> Look:
    """The engine's decision: whether it keeps, and how many pairs it read."""

    def look(differences: list[float], world: World) -> tuple[bool, int]:
        delta = world.effect / 2 if name == "fixed" else world.effect
        said = rules.decide(differences[:planned], delta=delta, rule=rule(name, world), planned=planned, arms=1)
        return said.action is rules.RuleAction.KEEP, said.pairs

    return look


def mean_of(count: int) -> Look:
    return lambda differences, world: (sum(differences[:count]) > 0, count)


COUNTS = np.arange(3, PAIRS + 1)
BOUNDS = t_quantile(COUNTS - 1, 0.975)


def peek(differences: list[float], world: World) -> tuple[bool, int]:
    values = np.array(differences)
    means = (np.cumsum(values) / np.arange(1, PAIRS + 1))[2:]
    variances = (np.cumsum(values**2)[2:] - COUNTS * means**2) / (COUNTS - 1)
    hits = np.flatnonzero(np.abs(means) > BOUNDS * np.sqrt(variances / COUNTS))
    return (bool(means[hits[0]] > 0), int(COUNTS[hits[0]])) if len(hits) else (False, PAIRS)


@dataclass(frozen=True)
class Policy:
    """`inherits`: the numbers of what was kept serve as those of the new base."""

    name: str
    look: Look
    reuse: bool
    confirms: bool = True
    inherits: bool = False
    declared: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, {'' if self.reuse else 'no '}reuse"

    def claim(self, confirmed: list[float], world: World) -> float:
        """What is said of a kept candidate."""
        if not self.name.startswith("autolab"):
            return float(np.mean(confirmed))
        return rules.shrunken(confirmed, 2**0.5 * world.own if self.declared else None)


def policies() -> list[Policy]:
    found = []
    for reuse in (True, False):
        found += [
            Policy("greedy", mean_of(1), reuse, confirms=False, inherits=True),
            Policy("mean of three", mean_of(3), reuse, confirms=False, inherits=True),
            Policy("peeking t-test", peek, reuse, confirms=False),
            Policy("fixed n = 10", engine("fixed", 10), reuse),
            Policy("fixed n = 22", engine("fixed", 22), reuse),
            Policy("autolab", engine("sequential"), reuse),
            Policy("autolab, sprt", engine("sprt"), reuse, declared=True),
        ]
    return found


# A stream


@dataclass(frozen=True)
class Fate:
    supported: bool
    kept: bool
    claimed: float


class Stream:
    """The base that candidates are compared with, and the trials spent so far."""

    def __init__(self, policy: Policy, world: World, rng: np.random.Generator) -> None:
        self.policy, self.world, self.rng = policy, world, rng
        self.trials = 0
        self.base, self.ran = world.noise(rng), 0

    def submit(self, effect: float) -> Fate:
        """One idea through search and confirmation; the base stays."""
        policy, world = self.policy, self.world
        if not policy.reuse:
            self.base, self.ran = world.noise(self.rng), 0
        self.candidate = world.noise(self.rng)
        differences = (effect + self.candidate - self.base).tolist()
        supported, n = policy.look(differences, world)
        self.trials += n + max(0, n - self.ran)
        self.ran = max(self.ran, n)
        if not (supported and policy.confirms):
            return Fate(supported, supported, float(np.mean(differences[:n])))
        fresh = (effect + world.noise(self.rng) - world.noise(self.rng)).tolist()
        kept, n = policy.look(fresh, world)
        self.trials += 2 * n
        holdout = np.mean(fresh[:n]) + HOLDOUT_NOISE * self.rng.standard_normal() / math.sqrt(n)
        return Fate(True, kept and bool(holdout >= 0), policy.claim(fresh[:n], world))

    def move(self) -> None:
        """The newest candidate is the base."""
        if self.policy.inherits:
            self.base = self.candidate
        else:
            self.base, self.ran = self.world.noise(self.rng), 0


def run(policy: Policy, world: World, ideas: Sequence[float], rng: np.random.Generator) -> list[float]:
    """One campaign: the sums named in FIELDS."""
    stream = Stream(policy, world, rng)
    kept: list[tuple[float, float]] = []
    for effect in ideas:
        fate = stream.submit(effect)
        if fate.kept:
            kept.append((effect, fate.claimed))
            stream.move()
    gains = [effect for effect, _ in kept]
    found, good = sum(gain > 0 for gain in gains), sum(effect > 0 for effect in ideas)
    claimed = sum(claim for _, claim in kept)
    return [len(ideas), good, found, len(kept), len(kept) - found, stream.trials, sum(gains), claimed]


# Parallel arrival


def arrivals(candidate: np.ndarray, pace: float, workers: int = 4) -> list[int]:
    """The order in which the candidate's trials end, each after exp(-pace x its own part); the base's are there."""
    free = [0.0] * workers
    ends = []
    for index, value in enumerate(candidate):
        begun = heapq.heappop(free)
        ends.append((begun + math.exp(-pace * float(value)), index))
        heapq.heappush(free, ends[-1][0])
    return [index for _, index in sorted(ends)]


def parallel(world: World, effect: float, pace: float, count: int, rng: np.random.Generator) -> dict[str, int]:
    """Candidates that the search keeps: by the engine's `judge`, asked at every arrival, and read as they arrive."""
    arms = (PlannedArm("base", "baseline", "base", {}), PlannedArm("new", "variant", "candidate", {}))
    seeds = tuple(range(PAIRS))
    plan = Plan(arms, seeds, "score", "maximize", world.effect, rule("sequential", world), fixed=False)
    kept = {"prefix": 0, "arrival": 0}
    for _ in range(count):
        base, candidate = world.noise(rng), effect + world.noise(rng)
        order = arrivals(candidate - effect, pace)
        there = [_trial("base", index, base[index]) for index in range(PAIRS)]
        for index in order:
            there.append(_trial("new", index, candidate[index]))
            ruling = judge(plan, there).rulings["new"]
            if ruling.final:
                break
        kept["prefix"] += ruling.action is rules.RuleAction.KEEP
        kept["arrival"] += engine("sequential")([float(candidate[i] - base[i]) for i in order], world)[0]
    return kept


def _trial(arm: str, index: int, value: float) -> Trial:
    return Trial(
        trial=f"{arm}-s{index}",
        arm=arm,
        index=index,
        seed=index,
        attempt=1,
        commit="0",
        key=f"{arm}{index}",
        content="0",
        outcome=TrialOutcome.COMPLETED,
        score={"score": float(value)},
    )
