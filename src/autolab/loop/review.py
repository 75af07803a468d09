"""Stage implementation_review: the reviewer's findings, the recorded review, and the gate before launch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.files import sha256_of, sha256_of_file, utc_now
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.events import Approved, Checked, Reviewed
from autolab.lab.schemas.experiment import Finding, ReviewResult
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import ReviewOutput
from autolab.loop import briefing
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, ValidReply, for_user
from autolab.loop.stage_prompt import changed_source
from autolab.loop.stages import StageOutcome
from autolab.reports.rendering import render
from autolab.text import many_lines
from autolab.trials.progress import View

ReviewStatus = Literal["pass", "needs_retry", "failed"]

DIFF_CHARACTERS = 20_000
"""Characters of the candidate's diff that a reviewer is shown."""
LOG_CHARACTERS = 4_000
"""Characters at the end of the dry run's log that a reviewer is shown."""


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    commit = iteration.candidate() or ""
    verdict = recorded_checks(iteration.events(), commit)
    reply = requests.send(iteration, RequestKind.IMPLEMENTATION_REVIEW, prompt_values(iteration))
    if isinstance(reply, str):
        return StageResult(StageOutcome.RETRY, reply)
    if reply.needs_user:
        return for_user(reply.result)
    findings, notes = _findings(reply)
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    review = ReviewResult(
        status=_status(reply, blocking),
        blocking_findings=tuple(blocking),
        required_checks=verdict.checks if verdict else {},
        reviewed_at=utc_now(),
        commit=commit,
        reviewer=requests.reviewer.name,
    )
    iteration.write(iteration.paths.review, _review_text(iteration.slug, review, findings, notes))
    record_review(iteration, review)
    messages = [finding.message for finding in blocking]
    line = f"review of {commit[:12]}: {review.status}"
    if messages:
        line = f"{line}: {messages[0]}"
    view(line)
    if review.status == "pass":
        return StageResult(StageOutcome.COMPLETE)
    reason = "; ".join(messages) or notes
    # The reviewer sees no way to a good candidate, so another attempt would be wasted.
    if review.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the reviewer sees no way: {reason}")
    return StageResult(StageOutcome.SEND_BACK, f"review: {reason}")


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    lab, paths, commit = iteration.lab, iteration.paths, iteration.candidate() or ""
    verdict = recorded_checks(iteration.events(), commit)
    model_summary = "none\n"
    if paths.summary_json.exists():
        model_summary = iteration.quote(paths.summary_json)
    checks = verdict.value() if verdict else {"checks": {}}
    log = lab.logs(iteration.iteration_id) / "checks" / "dry_run.log"
    return {
        "hypothesis_md": iteration.quote(paths.hypothesis),
        "design_yaml": iteration.design().to_yaml(),
        "files": changed_source(lab, iteration.config, iteration.base_commit, commit),
        "diff_summary": lab.git.diff_text(iteration.base_commit, commit, DIFF_CHARACTERS),
        "verifier_outputs": json.dumps(checks, indent=1),
        "dry_run_output": _log_tail(log),
        "evidence": _evidence(iteration, model_summary),
    }


def _findings(reply: ValidReply) -> tuple[Sequence[Finding], str]:
    """A reviewer's findings and notes; of a review that was not completed, its summary."""
    if reply.output is None:
        return (), reply.result.summary
    assert isinstance(reply.output, ReviewOutput)
    return reply.output.findings, reply.output.notes


def _status(reply: ValidReply, blocking: Sequence[Finding]) -> ReviewStatus:
    if reply.result.status == "failed":
        return "failed"
    # A review that was not completed lets nothing pass.
    if blocking or reply.output is None:
        return "needs_retry"
    return "pass"


def record_review(iteration: Iteration, review: ReviewResult) -> None:
    """Write review_result.json, and the ledger line that the gate compares it with."""
    # The file before the line: a review opens the gate only when the ledger holds its hash.
    iteration.write(iteration.paths.review_result, review.to_json())
    sha256 = sha256_of(review.to_json())
    events.append(iteration.lab.ledger, Reviewed(commit=review.commit, status=review.status, sha256=sha256))


def _evidence(iteration: Iteration, model_summary: str) -> str:
    """What was measured before the review, none of it by the author: the lab's noise, and the candidate's summary."""
    noise = briefing.measurement(iteration)
    return f"{noise}\n\nsummary.json, which the candidate says of its model:\n{model_summary}"


def recorded_checks(lines: Iterable[Line], commit: str) -> Checked | None:
    """The verifiers' newest verdict on this very commit; None if they have not checked it."""
    newest = None
    for verdict in events.events_of(lines, Checked):
        if verdict.commit == commit:
            newest = verdict
    return newest


def _review_text(slug: str, review: ReviewResult, findings: Sequence[Finding], notes: str) -> str:
    verdict = {"pass": "Passed", "needs_retry": "Sent back", "failed": "Rejected"}[review.status]
    return render("review", slug=slug, verdict=verdict, review=review, findings=findings, notes=notes)


def _log_tail(path: Path) -> str:
    if not path.exists():
        return "not run"
    return many_lines(path.read_bytes())[-LOG_CHARACTERS:]


def recorded_reviews(lines: Iterable[Line]) -> set[tuple[str | None, str]]:
    """Commit and hash of every review in these lines, as its reviewer wrote it or as a user approved it."""
    found: set[tuple[str | None, str]] = set()
    # One line at a time: those of a long history do not fit into memory together.
    for line in lines:
        if line.event == Reviewed.KIND:
            review: Reviewed | Approved = events.read(line, Reviewed)
        elif line.event == Approved.KIND:
            review = events.read(line, Approved)
        else:
            continue
        found.add((review.commit, review.sha256))
    return found


def recorded_review(path: Path, name: str, lines: Sequence[Line]) -> ReviewResult:
    """The review of an iteration, whose ledger lines are `lines`.

    RecordError: it is missing, malformed, or was changed after it was recorded.
    """
    review = ReviewResult.load(path, name)
    if (review.commit, sha256_of_file(path)) not in recorded_reviews(lines):
        raise RecordError(f"{name}: changed since the review was recorded; it has to be made again")
    return review


def gate(iteration: Iteration) -> str:
    """Why launch is forbidden; empty if the review is a pass of the candidate's commit and the worktree equals it."""
    path = iteration.paths.review_result
    commit, git = iteration.candidate(), iteration.lab.git
    try:
        review = recorded_review(path, iteration.relative(path), iteration.events())
    except RecordError as error:
        return str(error)
    if review.status != "pass":
        return f"review_result.json: status is {review.status}, launch needs pass"
    if review.commit is None or review.commit != commit:
        return f"review_result.json: commit is {review.commit}, the candidate is {commit}"
    failed = [name for name, status in review.required_checks.items() if status == "fail"]
    if failed:
        return f"review_result.json: required checks failed: {', '.join(failed)}"
    # A worktree that a user removed is made again. One with other files is not what was reviewed.
    worktree = iteration.worktree
    git.add_worktree(worktree, f"exp/{iteration.slug}", commit)
    if not git.worktree_equals(worktree, commit):
        return f"{iteration.relative(worktree)}: changed since commit {commit[:12]} was reviewed"
    return ""
