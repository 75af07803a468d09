"""Stage extract_results: tables, figures and results.yaml from the manifest."""

from __future__ import annotations

from autolab.lab import crash_points
from autolab.lab.schemas.experiment import Comparison
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.reports import passages, tables
from autolab.stats import wording
from autolab.trials.progress import JudgedIteration, View
from autolab.verifiers import sanity

# extract_results


def run(iteration: Iteration, view: View) -> StageResult:
    """Tables, figures and results.yaml from the manifest."""
    manifest, confirmation = iteration.manifest(), iteration.confirmation()
    confirm = iteration.manifest(confirmation.run_id) if confirmation else None
    calibration, design, claim = iteration.calibration(), iteration.design(), iteration.hypothesis()
    findings = sanity.results_sanity(manifest, design, calibration)
    if confirm is not None:  # what is odd about its arms has been said of the search
        again = sanity.results_sanity(confirm, design, calibration)
        findings += [finding for finding in again if finding.severity == "blocking"]
    blocking = [finding.message for finding in findings if finding.severity == "blocking"]
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
    difference = comparison.difference
    bounds = ""
    if difference.low is not None and difference.high is not None:
        bounds = f" [{difference.low:.4g}, {difference.high:.4g}]"
    why = f" ({comparison.reason})" if comparison.reason else ""
    view(f"  {comparison.arm} against {comparison.baseline}: {comparison.verdict}{why}")
    view(f"  gain {difference.mean:+.4g}{bounds} in {comparison.metric} over {comparison.pairs} pairs")
    if comparison.bound is not None:
        view(f"  {passages.cuts(comparison)}")
