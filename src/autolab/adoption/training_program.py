"""The training command of an adopted repository: its words, its script, its interpreter, what it needs to run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.adoption.repository import Repository
from autolab.errors import UsageError
from autolab.lab.trial_python import OWN_PYTHON, command_words
from autolab.sandbox.environment import SYSTEM_PATH

_SCRIPT = re.compile(r"\.(py|sh|jl|R|r|awk|pl|lua|js)$")
_READS_HOME = re.compile(r"expanduser|Path\.home|\bHOME\b|~/|\.cache\b|from_pretrained|load_dataset")


@dataclass(frozen=True)
class Program:
    """The training command as the configuration has it, and its script, if it names one that is committed."""

    command: str
    script: str | None
    text: str
    neighbours: str
    """The texts of the committed files beside the script that have its suffix."""
    env: tuple[str, ...]
    """Variables of the environment that trials need, too."""

    @property
    def name(self) -> str:
        return self.script or self.command


def find_program(repository: Repository, command: str | None) -> Program:
    """What `command` runs, or train.py if it is None. UsageError: it names no committed script or no program."""
    words = _words(repository, command)
    script = _script(repository, words)
    text, neighbours = "", ""
    if script is not None:
        text = repository.text(script)
        neighbours = "\n".join(repository.text(path) for path in _neighbours(repository, script))
    # Trials get few of the user's variables: each one more is a way in for a secret, and for another result.
    env = []
    if _needs_path(repository, words[0]):
        env.append("PATH")
    if _READS_HOME.search(text + neighbours):
        env.append("HOME")
    return Program(command_line(words), script, text, neighbours, tuple(env))


def command_line(words: list[str]) -> str:
    """The words as one line. `{python}` and `{seed}` mean the same without quotes, and are easier to read."""
    return re.sub(r"'([\w=+./-]*\{(?:python|seed)\}[\w./-]*)'", r"\1", shlex.join(words))


def own_python(repository: Repository, command: str | None = None) -> str | None:
    """The repository's own interpreter: the one that `command` names, else the first that exists."""
    paths = list(OWN_PYTHON)
    if command is not None:
        # A stable sort: the one that the command begins with comes first.
        start = command.strip().removeprefix("./")
        paths.sort(key=lambda path: not start.startswith(f"{path} "))
    for path in paths:
        if os.access(repository.root / path, os.X_OK):
            return path
    return None


def _words(repository: Repository, command: str | None) -> list[str]:
    if command is None:
        if not repository.holds("train.py"):
            raise UsageError("--train-command: missing, and the last commit has no train.py; such as 'python main.py'")
        return ["{python}", "train.py"]
    try:
        words = command_words(command)
    except ValueError as error:
        raise UsageError(f"--train-command: {command!r}: {error}") from None
    # uv would build an environment in each trial, and may have no network there.
    if words[:2] == ["uv", "run"] and len(words) > 2 and own_python(repository):
        words = words[2:]
        if not words[0].startswith("python"):
            words = ["{python}", *words]
    if not words:
        raise UsageError("--train-command: empty; such as 'python train.py'")
    # Which Python that is depends on the PATH of the shell: the configuration names one.
    if words[0] in ("python", "python3"):
        words[0] = "{python}"
    return words


def _script(repository: Repository, words: list[str]) -> str | None:
    """The first word that is a committed file; UsageError: a word must be one and is not."""
    if "-m" in words[:-1]:
        name = words[words.index("-m") + 1]
        path = name.replace(".", "/")
        for candidate in (f"{path}.py", f"{path}/__main__.py", f"{path}/__init__.py"):
            if repository.holds(candidate):
                return candidate
        raise _missing_script(repository, f"{name}: not in the last commit")
    for word in words:
        if not word.startswith("-") and _is_file(repository, word):
            return str(PurePosixPath(word))
    for word in words:
        if _SCRIPT.search(word):
            raise _missing_script(repository, f"{word}: not in the last commit")
    if words[0] == "{python}":
        raise _missing_script(repository, "no script is named")
    # Such as `make train`, which does not say what it runs.
    return None


def _missing_script(repository: Repository, problem: str) -> UsageError:
    return UsageError(f"--train-command: {problem}; name a committed one, by its path in {repository.root}")


def _neighbours(repository: Repository, script: str) -> list[str]:
    path = repository.root / script
    neighbours = []
    for other in sorted(path.parent.glob(f"*{path.suffix}")):
        name = str(other.relative_to(repository.root))
        if other != path and other.is_file() and repository.holds(name):
            neighbours.append(name)
    return neighbours


def _is_file(repository: Repository, word: str) -> bool:
    """Whether a word of the command is the path of a committed file."""
    if word.startswith(("/", "..")) or "\0" in word:
        return False
    return (repository.root / word).is_file() and repository.holds(str(PurePosixPath(word)))


def _needs_path(repository: Repository, program: str) -> bool:
    """Whether the program is only found on the user's PATH. UsageError: it is not there, or cannot be run."""
    if program == "{python}":
        return False
    if "/" in program:
        is_known = program.startswith("/") or _is_file(repository, program)
        if is_known and os.access(repository.root / program, os.X_OK):
            return False
        raise UsageError(f"--train-command: {program}: not a committed program that may be run; chmod +x, commit")
    if shutil.which(program, path=SYSTEM_PATH):
        return False
    if shutil.which(program) is None:
        raise UsageError(f"--train-command: {program}: no such program on PATH")
    return True


def python_path(repository: Repository, python: Path) -> str:
    """The interpreter that the user names, as the configuration has it. UsageError: it is no program."""
    path = repository.root / os.path.expanduser(python)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--python: {python}: no such program, in {repository.root} or absolute")
    if python.is_absolute() or str(python).startswith("~"):
        return os.path.abspath(path)
    return str(python)
