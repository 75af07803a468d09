"""The curves of each arm, from what trainings report of themselves while they run.

`history.jsonl` is written by untrusted code. A link, a pipe, a huge file, a number that is not finite or a line that is
not JSON costs that trial its place in the curves and one line of notes, nothing else. Curves are self-reported, so they
explain a result and never decide one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.schemas.experiment import Interval, Trial
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.stats import rules
from autolab.stats.finite import is_finite
from autolab.text import decode_json, short_names

HISTORY_BYTES = 8 * 1024**2
POINTS = 400
"""Points of a trial that are kept: of a longer history every k-th and the last, so that equal lengths stay aligned."""
METRICS = 12
NAMES = 60
"""Characters of a metric's name: it stands in tables and figures."""
NOTED = 3
"""Names with values that are not numbers that get a note each; the others are counted."""
_AXES = ("epoch", "step")
_TAIL = 0.025

Row = dict[str, float]
Histories = Mapping[str, Sequence[Sequence[Row]]]
"""Arm -> the rows of each of its trials."""


@dataclass(frozen=True)
class Point:
    """All seeds of an arm at one place: mean with 95% interval (no ends for a single seed), smallest and largest."""

    at: float
    mean: Interval
    least: float
    most: float


@dataclass(frozen=True)
class Curve:
    """One metric of one arm over `axis`: epoch, step, or line of the file."""

    arm: str
    metric: str
    axis: str
    points: tuple[Point, ...]


def gather(experiments: Path, run: str, trials: Sequence[Trial]) -> tuple[list[Curve], list[str]]:
    """The curves of `run` (`<ITERATION_ID>/<RUN_ID>` in `experiments`), and a line for each reason a trial is left out.

    A reused trial's history lies in the run that measured it. The axis is the same for all: epoch if every trial gives
    it in rising order, else step, else the line. Metrics are the first METRICS names in the alphabet, per arm in trial
    order.
    """
    histories: dict[str, list[list[Row]]] = {}
    refusals: dict[str, list[str]] = {}
    not_numbers: dict[str, list[str]] = {}
    for trial in trials:
        try:
            history = _read(_path(experiments, run, trial))
        except InvalidFile as error:
            refusals.setdefault(str(error), []).append(trial.trial)
            continue
        histories.setdefault(trial.arm, []).append(history.rows)
        for name in history.not_numbers:
            not_numbers.setdefault(name, []).append(trial.trial)
    axis = _common_axis(histories)
    metrics = _metric_names(histories)
    curves = []
    for arm, of_arm in histories.items():
        for name in metrics[:METRICS]:
            points = _points(of_arm, axis, name)
            if points:
                curves.append(Curve(arm, name, axis, tuple(points)))
    notes = [f"{reason}; the curves are without {_some(names)}" for reason, names in refusals.items()]
    notes += _notes_on_values(not_numbers)
    if len(metrics) > METRICS:
        notes.append(f"{len(metrics)} metrics; the curves show the first {METRICS} in the alphabet")
    return curves, [f"history.jsonl: {note}" for note in notes]


def _notes_on_values(not_numbers: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each of the first names of which some values are not numbers; `not_numbers`: name -> trials."""
    notes = []
    for name, trials in sorted(not_numbers.items())[:NOTED]:
        notes.append(f"{name!a}: not a number in some lines of {_some(trials)}; its curve is without them")
    if len(not_numbers) > NOTED:
        notes.append(f"{len(not_numbers) - NOTED} more names are not numbers in some lines")
    return notes


def _path(experiments: Path, run: str, trial: Trial) -> Path:
    parts = (trial.reused_from or f"{run}/{trial.trial}").split("/")
    # A manifest can be edited by hand, and must not lead out of the lab.
    if len(parts) != 3 or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidFile("where it was measured first is not known")
    iteration, run_id, name = parts
    folder = IterationPaths(experiments / iteration).run(run_id).trial(name, trial.attempt)
    return folder / "train" / "history.jsonl"


def _common_axis(histories: Histories) -> str:
    for axis in _AXES:
        if all(_rises(rows, axis) for of_arm in histories.values() for rows in of_arm):
            return axis
    return "line"


def _metric_names(histories: Histories) -> list[str]:
    """The names in all histories but those of places and times, sorted."""
    names: set[str] = set()
    for of_arm in histories.values():
        for rows in of_arm:
            for row in rows:
                names.update(row)
    return sorted(names - {*_AXES, "line", "seconds"})


@dataclass(frozen=True)
class _History:
    """The numbers of each line that is kept, where `line` counts from 1, and the names whose values were dropped."""

    rows: list[Row]
    not_numbers: list[str]


def _read(path: Path) -> _History:
    """A trial's history. InvalidFile: it is not one.

    A text that is never a number, such as `"phase": "train"`, is no mistake; nor is a null.
    """
    with open_regular(path, HISTORY_BYTES) as file:
        lines = [(n, line) for n, line in enumerate(file.read(HISTORY_BYTES).split(b"\n"), 1) if line.strip()]
    if not lines:
        raise InvalidFile("empty")
    step = math.ceil(len(lines) / POINTS)
    rows: list[Row] = []
    number_names: set[str] = set()
    other_names: set[str] = set()
    wrong_names: set[str] = set()
    for place, (n, line) in enumerate(lines, 1):
        if place % step and place != len(lines):
            continue
        value = short_names(_object(line), NAMES)
        row = _numbers(value) | {"line": float(n)}
        rows.append(row)
        number_names.update(row)
        for name, other in value.items():
            if other is None or _is_number(other):
                continue
            other_names.add(name)
            if _looks_like_number(other):
                wrong_names.add(name)
    return _History(rows, sorted(wrong_names | (other_names & number_names)))


def _is_number(value: object) -> bool:
    # Python's true is an int.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _looks_like_number(value: object) -> bool:
    """A text that is the number itself: `"0.5"`, `"nan"`."""
    if not isinstance(value, str):
        return False
    try:
        float(value[:100])
    except ValueError:
        return False
    return True


def _object(line: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(decode_json(line))
    except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError
        raise InvalidFile("a line is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidFile("a line is not an object")
    return value


def _numbers(value: dict[str, Any]) -> Row:
    numbers: Row = {}
    for name, number in value.items():
        if not _is_number(number):
            continue
        # Also an integer can be too large for a float.
        if not is_finite(number):
            raise InvalidFile("a number is not finite")
        numbers[name] = float(number)
    return numbers


def _rises(rows: Sequence[Row], axis: str) -> bool:
    """Whether each row has a place on the axis, after that of the row before."""
    last = -math.inf
    for row in rows:
        place = row.get(axis, -math.inf)
        if place <= last:
            return False
        last = place
    return True


def _points(histories: Iterable[Sequence[Row]], axis: str, name: str) -> list[Point]:
    values_at: dict[float, list[float]] = {}
    for rows in histories:
        for row in rows:
            if name in row:
                values_at.setdefault(row[axis], []).append(row[name])
    points = []
    for at, values in sorted(values_at.items()):
        points.append(Point(at, mean95(values), min(values), max(values)))
    return points


def mean95(values: Sequence[float]) -> Interval:
    """Mean of at least one value, with its 95% Student t interval; a single value has no ends."""
    if len(values) > 1:
        return rules.student_interval(values, _TAIL)
    return Interval(n=1, mean=values[0], low=None, high=None, level=1 - 2 * _TAIL)


def _some(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{names[0]} and {len(names) - 1} more"
