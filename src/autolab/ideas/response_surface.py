"""A searcher that learns a model of the score: additive parts, and what they do together. Pure.

    score = intercept + the effects of the switches that are on + for each knob  a x + b x^2 + what is left

with x the knob's distance from its base in steps. The coefficients have a normal prior, so that there may be more of
them than trials. What is left is a Gaussian process over the distance of points (Rasmussen and Williams 2006, Gaussian
Processes for Machine Learning, chapter 2): trainings that diverge, and settings that only work together. How large it
is, is what explains the scores best; 0 where effects simply add up.

Every point of a batch is the best one under one draw from the posterior (Thompson 1933, Biometrika 25): what is
promising is tried more often, what is unknown now and then, and each trial says something about all knobs and switches
at once. Draws are looked up at points near the best measured ones, in which a few knobs move by a step at most, since a
model says nothing about what lies far away (Box and Wilson 1951, Journal of the Royal Statistical Society B 13;
Eriksson et al. 2019, NeurIPS, for trust regions with Thompson sampling); where effects add up, also at the best point
of the additive model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autolab.ideas.searchers import NumericKnob, Point, SearchSpace

REACH = 1.0
"""Steps that a knob goes beyond the values that were measured, or from a measured point."""
MOVES = 3
"""Knobs in which a point differs from a measured one, at most."""
FLIPS, FEWER_FLIPS = 6, 4
"""Switches in which a point differs from the best one so far, at most; and where effects do not add up."""
CANDIDATES, DRAWN = 200, 60
"""Points at which a draw is looked up, and how many of them the additive model suggests."""
INCUMBENTS = 3
"""Measured points that candidates lie near."""
SLOPE, CURVATURE = 2.0, 1.0
"""Prior deviations of a knob's slope and curvature, in deviations of a trial."""
CONCAVE = -0.5
"""Prior mean of a knob's curvature: most settings have a best value somewhere."""
EFFECTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Prior deviations of a switch's effect that are weighed by how well they explain the scores, in deviations."""
MISFITS = (0.0, 1.0, 3.0, 10.0, 30.0)
"""The same of what is left: 0 means that effects add up."""
DOUBT = 0.7
"""By how much the logarithm of the evidence has to be better before effects are taken not to add up."""
FADE_KNOBS, FADE_SWITCHES = 1.5, 0.5
"""Steps over which what is left fades by a factor of e^-1/2, and how far apart one switch puts two points."""
INTERCEPT = 100.0
"""Prior deviation of the score of the base."""
CLEAR = 0.75
"""A switch is a part of the best point if its effect exceeds so many of its standard errors."""
CAUTION = 0.5
"""Standard errors by which a point's expected score is lowered before points are compared."""
FAILED = 3.0
"""A training that failed counts as so many deviations below the worst score."""
NO_GUESSES: Mapping[str, float] = {}


