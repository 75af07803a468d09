"""A worktree that an answer's changes are written into."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autolab.errors import RecordError
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop import edits

CONFIG = Config.from_text("metric: {primary: a, direction: minimize, success_delta: 1}\n", "config.yaml")


@pytest.fixture
def candidate(tmp_path: Path) -> Any:
    """A worktree of a small lab, as far as `apply` looks at it."""
    root = tmp_path / "lab"
    (root / "models").mkdir(parents=True)
    for name, text in {
        "train.py": "a = 1\nb = 1\n",
        "models/width.py": "WIDTH = 1\n",
        "eval.py": "",
        "empty.py": "",
    }.items():
        (root / name).write_text(text)
    git = Git.init(root)
    base = git.commit_all("begin")
    git.add_worktree(root / "5_worktrees" / "x", "exp/x", base)
    worktree = root / "5_worktrees" / "x"
    lab = SimpleNamespace(git=git, root=root)
    return SimpleNamespace(lab=lab, config=CONFIG, worktree=worktree, base_commit=base)


def apply(candidate: Any, parent: str = "", **output: Any) -> str:
    """Why an answer was not written, be it for its form or for what it changes; empty if it was."""
    try:
        implementation = ImplementationOutput.from_value({"plan": "p", **output}, "output")
    except RecordError as error:
        return str(error)
    return edits.apply(candidate, implementation, parent or candidate.base_commit)
