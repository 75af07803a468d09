"""How a training gets the seed of its trial, in words: the ways that config.yaml names."""

from __future__ import annotations

from autolab.lab.schemas.config import SEED, Train
from autolab.lab.trial_python import command_words

BY_VARIABLE = "AUTOLAB_SEED has it"


def ways_in_words(train: Train) -> str:
    """Such as "`train.py: SEED = {seed}` gets it" of train.seed_constants; of none, the variable AUTOLAB_SEED."""
    ways = []
    if train.seed_constants:
        ways.append(f"{' and '.join(f'`{entry}`' for entry in train.seed_constants)} gets it")
    words = command_words(train.command)
    passed = []
    for index, word in enumerate(words):
        if SEED in word:
            # The number alone does not say what it is for.
            before = words[index - 1] if word == SEED and index else ""
            passed.append(f"{before} {word}".strip())
    if passed:
        ways.append(f"the command passes `{' '.join(passed)}`")
    if train.seed_libraries:
        ways.append("random, numpy and torch are seeded with it")
    return ", and ".join(ways) or BY_VARIABLE
