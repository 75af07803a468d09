"""Optuna's tree-structured Parzen estimator as a searcher (extra `search`).

It compares where good and bad scores lie in each knob and switch by itself (Bergstra, Bardenet, Bengio, Kégl 2011,
Algorithms for Hyper-Parameter Optimization, NeurIPS). The first `STARTUP` points are random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import util
from typing import TYPE_CHECKING, Any

from autolab.errors import ResearcherError
from autolab.ideas.searchers import NumericKnob, Point, SearchSpace
from autolab.lab.extras import install_command

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

STARTUP = 10
"""Scores that are known before it prefers anything; Optuna's default."""
_NONE = ""
"""What a choice is called of which no switch is on."""


def installed() -> bool:
    return util.find_spec("optuna") is not None


class TpeSearcher:
    """`seed` makes its draws repeatable. ResearcherError: Optuna is missing."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        if not installed():
            raise ResearcherError(f"screen.searcher: tpe needs the extra `search`: {install_command('search')}")
        self._space, self._seed = space, seed
        self._distributions = _distributions(space)
        self._points: list[Point] = []
        self._scores: list[float | None] = []

    def propose(self, count: int) -> list[Point]:
        # The base first, as every searcher here does: what stands now is to be known.
        points: list[Point] = [] if self._points else [self._space.base]
        study = self._study()
        while len(points) < count:
            trial = study.ask(fixed_distributions=self._distributions)
            points.append(self._point(trial.params))
        return points[:count]

    def observe(self, points: Sequence[Point], scores: Sequence[float | None]) -> None:
        for point, score in zip(points, scores, strict=True):
            self._points.append(point)
            self._scores.append(score)

    def best(self) -> Point:
        best, highest = self._space.base, -math.inf
        for point, score in zip(self._points, self._scores, strict=True):
            if score is not None and score > highest:
                best, highest = dict(point), score
        return best

    def _study(self) -> Study:
        """A study of all that was observed.

        It is made for each proposal, so that a searcher that was made anew goes on as the one before it.
        """
        # Only here: it takes a second to load, and labs with another searcher do without it.
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # What is proposed together must differ, so points that are not yet measured count as bad ones.
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP, constant_liar=True, seed=self._seed + len(self._points)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for point, value in zip(self._points, self._values(), strict=True):
            params = self._params(point)
            # Scores of points outside of the bounds have no place in a study.
            if all(self._contains(name, param) for name, param in params.items()):
                study.add_trial(
                    optuna.trial.create_trial(params=params, distributions=self._distributions, value=value)
                )
        return study

    def _contains(self, name: str, param: Any) -> bool:
        distribution = self._distributions[name]
        return bool(distribution._contains(distribution.to_internal_repr(param)))

    def _values(self) -> list[float]:
        """The scores; a training that failed counts as worse than all. Only their order matters."""
        measured = [score for score in self._scores if score is not None]
        worst = min(measured, default=0.0) - 1
        return [worst if score is None else score for score in self._scores]

    def _params(self, point: Point) -> dict[str, Any]:
        """The point as Optuna knows it: a choice is one parameter, whose value is the switch that is on."""
        params: dict[str, Any] = {}
        chosen: set[str] = set()
        for choice in self._space.choices:
            chosen.update(choice)
            on = [name for name in choice if point[name]]
            params[_name(choice)] = on[0] if on else _NONE
        for knob in self._space.knobs:
            params[knob.name] = int(point[knob.name]) if knob.integer else point[knob.name]
        for name in self._space.switches:
            if name not in chosen:
                params[name] = bool(point[name])
        return params

    def _point(self, params: Mapping[str, Any]) -> Point:
        point = self._space.base
        for choice in self._space.choices:
            name = params[_name(choice)]
            if name != _NONE:
                point[name] = True
        for name in point:
            if name in params:
                value = params[name]
                point[name] = value if isinstance(value, bool) else float(value)
        return point


def _name(choice: Sequence[str]) -> str:
    """The parameter of a choice. No switch and no knob has such a name: theirs are one line."""
    return "\n".join(choice)


def _distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution

    distributions: dict[str, BaseDistribution] = {}
    chosen: set[str] = set()
    for choice in space.choices:
        chosen.update(choice)
        distributions[_name(choice)] = CategoricalDistribution((_NONE, *choice))
    for knob in space.knobs:
        distributions[knob.name] = _range(knob)
    for name in space.switches:
        if name not in chosen:
            distributions[name] = CategoricalDistribution((False, True))
    return distributions


def _range(knob: NumericKnob) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if knob.integer:
        return IntDistribution(math.ceil(knob.low), math.floor(knob.high), log=knob.log)
    return FloatDistribution(knob.low, knob.high, log=knob.log)
