"""The documents of a batch of ideas that were screened: nothing is claimed of any of them.

A batch has a summary, results.yaml, tables and rows of results.tsv. It has no figure, no journal entry and no report.
Everything is made from the run's manifest and from what became of each idea, and can be made again with the same bytes.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from autolab.files import write_whole
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import (
    Assessment,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    SubExperiment,
    SubExperiments,
)
from autolab.lab.schemas.outcomes import Fate, Verdict, recommend
from autolab.reports import csv_tables
from autolab.reports.claim_words import UNCLAIMED
from autolab.reports.exploration_account import batch_of, counted
from autolab.reports.iteration_documents import TABLE
from autolab.reports.journal import DocumentEntry
from autolab.reports.markup import Markdown, sentence, table
from autolab.reports.measured_run import read_screen
from autolab.reports.passages import PATHS, SUMMARY
from autolab.reports.rendering import SENTENCE, render
from autolab.reports.results_table import screen_rows
from autolab.reports.rounding import duration
from autolab.stats.screening import LEVEL, SCREENED
from autolab.text import one_line
from autolab.trials.progress import JudgedIteration

_TABLES, _RESULTS = "analysis/tables", "results.yaml"
_TITLE = 120
"""Characters of an idea's title that a sentence shows."""


@dataclass(frozen=True)
class ScreenedIdea:
    """An idea of a batch, and what became of it.

    `gain` is the mean difference to the base in the direction of good, `score` the mean of the metric, both over `n`
    trials; `seconds` is the mean of those. All are None if the idea was not measured. `reason` is a `DropReason` if it
    was dropped, else empty; `detail` is one line, and may be empty.
    """

    arm: str
    hypothesis_id: str
    title: str
    family: str | None
    changes: dict[str, JsonValue]
    commit: str | None
    gain: Interval | None
    score: float | None
    n: int
    seconds: float | None
    fate: Fate
    reason: str
    detail: str

    @property
    def measured(self) -> Interval | None:
        """Its score as a lesson holds it: a mean without an interval."""
        return None if self.score is None else _mean_alone(self.n, self.score)

    @property
    def standing(self) -> str:
        """`provisional`, `dropped: behind`."""
        return f"{self.fate}: {self.reason}" if self.reason else self.fate.value


@dataclass(frozen=True)
class ScreenedBatch:
    """A batch for its documents: its ideas in the order in which they were proposed.

    `base` is the commit that they branch from, `delta` the wanted gain. `manifest` is the run of kind `screen`; None if
    no idea got as far as a measurement.
    """

    iteration_id: str
    experiment_id: str
    metric: str
    direction: Direction
    delta: float
    base: str
    ideas: tuple[ScreenedIdea, ...]
    manifest: Manifest | None

    @property
    def name(self) -> str:
        """`batch3`."""
        return batch_of(self.iteration_id)

    @property
    def folder(self) -> str:
        """The iteration's folder, relative to the lab."""
        return f"experiments/{self.iteration_id}"

    @property
    def self_reported(self) -> bool:
        return self.manifest is not None and self.manifest.self_reported

    @property
    def failure(self) -> str | None:
        """Why its run failed; None if it did not."""
        if self.manifest is None or self.manifest.status != "failed":
            return None
        return self.manifest.reason or "no reason was recorded"

    @property
    def provisional(self) -> tuple[ScreenedIdea, ...]:
        return tuple(idea for idea in self.ideas if idea.fate is Fate.PROVISIONAL)

    @property
    def base_measured(self) -> Interval | None:
        """The score of the base: a mean without an interval. None if it was not measured."""
        if self.manifest is None:
            return None
        run = read_screen(self.manifest)
        mean = run.metrics.arms.get(run.plan.baseline.name, {}).get(self.metric)
        return None if mean is None else _mean_alone(mean.n, mean.mean)

    @property
    def best(self) -> ScreenedIdea | None:
        """The idea that is built upon, else the one with the largest gain; None if none was measured."""
        measured = [idea for idea in self.provisional or self.ideas if idea.gain is not None]
        return max(measured, key=_mean_gain, default=None)


@dataclass(frozen=True)
class ExtractedScreen:
    """What `extract_screen` has written. `metrics` is None if there was no run."""

    metrics: RunMetrics | None
    results: Results
    headline: str


def _mean_alone(count: int, mean: float) -> Interval:
    return Interval(n=count, mean=mean, low=None, high=None, level=LEVEL)


def _place(idea: ScreenedIdea) -> float:
    """Where it stands among the ideas of its batch: the largest gain first, what was not measured last."""
    return math.inf if idea.gain is None else -idea.gain.mean


def _mean_gain(idea: ScreenedIdea) -> float:
    assert idea.gain is not None
    return idea.gain.mean


