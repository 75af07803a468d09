"""The figures of a run: each trial and each paired gain, and what the trainings did on the way.

An arm has one colour in all figures of its run. `drawing` has the page, the styles and the files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import Interval
from autolab.reports import drawing
from autolab.reports.curves import Curve
from autolab.reports.drawing import WIDTH, Page
from autolab.stats import metric_names

NAMES = ("comparison", "loss", "acc")
_SAME_SEED: drawing.Style = {"linestyle": "-", "linewidth": 0.6, "alpha": 0.6, "color": "#9a9a9a"}
_NO_GAIN: drawing.Style = {"linestyle": "-", "linewidth": 0.9, "color": "black"}
_WANTED: drawing.Style = {"linestyle": "--", "linewidth": 1.1, "color": "black"}

Looks = Mapping[str, Mapping[str, str]]
"""Arm -> colour and line style."""


@dataclass(frozen=True)
class Measure:
    """One metric of the arms: each trial's value by seed index, and the mean with its 95% interval."""

    metric: str
    direction: Direction | None
    values: Mapping[str, Mapping[int, float]]
    means: Mapping[str, Interval]

    def all_values(self) -> list[float]:
        values: list[float] = []
        for by_index in self.values.values():
            values += by_index.values()
        return values


@dataclass(frozen=True)
class Gain:
    """A variant's paired differences (positive is better), with the interval that decided.

    `verdict` is the conclusion, for the row's label. `difference.n` counts the pairs, or parts of the evaluation if
    those were compared instead.
    """

    arm: str
    verdict: str
    difference: Interval
    pairs: Sequence[float]

    def label(self) -> str:
        """Name, verdict, n and level, in lines of at most 24 characters."""
        counted = _counted(len(self.pairs), "pair")
        if self.difference.n not in (0, len(self.pairs)):
            counted += f", {self.difference.n} parts"
        verdict = drawing.wrapped(self.verdict, 24 * drawing.CHARACTER)
        return f"{drawing.wrapped_name(self.arm)}\n{verdict}\n{counted}, {_level(self.difference)}"


@dataclass(frozen=True)
class Training:
    """One kind of metric: the curves that trainings report of themselves, and what was evaluated at the end."""

    curves: Sequence[Curve] = ()
    measures: Sequence[Measure] = ()

    def __bool__(self) -> bool:
        return bool(self.curves or self.measures)


@dataclass(frozen=True)
class Run:
    """What the figures of a run show. `roles`: arm -> baseline or variant, in the design's order.

    `gains` are those of the search, then that of the confirmation. `delta` is the least gain worth having, in the
    metric's units. Empty parts are not drawn. `runs`: the search, and where there was one the confirmation.
    `primary_run` says of which of two runs the trials of `primary` are.
    """

    title: str
    roles: Mapping[str, str]
    primary: Measure
    delta: float
    runs: Sequence[str]
    iteration_id: str
    primary_run: str = ""
    gains: Sequence[Gain] = ()
    loss: Training = field(default_factory=Training)
    shares: Training = field(default_factory=Training)
    note: str = ""

    def source(self, runs: int) -> str:
        """Which of the runs a figure shows."""
        return f"{', '.join(self.runs[:runs])} of {self.iteration_id}"

    def differences(self) -> list[float]:
        """Those of all pairs."""
        differences: list[float] = []
        for gain in self.gains:
            differences += gain.pairs
        return differences

    def looks(self) -> dict[str, dict[str, str]]:
        """Colour and line of each arm."""
        looks: dict[str, dict[str, str]] = {}
        # Colours and lines repeat with different periods, so that many arms still differ.
        baselines = zip(itertools.cycle(drawing.BASELINE_COLOURS), itertools.cycle(drawing.DASHES), strict=False)
        variants = zip(itertools.cycle(drawing.VARIANT_COLOURS), itertools.cycle(drawing.DASHES), strict=False)
        for arm, role in self.roles.items():
            colour, line = next(baselines if role == "baseline" else variants)
            looks[arm] = {"color": colour, "linestyle": line}
        return looks


def draw(run: Run, folder: Path) -> tuple[str, ...]:
    """Draw the figures of a run into `folder`: comparison, loss, acc; returns the names of the files."""
    comparison, loss, accuracy = NAMES
    pages: dict[str, Page] = {}
    names: list[str] = []
    with drawing.settings():
        if run.gains:
            pages[comparison] = _comparison(run)
        if run.loss:
            pages[loss] = _trained(run, run.loss)
        if run.shares:
            pages[accuracy] = _trained(run, run.shares)
        for name, page in pages.items():
            png, pdf = drawing.save(page.figure, folder / name)
            names += [png.name, pdf.name]
    return tuple(names)


