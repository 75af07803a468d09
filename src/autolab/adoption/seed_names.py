"""What programs call their seed, and the functions that they give it to."""

from __future__ import annotations

import re

_NAMES = frozenset(
    {
        *("seed", "randomseed", "manualseed", "rngseed", "globalseed", "trainseed", "trainingseed", "torchseed"),
        *("numpyseed", "npseed", "seedvalue", "initseed", "initialseed", "baseseed", "randseed", "mainseed"),
        *("modelseed", "runseed", "seedeverything"),
    }
)
"""Without case and underscores. A seed of data, of a split or of an evaluation is none of a training."""
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_OF_DATA = re.compile(r"data|split|eval|valid|(?:^|_)(?:test|val|hash)(?:_|$)", re.IGNORECASE)

SEEDING_FUNCTIONS = frozenset(
    {
        *("manual_seed", "manual_seed_all", "seed_everything", "seed_all", "seed_torch", "set_seed", "set_seeds"),
        *("set_random_seed", "set_random_seeds", "set_all_seeds", "set_global_seed", "set_manual_seed", "setup_seed"),
        *("fix_seed", "fix_seeds", "fix_random_seed", "init_seed", "init_seeds", "same_seeds", "same_seed"),
        *("PRNGKey", "default_rng", "RandomState", "SeedSequence", "Rngs"),
    }
)
SEEDING_METHODS = ("random.seed", "random.key", "jr.key", "jrandom.key", "jrd.key", "random.Random", "rng.seed")
"""Functions whose last name alone says too little."""
SPLITS = frozenset(
    {
        *("train_test_split", "random_split", "KFold", "StratifiedKFold", "GroupKFold", "ShuffleSplit"),
        *("StratifiedShuffleSplit", "make_classification", "make_regression", "make_moons", "make_blobs"),
        *("make_circles", "fetch_openml"),
    }
)
"""What they draw is the data: another split would be another task."""


def is_seed_name(name: str) -> bool:
    """Whether a flag, a key or a variable of this name is the seed of a training."""
    return name.replace("-", "").replace("_", "").lower() in _NAMES


def is_seed_variable(name: str) -> bool:
    """Whether an environment variable of this name is the seed of a training."""
    if not _VARIABLE.fullmatch(name) or is_of_data(name):
        return False
    return name == "SEED" or name.endswith("_SEED")


def is_of_data(name: str) -> bool:
    """Whether what has this name is about data, splits or evaluation, whose seed is not the training's."""
    return _OF_DATA.search(name) is not None
