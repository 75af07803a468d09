"""Runs a batch of jobs on one machine and outlives the engine that asked for it.

    python -I -S -B supervisor.py WORKDIR

Standard library only, with the files beside it that it imports (keeper, sandbox, syscalls, limits, processes,
kill_reasons, workdir): they run from any folder called `autolab`.
`executors/local.py` is the other side of the work folder. Three kinds of process:

    supervisor           one a work folder: the queue and the slots; a daemon in a session of its own
    └── keeper           one a running job, forked: runs the steps in order, writes the exit
        └── leader       one a step: the job's own command, in a session of its own

A job is over when `exits/<name>.json` is there, and only then. It is written last, after everything below the keeper
was killed and reaped, and lies where no job is told to write. There are no clocks but the steps' limits: who waits,
waits for a byte.

Who dies takes along what is below it. A supervisor that dies closes its end of each keeper's socket, and the keeper
kills its tree. A keeper that dies takes its leader along (PR_SET_PDEATHSIG), and what else was below it falls to the
supervisor (PR_SET_CHILD_SUBREAPER), which kills it. The keepers share the supervisor's lock: a free lock means that the
supervisor and all keepers are gone. The next supervisor calls `lost` what was started and has no exit, and runs what
was never started.

Not covered below level `full` (`sandbox`): a daemon that left its session, when supervisor and keeper are both killed
at one blow; at level `none`: a job that writes into the work folder on purpose. macOS has neither prctl nor /proc:
there only the step's process group is killed; that path has not been run.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # -I leaves the folder out; behind everything else, so that nothing in it hides a module
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from autolab.sandbox import kill_reasons, limits
from autolab.sandbox.landlock import PR_SET_CHILD_SUBREAPER, prctl
from autolab.sandbox.process_tree import end_children, end_recorded
from autolab.sandbox.runner import CANCELLED, GROUP, LOST, JobRunner, SupervisorDied, exit_document
from autolab.sandbox.workdir import (
    Document,
    Workdir,
    drain,
    listen,
    names,
    note,
    now,
    read_json,
    notify,
    take_lock,
    write_json,
)

HELD = 3  # exit status: another supervisor (or a keeper of a dead one) has this work folder


class RunningJob(NamedTuple):
    name: str
    job: Document
    keeper: int
    control: socket.socket


class Supervisor:
    """The jobs of one work folder, in the order of submission, as many side by side as there are slots."""

    def __init__(self, place: Workdir, lock: int) -> None:
        self.place, self.lock = place, lock
        self.slots: int = read_json(place.settings)["slots"]
        self.wake = listen(place.wake)
        self.kills_before = kill_reasons.out_of_memory_kills()
        self.known: set[str] = set()
        self.queue: list[tuple[int, str, Document]] = []
        self.running: dict[str, RunningJob] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wake, selectors.EVENT_READ)

    def recover(self) -> None:
        """Ends what a dead supervisor left and says so: started, no exit. With the lock held no keeper lives."""
        for name in sorted(names(self.place.started) - names(self.place.exits)):
            record = read_json(self.place.start(name))
            end_recorded(record)
            cancelled = (self.place.cancels / name).exists()
            message = f"the supervisor died while {record['step']} ran"
            self.close(name, record, CANCELLED if cancelled else LOST, message, record["started"], record["step"])
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
            for key, _ in self.selector.select() if self.running else ():
                if key.fd == self.wake:
                    drain(self.wake)
                else:
                    self.reap(key.data)

    def admit(self) -> None:
        """Takes in the jobs that were added. A file that is no job is over before it starts."""
        for name in sorted(names(self.place.jobs) - self.known):
            self.known.add(name)
            if self.place.exit(name).exists():
                continue
            try:
                job = read_json(self.place.job(name))
                self.queue.append((job["order"], name, job))
            except (ValueError, KeyError) as error:
                self.close(name, {"key": name}, LOST, f"{self.place.job(name)} is not a job: {error}", now())
        self.queue.sort(key=lambda entry: entry[:2])

    def cancel(self) -> None:
        asked = set(os.listdir(self.place.cancels))
        for _, name, job in [entry for entry in self.queue if entry[1] in asked]:
            self.close(name, job, CANCELLED, "cancelled before it started", now())
        self.queue = [entry for entry in self.queue if entry[1] not in asked]
        for name in asked & self.running.keys():
            with contextlib.suppress(BrokenPipeError):  # it has just ended: the selector says so next
                self.running[name].control.send(b"c")  # a second byte says nothing new

    def start(self) -> None:
        """In order, without overtaking: a wide job at the front waits, and so do those behind it."""
        free = self.slots - sum(self.width(one.job) for one in self.running.values())
        while self.queue and self.width(self.queue[0][2]) <= free:
            _, name, job = self.queue.pop(0)
            free -= self.width(job)
            self.launch(name, job)

    def width(self, job: Document) -> int:
        return min(int(job["cores"]), self.slots)

    def launch(self, name: str, job: Document) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self.keep(name, job, ours, theirs)
        theirs.close()
        self.running[name] = RunningJob(name, job, pid, ours)
        self.selector.register(ours, selectors.EVENT_READ, name)

    def keep(self, name: str, job: Document, ours: socket.socket, theirs: socket.socket) -> None:
        """In the child: lets go of what is the supervisor's, all but the lock, and keeps the job. Does not return."""
        status = 70
        try:
            self.selector.close()
            os.close(self.wake)
            for held in (ours, *(one.control for one in self.running.values())):
                held.close()
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
        """A keeper has ended. Without an exit it was killed: then what it kept has fallen to us."""
        one = self.running.pop(name)
        self.selector.unregister(one.control)
        one.control.close()
        _, status = os.waitpid(one.keeper, 0)
        if self.place.exit(name).exists():
            return
        end_children(spare={other.keeper for other in self.running.values()})
        started, step = now(), ""
        if self.place.start(name).exists():
            record = read_json(self.place.start(name))
            end_recorded(record)
            started, step = record["started"], record["step"]
        code = os.waitstatus_to_exitcode(status)
        how = kill_reasons.told(code, self.kills_before) or f"ended with {code}"
        self.close(name, one.job, LOST, f"the process that kept it {how}", started, step)

    def close(self, name: str, job: Document, outcome: str, message: str, started: str, step: str = "") -> None:
        document = exit_document(job, outcome, message, [], started, {}) | {"step": step}
        write_json(self.place.exit(name), document)
        note(f"{name}: {outcome}: {message}")
        notify(self.place.events)

    def leave(self) -> bool:
        """Ends the supervisor unless a job came in. The queue is locked: none can come between the look and the end."""
        queue = take_lock(self.place.queue, wait=True)
        assert queue is not None
        try:
            if names(self.place.jobs) - self.known:
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
        if os.fork():
            return 0
        os.dup2(1, 2)
        supervisor.run()
    except OSError as error:
        print(f"{error.filename or workdir}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
