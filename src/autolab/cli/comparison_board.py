"""The picture of a comparison: its state as rows that fit a terminal. Only the live view loads it, and rich.

    ── Autolab · HEAD → lr=0.2, wide.patch ─────────────────────────────────────────── 14:07:31 ──
    phase     ✓ warm-up ✓ noise ▸ pairs for 41 s
    trials    ━━━━━━━━━━━━────────  14, likely 8 more, at most 58, about 24 s left
              ━━━━━━──────────────  lr-0-2-s5  about 2 s left, 2 s of 4 s
    gain      lr=0.2      5 pairs  +0.035 (99% CI -0.010 to 0.080)   likely 4 more
              wide.patch  4 pairs  -0.212 (90% CI -0.310 to -0.114)  worse
    metric    val loss, lower is better; a gain of 0.016 is worth having
    spent     18 of 40 trials · 58 s of training
    last      14:07:29, 2 s ago  baseline-s4 completed in 3.7 s  val loss 0.501

Times within the picture are computed when it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from autolab.cli.comparison_view import PHASES, ComparisonState, Outlook, gain_text, likely_text, pairs_text, time_text
from autolab.cli.picture import MARGIN, NAMES, Picture, bar, row_text, trial_bars
from autolab.cli.view import pausing
from autolab.compare.answer import Standing
from autolab.lab.schemas.experiment import Interval
from autolab.trials.progress import Pairs, Progress, spell

WIDE, VERY_WIDE = 80, 110
"""Columns from which intervals are shown, and drawn."""
HIGH = 14
"""Rows from which the metric has its own."""
CHART = 25
"""Columns of an interval that is drawn: an odd number, so that 0 is in the middle."""
STYLES = {
    Standing.BETTER: "bold green",
    Standing.NOT_WORSE: "bold green",
    Standing.WORSE: "bold red",
    Standing.FAILED: "bold red",
    Standing.NO_GAIN: "bold yellow",
    Standing.UNDECIDED: "bold yellow",
}


@dataclass
class ComparisonBoard(Picture):
    """Set by the thread that works, drawn by rich's refresh thread."""

    state: ComparisonState

    def picture(self, width: int, height: int, now: float) -> Table:
        """The rows at `now` of `time.monotonic()`. Where there is little room, trials give way, then candidates."""
        rows = self.named_rows()
        rows.add_row("phase", self._phases(width, now))
        has_metric = height >= HIGH
        # Head, phase, spent and last are always there.
        room = max(2, height - MARGIN - 4 - has_metric - self.pausing)
        candidates = self._candidates(width, room - 1)
        if self.progress is not None:
            self._add_trials(rows, self.progress, width, room - len(candidates), now)
        if candidates:
            rows.add_row("gain", _candidate_table(candidates))
        if has_metric:
            rows.add_row("metric", row_text(self.state.metric_text()))
        rows.add_row("spent", row_text(" · ".join(self.state.costs(now))))
        self.add_last(rows, now)
        if self.pausing:
            self.add_pausing(rows, pausing(None, self.progress))
        return self.framed(row_text(f"· {self.state.title()} ", "bold cyan"), rows, width)

    def _phases(self, width: int, now: float) -> Text:
        row = row_text("")
        phase = self.state.phase
        if phase is None:
            return row
        kinds = self.state.phases
        position = kinds.index(phase.kind)
        for number, kind in enumerate(kinds):
            if number < position:
                row.append(f"✓ {PHASES[kind]} ", "green")
            elif number == position:
                row.append(f"▸ {PHASES[kind]} ", "bold cyan")
            else:
                row.append(f"· {PHASES[kind]} ", "dim")
        row.append(f"for {spell(now - self.state.since)}")
        return row

    def _add_trials(self, rows: Table, progress: Progress, width: int, room: int, now: float) -> None:
        """The run's bar and a bar for each running trial, in `room` rows."""
        outlook = Outlook.of(progress, now)
        more = outlook.most if outlook.likely is None else outlook.likely
        share = progress.done / max(1, progress.done + more)
        run = bar(share, "green"), self._run_text(progress, outlook)
        rows.add_row("trials", trial_bars(run, progress.running, width, room - 1, now))

    def _run_text(self, progress: Progress, outlook: Outlook) -> str:
        if not progress.pairs:
            text = f"{progress.done} of {progress.planned}"
        elif not outlook.most:
            text = f"{progress.done}, which is enough"
        elif outlook.likely is not None:
            text = f"{progress.done}, likely {outlook.likely} more, at most {outlook.most}"
        else:
            text = f"{progress.done}, at most {outlook.most} more"
        # A run that is about to pause does not end at the time that was computed.
        seconds_left = "" if self.pausing else time_text(outlook)
        return f"{text}, {seconds_left}" if seconds_left else text

    def _candidates(self, width: int, room: int) -> list[list[Text]]:
        """A row of cells for each candidate; those whose question is open come first if there is little room."""
        state = self.state
        rows = [self._cells(pairs, state.label(pairs.arm), width) for pairs in _fitting(state.pairs, room)]
        hidden = len(state.pairs) - len(rows)
        if hidden:
            rows.append([Text(f"+{hidden} more", "dim")])
        if state.confirmation is not None:
            rows.append(self._cells(state.confirmation, "on fresh seeds", width))
        return rows

    def _cells(self, pairs: Pairs, label: str, width: int) -> list[Text]:
        name = row_text(label, "bold")
        name.truncate(max(6, (width - NAMES) // 4), overflow="ellipsis")
        standing = self.state.standing(pairs)
        status = Text(likely_text(pairs), "cyan", no_wrap=True)
        if standing is not None:
            status = Text(standing.value, STYLES[standing])
        cells = [name, Text(pairs_text(pairs.done)), _gain_cell(pairs.gain, with_interval=width >= WIDE), status]
        if width >= VERY_WIDE and pairs.gain is not None:
            cells.append(_chart(pairs.gain, self._span(), self._delta()))
        return cells

    def _delta(self) -> float:
        phase = self.state.phase
        return (phase.delta if phase is not None else None) or 0.0

    def _span(self) -> float:
        """The gain at the right end of what is drawn: the same for all candidates."""
        gains = [abs(pairs.gain.mean) for pairs in self.state.pairs if pairs.gain is not None]
        return 2 * max([*gains, self._delta()])


def _fitting(pairs: Sequence[Pairs], room: int) -> Sequence[Pairs]:
    """All candidates if they fit into `room` rows, else the open ones first and a row left for the number of others."""
    if len(pairs) <= room:
        return pairs
    open_first = sorted(pairs, key=lambda candidate: not candidate.is_open)
    return open_first[: max(1, room - 1)]


def _candidate_table(candidates: Sequence[Sequence[Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for place in range(max(map(len, candidates))):
        # Names and what is likely give way where there is little room, numbers do not.
        is_number = place in (1, 2)
        widths = [cells[place].cell_len for cells in candidates if len(cells) > place]
        table.add_column(no_wrap=True, min_width=max(widths) if is_number else None)
    for cells in candidates:
        table.add_row(*cells)
    return table


def _gain_cell(gain: Interval | None, with_interval: bool) -> Text:
    """Green where a gain of 0 is ruled out, red where a gain of 0 or more is."""
    style = ""
    if gain is not None and gain.low is not None and gain.low > 0:
        style = "green"
    elif gain is not None and gain.high is not None and gain.high < 0:
        style = "red"
    return Text(gain_text(gain, with_interval), style)


def _chart(gain: Interval, span: float, delta: float) -> Text:
    """The interval on a line from -span to span, with marks at 0 and at the least gain worth having."""
    middle = CHART // 2

    def column(value: float) -> int:
        share = max(-1.0, min(1.0, value / span)) if span else 0.0
        return middle + round(share * middle)

    cells = [" "] * CHART
    low, high = gain.low, gain.high
    if low is not None and high is not None:
        for place in range(column(low), column(high) + 1):
            cells[place] = "─"
        # An arrow where it goes on beyond the line.
        if low < -span:
            cells[0] = "←"
        if high > span:
            cells[-1] = "→"
    cells[column(delta)] = "┊"
    cells[middle] = "│"
    cells[column(gain.mean)] = "●"
    return Text("".join(cells), "dim" if low is None else "")
