"""What keeps a repository from becoming a lab: all refusals in one list, each with the line that fixes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from autolab.errors import AutolabError, ExitCode, LabError, UsageError


class Refusals:
    """Errors are collected here in place of being raised one at a time, so that the user sees all of them at once."""

    def __init__(self) -> None:
        self.errors: list[AutolabError] = []
        self.keeps_from_running = False
        """Whether the training cannot be tried before this is fixed, or would be tried in vain."""
        self._problems: list[str] = []

    @contextlib.contextmanager
    def collect(self, *, before_run: bool = True) -> Iterator[None]:
        """Keep the refusal of the block. `before_run` False: the training is tried in spite of it."""
        try:
            yield
        except AutolabError as error:
            self.add(error, before_run=before_run)

    def add(self, error: AutolabError, *, before_run: bool = True) -> None:
        # Two checks may see the same.
        if str(error) not in [str(other) for other in self.errors]:
            self.errors.append(error)
        self.keeps_from_running = self.keeps_from_running or before_run

    def add_problems(self, problems: Sequence[str]) -> None:
        """What keeps the training from running as a trial, a line each."""
        self._problems += problems

    def settle(self, tell: Callable[[str], None]) -> None:
        """Raise what was collected: one refusal as it is; of several each was told, and the error counts them.

        The exit code is that of a wrong command line if nothing else is wrong.
        """
        if not self.errors and not self._problems:
            return
        if len(self.errors) == 1 and not self._problems:
            raise self.errors[0]
        lines = [*self._problems, *map(str, self.errors)]
        for line in lines:
            tell(f"  missing: {line}")
        number = "one thing is" if len(lines) == 1 else f"{len(lines)} things are"
        if self._problems:
            raise LabError(
                f"the training does not run as a trial yet: {number} missing, see above;"
                " --probe-seconds 0 leaves this try out"
            )
        summary = f"{number} missing, see above; nothing was written"
        if all(error.exit_code == ExitCode.USAGE for error in self.errors):
            raise UsageError(summary)
        raise LabError(summary)
