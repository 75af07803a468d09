"""What all figures share: the page, colours, lines and markers, the legend, the files.

Equal input gives equal files: no date, no version and no random jitter is written into them. Colours are those that
colour-blind readers tell apart (M. Okabe, K. Ito, "Color Universal Design", 2008), and baselines are grey. Axes are
placed by hand: matplotlib's layout engines would double the time. matplotlib is imported when a figure is drawn,
without pyplot.

Cost on a small machine: the import 0.4 s once a process, then about 0.15 s a figure, png and pdf together.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autolab import files
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import Interval
from autolab.stats import metric_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

BASELINE_COLOURS = ("#4d4d4d", "#9a9a9a", "#c4a35a")
VARIANT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
GREY, RED = BASELINE_COLOURS[0], "#b3392b"

WIDTH = 9.0
"""Inches, of every figure: at the width of a README a letter is 11 pixels tall."""
LEFT = 0.15
"""Inches between the edge and what stands at it."""
CHARACTER, LINE = 0.073, 0.165
"""Inches that a character and a line take at 9 points."""
LEGEND_LINE, LEGEND_CHARACTER, LEGEND_HANDLE = 0.19, 0.058, 0.48
"""Inches in a legend: between its lines, of a character at 8 points, of a handle with the gaps around it."""
WIDE_RATIO = 20
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""

Style = Mapping[str, Any]
DOT: Style = {"marker": "o", "linestyle": "none", "markersize": 4.5, "markeredgewidth": 0, "alpha": 0.5}
MEAN: Style = {"marker": "D", "linestyle": "none", "markersize": 5, "markeredgewidth": 0}
INTERVAL: Style = {"linestyle": "-", "linewidth": 2.2, "solid_capstyle": "butt"}

_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "legend.fontsize": 8,
    "pdf.fonttype": 3,  # 42, which some publishers ask for, takes longer than all the drawing: the font is cut down
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.formatter.useoffset": False,  # an axis that counts from an offset is misread
    "axes.formatter.limits": (-5, 6),
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a title may hold a dollar sign
}


def settings() -> AbstractContextManager[None]:
    """The context in which all figures are drawn."""
    from matplotlib import rc_context

    return rc_context(_SETTINGS)


class Page:
    """A figure of fixed width: title, legend, axes of one height beside each other, then note and source.

    Args:
        tall: Inches of the axes.
        entries: The legend above them, an entry for each line and marker (`entry`).
        below: Lines of the longest label below them.
        note: What the reader must know of the numbers, in red.
        source: Where the numbers come from.
    """

    def __init__(
        self, title: str, tall: float, entries: Sequence[Artist], *, below: int = 1, note: str = "", source: str = ""
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        columns = _columns([len(str(handle.get_label())) for handle in entries])
        legend = LEGEND_LINE * math.ceil(len(entries) / columns)
        heading = wrapped(title, WIDTH - 1.0).split("\n")[:2]
        foot = 0.05
        if note or source:
            foot = LINE + 0.1
        self._bottom = foot + 0.3 + LINE * below
        self._tall = tall
        self._height = self._bottom + tall + legend + 1.1 * LINE * len(heading) + 0.3
        self.figure = Figure(figsize=(WIDTH, self._height))
        FigureCanvasAgg(self.figure)
        left, right = LEFT / WIDTH, 1 - LEFT / WIDTH
        self.figure.text(left, 1 - 0.1 / self._height, "\n".join(heading), fontsize=10, va="top")
        self.figure.legend(
            handles=entries,
            ncols=columns,
            loc="lower left",
            bbox_to_anchor=(left, (self._bottom + tall + 0.05) / self._height),
            borderpad=0,
            borderaxespad=0,
            handlelength=1.8,
            handletextpad=0.5,
            columnspacing=1.2,
        )
        self.figure.text(left, 0.07 / self._height, note, fontsize=8, color=RED, va="bottom")
        self.figure.text(right, 0.07 / self._height, source, fontsize=7, color=GREY, va="bottom", ha="right")

    def axes(self, left: float, wide: float) -> Axes:
        """Axes `wide` inches wide, `left` inches from the edge."""
        box = (left / WIDTH, self._bottom / self._height, wide / WIDTH, self._tall / self._height)
        return self.figure.add_axes(box)


def entry(label: str, style: Style) -> Line2D:
    """A line or a marker of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **({"color": GREY} | dict(style)))


