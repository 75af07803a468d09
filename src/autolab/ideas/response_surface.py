"""A searcher that learns a model of the score: additive, linear in switches, quadratic in the steps of knobs. Pure.

    score = intercept + the effects of the switches that are on + for each knob  a x + b x^2

with x the knob's distance from its base in steps. The coefficients have a normal prior, so that there may be more of
them than trials; after each batch they have a normal posterior. Every point of a batch is the best one under one draw
from it (Thompson 1933, Biometrika 25): what is promising is tried more often, what is unknown now and then, and each
trial says something about all knobs and switches at once. A knob goes at most `REACH` steps beyond what was measured,
as a quadratic says nothing about what lies far away (Box and Wilson 1951, Journal of the Royal Statistical Society B
13: response surfaces).

It takes effects for additive. Where they are not, more trials are needed (benchmarks/yield.py has such landscapes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autolab.ideas.searchers import NumericKnob, Point, SearchSpace

REACH = 1.0
"""Steps that a knob goes beyond the values that were measured."""
FLIPS = 6
"""Switches in which a point differs from the best one so far, at most. Many changes at once seldom add up."""
SLOPE, CURVATURE = 2.0, 1.0
"""Prior deviations of a knob's slope and curvature, in deviations of a trial."""
CONCAVE = -0.5
"""Prior mean of a knob's curvature: most settings have a best value somewhere."""
EFFECTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Prior deviations of a switch's effect that are weighed by how well they explain the scores, in deviations."""
INTERCEPT = 100.0
"""Prior deviation of the score of the base."""
CLEAR = 0.75
"""A switch is a part of the best point if its effect exceeds so many of its standard errors."""
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
        places = {name: place for place, name in enumerate(space.switches)}
        self._choices = [np.array([places[name] for name in choice], dtype=int) for choice in space.choices]
        self._points: list[np.ndarray] = []
        self._scores: list[float | None] = []

    def propose(self, count: int) -> list[Point]:
        if not self._points:
            # The base first: the model needs to know what stands now.
            others = self._drawn(count - 1) if count > 1 else []
            return [self._space.base, *others]
        return self._drawn(count)

    def observe(self, points: Sequence[Point], scores: Sequence[float | None]) -> None:
        for point, score in zip(points, scores, strict=True):
            self._points.append(self._position(point))
            self._scores.append(score)

    def best(self) -> Point:
        if not self._points:
            return self._space.base
        posterior = self._posterior()
        return self._point(self._clear(posterior), self._knobs_at_best(posterior.mean, reach=0.0))

    def predict(self, points: Sequence[Point]) -> list[float]:
        """The expected gains of points over the base, in the metric's units."""
        coefficients = self._posterior().mean
        of_base = self._row(self._position(self._space.base))
        gains = []
        for point in points:
            difference = self._row(self._position(point)) - of_base
            gains.append(float(difference @ coefficients) * self._deviation)
        return gains

    # points and positions

    def _position(self, point: Point) -> np.ndarray:
        """1 or 0 for each switch, then each knob's steps from its base."""
        switches = [float(point[name]) for name in self._space.switches]
        return np.array(switches + [knob.position(float(point[knob.name])) for knob in self._space.knobs])

    def _point(self, switches: np.ndarray, positions: np.ndarray) -> Point:
        point: dict[str, float | bool] = {}
        for name, on in zip(self._space.switches, switches, strict=True):
            point[name] = bool(on)
        for knob, position in zip(self._space.knobs, positions, strict=True):
            point[knob.name] = knob.value(float(position))
        return point

    # the model

    def _drawn(self, count: int) -> list[Point]:
        """The best point under each of so many draws from the posterior."""
        posterior = self._posterior()
        factor = np.linalg.cholesky(posterior.covariance + 1e-9 * np.eye(len(posterior.mean)))
        present = self._clear(posterior)
        points = []
        for _ in range(count):
            draw = posterior.mean + factor @ self._random.standard_normal(len(posterior.mean))
            effects = draw[1 : 1 + len(self._space.switches)]
            switches = self._near(present, effects)
            points.append(self._point(switches, self._knobs_at_best(draw, REACH)))
        return points

    def _clear(self, posterior: _Normal) -> np.ndarray:
        """The switches that are on at the best point."""
        effects = posterior.mean[1 : 1 + len(self._space.switches)]
        errors = np.sqrt(np.diag(posterior.covariance))[1 : 1 + len(self._space.switches)]
        return self._chosen(effects, effects > CLEAR * errors)

    def _near(self, present: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """The best switches under `effects` that differ from those `present` in `FLIPS` at most."""
        switches = self._chosen(effects, effects > 0)
        flips = np.flatnonzero(switches != present)
        if len(flips) <= FLIPS:
            return switches
        largest = flips[np.argsort(-np.abs(effects[flips]), kind="stable")[:FLIPS]]
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
        first = 1 + len(self._space.switches)
        count = len(self._space.knobs)
        slopes = coefficients[first : first + count]
        curvatures = coefficients[first + count :]
        measured = np.array([point[len(self._space.switches) :] for point in self._points] or [np.zeros(count)])
        positions = np.zeros(count)
        for number, knob in enumerate(self._space.knobs):
            low = max(measured[:, number].min() - reach, _ends(knob)[0])
            high = min(measured[:, number].max() + reach, _ends(knob)[1])
            slope, curvature = slopes[number], curvatures[number]
            if curvature < 0:
                positions[number] = np.clip(-slope / (2 * curvature), low, high)
            else:
                at_low, at_high = slope * low + curvature * low**2, slope * high + curvature * high**2
                positions[number] = high if at_high > at_low else low
        return positions

    def _posterior(self) -> _Normal:
        """Of the coefficients, under the prior deviation of switches that explains the scores best."""
        rows = self._rows()
        scores = self._measured_scores()
        fits = []
        for effect in EFFECTS if self._space.switches else EFFECTS[:1]:
            prior = self._prior(effect)
            fits.append((_evidence(rows, scores, prior), effect))
        return _conditioned(rows, scores, self._prior(max(fits)[1]))

    def _rows(self) -> np.ndarray:
        """One row a trial: 1, its switches, its knobs, their squares."""
        columns = 1 + len(self._space.switches) + 2 * len(self._space.knobs)
        return np.array([self._row(point) for point in self._points]).reshape(len(self._points), columns)

    def _row(self, position: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], position, position[len(self._space.switches) :] ** 2])

    def _measured_scores(self) -> np.ndarray:
        """In deviations from the first score that is a number; a failed training counts as worse than all."""
        values = [score for score in self._scores if score is not None]
        if not values:
            return np.zeros(len(self._scores))
        worst = min(values) - FAILED * self._deviation
        filled = [worst if score is None else score for score in self._scores]
        return (np.array(filled) - values[0]) / self._deviation

    def _prior(self, effect: float) -> _Normal:
        switches, knobs = len(self._space.switches), len(self._space.knobs)
        mean = np.concatenate([[0.0], effect * self._guesses, np.zeros(knobs), np.full(knobs, CONCAVE)])
        deviations = [INTERCEPT] + [effect] * switches + [SLOPE] * knobs + [CURVATURE] * knobs
        return _Normal(mean, np.diag(np.array(deviations) ** 2))


@dataclass(frozen=True)
class _Normal:
    """A normal distribution over coefficients: `mean` [m], `covariance` [m, m]."""

    mean: np.ndarray
    covariance: np.ndarray


def _conditioned(rows: np.ndarray, scores: np.ndarray, prior: _Normal) -> _Normal:
    """The distribution once `scores` [n] were seen at `rows` [n, m], each with a deviation of 1."""
    precision = np.linalg.inv(prior.covariance)
    covariance = np.linalg.inv(precision + rows.T @ rows)
    return _Normal(covariance @ (precision @ prior.mean + rows.T @ scores), covariance)


def _evidence(rows: np.ndarray, scores: np.ndarray, prior: _Normal) -> float:
    """How well the prior explains the scores: the logarithm of their density, up to a constant."""
    spread = rows @ prior.covariance @ rows.T + np.eye(len(rows))
    rest = scores - rows @ prior.mean
    return float(-0.5 * (np.linalg.slogdet(spread)[1] + rest @ np.linalg.solve(spread, rest)))


def _ends(knob: NumericKnob) -> tuple[float, float]:
    """The knob's bounds in steps from its base."""
    return knob.position(knob.low), knob.position(knob.high)
