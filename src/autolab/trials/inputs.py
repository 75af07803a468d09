"""What the trials of a run get: the interpreter, code and data exports, the evaluation, and the hashes of all of it.

The code export leaves out the evaluator, every split of the data and the lab's record: training sees none of them.
Nothing here needs a lab: a git repository with a configuration is enough.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolab import files
from autolab.errors import LabError
from autolab.lab import crash_points
from autolab.lab.git import Git
from autolab.lab.schemas.config import CommandLine, Config, Metric
from autolab.lab.schemas.experiment import Environment
from autolab.lab.trial_python import trial_python
from autolab.sandbox.box import Box
from autolab.sandbox.environment import PYTHON_PATH
from autolab.stats.plan import BASE, PlannedArm
from autolab.trials import bound_data, interpreter, lookahead
from autolab.trials.bound_data import BoundData
from autolab.trials.evaluation import DataSplit, Evaluation
from autolab.trials.evaluator import FrozenEvaluator
from autolab.trials.exports import Changing, CodeExport, DataFolder, Exporter
from autolab.trials.seal import CONFIGS, Seals

TRAIN_SPLIT, EVAL_SPLIT, HOLDOUT_SPLIT = "train", "eval", "holdout"
"""Names of the splits in `TrialInputs.data_sha256` and in manifests."""
PROTOCOL_EVALUATOR, PROTOCOL_DATA = "evaluator", "data"
PROTOCOL_METRIC, PROTOCOL_ENVIRONMENT = "metric", "environment"
"""Keys of the hashed text of a protocol: if one of them changes, every lab is in a new protocol."""


@dataclass(frozen=True)
class InputSource:
    """The repository that inputs are taken from, and where they are put.

    `root`: the checkout, where data lies that git does not hold. `store`: the folder for seals and byte code.
    `exports`: the folder for exports. `secret`: what the altered inputs are drawn from.
    """

    git: Git
    root: Path
    store: Path
    exports: Path
    secret: bytes


@dataclass(frozen=True)
class TrialInputs:
    """Read-only exports and hashes that a run's trials share."""

    interpreter: interpreter.Interpreter
    code: Mapping[str, CodeExport]
    """By the name of the code: `base`, `candidate`."""
    bound: tuple[BoundData, ...]
    """The training data; the first entry is AUTOLAB_DATA."""
    data_sha256: Mapping[str, str]
    """By split: train, eval, holdout."""
    evaluation: Evaluation | None
    """None in a lab without an evaluator."""
    protocol: str
    containment: str
    configs: Path
    """The folder for the files of resolved settings."""
    user: Mapping[str, str]
    """What `train.env` passes on of the user's environment."""
    seals: Seals
    """The content of all of this when it was made; broken if a trial changed it."""

    @property
    def data(self) -> Path | None:
        """The first of the training data."""
        return self.bound[0].path if self.bound else None

    @property
    def evaluator_sha256(self) -> str:
        """Empty in a lab without an evaluator."""
        return self.evaluation.evaluator.sha256 if self.evaluation is not None else ""

    @property
    def environment_identity(self) -> str:
        """The part of the environment that a trial's numbers depend on."""
        return self.interpreter.identity(any(export.imports is not None for export in self.code.values()))

    def settings_file(self, arm: PlannedArm) -> Path:
        """The JSON file of an arm's resolved settings (AUTOLAB_CONFIG), addressed by its content."""
        settings = json.dumps(arm.settings, sort_keys=True)
        path = self.configs / f"{files.sha256_of(settings)[:16]}.json"
        # Never written again: the file is sealed, and a new time of modification would have it hashed again.
        if not path.exists():
            files.write_whole(path, settings, mode=0o644)
        return path


def set_up(source: InputSource, config: Config, commits: Mapping[str, str]) -> TrialInputs:
    """Export the code of all `commits` (by the name of the code) and the data that git holds, and hash what counts.

    The commit called `base` holds evaluator and data. LabError: a part is missing or cannot be read.
    """
    # Evaluator and data come from the base alone: a candidate cannot bring its own.
    base = commits[BASE]
    python, redirection = interpreter.inspect(trial_python(source.root, config), source.root)
    exporter = Exporter(source.git, source.root, source.exports, Seals(source.exports, source.store / "seals"))
    changing = Changing.of(config) if config.train.repository else None
    code = exporter.code(commits, hidden_from_trials(config), changing)
    crash_points.point("export.after_write")
    user = from_user(config.train.env)
    code = exporter.with_imports(code, redirection, user.get(PYTHON_PATH, ""))
    bound = bound_data.bind(exporter, config, base)
    for one in bound:
        require_open(one.path, config)
    data = _splits(exporter, config, base)
    evaluation = _evaluation(exporter, config, base, data, python, source)
    evaluator_sha256 = evaluation.evaluator.sha256 if evaluation is not None else ""
    data_sha256 = {TRAIN_SPLIT: bound_data.combined_sha256(bound)} if bound else {}
    data_sha256 |= {split: folder.sha256 for split, folder in data.items()}
    return TrialInputs(
        interpreter=python,
        code=code,
        bound=bound,
        data_sha256=data_sha256,
        evaluation=evaluation,
        protocol=protocol_hash(evaluator_sha256, data_sha256, config.metric, python.environment, config.train.choice),
        containment=config.containment,
        configs=source.exports / CONFIGS,
        user=user,
        seals=exporter.seals,
    )


