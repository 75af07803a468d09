"""Runs a batch of jobs on one machine and outlives the engine that asked for it.

    python -I -S -B supervisor.py WORKDIR

Standard library only, with what it imports: `sandbox/`, `files.py`, `errors.py` and `text.py` run from any folder
called `autolab`. `executors/local.py` is the other side of the work folder. Three kinds of process:

    supervisor           one a work folder: the queue and the slots; a daemon in a session of its own
    └── runner           one a running job, forked: runs the steps in order, writes the exit
        └── leader       one a step: the job's own command, in a session of its own

A job is over when `exits/<name>.json` is there, and only then. It is written last, after everything below the runner
was killed and reaped, in a folder that no job gets to write in. No process polls by a clock, except for the steps'
limits: each waits for a byte.

If a process dies, its children are killed. A supervisor that dies closes its end of each runner's socket, and the
runner kills its tree. If a runner dies, the kernel kills its leader (PR_SET_PDEATHSIG); everything else below it falls
to the supervisor (PR_SET_CHILD_SUBREAPER), which kills it. The runners share the supervisor's lock: a free lock means
that the supervisor and all runners are gone. The next supervisor calls `lost` what was started and has no exit, and
runs what was never started.

Not covered below level `full` (`sandbox`): a daemon that left its session, if supervisor and runner are killed at the
same time; at level `none`: a job that writes into the work folder on purpose. macOS has neither prctl nor /proc: there
only the step's process group is killed; that path has not been run.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, NoReturn

if __name__ == "__main__":  # -I leaves the folder out; behind everything else, so that nothing in it hides a module
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from autolab import files
from autolab.sandbox import kill_reasons, limits
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.sandbox.landlock import PR_SET_CHILD_SUBREAPER, prctl
from autolab.sandbox.process_tree import end_children, end_recorded
from autolab.sandbox.runner import GROUP, JobRunner, SupervisorDied
from autolab.sandbox.workdir import (
    Document,
    Workdir,
    drain,
    listen,
    names,
    note,
    notify,
    read_json,
    take_lock,
    wait_for_lock,
    write_json,
)

HELD = 3  # exit status: another supervisor (or a runner of a dead one) has this work folder


class QueuedJob(NamedTuple):
    """Ordered by `order`, its place among all jobs of the work folder."""

    order: int
    name: str
    job: Document


class RunningJob(NamedTuple):
    name: str
    job: Document
    runner: int
    control: socket.socket


class Supervisor:
    """The jobs of one work folder, in the order of submission, as many side by side as there are slots."""

    def __init__(self, place: Workdir, lock: int) -> None:
        self.place, self.lock = place, lock
        self.slots: int = read_json(place.settings)["slots"]
        self.wake = listen(place.wake)
        self.kills_before = kill_reasons.out_of_memory_kills()
        self.job_names: set[str] = set()
        self.queue: list[QueuedJob] = []
        self.running: dict[str, RunningJob] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wake, selectors.EVENT_READ)

    def recover(self) -> None:
        """Ends what a dead supervisor left: started, no exit. With the lock held no runner lives."""
        for name in sorted(names(self.place.started) - names(self.place.exits)):
            record = read_json(self.place.start(name))
            # Supervisor and runner may have been killed at once: then the step's session is all that is left.
            end_recorded(record)
            outcome = TrialOutcome.LOST
            if (self.place.cancels / name).exists():
                outcome = TrialOutcome.CANCELLED
            message = f"the supervisor died while {record['step']} ran"
            self.close(name, record, outcome, message, record["started"], record["step"])
        limits.sweep(GROUP)

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        note(f"supervisor {os.getpid()}, {self.slots} slots")
        while True:
            self.admit()
            self.cancel()
            self.start()
            if not self.running and self.leave():
                return
            # Without a running job there is nothing to wait for: `leave` has seen a new one.
            for key, _ in self.selector.select() if self.running else ():
                if key.fd == self.wake:
                    drain(self.wake)
                else:
                    self.reap(key.data)

    def admit(self) -> None:
        """Takes in the jobs that were added. A file that is no job is over before it starts."""
        for name in sorted(names(self.place.jobs) - self.job_names):
            self.job_names.add(name)
            if self.place.exit(name).exists():
                continue
            try:
                job = read_json(self.place.job(name))
                self.queue.append(QueuedJob(job["order"], name, job))
            except (ValueError, KeyError) as error:
                message = f"{self.place.job(name)} is not a job: {error}"
                self.close(name, {"key": name}, TrialOutcome.LOST, message, files.utc_now())
        self.queue.sort(key=lambda entry: (entry.order, entry.name))

    def cancel(self) -> None:
        cancelled = set(os.listdir(self.place.cancels))
        queue = self.queue
        self.queue = []
        for entry in queue:
            if entry.name in cancelled:
                message = "cancelled before it started"
                self.close(entry.name, entry.job, TrialOutcome.CANCELLED, message, files.utc_now())
            else:
                self.queue.append(entry)
        for name in cancelled & self.running.keys():
            # A runner that has just ended is seen by the selector next. A second byte says nothing new.
            with contextlib.suppress(BrokenPipeError):
                self.running[name].control.send(b"c")

    def start(self) -> None:
        """In order, without overtaking: a wide job at the front waits, and so do those behind it."""
        # A job that needs more cores than there are slots takes all of them.
        free = self.slots - sum(self.width(running.job) for running in self.running.values())
        while self.queue and self.width(self.queue[0].job) <= free:
            entry = self.queue.pop(0)
            free -= self.width(entry.job)
            self.launch(entry.name, entry.job)

    def width(self, job: Document) -> int:
        return min(int(job["cores"]), self.slots)

    def launch(self, name: str, job: Document) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self.become_runner(name, job, ours, theirs)
        theirs.close()
        self.running[name] = RunningJob(name, job, pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, name)

    def become_runner(self, name: str, job: Document, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        """In the child: closes what is the supervisor's, all but the lock, and runs the job. Does not return."""
        status = 70
        try:
            self.selector.close()
            os.close(self.wake)
            ours.close()
            for running in self.running.values():
                running.control.close()
            JobRunner(self.place, name, job, theirs).run()
            status = 0
        except SupervisorDied:
            note(f"{name}: killed, its supervisor is gone")
            notify(self.place.events)
        except BaseException:  # a forked process must not return into its parent's stack
            traceback.print_exc()
        finally:
            os._exit(status)

    def reap(self, name: str) -> None:
        """A runner has ended. Without an exit it was killed: then what it ran has fallen to this process."""
        ended = self.running.pop(name)
        self.selector.unregister(ended.control)
        ended.control.close()
        _, status = os.waitpid(ended.runner, 0)
        if self.place.exit(name).exists():
            return
        # Other runners are children of this process too, and go on.
        end_children(spare={running.runner for running in self.running.values()})
        started, step = files.utc_now(), ""
        if self.place.start(name).exists():
            record = read_json(self.place.start(name))
            end_recorded(record)
            started, step = record["started"], record["step"]
        code = os.waitstatus_to_exitcode(status)
        reason = kill_reasons.kill_message(code, self.kills_before) or f"ended with {code}"
        self.close(name, ended.job, TrialOutcome.LOST, f"the process that ran it {reason}", started, step)

    def close(
        self, name: str, job: Document, outcome: TrialOutcome, message: str, started: str, step: str = ""
    ) -> None:
        end = replace(Exit.of_steps(job["key"], outcome, message, started), step=step)
        write_json(self.place.exit(name), end.document)
        note(f"{name}: {outcome}: {message}")
        notify(self.place.events)

    def leave(self) -> bool:
        """Ends the supervisor unless a job came in."""
        queue = wait_for_lock(self.place.queue)  # no job can be added between the look and the end
        try:
            if names(self.place.jobs) - self.job_names:
                return False
            os.close(self.wake)
            os.close(self.lock)
            return True
        finally:
            os.close(queue)


def main(workdir: str) -> int:
    """Takes the lock, clears up after a predecessor, then goes on as a daemon while the caller gets the status:

    0 it runs; HELD somebody else has the folder; 1 it cannot, and standard error says why in one line."""
    place = Workdir(Path(workdir))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nothing to wait for
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        lock = take_lock(place.lock, wait=False)
        if lock is None:
            return HELD
        supervisor = Supervisor(place, lock)
        supervisor.recover()
        # The parent's status reaches the caller; the child holds the lock on.
        if os.fork():
            return 0
        os.dup2(1, 2)  # standard error is the caller's: from here on it is the log
        supervisor.run()
    except OSError as error:
        print(f"{error.filename or workdir}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
