"""What a bench can change as a space of points, and the two ways between a point and the changes that make it.

A numeric setting is a knob (`Bench.scales`); everything else that the catalogue or the source lists is a switch, and
doses of one setting exclude each other. What no part of the space makes possible on this base is left out. A point may
hold parts that do not fit together; its changes are then those that do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cached_property

from pydantic import JsonValue

from autolab.ideas.searchers import Point, SearchSpace
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench
from autolab.researchers.offline.scales import SettingScale, setting_of

Changes = dict[str, JsonValue]


CARE = 1.0
"""A change is guessed to harm by as much as effects usually are large, less what the catalogue expects of it: somebody
has chosen the base, and most changes of it make it worse."""
MOST_COST = 3.0
"""A point is guessed to train for so many times as long as the base at most. Many parts at once cost the product of
what each costs, and a claim trains the point several times."""


class SearchPoints:
    """The points of a bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._scales: dict[str, SettingScale] = {}
        for scale in bench.scales:
            if self._moves(scale):
                self._scales[scale.knob.name] = scale
        self._switches = _switches(bench, self._scales.keys() | _fixed(bench))

    @cached_property
    def space(self) -> SearchSpace:
        doses: dict[str, list[str]] = {}
        for name, (change, _) in self._switches.items():
            doses.setdefault(setting_of(change), []).append(name)
        choices = tuple(tuple(names) for names in doses.values() if len(names) > 1)
        knobs = tuple(scale.knob for scale in self._scales.values())
        return SearchSpace(knobs=knobs, switches=tuple(self._switches), choices=choices)

    @cached_property
    def guesses(self) -> dict[str, float]:
        """The guessed effect of each switch, in deviations of such effects."""
        guesses = {}
        for name, (change, value) in self._switches.items():
            mechanism = self._bench.part(change, value)
            if mechanism is not None:
                guesses[name] = mechanism.expected - CARE
        return guesses

    def changes(self, point: Point) -> Changes:
        """The changes that make the point, without those that do not fit together with the others; may be empty.

        Nor with the most costly ones, until the others are guessed to cost `MOST_COST` at most.
        """
        wanted: Changes = {}
        for name, (change, value) in self._switches.items():
            if point[name]:
                wanted[change] = value
        for name, scale in self._scales.items():
            number = scale.value(float(point[name]))
            if number is not None:
                wanted[scale.change] = number
        return self._affordable(self._fitting(wanted))

    def point(self, changes: Mapping[str, JsonValue]) -> Point | None:
        """The point that some changes of this base made; None if it is none of this space."""
        point = self.space.base
        for change, value in changes.items():
            name = _switch(change, value)
            scale = self._scales.get(setting_of(change))
            if name in self._switches:
                point[name] = True
                continue
            number = self._bench.number(change, value) if scale else None
            position = scale.knob_value(number) if scale and number is not None else None
            if position is None:
                return None
            point[setting_of(change)] = position
        return point

    def idea(self, changes: Mapping[str, JsonValue]) -> Idea | None:
        """The changes with what is known about each; None if one of them is not the bench's."""
        parts = []
        for change, value in changes.items():
            mechanism = self._bench.part(change, value)
            if mechanism is None:
                return None
            parts.append((mechanism, value))
        return Idea(tuple(parts)) if parts else None

    def _moves(self, scale: SettingScale) -> bool:
        """Whether a step of the scale in one of its directions can be made here."""
        for step in (1.0, -1.0):
            number = scale.value(scale.knob.value(step))
            if number is not None and self._bench.fits({scale.change: number}):
                return True
        return False

    def _affordable(self, wanted: Changes) -> Changes:
        """The changes without the most costly ones; of equal costs the first goes. One alone always stays."""
        kept = wanted
        while len(kept) > 1:
            costs = {change: self._cost(change, value) for change, value in kept.items()}
            if math.prod(costs.values()) <= MOST_COST:
                break
            costliest = max(costs, key=costs.__getitem__)
            # What needed the part that went, such as a norm its convolution, goes with it.
            kept = self._fitting({change: value for change, value in kept.items() if change != costliest})
        return kept

    def _cost(self, change: str, value: JsonValue) -> float:
        mechanism = self._bench.part(change, value)
        return 1.0 if mechanism is None else mechanism.cost

    def _fitting(self, wanted: Changes) -> Changes:
        """All that is wanted, if it fits; else one part after the other, as long as they fit together."""
        if not wanted or self._bench.fits(wanted):
            return wanted
        fitting: Changes = {}
        # Twice: a part may need another one that comes after it.
        for change, value in [*wanted.items(), *wanted.items()]:
            if change not in fitting and self._bench.fits(fitting | {change: value}):
                fitting[change] = value
        return fitting


def _fixed(bench: Bench) -> set[str]:
    """The settings of the bench's scales: none of their doses is a switch as well."""
    return {scale.knob.name for scale in bench.scales}


def _switches(bench: Bench, scaled: Iterable[str]) -> dict[str, tuple[str, JsonValue]]:
    """Name, change and dose of each switch that fits the base, by itself or together with one other."""
    numeric = set(scaled)
    alone: Changes = {}
    found: dict[str, tuple[str, JsonValue]] = {}
    waiting: dict[str, tuple[str, JsonValue]] = {}
    order: list[str] = []
    for mechanism in bench.mechanisms:
        if setting_of(mechanism.change) in numeric:
            continue
        for value in mechanism.values:
            name = _switch(mechanism.change, value)
            order.append(name)
            if bench.fits({mechanism.change: value}):
                found[name] = (mechanism.change, value)
                alone.setdefault(mechanism.change, value)
            else:
                waiting[name] = (mechanism.change, value)
    for name, (change, value) in waiting.items():
        # A norm fits once a convolution is there.
        for other, dose in alone.items():
            if other != change and bench.fits({other: dose, change: value}):
                found[name] = (change, value)
                break
    return {name: found[name] for name in order if name in found}


def _switch(change: str, value: JsonValue) -> str:
    return f"{change}: {json.dumps(value, ensure_ascii=False)}"
