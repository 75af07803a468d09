"""The job that one trial is: its steps (train, predict), their commands, boxes and environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from autolab.executors.base import Job, Step
from autolab.lab import redaction
from autolab.lab.schemas.config import Command, Config, Train
from autolab.lab.schemas.experiment import Design
from autolab.lab.trial_python import command_words
from autolab.sandbox.box import Box
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.runner import SCRATCH_FOLDER
from autolab.stats.plan import PlannedArm
from autolab.trials import lookahead, metrics, stored
from autolab.trials.evaluation import Evaluation
from autolab.trials.inputs import PATH_KEY, TrialInputs, limits_box

HOLDOUT = "holdout"
"""The step, and its folder, that predicts for the holdout."""
COPY = "copy"
"""Where in an attempt's folder a training with `train.in_copy` runs."""
ALTERED_SUFFIX, METRICS_FILE, IN_COPY = " altered suffix", "metrics", "in a copy"
"""Parts of the hashed text of a content key."""
_COPYING_SCRIPT = """
set -e
code=$1 copy=$2 metrics=$3 place=$4 data=$5
shift 5
mkdir -p "$copy"
cp -R "$code/." "$copy"
chmod -R u+w "$copy"
cd "$copy"
if [ -n "$place" ]; then mkdir -p "$(dirname "$place")"; ln -s "$data" "$place"; fi
if [ -n "$metrics" ]; then rm -f "$metrics"; fi
status=0
"$@" || status=$?
if [ -n "$metrics" ] && [ -f "$metrics" ]; then
    mkdir -p "$AUTOLAB_TRIAL_DIR/$(dirname "$metrics")"
    mv "$metrics" "$AUTOLAB_TRIAL_DIR/$metrics"
fi
cd /
rm -rf "$copy" 2>/dev/null || true
exit $status
"""
"""Runs the command in a copy of the code that it may write to. The copy begins without a metrics file, which may be
committed and of another day. Training data that lies in the lab is found at its place there."""
_OWN_INPUTS_SCRIPT = 'cat "$1" > "$AUTOLAB_INPUTS" && shift && exec "$@"'
"""Runs the command on its own copy of the inputs, whose name and place say nothing."""


def train_command(design: Design, config: Config) -> str:
    """The training command of the design: a command line, or a module with its arguments."""
    entry = design.entrypoint
    if entry.module is None:
        return entry.command or config.train.command
    words = [word for key, value in entry.args.items() for word in (f"--{key}", str(value))]
    return shlex.join(["{python}", "-m", entry.module, *words])


@dataclass(frozen=True)
class TrialCommands:
    """What a run's trials execute, with the limits of each step.

    `command` is the training's command line, `{python}` standing for the interpreter; `train` has its other settings.
    `data`: the folder of the training data as the configuration names it.
    """

    command: str
    train: Train
    predict: Command | None
    data: str | None

    @classmethod
    def of(cls, command: str, config: Config) -> TrialCommands:
        return cls(command, config.train, config.predict, config.data)

    def identity(self, user: Mapping[str, str]) -> list[JsonValue]:
        """What of it, and of the user's variables, a trial's numbers depend on."""
        ways = [f"{METRICS_FILE} {self.train.metrics}"] if self.train.metrics != "metrics.json" else []
        ways += [IN_COPY] if self.train.in_copy else []
        ways += [f"{name}={value}" for name, value in user.items()]
        return [self.command, self.predict.command if self.predict else "", *ways]

    def training(self, python: str) -> list[str]:
        """The training's arguments, wrapped where it is to run in a copy of its own."""
        arguments = argv_of(self.command, python)
        if not self.train.in_copy:
            return arguments
        metrics_file = "" if self.train.metrics == metrics.STDOUT else self.train.metrics
        own_data = [self.data, "{data}"] if self.data is not None and not Path(self.data).is_absolute() else ["", ""]
        copied = ["{code}", f"{{folder}}/{COPY}", metrics_file, *own_data]
        return ["/bin/sh", "-c", _COPYING_SCRIPT, "autolab", *copied, *arguments]


@dataclass(frozen=True)
class Attempt:
    """One attempt of one trial: an arm at a seed. `key` is the effect key; with `holdout` it predicts there too."""

    key: str
    trial: str
    number: int
    arm: PlannedArm
    seed: int
    holdout: bool = False


def content_key(inputs: TrialInputs, commands: TrialCommands, arm: PlannedArm, seed: int) -> str:
    """The key of everything that the result of an arm at a seed depends on (`stored.content_key`)."""
    altered = inputs.evaluation is not None and inputs.evaluation.altered is not None
    return stored.content_key(
        tree=inputs.code[arm.code].tree,
        command=commands.identity(inputs.user),
        settings=arm.settings,
        seed=seed,
        data=dict(inputs.data_sha256),
        evaluator=inputs.evaluator_sha256 + (ALTERED_SUFFIX if altered else ""),
        environment=inputs.environment_identity,
    )


def trial_job(inputs: TrialInputs, commands: TrialCommands, attempt: Attempt) -> Job:
    """Train, then predict on inputs without labels, with `attempt.holdout` on that split's too."""
    builder = _JobBuilder(inputs, commands, attempt)
    builder.train()
    if commands.predict is not None and inputs.evaluation is not None:
        builder.predict(commands.predict, inputs.evaluation)
    return builder.job()


