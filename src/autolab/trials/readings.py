"""The numbers that a program prints or writes, by the names it gives them: readings, their series, what could decide.

Pure; of this package it uses names of metrics and the decoding of bytes. Sources:

- text (`stdout`, `stderr`, a file): `line_forms` has the forms of a line. A line that is a JSON object is read as one.
- `.jsonl`: a JSON object on each line. `.json`: one document. `{"eval": {"loss": 1}}` gives `eval.loss`, and a list
  gives its elements one after the other under one name.
- `.csv`, `.tsv`: a table with a header; empty cells are left out.
- `events.out.tfevents.…`: TensorBoard's scalars by their tags (`event_files`).

A percentage is the number before its sign: `98%` is 98. `9800/10000` is 0.98, but `9800/10000 (98%)` is 98, as its
percentage is what the program calls the result. `1,512.25` is 1512.25. `98,5` and `1,512` are malformed: a comma may
be a decimal point or stand between thousands. nan and inf are readings that are not finite.

Limits: lines of LINE_BYTES, `line_forms.CHARACTERS` of each; LEAVES numbers of a document; the NAMES read last.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from autolab.stats.finite import is_finite
from autolab.stats.metric_names import TRAINING, direction_of, words
from autolab.text import decode
from autolab.trials import event_files, line_forms

LINE_BYTES = 64 * 1024
LEAVES = 10_000
DEPTH = 16
"""Nested objects and lists of a JSON document at most."""
COLUMNS = 2_000
NAMES = 1_000
LATE_LINES = 10
TABLE_GAP = 5
"""Lines after a header, or a row, of a table without lines, within which its next row stands."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.A)
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.I)
_RATIO = re.compile(r"(\d[\d,]*(?:\.\d+)?)/(\d[\d,]*(?:\.\d+)?)(?: ?\(([\d.]+)%\))?", re.A)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+\.\d+|[-+]?\d{1,3}(?:,\d{3}){2,}", re.A)
_PHRASE = re.compile(r"(?<=[\d%)]) (?:after|at|in|on|over|for|from) .*|(?<=[%)]) correct", re.S)
"""What may follow a number: when and on what it was measured."""
_COMMA = re.compile(r"[-+]?\d+,\d+", re.A)
_COMMA_OF_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}", re.A)
# The form that was always read: a name without blanks, a colon, and all that follows.
_LEADING = re.compile(r"([A-Za-z_][^\s:]{0,99})\s*:\s*(\S.*)")


class Form(IntEnum):
    """How a reading stands on its line. A leading one counts before all others of its name."""

    WITHIN = 0
    LEADING = 1
    """The line begins with `name: value`, and goes on."""
    ALONE = 2
    """The line is `name: value` and nothing else, or the source is a table or a document."""


