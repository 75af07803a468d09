"""When a step has to end: budget.wall_hours, this step's time counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from autolab.loop.clock import LoopClock


@dataclass(frozen=True)
class Deadline:
    """`hours` that the campaign may take (None: no limit), and the seconds that it took before this step."""

    hours: float | None
    seconds_before: float
    clock: LoopClock
    began: float

    @classmethod
    def of_step(cls, hours: float | None, seconds_before: float, clock: LoopClock) -> Self:
        """That of a step that begins now."""
        return cls(hours, seconds_before, clock, clock.monotonic())

    def left_s(self) -> float | None:
        """Seconds until it, none of them below 0; None: there is no limit."""
        if self.hours is None:
            return None
        return max(0.0, self.hours * 3600 - self._spent_s())

    def is_over(self) -> bool:
        return self.left_s() == 0.0

    def phrase(self) -> str:
        """The cap and how much of it is spent, as `lab.budget` says it."""
        return f"wall_hours: {self._spent_s() / 3600:.2f} of {self.hours:g}"

    def _spent_s(self) -> float:
        return self.seconds_before + self.clock.monotonic() - self.began
