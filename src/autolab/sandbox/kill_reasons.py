"""Which signal ended a program, and who may have sent it, in words for a report. Standard library only.

Autolab knows when its own limits kill a program; such a kill never comes here. The kernel keeps no sender of other
signals. It can only be said whether its out-of-memory killer was at work meanwhile, by the counters of the machine and
of the control groups in sight. Source: proc(5) `vmstat`, Documentation/admin-guide/cgroup-v1/memory.rst and
cgroup-v2.rst.
"""

from __future__ import annotations

import signal
from pathlib import Path

SHELL = 128
"""A shell ends with this plus the number of the signal that ended its program."""
_ENDING_SIGNALS = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS),
        *(signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGPIPE),
        *(signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS),
    }
)
"""Signals that end a program that does nothing about them."""
_UNKNOWN_SENDER = "by itself or by somebody outside of Autolab"
_REASONS: dict[int, str] = {
    signal.SIGSEGV: "it touched memory that is not its own, mostly in compiled code",
    signal.SIGBUS: "a file in memory could not grow or was cut, as where /dev/shm is full",
    signal.SIGILL: "its compiled code is for another processor",
    signal.SIGABRT: "it gave up by itself, mostly after a failed check in compiled code",
    signal.SIGSYS: "it made a system call that is forbidden here",
    signal.SIGTERM: _UNKNOWN_SENDER,
    signal.SIGINT: _UNKNOWN_SENDER,
    signal.SIGHUP: _UNKNOWN_SENDER,
}
_OUT_OF_MEMORY = (
    "the kernel's out-of-memory killer ended a program on this machine meanwhile: "
    "the machine or its container ran out of memory; run fewer trials at once (executor slots) or with less memory"
)
_COUNTERS = (
    ("/proc/vmstat", "oom_kill"),
    ("/sys/fs/cgroup/memory.events", "oom_kill"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
)


def signal_of(code: int) -> int | None:
    """The signal that ended a program, by its exit status or minus the signal. A shell's 137 is 9; None for none."""
    if code < 0:
        return -code
    # A program may exit with such a status by itself: a signal that never ends a program is not taken for one.
    number = code - SHELL
    return number if number in _ENDING_SIGNALS else None


def out_of_memory_kills() -> dict[str, int]:
    """How many programs the kernel has killed so far for lack of memory, by counter, without unreadable counters."""
    counts = {}
    for path, name in _COUNTERS:
        # Which counters exist depends on the kernel, and on what a container shows of it.
        try:
            words = Path(path).read_text().split()
            counts[path] = int(words[words.index(name) + 1])
        except (OSError, ValueError, IndexError):
            continue
    return counts


def kill_message(code: int, kills_before: dict[str, int]) -> str | None:
    """`was killed by SIGKILL: ...`, for an exit status or minus a signal; None if no signal ended the program.

    `kills_before`: `out_of_memory_kills` when the program began."""
    number = signal_of(code)
    if number is None:
        return None
    message = f"was killed by {_name(number)}"
    if code > 0:
        message += f" (exit status {code})"
    reason = _reason(number, kills_before)
    return f"{message}: {reason}" if reason else message


def _reason(number: int, kills_before: dict[str, int]) -> str:
    if number != signal.SIGKILL:
        return _REASONS.get(number, "")
    for path, count in out_of_memory_kills().items():
        if count > kills_before.get(path, count):
            return _OUT_OF_MEMORY
    return f"{_UNKNOWN_SENDER}; perhaps the machine ran out of memory"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
