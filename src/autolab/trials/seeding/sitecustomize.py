"""Seeds the random numbers of random, numpy and torch from AUTOLAB_SEED as soon as a training imports one of them.

Standard library only, Python 3.8 or newer, never imported by the engine. Each Python of a training with
`train.seed_libraries` imports it at its start. It imports none of the libraries itself, and a program that seeds them
later has the last word. In numpy, `default_rng()` without a seed gives a generator that follows from AUTOLAB_SEED and
the number of calls before it. Not covered: JAX, which has no seed of its own but keys; `random.Random()`; `python -I`.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import count

TYPE_CHECKING = False  # typing itself would cost each start of each trial some milliseconds
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any


def _seed_random(module: Any, seed: int) -> None:
    module.seed(seed)


def _seed_numpy(module: Any, trial_seed: int) -> None:
    module.seed(trial_seed)
    original = module.default_rng
    calls = count()

    def default_rng(seed: Any = None) -> Any:
        if seed is None:
            # Each its own stream: equal ones would give equal "independent" noise.
            seed = module.SeedSequence(trial_seed, spawn_key=(next(calls),))
        return original(seed)

    default_rng.__doc__ = original.__doc__
    module.default_rng = default_rng


def _seed_torch(module: Any, seed: int) -> None:
    module.manual_seed(seed)


_LIBRARIES = {"random": _seed_random, "numpy.random": _seed_numpy, "torch": _seed_torch}
_NEEDED = {"random": "seed", "numpy.random": "default_rng", "torch": "manual_seed"}
"""What tells the library from a module of the user's that has its name."""


class _SeedOnImport:
    """Stands in front of the finders: has them find a library, and seeds it when its code has run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.waiting = set(_LIBRARIES)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        spec = None
        for finder in list(sys.meta_path):
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        if spec is not None and spec.loader is not None:
            self.waiting.discard(name)
            self._seed_after(spec.loader)
        return spec

    def _seed_after(self, loader: Any) -> None:
        """Have the loader seed what it loads. It stays the same object: others read sources and data through it."""
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self.seed_module(module)

        loader.exec_module = exec_module

    def seed_module(self, module: Any) -> None:
        if hasattr(module, _NEEDED[module.__name__]):
            _LIBRARIES[module.__name__](module, self.seed)


def _install(seed: int) -> None:
    finder: Any = _SeedOnImport(seed)
    sys.meta_path.insert(0, finder)
    for name in _LIBRARIES:
        # A `.pth` file may have imported it already.
        if name in sys.modules:
            finder.waiting.discard(name)
            finder.seed_module(sys.modules[name])


def _next_sitecustomize(here: str) -> None:
    """The one that this one stands in front of: the redirection of imports, or the environment's own."""
    sys.path[:] = [path for path in sys.path if path != here]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    # As the import system does it: the module is registered before its code runs.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if "AUTOLAB_SEED" in os.environ:
        _install(int(os.environ["AUTOLAB_SEED"]))
    _next_sitecustomize(os.path.dirname(os.path.abspath(__file__)))
