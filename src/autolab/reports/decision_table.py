"""The tables of documents: what decided, against the thresholds of the rule, and the means of the arms."""

from __future__ import annotations

from collections.abc import Iterator

from autolab.lab.schemas.experiment import Comparison
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports import claim_words
from autolab.reports.markup import Markdown, table
from autolab.reports.passages import Account, claimed, confirmation_result, cut_share, pairs_of, verdict
from autolab.reports.rounding import gain_of, mean_with_half
from autolab.stats import holdout, wording

Row = tuple[str, str, str, str]
METRICS = 6
"""Metrics that a table of means has columns for; the csv tables have all."""


def decision_table(account: Account, *, with_cuts: bool = False) -> Markdown:
    """What was measured against what the rule demands; `with_cuts` adds the share of trials that were cut."""
    rows = [*_search_rows(account), *_confirmation_rows(account), *_criterion_rows(account)]
    if with_cuts:
        rows += _cut_rows(account)
    if not rows:
        return Markdown("No metric was measured.")
    metric = "Metric"
    if account.metrics.self_reported:
        metric += " (self-reported)"
    return table((metric, "Value", "Threshold", "Result"), rows)


def _search_rows(account: Account) -> Iterator[Row]:
    run = ""
    if account.is_claim:
        run = "fresh seeds, "
    elif account.confirmation is not None:
        run = "search, "
    # The one comparison of a claim that was decided stands below, with what became of it.
    if account.is_claim and account.confirmation is not None:
        return
    for comparison in account.results.assessment.comparisons:
        name = f"{comparison.metric} gain of {comparison.arm} over {comparison.baseline}"
        gain = gain_of(account.interval(comparison))
        limit = threshold(account, comparison)
        yield f"{name} ({run}{pairs_of(comparison)} pairs)", gain, limit, verdict(comparison)


_HOLDOUT = {"passed": "passed", "failed": "failed", "none": "the lab has none", "used_up": "no question left"}


def _confirmation_rows(account: Account) -> Iterator[Row]:
    """Fresh seeds, the holdout, and what is claimed after both."""
    confirmation, fresh = account.confirmation, account.fresh
    if confirmation is None:
        return
    name = f"{account.metric} gain of {confirmation.arm}"
    gain = confirmation.difference
    if fresh is not None:
        gain = account.interval(fresh)
    limit = threshold(account, fresh)
    result = confirmation_result(confirmation)
    if account.is_claim and fresh is not None:
        result = verdict(fresh)
    yield f"{name} (fresh seeds, {account.fresh_pairs} pairs)", gain_of(gain), limit, result
    # A later candidate could be fitted to the number.
    if confirmation.holdout in _HOLDOUT:
        tail = holdout.tail_of_claim(confirmation.alpha) if account.is_claim else holdout.TAIL
        limit = f"above 0 with {100 * (1 - tail):.4g}% confidence"
        yield f"{name} (holdout)", "secret on purpose", limit, _HOLDOUT[confirmation.holdout]
    if confirmation.reason == wording.MORE_CUT:
        yield "trials cut on fresh seeds", "more than the baseline's", "no more than the baseline's", "not met"
    if confirmation.outcome == "kept":
        kept = claim_words.CLAIMED if account.is_claim else "kept"
        yield f"{name} (claimed)", claimed(account), "", kept


def _cut_rows(account: Account) -> Iterator[Row]:
    search = " (search)" if account.confirmation is not None else ""
    runs = []
    if not account.is_claim:
        runs = [(comparison, search) for comparison in account.results.assessment.comparisons]
    if account.fresh is not None:
        runs.append((account.fresh, " (fresh seeds)"))
    for comparison, run in runs:
        # Without a cut trial a sentence below the table says so.
        if not any(arm.cut for arm in comparison.cut):
            continue
        for arm in comparison.cut:
            name = f"trials of {arm.arm} that diverged or scored worse than {comparison.bound:.5g}{run}"
            counts_as = ""
            if arm.cut:
                counts_as = f"each counts as {comparison.bound:.5g}"
            yield name, cut_share(arm), "", counts_as


def _criterion_rows(account: Account) -> Iterator[Row]:
    """The limits that the design set on metrics."""
    for criterion in account.design.criteria:
        value = ""
        if criterion.metric in account.results.metrics:
            value = f"{account.results.metrics[criterion.metric]:.4g}"
        limits = []
        for name in ("target", "acceptable", "failure"):
            bound = getattr(criterion, name)
            if bound is not None:
                limits.append(f"{name} {bound:g}")
        level = account.results.assessment.criteria.get(criterion.metric, "unmeasured")
        yield criterion.metric, value, ", ".join(limits), wording.spoken(level)


def threshold(account: Account, comparison: Comparison | None) -> str:
    """What the rule demands for the verdict that a comparison has; without a comparison, for a supported one."""
    delta = f"{account.delta:g}"
    # Each verdict has a threshold of its own; the table shows the one that was passed.
    if comparison is not None and comparison.verdict is Verdict.REFUTED:
        return f"refuted if the CI is below {delta}"
    if comparison is not None and comparison.reason == "futile":
        return f"stopped once a gain of {delta} is unlikely"
    return f"CI above 0, mean at least {wording.least(account.rule, account.delta)}"


def arms_table(account: Account, metrics: int = METRICS) -> Markdown:
    """The arms' means with half of their 95% intervals, of the search and of the fresh seeds."""
    measured: set[str] = set()
    for means in account.metrics.arms.values():
        measured.update(means)
    # By the search, so that the rows of fresh seeds have the same columns.
    secondary = sorted(measured - {account.metric})[: metrics - 1]
    names = (account.metric, *secondary)
    rows = []
    for manifest, run in account.runs:
        suffix = ""
        if manifest is not account.manifest:
            suffix = " (fresh seeds)"
        # In the order of the design. An arm without a completed trial has no row.
        for arm in account.arms:
            if arm not in run.arms:
                continue
            means = run.arms[arm]
            trials = max(mean.n for mean in means.values())
            cells = [mean_with_half(means[name]) if name in means else "" for name in names]
            rows.append((arm + suffix, str(trials), *cells))
    if not rows:
        return Markdown("No trial completed.")
    return table(("arm", "trials", *names), rows)
