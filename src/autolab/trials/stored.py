"""Finished trials by content, for reuse: `trials/<content>.json`, each a copy of the ledger line that recorded it.

A copy says where its line begins and what the line's hash is. What is reused is held against that line, which costs one
read whatever the ledger's length; a copy that says anything else is not taken over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from autolab import files
from autolab.errors import RecordError
from autolab.lab.ledger import Ledger, Line, seal
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats.plan import AGAIN

RECORDS = ("trial", "trial_known")
"""Events that record a trial: one that ended here, or that a replay takes over from the ledger it replays."""
WAY_OUT = "`autolab doctor --fix` takes it from the ledger again"


TREE, COMMAND, SETTINGS, SEED = "tree", "command", "settings", "seed"
DATA, EVALUATOR, ENVIRONMENT = "data", "evaluator", "environment"
"""Keys of the hashed text of a content key: if one of them changes, no stored trial is found any more."""


class InvalidEntry(RecordError):
    """A stored trial that its ledger line does not bear out."""


@dataclass(frozen=True)
class StoredTrials:
    """The folder `trials/` of `store`, each file of which is held against its line in `ledger`."""

    store: Path
    ledger: Ledger

    def place(self, content: str) -> Path:
        return self.store / "trials" / content[:2] / f"{content}.json"

    def keep(self, line: Line, iteration_id: str) -> None:
        """Store the trial that `line` records. The same line again writes the same file."""
        trial = line.data["trial"]
        where = {"ledger": {"offset": line.offset, "hash": line.hash}}
        told = where | {"iteration_id": iteration_id, "run_id": line.data["run_id"]} | trial
        path = self.place(trial["content"])
        aside(path)
        files.write_whole(path, json.dumps(told))

    def find(self, content: str) -> tuple[Trial, str] | None:
        """The stored trial and where it ran (`<iteration>/<run>/<trial>`); None where there is none. Unfit."""
        path = self.place(content)
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else "not JSON"
            raise self._unfit(path, f"cannot be read: {why}") from None
        if not isinstance(value, dict) or not isinstance(value.get("ledger"), dict):
            raise self._unfit(path, "names no line of the ledger")
        line = self._line(value.pop("ledger"))
        if line is None:
            raise self._unfit(path, "the ledger has no such line")
        iteration_id, run_id = str(value.pop("iteration_id", "")), value.pop("run_id", "")
        recorded = line.data["trial"]
        if recorded.get("content") != content:
            raise self._unfit(path, f"line {line.n} of the ledger, which it names, records another trial")
        if (value, run_id) != (recorded, line.data["run_id"]):
            since = f"edited since line {line.n} of the ledger recorded it"
            raise self._unfit(path, f"{_difference(value, recorded)}: {since}")
        if f".{iteration_id}.{run_id}." not in recorded["key"]:
            raise self._unfit(path, f"iteration_id: is not that of line {line.n} of the ledger")
        return Trial.from_value(value, str(path)), f"{iteration_id}/{run_id}/{recorded['trial']}"

    def _unfit(self, path: Path, why: str) -> InvalidEntry:
        return InvalidEntry(f"stored trial .git/autolab/{path.relative_to(self.store)}: {why}")

    def _line(self, where: dict[str, Any]) -> Line | None:
        """The ledger line that a stored trial names, if it stands there and is what its hash says."""
        offset = where.get("offset")
        if type(offset) is not int or offset < 0:
            return None
        line = next(self.ledger.lines(offset), None)
        if line is None or line.offset != offset or line.event not in RECORDS or line.hash != where.get("hash"):
            return None
        return line if line.hash == seal(line.n, line.time, line.event, line.data, line.prev) else None

    def contents(self) -> list[str]:
        """The content keys of all that is stored."""
        return sorted(path.stem for path in (self.store / "trials").glob("??/*.json"))

    def check(self) -> Iterator[str]:
        """A line for each stored trial that its ledger line does not bear out."""
        for content in self.contents():
            try:
                self.find(content)
            except RecordError as error:
                yield f"{error}; {WAY_OUT}"

    def fix(self) -> Iterator[str]:
        """Write again what the ledger does not bear out, keeping what was there; a line for each.

        What no line of the ledger records is put aside: the trial is measured anew when it is wanted.
        """
        wrong = {}
        for content in self.contents():
            try:
                self.find(content)
            except RecordError as error:
                wrong[content] = str(error)
        if not wrong:
            return
        recorded: dict[str, Line] = {}
        for line in self.ledger.lines():
            if line.event in RECORDS and (content := _reusable(line)) in wrong:
                recorded.setdefault(content, line)
        for content, why in wrong.items():
            path = self.place(content)
            copy = path.with_name(f"{path.name}.edited.{len(list(path.parent.glob(f'{path.name}.edited.*')))}")
            path.rename(copy)
            what = "no line of the ledger records it: put aside"
            if content in recorded:
                line = recorded[content]
                self.keep(line, line.data["trial"]["key"].split(".")[1])
                what = "written again from the ledger"
            yield f"{why}; {what}, the old one is {copy.name}"


def aside(path: Path) -> None:
    """Make room for a file where something lies that a file cannot replace; what lies there is kept beside it."""
    if path.is_dir() and not path.is_symlink():
        number = len(list(path.parent.glob(f"{path.name}.aside.*")))
        path.rename(path.with_name(f"{path.name}.aside.{number}"))


def _difference(value: dict[str, Any], recorded: dict[str, Any]) -> str:
    names = [*recorded, *value]
    return next((name for name in names if value.get(name) != recorded.get(name)), "run_id")


def _reusable(line: Line) -> str:
    """The content of a trial that may stand for another of the same content; empty where it may not."""
    trial = line.data["trial"]
    # Calibration's second training of one seed has the content of the first, and is never what is stored.
    own = trial["reused_from"] is None and trial["arm"] != AGAIN
    return str(trial["content"]) if own and trial["outcome"] == TrialOutcome.COMPLETED else ""


def content_key(
    *,
    tree: str,
    command: JsonValue,
    settings: dict[str, JsonValue],
    seed: int,
    data: JsonValue,
    evaluator: str | None,
    environment: str | None,
) -> str:
    """SHA-256 of everything a trial's result depends on: trials with equal keys need to run once.

    `tree` is the git tree of the code (not the commit), the others are the commands and hashes in force.
    """
    parts: dict[str, JsonValue] = {
        TREE: tree,
        COMMAND: command,
        SETTINGS: settings,
        SEED: seed,
        DATA: data,
        EVALUATOR: evaluator,
        ENVIRONMENT: environment,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
