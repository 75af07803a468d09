"""Where a lab stands and who holds it, without loading anything. Standard library only, for `status`."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from autolab.errors import LabError, LedgerError
from autolab.lab.git import common_dir, find_root


def locate(start: Path) -> tuple[Path, Path]:
    """The lab's root and its store in the git common dir; LabError with the way out where there is none."""
    root = find_root(start.resolve())
    if root is None:
        raise LabError(f"{start}: not in a lab (no git repository here or above); make one with `autolab init DIR`")
    common = common_dir(root)
    root = common.parent if common.name == ".git" else root
    store = common / "autolab"
    if (store / "head").exists():
        return root, store
    if (store / "ledger.jsonl").exists():
        raise LedgerError(f"{store}/head: missing, though the lab has a ledger; run `autolab doctor --fix`")
    if (root / ".autolab" / "config.yaml").exists():
        raise LabError(f"{root}: a clone of a lab, without a record of its own; `autolab init` makes it a lab")
    raise LabError(f"{root}: a git repository, but no lab; `autolab init DIR` makes one, --from-existing of this one")


def holder(store: Path) -> str | None:
    """Who holds the lab, as one phrase, or None. Reads only."""
    path = store / "lock"
    if not is_locked(path):
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f"`{held['command']}` (pid {held['pid']} on {held['machine']}, since {held['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "a command that has just begun"


def is_locked(path: Path) -> bool:
    """Whether a live process holds the flock on `path`."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
