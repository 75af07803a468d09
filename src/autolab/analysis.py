"""From a finished run to what a person reads: aggregate, results, tables, figure, summary.

Everything is made from the run's manifest and the iteration's own documents, whole files at a time, so it can
be made again at any moment with the same bytes. No number passes through a language model. Only the
trials that the rule has read are in tables and means; their time, memory and ids stand in the last columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab import durable, experiment, figures, stats
from autolab.errors import RecordError
from autolab.experiment import Judgement, Plan
from autolab.records.experiment import (
    Comparison,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    SubExperiment,
    SubExperiments,
    Trial,
)
from autolab.records.lab import Metric
from autolab.records.outcomes import Outcome, RunKind, Verdict, recommend

SUMMARY = "analysis/summary.md"
TABLES = "analysis/tables"
FIGURE = "analysis/figures/comparison"
_DECISION = "\n## Decision\n"


@dataclass(frozen=True)
class Extracted:
    """The documents made of a run, and the paths of everything written, relative to the iteration's folder."""

    metrics: RunMetrics
    results: Results
    files: tuple[str, ...]


@dataclass(frozen=True)
class _Account:
    """One run as all the writers below see it."""

    manifest: Manifest
    design: Design
    hypothesis: Hypothesis | None
    plan: Plan
    judgement: Judgement
    trials: list[Trial]
    metrics: RunMetrics


def extract(
    folder: Path, manifest: Manifest, design: Design, hypothesis: Hypothesis | None, metric: Metric | None = None
) -> Extracted:
    """Write runs/<RUN_ID>/metrics.json, results.yaml and analysis/ into the iteration's `folder`.

    `metric` is the lab's, for a design that names no direction. RecordError: the run has not ended, its files are
    not here yet, or the manifest's comparisons do not follow from its trials.
    """
    account = _account(manifest, design, hypothesis, metric)
    documents = {
        f"runs/{manifest.run_id}/metrics.json": account.metrics.to_json(),
        f"{TABLES}/arms.csv": _arms_table(account),
        f"{TABLES}/trials.csv": _trials_table(account),
        f"{TABLES}/pairs.csv": _pairs_table(account),
        f"{TABLES}/comparisons.csv": _comparisons_table(account),
    }
    drawn = _draw(folder, account)
    files = (*documents, *drawn, SUMMARY, "results.yaml")
    results = _results(account, files)
    documents[SUMMARY] = _summary(account, bool(drawn))
    # Last, so that a results.yaml is never there without what it names.
    documents["results.yaml"] = results.to_yaml()
    for path, text in documents.items():
        durable.write(folder / path, text)
    return Extracted(account.metrics, results, files)


def append_decision(folder: Path, decision: str, reason: str) -> None:
    """Put the iteration's decision at the end of analysis/summary.md; one given before is replaced.

    RecordError: there is no summary.
    """
    path = folder / SUMMARY
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{SUMMARY}: cannot be read: {error.strerror}; run extract_results first") from None
    body = text.partition(_DECISION)[0].rstrip("\n")
    # A heading inside the reason would end the section for whoever reads it by headings.
    told = re.sub(r"(?m)^(\s*)#", r"\1\\#", reason.strip())
    new = f"{body}\n{_DECISION}\n**{decision}**: {told}\n"
    if new != text:
        durable.write(path, new)


def _account(manifest: Manifest, design: Design, hypothesis: Hypothesis | None, metric: Metric | None) -> _Account:
    sync = manifest.sync.artifact_sync_to_local.status
    if sync not in ("ok", "na"):
        raise RecordError(
            f"run_manifest.json: sync.artifact_sync_to_local.status: {sync}; the run's files are not here"
        )
    plan = experiment.recorded_plan(manifest, design, hypothesis, metric)
    judgement = experiment.judge(plan, manifest.trials)
    if not judgement.done:
        raise RecordError(f"run_manifest.json: {manifest.run_id} has not ended: {judgement.reason}; launch it again")
    if manifest.kind is RunKind.STUB:
        judgement = Judgement(judgement.status, "stub: nothing was measured", {})
    elif manifest.comparisons and manifest.comparisons != judgement.comparisons:
        raise RecordError("run_manifest.json: comparisons: do not follow from its trials; restore the file")
    trials = experiment.counted(plan, manifest.trials)
    metrics = RunMetrics(
        run_id=manifest.run_id,
        primary=plan.metric,
        self_reported=plan.self_reported,
        arms=experiment.aggregate(trials, plan.self_reported),
        comparisons=judgement.comparisons,
    )
    return _Account(manifest, design, hypothesis, plan, judgement, trials, metrics)


