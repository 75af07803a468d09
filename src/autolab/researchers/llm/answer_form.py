"""The form that an answer has to have: its name and the class of its output."""

from __future__ import annotations

from dataclasses import dataclass

from autolab.lab.schemas.record import Record
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.researchers.base import Objection, Task, no_objection


@dataclass(frozen=True)
class AnswerForm:
    """`name` is the stage's: so the schema, and a tool that has this schema, are called.

    `objection` is what the engine has against an output of this form.
    """

    name: str
    output: type[Record]
    objection: Objection = no_objection

    @property
    def holds_code(self) -> bool:
        """Whether code may stand beside the object, in fences."""
        return issubclass(self.output, ImplementationOutput)


def form_of(task: Task) -> AnswerForm:
    """The form of the answer to a task, and what the engine may have against it."""
    return AnswerForm(str(task.kind), task.form, task.objection)
