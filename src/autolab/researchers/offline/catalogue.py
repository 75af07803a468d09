"""The mechanisms that may be tested, and what a goal in plain words asks for. The shipped ones: `catalogue.yaml`."""

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
    """One way to make a network better, with the doses in which it is tried, one after the other.

    `expected` is a prior for the gain in units of the lab's success_delta, `cost` the factor on a trial's time,
    `dose` how a value is named in a title, `names` what each value is called where it has a name of its own,
    `words` what the mechanism is called in a goal.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    family: str
    title: str
    change: str
    values: Annotated[tuple[JsonValue, ...], Field(min_length=1)]
    dose: str = "{}"
    names: tuple[str, ...] = ()
    rationale: str
    references: tuple[str, ...] = ()
    cost: Positive = 1.0
    expected: float = 0.0
    words: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _a_name_a_value(self) -> Mechanism:
        if self.names and len(self.names) != len(self.values):
            raise ValueError(f"names: {len(self.names)} for {len(self.values)} values")
        return self

    def called(self, value: JsonValue) -> str | None:
        """The name that this value has of its own."""
        return self.names[self.values.index(value)] if self.names else None


class Catalogue(Record):
    mechanisms: tuple[Mechanism, ...]


def load(path: Path, shown: str, known: Sequence[str]) -> tuple[Mechanism, ...]:
    """The mechanisms of a file; RecordError for one that is named twice or changes what nobody can change."""
    found = Catalogue.load(path, shown).mechanisms
    names = [mechanism.name for mechanism in found]
    for index, mechanism in enumerate(found):
        where = f"{shown}: mechanisms.{index}"
        if mechanism.name in names[:index]:
            raise RecordError(f"{where}: name: {mechanism.name} is there twice")
        if mechanism.change not in known:
            raise RecordError(f"{where}: change: {mechanism.change!r} is not known; known: {', '.join(known)}")
    return found


@dataclass(frozen=True)
class Understood:
    """The mechanisms that a goal names, in its order, and the words of it that say nothing to the catalogue."""

    mechanisms: tuple[Mechanism, ...]
    rest: tuple[str, ...]


def understand(goal: str, mechanisms: Sequence[Mechanism]) -> Understood:
    """Find the catalogue's words in a goal, longest first, so that `depthwise separable` is not just `depthwise`."""
    left = re.sub(r"[-_]+", " ", goal.casefold())
    places: dict[str, int] = {}
    phrases = [(re.sub(r"[-_]+", " ", word.casefold()), m) for m in mechanisms for word in m.words]
    for phrase, mechanism in sorted(phrases, key=lambda pair: (-len(pair[0]), pair[0])):
        edge = r"\b" if phrase.isascii() else ""
        plural = "s?" if phrase.isascii() else ""
        found = re.search(f"{edge}{re.escape(phrase)}{plural}{edge}", left, re.ASCII)
        if found:
            places[mechanism.name] = min(found.start(), places.get(mechanism.name, found.start()))
            left = left[: found.start()] + " " * (found.end() - found.start()) + left[found.end() :]
    named = sorted((m for m in mechanisms if m.name in places), key=lambda m: places[m.name])
    words = re.findall(r"[^\W\d_]{2,}", left)
    return Understood(tuple(named), tuple(word for word in words if word not in _FILLERS))


_FILLERS = frozenset(
    re.findall(
        r"\w+",
        """a an and the of on in for with without to test try use using whether if does do is are than that it network
        model improve better find new small simple custom baseline against versus vs compare design train
        training helps""",
    )
)
"""Words of a goal that ask for nothing in particular."""
