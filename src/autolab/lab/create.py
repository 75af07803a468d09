"""Begin a lab's own record in a repository: store, ledger, schemas, ignored paths."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from autolab import files
from autolab.errors import LabError
from autolab.lab import pytest_guard
from autolab.lab.git import Git, common_dir, find_root
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger
from autolab.lab.schemas import SCHEMAS, events, schema_text
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Init, Transition

TEMPLATES = Path(__file__).parents[1] / "templates"

OWN = ("/5_worktrees/", "/.autolab/", "/experiments/")
"""How the lines of a lab's .gitignore begin that are about Autolab's own files."""


def write_schemas(root: Path) -> None:
    """The JSON schema of each document into `.autolab/schemas/`."""
    for name in SCHEMAS:
        files.write_whole(root / ".autolab" / "schemas" / f"{name}.schema.json", schema_text(name))


def register(root: Path, seed: int | None) -> Lab:
    """Begin the lab's own record in the git common dir; it appears whole or not at all."""
    config = Config.load(root / ".autolab" / "config.yaml", ".autolab/config.yaml")
    git = Git(root)
    branch, head = git.branch(), git.head()
    if branch is None or head is None:
        raise LabError(f"{root}: no branch with a commit is checked out; commit the lab's files, then init again")
    ignore(root)
    store = common_dir(root) / "autolab"
    new = store.with_name("autolab.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    secret = files.sha256_of(f"autolab init --seed {seed}") if seed is not None else secrets.token_hex(32)
    files.write_whole(new / "secret", secret + "\n", mode=0o600)
    files.write_whole(new / "documents.json", json.dumps(_documents(root, config)))
    ledger = Ledger(new)
    lab_id = secrets.token_hex(4)
    ledger.create(lab_id, root)
    events.append(ledger, Init(lab_id=lab_id, seed=seed, branch=branch, commit=head))
    state = State.first(config)
    campaign = Campaign(home_branch=branch, home_commit=head)
    events.append(ledger, Transition(state=state, campaign=campaign, why="init"))
    new.rename(store)
    files.sync_folder(store.parent)
    lab = Lab(root)
    lab.show_state(state)
    lab.link_ledger()
    lab.note_interpreter()
    pytest_guard.write(root)
    return lab


def ignore(root: Path) -> None:
    """Autolab's own patterns into .git/info/exclude, but for those in .gitignore, which stays the user's.

    Written for this repository alone: a clone has them again from its own `init`.
    """
    wanted = [line for line in (TEMPLATES / "base" / ".gitignore").read_text().split("\n") if line.startswith(OWN)]
    exclude, shown = common_dir(root) / "info" / "exclude", root / ".gitignore"
    old = exclude.read_text(encoding="utf-8", errors="surrogateescape") if exclude.exists() else ""
    theirs = shown.read_text(encoding="utf-8", errors="surrogateescape") if shown.is_file() else ""
    known = {*old.split("\n"), *theirs.split("\n")}
    missing = [line for line in wanted if line not in known]
    if missing:
        start = old if not old or old.endswith("\n") else old + "\n"
        text = start + "\n".join(["# Views and raw files of Autolab", *missing]) + "\n"
        files.write_whole(exclude, text.encode(errors="surrogateescape"))


def _documents(root: Path, config: Config) -> dict[str, str]:
    """Hashes of the engine's documents as they are now, so that an edit before the first entry is noticed."""
    paths = (*config.files.global_, *config.docs.paper_targets)
    return {path: files.sha256_of_file(root / path) for path in paths if (root / path).is_file()}


def refuse_nested(folder: Path) -> None:
    """LabError where `folder` is a lab or lies in one."""
    for place in (folder, *folder.parents):
        root = find_root(place) if place.exists() else None
        if root is not None and (common_dir(root) / "autolab" / "head").exists():
            if root == folder:
                raise LabError(f"{folder}: is a lab already; `autolab status` says where it stands")
            raise LabError(f"{folder}: lies in the lab at {root}; a lab in a lab would share its record")
