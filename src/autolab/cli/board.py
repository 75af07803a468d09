"""The picture of the live view: what is known of a loop, as rows that fit a terminal.

    ── Autolab · iteration 2 of 3 · h2 Warm-up of the step size ────────────────────── 14:07:31 ──
    stage     ✓ ✓ ✓ ✓ ▸ launch  · · ·  for 41 s
    run_0001  ━━━━━━━━━━──────────  11 of at most 48 trials, at most 34 s left, 41 s so far
              ━━━━━━──────────────  small_cnn-s5  about 2 s left, 2 s of 4 s
    pairs     5 of at most 24, gain so far +0.03522 in val_loss  small_cnn against baseline
    verdicts  h1  supported, kept  +0.03522 [0.02504, 0.0454]  Small CNN
    spent     31 of 200 trials · 2 of 50 iterations · 0.02 h
    last      14:07:29, 2 s ago  small_cnn-s4 completed in 3.7 s  val_loss 0.05099, accuracy 0.9866

Times within the picture are computed when it is drawn. rich is loaded by the functions that draw.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.experiment import Interval
from autolab.lab.schemas.outcomes import Stage, Verdict
from autolab.loop.stages import TABLE
from autolab.text import many_lines
from autolab.trials.progress import JudgedIteration, Pairs, Progress, RunningTrial, spell

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text


VERDICTS = 5
NAMES = 10
"""Columns of the names at the left."""
WIDE, VERY_WIDE = 80, 150
"""Columns from which intervals are shown, and the stages by name."""
STAGES = list(TABLE)
STYLES: dict[str, str] = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red", Verdict.INCONCLUSIVE: "yellow"}
Part = str | tuple[str, str]
"""A text, or a text and its style."""


@dataclass
class Board:
    """Set by the thread that works, drawn by another: each value is replaced whole."""

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
    drawn: tuple[int, ...] = ()
    """Columns of each row of the last picture."""

    def begin(self, state: State, campaign: Campaign, title: str) -> None:
        """A stage begins. How far the run was is shown until the iteration is over, or another run begins."""
        if STAGES.index(state.stage) <= STAGES.index(Stage.LAUNCH):
            self.progress = None
        self.state, self.campaign, self.title, self.since = state, campaign, title, time.monotonic()
        self.note(f"{state.stage} began")

    def note(self, event: str) -> None:
        self.event = time.monotonic(), time.strftime("%H:%M:%S"), event

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        rows = self.rows(options.size.width, options.size.height, time.monotonic())
        self.drawn = tuple(row.cell_len for row in rows)
        yield from rows

    def rows(self, width: int, height: int, now: float) -> list[Text]:
        """At most `height` - 3 rows, but at least 5; none wider than `width` columns."""
        top, bottom = [self._head(width), self._stage_row(width, now)], self._bottom(now)
        room = max(5, height - 3) - len(top) - len(bottom)
        verdicts = self._verdict_rows(width)
        run = self._run_rows(width, now, room - min(2, len(verdicts)))
        rows = [*top, *run, *verdicts[: max(0, room - len(run))], *bottom]
        for row in rows:
            row.truncate(width, overflow="ellipsis")
        return rows

    def _head(self, width: int) -> Text:
        loop, number = self.campaign.loop, self.campaign.iterations
        which = f"{number - loop.first_iteration} of {loop.max_iterations}" if loop else f"{number}"
        claim: Part = (f"{self.campaign.hypothesis_id} {self.title}".strip(), "bold cyan")
        known: list[Part] = [f" · iteration {which} · ", claim] if self.state else []
        head = _text(("── ", "dim"), ("Autolab", "bold"), *known, " ")
        clock = time.strftime(" %H:%M:%S ──")
        head.truncate(max(0, width - len(clock)), overflow="ellipsis")
        head.append("─" * (width - len(clock) - head.cell_len), "dim")
        return head.append(clock, "dim")

    def _stage_row(self, width: int, now: float) -> Text:
        if self.state is None:
            return _row("stage")
        here = STAGES.index(self.state.stage)
        parts: list[Part] = []
        for number, stage in enumerate(STAGES):
            mark, style = ("✓", "green") if number < here else ("▸", "bold cyan") if number == here else ("·", "dim")
            parts.append((f"{mark} {stage}  " if width >= VERY_WIDE or number == here else f"{mark} ", style))
        again = f", attempt {self.state.stage_attempt}" if self.state.stage_attempt > 1 else ""
        return _row("stage", *parts, f" for {spell(now - self.since)}{again}")

    def _run_rows(self, width: int, now: float, room: int) -> list[Text]:
        """The run's bar, a bar a running trial, a row a comparison; where there is little room the bars give way."""
        progress = self.progress
        if progress is None:
            return []
        judged = self.state and self.verdicts and self.verdicts[0].iteration_id == self.state.iteration_id
        pairs = [] if judged else [_pairs_row(one, progress, not i) for i, one in enumerate(progress.pairs)]
        pairs = pairs[: max(1, room - 2)]
        space = max(0, room - 1 - len(pairs))
        shown = progress.running if len(progress.running) <= space else progress.running[: max(0, space - 1)]
        rows = [
            _whole_row(progress, width, None if self.pausing else progress.left(now), now),
            *(_trial_row(one, width, now) for one in shown),
        ]
        if space and (more := len(progress.running) - len(shown)):
            rows.append(_row("", (f"and {more} more run", "dim")))
        return [*rows, *pairs][: max(0, room)]

    def _verdict_rows(self, width: int) -> list[Text]:
        rows = []
        for number, one in enumerate(self.verdicts[:VERDICTS]):
            gain = f"{_gain(one.gain, width >= WIDE):<{28 if width >= WIDE else 10}}"
            parts: list[Part] = [
                (f"{one.hypothesis_id:<4}", "bold"),
                (f"{one.verdict:<24} ", STYLES.get(one.verdict.partition(",")[0], "")),
            ]
            rows.append(_row("" if number else "verdicts", *parts, f"{gain}  {one.title}"))
        return rows

    def _bottom(self, now: float) -> list[Text]:
        when, clock, what = self.event
        said: list[Part] = [(f"{clock}, {spell(now - when)} ago  ", "dim"), what] if what else []
        rows = [_row("spent", " · ".join(self._spent(now))), _row("last", *said)]
        if self.pausing:
            stage = self.state.stage if self.state else None
            rows.append(_row("asked", (pausing(stage, self.progress, " (Ctrl-C: at once)"), "bold yellow")))
        return rows

    def _spent(self, now: float) -> Iterator[str]:
        """What budgets count; a cap where there is one."""
        progress, cap = self.progress, self.budget
        launched = self.state is not None and self.state.stage is Stage.LAUNCH
        trials = self.campaign.trials + (progress.spent if progress and launched else 0)
        hours = (self.campaign.seconds + (now - self.since if self.state else 0.0)) / 3600
        yield f"{trials}{'' if cap.trials is None else f' of {cap.trials}'} trials"
        yield f"{self.campaign.iterations}{'' if cap.iterations is None else f' of {cap.iterations}'} iterations"
        yield f"{hours:.2f}{'' if cap.wall_hours is None else f' of {cap.wall_hours:g}'} h"
        if self.campaign.tokens or cap.tokens is not None:
            yield f"{self.campaign.tokens:,}{'' if cap.tokens is None else f' of {cap.tokens:,}'} tokens"
        if self.campaign.dollars or cap.dollars is not None:
            yield f"${self.campaign.dollars:.2f}{'' if cap.dollars is None else f' of ${cap.dollars:g}'}"


