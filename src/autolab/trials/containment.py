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

OWN_CODE = frozenset({"researcher offline"})
"""Authors whose candidates are made of this package's own parts."""
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


def settle(config: Config, store: Path, *, note: bool = True, author: str = "") -> tuple[Config, str]:
    """The configuration with the level that is used, and a line for the user if that is not the requested one.

    `author` wrote the code; if it is empty, the configured researcher. LabError: this machine cannot provide the
    requested level, and the author's code may not run at a lower one.
    """
    author = author or f"researcher {config.researcher.name}"
    requested = config.containment
    if requested == "none":
        return config, ""
    highest = ability(store, note=note)
    level, why, way_out = highest.level, highest.why, highest.way
    if LEVELS.index(level) >= LEVELS.index(requested):
        return config, ""
    # A model's code never runs at a lower level than the user requested; they must write the lower one down.
    if author not in OWN_CODE or level == "none":
        reason = f"containment: {requested} cannot be had here: {why}"
        need = f"code of {author} needs it"
        setting = f"containment: {level} in config.yaml, or `autolab loop --containment {level}`"
        raise LabError(f".autolab/config.yaml: {reason}; {need}: {way_out}, or say so: {setting}")
    line = f"containment: {level}, not {requested}: {why}; the built-in researcher's code may run so; {way_out}"
    return config.model_copy(update={"containment": level}), line


def require_level(config: Config, store: Path) -> None:
    """LabError: this machine cannot provide the level of the configuration. For code whose user is asked, not a lab."""
    if config.containment == "none":
        return
    store.mkdir(parents=True, exist_ok=True)
    highest = ability(store)
    if LEVELS.index(highest.level) < LEVELS.index(config.containment):
        raise LabError(
            f"containment: {config.containment} cannot be had here: {highest.why}; {highest.way}, or, for code that you"
            " trust, --containment none"
        )


def ability(store: Path, *, note: bool = True) -> Ability:
    """The highest level that works here. `full` is probed once for each start of the machine and each bubblewrap.

    With `note` the result is kept in `store`."""
    cache = store / "containment.json"
    machine = _this_machine()
    try:
        cached = json.loads(cache.read_bytes())
        # A lower level is probed each time: the user may have followed the message meanwhile.
        if cached["machine"] == machine and cached["level"] == "full":
            return Ability("full", "")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is no cached result, or another version wrote it
    highest = _probe_levels()
    if note:
        result = {"machine": machine, "level": highest.level, "why": highest.why}
        files.write_whole(cache, json.dumps(result), sync=False)
    return highest


def _this_machine() -> str:
    """Everything that a probe's result depends on: boot, user, bubblewrap and this file."""
    try:
        facts = os.stat(find_program("bwrap"))
        program = f"{facts.st_ino} {facts.st_mtime_ns}"
    except OSError:
        program = "none"
    return f"{boot()} {os.geteuid()} bwrap {program} {Path(__file__).stat().st_mtime_ns}"


def _probe_levels() -> Ability:
    why = way_out = ""
    for level in ("full", "partial"):
        try:
            failures = [layer for layer in probe(level) if not layer.holds]
        except LabError as error:
            # The probe itself did not run. Its way out is for `doctor`; the reason alone is shown here.
            reason = str(error).partition("; `autolab")[0].removeprefix("probe.log: ")
            why, way_out = why or reason, way_out or way_to_full()
            continue
        if not failures:
            return Ability(level, why, way_out)
        # The first failure is that of `full`, which is what the user would have to fix.
        why = why or f"{failures[0].name}: {failures[0].message}"
        way_out = way_out or "`autolab doctor` shows each layer"
    return Ability("none", why, way_out)


def way_to_full() -> str:
    """What the user can do where bubblewrap cannot be started, or cannot put up its namespaces."""
    if sys.platform != "linux":
        return "full needs Linux"
    for program, way_out in (("bwrap", INSTALL), ("setpriv", "install util-linux"), ("prlimit", "install util-linux")):
        try:
            find_program(program)
        except OSError:
            return way_out
    # Root makes namespaces whatever these settings say.
    if os.geteuid() != 0:
        for file, closed, way_out in _KERNEL_SETTINGS:
            if read_line(Path(file)) == closed:
                return way_out.format(name=file.removeprefix("/proc/sys/").replace("/", "."))
    return _NAMESPACES
