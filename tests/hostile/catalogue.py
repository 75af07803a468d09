"""All hostile programs, by family."""

from __future__ import annotations

import os

from . import collection, files, kernel, network, processes, reach, resources, scores
from .program import Program

EVERY: tuple[Program, ...] = tuple(
    program
    for part in (files, processes, resources, network, kernel, scores, collection, reach)
    for program in part.PROGRAMS
)
PROGRAMS = tuple(program for program in EVERY if os.geteuid() == 0 or not program.root)
"""Without those that only root can be, where somebody else runs the tests: they have nothing to try there."""


def by_family() -> dict[str, list[Program]]:
    found: dict[str, list[Program]] = {}
    for program in EVERY:
        found.setdefault(program.family, []).append(program)
    return found
