"""What a trial leaves behind, read with suspicion, and the frozen evaluator, run apart.

Three steps make the metric of record: *train* and *predict* run in the trial (elsewhere); *score* runs here,
in the engine's own folder, on the collected predictions and the labels that no trial sees. The evaluator is
verified by hash before and after it ran.

Covered: links, pipes and devices in place of files, oversized files, numbers that are none, pickled arrays,
an evaluator changed on disk, one that hangs, forks, prints without end or leaves no score. Not covered: an
evaluator that is wrong in itself. What a trial did wrong comes back as a
`Problem`, never as an exception.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from autolab import files
from autolab.errors import LabError, RecordError
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.lab.schemas.record import parse_json
from autolab.sandbox import execute
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import InvalidFile, open_regular, remove_tree
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, npy_header
from autolab.text import decode_json, one_line, short_names

METRICS_BYTES = 64 * 1024
METRICS_KEYS = 200


@dataclass(frozen=True)
class Problem:
    """Why an artifact cannot be used: an outcome for the trial, and one line that names the file."""

    outcome: TrialOutcome
    message: str


def _invalid(path: Path, error: object) -> Problem:
    return Problem(TrialOutcome.INVALID_ARTIFACT, f"{path.name}: {one_line(str(error))}")


def read_metrics(path: Path, compared: str | None = None) -> dict[str, float] | Problem:
    """`metrics.json` or `score.json`: one flat object of finite numbers. Limits: 64 KiB, 200 keys.

    The metric that is `compared` may be NaN or infinite: then the training diverged, and of the others those that
    are no finite numbers are left out.
    """
    try:
        with open_regular(path, METRICS_BYTES) as file:
            text = decode_json(file.read(METRICS_BYTES + 1))
        if compared is not None:
            value = parse_json(text, path.name, any_number=True)
            if isinstance(value, dict) and not_finite(value.get(compared)):
                others = {name: number for name, number in value.items() if not not_finite(number)}
                return (_flat_numbers(others) if others else {}) | {compared: math.nan}
        return _flat_numbers(parse_json(text, path.name))
    except RecordError as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, str(error))
    except (InvalidFile, ValueError) as error:
        return _invalid(path, error)


def not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _flat_numbers(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise InvalidFile('must be one flat object of numbers, such as {"val_loss": 0.1}')
    if len(value) > METRICS_KEYS:
        raise InvalidFile(f"{len(value)} keys, more than the {METRICS_KEYS} allowed")
    numbers: dict[str, float] = {}
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidFile(f"{key[:60]}: must be a number, got {json.dumps(number)[:60]}")
        if not abs(number) < 1e308:  # an integer of 400 digits is JSON, and no float
            raise InvalidFile(f"{key[:60]}: must be a finite number")
        numbers[key] = float(number)
    return short_names(numbers)


def check_predictions(path: Path, rows: int | None) -> str | Problem:
    """SHA-256 of a `.npy` file of float32 with two or more dimensions and `rows` rows (None: any number but 0).

    Only the header is parsed, without pickle; the file must be exactly as long as the header says (2 GiB at most).
    """
    try:
        with open_regular(path, PREDICTIONS_BYTES) as file:
            found = npy_header(file)
            shape = found.shape
            if found.descr != "<f4":
                raise InvalidFile(f"must be float32 ('<f4'), got {found.descr[:60]!r}")
            if rows is not None and shape[0] != rows:
                raise InvalidFile(f"{shape[0]} rows, but there are {rows} inputs")
            size = os.fstat(file.fileno()).st_size
            wanted = found.start + 4 * math.prod(shape)
            if size != wanted:
                raise InvalidFile(f"{size} bytes, but a float32 array of shape {shape} has {wanted}")
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (InvalidFile, OSError) as error:
        return _invalid(path, error)


@dataclass(frozen=True)
class FrozenEvaluator:
    """The evaluator as it was frozen: `sha256` is that of `script`.

    `box` gives level, limits and interpreter. Byte code that lies beside modules is not believed: what the evaluator
    imports is compiled into the folder `bytecode`, or anew if there is none.
    """

    python: Path
    script: Path
    sha256: str
    time_limit_s: float
    box: Box = OPEN
    bytecode: Path | None = None

    def score(
        self, predictions: Path, labels: Path, folder: Path, compared: str | None = None
    ) -> dict[str, float] | Problem:
        """The evaluator's numbers for predictions, or why there are none. Leaves `folder`/score.json and score.log.

        `compared` names the metric that may come out as no finite number (`read_metrics`).

        The engine calls it with a folder of its own that no trial can write. Nothing of the engine's environment
        reaches the evaluator. An earlier score.json is not believed but made again. An evaluator that is not the
        frozen one is a Problem `tampered`. LabError: it, the interpreter or the labels are missing.
        """
        changed = self._changed()
        if changed:
            return changed
        for needed in (self.python, labels):
            if not needed.exists():
                raise LabError(f"{needed}: not found; the evaluator needs it")
        work = folder.absolute() / "work"
        remove_tree(work)
        work.mkdir(parents=True)
        compiled = (self.bytecode or work / "bytecode").absolute()
        compiled.mkdir(exist_ok=True)
        files_read = [str(self.script.resolve()), str(predictions.absolute()), str(labels.resolve())]
        script, predictions_path, labels_path = files_read
        argv = [str(self.python.absolute()), "-I", "-X", f"pycache_prefix={compiled}"]
        argv += ["-u", script]  # -u: what it prints stays in order
        argv += ["--predictions", predictions_path, "--labels", labels_path, "--out", str(work / "score.json")]
        box = replace(self.box, reads=(*self.box.reads, *files_read), writes=(str(work), str(compiled)))
        try:
            ended = execute.run(argv, work, {}, folder / "score.log", self.time_limit_s, box)
            if ended.missing is not None:
                raise LabError(f"{self.python}: evaluator could not be started: {ended.missing}")
            problem = self._changed() or _complaint(ended, predictions, self.time_limit_s)
            return problem or _taken(work / "score.json", folder / "score.json", compared)
        finally:
            remove_tree(work)

    def _changed(self) -> Problem | None:
        """`tampered` if the script is not the frozen one. LabError: it cannot be read."""
        try:
            present = files.sha256_of_file(self.script)
        except OSError as error:
            raise LabError(f"{self.script}: evaluator cannot be read: {error.strerror}") from None
        if present == self.sha256:
            return None
        frozen = f"the frozen evaluator's {self.sha256[:12]}; put the frozen file back"
        return Problem(TrialOutcome.TAMPERED, f"{self.script.name}: sha256 {present[:12]} is not {frozen}")


def _taken(left: Path, kept: Path, compared: str | None) -> dict[str, float] | Problem:
    kept.unlink(missing_ok=True)
    numbers = read_metrics(left, compared)
    if isinstance(numbers, dict):
        with open_regular(left, METRICS_BYTES) as file:
            files.write_whole(kept, file.read())
    return numbers


def _complaint(ended: execute.Ended, predictions: Path, time_limit_s: float) -> Problem | None:
    if ended.ok:
        return None
    how = ended.killed or f"ended with exit status {ended.code}"
    last = ended.last_line or f"the evaluator {how} and said nothing"
    last = f"not scored within {time_limit_s:g} s" if ended.timed_out else ended.passed or last
    return Problem(TrialOutcome.INVALID_ARTIFACT, f"{predictions.name}: {last}")
