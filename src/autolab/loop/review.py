"""Stage implementation_review: the reviewer's findings, the recorded review, and the gate before launch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.files import sha256_of, sha256_of_file, utc_now
from autolab.lab.ledger import Line
from autolab.lab.schemas.experiment import Calibration, Finding, ReviewResult
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import ReviewOutput
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests
from autolab.loop.stages import StageOutcome
from autolab.reports.rendering import render
from autolab.text import many_lines
from autolab.trials.progress import View

# implementation review


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    commit = iteration.candidate() or ""
    checks = recorded_checks(iteration.events(), commit)
    git, paths = iteration.lab.git, iteration.paths
    model_summary = iteration.quote(paths.summary_json) if paths.summary_json.exists() else "none\n"
    values = {
        "hypothesis_md": iteration.quote(paths.hypothesis),
        "design_yaml": iteration.design().to_yaml(),
        "diff_summary": git.diff_text(iteration.base_commit, commit, 20_000),
        "verifier_outputs": json.dumps(checks, indent=1),
        "dry_run_output": _log_tail(iteration.lab.logs(iteration.iteration_id) / "checks" / "dry_run.log"),
        "evidence": _evidence(iteration.calibration(), model_summary),
    }
    reply = requests.send(iteration, RequestKind.IMPLEMENTATION_REVIEW, values)
    if isinstance(reply, str):
        return StageResult(StageOutcome.RETRY, reply)
    output = reply.output
    assert output is None or isinstance(output, ReviewOutput)
    findings = list(output.findings) if output else []
    notes = output.notes if output else reply.result.summary
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    incomplete: Literal["needs_retry", "pass"] = "needs_retry" if blocking or output is None else "pass"
    review = ReviewResult(
        status="failed" if reply.result.status == "failed" else incomplete,
        blocking_findings=tuple(blocking),
        required_checks=checks["checks"],
        reviewed_at=utc_now(),
        commit=commit,
        reviewer=requests.reviewer.name,
    )
    iteration.write(paths.review, _review_text(iteration.slug, review, findings, notes))
    record_review(iteration, review)
    view(f"review of {commit[:12]}: {review.status}" + (f", {blocking[0].message}" if blocking else ""))
    reason = "; ".join(finding.message for finding in blocking) or notes
    if review.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the reviewer sees no way: {reason}")
    return (
        StageResult(StageOutcome.COMPLETE)
        if review.status == "pass"
        else StageResult(StageOutcome.SEND_BACK, f"review: {reason}")
    )


def record_review(iteration: Iteration, review: ReviewResult) -> None:
    """Write review_result.json, and the ledger line that the gate holds it against."""
    iteration.write(iteration.paths.review_result, review.to_json())
    reviewed = {"commit": review.commit, "status": review.status, "sha256": sha256_of(review.to_json())}
    iteration.lab.ledger.append("reviewed", reviewed)


def _evidence(calibration: Calibration | None, model_summary: str) -> str:
    """What was measured before the review, none of it by the author: the lab's calibration, the candidate's summary."""
    measured = "The lab is not calibrated yet.\n"
    if calibration is not None:
        measured = f"calibration, made of the base's own trials:\n{calibration.to_yaml()}"
    return f"{measured}\nsummary.json, which the candidate says of its model:\n{model_summary}"


Checks = dict[str, dict[str, Literal["pass", "skip", "fail"]]]


def recorded_checks(events: Iterable[Line], commit: str) -> Checks:
    """What the verifiers said of this very commit; no checks if they did not look at it."""
    checked = [line.data for line in events if line.event == "checked" and line.data["commit"] == commit]
    return checked[-1] if checked else {"checks": {}}


def _review_text(slug: str, review: ReviewResult, findings: Sequence[Finding], notes: str) -> str:
    verdict = {"pass": "Passed", "needs_retry": "Sent back", "failed": "Rejected"}[review.status]
    return render("review", slug=slug, verdict=verdict, review=review, findings=findings, notes=notes)


def _log_tail(path: Path) -> str:
    return many_lines(path.read_bytes())[-4_000:] if path.exists() else "not run"


def recorded_review(path: Path, name: str, events: Iterable[Line]) -> ReviewResult:
    """A review of the iteration as it was recorded; RecordError where it is missing, malformed or was changed since."""
    review = ReviewResult.load(path, name)
    recorded = [line.data["sha256"] for line in events if line.event in ("reviewed", "approved")]
    if sha256_of_file(path) not in recorded:
        raise RecordError(f"{name}: changed since the review was recorded; it has to be made again")
    return review


def gate(iteration: Iteration) -> str:
    """Why launch is forbidden, or nothing: a pass, on this commit, with the worktree equal to it."""
    path = iteration.paths.review_result
    commit = iteration.candidate()
    try:
        review = recorded_review(path, iteration.relative(path), iteration.events())
    except RecordError as error:
        return str(error)
    if review.status != "pass":
        return f"review_result.json: status is {review.status}, launch needs pass"
    if review.commit is None or review.commit != commit:
        return f"review_result.json: commit is {review.commit}, the candidate is {commit}"
    failed = [name for name, value in review.required_checks.items() if value == "fail"]
    if failed:
        return f"review_result.json: required checks failed: {', '.join(failed)}"
    iteration.lab.git.add_worktree(iteration.worktree, f"exp/{iteration.slug}", commit)
    if not iteration.lab.git.worktree_equals(iteration.worktree, commit):
        return f"{iteration.relative(iteration.worktree)}: changed since commit {commit[:12]} was reviewed"
    return ""