class Reading(NamedTuple):
    """The text that a program gave a name, and the number of its line, from 1."""

    name: str
    text: str
    line: int
    form: Form = Form.WITHIN
    of_training: bool = False
    """Whether its line speaks of the training set, and of no other."""

    @property
    def number(self) -> float | None:
        """The finite number that the text is, else None."""
        number = _value(self.text)
        return number if number is not None and is_finite(number) else None

    @property
    def not_finite(self) -> bool:
        """Whether the text is a number that is not finite."""
        return _value(self.text) is not None and self.number is None

    @property
    def is_plain(self) -> bool:
        """Whether the text is a finite number without a sign or a comma in it."""
        return _NUMBER.fullmatch(self.text) is not None and self.number is not None

    @property
    def has_comma(self) -> bool:
        """Whether it is a number whose comma may be a decimal point or stand between thousands."""
        return _COMMA.fullmatch(self.text) is not None and _value(self.text) is None

    @property
    def meant_as_number(self) -> bool:
        return _value(self.text) is not None or self.has_comma

    @property
    def bare(self) -> str:
        """The text without what follows its number: `0.31` of `0.31 after 170 batches`."""
        return _PHRASE.sub("", self.text)

    @property
    def decimals(self) -> int:
        """Digits after the point of the number as it was printed: 4 of 0.0312 and of 9800/10000, 6 of 3.00e-04."""
        if self.number is None:
            return 0
        printed = self.bare
        ratio = _RATIO.fullmatch(printed)
        text = printed.rstrip("%").strip()
        if ratio is not None:
            if ratio[3] is None:
                return len(ratio[2]) - 1
            text = ratio[3]
        mantissa, _, exponent = text.lower().partition("e")
        shift = int(exponent) if re.fullmatch(r"[-+]?\d{1,3}", exponent, re.A) else 0
        return max(0, len(mantissa.partition(".")[2]) - shift)

    @property
    def complaint(self) -> str:
        """Why the text is no finite number, and how to write one."""
        if _COMMA_OF_THOUSANDS.fullmatch(self.text):
            whole, point = self.text.replace(",", ""), self.text.replace(",", ".")
            return f"{self.text} has a comma; write {point} or {whole}, whichever is meant"
        if _COMMA.fullmatch(self.text):
            with_point = self.text.replace(",", ".")
            return f"{self.text} has a comma; write {with_point} with a point (and nothing between thousands)"
        if self.not_finite:
            number = self.text[:60]
            return f"{number} is not a finite number; a training without a result has to end with a status above 0"
        advice = "write the number alone, such as 0.9979, or say where it stands: --metric-pattern (train.pattern)"
        return f"{self.text[:60]!r} is not a number; {advice}"


def _value(text: str) -> float | None:
    """The number that a text is, finite or not. `0.31 after 170 batches` is 0.31."""
    text = _PHRASE.sub("", text)
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text)
    if _THOUSANDS.fullmatch(text):
        return float(text.replace(",", ""))
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].rstrip()):
        return float(text[:-1])
    ratio = _RATIO.fullmatch(text)
    if ratio is None:
        return None
    if ratio[3] is not None:
        return float(ratio[3]) if _NUMBER.fullmatch(ratio[3]) else None
    if "," in text:
        return None
    whole = float(ratio[2])
    return float(ratio[1]) / whole if whole else None


def readings(content: bytes, source: str = "stdout") -> Iterator[Reading]:
    """All readings of what a program wrote to `source`, whose ending says its form, in their order."""
    return read_lines(io.BytesIO(content), source)


def read_lines(lines: Iterable[bytes], source: str, wanted: Collection[str] | None = None) -> Iterator[Reading]:
    """The same of the lines of a file. With `wanted`, other names are read only as far as it costs nothing."""
    if event_files.is_event_file(source):
        return _of_events(b"".join(lines))
    if source.endswith(".json"):
        return of_document(b"".join(lines))
    if source.endswith((".csv", ".tsv")):
        return _of_table(lines, wanted)
    return _of_text(lines, wanted, Form.ALONE if source.endswith(".jsonl") else Form.WITHIN)


def shown_line(raw: bytes) -> str:
    """A line as a terminal shows it, without colours; empty if it is longer than LINE_BYTES."""
    visible = line_forms.shown(raw)
    if len(visible) > LINE_BYTES:
        return ""
    return line_forms.without_colours(decode(visible)).strip().replace("\u2212", "-")


def _of_text(lines: Iterable[bytes], wanted: Collection[str] | None, form: Form) -> Iterator[Reading]:
    marks = None if wanted is None else [_mark(name) for name in wanted]
    columns: list[str] = []
    table_end = 0
    for number, raw in enumerate(lines, 1):
        line = shown_line(raw)
        if number <= table_end:
            for name, text in line_forms.row(columns, line):
                yield Reading(name, text, number)
                table_end = number + TABLE_GAP
        new_columns = _columns(line, wanted)
        if new_columns:
            columns, table_end = new_columns, number + TABLE_GAP
        # A line in colours was never read in the old form, so it does not count before others.
        leading = None if b"\x1b" in raw else _LEADING.fullmatch(line)
        if marks is None or any(mark in line for mark in marks):
            of_training = _speaks_of_training(line)
            for reading in _of_line(line, number, leading, form):
                yield reading._replace(of_training=True) if of_training else reading
        elif leading:
            yield Reading(leading[1], leading[2], number, Form.ALONE)


