"""The kernel's own restrictions, for a process about to become a trial's program: Landlock, seccomp, capabilities.

Standard library only, as the supervisor is. Linux on x86-64 and arm64; elsewhere `ARCHITECTURE` is None and a filter
cannot be built. Sources: Documentation/userspace-api/landlock.rst and seccomp_filter.rst, capabilities(7).
Everything here is one way: what a process gives up, it and all that it starts never get back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 38, 47
_LAST_CAPABILITY = 63

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
ARCHITECTURE = _ARCHITECTURES.get(os.uname().machine) if sys.platform == "linux" else None
"""The kernel's audit number of this machine, and the column of `_NUMBERS` that holds its system calls."""


def _system_calls(table: str) -> dict[str, tuple[str, ...]]:
    """The lines of a table of system calls: name, number on x86-64, number on arm64; `-` if there is none."""
    rows = [line.split() for line in table.strip().split("\n")]
    return {name: tuple(numbers) for name, *numbers in rows}


_REFUSED = _system_calls("""
ptrace 101 117
process_vm_readv 310 270
process_vm_writev 311 271
kcmp 312 272
pidfd_getfd 438 438
process_madvise 440 440
setns 308 268
mount 165 40
umount2 166 39
pivot_root 155 41
chroot 161 51
open_tree 428 428
move_mount 429 429
fsopen 430 430
fsconfig 431 431
fsmount 432 432
fspick 433 433
mount_setattr 442 442
name_to_handle_at 303 264
open_by_handle_at 304 265
quotactl 179 60
acct 163 89
add_key 248 217
request_key 249 218
keyctl 250 219
syslog 103 116
bpf 321 280
perf_event_open 298 241
userfaultfd 323 282
fanotify_init 300 262
init_module 175 105
finit_module 313 273
delete_module 176 106
kexec_load 246 104
kexec_file_load 320 294
reboot 169 142
swapon 167 224
swapoff 168 225
sethostname 170 161
setdomainname 171 162
settimeofday 164 170
clock_settime 227 112
adjtimex 159 171
clock_adjtime 305 266
iopl 172 -
ioperm 173 -
modify_ldt 154 -
vhangup 153 58
""")
"""What no training needs and what reaches past it: other processes, mounts, the kernel's keys, clocks and modules."""
_ABSENT = _system_calls("""
io_uring_setup 425 425
io_uring_enter 426 426
io_uring_register 427 427
clone3 435 435
""")
"""Answered as on a kernel without them, so that programs fall back: a filter does not see into either of them."""
_SHARED_MEMORY = _system_calls("""
memfd_create 319 279
memfd_secret 447 447
shmget 29 194
msgget 68 186
semget 64 190
mq_open 240 180
""")
_OUTSIDE_LANDLOCK = _system_calls("""
chmod 90 -
fchmod 91 52
fchmodat 268 53
fchmodat2 452 452
chown 92 -
fchown 93 55
lchown 94 -
fchownat 260 54
utime 132 -
utimes 235 -
futimesat 261 -
utimensat 280 88
setxattr 188 5
lsetxattr 189 6
fsetxattr 190 7
removexattr 197 14
lremovexattr 198 15
fremovexattr 199 16
""")
"""Changes of mode, owner, times and attributes, which Landlock lets pass. They are answered with success and do
nothing: programs that copy files ask for them in passing."""
_SINGLE = _system_calls("""
clone 56 220
unshare 272 97
socket 41 198
ioctl 16 29
prlimit64 302 261
setpriority 141 140
inotify_add_watch 254 27
setsockopt 54 208
""")
_NEW_NAMESPACES = 0x7E020000 | 0x80  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET, and TIME
_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink; others (vsock!) have no namespace
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal
_BUFFER_SIZES = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF and their FORCE: what lies in buffers is memory that nobody maps

