"""results.tsv: its columns, and the rows of a run, one an arm.

`gear` is the kind of the run: search, confirm, screen, claim, stub, or manual for one of `autolab eval`. Tables that
were begun before there was this column keep their form: old rows are never changed, and new ones are written without
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from autolab.lab.schemas.experiment import ArmMetrics, Confirmation, Manifest, RunMetrics, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict
from autolab.reports import claim_words
from autolab.reports.rounding import ends95
from autolab.stats.wording import fate
from autolab.text import one_line

GEAR = "gear"
COLUMNS = (
    *("commit", "iteration", "run", GEAR, "arm", "n", "metric", "value", "ci_low", "ci_high"),
    *("verdict", "status", "memory_gb", "seconds", "description"),
)
WITHOUT_GEAR = tuple(column for column in COLUMNS if column != GEAR)
"""The columns of tables that were begun before `gear`."""
_FORMS = {len(columns): columns for columns in (COLUMNS, WITHOUT_GEAR)}


def columns_of(header: str) -> Sequence[str] | None:
    """The columns of a table that begins with this line; None if it is no table of a lab."""
    cells = tuple(header.removesuffix("\r").split("\t"))
    return cells if cells in _FORMS.values() else None


def identity(row: str, columns: Sequence[str]) -> tuple[str, ...]:
    """What no two rows of a table share: iteration, run and arm."""
    cells = dict(zip(columns, row.split("\t"), strict=False))
    return tuple(cells.get(column, "") for column in ("iteration", "run", "arm"))


def in_form(row: str, columns: Sequence[str]) -> str:
    """A row that `rows` has made, now or before there was `gear`, for a table with these columns."""
    cells = row.split("\t")
    form = _FORMS.get(len(cells))
    if form is None:
        return row
    by_column = dict(zip(form, cells, strict=True))
    return "\t".join(by_column.get(column, "") for column in columns)


def rows(
    manifest: Manifest, metrics: RunMetrics | None, metric: str, description: str, confirmation: Confirmation | None
) -> str:
    """Lines of tab-separated cells without the header.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95% Student t interval (blank below two trials);
    `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean. The description of the row
    of a confirmation or of a claim begins with what became of the variant.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    text = _description(manifest, description, confirmation)
    return "\n".join(_lines(manifest, metrics, metric, verdicts, _for_each_arm(manifest, text)))


def screen_rows(manifest: Manifest, metrics: RunMetrics | None, metric: str, descriptions: Mapping[str, str]) -> str:
    """The same of a batch of ideas: each arm that has a trial with its description. Nothing is claimed of any."""
    verdicts = {}
    for arm in manifest.arms:
        if arm.role == "variant":
            verdicts[arm.name] = Verdict.INCONCLUSIVE.value
    marked = {}
    for arm_name, description in descriptions.items():
        marked[arm_name] = _marked(manifest, one_line(description)[:300])
    return "\n".join(_lines(manifest, metrics, metric, verdicts, marked))


def _lines(
    manifest: Manifest,
    metrics: RunMetrics | None,
    metric: str,
    verdicts: Mapping[str, str],
    descriptions: Mapping[str, str],
) -> Iterator[str]:
    """A row an arm; `verdicts` and `descriptions` are by arm."""
    trials_of_arm: dict[str, list[Trial]] = {}
    for trial in manifest.trials:
        trials_of_arm.setdefault(trial.arm, []).append(trial)
    for arm, trials in trials_of_arm.items():
        # An arm without a completed trial has no means, but a row all the same.
        mean = None
        if metrics is not None and arm in metrics.arms:
            mean = metrics.arms[arm].get(metric)
        cells = {
            "commit": trials[0].commit[:12],
            "iteration": manifest.iteration_id,
            "run": manifest.run_id,
            GEAR: manifest.kind.value,
            "arm": arm,
            "metric": metric,
            "verdict": verdicts.get(arm, ""),
            "status": manifest.status or "",
            "description": descriptions.get(arm, ""),
        }
        cells |= _value_cells(mean) | _cost_cells(trials)
        # A tab or a line break in a cell would shift the columns of all that follow.
        yield "\t".join(one_line(cells[column]) for column in COLUMNS)


def _for_each_arm(manifest: Manifest, description: str) -> dict[str, str]:
    return dict.fromkeys((trial.arm for trial in manifest.trials), description)


def _description(manifest: Manifest, description: str, confirmation: Confirmation | None) -> str:
    text = one_line(description)[:200]
    if manifest.kind is RunKind.CONFIRM:
        outcome = ""
        if confirmation is not None and confirmation.run_id == manifest.run_id:
            outcome = f", {fate(confirmation)}"
        text = f"fresh seeds{outcome}: {text}"
    if manifest.kind is RunKind.CLAIM and confirmation is not None:
        text = f"{claim_words.fate(confirmation)}: {text}"
    return _marked(manifest, text)


def _marked(manifest: Manifest, text: str) -> str:
    """A description with why its run failed, and with who measured its numbers."""
    if manifest.status == "failed" and manifest.reason:
        text += f": {one_line(manifest.reason)[:300]}"
    if manifest.self_reported:
        text += " (self-reported)"
    return text


def _cost_cells(trials: list[Trial]) -> dict[str, str]:
    # A cancelled trial was cut short, so its time would make the arm look cheap.
    counted = [trial for trial in trials if trial.outcome is not TrialOutcome.CANCELLED] or trials
    memory, seconds = 0, 0.0
    for trial in counted:
        memory = max(memory, trial.max_rss_bytes)
        seconds += trial.seconds
    return {"memory_gb": f"{memory / 1e9:.3f}", "seconds": f"{seconds / len(counted):.2f}"}


def _value_cells(mean: ArmMetrics | None) -> dict[str, str]:
    cells = {"n": "0", "value": "", "ci_low": "", "ci_high": ""}
    if mean is None:
        return cells
    cells |= {"n": str(mean.n), "value": f"{mean.mean:.6g}"}
    low, high = ends95(mean)
    if low is not None and high is not None:
        cells |= {"ci_low": f"{low:.6g}", "ci_high": f"{high:.6g}"}
    return cells
