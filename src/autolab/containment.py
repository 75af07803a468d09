"""At which level programs run here: what is asked for, what this machine can do, and probes that show each layer.

Nobody is asked what is installed: a level counts as possible when a program has run at it and could not do what the
level forbids. The rule is the contract's: code that a model or an agent wrote runs at `full` or as the person says;
the templates' own code, and what the built-in researcher builds of its own parts, may run at `partial`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from socket import create_server

from autolab import durable, process, sandbox
from autolab.errors import LabError
from autolab.processes import boot
from autolab.records.lab import Config
from autolab.sandbox import Box

OWN_CODE = frozenset({"offline"})
"""Researchers whose candidates are made of this package's own parts."""
PROBE_LIMIT_S = 30.0
INSTALL = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap) for full"


@dataclass(frozen=True)
class Ability:
    """The highest level that works here, and why none above it does (empty at full)."""

    level: str
    why: str


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
    way = f"{INSTALL}, or say so: containment: {lower} in config.yaml, or `autolab loop --containment {lower}`"
    if config.researcher.name not in OWN_CODE or able.level == "none":
        said = f"containment: {asked} cannot be had here: {able.why}"
        raise LabError(f".autolab/config.yaml: {said}; code of researcher {config.researcher.name} needs it: {way}")
    line = f"containment: {able.level}, not {asked}: {able.why}; the built-in researcher's code may run so; {INSTALL}"
    return config.model_copy(update={"containment": able.level}), line


def ability(store: Path, *, note: bool = True) -> Ability:
    """What works here, asked once for each start of the machine and each bubblewrap; with `note` kept in `store`."""
    known = store / "containment.json"
    now = _this_machine()
    try:
        held = json.loads(known.read_bytes())
        if held["machine"] == now:
            return Ability(held["level"], held["why"])
    except (OSError, ValueError, KeyError):
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
    why = ""
    for level in ("full", "partial"):
        try:
            failed = [layer for layer in probe(level) if not layer.holds]
        except LabError as error:
            failed, reason = [], str(error).partition("; `autolab")[0].removeprefix("probe.log: ")
            why = why or reason
            continue
        if not failed:
            return Ability(level, why)
        why = why or f"{failed[0].name}: {failed[0].said}"
    return Ability("none", why)


# probes


@dataclass(frozen=True)
class Layer:
    """One thing that a level forbids. `holds`: outside of the sandbox the probe did it, inside it could not."""

    name: str
    holds: bool
    said: str


_PROBE = r"""
import ctypes, json, os, socket, sys
told = json.load(open(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
done = {}
def tries(name, act):
    try:
        done[name] = bool(act())
    except OSError:
        done[name] = False
def reach():
    with socket.socket() as plug:
        plug.settimeout(5)
        return plug.connect_ex(("127.0.0.1", told["port"])) == 0
def write():
    with open(told["file"], "a") as file:
        return file.write("x")
tries("files: read outside", lambda: open(told["file"]).read())
tries("files: write outside", write)
tries("network", reach)
tries("signals", lambda: os.kill(told["pid"], 0) is None)
tries("processes of others", lambda: os.path.exists("/proc/%d/stat" % told["pid"]))
tries("new namespaces", lambda: libc.unshare(0x10000000) == 0)
tries("capabilities", lambda: int([line for line in open("/proc/self/status") if line.startswith("CapEff")][0][7:], 16))
tries("own user", lambda: os.getuid() == told["uid"])
print(json.dumps(done))
"""
_FULL_ONLY = ("processes of others",)


def probe(level: str) -> list[Layer]:
    """Each layer of a level, tried by one program that runs once without and once with it. LabError: it cannot run.

    A layer on which the free run could do no harm either (capabilities, for a person who has none) is left out."""
    with tempfile.TemporaryDirectory(prefix="autolab-probe-") as folder, create_server(("127.0.0.1", 0)) as server:
        place = Path(folder)
        aim = {"file": str(place / "aim"), "port": server.getsockname()[1], "pid": os.getpid(), "uid": os.getuid()}
        (place / "aim").write_text("x")
        (place / "told.json").write_text(json.dumps(aim))
        (place / "told.json").chmod(0o644)  # whatever the umask: inside, it is read by another user
        free, bound = (_try(place, box) for box in (Box(), Box(level=level)))
    layers = []
    for name, harm in free.items():
        skipped = level != "full" and name in _FULL_ONLY
        own = name == "own user" and (os.getuid() != 0 or level != "full")
        if harm and not skipped and not own:
            layers.append(Layer(name, not bound[name], "a probe got through" if bound[name] else "held"))
    return layers


def _try(place: Path, box: Box) -> dict[str, bool]:
    base = str(Path(sys.base_prefix))
    box = replace(box, reads=(base, str(place / "told.json")), writes=())
    argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", _PROBE, str(place / "told.json")]
    ended = process.run(argv, Path("/"), {}, place / "logs" / "probe.log", PROBE_LIMIT_S, box)
    if not ended.ok:
        raise LabError(f"a probe at level {box.level} failed: {ended.last_line or ended.code}")
    found: dict[str, bool] = json.loads(ended.tail.rpartition("\n")[2])
    return found


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
