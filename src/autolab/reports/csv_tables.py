"""The tables of analysis/tables: every number of the runs with all its digits, as comma-separated text.

Every row names its run. Time, memory and ids stand in the last columns, so that the others are the same when a run is
measured again. An absent value is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from autolab.reports import passages, rounding
from autolab.reports.measured_run import MeasuredRun
from autolab.stats import scores

Row = tuple[object, ...]
Runs = Sequence[MeasuredRun]


def table_text(header: Sequence[str], rows: Iterable[Row]) -> str:
    """Comma-separated text; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def arms(runs: Runs) -> str:
    """One row a run, arm and metric, the primary one first; seconds are the sum, memory the peak of its trials."""
    rows: list[Row] = []
    for run in runs:
        for arm in run.plan.arms:
            # An arm without a completed trial has no means, and no row.
            means = run.metrics.arms.get(arm.name, {})
            seconds, memory = _cost(run, arm.name)
            for name in run.measured():
                if name not in means:
                    continue
                mean = means[name]
                values = (mean.n, mean.mean, mean.std, *rounding.ends95(mean))
                rows.append((run.run_id, arm.name, arm.role, name, *values, run.source, seconds, memory))
    header = ("run", "arm", "role", "metric", "n", "mean", "std", "ci95_low", "ci95_high", "source")
    return table_text((*header, "seconds", "max_rss_bytes"), rows)


def _cost(run: MeasuredRun, arm: str) -> tuple[float, int]:
    """Seconds of an arm's trials together, and the memory of the largest."""
    seconds, memory = 0.0, 0
    for trial in run.trials:
        if trial.arm == arm:
            seconds += trial.seconds
            memory = max(memory, trial.max_rss_bytes)
    return round(seconds, 3), memory


def trials(runs: Runs) -> str:
    """One row a trial with what it measured; `cut` says why it counts as the bound instead (diverged, beyond)."""
    names = _metric_names(runs)
    # Columns that change if a run is measured again stand last.
    changing = ("predictions_sha256", "attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key")
    rows: list[Row] = []
    for run in runs:
        for trial in run.trials:
            role = run.plan.arm(trial.arm).role
            start = (run.run_id, trial.trial, trial.arm, role, trial.index, trial.seed, trial.outcome.value)
            # As it was measured, not cut: the next column says whether it was.
            numbers = scores.measured(trial, run.plan.self_reported)
            values = map(numbers.get, names)
            end = [getattr(trial, name) for name in changing]
            cut = run.plan.scale.cut(trial)
            rows.append((*start, *values, cut, run.source, *end, trial.reused_from, trial.message))
    header = ("run", "trial", "arm", "role", "index", "seed", "outcome")
    return table_text((*header, *names, "cut", "source", *changing, "reused_from", "message"), rows)


def _metric_names(runs: Runs) -> list[str]:
    """Every metric that one of the runs measured, the primary one first in any case."""
    primary = runs[0].plan.metric
    names = {name for run in runs for name in run.measured()}
    return [primary, *sorted(names - {primary})]


def pairs(runs: Runs) -> str:
    """One row a pair of trials that a comparison rests on; scores are cut at the bound."""
    rows: list[Row] = []
    for run in runs:
        for compared in run.judgement.comparisons:
            for pair in run.pairs(compared):
                start = (run.run_id, compared.arm, compared.baseline, pair.baseline.index, pair.baseline.seed)
                rows.append((*start, compared.metric, pair.baseline_score, pair.variant_score, pair.gain))
    return table_text(
        ("run", "arm", "baseline", "index", "seed", "metric", "baseline_value", "arm_value", "gain"), rows
    )


def comparisons(runs: Runs) -> str:
    """`n` is what the interval counts: pairs, or parts of the evaluation where the seed changes nothing."""
    header = ("run", "arm", "baseline", "metric", "direction", "pairs", "n", "gain", "ci_low", "ci_high", "ci_level")
    cuts = ("bound", "baseline_cut", "baseline_cut_at_most95", "arm_cut", "arm_cut_at_most95")
    rows: list[Row] = []
    for run in runs:
        for compared in run.judgement.comparisons:
            start = (run.run_id, compared.arm, compared.baseline, compared.metric, run.plan.direction)
            gain = compared.difference
            interval = (passages.pairs_of(compared), gain.n, gain.mean, gain.low, gain.high, gain.level)
            rule = (run.plan.delta, compared.e_plus, compared.e_minus, compared.verdict.value, compared.reason)
            # Without a bound no trial is cut, and the cells stay empty.
            shares: list[object] = [None] * 4
            if compared.cut:
                baseline, variant = compared.cut
                shares = [baseline.cut, baseline.at_most, variant.cut, variant.at_most]
            rows.append((*start, *interval, *rule, compared.bound, *shares))
    return table_text((*header, "success_delta", "e_plus", "e_minus", "verdict", "reason", *cuts), rows)


def history(runs: Runs) -> str:
    """One row a run, arm, metric and place (epoch, step or line) of its trainings; all of it is self-reported."""
    rows: list[Row] = []
    for run in runs:
        for curve in run.curves:
            for point in curve.points:
                mean = point.mean
                values = (mean.n, mean.mean, mean.low, mean.high, point.least, point.most)
                start = (run.run_id, curve.arm, curve.metric, curve.axis, point.at)
                rows.append((*start, *values, "self_reported"))
    header = ("run", "arm", "metric", "axis", "at", "n", "mean", "ci95_low", "ci95_high", "min", "max", "source")
    return table_text(header, rows)


TABLES: dict[str, Callable[[Runs], str]] = {
    "arms": arms,
    "trials": trials,
    "pairs": pairs,
    "comparisons": comparisons,
    "history": history,
}
"""File name without `.csv` -> the function that makes its text."""
