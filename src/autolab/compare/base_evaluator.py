"""`--evaluator FILE`: the evaluator of the base measures both versions, sealed; no version brings its own.

What it needs has the form that `autolab init --evaluator` sets up in a lab:

    FILE          committed in the base: scores predictions against labels (--predictions, --labels, --out)
    predict.py    committed beside it: predicts with what the training saved, on inputs without labels; its line
                  CHECKPOINT = "…" says what that is, without one it is AUTOLAB_TRIAL_DIR/model
    eval_data/eval/inputs.npy and labels.npy    beside it, committed or in the checkout alone
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from autolab.adoption.evaluator_files import checkpoint_in
from autolab.adoption.evaluator_setup import PREDICTION_S
from autolab.compare.versions import Version
from autolab.errors import LabError, UsageError
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.text import decode

_PREDICT = ("predict.py", "autolab_predict.py")
_DATA = ("eval_data/eval", "autolab_eval_data/eval", "data/eval")
_SPLIT = ("inputs.npy", "labels.npy")


def with_evaluator(git: Git, base: Version, config: Config, file: Path) -> Config:
    """The configuration in which `file`, as the base has it, measures both versions.

    UsageError: the lab has an evaluator; the file lies outside of the repository. LabError: all that is missing.
    """
    if config.evaluate is not None:
        script = config.evaluate.script
        raise UsageError(f"--evaluator: this lab has one, {script}, which measures both versions; leave the flag out")
    script = os.path.relpath(file.absolute(), git.root)
    if script.startswith(".."):
        raise UsageError(f"--evaluator: {file} is not in {git.root}; name a file of the base, such as eval.py")
    folder = PurePosixPath(script).parent
    predict = _first(folder, _PREDICT, lambda path: git.has_path(base.commit, path) is not None)
    data = _first(folder, _DATA, lambda path: all(_exists(git, base, f"{path}/{name}") for name in _SPLIT))
    missing = []
    if git.has_path(base.commit, script) is None:
        missing.append(f"{script} in {base.label}")
    if predict is None:
        missing.append(f"{folder / _PREDICT[0]} in {base.label}, which predicts with what the training saved")
    if data is None:
        missing.append(f"{folder / _DATA[0]}/ with {' and '.join(_SPLIT)}")
    if missing or predict is None or data is None:
        raise LabError(
            f"--evaluator: missing: {'; '.join(missing)}; `autolab init --evaluator` writes them in a lab, and"
            " docs/adoption.md says what each does"
        )
    text = git.read(base.commit, predict)
    assert text is not None
    command = f"{{python}} {shlex.quote(predict)}"
    # A model that is moved out of the training's own copy needs that copy.
    model = checkpoint_in(decode(text)) if config.train.in_copy else None
    changes = {
        "predict": {"command": command, "time_limit_s": PREDICTION_S, "model": model},
        "evaluate": {"script": script, "eval": data},
    }
    return Config.from_value(config.value() | changes, "--evaluator")


def _first(folder: PurePosixPath, names: Iterable[str], exists: Callable[[str], bool]) -> str | None:
    """The first of these paths in the folder that exists."""
    for name in names:
        path = str(folder / name)
        if exists(path):
            return path
    return None


def _exists(git: Git, base: Version, path: str) -> bool:
    return git.has_path(base.commit, path) is not None or (git.root / path).is_file()
