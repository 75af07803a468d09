"""What the offline researcher can change in a lab: the method of a picture lab, the knobs or constants of any other.

A picture lab describes its model and its recipe in `method.json`, and the assembler writes the code of both. In any
other lab `knobs` finds settings whose names it knows. Where the only settings are lines `NAME = 0.1` of the training
script, those numbers are doubled and halved, whatever their names are.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
from autolab.researchers.offline.catalogue import SHIPPED, Mechanism, dose_of, load
from autolab.researchers.offline.changes import CHANGES, apply
from autolab.researchers.offline.knob_kinds import NEVER, normal_name
from autolab.researchers.offline.knobs import Knob, Knobs
from autolab.researchers.offline.scales import SettingScale, count_knob, factor_knob, number_of, setting_of

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
    def scales(self) -> tuple[SettingScale, ...]:
        """The settings that may take any value within bounds."""
        ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of models to compare a goal with, the first baseline first; empty if the lab names none."""
        ...

    @property
    def via(self) -> str | None:
        """What writes the code; None for the researcher itself."""
        ...

    def part(self, change: str, value: JsonValue) -> Mechanism | None:
        """The mechanism behind a change, of which `value` is a dose; None if the bench has no such dose."""
        ...

    def number(self, change: str, value: JsonValue) -> float | None:
        """The number that a change gives to the setting of a scale; None if it gives no number."""
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
        # A momentum is a share, whoever wrote it: what is known of a name holds for a constant too.
        return replace(constants, known=_scales_of(constants, knobs))
    raise ResearcherError(
        "researcher: offline finds nothing to change: no method.json, and no setting that it knows in the files that"
        f" `{config.train.command}` reaches; let a model or an agent read the code:"
        " --model openai:NAME, or --researcher claude"
    )


def _scales_of(constants: Constants, knobs: Knobs) -> dict[str, SettingScale]:
    """The scales of the knobs that are constants of the script."""
    return {scale.knob.name: scale for scale in knobs.scales if scale.knob.name in constants.constants}


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


_FACTORS = {"lr": "step size", "weight_decay": "weight decay"}
"""Changes of a method whose doses are factors on the base's value, and what they change."""


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

    @cached_property
    def scales(self) -> tuple[SettingScale, ...]:
        """Factors, as the doses of the catalogue are: with another optimiser they are on its own step size."""
        known = {mechanism.change for mechanism in self.mechanisms}
        return tuple(SettingScale(name, factor_knob(name, 1.0)) for name in _FACTORS if name in known)

    @property
    def baselines(self) -> tuple[str, ...]:
        return self.method.baselines

    def part(self, change: str, value: JsonValue) -> Mechanism | None:
        mechanism = dose_of(self.mechanisms, change, value)
        factor = number_of(value)
        if mechanism is not None or factor is None or change not in _FACTORS:
            return mechanism
        # What is said of a factor is what the catalogue says of factors on its side of 1.
        for near in self.mechanisms:
            dose = number_of(near.values[0])
            if near.change == change and dose is not None and (dose > 1) == (factor > 1):
                return near.at(value, f"{_FACTORS[change]} x{factor:g}")
        return None

    def number(self, change: str, value: JsonValue) -> float | None:
        return number_of(value)

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
    """A script with constants at module level.

    The value of a change `NAME up` or `NAME down` is the factor; that of `NAME to` is the new value. `known` has the
    scales of constants whose names say what they are, on the present values.
    """

    script: str
    text: str
    constants: Mapping[str, str]
    known: Mapping[str, SettingScale] = field(default_factory=dict)
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
                    relative=True,
                    # The second dose applies the factor twice to the original value.
                    names=(f"{name} {once}", f"{name} {twice}"),
                    rationale=f"{name} = {text} was set by hand; whether a better value is near was not measured here.",
                )
                mechanisms.append(mechanism)
        return tuple(mechanisms)

    @cached_property
    def scales(self) -> tuple[SettingScale, ...]:
        scales = []
        for name, text in self.constants.items():
            number = float(text.replace("_", ""))
            knob = factor_knob(name, abs(number))
            if _is_count(text):
                knob = count_knob(name, round(abs(number)))
            scale = SettingScale(f"{name} to", knob, sign=math.copysign(1.0, number))
            scales.append(self.known.get(name, scale))
        return tuple(scales)

    def part(self, change: str, value: JsonValue) -> Mechanism | None:
        mechanism = dose_of(self.mechanisms, change, value)
        number = number_of(value)
        name, _, way = change.rpartition(" ")
        if mechanism is not None or number is None or way != "to":
            return mechanism
        for near in self.mechanisms:
            if near.family == name:
                return near.model_copy(update={"change": change}).at(value, f"{name} {number:g}")
        return None

    def number(self, change: str, value: JsonValue) -> float | None:
        new = self._new(change, value)
        return float(new) if new else None

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        settings = {setting_of(change) for change in changes}
        # A constant that is changed twice has no value that could be told from the changes.
        return len(settings) == len(changes) and all(self._new(change, value) for change, value in changes.items())

    def _new(self, change: str, value: JsonValue) -> str:
        """The constant's new text; empty if there is no such constant, or it stays as it is."""
        name, _, way = change.rpartition(" ")
        number = number_of(value)
        if name not in self.constants or number is None:
            return ""
        text = self.constants[name].replace("_", "")
        exact = number if way == "to" else float(text) * number
        new = f"{exact:.6g}"
        # A count stays a count: a script may use it as a range or a size.
        if _is_count(text):
            new = str(round(exact))
        return "" if float(new) in (0.0, float(text)) else new

    def after(self, changes: Mapping[str, JsonValue]) -> Constants:
        constants = dict(self.constants)
        for change, value in changes.items():
            constants[setting_of(change)] = self._new(change, value)
        known = {name: scale for name, scale in self.known.items() if constants[name] == self.constants[name]}
        return replace(self, constants=constants, known=known)

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        return {setting_of(change): json.loads(self._new(change, value)) for change, value in changes.items()}

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        edits, plan = [], []
        for change, value in changes.items():
            constant = setting_of(change)
            old, new = self.constants[constant], self._new(change, value)
            # The whole line: an edit's text must occur once in the file, and a number alone may not.
            line = re.search(rf"(?m)^({constant}[ \t]*=[ \t]*)([^\n]*)", self.text)
            assert line is not None
            replacement = line[1] + line[2].replace(old, new, 1)
            edits.append(Edit(path=self.script, search=line[0], replace=replacement))
            plan.append(f"`{self.script}`: {constant} = {old} becomes {new}")
        return WrittenMethod((), tuple(edits), tuple(plan))

    def parameters(self, changes: Mapping[str, JsonValue]) -> None:
        return None


def _is_count(text: str) -> bool:
    return re.fullmatch(r"[-+]?[\d_]+", text) is not None
