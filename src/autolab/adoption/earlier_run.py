"""What an earlier `autolab init --from-existing` of the same repository left: its flags, and what the first run did.

The file lies in git's common folder until the lab is made. It saves the user from giving the flags again, and from
another run if nothing that the run depends on has changed.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import JsonValue

from autolab.adoption.detection import AdoptionRequest, Setting
from autolab.adoption.first_run import FirstRun, Printed
from autolab.adoption.program_probe import Probed
from autolab.adoption.repository import Repository
from autolab.errors import RecordError
from autolab.files import sha256_of, write_whole
from autolab.lab.git import common_dir
from autolab.lab.schemas.config import Config, Direction, Reduce
from autolab.lab.schemas.record import Record
from autolab.lab.trial_python import trial_python
from autolab.sandbox.exit_record import TrialOutcome
from autolab.text import decode
from autolab.trials import inputs
from autolab.trials.interpreter import packages_hash
from autolab.trials.readings import Series

VERSION = 2
UNREAD = 50
FILES = 100_000
"""Files of a folder of data whose size and time are compared."""
_TEXTS = ("out", "err")
_LEFT_OUT = ("files", "times", *_TEXTS)
"""What is not kept of a run, or not as it is: contents of files, and times."""
TEXT_BYTES = 200_000
"""A longer text that was printed is not kept; its series are."""
_PATHS = ("python",)
_PARTS = ("command", "commit", "data", "Python", "environment")


class EarlierSetting(Record):
    key: str
    content: JsonValue
    reason: str


class EarlierSeries(Record):
    """A series that the program printed. A last or first value that is no finite number is None."""

    source: str
    name: str
    count: int
    first: float | None
    last: float | None
    decimals: int
    ends: bool
    of_training: bool


class EarlierRun(Record):
    """`conditions`: what the run depends on, as `conditions_of` has it. `at`: local time, "2026-03-01 14:02"."""

    conditions: dict[str, str]
    bound: dict[str, str]
    """Data that the run was seen to need, each with its fingerprint."""
    added: list[EarlierSetting]
    """Settings that the run brought, new ones and others of the same key."""
    at: str
    probed: dict[str, JsonValue]
    """What it did, without what it printed."""
    series: list[EarlierSeries]
    unread: dict[str, str]
    """Names whose numbers cannot be read, each with the reason; UNREAD at most."""
    missing: list[str]
    """What kept it from its end, a line each; it is run again then."""

    @property
    def time_of_day(self) -> str:
        """When it was, such as 14:02; with the date if that is not today's."""
        day, _, clock = self.at.partition(" ")
        return clock if day == time.strftime("%Y-%m-%d") else self.at


class EarlierFlags(Record):
    """The flags that were given, as an `AdoptionRequest` has them; paths are texts."""

    train_command: str | None = None
    metric: str | None = None
    reduce: Reduce | None = None
    metric_pattern: str | None = None
    direction: Direction | None = None
    delta: float | None = None
    data: tuple[str, ...] = ()
    python: str | None = None


class EarlierAdoption(Record):
    """The document."""

    FILE: ClassVar[str] = "autolab.adoption.json"

    version: Literal[2]
    flags: EarlierFlags
    run: EarlierRun


@dataclass(frozen=True)
class RunConditions:
    """What a run depends on, each part as a text that is compared."""

    parts: dict[str, str]

    def changes(self, run: EarlierRun) -> list[str]:
        """The parts that are others than those of the run."""
        return [part for part in _PARTS if self.parts.get(part) != run.conditions.get(part)]


def place(root: Path) -> Path:
    return common_dir(root) / EarlierAdoption.FILE


def recall(root: Path, tell: Callable[[str], None]) -> EarlierAdoption | None:
    """What was kept, or None. A file that cannot be read is told and ignored."""
    path = place(root)
    if not os.path.lexists(path):
        return None
    try:
        version = json.loads(path.read_bytes()).get("version")
        if version != VERSION:
            tell(f"note: {path}: of another version ({version}), so it is ignored")
            return None
        return EarlierAdoption.load(path, str(path))
    except (RecordError, OSError, ValueError, AttributeError) as error:
        tell(f"note: {path}: cannot be read, so it is ignored: {error}")
        return None


def keep(root: Path, request: AdoptionRequest, run: EarlierRun) -> None:
    """Write flags and run, atomically."""
    flags = {name: str(value) if name in _PATHS else value for name, value in _flags(request).items()}
    document = EarlierAdoption.from_value(
        {"version": VERSION, "flags": flags, "run": run.value()}, EarlierAdoption.FILE
    )
    write_whole(place(root), document.to_json(), mode=0o600)


def forget(root: Path) -> None:
    place(root).unlink(missing_ok=True)