def _counted(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def _level(interval: Interval) -> str:
    """The level of confidence in words, never rounded to 100%."""
    if interval.low is None:
        return "no interval"
    percent = 100 * interval.level
    if f"{percent:.4g}" == "100":
        return f"{percent:.10g}% interval"
    return f"{percent:.4g}% interval"


# Trials and gains


def _comparison(run: Run) -> Page:
    """Each arm's trials beside the paired differences."""
    looks = run.looks()
    names = _arm_labels(run.primary, run.roles, run.primary_run)
    labels = [gain.label() for gain in run.gains]
    first, second = drawing.width_of(names), drawing.width_of(labels)
    wide = (WIDTH - first - second - 0.45) / 2
    linear = _linear_to(run)
    below = _value_label(run.primary, wide), _gain_label(run, linear, wide)
    # With more arms the lines between pairs would cross other arms.
    joined = len(names) == 2
    page = Page(
        run.title,
        max(_tall(names), _tall(labels)),
        _comparison_entries(run, joined),
        below=drawing.lines_of(below),
        note=run.note,
        source=run.source(2),
    )
    left = page.axes(first, wide)
    if joined:
        _join_pairs(left, run)
    _rows(left, run.primary, looks, wide)
    _label_rows(left, names, below[0])

    right = page.axes(first + wide + 0.2 + second, wide)
    right.axvline(0, **_NO_GAIN)
    right.axvline(run.delta, **_WANTED)
    for row, gain in enumerate(run.gains):
        mean = None
        if gain.difference.n:
            mean = gain.difference
        _row(right, row, gain.pairs, mean, looks[gain.arm]["color"])
    if linear is None:
        drawing.scale(right, "x", [run.delta, *run.differences()], wide)
    else:
        right.set_xscale("symlog", linthresh=linear)
        drawing.plain_ticks(right.xaxis, 5, least=linear)
    _label_rows(right, labels, below[1])
    return page


def _comparison_entries(run: Run, joined: bool) -> list[Any]:
    intervals = [*run.primary.means.values(), *(gain.difference for gain in run.gains)]
    entries = _mean_entries("one trial, or pair of trials", intervals)
    if joined:
        entries.append(drawing.entry("same seed", _SAME_SEED))
    entries.append(drawing.entry("no gain", _NO_GAIN))
    entries.append(drawing.entry(f"least gain wanted: {run.delta:g}", _WANTED))
    return entries


def _mean_entries(dot: str, means: Iterable[Interval]) -> list[Any]:
    entries = [drawing.entry(dot, drawing.DOT), drawing.entry("mean", drawing.MEAN)]
    if any(map(drawing.ends, means)):
        entries.append(drawing.entry("confidence interval", drawing.INTERVAL))
    return entries


def _tall(labels: Sequence[str]) -> float:
    """Inches of a panel with these row labels."""
    row = max(0.5, 0.12 + drawing.LINE * drawing.lines_of(labels))
    return max(1.3, 0.25 + row * len(labels))


def _arm_labels(measure: Measure, arms: Iterable[str], of_run: str = "") -> list[str]:
    """The name of each row, how many trials it shows, of which run, and the level of its interval."""
    labels = []
    for arm in arms:
        label = f"{drawing.wrapped_name(arm)}\n"
        if of_run:
            label += f"{of_run}\n"
        label += _counted(len(measure.values.get(arm, ())), "trial")
        if arm in measure.means:
            label += f", {_level(measure.means[arm])}"
        labels.append(label)
    return labels


def _value_label(measure: Measure, wide: float) -> str:
    values = measure.all_values()
    logarithmic = drawing.spans_decades(values)
    return drawing.axis_label(measure.metric, measure.direction, wide, values=values, logarithmic=logarithmic)


def _gain_label(run: Run, linear: float | None, wide: float) -> str:
    label = f"gain in {run.primary.metric} (positive is better)"
    if linear is not None:
        label += f", logarithmic beyond {linear:.2g}"
    return drawing.wrapped(label, wide)


def _linear_to(run: Run) -> float | None:
    """Up to which gain the axis is linear; None if all of it is.

    Beyond, it is logarithmic: otherwise a few large gains would press the others into one point.
    """
    sizes = sorted(map(abs, run.differences()))
    usual = 5 * max(run.delta, sizes[len(sizes) // 2])
    if sizes[-1] > drawing.WIDE_RATIO * usual:
        return usual
    return None


def _join_pairs(axes: Any, run: Run) -> None:
    """A line a seed between the two arms."""
    first, second = run.roles
    baseline, variant = run.primary.values.get(first, {}), run.primary.values.get(second, {})
    for index in sorted(baseline.keys() & variant.keys()):
        axes.plot([baseline[index], variant[index]], [0, 1], **_SAME_SEED)


def _rows(axes: Any, measure: Measure, looks: Looks, wide: float) -> None:
    """A row an arm."""
    for row, (arm, look) in enumerate(looks.items()):
        values = list(measure.values.get(arm, {}).values())
        _row(axes, row, values, measure.means.get(arm), look["color"])
    values = measure.all_values()
    drawing.scale(axes, "x", values, wide, logarithmic=drawing.spans_decades(values))


def _row(axes: Any, row: int, values: Sequence[float], mean: Interval | None, colour: str) -> None:
    """Every value as a point, their mean with its interval above them."""
    axes.plot(values, [row] * len(values), color=colour, **drawing.DOT)
    if mean is None:
        return
    above = row - 0.27
    ends = drawing.ends(mean)
    if ends:
        axes.plot(ends, [above, above], color=colour, **drawing.INTERVAL)
    axes.plot([mean.mean], [above], color=colour, **drawing.MEAN)


def _label_rows(axes: Any, labels: Sequence[str], below: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    # The first row is at the top.
    axes.set_ylim(max(1, len(labels) - 1) + 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(below)


# Trainings


def _trained(run: Run, training: Training) -> Page:
    """A metric over the training, and beside it a panel for each metric that was evaluated at the end."""
    curves, measures, looks = training.curves, training.measures, run.looks()
    names: list[str] = []
    # Inches: beside the rows' names, beside the curves' axis, and the height.
    gutter, margin, tall = 0.0, 0.0, 2.2
    if measures:
        names = _arm_labels(measures[0], looks)
        gutter, tall = drawing.width_of(names), max(tall, _tall(names))
    if curves:
        margin = 1.05
    wide = (WIDTH - margin - gutter) / (len(measures) + bool(curves)) - 0.2
    below = [_value_label(measure, wide) for measure in measures]
    page = Page(
        run.title,
        tall,
        _training_entries(training, looks),
        below=drawing.lines_of([*below, ""]),
        note=run.note,
        source=run.source(1),
    )
    if curves:
        _curves(page.axes(margin, wide), curves, looks, wide, tall)
        margin += wide + 0.2
    for n, measure in enumerate(measures):
        axes = page.axes(margin + gutter + n * (wide + 0.2), wide)
        _rows(axes, measure, looks, wide)
        # All panels have the same rows, so only the first names them.
        _label_rows(axes, names, below[n])
        names = [""] * len(names)
    return page


def _training_entries(training: Training, looks: Looks) -> list[Any]:
    """A line for each arm with the number of trials behind its mean, the band, and what the points are."""
    from matplotlib.patches import Patch

    entries: list[Any] = []
    for curve in training.curves:
        counts = {point.mean.n for point in curve.points}
        trials = _counted(max(counts), "trial")
        # Some trainings ended earlier than others.
        if len(counts) > 1:
            trials = f"{min(counts)} to {trials}"
        entries.append(drawing.entry(f"{curve.arm}: mean of {trials}", _curve_style(curve, looks)))
    if training.curves:
        entries.append(Patch(label="lowest to highest trial", color=drawing.GREY, alpha=0.2, linewidth=0))
    if training.measures:
        entries += _mean_entries("one trial", training.measures[0].means.values())
    return entries


def _curve_style(curve: Curve, looks: Looks) -> dict[str, Any]:
    style = {"linewidth": 1.4, **looks[curve.arm]}
    # One point makes no line.
    if len(curve.points) == 1:
        style |= {"marker": "o", "markersize": 4}
    return style


def _curves(axes: Any, curves: Sequence[Curve], looks: Looks, wide: float, tall: float) -> None:
    """A line an arm, the mean over seeds, in a band from the lowest to the highest seed."""
    values: list[float] = []
    for curve in curves:
        places, means, lowest, highest = [], [], [], []
        for point in curve.points:
            places.append(point.at)
            means.append(point.mean.mean)
            lowest.append(point.least)
            highest.append(point.most)
        values += lowest + highest
        axes.plot(places, means, **_curve_style(curve, looks))
        axes.fill_between(places, lowest, highest, color=looks[curve.arm]["color"], alpha=0.2, linewidth=0)
    logarithmic = drawing.spans_decades(values)
    drawing.scale(axes, "y", values, tall, logarithmic)
    drawing.scale(axes, "x", [point.at for point in curves[0].points], wide)
    metric, axis = curves[0].metric, curves[0].axis
    direction = metric_names.direction_of(metric)
    label = drawing.axis_label(metric, direction, tall, "self-reported", values=values, logarithmic=logarithmic)
    axes.set_ylabel(label)
    if axis == "line":
        axis = "line of history.jsonl"
    axes.set_xlabel(axis)
