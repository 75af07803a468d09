"""From finished runs to what a user reads: aggregates, results, tables, figures, summary.

An iteration has a search and, if that supported a variant, a confirmation. Every file is made from their manifests, the
trials' histories and the iteration's own documents, and is written whole, so it can be made again at any moment with
the same bytes. No number passes through a language model. Tables and means hold only the trials that the rule has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.files import write_whole
from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import (
    Assessment,
    Calibration,
    Comparison,
    Confirmation,
    Design,
    Hypothesis,
    Manifest,
    Results,
    RunMetrics,
    SubExperiment,
    SubExperiments,
    Summary,
)
from autolab.lab.schemas.outcomes import Decision, RunKind, Verdict, recommend
from autolab.reports import claim_words, figures, iteration_documents, passages
from autolab.reports.csv_tables import TABLES
from autolab.reports.curves import Curve, mean95
from autolab.reports.exploration_account import ExplorationAccount
from autolab.reports.figures import Gain, Measure, Training
from autolab.reports.markup import inert
from autolab.reports.measured_run import MeasuredRun, completed, read_run
from autolab.reports.passages import SUMMARY, Account
from autolab.stats import metric_names, verdict
from autolab.stats.wording import fate, heading
from autolab.text import decode, one_line

TABLE_FOLDER = "analysis/tables"
FIGURE_FOLDER = "analysis/figures"
_RESULTS = "results.yaml"
_DECISION = "\n## Decision\n"
_NEXT: Mapping[str, str] = {
    Decision.REFINE: "Next: the same claim, tested in a better way.",
    Decision.NEW_HYPOTHESIS: "Next: a new hypothesis.",
    Decision.ACHIEVE: "The target is met, so the loop ends.",
    Decision.STOP: "The loop ends.",
    Decision.HUMAN_REVIEW: "Next: the user decides.",
}
"""The first sentence of a summary's decision."""
_PANELS = 3
"""Accuracies and other shares that a figure has panels for."""


@dataclass(frozen=True)
class Extracted:
    """The search's metrics, the results (`artifacts` names every file), the outcome in one line, and a line for each
    thing left out."""

    metrics: RunMetrics
    results: Results
    headline: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    """What an iteration measured: the search, and with its `confirmation` the run on fresh seeds.

    A claim has one run that is both: `search` then, and `fresh` is None.
    """

    design: Design
    hypothesis: Hypothesis
    search: MeasuredRun
    confirmation: Confirmation | None
    fresh: MeasuredRun | None

    @property
    def is_claim(self) -> bool:
        """Whether the one run is also the one on fresh seeds."""
        return self.search.manifest.kind is RunKind.CLAIM

    @property
    def runs(self) -> list[MeasuredRun]:
        if self.fresh is None:
            return [self.search]
        return [self.search, self.fresh]

    def assessment(self) -> Assessment:
        """That of the search. If the confirmation takes the verdict back, its outcome is the reason."""
        assessment = verdict.assessment_of(self.search.judgement)
        if self.confirmation is None or self.confirmation.outcome == "kept":
            return assessment
        # A claim that its own rule did not support has that verdict: there is no other to take back.
        if self.is_claim and assessment.verdict is not Verdict.SUPPORTED:
            return assessment
        return assessment.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": self.confirmation.outcome})


def extract(
    folder: Path,
    manifest: Manifest,
    design: Design,
    hypothesis: Hypothesis,
    confirmation: Confirmation | None = None,
    confirm: Manifest | None = None,
    calibration: Calibration | None = None,
    exploration: ExplorationAccount | None = None,
) -> Extracted:
    """Write runs/<RUN_ID>/metrics.json, results.yaml and analysis/ into the iteration's `folder`.

    `manifest` is the search, `confirm` the run on fresh seeds and `confirmation` its outcome: give both or none. Of a
    claim `confirm` is `manifest`, and `exploration` tells what led to it.
    `known` is the calibration, by which a gain may look too large. RecordError: a run has not ended, its files are not
    here yet, or a manifest's comparisons do not follow from its trials.
    """
    if (confirmation is None) != (confirm is None):
        raise ValueError("a confirmation goes with the manifest of its run")
    search = read_run(folder, manifest, design, hypothesis)
    notes = list(search.notes)
    fresh, confirmed_metrics = None, None
    if confirm is not None and confirm.run_id != manifest.run_id:
        fresh = read_run(folder, confirm, design, hypothesis)
        confirmed_metrics = fresh.metrics
        for note in fresh.notes:
            notes.append(f"{fresh.run_id}: {note}")
    measured = _Measured(design, hypothesis, search, confirmation, fresh)

    documents = {}
    for run in measured.runs:
        documents[f"runs/{run.run_id}/metrics.json"] = run.metrics.to_json()
    for name, table in TABLES.items():
        documents[f"{TABLE_FOLDER}/{name}.csv"] = table(measured.runs)
    figure_files = _draw(folder / FIGURE_FOLDER, measured)
    results = _results(measured, (*documents, *figure_files, SUMMARY, _RESULTS))
    model = None
    model_file = IterationPaths(folder).summary_json
    if model_file.exists():
        model = Summary.load(model_file)
    account = Account(
        hypothesis=hypothesis,
        design=design,
        manifest=manifest,
        metrics=search.metrics,
        results=results,
        about=model,
        confirm=confirm,
        confirm_metrics=confirmed_metrics,
        calibration=calibration,
        exploration=exploration,
    )
    documents[SUMMARY] = iteration_documents.summary(account, notes)
    # Last, so that results.yaml never exists without the files that it names.
    documents[_RESULTS] = results.to_yaml()
    for path, text in documents.items():
        write_whole(folder / path, text)
    return Extracted(search.metrics, results, passages.headline(account), tuple(notes))


