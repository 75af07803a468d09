"""The settings of any repository as ideas: found by reading its files, moved in a few doses, each by one small edit.

A knob is a setting whose name says what it is (`knob_kinds`). Which files count is told by `reached_files`; what they
hold, by `python_settings` and `plain_settings`. Where several files set one name, the one in force is changed. A flag
that the training command gives is changed behind the parser, since the command itself is the lab's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import JsonValue

from autolab.ideas.searchers import NumericKnob
from autolab.lab.git_reader import Change
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.replies import Edit
from autolab.researchers.assembler.written_method import NotApplicable, WrittenMethod
from autolab.researchers.offline.catalogue import Mechanism, dose_of
from autolab.researchers.offline.knob_kinds import CHOICE, KnobKind, kind_of, normal_name
from autolab.researchers.offline.plain_settings import plain_settings
from autolab.researchers.offline.python_settings import names_read, python_settings
from autolab.researchers.offline.reached_files import Read, reach
from autolab.researchers.offline.scales import FAR, SettingScale, count_knob, factor_knob, number_of, setting_of
from autolab.researchers.offline.source_setting import Scalar, SourceSetting, spell_number
from autolab.verifiers.paths import path_policy

MOST_CHOICES = 4
"""Of a long list of choices, the nearest to the present one."""
LEAST_REST, MOST_REST = 1e-4, 0.99
"""What a momentum or a decay leaves to 1."""
_HEADS = re.compile(r"^(?:n|num|nr)_?(?:attention_|attn_)?heads?$|^heads$")
_WIDTH = re.compile(
    r"^(?:n_?embd|n_?embed|d_model|embed_dim|embedding_dim|hidden_size|hidden_dim|emsize|dim|model_dim)$"
)


@dataclass(frozen=True)
class Knob:
    """A setting of a known kind. `key` is its name, and unique in the repository."""

    key: str
    setting: SourceSetting
    kind: KnobKind

    def shown(self, value: Scalar) -> str:
        return spell_number(value) if isinstance(value, float) else str(value)


def find_knobs(config: Config, read: Read) -> dict[str, Knob]:
    """The knobs of a repository by key, those nearest to the command first.

    A knob lies in a file that a candidate may change, and its value is in force as far as reading can tell.
    """
    reached = reach(config.train.command, read)
    settings = [*python_settings(reached), *plain_settings(reached, names_read(reached))]
    settings.sort(key=lambda setting: setting.rank)
    nearest: dict[str, SourceSetting] = {}
    knobs: dict[str, Knob] = {}
    for setting in settings:
        kind = kind_of(setting)
        # Sections of a configuration may share a name; code knows them by the name alone.
        full = setting.key if setting.language == "yaml" else setting.name
        first = nearest.setdefault(normal_name(full), setting)
        nearest.setdefault(normal_name(setting.name), setting)
        # A farther default of the same name is what the nearer one is given to.
        overruled = first is not setting and (first.path, first.rank) != (setting.path, setting.rank)
        if kind is None or overruled or not _may_change(setting.path, config):
            continue
        key = _free_key(setting, knobs)
        if key is not None:
            knobs[key] = Knob(key, setting, kind)
    return knobs


def _free_key(setting: SourceSetting, knobs: Mapping[str, Knob]) -> str | None:
    """The shortest name that no other knob has; None for a place that is taken already."""
    for knob in knobs.values():
        # Lines that several edits insert in one place differ in what they write.
        other = knob.setting
        if (other.path, other.start, other.template) == (setting.path, setting.start, setting.template):
            return None
    plain = setting.key if setting.language == "yaml" else setting.name
    for key in (plain, setting.key, *(f"{setting.key}_{number}" for number in range(2, 100))):
        if key not in knobs:
            return key
    return None


def _may_change(path: str, config: Config) -> bool:
    zeros = "0" * 40
    return not path_policy([Change("M", path, "100644", "100644", zeros, zeros)], config, existing=(path,))


@dataclass(frozen=True)
class Knobs:
    """Any repository with knobs. A change is named `KEY up`, `KEY down` or `KEY to`, its value is the new value."""

    config: Config
    read: Callable[[str], str | None]
    baselines: tuple[str, ...] = ()
    via: str | None = None

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        return find_knobs(self.config, self.read)

    @cached_property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        mechanisms: list[Mechanism] = []
        names: set[str] = set()
        for knob in self.knobs.values():
            for mechanism in _ideas(knob):
                name, number = mechanism.name, 2
                while name in names:
                    name, number = f"{mechanism.name[:21]}_{number}", number + 1
                names.add(name)
                mechanisms.append(mechanism.model_copy(update={"name": name}))
        return tuple(mechanisms)

    @cached_property
    def scales(self) -> tuple[SettingScale, ...]:
        # Of a width and its heads one has to divide the other: few values do, so these stay doses.
        tied = []
        if self._named(_HEADS) and self._named(_WIDTH):
            tied = [*self._named(_HEADS), *self._named(_WIDTH)]
        scales = []
        for knob in self.knobs.values():
            scale = _scale(knob) if knob not in tied else None
            if scale is not None:
                scales.append(scale)
        return tuple(scales)

    def part(self, change: str, value: JsonValue) -> Mechanism | None:
        mechanism = dose_of(self.mechanisms, change, value)
        if mechanism is not None:
            return mechanism
        knob, number = self.knobs.get(setting_of(change)), number_of(value)
        if knob is None or number is None or number_of(knob.setting.value) is None:
            return None
        assert isinstance(value, int | float)
        # What is said of a value is what its kind says of values on its side of the present one.
        way = "up" if number > float(knob.setting.value) else "down"
        for near in self.mechanisms:
            if near.change in (f"{knob.key} up", f"{knob.key} down") and near.change.endswith(way):
                title = f"{knob.key} {knob.shown(value)}"
                return near.model_copy(update={"change": change}).at(value, title)
        return None

    def number(self, change: str, value: JsonValue) -> float | None:
        return number_of(value)

    def fits(self, changes: dict[str, JsonValue]) -> bool:
        try:
            self._new(changes)
        except NotApplicable:
            return False
        return True

    def _new(self, changes: Mapping[str, JsonValue]) -> dict[str, Scalar]:
        """The new value of each knob. NotApplicable: there is no such knob, or the values do not go together."""
        new: dict[str, Scalar] = {}
        for change, value in changes.items():
            key = change.rpartition(" ")[0]
            if key not in self.knobs or not isinstance(value, bool | int | float | str):
                raise NotApplicable(f"{change}: the repository has no such setting")
            if key in new or value == self.knobs[key].setting.value:
                raise NotApplicable(f"{change}: changes nothing here, or the same setting twice")
            new[key] = value
        self._refuse_indivisible(new)
        return new

    def _refuse_indivisible(self, new: Mapping[str, Scalar]) -> None:
        """NotApplicable: heads that divided the width would no longer divide it."""
        for heads in self._named(_HEADS):
            for width in self._named(_WIDTH):
                old = (width.setting.value, heads.setting.value)
                now = (new.get(width.key, old[0]), new.get(heads.key, old[1]))
                if _divides(*old) and not _divides(*now):
                    raise NotApplicable(f"{heads.key} {now[1]} does not divide {width.key} {now[0]}")

    def _named(self, pattern: re.Pattern[str]) -> list[Knob]:
        return [knob for knob in self.knobs.values() if pattern.search(normal_name(knob.setting.name))]

    def after(self, changes: Mapping[str, JsonValue]) -> Knobs:
        texts = self._texts(changes)
        read = self.read
        return Knobs(self.config, lambda path: texts[path] if path in texts else read(path))

    def _texts(self, changes: Mapping[str, JsonValue]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for edit in self.write(changes, "base").edits:
            old = texts.get(edit.path, self.read(edit.path) or "")
            texts[edit.path] = old.replace(edit.search, edit.replace)
        return texts

    def model(self, changes: Mapping[str, JsonValue], name: str) -> dict[str, JsonValue]:
        return dict(self._new(changes))

    def write(self, changes: Mapping[str, JsonValue], name: str) -> WrittenMethod:
        spans: dict[str, list[tuple[int, int, str]]] = {}
        plan = []
        for key, value in self._new(changes).items():
            knob = self.knobs[key]
            setting = knob.setting
            spans.setdefault(setting.path, []).append((setting.start, setting.end, setting.spelled(value)))
            plan.append(f"`{setting.path}`: {key} = {knob.shown(setting.value)} becomes {knob.shown(value)}")
        edits: list[Edit] = []
        for path, places in spans.items():
            text = self.read(path) or ""
            for edit in _edits(path, text, places):
                # An edit before this one may have written the same lines elsewhere.
                if text.count(edit.search) != 1:
                    raise NotApplicable(f"{path}: the lines to change are there twice")
                text = text.replace(edit.search, edit.replace)
                edits.append(edit)
        return WrittenMethod((), tuple(edits), tuple(plan))

    def parameters(self, changes: Mapping[str, JsonValue]) -> None:
        return None


def _scale(knob: Knob) -> SettingScale | None:
    """The knob as a scale; None if it is a switch or a choice, or its value has no place on the scale of its kind."""
    value, spacing, change = knob.setting.value, knob.kind.spacing, f"{knob.key} to"
    if isinstance(value, bool | str):
        return None
    if spacing.by == "difference":
        high = max(spacing.most or math.inf, value)
        return SettingScale(change, NumericKnob(knob.key, value, 0.0, high, log=False, step=spacing.step))
    if spacing.by == "rest":
        rest = 1 - value
        low, high = min(rest, max(rest / FAR, LEAST_REST)), max(rest, min(rest * FAR, MOST_REST))
        return SettingScale(change, NumericKnob(knob.key, rest, low, high), origin=1.0, sign=-1.0)
    # 0 times a factor is 0: what is switched off has doses alone.
    if value <= 0:
        return None
    if isinstance(value, int) and _has_whole_doses(knob):
        return SettingScale(change, count_knob(knob.key, value))
    return SettingScale(change, factor_knob(knob.key, value, spacing.most))


def _has_whole_doses(knob: Knob) -> bool:
    """A count's doses are whole; a rate that is written as 1 is no count."""
    for direction in knob.kind.directions:
        if any(not isinstance(dose, int) for dose in direction.doses(knob.setting)):
            return False
    return True


