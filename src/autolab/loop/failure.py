"""The report for the user when the loop cannot go on by itself."""

from __future__ import annotations

from autolab.lab.schemas.outcomes import Stage
from autolab.loop.iteration import Iteration
from autolab.reports.rendering import SENTENCE, render


def failure_report(iteration: Iteration, stage: Stage, reason: str) -> str:
    """Why the iteration waits for the user, where its files are, and what the user can do."""
    state, iteration_id = iteration.state, iteration.iteration_id
    branch = ""
    if iteration.candidate():
        branch = f"exp/{iteration.slug}"
    logs = iteration.lab.logs(iteration_id)
    # The report's first line says it all, so that a long reason gets a place of its own below it.
    is_long = len(reason) > SENTENCE or "\n" in reason.strip()
    return render(
        "failure",
        iteration_id=iteration_id,
        stage=stage.value,
        reason=reason,
        long_reason=is_long,
        attempt=state.stage_attempt,
        bounces=state.bounces,
        branch=branch,
        logs=iteration.relative(logs),
        can_approve=stage is Stage.IMPLEMENTATION_REVIEW,
    )
