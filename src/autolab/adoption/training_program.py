"""The training command of an adopted repository: its words, its script, its interpreter, what it needs to run."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autolab.adoption.notebooks import ENDING, code_of, notebook_words
from autolab.adoption.own_python import PYTHON, PythonChoice, interpret, program_index
from autolab.adoption.repository import Repository
from autolab.errors import UsageError
from autolab.lab.trial_python import command_folder, env_prefix, shell_line
from autolab.sandbox.environment import PYTHON_PATH, SYSTEM_PATH

_SCRIPT = re.compile(r"\.(py|sh|jl|R|r|awk|pl|lua|js)$")
_STARTS_PYTHON = re.compile(r"(?<![\w./-])(?:python[\d.]*|torchrun|accelerate)\s")
_READS_HOME = re.compile(r"expanduser|Path\.home|\bHOME\b|~/|\.cache\b|from_pretrained|load_dataset")


@dataclass(frozen=True)
class Program:
    """The training command as the configuration has it, and its script, if it names one that is committed."""

    command: str
    script: str | None
    text: str
    neighbours: str
    """The texts of the committed files beside the script that have its suffix."""
    env: dict[str, str]
    """Variables of the environment that trials need too, each with the reason."""
    python: PythonChoice | None = None
    """The trials' interpreter; None if the command uses none."""

    @property
    def name(self) -> str:
        return self.script or self.command


def find_program(repository: Repository, command: str | None, python: Path | None = None) -> Program:
    """What `command` runs, or train.py if it is None; `python` is the interpreter that the user names.

    UsageError: it names no committed script, no program or no environment; or `python` is no program.
    """
    given = None if python is None else python_path(repository, python)
    _refuse_shell(command)
    notebook = notebook_words(repository, None if command is None else _split(command))
    words, choice = interpret(repository, _in_folder(repository, notebook or _words(repository, command)), given)
    line = shell_line(words)
    script = _script_of_line(repository, line) if line else _script(repository, words)
    text, neighbours = "", ""
    if script is not None:
        text = _text(repository, script)
        neighbours = "\n".join(repository.text(path) for path in _neighbours(repository, script))
    # Trials get few of the user's variables: each one more is a way in for a secret, and for another result.
    env = {}
    first = words[program_index(words)]
    if _needs_path(repository, first, choice):
        env["PATH"] = "to find the program"
    if _READS_HOME.search(text + neighbours):
        env["HOME"] = "it reads below your home folder"
    if _imports_by_variable(repository):
        env["PYTHONPATH"] = "yours leads into the repository"
    # Trials find the programs of its folder too, such as torchrun.
    # A script of another language, or the text of `sh -c TEXT`, may start Python, which trials find on their PATH.
    other = line if script is None or script.endswith(".py") else text
    starts_python = _STARTS_PYTHON.search(other) is not None
    names_python = any(word in ("python", "python3") for word in inner_words(line))
    is_used = PYTHON in words or names_python or starts_python or _has(choice.folder, first) or given is not None
    return Program(command_line(words), script, text, neighbours, env, choice if is_used else None)


def command_line(words: list[str]) -> str:
    """The words as one line. `{python}` and `{seed}` mean the same without quotes, and are easier to read."""
    return re.sub(r"'([\w=+./-]*\{(?:python|seed)\}[\w./-]*)'", r"\1", shlex.join(words))


def _refuse_shell(command: str | None) -> None:
    """UsageError: the command needs a shell, and none runs it."""
    if command is None:
        return
    reader = shlex.shlex(command, posix=True, punctuation_chars="&|;<>")
    reader.whitespace_split = True
    reader.commenters = ""
    try:
        words = list(reader)
    except ValueError:
        return  # `_words` says what is wrong with its quotes
    for word in words:
        # In quotes they belong to a longer word: `sh -c 'make && ./train'` runs.
        if word and not word.strip("&|;<>"):
            raise UsageError(
                f"--train-command: {word} is for a shell, and none runs the command; write"
                f" {shlex.join(['sh', '-c', command])}, or name a committed script"
            )


def _in_folder(repository: Repository, words: list[str]) -> list[str]:
    """The words of a command that runs in the folder that is adopted."""
    if not repository.folder:
        return words
    return ["env", "-C", repository.folder, *words]


