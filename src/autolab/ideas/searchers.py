"""What a search chooses from, and who chooses: numeric knobs, ideas that are switched on or off, the searcher. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Point = Mapping[str, float | bool]
"""A value for each knob, and for each switch whether it is on."""


@dataclass(frozen=True)
class NumericKnob:
    """A numeric setting with its value on the base, and the least and the largest value that may be tried.

    `log`: a step is a factor of two; else it is `step` in the setting's own units. `integer`: values are rounded.
    ValueError: the base lies outside of the bounds, or the knob has no step.
    """

    name: str
    base: float
    low: float
    high: float
    log: bool = True
    step: float = 1.0
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.base <= self.high:
            raise ValueError(f"{self.name}: {self.base:g} is not between {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: {self.low:g} has no logarithm")
        if not self.log and self.step <= 0:
            raise ValueError(f"{self.name}: {self.step:g} is no step")

    def position(self, value: float) -> float:
        """The value in steps from the base."""
        return math.log2(value / self.base) if self.log else (value - self.base) / self.step

    def value(self, position: float) -> float:
        """The value that lies so many steps from the base, within the bounds."""
        value = self.base * 2**position if self.log else self.base + position * self.step
        value = min(max(value, self.low), self.high)
        return min(max(float(round(value)), self.low), self.high) if self.integer else value


@dataclass(frozen=True)
class SearchSpace:
    """The knobs and the switches of a search. Of the switches of each of `choices` at most one is on.

    ValueError: two parts have one name, or a choice names what is no switch or is a part of another choice.
    """

    knobs: tuple[NumericKnob, ...] = ()
    switches: tuple[str, ...] = ()
    choices: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        names = [*(knob.name for knob in self.knobs), *self.switches]
        if len(set(names)) < len(names):
            raise ValueError(f"two parts of a search have one name: {', '.join(names)}")
        chosen = [name for choice in self.choices for name in choice]
        for name in chosen:
            if name not in self.switches:
                raise ValueError(f"{name}: a choice between what are no switches")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"a switch belongs to two choices: {', '.join(chosen)}")

    @property
    def base(self) -> dict[str, float | bool]:
        """The point of the base: every knob at its value, no switch on."""
        return {knob.name: knob.base for knob in self.knobs} | dict.fromkeys(self.switches, False)


class Searcher(Protocol):
    """Proposes points of a space, batch by batch, from the scores of those before.

    With the same space, seed and observations it proposes the same: after a crash it is made anew from the record.
    """

    def propose(self, count: int) -> list[Point]:
        """The points of the next batch. All that were proposed before have been observed."""

    def observe(self, points: Sequence[Point], scores: Sequence[float | None]) -> None:
        """The scores of points, larger is better, in the metric's units; None: the training failed."""

    def best(self) -> Point:
        """The point to claim; the base if nothing promises a gain."""
