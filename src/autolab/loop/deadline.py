"""When a step has to end: budget.wall_hours, this step's time counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """`hours` that the campaign may take (None: no limit), and the seconds that it took before this step."""

    hours: float | None
    seconds_before: float
    began: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        if self.hours is None:
            return False
        return self.seconds_before + time.monotonic() - self.began >= self.hours * 3600
