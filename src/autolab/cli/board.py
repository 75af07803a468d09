"""The picture of a loop: its state as rows that fit a terminal. Only the live view loads it, and rich.

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

from rich.table import Table
from rich.text import Text

from autolab.cli.picture import MARGIN, Picture, bar, cost_text, row_text, signed_gain, trial_bars
from autolab.cli.view import pausing
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.experiment import Interval
from autolab.lab.schemas.outcomes import Fate, Gear, Stage, Verdict
from autolab.loop.stages import TABLE
from autolab.reports import claim_words
from autolab.reports.exploration_account import counted
from autolab.reports.rounding import interval_of
from autolab.trials.progress import JudgedIteration, Pairs, Progress, spell

VERDICTS = 5
WIDE, VERY_WIDE = 80, 150
"""Columns from which intervals are shown, and the stages by name."""
STAGES = list(TABLE)
STYLES: dict[str, str] = {
    Verdict.SUPPORTED: "green",
    Verdict.REFUTED: "red",
    Fate.PROVISIONAL: "cyan",
    Fate.DROPPED: "dim",
    Fate.SCREENED: "dim",
    claim_words.CLAIMED: "bold green",
}
"""By the first word of a verdict; yellow for all that leave the question open."""


@dataclass
class Board(Picture):
    """Set by the thread that works, drawn by rich's refresh thread: each value is replaced whole."""

    budget: Budget
    verdicts: list[JudgedIteration] = field(default_factory=list)
    """Newest first."""
    state: State | None = None
    campaign: Campaign = field(default_factory=Campaign)
    title: str = ""
    since: float = field(default_factory=time.monotonic)
    """When the stage began."""

    def begin(self, state: State, campaign: Campaign, title: str) -> None:
        """A stage begins. The run's progress stays until the iteration is over, or another run begins."""
        if STAGES.index(state.stage) <= STAGES.index(Stage.LAUNCH):
            self.progress = None
        self.state, self.campaign, self.title, self.since = state, campaign, title, time.monotonic()
        self.note(f"{state.stage} began")

    def picture(self, width: int, height: int, now: float) -> Table:
        """The rows at `now` of `time.monotonic()`. Where there is little room, trials and verdicts give way."""
        rows = self.named_rows()
        rows.add_row("stage", self._stages(width, now))
        working = self._working()
        # Head, stage, spent and last are always there.
        always = 4 + self.pausing + bool(working)
        room = max(1, height - MARGIN - always)
        verdicts = self.verdicts[: min(VERDICTS, room // 3)]
        if self.progress is not None:
            self._add_run(rows, self.progress, width, room - len(verdicts), now)
        if verdicts:
            rows.add_row("verdicts", _verdict_table(verdicts, wide=width >= WIDE))
        if working:
            rows.add_row("working", row_text(working))
        rows.add_row("spent", row_text(" · ".join(self._costs(now))))
        self.add_last(rows, now)
        if self.pausing:
            stage = self.state.stage if self.state else None
            self.add_pausing(rows, pausing(stage, self.progress))
        return self.framed(self._head(), rows, width)

    def _head(self) -> Text:
        head = Text()
        if self.state is not None:
            after = "after " if self.campaign.gear is Gear.CLAIM else ""
            head.append(f"· {after}iteration {self._iteration()} · ")
            head.append(row_text(f"{self._subject()} ", "bold cyan"))
        return head

    def _subject(self) -> str:
        """What the iteration tests: `h2 Warm-up`, `batch 3: 4 ideas`, `claim 1: 3 steps`."""
        campaign = self.campaign
        if campaign.gear is Gear.EACH:
            return f"{campaign.hypothesis_id} {self.title}"
        subject = f"batch {campaign.batches}"
        if campaign.gear is Gear.CLAIM:
            subject = f"claim {campaign.claims_begun}"
        return f"{subject}: {self.title}" if self.title else subject

    def _iteration(self) -> str:
        """Its number, as caps count: a claim has none of its own."""
        loop, number = self.campaign.loop, self.campaign.counted
        if loop is None:
            return str(number)
        return f"{number - loop.first_iteration} of {loop.max_iterations}"

    def _working(self) -> str:
        """The steps that nothing has claimed yet; empty outside of an exploration."""
        exploration = self.campaign.exploration
        if exploration is None:
            return ""
        steps = exploration.unclaimed
        text = "no step yet" if not steps else f"{counted(steps, 'step')} unclaimed"
        text += f" on {exploration.base[:12]}"
        if exploration.reserve:
            text += f" · {exploration.reserve} trials set aside for the claim"
        return text

    def _stages(self, width: int, now: float) -> Text:
        row = row_text("")
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
        # A run that is about to pause does not end at the time that was computed.
        seconds_left = None if self.pausing else progress.left(now)
        run = bar(progress.done / progress.planned, "green"), _run_text(progress, seconds_left, now)
        bars = trial_bars(run, progress.running, width, room - 1 - len(pairs), now)
        rows.add_row(progress.run_id, bars)
        for number, comparison in enumerate(pairs):
            rows.add_row("" if number else "pairs", row_text(_pairs_text(comparison, progress)))

    def _is_judged(self) -> bool:
        """Whether the present iteration has its verdict, which takes the place of the gain so far."""
        if self.state is None or not self.verdicts:
            return False
        return self.verdicts[0].iteration_id == self.state.iteration_id

    def _costs(self, now: float) -> list[str]:
        """What budgets count; with its cap if it has one."""
        campaign, cap = self.campaign, self.budget
        trials, seconds = campaign.trials, campaign.seconds
        if self.state is not None:
            seconds += now - self.since
            if self.state.stage is Stage.LAUNCH and self.progress is not None:
                trials += self.progress.spent
        costs = [
            f"{cost_text(f'{trials}', cap.trials)} trials",
            f"{cost_text(f'{campaign.counted}', cap.iterations)} iterations",
            f"{cost_text(f'{seconds / 3600:.2f}', cap.wall_hours)} h",
        ]
        if campaign.claims_begun:
            costs.insert(2, counted(campaign.claims_begun, "claim"))
        if campaign.tokens or cap.tokens is not None:
            costs.append(f"{cost_text(f'{campaign.tokens:,}', cap.tokens)} tokens")
        if campaign.dollars or cap.dollars is not None:
            costs.append(cost_text(f"${campaign.dollars:.2f}", cap.dollars, "$"))
        return costs


def _run_text(progress: Progress, left: float | None, now: float) -> str:
    text = f"{progress.done} of {progress.most}{progress.planned} trials"
    if left and progress.running:
        text += f", {progress.most or 'about '}{spell(left)} left, {spell(now - progress.began)} so far"
    return text


def _pairs_text(pairs: Pairs, progress: Progress) -> str:
    text = f"{pairs.done} of {progress.most}{pairs.planned}"
    if pairs.gain is not None:
        text += f", gain so far {pairs.gain.mean:+.4g} in {progress.metric}"
    return f"{text}  {pairs.arm} against {pairs.baseline}"


def _verdict_table(verdicts: Sequence[JudgedIteration], wide: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column()
    for iteration in verdicts:
        # Such as "supported, kept" or "claimed on this evaluation alone".
        verdict = _verdict_text(iteration)
        first_word = verdict.replace(",", " ").partition(" ")[0]
        style = STYLES.get(first_word, "yellow")
        table.add_row(
            Text(iteration.hypothesis_id, "bold"),
            Text(verdict, style),
            Text(_gain_text(iteration.gain, wide)),
            row_text(iteration.title),
        )
    return table


def _verdict_text(iteration: JudgedIteration) -> str:
    """The verdict; that of a claim, which a lesson keeps in the words of a confirmation, in the words of claims."""
    verdict = iteration.verdict
    if not claim_words.is_claim_iteration(iteration.iteration_id) or verdict.startswith(("claim", "failed")):
        return verdict
    kept, was_kept, alone = verdict.partition("kept")
    if kept == "supported, " and was_kept:
        return f"{claim_words.CLAIMED}{alone}"
    return claim_words.FAILED


def _gain_text(gain: Interval | None, with_interval: bool) -> str:
    if gain is None or not gain.n:
        return ""
    mean = signed_gain(gain)
    # A screen has measured it once: whoever reads it must not take it for more.
    if gain.n == 1:
        return f"{mean} (n = 1)"
    if not with_interval or gain.low is None:
        return mean
    return f"{mean} ({interval_of(gain)})"
