"""One file of code that the assembler writes: its path, its text, its checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill, indent


@dataclass(frozen=True)
class Source:
    path: str
    """From the lab's root, with slashes."""
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def prose(text: str, width: int = 112) -> str:
    """Text for a docstring, in lines of at most `width` characters; no word is broken."""
    return fill(text, width, break_long_words=False, break_on_hyphens=False)


def block(lines: Iterable[str], depth: int) -> str:
    """Lines, indented by `depth` levels of four spaces."""
    return indent("\n".join(lines), "    " * depth)