def pausing(stage: Stage | None, progress: Progress | None, aside: str = "") -> str:
    """What a command that was asked to stop waits for, and how long where that is known."""
    if progress is None or not progress.running:
        return f"pausing{aside} after the present step{f', {stage}' if stage else ''}"
    names = [one.trial for one in progress.running]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    left = progress.paused_in(time.monotonic())
    when = f" in about {spell(left)}" if left is not None else ""
    return f"pausing{when}{aside} after the present trials: {', '.join(names[:3])}{more}"


def logged(line: str) -> Table:
    """A line of lasting value with the time of day; what does not fit goes on below it, indented."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(time.strftime("%H:%M:%S"), "dim", no_wrap=True), Text(printable(line)))
    return grid


def _whole_row(progress: Progress, width: int, left: float | None, now: float) -> Text:
    said = f"{progress.done} of {progress.most}{progress.planned} trials"
    if left and progress.running:
        said += f", {progress.most or 'about '}{spell(left)} left, {spell(now - progress.began)} so far"
    return _row(progress.run_id, *_bar(progress.done / progress.planned, width, "green"), (said, "bold"))


def _trial_row(one: RunningTrial, width: int, now: float) -> Text:
    if one.since is None:
        return _row("", *_bar(0.0, width, "cyan"), f"{one.trial}  began before this command")
    spent, left = now - one.since, one.left(now)
    if one.expected is None or left is None:
        return _row("", *_bar(0.0, width, "cyan"), f"{one.trial}  {spell(spent)}, the first of its arm")
    share, style = (spent / one.expected, "cyan") if left else (1.0, "yellow")
    said = f"about {spell(left)} left" if left else "longer than those before"
    return _row("", *_bar(share, width, style), f"{one.trial}  {said}, {spell(spent)} of {spell(one.expected)}")


def _pairs_row(one: Pairs, progress: Progress, first: bool) -> Text:
    gain = f", gain so far {one.gain:+.4g} in {progress.metric}" if one.gain is not None else ""
    said = f"{one.done} of {progress.most}{one.planned}{gain}  {one.arm} against {one.baseline}"
    return _row("pairs" if first else "", said)


def _gain(gain: Interval | None, ends: bool) -> str:
    if gain is None or not gain.n:
        return ""
    known = ends and gain.low is not None and gain.high is not None
    return f"{gain.mean:+.4g}" + (f" [{gain.low:.4g}, {gain.high:.4g}]" if known else "")


def _bar(share: float, width: int, style: str) -> list[Part]:
    columns = min(40, max(8, width // 4 - 6))
    done = int(columns * share)
    return [("━" * done, style), ("─" * (columns - done), "dim"), "  "]


def _row(name: str, *parts: Part) -> Text:
    return _text((f"{name:<{NAMES}}", "dim"), *parts)


def _text(*parts: Part) -> Text:
    """One row, whatever is in its parts."""
    from rich.text import Text

    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((printable(re.sub(r"\s", " ", text)), style) for text, style in styled), no_wrap=True)


def printable(text: str) -> str:
    """Without what would move the cursor or change the terminal: lines quote what trials and researchers wrote."""
    return many_lines(text)
