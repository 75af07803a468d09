"""Who thinks: a registry of names, or `package.module:Class` for one of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from autolab.errors import AutolabError, ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.researchers.base import Answer, LabSnapshot, Researcher, Task
from autolab.researchers.command.agent import CommandResearcher, PresetResearcher
from autolab.researchers.command.presets import presets
from autolab.researchers.llm.chat_model import LLMResearcher
from autolab.researchers.offline.researcher import OfflineResearcher
from autolab.researchers.scripted import ScriptedResearcher

__all__ = ["RESEARCHERS", "Answer", "LabSnapshot", "Researcher", "Task", "load_researcher"]

_Kind = type[ScriptedResearcher] | type[CommandResearcher] | type[OfflineResearcher] | type[LLMResearcher]
RESEARCHERS: dict[str, _Kind] = {
    "offline": OfflineResearcher,
    "llm": LLMResearcher,
    "scripted": ScriptedResearcher,
    "command": CommandResearcher,
}


def load_researcher(who: ResearcherConfig) -> Researcher:
    """The researcher that the configuration names; ResearcherError lists the known ones."""
    if who.name in RESEARCHERS or who.name in presets():
        kind = RESEARCHERS.get(who.name, PresetResearcher)
        given = [key for key, part in who.value().items() if key != "name" and part != ResearcherConfig().value()[key]]
        unknown = [key for key in given if key not in kind.options]
        if unknown:
            raise ResearcherError(f"researcher: {who.name} has no option {unknown[0]}; it has: {_list(kind.options)}")
        return kind(who)
    module, _, name = who.name.partition(":")
    if not (module and name):
        known = _list({*RESEARCHERS, *presets()})
        raise ResearcherError(f"researcher: {who.name!r} is not known; known: {known}, or {_OWN}")
    try:
        made: Researcher = getattr(importlib.import_module(module), name)(who)
    except AutolabError:
        raise
    except Exception as error:  # a user's module may fail in any way: the user wants the line, not our traceback
        raise ResearcherError(f"researcher: {who.name}: {type(error).__name__}: {error}") from error
    missing = [part for part in ("name", "works_in_folder", "perform") if not hasattr(made, part)]
    if missing:
        raise ResearcherError(f"researcher: {who.name} is no researcher: it lacks {', '.join(missing)}")
    return made


_OWN = "package.module:Class"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
