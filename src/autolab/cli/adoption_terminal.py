"""`autolab init --from-existing` on a terminal: numbered questions, and one moving line while the training is tried."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import replace
from typing import Self

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from autolab.adoption.program_probe import ProbeNews
from autolab.adoption.questions import UserQuestion
from autolab.cli.session import print_line
from autolab.cli.view import in_foreground
from autolab.lab.redaction import clean
from autolab.text import one_line

_CLEAR = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


def ask(question: UserQuestion) -> str:
    """The user's answer. KeyboardInterrupt: Ctrl-C, or Ctrl-D, at the prompt."""
    print_line(f"\n{question.text}")
    width = max((len(choice.value) for choice in question.choices), default=0)
    for number, choice in enumerate(question.choices, 1):
        print_line(clean(f"  {number}. {one_line(choice.value):<{width}}  {one_line(choice.note)}".rstrip()))
    while True:
        answer = _read(_prompt(question))
        chosen, complaint = _meaning(question, answer)
        if not complaint:
            return chosen
        print_line(f"  {complaint}")


def _prompt(question: UserQuestion) -> str:
    ways = []
    if len(question.choices) > 1:
        ways.append(f"1-{len(question.choices)}")
    if question.may_type:
        ways.append(question.may_type)
    if question.likely is not None:
        ways.append("Enter for the first" if len(question.choices) > 1 else f"Enter for {question.likely}")
    return f"{question.flag} ({', '.join(ways)}): "


def _read(prompt: str) -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A key that the terminal's encoding does not have is a wrong answer, and no error.
        sys.stdin.reconfigure(errors="replace")
    try:
        return one_line(input(prompt)).strip()
    except (EOFError, KeyboardInterrupt):
        # What follows stands on a line of its own.
        print_line("")
        raise KeyboardInterrupt from None


def _meaning(question: UserQuestion, answer: str) -> tuple[str, str]:
    """The choice or the text that is meant, and why it is no answer if it is none."""
    if not answer:
        if question.likely is None:
            if not question.choices:
                return "", f"type {question.may_type}"
            return "", "none of them is likely: choose one by its number"
        return question.likely, ""
    values = [choice.value for choice in question.choices]
    if answer in values:
        return answer, ""
    # A typed number may be the answer itself.
    if answer.isdecimal() and len(values) > 1:
        if 1 <= int(answer) <= len(values):
            return values[int(answer) - 1], ""
        return "", f"{answer} is not one of 1-{len(values)}"
    if not question.may_type:
        return "", f"{answer} is not one of {', '.join(values)}"
    return answer, question.complaint(answer)


class ProbeLine:
    """One line that moves while the training is tried: seconds so far, limit, time left, the last line that it printed.

    It changes nothing of the terminal, so that no signal can leave it otherwise than it was.
    """

    interval_s = 0.5

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw(Text())

    def __call__(self, news: ProbeNews) -> None:
        row = Text(f"  {replace(news, line=one_line(news.line))}")
        # The last column stays free: some terminals begin a new line there.
        row.truncate(max(1, self._console.width - 1), overflow="ellipsis")
        self._draw(row)

    def _draw(self, row: Text) -> None:
        # The terminal may be gone, or be another job's.
        with contextlib.suppress(OSError):
            if in_foreground(sys.stdout.fileno()):
                self._console.control(_CLEAR)
                self._console.print(row, end="", soft_wrap=True)
