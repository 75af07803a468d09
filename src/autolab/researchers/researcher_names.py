"""The researchers by name; `package.module:Class` loads a class of the user's own."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

from autolab.errors import AutolabError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Researcher, ResearcherDefaults
from autolab.researchers.command.agent import CommandResearcher, PresetResearcher
from autolab.researchers.command.presets import presets, split_command
from autolab.researchers.command.program_files import located
from autolab.researchers.llm.chat_model import LLMResearcher
from autolab.researchers.offline.researcher import OfflineResearcher
from autolab.researchers.own_class import OwnResearcher
from autolab.researchers.scripted import ScriptedResearcher

_Kind = type[ScriptedResearcher] | type[CommandResearcher] | type[OfflineResearcher] | type[LLMResearcher]
RESEARCHERS: dict[str, _Kind] = {
    "offline": OfflineResearcher,
    "llm": LLMResearcher,
    "scripted": ScriptedResearcher,
    "command": CommandResearcher,
}


def load_researcher(config: ResearcherConfig) -> Researcher:
    """The researcher that the configuration names. ResearcherError: unknown name or option, or a class that fails."""
    kind: _Kind | None = RESEARCHERS.get(config.name)
    # A preset cannot take the name of a built-in researcher.
    if kind is None and config.name in presets():
        kind = PresetResearcher
    if kind is not None:
        _refuse_unknown_options(config, kind.options)
        return kind(config)
    if ":" not in config.name.strip(":"):
        names = ", ".join(sorted({*RESEARCHERS, *presets()}))
        raise ResearcherError(f"researcher: {config.name!r} is not known; known: {names}, or package.module:Class")
    try:
        own = _own_class(config.name)(config)
    # An error that the user's class raises on purpose has its line already.
    except AutolabError:
        raise
    except Exception as error:  # a user's module may fail in any way: the user wants the line, not our traceback
        raise ResearcherError(f"researcher: {config.name}: {type(error).__name__}: {error}") from error
    return OwnResearcher(own, config.name)


def _refuse_unknown_options(config: ResearcherConfig, options: frozenset[str]) -> None:
    """An option that a researcher does not read would be ignored silently."""
    # An option at its default was not necessarily written by the user, and changes nothing.
    defaults = ResearcherConfig().value()
    for key, value in config.value().items():
        if key not in options | {"name"} and value != defaults[key]:
            names = ", ".join(sorted(options))
            raise ResearcherError(f"researcher: {config.name} has no option {key}; it has: {names}")


def _own_class(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def with_located_files(config: ResearcherConfig, root: Path) -> ResearcherConfig:
    """The configuration with the files that its command names as absolute paths; the lab is at `root`.

    ResearcherError: the command is no command line.
    """
    if config.command is None:
        return config
    words = split_command(config.command)
    paths = located(words, root)
    # As the user wrote it if nothing changes: it is shown and recorded.
    if paths == list(words):
        return config
    return config.model_copy(update={"command": shlex.join(paths)})


def load_replayed(config: ResearcherConfig) -> Researcher | None:
    """For a replay: the researcher that reads the recorded replies of its calls again, without a key.

    None for every other researcher: its final answer is on record, and is used as it is.
    """
    return LLMResearcher(config, keyless=True) if config.name == "llm" else None


def recorded_defaults(config: ResearcherConfig) -> ResearcherDefaults:
    """What a recorded researcher's class says of all its objects; the defaults if the class is no longer found.

    No object is made: that could need a key or a program.
    """
    kind: Any = RESEARCHERS.get(config.name)
    if kind is None and ":" in config.name.strip(":"):
        try:
            kind = _own_class(config.name)
        except Exception:  # a user's module may fail in any way, and a replay needs none of it
            kind = None
    # Of the class alone: these three decide whether a replay accepts what the record holds.
    defaults = ResearcherDefaults()
    defaults.chooses_families = bool(getattr(kind, "chooses_families", defaults.chooses_families))
    defaults.names_author = bool(getattr(kind, "names_author", defaults.names_author))
    defaults.codes_ideas = bool(getattr(kind, "codes_ideas", defaults.codes_ideas))
    return defaults
