"""From finished runs to what a user reads: aggregates, results, tables, figures, summary.

An iteration has a search, and where that supported a variant a confirmation. Everything is made from their manifests,
the trials' histories and the iteration's own documents, whole files at a time, so it can be made again at any moment
with the same bytes. No number passes through a language model. Only the trials that the rule has read are in tables and
means; every row names its run, and time, memory and ids stand in the last columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
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
    Trial,
)
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict, recommend
from autolab.reports import figures, iteration_documents, passages
from autolab.reports.curves import Curve, gather, mean95
from autolab.reports.markup import inert
from autolab.reports.passages import SUMMARY, Account
from autolab.reports.rounding import ends95
from autolab.stats import scores, verdict
from autolab.stats.plan import Plan, recorded_plan
from autolab.stats.verdict import Judgement
from autolab.stats.wording import heading
from autolab.text import decode, one_line

TABLES = "analysis/tables"
FIGURES = "analysis/figures"
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
class _MeasuredRun:
    """One run as all the writers below see it."""

    manifest: Manifest
    design: Design
    hypothesis: Hypothesis
    plan: Plan
    judgement: Judgement
    trials: list[Trial]
    metrics: RunMetrics
    curves: list[Curve]


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
    search, notes = _run(folder, manifest, design, hypothesis)
    runs = [search]
    if confirm is not None:
        again, more = _run(folder, confirm, design, hypothesis)
        runs.append(again)
        notes += [f"{confirm.run_id}: {note}" for note in more]
    documents = {f"runs/{run.manifest.run_id}/metrics.json": run.metrics.to_json() for run in runs}
    documents |= {f"{TABLES}/{name}.csv": table(runs) for name, table in _TABLES.items()}
    assessment = _assessment(search, confirmation)
    drawn = _draw(folder / FIGURES, runs, confirmation, assessment)
    results = _results(runs, confirmation, assessment, (*documents, *drawn, SUMMARY, "results.yaml"))
    said = folder / "summary.json"
    account = Account(
        hypothesis=hypothesis,
        design=design,
        manifest=manifest,
        metrics=search.metrics,
        results=results,
        about=Summary.load(said) if said.exists() else None,
        confirm=confirm,
        confirm_metrics=runs[-1].metrics if confirm else None,
        calibration=known,
    )
    documents[SUMMARY] = iteration_documents.summary(account, notes)
    # Last, so that a results.yaml is never there without what it names.
    documents["results.yaml"] = results.to_yaml()
    for path, text in documents.items():
        write_whole(folder / path, text)
    return Extracted(search.metrics, results, tuple(notes), account.confirm_metrics)


def append_decision(folder: Path, decision: str, reason: str) -> None:
    """Put the iteration's decision at the end of analysis/summary.md; one given before is replaced.

    RecordError: there is no summary.
    """
    path = folder / SUMMARY
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{SUMMARY}: cannot be read: {error.strerror}; run extract_results first") from None
    body = text.partition(_DECISION)[0].rstrip("\n")
    told = inert(reason.strip())  # a heading in it would end the section for whoever reads it by headings
    new = f"{body}\n{_DECISION}\n**{decision}**: {told}\n"
    if new != text:
        write_whole(path, new)


def _run(folder: Path, manifest: Manifest, design: Design, hypothesis: Hypothesis) -> tuple[_MeasuredRun, list[str]]:
    sync = manifest.sync.artifact_sync_to_local.status
    if sync not in ("ok", "na"):
        raise RecordError(
            f"run_manifest.json: sync.artifact_sync_to_local.status: {sync}; the run's files are not here"
        )
    plan = recorded_plan(manifest, design, hypothesis, None)
    judgement = verdict.judge(plan, manifest.trials)
    if not judgement.done:
        raise RecordError(f"run_manifest.json: {manifest.run_id} has not ended: {judgement.reason}; launch it again")
    if manifest.kind is RunKind.STUB:
        judgement = Judgement(judgement.status, "stub: nothing was measured", {})
    elif manifest.comparisons and manifest.comparisons != judgement.comparisons:
        raise RecordError("run_manifest.json: comparisons: do not follow from its trials; restore the file")
    trials = verdict.trials_read(plan, manifest.trials)
    metrics = RunMetrics(
        run_id=manifest.run_id,
        primary=plan.metric,
        self_reported=plan.self_reported,
        arms=scores.aggregate(plan.scale, trials),
        comparisons=judgement.comparisons,
    )
    completed = [trial for trial in trials if trial.outcome is TrialOutcome.COMPLETED]
    curves, notes = gather(folder.parent, f"{manifest.iteration_id}/{manifest.run_id}", completed)
    return _MeasuredRun(manifest, design, hypothesis, plan, judgement, trials, metrics, curves), notes


# Tables


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text; a float is written with all its digits, an absent value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _source(run: _MeasuredRun) -> str:
    return "self_reported" if run.plan.self_reported else "evaluator"


def _arms_table(runs: Sequence[_MeasuredRun]) -> str:
    """One row a run, arm and metric, the primary one first; seconds are the sum, memory the peak of its trials."""
    header = ("run", "arm", "role", "metric", "n", "mean", "std", "ci95_low", "ci95_high", "source")
    rows: list[Sequence[object]] = []
    for run, arm in ((one, arm) for one in runs for arm in one.plan.arms):
        own = [trial for trial in run.trials if trial.arm == arm.name]
        cost = (round(sum(trial.seconds for trial in own), 3), max((trial.max_rss_bytes for trial in own), default=0))
        measured = run.metrics.arms.get(arm.name, {})
        for name in (name for name in _names([run]) if name in measured):
            found = measured[name]
            told = (found.n, found.mean, found.std, *ends95(found), _source(run))
            rows.append((run.manifest.run_id, arm.name, arm.role, name, *told, *cost))
    return _csv((*header, "seconds", "max_rss_bytes"), rows)


def _names(runs: Sequence[_MeasuredRun]) -> list[str]:
    """Every metric that was measured, the primary one first, the others by name."""
    primary = runs[0].plan.metric
    found = {name for run in runs for arm in run.metrics.arms.values() for name in arm} - {primary}
    return [primary, *sorted(found)]


def _trials_table(runs: Sequence[_MeasuredRun]) -> str:
    """One row a trial with what it measured; `cut` says why it counts as the bound instead (diverged, beyond)."""
    names = _names(runs)
    last = ("predictions_sha256", "attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key", "reused_from")
    rows = []
    for run in runs:
        roles = {arm.name: arm.role for arm in run.plan.arms}
        for trial in run.trials:
            numbers = scores.measured(trial, run.plan.self_reported)
            values = [numbers.get(name) for name in names]
            stable = (trial.trial, trial.arm, roles[trial.arm], trial.index, trial.seed, trial.outcome.value)
            rest = [getattr(trial, name) for name in last]
            counts = (run.plan.scale.cut(trial), _source(run))
            rows.append((run.manifest.run_id, *stable, *values, *counts, *rest, trial.message))
    first = ("run", "trial", "arm", "role", "index", "seed", "outcome")
    return _csv((*first, *names, "cut", "source", *last, "message"), rows)


def _pairs(run: _MeasuredRun, comparison: Comparison) -> list[tuple[Trial, Trial, float]]:
    """The pairs that a comparison rests on, in seed order, with the difference in the direction of good."""
    found = {(trial.arm, trial.index): trial for trial in run.trials}
    pairs = []
    for index in range(passages.pairs_of(comparison)):
        base, variant = found[comparison.baseline, index], found[comparison.arm, index]
        before, after = (_primary(run, trial) for trial in (base, variant))
        pairs.append((base, variant, after - before if run.plan.direction == "maximize" else before - after))
    return pairs


def _primary(run: _MeasuredRun, trial: Trial) -> float:
    """The metric that is compared, cut at the bound."""
    value = run.plan.scale.score(trial)
    assert value is not None  # no comparison reads a trial without one
    return value


def _pairs_table(runs: Sequence[_MeasuredRun]) -> str:
    rows = []
    for run, c in ((one, c) for one in runs for c in one.judgement.comparisons):
        for base, variant, gain in _pairs(run, c):
            values = (_primary(run, base), _primary(run, variant), gain)
            rows.append((run.manifest.run_id, c.arm, c.baseline, base.index, base.seed, c.metric, *values))
    return _csv(("run", "arm", "baseline", "index", "seed", "metric", "baseline_value", "arm_value", "gain"), rows)


def _comparisons_table(runs: Sequence[_MeasuredRun]) -> str:
    """`n` is what the interval counts: pairs, or parts of the evaluation where the seed changes nothing."""
    header = ("run", "arm", "baseline", "metric", "direction", "pairs", "n", "gain", "ci_low", "ci_high", "ci_level")
    rows = []
    for run, c in ((one, c) for one in runs for c in one.judgement.comparisons):
        about = (run.manifest.run_id, c.arm, c.baseline, c.metric, run.plan.direction, passages.pairs_of(c))
        d = c.difference
        rule = (run.plan.delta, c.e_plus, c.e_minus, c.verdict.value, c.reason)
        base, variant = c.cut or (None, None)
        cuts = [(one.cut, one.at_most) if one else (None, None) for one in (base, variant)]
        rows.append((*about, d.n, d.mean, d.low, d.high, d.level, *rule, c.bound, *cuts[0], *cuts[1]))
    last = ("bound", "baseline_cut", "baseline_cut_at_most95", "arm_cut", "arm_cut_at_most95")
    return _csv((*header, "success_delta", "e_plus", "e_minus", "verdict", "reason", *last), rows)


def _history_table(runs: Sequence[_MeasuredRun]) -> str:
    """One row a run, arm, metric and place (epoch, step or line) of its trainings; what they say is self-reported."""
    rows = []
    for run, curve in ((one, curve) for one in runs for curve in one.curves):
        about = (run.manifest.run_id, curve.arm, curve.metric, curve.axis)
        for at in curve.points:
            m = at.mean
            rows.append((*about, at.at, m.n, m.mean, m.low, m.high, at.least, at.most, "self_reported"))
    header = ("run", "arm", "metric", "axis", "at", "n", "mean", "ci95_low", "ci95_high", "min", "max", "source")
    return _csv(header, rows)


_TABLES: dict[str, Callable[[Sequence[_MeasuredRun]], str]] = {
    "arms": _arms_table,
    "trials": _trials_table,
    "pairs": _pairs_table,
    "comparisons": _comparisons_table,
    "history": _history_table,
}


# Figures


def _draw(
    folder: Path, runs: Sequence[_MeasuredRun], confirmation: Confirmation | None, assessment: Assessment
) -> tuple[str, ...]:
    """The figures; an older one that is not drawn any more is taken away, since it would mislead."""
    drawn: tuple[str, ...] = ()
    if runs[0].manifest.kind is not RunKind.STUB:
        drawn = figures.draw(_shown(runs, confirmation, assessment), folder)
    for name in figures.NAMES:
        for path in (folder / f"{name}.png", folder / f"{name}.pdf"):
            if path.name not in drawn:
                path.unlink(missing_ok=True)
    return tuple(f"{FIGURES}/{name}" for name in drawn)


def _shown(runs: Sequence[_MeasuredRun], confirmation: Confirmation | None, assessment: Assessment) -> figures.Run:
    run = runs[0]
    plan, names = run.plan, [name for name in _names([run]) if any(name in by for by in run.metrics.arms.values())]
    ours = plan.metric if plan.direction == "minimize" else None
    loss = ours or next((name for name in names if "loss" in name.split("_") and not name.startswith("train_")), None)
    shares = [name for name in names if name != loss and not name.startswith("train_") and _is_share(run, name)]
    outcome, alone = (confirmation.outcome, confirmation.evaluation_only) if confirmation else (None, False)
    told = heading(assessment.verdict, run.judgement.status, assessment.reason, outcome, alone)
    return figures.Run(
        title=f"{one_line(run.hypothesis.title)[:120]}: {told}",
        roles={arm.name: arm.role for arm in plan.arms},
        primary=_measure(run, plan.metric),
        delta=plan.delta,
        runs=tuple(one.manifest.run_id for one in runs),
        iteration_id=run.manifest.iteration_id,
        comparisons=run.judgement.comparisons,
        gains={c.arm: [gain for _, _, gain in _pairs(run, c)] for c in run.judgement.comparisons},
        confirmation=confirmation,
        fresh=[gain for one in runs[1:] for c in one.judgement.comparisons for _, _, gain in _pairs(one, c)],
        loss=_measure(run, loss) if loss in names else None,
        loss_curves=_curves(run, ("train_loss", "loss")),
        shares=[_measure(run, name) for name in shares[:_PANELS]],
        share_curves=_curves(run, ("train_accuracy", "train_acc", "accuracy")),
        note="self-reported: no evaluator measured these numbers" if plan.self_reported else "",
    )


def _is_share(run: _MeasuredRun, name: str) -> bool:
    wanted = (run.plan.metric, *run.design.metrics.secondary)
    return name in wanted or not scores.SHARES.isdisjoint(name.split("_"))


def _measure(run: _MeasuredRun, metric: str) -> figures.Measure:
    values: dict[str, dict[int, float]] = {}
    for trial in run.trials:
        found = dict(scores.measured(trial, run.plan.self_reported))
        counted = run.plan.scale.score(trial)
        if counted is not None:
            found[run.plan.metric] = counted
        if trial.outcome is TrialOutcome.COMPLETED and metric in found:
            values.setdefault(trial.arm, {})[trial.index] = found[metric]
    means = {arm: mean95(list(by.values())) for arm, by in values.items()}
    return figures.Measure(metric, _direction(run, metric), values, means)


def _direction(run: _MeasuredRun, metric: str) -> Direction | None:
    if metric == run.plan.metric:
        return run.plan.direction
    given = next((one.direction for one in run.plan.criteria if one.metric == metric), None)
    return given or ("maximize" if not scores.SHARES.isdisjoint(metric.split("_")) else None)


def _curves(run: _MeasuredRun, wanted: Sequence[str]) -> list[Curve]:
    """The curves of the first metric of `wanted` that the trainings tell."""
    known = {curve.metric for curve in run.curves}
    name = next((name for name in wanted if name in known), None)
    return [curve for curve in run.curves if curve.metric == name]


# Results


def _assessment(search: _MeasuredRun, confirmation: Confirmation | None) -> Assessment:
    """The search's, unless what came after it takes the verdict back: then the reason is what became of the claim."""
    found = verdict.assessment_of(search.judgement)
    if confirmation is None or confirmation.outcome == "kept":
        return found
    return found.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reason": confirmation.outcome})