def _mark(name: str) -> str:
    """A part of the name that each line has which gives it a value."""
    # The names of a nested document are joined with points: a line has the last of them alone.
    first = name.partition(" ")[0]
    return first.rpartition(".")[2] or first


def _columns(line: str, wanted: Collection[str] | None) -> list[str]:
    """The columns that the line gives to a table below it; with `wanted`, none if no name of it is in one."""
    # A row has the label of a name before its column.
    if wanted is not None and not any(name.rpartition(" ")[2] in line for name in wanted):
        return []
    return line_forms.header(line)


def _speaks_of_training(line: str) -> bool:
    """Whether a line names the training set and no other: `Train Epoch: 1 [640/60000 (1%)] Loss: 2.3`."""
    if "train" not in line.lower():
        return False
    parts = words(line[: line_forms.CHARACTERS])
    return not parts.isdisjoint(TRAINING) and parts.isdisjoint(_HELD_OUT)


def _of_line(line: str, number: int, leading: re.Match[str] | None, form: Form) -> Iterator[Reading]:
    if leading is None:
        document = line_forms.without_prefix(line)
        if document.startswith("{") and document.endswith("}"):
            value = _parsed(document)
            if value is not None:
                for name, text in _leaves(value):
                    yield Reading(name, text, number, form)
                return
    if leading is not None and _NUMBER.fullmatch(leading[2]) and "=" not in line:
        yield Reading(leading[1], leading[2], number, Form.ALONE)
        return
    found = dict(line_forms.pairs(line))
    if leading is not None:
        name, text = leading[1], leading[2]
        # Where the form that was always read has a number, it wins; else what the other forms make of it.
        if Reading(name, text, number).meant_as_number or name not in found or found[name] == text:
            found.pop(name, None)
            yield Reading(name, text, number, Form.ALONE)
        else:
            yield Reading(name, found.pop(name), number, Form.LEADING)
    for name, text in found.items():
        yield Reading(name, text, number)


class _Printed(str):
    """A number as a JSON document has it; other texts are none."""


def _parsed(text: str) -> object:
    """The JSON value of a text; None if it is none."""
    try:
        return json.loads(text, parse_float=_Printed, parse_int=_Printed, parse_constant=_Printed)
    except (ValueError, RecursionError):
        return None


def of_document(content: bytes) -> Iterator[Reading]:
    """The readings of one JSON document; none if it is no JSON."""
    for name, text in _leaves(_parsed(decode(content))):
        if name:
            yield Reading(name, text, 1, Form.ALONE)


def _leaves(value: object) -> Iterator[tuple[str, str]]:
    """The texts and numbers of a JSON value by their names, joined with points; a list adds nothing to a name."""
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    count = 0
    while waiting and count < LEAVES:
        name, part, depth = waiting.pop()
        parts: list[tuple[str, object]] = []
        if isinstance(part, dict):
            for key, item in part.items():
                parts.append((f"{name}.{key}" if name else key, item))
        elif isinstance(part, list):
            parts = [(name, item) for item in part]
        elif isinstance(part, str):
            count += 1
            yield name, part if isinstance(part, _Printed) else json.dumps(part[:100])
        if depth < DEPTH:
            # Taken from the end, so the first comes last.
            waiting += [(key, item, depth + 1) for key, item in reversed(parts)]


def _of_events(content: bytes) -> Iterator[Reading]:
    for number, tag, text in event_files.scalars(content):
        yield Reading(tag, text, number, Form.ALONE)


