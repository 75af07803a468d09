"""Where in a model's text its answer stands: the one JSON object, and the code blocks beside it.

Nothing is repaired. What is left aside: reasoning between tags or before a closing tag, prose, and objects that share
no key with the form. An object may be bare, or the whole of a fence without a name or called json. The search takes
time linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from autolab.errors import RecordError

_REASONING = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "\u25c1think\u25b7": "\u25c1/think\u25b7",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
"""How models mark where their reasoning begins and ends. Many leave the first mark to the prompt."""
_CLOSING = re.compile("|".join(re.escape(mark) for mark in _REASONING.values()))
_FENCE_LENGTHS = 8
"""Longest run of backticks that counts as a fence."""
_MARK = re.compile(
    "(?P<reasoning>"
    + "|".join(re.escape(mark) for mark in (*_REASONING, *_REASONING.values()))
    + rf")|(?P<fence>^[ ]{{0,3}}(?:`{{3,{_FENCE_LENGTHS}}}|~{{3,{_FENCE_LENGTHS}}})(?![`~])[^`\n]*$)|(?P<brace>{{)",
    re.MULTILINE,
)
_FENCE = re.compile(r" {0,3}(`+|~+)(.*)", re.DOTALL)
_IN_OBJECT = re.compile(r'[{}"]')
_IN_STRING = re.compile(r'["\\]')
_BEGINS_OBJECT = re.compile(r'\{\s*["}]')
_KEY = re.compile(r'"([^"\\]{1,200})"\s*:')
_DEEPEST = 900
"""Braces in braces, as deep as Python's reader goes."""
_MOST_OBJECTS, _MOST_BLOCKS = 50, 1_000
"""Of one reply; with more it holds no one answer, and is read no further."""


@dataclass(frozen=True)
class CodeBlock:
    """A fence with its info string and the line before it, and the lines within."""

    info: str
    line_before: str
    content: str


@dataclass(frozen=True)
class _Found:
    """What one pass over a text came upon. `unfinished`: it ends in the middle of reasoning."""

    objects: tuple[str, ...]
    blocks: tuple[CodeBlock, ...]
    unfinished: bool


def find_object(text: str, keys: Set[str]) -> tuple[str, tuple[CodeBlock, ...]]:
    """The text of the one object that is meant to have some of `keys`, and the code blocks after the reasoning.

    RecordError in one line: there is none, or there are several. The object itself may be no JSON.
    """
    # Some services begin with a byte order mark, which JSON forbids.
    text = text.strip().removeprefix("\ufeff").replace("\r\n", "\n")
    found = _search(text)
    meant = _meant(found, keys)
    closing = _CLOSING.search(text)
    # Reasoning without an opening mark may hold a brace or a quote that is never closed, and that swallowed the answer.
    if closing is not None and len(meant) != 1:
        after = _search(text[closing.end() :])
        meant_after = _meant(after, keys)
        if meant_after:
            found, meant = after, meant_after
    if len(meant) == 1:
        return meant[0], found.blocks
    if len(meant) > 1:
        raise RecordError(f"{len(meant)} JSON objects, and one is wanted; leave out all but the answer")
    if text.startswith("{"):
        # Meant as the object, and so far from JSON that it does not begin as one: its syntax error is told.
        return text, ()
    if found.unfinished:
        raise RecordError("only reasoning, which has no end; the answer is missing")
    # Without a quotation: the same failure in other words is the same error to whoever counts them.
    raise RecordError("not JSON: no object of the form in the reply")


def _meant(found: _Found, keys: Set[str]) -> list[str]:
    """The objects that share a key with the form; all of them if none does."""
    meant = [text for text in found.objects if not keys.isdisjoint(_KEY.findall(text))]
    return meant or list(found.objects)


