"""Follows what a program prints while it runs: when each number of the metric came, and whether that is enough."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from autolab.lab.schemas.config import Config
from autolab.trials import metrics, readings
from autolab.trials.metrics import PATTERN_CHARACTERS, Primary

Times = Mapping[tuple[str, str], list[float]]
"""The seconds after its start at which a program printed the numbers of a series, by place (`stdout`) and name."""
NAMES = 200
"""Series that are followed at most."""
VALUES = 1000
"""Numbers of a series whose times are kept at most; the first ones."""
LINES_BYTES = 2**18
"""Bytes that are read at a time."""
FOLLOWED_BYTES = 2**21
"""Bytes of each stream that are followed; a program that prints more has printed enough early."""


class OutputWatch:
    """Reads the logs of a program that runs. `due` says from the times so far when the program is to be ended, in
    seconds after its start; None: not yet."""

    def __init__(self, primary: Primary, due: Callable[[Times], float | None]) -> None:
        self.times: dict[tuple[str, str], list[float]] = {}
        self._primary, self.due = primary, due
        self._offsets: dict[Path, int] = {}
        self._started = 0.0
        self._timer: threading.Timer | None = None

    @classmethod
    def of(cls, config: Config, due: Callable[[Times], float | None]) -> OutputWatch:
        return cls(Primary.of(config), due)

    def begin(self, logs: Path) -> None:
        """The program starts now, and its logs will lie in `logs`."""
        self._started = time.monotonic()
        self._logs = logs

    def look(self, cancel: Callable[[], None]) -> None:
        """Read what was printed since the last look, and end the program with `cancel` when that is due."""
        seconds = time.monotonic() - self._started
        for source, name in metrics.PRINTED.items():
            for found, _ in numbers(self._new_lines(self._logs / name), source, self._primary):
                series = self.times.get((source, found))
                if series is None and len(self.times) < NAMES:
                    series = self.times.setdefault((source, found), [])
                if series is not None and len(series) < VALUES:
                    series.append(seconds)
        due = self.due(self.times)
        if due is None:
            return
        # The newest word counts.
        self.end()
        self._timer = threading.Timer(max(0.0, due - seconds), cancel)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Nothing is ended from now on."""
        if self._timer is not None:
            self._timer.cancel()

    def _new_lines(self, path: Path) -> bytes:
        offset = self._offsets.get(path, 0)
        if offset >= FOLLOWED_BYTES or not path.exists():
            return b""
        with path.open("rb") as file:
            file.seek(offset)
            whole = file.read(LINES_BYTES)
        # What follows the last line end is read with the rest of its line, unless that never comes.
        if b"\n" in whole or len(whole) < LINES_BYTES:
            whole = whole[: whole.rfind(b"\n") + 1]
        self._offsets[path] = offset + len(whole)
        return whole


def numbers(content: bytes, source: str, primary: Primary) -> Iterator[tuple[str, str]]:
    """Each number of a text, by its name, as it was printed. With a pattern, what the pattern finds is the metric."""
    if primary.pattern is not None:
        pattern = re.compile(primary.pattern)
        for raw in content.split(b"\n"):
            for match in pattern.finditer(readings.shown_line(raw)[:PATTERN_CHARACTERS]):
                if match[1] is not None:
                    yield primary.name, match[1].strip()
        return
    for reading in readings.readings(content, source):
        if reading.meant_as_number:
            yield reading.name, reading.bare
