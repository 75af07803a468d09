"""What every place where trials run must do: the types, the protocol, and what all of them check and collect alike.

An executor takes jobs in batches and is asked about them by reference. Each of its verbs may be called again after a
crash: `submit` adopts what is known, `find` says what is, `fetch` and `cancel` do nothing where nothing is left to do.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from autolab import durable
from autolab.errors import ExecutorError
from autolab.records.outcomes import Outcome

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
EXIT_FILE = "exit.json"  # of a fetched attempt: its Exit, as a document
LEFT_OUT_FILE = "left_out.json"  # of a fetched attempt: {"count", "names"} of what was not taken; absent if nothing was
RESERVED = frozenset({EXIT_FILE, LEFT_OUT_FILE, "logs"})
LEFT_OUT_NAMES = 100
MAX_DEPTH = 32


@dataclass(frozen=True)
class Step:
    """One process of a job. Steps run in order, the next only if the last exited with status 0.

    `argv`, `cwd` and the values of `env` may contain `{folder}`, the writable folder of the attempt, and `{<input
    name>}`; the executor fills exactly these. `env` is the complete environment. `output_bytes` caps stdout and stderr
    together: what exceeds it is counted, not stored, and the job ends as `output_limit`."""

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    time_limit_s: float
    output_bytes: int


@dataclass(frozen=True)
class Job:
    """One attempt of one trial. `inputs` are local files or folders that the steps read; a remote executor ships them.

    In the attempt's folder the executor makes `<step name>/` for each step, and `logs/<step name>.out` and `.err`."""

    key: str
    trial: str
    attempt: int
    steps: tuple[Step, ...]
    inputs: Mapping[str, Path]
    cores: int = 1


@dataclass(frozen=True)
class Ref:
    """A job as an executor knows it; `handle` is the executor's own name for it."""

    key: str
    handle: str


@dataclass(frozen=True)
class StepExit:
    """How one step ended. Seconds are wall-clock, but for `cpu_seconds`; either returncode or signal is None.

    CPU time and peak are those of the step's first process and of the children it waited for."""

    name: str
    returncode: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    output_bytes: int
    started: str
    ended: str


@dataclass(frozen=True)
class Exit:
    """How an attempt ended: `step` is the last that ran ("" if none did), numbers are totals, the peak a maximum."""

    key: str
    outcome: Outcome
    step: str
    returncode: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    output_bytes: int
    started: str
    ended: str
    message: str
    steps: tuple[StepExit, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The exit that a file holds. Raises ExecutorError where it does not fit, OSError where it cannot be read."""
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            steps = tuple(StepExit(**step) for step in fields.pop("steps"))
            return cls(**fields | {"outcome": Outcome(fields["outcome"]), "steps": steps})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ExecutorError(
                f"{path} is not an exit document: {error}; run the trial again as a new attempt"
            ) from error


class Phase(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    LOST = "lost"


@dataclass(frozen=True)
class Status:
    """Where a job stands. `exit` is there when it is finished or lost; both are final."""

    phase: Phase
    exit: Exit | None = None

    @property
    def over(self) -> bool:
        return self.phase in (Phase.FINISHED, Phase.LOST)


class Executor(Protocol):
    """A place where trials run. Everything raises ExecutorError in one line; `transient` marks what may come back."""

    name: ClassVar[str]
    location: ClassVar[str]

    def __init__(self, workdir: Path, options: Mapping[str, object]) -> None:
        """`workdir` is the run's own, outside of the checkout; nothing is made or started yet."""

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        """Queues the jobs in their order. A key already known is adopted, never started twice; an attempt is refused
        while an earlier one of its trial is not over."""
        ...

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        """What is known of these keys, after a crash too; keys never submitted are absent."""
        ...

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        """The status of each ref by key. Returns at once if one differs from this object's last answer or all are
        over, else at the first change or after `timeout_s`."""
        ...

    def fetch(self, ref: Ref, destination: Path) -> None:
        """Copies the files of an attempt that is over, and its `exit.json`, to `destination`, whole or not at all.

        Takes regular files with one link; what else there is, is named in `left_out.json`. A destination that holds
        this very attempt is left as it is, any other is refused. A sync that fails raises with transient=True."""

    def cancel(self, refs: Sequence[Ref]) -> None:
        """Ends what is not over, with outcome `cancelled`; returns when none of it is alive any more."""

    def discard(self) -> None:
        """Removes the work folder, once everything is over and fetched."""


def check(job: Job) -> None:
    """Refuses a job that no executor could run as written. Raises ExecutorError naming job, step and field."""
    where = f"job {job.key!r}"
    if not SLUG.fullmatch(job.trial):
        raise ExecutorError(f"{where}: trial {job.trial!r} is not a slug (letters, digits, '.', '_', '-')")
    if job.attempt < 1 or job.cores < 1:
        raise ExecutorError(f"{where}: attempt {job.attempt} and cores {job.cores} must be at least 1")
    if "folder" in job.inputs:
        raise ExecutorError(f"{where}: an input cannot be called 'folder', which names the attempt's own; rename it")
    for name, path in job.inputs.items():
        if not path.exists():
            raise ExecutorError(f"{where}: input {name!r} is missing at {path}")
    if not job.steps or len({step.name for step in job.steps}) < len(job.steps):
        raise ExecutorError(f"{where}: needs at least one step, each with a name of its own")
    for step in job.steps:
        _check_step(f"{where}, step {step.name!r}", step)


def _check_step(where: str, step: Step) -> None:
    if not SLUG.fullmatch(step.name) or step.name in RESERVED:
        raise ExecutorError(f"{where}: the name is not a slug, or is one of {', '.join(sorted(RESERVED))}")
    if not step.argv:
        raise ExecutorError(f"{where}: argv is empty")
    if not (math.isfinite(step.time_limit_s) and step.time_limit_s > 0):
        raise ExecutorError(f"{where}: time_limit_s must be a positive number of seconds, not {step.time_limit_s}")
    if step.output_bytes < 0:
        raise ExecutorError(f"{where}: output_bytes must not be negative, as {step.output_bytes} is")


def fill(step: Step, places: Mapping[str, str]) -> Step:
    """The step with `{name}` replaced by `places[name]`, in one pass; any other brace stays as it is."""
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in places))

    def filled(text: str) -> str:
        return pattern.sub(lambda match: places[match.group()[1:-1]], text)

    env = {name: filled(value) for name, value in step.env.items()}
    argv = tuple(filled(word) for word in step.argv)
    return Step(step.name, argv, filled(step.cwd), env, step.time_limit_s, step.output_bytes)


