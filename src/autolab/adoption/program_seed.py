"""How a training program takes the seed of a trial, without a change of the user's files.

The ways, of which the first that exists is taken: the command names a seed; a flag; Hydra; an environment variable;
constants. In place of constants the seed is written to each trial's own copy of the code (`train.seed_constants`).
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from autolab.adoption.program_sources import ProgramSources, SourceFile, read_settings, read_sources
from autolab.adoption.repository import Repository
from autolab.adoption.seed_flags import find_flag, hydra_entry, hydra_structured_path
from autolab.adoption.seed_names import is_of_data, is_seed_name
from autolab.adoption.seed_places import find_constants, find_variable
from autolab.adoption.training_program import Program, command_line, inner_words
from autolab.lab.schemas.config import SEED
from autolab.lab.trial_python import shell_line
from autolab.trials.seed_constants import SeedConstant

VARIABLE = "AUTOLAB_SEED"
"""The environment variable in which every trial has its seed."""
How = Literal["flag", "environment", "constant", "none"]
_SEEDED_LIBRARY = re.compile(r"(?m)^\s*(?:import|from)\s+(?:random|numpy|torch)\b")


@dataclass(frozen=True)
class ProgramSeed:
    """How the program takes its seed: the command with `{seed}` in it, the constants, and the reason in one line."""

    how: How
    command: str
    reason: str
    constants: tuple[SeedConstant, ...] = ()


def seeds_libraries(seed: ProgramSeed, program: Program) -> bool:
    """Whether a program that has no seed imports a library that `train.seed_libraries` seeds."""
    is_python = program.script is not None and program.script.endswith((".py", ".ipynb"))
    return seed.how == "none" and is_python and bool(_SEEDED_LIBRARY.search(program.text + program.neighbours))


def find_seed(repository: Repository, program: Program) -> ProgramSeed:
    """The first way that there is. `none`: every trial would repeat the same training."""
    command = program.command
    if SEED in command:
        return ProgramSeed("flag", command, "the command has the seed")
    words = shlex.split(command)
    line = shell_line(words)
    sources = read_sources(repository, program.script, inner_words(line) if line else words)
    if _reads_variable(program, sources):
        return ProgramSeed("environment", command, f"{program.name} reads {VARIABLE}")
    replaced = _with_seed_in(words)
    if replaced != words:
        return ProgramSeed("flag", command_line(replaced), "the seed takes the place of the command's own")
    if sources.script is None:
        return ProgramSeed("none", command, f"{program.name}: no committed script was found in it")
    # What stands behind the line of `sh -c` does not reach the program in it.
    flag = None if line else find_flag(sources, words)
    if flag is not None:
        return ProgramSeed("flag", f"{command} {flag.words}", f"{program.name} takes the seed as a flag ({flag.kind})")
    override = "" if line else _hydra_override(repository, sources, words)
    if override:
        return ProgramSeed("flag", f"{command} {override}={SEED}", f"{program.name} takes the seed from Hydra")
    variable = find_variable(sources)
    if variable is not None:
        name, path = variable
        return ProgramSeed("environment", f"env {name}={SEED} {command}", f"{path} reads its seed from {name}")
    constants = find_constants(sources)
    if constants:
        reason = "each trial writes its seed there, in its copy of the code; your files stay"
        return ProgramSeed("constant", command, reason, tuple(constants))
    return ProgramSeed("none", command, f"{program.name} has no seed that was found")


def _reads_variable(program: Program, sources: ProgramSources) -> bool:
    texts = [program.text, program.neighbours, *(source.text for source in sources.code)]
    return any(VARIABLE in text for text in texts)


def _with_seed_in(words: list[str]) -> list[str]:
    """The words with `{seed}` for the number of `--seed 1`, `--seed=1`, `trainer.seed=1` and `SEED=1`."""
    replaced = list(words)
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not is_seed_name(name.lstrip("+").rpartition(".")[2]):
            continue
        following = words[index + 1] if index + 1 < len(words) else ""
        if equals and value.isdecimal():
            replaced[index] = f"{name}={SEED}"
        elif word.startswith("-") and not equals and following.isdecimal():
            replaced[index + 1] = SEED
    return replaced


# Hydra


def _hydra_override(repository: Repository, sources: ProgramSources, words: list[str]) -> str:
    """The key that sets the seed, `seed`, `trainer.seed` or `+seed`; empty if there is none, or no Hydra."""
    entry, script = hydra_entry(sources), sources.script
    if entry is None or script is None:
        return ""
    config_path, name = entry
    # A folder on the command line is relative to where the command runs.
    folder = posixpath.join(posixpath.dirname(script.path), config_path or "")
    for option in ("--config-path", "-cp", "--config-dir", "-cd"):
        folder = _option(words, option) or folder
    for option in ("--config-name", "-cn"):
        name = _option(words, option) or name
    folder = posixpath.normpath(folder).removeprefix("./")
    config = _settings(_settings_file(repository, folder, name))
    path = _seed_key(config) or hydra_structured_path(sources)
    if path:
        return ".".join(path)
    for group, option in _groups(config):
        if is_of_data(group):
            continue
        source = _settings_file(repository, posixpath.join(folder, group), option)
        path = _seed_key(_settings(source))
        if source is not None and path:
            package = re.search(r"@package\s+(\S+)", source.text)
            names = group.split("/") if package is None else [package[1]]
            if "_global_" in names:
                names = []
            return ".".join([*names, *path])
    asks = re.search(r"""\b(?:cfg|config|conf|args)(?:\.seed\b|\.get\(["']seed["'])""", script.text)
    return "+seed" if asks else ""


def _option(words: list[str], option: str) -> str:
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""


def _settings_file(repository: Repository, folder: str, name: str) -> SourceFile | None:
    for suffix in ("", ".yaml", ".yml"):
        path = posixpath.normpath(posixpath.join(folder, name + suffix))
        if path.endswith((".yaml", ".yml")) and not path.startswith(("/", "..")):
            source = read_settings(repository, path)
            if source is not None:
                return source
    return None


def _settings(source: SourceFile | None) -> Mapping[str, object]:
    import yaml

    if source is None:
        return {}
    try:
        value = yaml.safe_load(source.text)
    except (yaml.YAMLError, ValueError, RecursionError):
        # Whoever runs the program learns of that; here it is only a hint.
        return {}
    return value if isinstance(value, dict) else {}


def _seed_key(config: Mapping[str, object]) -> list[str]:
    """The path of the seed's key, the least deep; empty if there is none."""
    waiting: list[tuple[list[str], object]] = [([], config)]
    while waiting:
        path, value = waiting.pop(0)
        if path and is_seed_name(path[-1]) and not isinstance(value, dict | list):
            return path
        # The seed below `data` makes the data.
        if isinstance(value, dict) and not is_of_data("_".join(path)):
            waiting += [([*path, str(key)], inner) for key, inner in value.items()]
    return []


def _groups(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The config groups that a config's list of defaults chooses, each with the name of its file."""
    defaults = config.get("defaults")
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, dict):
            for group, option in entry.items():
                if isinstance(option, str) and not str(group).startswith(("override ", "hydra/")):
                    yield str(group).removeprefix("optional ").partition("@")[0].strip("/"), option
