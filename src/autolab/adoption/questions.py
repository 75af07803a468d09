"""What an adoption cannot know by itself, as questions: their choices, the likely one first, and what scripts get.

`Ask` answers one: a user on a terminal (`cli/adoption_terminal.py`), `take_likely` (--yes) or `refuse` (scripts).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolab.errors import UsageError

CHOICES = 8
"""Choices that a question lists at most."""
EXAMPLES = 3
"""Choices that a refusal names at most."""
NONE = "none"
"""The answer that leaves a setting out."""


@dataclass(frozen=True)
class Choice:
    """An answer, and what the list shows beside it."""

    value: str
    note: str = ""


def _anything(text: str) -> str:
    return ""


@dataclass(frozen=True)
class UserQuestion:
    """`flag` answers it on the command line. `refusal` is what a script is told, with the lines `listed` above it."""

    flag: str
    text: str
    choices: tuple[Choice, ...]
    refusal: str
    is_likely: bool
    """Whether the first choice is the likely one; if not, the user has to choose."""
    may_type: str = ""
    """What may be typed in place of a number, such as "a metric's name"; nothing if empty."""
    complaint: Callable[[str], str] = _anything
    """Why a typed text is no answer; empty if it is one."""
    listed: tuple[str, ...] = ()
    default: str | None = None
    """What scripts get; None: they are refused."""

    @property
    def likely(self) -> str | None:
        return self.choices[0].value if self.is_likely and self.choices else None


Ask = Callable[[UserQuestion], str]


def refuse(tell: Callable[[str], None]) -> Ask:
    """The answers of a script that did not say --yes: the default, else UsageError with the flag that answers."""

    def ask(question: UserQuestion) -> str:
        if question.default is not None:
            return question.default
        for line in question.listed:
            tell(line)
        raise UsageError(question.refusal)

    return ask


def take_likely(tell: Callable[[str], None]) -> Ask:
    """The answers of --yes: the likely one, which is told. UsageError with the flag if none is likely."""
    without_likely = refuse(tell)

    def ask(question: UserQuestion) -> str:
        if question.likely is None:
            return without_likely(question)
        tell(f"  {question.flag} {_quoted(question.likely)}: taken as the likely answer (--yes)")
        return question.likely

    return ask


def program_question(commands: Sequence[str], complaint: Callable[[str], str]) -> UserQuestion:
    """Which program trains; `commands` are the likely ones, best first."""
    examples = " or ".join(f"'{command}'" for command in commands[:EXAMPLES] or ["python main.py"])
    return UserQuestion(
        flag="--train-command",
        text="Which command trains?",
        choices=tuple(Choice(command) for command in commands[:CHOICES]),
        refusal=f"--train-command: missing, and the last commit has no train.py; such as {examples}",
        is_likely=bool(commands),
        may_type="a command",
        complaint=complaint,
    )


def direction_question(metric: str) -> UserQuestion:
    return UserQuestion(
        flag="--direction",
        text=f"Which values of {metric} are better?",
        choices=(Choice("minimize", "smaller ones"), Choice("maximize", "larger ones")),
        refusal=f"--direction: {metric} does not say which way is good; give minimize or maximize",
        is_likely=False,
    )


def data_question(folders: Sequence[str], *, is_likely: bool) -> UserQuestion:
    """Which folder holds the data, of several that the program names and git does not hold.

    `is_likely`: the first one; else none of them is.
    """
    choices = [Choice(folder) for folder in folders[:CHOICES]]
    none = Choice(NONE, "trials do without; the run shows what is missing")
    choices.insert(len(choices) if is_likely else 0, none)
    return UserQuestion(
        flag="--data",
        text="Which folder holds the training data? The program names these, and git does not hold them.",
        choices=tuple(choices),
        refusal="",
        is_likely=True,
        default=NONE,
    )


def delta_question(metric: str, proposal: str, reason: str) -> UserQuestion:
    """The smallest difference worth having; `proposal` is a number as text."""
    return UserQuestion(
        flag="--delta",
        text=f"Which difference in {metric} is the smallest that is worth having?",
        choices=(Choice(proposal, reason),),
        refusal="",
        is_likely=True,
        may_type="a number",
        complaint=delta_complaint,
        default=proposal,
    )


def delta_complaint(text: str) -> str:
    """Why a text is no smallest difference; empty if it is one."""
    try:
        number = float(text)
    except ValueError:
        return f"{text} is not a number"
    return "" if 0 < number < float("inf") else f"{number:g} is not a positive number"


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
