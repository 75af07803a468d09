"""The committed scripts of a repository that look as if they train: what is proposed where no command was given."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from autolab.adoption.repository import Repository

READ_BYTES = 200_000
_BESIDES = frozenset({"test", "tests", "docs", "doc", "vendor", "third_party", "venv", "node_modules"})
_NAMES = (
    r"(pre)?_?train\w*",
    r"main\w*",
    r"finetun\w*",
    r"fit(_\w+)?",
    r"run\w*",
    r"\w+_train(er|ing)?",
    r"experiment\w*",
)
_TRAINS = re.compile(
    r"\.backward\(|\boptimizer\b|\.fit\(|\.partial_fit\(|value_and_grad|GradientTape|\btrainer\.train\("
    r"|\blearning_rate\b|\bepochs?\b",
    re.IGNORECASE,
)
_STARTS = re.compile(r"""(?m)^if __name__ == ["']__main__["']""")


def training_scripts(repository: Repository) -> list[str]:
    """Their paths, the likely one first: by the usual names, near the top, with code that trains in them."""
    ranked = []
    for path in repository.git.files(repository.head):
        place = PurePosixPath(path)
        is_aside = not _BESIDES.isdisjoint(place.parts) or place.name.startswith(("test_", "__", "setup.", "conftest."))
        if place.suffix != ".py" or is_aside or not (repository.root / path).is_file():
            continue
        text = repository.text(path)[:READ_BYTES]
        rank = _rank_of_name(place.stem)
        if _TRAINS.search(text) and (rank < len(_NAMES) or _STARTS.search(text)):
            ranked.append((rank, len(place.parts), path))
    return [path for _, _, path in sorted(ranked)]


def training_commands(repository: Repository) -> list[str]:
    """The same as commands."""
    return [f"python {shlex.quote(path)}" for path in training_scripts(repository)]


def _rank_of_name(stem: str) -> int:
    for rank, pattern in enumerate(_NAMES):
        if re.fullmatch(pattern, stem, re.IGNORECASE):
            return rank
    return len(_NAMES)
