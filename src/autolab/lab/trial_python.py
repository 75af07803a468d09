"""The trials' interpreter: which one it is, and how a command line names it."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from autolab.errors import LabError
from autolab.lab.schemas.config import Config

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
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


def env_prefix(words: Sequence[str]) -> list[str]:
    """`env -C FOLDER NAME=VALUE …` at the beginning of a command; empty if it begins otherwise."""
    if not words or words[0] != "env":
        return []
    prefix = ["env"]
    if words[1:2] == ["-C"] and len(words) > 2:
        prefix += words[1:3]
    prefix += itertools.takewhile(lambda word: _ASSIGNMENT.match(word) is not None, words[len(prefix) :])
    return prefix if 1 < len(prefix) < len(words) else []


def command_folder(words: Sequence[str]) -> str:
    """The folder of the repository that `env -C FOLDER` runs a command in; empty for its top."""
    prefix = env_prefix(words)
    return posixpath.normpath(prefix[2]) if prefix[1:2] == ["-C"] else ""


def shell_line(words: Sequence[str]) -> str:
    """The line that `sh -c LINE` gives a shell, `env` before it or not; empty if the command is none of that form."""
    words = words[len(env_prefix(words)) :]
    if len(words) == 3 and os.path.basename(words[0]) in ("sh", "bash", "dash", "zsh") and words[1] in ("-c", "-ec"):
        return words[2]
    return ""
