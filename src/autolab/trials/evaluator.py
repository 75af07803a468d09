"""What a trial leaves behind, read with suspicion, and the frozen evaluator, run in a process of its own.

Three steps make the metric of record: *train* and *predict* run in the trial (elsewhere); *score* runs here,
in the engine's own folder, on the collected predictions and the labels that no trial sees. The evaluator is
verified by hash before and after it ran.

Covered: links, pipes and devices in place of files, oversized files, numbers that are not finite, pickled arrays,
an evaluator that was changed on disk, that hangs, forks, prints without end or leaves no score. Not covered: an
evaluator that is wrong in itself. What a trial did wrong comes back as a `Problem`, never as an exception.
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
from autolab.sandbox import environment, execute
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import InvalidFile, open_regular, remove_tree
from autolab.sandbox.npy_header import PREDICTIONS_BYTES, npy_header
from autolab.stats.finite import is_finite
from autolab.text import decode_json, one_line, short_names
from autolab.trials.prediction_form import FLOAT32, advice

METRICS_BYTES = 64 * 1024
METRICS_KEYS = 200


@dataclass(frozen=True)
class Problem:
    """Why an artifact cannot be used: an outcome for the trial, and one line that names the file."""

    outcome: TrialOutcome
    message: str


def _invalid(path: Path, reason: object) -> Problem:
    return Problem(TrialOutcome.INVALID_ARTIFACT, f"{path.name}: {one_line(str(reason))}")


def read_metrics(path: Path, compared: str | None = None) -> dict[str, float] | Problem:
    """`metrics.json` or `score.json`: one flat object of finite numbers. Limits: 64 KiB, 200 keys.

    If the metric that is `compared` is not finite, the training diverged: the metric is returned as NaN, and other
    numbers that are not finite are left out.
    """
    try:
        with open_regular(path, METRICS_BYTES) as file:
            text = decode_json(file.read(METRICS_BYTES + 1))
        return _flat_numbers(parse_json(text, path.name, any_number=True), compared)
    except RecordError as error:
        return Problem(TrialOutcome.INVALID_ARTIFACT, str(error))
    except (InvalidFile, ValueError) as error:
        return _invalid(path, error)


def _flat_numbers(value: object, compared: str | None) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise InvalidFile('must be one flat object of numbers, such as {"val_loss": 0.1}')
    if len(value) > METRICS_KEYS:
        raise InvalidFile(f"{len(value)} keys, more than the {METRICS_KEYS} allowed")
    finite: dict[str, float] = {}
    not_finite: list[str] = []
    for key, number in value.items():
        # bool is an int in Python: a flag is no measurement.
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidFile(f"{key[:60]}: must be a number, got {json.dumps(number)[:60]}")
        if is_finite(number):
            finite[key] = float(number)
        else:
            not_finite.append(key)
    if not not_finite:
        return short_names(finite)
    if compared in not_finite:
        return short_names(finite) | {compared: math.nan}
    first = not_finite[0]
    raise InvalidFile(f"{first[:60]}: must be a finite number, got {json.dumps(value[first])[:60]}")


def check_predictions(path: Path, rows: int | None) -> str | Problem:
    """SHA-256 of a `.npy` file of float32 with two or more dimensions and `rows` rows (None: any number but 0).

    Other forms that mean the same have become this one before (`prediction_form.settle_form`).

    Only the header is parsed, without pickle; the file must be exactly as long as the header says (2 GiB at most).
    """
    try:
        with open_regular(path, PREDICTIONS_BYTES) as file:
            header = npy_header(file)
            shape = header.shape
            if header.descr != FLOAT32:
                raise InvalidFile(f"must be float32 ('<f4'), got {header.descr[:60]!r}; {advice(header.descr)}")
            if rows is not None and shape[0] != rows:
                raise InvalidFile(f"{shape[0]} rows, but there are {rows} inputs")
            # Of the open file: the path could lead to another one by now.
            size = os.fstat(file.fileno()).st_size
            expected = header.start + 4 * math.prod(shape)
            # Bytes behind the array would change the hash of equal predictions.
            if size != expected:
                raise InvalidFile(f"{size} bytes, but a float32 array of shape {shape} has {expected}")
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (InvalidFile, OSError) as error:
        return _invalid(path, error)


@dataclass(frozen=True)
class FrozenEvaluator:
    """The evaluator as it was frozen: `sha256` is that of `script`.

    `box` gives level, limits and interpreter. Byte code beside modules is not trusted: what the evaluator imports is
    compiled into the folder `bytecode`, or anew for each score if that is None.
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

        `compared` names the metric that need not be finite (`read_metrics`).

        `folder` must be one that no trial can write. An earlier score.json in it is replaced. The environment of the
        evaluator is empty. An evaluator that is not the frozen one is a Problem `tampered`. LabError: the script, the
        interpreter or the labels are missing.
        """
        changed = self._changed()
        if changed:
            return changed
        for path in (self.python, labels):
            if not path.exists():
                raise LabError(f"{path}: not found; the evaluator needs it")
        # A folder of its own, so that a score.json which a killed run left is never read as this one's.
        work = folder.absolute() / "work"
        remove_tree(work)
        work.mkdir(parents=True)
        bytecode = (self.bytecode or work / "bytecode").absolute()
        bytecode.mkdir(exist_ok=True)
        # A box binds real files; the interpreter alone keeps its link, by which it knows its environment.
        script, predictions_file = str(self.script.resolve()), str(predictions.absolute())
        labels_file, score_file = str(labels.resolve()), work / "score.json"
        # -I: nothing that a candidate or the user's environment holds is imported. -u keeps what it prints in order.
        argv = [str(self.python.absolute()), "-I", "-X", f"pycache_prefix={bytecode}", "-u", script]
        argv += ["--predictions", predictions_file, "--labels", labels_file, "--out", str(score_file)]
        reads = (*self.box.reads, script, predictions_file, labels_file)
        box = replace(self.box, reads=reads, writes=(str(work), str(bytecode)))
        try:
            ended = execute.run(argv, work, environment.EVALUATOR, folder / "score.log", self.time_limit_s, box)
            if ended.missing is not None:
                raise LabError(f"{self.python}: evaluator could not be started: {ended.missing}")
            # Checked again: a script that was swapped while it ran gives no score.
            problem = self._changed() or _complaint(ended, predictions, self.time_limit_s)
            return problem or _read_score(score_file, folder / "score.json", compared)
        finally:
            remove_tree(work)

    def _changed(self) -> Problem | None:
        """`tampered` if the script is not the frozen one. LabError: it cannot be read."""
        try:
            sha256 = files.sha256_of_file(self.script)
        except OSError as error:
            raise LabError(f"{self.script}: evaluator cannot be read: {error.strerror}") from None
        if sha256 == self.sha256:
            return None
        frozen = f"the frozen evaluator's {self.sha256[:12]}; put the frozen file back"
        return Problem(TrialOutcome.TAMPERED, f"{self.script.name}: sha256 {sha256[:12]} is not {frozen}")


def _read_score(written: Path, destination: Path, compared: str | None) -> dict[str, float] | Problem:
    """The numbers in the evaluator's file, which is copied to `destination` if it can be read."""
    # An earlier score must not stand beside predictions that this run refuses.
    destination.unlink(missing_ok=True)
    numbers = read_metrics(written, compared)
    if isinstance(numbers, dict):
        with open_regular(written, METRICS_BYTES) as file:
            files.write_whole(destination, file.read())
    return numbers


def _complaint(ended: execute.Ended, predictions: Path, time_limit_s: float) -> Problem | None:
    """Why the evaluator's run gives no score: the limit it passed, or the last line that it printed."""
    if ended.ok:
        return None
    if ended.timed_out:
        reason = f"not scored within {time_limit_s:g} s"
    elif ended.passed or ended.last_line:
        reason = ended.passed or ended.last_line
    else:
        reason = f"the evaluator {ended.killed or f'ended with exit status {ended.code}'} and said nothing"
    return Problem(TrialOutcome.INVALID_ARTIFACT, f"{predictions.name}: {reason}")
