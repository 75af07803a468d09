"""Commands that drive the loop: run, loop, review, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional

from autolab.cli import flags
from autolab.cli.flags import RecordFlags, ResearcherFlags, SearchFlags, TrialFlags, option
from autolab.cli.session import print_line, watched, with_researcher, with_trials
from autolab.errors import ExitCode, LabError, UsageError
from autolab.lab.lab import Lab
from autolab.lab.location import holder
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import user_review
from autolab.loop.engine import End, Engine, ended
from autolab.loop.preflight import relative

# A pause is no failure: a script that runs the command again goes on.
EXIT_CODES = {
    End.DONE: ExitCode.DONE,
    End.PAUSED: ExitCode.DONE,
    End.USER: ExitCode.USER,
    End.BUDGET: ExitCode.BUDGET,
}


def run(*, dir: flags.LabFolder = Path("."), plain: flags.Plain = False) -> int:
    """Run one stage of the iteration; `autolab loop` runs them all."""
    lab = Lab.find(dir)
    with lab.hold("autolab run"):
        config = relative(lab, lab.config())
        with watched(lab, config, plain) as (view, stop):
            engine = Engine(lab, config, view, stop)
            before, _ = lab.load()
            # A step would ask the same question again; `review` answers it.
            if before.stage is Stage.HUMAN_REVIEW:
                view(f"waits for you: {before.reason}")
                return EXIT_CODES[End.USER]
            moved = engine.step()
        state, _ = lab.load()
    print(f"{before.stage} -> {state.stage}" if moved else "paused; `autolab run` goes on from here")
    return EXIT_CODES[ended(state)]


def loop(
    search: Annotated[SearchFlags, OmitArgPrefixes],
    researcher: Annotated[ResearcherFlags, OmitArgPrefixes],
    trial: Annotated[TrialFlags, OmitArgPrefixes],
    unused: Annotated[RecordFlags, OmitArgPrefixes],
    *,
    dir: flags.LabFolder = Path("."),
    plain: flags.Plain = False,
) -> int:
    """Run iterations until their number, the target, the patience or a budget ends the loop.

    After a crash, Ctrl-C or `autolab stop` the same command goes on from there.
    """
    # Before the lab is locked, so that a typing error is reported also while another command holds it.
    unused.refuse_less()
    request = search.request()
    lab = Lab.find(dir)
    with lab.hold(f"autolab loop --max-iterations {request.max_iterations}"):
        config = with_researcher(lab.config(), researcher)
        config = relative(lab, with_trials(config, trial))
        with watched(lab, config, plain) as (view, stop):
            end = Engine(lab, config, view, stop).loop(request)
    return EXIT_CODES[end]


def review(
    answer: Positional[Annotated[Literal["approve", "retry", "stop"] | None, option("[{approve,retry,stop}]")]] = None,
    /,
    *,
    iteration: Annotated[str | None, option("ID")] = None,
    dir: flags.LabFolder = Path("."),
) -> int:
    """Show what waits for you, or answer it.

    Args:
        answer: approve the candidate, retry the stage, or stop the campaign. Without it: show what waits.
        iteration: Answer for the suspicious candidate of this iteration, such as h2: approve it as champion, or stop.
    """
    lab = Lab.find(dir)
    if answer is None:
        print("\n".join(user_review.waiting_for_user(lab, iteration)))
        return ExitCode.DONE
    if iteration is None:
        with lab.hold(f"autolab review {answer}"):
            user_review.review(lab, answer, print_line)
        return ExitCode.DONE
    if answer == "retry":
        raise UsageError("review retry --iteration: a suspicious candidate takes approve or stop")
    with lab.hold(f"autolab review {answer} --iteration {iteration}"):
        user_review.review_suspicious(lab, lab.config(), answer, iteration, print_line)
    return ExitCode.DONE


def stop(*, dir: flags.LabFolder = Path(".")) -> int:
    """Ask the running loop to pause after the running trials."""
    lab = Lab.find(dir)
    # The request names the command that holds the lab now: the next one is not meant.
    command = holder(lab.store)
    if command is None:
        raise LabError(f"{lab.root}: nothing runs here; `autolab status` shows the lab's state")
    lab.ask_to_stop(command)
    print(f"{command} pauses after the running trials")
    return ExitCode.DONE
