"""The names and values on one printed line, in the forms in which programs print them. Pure, standard library only.

Taken: `name: value`, `name=value`, `name value`; several on a line; behind counters (`step 250: train loss 1.9`),
labels (`Test set: Average loss: 0.03`), times and levels of a logger (`2024-01-01 10:00:00 INFO val_loss=0.3`).
Not taken: the numbers of a progress bar; prose, where a number between words is no value of a name (`Loaded 60000
images`); what stands beyond the first CHARACTERS of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

CHARACTERS = 4_000
PAIRS = 100
"""Pairs of one line at most."""
NAME = 100
"""Characters of a name at most, as of the form `name: value` that was always read."""
BLANK_WORDS = 4
"""Words of a name that has only a blank before its value: more are prose."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CLOCK = r"\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?"
_PREFIX = re.compile(
    rf"""\s*(?:
        \[?\d{{4}}[-/.]\d\d[-/.]\d\d[T _,]{{1,2}}{_CLOCK}\s?(?:Z|UTC|[+-]\d\d:?\d\d)?\]?   # 2024-01-01 10:00:00,123
        | \[?\d\d[-/.]\d\d[-/.]\d{{2,4}}[ ,]{{1,2}}{_CLOCK}\]?                             # 01/31/2024 10:00:00
        | \[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?(?=\s)                                           # [10:00:00]
        | [IWEF]\d{{4}}\s\d\d:\d\d:\d\d\.\d+\s+\d+\s[\w./-]+:\d+\]                         # I0131 10:00:00.1 12 a.py:7]
        | [\[<(]?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|TRACE|SUCCESS)\b[\]>)]?
    )\s*(?:[-|:]+(?=\s|[^\W\d]))?""",
    re.VERBOSE | re.ASCII,
)
# tqdm's, with what it shows in brackets; one that knows no total; and the drawn part of any other.
_BARS = re.compile(
    r"\d{1,3}%\|[^|]*\|[^\[]*(?:\[[^\]]*\]?)?|\b\d+it \[[^\]]*\]?|[█▏▎▍▌▋▊▉━╸╺░▒▓]+(?:\s*\d{1,3}%)?|\[[=>.#-]{5,}\]"
)
_WRAPPED = re.compile(r"\b(?:tensor|(?:np\.|numpy\.)?(?:float|int)\d+|[Aa]rray)\(\s*([^\s(),]+)\s*(?:,[^()]*)?\)")
_ONE_IN_LIST = re.compile(r"(?<=[:=])\s*[\[(]\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*,?\s*[\])](?!\s*\[)")
# COCO's: `Average Precision (AP) @[ IoU=0.50:0.95 | area= all | maxDets=100 ] = 0.385`. What is in it is no result.
_CONDITIONS = re.compile(r"@ ?\[[^\]]*\]\s*[=:]?\s*\S*")
_SET = "train|training|val|valid|validation|eval|evaluation|test|testing|dev"
_TAG = re.compile(rf"\[({_SET})\](?=\s*[^\W\d])", re.IGNORECASE)
_LABEL = re.compile(rf"\s*({_SET})\s*:\s+(?=[^\W\d])", re.IGNORECASE)
_COLUMN = re.compile(r"[^\W\d][\w./@%+-]{0,99}")
_CELL = re.compile(r"[-+]?(?:\d[\d.,]*(?:[eE][-+]?\d+)?%?|nan|inf)|\d+(?::\d\d)+|#na#", re.IGNORECASE)
COLUMNS = 40
"""Columns of a table without lines at most."""
_RATIO = re.compile(r"(?<=\d) ?/ {0,4}(?=\d)")
_RATIO_PERCENT = re.compile(r"(?<=\d) {0,4}(?:\( {0,4}([\d.]+) ?%\)|= ?([\d.]+) ?%(?=\s|$))")
_PARENTHESES = re.compile(r"(?<!\w)\(([^()]*)\)(\s*[:=])?")
_QUOTES = re.compile(r"""(?<!\w)["'`]+|["'`]+(?!\w)""")
_CELLS = re.compile(r"[|│┃]")
# A comma between digits may belong to a number.
_SEPARATORS = re.compile(r"[|│┃;{}\[\]•]|,(?!\d)|(?<!\d),| [-\u2013\u2014·] +(?=[^\W\d])")
_TOKEN = re.compile(
    r"""(?P<value>\d+(?::\d\d)+\S* | [-+]?(?:\d|\.\d)[^\s:=]* | [-+]?(?:nan|inf|infinity)(?![^\s:=.,]))
        | (?P<connector>[:=]+) | (?P<word>[^\s:=]+)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_EDGES = "\"'`*#<>~-\u2013\u2014•·:,.!?=/\\"
_STOPS = frozenset(
    {"after", "at", "by", "for", "from", "in", "of", "on", "per", "than", "the", "to", "with", "and", "is"}
)


@dataclass(slots=True)
class _Pair:
    name: str
    text: str
    connected: bool
    """Whether a colon or an equals sign stands between the two."""


def shown(raw: bytes) -> bytes:
    """What a terminal shows at the end of a line over which a program wrote (carriage returns)."""
    return raw.rstrip(b"\r\n").rpartition(b"\r")[2]


def without_colours(line: str) -> str:
    return _ANSI.sub("", line) if "\x1b" in line else line


def without_prefix(line: str) -> str:
    """The line behind a logger's time and level."""
    for _ in range(4):
        match = _PREFIX.match(line)
        if match is None:
            break
        line = line[match.end() :]
    return line


def pairs(line: str) -> Iterator[tuple[str, str]]:
    """Each name of a line with the text after it, which need not be a number; at most PAIRS."""
    line = without_prefix(line[:CHARACTERS])
    # `Validation: loss=0.31, acc=0.9`: without it, the loss of the training set would have the same name.
    label = _LABEL.match(line)
    before = ""
    if label is not None:
        line, before = line[label.end() :], f"{label[1]} "
    count = 0
    for segment in _segments(line):
        for pair in _parsed(segment):
            count += 1
            if count > PAIRS:
                return
            yield before + pair.name, pair.text


def header(line: str) -> list[str]:
    """The columns of a line that may stand above a table without lines, such as fastai's; empty if it does not."""
    columns = line[:CHARACTERS].split()
    is_header = 2 <= len(columns) <= COLUMNS and all(_COLUMN.fullmatch(column) for column in columns)
    return columns if is_header else []


def row(columns: list[str], line: str) -> list[tuple[str, str]]:
    """The names and values of a row of such a table. `macro avg 0.9 0.8` below `precision recall` has a label."""
    cells = line[:CHARACTERS].split()
    label, values = cells[: -len(columns)], cells[-len(columns) :]
    if len(values) < len(columns) or not all(_CELL.fullmatch(value) for value in values):
        return []
    if label and (len(columns) < 3 or not _name(label) or any(map(_CELL.fullmatch, label))):
        return []
    return [(" ".join([*label, column]), value) for column, value in zip(columns, values, strict=True)]


def _segments(line: str) -> Iterator[str]:
    """The parts of a line that are read alone: what separators, parentheses and bars leave."""
    line = _BARS.sub(" ; ", line)
    line = _CONDITIONS.sub(" ; ", line)
    line = _TAG.sub(r"\1", line)
    line = _ONE_IN_LIST.sub(r" \1", _WRAPPED.sub(r"\1", line))
    # 9800/10000 (98%) is one value, as is 9800/10000 = 98%.
    line = _RATIO_PERCENT.sub(lambda match: f"({match[1] or match[2]}%)", _RATIO.sub("/", line))
    line = _PARENTHESES.sub(_opened, line)
    line = _QUOTES.sub("", line)
    cells = [cell.strip() for cell in _CELLS.split(line) if cell.strip()]
    # A row of a table of two columns.
    is_row = len(cells) == 2 and _name(cells[0].split()) and not re.search(r"[:=\s]", cells[1])
    if is_row:
        yield f"{cells[0]}: {cells[1]}"
        return
    yield from _SEPARATORS.split(line)


def _opened(match: re.Match[str]) -> str:
    """What stands in parentheses is read alone; before a colon it belongs to the name."""
    inner, connector = match[1], match[2]
    if connector and re.search(r"[^\W\d]", inner) and not re.search("[:=]", inner):
        return match[0]
    return f";{inner};{connector or ''}"


def _parsed(segment: str) -> list[_Pair]:
    """The pairs of a segment. A number with a blank before it is a value only if the whole segment reads so."""
    found: list[_Pair] = []
    words: list[str] = []
    label, rest = "", ""
    connected = follows_value = False
    for token in _TOKEN.finditer(segment):
        text = token[0]
        if token.lastgroup == "connector":
            if follows_value and "=" in text and found and found[-1].connected:
                # `mAP@0.5:0.95 = 0.31`: the first number belongs to the name.
                words = f"{found[-1].name}:{found[-1].text}".split()
                found.pop()
            connected = bool(words)
            if connected:
                label, rest = _name(words), segment[token.end() :].strip()
        elif token.lastgroup == "value":
            value = text.rstrip(".,!?")
            if words and not connected and words[-1].lower() in _STOPS:
                # `on the 10000 test images` is one name.
                words.append(text)
                continue
            if words:
                found.append(_Pair(_name(words), value, connected))
            elif found and follows_value:
                # Two numbers in a row: which of them is meant is not known.
                found[-1].text += f" {value}"
            words, connected = [], False
        elif any(character.isalnum() or character == "_" for character in text):
            # What a colon ended without a value was a label.
            words = [text] if connected else [*words, text]
            connected = False
        follows_value = token.lastgroup == "value"
    if words and found:
        if found[-1].connected:
            found[-1].text += " " + " ".join(words)
        found = [pair for pair in found if pair.connected]
    if not found and label and rest:
        found = [_Pair(label, rest, True)]
    return [pair for pair in found if pair.name and (pair.connected or _is_short(pair.name))]


def _name(words: list[str]) -> str:
    """The words as a name; empty if they are none. A name begins with a letter."""
    name = " ".join(words).strip(_EDGES + " ")
    begins_well = re.match(r"[^\W\d]", name)
    return name if begins_well and len(name) <= NAME else ""


def _is_short(name: str) -> bool:
    return len(name.split()) <= BLANK_WORDS
