"""Where a lab is and which command holds it. Standard library only, for `status`."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from autolab.errors import LabError, LedgerError
from autolab.lab.git import common_dir, find_root


def locate(start: Path) -> tuple[Path, Path]:
    """The root of the lab that `start` lies in, and its store in the git common dir. LabError: it lies in no lab."""
    root = find_root(start.resolve())
    if root is None:
        raise LabError(f"{start}: not in a lab (no git repository here or above); make one with `autolab init DIR`")
    # A candidate's worktree belongs to the lab of the main checkout.
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
    """The command that holds the lab, as one phrase; None if none does. Reads only."""
    path = store / "lock"
    if not is_locked(path):
        return None
    try:
        command = json.loads(path.read_text(encoding="utf-8"))
        return f"`{command['command']}` (pid {command['pid']} on {command['machine']}, since {command['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        # It has the lock, and has not yet written who it is.
        return "a command that has just begun"


def is_locked(path: Path) -> bool:
    """Whether a live process holds the flock on `path`."""
    try:
        with open(path, encoding="utf-8") as file:
            # Shared, so that two readers do not take each other for a holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
