"""Libraries that are seeded when a training imports them: each its own start, the same for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autolab.lab.schemas.config import Config
from autolab.trials import seeding
from autolab.trials.job import TrialCommands

FOLDER = str(Path(seeding.__file__).parent)


def printed(program: str, seed: int | None, *paths: str) -> str:
    """What a Python prints that has the folder first on its path."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join([FOLDER, *paths]), "PYTHONDONTWRITEBYTECODE": "1"}
    if seed is not None:
        env["AUTOLAB_SEED"] = str(seed)
    words = [sys.executable, "-c", program]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


DRAWS = {
    "random": "import random; print(random.random())",
    "numpy": "import numpy as np; print(np.random.rand(), np.random.randint(10**9))",
    "numpy, a generator": "from numpy.random import default_rng; print(default_rng().random())",
    "torch": "import torch; print(torch.rand(3).tolist())",
}


@pytest.mark.process
@pytest.mark.parametrize("library", DRAWS)
def test_what_a_library_draws_follows_from_the_seed(library: str) -> None:
    first, again, other = (printed(DRAWS[library], seed) for seed in (7, 7, 2**31 - 1))
    assert first == again and first != other


@pytest.mark.process
def test_a_program_that_seeds_itself_has_the_last_word() -> None:
    program = """
import random, numpy as np
random.seed(1); np.random.seed(1)
print(random.random(), np.random.rand(), np.random.default_rng(1).random(), np.random.default_rng(seed=1).random())
"""
    assert printed(program, 7) == printed(program, 8) == printed(program, None)


@pytest.mark.process
def test_generators_without_a_seed_are_not_one_and_the_same() -> None:
    program = (
        "import numpy as np; f = np.random.default_rng; print(len({f().random(), f().random(), f(None).random()}))"
    )
    assert printed(program, 7) == "3\n"


@pytest.mark.process
def test_nothing_is_imported_and_loaders_stay_what_they_are() -> None:
    program = "import sys; print([name for name in ('random', 'numpy', 'torch') if name in sys.modules])"
    assert printed(program, 7) == "[]\n"
    program = (
        "import inspect, random; print(type(random.__loader__).__name__, 'class Random' in inspect.getsource(random))"
    )
    assert printed(program, 7) == "SourceFileLoader True\n"


@pytest.mark.process
def test_modules_of_the_users_and_another_start_up_module_run_as_before(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("print('my torch')\n")
    (tmp_path / "sitecustomize.py").write_text("import sys\nprint('mine', [p for p in sys.path if 'seeding' in p])\n")
    program = "import torch, random; print(random.random())"
    assert printed(program, 7, str(tmp_path)).splitlines()[:2] == ["mine []", "my torch"]
    assert printed(program, 7, str(tmp_path)) == printed(program, 7, str(tmp_path))
    program = "import no_such_library"
    with pytest.raises(AssertionError, match="ModuleNotFoundError: No module named 'no_such_library'"):
        printed(program, 7)


def test_it_is_a_part_of_the_content_key() -> None:
    metric = {"primary": "loss", "direction": "minimize", "success_delta": 0.1}
    config = Config.from_value({"metric": metric, "train": {"command": "x", "seed_libraries": True}}, "a configuration")
    assert TrialCommands.of("x", config).identity({}) == ["x", "", "seeded libraries"]
