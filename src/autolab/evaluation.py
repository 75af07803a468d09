"""What a trial leaves behind, read with suspicion, and the frozen evaluator, run apart.

Three steps make the metric of record: *train* and *predict* run in the trial (elsewhere); *score* runs here,
in the engine's own folder, on the collected predictions and the labels that no trial sees. The evaluator is
verified by hash before and after it ran.

Covered: links, pipes and devices in place of files, oversized files, numbers that are none, pickled arrays,
an evaluator changed on disk, one that hangs, forks, prints without end or leaves no score. Not covered: an
evaluator that is wrong in itself, or one that hides a process in a session of its own. What a trial did
wrong comes back as a `Problem`, never as an exception.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import math
import os
import selectors
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO

from autolab import durable
from autolab.errors import LabError, RecordError
from autolab.records.base import parse_json
from autolab.records.experiment import Environment
from autolab.records.outcomes import Outcome

METRICS_BYTES = 64 * 1024
METRICS_KEYS = 200
PREDICTIONS_BYTES = 2 * 1024**3
OUTPUT_BYTES = 64 * 1024
NPY_HEADER_BYTES = 4096


@dataclass(frozen=True)
class Problem:
    """Why an artifact cannot be used: an outcome for the trial, and one line that names the file."""

    outcome: Outcome
    message: str


class _Refused(Exception):
    """An artifact is not what it must be; the line becomes a Problem at the edge of this module."""


def _invalid(path: Path, error: object) -> Problem:
    return Problem(Outcome.INVALID_ARTIFACT, f"{path.name}: {' '.join(str(error).split())}")


def _open_regular(path: Path, limit: int) -> BufferedReader:
    """Open a regular file of at most `limit` bytes without following a link or waiting on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _Refused("not found") from None
    except OSError as error:
        kind = "a link, which is not followed" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise _Refused(kind) from None
    status = os.fstat(descriptor)
    reason = ""
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file"
    elif status.st_size > limit:
        reason = f"{status.st_size} bytes, more than the {limit} allowed"
    if reason:
        os.close(descriptor)
        raise _Refused(reason)
    return open(descriptor, "rb")


def read_metrics(path: Path) -> dict[str, float] | Problem:
    """`metrics.json` or `score.json`: one flat object of finite numbers. Limits: 64 KiB, 200 keys."""
    try:
        with _open_regular(path, METRICS_BYTES) as file:
            text = file.read(METRICS_BYTES + 1).decode("utf-8")
        return _flat_numbers(parse_json(text, path.name))
    except RecordError as error:
        return Problem(Outcome.INVALID_ARTIFACT, str(error))
    except (_Refused, UnicodeDecodeError, ValueError) as error:
        return _invalid(path, error)


