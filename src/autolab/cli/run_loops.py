"""Commands that drive the loop: run, loop, review, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from autolab.cli.exit_codes import EXIT_CODES
from autolab.cli.flags import FLAT, LabFlags, RecordFlags, ResearcherFlags, SearchFlags, TrialFlags
from autolab.cli.session import print_line, watched, with_researcher, with_trials
from autolab.errors import LabError, UsageError
from autolab.lab.lab import Lab
from autolab.lab.location import holder
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import user_review
from autolab.loop.engine import End, Engine, ended
from autolab.loop.preflight import relative
from autolab.loop.user_review import review_suspicious, waiting_for_user


def run(dir: Annotated[Path, arg(metavar="DIR")] = Path("."), *, plain: bool = False) -> int:
    """One stage transition.

    Args:
        dir: A folder in the lab.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab run"):
        config = relative(lab, lab.config())
        with watched(lab, config, plain) as (view, stop):
            engine = Engine(lab, config, view, stop)
            before, _ = lab.load()
            if before.stage is Stage.HUMAN_REVIEW:
                view(f"waits for a user: {before.reason}")
                return EXIT_CODES[End.USER]
            moved = engine.step()
        state, _ = lab.load()
    print(f"{before.stage} -> {state.stage}" if moved else "paused; `autolab run` goes on from here")
    return EXIT_CODES[ended(state)]


def loop(
    search: Annotated[SearchFlags, FLAT],
    researcher: Annotated[ResearcherFlags, FLAT],
    trials: Annotated[TrialFlags, FLAT],
    record: Annotated[RecordFlags, FLAT],
    watch: Annotated[LabFlags, FLAT],
) -> int:
    """Iterate until the count, the target, the patience or a budget ends it.

    After a crash or a stop the same command finishes what it began and adds nothing.
    """
    record.refuse_less()
    request = search.request()
    lab = Lab.find(watch.dir)
    with lab.hold(f"autolab loop --max-iterations {request.max_iterations}"):
        config = with_researcher(lab.config(), researcher)
        config = relative(lab, with_trials(config, trials))
        with watched(lab, config, watch.plain) as (view, stop):
            end = Engine(lab, config, view, stop).loop(request)
    return EXIT_CODES[end]


def review(
    answer: Positional[Literal["approve", "retry", "stop"] | None] = None,
    /,
    *,
    iteration: str | None = None,
    dir: Path = Path("."),
) -> int:
    """Show what waits for you, or answer it: a lab that waits, or with --iteration a candidate set aside as suspicious.

    Args:
        answer: approve a review whose checks passed, retry the stage, or stop the campaign. With --iteration: approve
            makes that candidate champion, stop rejects it.
        iteration: The iteration whose suspicious candidate is meant; a part of its id is enough where it is unique.
        dir: A folder in the lab.
    """
    lab = Lab.find(dir)
    if answer is None:
        print("\n".join(waiting_for_user(lab, iteration)))
        return 0
    if iteration is not None:
        if answer == "retry":
            raise UsageError("review retry --iteration: a suspicious candidate takes approve or stop")
        with lab.hold(f"autolab review {answer} --iteration {iteration}"):
            review_suspicious(lab, lab.config(), answer, iteration, print_line)
        return 0
    with lab.hold(f"autolab review {answer}"):
        user_review.review(lab, answer, print_line)
    return 0


def stop(*, dir: Path = Path(".")) -> int:
    """Ask the running loop to end after the present trials and to pause the lab.

    Args:
        dir: A folder in the lab.
    """
    lab = Lab.find(dir)
    running = holder(lab.store)
    if running is None:
        raise LabError(f"{lab.root}: nothing runs here; the lab is paused already")
    lab.ask_to_stop(running)
    print(f"asked {running} to pause after the present trials")
    return 0
