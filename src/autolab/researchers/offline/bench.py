"""What the offline researcher can change in a lab: the method of a picture lab, or the constants of any script.

A picture lab says in `method.json` what its model and its recipe are; the assembler writes both. In any other lab the
numbers that stand as `NAME = 0.1` at the start of a line in the training script are doubled and halved.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.method import Method
from autolab.lab.schemas.replies import Edit
from autolab.researchers import assembler
from autolab.researchers.assembler.written_method import METHOD, NotApplicable, WrittenMethod, method_files
from autolab.researchers.offline import catalogue
from autolab.researchers.offline.catalogue import Mechanism
from autolab.researchers.offline.changes import CHANGES, apply

_CONSTANT = re.compile(
    r"(?m)^([A-Z][A-Z0-9_]*[A-Z0-9])[ \t]*=[ \t]*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[ \t]*(?:#|$))"
)
_NO_KNOB = re.compile(r"SEED|PORT|VERSION|VOCAB|TIME|EVAL|INTERVAL|DEVICE|PATH|DIM_IN|NUM_CLASSES|CLASSES")
"""Constants that are no setting of a method: the seed is the lab's, time and evaluation are what is held equal."""


class Bench(Protocol):
    @property
    def mechanisms(self) -> tuple[Mechanism, ...]: ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of models that a goal is compared with, the first one first; empty where the lab names none."""
        ...

    @property
    def via(self) -> str | None:
        """What writes the code, where it is not the researcher itself."""
        ...

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        """Whether the changes can be made and make a difference."""
        ...

    def after(self, changes: Mapping[str, JsonValue]) -> Bench:
        """The bench with the changes made."""
        ...

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        """What the candidate's model is, for design.yaml. NotApplicable if they do not fit."""
        ...

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        """The candidate's code. NotApplicable if they do not fit."""
        ...

    def parameters(self, changes: Mapping[str, JsonValue]) -> tuple[int, int] | None:
        """Trainable parameters of base and candidate, where they are known."""
        ...


def find_bench(read: Callable[[str], str | None], config: Config, own: Path | None) -> Bench:
    """The bench of the lab that `read` reads. `own` is a catalogue in place of the shipped one.

    ResearcherError where there is nothing to change.
    """
    text = read(METHOD)
    if text is not None:
        return Pictures(Method.from_text(text, METHOD), read, own or catalogue.SHIPPED)
    for word in shlex.split(config.train.command):
        script = read(word) if word.endswith(".py") else None
        if script is not None and (found := _constants(script)):
            return Constants(word, script, found)
    raise ResearcherError(
        "researcher: offline finds nothing to change: no method.json, no `NAME = number` lines in the training script;"
        " name another researcher in .autolab/config.yaml"
    )


@dataclass(frozen=True)
class Pictures:
    """A lab whose method.json the assembler can turn into code."""

    method: Method
    read: Callable[[str], str | None]
    place: Path
    via: str | None = "assembler"

    @cached_property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        return catalogue.load(self.place, self.place.name, tuple(CHANGES))

    @property
    def baselines(self) -> tuple[str, ...]:
        return self.method.baselines

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        try:
            apply(self.method, changes, "candidate")
        except NotApplicable:
            return False
        return True

    def after(self, changes: Mapping[str, JsonValue]) -> Pictures:
        return replace(self, method=apply(self.method, changes, "base"))

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        made = apply(self.method, changes, name)
        return {"model_config": made.model.value(), "recipe": made.recipe.value()}

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        return method_files(self.method, apply(self.method, changes, name), self.read)

    def parameters(self, changes: Mapping[str, JsonValue]) -> tuple[int, int]:
        made = apply(self.method, changes, "candidate")
        return assembler.parameters(self.method.model), assembler.parameters(made.model)


def _constants(script: str) -> dict[str, str]:
    """Name and text of each constant that stands once at the start of a line and is not 0."""
    found = [(m[1], m[2]) for m in _CONSTANT.finditer(script) if not _NO_KNOB.search(m[1])]
    names = [name for name, _ in found]
    return {name: text for name, text in found if names.count(name) == 1 and float(text.replace("_", "")) != 0}


@dataclass(frozen=True)
class Constants:
    """A script with constants at module level."""

    script: str
    text: str
    found: Mapping[str, str]
    baselines: tuple[str, ...] = ()
    via: str | None = None

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Each constant doubled and halved; a family is a constant, so that those which matter are found."""
        directions = (("doubled", "quadrupled", 2.0, "up"), ("halved", "quartered", 0.5, "down"))
        return tuple(
            Mechanism(
                name=f"{name.lower()[:15]}_{word}",
                family=name,
                title=f"{name} {word}",
                change=f"{name} {way}",
                values=(factor, factor * factor),
                names=(f"{name} {word}", f"{name} {again}"),
                rationale=f"{name} = {text} was set by hand; whether a better value is near was not measured here.",
            )
            for name, text in self.found.items()
            for word, again, factor, way in directions
        )

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        return all(name.split()[0] in self.found and self._new(name, factor) for name, factor in changes.items())

    def _new(self, change: str, factor: JsonValue) -> str:
        """The constant's new text; empty where rounding leaves it as it is."""
        assert isinstance(factor, float)
        old = self.found[change.split()[0]].replace("_", "")
        whole = re.fullmatch(r"[-+]?\d+", old)
        new = str(round(int(old) * factor)) if whole else f"{float(old) * factor:.6g}"
        return "" if float(new) in (0.0, float(old)) else new

    def after(self, changes: Mapping[str, JsonValue]) -> Constants:
        made = {change.split()[0]: self._new(change, factor) for change, factor in changes.items()}
        return replace(self, found={**self.found, **made})

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        return {change.split()[0]: json.loads(self._new(change, factor)) for change, factor in changes.items()}

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        edits, plan = [], []
        for change, factor in changes.items():
            constant = change.split()[0]
            line = re.search(rf"(?m)^{constant}[ \t]*=[ \t]*[^\n]*", self.text)
            assert line is not None
            new = line[0].replace(self.found[constant], self._new(change, factor), 1)
            edits.append(Edit(path=self.script, search=line[0], replace=new))
            plan.append(f"`{self.script}`: {constant} = {self.found[constant]} becomes {self._new(change, factor)}")
        return WrittenMethod((), tuple(edits), tuple(plan))

    def parameters(self, changes: Mapping[str, JsonValue]) -> None:
        return None
