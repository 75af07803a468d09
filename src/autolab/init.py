"""Make a lab: from a template in an empty folder, or of a clone that carries a lab's files."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from autolab import durable
from autolab.errors import LabError, UsageError
from autolab.git import Git, common_dir, find_root
from autolab.lab import Lab
from autolab.ledger import Ledger, machine
from autolab.records import SCHEMAS, schema_text
from autolab.records.lab import Campaign, Config, Stage, State

TEMPLATES = Path(__file__).parent / "templates"
"""Each folder in it is a lab as `init` copies it."""


def templates() -> list[str]:
    return sorted(path.name for path in TEMPLATES.iterdir() if (path / ".autolab" / "config.yaml").exists())


def init(folder: Path, template: str, seed: int | None = None) -> Lab:
    """A new lab in `folder`: empty or new for a template, or a clone of a lab, whose files are kept.

    `template` is a known name or, with a slash in it, a folder of your own that holds a lab's files.
    """
    source = Path(template) if "/" in template else TEMPLATES / template
    if not (source / ".autolab" / "config.yaml").exists():
        raise UsageError(f"--template: {template!r} is not known; known: {', '.join(templates())}, or a lab's folder")
    folder = folder.resolve()
    _refuse_nested(folder)
    begun = folder / f".autolab.init.{source.name}"  # an empty folder, which git does not see: killed, init goes on
    if not begun.exists():
        if (folder / ".autolab" / "config.yaml").exists() and find_root(folder) == folder:
            return _register(folder, seed)
        if folder.exists() and any(folder.iterdir()):
            raise LabError(f"{folder}: not empty; a template goes into a new or empty folder")
    begun.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".git"))
    for name in SCHEMAS:
        durable.write(folder / ".autolab" / "schemas" / f"{name}.schema.json", schema_text(name))
    Git.init(folder).commit_all(f"autolab init: {source.name}")
    begun.rmdir()
    return _register(folder, seed)


def fork(folder: Path) -> Lab:
    """Make a copied lab one of its own, with a new id."""
    lab = Lab.find(folder)
    head = lab.ledger.open(repair=True)
    if head.path == str(lab.root) and head.machine == machine():
        raise LabError(f"{lab.root}: not a copy: the lab has always stood here")
    lab.fork(secrets.token_hex(4))
    return lab


def _register(root: Path, seed: int | None) -> Lab:
    """Begin the lab's own record in the git common dir; it appears whole or not at all."""
    config = Config.load(root / ".autolab" / "config.yaml", ".autolab/config.yaml")
    git = Git(root)
    branch, head = git.branch(), git.head()
    if branch is None or head is None:
        raise LabError(f"{root}: no branch with a commit is checked out; commit the lab's files, then init again")
    store = common_dir(root) / "autolab"
    new = store.with_name("autolab.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    secret = durable.sha256(f"autolab init --seed {seed}") if seed is not None else secrets.token_hex(32)
    durable.write(new / "secret", secret + "\n")
    (new / "secret").chmod(0o600)
    durable.write(new / "documents.json", json.dumps(_documents(root, config)))
    ledger = Ledger(new)
    lab_id = secrets.token_hex(4)
    ledger.create(lab_id, root)
    ledger.append("init", {"lab_id": lab_id, "seed": seed, "branch": branch, "commit": head})
    state = State(
        iteration_id=None,
        stage=Stage.HYPOTHESIS,
        max_stage_attempts=config.attempts.stage,
        max_bounces=config.attempts.bounces,
        max_total_iterations=config.budget.iterations,
    )
    campaign = Campaign(home_branch=branch, home_commit=head)
    ledger.append("transition", {"state": state.value(), "campaign": campaign.value(), "why": "init"})
    new.rename(store)
    durable.sync_folder(store.parent)
    lab = Lab(root)
    lab.show_state(state)
    lab.link_ledger()
    return lab


def _documents(root: Path, config: Config) -> dict[str, str]:
    """Hashes of the engine's documents as they are now, so that an edit before the first entry is noticed."""
    paths = (*config.files.global_, *config.docs.paper_targets)
    return {path: durable.file_sha256(root / path) for path in paths if (root / path).is_file()}


def _refuse_nested(folder: Path) -> None:
    for place in (folder, *folder.parents):
        root = find_root(place) if place.exists() else None
        if root is not None and (common_dir(root) / "autolab" / "head").exists():
            if root == folder:
                raise LabError(f"{folder}: is a lab already; `autolab status` says where it stands")
            raise LabError(f"{folder}: lies in the lab at {root}; a lab in a lab would share its record")
