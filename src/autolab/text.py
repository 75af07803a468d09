"""The entrance for text that somebody else wrote: researchers, trainings, git, services, the user, file names.

Text comes as bytes that need not be UTF-8, or as str with lone surrogates (JSON's `"\\ud83d"`, a file name that is not
UTF-8), control characters, and characters that nobody sees but that turn or hide what stands beside them. What leaves
this module can be written as UTF-8 and as JSON, and shows every such character as the escape that Python would print:
`\\x80` for an undecodable byte, `\\ud83d`, `\\x1b`, `\\u202e`. Nothing is dropped without a mark.

Not covered: letters that look like others, combining marks without end, markup (see `markup.py`), secrets (see
`redaction.py`, which looks first). Code that a researcher writes keeps its characters. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
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
# Unicode calls these "default ignorable", and nobody sees them, but Python counts them as printable. The variation
# selectors U+FE0E and U+FE0F are not among them: they only choose how an emoji looks.
_UNSEEN = frozenset((0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0))
_UNSEEN |= frozenset((*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)))
_BLANKS = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SPACE = re.compile(f"[ \t\r\n{_BLANKS}]+")


class _Shown(dict[int, str]):
    """Code point -> as it is shown, filled as characters come; for str.translate, which is quick."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # For Python only one blank is printable, the space; all of them can be seen.
        visible = character.isprintable() or character in "\t\n" or _SPACE.match(character)
        if code in _UNSEEN or not visible:
            character = _escaped(code)
        self[code] = character
        return character


_SHOWN = _Shown()


def decode(raw: bytes) -> str:
    """Bytes as UTF-8; a byte that is not valid UTF-8 becomes `\\x80`."""
    return raw.decode("utf-8", errors="backslashreplace")


def decode_json(raw: bytes) -> str:
    """The same for a JSON document, where the backslash is escaped too: a string with such a byte can be read."""
    text = raw.decode("utf-8", errors="surrogateescape")
    # The codec hides the byte 0x80 in the lone surrogate U+DC80, and so on.
    return _UNDECODABLE.sub(lambda match: f"\\\\x{ord(match[0]) - 0xDC00:02x}", text)


def whole(text: str) -> str:
    """The text with its lone surrogates shown; all else as it is. UTF-8 can hold it."""
    return _SURROGATES.sub(lambda match: _escaped(ord(match[0])), text)


def whole_value(value: Value) -> Value:
    """A JSON value with `whole` texts, keys too; the same object if they are whole already."""
    if not has_surrogates(value):
        return value
    result: Value = _whole(value)
    return result


def has_surrogates(value: Any) -> bool:
    """Whether a JSON value holds a lone surrogate anywhere."""
    if isinstance(value, str):
        return _SURROGATES.search(value) is not None
    if isinstance(value, dict):
        return any(map(has_surrogates, value)) or any(map(has_surrogates, value.values()))
    return isinstance(value, list | tuple) and any(map(has_surrogates, value))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return _renamed({key: _whole(item) for key, item in value.items()}, whole)
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value


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
    """The last line that is not blank, as `one_line`; empty if all are blank."""
    lines = many_lines(text, limit=1 << 30).rstrip("\n\t ")
    return one_line(lines.rpartition("\n")[2], limit)


def both_ends(text: str, limit: int) -> str:
    """A text of many lines, at most about `limit` characters: a longer one loses its middle, and says how much."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    # Both ends say most: the first line what failed, the last lines why.
    head = limit // 2
    tail = limit - head
    return f"{text[:head]}\n[... {left_out:,} characters left out ...]\n{text[-tail:]}"


def short_name(text: str, limit: int = NAME) -> str:
    """A name as `one_line`; a longer one ends in eight digits of its hash: different names stay different."""
    name = one_line(text, limit=1 << 30)
    if len(name) <= limit:
        return name
    digits = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 15]} [cut {digits}]"


def short_names(values: Mapping[str, Value], limit: int = NAME) -> dict[str, Value]:
    """A mapping with its keys as `short_name`; keys that become equal are numbered, so that no value is lost."""
    return _renamed(values, lambda key: short_name(key, limit))


def _renamed(values: Mapping[str, Value], rename: Callable[[str], str]) -> dict[str, Value]:
    # A key that stays as it is keeps its name, whatever another key becomes.
    unchanged = {key for key in values if rename(key) == key}
    renamed: dict[str, Value] = {}
    for key, value in values.items():
        name, number = rename(key), 1
        while key not in unchanged and (name in unchanged or name in renamed):
            number += 1
            name = f"{rename(key)} ({number})"
        renamed[name] = value
    return renamed


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[: max(0, limit - len(CUT))] + CUT


def _escaped(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\U{code:08x}"


def clock_time(moment: datetime, now: datetime) -> str:
    """A moment for a user who reads it `now`: `03:12`, or with its date if it is 20 hours away or more."""
    if abs(moment - now) < timedelta(hours=20):
        return f"{moment:%H:%M}"
    return f"{moment:%Y-%m-%d %H:%M}"
