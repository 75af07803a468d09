"""At which level programs run here: what is asked for, what this machine can do."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from autolab import files
from autolab.errors import LabError
from autolab.lab.plumbing import read_line
from autolab.lab.schemas.config import Config
from autolab.sandbox.box import LEVELS, find_program
from autolab.sandbox.probe import probe
from autolab.sandbox.process_tree import boot

OWN_CODE = frozenset({"offline"})
"""Researchers whose candidates are made of this package's own parts."""
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
    """The configuration with the level that is really used, and a line for the user where it is not the one asked.

    LabError: the level asked for cannot be had, and what is to run may not run at a lower one."""
    asked = config.containment
    if asked == "none":
        return config, ""
    able = ability(store, note=note)
    if LEVELS.index(able.level) >= LEVELS.index(asked):
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
        files.write_whole(known, json.dumps({"machine": now, "level": able.level, "why": able.why}), sync=False)
    return able


def _this_machine() -> str:
    try:
        facts = os.stat(find_program("bwrap"))
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
        why = why or f"{failed[0].name}: {failed[0].message}"
        way = way or "`autolab doctor` shows each layer"
    return Ability("none", why, way)


def way_to_full() -> str:
    """What the user can do where bubblewrap cannot be started, or cannot put up its namespaces."""
    if sys.platform != "linux":
        return "full needs Linux"
    for name, way in (("bwrap", INSTALL), ("setpriv", "install util-linux"), ("prlimit", "install util-linux")):
        try:
            find_program(name)
        except OSError:
            return way
    if os.geteuid() != 0:
        for file, closed, way in _KERNEL_SETTINGS:
            if read_line(Path(file)) == closed:
                return way.format(name=file.removeprefix("/proc/sys/").replace("/", "."))
    return _NAMESPACES
