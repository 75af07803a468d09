"""Places outside of a trial's own folders that the training writes to: without containment all trainings share them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from autolab.adoption.program_sources import SourceFile

NAMED = 5
"""Places that are named at most."""
_TEMPORARY = re.compile(r"""["'](/(?:tmp|var/tmp|dev/shm)(?:/[\w./{}%-]*)?)["']""")
"""A text that names a folder for temporary files; `tempfile` and TMPDIR lead to the trial's own."""


def shared_places(wrote: Iterable[str], sources: Iterable[SourceFile]) -> tuple[str, ...]:
    """`wrote` are paths that a run tried to write outside of its own folders; the `sources` name others."""
    return tuple(dict.fromkeys([*wrote, *_named(sources)]))[:NAMED]


def _named(sources: Iterable[SourceFile]) -> Iterator[str]:
    for source in sources:
        for line in source.text.split("\n"):
            # A comment writes nothing.
            if not line.lstrip().startswith("#"):
                yield from _TEMPORARY.findall(line)
