"""The trials' interpreter: which one it is, and how a command line names it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from autolab.errors import LabError
from autolab.lab.schemas.config import Config

OWN_PYTHON = (
    *(".venv/bin/python", "venv/bin/python", "env/bin/python"),
    *(".venv/bin/python3", "venv/bin/python3", "env/bin/python3"),
)
"""Interpreters of a repository's own, as a command may name them. Git does not hold them, so an export has none."""


def trial_python(root: Path, config: Config) -> str:
    """The interpreter named in the config, else ./venv/bin/python, else the one that runs Autolab.

    `root` is the checkout. LabError: the named program does not exist or cannot be run.
    """
    if config.python:
        # A name without a slash is looked for on PATH when it starts.
        if "/" not in config.python:
            return config.python
        program = str(root / config.python)
        if not os.access(program, os.X_OK):
            raise LabError(
                f".autolab/config.yaml: python: {config.python}: no such program; name one or remove the key"
            )
        return program
    own = root / "venv" / "bin" / "python"
    return str(own) if os.access(own, os.X_OK) else sys.executable


def command_words(command: str) -> list[str]:
    """The words of a command line. `./venv/bin/python` in front means the trials' interpreter, as `{python}` does.

    ValueError: a quote is not closed.
    """
    words = shlex.split(command)
    if words and words[0].removeprefix("./") in OWN_PYTHON:
        words[0] = "{python}"
    return words


def shell_line(words: Sequence[str]) -> str:
    """The line that `sh -c LINE` gives a shell, also behind `env`; empty if the command is none of that form."""
    if len(words) < 3:
        return ""
    program, option, line = words[-3:]
    if os.path.basename(program) in ("sh", "bash", "dash", "zsh") and option in ("-c", "-ec"):
        return line
    return ""
