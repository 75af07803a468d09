"""A small host around one run of a hostile program: what it could reach, made anew, and looked at afterwards.

Everything here may be harmed: nothing but the containment under test keeps the program away. The program is told all
paths, ports and pids in a JSON file, so that the same text bites where nothing contains it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import pty
import resource
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import tty
from pathlib import Path
from typing import Any

from autolab.sandbox.collect import remove_tree

LABELS = 32
EVALUATOR = """\
import argparse, pickle, struct

parser = argparse.ArgumentParser()
for name in ("--predictions", "--labels", "--out"):
    parser.add_argument(name)
told = parser.parse_args()

def rows(path):
    with open(path, "rb") as file:
        data = file.read()
    if data[:1] == b"\\x80":
        return pickle.loads(data)
    values = struct.unpack("<64f", data[128:384])
    return [int(values[2 * i + 1] > values[2 * i]) for i in range(32)]

found, wanted = rows(told.predictions), rows(told.labels)
accuracy = sum(a == b for a, b in zip(found, wanted)) / 32
with open(told.out, "w") as file:
    file.write('{"accuracy": %r}' % accuracy)
"""
IPC_RMID, IPC_CREAT = 0, 0o1000
KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}  # add_key, keyctl
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def npy(rows: list[tuple[float, float]]) -> bytes:
    """An array of float32 as numpy would save it, with a header of 128 bytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, 2), }}"
    words = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + b"".join(struct.pack("<2f", *r) for r in rows)


def labels() -> list[int]:
    return [(i * 7 + 3) % 5 % 2 for i in range(LABELS)]


