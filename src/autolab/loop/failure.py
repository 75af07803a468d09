"""What a user needs to settle what the loop could not."""

from __future__ import annotations

from autolab.lab.schemas.outcomes import Stage
from autolab.loop.iteration import Iteration
from autolab.reports.markup import inert


def failure_report(iteration: Iteration, stage: Stage, reason: str) -> str:
    """What a user needs to settle what the loop could not."""
    ways = ["`autolab review retry` tries the stage again", "`autolab review stop` ends the campaign"]
    if stage is Stage.IMPLEMENTATION_REVIEW:
        ways.insert(0, "`autolab review approve` launches it on your word, if the required checks passed")
    kept = "there is no candidate yet"
    if iteration.candidate():
        kept = f"the candidate is on branch `exp/{iteration.slug}`"
    logs = iteration.relative(iteration.lab.logs(iteration.iteration_id))
    return (
        "\n\n".join(
            [
                f"# {iteration.iteration_id} waits for a user",
                f"Stage {stage}, attempt {iteration.state.stage_attempt}, sent back {iteration.state.bounces} times.",
                inert(reason),
                f"Nothing was reset; {kept}. Prompts, replies and check logs: `{logs}`.",
                "## Ways on",
                "\n".join(f"- {way}" for way in ways),
            ]
        )
        + "\n"
    )
