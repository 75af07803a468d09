"""Stage implementation_review: the reviewer's findings, the recorded review, and the gate before launch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.files import sha256_of, sha256_of_file, utc_now
from autolab.lab.ledger import Line
from autolab.lab.schemas.experiment import Finding, ReviewResult
from autolab.lab.schemas.replies import ReviewOutput
from autolab.loop.iteration import Iteration, StageResult, quoted
from autolab.loop.request import ask
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import code, inert, plain
from autolab.text import many_lines
from autolab.trials import calibration

# implementation review


def run(desk: Iteration) -> StageResult:
    commit = desk.candidate() or ""
    judged = checked(desk, commit)
    base = desk.campaign.base_commit or ""
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "design_yaml": desk.design().to_yaml(),
        "diff_summary": desk.lab.git.diff_text(base, commit, 20_000),
        "verifier_outputs": json.dumps(judged, indent=1),
        "dry_run_output": _log_tail(desk.lab.logs(desk.iteration_id) / "checks" / "dry_run.log"),
        "evidence": _evidence(desk),
    }
    answer = ask(desk, values)
    if isinstance(answer, str):
        return StageResult(StageOutcome.RETRY, answer)
    result, output = answer
    assert output is None or isinstance(output, ReviewOutput)
    findings = list(output.findings) if output else []
    notes = output.notes if output else result.summary
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    review = ReviewResult(
        status="failed" if result.status == "failed" else "needs_retry" if blocking or output is None else "pass",
        blocking_findings=tuple(blocking),
        required_checks=judged["checks"],
        reviewed_at=utc_now(),
        commit=commit,
        reviewer=desk.reviewer.name,
    )
    desk.write(desk.paths.review, _review_text(desk, review, findings, notes))
    desk.write(desk.paths.review_result, review.to_json())
    said = {"commit": commit, "status": review.status, "sha256": sha256_of(review.to_json())}
    desk.lab.ledger.append("reviewed", said)
    desk.tell(f"review of {commit[:12]}: {review.status}" + (f", {blocking[0].message}" if blocking else ""))
    reason = "; ".join(finding.message for finding in blocking) or notes
    if review.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the reviewer sees no way: {reason}")
    return (
        StageResult(StageOutcome.COMPLETE)
        if review.status == "pass"
        else StageResult(StageOutcome.SEND_BACK, f"review: {reason}")
    )


def _evidence(desk: Iteration) -> str:
    """What was measured before the review, none of it by the author: the lab's calibration, the candidate's summary."""
    found, about = calibration.current_calibration(desk.lab), desk.paths.summary_json
    said = "The lab is not calibrated yet.\n"
    if found is not None:
        said = f"calibration, made of the base's own trials:\n{found.to_yaml()}"
    told = quoted(desk, about) if about.exists() else "none\n"
    return f"{said}\nsummary.json, which the candidate says of its model:\n{told}"


def checked(desk: Iteration, commit: str) -> dict[str, dict[str, Literal["pass", "skip", "fail"]]]:
    """What the verifiers said of this very commit."""
    found = [line.data for line in desk.events() if line.event == "checked" and line.data["commit"] == commit]
    return found[-1] if found else {"checks": {}}


def _review_text(desk: Iteration, review: ReviewResult, findings: Sequence[Finding], notes: str) -> str:
    checks = "\n".join(f"| {name} | {value} |" for name, value in review.required_checks.items())
    found = "\n".join(map(_finding_line, findings))
    return (
        f"# Review of {desk.slug}\n\nCommit {review.commit}, reviewed by {review.reviewer}: **{review.status}**\n\n"
        f"| check | result |\n| --- | --- |\n{checks}\n\n## Findings\n\n{found or 'None.'}\n"
        + (f"\n## Notes\n\n{inert(notes.strip())}\n" if notes.strip() else "")
    )


def _finding_line(found: Finding) -> str:
    file = f" ({code(found.file)})" if found.file else ""
    return f"- **{found.severity}** {plain(found.check)}{file}: {plain(found.message)}"


def _log_tail(path: Path) -> str:
    return many_lines(path.read_bytes())[-4_000:] if path.exists() else "not run"


def recorded_review(path: Path, shown: str, events: Iterable[Line]) -> ReviewResult:
    """A review of the iteration as it was recorded; RecordError where it is missing, malformed or was changed since."""
    review = ReviewResult.load(path, shown)
    said = [line.data["sha256"] for line in events if line.event in ("reviewed", "approved")]
    if sha256_of_file(path) not in said:
        raise RecordError(f"{shown}: changed since the review was recorded; it has to be made again")
    return review


def gate(desk: Iteration) -> str:
    """Why launch is forbidden, or nothing: a pass, on this commit, with the worktree equal to it."""
    path = desk.paths.review_result
    commit = desk.candidate()
    try:
        review = recorded_review(path, desk.shown(path), desk.events())
    except RecordError as error:
        return str(error)
    if review.status != "pass":
        return f"review_result.json: status is {review.status}, launch needs pass"
    if review.commit is None or review.commit != commit:
        return f"review_result.json: commit is {review.commit}, the candidate is {commit}"
    failed = [name for name, value in review.required_checks.items() if value == "fail"]
    if failed:
        return f"review_result.json: required checks failed: {', '.join(failed)}"
    desk.lab.git.add_worktree(desk.worktree, f"exp/{desk.slug}", commit)
    if not desk.lab.git.worktree_equals(desk.worktree, commit):
        return f"{desk.shown(desk.worktree)}: changed since commit {commit[:12]} was reviewed"
    return ""