def _columns(lengths: Sequence[int]) -> int:
    """How many columns of the legend fit, by the characters of its labels; entries fill one column after the other."""
    widths = [LEGEND_HANDLE + LEGEND_CHARACTER * length for length in lengths]
    for columns in range(len(widths), 1, -1):
        # As matplotlib fills them: if the entries do not divide evenly, the first columns have one more.
        size, longer = divmod(len(widths), columns)
        total, start = 0.0, 0
        for column in range(columns):
            end = start + size + (column < longer)
            total += max(widths[start:end])
            start = end
        if total <= WIDTH - 2 * LEFT:
            return columns
    return 1


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.png and `stem`.pdf."""
    png, pdf = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    # Metadata of None leaves the date and the version out. The level of compression is a trade of bytes for time.
    options: dict[Path, dict[str, Any]] = {
        png: {"format": "png", "metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
        pdf: {"format": "pdf", "metadata": {"CreationDate": None, "Producer": None}},
    }
    for path, of_format in options.items():
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # A title in a script that the font lacks is drawn as boxes; the summary beside it has the words.
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            figure.savefig(buffer, dpi=140, **of_format)
        files.write_whole(path, buffer.getvalue())
    return png, pdf


# Words


def wrapped(text: str, inches: float) -> str:
    return "\n".join(textwrap.wrap(text, max(8, int(inches / CHARACTER))))


def wrapped_name(arm: str) -> str:
    """An arm's name in lines of at most 20 characters, broken behind _ and -."""
    spaced = re.sub(r"([_-])", r"\1 ", arm)
    return "\n".join(textwrap.wrap(spaced, 20)).replace("_ ", "_").replace("- ", "-")


def lines_of(texts: Iterable[str]) -> int:
    """Lines of the text that has most."""
    return 1 + max(text.count("\n") for text in texts)


def width_of(texts: Iterable[str]) -> float:
    """Inches that the longest line takes beside an axis."""
    lines = "\n".join(texts).split("\n")
    return 0.15 + CHARACTER * max(map(len, lines))


def axis_label(
    metric: str,
    direction: Direction | None,
    inches: float,
    *notes: str,
    values: Sequence[float],
    logarithmic: bool = False,
) -> str:
    """A metric's name for an axis of this length and these values, with unit, direction and `notes`."""
    if logarithmic:
        notes += ("logarithmic",)
    highest = max(values, default=1.0)
    return wrapped(metric_names.axis_label(metric, direction, *notes, highest=highest), inches)


def ends(interval: Interval) -> list[float]:
    """Both ends of an interval, or none."""
    if interval.low is None or interval.high is None:
        return []
    return [interval.low, interval.high]


# Scales


def spans_decades(values: Sequence[float]) -> bool:
    """Whether only a logarithmic axis shows these values: they are positive and differ widely."""
    return min(values) > 0 and max(values) > WIDE_RATIO * min(values)


def scale(
    axes: Axes, which: Literal["x", "y"], values: Sequence[float], inches: float, logarithmic: bool = False
) -> None:
    """Give the x or y axis, `inches` long and with these values, as many ticks as keep their labels separate."""
    axis = getattr(axes, f"{which}axis")
    # Labels stand side by side on the x axis and above one another on the y axis.
    inches_of_label = 0.55
    if which == "y":
        inches_of_label = 0.3
    room = max(2, int(inches / inches_of_label))
    if logarithmic:
        getattr(axes, f"set_{which}scale")("log")
        plain_ticks(axis, room, dense=max(values) < 500 * min(values))
        return
    axes.locator_params(axis=which, nbins=min(room, 8))
    largest = max(map(abs, values), default=0.0)
    if largest and not 1e-4 <= largest < 1e6:
        # Left to itself, matplotlib writes a common factor above the axis, where the legend stands.
        axis.set_major_formatter(_plain)


def plain_ticks(axis: Axis, count: int, dense: bool = False, least: float = 0.0) -> None:
    """At most `count` ticks at powers of ten; those closer to 0 than `least` would stand too close to it."""
    from matplotlib.ticker import LogLocator, NullLocator

    if dense:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    locator: Any = axis.get_major_locator()  # of a logarithmic scale
    locator.set_params(numticks=count)
    axis.set_major_formatter(lambda value, _: "" if 0 < abs(value) <= least else _plain(value))
    axis.set_minor_locator(NullLocator())


def _plain(value: float, _: object = None) -> str:
    return f"{value:.4g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
