"""The only file that plots. matplotlib is imported when a figure is drawn, without pyplot.

Equal input gives equal files: no date, no version and no random jitter is written into them. An arm has one colour in
all figures of its run, from a palette that colour-blind readers tell apart (M. Okabe, K. Ito, "Color Universal Design",
2008), and baselines are grey. Axes are placed by hand: matplotlib's layout engines would double the time.

Cost on a small machine: the import 0.4 s once a process, then about 0.15 s a figure, png and pdf together.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from autolab import files
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import Comparison, Confirmation, Interval
from autolab.reports.curves import Curve
from autolab.stats.wording import fate

NAMES = ("comparison", "loss", "acc")
_BASELINES = ("#4d4d4d", "#9a9a9a", "#c4a35a")
_VARIANTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")
_RED = "#b3392b"
_WIDTH, _CHAR, _LINE = 9.0, 0.073, 0.165
"""Inches: every figure, a character, a line of text at 9 points."""
_DOT: dict[str, Any] = {"alpha": 0.5, "markersize": 4, "markeredgewidth": 0}
_MARKS = {
    "baseline": ("D", _BASELINES[0]),
    "supported": ("o", _VARIANTS[0]),
    "refuted": ("v", _VARIANTS[1]),
    "inconclusive": ("s", _BASELINES[1]),
    "failed": ("x", "black"),
}
_WIDE_RATIO = 20
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # left to itself, a title measures all ticks to find its place
    "pdf.fonttype": 3,  # 42, which some publishers ask for, takes longer than all the drawing: the font is cut down
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a title may hold a dollar sign
}


@dataclass(frozen=True)
class Measure:
    """One metric of the arms: each trial's value by seed index, and the mean with its 95% interval."""

    metric: str
    direction: Direction | None
    values: Mapping[str, Mapping[int, float]]
    means: Mapping[str, Interval]


@dataclass(frozen=True)
class Run:
    """What the figures of a run show. `roles`: arm -> baseline or variant, in the design's order.

    `gains`: per compared variant, its paired differences in the direction of good; `fresh` are those of the
    `confirmation`. `loss` and `shares` (accuracy, F1) are what was evaluated; the curves beside them are what the
    training says of itself. Empty parts are not drawn. `runs`: the search, and where there was one the confirmation.
    """

    title: str
    roles: Mapping[str, str]
    primary: Measure
    delta: float
    runs: Sequence[str]
    iteration_id: str
    comparisons: Sequence[Comparison] = ()
    gains: Mapping[str, Sequence[float]] = field(default_factory=dict)
    confirmation: Confirmation | None = None
    fresh: Sequence[float] = ()
    loss: Measure | None = None
    loss_curves: Sequence[Curve] = ()
    shares: Sequence[Measure] = ()
    share_curves: Sequence[Curve] = ()
    note: str = ""


@dataclass(frozen=True)
class Try:
    """One iteration as the progress shows it; a failed one has no value. `verdict` "baseline" is where all began."""

    iteration: int
    title: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    supported: bool


def draw(shown: Run, folder: Path) -> tuple[str, ...]:
    """Draw what there is to show of a run into `folder`: comparison, loss, acc; the names of the files written."""
    from matplotlib import rc_context

    made: dict[str, Any] = {}
    with rc_context(_STYLE):
        if shown.comparisons:
            made["comparison"] = _comparison(shown)
        if shown.loss or shown.loss_curves:
            made["loss"] = _trained(shown, shown.loss_curves, [shown.loss] if shown.loss else [])
        if shown.shares or shown.share_curves:
            made["acc"] = _trained(shown, shown.share_curves, shown.shares)
        return tuple(path.name for name, figure in made.items() for path in _save(figure, folder / name))


def progress(tries: Sequence[Try], metric: str, direction: Direction, stem: Path) -> tuple[Path, Path]:
    """Every try of the lab, at least one, in the order of iterations, and what was kept; writes `stem`.png and .pdf."""
    from matplotlib import rc_context

    known = [replace(one, value=None) if one.verdict == "failed" else one for one in tries]
    with rc_context(_STYLE):
        return _save(_progress(known, metric, direction), stem)


