"""What every place where trials run must do: the types, the protocol, and what all of them check alike.

An executor takes jobs in batches and is asked about them by reference. Each of its verbs may be called again after a
crash: `submit` adopts what is known, `find` says what is, `fetch` and `cancel` do nothing where nothing is left to do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from autolab.errors import ExecutorError
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import ARCHIVE, EXIT_FILE, LEFT_OUT_FILE, LOGS

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RESERVED = frozenset({EXIT_FILE, LEFT_OUT_FILE, ARCHIVE, LOGS})


@dataclass(frozen=True)
class Step:
    """One process of a job. Steps run in order, the next only if the last exited with status 0.

    `argv`, `cwd`, the paths of `box` and the values of `env` may contain `{folder}`, the folder of the attempt,
    `{scratch}`, a folder for temporary files, and `{<input name>}`; the executor fills exactly these. `env` is the
    complete environment. `output_bytes` caps stdout and stderr together: what exceeds it is counted, not stored, and
    the job ends as `output_limit`."""

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    time_limit_s: float
    output_bytes: int
    box: Box = OPEN


@dataclass(frozen=True)
class Job:
    """One attempt of one trial. `inputs` are local files or folders that the steps read; a remote executor ships them.

    In the attempt's folder the executor makes `<step name>/` for each step, and `logs/<step name>.out` and `.err`.
    `results` and `discarded` say what `collection.Known` asks about the files that it leaves."""

    key: str
    trial: str
    attempt: int
    steps: tuple[Step, ...]
    inputs: Mapping[str, Path]
    cores: int = 1
    results: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()


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
    outcome: TrialOutcome
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
    contained: Mapping[str, str] = field(default_factory=dict)
    """The last step's level, and what held its limits: `cgroup v1`, `cgroup v2`, `rlimit` or, weaker, `watcher`."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The exit that a file holds. Raises ExecutorError where it does not fit, OSError where it cannot be read."""
        try:
            fields: dict[str, Any] = json.loads(path.read_bytes())
            steps = tuple(StepExit(**step) for step in fields.pop("steps"))
            return cls(**fields | {"outcome": TrialOutcome(fields["outcome"]), "steps": steps})
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

        Takes regular files with one link; what else there is, is named in `left_out.json`. Code, settings and hidden
        files go into one archive (`collection.ARCHIVE`). A destination that holds this very attempt is left as it is,
        any other is refused. A sync that fails raises with transient=True."""

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
    for own in {"folder", "scratch"} & job.inputs.keys():
        raise ExecutorError(f"{where}: an input cannot be called {own!r}, which names the attempt's own; rename it")
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
    reads, writes = (tuple(filled(path) for path in paths) for paths in (step.box.reads, step.box.writes))
    box = replace(step.box, reads=reads, writes=writes)
    return replace(step, argv=argv, cwd=filled(step.cwd), env=env, box=box)