def append_decision(folder: Path, decision: str, reason: str) -> None:
    """Put the iteration's decision at the end of analysis/summary.md; an earlier one is replaced.

    RecordError: there is no summary.
    """
    path = folder / SUMMARY
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{SUMMARY}: cannot be read: {error.strerror}; run extract_results first") from None
    body = text.partition(_DECISION)[0].rstrip("\n")
    # A heading in the reason would end the section for a reader who searches headings, so it becomes bold text.
    new = f"{body}\n{_DECISION}\n{_NEXT[decision]} Reason: {inert(reason.strip())}\n"
    # A retry after a crash finds the decision there, and leaves the file alone.
    if new != text:
        write_whole(path, new)


# Figures


def _draw(folder: Path, measured: _Measured) -> list[str]:
    """Draw the figures, and delete an older one that is not drawn any more, since it would mislead."""
    names: tuple[str, ...] = ()
    # A stub measures nothing, so that its figures would be empty.
    if measured.search.manifest.kind is not RunKind.STUB:
        names = figures.draw(_figures(measured), folder)
    for stem in figures.NAMES:
        for name in (f"{stem}.png", f"{stem}.pdf"):
            if name not in names:
                (folder / name).unlink(missing_ok=True)
    return [f"{FIGURE_FOLDER}/{name}" for name in names]


def _figures(measured: _Measured) -> figures.Run:
    """What the figures of an iteration show."""
    run, confirmation = measured.search, measured.confirmation
    plan, assessment = run.plan, measured.assessment()
    status, reason = run.judgement.status, assessment.reason
    standing = heading(assessment.verdict, status, reason)
    if confirmation is not None:
        outcome, evaluation_only = confirmation.outcome, confirmation.evaluation_only
        standing = heading(assessment.verdict, status, reason, outcome, evaluation_only)
    if measured.is_claim and assessment.verdict is not None:
        standing = claim_words.fate(confirmation)
    losses, shares = _panels(measured)
    # The trials behind the numbers of the headline; an arm that was not confirmed has trials in the search alone.
    shown, primary_run = run, ""
    if measured.fresh is not None:
        primary_run = "search"
        if measured.fresh.metrics.arms.keys() >= {arm.name for arm in plan.arms}:
            shown, primary_run = measured.fresh, "fresh seeds"
    note = ""
    if plan.self_reported:
        note = "self-reported: no evaluator measured these numbers"
    return figures.Run(
        title=f"{one_line(measured.hypothesis.title)[:120]}: {standing}",
        roles={arm.name: arm.role for arm in plan.arms},
        primary=_measure(shown, plan.metric),
        primary_run=primary_run,
        delta=plan.delta,
        runs=tuple(part.run_id for part in measured.runs),
        iteration_id=run.manifest.iteration_id,
        gains=_gains(measured),
        loss=Training(_curves(run, "train_loss", "loss"), losses),
        shares=Training(_curves(run, "train_accuracy", "train_acc", "accuracy"), shares),
        note=note,
    )


def _panels(measured: _Measured) -> tuple[list[Measure], list[Measure]]:
    """The evaluated metrics that are drawn: the first loss, and the first shares or metrics that the design names."""
    run = measured.search
    metrics_of_design = (run.plan.metric, *measured.design.metrics.secondary)
    losses: list[Measure] = []
    shares: list[Measure] = []
    for name in run.measured():
        # The training's own numbers are in its curves.
        if name != run.plan.metric and metric_names.is_of_training(name):
            continue
        if _direction(run, name) == "minimize" and not losses:
            losses.append(_measure(run, name))
        elif len(shares) < _PANELS and (name in metrics_of_design or metric_names.is_share(name)):
            shares.append(_measure(run, name))
    return losses, shares