class _JobBuilder:
    """The steps of one attempt, and the files and folders that they are given, by the name they have there."""

    def __init__(self, inputs: TrialInputs, commands: TrialCommands, attempt: Attempt) -> None:
        self._inputs, self._commands, self._attempt = inputs, commands, attempt
        self._code = inputs.code[attempt.arm.code]
        self._files: dict[str, Path] = {"code": self._code.folder, "config": inputs.settings_file(attempt.arm)}
        self._steps: list[Step] = []
        self._environment = environment_of_trials(inputs.interpreter.path)
        if self._code.imports is not None:
            self._files["imports"] = self._code.imports
            self._environment[PATH_KEY] = "{imports}"

    def train(self) -> None:
        user = dict(self._inputs.user)
        if self._code.imports is not None and PATH_KEY in user:
            user[PATH_KEY] = f"{{imports}}:{user[PATH_KEY]}"
        environment = self._environment | user
        environment |= {"AUTOLAB_SEED": str(self._attempt.seed), "AUTOLAB_CONFIG": "{config}"}
        environment["AUTOLAB_TRIAL_DIR"] = "{folder}/train"
        sees = ["{code}", "{config}"]
        if self._inputs.data is not None:
            self._files["data"] = self._inputs.data
            environment["AUTOLAB_DATA"] = "{data}"
            sees.append("{data}")
        arguments = self._commands.training(self._inputs.interpreter.path)
        self._step("train", arguments, environment, self._commands.train, sees)

    def predict(self, command: Command, evaluation: Evaluation) -> None:
        """On the evaluation's inputs, where it alters them on both, and for the holdout if the attempt is to."""
        self._files[lookahead.TRUE] = evaluation.split.inputs
        arguments = argv_of(command.command, self._inputs.interpreter.path)
        if evaluation.altered is None:
            self._predict("predict", arguments, command, lookahead.TRUE)
        else:
            self._files[lookahead.ALTERED] = evaluation.altered.inputs
            for name, source in evaluation.altered.order(self._attempt.key).items():
                copying = ["/bin/sh", "-c", _OWN_INPUTS_SCRIPT, "autolab", f"{{{source}}}", *arguments]
                self._predict(name, copying, command, source, f"{{folder}}/{name}/inputs.npy")
        if self._attempt.holdout and evaluation.holdout is not None:
            self._files[HOLDOUT] = evaluation.holdout.inputs
            self._predict(HOLDOUT, arguments, command, HOLDOUT)

    def _predict(self, name: str, arguments: Sequence[str], limits: Command, source: str, inputs: str = "") -> None:
        """A step that reads the file `source`, under the path `inputs` where it has a copy of its own."""
        environment = self._environment | {"AUTOLAB_MODEL": "{folder}/train/model"}
        environment |= {"AUTOLAB_TRIAL_DIR": f"{{folder}}/{name}", "AUTOLAB_INPUTS": inputs or f"{{{source}}}"}
        sees = ["{code}", "{folder}/train/model", f"{{{source}}}"]
        self._step(name, arguments, environment, limits, sees)

    def _step(
        self, name: str, arguments: Sequence[str], environment: dict[str, str], limits: Command, sees: Sequence[str]
    ) -> None:
        """A step that may write in its own folder alone, and for a training in its copy of the code."""
        writes = [f"{{folder}}/{name}"]
        if isinstance(limits, Train) and limits.in_copy:
            writes.append(f"{{folder}}/{COPY}")
        imports = ["{imports}"] if self._code.imports is not None else []
        box = self._inputs.interpreter.enclosed(limits_box(limits, self._inputs.containment))
        box = replace(box, reads=(*box.reads, *imports, *sees), writes=tuple(writes))
        output_bytes = int(limits.output_mb * 1e6)
        step = Step(name, tuple(arguments), "{code}", environment, limits.time_limit_s, output_bytes, box)
        self._steps.append(step)

    def job(self) -> Job:
        metrics_file = self._commands.train.metrics
        results = () if metrics_file == metrics.STDOUT else (f"train/{metrics_file}",)
        one = self._attempt
        steps = tuple(self._steps)
        return Job(one.key, one.trial, one.number, steps, self._files, results=results, discarded=(COPY,))


def checks_box(inputs: TrialInputs, train: Train) -> Box:
    """In what a candidate's checks run: the training's level and limits."""
    return inputs.interpreter.enclosed(limits_box(train, inputs.containment))


def argv_of(command: str, python: str) -> list[str]:
    """The arguments that a trial runs `command` with."""
    return [python if word == "{python}" else word for word in command_words(command)]


def tidy(altered: lookahead.Altered | None, key: str, attempt: Path) -> None:
    """Take out of a fetched attempt what is no result, secrets too, and call the predictions that count `predict/`.

    A copy of the code stays behind where a training was killed. May be killed itself, and called again.
    """
    for name in (COPY, SCRATCH_FOLDER):
        _remove(attempt / name)
    for log in (attempt / "logs").glob("*"):
        redaction.clean_file(log)
    for step, source in altered.order(key).items() if altered is not None else ():
        if (attempt / step).exists():
            shown = attempt / ("predict" if source == lookahead.TRUE else lookahead.ALTERED)
            _remove(attempt / step / "inputs.npy")
            _remove(shown)
            (attempt / step).rename(shown)


def _remove(path: Path) -> None:
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def environment_of_trials(python: str) -> dict[str, str]:
    """The allow-list: what a trial sees of the world outside."""
    path = f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin" if "/" in python else "/usr/local/bin:/usr/bin:/bin"
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    fixed = {"PATH": path, "HOME": "{scratch}", "TMPDIR": "{scratch}", "LANG": "C.UTF-8"}
    return fixed | threads | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
