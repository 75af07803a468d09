"""Which interpreter the trials of an adopted repository get, and what a command means that starts one.

    `--python`, or an interpreter that the command names    that one
    `uv run`, `poetry run`, `conda run -n NAME` …           the environment that this program would use
    `python`, `python3`                                     the first of: the activated environment (of conda's, not
                                                            `base`), .venv, venv, env, poetry's folder of environments,
                                                            conda's `base`, the Python that runs Autolab
    `python3.11`                                            the first of these with that name, then the one on PATH

The environment that runs Autolab itself does not count as activated: one activates it to start Autolab. None of these
programs is run; poetry's and conda's environments are found where their documentation says.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.adoption.repository import Repository
from autolab.errors import UsageError
from autolab.lab.plumbing import read_line
from autolab.lab.trial_python import OWN_PYTHON

PYTHON = "{python}"
ENV = "env"
_VARIABLE = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_NAME = re.compile(r"python(3(\.\d+)?)?$")
_FOLDERS = (".venv", "venv", "env")
_IN_PROJECT = ("uv", "pdm", "rye")
"""Programs whose `run` uses the project's own `.venv`."""
_NOT_READ = ("pipenv", "hatch", "pixi", "nox", "tox")
"""Programs whose `run` uses an environment that is not looked for here."""
_CONDA = ("conda", "mamba", "micromamba")
_ALONE = {
    "--no-sync",
    "--frozen",
    "--locked",
    "--offline",
    "-q",
    "--quiet",
    "--no-capture-output",
    "--live-stream",
    "--",
}
"""Options of `run` that take no value and do not change what is run."""


@dataclass(frozen=True)
class PythonChoice:
    """An interpreter as the configuration names it, and why it is this one; `path` is None for Autolab's own."""

    path: str | None
    reason: str
    folder: Path
    """Where it lies, with the other programs of its environment."""


@dataclass(frozen=True)
class _Environment:
    """A folder with an environment, and how it was found."""

    folder: Path
    reason: str

    def program(self, name: str = "python") -> Path | None:
        """Its program of this name, or its Python; None if it has none."""
        names = (name, "python3") if name == "python" else (name,)
        for candidate in names:
            path = self.folder / "bin" / candidate
            if os.access(path, os.X_OK) and path.is_file():
                return path
        return None


def interpret(repository: Repository, words: list[str], python: str | None) -> tuple[list[str], PythonChoice]:
    """The command's words, with `{python}` for the interpreter, and which one that is. `python`: what the user names.

    `PYTHONPATH=. python train.py`, which needs a shell, becomes `env PYTHONPATH=. {python} train.py`.
    UsageError: an environment or a program that the command names is not there, with the line that helps.
    """
    at = program_index(words)
    if at == len(words):
        raise UsageError(f"--train-command: {' '.join(words)}: no program is named; such as 'python train.py'")
    variables = words[1:at] if words[0] == ENV else words[:at]
    interpreted, choice = _interpret(repository, words[at:], python)
    return [*([ENV, *variables] if variables else []), *interpreted], choice


def program_index(words: Sequence[str]) -> int:
    """Where the program stands in a command: behind `env`, the folder that it runs in, and variables set for it."""
    index = 1 if words and words[0] == ENV else 0
    if list(words[:2]) == [ENV, "-C"]:
        index = 3
    while index < len(words) and _VARIABLE.match(words[index]):
        index += 1
    return index


def _interpret(repository: Repository, words: list[str], python: str | None) -> tuple[list[str], PythonChoice]:
    """The same of a command that sets no variables."""
    words, named = _unwrapped(repository, words, python is not None)
    if python is not None:
        path = repository.root / os.path.expanduser(python)
        return [PYTHON if _is_python(words[0]) else words[0], *words[1:]], PythonChoice(python, "given", path.parent)
    if named is not None:
        found = named.program()
        assert found is not None
        return [PYTHON if _is_python(words[0]) else words[0], *words[1:]], _choice(repository, found, named.reason, [])
    first = words[0]
    if "/" in first and _is_python(first):
        path = repository.root / os.path.expanduser(first)
        if not os.access(path, os.X_OK):
            raise UsageError(f"--train-command: {first}: no such program, in {repository.root} or absolute")
        return [PYTHON, *words[1:]], _choice(repository, path, "the command names it", [])
    if first != PYTHON and not _is_python(first):
        return words, _first(repository, "python")
    name = "python" if first in (PYTHON, "python", "python3") else first
    return [PYTHON, *words[1:]], _first(repository, name)


