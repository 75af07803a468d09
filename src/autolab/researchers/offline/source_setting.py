"""A setting as it stands in a file of the repository: its name, its value, and the characters that hold the value."""

from __future__ import annotations

import re
from dataclasses import dataclass

Scalar = bool | int | float | str

NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
"""How a number is written in Python, C, YAML and shells, without a suffix."""


@dataclass(frozen=True)
class SourceSetting:
    """One value in one file. `text[start:end]` of the file is the value, or empty where an edit inserts a line.

    `group` is what the name belongs to: a class, a section, the variable that a call is assigned to. Of two settings
    with one name the one with the lower `rank` is in force. `template` says what an edit writes around the value.
    """

    path: str
    language: str
    name: str
    value: Scalar
    start: int
    end: int
    rank: float
    text: str = ""
    group: str = ""
    template: str = "{}"
    choices: tuple[str, ...] = ()
    hint: str = ""
    """What else is said of the value beside it: a comment, or the help of a flag."""

    @property
    def key(self) -> str:
        """What the setting is called in titles and in the record."""
        return f"{self.group}.{self.name}" if self.group else self.name

    def spelled(self, value: Scalar) -> str:
        """The characters that take the place of `text[start:end]`."""
        return self.template.replace("{}", self._literal(value))

    def _literal(self, value: Scalar) -> str:
        if isinstance(value, bool):
            return _SPELLED_BOOL.get(self.language, ("False", "True"))[value]
        if isinstance(value, str):
            quote = self.text[:1] if self.text[:1] in "\"'" else ""
            return f"{quote}{value}{quote}"
        if isinstance(value, int):
            return str(value)
        # A mantissa always has its point: YAML reads 1e-05 as a text, and C refuses 1f.
        mantissa, exponent = re.fullmatch(r"([^e]*)(e.*)?", spell_number(value)).groups()  # type: ignore[union-attr]
        if "." not in mantissa:
            mantissa += ".0"
        suffix = "f" if self.language == "c" and self.text[-1:] in ("f", "F") else ""
        quote = self.text[:1] if self.text[:1] in "\"'" else ""
        return f"{quote}{mantissa}{exponent or ''}{suffix}{quote}"


_SPELLED_BOOL = {"yaml": ("false", "true"), "c": ("0", "1"), "shell": ("False", "True")}


def spell_number(value: float) -> str:
    """A number as a reader would write it: 0.0018, 3e-05, 20."""
    return f"{value:.4g}"


def parse_number(text: str) -> int | float | None:
    """The number that a text is; None if it is none."""
    plain = text.strip().strip("\"'")
    if not re.fullmatch(NUMBER + "[fFlLuU]?", plain):
        return None
    plain = plain.rstrip("fFlLuU").replace("_", "")
    return int(plain) if re.fullmatch(r"[-+]?\d+", plain) else float(plain)