def _search(text: str) -> _Found:
    """One pass from the left, over marks of reasoning, fences and braces that stand in none of them."""
    objects: list[str] = []
    blocks: list[CodeBlock] = []
    fences = _Fences(text)
    # A brace without an end is looked at to the end of the text: that may happen so often and no more.
    left = 4 * len(text)
    at = 0
    while (mark := _MARK.search(text, at)) is not None:
        at = mark.end()
        if mark["reasoning"] is not None:
            end_mark = _REASONING.get(mark["reasoning"])
            if end_mark is None:
                # A closing mark alone: all that stands before it was reasoning.
                objects.clear()
                blocks.clear()
                continue
            end = text.find(end_mark, at)
            if end < 0:
                return _Found(tuple(objects), tuple(blocks), True)
            at = end + len(end_mark)
        elif mark["fence"] is not None:
            closed = fences.read(mark)
            # A fence without an end is a line of prose.
            if closed is None:
                continue
            block, at = closed
            blocks.append(block)
            if block.info.lower() in ("", "json") and (block.info or block.content.lstrip().startswith("{")):
                objects.append(block.content)
        else:
            object_end = _end_of_object(text, mark.start())
            left -= (object_end or len(text)) - mark.start()
            if _BEGINS_OBJECT.match(text, mark.start()):
                objects.append(_with_stray_end(text, mark.start(), object_end))
            at = object_end or at
        if len(objects) > _MOST_OBJECTS or len(blocks) > _MOST_BLOCKS or left < 0:
            break
    return _Found(tuple(objects), tuple(blocks), False)


class _Fences:
    """Reads code blocks. A run of marks that no later line closes is searched for once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._unclosed: set[tuple[str, int]] = set()

    def read(self, opening: re.Match[str]) -> tuple[CodeBlock, int] | None:
        """The block and where it ends; None if nothing closes it."""
        text = self._text
        parts = _FENCE.match(opening[0])
        assert parts is not None
        kind = (parts[1][0], len(parts[1]))
        if kind in self._unclosed or opening.end() >= len(text):
            return None
        character, length = kind
        closing = re.compile(rf"^ {{0,3}}{re.escape(character)}{{{length},}}[ \t]*$", re.MULTILINE)
        start = opening.end() + 1
        end = closing.search(text, start)
        if end is None:
            self._unclosed.add(kind)
            return None
        return CodeBlock(parts[2].strip(), self._line_before(opening.start()), text[start : end.start()]), end.end()

    def _line_before(self, place: int) -> str:
        """The last line before a place that is not blank; empty if it is more than some lines away, or long."""
        window = self._text[max(0, place - 400) : place].rstrip()
        return window.rpartition("\n")[2].strip()


def _end_of_object(text: str, start: int) -> int | None:
    """Where the object ends that begins at `start`; None if it does not, or is too deep."""
    depth, at = 0, start
    while (token := _IN_OBJECT.search(text, at)) is not None:
        at = token.end()
        if token[0] == "{":
            depth += 1
            if depth > _DEEPEST:
                return None
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return at
        else:
            end = _end_of_string(text, at)
            if end is None:
                return None
            at = end
    return None


def _end_of_string(text: str, at: int) -> int | None:
    while (token := _IN_STRING.search(text, at)) is not None:
        if token[0] == '"':
            return token.end()
        # What is escaped is no end, whatever it is.
        at = token.end() + 1
    return None


def _with_stray_end(text: str, start: int, end: int | None) -> str:
    """The object, with what shows that it is no object on its own: a brace too many, or the brackets of a list."""
    if end is None:
        return text[start:]
    before, after = text[max(0, start - 20) : start].rstrip(), text[end : end + 20].lstrip()
    if after.startswith("}"):
        return text[start:end] + "}"
    if before.endswith("[") and after.startswith(("]", ",")):
        return f"[{text[start:end]}]"
    return text[start:end]


def code_blocks_by_path(blocks: tuple[CodeBlock, ...]) -> Iterator[tuple[str, str]]:
    """Path and content of each block whose info string, or the line before it, names a path and nothing else."""
    for block in blocks:
        words = block.info.split()
        path = words[-1] if words and _looks_like_path(words[-1]) else ""
        if not path:
            line = block.line_before.strip("*#`: ")
            path = line if _looks_like_path(line) else ""
        if path:
            yield path, block.content


def _looks_like_path(word: str) -> bool:
    return not re.search(r"\s", word) and ("." in word or "/" in word) and word not in (".", "/")
