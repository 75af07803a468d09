"""Stage extract_results: tables, figures and results.yaml from the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autolab.lab import crash_points
from autolab.lab.schemas.experiment import Comparison, Finding, Interval
from autolab.loop.document import exploration_of
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.reports import claim_words, passages, tables
from autolab.trials.calibration import learn_correlation
from autolab.trials.progress import JudgedIteration, View
from autolab.verifiers import sanity


def run(iteration: Iteration, view: View) -> StageResult:
    manifest, confirmation = iteration.manifest(), iteration.confirmation()
    calibration, design, claim = iteration.calibration(), iteration.design(), iteration.tested_hypothesis()
    findings = sanity.results_sanity(manifest, design, calibration)
    problems = _blocking_messages(findings)
    confirm = None
    if confirmation is not None:
        confirm = iteration.manifest(confirmation.run_id)
        # Its advisory findings would repeat those on the search: the arms are the same.
        problems += _blocking_messages(sanity.results_sanity(confirm, design, calibration))
    if problems:
        return StageResult(StageOutcome.ESCALATE, f"results are not sane: {'; '.join(problems)}")
    tables_of_run = tables.extract(
        iteration.paths.folder,
        manifest,
        design,
        claim,
        confirmation,
        confirm,
        calibration,
        exploration_of(iteration),
    )
    crash_points.point("extract.after_write")
    notes = [finding.message for finding in findings]
    notes += tables_of_run.notes
    for note in notes:
        view(f"note: {note}")
    results = tables_of_run.results
    standing = claim_words.standing(results)
    view.judged(dataclasses.replace(JudgedIteration.now(claim, results), verdict=standing))
    view(f"verdict: {standing}")
    view(f"  {tables_of_run.headline}")
    learn_correlation(iteration.lab, iteration.config, manifest, view)
    comparisons = tables_of_run.metrics.comparisons
    # The first line is about the best variant, so a run with one variant is told by it.
    if len(comparisons) > 1:
        for comparison in comparisons:
            _show(comparison, view)
    return StageResult(StageOutcome.COMPLETE)


def _blocking_messages(findings: Sequence[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.severity == "blocking"]


def _show(comparison: Comparison, view: View) -> None:
    """One comparison in two or three lines, for the user who watches."""
    verdict = str(comparison.verdict)
    if comparison.reason:
        verdict = f"{verdict} ({comparison.reason})"
    view(f"  {comparison.arm} against {comparison.baseline}: {verdict}")
    gain, pairs = comparison.difference, passages.pairs_of(comparison)
    view(f"  gain {gain.mean:+.4g} in {comparison.metric}{interval_text(gain)} over {pairs} pairs")
    if any(arm.cut for arm in comparison.cut):
        view(f"  {passages.cuts(comparison)}")


def interval_text(interval: Interval) -> str:
    """`, 99% interval [0.0039, 0.0686],` for a line of the terminal; empty if the rule gave no interval."""
    if interval.low is None or interval.high is None:
        return ""
    return f", {100 * interval.level:.4g}% interval [{interval.low:.4g}, {interval.high:.4g}],"
