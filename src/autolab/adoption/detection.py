"""The settings of an adopted repository's lab: those that the user gives, and those that are detected, with reasons."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.adoption import data_entries
from autolab.adoption.repository import Repository
from autolab.adoption.training_program import Program
from autolab.errors import LabError, UsageError
from autolab.lab.schemas.config import Direction, Reduce
from autolab.lab.schemas.data_entry import DataEntry
from autolab.lab.schemas.pattern import refuse_pattern
from autolab.reports import results_table
from autolab.stats.metric_names import direction_of, is_of_training
from autolab.text import one_line
from autolab.trials import line_forms, metrics, readings

MEASURES = ("program.md", "prepare.py", "eval.py", "evaluate.py", "evaluation.py", "metrics.py")
"""Files that say what is wanted or how it is measured, by their usual names: frozen if they are committed."""
FROZEN = ("program.md", "meta_journal.md")
"""What a lab always freezes; both are written where the repository has none."""
DELTA = 0.01
GIVEN = "given"
_COUNTS = {"last": "the last one counts", "min": "the smallest counts", "max": "the largest counts"}
TABLES = 100
"""Names that are tried for the table of results."""

# `"val_loss: {x}"`, `'accuracy: %.3f'`, `"error_rate:", x`, `"perplexity: $x"`
_PRINTED = re.compile(r"""["'](?:\\n)?([A-Za-z_][\w./-]*)[ \t]*:[ \t]*(?:[{%$]|["'][ \t]*[,+.\w])""")
# A text in quotes, and in it the places where values go: `{x:.4f}`, `%.4f`, `$x`.
_TEXT = re.compile(r"\"([^\"\n]*)\"|'([^'\n]*)'")
_PLACE_OF_VALUE = re.compile(r"\{[^{}]*\}|%[-+ #0]*\d*(?:\.\d+)?[dfegsi]|\$\{?\w+\}?")
# What is left of a value, a percentage and a ratio once their places hold zeros.
_ZEROS = re.compile(r"0(?:/\d+)?(?:\(0%\)|%)?")
_ESCAPED = re.compile(r"\\[nrt]")
_PRINTS = re.compile(r"\b(print|println|printf|echo|write|cat|puts)\b")
_NOT_STDOUT = re.compile(r"\blog(ger|ging)?\.|stderr|>&2")
_JSON_FILE = re.compile(r"""["']([\w./-]*\w\.json)["']""")
_FOLDER = re.compile(r"""["'](\w[\w.-]*)(?:/[\w./-]*)?["']""")


@dataclass(frozen=True)
class AdoptionRequest:
    """What the user says of the training program. What is None is detected."""

    train_command: str | None = None
    metric: str | None = None
    reduce: Reduce | None = None
    metric_pattern: str | None = None
    direction: Direction | None = None
    delta: float | None = None
    data: tuple[str, ...] = ()
    python: Path | None = None
    probe_seconds: float | None = 0
    """0: the training is not tried. None: as long as is usual, unless an earlier run still counts."""


@dataclass(frozen=True)
class Setting:
    """A key of the configuration, its value, and where the value is from."""

    key: str
    value: object
    reason: str

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, list):
            text = ", ".join(map(_item_text, value)) or "none"
        elif value is None:
            text = "-"
        elif isinstance(value, str):
            text = value
        else:
            text = json.dumps(value)
        return f"{self.key:<21} {text}  ({self.reason})"


