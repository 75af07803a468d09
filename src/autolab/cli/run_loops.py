"""Commands that drive the loop: run, loop, review, stop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from autolab.cli.exit_codes import EXIT_CODES
from autolab.cli.session import print_line, watched, with_flags, with_researcher
from autolab.errors import LabError, UsageError
from autolab.lab.lab import Lab
from autolab.lab.location import holder
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import PROSE
from autolab.loop import user_review
from autolab.loop.engine import End, Engine, LoopRequest, ended
from autolab.loop.preflight import relative
from autolab.loop.user_review import review_suspicious, waiting_for_user
from autolab.text import many_lines, one_line


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
    *,
    max_iterations: Annotated[int, arg(aliases=["--max-iter"])],
    goal: str = "",
    target: str | None = None,
    target_accuracy: float | None = None,
    patience: int | None = None,
    researcher: str | None = None,
    script: str | None = None,
    command: str | None = None,
    model: Annotated[str | None, arg(aliases=["--llm-model"])] = None,
    base_url: Annotated[str | None, arg(aliases=["--llm-base-url"])] = None,
    llm_timeout: float | None = None,
    executor: str | None = None,
    containment: Literal["full", "partial", "none"] | None = None,
    resolve: bool = False,
    keep: bool = True,
    llm_raw: bool = True,
    plain: bool = False,
    dir: Path = Path("."),
) -> int:
    """Iterate until the count, the target, the patience or a budget ends it.

    After a crash or a stop the same command finishes what it began and adds nothing.

    Args:
        max_iterations: Iterations of this loop.
        goal: What you want, in one sentence.
        target: METRIC>=NUMBER, METRIC<=NUMBER, or a number for the primary metric.
        target_accuracy: The same as --target "accuracy>=X".
        patience: End after this many iterations without a supported gain.
        researcher: Who thinks: offline, llm, claude, codex, aider, mini, command, scripted, or package.module:Class.
        script: Answers of the scripted researcher, a YAML file.
        command: The command researcher's program, with {prompt_file} and {workspace}.
        model: The language model that thinks, PROVIDER:NAME, such as openai:gpt-5 or ollama:qwen3.
        base_url: Address of an OpenAI-compatible service, in place of the provider's own.
        llm_timeout: Seconds for one call of the model.
        executor: Where trials run: local, or package.module:Class.
        containment: Level for this command, in place of config.yaml's. At none, programs run with your rights.
        resolve: Go on where a gain has become unlikely, until it is refuted.
        keep: Everything is always kept; the flag is there for scripts that pass it.
        llm_raw: Every prompt and raw reply is always kept, too.
        plain: Lines only, on a terminal too.
        dir: A folder in the lab.
    """
    if not keep:
        raise UsageError("--no-keep: the record is never thrown away; leave the flag out")
    if not llm_raw:
        raise UsageError("--no-llm-raw: every reply is kept as it came; leave the flag out")
    request = _loop_request(
        max_iterations, goal, target if target_accuracy is None else f"accuracy>={target_accuracy:g}", patience
    )
    lab = Lab.find(dir)
    with lab.hold(f"autolab loop --max-iterations {max_iterations}"):
        config = with_researcher(lab.config(), researcher, script, command, model, base_url, llm_timeout)
        config = relative(lab, with_flags(config, executor, containment, resolve))
        with watched(lab, config, plain) as (view, stop):
            end = Engine(lab, config, view, stop).loop(request)
    return EXIT_CODES[end]


def _loop_request(max_iterations: int, goal: str, target: str | None, patience: int | None) -> LoopRequest:
    """What the flags of a loop ask for; UsageError names the one that asks for nothing."""
    if max_iterations < 1:
        raise UsageError(f"--max-iterations: {max_iterations} is not a positive number")
    if patience is not None and patience < 1:
        raise UsageError(f"--patience: {patience} is not a positive number")
    if goal and not re.search(r"[^\W\d_]", goal):
        raise UsageError(f"--goal: {goal!r} holds no word; say what you want in one sentence, in any language")
    goal = many_lines(goal)  # words of a command line need not be UTF-8
    if len(goal) > PROSE:
        raise UsageError(f"--goal: {len(goal):,} characters; say it in {PROSE:,} or fewer")
    return LoopRequest(max_iterations, goal, None if target is None else one_line(target), patience)


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
    who = holder(lab.store)
    if who is None:
        raise LabError(f"{lab.root}: nothing runs here; the lab is paused already")
    lab.ask_to_stop(who)
    print(f"asked {who} to pause after the present trials")
    return 0
