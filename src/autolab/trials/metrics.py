"""What a training says of itself: one JSON object, or lines `name: value` in a file or on its standard output.

Read with suspicion and without repair. A number that decides must be a finite one written with a point; what a
program prints besides is its own affair. Mistakes come back as a `Problem` whose one line names file, line and the
way out.

Limits: 64 KiB and 200 keys of JSON (`evaluation.read_metrics`); 64 MiB of text, of which the 200 names said last are
taken. Of a line that a program wrote over (carriage returns) what a terminal would show at its end counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from io import BufferedReader
from pathlib import Path

from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.text import decode, short_names
from autolab.trials import evaluator
from autolab.trials.evaluator import METRICS_KEYS, Problem, read_metrics

STDOUT = "stdout"
TEXT_BYTES = 64 * 1024**2
_LINE = re.compile(r"\s*([A-Za-z_][^\s:]{0,99})\s*:\s*(\S.*?)\s*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.A)
_COMMA = re.compile(r"[-+]?\d+,\d+", re.A)
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.I)
NOTED = 3
"""Names that a note names; it counts the others."""


def read(
    attempt: Path, source: str, required: Collection[str], compared: str | None = None
) -> dict[str, float] | Problem:
    """The metrics of a fetched attempt, from where `train.metrics` says; each name of `required` must be among them.

    Where the one that is `compared` is NaN or infinite, it is returned as NaN, without those that are no finite
    numbers: such a training diverged.
    """
    shown = "logs/train.out" if source == STDOUT else source
    path = attempt / (shown if source == STDOUT else f"train/{source}")
    flat = source.endswith(".json")
    found = read_metrics(path, compared) if flat else _read_lines(path, shown, required, compared)
    if isinstance(found, Problem):
        wanted = "the training has to leave it in AUTOLAB_TRIAL_DIR, or train.metrics to name another place"
        missing = found.message.endswith(": not found")
        return Problem(found.outcome, f"{shown}: not found; {wanted}") if missing else found
    if compared is not None and evaluator.not_finite(found.get(compared)):
        return found
    for name in required:
        if name not in found:
            form = f'{{"{name}": 0.9979}}' if source.endswith(".json") else f"a line `{name}: 0.9979`"
            return Problem(
                TrialOutcome.INVALID_ARTIFACT, f"{shown}: {name} is not in it; it has to be, in the form {form}"
            )
    return found


def malformed(attempt: Path, source: str) -> str:
    """What of the printed lines was meant as a number and is none, in one line of at most NOTED names; else empty.

    A comma, `nan` or `inf` shows what was meant: other texts after a name are a program's own affair. A `.json` file is
    read whole or not at all, so it has nothing of the kind. Also said: names beyond those that are kept."""
    if source.endswith(".json"):
        return ""
    shown = "logs/train.out" if source == STDOUT else source
    path = attempt / (shown if source == STDOUT else f"train/{source}")
    try:
        with open_regular(path, TEXT_BYTES) as file:
            names, said = _names_and_said(file)
    except InvalidFile:
        return ""  # `read` has said why
    wrong = [name for name, (_, text) in said.items() if _meant_as_number(text)]
    notes = [f"line {said[name][0]}: {name[:60]}: {_complaint(said[name][1])}" for name in wrong[:NOTED]]
    if len(wrong) > NOTED:
        notes.append(f"{len(wrong) - NOTED} more like these")
    if names > METRICS_KEYS:
        notes.append(f"{names} names, of which the last {METRICS_KEYS} are kept")
    return f"{shown}: {'; '.join(notes)}" if notes else ""


def _names_and_said(file: BufferedReader) -> tuple[int, dict[str, tuple[int, str]]]:
    """How many different names were given, counted up to some more than are kept, and the newest of them."""
    names: set[str] = set()
    said: dict[str, tuple[int, str]] = {}
    for name, line, text in _lines(file):
        if len(names) <= 10 * METRICS_KEYS:
            names.add(name)
        said.pop(name, None)
        said[name] = line, text
        if len(said) > METRICS_KEYS:
            said.pop(next(iter(said)))
    return len(names), said


def _meant_as_number(text: str) -> bool:
    is_number = _NUMBER.fullmatch(text) is not None and abs(float(text)) < 1e308
    looks_like_one = _COMMA.fullmatch(text) or _NOT_FINITE.fullmatch(text) or _NUMBER.fullmatch(text)
    return not is_number and looks_like_one is not None


def _lines(file: BufferedReader) -> Iterator[tuple[str, int, str]]:
    """Each line that gives a name: the name, the line's number, the text behind the colon."""
    for number, raw in enumerate(file, 1):
        shown = decode(raw.rstrip(b"\r\n").rpartition(b"\r")[2])
        match = _LINE.fullmatch(shown)
        if match:
            yield match[1], number, match[2]


def _read_lines(path: Path, shown: str, required: Collection[str], compared: str | None) -> dict[str, float] | Problem:
    try:
        with open_regular(path, TEXT_BYTES) as file:
            said = _said(file, required)
        if compared in said and _not_finite(said[compared][1]):
            return _numbers(said, ()) | {compared: math.nan}
        return _numbers(said, required)
    except InvalidFile as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, f"{shown}: {error}")


def _said(file: BufferedReader, required: Collection[str]) -> dict[str, tuple[int, str]]:
    """Each name with the line and the text that it was last given: all of `required`, of others the newest."""
    said: dict[str, tuple[int, str]] = {}
    for name, line, text in _lines(file):
        said.pop(name, None)
        said[name] = line, text
        if len(said) > METRICS_KEYS + len(required):
            said.pop(next(one for one in said if one not in required))
    return said


def _numbers(said: Mapping[str, tuple[int, str]], required: Collection[str]) -> dict[str, float]:
    """The finite numbers of what was said. Refused where a required one is anything else."""
    numbers: dict[str, float] = {}
    for name, (line, text) in said.items():
        if _NUMBER.fullmatch(text) and abs(float(text)) < 1e308:
            numbers[name] = float(text)
        elif name in required:
            raise InvalidFile(f"line {line}: {name}: {_complaint(text)}")
    return short_names(numbers)


def _not_finite(text: str) -> bool:
    """Whether a text is a number, and no finite one."""
    if _NUMBER.fullmatch(text):
        return not abs(float(text)) < 1e308
    return _NOT_FINITE.fullmatch(text) is not None


def _complaint(text: str) -> str:
    if _COMMA.fullmatch(text):
        return f"{text} has a comma; write {text.replace(',', '.')} with a point (and nothing between thousands)"
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return f"{text[:60]} is not a finite number; a training without a result has to end with a status above 0"
    return f"{text[:60]!r} is not a number; write the number alone, such as 0.9979"
