"""The only file that plots. matplotlib is imported when a figure is drawn, without pyplot.

Equal input gives equal files: no date, no version and no random jitter is written into them.
Cost on a small machine: the first figure of a process about a second, nearly all of it the import.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab import durable, stats
from autolab.records.experiment import Comparison
from autolab.records.lab import Direction

_GREY, _BLUE, _RED = "#8a8f98", "#1f5fa8", "#b3392b"
_ARM_TAIL = 0.025
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "pdf.fonttype": 42,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a title may hold a dollar sign
}


@dataclass(frozen=True)
class Arms:
    """What the figure of a run shows. `values`: per arm, in the design's order, seed index to primary metric.

    `differences`: per compared variant, its paired differences in the direction of good.
    """

    title: str
    metric: str
    direction: Direction
    delta: float
    values: Mapping[str, Mapping[int, float]]
    differences: Mapping[str, Sequence[float]]
    comparisons: Sequence[Comparison]
    note: str = ""


def arms(shown: Arms, stem: Path) -> tuple[Path, Path]:
    """Draw each arm's trials beside the paired differences; writes `stem`.png and `stem`.pdf."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.2 + 0.55 * max(2, len(shown.values))), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _draw_arms(left, shown)
        _draw_differences(right, shown)
        figure.suptitle(shown.title, fontsize=10, fontweight="bold")
        if shown.note:
            figure.supxlabel(shown.note, fontsize=8, color=_RED)
        return _save(figure, stem)


def _save(figure: Any, stem: Path) -> tuple[Path, Path]:
    written = []
    for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # A title in a script that the font lacks is drawn as boxes; the summary beside it has the words.
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            figure.savefig(buffer, format=ending, dpi=150, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{ending}")
        durable.write(path, buffer.getvalue())
        written.append(path)
    return written[0], written[1]


def _draw_arms(axes: Any, shown: Arms) -> None:
    """Every trial as a point, pairs of one seed joined, the mean with its 95% interval above them."""
    names = list(shown.values)
    _join_pairs(axes, shown, names)
    for row, name in enumerate(names):
        values = list(shown.values[name].values())
        colour = _BLUE if name in shown.differences else _GREY
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.5, markersize=4, markeredgewidth=0)
        if len(values) > 1:
            interval = stats.student_interval(values, _ARM_TAIL)
            _draw_interval(axes, interval.mean, interval.low, interval.high, row - 0.25, colour)
    _label_rows(axes, names)
    better = "lower" if shown.direction == "minimize" else "higher"
    arrow = "\N{LEFTWARDS ARROW}" if shown.direction == "minimize" else "\N{RIGHTWARDS ARROW}"
    axes.set_xlabel(f"{shown.metric}  ({arrow} {better} is better)")
    axes.set_title("Each trial, with mean and 95% interval\n", fontsize=9, loc="left")


def _join_pairs(axes: Any, shown: Arms, names: list[str]) -> None:
    """A line a seed, where one variant stands under its baseline; with more the lines would cross other arms."""
    for compared in shown.comparisons if len(names) == 2 else ():
        rows = names.index(compared.baseline), names.index(compared.arm)
        base, variant = shown.values[compared.baseline], shown.values[compared.arm]
        for index in base.keys() & variant.keys():
            axes.plot([base[index], variant[index]], rows, "-", color=_GREY, linewidth=0.5, alpha=0.35)


def _draw_differences(axes: Any, shown: Arms) -> None:
    """Every pair's gain, its mean with the interval that decided, and the two values it is held against."""
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(shown.delta, color=_RED, linewidth=1, linestyle="--")
    # Beside the line, above the rows: a legend would cover points.
    axes.annotate(
        f" gain worth having {shown.delta:g}",
        (shown.delta, 1),
        xycoords=("data", "axes fraction"),
        color=_RED,
        fontsize=8,
        va="bottom",
        ha="center",
    )
    labels = []
    for row, compared in enumerate(shown.comparisons):
        found = shown.differences[compared.arm]
        axes.plot(found, [row] * len(found), "o", color=_BLUE, alpha=0.5, markersize=4, markeredgewidth=0)
        interval = compared.difference
        _draw_interval(axes, interval.mean, interval.low, interval.high, row - 0.25, _BLUE)
        labels.append(f"{compared.arm}\n{compared.verdict}")
    _label_rows(axes, labels)
    order = "baseline \N{MINUS SIGN} variant" if shown.direction == "minimize" else "variant \N{MINUS SIGN} baseline"
    axes.set_xlabel(f"gain in {shown.metric}, same seed  ({order}; \N{RIGHTWARDS ARROW} better)")
    levels = sorted({100 * c.difference.level for c in shown.comparisons if c.difference.low is not None})
    interval_words = f" and {levels[0]:g}% interval" if levels else " (no spread, so no interval)"
    axes.set_title(f"Gain of each pair, with mean{interval_words}\n", fontsize=9, loc="left")


def _draw_interval(axes: Any, mean: float, low: float | None, high: float | None, row: float, colour: str) -> None:
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], "-", color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([mean], [row], "D", color=colour, markersize=6, markeredgecolor="white")


def _label_rows(axes: Any, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
