"""One trial of an evaluator that is not in force yet: a short training, and predictions for both splits, contained.

All of it lies in a folder of the git common dir. The training is kept there while predict.py and eval.py are being
fitted to it: as long as commit, command and limit are the same, the next try does not train again. The checkout is not
touched.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autolab.executors.base import Step, fill
from autolab.files import sha256_of, write_whole
from autolab.lab import redaction
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.sandbox import execute, runner
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.stats.plan import BASE, PlannedArm
from autolab.text import decode
from autolab.trials.evaluation import PREDICTIONS
from autolab.trials.inputs import InputSource, TrialInputs, set_up
from autolab.trials.job import HOLDOUT, Attempt, TrialCommands, copy_folder, keeping_copy, trial_job
from autolab.trials.seed_constants import SeedConstant

SEED = 0
KEY = "evaluator"
NEW_FILES = 1000
"""Files of a training that are listed at most."""
TEXT_BYTES = 2**20
_TRAINED, _MODEL = "trained.json", "{folder}/train/model"


@dataclass(frozen=True)
class ShortTraining:
    """What a training did in a limited time. `new` are the files that it left where it ran, `in_model` those in the
    folder AUTOLAB_TRIAL_DIR/model; `is_stored` says that it is an earlier one."""

    outcome: TrialOutcome
    message: str
    seconds: float
    new: tuple[str, ...]
    in_model: tuple[str, ...]
    is_stored: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and not well; one that was still running may have saved a model."""
        return self.outcome not in (TrialOutcome.COMPLETED, TrialOutcome.TIMEOUT)


