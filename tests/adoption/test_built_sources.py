"""The seed of a program that is built from C: it stands in a header, and the Makefile has other programs with seeds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from autolab.adoption.program_sources import read_sources
from autolab.adoption.repository import Repository
from autolab.adoption.seed_places import find_constants
from autolab.lab.git import Git

FILES = {
    "Makefile": "train: train.c\n\t$(CC) -O2 train.c -o train\nprofile: profile.c\n\t$(CC) profile.c -o profile\n",
    "train.c": '#include "parts/loader.h"\nint main() { Loader loader; loader_init(&loader); fit(&loader); }\n',
    "parts/loader.h": "void loader_init(Loader *loader, int rank) {\n    manual_seed(&loader_rng, 42 + rank);\n}\n",
    "profile.c": "int main() { srand(7); }\n",
}


class Committed:
    """What git holds, without a git."""

    def files(self, commit: str) -> list[str]:
        return list(FILES)

    def text(self, commit: str, path: str) -> str | None:
        return FILES.get(path)


@pytest.mark.parametrize("words", [["sh", "-c", "make train && ./train"], ["./train"]])
def test_the_seed_of_a_program_from_c_is_that_of_its_own_sources(tmp_path: Path, words: list[str]) -> None:
    repository = Repository(tmp_path, cast(Git, Committed()), "", ())
    constants = find_constants(read_sources(repository, None, words))
    assert [str(constant) for constant in constants] == ["parts/loader.h: manual_seed(&loader_rng, {seed}"]