def _first(repository: Repository, name: str) -> PythonChoice:
    """The first environment with an interpreter of this name, else what runs Autolab, or what is on PATH."""
    fitting = []
    for environment in _environments(repository):
        path = environment.program(name)
        if path is not None:
            fitting.append((environment, path))
    if fitting:
        (environment, path), *others = fitting
        return _choice(repository, path, environment.reason, [_shown(repository, other) for _, other in others])
    own = Path(sys.executable)
    if name == "python" or (own.parent / name).exists():
        reason = "the one that runs Autolab: there is no .venv or venv"
        if repository.holds("uv.lock"):
            reason += "; uv.lock wants one: run `uv sync` first, or name one: --python"
        return PythonChoice(None, reason, own.parent)
    path_on_path = shutil.which(name)
    if path_on_path is None:
        raise UsageError(f"--train-command: {name}: no environment here has it and PATH has none; name one: --python")
    return _choice(repository, Path(path_on_path), f"the {name} on PATH", [])


def _choice(repository: Repository, path: Path, reason: str, losers: Sequence[str]) -> PythonChoice:
    if losers:
        reason += f"; not {', '.join(losers)}, which --python would take"
    return PythonChoice(_shown(repository, path), reason, path.parent)


def _shown(repository: Repository, path: Path) -> str:
    """The path as the configuration has it: relative if it lies in the repository."""
    plain = Path(os.path.normpath(path))
    if plain.is_relative_to(repository.root):
        return str(plain.relative_to(repository.root))
    return str(plain)


def _is_python(word: str) -> bool:
    return word == PYTHON or word.removeprefix("./") in OWN_PYTHON or bool(_NAME.fullmatch(os.path.basename(word)))


# Environments


def _environments(repository: Repository) -> Iterator[_Environment]:
    """Those that fit the repository, best first; each once."""
    seen = set()
    for environment in _candidates(repository):
        real = os.path.realpath(environment.folder)
        if real not in seen:
            seen.add(real)
            yield environment


def _candidates(repository: Repository) -> Iterator[_Environment]:
    # Conda activates `base` in every shell, so that says little.
    conda, is_base = os.environ.get("CONDA_PREFIX", ""), os.environ.get("CONDA_DEFAULT_ENV", "") in ("base", "")
    for folder in (os.environ.get("VIRTUAL_ENV", ""), "" if is_base else conda):
        if folder and not _runs_autolab(folder):
            yield _Environment(Path(folder), "the activated environment")
    for place in dict.fromkeys((repository.root / repository.folder, repository.root)):
        for name in _FOLDERS:
            yield _Environment(place / name, "the repository's own")
    yield from _poetry(repository)
    if conda and not _runs_autolab(conda):
        yield _Environment(Path(conda), "the activated environment of conda")


def _runs_autolab(folder: str) -> bool:
    return os.path.realpath(folder) == os.path.realpath(sys.prefix)


def _poetry(repository: Repository) -> Iterator[_Environment]:
    """The environments in poetry's folder that have the repository's name and the hash of its path."""
    if not repository.holds("pyproject.toml"):
        return
    try:
        document = tomllib.loads(repository.text("pyproject.toml"))
    except tomllib.TOMLDecodeError:
        return
    tool = document.get("tool", {}).get("poetry", {})
    name = tool.get("name") or document.get("project", {}).get("name")
    if not name or not (tool or repository.holds("poetry.lock")):
        return
    # As poetry's EnvManager.generate_env_name has it.
    plain = re.sub(r'[ $`!*@"\\\r\n\t]', "_", str(name).lower())[:42]
    digest = hashlib.sha256(os.path.realpath(repository.root).encode()).digest()
    key = base64.urlsafe_b64encode(digest).decode()[:8]
    for folder in sorted(_poetry_folder().glob(f"{plain}-{key}-py3*"), reverse=True):
        yield _Environment(folder, "poetry's environment of this repository")