def inner_words(line: str) -> list[str]:
    """The words of all commands in a line for a shell."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    reader.whitespace_split = True
    try:
        return [word for word in reader if word.strip("&|;<>")]
    except ValueError:
        return line.split()


def _imports_by_variable(repository: Repository) -> bool:
    """Whether the user's PYTHONPATH has a folder of the repository."""
    paths = os.environ.get(PYTHON_PATH, "").split(os.pathsep)
    folders = [Path(os.path.normpath(repository.root / path)) for path in paths if path]
    return any(folder.is_relative_to(repository.root) for folder in folders)


def _has(folder: Path, program: str) -> bool:
    return "/" not in program and (folder / program).is_file() and os.access(folder / program, os.X_OK)


def _words(repository: Repository, command: str | None) -> list[str]:
    if command is None:
        if not repository.holds(posixpath.join(repository.folder, "train.py")):
            raise UsageError("--train-command: missing, and the last commit has no train.py; such as 'python main.py'")
        return [PYTHON, "train.py"]
    words = _split(command)
    if not words:
        raise UsageError("--train-command: empty; such as 'python train.py'")
    return words


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--train-command: {command!r}: {error}") from None


def _text(repository: Repository, script: str) -> str:
    """The text of the script; of a notebook its code."""
    text = repository.text(script)
    return code_of(text) if script.endswith(ENDING) else text


def _script(repository: Repository, words: list[str]) -> str | None:
    """The first word that is a committed file; UsageError: a word must be one and is not."""
    prefix, folder = env_prefix(words), command_folder(words)
    words = words[len(prefix) :]
    if "-m" in words[:-1]:
        name = words[words.index("-m") + 1]
        path = _module_file(repository, name, folder)
        if path is not None:
            return path
        # Such as `python -m torch.distributed.run train.py`: the script comes behind the module.
        if not any(_is_file(repository, posixpath.join(folder, word)) for word in words[words.index("-m") + 2 :]):
            raise _missing_script(repository, f"{name}: not in the last commit")
    for word in words:
        path = posixpath.normpath(posixpath.join(folder, word))
        if not word.startswith("-") and _is_file(repository, path):
            return path
    for word in words:
        if _SCRIPT.search(word) and _is_left_out(repository, posixpath.join(folder, word)):
            way_out = f"git sparse-checkout add {posixpath.dirname(posixpath.join(folder, word)) or '.'}"
            raise UsageError(f"--train-command: {word}: committed, and not in this sparse checkout; {way_out}")
        if _SCRIPT.search(word):
            raise _missing_script(repository, f"{word}: not in the last commit")
    if PYTHON in words:
        raise _missing_script(repository, "no script is named")
    # Such as `make train`, which does not say what it runs.
    return None


def _script_of_line(repository: Repository, line: str) -> str | None:
    """The first committed file that a line for a shell names, below the folder that `cd` leads to; else None."""
    folder = PurePosixPath(repository.folder)
    words = inner_words(line)
    for before, word in zip(["", *words], words, strict=False):
        if before == "cd":
            folder = folder / word
        elif not word.startswith("-") and _is_file(repository, str(folder / word)):
            return str(folder / word)
    return None


def _module_file(repository: Repository, name: str, folder: str) -> str | None:
    """The committed file that `-m name` runs in a folder: right there, else the one below a folder such as `src`."""
    inner = name.replace(".", "/")
    files = repository.git.files(repository.head)
    for ending in (f"{inner}.py", f"{inner}/__main__.py", f"{inner}/__init__.py"):
        paths = [path for path in files if path == ending or path.endswith(f"/{ending}")]
        if paths:
            own = f"{folder}/" if folder else ""
            return min(paths, key=lambda path: (not path.startswith(own), len(path)))
    return None


def _is_left_out(repository: Repository, word: str) -> bool:
    """Whether a word is a committed file that a sparse checkout leaves out."""
    if word.startswith(("/", "..")) or "\0" in word:
        return False
    return repository.holds(str(PurePosixPath(word))) and not os.path.lexists(repository.root / word)


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


def _needs_path(repository: Repository, program: str, choice: PythonChoice) -> bool:
    """Whether the program is only found on the user's PATH. UsageError: it is not there, or cannot be run."""
    if program == PYTHON or _has(choice.folder, program):
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
    own = repository.root / repository.folder / os.path.expanduser(python)
    if repository.folder and not python.is_absolute() and own.is_file():
        python = own.relative_to(repository.root)
    path = repository.root / os.path.expanduser(python)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise UsageError(f"--python: {python}: no such program, in {repository.root} or absolute")
    if python.is_absolute() or str(python).startswith("~"):
        return os.path.abspath(path)
    return str(python)
