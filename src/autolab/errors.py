"""Every exception that Autolab raises on purpose, and who sees it.

    AutolabError            exit 1   one line for a user: what is wrong, where, the way out
    ├── UsageError          exit 2   the command line asks for something that does not exist
    ├── LabError            exit 1   the lab on disk: missing, locked, moved, copied, unwritable
    ├── RecordError         exit 1   a document that does not fit its form: file, field, reason
    ├── LedgerError         exit 1   the chain of the ledger, its head or the state do not hold
    ├── GitError            exit 1   git is missing, refused, or a ref moved under us
    ├── ExecutorError       exit 1   a place where trials run; `transient` says whether to try again
    ├── ResearcherError     exit 1   a researcher that is unknown or cannot be reached
    ├── BudgetSpent         exit 4   the next call would exceed a cap of the budget; the engine stops the lab
    └── Paused              exit 0   the user asked to stop while the engine waited; the engine pauses the lab

What a trial, a reviewer or a verifier reports is a value, never an exception. Any other exception is a bug, and shows
its traceback.
"""

from __future__ import annotations

from enum import IntEnum

from autolab import text

MESSAGE = 4_000
"""Characters of a message."""


class ExitCode(IntEnum):
    """How a command of Autolab ends: every exit code that it has."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    USER = 3
    """The lab waits for the user: `autolab review`."""
    BUDGET = 4
    """A budget of the configuration is spent."""
    NO_GAIN = 5
    """`autolab compare`: no gain."""
    UNDECIDED = 6
    """`autolab compare`: the budget is spent, or the user stopped it, before the answer was known; or no seed changes
    the training, so that no number of pairs makes it known."""
    WORSE = 7
    """`autolab compare`: worse."""


class AutolabError(Exception):
    """An error that a user can act on. The message becomes one line (`text.one_line`), whatever it quotes."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str) -> None:
        super().__init__(text.one_line(str(message), MESSAGE))


class UsageError(AutolabError):
    exit_code = ExitCode.USAGE


class LabError(AutolabError):
    pass


class RecordError(AutolabError):
    pass


class LedgerError(AutolabError):
    pass


class GitError(AutolabError):
    pass


class ExecutorError(AutolabError):
    """`transient`: the infrastructure (a node, a network, a sync) may work again later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ResearcherError(AutolabError):
    pass


class BudgetSpent(AutolabError):
    exit_code = ExitCode.BUDGET


class Paused(AutolabError):
    exit_code = ExitCode.DONE
