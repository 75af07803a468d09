"""Trials on this machine, under a detached supervisor (`autolab.executors.supervisor`) that outlives the engine.

The work folder is all that the two sides share: jobs and cancels are files with a byte to wake the supervisor, exits
are files with a byte to wake the engine. So a new object on the same folder knows all that the old one knew. Whenever
jobs are not over and no supervisor listens, one is started; of two, the second leaves at once.

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
from autolab.executors.base import Exit, Job, Phase, Ref, Status, check, fill
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox import runner
from autolab.sandbox.collect import Known, Limits, collect, remove_tree
from autolab.sandbox.workdir import Document, Workdir, drain, listen, names, read_json, notify, take_lock, write_json
from autolab.text import last_line

NET_S = 1.0  # a byte may go to another reader of the same pipe, a supervisor may be killed: look at least this often
HELD_S = 0.05  # a dead supervisor's keepers are still killing
START_LIMIT_S = 60.0
CANCEL_LIMIT_S = 60.0
FRUITLESS_STARTS = 5
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _in_one_line(folder: Path) -> Iterator[None]:
    """The outside world's OSError as an ExecutorError that names the path."""
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
        self._keys: dict[str, str] = {}
        self._told: dict[str, Phase] = {}
        self._starts = 0

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        for job in jobs:
            check(job)
        with _in_one_line(self._place.root):
            self._place.make()
            queue = take_lock(self._place.queue, wait=True)
            assert queue is not None
            try:
                write_json(self._place.settings, {"slots": self._slots})  # for the next one to be started
                refs = [self._add(job) for job in jobs]
            finally:
                os.close(queue)
            if any(not self._over(ref.handle) for ref in refs):
                self._wake()
        return refs

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        with _in_one_line(self._place.root):
            known = self._known()
        return {key: Ref(key, known[key]) for key in keys if key in known}

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        statuses: dict[str, Status] = {}
        for statuses in self._looks(refs, timeout_s):
            changed = any(self._told.get(key) is not status.phase for key, status in statuses.items())
            if changed or all(status.over for status in statuses.values()):
                break
        self._told.update({key: status.phase for key, status in statuses.items()})
        return statuses

    def fetch(self, ref: Ref, destination: Path) -> None:
        with _in_one_line(self._place.root):
            if not self._status(ref).over:
                raise ExecutorError(f"{ref.key} is not over: its files can be fetched when it is")
            trial, _, attempt = ref.handle.rpartition(".a")
            folder = self._place.folder(trial, int(attempt))
            if not self._place.start(ref.handle).exists():
                folder.mkdir(parents=True, exist_ok=True)  # cancelled in the queue: nothing but the exit
            job = read_json(self._place.job(ref.handle))
            collect(folder, self._place.exit(ref.handle), destination, _limits(job["steps"]), _known(job))

    def cancel(self, refs: Sequence[Ref]) -> None:
        with _in_one_line(self._place.root):
            left = [ref for ref in refs if not self._status(ref).over]
            for ref in left:
                (self._place.cancels / ref.handle).touch()
            if not left:
                return
            self._wake()
        for statuses in self._looks(left, CANCEL_LIMIT_S):
            if all(status.over for status in statuses.values()):
                return
        raise ExecutorError(f"{len(left)} cancelled jobs are still alive; see {self._place.log}", transient=True)

    def discard(self) -> None:
        trash = self._place.root.with_name(f".{self._place.root.name}.discarded")
        with _in_one_line(self._place.root):
            if self._place.root.exists():
                self._place.make()  # a run whose trials were all known submits nothing
                if open_jobs := names(self._place.jobs) - names(self._place.exits):
                    raise ExecutorError(f"{self._place.root}: {len(open_jobs)} jobs are not over; cancel them first")
                lock = take_lock(self._place.lock, wait=True)  # a supervisor without jobs is leaving
                assert lock is not None
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
        for earlier in range(1, job.attempt):
            before = f"{job.trial}.a{earlier}"
            if self._place.job(before).exists() and not self._over(before):
                raise ExecutorError(
                    f"{job.key}: attempt {earlier} of {job.trial} is not over; wait for it or cancel it"
                )
        folder = self._place.folder(job.trial, job.attempt)
        places = {"folder": str(folder)} | {name: os.path.abspath(path) for name, path in job.inputs.items()}
        scratch = {step.name: runner.scratch_folder(step.box.level, str(folder)) for step in job.steps}
        steps = [asdict(fill(step, places | {"scratch": scratch[step.name]})) for step in job.steps]
        document = {
            "key": job.key,
            "trial": job.trial,
            "attempt": job.attempt,
            "order": len(names(self._place.jobs)),
            "cores": job.cores,
            "folder": str(folder),
            "steps": steps,
            "results": list(job.results),
            "discarded": list(job.discarded),
        }
        write_json(path, document)
        return Ref(job.key, name)

    def _known(self) -> dict[str, str]:
        """Key to job name of all that was ever submitted here. Job files never change, so each is read once."""
        if self._place.jobs.exists():
            for name in names(self._place.jobs) - set(self._keys.values()):
                self._keys[read_json(self._place.job(name))["key"]] = name
        return self._keys

    def _over(self, name: str) -> bool:
        return name in self._exits or self._place.exit(name).exists()

    def _status(self, ref: Ref) -> Status:
        name = ref.handle
        if name not in self._exits and self._place.exit(name).exists():
            self._exits[name] = Exit.read(self._place.exit(name))
            self._starts = 0
        if ended := self._exits.get(name):
            return Status(Phase.LOST if ended.outcome is TrialOutcome.LOST else Phase.FINISHED, ended)
        if self._place.start(name).exists():
            return Status(Phase.RUNNING)
        if self._place.job(name).exists():
            return Status(Phase.QUEUED)
        raise ExecutorError(f"{ref.key} was never submitted in {self._place.root}; submit it first")

    # Below: the supervisor and the waiting

    def _looks(self, refs: Sequence[Ref], timeout_s: float) -> Iterator[dict[str, Status]]:
        """The statuses now, then after whatever happens, until the time is up. Sees to it that somebody works."""
        if not refs:
            return
        deadline = time.monotonic() + timeout_s
        with _in_one_line(self._place.root), self._events() as events:
            while True:
                net = NET_S
                if not all(self._over(ref.handle) for ref in refs):
                    net = self._wake()
                yield {ref.key: self._status(ref) for ref in refs}
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                wakeup = select.poll()
                wakeup.register(events, select.POLLIN)
                if wakeup.poll(1000 * min(left, net)):
                    drain(events)

    @contextmanager
    def _events(self) -> Iterator[int]:
        """Open before the first look, so that nothing can happen between a look and the wait for the next."""
        descriptor = listen(self._place.events)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _wake(self) -> float:
        """Makes the supervisor look at its queue, or starts one. Returns the seconds after which to do so again."""
        if notify(self._place.wake):
            return NET_S
        if self._starts >= FRUITLESS_STARTS:
            raise ExecutorError(f"the supervisor died {self._starts} times without a result; see {self._place.log}")
        return HELD_S if self._start() == supervisor.HELD else NET_S

    def _start(self) -> int:
        """Starts a supervisor: in a session of its own, with no environment, no open file and no way back to us."""
        command = [sys.executable, "-I", "-S", "-B", str(supervisor.__file__), str(self._place.root)]
        with open(self._place.log, "ab") as log:
            try:
                done = subprocess.run(
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
        if done.returncode not in (0, supervisor.HELD):
            said = last_line(done.stderr) or f"status {done.returncode}"
            raise ExecutorError(f"the supervisor cannot run: {said}", transient=True)
        self._starts += done.returncode == 0
        return done.returncode


def _limits(steps: Sequence[Document]) -> Limits:
    """What a job may leave: the disk shares of its steps and what they print; the default if one has no share."""
    shares = [step["box"]["disk_bytes"] for step in steps]
    if not all(shares):
        return Limits()
    return Limits(total_bytes=sum(shares) + sum(step["output_bytes"] for step in steps))


def _known(job: Document) -> Known:
    """What the job says of its files; jobs of versions before this one say nothing."""
    discarded = frozenset(job.get("discarded", ())) | {runner.SCRATCH_FOLDER}
    return Known(results=frozenset(job.get("results", ())), discarded=discarded)
