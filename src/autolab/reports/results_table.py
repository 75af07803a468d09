"""results.tsv: its columns, and the rows of a run, one an arm."""

from __future__ import annotations

from autolab.lab.schemas.experiment import ArmMetrics, Confirmation, Manifest, RunMetrics, Trial
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

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95% Student t interval (blank below two trials);
    `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean. The description of a
    confirmation's row begins with what became of the variant.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    run = {"iteration": manifest.iteration_id, "run": manifest.run_id, "status": manifest.status or ""}
    run |= {"metric": metric, "description": _description(manifest, description, confirmation)}
    lines = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        means = metrics.arms.get(arm, {}) if metrics else {}
        cells = run | _cost_cells(trials) | _value_cells(means.get(metric))
        cells |= {"commit": trials[0].commit[:12], "arm": arm, "verdict": verdicts.get(arm, "")}
        lines.append("\t".join(one_line(cells[column]) for column in COLUMNS))
    return "\n".join(lines)


def _description(manifest: Manifest, description: str, confirmation: Confirmation | None) -> str:
    text = one_line(description)[:200]
    if manifest.kind is RunKind.CONFIRM:
        outcome = ""
        if confirmation is not None and confirmation.run_id == manifest.run_id:
            outcome = f", {fate(confirmation)}"
        text = f"fresh seeds{outcome}: {text}"
    if manifest.status == "failed" and manifest.reason:
        text += f": {one_line(manifest.reason)[:300]}"
    if manifest.self_reported:
        text += " (self-reported)"
    return text


def _cost_cells(trials: list[Trial]) -> dict[str, str]:
    counted = [trial for trial in trials if trial.outcome is not TrialOutcome.CANCELLED] or trials
    memory = max(trial.max_rss_bytes for trial in counted) / 1e9
    seconds = sum(trial.seconds for trial in counted) / len(counted)
    return {"memory_gb": f"{memory:.3f}", "seconds": f"{seconds:.2f}"}


def _value_cells(mean: ArmMetrics | None) -> dict[str, str]:
    if mean is None:
        return {"n": "0", "value": "", "ci_low": "", "ci_high": ""}
    low, high = ends95(mean)
    ends = {"ci_low": low, "ci_high": high}
    cells = {name: "" if end is None else f"{end:.6g}" for name, end in ends.items()}
    return {"n": str(mean.n), "value": f"{mean.mean:.6g}"} | cells
