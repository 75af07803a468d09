"""What is looked at on the host after a run. A judge returns what harm it sees, in words, or ""."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

from .program import Program
from .runs import LIMITS, OUTPUT_BYTES, Run, leave
from .world import World, end, survivors

SURVIVAL_S = 5.0
MOST_FILES, MOST_DEPTH = 10_000, 64
ENGINES_OWN = re.compile(
    r"jobs/t\.a1\.json|started/t\.a1\.json|exits/t\.a1\.json|lock|queue|supervisor\.(json|log)|wake|events"
    r"|trials/(t|t/a1|t/a1/(train|logs|scratch)|t/a1/logs/train\.(out|err)|sibling(/.*)?)|jobs|started|cancel|exits|trials"
)


def secret_read(world: World, run: Run) -> str:
    """The secret is in the trial's files, also behind its links, or in what it printed."""
    for top, follow in ((run.collected, True), (run.logs, False), (run.folder / "train", False)):
        for folder, folders, files in os.walk(top, followlinks=follow):
            if folder.count("/") > 200:
                folders.clear()
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if world.token.encode() in os.fsencode(name) + _content(path, follow):
                    return f"the secret is in {os.path.relpath(path, top)!r}"
    return ""


def _content(path: str, follow: bool) -> bytes:
    if not os.path.isfile(path) or os.path.getsize(path) > 1 << 20 or (os.path.islink(path) and not follow):
        return b""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return file.read()


def host_changed(world: World, run: Run) -> str:
    """A file that the program was not given differs, is gone or is new."""
    after = world.look()
    temporary = f"{world.host}/tmp"  # where anybody may leave a file
    for path in sorted(world.before.keys() | after.keys()):
        if world.before.get(path) != after.get(path) and not path.startswith(temporary):
            return f"{os.path.relpath(path, world.root)} is not as it was"
    return ""


def work_changed(world: World, run: Run) -> str:
    """The executor's work folder holds what the executor did not put there."""
    for folder, folders, files in os.walk(world.work):
        folders[:] = [name for name in folders if os.path.join(folder, name) != str(world.train)]
        for name in (*folders, *files):
            inner = os.path.relpath(os.path.join(folder, name), world.work)
            if not ENGINES_OWN.fullmatch(inner):
                return f"work/{inner!r} appeared"
    exit_file = world.work / "exits" / "t.a1.json"
    if exit_file.exists() and world.plant in exit_file.read_text():
        return "the exit document is the program's own"
    return ""


def sentinel_harmed(world: World, run: Run) -> str:
    now = world.vital_signs()
    changed = [name for name, value in world.vital.items() if now.get(name) != value]
    return f"the other process: {', '.join(changed)} changed ({now['state']})" if changed else ""


def listener_reached(world: World, run: Run) -> str:
    return " and ".join(f"the {name} listener was reached" for name in world.reached())


def heard(world: World, run: Run) -> str:
    """What the accomplice noticed, and what appeared on the terminal."""
    shown = ["the terminal was written to"] if world.plant.encode() in world.shown() else []
    return "; ".join(dict.fromkeys([*run.heard, *shown]))


def shared_changed(world: World, run: Run) -> str:
    text, more, files, original = world.shared()
    expected = (world.token.encode(), False, (world.facts["shared"],), True)
    return "" if (text, more, files, original) == expected else "the shared memory of the host is not as it was"


def survived(world: World, run: Run) -> str:
    """Something the program started is alive. With an executor there are five seconds for it to go."""
    deadline = time.monotonic() + (SURVIVAL_S if run.exit else 0)
    while (left := survivors(world)) and time.monotonic() < deadline:
        time.sleep(0.05)
    while still := survivors(world):
        end(still)
        time.sleep(0.01)
    return f"{len(left)} processes are alive after the end" if left else ""


def held(world: World, run: Run) -> str:
    """The program got what it must not get: it writes this file afterwards, and only then."""
    return "it got what it wanted" if os.path.lexists(run.folder / "train" / "held") else ""


def killed(world: World, run: Run) -> str:
    return "what kept it was killed" if run.killed else ""


