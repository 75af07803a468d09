"""What trainings say of themselves while they run, brought together per arm.

`history.jsonl` is written by code that nobody trusts: a link, a pipe, a huge file, a number that is none or a line
that is no JSON costs that trial its place in the curves and one line of notes, nothing else. Curves are
self-reported, so they explain a result and never decide one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
"""Names with values that are no numbers, of which each gets a note; the others are counted."""
_AXES = ("epoch", "step")
_TAIL = 0.025

Row = dict[str, float]


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

    A reused trial's history lies where it ran first. The axis is the same for all: epoch where every trial gives it in
    rising order, else step, else the line. Metrics are the first METRICS names in the alphabet, per arm in trial order.
    """
    histories: dict[str, list[list[Row]]] = {}
    refused: dict[str, list[str]] = {}
    dropped: dict[str, list[str]] = {}
    for trial in trials:
        try:
            rows, without = _read(_place(experiments, run, trial))
        except InvalidFile as error:
            refused.setdefault(str(error), []).append(trial.trial)
            continue
        histories.setdefault(trial.arm, []).append(rows)
        for name in without:
            dropped.setdefault(name, []).append(trial.trial)
    everyone = [rows for found in histories.values() for rows in found]
    axis = next((name for name in _AXES if all(_rises(rows, name) for rows in everyone)), "line")
    measured = sorted({key for rows in everyone for row in rows for key in row} - {*_AXES, "line", "seconds"})
    names = measured[:METRICS]
    curves = [
        Curve(arm, name, axis, tuple(points))
        for arm, found in histories.items()
        for name in names
        if (points := _points(found, axis, name))
    ]
    notes = [f"history.jsonl: {why}; the curves are without {_some(who)}" for why, who in refused.items()]
    for name, who in sorted(dropped.items())[:NOTED]:
        notes.append(f"history.jsonl: {name!a}: not a number in some lines of {_some(who)}; its curve is without them")
    if len(dropped) > NOTED:
        notes.append(f"history.jsonl: {len(dropped) - NOTED} more names are not numbers in some lines")
    if len(measured) > METRICS:
        notes.append(f"history.jsonl: {len(measured)} metrics; the curves show the first {METRICS} in the alphabet")
    return curves, notes


def _place(experiments: Path, run: str, trial: Trial) -> Path:
    parts = (trial.reused_from or f"{run}/{trial.trial}").split("/")
    if len(parts) != 3 or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidFile("where it was measured first is not known")
    iteration, run_id, name = parts
    folder = experiments / iteration / "runs" / run_id / "trials" / name / f"a{trial.attempt}"
    return folder / "train" / "history.jsonl"


def _read(path: Path) -> tuple[list[Row], list[str]]:
    """The numbers of each line that is kept, where `line` counts from 1, and the names of which values were dropped.

    A text that is never a number, such as `"phase": "train"`, is nobody's mistake; nor is a null. Refused: not a
    history."""
    with open_regular(path, HISTORY_BYTES) as file:
        lines = [(n, line) for n, line in enumerate(file.read(HISTORY_BYTES).split(b"\n"), 1) if line.strip()]
    if not lines:
        raise InvalidFile("empty")
    step = -(-len(lines) // POINTS)
    kept = [pair for i, pair in enumerate(lines, 1) if i % step == 0 or i == len(lines)]
    rows: list[Row] = []
    others: dict[str, bool] = {}
    for n, line in kept:
        value = short_names(_object(line), NAMES)
        rows.append({**_numbers(value), "line": float(n)})
        for key, other in value.items():
            if other is not None and (isinstance(other, bool) or not isinstance(other, int | float)):
                others[key] = others.get(key, False) or _meant_as_number(other)
    known = {key for row in rows for key in row}
    return rows, sorted(key for key, meant in others.items() if meant or key in known)


def _meant_as_number(value: object) -> bool:
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
    numbers = {key: v for key, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if not all(is_finite(number) for number in numbers.values()):
        raise InvalidFile("a number is not finite")
    return {key: float(number) for key, number in numbers.items()}


def _rises(rows: Sequence[Row], axis: str) -> bool:
    places = [row.get(axis) for row in rows]
    known = [place for place in places if place is not None]
    return len(known) == len(places) and all(a < b for a, b in itertools.pairwise(known))


def _points(found: Iterable[Sequence[Row]], axis: str, name: str) -> list[Point]:
    by_place: dict[float, list[float]] = {}
    for rows in found:
        for row in rows:
            if name in row:
                by_place.setdefault(row[axis], []).append(row[name])
    return [Point(at, mean95(values), min(values), max(values)) for at, values in sorted(by_place.items())]


def mean95(values: Sequence[float]) -> Interval:
    """Mean of at least one value, with its 95% Student t interval; a single value has no ends."""
    if len(values) > 1:
        return rules.student_interval(values, _TAIL)
    return Interval(n=1, mean=values[0], low=None, high=None, level=1 - 2 * _TAIL)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
