"""How a job ended: the one record that runner, supervisor, executors and engine share. Standard library only.

Its JSON is written to `exits/<name>.json` of a work folder, or sent over a socket to a caller that waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from autolab import files
from autolab.errors import ExecutorError
from autolab.sandbox.workdir import Document


class TrialOutcome(StrEnum):
    """How a trial ended. There is no `unknown`. `tampered` is the finding of the engine, never of a runner."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_LIMIT = "disk_limit"
    PROCESS_LIMIT = "process_limit"
    OUTPUT_LIMIT = "output_limit"
    INVALID_ARTIFACT = "invalid_artifact"
    TAMPERED = "tampered"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class StepExit:
    """How one step ended. Either returncode or signal is None.

    `seconds` are wall-clock time. `cpu_seconds` is the sum and `max_rss_bytes` the maximum over the step's processes
    that the runner reaped, and the children that these waited for. The maximum is never below the runner's own size
    (about 10 MB): the kernel carries it over the exec."""

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
    """The last step's level, and what enforced its limits: `cgroup v1`, `cgroup v2`, `rlimit` or, weaker, `watcher`."""

    @classmethod
    def of_steps(
        cls,
        key: str,
        outcome: TrialOutcome,
        message: str,
        started: str,
        steps: Sequence[StepExit] = (),
        contained: Mapping[str, str] | None = None,
    ) -> Self:
        """The exit of a job that ends now, with the totals of its steps."""
        # The last step decides: one that fails is the last that runs.
        name, returncode, signal = "", None, None
        if steps:
            name, returncode, signal = steps[-1].name, steps[-1].returncode, steps[-1].signal
        return cls(
            key=key,
            outcome=outcome,
            step=name,
            returncode=returncode,
            signal=signal,
            seconds=round(sum(step.seconds for step in steps), 6),
            cpu_seconds=round(sum(step.cpu_seconds for step in steps), 6),
            max_rss_bytes=max((step.max_rss_bytes for step in steps), default=0),
            output_bytes=sum(step.output_bytes for step in steps),
            started=started,
            ended=files.utc_now(),
            message=" ".join(message.split()),
            steps=tuple(steps),
            contained=contained or {},
        )

    @property
    def document(self) -> Document:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: bytes, source: str) -> Self:
        """The record that `document` became as JSON. ExecutorError, naming `source`: the text does not fit."""
        # A power cut or a user may have damaged the file: whatever does not fit is one error.
        try:
            values: Document = json.loads(text)
            values["outcome"] = TrialOutcome(values["outcome"])
            values["steps"] = tuple(StepExit(**step) for step in values["steps"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise ExecutorError(
                f"{source} is not an exit document: {error}; run the trial again as a new attempt"
            ) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record in a file. ExecutorError: it does not fit. OSError: it cannot be read."""
        return cls.from_json(path.read_bytes(), str(path))
