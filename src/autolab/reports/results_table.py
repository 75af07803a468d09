"""results.tsv: its columns, and the rows of a run, one an arm."""

from __future__ import annotations

from autolab.lab.schemas.experiment import ArmMetrics, Confirmation, Manifest, RunMetrics
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.reports.rounding import ends95
from autolab.stats.wording import fate
from autolab.text import one_line

COLUMNS = (
    *("commit", "iteration", "run", "arm", "n", "metric", "value", "ci_low", "ci_high"),
    *("verdict", "status", "memory_gb", "seconds", "description"),
)


def rows(
    manifest: Manifest, metrics: RunMetrics | None, metric: str, description: str, confirmation: Confirmation | None
) -> str:
    """Lines of tab-separated cells without the header.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95 % Student t interval (blank below
    two trials); `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean. A row of
    the confirmation's own run says first in its description what became of the variant.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    run = {"iteration": manifest.iteration_id, "run": manifest.run_id, "status": manifest.status or ""}
    run |= {"metric": metric, "description": _description(manifest, description, confirmation)}
    lines = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        measured = metrics.arms.get(arm, {}).get(metric) if metrics else None
        cells = run | {"commit": trials[0].commit[:12], "arm": arm, "verdict": verdicts.get(arm, "")}
        ran = [trial for trial in trials if trial.outcome is not TrialOutcome.CANCELLED] or trials
        cells |= {"memory_gb": f"{max(trial.max_rss_bytes for trial in ran) / 1e9:.3f}"}
        cells |= {"seconds": f"{sum(trial.seconds for trial in ran) / len(ran):.2f}"}
        cells |= _value_cells(measured) if measured else {"n": "0"}
        lines.append("\t".join(one_line(cells.get(column, "")) for column in COLUMNS))
    return "\n".join(lines)


def _description(manifest: Manifest, description: str, confirmation: Confirmation | None) -> str:
    own_confirmation = confirmation if confirmation and confirmation.run_id == manifest.run_id else None
    fresh = ""
    if manifest.kind is RunKind.CONFIRM:
        fresh = f"fresh seeds{f', {fate(own_confirmation)}' if own_confirmation else ''}: "
    why = f": {one_line(manifest.reason)[:300]}" if manifest.status == "failed" and manifest.reason else ""
    mark = " (self-reported)" if manifest.self_reported else ""
    return fresh + one_line(description)[:200] + why + mark


def _value_cells(measured: ArmMetrics) -> dict[str, str]:
    low, high = ends95(measured)
    numbers = {"value": measured.mean, "ci_low": low, "ci_high": high}
    return {"n": str(measured.n), **{name: f"{value:.6g}" for name, value in numbers.items() if value is not None}}
