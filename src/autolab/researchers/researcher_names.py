"""The researchers by name, or `package.module:Class` for one of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from autolab.errors import AutolabError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Researcher, ResearcherDefaults
from autolab.researchers.command.agent import CommandResearcher, PresetResearcher
from autolab.researchers.command.presets import presets
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
    """The researcher that the configuration names; ResearcherError lists the known ones."""
    if config.name in RESEARCHERS or config.name in presets():
        kind = RESEARCHERS.get(config.name, PresetResearcher)
        defaults = ResearcherConfig().value()
        options = [key for key, part in config.value().items() if key != "name" and part != defaults[key]]
        unknown = [key for key in options if key not in kind.options]
        if unknown:
            raise ResearcherError(
                f"researcher: {config.name} has no option {unknown[0]}; it has: {_list(kind.options)}"
            )
        return kind(config)
    module, _, name = config.name.partition(":")
    if not (module and name):
        known = _list({*RESEARCHERS, *presets()})
        raise ResearcherError(f"researcher: {config.name!r} is not known; known: {known}, or {_OWN}")
    try:
        own = getattr(importlib.import_module(module), name)(config)
    except AutolabError:
        raise
    except Exception as error:  # a user's module may fail in any way: the user wants the line, not our traceback
        raise ResearcherError(f"researcher: {config.name}: {type(error).__name__}: {error}") from error
    return OwnResearcher(own, config.name)


def load_replayed(config: ResearcherConfig) -> Researcher | None:
    """The researcher that reads the recorded replies of its calls anew, without a key.

    None for every other: what it answered at last is on record, and is taken as it is.
    """
    return LLMResearcher(config, keyless=True) if config.name == "llm" else None


def recorded_defaults(config: ResearcherConfig) -> ResearcherDefaults:
    """What the class that a record names says of all its researchers. None is made: that could need a key or a program.

    The defaults, where the class is no longer found.
    """
    kind: Any = RESEARCHERS.get(config.name)
    module, _, name = config.name.partition(":")
    if kind is None and module and name:
        try:
            kind = getattr(importlib.import_module(module), name)
        except Exception:  # a user's module may fail in any way, and a replay needs none of it
            kind = None
    recorded = ResearcherDefaults()
    recorded.chooses_families = bool(getattr(kind, "chooses_families", recorded.chooses_families))
    recorded.names_author = bool(getattr(kind, "names_author", recorded.names_author))
    return recorded


_OWN = "package.module:Class"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