def collect(source: Path, exit_file: Path, destination: Path) -> None:
    """Copies an attempt's folder and its exit document to `destination`, which appears whole or not at all.

    For folders in which nothing lives any more. Takes readable regular files with one link, at most MAX_DEPTH names
    deep, opened without following links; modes are not copied. Raises OSError, and ExecutorError for a destination
    that holds something else."""
    if os.path.lexists(destination):
        if not (destination / EXIT_FILE).is_file() or (destination / EXIT_FILE).read_bytes() != exit_file.read_bytes():
            raise ExecutorError(f"{destination} exists and does not hold this attempt; move it away")
        return
    temp = destination.parent / f".{destination.name}.part"
    remove_tree(temp)
    temp.mkdir(parents=True)
    left_out: list[str] = []
    _copy_folder(source, temp, Path(), left_out)
    if left_out:
        names = [os.fsencode(name).decode(errors="backslashreplace") for name in sorted(left_out)[:LEFT_OUT_NAMES]]
        durable.write(temp / LEFT_OUT_FILE, json.dumps({"count": len(left_out), "names": names}))
    durable.write(temp / EXIT_FILE, exit_file.read_bytes())
    os.rename(temp, destination)
    durable.sync_folder(destination.parent)


def _copy_folder(source: Path, destination: Path, inner: Path, left_out: list[str]) -> None:
    try:
        entries = list(os.scandir(source / inner))
    except PermissionError:
        left_out.append(str(inner))
        return
    for entry in entries:
        path = inner / entry.name
        if path.parent == Path() and entry.name in (EXIT_FILE, LEFT_OUT_FILE):
            left_out.append(str(path))  # these two are ours to write
        elif entry.is_dir(follow_symlinks=False) and len(path.parts) < MAX_DEPTH:
            (destination / path).mkdir()
            _copy_folder(source, destination, path, left_out)
        elif not (entry.is_file(follow_symlinks=False) and _copy_file(source / path, destination / path)):
            left_out.append(str(path))


def _copy_file(source: Path, destination: Path) -> bool:
    """False if it is not a readable regular file with one link. O_NONBLOCK: a pipe in its place would block."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return False
    with open(descriptor, "rb") as reader:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            return False
        with open(destination, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    return True


def remove_tree(top: Path) -> None:
    """Removes a folder in which nothing lives any more; nothing to do where there is none.

    Follows no link and does not recurse: nested folders are first moved up to `top`, so any depth will do
    (`shutil.rmtree` fails at some 1,000). Raises OSError."""
    if not os.path.lexists(top):
        return
    if not stat.S_ISDIR(os.lstat(top).st_mode):
        raise NotADirectoryError(20, "Not a folder", str(top))
    folders = [top]
    for folder in folders:
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            content = list(entries)
        for entry in content:
            path = Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
            elif folder == top:
                folders.append(path)
            else:
                os.chmod(path, 0o700)  # a folder that cannot be written cannot be moved
                folders.append(path.rename(top / secrets.token_hex(16)))
    for folder in reversed(folders):
        folder.rmdir()
