"""The beginning of a lab in a repository: its store, ledger, schemas and ignored paths."""

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

COMPARISONS = "compare"
"""The folder of the store where comparisons are kept, which may be older than the lab."""
OWN = ("/5_worktrees/", "/.autolab/", "/experiments/")
"""The beginnings of the lines in a lab's .gitignore that name Autolab's own files."""


def write_schemas(root: Path) -> None:
    """Write the JSON schema of each document to `.autolab/schemas/`."""
    for name in SCHEMAS:
        files.write_whole(root / ".autolab" / "schemas" / f"{name}.schema.json", schema_text(name))


def register(root: Path, seed: int | None) -> Lab:
    """Begin the lab's own record in the git common dir. LabError: no branch with a commit is checked out."""
    config = Config.load(root / ".autolab" / "config.yaml", ".autolab/config.yaml")
    git = Git(root)
    branch, head = git.branch(), git.head()
    if branch is None or head is None:
        raise LabError(f"{root}: no branch with a commit is checked out; commit the lab's files, then init again")
    git.require_free_names()
    ignore(root)
    store = common_dir(root) / "autolab"
    # Made beside and renamed: the store appears whole or not at all. A crash leaves at most this folder.
    new = store.with_name("autolab.new")
    _move_comparisons(new, store)  # a killed init had taken them along
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    # The secret decides all seeds: with `--seed` they can be repeated, and foreseen.
    secret = secrets.token_hex(32) if seed is None else files.sha256_of(f"autolab init --seed {seed}")
    files.write_whole(new / "secret", secret + "\n", mode=0o600)
    files.write_whole(new / "documents.json", json.dumps(_documents(root, config)))
    ledger = Ledger(new)
    lab_id = secrets.token_hex(4)
    ledger.create(lab_id, root)
    events.append(ledger, Init(lab_id=lab_id, seed=seed, branch=branch, commit=head))
    state = State.first(config)
    campaign = Campaign(home_branch=branch, home_commit=head)
    events.append(ledger, Transition(state=state, campaign=campaign, why="init"))
    _move_comparisons(store, new)
    # What follows are views, which every command writes again if they are missing.
    new.rename(store)
    files.sync_folder(store.parent)
    lab = Lab(root)
    lab.show_state(state)
    lab.link_ledger()
    lab.note_interpreter()
    pytest_guard.write(root)
    return lab


def _move_comparisons(source: Path, target: Path) -> None:
    """Take along what `autolab compare` has measured, and leave `source` as an empty folder or none."""
    comparisons = source / COMPARISONS
    if comparisons.is_dir():
        target.mkdir(exist_ok=True)
        comparisons.rename(target / COMPARISONS)
    # Indexes of killed commands.
    for leftover in source.glob("index-*"):
        leftover.unlink()


def ignore(root: Path) -> None:
    """Write Autolab's own patterns to .git/info/exclude, except those that .gitignore has.

    That file is the repository's alone: a clone has the patterns from its own `init`.
    """
    exclude = common_dir(root) / "info" / "exclude"
    text = _text_of(exclude)
    # .gitignore is the user's, and not written.
    present = {*text.split("\n"), *_text_of(root / ".gitignore").split("\n")}
    template = (TEMPLATES / "base" / ".gitignore").read_text().split("\n")
    missing = [line for line in template if line.startswith(OWN) and line not in present]
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        text += "\n".join(["# Views and raw files of Autolab", *missing]) + "\n"
        files.write_whole(exclude, text.encode(errors="surrogateescape"))


def _text_of(path: Path) -> str:
    """A file's text, empty if there is no such file. Bytes that are not UTF-8 can be written back."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""


def _documents(root: Path, config: Config) -> dict[str, str]:
    """Hashes of the engine's documents as they are now."""
    # From the start, so that an edit before the engine's first entry is noticed.
    paths = (*config.files.global_, *config.docs.paper_targets)
    return {path: files.sha256_of_file(root / path) for path in paths if (root / path).is_file()}


def refuse_nested(folder: Path) -> None:
    """LabError: `folder` is a lab or lies in one."""
    # Every folder above is tried: a repository inside of a lab hides the lab from one look upwards.
    for place in (folder, *folder.parents):
        root = find_root(place) if place.exists() else None
        if root is not None and (common_dir(root) / "autolab" / "head").exists():
            if root == folder:
                raise LabError(f"{folder}: is a lab already; `autolab status` says where it stands")
            raise LabError(f"{folder}: lies in the lab at {root}; a lab in a lab would share its record")
