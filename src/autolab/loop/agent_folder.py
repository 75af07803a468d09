"""The folder that a coding agent works in: what it holds, and what is taken out before anything of it is kept."""

from __future__ import annotations

from pathlib import Path

from autolab.lab import redaction
from autolab.lab.lab import Lab
from autolab.lab.schemas.outcomes import RequestKind
from autolab.loop.calls import RequestId
from autolab.loop.iteration import Iteration
from autolab.loop.workspace import Workspaces, open_up
from autolab.researchers.base import Answer, TaskFolders
from autolab.sandbox.collect import remove_any, remove_tree
from autolab.trials.bound_data import secrets_within
from autolab.trials.progress import View

PREFIX = "agent-"
"""Prefix of coding agents' folders. It cannot be a candidate's worktree, which begins with its hypothesis's id."""


def place_of(lab: Lab, request: RequestId) -> Path:
    """Where a coding agent works on a request.

    It lies beside the worktrees and not in the store: some agents refuse to write below a folder called `.git`.
    """
    return lab.worktrees / f"{PREFIX}{request.iteration_id}-{request.name}"


def make_copy(iteration: Iteration, request: RequestId) -> tuple[Path, tuple[Path, ...]]:
    """A folder for a coding agent, and the folders of training data that its links lead to.

    It holds what an author may see: of the candidate so far for an implementation, of the candidate for a review, else
    of the base. Folders of earlier requests are removed.
    """
    lab, base, config = iteration.lab, iteration.base_commit, iteration.config
    place = place_of(lab, request)
    lab.worktrees.mkdir(exist_ok=True)
    for folder in lab.worktrees.iterdir():
        # A leading dot: the half copy of a request that was killed.
        if folder.name.lstrip(".").startswith(PREFIX) and folder != place:
            remove_any(folder)
    commit = base
    if request.kind is RequestKind.IMPLEMENTATION:
        commit = iteration.parent_commit
    elif request.kind is RequestKind.IMPLEMENTATION_REVIEW:
        commit = iteration.candidate() or base
    workspaces = Workspaces(lab.root)
    workspaces.make(place, commit, base, config)
    data = list(workspaces.data(base, config).values())
    # Data outside of the lab has no name in the copy: the agent reads it where it lies.
    for entry in config.data_entries:
        # A folder with keys of the user's in it is not shown: an agent has the network.
        source = entry.source(lab.root)
        if (entry.lies_outside or entry.is_fetched) and not secrets_within(source):
            data.append(source)
    return place, tuple(data)


def clean(iteration: Iteration, folders: TaskFolders, answer: Answer, view: View) -> None:
    """Remove from a coding agent's folders what must not be kept: its own git settings, and secrets."""
    workspace = folders.workspace
    paths = [path for path in folders.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
    if answer.raw is None:
        # Nobody will read it, and it may be as large as the agent could make it.
        remove_tree(workspace)
    else:
        # Its settings may name programs that git would run for us.
        remove_any(workspace / ".git")
        open_up(workspace)
        paths += iteration.lab.git.strays(workspace, iteration.base_commit)
    for path in paths:
        if redaction.clean_file(path):
            view(f"{iteration.relative(path)}: held a secret, which was taken out")