class World:
    """`root` holds `host` (the canaries), `reads` (what a step may read), `work` (an executor's work folder).

    `token` is what must not be read: it is in every secret. `plant` is what a program leaves where it should not be
    able to. `mark` is in the environment of all that the program starts."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="autolab-hostile-")).resolve()  # the kernel tells of no links
        self.root.chmod(0o755)
        self.token, self.plant, self.mark = (secrets.token_hex(12) for _ in range(3))
        self.host, self.reads, self.work = (self.root / name for name in ("host", "reads", "work"))
        self.train = self.work / "trials" / "t" / "a1" / "train"
        self.sibling = self.work / "trials" / "sibling" / "a1" / "train"
        self.facts: dict[str, Any] = {"plant": self.plant, "mark": self.mark, "train": str(self.train)}
        self.closing = contextlib.ExitStack()
        self.closing.callback(self._remove)
        self.closing.callback(self._free_memory)
        self._canaries()
        self._readable()
        self._listeners()
        self._terminal()
        self._shared()
        self._keyring()
        self._sentinel()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def tell(self, program: str, limits: dict[str, int]) -> None:
        """Writes the program and what it is told; then remembers how the host looks before it runs."""
        (self.reads / "program").write_text(program)
        self.facts |= limits
        (self.reads / "facts.json").write_text(json.dumps(self.facts))
        self.before = self.look()
        self.vital = self.vital_signs()
        self.older = set(os.listdir("/proc"))

    # what there is

    def _canaries(self) -> None:
        """Files that anybody may read and folders that anybody may write: no mode protects them."""
        secret = f"the secret is {self.token}\n"
        files = {
            "secret": secret,
            "keep": "as it was\n" * 20,
            "private/notes.txt": secret,
            "home/.netrc": f"machine example.org password {self.token}\n",
            "home/.bashrc": "alias l=ls\n",
            "evaluator/eval.py": EVALUATOR,
            "code/train.py": "import helper\n",
            "code/helper.py": "VALUE = 1\n",
            "library/json.py": "VALUE = 1\n",
            "lock": "",
            "ledger.jsonl": '{"n": 1}\n',
        }
        for name, text in files.items():
            self._write(self.host / name, text.encode())
        truth = npy([(1.0 - label, float(label)) for label in labels()])
        self._write(self.host / "evaluator" / "labels.npy", truth + self.token.encode())
        self._write(self.sibling / "predictions.npy", truth + self.token.encode())
        (self.host / "pointer").symlink_to(f"/nowhere/{self.token}")
        for folder in ("outside", "pycache", f"private/{self.token}.d", "code/__pycache__", "unpacked", "tmp"):
            (self.host / folder).mkdir(parents=True)
        for name in ("jobs", "started", "cancel", "exits"):
            (self.work / name).mkdir(exist_ok=True)
        for folder, _, _ in os.walk(self.root):
            os.chmod(folder, 0o777)
        self.root.chmod(0o755)
        for name in ("secret", "keep", "private", "home", "evaluator", "code", "library", "lock", "outside", "pointer"):
            self.facts[name] = str(self.host / name)
        for name in ("pycache", "unpacked", "tmp"):
            self.facts[name] = str(self.host / name)
        self.facts |= {"host": str(self.host), "work": str(self.work), "sibling": str(self.sibling)}
        self.facts |= {"labels": f"{self.host}/evaluator/labels.npy", "ledger": f"{self.host}/ledger.jsonl"}

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o666)

    def _readable(self) -> None:
        """The folder that a step may read. As root it also holds what its mode, or its being a device, has to close."""
        self.reads.mkdir()
        self.reads.chmod(0o777)
        self.facts["reads"] = str(self.reads)
        self._write(self.reads / "notes", b"open to all\n")
        if os.geteuid() == 0:
            closed = self.reads / "closed"
            closed.write_text(f"for root only: {self.token}\n")
            closed.chmod(0o600)
            os.mknod(self.reads / "device", 0o20666, os.makedev(1, 8))
            os.chmod(self.reads / "device", 0o666)
            self.facts["handle"] = _handle(self.host / "secret")

    def _listeners(self) -> None:
        unix, abstract = f"{self.host}/socket", f"\0autolab-{self.plant}"
        wanted: list[tuple[str, int, int, Any]] = [
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("unix", socket.AF_UNIX, socket.SOCK_STREAM, unix),
            ("unix_datagram", socket.AF_UNIX, socket.SOCK_DGRAM, f"{self.host}/datagrams"),
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, abstract),
            ("told", socket.AF_UNIX, socket.SOCK_STREAM, f"\0autolab-{self.token}"),
        ]
        self.listeners: dict[str, socket.socket] = {}
        for name, family, kind, address in wanted:
            listener = self.closing.enter_context(socket.socket(family, kind))
            listener.setblocking(False)
            listener.bind(address)
            if kind == socket.SOCK_STREAM:
                listener.listen(16)
            if family == socket.AF_UNIX and not address.startswith("\0"):
                os.chmod(address, 0o666)
            self.listeners[name] = listener
            if name == "told":
                continue  # only its name is worth something
            self.facts[name] = listener.getsockname()[1] if family != socket.AF_UNIX else address
        spare = self.closing.enter_context(socket.socket())
        spare.bind(("127.0.0.1", 0))
        self.facts["backdoor"] = spare.getsockname()[1]
        spare.close()

    def reached(self) -> list[str]:
        """The listeners that somebody talked to."""
        return [name for name, listener in self.listeners.items() if _was_reached(listener)]

    def _terminal(self) -> None:
        """A terminal of the user: what is written to its slave end appears on their screen."""
        self.screen, slave = pty.openpty()
        self.closing.callback(os.close, self.screen)
        self.closing.callback(os.close, slave)
        tty.setraw(slave)
        os.set_blocking(self.screen, False)
        os.chmod(os.ttyname(slave), 0o666)
        self.facts["terminal"] = os.ttyname(slave)

    def shown(self) -> bytes:
        try:
            return os.read(self.screen, 65536)
        except (BlockingIOError, OSError):
            return b""

    def _shared(self) -> None:
        """Memory that others share by name: a System V segment and a file in /dev/shm, each with the secret."""
        self.names = {f"/dev/shm/autolab-{self.plant}", f"/dev/shm/autolab-{self.plant}-more"}
        self.key, self.more_key = (secrets.randbelow(1 << 30) + 1 for _ in range(2))
        segment = libc.shmget(self.key, 4096, IPC_CREAT | 0o666)
        address = libc.shmat(segment, None, 0)
        ctypes.memmove(address, self.token.encode(), len(self.token))
        libc.shmdt(ctypes.c_void_p(address))
        queue = libc.msgget(self.key, IPC_CREAT | 0o666)
        message = struct.pack("<q", 1) + self.token.encode()
        libc.msgsnd(queue, message, len(self.token), 0)
        self._write(Path(f"/dev/shm/autolab-{self.plant}"), self.token.encode())
        self.facts |= {"key": self.key, "more_key": self.more_key, "shared": f"autolab-{self.plant}"}

    def shared(self) -> tuple[object, ...]:
        """How the shared memory looks from the host: segments under our keys, messages, files."""
        segment = libc.shmget(self.key, 0, 0)
        address = libc.shmat(segment, None, 0) if segment != -1 else None
        text = ctypes.string_at(address, len(self.token)) if address not in (None, 2**64 - 1) else b""
        if text:
            libc.shmdt(ctypes.c_void_p(address))
        files = tuple(sorted(path.name for path in Path("/dev/shm").glob(f"*{self.plant}*")))
        return text, libc.shmget(self.more_key, 0, 0) != -1, files, Path(f"/dev/shm/{self.facts['shared']}").exists()

    def _free_memory(self) -> None:
        for key in (self.key, self.more_key):
            if (segment := libc.shmget(key, 0, 0)) != -1:
                libc.shmctl(segment, IPC_RMID, None)
            if (queue := libc.msgget(key, 0)) != -1:
                libc.msgctl(queue, IPC_RMID, None)
        for path in Path("/dev/shm").glob(f"*{self.plant}*"):
            path.unlink()

    def _keyring(self) -> None:
        """A key in the session's keyring, which the kernel hands to every child."""
        add, control = KEYCTL[os.uname().machine]
        libc.syscall(control, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING: a new one, gone with this process
        name, text = f"autolab-{self.plant}".encode(), self.token.encode()
        key = libc.syscall(add, b"user", name, text, len(text), -3)
        if key != -1:
            libc.syscall(control, 5, key, 0x3F3F3F3F)  # KEYCTL_SETPERM: everybody may read it
        self.facts["key_name"] = name.decode()

    def _sentinel(self) -> None:
        """Another process of the user; the secret is in its arguments, environment, memory, folder and open file."""
        held, path = tempfile.mkstemp(dir=self.root)
        os.write(held, f"only open: {self.token}\n".encode())
        os.unlink(path)
        self.closing.callback(os.close, held)
        self.sentinel = subprocess.Popen(
            ["/bin/sh", "-c", "read x", self.token],
            stdin=subprocess.PIPE,
            env={"API_KEY": self.token},
            cwd=self.host / "private",
            pass_fds=(held,),
            preexec_fn=_without_capabilities,
        )
        self.closing.callback(self._end_sentinel)
        os.set_inheritable(held, True)
        while b"API_KEY" not in Path(f"/proc/{self.sentinel.pid}/environ").read_bytes():
            os.sched_yield()  # the new program runs, and its arguments are not laid out yet
        self.facts |= {"pid": self.sentinel.pid, "held_fd": held, "me": os.getpid()}

    def _end_sentinel(self) -> None:
        self.sentinel.kill()
        self.sentinel.wait()
        assert self.sentinel.stdin
        self.sentinel.stdin.close()

    def vital_signs(self) -> dict[str, object]:
        """What others could do to the sentinel; its state is `gone` if it is dead."""
        if self.sentinel.poll() is not None:
            return {"state": "gone"}
        pid = self.sentinel.pid
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        stopped = status["State"][0] in "tT"
        return {
            "state": "stopped" if stopped else "alive",
            "nice": os.getpriority(os.PRIO_PROCESS, pid),
            "cores": sorted(os.sched_getaffinity(pid)),
            "files": resource.prlimit(pid, resource.RLIMIT_NOFILE),
            "out of memory": Path(f"/proc/{pid}/oom_score_adj").read_text(),
            "environment": Path(f"/proc/{pid}/environ").read_bytes(),
        }

    # how it looks

    def look(self) -> dict[str, tuple[object, ...]]:
        """Every file that the program is not given to write: kind, owner, mode, times, content, attributes."""
        found: dict[str, tuple[object, ...]] = {}
        for top in (self.host, self.reads, self.sibling.parent.parent):
            for folder, folders, files in os.walk(top):
                for name in (".", *folders, *files):
                    path = os.path.join(folder, name)
                    found[os.path.normpath(path)] = _facts_of(path)
        return found

    def _remove(self) -> None:
        while still := survivors(self):  # of a test that failed before it looked for them
            end(still)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if (place := line.split()[4]).startswith(str(self.root)):
                libc.umount2(place.encode(), 2)
        try:
            remove_tree(self.root)
        except PermissionError:  # a program has marked a file as one that stays
            subprocess.run(["chattr", "-R", "-f", "-i", str(self.root)], check=False, capture_output=True)
            remove_tree(self.root)


def _without_capabilities() -> None:
    """So that root's process is to root what anybody's is to them: as easy to reach."""
    for number in range(64):
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP; fails where there is none to drop


def _facts_of(path: str) -> tuple[object, ...]:
    facts = os.lstat(path)
    content = ""
    if os.path.islink(path):
        content = os.readlink(path)
    elif os.path.isfile(path) and facts.st_size < 1 << 22:
        with contextlib.suppress(PermissionError):  # its mode, which is looked at too, says no
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    names = os.listxattr(path, follow_symlinks=False)
    return (facts.st_mode, facts.st_uid, facts.st_size, facts.st_mtime_ns, facts.st_nlink, content, tuple(names))


def _was_reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_STREAM:
            listener.accept()[0].close()
        else:
            listener.recv(4096)
    except BlockingIOError:
        return False
    return True


def _handle(path: Path) -> dict[str, Any]:
    """The kernel's own name of a file, by which whoever may can open it whatever lies around it."""
    buffer = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0), 136)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), buffer, ctypes.byref(mount), 0) == -1:
        return {}
    size, kind = struct.unpack_from("<Ii", buffer)
    return {"type": kind, "bytes": buffer.raw[8 : 8 + size].hex()}


def end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def survivors(world: World) -> list[int]:
    """Living processes that carry the run's mark, or stand or hold files in its writable folder.

    Where one is gone before it was looked at, it may have left another: then all are looked at again."""
    for _ in range(10):
        younger = [int(name) for name in set(os.listdir("/proc")) - world.older if name.isdigit()]
        belong = {pid: _belongs(pid, world) for pid in younger}
        if any(belong.values()) or None not in belong.values():
            break
    return [pid for pid in younger if belong[pid]]


def _belongs(pid: int, world: World) -> bool | None:
    """None if it is gone."""
    place, mark = Path(f"/proc/{pid}"), world.mark.encode()
    try:
        if (place / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X"):
            others = set(os.listdir(place / "task")) - {str(pid)}
            if not others:
                return False
            place = place / "task" / others.pop()  # its first thread is over, others go on
        if mark in (place / "environ").read_bytes() or mark in (place / "cmdline").read_bytes():
            return True
        open_files = [place / "cwd", *(place / "fd").iterdir()]
        return any(os.readlink(file).startswith(str(world.train)) for file in open_files)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        return False  # somebody else's


INTERPRETER = (sys.prefix, sys.base_prefix)
