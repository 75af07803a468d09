"""The form that an answer has to have: its name and the class of its output."""

from __future__ import annotations

from dataclasses import dataclass

from autolab.lab.schemas.record import Record
from autolab.researchers.base import Task


@dataclass(frozen=True)
class AnswerForm:
    """`name` is the stage's: so the schema, and a tool that has this schema, are called."""

    name: str
    output: type[Record]


def form_of(task: Task) -> AnswerForm:
    """The form of the answer to a task."""
    return AnswerForm(str(task.kind), task.form)