def filled(request: AdoptionRequest, earlier: EarlierAdoption) -> tuple[AdoptionRequest, str]:
    """The request with the earlier flags where it has none of its own, and those as words of a command line."""
    update: dict[str, Any] = {}
    words = []
    given = _flags(request)
    for name, value in earlier.flags.value().items():
        if value in (None, []) or name in given:
            continue
        update[name] = Path(value) if name in _PATHS else value
        values = value
        if isinstance(value, list):
            update[name] = tuple(value)
        else:
            values = [value]
        words += [f"--{name.replace('_', '-')} {shlex.quote(str(one))}" for one in values]
    return replace(request, **update), " ".join(words)


def _flags(request: AdoptionRequest) -> dict[str, Any]:
    values = {name: getattr(request, name) for name in EarlierFlags.model_fields}
    return {name: value for name, value in values.items() if value is not None and value != ()}


def conditions_of(repository: Repository, settings: Sequence[Setting], config: Config) -> RunConditions:
    """What the run of these settings depends on. LabError: the interpreter does not start."""
    # Not what is read off the output afterwards, nor what the lab is to do with its files.
    ours = ("metric.", "files.", "train.metrics", "train.pattern", "train.reduce", "executor.", "python", "data")
    of_run = [setting for setting in settings if not setting.key.startswith(ours)]
    command = {setting.key: setting.value for setting in of_run}
    installed = packages_hash(Path(trial_python(repository.root, config)))
    data = [setting.value for setting in settings if setting.key == "data"]
    user = inputs.from_user(config.train.env)
    return RunConditions(
        {
            "command": json.dumps(command, sort_keys=True),
            "commit": repository.head,
            "data": json.dumps([data, _fingerprints(repository, settings)], sort_keys=True),
            "Python": str(config.python),
            "environment": sha256_of(json.dumps([installed.version, installed.packages_sha256, sorted(user.items())])),
        }
    )


def record_of(
    repository: Repository, conditions: RunConditions, before: Sequence[Setting], run: FirstRun
) -> EarlierRun:
    """A run as it is kept; `before` are the settings that it began with."""
    added = [setting for setting in run.settings if setting not in before]
    series = []
    for printed in run.printed:
        row = {name: None if value != value else value for name, value in asdict(printed.series).items()}
        series.append({"source": printed.source, **row})
    probed = {name: value for name, value in asdict(run.probed).items() if name not in _LEFT_OUT}
    probed |= {name: _kept_text(getattr(run.probed, name)) for name in _TEXTS}
    value = {
        "conditions": conditions.parts,
        "bound": _fingerprints(repository, added),
        "added": [{"key": one.key, "content": one.value, "reason": one.reason} for one in added],
        "at": run.at,
        "probed": probed,
        "series": series,
        "unread": dict(list(run.unread.items())[:UNREAD]),
        "missing": [str(finding) for finding in run.missing],
    }
    return EarlierRun.from_value(value, EarlierAdoption.FILE)


def restored(repository: Repository, settings: Sequence[Setting], earlier: EarlierRun) -> FirstRun | None:
    """The earlier run as the first run of these settings. None: data that it was seen to need have changed."""
    added = [Setting(one.key, one.content, one.reason) for one in earlier.added]
    if _fingerprints(repository, added) != earlier.bound:
        return None
    values: dict[str, Any] = {name: _unlisted(value) for name, value in earlier.probed.items()}
    values |= {name: str(values[name]).encode() for name in _TEXTS}
    values |= {"outcome": TrialOutcome(values["outcome"])}
    printed = []
    for row in earlier.series:
        first = math.nan if row.first is None else row.first
        last = math.nan if row.last is None else row.last
        series = Series(row.name, row.count, first, last, row.decimals, row.ends, row.of_training)
        printed.append(Printed(row.source, series))
    new_keys = {setting.key for setting in added}
    kept = [setting for setting in settings if setting.key not in new_keys]
    return FirstRun([*kept, *added], Probed(**values), tuple(printed), earlier.at, unread=earlier.unread)


def _kept_text(printed: bytes) -> str:
    return decode(printed) if len(printed) <= TEXT_BYTES else ""


def _unlisted(value: JsonValue) -> object:
    return tuple(value) if isinstance(value, list) else value


def _fingerprints(repository: Repository, settings: Sequence[Setting]) -> dict[str, str]:
    """Of all data that the settings name, a hash over names, sizes and times of the files."""
    hashes = {}
    for setting in settings:
        if setting.key == "data":
            for folder in _folders(setting.value):
                hashes[folder] = _fingerprint(repository.root / os.path.expanduser(folder))
    return hashes


def _folders(value: object) -> list[str]:
    """The paths in a setting: a text, or texts in lists and mappings."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [path for inner in value.values() for path in _folders(inner)]
    if isinstance(value, list | tuple):
        return [path for inner in value for path in _folders(inner)]
    return []


def _fingerprint(source: Path) -> str:
    rows = []
    for path in (source, *sorted(source.rglob("*"))):
        try:
            status = path.stat()
        except OSError:
            # A broken link; trials say so.
            continue
        rows.append(f"{path.relative_to(source)} {status.st_size} {status.st_mtime_ns}")
        if len(rows) >= FILES:
            break
    return sha256_of("\n".join(rows))
