"""Probes that show each layer of a containment level, by a program that tries what the level forbids."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from socket import create_server, socket
from subprocess import PIPE, Popen
from typing import Any

from autolab.errors import LabError
from autolab.sandbox import execute
from autolab.sandbox.box import Box

PROBE_LIMIT_S = 30.0


# probes


@dataclass(frozen=True)
class Layer:
    """One thing that a level forbids. `holds`: the probe did it outside of the sandbox, and could not inside."""

    name: str
    holds: bool
    message: str


_PROBE = r"""
import ctypes, json, os, signal, socket, sys
target = json.load(open(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
claims = {}
def attempt(name, action):
    try:
        claims[name] = action()
    except OSError:
        claims[name] = None
def read(path):
    with open(path) as file:
        return file.read()[-100:]
def append():
    with open(target["file"], "a") as file:
        file.write("x")
def connect():
    with socket.socket() as plug:
        plug.settimeout(5)
        plug.connect(("127.0.0.1", target["port"]))
def capabilities():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("CapEff")]
    return int(line.split()[1], 16)
attempt("content", lambda: read(target["file"]))
attempt("append", append)
attempt("connect", connect)
attempt("signal", lambda: os.kill(target["pid"], signal.SIGURG))
attempt("command line", lambda: read("/proc/%d/cmdline" % target["pid"]))
attempt("unshare", lambda: libc.unshare(0x10000000))
attempt("capabilities", capabilities)
attempt("uid", os.getuid)
print(json.dumps(claims))
"""
_BYSTANDER = r"""
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
print("ready", flush=True)
sys.stdin.read()
sys.exit(10 if signal.SIGURG in signal.sigpending() else 0)
"""
"""Another process of this user, whose exit status says whether a signal reached it. SIGURG disturbs nobody who does not
wait for it: in a sandbox another process may have the same number."""
_FULL_ONLY = ("processes of others", "own user")


def probe(level: str) -> list[Layer]:
    """Each layer of a level, tried by one program that runs once without and once with it. LabError: it cannot run.

    A layer is left out if the program does no harm without it either (capabilities, for a user who has none)."""
    free, enclosed = _harm(Box()), _harm(Box(level=level))
    layers = []
    for name, harmed in free.items():
        if not harmed or (level != "full" and name in _FULL_ONLY):
            continue
        # Only root can give a step another user.
        if name == "own user" and os.getuid() != 0:
            continue
        if enclosed[name]:
            layers.append(Layer(name, False, "a probe got through"))
        else:
            layers.append(Layer(name, True, "held"))
    return layers


def _harm(box: Box) -> dict[str, bool]:
    """What a probe in this box really did, judged on the host: by its file, its listener and its bystander.

    The probe's own word does not count where it could be wrong: at `full` it may make a file of the same path in its
    own /tmp, and another process may have the bystander's number there."""
    secret = secrets.token_hex(16)
    bystander_argv = [sys.executable, "-I", "-S", "-c", _BYSTANDER, secret]
    with (
        tempfile.TemporaryDirectory(prefix="autolab-probe-") as folder,
        create_server(("127.0.0.1", 0)) as server,
        Popen(bystander_argv, stdin=PIPE, stdout=PIPE, text=True) as bystander,
    ):
        assert bystander.stdin is not None and bystander.stdout is not None
        bystander.stdout.readline()
        place = Path(folder)
        aim = place / "aim"
        aim.write_text(secret)
        target = {"file": str(aim), "port": server.getsockname()[1], "pid": bystander.pid}
        (place / "target.json").write_text(json.dumps(target))
        (place / "target.json").chmod(0o644)  # whatever the umask: inside, it is read by another user
        claims = _claims(place, box)
        bystander.stdin.close()
        return {
            "files: read outside": secret in (claims["content"] or ""),
            "files: write outside": aim.read_text() != secret,
            "network": _was_reached(server),
            "signals": bystander.wait() == 10,
            "processes of others": secret in (claims["command line"] or ""),
            "new namespaces": claims["unshare"] == 0,
            "capabilities": bool(claims["capabilities"]),
            "own user": claims["uid"] == os.getuid(),
        }


def _was_reached(server: socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _claims(place: Path, box: Box) -> dict[str, Any]:
    """What the probe says that it got; None where the system refused."""
    target = str(place / "target.json")
    box = replace(box, reads=(sys.base_prefix, target), writes=())
    argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", _PROBE, target]
    ended = execute.run(argv, Path("/"), {}, place / "logs" / "probe.log", PROBE_LIMIT_S, box)
    if not ended.ok:
        raise LabError(f"a probe at level {box.level} failed: {ended.last_line or ended.code}")
    claims: dict[str, Any] = json.loads(ended.tail.rpartition("\n")[2])
    return claims


_HOGS = {
    "memory": "held = bytearray(400 << 20); print(len(held))",
    "processes": "import os\nfor _ in range(60):\n    if os.fork() == 0:\n        os.read(0, 1); os._exit(0)",
    "disk": "import sys\nfor at in range(40):\n    open(f'{sys.argv[1]}/{at}', 'wb').write(bytes(1 << 20))",
}
_SHARE = Box(memory_bytes=100 << 20, processes=30, disk_bytes=20 << 20)


def probe_limits(level: str) -> list[Layer]:
    """Whether a program that takes more than its share is ended, and what ends it."""
    layers = []
    for name, code in _HOGS.items():
        with tempfile.TemporaryDirectory(prefix="autolab-probe-") as folder:
            place = Path(folder)
            (place / "own").mkdir()
            box = replace(_SHARE, level=level, reads=(sys.base_prefix,), writes=(str(place / "own"),))
            argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", code, str(place / "own")]
            ended = execute.run(argv, Path("/"), {}, place / "logs" / "probe.log", PROBE_LIMIT_S, box)
        # A fork that the kernel refuses ends the program with an error of its own.
        holds = ended.passed is not None or (name == "processes" and "BlockingIOError" in ended.tail)
        message = "a probe took more than its share"
        if holds:
            message = f"held by {ended.contained.get(name, 'nothing')}"
        layers.append(Layer(name, holds, message))
    return layers