def _gains(measured: _Measured) -> list[Gain]:
    """Each comparison of the search, then that of the run on fresh seeds."""
    confirmation, fresh = measured.confirmation, measured.fresh
    prefix = "" if confirmation is None else "search: "
    gains = []
    for compared in measured.search.judgement.comparisons:
        verdict_label = f"{prefix}{compared.verdict}"
        if measured.is_claim:
            verdict_label = f"fresh seeds: {claim_words.fate(confirmation)}"
        interval = verdict.shown_interval(compared, measured.search.plan, measured.search.manifest.trials)
        gains.append(Gain(compared.arm, verdict_label, interval, measured.search.gains(compared)))
    if confirmation is not None and fresh is not None:
        # A run that failed has no comparison, and its row no points.
        pairs: list[float] = []
        interval = confirmation.difference
        for compared in fresh.judgement.comparisons:
            pairs += fresh.gains(compared)
            interval = verdict.shown_interval(compared, fresh.plan, fresh.manifest.trials)
        gains.append(Gain(confirmation.arm, f"fresh seeds: {fate(confirmation)}", interval, pairs))
    return gains


def _measure(run: MeasuredRun, metric: str) -> Measure:
    values: dict[str, dict[int, float]] = {}
    # A trial that was cut counts with the bound, here as in the means.
    for trial in completed(run.trials):
        numbers = run.values(trial)
        if metric in numbers:
            values.setdefault(trial.arm, {})[trial.index] = numbers[metric]
    means = {arm: mean95(list(by_index.values())) for arm, by_index in values.items()}
    return Measure(metric, _direction(run, metric), values, means)


def _direction(run: MeasuredRun, metric: str) -> Direction | None:
    """The direction that the design states, else the one that the name suggests."""
    if metric == run.plan.metric:
        return run.plan.direction
    for criterion in run.plan.criteria:
        if criterion.metric == metric:
            return criterion.direction
    return metric_names.direction_of(metric)


def _curves(run: MeasuredRun, *metrics: str) -> list[Curve]:
    """The curves of the first of `metrics` that the trainings report."""
    for name in metrics:
        curves = [curve for curve in run.curves if curve.metric == name]
        if curves:
            return curves
    return []


# Results


def _results(measured: _Measured, files: Sequence[str]) -> Results:
    run, confirmation = measured.search, measured.confirmation
    judgement, assessment = run.judgement, measured.assessment()
    status: Literal["completed", "failed"] = "completed"
    error = None
    if judgement.status == "failed":
        status, error = "failed", judgement.reason
    findings = []
    # One sentence tells the run and the confirmation that it is.
    if confirmation is None or not measured.is_claim:
        findings = [_finding(run, compared) for compared in judgement.comparisons]
    source, lead = run, judgement.lead
    if confirmation is not None:
        findings.append(passages.confirmed(confirmation, run.plan.metric))
        lead = confirmation.arm
        # Nothing was selected by fresh seeds, so their means are not flattered.
        if measured.fresh is not None and confirmation.outcome in ("kept", "suspicious"):
            source = measured.fresh
    return Results(
        experiment_id=measured.design.id,
        iteration_id=run.manifest.iteration_id,
        run_id=run.run_id,
        status=status,
        results=SubExperiments(experiments={arm.name: _sub_experiment(run, arm.name) for arm in run.plan.arms}),
        findings=tuple(findings),
        metrics=source.means(lead or ""),
        artifacts=tuple(files),
        error=error,
        assessment=assessment,
        confirmation=confirmation,
        recommendation=recommend(assessment.verdict),
    )


def _finding(run: MeasuredRun, compared: Comparison) -> str:
    return f"{passages.finding(compared, run.metrics)}: {passages.verdict(compared)}"


def _sub_experiment(run: MeasuredRun, arm: str) -> SubExperiment:
    """An arm in results.yaml; an arm that another arm's failure cut short is `skipped`."""
    metrics = run.means(arm)
    if run.judgement.status != "failed":
        findings = ""
        for compared in run.judgement.comparisons:
            if compared.arm == arm:
                findings += _finding(run, compared)
        return SubExperiment(status="completed", finding=findings, metrics=metrics)
    # A run ends with the trial that fails it.
    if run.trials[-1].arm == arm:
        return SubExperiment(status="failed", metrics=metrics, error=run.judgement.reason)
    return SubExperiment(status="skipped", finding="not finished: another arm failed", metrics=metrics)
