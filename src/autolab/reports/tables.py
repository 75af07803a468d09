"""From finished runs to what a user reads: aggregates, results, tables, figures, summary.

An iteration has a search, and where that supported a variant a confirmation. Everything is made from their manifests,
the trials' histories and the iteration's own documents, whole files at a time, so it can be made again at any moment
with the same bytes. No number passes through a language model. Only the trials that the rule has read are in tables and
means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import RecordError
from autolab.files import write_whole
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
from autolab.lab.schemas.outcomes import RunKind, Verdict, recommend
from autolab.reports import figures, iteration_documents, passages
from autolab.reports.csv_tables import TABLES
from autolab.reports.curves import Curve, mean95
from autolab.reports.figures import Gain, Measure, Training
from autolab.reports.markup import inert
from autolab.reports.measured_run import MeasuredRun, completed, read_run
from autolab.reports.passages import SUMMARY, Account
from autolab.stats import metric_names, verdict
from autolab.stats.wording import fate, heading
from autolab.text import decode, one_line

TABLE_FOLDER = "analysis/tables"
FIGURE_FOLDER = "analysis/figures"
_DECISION = "\n## Decision\n"
_PANELS = 3


@dataclass(frozen=True)
class Extracted:
    """The documents made of the runs (`results.artifacts` names every file), and a line for each thing left out.

    `metrics` are the search's, `confirmed` those of the confirmation, None where there was none.
    """

    metrics: RunMetrics
    results: Results
    notes: tuple[str, ...]
    confirmed: RunMetrics | None = None


@dataclass(frozen=True)
class _Measured:
    """What an iteration measured: the search, and with its `confirmation` the run on fresh seeds."""

    design: Design
    hypothesis: Hypothesis
    search: MeasuredRun
    confirmation: Confirmation | None
    fresh: MeasuredRun | None

    @property
    def runs(self) -> list[MeasuredRun]:
        return [self.search] if self.fresh is None else [self.search, self.fresh]

    def assessment(self) -> Assessment:
        """The search's, unless what came after takes the verdict back: then the reason is what became of the claim."""
        assessment = verdict.assessment_of(self.search.judgement)
        if self.confirmation is None or self.confirmation.outcome == "kept":
            return assessment
        return assessment.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": self.confirmation.outcome})


def extract(
    folder: Path,
    manifest: Manifest,
    design: Design,
    hypothesis: Hypothesis,
    confirmation: Confirmation | None = None,
    confirm: Manifest | None = None,
    known: Calibration | None = None,
) -> Extracted:
    """Write runs/<RUN_ID>/metrics.json, results.yaml and analysis/ into the iteration's `folder`.

    `manifest` is the search, `confirm` the run on fresh seeds, of which `confirmation` says what it came to: give both
    or none. `known` is the calibration, by which a gain may look too large. RecordError: a run has not ended, its files
    are not here yet, or a manifest's comparisons do not follow from its trials.
    """
    if (confirmation is None) != (confirm is None):
        raise ValueError("a confirmation goes with the manifest of its run")
    search = read_run(folder, manifest, design, hypothesis)
    fresh = None if confirm is None else read_run(folder, confirm, design, hypothesis)
    notes = list(search.notes)
    if fresh is not None:
        notes += [f"{fresh.run_id}: {note}" for note in fresh.notes]
    measured = _Measured(design, hypothesis, search, confirmation, fresh)

    documents = {f"runs/{run.run_id}/metrics.json": run.metrics.to_json() for run in measured.runs}
    for name, table in TABLES.items():
        documents[f"{TABLE_FOLDER}/{name}.csv"] = table(measured.runs)
    drawn = _draw(folder / FIGURE_FOLDER, measured)
    results = _results(measured, (*documents, *drawn, SUMMARY, "results.yaml"))
    about = folder / "summary.json"
    account = Account(
        hypothesis=hypothesis,
        design=design,
        manifest=manifest,
        metrics=search.metrics,
        results=results,
        about=Summary.load(about) if about.exists() else None,
        confirm=confirm,
        confirm_metrics=fresh.metrics if fresh else None,
        calibration=known,
    )
    documents[SUMMARY] = iteration_documents.summary(account, notes)
    # Last, so that a results.yaml is never there without what it names.
    documents["results.yaml"] = results.to_yaml()
    for path, text in documents.items():
        write_whole(folder / path, text)
    return Extracted(search.metrics, results, tuple(notes), account.confirm_metrics)


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
    # A heading in the reason would end the section for whoever reads it by headings.
    new = f"{body}\n{_DECISION}\n**{decision}**: {inert(reason.strip())}\n"
    if new != text:
        write_whole(path, new)


# Figures


def _draw(folder: Path, measured: _Measured) -> tuple[str, ...]:
    """The figures; an older one that is not drawn any more is deleted, since it would mislead."""
    names: tuple[str, ...] = ()
    if measured.search.manifest.kind is not RunKind.STUB:
        names = figures.draw(_figures(measured), folder)
    for stem in figures.NAMES:
        for path in (folder / f"{stem}.png", folder / f"{stem}.pdf"):
            if path.name not in names:
                path.unlink(missing_ok=True)
    return tuple(f"{FIGURE_FOLDER}/{name}" for name in names)


