"""The one way in for text that somebody else wrote: researchers, trainings, git, services, the user, file names.

Text comes as bytes that need not be UTF-8, or as str with lone surrogates (JSON's `"\\ud83d"`, a file name that is not
UTF-8), control characters, and characters that nobody sees but that turn or hide what stands beside them. What leaves
this module is UTF-8 and JSON can hold it, and every such character is shown as the escape that Python would print:
`\\x80` for an undecodable byte, `\\ud83d`, `\\x1b`, `\\u202e`. Nothing is dropped without a mark.

Not covered: letters that look like others, combining marks without end, markup (see `markup.py`), secrets (see
`redaction.py`, which looks first). Code that a researcher writes keeps its characters. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

LINE = 2_000
"""Characters of one line: a message, a title, a path."""
BLOCK = 200_000
"""Characters of a text of many lines."""
NAME = 200
"""Characters of a name: a metric, an arm, a key."""
CUT = " [cut]"

_SURROGATES = re.compile("[\ud800-\udfff]")
_UNDECODABLE = re.compile("[\udc80-\udcff]")  # what Python's surrogateescape makes of a byte
# What Unicode calls "default ignorable" though Python prints it: nobody sees these. The two variation selectors U+FE0E
# and U+FE0F are left alone: they only choose how an emoji looks.
_UNSEEN = frozenset((0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0))
_UNSEEN |= frozenset((*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)))
_BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SPACE = re.compile(f"[ \t\r\n{_BLANKS}]+")


class _Shown(dict[int, str]):
    """Code point -> as it is shown, filled as characters come; for str.translate, which is quick."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # Blanks other than the space are not printable by Python's word, and can be seen all the same.
        seen = code not in _UNSEEN and (character.isprintable() or character in "\t\n" or _SPACE.match(character))
        self[code] = character if seen else _escaped(code)
        return self[code]


_SHOWN = _Shown()


def decode(raw: bytes) -> str:
    """UTF-8, with each byte that is none as `\\x80`."""
    return raw.decode("utf-8", errors="backslashreplace")


def decode_json(raw: bytes) -> str:
    """The same for a JSON document, where the backslash is escaped too: a string with such a byte can be read."""
    text = raw.decode("utf-8", errors="surrogateescape")
    return _UNDECODABLE.sub(lambda found: f"\\\\x{ord(found[0]) - 0xDC00:02x}", text)


def whole(text: str) -> str:
    """The text with its lone surrogates shown; all else as it is. UTF-8 can hold it."""
    return _SURROGATES.sub(lambda found: _escaped(ord(found[0])), text)


def whole_value(value: Value) -> Value:
    """A JSON value with `whole` texts, keys too; the very same where they are."""
    return _whole(value) if has_surrogates(value) else value


def has_surrogates(value: Any) -> bool:
    """Whether a JSON value holds a lone surrogate anywhere."""
    if isinstance(value, str):
        return _SURROGATES.search(value) is not None
    if isinstance(value, dict):
        return any(has_surrogates(key) or has_surrogates(one) for key, one in value.items())
    return isinstance(value, list | tuple) and any(has_surrogates(one) for one in value)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return _renamed({key: _whole(one) for key, one in value.items()}, lambda key: whole(key))
    return [_whole(one) for one in value] if isinstance(value, list | tuple) else value


def many_lines(text: str | bytes, limit: int = BLOCK) -> str:
    """Text of many lines, at most `limit` characters: line feeds and tabs stay, a carriage return ends a line too."""
    if isinstance(text, bytes):
        text = decode(text)
    # A carriage return moves a terminal's cursor back over what was written: no line may hold one.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _cut(text.translate(_SHOWN), limit)


def one_line(text: str | bytes, limit: int = LINE) -> str:
    """Text on one line, at most `limit` characters: line breaks, tabs and runs of blanks become one space."""
    if isinstance(text, bytes):
        text = decode(text)
    return _cut(_SPACE.sub(" ", text).translate(_SHOWN).strip(" "), limit)


def last_line(text: str | bytes, limit: int = LINE) -> str:
    """The last line that says anything, as `one_line`; empty where none does."""
    shown = many_lines(text, limit=1 << 30).rstrip("\n\t ")
    return one_line(shown.rpartition("\n")[2], limit)


def short_name(text: str, limit: int = NAME) -> str:
    """A name as `one_line`; a longer one ends in eight digits of its hash: different names stay different."""
    shown = one_line(text, limit=1 << 30)
    if len(shown) <= limit:
        return shown
    digits = hashlib.sha256(shown.encode()).hexdigest()[:8]
    return f"{shown[: limit - 15]} [cut {digits}]"


def short_names(values: Mapping[str, Value], limit: int = NAME) -> dict[str, Value]:
    """A mapping with its keys as `short_name`; keys that become equal are numbered, so that no value is lost."""
    return _renamed(values, lambda key: short_name(key, limit))


def _renamed(values: Mapping[str, Value], rename: Any) -> dict[str, Value]:
    # Keys that stay as they are come first: they keep their name whatever another key becomes.
    kept = {key for key in values if rename(key) == key}
    made: dict[str, Value] = {}
    for key, value in values.items():
        shown, number = rename(key), 1
        while key not in kept and (shown in kept or shown in made):
            number += 1
            shown = f"{rename(key)} ({number})"
        made[shown] = value
    return made


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(0, limit - len(CUT))] + CUT


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