def _save(figure: Any, stem: Path) -> tuple[Path, Path]:
    written = []
    quick: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}
    for ending, how in (("png", quick), ("pdf", {"metadata": {"CreationDate": None, "Producer": None}})):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # A title in a script that the font lacks is drawn as boxes; the summary beside it has the words.
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            figure.savefig(buffer, format=ending, dpi=140, **how)
        path = stem.with_name(f"{stem.name}.{ending}")
        files.write_whole(path, buffer.getvalue())
        written.append(path)
    return written[0], written[1]


# The sheet


class _Sheet:
    """A figure of fixed width whose axes are placed in inches, between a title and a line with note and source."""

    def __init__(self, title: str, height: float, note: str = "", source: str = "") -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        lines = _wrapped(title, _WIDTH - 1.0).split("\n")[:2]
        self.below = _LINE + 0.05 if note or source else 0.0
        self.height = height + self.below + _LINE * len(lines) + 0.2
        self.figure = Figure(figsize=(_WIDTH, self.height))
        FigureCanvasAgg(self.figure)
        self.figure.text(0.15 / _WIDTH, 1 - 0.1 / self.height, "\n".join(lines), fontsize=10, va="top")
        if note:
            self.figure.text(0.15 / _WIDTH, 0.07 / self.height, note, fontsize=8, color=_RED, va="bottom")
        if source:
            right: dict[str, Any] = {"fontsize": 7, "color": _BASELINES[0], "va": "bottom", "ha": "right"}
            self.figure.text(1 - 0.1 / _WIDTH, 0.07 / self.height, source, **right)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Any:
        box = (left / _WIDTH, (bottom + self.below) / self.height, width / _WIDTH, height / self.height)
        return self.figure.add_axes(box)


def _wrapped(text: str, inches: float) -> str:
    return "\n".join(textwrap.wrap(text, max(8, int(inches / _CHAR))))


def _name(arm: str) -> str:
    """An arm's name in lines of at most 20 characters, broken behind _ and -."""
    return "\n".join(textwrap.wrap(re.sub(r"([_-])", r"\1 ", arm), 20)).replace("_ ", "_").replace("- ", "-")


def _label_width(labels: Iterable[str]) -> float:
    return 0.15 + _CHAR * max(len(line) for label in labels for line in label.split("\n"))


def _better(measure: Measure) -> str:
    words = {"minimize": " (lower is better)", "maximize": " (higher is better)", None: ""}
    return measure.metric + words[measure.direction]