def _figures(measured: _Measured) -> figures.Run:
    """What the figures of an iteration show."""
    run, confirmation = measured.search, measured.confirmation
    plan, assessment = run.plan, measured.assessment()
    outcome = confirmation.outcome if confirmation else None
    evaluation_only = confirmation is not None and confirmation.evaluation_only
    standing = heading(assessment.verdict, run.judgement.status, assessment.reason, outcome, evaluation_only)
    evaluated = [name for name in run.measured() if name == plan.metric or not metric_names.is_of_training(name)]
    losses = [name for name in evaluated if _direction(run, name) == "minimize"][:1]
    secondary = measured.design.metrics.secondary
    shares = []
    for name in evaluated:
        wanted = name == plan.metric or name in secondary or metric_names.is_share(name)
        if wanted and name not in losses:
            shares.append(name)
    return figures.Run(
        title=f"{one_line(measured.hypothesis.title)[:120]}: {standing}",
        roles={arm.name: arm.role for arm in plan.arms},
        primary=_measure(run, plan.metric),
        delta=plan.delta,
        runs=tuple(part.run_id for part in measured.runs),
        iteration_id=run.manifest.iteration_id,
        gains=_gains(measured),
        loss=Training(_curves(run, "train_loss", "loss"), [_measure(run, name) for name in losses]),
        shares=Training(
            _curves(run, "train_accuracy", "train_acc", "accuracy"), [_measure(run, name) for name in shares[:_PANELS]]
        ),
        note="self-reported: no evaluator measured these numbers" if plan.self_reported else "",
    )


def _gains(measured: _Measured) -> list[Gain]:
    """Each comparison of the search, then that of the run on fresh seeds."""
    prefix = "" if measured.confirmation is None else "search: "
    gains = []
    for compared in measured.search.judgement.comparisons:
        pairs = [pair.gain for pair in measured.search.pairs(compared)]
        gains.append(Gain(compared.arm, f"{prefix}{compared.verdict}", compared.difference, pairs))
    if measured.confirmation is not None and measured.fresh is not None:
        fresh: list[float] = []
        for compared in measured.fresh.judgement.comparisons:
            fresh += [pair.gain for pair in measured.fresh.pairs(compared)]
        verdict_of = f"fresh seeds: {fate(measured.confirmation)}"
        gains.append(Gain(measured.confirmation.arm, verdict_of, measured.confirmation.difference, fresh))
    return gains


def _measure(run: MeasuredRun, metric: str) -> Measure:
    values: dict[str, dict[int, float]] = {}
    for trial in completed(run.trials):
        numbers = run.values(trial)
        if metric in numbers:
            values.setdefault(trial.arm, {})[trial.index] = numbers[metric]
    means = {arm: mean95(list(by_index.values())) for arm, by_index in values.items()}
    return Measure(metric, _direction(run, metric), values, means)


def _direction(run: MeasuredRun, metric: str) -> Direction | None:
    """That of the design where it says one, else what the name says."""
    if metric == run.plan.metric:
        return run.plan.direction
    for criterion in run.plan.criteria:
        if criterion.metric == metric:
            return criterion.direction
    return metric_names.direction_of(metric)


def _curves(run: MeasuredRun, *wanted: str) -> list[Curve]:
    """The curves of the first metric of `wanted` that the trainings report."""
    for name in wanted:
        curves = [curve for curve in run.curves if curve.metric == name]
        if curves:
            return curves
    return []


# Results


def _results(measured: _Measured, files: Sequence[str]) -> Results:
    run, confirmation = measured.search, measured.confirmation
    judgement, assessment = run.judgement, measured.assessment()
    error = judgement.reason if judgement.status == "failed" else None
    findings = [_finding(run, compared) for compared in judgement.comparisons]
    arms, lead = run.metrics.arms, judgement.lead
    if confirmation is not None:
        findings.append(passages.confirmed(confirmation, run.plan.metric))
        lead = confirmation.arm
        # Nothing was selected by fresh seeds, so their means are not flattered.
        if measured.fresh is not None and confirmation.outcome in ("kept", "suspicious"):
            arms = measured.fresh.metrics.arms
    return Results(
        experiment_id=measured.design.id,
        iteration_id=run.manifest.iteration_id,
        run_id=run.run_id,
        status="completed" if error is None else "failed",
        results=SubExperiments(experiments={arm.name: _sub_experiment(run, arm.name) for arm in run.plan.arms}),
        findings=tuple(findings),
        metrics={name: mean.mean for name, mean in arms.get(lead or "", {}).items()},
        artifacts=tuple(files),
        error=error,
        assessment=assessment,
        confirmation=confirmation,
        recommendation=recommend(assessment.verdict),
    )


def _finding(run: MeasuredRun, compared: Comparison) -> str:
    return f"{passages.finding(compared, run.metrics)}: {passages.verdict(compared)}"


def _sub_experiment(run: MeasuredRun, arm: str) -> SubExperiment:
    """An arm as results.yaml calls it: one that was cut short by another arm's failure is skipped."""
    metrics = {name: mean.mean for name, mean in run.metrics.arms.get(arm, {}).items()}
    if run.judgement.status != "failed":
        findings = [_finding(run, compared) for compared in run.judgement.comparisons if compared.arm == arm]
        return SubExperiment(status="completed", finding="".join(findings), metrics=metrics)
    if run.trials[-1].arm == arm:
        return SubExperiment(status="failed", metrics=metrics, error=run.judgement.reason)
    return SubExperiment(status="skipped", finding="not finished: another arm failed", metrics=metrics)