def _of_table(lines: Iterable[bytes], wanted: Collection[str] | None) -> Iterator[Reading]:
    header: list[str] = []
    separator = ","
    rows = enumerate(map(shown_line, lines), 1)
    for number, line in rows:
        if not line:
            continue
        if not header:
            separator = next((mark for mark in ("\t", ";", ",") if mark in line), ",")
            header = _cells(line, separator)
            if len(header) == 1 and ":" in line:
                # No table, whatever its ending: lines of text.
                rest = (text.encode() for _, text in rows)
                for reading in _of_text([line.encode(), *rest], wanted, Form.WITHIN):
                    yield reading._replace(line=reading.line + number - 1)
                return
            continue
        cells = _cells(line, separator)
        # A training that was resumed may write the header once more.
        if cells == header:
            continue
        for name, text in zip(header, cells, strict=False):
            if name and text:
                yield Reading(name, text, number, Form.ALONE)


def _cells(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        # Such as a cell above the module's limit: no row of numbers.
        return []
    return [cell.strip() for cell in cells[:COLUMNS]]


# series


@dataclass(frozen=True)
class Series:
    """The numbers that a name was given. `decimals`: most digits after the point. Not finite numbers are NaN."""

    name: str
    count: int
    first: float
    last: float
    decimals: int
    ends: bool
    """Whether the last of them stands in the last tenth, or the last LATE_LINES, of the lines up to the last one."""
    of_training: bool = False
    """Whether the last of them stands on a line that speaks of the training set, and of no other."""


@dataclass
class ReadingsOfName:
    """The readings of one name: those that count, `last` and the extremes among the finite ones.

    If lines began with `name:` and a number, as was always read, other forms of the name do not count.
    """

    _tallies: dict[bool, _Tally] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        self._tallies.setdefault(reading.form is not Form.WITHIN, _Tally()).add(reading)

    @property
    def counted(self) -> _Tally:
        leading, within = self._tallies.get(True), self._tallies.get(False)
        if leading is None or (within is not None and not leading.has_number):
            return within or _Tally()
        return leading


@dataclass
class _Tally:
    """What is kept of readings in their order."""

    count: int = 0
    first: Reading | None = None
    last: Reading | None = None
    lowest: Reading | None = None
    highest: Reading | None = None
    malformed: Reading | None = None
    """The last with a comma."""
    has_number: bool = False
    decimals: int = 0

    def add(self, reading: Reading) -> None:
        number = reading.number
        self.last = reading
        if number is None:
            if reading.not_finite:
                self.has_number = True
                self.count += 1
                self.first = self.first or reading
            elif reading.meant_as_number:
                self.has_number, self.malformed = True, reading
            return
        self.count += 1
        self.has_number = True
        self.first = self.first or reading
        self.decimals = max(self.decimals, reading.decimals)
        if self.lowest is None or number < (self.lowest.number or 0.0):
            self.lowest = reading
        if self.highest is None or number > (self.highest.number or 0.0):
            self.highest = reading


def series(found: Iterable[Reading]) -> list[Series]:
    """The names with at least one finite number, in the order of their first reading; of more than NAMES the newest.

    Without those whose last number has a comma that may mean two things: `complaints` has them.
    """
    groups: dict[str, ReadingsOfName] = {}
    end = 0
    for reading in found:
        end = max(end, reading.line)
        # Taken out first, so that a name which is read again is the newest in the dict's order.
        group = groups.pop(reading.name, None) or ReadingsOfName()
        groups[reading.name] = group
        group.add(reading)
        if len(groups) > NAMES:
            groups.pop(next(iter(groups)))
    late = min(end - LATE_LINES, end * 0.9)
    found_first: list[tuple[int, Series]] = []
    for name, group in groups.items():
        tally = group.counted
        if tally.lowest is None or tally.first is None or tally.last is None:
            continue
        # A trial would refuse it.
        if tally.last.has_comma:
            continue
        first, last = _number_or_nan(tally.first), _number_or_nan(tally.last)
        ends = tally.last.line > late
        row = Series(name, tally.count, first, last, tally.decimals, ends, tally.last.of_training)
        found_first.append((tally.first.line, row))
    return [row for _, row in sorted(found_first, key=lambda found: found[0])]


def complaints(found: Iterable[Reading]) -> dict[str, str]:
    """Names that `series` leaves out, though they were given what looks like a number, each with why it is none."""
    kept: dict[str, str] = {}
    for reading in found:
        if reading.number is not None:
            kept[reading.name] = ""
        elif reading.has_comma:
            kept[reading.name] = reading.complaint
        elif kept.get(reading.name) != "" and (reading.not_finite or re.search(r"\d", reading.text)):
            # Beside finite ones such texts are passed over.
            kept[reading.name] = reading.complaint
        if len(kept) > NAMES:
            kept.pop(next(iter(kept)))
    return {name: complaint for name, complaint in kept.items() if complaint}


def _number_or_nan(reading: Reading) -> float:
    number = reading.number
    return math.nan if number is None else number


# what could decide

_HELD_OUT = frozenset({"val", "valid", "validation", "eval", "evaluation", "dev", "test", "testing", "heldout"})
_TEST = frozenset({"test", "testing"})
_CHOSEN = frozenset({"best", "final", "last", "mean", "average", "avg"})
_COUNTERS = "epoch epochs step steps iter iters iteration iterations it batch batches number num count total year done"
_SETTINGS = (
    "seed rate momentum decay wd weight warmup norm grad gradient clip scale beta beta1 beta2 eps dropout patience"
)
_DEVICES = (
    "mfu flops memory mem vram ram gpu gpus cuda cpu mps device devices rank world port pid id uid version global v"
    " dataloader"
)
_SIZES = (
    "size params parameters tokens token tok vocab throughput speed images samples examples layers layer heads width"
)
_SIZES += " depth dim hidden workers threads progress remaining line file files kb mb gb mib gib bytes wps ups"
_SIZES += " ratio penalty support"
_BESIDES = frozenset(f"{_COUNTERS} {_SETTINGS} {_DEVICES} {_SIZES}".split())
_TIMES = frozenset(
    {"time", "times", "second", "seconds", "sec", "secs", "s", "ms", "us", "minute", "minutes", "mins", "hour", "hours"}
    | {"elapsed", "eta", "duration", "date", "runtime", "wall"}
)
_RATE = frozenset({"lr", "learning"})


def proposals(found: Iterable[Series]) -> list[Series]:
    """What could decide, best first: held-out metrics before others, known directions before unknown ones.

    Never counters, times, learning rates, devices, ids and sizes, and no setting that is printed once before the end.
    Metrics of the training set only if there is no other whose direction is known.
    """
    rows = list(found)
    candidates = [row for row in rows if _could_decide(row)]
    held_out = [words(row.name) for row in rows if words(row.name) & _HELD_OUT]
    others = [row for row in candidates if not _is_of_training(row, held_out)]
    if any(direction_of(row.name) for row in others):
        candidates = others
    return sorted(candidates, key=_rank)


def _could_decide(row: Series) -> bool:
    # LightGBM prints `valid_0's auc`, which is no time.
    parts = words(row.name.replace("'s ", " "))
    if parts & _TIMES or parts & _RATE:
        return False
    # `epoch_loss` is a loss.
    if direction_of(row.name) is not None:
        return True
    is_setting = row.count == 1 and not row.ends
    return not is_setting and not parts & _BESIDES


def _is_of_training(row: Series, held_out: Collection[frozenset[str]]) -> bool:
    """By its name, by its lines, or as it has a held-out namesake: `loss` has `val_loss`, `Acc` has `Best val Acc`."""
    parts = words(row.name)
    if row.of_training or not parts.isdisjoint(TRAINING):
        return True
    namesakes = [other - parts for other in held_out if parts < other]
    return any(rest <= _HELD_OUT | _CHOSEN for rest in namesakes)


def _rank(row: Series) -> tuple[bool, bool, bool, bool]:
    parts = words(row.name)
    return direction_of(row.name) is None, not parts & _HELD_OUT, bool(parts & _TEST), not row.ends
