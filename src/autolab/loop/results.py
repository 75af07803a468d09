"""Stage extract_results: tables, figures and results.yaml from the manifest."""

from __future__ import annotations

from autolab.lab import crash_points
from autolab.lab.schemas.experiment import Comparison, Interval
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.reports import passages, tables
from autolab.stats import wording
from autolab.trials.progress import JudgedIteration, View
from autolab.verifiers import sanity


def run(iteration: Iteration, view: View) -> StageResult:
    manifest, confirmation = iteration.manifest(), iteration.confirmation()
    calibration, design, claim = iteration.calibration(), iteration.design(), iteration.hypothesis()
    findings = sanity.results_sanity(manifest, design, calibration)
    blocking = [finding.message for finding in findings if finding.severity == "blocking"]
    confirm = None
    if confirmation is not None:
        confirm = iteration.manifest(confirmation.run_id)
        # Its advisory findings would repeat those on the search: the arms are the same.
        again = sanity.results_sanity(confirm, design, calibration)
        blocking += [finding.message for finding in again if finding.severity == "blocking"]
    if blocking:
        return StageResult(StageOutcome.ESCALATE, f"results are not sane: {'; '.join(blocking)}")
    extracted = tables.extract(iteration.paths.folder, manifest, design, claim, confirmation, confirm, calibration)
    crash_points.point("extract.after_write")
    for note in (*(finding.message for finding in findings), *extracted.notes):
        view(f"note: {note}")
    view.judged(JudgedIteration.now(claim, extracted.results))
    view(f"verdict: {wording.standing(extracted.results)}")
    for comparison in extracted.metrics.comparisons:
        _show(comparison, view)
    return StageResult(StageOutcome.COMPLETE)


def _show(comparison: Comparison, view: View) -> None:
    """One comparison in two or three lines, for the user who watches."""
    reason = f" ({comparison.reason})" if comparison.reason else ""
    view(f"  {comparison.arm} against {comparison.baseline}: {comparison.verdict}{reason}")
    gain, pairs = comparison.difference, passages.pairs_of(comparison)
    view(f"  gain {gain.mean:+.4g} in {comparison.metric}{interval_text(gain)} over {pairs} pairs")
    if comparison.bound is not None:
        view(f"  {passages.cuts(comparison)}")


def interval_text(interval: Interval) -> str:
    """`, 99% interval [0.0039, 0.0686],` for a line of the terminal; empty if the rule gave no interval."""
    if interval.low is None or interval.high is None:
        return ""
    return f", {100 * interval.level:.4g}% interval [{interval.low:.4g}, {interval.high:.4g}],"
