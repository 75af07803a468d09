"""What the offline researcher can change in a lab: the method of a picture lab, the knobs or constants of any other.

A picture lab describes its model and its recipe in `method.json`, and the assembler writes the code of both. In any
other lab `knobs` finds settings whose names it knows. Where the only settings are lines `NAME = 0.1` of the training
script, those numbers are doubled and halved, whatever their names are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
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
from autolab.researchers.offline.catalogue import SHIPPED, Mechanism, load
from autolab.researchers.offline.changes import CHANGES, apply
from autolab.researchers.offline.knob_kinds import NEVER, normal_name
from autolab.researchers.offline.knobs import Knob, Knobs

_CONSTANT = re.compile(
    r"(?m)^([A-Z][A-Z0-9_]*[A-Z0-9])[ \t]*=[ \t]*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[ \t]*(?:#|$))"
)
_NO_SETTING = re.compile(
    r"SEED|PORT|VERSION|VOCAB|TIME|EVAL|INTERVAL|DEVICE|PATH|DIM_IN|NUM_CLASSES|CLASSES|TARGET|DEGREE|SAMPLES"
)
"""Constants that are no setting of a method: the lab draws the seed; time and evaluation are equal for all arms. A
degree or a number of samples is as often one of the task."""


class Bench(Protocol):
    @property
    def mechanisms(self) -> tuple[Mechanism, ...]: ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of models to compare a goal with, the first baseline first; empty if the lab names none."""
        ...

    @property
    def via(self) -> str | None:
        """What writes the code; None for the researcher itself."""
        ...

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        """Whether the changes can be made and make a difference."""
        ...

    def after(self, changes: Mapping[str, JsonValue]) -> Bench:
        """The bench with the changes made."""
        ...

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        """The candidate's model, for design.yaml. NotApplicable: the changes do not fit."""
        ...

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        """The candidate's code. NotApplicable: the changes do not fit."""
        ...

    def parameters(self, changes: Mapping[str, JsonValue]) -> tuple[int, int] | None:
        """Trainable parameters of base and candidate; None if they are not known."""
        ...


def find_bench(read: Callable[[str], str | None], config: Config, own_catalogue: Path | None) -> Bench:
    """The bench of the lab that `read` reads. `own_catalogue` takes the place of the shipped one.

    ResearcherError: there is nothing to change.
    """
    text = read(METHOD)
    if text is not None:
        return Pictures(Method.from_text(text, METHOD), read, own_catalogue or SHIPPED)
    knobs = Knobs(config, read)
    constants = _constants_bench(read, config)
    others = [knob for knob in knobs.knobs.values() if constants is None or not _is_constant(knob, constants)]
    if others:
        return knobs
    if constants is not None:
        return constants
    raise ResearcherError(
        "researcher: offline finds nothing to change: no method.json, and no setting that it knows in the files that"
        f" `{config.train.command}` reaches; let a model or an agent read the code:"
        " --model openai:NAME, or --researcher claude"
    )


def _is_constant(knob: Knob, constants: Constants) -> bool:
    return knob.setting.path == constants.script and knob.setting.name.isupper()


def _constants_bench(read: Callable[[str], str | None], config: Config) -> Constants | None:
    """The first script that has constants: a launcher in front of the training may be a Python file too."""
    for word in shlex.split(config.train.command):
        if word.endswith(".py"):
            script = read(word) or ""
            constants = _constants(script)
            if constants:
                return Constants(word, script, constants)
    return None


