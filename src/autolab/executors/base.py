"""What every executor must do: the types, the protocol, and the checks that all of them share.

An executor takes jobs in batches and answers by reference. Each of its methods may be called again after a crash:
`submit` adopts jobs that it already has, `find` lists them, `fetch` and `cancel` do nothing if nothing is left to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from autolab.errors import ExecutorError
from autolab.sandbox.box import OPEN, Box
from autolab.sandbox.collect import ARCHIVE, EXIT_FILE, LEFT_OUT_FILE, LOGS
from autolab.sandbox.exit_record import Exit

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RESERVED = frozenset({EXIT_FILE, LEFT_OUT_FILE, ARCHIVE, LOGS})


@dataclass(frozen=True)
class Step:
    """One process of a job. Steps run in order, the next only if the last exited with status 0.

    `argv`, `cwd`, the paths of `box` and the values of `env` may contain `{folder}`, the folder of the attempt,
    `{scratch}`, a folder for temporary files, and `{<input name>}`; the executor fills exactly these. `env` is the
    complete environment. `time_limit_origin` says where the limit is from, for the message of a step that passed it.
    `output_bytes` caps stdout and stderr together: what exceeds it is counted, not stored, and
    the job ends as `output_limit`."""

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    time_limit_s: float
    output_bytes: int
    box: Box = OPEN
    time_limit_origin: str = ""


@dataclass(frozen=True)
class Job:
    """One attempt of one trial. `inputs` are local files or folders that the steps read; a remote executor ships them.

    In the attempt's folder the executor makes `<step name>/` for each step, and `logs/<step name>.out` and `.err`.
    `results` and `discarded` are those of `collect.OutputRules`: which files of the attempt are read later, and which
    folders are dropped."""

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


class Phase(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    LOST = "lost"


@dataclass(frozen=True)
class Status:
    """Where a job stands. `exit` is set when it is finished or lost; both are final."""

    phase: Phase
    exit: Exit | None = None

    @property
    def over(self) -> bool:
        return self.phase in (Phase.FINISHED, Phase.LOST)


class Executor(Protocol):
    """A place where trials run. Every method may raise ExecutorError; `transient` marks an error that may pass."""

    name: ClassVar[str]
    location: ClassVar[str]

    def __init__(self, workdir: Path, options: Mapping[str, object]) -> None:
        """`workdir` is the run's own, outside of the checkout; nothing is made or started yet."""

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        """Queues the jobs in their order. A key that it already has is adopted, never started twice. An attempt is
        refused while an earlier one of its trial is not over."""
        ...

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        """The refs of those keys that were ever submitted, after a crash too."""
        ...

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        """The status of each ref by key. Returns at once if one differs from this object's last reply or all are over,
        else at the first change or after `timeout_s` seconds."""
        ...

    def fetch(self, ref: Ref, destination: Path) -> None:
        """Copies the files of an attempt that is over, and its `exit.json`, to `destination`, whole or not at all.

        Takes regular files with one link; `left_out.json` names everything else. Code, settings and hidden files go
        into one archive (`collect.ARCHIVE`). A destination that holds this very attempt is left as it is, any other is
        refused. A sync that fails raises with transient=True."""

    def cancel(self, refs: Sequence[Ref]) -> None:
        """Ends what is not over, with outcome `cancelled`; returns when none of it is alive any more."""

    def discard(self) -> None:
        """Removes the work folder, once everything is over and fetched."""


@runtime_checkable
class ShowsRunning(Protocol):
    """What an executor may offer beside: files of an attempt while it runs. Without it, nothing reads them early."""

    def running_file(self, ref: Ref, path: str) -> Path:
        """Where on this machine the attempt's file at `path` (below its folder) lies, if it was written already.

        Untrusted code writes it: it may be a link, a pipe, half a line."""
        ...


def check(job: Job) -> None:
    """Refuses a job that no executor could run as written. Raises ExecutorError naming job, step and field."""
    where = f"job {job.key!r}"
    if not SLUG.fullmatch(job.trial):
        raise ExecutorError(f"{where}: trial {job.trial!r} is not a slug (letters, digits, '.', '_', '-')")
    if job.attempt < 1 or job.cores < 1:
        raise ExecutorError(f"{where}: attempt {job.attempt} and cores {job.cores} must be at least 1")
    # The executor itself fills these two.
    for name in {"folder", "scratch"} & job.inputs.keys():
        raise ExecutorError(f"{where}: an input cannot be called {name!r}, which names the attempt's own; rename it")
    for name, path in job.inputs.items():
        if not path.exists():
            raise ExecutorError(f"{where}: input {name!r} is missing at {path}")
    if not job.steps or len({step.name for step in job.steps}) < len(job.steps):
        raise ExecutorError(f"{where}: needs at least one step, each with a name of its own")
    for step in job.steps:
        _check_step(f"{where}, step {step.name!r}", step)


def _check_step(where: str, step: Step) -> None:
    # A step's folder lies beside the executor's own files.
    if not SLUG.fullmatch(step.name) or step.name in RESERVED:
        raise ExecutorError(f"{where}: the name is not a slug, or is one of {', '.join(sorted(RESERVED))}")
    if not step.argv:
        raise ExecutorError(f"{where}: argv is empty")
    if not (math.isfinite(step.time_limit_s) and step.time_limit_s > 0):
        raise ExecutorError(f"{where}: time_limit_s must be a positive number of seconds, not {step.time_limit_s}")
    if step.output_bytes < 0:
        raise ExecutorError(f"{where}: output_bytes must not be negative, as {step.output_bytes} is")


def fill(step: Step, places: Mapping[str, str]) -> Step:
    """The step with `{name}` replaced by `places[name]`; any other brace stays as it is."""
    # In one pass: a path that holds a brace is not filled again.
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in places))

    def filled(text: str) -> str:
        return pattern.sub(lambda match: places[match.group()[1:-1]], text)

    reads = tuple(map(filled, step.box.reads))
    writes = tuple(map(filled, step.box.writes))
    mounts = tuple((filled(source), place) for source, place in step.box.mounts)
    return replace(
        step,
        argv=tuple(map(filled, step.argv)),
        cwd=filled(step.cwd),
        env={name: filled(value) for name, value in step.env.items()},
        box=replace(step.box, reads=reads, writes=writes, mounts=mounts),
    )
