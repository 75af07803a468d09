"""A researcher class of the user's own, with the defaults for what it leaves out."""

from __future__ import annotations

from typing import Any

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import Config
from autolab.researchers.base import Answer, ResearcherDefaults, Task

NEEDED = ("name", "works_in_folder", "perform")
"""What such a class must have; `ResearcherDefaults` lists what it may have."""


class OwnResearcher(ResearcherDefaults):
    """An object of a class that the user wrote, with everything that the engine needs of a researcher."""

    def __init__(self, own: Any, class_name: str) -> None:
        """`class_name` is the name in the configuration. ResearcherError: a needed part is missing."""
        missing = [part for part in NEEDED if not hasattr(own, part)]
        if missing:
            raise ResearcherError(f"researcher: {class_name} is no researcher: it lacks {', '.join(missing)}")
        # Read once, here: a property of the user's that fails does so before anything is spent.
        self._own = own
        self.name: str = own.name
        self.works_in_folder: bool = own.works_in_folder
        self.contract = getattr(own, "contract", self.contract)
        self.counts = getattr(own, "counts", self.counts)
        self.notes = getattr(own, "notes", self.notes)
        self.chooses_families = getattr(own, "chooses_families", self.chooses_families)
        self.names_author = getattr(own, "names_author", self.names_author)
        self.codes_ideas = getattr(own, "codes_ideas", self.codes_ideas)

    def concludes(self, config: Config) -> bool:
        own = getattr(self._own, "concludes", None)
        return super().concludes(config) if own is None else bool(own(config))

    def perform(self, task: Task) -> Answer:
        # Not checked here: the engine checks every answer in the same way, whoever gave it.
        answer: Answer = self._own.perform(task)
        return answer
