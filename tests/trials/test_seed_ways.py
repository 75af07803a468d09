"""How a training gets its seed is said as config.yaml has it."""

from __future__ import annotations

from typing import Any

import pytest

from autolab.lab.schemas.config import Train
from autolab.trials.seed_ways import ways_in_words


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({}, "AUTOLAB_SEED has it"),
        ({"command": "{python} train.py --seed {seed}"}, "the command passes `--seed {seed}`"),
        ({"command": "env SEED={seed} make"}, "the command passes `SEED={seed}`"),
        ({"seed_constants": ("a.py: S = {seed}",), "in_copy": True}, "`a.py: S = {seed}` gets it"),
        ({"seed_libraries": True}, "random, numpy and torch are seeded with it"),
    ],
)
def test_each_way_has_its_words(train: dict[str, Any], words: str) -> None:
    assert ways_in_words(Train(**{"command": "{python} train.py"} | train)) == words