def _flat_numbers(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise _Refused('must be one flat object of numbers, such as {"val_loss": 0.1}')
    if len(value) > METRICS_KEYS:
        raise _Refused(f"{len(value)} keys, more than the {METRICS_KEYS} allowed")
    numbers: dict[str, float] = {}
    for key, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _Refused(f"{key[:60]}: must be a number, got {json.dumps(number)[:60]}")
        # 1e999 is JSON, and infinite; an integer of 400 digits is JSON, and no float.
        finite = abs(number) < 1e308 and math.isfinite(number)
        if not finite:
            raise _Refused(f"{key[:60]}: must be a finite number")
        numbers[key] = float(number)
    return numbers


def check_predictions(path: Path, rows: int | None) -> str | Problem:
    """SHA-256 of a `.npy` file of float32 with two or more dimensions and `rows` rows (None: any number but 0).

    Only the header is parsed, without pickle; the file must be exactly as long as the header says (2 GiB at most).
    """
    try:
        with _open_regular(path, PREDICTIONS_BYTES) as file:
            shape, start = _npy_shape(file)
            if rows is not None and shape[0] != rows:
                raise _Refused(f"{shape[0]} rows, but there are {rows} inputs")
            size = os.fstat(file.fileno()).st_size
            wanted = start + 4 * math.prod(shape)
            if size != wanted:
                raise _Refused(f"{size} bytes, but a float32 array of shape {shape} has {wanted}")
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (_Refused, OSError) as error:
        return _invalid(path, error)


def _npy_shape(file: IO[bytes]) -> tuple[tuple[int, ...], int]:
    """Shape and start of the data. Form: numpy.lib.format, versions 1.0 and 2.0."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise _Refused("not a .npy file of version 1.0 or 2.0; write it with numpy.save(..., allow_pickle=False)")
    width = 2 * start[6]
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > NPY_HEADER_BYTES:
        raise _Refused(f"header of {length} bytes, more than the {NPY_HEADER_BYTES} allowed")
    file.seek(8 + width)
    try:
        header = ast.literal_eval(file.read(length).decode("latin-1").strip())
        descr, shape = header["descr"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise _Refused("header is not that of a .npy file") from None
    if descr != "<f4":
        raise _Refused(f"must be float32 ('<f4'), got {str(descr)[:60]!r}")
    if not isinstance(shape, tuple) or len(shape) < 2 or not all(type(n) is int and n > 0 for n in shape):
        raise _Refused(f"must have two dimensions or more and no empty one, got shape {str(shape)[:60]}")
    return shape, 8 + width + length


def score(
    python: Path,
    evaluator: Path,
    sha256: str,
    predictions: Path,
    labels: Path,
    folder: Path,
    time_limit_s: float,
) -> dict[str, float] | Problem:
    """Run the frozen evaluator; its numbers, or why there are none. Leaves `folder`/score.json and score.log.

    The engine calls it with a folder of its own that no trial can write. Nothing of the engine's environment reaches
    the evaluator. An earlier score.json is not believed but made again. An evaluator that is not the frozen one
    (`sha256`) is a Problem `tampered`. LabError: it, the interpreter or the labels are missing.
    """
    changed = _changed(evaluator, sha256)
    if changed:
        return changed
    for needed in (python, labels):
        if not needed.exists():
            raise LabError(f"{needed}: not found; the evaluator needs it")
    folder.mkdir(parents=True, exist_ok=True)
    out = folder.resolve() / "score.json"
    out.unlink(missing_ok=True)
    argv = [str(python.absolute()), "-I", "-B", str(evaluator.resolve())]
    argv += ["--predictions", str(predictions.absolute()), "--labels", str(labels.resolve()), "--out", str(out)]
    ended = _run(argv, out.parent, time_limit_s)
    (folder / "score.log").write_bytes(ended.output)
    problem = _changed(evaluator, sha256) or _complaint(ended, predictions, time_limit_s)
    if problem:
        out.unlink(missing_ok=True)
        return problem
    return read_metrics(out)


def _changed(evaluator: Path, sha256: str) -> Problem | None:
    try:
        found = durable.file_sha256(evaluator)
    except OSError as error:
        raise LabError(f"{evaluator}: evaluator cannot be read: {error.strerror}") from None
    if found == sha256:
        return None
    told = (
        f"{evaluator.name}: sha256 {found[:12]} is not the frozen evaluator's {sha256[:12]}; put the frozen file back"
    )
    return Problem(Outcome.TAMPERED, told)


def _complaint(ended: _Ended, predictions: Path, time_limit_s: float) -> Problem | None:
    if ended.timed_out:
        return Problem(Outcome.INVALID_ARTIFACT, f"{predictions.name}: not scored within {time_limit_s:g} s")
    if ended.returncode == 0:
        return None
    last = ended.last_line or f"the evaluator ended with exit status {ended.returncode} and said nothing"
    return Problem(Outcome.INVALID_ARTIFACT, f"{predictions.name}: {last}")


@dataclass(frozen=True)
class _Ended:
    returncode: int
    timed_out: bool
    output: bytes
    last_line: str


def _run(argv: list[str], folder: Path, time_limit_s: float) -> _Ended:
    """Run in a session of its own with an empty environment, until it and its output are over.

    Whatever is left of its group is killed at the end; a process that still holds the output counts as not over.
    """
    deadline = time.monotonic() + time_limit_s
    try:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise LabError(f"{argv[0]}: evaluator could not be started: {error.strerror}") from None
    with process:
        try:
            stdout, stderr, closed = _read_until(process, deadline)
            if closed:
                process.wait(max(0.0, deadline - time.monotonic()))
            timed_out = not closed
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return _Ended(process.returncode, timed_out, bytes(stdout + stderr), lines[-1][:500] if lines else "")


def _read_until(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytearray, bytearray, bool]:
    """The last OUTPUT_BYTES of stdout and of stderr, and whether both were closed before the deadline."""
    kept: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is None:
                raise ValueError("process was started without pipes")
            selector.register(pipe, selectors.EVENT_READ)
            kept[pipe.fileno()] = bytearray()
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                block = os.read(key.fd, OUTPUT_BYTES)
                if block:
                    kept[key.fd] += block
                    del kept[key.fd][:-OUTPUT_BYTES]
                else:
                    selector.unregister(key.fileobj)
        closed = not selector.get_map()
    stdout, stderr = kept.values()
    return stdout, stderr, closed


_ASK = """
import json, sys, sysconfig
from importlib.metadata import distributions
found = sorted({f"{(d.metadata['Name'] or '').lower()}=={d.version}" for d in distributions()})
print(json.dumps({"version": sys.version.split()[0], "site": sysconfig.get_paths()["purelib"], "found": found}))
"""


PACKAGED_DATA = frozenset({"scikit-learn"})
"""Distributions with the evaluation data of a shipped lab inside: sklearn.datasets.load_digits has the labels too."""


@dataclass(frozen=True)
class _Installed:
    version: str
    packages: tuple[str, ...]
    site: Path
    modified: int


def packages_hash(python: Path) -> Environment:
    """The interpreter's version and the SHA-256 over its sorted `name==version` lines.

    Asked once per interpreter and modification time of its site-packages. LabError: it does not start.
    """
    found = _installed(python)
    return Environment(
        python=str(python), version=found.version, packages_sha256=durable.sha256("\n".join(found.packages))
    )


def holds_packaged_data(python: Path) -> list[str]:
    """Installed distributions that carry a shipped lab's evaluation data, for which a trial could just reach."""
    names = {line.partition("==")[0].replace("_", "-") for line in _installed(python).packages}
    return sorted(names & PACKAGED_DATA)


_known: dict[Path, _Installed] = {}


def _installed(python: Path) -> _Installed:
    # Not resolved: a virtual environment's interpreter is a link, and the environment is where the link lies.
    path = python.absolute()
    known = _known.get(path)
    if known is None or known.modified != _modified(known.site):
        known = _known[path] = _ask(path)
    return known


def _modified(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.exists() else 0


def _ask(python: Path) -> _Installed:
    try:
        answer = subprocess.run(
            [str(python), "-I", "-B", "-c", _ASK], capture_output=True, env={}, stdin=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{python}: does not start: {error}") from None
    if answer.returncode != 0:
        last = (answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise LabError(f"{python}: cannot list its packages (Python 3.8 or newer is needed): {last}")
    told = json.loads(answer.stdout)
    site = Path(told["site"])
    return _Installed(told["version"], tuple(told["found"]), site, _modified(site))