# In sentences


def headline(batch: ScreenedBatch) -> str:
    """The batch in one sentence.

    `One of 4 ideas is built upon: Small CNN, +0.0123 in val_loss at one seed, unclaimed.`
    """
    if batch.failure is not None:
        return f"Nothing was measured: {one_line(batch.failure, SENTENCE).rstrip('.')}."
    chosen, best, count = batch.provisional, batch.best, len(batch.ideas)
    if chosen:
        results = "; ".join(_measured(batch, idea) for idea in chosen)
        return f"{_subject(len(chosen), count)} built upon: {results}, {UNCLAIMED}."
    # A search that learns from all batches builds upon its conclusion alone.
    if best is not None and any(idea.fate is Fate.SCREENED for idea in batch.ideas):
        return f"{counted(count, 'idea')} screened, to learn from; the best was {_measured(batch, best)}."
    none = "The one idea is not built upon" if count == 1 else f"None of {count} ideas is built upon"
    if best is None:
        return f"{none}: none was measured."
    word = "it measured" if count == 1 else "the best was"
    return f"{none}; {word} {_measured(batch, best)}."


def _subject(chosen: int, count: int) -> str:
    if count == 1:
        return "The one idea is"
    return f"One of {count} ideas is" if chosen == 1 else f"{chosen} of {count} ideas are"


def _measured(batch: ScreenedBatch, idea: ScreenedIdea) -> str:
    """`Small CNN, +0.0123 in val_loss at one seed`."""
    title = one_line(idea.title, _TITLE)
    if idea.gain is None:
        return f"{title}, not measured"
    seeds = "one seed" if idea.n == 1 else f"{idea.n} seeds"
    return f"{title}, {idea.gain.mean:+.4g} in {batch.metric} at {seeds}"


def summary(batch: ScreenedBatch) -> str:
    """analysis/summary.md of a batch: the result in one sentence, then a row an idea."""
    rows = []
    for idea in batch.ideas:
        gain = "" if idea.gain is None else f"{idea.gain.mean:+.4g}"
        score = "" if idea.score is None else f"{idea.score:.5g}"
        seconds = "" if idea.seconds is None else duration(idea.seconds)
        name = f"{idea.hypothesis_id}: {one_line(idea.title, _TITLE)}"
        rows.append((name, gain, score, str(idea.n), seconds, idea.standing))
    head = ("idea", f"gain in {batch.metric}", batch.metric, "n", "a trial", "fate")
    return render(
        "screen_summary",
        batch=batch,
        headline=headline(batch),
        table=table(head, rows),
        base_score=_base_score(batch),
        measured=_measurements(batch),
        stories=list(_stories(batch)),
    )


def _base_score(batch: ScreenedBatch) -> str:
    """`, which scored 0.0861 (n = 1)`; empty if the base was not measured."""
    base = batch.base_measured
    return "" if base is None else f", which scored {base.mean:.5g} (n = {base.n})"


def _measurements(batch: ScreenedBatch) -> str:
    """What a gain of the batch rests on."""
    most = max((idea.n for idea in batch.ideas), default=0)
    return "a single measurement" if most <= 1 else f"the mean of at most {most} measurements"


def _stories(batch: ScreenedBatch) -> Iterator[Markdown]:
    """A line for each idea whose fate has a detail."""
    for idea in batch.ideas:
        if idea.detail:
            yield sentence(f"{idea.hypothesis_id} ({idea.reason or idea.fate}): {idea.detail}", SENTENCE)


def terminal_lines(batch: ScreenedBatch) -> list[str]:
    """The batch for a user who watches: its sentence, then a line an idea, the best first."""
    lines = [f"{batch.name}: {headline(batch)}"]
    for idea in sorted(batch.ideas, key=_place):
        standing = idea.standing.replace(":", ",")
        text = f"  {idea.hypothesis_id} {_measured(batch, idea)}: {standing}"
        if idea.detail:
            text += f" ({one_line(idea.detail, _TITLE)})"
        lines.append(text)
    return lines


# Records


def results(batch: ScreenedBatch, artifacts: tuple[str, ...] = ()) -> Results:
    """results.yaml of a batch: inconclusive, `screened`, an entry an arm; without a verdict if the run failed."""
    status: Literal["completed", "failed"] = "completed"
    assessment = Assessment(verdict=Verdict.INCONCLUSIVE, reason=SCREENED)
    run_id, metrics, best = "", {}, batch.best
    if batch.manifest is not None:
        run = read_screen(batch.manifest)
        run_id = run.run_id
        if best is not None:
            metrics = run.means(best.arm)
    if batch.failure is not None:
        status, metrics = "failed", {}
        assessment = Assessment(verdict=None, reason=batch.failure)
    return Results(
        experiment_id=batch.experiment_id,
        iteration_id=batch.iteration_id,
        run_id=run_id,
        status=status,
        results=SubExperiments(experiments={idea.arm: _sub_experiment(batch, idea) for idea in batch.ideas}),
        findings=(headline(batch),),
        metrics=metrics,
        artifacts=artifacts,
        error=batch.failure,
        assessment=assessment,
        recommendation=recommend(assessment.verdict),
    )