def _splits(exporter: Exporter, config: Config, base: str) -> dict[str, DataFolder]:
    """The folders of the evaluation and the holdout, by split."""
    data = {}
    if config.evaluate is not None:
        data[EVAL_SPLIT] = exporter.data(base, config.evaluate.eval)
        if config.evaluate.holdout is not None:
            data[HOLDOUT_SPLIT] = exporter.data(base, config.evaluate.holdout)
    return data


def _evaluation(
    exporter: Exporter,
    config: Config,
    base: str,
    data: Mapping[str, DataFolder],
    python: interpreter.Interpreter,
    source: InputSource,
) -> Evaluation | None:
    """The frozen evaluator and its splits. LabError: trials may not read the inputs that they predict for."""
    # A configuration has both or none.
    if config.evaluate is None or config.predict is None:
        return None
    script = exporter.file(base, config.evaluate.script, "the evaluator")
    # The prediction's level and limits, except for the disk: the byte code of what it imports needs room.
    box = replace(python.enclosed(limits_box(config.predict, config.containment)), disk_bytes=0)
    evaluator = FrozenEvaluator(
        python=Path(python.path),
        script=script,
        sha256=files.sha256_of_file(script),
        time_limit_s=config.predict.time_limit_s,
        box=box,
        bytecode=source.store / "bytecode",
    )
    split, holdout = DataSplit.of(data[EVAL_SPLIT].path), None
    require_open(split.inputs, config)
    if HOLDOUT_SPLIT in data:
        holdout = DataSplit.of(data[HOLDOUT_SPLIT].path)
        require_open(holdout.inputs, config)
    altered = None
    if config.evaluate.altered_suffix:
        altered = lookahead.alter(split.inputs, source.secret, exporter.folder)
        exporter.seals.add("the altered inputs", altered.inputs)
    return Evaluation(evaluator, split, holdout, altered)


def protocol_hash(
    evaluator_sha256: str,
    data_sha256: Mapping[str, str],
    metric: Metric,
    environment: Environment,
    choice: Sequence[str] = (),
) -> str:
    """The hash of a protocol: numbers of two protocols are not compared. `evaluator_sha256` is empty without one.

    `choice` says how a training's own number is chosen (`Train.choice`); an evaluator's number is not chosen.
    """
    chosen = [] if evaluator_sha256 else choice
    parts = {
        PROTOCOL_EVALUATOR: evaluator_sha256,
        PROTOCOL_DATA: dict(data_sha256),
        PROTOCOL_METRIC: [metric.primary, metric.direction, *chosen],
        # The same packages in another folder are the same environment.
        PROTOCOL_ENVIRONMENT: environment.value() | {"python": ""},
    }
    return files.sha256_of(json.dumps(parts, sort_keys=True))


def from_user(names: Sequence[str]) -> dict[str, str]:
    """The variables that `train.env` passes on. LabError names one that is not set."""
    for name in names:
        if name not in os.environ:
            raise LabError(f".autolab/config.yaml: train.env: {name} is not set here; set it, or take it off the list")
    return {name: os.environ[name] for name in names}


def hidden_from_trials(config: Config) -> list[str]:
    """Paths that the code export leaves out: the evaluator, every split, the lab's own record."""
    # The record has earlier scores and what was learned from them: a training must not depend on it.
    hidden = [".autolab", "experiments", "5_worktrees"]
    for entry in config.data_entries:
        # A link takes its place in a copy of the code. What lies at the top is merged with the commit's files.
        named = [] if entry.lies_outside else [entry.path]
        if entry.is_relative and not entry.upward and entry.place != ".":
            named.append(entry.place)
        hidden += [path for path in dict.fromkeys(named) if path not in hidden]
    if config.evaluate:
        hidden += [config.evaluate.script, config.evaluate.eval]
        if config.evaluate.holdout:
            hidden.append(config.evaluate.holdout)
    return hidden


def require_open(path: Path, config: Config) -> None:
    """LabError if trials may not read `path` or a file in it."""
    # At `full`, if root started the lab, each trial runs as another user, who reads what everybody may read.
    if config.containment != "full" or os.geteuid() != 0:
        return
    paths = [path]
    if path.is_dir():
        paths += path.iterdir()
    for file in paths:
        if not file.stat().st_mode & stat.S_IROTH:
            raise LabError(f"{file}: trials may not read it, being users of their own: chmod -R a+rX {path}")


def limits_box(limits: CommandLine, containment: str) -> Box:
    """A box with the level `containment` and the limits of a command."""
    return Box(
        level=containment,
        reads=limits.reads,
        memory_bytes=int(limits.memory_gb * 2**30),
        processes=limits.processes,
        disk_bytes=int(limits.disk_mb * 1e6),
    )
