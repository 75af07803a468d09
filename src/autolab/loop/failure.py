"""What a user needs to settle what the loop could not."""

from __future__ import annotations

from pathlib import Path

from autolab.lab.schemas.outcomes import Stage
from autolab.loop.iteration import Iteration
from autolab.reports.markup import inert


def failure_report(desk: Iteration, stage: Stage, reason: str) -> str:
    """What a user needs to settle what the loop could not."""
    ways = ["`autolab review retry` tries the stage again", "`autolab review stop` ends the campaign"]
    if stage is Stage.IMPLEMENTATION_REVIEW:
        ways.insert(0, "`autolab review approve` launches it on your word, if the required checks passed")
    kept = f"the candidate is on branch `exp/{desk.slug}`" if desk.candidate() else "there is no candidate yet"
    return (
        "\n\n".join(
            [
                f"# {desk.iteration_id} waits for a user",
                f"Stage {stage}, attempt {desk.state.stage_attempt}, sent back {desk.state.bounces} times.",
                inert(reason),
                f"Nothing was reset; {kept}. Prompts, replies and check logs: `{_logs(desk)}`.",
                "## Ways on",
                "\n".join(f"- {way}" for way in ways),
            ]
        )
        + "\n"
    )


def _logs(desk: Iteration) -> Path:
    return desk.lab.logs(desk.iteration_id).relative_to(desk.lab.root)
