"""Stage extract_results: tables, figures and results.yaml from the manifest."""

from __future__ import annotations

from autolab.lab import crash_points
from autolab.loop.iteration import Iteration, StageResult, recorded_confirmation, recorded_manifest
from autolab.loop.stages import StageOutcome
from autolab.reports import passages, tables
from autolab.stats import wording
from autolab.trials import calibration
from autolab.trials.progress import JudgedIteration
from autolab.verifiers import sanity

# extract_results


def run(desk: Iteration) -> StageResult:
    """Tables, figures and results.yaml from the manifest."""
    manifest, confirmation = recorded_manifest(desk), recorded_confirmation(desk)
    confirm = recorded_manifest(desk, confirmation.run_id) if confirmation else None
    known = calibration.current_calibration(desk.lab)
    findings = sanity.results_sanity(manifest, desk.design(), known)
    if confirm is not None:  # what is odd about its arms has been said of the search
        again = sanity.results_sanity(confirm, desk.design(), known)
        findings += [finding for finding in again if finding.severity == "blocking"]
    blocking = [finding.message for finding in findings if finding.severity == "blocking"]
    if blocking:
        return StageResult(StageOutcome.ESCALATE, f"results are not sane: {'; '.join(blocking)}")
    extracted = tables.extract(
        desk.paths.folder, manifest, desk.design(), desk.hypothesis(), confirmation, confirm, known
    )
    crash_points.point("extract.after_write")
    for note in (*(finding.message for finding in findings), *extracted.notes):
        desk.tell(f"note: {note}")
    desk.tell.judged(JudgedIteration.now(desk.hypothesis(), extracted.results))
    desk.tell(f"verdict: {wording.standing(extracted.results)}")
    for comparison in extracted.metrics.comparisons:
        d = comparison.difference
        bounds = f" [{d.low:.4g}, {d.high:.4g}]" if d.low is not None and d.high is not None else ""
        why = f" ({comparison.reason})" if comparison.reason else ""
        desk.tell(f"  {comparison.arm} against {comparison.baseline}: {comparison.verdict}{why}")
        desk.tell(f"  gain {d.mean:+.4g}{bounds} in {comparison.metric} over {comparison.pairs} pairs")
        if comparison.bound is not None:
            desk.tell(f"  {passages.cuts(comparison)}")
    return StageResult(StageOutcome.COMPLETE)
