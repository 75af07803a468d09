"""`autolab prompt`: what would be sent to a model or an agent, without sending it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from autolab.cli import flags
from autolab.cli.flags import Switch, option
from autolab.cli.session import to_json
from autolab.errors import ExitCode
from autolab.lab.lab import Lab
from autolab.lab.schemas.outcomes import RequestKind
from autolab.loop.prompt_preview import PromptPreview, preview

AskedStage = Literal["hypothesis", "design", "implementation", "implementation_review", "update_docs", "decide_repeat"]


def prompt(
    stage: Positional[Annotated[AskedStage, option("STAGE")]],
    /,
    *,
    agent: Switch = False,
    sizes: Switch = False,
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
) -> int:
    """Print what a model would be sent for a stage, and about how many tokens each part takes. Sends nothing.

    Of a lab at rest, the hypothesis of the next iteration; else the newest iteration that came to the stage.

    Args:
        stage: One of the six that a researcher is asked for, by its name in the configuration.
        agent: With the contract of a coding agent in place of that of a chat model.
        sizes: Print the table of tokens alone.
    """
    lab = Lab.find(dir)
    shown = preview(lab, lab.config(), RequestKind(stage), "command" if agent else "llm")
    if json:
        value = {"iteration": shown.iteration_id, "system": shown.system, "user": shown.user, "tokens": shown.tokens}
        print(to_json(value))
        return ExitCode.DONE
    if not sizes:
        print(f"=== system ===\n{shown.system}\n=== user ===\n{shown.user}")
    print(_table(shown))
    return ExitCode.DONE


def _table(shown: PromptPreview) -> str:
    tokens = shown.tokens
    rows = [f"about {sum(tokens.values()):,} tokens, of {shown.iteration_id}, at four characters each:"]
    for name, count in tokens.items():
        rows.append(f"{count:>8,}  {name}")
    return "\n".join(rows)
