"""At which level programs run here: what is asked for, what this machine can do, and probes that show each layer.

Nobody is asked what is installed: a level counts as possible when a program has run at it and could not do what the
level forbids. The rule is the contract's: code that a model or an agent wrote runs at `full` or as the person says;
the templates' own code, and what the built-in researcher builds of its own parts, may run at `partial`.
"""

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

from autolab import durable, process, sandbox
from autolab.errors import LabError
from autolab.plumbing import read_line
from autolab.processes import boot
from autolab.records.lab import Config
from autolab.sandbox import Box

OWN_CODE = frozenset({"offline"})
"""Researchers whose candidates are made of this package's own parts."""
PROBE_LIMIT_S = 30.0
INSTALL = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap) for full"
_KERNEL_SETTINGS = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "let users make namespaces: sysctl -w {name}=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "let users make namespaces: sysctl -w {name}=10000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "let bubblewrap make namespaces: an AppArmor profile for it (bwrap-userns-restrict), or sysctl -w {name}=0",
    ),
)
"""Settings of the kernel that keep a plain user's bubblewrap from a user namespace: file, value, way out."""
_NAMESPACES = (
    "let bubblewrap make namespaces (in a container that right is given from outside: docker run --privileged)"
)


@dataclass(frozen=True)
class Ability:
    """The highest level that works here; why none above it does and what the user can do about it (empty at full)."""

    level: str
    why: str
    way: str = ""


def settle(config: Config, store: Path, *, note: bool = True) -> tuple[Config, str]:
    """The configuration with the level that is really used, and a line for the person where it is not the one asked.

    LabError: the level asked for cannot be had, and what is to run may not run at a lower one."""
    asked = config.containment
    if asked == "none":
        return config, ""
    able = ability(store, note=note)
    if sandbox.LEVELS.index(able.level) >= sandbox.LEVELS.index(asked):
        return config, ""
    lower = "partial" if able.level == "partial" else "none"
    way = f"{able.way}, or say so: containment: {lower} in config.yaml, or `autolab loop --containment {lower}`"
    if config.researcher.name not in OWN_CODE or able.level == "none":
        said = f"containment: {asked} cannot be had here: {able.why}"
        raise LabError(f".autolab/config.yaml: {said}; code of researcher {config.researcher.name} needs it: {way}")
    line = f"containment: {able.level}, not {asked}: {able.why}; the built-in researcher's code may run so; {able.way}"
    return config.model_copy(update={"containment": able.level}), line


def ability(store: Path, *, note: bool = True) -> Ability:
    """What works here. `full` is asked once for each start of the machine and each bubblewrap.

    With `note` the answer is kept in `store`. A lower level is asked again each time:
    the user may have done meanwhile what the message says."""
    known = store / "containment.json"
    now = _this_machine()
    try:
        held = json.loads(known.read_bytes())
        if held["machine"] == now and held["level"] == "full":
            return Ability("full", "")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never asked
    able = _tried()
    if note:
        durable.write(known, json.dumps({"machine": now, "level": able.level, "why": able.why}), sync=False)
    return able


def _this_machine() -> str:
    try:
        facts = os.stat(sandbox.program("bwrap"))
        program = f"{facts.st_ino} {facts.st_mtime_ns}"
    except OSError:
        program = "none"
    return f"{boot()} {os.geteuid()} bwrap {program} {Path(__file__).stat().st_mtime_ns}"


def _tried() -> Ability:
    why = way = ""
    for level in ("full", "partial"):
        try:
            failed = [layer for layer in probe(level) if not layer.holds]
        except LabError as error:
            reason = str(error).partition("; `autolab")[0].removeprefix("probe.log: ")
            why, way = why or reason, way or way_to_full()
            continue
        if not failed:
            return Ability(level, why, way)
        why = why or f"{failed[0].name}: {failed[0].said}"
        way = way or "`autolab doctor` shows each layer"
    return Ability("none", why, way)


def way_to_full() -> str:
    """What the user can do where bubblewrap cannot be started, or cannot put up its namespaces."""
    if sys.platform != "linux":
        return "full needs Linux"
    for name, way in (("bwrap", INSTALL), ("setpriv", "install util-linux"), ("prlimit", "install util-linux")):
        try:
            sandbox.program(name)
        except OSError:
            return way
    if os.geteuid() != 0:
        for file, closed, way in _KERNEL_SETTINGS:
            if read_line(Path(file)) == closed:
                return way.format(name=file.removeprefix("/proc/sys/").replace("/", "."))
    return _NAMESPACES


# probes


@dataclass(frozen=True)
class Layer:
    """One thing that a level forbids. `holds`: outside of the sandbox the probe did it, inside it could not."""

    name: str
    holds: bool
    said: str


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
_FULL_ONLY = ("processes of others",)


def probe(level: str) -> list[Layer]:
    """Each layer of a level, tried by one program that runs once without and once with it. LabError: it cannot run.

    A layer on which the free run could do no harm either (capabilities, for a user who has none) is left out."""
    free, enclosed = _harm(Box()), _harm(Box(level=level))
    layers = []
    for name, harmed in free.items():
        skipped = level != "full" and name in _FULL_ONLY
        own = name == "own user" and (os.getuid() != 0 or level != "full")
        if harmed and not skipped and not own:
            layers.append(Layer(name, not enclosed[name], "a probe got through" if enclosed[name] else "held"))
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
    ended = process.run(argv, Path("/"), {}, place / "logs" / "probe.log", PROBE_LIMIT_S, box)
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
            ended = process.run(argv, Path("/"), {}, place / "logs" / "probe.log", PROBE_LIMIT_S, box)
        holds = ended.passed is not None or (name == "processes" and "BlockingIOError" in ended.tail)
        by = ended.contained.get(name, "nothing")
        layers.append(Layer(name, holds, f"held by {by}" if holds else "a probe took more than its share"))
    return layers
