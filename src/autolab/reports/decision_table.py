"""The tables of documents: what decided, against the thresholds of the rule, and the means of the arms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autolab.lab.schemas.experiment import Comparison
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports.markup import Markdown, table
from autolab.reports.passages import Account, claimed, confirmation_result, cut_share, pairs_of, verdict
from autolab.reports.rounding import gain_of, mean_with_half
from autolab.stats import wording

Row = tuple[str, str, str, str]
METRICS = 6
"""Metrics that a table of means has columns for; the csv tables have all."""


def decision_table(account: Account) -> Markdown:
    """What was measured against what the rule demands."""
    return _table(account, [*_search_rows(account), *_confirmation_rows(account), *_criterion_rows(account)])


def full_decision_table(account: Account) -> Markdown:
    """The same with the share of trainings that were cut."""
    rows = [*_search_rows(account), *_confirmation_rows(account), *_criterion_rows(account)]
    for comparison in account.results.assessment.comparisons:
        rows += _cut_rows(comparison, "search")
    if account.fresh is not None:
        rows += _cut_rows(account.fresh, "fresh seeds")
    return _table(account, rows)


def _table(account: Account, rows: Sequence[Row]) -> Markdown:
    if not rows:
        return Markdown("No metric was measured.")
    mark = " (self-reported)" if account.metrics.self_reported else ""
    return table((f"Metric{mark}", "Value", "Threshold", "Result"), rows)


def _search_rows(account: Account) -> Iterator[Row]:
    where = "search, " if account.confirmation is not None else ""
    for comparison in account.results.assessment.comparisons:
        name = f"{comparison.metric} gain of {comparison.arm} over {comparison.baseline}"
        gain = gain_of(account.interval(comparison))
        limit = threshold(account, comparison)
        yield f"{name} ({where}{pairs_of(comparison)} pairs)", gain, limit, verdict(comparison)


def _confirmation_rows(account: Account) -> Iterator[Row]:
    """Fresh seeds, the holdout, and what is claimed after both."""
    confirmation = account.confirmation
    if confirmation is None:
        return
    name = f"{account.metric} gain of {confirmation.arm}"
    gain = account.interval(account.fresh) if account.fresh is not None else confirmation.difference
    limit = threshold(account, account.fresh)
    yield f"{name} (fresh seeds, {account.fresh_pairs} pairs)", gain_of(gain), limit, confirmation_result(confirmation)
    answers = {"passed": "passed", "failed": "failed", "none": "the lab has none", "used_up": "no question left"}
    if confirmation.holdout in answers:
        limit = "above 0 (one-sided 2.5%)"
        if confirmation.holdout_error:
            limit = f"above 0 (one-sided 2.5%, error over {confirmation.holdout_error})"
        yield f"{name} (holdout)", "not disclosed", limit, answers[confirmation.holdout]
    if confirmation.reason == wording.MORE_CUT:
        yield "trainings cut on fresh seeds", "more than the baseline's", "no more than the baseline's", "not met"
    if confirmation.outcome == "kept":
        yield f"{name} (claimed)", claimed(account), "", "kept"


def _cut_rows(comparison: Comparison, where: str) -> Iterator[Row]:
    for arm in comparison.cut:
        yield f"trainings of {arm.arm} cut at {comparison.bound:.5g} ({where})", cut_share(arm), "", ""


def _criterion_rows(account: Account) -> Iterator[Row]:
    """The limits that the design set on metrics."""
    for criterion in account.design.criteria:
        value = ""
        if criterion.metric in account.results.metrics:
            value = f"{account.results.metrics[criterion.metric]:.4g}"
        bounds = {"target": criterion.target, "acceptable": criterion.acceptable, "failure": criterion.failure}
        limits = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)
        level = account.results.assessment.criteria.get(criterion.metric, "unmeasured")
        yield criterion.metric, value, limits, wording.spoken(level)


def threshold(account: Account, comparison: Comparison | None) -> str:
    """What the rule demands: of the verdict that a comparison has, or of a supported one."""
    delta = f"{account.delta:g}"
    if comparison is not None and comparison.verdict is Verdict.REFUTED:
        return f"refuted if the CI is below {delta}"
    if comparison is not None and comparison.reason == "futile":
        return f"stopped once a gain of {delta} is unlikely"
    return f"CI above 0, mean at least {wording.least(account.rule, account.delta)}"


def arms_table(account: Account, metrics: int = METRICS) -> Markdown:
    """The arms' means with half of their 95% intervals, of the search and of the fresh seeds."""
    measured = {name for arm in account.metrics.arms.values() for name in arm} - {account.metric}
    names = (account.metric, *sorted(measured)[: metrics - 1])
    rows = []
    for manifest, run in account.runs:
        where = "" if manifest is account.manifest else " (fresh seeds)"
        for arm in account.arms:
            if arm not in run.arms:
                continue
            means = run.arms[arm]
            cells = [mean_with_half(means[name]) if name in means else "" for name in names]
            rows.append((arm + where, str(max(mean.n for mean in means.values())), *cells))
    if not rows:
        return Markdown("No trial completed.")
    return table(("arm", "trials", *names), rows)
