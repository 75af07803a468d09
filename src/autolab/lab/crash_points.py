"""Named crash points: one behind each write that is durable.

Usually a point is a call that does nothing. With `AUTOLAB_FAULT=<N or name>` the process kills itself at the Nth point
that it passes, or at the first of that name. `AUTOLAB_FAULT_LOG` names a file that gets a line for each point passed.
The tests crash at N = 1, 2, 3 ... until a run ends without a crash. Standard library only.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "ledger.after_append",
    "ledger.after_head",
    "state.after_write",
    "calibrate.after_record",
    "iteration.after_folder",
    "request.after_intent",
    "request.after_reply",
    "call.after_intent",
    "call.after_reply",
    "call.after_book",
    "artifact.after_write",
    "proposal.after_pin",
    "proposal.after_write",
    "proposal.after_record",
    "proposal.after_close",
    "worktree.after_add",
    "worktree.after_edit",
    "candidate.after_commit",
    "candidate.after_pin",
    "export.after_write",
    "run.after_manifest",
    "submit.after_intent",
    "submit.after_jobs",
    "trial.after_exit",
    "trial.after_fetch",
    "trial.after_score",
    "trial.after_store",
    "trial.after_record",
    "run.after_end",
    "run.after_discard",
    "holdout.after_debit",
    "confirm.after_record",
    "extract.after_write",
    "document.after_queue",
    "document.after_write",
    "log.after_snapshot",
    "decide.after_write",
    "lesson.after_record",
    "champion.after_ref",
    "reproduce.after_record",
)

_passed = 0


def _point(name: str) -> None:
    global _passed
    if name not in POINTS:
        raise AssertionError(f"crash point {name} is not in crash_points.POINTS")
    _passed += 1
    # Before the kill, so that the last line names the point of the crash.
    log = os.environ.get("AUTOLAB_FAULT_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(name + "\n")
    if os.environ["AUTOLAB_FAULT"] in (str(_passed), name):
        # Like a power cut: no handler and no `finally` runs.
        os.kill(os.getpid(), signal.SIGKILL)


def _off(name: str) -> None:
    pass


point = _point if "AUTOLAB_FAULT" in os.environ else _off
