"""The tables of analysis/tables: every number of the runs with all its digits, as comma-separated text.

Every row names its run. Time, memory and ids stand in the last columns, so that the others are the same when a run is
measured again. An absent value is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from autolab.lab.schemas.experiment import Comparison
from autolab.reports import passages, rounding
from autolab.reports.measured_run import MeasuredRun, metric_names
from autolab.stats import scores

Row = tuple[object, ...]
Runs = Sequence[MeasuredRun]


def _table(header: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _comparisons(runs: Runs) -> Iterator[tuple[MeasuredRun, Comparison]]:
    for run in runs:
        for comparison in run.judgement.comparisons:
            yield run, comparison


def arms(runs: Runs) -> str:
    """One row a run, arm and metric, the primary one first; seconds are the sum, memory the peak of its trials."""
    rows: list[Row] = []
    for run in runs:
        for arm in run.plan.arms:
            trials = [trial for trial in run.trials if trial.arm == arm.name]
            seconds = round(sum(trial.seconds for trial in trials), 3)
            memory = max((trial.max_rss_bytes for trial in trials), default=0)
            means = run.metrics.arms.get(arm.name, {})
            for name in run.measured():
                if name not in means:
                    continue
                mean = means[name]
                low, high = rounding.ends95(mean)
                row = (run.run_id, arm.name, arm.role, name, mean.n, mean.mean, mean.std, low, high, run.source)
                rows.append((*row, seconds, memory))
    header = ("run", "arm", "role", "metric", "n", "mean", "std", "ci95_low", "ci95_high", "source")
    return _table((*header, "seconds", "max_rss_bytes"), rows)


def trials(runs: Runs) -> str:
    """One row a trial with what it measured; `cut` says why it counts as the bound instead (diverged, beyond)."""
    names = metric_names(runs)
    ids = ("predictions_sha256", "attempt", "seconds", "max_rss_bytes", "output_bytes", "commit", "key", "reused_from")
    rows: list[Row] = []
    for run in runs:
        for trial in run.trials:
            role = run.plan.arm(trial.arm).role
            numbers = scores.measured(trial, run.plan.self_reported)
            values = [numbers.get(name) for name in names]
            volatile = [getattr(trial, name) for name in ids]
            start = (run.run_id, trial.trial, trial.arm, role, trial.index, trial.seed, trial.outcome.value)
            rows.append((*start, *values, run.plan.scale.cut(trial), run.source, *volatile, trial.message))
    header = ("run", "trial", "arm", "role", "index", "seed", "outcome")
    return _table((*header, *names, "cut", "source", *ids, "message"), rows)


def pairs(runs: Runs) -> str:
    """One row a pair of trials that a comparison rests on; scores are cut at the bound."""
    rows: list[Row] = []
    for run, comparison in _comparisons(runs):
        about = (run.run_id, comparison.arm, comparison.baseline)
        for pair in run.pairs(comparison):
            seed = (pair.baseline.index, pair.baseline.seed)
            rows.append((*about, *seed, comparison.metric, pair.baseline_score, pair.variant_score, pair.gain))
    return _table(("run", "arm", "baseline", "index", "seed", "metric", "baseline_value", "arm_value", "gain"), rows)


def comparisons(runs: Runs) -> str:
    """`n` is what the interval counts: pairs, or parts of the evaluation where the seed changes nothing."""
    header = ("run", "arm", "baseline", "metric", "direction", "pairs", "n", "gain", "ci_low", "ci_high", "ci_level")
    cuts = ("bound", "baseline_cut", "baseline_cut_at_most95", "arm_cut", "arm_cut_at_most95")
    rows: list[Row] = []
    for run, compared in _comparisons(runs):
        about = (run.run_id, compared.arm, compared.baseline, compared.metric, run.plan.direction)
        gain = compared.difference
        interval = (passages.pairs_of(compared), gain.n, gain.mean, gain.low, gain.high, gain.level)
        rule = (run.plan.delta, compared.e_plus, compared.e_minus, compared.verdict.value, compared.reason)
        shares: list[object] = [None] * 4
        if compared.cut:
            baseline, variant = compared.cut
            shares = [baseline.cut, baseline.at_most, variant.cut, variant.at_most]
        rows.append((*about, *interval, *rule, compared.bound, *shares))
    return _table((*header, "success_delta", "e_plus", "e_minus", "verdict", "reason", *cuts), rows)


def history(runs: Runs) -> str:
    """One row a run, arm, metric and place (epoch, step or line) of its trainings; what they say is self-reported."""
    rows: list[Row] = []
    for run in runs:
        for curve in run.curves:
            about = (run.run_id, curve.arm, curve.metric, curve.axis)
            for point in curve.points:
                mean = point.mean
                numbers = (point.at, mean.n, mean.mean, mean.low, mean.high, point.least, point.most)
                rows.append((*about, *numbers, "self_reported"))
    header = ("run", "arm", "metric", "axis", "at", "n", "mean", "ci95_low", "ci95_high", "min", "max", "source")
    return _table(header, rows)


TABLES: dict[str, Callable[[Runs], str]] = {
    "arms": arms,
    "trials": trials,
    "pairs": pairs,
    "comparisons": comparisons,
    "history": history,
}
"""File name without `.csv` -> what makes its text."""
