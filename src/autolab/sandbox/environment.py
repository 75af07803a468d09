"""The environment variables of trainings, predictions, checks and the evaluator: an allow-list, nothing of the user's.

    training     the allow-list, the variables that `train.env` names, AUTOLAB_SEED, _COMMIT, _CONFIG, _DATA and
                 _TRIAL_DIR; with `train.repository` what git needs to trust the repository of the export
    check        what a training sees, because a check has to fail where the training would
    prediction   the allow-list, AUTOLAB_MODEL, _INPUTS and _TRIAL_DIR; no variable of the user's, because predictions
                 depend on code, weights and inputs alone
    evaluator    nothing, because a score depends on the evaluator's arguments alone

Where the lab's own package is installed, PYTHONPATH begins with the folder that sends its imports to the code export;
the evaluator imports no code of a candidate, so it does not get it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON_PATH = "PYTHONPATH"
_VARIABLE = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
EVALUATOR: Mapping[str, str] = {}
"""The evaluator's environment: empty."""
_ALLOWED = {
    # The runner fills in a folder that is removed after the step.
    "HOME": "{scratch}",
    "TMPDIR": "{scratch}",
    "LANG": "C.UTF-8",
    # One thread: the sum of floats depends on how many threads add them, and trials run side by side.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
}
TRIAL_CONFIG = "trial.config"
"""The file in the repository of an export that git reads in place of the user's configuration."""
# The repository is read-only, so `git status` is not to write what it has looked at.
_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}


@dataclass(frozen=True)
class ProgramEnvironment:
    """The environments of one code export's programs. Paths may be placeholders that an executor fills in.

    `python`: the interpreter, whose folder comes first on PATH. `imports`: the folder that sends imports of the lab's
    package to the export; None if the package is not installed. `user`: the variables that `train.env` names.
    `commit`: the id of the code's commit. `repository`: the git directory of the export; None if it has none.
    """

    python: str
    imports: str | None = None
    user: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    repository: str | None = None

    def training(self, folder: str, seed: int, config: str | None, data: str | None) -> dict[str, str]:
        """Of a training or a check that may write in `folder`. `config`: the file of settings, `data`: the training
        data; None if there is none."""
        environment = self._allowed() | dict(self.user)
        if self.imports is not None and PYTHON_PATH in self.user:
            environment[PYTHON_PATH] = f"{self.imports}:{self.user[PYTHON_PATH]}"
        if self.repository is not None:
            environment |= _GIT | {"GIT_CONFIG_GLOBAL": f"{self.repository}/{TRIAL_CONFIG}"}
        environment["AUTOLAB_TRIAL_DIR"] = folder
        environment["AUTOLAB_SEED"] = str(seed)
        if self.commit:
            environment["AUTOLAB_COMMIT"] = self.commit
        if config is not None:
            environment["AUTOLAB_CONFIG"] = config
        if data is not None:
            environment["AUTOLAB_DATA"] = data
        return environment

    def prediction(self, folder: str, model: str, inputs: str) -> dict[str, str]:
        """Of a prediction that may write in `folder`: `model` is the training's result, `inputs` the file to read."""
        paths = {"AUTOLAB_TRIAL_DIR": folder, "AUTOLAB_MODEL": model, "AUTOLAB_INPUTS": inputs}
        return self._allowed() | paths

    def _allowed(self) -> dict[str, str]:
        path = SYSTEM_PATH
        if "/" in self.python:
            path = f"{Path(self.python).parent}:{path}"
        environment = {"PATH": path} | _ALLOWED
        if self.imports is not None:
            environment[PYTHON_PATH] = self.imports
        return environment


def with_python_path(arguments: Iterable[str], path: str) -> list[str]:
    """The arguments of a program, in which `env PYTHONPATH=src` adds to `path`, that of its environment.

    What lies there seeds libraries and leads imports to the candidate's code: a command must not put it aside.
    """
    joined = []
    sets_variables = False
    for word in arguments:
        sets_variables = word == "env" or (sets_variables and _VARIABLE.match(word) is not None)
        name, _, value = word.partition("=")
        if sets_variables and name == PYTHON_PATH and path:
            word = f"{PYTHON_PATH}={path}:{value}"
        joined.append(word)
    return joined
