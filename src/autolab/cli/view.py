"""What a user sees while a command works: plain lines, or on a terminal lines above a picture that moves.

The engine and its runs speak to a `View`; which one it is changes nothing that is recorded. Only the live view loads
rich, and only it has a thread, which draws four times a second and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterable
from typing import Self

from autolab.cli.board import VERDICTS, Board, logged, pausing, printable
from autolab.lab.redaction import clean
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.experiment import Lesson, Trial
from autolab.lab.schemas.outcomes import Stage, TrialOutcome
from autolab.trials.progress import JudgedIteration, Progress, outcome

DRAW_S = 0.25


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
        self._say(printable(clean(line)))

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        self._stage, self._progress = state.stage, None
        self(f"[{state.iteration_id}] {state.stage}{_attempt(state)}")

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self._progress = progress
        if ended is not None:
            self(progress.line(ended))

    def judged(self, judged: JudgedIteration) -> None:
        pass

    def pause(self) -> None:
        if not self._pausing:
            self._pausing = True
            said = pausing(self._stage, self._progress)
            with contextlib.suppress(OSError):  # nobody reads it: no reason not to pause
                os.write(2, f"autolab: {said}; once more leaves at once\n".encode())


class Live:
    """A picture at the bottom of the terminal; lines of lasting value scroll above it, with the time of day."""

    def __init__(self, budget: Budget, judged: Iterable[JudgedIteration]) -> None:
        from rich.console import Console
        from rich.live import Live as Picture

        self.board = Board(budget, list(judged))
        self._console = Console(highlight=False)
        self._picture = Picture(
            self.board, console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        self._notes = {""}
        """What completed trials were noted for: each note is a line once, many trials may share it."""
        self._terminal = sys.stdout.fileno()
        self._found = termios.tcgetattr(0) if os.isatty(0) else None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._draw, name="live view")
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._echo, True)
            self._echo(False)
            stack.callback(self._console.show_cursor, True)
            stack.callback(signal.signal, signal.SIGTSTP, signal.signal(signal.SIGTSTP, self._suspend))
            self._fit()
            stack.enter_context(self._picture)
            self._thread.start()
            stack.callback(self._thread.join)
            stack.callback(self._over.set)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __call__(self, line: str) -> None:
        line = clean(line)
        self.board.note(line)
        with self._lock:
            self._fit()
            self._console.print(logged(line))

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        self.board.begin(state, campaign, title)

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self.board.progress = progress
        if ended is None:
            return
        noted = ended.message in self._notes
        self._notes.add(ended.message)
        if ended.outcome is TrialOutcome.COMPLETED and noted:
            self.board.note(clean(outcome(ended)))  # not a line above: its numbers stay in the tables
        else:
            self(outcome(ended))

    def judged(self, judged: JudgedIteration) -> None:
        others = [one for one in self.board.verdicts if one.iteration_id != judged.iteration_id]
        self.board.verdicts = [judged, *others][:VERDICTS]

    def pause(self) -> None:
        self.board.pausing = True

    def _suspend(self, number: int, _: object) -> None:
        """Ctrl-Z: the shell gets its terminal, and afterwards the picture stands below what the shell said."""
        os.write(self._terminal, b"\x1b[?25h")
        self._echo(True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._echo(False)
        os.write(self._terminal, b"\x1b[?25l" + b"\n" * len(self.board.drawn))

    def _echo(self, on: bool) -> None:
        """Show what is typed, as it was found, or not: it would land in the picture. Ctrl-C works as ever."""
        if self._found is not None:
            silent = [*self._found[:3], self._found[3] & ~termios.ECHO, *self._found[4:]]
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._found if on else silent)

    def _draw(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone, which the loop's own next line will say
            while not self._over.wait(DRAW_S):
                if _in_front(self._terminal):
                    with self._lock:
                        self._fit()
                        self._picture.refresh()

    def _fit(self) -> None:
        """Take the terminal's size; where it got narrower, clear away the rows that the last picture's lines became.

        Terminals break lines anew when they get narrower. rich goes up by the lines that it wrote, so the cursor is
        left where it would be had they not been broken.
        """
        width, height = os.get_terminal_size(self._terminal)
        width, height = width or 80, height or 24
        if width < self._console.width and self.board.drawn:
            rows = sum(max(1, -(-cells // width)) for cells in self.board.drawn)
            up = f"\x1b[{rows - 1}A" if rows > 1 else ""
            self._console.file.write(f"\r{up}\x1b[J" + "\n" * (len(self.board.drawn) - 1))
        self._console.size = (width, height)


def choose(
    plain: bool, say: Callable[[str], None], budget: Budget, lessons: Callable[[], Iterable[Lesson]]
) -> Plain | Live:
    """The live view where a user looks at a terminal that can show it, else plain lines."""
    named = os.environ.get("TERM", "")
    if plain or os.environ.get("NO_COLOR") or named in ("", "dumb", "unknown") or not sys.stdout.isatty():
        return Plain(say)
    if not sys.stdout.encoding.lower().startswith("utf") or not _in_front(sys.stdout.fileno()):
        return Plain(say)
    return Live(budget, [JudgedIteration.before(lesson) for lesson in lessons()][:VERDICTS])


def _in_front(terminal: int) -> bool:
    """Whether this process is the one that the terminal's user works with; a job in the background draws nothing."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True  # a terminal without job control


def _attempt(state: State) -> str:
    return f" (attempt {state.stage_attempt} of {state.max_stage_attempts})" if state.stage_attempt > 1 else ""
