"""Numeric settings that may take any value within bounds, not the catalogue's doses alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import JsonValue

from autolab.ideas.searchers import NumericKnob

FAR = 32.0
"""The factor by which a setting may differ from its value on the base: five doublings or halvings."""
FAR_COUNT = 4
"""The same for counts (layers, units, a batch), which cost time and memory."""


@dataclass(frozen=True)
class SettingScale:
    """A numeric setting as a knob. `change` names the change that gives it a value.

    In the code stands `origin + sign * knob`. Most settings are their knob, (0, 1). A momentum is told from 1, (1, -1),
    because 0.98 and 0.99 differ as much as 0.8 and 0.9. A negative constant is its knob with the sign changed, (0, -1).
    """

    change: str
    knob: NumericKnob
    origin: float = 0.0
    sign: float = 1.0

    def value(self, knob_value: float) -> int | float | None:
        """What stands in the code, in as many digits as matter; None if that is what the base has."""
        digits = 3 if self.knob.integer else 2
        short = f"{knob_value:.{digits}g}"
        if short == f"{self.knob.base:.{digits}g}":
            return None
        number = self.origin + self.sign * float(short)
        # 1 - 0.02 is 0.98 only after rounding; a source shows four digits.
        return round(number) if self.knob.integer else float(f"{number:.4g}")

    def knob_value(self, value: float) -> float | None:
        """The knob's value for a number in the code; None if the knob has no place for it."""
        found = self.sign * (value - self.origin)
        is_zero = math.isclose(found, 0.0, abs_tol=1e-12)
        if self.knob.log and (found < 0 or is_zero):
            return None
        return found


def setting_of(change: str) -> str:
    """What a change is about: `lr` of `lr up`, `lr down`, `lr to` and `lr`."""
    return change.rpartition(" ")[0] or change


def number_of(value: JsonValue) -> float | None:
    """The value as a number; None for texts, truth values and nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def factor_knob(name: str, base: float, most: float | None = None) -> NumericKnob:
    """A positive setting whose steps are factors of two. `most`: its largest value, where the base is below it."""
    high = base * FAR
    if most is not None and base <= most:
        high = min(high, most)
    return NumericKnob(name, base, base / FAR, high)


def count_knob(name: str, base: int) -> NumericKnob:
    """A whole number of at least 1."""
    return NumericKnob(name, base, max(1, math.ceil(base / FAR_COUNT)), base * FAR_COUNT, integer=True)
