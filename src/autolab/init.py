"""Make a lab: from a template in an empty folder, or of a clone that carries a lab's files."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from autolab import durable, pytest_guard
from autolab.errors import LabError, UsageError
from autolab.git import Git, common_dir, find_root
from autolab.lab import Lab
from autolab.ledger import Ledger, machine
from autolab.records import SCHEMAS, schema_text
from autolab.records.lab import Campaign, Config, State
from autolab.text import last_line, many_lines

TEMPLATES = Path(__file__).parent / "templates"
LAYERS = {
    "digits": ("base", "pictures", "digits"),
    "cifar10": ("base", "pictures", "download", "cifar10"),
    "shakespeare": ("base", "download", "shakespeare"),
    "empty": ("base", "empty"),
}
"""What a lab is copied from, in this order: a file of a later layer replaces that of an earlier one."""

OWN = ("/5_worktrees/", "/.autolab/", "/experiments/")
"""How the lines of a lab's .gitignore begin that are about Autolab's own files."""


def templates() -> list[str]:
    """The names that `--template` knows."""
    return list(LAYERS)


def init(folder: Path, template: str, seed: int | None = None) -> Lab:
    """A new lab in `folder`: empty or new for a template, or a clone of a lab, whose files are kept.

    `template` is a known name or, with a slash in it, a folder of your own that holds a lab's files. Its program
    `prepare.py`, if there is one, makes the lab's data; LabError if that fails, and the lab is made all the same.
    """
    if "/" not in template and template not in LAYERS:
        raise UsageError(f"--template: {template!r} is not known; known: {', '.join(templates())}, or a lab's folder")
    if "/" in template and not (Path(template) / ".autolab" / "config.yaml").exists():
        raise UsageError(f"--template: {template!r} holds no .autolab/config.yaml; give a lab's folder")
    folder = folder.resolve()
    refuse_nested(folder)
    name = Path(template).resolve().name if "/" in template else template
    begun = folder / f".autolab.init.{name}"  # an empty folder, which git does not see: killed, init goes on
    if not begun.exists():
        if (folder / ".autolab" / "config.yaml").exists() and find_root(folder) == folder:
            return register(folder, seed)
        if folder.exists() and any(folder.iterdir()):
            raise LabError(
                f"{folder}: not empty; a template goes into a new folder; a repository takes --from-existing"
            )
    begun.mkdir(parents=True, exist_ok=True)
    compose(template, folder)
    write_schemas(folder)
    Git.init(folder).commit_all(f"autolab init: {name}")
    begun.rmdir()
    lab = register(folder, seed)
    _prepare(folder)
    return lab


def compose(template: str, folder: Path) -> None:
    """Copy the template's files into `folder`: the layers of a known name, or a folder of your own as it is."""
    for source in [Path(template)] if "/" in template else [TEMPLATES / layer for layer in LAYERS[template]]:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=ignored)


def fork(folder: Path) -> Lab:
    """Make a copied lab one of its own, with a new id."""
    lab = Lab.find(folder)
    head = lab.ledger.open(repair=True)
    if head.path == str(lab.root) and head.machine == machine():
        raise LabError(f"{lab.root}: not a copy: the lab has always stood here")
    lab.fork(secrets.token_hex(4))
    return lab


def write_schemas(root: Path) -> None:
    """The JSON schema of each document into `.autolab/schemas/`."""
    for name in SCHEMAS:
        durable.write(root / ".autolab" / "schemas" / f"{name}.schema.json", schema_text(name))


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
    secret = durable.sha256(f"autolab init --seed {seed}") if seed is not None else secrets.token_hex(32)
    durable.write(new / "secret", secret + "\n")
    (new / "secret").chmod(0o600)
    durable.write(new / "documents.json", json.dumps(_documents(root, config)))
    ledger = Ledger(new)
    lab_id = secrets.token_hex(4)
    ledger.create(lab_id, root)
    ledger.append("init", {"lab_id": lab_id, "seed": seed, "branch": branch, "commit": head})
    state = State.first(config)
    campaign = Campaign(home_branch=branch, home_commit=head)
    ledger.append("transition", {"state": state.value(), "campaign": campaign.value(), "why": "init"})
    new.rename(store)
    durable.sync_folder(store.parent)
    lab = Lab(root)
    lab.show_state(state)
    lab.link_ledger()
    lab.note_interpreter()
    pytest_guard.write(root)
    return lab


def ignore(root: Path) -> None:
    """Autolab's own patterns into .git/info/exclude, but for those in .gitignore, which stays the person's.

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
        durable.write(exclude, text.encode(errors="surrogateescape"))


def _documents(root: Path, config: Config) -> dict[str, str]:
    """Hashes of the engine's documents as they are now, so that an edit before the first entry is noticed."""
    paths = (*config.files.global_, *config.docs.paper_targets)
    return {path: durable.file_sha256(root / path) for path in paths if (root / path).is_file()}


def refuse_nested(folder: Path) -> None:
    """LabError where `folder` is a lab or lies in one."""
    for place in (folder, *folder.parents):
        root = find_root(place) if place.exists() else None
        if root is not None and (common_dir(root) / "autolab" / "head").exists():
            if root == folder:
                raise LabError(f"{folder}: is a lab already; `autolab status` says where it stands")
            raise LabError(f"{folder}: lies in the lab at {root}; a lab in a lab would share its record")


def _prepare(root: Path) -> None:
    """Run the template's `prepare.py`, which shows how far it is. LabError with its last line if it fails."""
    if not (root / "prepare.py").is_file():
        return
    print(f"making the lab's data: {root / 'prepare.py'}", flush=True)
    try:
        done = subprocess.run([sys.executable, "prepare.py"], cwd=root, stderr=subprocess.PIPE, check=False)
    except KeyboardInterrupt:
        raise LabError(_without_data(root, "interrupted")) from None
    printed = many_lines(done.stderr)
    if done.returncode:
        # What it printed before its last line: that line is the error's own.
        sys.stderr.write(printed.rstrip().rpartition("\n")[0] + "\n" if "\n" in printed.rstrip() else "")
        last = last_line(printed) or f"prepare.py ended with exit code {done.returncode}"
        raise LabError(_without_data(root, last))
    sys.stderr.write(printed)


def _without_data(root: Path, why: str) -> str:
    return f"{root}: the lab is made, its data is not: {why}; `python prepare.py` in the lab goes on"
