"""Trials on this machine, under a detached supervisor (`autolab.executors.supervisor`) that outlives the engine.

The two sides share the work folder and nothing else: jobs and cancels are files with a byte to wake the supervisor,
exits are files with a byte to wake the engine. So a new object on the same folder knows all that the old one knew.
Whenever jobs are not over and no supervisor listens, one is started; if two start, the second leaves at once.

    options: slots   jobs side by side, each taking its `cores` (default: the cores this process may use)
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from autolab.errors import ExecutorError
from autolab.executors import supervisor
from autolab.executors.base import Job, Phase, Ref, Status, check, fill
from autolab.sandbox import runner
from autolab.sandbox.collect import Limits, OutputRules, collect, remove_tree
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.sandbox.workdir import (
    Document,
    Workdir,
    drain,
    listen,
    names,
    notify,
    read_json,
    wait_for_lock,
    write_json,
)
from autolab.text import last_line

NET_S = 1.0  # a byte may go to another reader of the same pipe, a supervisor may be killed: look at least this often
HELD_S = 0.05  # a dead supervisor's runners are still killing
START_LIMIT_S = 60.0
CANCEL_LIMIT_S = 60.0
FRUITLESS_STARTS = 5
# Errors of the machine that may pass: the caller may try again.
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    """An OSError of the work folder as an ExecutorError that names the path."""
    try:
        yield
    except OSError as error:
        text = f"{error.filename or folder}: {error.strerror or error}; make room or make it writable, then go on"
        raise ExecutorError(text, transient=error.errno in PASSING) from error


class LocalExecutor:
    name: ClassVar[str] = "local"
    location: ClassVar[str] = "local"

    def __init__(self, workdir: Path, options: Mapping[str, object]) -> None:
        if unknown := sorted(set(options) - {"slots"}):
            raise ExecutorError(f"executor local: no option {', '.join(unknown)}; there is: slots")
        slots = options.get("slots")
        if slots is None:
            slots = usable_cores()
        if not isinstance(slots, int) or isinstance(slots, bool) or slots < 1:
            raise ExecutorError(f"executor local: slots must be a whole number of at least 1, not {slots!r}")
        self._slots = slots
        self._place = Workdir(Path(os.path.abspath(workdir)))
        self._exits: dict[str, Exit] = {}
        self._names: dict[str, str] = {}
        """The names of all jobs of the work folder, by key."""
        self._phases: dict[str, Phase] = {}
        """What the last `poll` returned, by key."""
        self._starts = 0

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        for job in jobs:
            check(job)
        with _one_line_errors(self._place.root):
            self._place.make()
            queue = wait_for_lock(self._place.queue)
            try:
                write_json(self._place.settings, {"slots": self._slots})  # for the next supervisor
                refs = [self._add(job) for job in jobs]
            finally:
                os.close(queue)
            if not self._all_over(refs):
                self._wake()
        return refs

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        with _one_line_errors(self._place.root):
            submitted = self._submitted()
        return {key: Ref(key, submitted[key]) for key in keys if key in submitted}

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        statuses: dict[str, Status] = {}
        for statuses in self._looks(refs, timeout_s):
            phases = {key: status.phase for key, status in statuses.items()}
            if not phases.items() <= self._phases.items() or _over(statuses):
                break
        for key, status in statuses.items():
            self._phases[key] = status.phase
        return statuses

    def fetch(self, ref: Ref, destination: Path) -> None:
        with _one_line_errors(self._place.root):
            if not self._status(ref).over:
                raise ExecutorError(f"{ref.key} is not over: its files can be fetched when it is")
            trial, _, attempt = ref.handle.rpartition(".a")
            folder = self._place.folder(trial, int(attempt))
            if not self._place.start(ref.handle).exists():
                folder.mkdir(parents=True, exist_ok=True)  # over before it started: nothing but the exit
            job = read_json(self._place.job(ref.handle))
            discarded = frozenset(job["discarded"]) | {runner.SCRATCH_FOLDER}
            rules = OutputRules(results=frozenset(job["results"]), discarded=discarded)
            collect(folder, self._place.exit(ref.handle), destination, _limits(job["steps"]), rules)

    def running_file(self, ref: Ref, path: str) -> Path:
        trial, _, attempt = ref.handle.rpartition(".a")
        return self._place.folder(trial, int(attempt)) / path

    def cancel(self, refs: Sequence[Ref]) -> None:
        with _one_line_errors(self._place.root):
            open_refs = [ref for ref in refs if not self._status(ref).over]
            for ref in open_refs:
                (self._place.cancels / ref.handle).touch()
            if not open_refs:
                return
            self._wake()
        for statuses in self._looks(open_refs, CANCEL_LIMIT_S):
            if _over(statuses):
                return
        raise ExecutorError(f"{len(open_refs)} cancelled jobs are still alive; see {self._place.log}", transient=True)

    def discard(self) -> None:
        # A crash may leave it renamed: the next call removes it.
        trash = self._place.root.with_name(f".{self._place.root.name}.discarded")
        with _one_line_errors(self._place.root):
            if self._place.root.exists():
                self._place.make()  # a run that reused all its trials has submitted nothing
                if open_jobs := names(self._place.jobs) - names(self._place.exits):
                    raise ExecutorError(f"{self._place.root}: {len(open_jobs)} jobs are not over; cancel them first")
                lock = wait_for_lock(self._place.lock)  # a supervisor without jobs is leaving
                remove_tree(trash)
                self._place.root.rename(trash)  # at one blow: half a work folder would look like lost jobs
                os.close(lock)
            remove_tree(trash)

    # Below: files in, files out

    def _add(self, job: Job) -> Ref:
        """Writes the job file, under the queue's lock; one that is there already is the same job or a mistake."""
        name = f"{job.trial}.a{job.attempt}"
        path = self._place.job(name)
        if path.exists():
            if (key := read_json(path)["key"]) != job.key:
                raise ExecutorError(f"{path} is already job {key}, and cannot be {job.key} too; use the next attempt")
            return Ref(job.key, name)
        # Two attempts of one trial at a time would be two results of one seed.
        for earlier in range(1, job.attempt):
            earlier_name = f"{job.trial}.a{earlier}"
            if self._place.job(earlier_name).exists() and not self._is_over(earlier_name):
                raise ExecutorError(
                    f"{job.key}: attempt {earlier} of {job.trial} is not over; wait for it or cancel it"
                )
        write_json(path, self._document(job))
        return Ref(job.key, name)

    def _document(self, job: Job) -> Document:
        """The job as the runner reads it, its paths filled in."""
        folder = str(self._place.folder(job.trial, job.attempt))
        places = {"folder": folder}
        for name, path in job.inputs.items():
            places[name] = os.path.abspath(path)
        steps = []
        for step in job.steps:
            scratch = runner.scratch_folder(step.box.level, folder)
            steps.append(asdict(fill(step, places | {"scratch": scratch})))
        return {
            "key": job.key,
            "trial": job.trial,
            "attempt": job.attempt,
            "order": len(names(self._place.jobs)),
            "cores": job.cores,
            "folder": folder,
            "steps": steps,
            "results": list(job.results),
            "discarded": list(job.discarded),
        }

    def _submitted(self) -> dict[str, str]:
        """The names of all jobs that were ever submitted here, by key."""
        if self._place.jobs.exists():
            # Job files never change, so each is read once.
            for name in names(self._place.jobs) - set(self._names.values()):
                self._names[read_json(self._place.job(name))["key"]] = name
        return self._names

    def _is_over(self, name: str) -> bool:
        return name in self._exits or self._place.exit(name).exists()

    def _all_over(self, refs: Sequence[Ref]) -> bool:
        return all(self._is_over(ref.handle) for ref in refs)

    def _status(self, ref: Ref) -> Status:
        name = ref.handle
        # An exit never changes, so it is read once.
        if name not in self._exits and self._place.exit(name).exists():
            self._exits[name] = Exit.read(self._place.exit(name))
            self._starts = 0
        if end := self._exits.get(name):
            phase = Phase.LOST if end.outcome is TrialOutcome.LOST else Phase.FINISHED
            return Status(phase, end)
        if self._place.start(name).exists():
            return Status(Phase.RUNNING)
        if self._place.job(name).exists():
            return Status(Phase.QUEUED)
        raise ExecutorError(f"{ref.key} was never submitted in {self._place.root}; submit it first")

    # Below: the supervisor and the waiting

    def _looks(self, refs: Sequence[Ref], timeout_s: float) -> Iterator[dict[str, Status]]:
        """The statuses now, then after whatever happens, until the time is up. Keeps a supervisor running."""
        if not refs:
            return
        deadline = time.monotonic() + timeout_s
        # Open before the first look, so that nothing can happen unseen between a look and the wait for the next.
        with _one_line_errors(self._place.root), self._events() as events:
            while True:
                wait_s = NET_S
                if not self._all_over(refs):
                    wait_s = self._wake()
                yield {ref.key: self._status(ref) for ref in refs}
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                wakeup = select.poll()
                wakeup.register(events, select.POLLIN)
                if wakeup.poll(1000 * min(remaining, wait_s)):
                    drain(events)

    @contextmanager
    def _events(self) -> Iterator[int]:
        """A descriptor that becomes readable when a job starts or ends."""
        descriptor = listen(self._place.events)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _wake(self) -> float:
        """Makes the supervisor look at its queue, or starts one. Returns the seconds after which to do so again."""
        if notify(self._place.wake):
            return NET_S
        # A supervisor that dies each time would be started for ever.
        if self._starts >= FRUITLESS_STARTS:
            raise ExecutorError(f"the supervisor died {self._starts} times without a result; see {self._place.log}")
        if self._start() == supervisor.HELD:
            return HELD_S
        return NET_S

    def _start(self) -> int:
        """Starts a supervisor: in a session of its own, with no environment, no open file and no way back to us."""
        command = [sys.executable, "-I", "-S", "-B", str(supervisor.__file__), str(self._place.root)]
        with open(self._place.log, "ab") as log:
            try:
                starter = subprocess.run(
                    command,
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.PIPE,
                    env={},
                    cwd="/",
                    start_new_session=True,
                    timeout=START_LIMIT_S,
                )
            except subprocess.TimeoutExpired as error:
                raise ExecutorError(f"the supervisor did not start in {START_LIMIT_S:g} s", transient=True) from error
        if starter.returncode == 0:
            self._starts += 1
        elif starter.returncode != supervisor.HELD:
            reason = last_line(starter.stderr) or f"status {starter.returncode}"
            raise ExecutorError(f"the supervisor cannot run: {reason}", transient=True)
        return starter.returncode


def _over(statuses: Mapping[str, Status]) -> bool:
    return all(status.over for status in statuses.values())


def _limits(steps: Sequence[Document]) -> Limits:
    """What a job may leave: the disk shares of its steps and what they print; the default if one has no share."""
    total_bytes = 0
    for step in steps:
        if not step["box"]["disk_bytes"]:
            return Limits()
        total_bytes += step["box"]["disk_bytes"] + step["output_bytes"]
    return Limits(total_bytes=total_bytes)
