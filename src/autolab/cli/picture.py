"""What every picture of the live view has: a head, named rows, bars of running trials, the last sign of life.

A picture is drawn for a width and a height: no row is wider than the terminal, and no picture as high.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from autolab.lab.schemas.experiment import Interval
from autolab.reports.rounding import decimals_of, shown
from autolab.text import many_lines
from autolab.trials.progress import Progress, RunningTrial, spell

NAMES = 9
"""Columns of the names at the left."""
MARGIN = 3
"""Rows of the terminal that are left to the lines above the picture."""


@dataclass(kw_only=True)
class Picture(ABC):
    """Set by the thread that works, drawn by rich's refresh thread: each value is replaced whole."""

    progress: Progress | None = None
    pausing: bool = False
    event: tuple[float, str, str] = (0.0, "", "")
    """The newest sign of life: when, the time of day, what."""
    widths: tuple[int, ...] = ()
    """Columns of each row of the last picture."""

    @abstractmethod
    def picture(self, width: int, height: int, now: float) -> Table:
        """The rows at `now` of `time.monotonic()`, no wider than `width`."""

    def note(self, event: str) -> None:
        self.event = time.monotonic(), time.strftime("%H:%M:%S"), event

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.size.height
        picture = self.picture(options.max_width, height, time.monotonic())
        lines = console.render_lines(picture, options, pad=False)
        # rich moves the cursor up by the picture's height, so a picture must not be higher than the terminal.
        lines = lines[: max(1, height - 1)]
        lines = [_without_trailing_blanks(line) for line in lines]
        self.widths = tuple(Segment.get_line_length(line) for line in lines)
        for line in lines:
            yield from line
            yield Segment.line()

    # parts that pictures are made of

    def named_rows(self) -> Table:
        rows = Table.grid(padding=(0, 1))
        rows.add_column(width=NAMES, style="dim", no_wrap=True)
        rows.add_column()
        return rows

    def framed(self, title: Text, rows: Table, width: int) -> Table:
        """The rows below a line with the title and the time of day."""
        head = Text("── ", "dim", no_wrap=True)
        head.append("Autolab ", "bold not dim")
        title.stylize_before("not dim")
        head.append_text(title)
        clock = time.strftime(" %H:%M:%S ──")
        head.truncate(max(0, width - len(clock)), overflow="ellipsis")
        head.append("─" * (width - len(clock) - head.cell_len))
        head.append(clock)
        head.truncate(width)
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_row(head)
        grid.add_row(rows)
        return grid

    def add_last(self, rows: Table, now: float) -> None:
        when, clock, event = self.event
        row = Text()
        if event:
            row = row_text(f"{clock}, {spell(now - when)} ago  ", "dim")
            row.append_text(row_text(event, "not dim"))
        rows.add_row("last", row)

    def add_pausing(self, rows: Table, waits_for: str) -> None:
        rows.add_row("Ctrl-C", row_text(f"{waits_for}; Ctrl-C again stops at once", "bold yellow"))


def trial_bars(
    run: tuple[ProgressBar, str], running: Sequence[RunningTrial], width: int, space: int, now: float
) -> Table:
    """The run's bar and text, and below it those of the running trials as far as `space` rows allow."""
    bars = Table.grid(padding=(0, 2))
    bars.add_column(width=min(40, max(8, width // 4 - 6)), no_wrap=True)
    bars.add_column()
    run_bar, text = run
    bars.add_row(run_bar, row_text(text, "bold"))
    space = max(0, space)
    seen = running
    # The last row of the space says how many are hidden.
    if len(seen) > space:
        seen = seen[: max(0, space - 1)]
    for trial in seen:
        trial_bar, text = _trial_cells(trial, now)
        bars.add_row(trial_bar, row_text(text))
    hidden = len(running) - len(seen)
    if hidden and space:
        bars.add_row("", Text(f"and {hidden} more run", "dim"))
    return bars


def _trial_cells(trial: RunningTrial, now: float) -> tuple[ProgressBar, str]:
    if trial.since is None:
        return bar(0.0, "cyan"), f"{trial.trial}  began before this command"
    seconds, seconds_left = now - trial.since, trial.left(now)
    if trial.expected is None or seconds_left is None:
        return bar(0.0, "cyan"), f"{trial.trial}  {spell(seconds)}, the first of its arm"
    times = f"{spell(seconds)} of {spell(trial.expected)}"
    if not seconds_left:
        return bar(1.0, "yellow"), f"{trial.trial}  longer than those before, {times}"
    return bar(seconds / trial.expected, "cyan"), f"{trial.trial}  about {spell(seconds_left)} left, {times}"


def bar(share: float, style: str) -> ProgressBar:
    return ProgressBar(1.0, share, complete_style=style, finished_style=style)


def row_text(text: str, style: str = "") -> Text:
    """Text of one row: names, titles and messages may hold line breaks, and what looks like rich's markup."""
    line = " ".join(many_lines(text).split("\n"))
    return Text(line, style, no_wrap=True, overflow="ellipsis")


def log_row(line: str) -> Table:
    """A line of lasting value with the time of day; what does not fit goes on below it, indented."""
    grid = Table.grid(padding=(0, 1))
    clock = Text(time.strftime("%H:%M:%S"), "dim", no_wrap=True)
    grid.add_row(clock, Text(many_lines(line)))
    return grid


def cost_text(value: str, cap: float | None, unit: str = "") -> str:
    """What is spent of what may be: `31 of 200`."""
    if cap is None:
        return value
    return f"{value} of {unit}{cap:,.10g}"


def signed_gain(gain: Interval) -> str:
    """A mean with as many digits as its interval supports; a gain has its sign."""
    mean = shown(gain.mean, decimals_of(gain))
    return f"+{mean}" if gain.mean > 0 else mean


def _without_trailing_blanks(line: list[Segment]) -> list[Segment]:
    """A terminal that gets narrower would break the blanks at the end of a row into a row of their own."""
    text = "".join(segment.text for segment in line)
    return list(Segment.adjust_line_length(line, cell_len(text.rstrip())))