def _results(
    runs: Sequence[_MeasuredRun], confirmation: Confirmation | None, assessment: Assessment, files: Sequence[str]
) -> Results:
    run = runs[0]
    judgement, manifest = run.judgement, run.manifest
    failed = judgement.status == "failed"
    findings = [_finding(run, c) for c in judgement.comparisons]
    measured, lead = run.metrics.arms, judgement.lead
    if confirmation is not None:
        findings.append(passages.confirmed(confirmation, run.plan.metric))
        lead = confirmation.arm
        # Fresh seeds: nothing was selected by them.
        fresh = confirmation.outcome in ("kept", "suspicious")
        measured = runs[1].metrics.arms if fresh else measured
    return Results(
        experiment_id=run.design.id,
        iteration_id=manifest.iteration_id,
        run_id=manifest.run_id,
        status="failed" if failed else "completed",
        results=SubExperiments(experiments={arm.name: _sub_experiment(run, arm.name) for arm in run.plan.arms}),
        findings=tuple(findings),
        metrics={name: arm.mean for name, arm in measured.get(lead or "", {}).items()},
        artifacts=tuple(files),
        error=judgement.reason if failed else None,
        assessment=assessment,
        confirmation=confirmation,
        recommendation=recommend(assessment.verdict),
    )


def _finding(run: _MeasuredRun, compared: Comparison) -> str:
    return f"{passages.finding(compared, run.metrics)}: {passages.verdict(compared)}"


def _sub_experiment(run: _MeasuredRun, arm: str) -> SubExperiment:
    """An arm as results.yaml calls it: one that was cut short by another arm's failure is skipped."""
    metrics = {name: found.mean for name, found in run.metrics.arms.get(arm, {}).items()}
    if run.judgement.status != "failed":
        compared = [_finding(run, c) for c in run.judgement.comparisons if c.arm == arm]
        return SubExperiment(status="completed", finding="".join(compared), metrics=metrics)
    if run.trials[-1].arm == arm:
        return SubExperiment(status="failed", metrics=metrics, error=run.judgement.reason)
    return SubExperiment(status="skipped", finding="not finished: another arm failed", metrics=metrics)