# Tables


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text; a float is written with all its digits, an absent value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _source(account: _Account) -> str:
    return "self_reported" if account.plan.self_reported else "evaluator"


def _arms_table(account: _Account) -> str:
    """One row an arm and metric, the primary one first; seconds are the sum, memory the peak of its trials."""
    header = (
        "arm",
        "role",
        "metric",
        "n",
        "mean",
        "std",
        "ci95_low",
        "ci95_high",
        "source",
        "seconds",
        "max_rss_bytes",
    )
    rows: list[Sequence[object]] = []
    for arm in account.plan.arms:
        own = [trial for trial in account.trials if trial.arm == arm.name]
        cost = (round(sum(trial.seconds for trial in own), 3), max((trial.max_rss_bytes for trial in own), default=0))
        for name in _names(account):
            values = _values(account, arm.name, name)
            if values:
                low, high = _interval95(values)
                mean, deviation = stats.mean_and_deviation(values)
                told = (len(values), mean, deviation, low, high, _source(account))
                rows.append((arm.name, arm.role, name, *told, *cost))
    return _csv(header, rows)


def _interval95(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    interval = stats.student_interval(values, 0.025)
    return interval.low, interval.high


def _names(account: _Account) -> list[str]:
    """Every metric that was measured, the primary one first, the others by name."""
    found = {name for arm in account.metrics.arms.values() for name in arm} - {account.plan.metric}
    return [account.plan.metric, *sorted(found)]


def _values(account: _Account, arm: str, metric: str) -> list[float]:
    return [
        numbers[metric]
        for trial in account.trials
        if trial.arm == arm and trial.outcome is Outcome.COMPLETED
        if metric in (numbers := experiment.measured(trial, account.plan.self_reported))
    ]


def _trials_table(account: _Account) -> str:
    roles = {arm.name: arm.role for arm in account.plan.arms}
    names = _names(account)
    last = ("predictions_sha256", "attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key", "reused_from")
    rows = []
    for trial in account.trials:
        numbers = experiment.measured(trial, account.plan.self_reported)
        values = [numbers.get(name) for name in names]
        stable = (trial.trial, trial.arm, roles[trial.arm], trial.index, trial.seed, trial.outcome.value)
        rest = [getattr(trial, name) for name in last]
        rows.append((*stable, *values, _source(account), *rest, trial.message))
    return _csv(("trial", "arm", "role", "index", "seed", "outcome", *names, "source", *last, "message"), rows)


def _pairs(account: _Account, comparison: Comparison) -> list[tuple[Trial, Trial, float]]:
    """The pairs that a comparison rests on, in seed order, with the difference in the direction of good."""
    found = {(trial.arm, trial.index): trial for trial in account.trials}
    pairs = []
    for index in range(comparison.difference.n):
        base, variant = found[comparison.baseline, index], found[comparison.arm, index]
        before, after = (_primary(account, trial) for trial in (base, variant))
        pairs.append((base, variant, after - before if account.plan.direction == "maximize" else before - after))
    return pairs


def _primary(account: _Account, trial: Trial) -> float:
    return experiment.measured(trial, account.plan.self_reported)[account.plan.metric]


def _pairs_table(account: _Account) -> str:
    rows = [
        (c.arm, c.baseline, base.index, base.seed, c.metric, _primary(account, base), _primary(account, variant), gain)
        for c in account.judgement.comparisons
        for base, variant, gain in _pairs(account, c)
    ]
    return _csv(("arm", "baseline", "index", "seed", "metric", "baseline_value", "arm_value", "gain"), rows)


def _comparisons_table(account: _Account) -> str:
    header = ("arm", "baseline", "metric", "direction", "n", "gain", "ci_low", "ci_high", "ci_level", "success_delta")
    rows = [
        (c.arm, c.baseline, c.metric, account.plan.direction, *_ends(c), account.plan.delta, c.verdict.value, c.reason)
        for c in account.judgement.comparisons
    ]
    return _csv((*header, "verdict", "reason"), rows)


def _ends(compared: Comparison) -> tuple[object, ...]:
    found = compared.difference
    return found.n, found.mean, found.low, found.high, found.level


# Figure


def _draw(folder: Path, account: _Account) -> tuple[str, ...]:
    """The run's figure, unless no pair was compared; then an older one is taken away, since it would mislead."""
    names = (f"{FIGURE}.png", f"{FIGURE}.pdf")
    if not account.judgement.comparisons:
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return ()
    values: dict[str, dict[int, float]] = {
        arm.name: {t.index: _primary(account, t) for t in account.trials if t.arm == arm.name}
        for arm in account.plan.arms
    }
    comparisons = account.judgement.comparisons
    shown = figures.Arms(
        title=f"{_title(account)}: {_verdict_words(account)}",
        metric=account.plan.metric,
        direction=account.plan.direction,
        delta=account.plan.delta,
        values=values,
        differences={c.arm: [gain for _, _, gain in _pairs(account, c)] for c in comparisons},
        comparisons=comparisons,
        note="self-reported: no evaluator measured these numbers" if account.plan.self_reported else "",
    )
    figures.arms(shown, folder / FIGURE)
    return names


# Results and summary


def _results(account: _Account, files: Sequence[str]) -> Results:
    judgement, manifest = account.judgement, account.manifest
    lead = account.metrics.arms.get(judgement.lead, {}) if judgement.lead else {}
    failed = judgement.status == "failed"
    return Results(
        experiment_id=account.design.id,
        iteration_id=manifest.iteration_id,
        run_id=manifest.run_id,
        status="failed" if failed else "completed",
        results=SubExperiments(experiments={arm.name: _sub_experiment(account, arm.name) for arm in account.plan.arms}),
        findings=tuple(_finding(account, c) for c in judgement.comparisons),
        metrics={name: arm.mean for name, arm in lead.items()},
        artifacts=tuple(files),
        error=judgement.reason if failed else None,
        assessment=experiment.assessment(judgement),
        recommendation=recommend(judgement.verdict),
    )


def _sub_experiment(account: _Account, arm: str) -> SubExperiment:
    """An arm as results.yaml calls it: one that was cut short by another arm's failure is skipped."""
    metrics = {name: found.mean for name, found in account.metrics.arms.get(arm, {}).items()}
    if account.judgement.status != "failed":
        compared = [_finding(account, c) for c in account.judgement.comparisons if c.arm == arm]
        return SubExperiment(status="completed", finding="".join(compared), metrics=metrics)
    if account.trials[-1].arm == arm:
        return SubExperiment(status="failed", metrics=metrics, error=account.judgement.reason)
    return SubExperiment(status="skipped", finding="not finished: another arm failed", metrics=metrics)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _interval_words(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{100 * interval.level:g}% interval {_number(interval.low)} to {_number(interval.high)}"


def _finding(account: _Account, compared: Comparison) -> str:
    interval = compared.difference
    gain = "no different" if interval.mean == 0 else f"{'better' if interval.mean > 0 else 'worse'} by "
    amount = "" if interval.mean == 0 else _number(abs(interval.mean))
    mark = ", self-reported" if account.plan.self_reported else ""
    reason = f" ({compared.reason})" if compared.reason else ""
    return (
        f"{compared.arm} against {compared.baseline}: {compared.metric} {gain}{amount} on average"
        f" ({_interval_words(interval)} of the gain, {interval.n} pairs{mark}): {compared.verdict}{reason}"
    )


def _title(account: _Account) -> str:
    title = account.hypothesis.title if account.hypothesis else account.design.description or account.design.id
    return " ".join(title.split())[:120]


def _verdict_words(account: _Account) -> str:
    verdict = account.judgement.verdict
    if verdict is None:
        return "failed, no verdict" if account.judgement.status == "failed" else "no verdict"
    return "supported, unconfirmed" if verdict is Verdict.SUPPORTED else verdict.value


_MEANING = {
    "no_change": "The variant's outputs are those of the baseline: the change does nothing.",
    "deterministic": "Every seed gave the same difference, so the seeds show no spread and prove nothing about others.",
    "budget": "The planned pairs are used up, and they neither show the gain nor rule it out.",
    "futile": "The test was ended early: a gain of the size asked for had become unlikely.",
}


def _sentence(account: _Account) -> str:
    """What the verdict means, in one plain sentence."""
    judgement, plan = account.judgement, account.plan
    asked = f"{plan.delta:g} in {plan.metric}"
    if judgement.status == "failed":
        return f"There is no verdict, because the code did not do its work: {judgement.reason}."
    if judgement.verdict is None:
        return f"There is no verdict: {judgement.reason}."
    if judgement.verdict is Verdict.SUPPORTED:
        return (
            f"{judgement.lead} is better than {plan.baseline.name} by at least what was asked for ({asked}) on average,"
            " and a difference of zero is ruled out; unconfirmed until fresh seeds repeat it."
        )
    if judgement.reason in _MEANING:
        return _MEANING[judgement.reason]
    if judgement.reason:
        return f"What was set before the run is not met: {judgement.reason}."
    return f"A gain of {asked} is ruled out."


def _summary(account: _Account, drawn: bool) -> str:
    manifest, plan = account.manifest, account.plan
    better = "lower is better" if plan.direction == "minimize" else "higher is better"
    parts = [
        f"# {_title(account)}",
        f"**{_verdict_words(account).capitalize()}.** {_sentence(account)}",
        f"Experiment {account.design.id}, iteration {manifest.iteration_id}, run {manifest.run_id};"
        f" candidate {_short(manifest.git.candidate_commit)} on base {_short(manifest.git.base_commit)}.",
    ]
    if plan.self_reported:
        parts.append("All numbers are **self_reported**: this lab has no evaluator, the trained code measured itself.")
    parts += [f"## Measured\n\nPrimary metric: {plan.metric}, {better}.\n\n{_arms_lines(account)}"]
    if account.judgement.comparisons:
        parts.append(f"## Compared\n\nGain is in the direction of good, pair by pair.\n\n{_comparison_lines(account)}")
        parts.append(_rule_words(plan))
    if account.judgement.criteria:
        parts.append(f"## Criteria\n\n{_criteria_lines(account)}")
    if drawn:
        parts.append("![Trials of each arm, and the gain of each pair](figures/comparison.png)")
    return "\n\n".join(parts) + "\n"


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "unknown"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _arms_lines(account: _Account) -> str:
    rows = []
    for arm in account.plan.arms:
        measured = account.metrics.arms.get(arm.name, {})
        for name in (name for name in _names(account) if name in measured):
            found = measured[name]
            spread = "-" if found.std is None else _number(found.std)
            rows.append((arm.name, arm.role, name, _number(found.mean), spread, str(found.n)))
    return _markdown(("arm", "role", "metric", "mean", "deviation", "trials"), rows) if rows else "No trial completed."


def _comparison_lines(account: _Account) -> str:
    rows = []
    for c in account.judgement.comparisons:
        found = c.difference
        ends = "-" if found.low is None or found.high is None else f"{_number(found.low)} to {_number(found.high)}"
        verdict = f"{c.verdict}{f' ({c.reason})' if c.reason else ''}"
        rows.append((c.arm, c.baseline, str(found.n), _number(found.mean), ends, verdict))
    level = f"{100 * account.judgement.comparisons[0].difference.level:g}% interval"
    return _markdown(("arm", "baseline", "pairs", "gain in " + account.plan.metric, level, "verdict"), rows)


def _rule_words(plan: Plan) -> str:
    arms = len(plan.variants)
    shared = f", shared by {arms} variants" if arms > 1 else ""
    return (
        f"Rule fixed before launch: {plan.rule.rule}, {len(plan.seeds)} pairs, error at most {plan.rule.alpha:g} at"
        f" each end of the interval{shared}, least gain worth having {plan.delta:g}. Supported: interval above 0 and"
        f" mean at least {plan.delta:g}. Refuted: interval below {plan.delta:g}. Else inconclusive."
    )


def _criteria_lines(account: _Account) -> str:
    lead = account.metrics.arms.get(account.judgement.lead or "", {})
    rows = []
    for criterion in account.plan.criteria:
        value = lead.get(criterion.metric)
        limits = [criterion.target, criterion.acceptable, criterion.failure]
        told = ["-" if limit is None else f"{limit:g}" for limit in limits]
        measured = _number(value.mean) if value else "-"
        rows.append((criterion.metric, measured, *told, account.judgement.criteria[criterion.metric]))
    return _markdown(("metric", account.judgement.lead or "", "target", "acceptable", "failure", "result"), rows)
