"""Who thinks: a registry of names, or `package.module:Class` for one of the user's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from autolab.errors import ResearcherError
from autolab.records.lab import Who
from autolab.researchers.base import Answer, Researcher, Task
from autolab.researchers.command import CommandResearcher
from autolab.researchers.scripted import ScriptedResearcher

__all__ = ["RESEARCHERS", "Answer", "Researcher", "Task", "load_researcher"]

RESEARCHERS: dict[str, Callable[[Who], Researcher]] = {
    "scripted": ScriptedResearcher,
    "command": CommandResearcher,
}


def load_researcher(who: Who) -> Researcher:
    """The researcher that the configuration names; ResearcherError lists the known ones."""
    if who.name in RESEARCHERS:
        return RESEARCHERS[who.name](who)
    module, _, name = who.name.partition(":")
    if not name:
        known = ", ".join(sorted(RESEARCHERS))
        raise ResearcherError(f"researcher: {who.name!r} is not known; known: {known}, or package.module:Class")
    try:
        made: Researcher = getattr(importlib.import_module(module), name)(who)
    except (ImportError, AttributeError) as error:
        raise ResearcherError(f"researcher: {who.name}: {error}") from None
    return made
