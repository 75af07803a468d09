"""What a training says of itself: one JSON object, or lines `name: value` in a file or on its standard output.

Read with suspicion and without repair. A number that decides must be finite and written with a point; what a
program prints besides is its own affair. A mistake comes back as a `Problem` whose one line names file, line and the
way out.

Limits: 64 KiB and 200 keys of JSON (`evaluator.read_metrics`); 64 MiB of text, of which the 200 names printed last are
read. Of a line that a program wrote over (carriage returns) only what a terminal would show at its end is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.stats.finite import is_finite
from autolab.text import decode, short_names
from autolab.trials.evaluator import METRICS_KEYS, Problem, read_metrics

STDOUT = "stdout"
TEXT_BYTES = 64 * 1024**2
NOTED = 3
"""Names that a note names; it counts the others."""
_LINE = re.compile(r"\s*([A-Za-z_][^\s:]{0,99})\s*:\s*(\S.*?)\s*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.A)
_COMMA = re.compile(r"[-+]?\d+,\d+", re.A)
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.I)


class _Printed(NamedTuple):
    """The text that a program printed after a name, and the number of its line."""

    line: int
    text: str

    @property
    def number(self) -> float | None:
        """The finite number that the text is, else None."""
        number = float(self.text) if _NUMBER.fullmatch(self.text) else math.nan
        return number if is_finite(number) else None

    @property
    def not_finite(self) -> bool:
        """Whether the text is a number that is not finite."""
        is_number = _NUMBER.fullmatch(self.text) or _NOT_FINITE.fullmatch(self.text)
        return is_number is not None and self.number is None

    @property
    def complaint(self) -> str:
        """Why the text is no finite number, and how to write one."""
        if _COMMA.fullmatch(self.text):
            with_point = self.text.replace(",", ".")
            return f"{self.text} has a comma; write {with_point} with a point (and nothing between thousands)"
        if self.not_finite:
            number = self.text[:60]
            return f"{number} is not a finite number; a training without a result has to end with a status above 0"
        return f"{self.text[:60]!r} is not a number; write the number alone, such as 0.9979"


def read(
    attempt: Path, source: str, required: Collection[str], compared: str | None = None
) -> dict[str, float] | Problem:
    """The metrics of a fetched attempt, from where `train.metrics` says; each name of `required` must be among them.

    If the metric that is `compared` is not finite, the training diverged: the metric is returned as NaN, and other
    numbers that are not finite are left out.
    """
    path, label = _place(attempt, source)
    is_json = source.endswith(".json")
    metrics = read_metrics(path, compared) if is_json else _read_lines(path, label, required, compared)
    if isinstance(metrics, Problem):
        # The reader knows the file alone, and not the setting that names it.
        if metrics.message.endswith(": not found"):
            way_out = "the training has to leave it in AUTOLAB_TRIAL_DIR, or train.metrics to name another place"
            return Problem(metrics.outcome, f"{label}: not found; {way_out}")
        return metrics
    # A training that diverged need not have printed the other metrics.
    if compared is not None and math.isnan(metrics.get(compared, 0.0)):
        return metrics
    for name in required:
        if name not in metrics:
            form = f"a line `{name}: 0.9979`"
            if is_json:
                form = f'{{"{name}": 0.9979}}'
            message = f"{label}: {name} is not in it; it has to be, in the form {form}"
            return Problem(TrialOutcome.INVALID_ARTIFACT, message)
    return metrics


def malformed(attempt: Path, source: str) -> str:
    """The printed lines whose value was meant as a number and is none, in one line of at most NOTED names; else empty.

    A comma, `nan` or `inf` shows what was meant: other texts after a name are a program's own affair. A `.json` file is
    read whole or not at all, so it has nothing of the kind. Names beyond those that are kept are counted too."""
    if source.endswith(".json"):
        return ""
    path, label = _place(attempt, source)
    try:
        with open_regular(path, TEXT_BYTES) as file:
            count, printed = _newest_values(file, ())
    except InvalidFile:
        return ""  # `read` reports it
    complaints = []
    for name, value in printed.items():
        if value.not_finite or _COMMA.fullmatch(value.text):
            complaints.append(f"line {value.line}: {name[:60]}: {value.complaint}")
    notes = complaints[:NOTED]
    if len(complaints) > NOTED:
        notes.append(f"{len(complaints) - NOTED} more like these")
    if count > METRICS_KEYS:
        notes.append(f"{count} names, of which the last {METRICS_KEYS} are kept")
    return f"{label}: {'; '.join(notes)}" if notes else ""


def _place(attempt: Path, source: str) -> tuple[Path, str]:
    """Where the metrics lie in a fetched attempt, and how messages name that place."""
    if source == STDOUT:
        return attempt / "logs" / "train.out", "logs/train.out"
    return attempt / "train" / source, source


def _newest_values(file: BufferedReader, required: Collection[str]) -> tuple[int, dict[str, _Printed]]:
    """How many names were printed, and the last value of each: of all in `required`, of others the newest METRICS_KEYS.

    The count stops at 10 times METRICS_KEYS.
    """
    names: set[str] = set()
    newest: dict[str, _Printed] = {}
    for name, printed in _lines(file):
        # A program may print a new name on each line; memory must not grow with it.
        if len(names) <= 10 * METRICS_KEYS:
            names.add(name)
        # Taken out first, so that a name which is printed again is the newest in the dict's order.
        newest.pop(name, None)
        newest[name] = printed
        if len(newest) > METRICS_KEYS + len(required):
            newest.pop(next(name for name in newest if name not in required))
    return len(names), newest


def _lines(file: BufferedReader) -> Iterator[tuple[str, _Printed]]:
    """Each line that gives a name a value."""
    for number, raw in enumerate(file, 1):
        # A progress bar writes over its line: only what stands there last was meant to stay.
        last_version = decode(raw.rstrip(b"\r\n").rpartition(b"\r")[2])
        match = _LINE.fullmatch(last_version)
        if match:
            yield match[1], _Printed(number, match[2])


def _read_lines(path: Path, label: str, required: Collection[str], compared: str | None) -> dict[str, float] | Problem:
    try:
        with open_regular(path, TEXT_BYTES) as file:
            printed = _newest_values(file, required)[1]
        if compared in printed and printed[compared].not_finite:
            return _numbers(printed, ()) | {compared: math.nan}
        return _numbers(printed, required)
    except InvalidFile as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, f"{label}: {error}")


def _numbers(printed: Mapping[str, _Printed], required: Collection[str]) -> dict[str, float]:
    """The finite numbers among the values. InvalidFile: a required one is anything else."""
    numbers: dict[str, float] = {}
    for name, value in printed.items():
        number = value.number
        if number is not None:
            numbers[name] = number
        elif name in required:
            raise InvalidFile(f"line {value.line}: {name}: {value.complaint}")
    return short_names(numbers)