def _looks(roles: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour and line of each arm."""
    looks: dict[str, dict[str, Any]] = {}
    for role, palette in (("baseline", _BASELINES), ("variant", _VARIANTS)):
        for n, arm in enumerate(name for name in roles if roles[name] == role):
            rest = n if role == "baseline" else n // len(palette)
            looks[arm] = {"color": palette[n % len(palette)], "linestyle": _DASHES[rest % len(_DASHES)]}
    return looks


def _scale(axes: Any, which: Literal["x", "y"], values: Iterable[float]) -> None:
    """A logarithmic axis where positive values differ widely, as when a training explodes."""
    known = list(values)
    if min(known) > 0 and max(known) > _WIDE_RATIO * min(known):
        getattr(axes, f"set_{which}scale")("log")
        _plain_ticks(getattr(axes, f"{which}axis"), dense=max(known) < 500 * min(known))


def _plain_ticks(axis: Any, dense: bool = False, least: float = 0.0) -> None:
    """Ticks at powers of ten, with plain numbers; those closer to 0 than `least` would stand too close to it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if dense:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: "" if 0 < abs(value) <= least else f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# A run


def _comparison(shown: Run) -> Any:
    """Each arm's trials beside the paired differences."""
    looks = _looks(shown.roles)
    names = [_name(arm) for arm in shown.roles]
    search = "search: " if shown.confirmation else ""
    labels = [f"{_name(c.arm)}\n{search}{c.verdict}" for c in shown.comparisons]
    arms = [c.arm for c in shown.comparisons]
    if shown.confirmation is not None:
        labels.append(f"{_name(shown.confirmation.arm)}\nfresh seeds: {fate(shown.confirmation)}")
        arms.append(shown.confirmation.arm)
    tall = 0.35 + 0.5 * max(2, len(names), sum(1 + label.count("\n") for label in labels) / 3)
    first, second = _label_width(names), _label_width(labels)
    wide = (_WIDTH - first - second - 0.45) / 2
    sheet = _Sheet(shown.title, tall + 1.05, shown.note, _source(shown))
    left = sheet.axes(first, 0.65, wide, tall)
    right = sheet.axes(first + wide + 0.2 + second, 0.65, wide, tall)
    if len(names) == 2:
        _join_pairs(left, shown)
    _rows(left, shown.primary, looks, wide)
    _label_rows(left, names, [looks[arm]["color"] for arm in shown.roles])
    _gains(right, shown, looks, wide)
    _label_rows(right, labels, [looks[arm]["color"] for arm in arms])
    return sheet.figure


def _source(shown: Run, runs: int = 2) -> str:
    """Which runs the numbers come from."""
    return f"{', '.join(shown.runs[:runs])} of {shown.iteration_id}"


def _join_pairs(axes: Any, shown: Run) -> None:
    """A line a seed, where one variant stands under its baseline; with more the lines would cross other arms."""
    base, variant = (shown.primary.values.get(arm, {}) for arm in shown.roles)
    for index in sorted(base.keys() & variant.keys()):
        axes.plot([base[index], variant[index]], [0, 1], "-", color=_BASELINES[1], linewidth=0.5, alpha=0.5)


def _rows(axes: Any, measure: Measure, looks: Mapping[str, Mapping[str, Any]], wide: float) -> None:
    """A row an arm: every trial as a point, the mean with its interval above them."""
    for row, arm in enumerate(looks):
        values = list(measure.values.get(arm, {}).values())
        axes.plot(values, [row] * len(values), "o", color=looks[arm]["color"], **_DOT)
        if arm in measure.means:
            _interval(axes, measure.means[arm], row - 0.27, looks[arm]["color"])
    _scale(axes, "x", (value for found in measure.values.values() for value in found.values()))
    axes.set_xlabel(_wrapped(_better(measure), wide))
    axes.set_title(_wrapped("each trial; above: mean and 95% interval", wide))


def _gains(axes: Any, shown: Run, looks: Mapping[str, Mapping[str, Any]], wide: float) -> None:
    """Every pair's gain, its mean with the interval that decided, and the two values it is held against.

    A row a comparison of the search, and below them what was measured again on fresh seeds.
    """
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(shown.delta, color=_RED, linewidth=1, linestyle="--")
    rows = [(c.arm, c.difference, shown.gains[c.arm]) for c in shown.comparisons]
    if shown.confirmation is not None:
        rows.append((shown.confirmation.arm, shown.confirmation.difference, shown.fresh))
    for row, (arm, difference, found) in enumerate(rows):
        axes.plot(found, [row] * len(found), "o", color=looks[arm]["color"], **_DOT)
        if difference.n:
            _interval(axes, difference, row - 0.27, looks[arm]["color"])
    sizes = sorted(abs(gain) for _, _, found in rows for gain in found)
    usual = 5 * max(shown.delta, sizes[len(sizes) // 2])
    if sizes[-1] > _WIDE_RATIO * usual:
        axes.set_xscale("symlog", linthresh=usual)
        axes.xaxis.get_major_locator().set_params(numticks=5)
        _plain_ticks(axes.xaxis, least=usual)
    told = f"gain in {shown.primary.metric} (right of 0 is better; dashed: {shown.delta:g} asked for)"
    axes.set_xlabel(_wrapped(told, wide + 0.2))
    axes.set_title(_wrapped(f"each pair; above: mean and {_levels([difference for _, difference, _ in rows])}", wide))


def _levels(found: Iterable[Interval]) -> str:
    """What the bars are, from the top; rows of different levels are told apart."""
    levels = dict.fromkeys(f"{100 * one.level:.4g}%" for one in found if one.low is not None)
    return f"{' or '.join(levels)} interval" if levels else "no interval: no spread, or too few pairs"


def _interval(axes: Any, found: Interval, row: float, colour: str) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [row, row], "-", color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([found.mean], [row], "D", color=colour, markersize=5, markeredgewidth=0)


def _label_rows(axes: Any, labels: Sequence[str], colours: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    for tick, colour in zip(axes.get_yticklabels(), colours, strict=False):
        tick.set_color(colour)
    axes.set_ylim(max(1, len(labels) - 1) + 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=5)


def _trained(shown: Run, curves: Sequence[Curve], measures: Sequence[Measure]) -> Any:
    """A metric over the training, and beside it a panel for each metric that was evaluated at the end."""
    looks, names = _looks(shown.roles), [_name(arm) for arm in shown.roles]
    tall, labels = max(2.2, 0.35 + 0.5 * len(names)), _label_width(names)
    sheet = _Sheet(shown.title, tall + 1.05, shown.note, _source(shown, 1))
    used = (0.8 if curves else 0.0) + (labels if measures else 0.0)
    wide = (_WIDTH - used) / (len(measures) + bool(curves)) - 0.2
    start = 0.0
    if curves:
        axes = sheet.axes(0.8, 0.65, wide, tall)
        _curves(axes, curves, looks, wide)
        start = 1.0 + wide
        if not measures:
            axes.legend(handles=axes.get_lines(), loc="upper right")
    for n, measure in enumerate(measures):
        axes = sheet.axes(start + labels + n * (wide + 0.2), 0.65, wide, tall)
        _rows(axes, measure, looks, wide)
        _label_rows(axes, names if n == 0 else [""] * len(names), [look["color"] for look in looks.values()])
    return sheet.figure


def _curves(axes: Any, curves: Sequence[Curve], looks: Mapping[str, Mapping[str, Any]], wide: float) -> None:
    """A line an arm, the mean over seeds, in a band from the lowest to the highest seed."""
    for curve in curves:
        places = [point.at for point in curve.points]
        single = {"marker": "o", "markersize": 4} if len(places) == 1 else {}
        means = [point.mean.mean for point in curve.points]
        axes.plot(places, means, linewidth=1.4, label=_name(curve.arm), **looks[curve.arm], **single)
        low, high = ([getattr(point, end) for point in curve.points] for end in ("least", "most"))
        axes.fill_between(places, low, high, color=looks[curve.arm]["color"], alpha=0.2, linewidth=0)
    _scale(axes, "y", (value for curve in curves for point in curve.points for value in (point.least, point.most)))
    axes.set_xlabel(curves[0].axis)
    axes.set_ylabel(f"{curves[0].metric} (self-reported)")
    axes.set_title(_wrapped("in training: mean, and range over the seeds", wide))


# The lab


def _progress(tries: Sequence[Try], metric: str, direction: Direction) -> Any:
    sheet = _Sheet(_tally(tries), 4.4)
    axes = sheet.axes(0.85, 0.5, _WIDTH - 1.0, 3.6)
    kept = [one for one in tries if one.value is not None and (one.supported or one.verdict == "baseline")]
    first, last = tries[0].iteration, tries[-1].iteration
    axes.set_ylim(*sorted(_limits(tries, kept, direction)))
    axes.set_xlim(first - 0.7, last + 0.7)
    if kept:
        places = [*(one.iteration for one in kept), last + 0.7]
        heights = [one.value for one in kept]
        axes.step(places, [*heights, heights[-1]], where="post", color=_VARIANTS[0], linewidth=1.5)
    for kind in _MARKS:
        _points(axes, kind, [one for one in tries if _kind(one) == kind])
    axes.set_xticks(range(first, last + 1, math.ceil((last - first + 1) / 25)))
    axes.set_xlabel("iteration (line: what was kept; bars: 95% interval; hollow: off the scale)")
    axes.set_ylabel(_better(Measure(metric, direction, {}, {})))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, borderpad=0, handletextpad=0.3, columnspacing=1.2)
    _annotate(sheet.figure, axes, tries, kept, direction)
    return sheet.figure


def _tally(tries: Sequence[Try]) -> str:
    kinds = [_kind(one) for one in tries if one.verdict != "baseline"]
    told = [f"{kinds.count(kind)} {kind}" for kind in _MARKS if kind in kinds]
    return f"{len(kinds)} {'try' if len(kinds) == 1 else 'tries'}: {', '.join(told)}"


def _kind(one: Try) -> str:
    """The verdict as it is drawn: a try without a value is failed."""
    if one.value is None:
        return "failed"
    return "supported" if one.supported else one.verdict if one.verdict in _MARKS else "inconclusive"


def _limits(tries: Sequence[Try], kept: Sequence[Try], direction: Direction) -> tuple[float, float]:
    """Ends of the axis on the good and on the bad side: room for names on the one, no lone disaster on the other."""
    sign = 1.0 if direction == "minimize" else -1.0
    values = sorted(sign * one.value for one in tries if one.value is not None) or [0.0, 1.0]
    best, usual = values[0], max([values[len(values) // 2], *(sign * (one.value or 0.0) for one in kept)])
    worst = min(values[-1], usual + 2 * (usual - best or values[-1] - best))
    shown = [one for one in tries if one.value is not None and sign * one.value <= worst]
    ends = [best, worst, *(sign * end for one in shown for end in (one.low, one.high) if end is not None)]
    room = 0.08 * (max(ends) - min(ends) or abs(best) or 1.0)
    return sign * (min(ends) - (4 if kept else 1) * room), sign * (max(ends) + room)


def _points(axes: Any, kind: str, tries: Sequence[Try]) -> None:
    """The tries of one kind with their intervals; a failed one at the bottom, one off the scale hollow at its edge."""
    marker, colour = _MARKS[kind]
    style: dict[str, Any] = {"color": colour, "linestyle": "none", "clip_on": False, "markersize": 5}
    if kind == "failed":
        style["transform"] = axes.get_xaxis_transform()
    bottom, top = axes.get_ylim()
    places = {one.iteration: 0.03 if one.value is None else min(max(one.value, bottom), top) for one in tries}
    inside = [one for one in tries if one.value is None or bottom < one.value < top]
    bars = [(one.iteration, one.low, one.high) for one in inside if one.low is not None and one.high is not None]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=colour, linewidth=1.2, alpha=0.6)
    numbers = [one.iteration for one in inside]
    if numbers:
        axes.plot(numbers, [places[number] for number in numbers], marker, label=kind, **style)
    hollow = [number for number in places if number not in numbers]
    axes.plot(hollow, [places[number] for number in hollow], marker, fillstyle="none", **style)


def _annotate(figure: Any, axes: Any, tries: Sequence[Try], kept: Sequence[Try], direction: Direction) -> None:
    """Titles of what was kept, each at the nearest free place; one without a free place is left out."""
    from matplotlib.transforms import Bbox

    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    to_pixels, dot = axes.transData.transform, 4 * figure.dpi / 72
    taken = []
    for one in tries:
        if one.value is not None:
            x, y = to_pixels((one.iteration, one.value))
            ends = [to_pixels((one.iteration, end))[1] for end in (one.low, one.high) if end is not None]
            taken.append(Bbox([[x - dot, min([y - dot, *ends])], [x + dot, max([y + dot, *ends])]]))
    for n, one in enumerate(kept):
        end = kept[n + 1].iteration if n + 1 < len(kept) else tries[-1].iteration + 1
        taken.append(Bbox([to_pixels((one.iteration, one.value)), to_pixels((end, one.value))]).padded(2))
    good = -1 if direction == "minimize" else 1
    for one in (one for one in kept if one.supported):
        title = f"{one.iteration}: {textwrap.shorten(one.title, 44, placeholder=' ...')}"
        label = axes.annotate(title, (one.iteration, one.value), (0, 0), textcoords="offset points", fontsize=8)
        if not _placed(label, renderer, frame, taken, good):
            label.remove()


def _placed(label: Any, renderer: Any, frame: Any, taken: list[Any], good: int) -> bool:
    """Move a label to the first place where it covers nothing, the good side of its line first, and take that place."""
    for side, distance, align in itertools.product((good, -good), range(9, 130, 11), ("right", "center", "left")):
        label.set_position((0, side * distance))
        label.set(ha=align, va="top" if side < 0 else "bottom")
        box = label.get_window_extent(renderer)
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box.padded(2))
            return True
    return False
