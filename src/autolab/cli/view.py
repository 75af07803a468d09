"""What a user sees of a command at work, as plain lines. `live_view.py` shows the same as a picture on a terminal.

The engine and its runs speak to a `View`; which of the two it is changes nothing that is recorded.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Self

from autolab.lab.redaction import clean
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import Stage
from autolab.text import both_ends, many_lines
from autolab.trials.progress import JudgedIteration, Progress, spell

NAMED = 3
"""Trials that a message names at most."""
SHOWN = 4_000
"""Characters of one message. `autolab review` shows more of why a stage failed."""


class Plain:
    """Lines, each given to `say` as it comes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stage: Stage | None = None
        self._progress: Progress | None = None
        self._pausing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, line: str) -> None:
        self._say(both_ends(many_lines(clean(line)), SHOWN))

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        self._stage, self._progress = state.stage, None
        line = f"[{state.iteration_id}] {state.stage}"
        if state.stage_attempt > 1:
            line += f" (attempt {state.stage_attempt} of {state.max_stage_attempts})"
        self(line)

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self._progress = progress
        if ended is not None:
            self(progress.line(ended))

    def judged(self, judged: JudgedIteration) -> None:
        pass

    def pause(self) -> None:
        if self._pausing:
            return
        self._pausing = True
        message = f"autolab: {pausing(self._stage, self._progress)}; Ctrl-C again stops at once\n"
        # By a system call: this may run in a signal handler, in the middle of a `print`.
        # The loop pauses also when nobody reads its messages any more.
        with contextlib.suppress(OSError):
            os.write(2, message.encode())


def pausing(stage: Stage | None, progress: Progress | None) -> str:
    """What a command waits for before it pauses, and how long if that is known."""
    if progress is None or not progress.running:
        step = "the present step"
        if stage:
            step = f"{step}, {stage}"
        return f"pausing after {step}"
    names = [running.trial for running in progress.running]
    trials = ", ".join(names[:NAMED])
    if len(names) > NAMED:
        trials += f" and {len(names) - NAMED} more"
    seconds_left = progress.paused_in(time.monotonic())
    when = ""
    if seconds_left is not None:
        when = f" in about {spell(seconds_left)},"
    return f"pausing{when} after the running trials: {trials}"


def in_foreground(terminal: int) -> bool:
    """Whether this process is the one that the terminal's user works with; a job in the background draws nothing."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        # A terminal without job control has one job, which is this one.
        return True
