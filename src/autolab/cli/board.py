"""The picture of the live view: the state of a loop as rows that fit a terminal. Only the live view loads it, and rich.

    ── Autolab · iteration 2 of 3 · h2 Warm-up of the step size ────────────────────── 14:07:31 ──
    stage     ✓ ✓ ✓ ✓ ▸ launch · · · for 41 s
    run_0001  ━━━━━━━━━━──────────  11 of at most 48 trials, at most 34 s left, 41 s so far
              ━━━━━━──────────────  small_cnn-s5  about 2 s left, 2 s of 4 s
    pairs     5 of at most 24, gain so far +0.03522 in val_loss  small_cnn against baseline
    verdicts  h1  supported, kept  +0.035 (99% CI 0.025 to 0.045)  Small CNN
    spent     31 of 200 trials · 2 of 50 iterations · 0.02 h
    last      14:07:29, 2 s ago  small_cnn-s4 completed in 3.7 s  val_loss 0.05099, accuracy 0.9866

Times within the picture are computed when it is drawn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from autolab.cli.view import pausing
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.experiment import Interval
from autolab.lab.schemas.outcomes import Stage, Verdict
from autolab.loop.stages import TABLE
from autolab.reports.rounding import decimals_of, interval_of, shown
from autolab.text import many_lines
from autolab.trials.progress import JudgedIteration, Pairs, Progress, RunningTrial, spell

VERDICTS = 5
NAMES = 9
"""Columns of the names at the left."""
WIDE, VERY_WIDE = 80, 150
"""Columns from which intervals are shown, and the stages by name."""
MARGIN = 3
"""Rows of the terminal that are left to the lines above the picture."""
STAGES = list(TABLE)
STYLES: dict[str, str] = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red"}
"""By the first word of a verdict; yellow for all that leave the question open."""


@dataclass
class Board:
    """Set by the thread that works, drawn by rich's refresh thread: each value is replaced whole."""

    budget: Budget
    verdicts: list[JudgedIteration] = field(default_factory=list)
    """Newest first."""
    state: State | None = None
    campaign: Campaign = field(default_factory=Campaign)
    title: str = ""
    since: float = field(default_factory=time.monotonic)
    """When the stage began."""
    progress: Progress | None = None
    pausing: bool = False
    event: tuple[float, str, str] = (0.0, "", "")
    """The newest sign of life: when, the time of day, what."""
    widths: tuple[int, ...] = ()
    """Columns of each row of the last picture."""

    def begin(self, state: State, campaign: Campaign, title: str) -> None:
        """A stage begins. The run's progress stays until the iteration is over, or another run begins."""
        if STAGES.index(state.stage) <= STAGES.index(Stage.LAUNCH):
            self.progress = None
        self.state, self.campaign, self.title, self.since = state, campaign, title, time.monotonic()
        self.note(f"{state.stage} began")

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

    def picture(self, width: int, height: int, now: float) -> Table:
        """The rows at `now` of `time.monotonic()`. Where there is little room, trials and verdicts give way."""
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_row(self._head(width))
        rows = Table.grid(padding=(0, 1))
        rows.add_column(width=NAMES, style="dim", no_wrap=True)
        rows.add_column()
        rows.add_row("stage", self._stages(width, now))
        # Head, stage, spent and last are always there.
        always = 4 + self.pausing
        room = max(1, height - MARGIN - always)
        verdicts = self.verdicts[: min(VERDICTS, room // 3)]
        if self.progress is not None:
            self._add_run(rows, self.progress, width, room - len(verdicts), now)
        if verdicts:
            rows.add_row("verdicts", _verdict_table(verdicts, wide=width >= WIDE))
        rows.add_row("spent", _row_text(" · ".join(self._costs(now))))
        rows.add_row("last", self._last_event(now))
        if self.pausing:
            stage = self.state.stage if self.state else None
            message = f"{pausing(stage, self.progress)}; Ctrl-C again stops at once"
            rows.add_row("Ctrl-C", _row_text(message, "bold yellow"))
        grid.add_row(rows)
        return grid

    def _head(self, width: int) -> Text:
        head = Text("── ", "dim", no_wrap=True)
        head.append("Autolab ", "bold not dim")
        if self.state is not None:
            head.append(f"· iteration {self._iteration()} · ", "not dim")
            head.append(_row_text(f"{self.campaign.hypothesis_id} {self.title} ", "bold cyan not dim"))
        clock = time.strftime(" %H:%M:%S ──")
        head.truncate(max(0, width - len(clock)), overflow="ellipsis")
        head.append("─" * (width - len(clock) - head.cell_len))
        head.append(clock)
        head.truncate(width)
        return head

    def _iteration(self) -> str:
        loop, number = self.campaign.loop, self.campaign.iterations
        if loop is None:
            return str(number)
        return f"{number - loop.first_iteration} of {loop.max_iterations}"

    def _stages(self, width: int, now: float) -> Text:
        row = _row_text("")
        if self.state is None:
            return row
        position = STAGES.index(self.state.stage)
        for number, stage in enumerate(STAGES):
            if number < position:
                mark, style = "✓", "green"
            elif number == position:
                mark, style = "▸", "bold cyan"
            else:
                mark, style = "·", "dim"
            name = f" {stage}" if number == position or width >= VERY_WIDE else ""
            row.append(f"{mark}{name} ", style)
        row.append(f"for {spell(now - self.since)}")
        if self.state.stage_attempt > 1:
            row.append(f", attempt {self.state.stage_attempt}")
        return row

    def _add_run(self, rows: Table, progress: Progress, width: int, room: int, now: float) -> None:
        """The run's bar, a bar for each running trial, a row for each comparison."""
        pairs = progress.pairs[: max(1, room // 2)]
        if self._is_judged():
            pairs = ()
        bars = Table.grid(padding=(0, 2))
        bars.add_column(width=min(40, max(8, width // 4 - 6)), no_wrap=True)
        bars.add_column()
        # A run that is about to pause does not end at the time that was computed.
        seconds_left = None if self.pausing else progress.left(now)
        bar = _bar(progress.done / progress.planned, "green")
        bars.add_row(bar, _row_text(_run_text(progress, seconds_left, now), "bold"))
        space = max(0, room - 1 - len(pairs))
        running = progress.running
        # The last row of the space says how many are hidden.
        if len(running) > space:
            running = running[: max(0, space - 1)]
        for trial in running:
            bar, text = _trial_cells(trial, now)
            bars.add_row(bar, _row_text(text))
        hidden = len(progress.running) - len(running)
        if hidden and space:
            bars.add_row("", Text(f"and {hidden} more run", "dim"))
        rows.add_row(progress.run_id, bars)
        for number, comparison in enumerate(pairs):
            rows.add_row("" if number else "pairs", _row_text(_pairs_text(comparison, progress)))

    def _is_judged(self) -> bool:
        """Whether the present iteration has its verdict, which takes the place of the gain so far."""
        if self.state is None or not self.verdicts:
            return False
        return self.verdicts[0].iteration_id == self.state.iteration_id

    def _last_event(self, now: float) -> Text:
        when, clock, event = self.event
        if not event:
            return Text()
        row = _row_text(f"{clock}, {spell(now - when)} ago  ", "dim")
        return row.append_text(_row_text(event, "not dim"))

    def _costs(self, now: float) -> list[str]:
        """What budgets count; with its cap if it has one."""
        campaign, cap = self.campaign, self.budget
        trials, seconds = campaign.trials, campaign.seconds
        if self.state is not None:
            seconds += now - self.since
            if self.state.stage is Stage.LAUNCH and self.progress is not None:
                trials += self.progress.spent
        costs = [
            f"{_of(f'{trials}', cap.trials)} trials",
            f"{_of(f'{campaign.iterations}', cap.iterations)} iterations",
            f"{_of(f'{seconds / 3600:.2f}', cap.wall_hours)} h",
        ]
        if campaign.tokens or cap.tokens is not None:
            costs.append(f"{_of(f'{campaign.tokens:,}', cap.tokens)} tokens")
        if campaign.dollars or cap.dollars is not None:
            costs.append(_of(f"${campaign.dollars:.2f}", cap.dollars, "$"))
        return costs


def log_row(line: str) -> Table:
    """A line of lasting value with the time of day; what does not fit goes on below it, indented."""
    grid = Table.grid(padding=(0, 1))
    clock = Text(time.strftime("%H:%M:%S"), "dim", no_wrap=True)
    grid.add_row(clock, Text(many_lines(line)))
    return grid


def _row_text(text: str, style: str = "") -> Text:
    """Text of one row: names, titles and messages may hold line breaks, and what looks like rich's markup."""
    line = " ".join(many_lines(text).split("\n"))
    return Text(line, style, no_wrap=True, overflow="ellipsis")


def _without_trailing_blanks(line: list[Segment]) -> list[Segment]:
    """A terminal that gets narrower would break the blanks at the end of a row into a row of their own."""
    text = "".join(segment.text for segment in line)
    return list(Segment.adjust_line_length(line, cell_len(text.rstrip())))


def _of(value: str, cap: float | None, unit: str = "") -> str:
    if cap is None:
        return value
    return f"{value} of {unit}{cap:,.10g}"


def _bar(share: float, style: str) -> ProgressBar:
    return ProgressBar(1.0, share, complete_style=style, finished_style=style)


def _run_text(progress: Progress, left: float | None, now: float) -> str:
    text = f"{progress.done} of {progress.most}{progress.planned} trials"
    if left and progress.running:
        text += f", {progress.most or 'about '}{spell(left)} left, {spell(now - progress.began)} so far"
    return text


def _trial_cells(trial: RunningTrial, now: float) -> tuple[ProgressBar, str]:
    if trial.since is None:
        return _bar(0.0, "cyan"), f"{trial.trial}  began before this command"
    seconds, seconds_left = now - trial.since, trial.left(now)
    if trial.expected is None or seconds_left is None:
        return _bar(0.0, "cyan"), f"{trial.trial}  {spell(seconds)}, the first of its arm"
    times = f"{spell(seconds)} of {spell(trial.expected)}"
    if not seconds_left:
        return _bar(1.0, "yellow"), f"{trial.trial}  longer than those before, {times}"
    return _bar(seconds / trial.expected, "cyan"), f"{trial.trial}  about {spell(seconds_left)} left, {times}"


def _pairs_text(pairs: Pairs, progress: Progress) -> str:
    text = f"{pairs.done} of {progress.most}{pairs.planned}"
    if pairs.gain is not None:
        text += f", gain so far {pairs.gain:+.4g} in {progress.metric}"
    return f"{text}  {pairs.arm} against {pairs.baseline}"


def _verdict_table(verdicts: Sequence[JudgedIteration], wide: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column()
    for iteration in verdicts:
        # Such as "supported, kept".
        verdict, _, _ = iteration.verdict.partition(",")
        style = STYLES.get(verdict, "yellow")
        table.add_row(
            Text(iteration.hypothesis_id, "bold"),
            Text(iteration.verdict, style),
            Text(_gain_text(iteration.gain, wide)),
            _row_text(iteration.title),
        )
    return table


def _gain_text(gain: Interval | None, with_interval: bool) -> str:
    if gain is None or not gain.n:
        return ""
    mean = shown(gain.mean, decimals_of(gain))
    if gain.mean > 0:
        mean = f"+{mean}"
    if not with_interval or gain.low is None:
        return mean
    return f"{mean} ({interval_of(gain)})"
