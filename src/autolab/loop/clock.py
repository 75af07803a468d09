"""The clock by which the loop waits and counts its hours. A test may hand the engine one of its own."""

from __future__ import annotations

import time
from datetime import datetime


class LoopClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time of day here, for users and the record."""
        return datetime.now().astimezone()

    def monotonic(self) -> float:
        """Seconds that never go back, for lengths of time."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
