"""`autolab mcp`: the tools for coding agents."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes

from autolab.cli import flags
from autolab.cli.comparisons import TrainingFlags
from autolab.errors import ExitCode, LabError, UsageError
from autolab.lab.create import COMPARISONS
from autolab.lab.extras import install_command
from autolab.lab.git import find_root


def mcp(*, training: Annotated[TrainingFlags, OmitArgPrefixes], dir: flags.LabFolder = Path(".")) -> int:
    """Serve the comparison engine to a coding agent as tools, over standard input and output.

    The agent's program starts it and ends it. See docs/tools.md.
    """
    if importlib.util.find_spec("mcp") is None:
        raise LabError(f"mcp: needs the extra `mcp`: {install_command('mcp')}")
    training.check()
    if not dir.is_dir():
        raise UsageError(f"--dir: {dir} is no folder")
    root = find_root(dir.resolve())
    if root is None:
        raise LabError(f"{dir}: not in a git repository; start the server in the one whose training is compared")
    # Only here: the SDK takes a second to load, and is an extra.
    from autolab.mcp.agent_tools import AgentTools
    from autolab.mcp.agent_training import AgentTraining
    from autolab.mcp.comparison_queue import ComparisonQueue
    from autolab.mcp.queue_worker import QueueWorker
    from autolab.mcp.stdio_server import serve

    # The least difference is a part of each question, and no word about the training.
    request = replace(training, delta=None)
    agent_training = AgentTraining(root, request, TrainingFlags())
    if agent_training.is_lab and request != TrainingFlags():
        raise UsageError("mcp: this is a lab, whose .autolab/config.yaml has command, metric and data")
    queue = ComparisonQueue(agent_training.store / COMPARISONS / "queue")
    worker = QueueWorker(queue, agent_training)
    serve(AgentTools(agent_training, queue, worker, training.delta), worker)
    return ExitCode.DONE