@dataclass(frozen=True)
class Pictures:
    """A lab whose method.json the assembler can turn into code."""

    method: Method
    read: Callable[[str], str | None]
    catalogue: Path
    via: str | None = "assembler"

    @cached_property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        return load(self.catalogue, self.catalogue.name, tuple(CHANGES))

    @property
    def baselines(self) -> tuple[str, ...]:
        return self.method.baselines

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        # Whether shapes fit depends on all changes together, so they are made to find out.
        try:
            apply(self.method, changes, "candidate")
        except NotApplicable:
            return False
        return True

    def after(self, changes: Mapping[str, JsonValue]) -> Pictures:
        return replace(self, method=apply(self.method, changes, "base"))

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        candidate = apply(self.method, changes, name)
        return {"model_config": candidate.model.value(), "recipe": candidate.recipe.value()}

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        return method_files(self.method, apply(self.method, changes, name), self.read)

    def parameters(self, changes: Mapping[str, JsonValue]) -> tuple[int, int]:
        candidate = apply(self.method, changes, "candidate")
        return assembler.parameters(self.method.model), assembler.parameters(candidate.model)


def _constants(script: str) -> dict[str, str]:
    """Name and text of each constant that is assigned once, at the start of a line, and is not 0."""
    assignments = _CONSTANT.findall(script)
    times = Counter(name for name, _ in assignments)
    constants = {}
    for name, text in assignments:
        # A second assignment would overrule an edit of the first.
        is_setting = times[name] == 1 and not _NO_SETTING.search(name) and not NEVER.search(normal_name(name))
        # 0 doubled is 0.
        if is_setting and float(text.replace("_", "")) != 0:
            constants[name] = text
    return constants


_DIRECTIONS = (("up", "doubled", "quadrupled", 2.0), ("down", "halved", "quartered", 0.5))


@dataclass(frozen=True)
class Constants:
    """A script with constants at module level. A change is named `NAME up` or `NAME down`, its value is the factor."""

    script: str
    text: str
    constants: Mapping[str, str]
    baselines: tuple[str, ...] = ()
    via: str | None = None

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Each constant doubled and halved. Each is a family of its own, so that those which matter are found."""
        mechanisms = []
        for name, text in self.constants.items():
            for direction, once, twice, factor in _DIRECTIONS:
                mechanism = Mechanism(
                    name=f"{name.lower()[:15]}_{once}",
                    family=name,
                    title=f"{name} {once}",
                    change=f"{name} {direction}",
                    values=(factor, factor * factor),
                    # The second dose applies the factor twice to the original value.
                    names=(f"{name} {once}", f"{name} {twice}"),
                    rationale=f"{name} = {text} was set by hand; whether a better value is near was not measured here.",
                )
                mechanisms.append(mechanism)
        return tuple(mechanisms)

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        return all(
            _constant(change) in self.constants and self._new(change, factor) for change, factor in changes.items()
        )

    def _new(self, change: str, factor: JsonValue) -> str:
        """The constant's new text; empty if rounding leaves the constant as it is."""
        assert isinstance(factor, float)
        text = self.constants[_constant(change)].replace("_", "")
        new = f"{float(text) * factor:.6g}"
        # A count stays a count: a script may use it as a range or a size.
        if re.fullmatch(r"[-+]?\d+", text):
            new = str(round(int(text) * factor))
        return "" if float(new) in (0.0, float(text)) else new

    def after(self, changes: Mapping[str, JsonValue]) -> Constants:
        constants = dict(self.constants)
        for change, factor in changes.items():
            constants[_constant(change)] = self._new(change, factor)
        return replace(self, constants=constants)

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        return {_constant(change): json.loads(self._new(change, factor)) for change, factor in changes.items()}

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        edits, plan = [], []
        for change, factor in changes.items():
            constant = _constant(change)
            old, new = self.constants[constant], self._new(change, factor)
            # The whole line: an edit's text must occur once in the file, and a number alone may not.
            line = re.search(rf"(?m)^{constant}[ \t]*=[ \t]*[^\n]*", self.text)
            assert line is not None
            replacement = line[0].replace(old, new, 1)
            edits.append(Edit(path=self.script, search=line[0], replace=replacement))
            plan.append(f"`{self.script}`: {constant} = {old} becomes {new}")
        return WrittenMethod((), tuple(edits), tuple(plan))

    def parameters(self, changes: Mapping[str, JsonValue]) -> None:
        return None


def _constant(change: str) -> str:
    return change.split()[0]
