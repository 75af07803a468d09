"""How a command that looks at a training asks the user, and where it shows the run."""

from __future__ import annotations

from collections.abc import Callable

from autolab.adoption.program_probe import ProbeView
from autolab.adoption.questions import Ask, refuse, take_likely
from autolab.cli.flags import AdoptionFlags
from autolab.cli.session import can_draw, is_interactive


def adoption_talk(adoption: AdoptionFlags, tell: Callable[[str], None]) -> tuple[Ask, ProbeView | None]:
    """How an adoption asks, and where it shows its run.

    A user on a terminal is asked; a script is refused, or has said --yes.
    """
    view: ProbeView | None = None
    answer = take_likely(tell) if adoption.yes else refuse(tell)
    # Only on a terminal: they load rich.
    if can_draw():
        from autolab.cli.adoption_terminal import ProbeLine

        view = ProbeLine()
    if is_interactive() and not adoption.yes:
        from autolab.cli.adoption_terminal import ask

        answer = ask
    return answer, view
