"""Finished trials by content, for reuse: `trials/<content>.json` says where in the ledger a trial is recorded.

The file names the offset of the ledger line and its hash, so that a look-up costs one read whatever the ledger's
length. What is reused is the trial of the line itself: no number is read from the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from autolab import files
from autolab.errors import RecordError
from autolab.lab.ledger import Ledger, Line, seal
from autolab.lab.schemas.events import TrialEnded, TrialKnown, read
from autolab.lab.schemas.experiment import Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.stats.plan import AGAIN

RECORDS: dict[str, type[TrialEnded | TrialKnown]] = {TrialEnded.KIND: TrialEnded, TrialKnown.KIND: TrialKnown}
"""Events that record a trial: one that ended here, or that a replay takes over from the ledger it replays."""
WAY_OUT = "`autolab doctor --fix` takes it from the ledger again"


TREE, COMMAND, SETTINGS, SEED = "tree", "command", "settings", "seed"
DATA, EVALUATOR, ENVIRONMENT = "data", "evaluator", "environment"
"""Keys of the hashed text of a content key: if one of them changes, no stored trial is found any more."""


class InvalidEntry(RecordError):
    """A stored trial that no ledger line confirms."""


@dataclass(frozen=True)
class StoredTrials:
    """The folder `trials/` of `store`, and the `ledger` that its files point into."""

    store: Path
    ledger: Ledger

    def place(self, content: str) -> Path:
        return self.store / "trials" / content[:2] / f"{content}.json"

    def keep(self, line: Line) -> None:
        """Store the trial that `line` records. The same line again writes the same file."""
        path = self.place(_trial(line).content)
        aside(path)  # a user may have put anything there
        files.write_whole(path, json.dumps({"ledger": {"offset": line.offset, "hash": line.hash}}))

    def find(self, content: str) -> tuple[Trial, str] | None:
        """The stored trial and where it ran (`<iteration>/<run>/<trial>`); None if there is none.

        InvalidEntry: the file names no ledger line that records this trial.
        """
        path = self.place(content)
        try:
            reference = json.loads(path.read_bytes())["ledger"]
            offset, digest = reference["offset"], reference["hash"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._invalid(path, f"cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise self._invalid(path, "cannot be read: not JSON") from None
        except (TypeError, KeyError):
            raise self._invalid(path, "names no line of the ledger") from None
        line = self._line(offset, digest)
        if line is None:
            raise self._invalid(path, "the ledger has no such line")
        trial = _trial(line)
        if trial.content != content:
            raise self._invalid(path, f"line {line.n} of the ledger, which it names, records another trial")
        # An effect key is <lab>.<iteration>.<run>.<trial>.<attempt>.
        iteration_id, run_id = trial.key.split(".")[1:3]
        return trial, f"{iteration_id}/{run_id}/{trial.trial}"

    def _invalid(self, path: Path, reason: str) -> InvalidEntry:
        return InvalidEntry(f"stored trial .git/autolab/{path.relative_to(self.store)}: {reason}")

    def _line(self, offset: object, digest: object) -> Line | None:
        """The ledger line that a stored trial names, if it stands there and is what its hash says."""
        if type(offset) is not int or offset < 0:
            return None
        line = next(self.ledger.lines(offset), None)
        # A raw line: the offset may lead anywhere, and only a line whose hash fits is worth parsing.
        if line is None or line.offset != offset or line.event not in RECORDS or line.hash != digest:
            return None
        return line if line.hash == seal(line.n, line.time, line.event, line.data, line.prev) else None

    def _problems(self) -> dict[str, RecordError]:
        """The stored trials that no ledger line confirms, by content."""
        problems = {}
        for path in sorted((self.store / "trials").glob("??/*.json")):
            try:
                self.find(path.stem)
            except RecordError as error:
                problems[path.stem] = error
        return problems

    def check(self) -> Iterator[str]:
        """A line for each stored trial that no ledger line confirms."""
        for error in self._problems().values():
            yield f"{error}; {WAY_OUT}"

    def fix(self) -> Iterator[str]:
        """Write again the files that no ledger line confirms, keeping the old ones; a line for each.

        What no line of the ledger records is put aside: the trial is measured anew when it is needed.
        """
        problems = self._problems()
        if not problems:
            return
        # The whole ledger, once for all of them: a damaged file no longer says where its line is.
        recorded: dict[str, Line] = {}
        for line in self.ledger.lines():
            if line.event in RECORDS:
                trial = _trial(line)
                if trial.content in problems and _is_reusable(trial):
                    recorded.setdefault(trial.content, line)
        for content, error in problems.items():
            path = self.place(content)
            copy = path.with_name(f"{path.name}.edited.{len(list(path.parent.glob(f'{path.name}.edited.*')))}")
            path.rename(copy)
            result = "no line of the ledger records it: put aside"
            if content in recorded:
                self.keep(recorded[content])
                result = "written again from the ledger"
            yield f"{error}; {result}, the old one is {copy.name}"


def aside(path: Path) -> None:
    """Make room for a file if a folder has its name; the folder is kept beside it."""
    if path.is_dir() and not path.is_symlink():
        number = len(list(path.parent.glob(f"{path.name}.aside.*")))
        path.rename(path.with_name(f"{path.name}.aside.{number}"))


def _trial(line: Line) -> Trial:
    return read(line, RECORDS[line.event]).trial


def _is_reusable(trial: Trial) -> bool:
    """Whether a trial may stand for another of the same content."""
    # Calibration's second training of one seed has the content of the first, and is never stored.
    return trial.outcome is TrialOutcome.COMPLETED and trial.reused_from is None and trial.arm != AGAIN


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