@dataclass(frozen=True)
class EvaluatorTrial:
    """The repository, the commit whose training is tried, and the lab's store, beside which all of it is made."""

    git: Git
    root: Path
    commit: str
    store: Path

    @property
    def place(self) -> Path:
        return self.store.with_name("autolab.evaluator")

    @property
    def attempt(self) -> Path:
        """The folder of the training's attempt."""
        return self.place / "attempt"

    def discard(self) -> None:
        remove_tree(self.place)

    def train(self, config: Config, limit_s: float) -> ShortTraining:
        """Train for at most `limit_s` seconds, or take the stored training of the same commit, command and limit.

        LabError: the interpreter or the data is missing.
        """
        config = config.model_copy(update={"predict": None, "evaluate": None})
        key = sha256_of(json.dumps([self.git.tree(self.commit), config.train.value(), config.value()["data"], limit_s]))
        stored = self._stored(key)
        if stored is not None:
            return stored
        self.discard()  # of another commit, or of a try that was killed
        inputs = self._inputs(config, self.commit)
        job = trial_job(inputs, TrialCommands.of(config.train.command, config), _attempt(holdout=False))
        step = self._filled(keeping_copy(job.steps[0]), job.inputs, self.attempt)
        step = replace(step, time_limit_s=min(limit_s, step.time_limit_s))
        end = _run(step, self.attempt)
        new = _new_files(self.attempt / copy_folder(config.data_entries), inputs.code[BASE].folder)
        # The trial's seed was written there.
        seeded = {SeedConstant.of(entry).file for entry in config.train.seed_constants}
        new = tuple(name for name in new if name not in seeded)
        in_model = _files_of(self.attempt / "train" / "model")
        training = ShortTraining(end.outcome, end.message, end.seconds, new, in_model)
        # Last: without it the next try trains again.
        document = asdict(training) | {"key": key}
        write_whole(self.place / _TRAINED, json.dumps(document))
        return training

    def _stored(self, key: str) -> ShortTraining | None:
        path = self.place / _TRAINED
        if not path.is_file():
            return None
        document = json.loads(path.read_bytes())
        if document.pop("key") != key or document["outcome"] not in ("completed", "timeout"):
            return None
        outcome = TrialOutcome(document.pop("outcome"))
        new, in_model = tuple(document.pop("new")), tuple(document.pop("in_model"))
        return ShortTraining(outcome, new=new, in_model=in_model, **document | {"is_stored": True})

    def inputs(self, config: Config, files: tuple[str, ...]) -> TrialInputs:
        """What trials would get if these files were committed as they lie on disk. LabError: a part is missing."""
        return self._inputs(config, self.git.commit_beside(self.commit, files))

    def _inputs(self, config: Config, commit: str) -> TrialInputs:
        source = InputSource(self.git, self.root, self.place / "store", self.place / "exports", secret=KEY.encode())
        return set_up(source, config, {BASE: commit})

    def predict(self, config: Config, inputs: TrialInputs, *, holdout: bool) -> tuple[Exit, Path]:
        """Predict for a split with the trained model: how it ended, and the file that it should have left."""
        folder = self.place / "predicted"
        job = trial_job(inputs, TrialCommands.of(config.train.command, config), _attempt(holdout=holdout))
        step = job.steps[-1]
        name = HOLDOUT if holdout else step.name
        remove_tree(folder / name)
        model = self._model_folder(config)
        env = {variable: value.replace(_MODEL, str(model)) for variable, value in step.env.items()}
        reads = tuple(path.replace(_MODEL, str(model)) for path in step.box.reads)
        step = replace(step, env=env, box=replace(step.box, reads=reads))
        end = _run(self._filled(step, job.inputs, folder), folder)
        return end, folder / name / PREDICTIONS

    def _model_folder(self, config: Config) -> Path:
        """What a trial would have in AUTOLAB_MODEL, made of the training's files."""
        folder = self.place / "model"
        remove_tree(folder)
        folder.mkdir(mode=0o755)
        sources = list((self.attempt / "train" / "model").glob("*"))
        if config.predict is not None and config.predict.model is not None:
            sources.append(self.attempt / copy_folder(config.data_entries) / config.predict.model)
        for source in sources:
            target = folder / source.name
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            elif source.is_file() and not source.is_symlink():
                shutil.copyfile(source, target)
        for path in (folder, *folder.rglob("*")):
            # If root started this, the prediction runs as another user than the training did.
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    def _filled(self, step: Step, files: object, folder: Path) -> Step:
        assert isinstance(files, dict)
        places = {name: str(path) for name, path in files.items()} | {"folder": str(folder)}
        places["scratch"] = runner.scratch_folder(step.box.level, str(folder))
        return fill(step, places)

    def printed(self, step: str, stream: str) -> bytes:
        """What a step printed (`out`, `err`), the last of it."""
        folder = self.attempt if step == "train" else self.place / "predicted"
        path = folder / "logs" / f"{step}.{stream}"
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TEXT_BYTES))
            return redaction.clean(decode(file.read())).encode()


def _attempt(*, holdout: bool) -> Attempt:
    arm = PlannedArm(name=KEY, role="baseline", code=BASE, settings={})
    return Attempt(KEY, KEY, 1, arm, SEED, holdout)


def _run(step: Step, folder: Path) -> Exit:
    return execute.run_job({"key": KEY, "folder": str(folder), "steps": [asdict(step)]})


def _new_files(copy: Path, export: Path) -> tuple[str, ...]:
    """The files that a training made or changed in its copy of the code, the largest first."""
    new = []
    for name in _files_of(copy):
        path, committed = copy / name, export / name
        is_committed = committed.is_file() and filecmp.cmp(path, committed, shallow=False)
        if "__pycache__" not in path.parts and not is_committed:
            new.append(name)
    new.sort(key=lambda name: -(copy / name).stat().st_size)
    return tuple(new[:NEW_FILES])


def _files_of(folder: Path) -> tuple[str, ...]:
    """The regular files below a folder, by their paths in it; links are not followed."""
    names = []
    for top, _, files in os.walk(folder):
        for name in sorted(files):
            path = Path(top, name)
            if path.is_file() and not path.is_symlink():
                names.append(str(path.relative_to(folder)))
    return tuple(names)