_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def prctl(option: int, value: int) -> None:
    """Raises OSError; does nothing on macOS."""
    if sys.platform == "linux":
        _checked(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def no_new_privileges() -> None:
    """From here on no exec gives privileges: no set-user-id, no file capabilities."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """All sets empty, so that user 0 is a user like others."""
    libc = _libc()
    for capability in range(_LAST_CAPABILITY + 1):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # EINVAL: past the last that this kernel knows; EPERM: not ours to give, nor to have
    libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = struct.pack("=Ii", 0x20080522, 0)
    number = 126 if os.uname().machine == "x86_64" else 91
    _checked(libc.syscall(number, header, bytes(24)), "capset")


# seccomp


class _Filter:
    """The program of a filter for this machine, as it grows."""

    def __init__(self, audit: int, column: int) -> None:
        self.column = column
        self.code = [_load(_AT_ARCHITECTURE), _jump(_JUMP_EQ, audit, 1, 0), _answer(_KILL), _load(_AT_NUMBER)]
        if column == 0:
            # x32: the same calls once more, under other numbers.
            self.code += [_jump(_JUMP_GE, 0x40000000, 0, 1), _answer(_ERRNO | errno.ENOSYS)]

    def refuse(self, calls: Mapping[str, tuple[str, ...]], error: int) -> None:
        """Answer these calls with `error`; 0 is success without an effect."""
        for numbers in calls.values():
            if numbers[self.column] != "-":
                self.code += [_jump(_JUMP_EQ, int(numbers[self.column]), 0, 1), _answer(_ERRNO | error)]

    def refuse_one(self, name: str, error: int) -> None:
        self.refuse({name: _SINGLE[name]}, error)

    def examine(self, name: str, argument: int, tests: Sequence[bytes]) -> None:
        """Run `tests` on an argument of this call; the call goes on to the next test if none of them answers."""
        number = int(_SINGLE[name][self.column])
        self.code += [_jump(_JUMP_EQ, number, 0, len(tests) + 2), _load(_AT_ARGUMENTS + 8 * argument), *tests]
        self.code.append(_load(_AT_NUMBER))


def seccomp_filter(*, sockets: bool, alone: bool, shared_memory: bool) -> bytes:
    """The program of a filter. `sockets`: may it make any. `alone`: it stands without namespaces (level partial).
    `shared_memory`: may it hold memory that no process maps; else the buffers of sockets keep their size too.
    Raises OSError if the machine is not known."""
    if ARCHITECTURE is None:
        raise OSError(errno.ENOSYS, f"no system call numbers are known for {os.uname().machine}", "seccomp")
    program = _Filter(*ARCHITECTURE)
    program.refuse(_ABSENT, errno.ENOSYS)
    program.refuse(_REFUSED, errno.EPERM)
    if not shared_memory:
        program.refuse(_SHARED_MEMORY, errno.ENOSYS)
    if alone:
        program.refuse(_OUTSIDE_LANDLOCK, 0)
        program.refuse_one("inotify_add_watch", errno.EACCES)
    if not sockets:
        program.refuse_one("socket", errno.EACCES)
    # clone takes its exit signal in the lowest byte, where unshare has a flag for the clock.
    program.examine("clone", 0, _refuse_bits(_NEW_NAMESPACES & ~0x80))
    program.examine("unshare", 0, _refuse_bits(_NEW_NAMESPACES))
    program.examine("socket", 0, _refuse_all_but(_FAMILIES, errno.EAFNOSUPPORT))
    program.examine("ioctl", 1, _refuse_values(_TERMINAL_INPUT, errno.EPERM))
    if alone:
        # Only of itself: 0 is the caller.
        program.examine("prlimit64", 0, _refuse_all_but((0,), errno.EPERM))
        program.examine("setpriority", 1, _refuse_all_but((0,), errno.EPERM))
    if not shared_memory:
        program.examine("setsockopt", 2, _refuse_values(_BUFFER_SIZES, 0))
    return b"".join([*program.code, _answer(_ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, then: int, otherwise: int) -> bytes:
    return struct.pack("=HBBI", test, then, otherwise, value)


def _answer(value: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, value)


def _refuse_bits(bits: int) -> list[bytes]:
    return [_jump(_JUMP_SET, bits, 0, 1), _answer(_ERRNO | errno.EPERM)]


def _refuse_values(values: Sequence[int], error: int) -> list[bytes]:
    tests = []
    for value in values:
        tests += [_jump(_JUMP_EQ, value, 0, 1), _answer(_ERRNO | error)]
    return tests


def _refuse_all_but(values: Sequence[int], error: int) -> list[bytes]:
    # An allowed value jumps over the tests that are left and over the answer.
    tests = [_jump(_JUMP_EQ, value, len(values) - index, 0) for index, value in enumerate(values)]
    return [*tests, _answer(_ERRNO | error)]


def install_filter(program: bytes) -> None:
    """Puts the filter over this process. Needs `no_new_privileges` before."""
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _checked(_libc().prctl(_PR_SET_SECCOMP, 2, head, 0, 0), "seccomp")


# Landlock

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_DEVICES = 1 << 6 | 1 << 11
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files a version knows; 16 from version 5 on."""
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
READ = _EXECUTE | _READ | _LIST
WRITE = (1 << 16) - 1 & ~_DEVICES
SIGNALS_SINCE = 6
"""The Landlock version (Linux 6.12) from which signals and abstract sockets stay inside too."""
LEAST = 3
"""The first version (Linux 6.2) that also holds back `truncate`, without which a file outside could be emptied."""


def landlock_version() -> int:
    """The version of this kernel's Landlock; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    version: int = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def restrict_paths(
    reads: Sequence[str], writes: Sequence[str], lists: Sequence[str] = (), *, network: bool = False
) -> None:
    """Leaves this process what lies below these paths; missing ones are skipped. Folders below `lists` can be listed,
    and none of their files be read. With `network` it may bind and connect.

    Needs `no_new_privileges` before. Not held back: stat, chdir, and what `_OUTSIDE_LANDLOCK` names."""
    version = landlock_version()
    rights = (1 << _RIGHTS.get(version, 16)) - 1
    # Each version added a field to the structure: file rights, network rights (4), scopes (6).
    fields = [rights]
    if version >= 4:
        fields.append(0 if network else 3)
    if version >= SIGNALS_SINCE:
        fields.append(3)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    libc = _libc()
    rules = _checked(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock")
    try:
        for paths, access in ((reads, READ), (writes, WRITE), (lists, _LIST)):
            for path in paths:
                _allow(libc, rules, path, access & rights)
        _checked(libc.syscall(_RESTRICT, rules, 0), "landlock")
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # out of reach already, so it needs no rule
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _ON_FILES
        _checked(libc.syscall(_ADD, rules, 1, struct.pack("=Qi", access, place), 0), f"landlock: {path}")
    finally:
        os.close(place)
