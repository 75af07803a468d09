"""The live view: a picture at the bottom of the terminal, drawn by rich; lines of lasting value scroll above it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import termios
from collections.abc import Iterable
from typing import Self

from rich import live
from rich.console import Console

from autolab.cli.board import VERDICTS, Board
from autolab.cli.comparison_board import ComparisonBoard
from autolab.cli.comparison_view import ComparisonState
from autolab.cli.picture import Picture, log_row
from autolab.cli.view import SHOWN, in_foreground
from autolab.compare.paired_runs import ComparisonPhase
from autolab.lab.redaction import clean
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Budget
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.text import both_ends
from autolab.trials.progress import JudgedIteration, Progress, outcome

SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


class LivePicture(live.Live):
    """A picture on the terminal of standard output. rich's refresh thread draws it four times a second."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        super().__init__(picture, console=Console(highlight=False), transient=True)
        self._notes = {""}
        """Messages of completed trials that were printed: many trials may share one, which is a line only once."""
        self._terminal = sys.stdout.fileno()
        self._settings = termios.tcgetattr(0) if os.isatty(0) else None
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # Each step registers its undoing first, so that a signal in between leaves the terminal as it was.
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._echo, True)
            self._echo(False)
            cleanup.callback(self.console.show_cursor, True)
            cleanup.callback(signal.signal, signal.SIGTSTP, signal.signal(signal.SIGTSTP, self._suspend))
            cleanup.callback(self.stop)
            self.start(refresh=True)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def __call__(self, line: str) -> None:
        line = both_ends(clean(line), SHOWN)
        self._picture.note(line)
        with self._lock:
            self._fit()
            self.console.print(log_row(line))

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self._picture.progress = progress
        if ended is None:
            return
        repeated = ended.message in self._notes
        self._notes.add(ended.message)
        if ended.outcome is TrialOutcome.COMPLETED and repeated:
            # Not a line above: its numbers stay in the tables.
            self._picture.note(clean(outcome(ended, progress.metric)))
        else:
            self(outcome(ended, progress.metric))

    def pause(self) -> None:
        self._picture.pausing = True

    def refresh(self) -> None:
        # If the terminal is gone, the loop's own next line says so; the refresh thread must not.
        with self._lock, contextlib.suppress(OSError):
            if in_foreground(self._terminal):
                self._fit()
                super().refresh()

    def _suspend(self, number: int, _: object) -> None:
        """Ctrl-Z: the shell gets its terminal, and afterwards the picture stands below what the shell wrote."""
        os.write(self._terminal, SHOW_CURSOR)
        self._echo(True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._echo(False)
        os.write(self._terminal, HIDE_CURSOR + b"\n" * len(self._picture.widths))

    def _echo(self, on: bool) -> None:
        """Restore the terminal's echo, or switch it off: typed characters would land in the picture."""
        if self._settings is None:
            return
        settings = list(self._settings)
        if not on:
            settings[3] &= ~termios.ECHO
        # The terminal may be gone.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, settings)

    def _fit(self) -> None:
        """Take the terminal's size. If it got narrower, clear the rows of the last picture.

        Terminals break lines anew when they get narrower. rich moves up by the lines that it wrote, so the cursor is
        left where it would be if they had not been broken.
        """
        columns, rows = os.get_terminal_size(self._terminal)
        # A terminal that does not know its size says 0.
        columns, rows = columns or 80, rows or 24
        widths = self._picture.widths
        if columns < self.console.width and widths:
            # Rows of the terminal that each row of the picture takes now, rounded up.
            height = sum(max(1, -(-width // columns)) for width in widths)
            up = f"\x1b[{height - 1}A" if height > 1 else ""
            self.console.file.write(f"\r{up}\x1b[J" + "\n" * (len(widths) - 1))
        self.console.size = (columns, rows)


class LiveView(LivePicture):
    """The `View` of a loop."""

    def __init__(self, budget: Budget, judged: Iterable[JudgedIteration]) -> None:
        self.board = Board(budget, list(itertools.islice(judged, VERDICTS)))
        super().__init__(self.board)

    def stage(self, state: State, campaign: Campaign, title: str) -> None:
        self.board.begin(state, campaign, title)

    def judged(self, judged: JudgedIteration) -> None:
        others = [verdict for verdict in self.board.verdicts if verdict.iteration_id != judged.iteration_id]
        self.board.verdicts = [judged, *others][:VERDICTS]


class LiveComparison(LivePicture):
    """The `ComparisonView` of a terminal."""

    def __init__(self, state: ComparisonState) -> None:
        self._state = state
        super().__init__(ComparisonBoard(state))

    def phase(self, phase: ComparisonPhase) -> None:
        self._picture.progress = None
        self._state.begin(phase)

    def trials(self, progress: Progress, ended: Trial | None = None) -> None:
        self._state.take(progress, ended)
        super().trials(progress, ended)