def overstayed(world: World, run: Run) -> str:
    return f"it ran for {run.seconds:.1f} s" if run.overstayed else ""


def log_flooded(world: World, run: Run) -> str:
    sizes = sum(path.stat().st_size for path in (run.folder / "logs").glob("*"))
    return f"{sizes} bytes of output are stored" if sizes > OUTPUT_BYTES else ""


def log_lost(world: World, run: Run) -> str:
    """What it had said first is not in the log any more."""
    said = (run.folder / "logs" / "train.out").read_bytes()
    return "" if b"what I did first" in said[:100] else "the log has lost its beginning"


def collection_unsafe(world: World, run: Run) -> str:
    """What a reader of the collected files could fall over: by kind, mode, name, depth, number or size."""
    count = size = 0
    for folder, folders, files in os.walk(run.collected):
        depth = len(Path(folder).relative_to(run.collected).parts)
        for name in (*folders, *files):
            if unsafe := _unsafe(os.path.join(folder, name), name):
                return f"collected {name[:60]!r}: {unsafe}"
        count += len(files)
        size += sum(os.path.getsize(os.path.join(folder, name)) for name in files)
        if depth > MOST_DEPTH:
            return f"collected folders {depth} deep"
    if count > MOST_FILES:
        return f"collected {count} files"
    return f"collected {size} bytes" if size > 2 * LIMITS["disk_bytes"] else ""


def _unsafe(path: str, name: str) -> str:
    facts = os.lstat(path)
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        return "not a regular file"
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink != 1:
        return "has another name"
    if facts.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(facts.st_mode):
        return "runs as its owner"
    if not facts.st_mode & stat.S_IRUSR:
        return "cannot be read by its owner"
    return "" if name.isprintable() else "the name is not printable"


def record_forged(world: World, run: Run) -> str:
    """The score of record is better than the predictions are."""
    if run.record is None:
        return ""
    return f"the score of record is {run.record}" if not run.record <= 0.8 else ""


def collected_late(world: World, run: Run) -> str:
    """The trial's files change after its end."""
    first = _contents(run.folder)
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if _contents(run.folder) != first:
            return "the trial's files change after the end"
        time.sleep(0.05)
    return ""


def _contents(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return found


def planted_code_ran(world: World, run: Run) -> str:
    """Code that the program left somewhere was run by somebody else, outside."""
    return "code that it left was run" if (world.host / "outside" / world.plant).exists() else ""


def mounted(world: World, run: Run) -> str:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "a mount of the host changed" if any(line.split()[4].startswith(str(world.root)) for line in lines) else ""


Judge = Callable[[World, Run], str]
JUDGES: dict[str, Judge] = {
    judge.__name__: judge
    for judge in (
        *(secret_read, host_changed, work_changed, sentinel_harmed, listener_reached, heard, shared_changed, held),
        *(killed, overstayed, log_flooded, log_lost, collection_unsafe, record_forged, collected_late, mounted),
        *(planted_code_ran, survived),
    )
}
ON_DEMAND = {"log_lost", "collected_late"}
"""Judges for programs that name them: the first needs the program to say something, the second takes its time."""


def harm(world: World, run: Run, program: Program) -> dict[str, str]:
    """By judge what is seen, of all that is judged. Processes are last: looking for them ends them."""
    found = {}
    for name, judge in JUDGES.items():
        if (name not in ON_DEMAND or name in program.judges) and (seen := _seen(judge, world, run)):
            found[name] = seen
    for number, trouble in enumerate(run.trouble):
        found[f"trouble {number}"] = trouble
    if trouble := leave(world, run):
        found["clearing away"] = trouble
    return found


def _seen(judge: Judge, world: World, run: Run) -> str:
    try:
        return judge(world, run)
    except FileNotFoundError:
        if run.exit is not None:
            raise  # all that could take a file away is dead
        return "files change while they are looked at"


def began(run: Run, program: Program) -> bool:
    """Whether the program ran at all: one that could not start is contained by nothing."""
    return program.shell or (run.folder / "train" / "began").exists()
