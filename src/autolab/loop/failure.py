"""The report for the user when the loop cannot go on by itself."""

from __future__ import annotations

from autolab.lab.schemas.outcomes import Stage
from autolab.loop.iteration import Iteration
from autolab.reports.rendering import SENTENCE, render


def failure_report(iteration: Iteration, stage: Stage, reason: str) -> str:
    """Why the iteration waits for the user, where its files are, and what the user can do."""
    return render(
        "failure",
        iteration_id=iteration.iteration_id,
        stage=stage.value,
        reason=reason,
        long_reason=len(reason) > SENTENCE or "\n" in reason.strip(),
        attempt=iteration.state.stage_attempt,
        bounces=iteration.state.bounces,
        branch=f"exp/{iteration.slug}" if iteration.candidate() else "",
        logs=iteration.relative(iteration.lab.logs(iteration.iteration_id)),
        can_approve=stage is Stage.IMPLEMENTATION_REVIEW,
    )