def _divides(width: Scalar, heads: Scalar) -> bool:
    return isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads == 0


def _edits(path: str, text: str, places: list[tuple[int, int, str]]) -> Iterator[Edit]:
    """An edit for each place, of whole lines that occur once in the file; neighbours share one."""
    windows: list[tuple[int, int]] = []
    for start, end, _ in sorted(places):
        begin, stop = _unique_lines(text, start, end)
        while windows and begin <= windows[-1][1]:
            earlier = windows.pop()
            begin, stop = earlier[0], max(earlier[1], stop)
        windows.append((begin, stop))
    for begin, stop in windows:
        new, last = "", begin
        for start, end, spelled in sorted(places):
            if begin <= start <= stop:
                new += text[last:start] + spelled
                last = end
        yield Edit(path=path, search=text[begin:stop], replace=new + text[last:stop])


def _unique_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The lines around a place, as many as it takes for them to occur once."""
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", end)
    stop = len(text) if stop < 0 else stop
    while text.count(text[begin:stop]) > 1 and (begin > 0 or stop < len(text)):
        begin = text.rfind("\n", 0, max(begin - 1, 0)) + 1
        following = text.find("\n", stop + 1)
        stop = len(text) if following < 0 else following
    return begin, stop


# ideas


def _ideas(knob: Knob) -> Iterator[Mechanism]:
    if knob.kind is CHOICE:
        yield from _choices(knob)
        return
    setting, kind = knob.setting, knob.kind
    for direction in kind.directions:
        values = list(dict.fromkeys(value for value in direction.doses(setting) if value != setting.value))
        if not values:
            continue
        title = direction.title
        if direction.name == "switch":
            title = f"{knob.key} switched {'off' if setting.value else 'on'}"
        names = [f"{title} ({knob.key} {knob.shown(setting.value)} -> {knob.shown(value)})" for value in values]
        plain = setting.name.lower().replace("_", " ")
        # A goal that names the setting means more of it.
        words = (
            (plain, *kind.words)
            if direction.name != "down"
            else tuple(f"{less} {one}" for one in (plain, *kind.words) for less in _LESS)
        )
        yield Mechanism(
            name=_slug(f"{knob.key}_{direction.name}"),
            family=kind.family,
            title=title,
            change=f"{knob.key} {direction.name}",
            values=tuple(values),
            names=tuple(names),
            rationale=f"{direction.why} `{setting.path}` has {knob.key} = {knob.shown(setting.value)}.",
            references=kind.references,
            cost=direction.cost,
            expected=kind.expected,
            words=words,
        )


_LESS = ("lower", "smaller", "less", "fewer", "weaker", "shorter")


def _choices(knob: Knob) -> Iterator[Mechanism]:
    """Each other choice, those next to the present one in the source's list first."""
    setting = knob.setting
    listed = list(setting.choices)
    assert isinstance(setting.value, str)
    place = listed.index(setting.value) if setting.value in listed else 0
    others = sorted(
        (choice for choice in listed if choice != setting.value), key=lambda choice: abs(listed.index(choice) - place)
    )
    for choice in others[:MOST_CHOICES]:
        title = f"Another {setting.name.lower().replace('_', ' ')} ({knob.key} {setting.value} -> {choice})"
        yield Mechanism(
            name=_slug(f"{knob.key}_{choice}"),
            family=knob.key,
            title=title,
            change=f"{knob.key} to",
            values=(choice,),
            names=(title,),
            rationale=f"`{setting.path}` lists {choice} beside {setting.value}; which is better depends on the data.",
            words=(choice.replace("_", " "),),
        )


def _slug(text: str) -> str:
    """A name for a mechanism: small letters, digits and underscores, 24 at most. The end tells directions apart."""
    start, _, end = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_").rpartition("_")
    start = start if start[:1].isalpha() else f"k_{start}"
    return f"{start[: 23 - len(end[:8])].strip('_')}_{end[:8]}"
