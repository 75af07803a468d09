"""Every exception that Autolab raises on purpose, and who sees it.

    AutolabError            exit 1   one line for a user: what is wrong, where, the way out
    ├── UsageError          exit 2   the command line asks for something that does not exist
    ├── LabError            exit 1   the lab on disk: missing, locked, moved, copied, unwritable
    ├── RecordError         exit 1   a document that does not fit its form: file, field, reason
    ├── LedgerError         exit 1   the chain of the ledger, its head or the state do not hold
    ├── GitError            exit 1   git is missing, refused, or a ref moved under us
    ├── ExecutorError       exit 1   a place where trials run; `transient` says whether to try again
    ├── ResearcherError     exit 1   who thinks could not be reached or is not known
    ├── BudgetSpent         exit 4   the next call would go past a cap of the budget; the engine stops the lab
    └── Paused              exit 0   a user asked to stop while the engine waited; the engine pauses the lab

What a trial, a reviewer or a verifier says is a value, never an exception. Anything else that is
raised is a bug, and shows its traceback.
"""

from __future__ import annotations

from autolab import text

MESSAGE = 4_000
"""Characters of a message."""


class AutolabError(Exception):
    """One line for a user: the message is made one by `text.one_line`, whatever was quoted in it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(text.one_line(str(message), MESSAGE))


class UsageError(AutolabError):
    exit_code = 2


class LabError(AutolabError):
    pass


class RecordError(AutolabError):
    pass


class LedgerError(AutolabError):
    pass


class GitError(AutolabError):
    pass


class ExecutorError(AutolabError):
    """`transient` is True for infrastructure that may come back (a node, a network, a sync)."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ResearcherError(AutolabError):
    pass


class BudgetSpent(AutolabError):
    exit_code = 4


class Paused(AutolabError):
    exit_code = 0