class ResponseSurface:
    """`deviation`: of a trial's score around what its seed shares with others, > 0, in the metric's units.

    `seed` makes its draws repeatable. `guesses`: prior means of the effects of switches, in their prior deviations; 0
    for those that are not named.
    """

    def __init__(
        self,
        space: SearchSpace,
        deviation: float,
        seed: int,
        guesses: Mapping[str, float] = NO_GUESSES,
    ) -> None:
        if not deviation > 0:
            raise ValueError(f"a deviation of {deviation:g}: scores without noise need no model")
        self._space, self._deviation = space, deviation
        self._guesses = np.array([guesses.get(name, 0.0) for name in space.switches])
        self._random = np.random.default_rng(seed)
        self._switches, self._knobs = len(space.switches), len(space.knobs)
        places = {name: place for place, name in enumerate(space.switches)}
        self._choices = [np.array([places[name] for name in choice], dtype=int) for choice in space.choices]
        self._ends = np.array([_ends(knob) for knob in space.knobs]).reshape(self._knobs, 2)
        self._points: list[np.ndarray] = []
        self._scores: list[float | None] = []

    def propose(self, count: int) -> list[Point]:
        if not self._points:
            # The base first: the model needs to know what stands now.
            return [self._space.base, *map(self._point, self._first(count - 1))]
        model = self._model()
        # Where effects add up, many switches can be judged at once, wherever the best measured point is.
        if model.adds_up and self._switches:
            return [self._point(position) for position in self._additive_bests(model, count)]
        candidates = self._candidates(model)
        mean, covariance = model.at(candidates)
        factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(candidates)))
        chosen: list[int] = []
        for _ in range(count):
            draw = mean + factor @ self._random.standard_normal(len(candidates))
            draw[chosen] = -np.inf
            chosen.append(int(np.argmax(draw)))
        return [self._point(candidates[place]) for place in chosen]

    def observe(self, points: Sequence[Point], scores: Sequence[float | None]) -> None:
        for point, score in zip(points, scores, strict=True):
            self._points.append(self._position(point))
            self._scores.append(score)

    def best(self) -> Point:
        if not self._points:
            return self._space.base
        model = self._model()
        coefficients = model.coefficients
        switches = self._clear(coefficients)
        composed = np.concatenate([switches, self._knobs_at_best(coefficients.mean, reach=0.0)])
        if model.adds_up:
            return self._point(composed)
        # What was measured may be better than what was put together.
        positions = np.vstack([model.positions, composed])
        mean, covariance = model.at(positions)
        cautious = mean - CAUTION * np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return self._point(positions[int(np.argmax(cautious))])

    # points and positions

    def _position(self, point: Point) -> np.ndarray:
        """1 or 0 for each switch, then each knob's steps from its base."""
        switches = [float(point[name]) for name in self._space.switches]
        return np.array(switches + [knob.position(float(point[knob.name])) for knob in self._space.knobs])

    def _point(self, position: np.ndarray) -> Point:
        point: dict[str, float | bool] = {}
        for name, on in zip(self._space.switches, position, strict=False):
            point[name] = bool(on > 0.5)
        for knob, steps in zip(self._space.knobs, position[self._switches :], strict=True):
            point[knob.name] = knob.value(float(steps))
        return point

    # where a draw is looked up

    def _first(self, count: int) -> list[np.ndarray]:
        """Points around the base before anything was measured: a few knobs by a step, and some of the switches."""
        base = self._position(self._space.base)
        prior = self._prior(EFFECTS[-1])
        found = []
        for _ in range(count):
            position = self._nudged(base)
            effects = _drawn(prior, self._random)[1 : 1 + self._switches]
            position[: self._switches] = self._near(self._clear(prior), effects, FLIPS)
            found.append(position)
        return found

    def _additive_bests(self, model: _Model, count: int) -> list[np.ndarray]:
        """The best points under so many draws of the additive part, their switches near the best ones so far."""
        coefficients = model.coefficients
        present = self._clear(coefficients)
        found = []
        for _ in range(count):
            draw = _drawn(coefficients, self._random)
            switches = self._near(present, draw[1 : 1 + self._switches], FLIPS)
            found.append(np.concatenate([switches, self._knobs_at_best(draw, REACH)]))
        return found

    def _candidates(self, model: _Model) -> np.ndarray:
        """Points near the best measured ones, and where effects add up those of the additive model: [n, m]."""
        incumbents = model.best_measured(INCUMBENTS)
        found = self._additive_bests(model, DRAWN) if model.adds_up else []
        coefficients = model.coefficients
        for _ in range(DRAWN):
            incumbent = incumbents[self._random.integers(len(incumbents))]
            found.append(self._toward(incumbent, _drawn(coefficients, self._random)))
        while len(found) < CANDIDATES:
            incumbent = incumbents[self._random.integers(len(incumbents))]
            found.append(self._nudged(incumbent))
        candidates = np.array(found)
        candidates[:, self._switches :] = np.clip(candidates[:, self._switches :], self._ends[:, 0], self._ends[:, 1])
        return candidates

    def _nudged(self, position: np.ndarray) -> np.ndarray:
        """The position with up to `MOVES` knobs moved, and up to `FEWER_FLIPS` switches flipped, at random."""
        moved = position.copy()
        if self._knobs:
            count = min(int(self._random.integers(1, MOVES + 1)), self._knobs)
            places = self._switches + self._random.choice(self._knobs, count, replace=False)
            signs = self._random.choice([-1, 1], count)
            moved[places] += signs * REACH * self._random.uniform(0.4, 1.0, count)
        if self._switches:
            count = min(int(self._random.integers(0, FEWER_FLIPS + 1)), self._switches)
            places = self._random.choice(self._switches, count, replace=False)
            moved[places] = 1 - moved[places]
            moved[: self._switches] = self._chosen(self._random.random(self._switches), moved[: self._switches] > 0.5)
        return moved

    def _toward(self, position: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """The position with those few of its parts changed that gain most under a draw of the coefficients."""
        moved = position.copy()
        if self._knobs:
            present = position[self._switches :]
            target = np.clip(self._knobs_at_best(draw, REACH), present - REACH, present + REACH)
            slopes, curvatures = self._slopes(draw), self._curvatures(draw)
            gains = slopes * (target - present) + curvatures * (target**2 - present**2)
            most = int(self._random.integers(1, MOVES + 1))
            for place in np.argsort(-gains, kind="stable")[:most]:
                if gains[place] > 0:
                    moved[self._switches + place] = target[place]
        effects = draw[1 : 1 + self._switches]
        moved[: self._switches] = self._near(position[: self._switches] > 0.5, effects, FEWER_FLIPS)
        return moved

    def _clear(self, coefficients: _Normal) -> np.ndarray:
        """The switches that are on at the best point."""
        effects = coefficients.mean[1 : 1 + self._switches]
        errors = np.sqrt(np.diag(coefficients.covariance))[1 : 1 + self._switches]
        return self._chosen(effects, effects > CLEAR * errors)

    def _near(self, present: np.ndarray, effects: np.ndarray, most: int) -> np.ndarray:
        """The best switches under `effects` that differ from those `present` in `most` at most."""
        switches = self._chosen(effects, effects > 0)
        flips = np.flatnonzero(switches != present)
        if len(flips) <= most:
            return switches
        largest = flips[np.argsort(-np.abs(effects[flips]), kind="stable")[:most]]
        near = present.copy()
        near[largest] = switches[largest]
        # One that comes may be a rival of one that stays.
        return self._chosen(effects, near)

    def _chosen(self, effects: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The wanted switches, but of each choice only the wanted one with the largest effect."""
        chosen = wanted.copy()
        for members in self._choices:
            rivals = members[wanted[members]]
            if len(rivals) > 1:
                chosen[rivals] = False
                chosen[rivals[np.argmax(effects[rivals])]] = True
        return chosen

    def _knobs_at_best(self, coefficients: np.ndarray, reach: float) -> np.ndarray:
        """Where the quadratic of each knob is largest, at most `reach` steps beyond what was measured."""
        slopes, curvatures = self._slopes(coefficients), self._curvatures(coefficients)
        measured = np.array([point[self._switches :] for point in self._points] or [np.zeros(self._knobs)])
        positions = np.zeros(self._knobs)
        for number in range(self._knobs):
            low = max(measured[:, number].min() - reach, self._ends[number, 0])
            high = min(measured[:, number].max() + reach, self._ends[number, 1])
            slope, curvature = slopes[number], curvatures[number]
            if curvature < 0:
                positions[number] = np.clip(-slope / (2 * curvature), low, high)
            else:
                at_low, at_high = slope * low + curvature * low**2, slope * high + curvature * high**2
                positions[number] = high if at_high > at_low else low
        return positions

    def _slopes(self, coefficients: np.ndarray) -> np.ndarray:
        return coefficients[1 + self._switches : 1 + self._switches + self._knobs]

    def _curvatures(self, coefficients: np.ndarray) -> np.ndarray:
        return coefficients[1 + self._switches + self._knobs :]

    # the model

    def _model(self) -> _Model:
        """The prior deviations of switches and of what is left that explain the scores best."""
        positions, scores = np.array(self._points), self._measured_scores()
        nearness = _nearness(positions, positions, self._switches)
        best: tuple[float, _Model] | None = None
        for effect in EFFECTS if self._switches else EFFECTS[:1]:
            for misfit in MISFITS:
                model = _Model(positions, scores, nearness, self._switches, self._prior(effect), misfit)
                evidence = model.evidence - DOUBT * (misfit > 0)
                if best is None or evidence > best[0]:
                    best = (evidence, model)
        assert best is not None
        return best[1]

    def _measured_scores(self) -> np.ndarray:
        """In deviations from the first score that is a number; a failed training counts as worse than all."""
        values = [score for score in self._scores if score is not None]
        if not values:
            return np.zeros(len(self._scores))
        worst = min(values) - FAILED * self._deviation
        filled = [worst if score is None else score for score in self._scores]
        return (np.array(filled) - values[0]) / self._deviation

    def _prior(self, effect: float) -> _Normal:
        knobs = self._knobs
        mean = np.concatenate([[0.0], effect * self._guesses, np.zeros(knobs), np.full(knobs, CONCAVE)])
        deviations = [INTERCEPT] + [effect] * self._switches + [SLOPE] * knobs + [CURVATURE] * knobs
        return _Normal(mean, np.diag(np.array(deviations) ** 2))


@dataclass(frozen=True)
class _Normal:
    """A normal distribution over coefficients: `mean` [m], `covariance` [m, m]."""

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class _Model:
    """The scores [n], in deviations of a trial, that were seen at positions [n, m], `switches` of which are switches.

    `nearness` [n, n] is that of the positions to each other, `misfit` the prior deviation of what the additive part
    leaves.
    """

    positions: np.ndarray
    scores: np.ndarray
    nearness: np.ndarray
    switches: int
    prior: _Normal
    misfit: float

    @property
    def adds_up(self) -> bool:
        return self.misfit == 0

    @cached_property
    def evidence(self) -> float:
        """How well the model explains the scores: the logarithm of their density, up to a constant."""
        scaled = np.linalg.solve(self._factor, self._rest)
        return float(-0.5 * scaled @ scaled - np.log(np.diag(self._factor)).sum())

    @cached_property
    def coefficients(self) -> _Normal:
        """Of the additive part, once the scores were seen."""
        rows = self._rows(self.positions)
        noise = self.misfit**2 * self.nearness + np.eye(len(self.scores))
        weighted = np.linalg.solve(noise, rows)
        precision = np.linalg.inv(self.prior.covariance)
        covariance = np.linalg.inv(precision + rows.T @ weighted)
        mean = covariance @ (precision @ self.prior.mean + weighted.T @ self.scores)
        return _Normal(mean, (covariance + covariance.T) / 2)

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The expected scores [k] at other positions [k, m], and their covariance [k, k]."""
        rows = self._rows(positions)
        shared = self._covariance(positions, self.positions)
        own = self._covariance(positions, positions)
        scaled = np.linalg.solve(self._factor, shared.T)
        mean = rows @ self.prior.mean + scaled.T @ np.linalg.solve(self._factor, self._rest)
        return mean, own - scaled.T @ scaled

    def best_measured(self, count: int) -> list[np.ndarray]:
        """The measured positions with the highest expected scores, each once."""
        mean, _ = self.at(self.positions)
        found: list[np.ndarray] = []
        for place in np.argsort(-mean, kind="stable"):
            position = self.positions[place]
            if len(found) < count and not any(np.allclose(position, other) for other in found):
                found.append(position)
        return found

    @cached_property
    def _factor(self) -> np.ndarray:
        """The lower triangle whose square is the covariance of the scores."""
        rows = self._rows(self.positions)
        additive = rows @ self.prior.covariance @ rows.T
        spread = additive + self.misfit**2 * self.nearness + np.eye(len(self.scores))
        factor: np.ndarray = np.linalg.cholesky(spread)
        return factor

    @cached_property
    def _rest(self) -> np.ndarray:
        rest: np.ndarray = self.scores - self._rows(self.positions) @ self.prior.mean
        return rest

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        """One row a position: 1, its switches, its knobs, their squares."""
        ones = np.ones((len(positions), 1))
        return np.hstack([ones, positions, positions[:, self.switches :] ** 2])

    def _covariance(self, positions: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Of the noiseless scores at two sets of positions, before any was seen."""
        additive: np.ndarray = self._rows(positions) @ self.prior.covariance @ self._rows(others).T
        if self.adds_up:
            return additive
        return additive + self.misfit**2 * _nearness(positions, others, self.switches)


def _nearness(positions: np.ndarray, others: np.ndarray, switches: int) -> np.ndarray:
    """From 1 for one point to 0 for points far apart: [n, k] of positions [n, m] and others [k, m]."""
    knobs = _squared_distances(positions[:, switches:], others[:, switches:]) / FADE_KNOBS**2
    # Two switches differ by 0 or 1, which is its own square.
    flipped = _squared_distances(positions[:, :switches], others[:, :switches])
    near: np.ndarray = np.exp(-0.5 * (knobs + FADE_SWITCHES * flipped))
    return near


def _squared_distances(positions: np.ndarray, others: np.ndarray) -> np.ndarray:
    own, of_others = (positions**2).sum(axis=1), (others**2).sum(axis=1)
    distances: np.ndarray = own[:, None] + of_others[None, :] - 2 * positions @ others.T
    distances[distances < 0] = 0.0
    return distances


def _drawn(normal: _Normal, random: np.random.Generator) -> np.ndarray:
    factor = np.linalg.cholesky(normal.covariance + 1e-9 * np.eye(len(normal.mean)))
    draw: np.ndarray = normal.mean + factor @ random.standard_normal(len(normal.mean))
    return draw


def _ends(knob: NumericKnob) -> tuple[float, float]:
    """The knob's bounds in steps from its base."""
    return knob.position(knob.low), knob.position(knob.high)
