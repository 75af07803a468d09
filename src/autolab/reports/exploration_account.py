"""What led to a claim: the steps that screens took, each with its single measurement, and the counts of the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autolab.lab.schemas.campaign import ProvisionalStep
from autolab.reports.claim_words import UNCLAIMED
from autolab.reports.markup import Markdown, plain, table

FEW = 10
"""Steps that a short document shows, and whose ideas are told in full."""


@dataclass(frozen=True)
class ExplorationAccount:
    """The search before a claim, by the record.

    `steps` are the newest of `unclaimed` steps since the base, oldest first. `ideas_screened`, `provisional`, `claims`
    (this one too), `kept` and `alpha_spent` are those of the campaign, as are the trials by what they were for:
    calibration, screens, claims, tests. `ideas` says what each of the newest steps is.
    """

    steps: tuple[ProvisionalStep, ...]
    unclaimed: int
    ideas_screened: int
    provisional: int
    claims: int
    kept: int
    trials_by_purpose: Mapping[str, int]
    alpha_spent: float
    ideas: tuple[str, ...] = ()

    @property
    def together(self) -> str:
        """`3 steps`, `1 step`."""
        return counted(self.unclaimed, "step")

    @property
    def counts(self) -> str:
        """All counts in one line, without its full stop."""
        ideas = f"{counted(self.ideas_screened, 'idea')} screened, {self.provisional} provisional"
        text = f"{ideas}, {counted(self.claims, 'claim')}, {self.kept} kept"
        purposes = [f"{count} for {purpose}" for purpose, count in self.trials_by_purpose.items() if count]
        if purposes:
            trials = sum(self.trials_by_purpose.values())
            text += f"; {counted(trials, 'trial')}, {', '.join(purposes)}"
        return f"{text}; error rate spent on claims {self.alpha_spent:.3g}"


def counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def mark(seeds: int) -> str:
    """What a step's gain is: `unclaimed: one measurement`."""
    measured = "one measurement" if seeds == 1 else f"the mean of {seeds} measurements"
    return f"{UNCLAIMED}: {measured}"


def batch_of(iteration_id: str) -> str:
    """The short name of a batch: `batch3` of `2026-02-12T23-30-00Z_batch3`."""
    return iteration_id.rpartition("_")[2]


def steps_table(exploration: ExplorationAccount, metric: str, most: int | None = None) -> Markdown:
    """The newest `most` steps (None: all that are remembered), oldest first, with a line for those left out.

    A title names a few of the parts that an idea changes; below the table stands what the newest ideas are.
    """
    steps = exploration.steps
    if most is not None:
        steps = steps[-most:]
    if not steps:
        return Markdown("No step is remembered.")
    first = exploration.unclaimed - len(steps) + 1
    rows = []
    for number, step in enumerate(steps, first):
        gain = f"{step.gain:+.4g}"
        rows.append((str(number), step.title, gain, mark(step.seeds), batch_of(step.iteration_id), step.commit[:12]))
    made = table(("step", "idea", f"measured gain in {metric}", "which is", "batch", "commit"), rows)
    parts: list[str] = [made]
    if first > 1:
        parts.append(f"{counted(first - 1, 'earlier step')} before these.")
    told = exploration.ideas[-len(steps) :]
    first_told = exploration.unclaimed - len(told) + 1
    lines = [f"- Step {number}: {plain(idea)}" for number, idea in enumerate(told, first_told)]
    if lines:
        parts.append("\n".join(lines))
    return Markdown("\n\n".join(parts))
