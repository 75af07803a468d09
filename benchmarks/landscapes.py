"""Landscapes with a known truth, on which searchers are compared (yield.py). The unit is the deviation of a trial.

A trial's score is the landscape's value at its point, a part that trials of one seed share, and a part of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autolab.ideas.searchers import NumericKnob, Point, SearchSpace

KNOBS, FAR, WORST = 7, 4.0, -12.0
MECHANISMS, GOOD, HARMFUL = 40, 0.1, 0.25


@dataclass(frozen=True)
class World:
    """A kind of landscape. `effect`: of a step of a knob in the right direction, or of a good mechanism.

    `correlation`: of two trials that share a seed. `split_error`: how far each mechanism's effect on the evaluation
    split deviates from its true one; on the holdout it deviates as much, independently.
    """

    name: str
    kind: str
    effect: float
    correlation: float
    rugged: float = 0.0
    split_error: float = 0.0

    @property
    def own(self) -> float:
        """The deviation of the part of a trial that its seed does not share."""
        return math.sqrt(1 - self.correlation)

    def landscape(self, number: int) -> Landscape:
        """The landscape of this number, the same for every searcher."""
        random = np.random.default_rng((number, 7))
        return KnobLandscape(self, random) if self.kind == "knobs" else MechanismLandscape(self, random)


class Landscape:
    """`space` is searched; `reach` is the largest gain that there is."""

    space: SearchSpace
    reach: float

    def on_split(self, point: Point) -> float:
        """The gain over the base on the evaluation split."""
        raise NotImplementedError

    def on_holdout(self, point: Point) -> float:
        return self.on_split(point)

    def holdout_error(self, point: Point) -> float:
        """The deviation of the gain on the holdout from the true one, which its rows let one estimate."""
        return 0.0

    def true(self, point: Point) -> float:
        """The gain on data that nobody has seen."""
        return self.on_split(point)


class KnobLandscape(Landscape):
    """Seven knobs, each a parabola with a floor, best some steps from its base; waves and interactions on top."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        knobs = [NumericKnob(f"knob{number}", 0.0, -FAR, FAR, log=False) for number in range(KNOBS)]
        self.space = SearchSpace(knobs=tuple(knobs))
        self._best_at = random.choice([-1, 1], KNOBS) * random.uniform(0.7, 3, KNOBS)
        self._gains = world.effect * random.uniform(0.7, 2, KNOBS)
        self._rugged = world.rugged
        self._phases = random.uniform(0, 2 * math.pi, KNOBS)
        self._interactions = random.normal(0, world.rugged / 2, (KNOBS, KNOBS))
        self._zero = 0.0
        self._zero = self.on_split(self.space.base)
        self.reach = float(self._gains.sum())

    def on_split(self, point: Point) -> float:
        at = np.array([float(point[knob.name]) for knob in self.space.knobs])
        parabolas = np.maximum(self._gains * (1 - ((at - self._best_at) / self._best_at) ** 2), WORST)
        waves = self._rugged * np.sin(2.5 * at + self._phases)
        together = self._interactions * np.tanh(np.outer(at, at))
        return float(parabolas.sum() + waves.sum() + together.sum() - self._zero)


class MechanismLandscape(Landscape):
    """Forty mechanisms that are on or off: a tenth helps, a quarter harms, the rest does nothing."""

    def __init__(self, world: World, random: np.random.Generator) -> None:
        self.space = SearchSpace(switches=tuple(f"mechanism{number}" for number in range(MECHANISMS)))
        kinds = random.choice([1, -1, 0], MECHANISMS, p=[GOOD, HARMFUL, 1 - GOOD - HARMFUL])
        self._effects, self._split_error = world.effect * kinds, world.split_error
        self._split, self._holdout = random.normal(0, world.split_error, (2, MECHANISMS))
        self.reach = float(self._effects[self._effects > 0].sum())

    def on_split(self, point: Point) -> float:
        return float(self._on(point) @ (self._effects + self._split))

    def on_holdout(self, point: Point) -> float:
        return float(self._on(point) @ (self._effects + self._holdout))

    def holdout_error(self, point: Point) -> float:
        return self._split_error * math.sqrt(float(self._on(point).sum()))

    def true(self, point: Point) -> float:
        return float(self._on(point) @ self._effects)

    def _on(self, point: Point) -> np.ndarray:
        return np.array([float(point[name]) for name in self.space.switches])


WORLDS = (
    World("seven knobs, effects of 2", "knobs", 2.0, 0.6),
    World("seven knobs, effects of 0.4", "knobs", 0.4, 0.6),
    World("forty mechanisms, effect 2, correlation 0.6", "mechanisms", 2.0, 0.6),
    World("forty mechanisms, effect 1, correlation 0", "mechanisms", 1.0, 0.0),
    World("seven knobs, rugged", "knobs", 2.0, 0.6, rugged=1.0),
    World("seven knobs, nothing to find", "knobs", 0.0, 0.6),
    World("forty mechanisms, nothing to find", "mechanisms", 0.0, 0.6),
    World("forty mechanisms, effect 0.3, correlation 0", "mechanisms", 0.3, 0.0),
    World("forty mechanisms, effect 1, split error 0.4", "mechanisms", 1.0, 0.6, split_error=0.4),
    World("forty mechanisms, nothing to find, split error 0.4", "mechanisms", 0.0, 0.6, split_error=0.4),
)
