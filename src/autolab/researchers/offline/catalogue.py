"""The mechanisms that may be tested, and which of them a goal in plain words names. `catalogue.yaml` is shipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from autolab.errors import RecordError
from autolab.lab.schemas.config import Positive
from autolab.lab.schemas.record import Record

SHIPPED = Path(__file__).with_name("catalogue.yaml")


class Mechanism(Record):
    """One way to make a network better, with the doses in which it is tried, one after the other."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    family: str
    title: str
    change: str
    """The change of a method (`changes.CHANGES`) that each of `values` is given to."""
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    dose: str = "{}"
    """How a value is written in a title."""
    names: tuple[str, ...] = ()
    """A title for each value, in place of `title` and `dose`."""
    rationale: str
    references: tuple[str, ...] = ()
    cost: Positive = 1.0
    """The factor on a trial's time."""
    expected: float = 0.0
    """A guess of the gain, in units of the lab's success_delta."""
    relative: bool = False
    """Whether a value is a step from the base's own, as a factor is: on another base the same step is another idea."""
    words: tuple[str, ...] = ()
    """What the mechanism is called in a goal."""

    @model_validator(mode="after")
    def _a_name_a_value(self) -> Mechanism:
        if self.names and len(self.names) != len(self.values):
            raise ValueError(f"names: {len(self.names)} for {len(self.values)} values")
        return self

    def called(self, value: JsonValue) -> str | None:
        """The title of this value, if it has one of its own."""
        return self.names[self.values.index(value)] if self.names else None

    def at(self, value: JsonValue, title: str) -> Mechanism:
        """The mechanism in another dose, with a title of its own."""
        return self.model_copy(update={"values": (value,), "names": (title,)})


class Catalogue(Record):
    mechanisms: tuple[Mechanism, ...]


def load(path: Path, file_name: str, changes: Sequence[str]) -> tuple[Mechanism, ...]:
    """The mechanisms of a file. RecordError: a name occurs twice, or a change is none of `changes`."""
    mechanisms = Catalogue.load(path, file_name).mechanisms
    names: set[str] = set()
    for index, mechanism in enumerate(mechanisms):
        where = f"{file_name}: mechanisms.{index}"
        if mechanism.name in names:
            raise RecordError(f"{where}: name: {mechanism.name} is there twice")
        if mechanism.change not in changes:
            raise RecordError(f"{where}: change: {mechanism.change!r} is not known; known: {', '.join(changes)}")
        names.add(mechanism.name)
    return mechanisms


def dose_of(mechanisms: Sequence[Mechanism], change: str, value: JsonValue) -> Mechanism | None:
    """The mechanism that has the change in this very dose."""
    for mechanism in mechanisms:
        if mechanism.change == change and value in mechanism.values:
            return mechanism
    return None


@dataclass(frozen=True)
class GoalMatch:
    """The mechanisms that a goal names, in the goal's order, and its words that the catalogue does not know."""

    mechanisms: tuple[Mechanism, ...]
    rest: tuple[str, ...]


def understand(goal: str, mechanisms: Sequence[Mechanism]) -> GoalMatch:
    """Find the catalogue's words in a goal, longest first, so that `depthwise separable` is not just `depthwise`."""
    text = _normal_form(goal)
    phrases = [(_normal_form(word), mechanism) for mechanism in mechanisms for word in mechanism.words]
    # Equal lengths by alphabet, so that the order of the catalogue's file does not matter.
    phrases.sort(key=lambda pair: (-len(pair[0]), pair[0]))
    positions: dict[str, int] = {}
    for phrase, mechanism in phrases:
        pattern = re.escape(phrase)
        # In Chinese words have no edges and no plural.
        if phrase.isascii():
            pattern = rf"\b{pattern}s?\b"
        match = re.search(pattern, text, re.ASCII)
        if match is None:
            continue
        start, end = match.span()
        positions[mechanism.name] = min(start, positions.get(mechanism.name, start))
        # Blanked and not removed, so that positions keep the order of the goal.
        text = text[:start] + " " * (end - start) + text[end:]
    matches = [mechanism for mechanism in mechanisms if mechanism.name in positions]
    matches.sort(key=lambda mechanism: positions[mechanism.name])
    # What is left is reported to the user, who then sees what the search does not know.
    words = re.findall(r"[^\W\d_]{2,}", text)
    return GoalMatch(tuple(matches), tuple(word for word in words if word not in _FILLERS))


def _normal_form(text: str) -> str:
    """In lower case, with spaces for hyphens and underscores."""
    return re.sub(r"[-_]+", " ", text.casefold())


_FILLER_WORDS = """
a an and the of on in for with without to test try use using whether if does do is are than that it network model
improve better find new small simple custom baseline against versus vs compare design train training helps
"""
_FILLERS = frozenset(_FILLER_WORDS.split())
"""Words of a goal that name nothing in particular."""
