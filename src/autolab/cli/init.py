"""Make a lab: from a template in an empty folder, or of a clone that carries a lab's files."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from autolab.errors import LabError, UsageError
from autolab.lab.create import TEMPLATES, refuse_nested, register, write_schemas
from autolab.lab.git import Git, find_root
from autolab.lab.lab import Lab
from autolab.lab.ledger import machine
from autolab.text import last_line, many_lines

LAYERS = {
    "digits": ("base", "pictures", "digits"),
    "cifar10": ("base", "pictures", "download", "cifar10"),
    "shakespeare": ("base", "download", "shakespeare"),
    "empty": ("base", "empty"),
}
"""What a lab is copied from, in this order: a file of a later layer replaces that of an earlier one."""


def make_lab(folder: Path, template: str, seed: int | None = None) -> Lab:
    """A new lab in `folder`: empty or new for a template, or a clone of a lab, whose files are kept.

    `template` is a known name or, with a slash in it, a folder of your own that holds a lab's files. Its program
    `prepare.py`, if there is one, makes the lab's data. LabError: the folder is not free, or prepare.py failed (then
    the lab is made, but not its data).
    """
    sources = _layers(template)
    folder = folder.resolve()
    refuse_nested(folder)
    name = Path(template).resolve().name
    # git does not see an empty folder. If init is killed, it goes on as long as this one is there.
    marker = folder / f".autolab.init.{name}"
    if not marker.exists():
        # A clone of a lab: its files are there, its record is not.
        if (folder / ".autolab" / "config.yaml").exists() and find_root(folder) == folder:
            return register(folder, seed)
        if folder.exists() and any(folder.iterdir()):
            raise LabError(
                f"{folder}: not empty; name a new folder for a lab, or use --from-existing for your own repository"
            )
    # Everything until the marker is removed can be done twice.
    marker.mkdir(parents=True, exist_ok=True)
    _copy(sources, folder)
    write_schemas(folder)
    Git.init(folder).commit_all(f"autolab init: {name}")
    marker.rmdir()
    lab = register(folder, seed)
    _prepare(folder)
    return lab


def compose(template: str, folder: Path) -> None:
    """Copy the template's files into `folder`. UsageError: no such template."""
    _copy(_layers(template), folder)


def _layers(template: str) -> list[Path]:
    """The folders of a template: the layers of a known name, or a folder of your own as it is."""
    if "/" in template:
        if not (Path(template) / ".autolab" / "config.yaml").exists():
            raise UsageError(f"--template: {template!r} holds no .autolab/config.yaml; give a lab's folder")
        return [Path(template)]
    if template not in LAYERS:
        raise UsageError(f"--template: {template!r} is not known; known: {', '.join(LAYERS)}, or a lab's folder")
    return [TEMPLATES / layer for layer in LAYERS[template]]


def _copy(sources: list[Path], folder: Path) -> None:
    for source in sources:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=ignored)


def fork_lab(folder: Path) -> Lab:
    """Make a copied lab one of its own, with a new id."""
    lab = Lab.find(folder)
    head = lab.ledger.open(repair=True)
    if head.path == str(lab.root) and head.machine == machine():
        raise LabError(f"{lab.root}: not a copy: the lab has always stood here")
    lab.fork(secrets.token_hex(4))
    return lab


def _prepare(root: Path) -> None:
    """Run the template's `prepare.py`, which prints its progress. LabError with its last line if it fails."""
    if not (root / "prepare.py").is_file():
        return
    print(f"making the lab's data: {root / 'prepare.py'}", flush=True)
    # The lab's own program with the user's rights, like any program of a template that they chose.
    try:
        process = subprocess.run([sys.executable, "prepare.py"], cwd=root, stderr=subprocess.PIPE, check=False)
    except KeyboardInterrupt:
        raise _without_data(root, "interrupted") from None
    printed = many_lines(process.stderr)
    if process.returncode == 0:
        sys.stderr.write(printed)
        return
    # The last line is the error's own; what was printed before it may say more.
    earlier, line_break, _ = printed.rstrip().rpartition("\n")
    sys.stderr.write(earlier + line_break)
    raise _without_data(root, last_line(printed) or f"prepare.py ended with exit code {process.returncode}")


def _without_data(root: Path, reason: str) -> LabError:
    return LabError(f"{root}: the lab is made, its data is not: {reason}; `python prepare.py` in the lab goes on")