def _sub_experiment(batch: ScreenedBatch, idea: ScreenedIdea) -> SubExperiment:
    finding = f"{_measured(batch, idea)}; {idea.standing}"
    if idea.fate is Fate.PROVISIONAL:
        finding += f", {UNCLAIMED}"
    if idea.gain is not None:
        metrics = {} if idea.score is None else {batch.metric: idea.score}
        return SubExperiment(status="completed", finding=finding, metrics=metrics)
    if idea.reason == "failed":
        return SubExperiment(status="failed", finding=finding, error=idea.detail or "no reason was recorded")
    return SubExperiment(status="skipped", finding=finding)


def tsv_rows(batch: ScreenedBatch) -> DocumentEntry | None:
    """The rows of a batch in results.tsv: the base, and each idea that has a trial. None if there was no run."""
    if batch.manifest is None:
        return None
    descriptions = {}
    for arm in batch.manifest.arms:
        if arm.role == "baseline":
            descriptions[arm.name] = f"the base of {batch.name}"
    for idea in batch.ideas:
        descriptions[idea.arm] = f"{one_line(idea.title, _TITLE)}; {idea.standing}"
    metrics = read_screen(batch.manifest).metrics
    text = screen_rows(batch.manifest, metrics, batch.metric, descriptions)
    return DocumentEntry(f"{batch.iteration_id}.{batch.manifest.run_id}", TABLE, text, "row")


def docs_update(batch: ScreenedBatch, rows: DocumentEntry | None) -> DocumentEntry:
    """experiments/<ID>/docs_update.md of a batch; `rows` are those of `tsv_rows`, with the path of the lab's table."""
    target = posixpath.relpath(rows.path, batch.folder) if rows is not None else ""
    text = render("screen_update", rows=rows, target=target)
    return DocumentEntry(batch.iteration_id, f"{batch.folder}/{PATHS.docs_update}", text, "file")


def judged(batch: ScreenedBatch) -> JudgedIteration:
    """The batch as a row of verdicts: its best idea, `provisional` or `screened`."""
    best, word = batch.best, SCREENED
    if batch.failure is not None:
        word = "failed, no verdict"
    if batch.provisional:
        word = Fate.PROVISIONAL.value
    title = headline(batch) if best is None else one_line(best.title)
    gain = None if best is None else best.gain
    return JudgedIteration(batch.iteration_id, batch.name, title, word, gain)


# Files


def extract_screen(folder: Path, batch: ScreenedBatch) -> ExtractedScreen:
    """Write the run's metrics.json, results.yaml, analysis/summary.md and the tables into the iteration's `folder`.

    RecordError: as of `read_screen`.
    """
    documents: dict[str, str] = {}
    metrics = None
    if batch.manifest is not None:
        run = read_screen(batch.manifest)
        metrics = run.metrics
        documents[f"runs/{run.run_id}/metrics.json"] = metrics.to_json()
        documents[f"{_TABLES}/arms.csv"] = csv_tables.arms([run])
        documents[f"{_TABLES}/trials.csv"] = csv_tables.trials([run])
    documents[f"{_TABLES}/ideas.csv"] = _ideas_table(batch)
    documents[SUMMARY] = summary(batch)
    made = results(batch, (*documents, _RESULTS))
    # Last, so that results.yaml never exists without the files that it names.
    documents[_RESULTS] = made.to_yaml()
    for path, text in documents.items():
        write_whole(folder / path, text)
    return ExtractedScreen(metrics, made, headline(batch))


def _ideas_table(batch: ScreenedBatch) -> str:
    """One row an idea; gain and score are in the metric's units."""
    rows: list[csv_tables.Row] = []
    for idea in batch.ideas:
        gain = None if idea.gain is None else idea.gain.mean
        about = (idea.arm, idea.hypothesis_id, one_line(idea.title), idea.family, batch.metric)
        end = (idea.fate.value, idea.reason, one_line(idea.detail), idea.seconds, idea.commit)
        rows.append((*about, idea.n, idea.score, gain, *end))
    header = ("arm", "hypothesis", "title", "family", "metric", "n", "score", "gain", "fate", "reason", "detail")
    return csv_tables.table_text((*header, "seconds", "commit"), rows)
