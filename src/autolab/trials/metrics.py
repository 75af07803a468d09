"""What a training says of itself: numbers that it prints or writes, in the forms that `readings` knows.

Read with suspicion and without repair. A number that decides must be finite and written with a point; what a program
prints besides is its own affair. A mistake comes back as a `Problem` whose one line names file, line and the way out.

Of printed text, the record gets the names that the lab asks for, in any form, and those of lines `name: value`. A name
that has such lines is read from them alone, so that a lab reads what it read before there were other forms.

Limits: 64 KiB and 200 keys of a flat JSON object (`evaluator.read_metrics`); JSON_BYTES of a nested one; 64 MiB of
text, of which the 200 names printed last are read; for a pattern PATTERN_CHARACTERS of a line and PATTERN_SECONDS.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config, Reduce
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.lab.schemas.record import parse_json
from autolab.sandbox.collect import InvalidFile, open_regular, stored_path
from autolab.text import decode_json, short_names
from autolab.trials.evaluator import METRICS_KEYS, Problem, read_metrics
from autolab.trials.event_files import is_event_file
from autolab.trials.readings import Form, Reading, ReadingsOfName, of_document, read_lines, shown_line

STDOUT, STDERR = "stdout", "stderr"
PRINTED = {STDOUT: "train.out", STDERR: "train.err"}
"""What a training prints, and the log that keeps it."""
TEXT_BYTES = 64 * 1024**2
JSON_BYTES = 4 * 1024**2
PATTERN_CHARACTERS = 500
PATTERN_SECONDS = 60.0
NOTED = 3
"""Names that a note names; it counts the others."""


@dataclass(frozen=True)
class Primary:
    """How the metric that decides is read where it has several readings: which of them, and the lines it stands on."""

    name: str
    reduce: Reduce = "last"
    pattern: str | None = None

    @classmethod
    def of(cls, config: Config) -> Primary:
        return cls(config.metric.primary, config.train.reduce, config.train.pattern)


def read(
    attempt: Path,
    source: str,
    required: Collection[str],
    compared: str | None = None,
    primary: Primary | None = None,
) -> dict[str, float] | Problem:
    """The metrics of a fetched attempt, from where `train.metrics` says; each name of `required` must be among them.

    If the metric that is `compared` is not finite, the training diverged: the metric is returned as NaN, and other
    numbers that are not finite are left out. Of `primary`, the smallest or largest of several numbers may be meant;
    numbers that are not finite are then passed over, unless there is no other.
    """
    matches = _matches(attempt, source)
    if len(matches) > 1:
        names = ", ".join(matches[:NOTED])
        message = f"{source}: {len(matches)} files have such a name ({names}); train.metrics has to name one of them"
        return Problem(TrialOutcome.INVALID_ARTIFACT, message)
    path, label = place(attempt, source)
    primary = primary or Primary("")
    is_json = source.endswith(".json")
    if is_json:
        metrics = _read_json(path, required, compared, primary)
    else:
        metrics = _read_text(path, label, source, required, compared, primary)
    if isinstance(metrics, Problem):
        # The reader knows the file alone, and not the setting that names it.
        if metrics.message.endswith(": not found"):
            way_out = "the training has to leave it in AUTOLAB_TRIAL_DIR, or train.metrics to name another place"
            return Problem(metrics.outcome, f"{label}: not found; {way_out}")
        return metrics
    # A training that diverged need not have printed the other metrics.
    if compared is not None and math.isnan(metrics.get(compared, 0.0)):
        return metrics
    for name in required:
        if name not in metrics:
            form = f"a line `{name}: 0.9979`"
            if primary.pattern is not None and name == primary.name:
                form = f"a line that train.pattern finds: {primary.pattern}"
            elif source.endswith((".csv", ".tsv")):
                form = f"a column {name}"
            elif is_event_file(source):
                form = f"a scalar with the tag {name}"
            elif is_json:
                form = f'{{"{name}": 0.9979}}'
            message = f"{label}: {name} is not in it; it has to be, in the form {form}"
            return Problem(TrialOutcome.INVALID_ARTIFACT, message)
    return metrics


def malformed(attempt: Path, source: str) -> str:
    """The printed lines whose value was meant as a number and is none, in one line of at most NOTED names; else empty.

    A comma, `nan` or `inf` shows what was meant: other texts after a name are a program's own affair. A `.json` file is
    read whole or not at all, so it has nothing of the kind. Names beyond those that are kept are counted too."""
    if source.endswith(".json"):
        return ""
    path, label = place(attempt, source)
    text = _Text((), Primary(""))
    try:
        with open_regular(path, TEXT_BYTES) as file:
            text.read(file, source)
    except InvalidFile:
        return ""  # `read` reports it
    complaints = []
    for name, reading in text.newest.items():
        if reading.meant_as_number and reading.number is None:
            complaints.append(f"line {reading.line}: {name[:60]}: {reading.complaint}")
    notes = complaints[:NOTED]
    if len(complaints) > NOTED:
        notes.append(f"{len(complaints) - NOTED} more like these")
    if len(text.names) > METRICS_KEYS:
        notes.append(f"{len(text.names)} names, of which the last {METRICS_KEYS} are kept")
    return f"{label}: {'; '.join(notes)}" if notes else ""


def place(attempt: Path, source: str) -> tuple[Path, str]:
    """Where the metrics lie in a fetched attempt, and how messages name that place.

    A pattern that no file or several files match is a place where nothing lies."""
    if source in PRINTED:
        return attempt / "logs" / PRINTED[source], f"logs/{PRINTED[source]}"
    matches = _matches(attempt, source)
    name = matches[0] if len(matches) == 1 else source
    return attempt / "train" / name, name


def stored_source(source: str) -> str:
    """Where a fetched attempt has the source that `train.metrics` names. A `*` still stands for any part of a name."""
    return "*".join(map(stored_path, source.split("*")))


def _matches(attempt: Path, source: str) -> list[str]:
    """The files of an attempt that a pattern of paths matches; none if `source` is no pattern."""
    folder = attempt / "train"
    found = folder.glob(source) if "*" in source else ()
    return sorted(str(path.relative_to(folder)) for path in found if path.is_file())


class _Text:
    """What is kept of the readings of a text: of all that is `required`, of other names the newest METRICS_KEYS."""

    def __init__(self, required: Collection[str], primary: Primary) -> None:
        self.required = {name: ReadingsOfName() for name in required}
        self.primary = primary
        self.newest: dict[str, Reading] = {}
        """The last value of each name of a line `name: value`, or of a table."""
        self.names: set[str] = set()
        """No more than 10 times METRICS_KEYS of them."""

    def read(self, lines: Iterable[bytes], source: str) -> None:
        """Keep what the lines hold. InvalidFile: the pattern takes too long."""
        pattern = self.primary.pattern
        by_pattern = ""
        if pattern is not None and self.primary.name in self.required:
            by_pattern = self.primary.name
            lines = self._searched(lines, re.compile(pattern))
        for reading in read_lines(lines, source, self.required):
            if reading.name != by_pattern:
                self._keep(reading)

    def _searched(self, lines: Iterable[bytes], pattern: re.Pattern[str]) -> Iterator[bytes]:
        """The lines, once what the pattern finds on them is kept as readings of the primary metric."""
        until = time.monotonic() + PATTERN_SECONDS
        name = self.primary.name
        for number, raw in enumerate(lines, 1):
            # The lines may be a hostile program's, and the pattern one that is slow on them.
            if time.monotonic() > until:
                raise InvalidFile(
                    f"line {number}: train.pattern took {PATTERN_SECONDS:g} s up to here; make it simpler"
                )
            for match in pattern.finditer(shown_line(raw)[:PATTERN_CHARACTERS]):
                if match[1] is not None:
                    self.required[name].add(Reading(name, match[1].strip(), number, Form.ALONE))
            yield raw

    def _keep(self, reading: Reading) -> None:
        name = reading.name
        if name in self.required:
            self.required[name].add(reading)
        if reading.form is Form.WITHIN:
            return
        # A program may print a new name on each line; memory must not grow with it.
        if len(self.names) <= 10 * METRICS_KEYS:
            self.names.add(name)
        # Taken out first, so that a name which is printed again is the newest in the dict's order.
        self.newest.pop(name, None)
        self.newest[name] = reading
        if len(self.newest) > METRICS_KEYS + len(self.required):
            self.newest.pop(next(other for other in self.newest if other not in self.required))

    def numbers(self, compared: str | None) -> dict[str, float]:
        """The finite numbers. InvalidFile: a required one is anything else, unless the training diverged."""
        chosen = {name: self._chosen(name) for name in self.required}
        diverged = compared is not None and _diverged(chosen.get(compared))
        numbers: dict[str, float] = {}
        for name, newest in (self.newest | chosen).items():
            if newest is None:
                continue
            number = newest.number
            if name not in self.required:
                # As it was always read: other forms are for what the lab asks for.
                if newest.form is Form.ALONE and newest.is_plain and number is not None:
                    numbers[name] = number
            elif number is not None:
                numbers[name] = number
            elif not diverged:
                raise InvalidFile(f"line {newest.line}: {name}: {newest.complaint}")
        numbers = short_names(numbers)
        if diverged and compared is not None:
            numbers[compared] = math.nan
        return numbers

    def _chosen(self, name: str) -> Reading | None:
        """The reading that counts: the last, or the extreme that the primary metric asks for."""
        tally = self.required[name].counted
        extremes = {"min": tally.lowest, "max": tally.highest}
        if name != self.primary.name or self.primary.reduce == "last":
            return tally.last
        # A comma may hide the best of them.
        return tally.malformed or extremes[self.primary.reduce] or tally.last


def _diverged(reading: Reading | None) -> bool:
    return reading is not None and reading.not_finite


def _read_text(
    path: Path, label: str, source: str, required: Collection[str], compared: str | None, primary: Primary
) -> dict[str, float] | Problem:
    text = _Text(required, primary)
    try:
        with open_regular(path, TEXT_BYTES) as file:
            text.read(file, source)
        return text.numbers(compared)
    except InvalidFile as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, f"{label}: {error}")


def _read_json(
    path: Path, required: Collection[str], compared: str | None, primary: Primary
) -> dict[str, float] | Problem:
    """A flat object of numbers, as strict as ever; of any other document the required numbers."""
    flat = read_metrics(path, compared)
    if isinstance(flat, dict) or not required:
        return flat
    try:
        with open_regular(path, JSON_BYTES) as file:
            text = decode_json(file.read(JSON_BYTES + 1))
        document = parse_json(text, path.name, any_number=True)
    except (InvalidFile, RecordError, ValueError):
        return flat
    values = document.values() if isinstance(document, dict) else ()
    if isinstance(document, dict) and all(type(value) in (int, float) for value in values):
        return flat
    found = _Text(required, primary)
    for reading in of_document(text.encode()):
        if reading.name in found.required:
            found.required[reading.name].add(reading)
    try:
        numbers = found.numbers(compared)
    except InvalidFile:
        return flat
    has_parts = any(isinstance(value, dict | list) for value in values)
    # What a flat object lacks or has wrong is said of it as such.
    return numbers if has_parts or set(required) <= set(numbers) else flat