def _poetry_folder() -> Path:
    own = os.environ.get("POETRY_VIRTUALENVS_PATH")
    if own:
        return Path(own)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pypoetry"
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches" / "pypoetry"
    return Path(os.environ.get("POETRY_CACHE_DIR") or cache) / "virtualenvs"


# Commands that start others


def _unwrapped(repository: Repository, words: list[str], given: bool) -> tuple[list[str], _Environment | None]:
    """The command without `uv run` and the like, and the environment that it names; None: it names none.

    `given`: the user names an interpreter, so that none is looked for.
    """
    if words[1:2] != ["run"] or words[0] not in (*_IN_PROJECT, "poetry", *_CONDA, *_NOT_READ):
        return words, None
    wrapper, rest = words[0], words[2:]
    options = []
    while rest and (rest[0] in _ALONE or (wrapper in _CONDA and rest[0].startswith("-") and len(rest) > 1)):
        # Of conda's options those for the environment have a value.
        taken = 2 if rest[0] in ("-n", "--name", "-p", "--prefix") else 1
        options.append(rest[:taken])
        rest = rest[taken:]
    plain = " ".join(rest[1:] if rest and rest[0].startswith("python") else rest)
    if not rest or (rest[0].startswith("-") and rest[0] != "-m"):
        option = rest[0] if rest else "nothing to run"
        raise UsageError(f"--train-command: {wrapper} run: {option}: give the command alone, such as 'python train.py'")
    if rest[0] == "-m" or rest[0].endswith(".py"):
        rest = [PYTHON, *rest]
    if given:
        return rest, None
    if wrapper in _CONDA:
        return rest, _conda(options, plain)
    environments = []
    if wrapper == "poetry":
        environments = [*_environments(repository)]
    elif wrapper in _IN_PROJECT:
        place = os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv") if wrapper == "uv" else ".venv"
        environments = [_Environment(repository.root / place, "the repository's own")]
    for environment in environments:
        if environment.program() is not None:
            return rest, environment
    raise UsageError(f"--train-command: {wrapper} run: {_way_out(wrapper, plain)}")


def _way_out(wrapper: str, plain: str) -> str:
    command = f"--train-command 'python {plain}'"
    if wrapper in _IN_PROJECT:
        made_by = {"uv": "uv sync", "pdm": "pdm install", "rye": "rye sync"}[wrapper]
        return f"its environment, .venv, is not there; run `{made_by}`, then the same command again"
    if wrapper == "poetry":
        return f'its environment was not found; --python "$(poetry env info --executable)" {command}'
    return f"its environment is not looked for; name it: --python /path/to/environment/bin/python {command}"


def _conda(options: Sequence[Sequence[str]], plain: str) -> _Environment:
    """The environment that `conda run` names, by its name or folder. UsageError: it was not found."""
    name = ""
    for option in options:
        if len(option) == 2:
            name = option[1]
    folders = [Path(name)] if "/" in name else [*_conda_folders(name)]
    for folder in folders:
        environment = _Environment(folder, f"conda's environment {name}")
        if environment.program() is not None:
            return environment
    problem = f"conda's environment {name} was not found" if name else "no -n NAME says which environment"
    raise UsageError(
        f"--train-command: conda run: {problem}; name its Python (conda env list shows the folder): --python"
        f" /path/to/envs/{name or 'NAME'}/bin/python --train-command 'python {plain}'"
    )


def _conda_folders(name: str) -> Iterator[Path]:
    """Folders where conda may have the environment of this name."""
    roots = [os.environ.get("MAMBA_ROOT_PREFIX", "")]
    if os.environ.get("CONDA_EXE"):
        roots.append(str(Path(os.environ["CONDA_EXE"]).parents[1]))
    for root in filter(None, roots):
        yield Path(root) if name == "base" else Path(root) / "envs" / name
    # conda writes the folder of each environment that it makes into this list.
    listed = Path.home() / ".conda" / "environments.txt"
    for line in read_line(listed).split("\n"):
        if name and Path(line.strip()).name == name:
            yield Path(line.strip())