def _item_text(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    text = f"{item['path']} at {item['at']}" if "at" in item else str(item["path"])
    return f"{text} (writable)" if item.get("writable") else text


def settings_of(repository: Repository, program: Program, request: AdoptionRequest) -> list[Setting]:
    """All settings. UsageError names an option that does not fit, or that has to be given."""
    metric = metric_setting(program, request)
    settings = [
        Setting("train.command", program.command, GIVEN if request.train_command else "the last commit has it"),
        metric,
        *_goodness(str(metric.value), request),
        *_reading(program, str(metric.value), request),
        Setting("train.in_copy", True, "what it writes beside itself goes into a copy of the code, thrown away"),
    ]
    if program.python is not None:
        settings.insert(1, Setting("python", program.python.path, program.python.reason))
    # Trials get no variable of the user's that is not named here.
    if program.env:
        settings.append(Setting("train.env", list(program.env), "; ".join(program.env.values())))
    settings += _data(repository, program, request.data)
    settings += _files(repository, program)
    slots = "one training at a time; more where cores and memory allow"
    settings.append(Setting("executor.options", {"slots": 1}, slots))
    return settings


def has_clear_metric(program: Program) -> bool:
    """Whether the program's text has one metric that can decide."""
    return len(likely_metrics(program)[1]) == 1


def metric_setting(program: Program, request: AdoptionRequest) -> Setting:
    """The metric that decides. UsageError: the program's text names none, or several."""
    if request.metric:
        return Setting("metric.primary", one_line(request.metric), GIVEN)
    names, likely = likely_metrics(program)
    # Of several only the user knows which one decides.
    if len(likely) == 1:
        return Setting("metric.primary", likely[0], f"{program.script} prints it")
    problem = "no metric was found"
    if names:
        problem = f"{program.name} prints {', '.join(likely or names)}"
    example = likely[0] if likely else "val_loss"
    raise UsageError(f"--metric: {problem}; name the one that decides, such as --metric {example}")


def likely_metrics(program: Program) -> tuple[list[str], list[str]]:
    """The names that the program's text prints with a value, and those of them that could decide."""
    names = _printed_names(program)
    likely = [name for name in names if direction_of(name)]
    if not likely:
        names = list(dict.fromkeys([*names, *_names_within(program)]))
        likely = [name for name in names if direction_of(name) and not is_of_training(name)]
    return names, likely


def is_clear_once_it_runs(program: Program) -> bool:
    """Whether a run that prints what the program's text has would show one metric that can decide."""
    names, _ = likely_metrics(program)
    rows = [readings.Series(name, count=2, first=0.0, last=0.0, decimals=1, ends=True) for name in names]
    return sum(direction_of(row.name) is not None for row in readings.proposals(rows)) == 1


def _printed_names(program: Program) -> list[str]:
    """Names that the program prints at the beginning of a text, followed by a colon and a value."""
    names: list[str] = []
    for line in program.text.split("\n"):
        # A log goes to standard error, where trials do not look for the metric.
        if not _NOT_STDOUT.search(line):
            names += _PRINTED.findall(line)
    return list(dict.fromkeys(names))


def _names_within(program: Program) -> list[str]:
    """Names that stand before a value anywhere in a text that the program prints, as trials would read them."""
    names: list[str] = []
    for line in program.text.split("\n"):
        if _NOT_STDOUT.search(line) or not _PRINTS.search(line):
            continue
        for text in _TEXT.findall(line):
            printed = _PLACE_OF_VALUE.sub("0", _ESCAPED.sub(" ", text[0] or text[1]))
            for name, value in line_forms.pairs(printed):
                # A number that the text holds itself is no result.
                if _ZEROS.fullmatch(value):
                    names.append(name)
    return list(dict.fromkeys(names))


def _goodness(metric: str, request: AdoptionRequest) -> Iterator[Setting]:
    """The direction that is better, and the smallest difference worth having."""
    if request.direction is not None:
        yield Setting("metric.direction", request.direction, GIVEN)
    else:
        direction = direction_of(metric)
        if direction is None:
            raise UsageError(f"--direction: {metric} does not say which way is good; give minimize or maximize")
        yield Setting("metric.direction", direction, "by its name")
    if request.delta is None:
        reason = f"the smallest difference in {metric} that is worth having: only you know it"
        yield Setting("metric.success_delta", DELTA, reason)
        return
    if not 0 < request.delta < float("inf"):
        raise UsageError(f"--delta: {request.delta:g} is not a positive number")
    yield Setting("metric.success_delta", request.delta, GIVEN)


def _reading(program: Program, metric: str, request: AdoptionRequest) -> Iterator[Setting]:
    """Where trials write the metric, standard output or a JSON file, and which of its numbers counts."""
    if request.metric_pattern is None:
        yield _source(program, metric, _COUNTS[request.reduce or "last"])
    else:
        try:
            refuse_pattern(request.metric_pattern)
        except ValueError as error:
            raise UsageError(f"--metric-{error}") from None
        yield Setting("train.metrics", metrics.STDOUT, "where the pattern is searched")
        yield Setting("train.pattern", request.metric_pattern, GIVEN)
    if request.reduce is not None:
        yield Setting("train.reduce", request.reduce, GIVEN)


def _source(program: Program, metric: str, counts: str) -> Setting:
    key = "train.metrics"
    if metric in _printed_names(program):
        return Setting(key, metrics.STDOUT, f"lines `{metric}: NUMBER`, {counts}")
    if metric in _names_within(program):
        return Setting(key, metrics.STDOUT, f"`{metric}` before a NUMBER, {counts}")
    paths = []
    for path in dict.fromkeys(_JSON_FILE.findall(program.text)):
        # By its name, as other JSON files hold settings or data.
        if re.search("metric|result|score|summary", path) and ".." not in path:
            paths.append(path)
    if len(paths) == 1 and not paths[0].startswith("/"):
        return Setting(key, paths[0], "the script names it; relative to the folder it runs in")
    return Setting(key, metrics.STDOUT, f"no text with `{metric}` and a NUMBER was found; the program has to print it")


def _data(repository: Repository, program: Program, texts: Sequence[str]) -> Iterator[Setting]:
    """The training data: what is given and what was fetched, or the one folder that the script names and git lacks."""
    entries = data_entries.given(repository, texts)
    reasons = [GIVEN] if entries else []
    for entry, origin in data_entries.fetched(repository):
        entries = data_entries.merged(entries, [entry])
        reasons.append(origin)
    if entries:
        yield Setting("data", data_entries.value_of(entries), "; ".join(dict.fromkeys(reasons)))
        return
    folders = named_folders(repository, program)
    if len(folders) == 1:
        yield Setting("data", folders[0], "the script names it, and it is not committed")


def named_folders(repository: Repository, program: Program) -> list[str]:
    """The folders of the checkout that the script names and that git does not hold."""
    folders = []
    names = dict.fromkeys(_FOLDER.findall(program.text))
    for name in [posixpath.join(repository.folder, name) for name in names]:
        # A committed folder is part of the code that each trial gets.
        if (repository.root / name).is_dir() and not repository.holds(name):
            folders.append(name)
    return folders


def with_data(settings: Sequence[Setting], entries: Sequence[DataEntry]) -> list[Setting]:
    """The settings with these entries as the data."""
    reason = "the program reads it, and git does not hold it"
    others = []
    for setting in settings:
        if setting.key == "data":
            reason = f"{setting.reason}; {reason}" if reason not in setting.reason else setting.reason
        else:
            others.append(setting)
    return [*others, Setting("data", data_entries.value_of(entries), reason)]


def _files(repository: Repository, program: Program) -> Iterator[Setting]:
    # The training script itself is what candidates change.
    usual = dict.fromkeys([*MEASURES, *(posixpath.join(repository.folder, path) for path in MEASURES)])
    measures = [path for path in usual if path != program.script and repository.holds(path)]
    frozen = list(dict.fromkeys([*measures, *FROZEN]))
    yield Setting("files.frozen", frozen, "no candidate may change them; add what else measures")
    table = _table(repository, program)
    reason = "the lab's documents"
    if table != "results.tsv":
        reason += "; results.tsv is yours and stays as it is"
    yield Setting("files.global", ["RESEARCH_JOURNAL.md", table, "FINDINGS.md"], reason)


def _table(repository: Repository, program: Program) -> str:
    """results.tsv, unless one of another form exists or the repository speaks of one."""
    texts = program.text + program.neighbours
    if (repository.root / "program.md").is_file():
        texts += repository.text("program.md")
    names = [f"autolab_results_{number}.tsv" for number in range(2, TABLES)]
    names.insert(0, "autolab_results.tsv")
    # A program that speaks of its own results.tsv would write into the lab's.
    if "results.tsv" not in texts:
        names.insert(0, "results.tsv")
    for name in names:
        path = repository.root / name
        if not os.path.lexists(path) or _is_lab_table(path):
            return name
    raise LabError(f"{repository.root}: {TABLES} tables of results, and none of a lab; move them away")


def _is_lab_table(path: Path) -> bool:
    if not path.is_file():
        return False
    header = path.read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    return results_table.columns_of(header) is not None
