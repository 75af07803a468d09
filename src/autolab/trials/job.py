"""The job that one trial is: its steps (train, predict), their commands, boxes and environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from autolab.executors.base import Job, Step
from autolab.lab import redaction, time_limits
from autolab.lab.schemas.config import SEED, Command, CommandLine, Config, Predict, TimeLimit, Train
from autolab.lab.schemas.data_entry import DataEntry
from autolab.lab.schemas.experiment import Design
from autolab.lab.trial_python import command_words
from autolab.sandbox.box import Box
from autolab.sandbox.collect import remove_any
from autolab.sandbox.environment import PYTHON_PATH, ProgramEnvironment, with_python_path
from autolab.sandbox.runner import SCRATCH_FOLDER
from autolab.stats.plan import PlannedArm
from autolab.trials import bound_data, lookahead, metrics, stored
from autolab.trials.evaluation import PREDICTIONS, Evaluation
from autolab.trials.inputs import TrialInputs, limits_box
from autolab.trials.prediction_form import settle_form
from autolab.trials.seed_constants import SeedConstant
from autolab.trials.setting_flags import with_flags

UNSEEDED = 0
"""What `{seed}` is in a command that belongs to no seed: a prediction, a check."""
HOLDOUT = "holdout"
"""The step, and its folder, that predicts for the holdout."""
CERTIFICATES = "/etc/ssl/certs"
LINK_WORDS = 4
"""Words of a link in `bound_data.LINKING`."""
COPY = "copy"
"""Where in an attempt's folder a training with `train.in_copy` runs."""
ALTERED_SUFFIX, METRICS_FILE, IN_COPY = " altered suffix", "metrics", "in a copy"
SEED_CONSTANT, SEED_LIBRARIES, SETTINGS = "seed constant", "seeded libraries", "settings by"
MODEL, REPOSITORY = "model", "git repository"
"""Parts of the hashed text of a content key."""
COPYING = """
mkdir -p "$copy"
chmod 711 "$copy"
if [ -n "$(find "$copy" -prune -perm 711)" ]; then
    chmod 755 "$copy"
    cp -R "$code/." "$copy"
    chmod -R u+w "$copy"
else
    tar -C "$code" --mode=u+w -cf - . | tar -C "$copy" -xmf -
fi
"""
"""A piece of a shell script that makes a copy of the read-only code that can be written to.

At containment `partial` a change of mode does nothing: there files and folders have to be writable when they are made.
"""
_COPYING_SCRIPT = """
set -e
code=$1 copy=$2 metrics=$3 model=$4 links=$5 constants=$6
shift 6
COPYING
cd "$copy"
LINKING# Without separators between words only patterns mean something in a name without quotes.
blanks=$IFS
IFS=
if [ -n "$metrics" ]; then rm -f -- $metrics; fi
IFS=$blanks
if [ -f "$model" ]; then rm -f "$model"; fi
while [ "$constants" -gt 0 ]; do
    file=$1 find=$2 write=$3 message=$4
    shift 4
    constants=$((constants - 1))
    lines=
    if [ -f "$file" ]; then lines=$(LC_ALL=C sed -n "$find" "$file"); fi
    if [ -z "$lines" ]; then echo "$message" >&2; exit 1; fi
    LC_ALL=C sed "$write" "$file" > "$file.with-seed"
    cat "$file.with-seed" > "$file"
    rm "$file.with-seed"
done
status=0
"$@" || status=$?
IFS=
for file in $metrics; do
    if [ -f "$file" ]; then
        mkdir -p "$AUTOLAB_TRIAL_DIR/$(dirname "$file")"
        mv -- "$file" "$AUTOLAB_TRIAL_DIR/$file"
    fi
done
IFS=$blanks
if [ -n "$model" ] && [ -e "$model" ]; then
    mkdir -p "$AUTOLAB_TRIAL_DIR/model"
    mv "$model" "$AUTOLAB_TRIAL_DIR/model/"
elif [ -n "$model" ] && [ "$status" -eq 0 ]; then
    echo "predict.model: the training left no $model" >&2
    status=1
fi
cd /
""".replace("COPYING", COPYING).replace("LINKING", bound_data.LINKING)
"""Runs the command in a copy of the code that it may write to. The copy begins without the files of metrics and model,
which may be committed and old. Links in the copy lead to training data. The seed takes the place of the constants in
it: `SeedConstant.shell_words`, four words each."""
_REMOVE_COPY, _EXIT = 'rm -rf "$copy" 2>/dev/null || true\n', "exit $status\n"
_LINKING_SCRIPT = f'set -e; links=$1; shift\n{bound_data.LINKING}\nexec "$@"'
"""Runs the command after links to data were made in the home."""
_SEEDING = Path(__file__).with_name("seeding")
"""The folder whose `sitecustomize.py` seeds libraries."""
_OWN_INPUTS_SCRIPT = 'cat "$1" > "$AUTOLAB_INPUTS" && shift && exec "$@"'
"""Runs the command on a copy of the inputs, so that name and place do not say which of the two inputs they are."""


def train_command(design: Design, config: Config) -> str:
    """The training command of the design: a command line, or a module with its arguments."""
    entry = design.entrypoint
    if entry.module is None:
        return entry.command or config.train.command
    words = ["{python}", "-m", entry.module]
    for key, value in entry.args.items():
        words += [f"--{key}", str(value)]
    return shlex.join(words)


@dataclass(frozen=True)
class TrialCommands:
    """What a run's trials execute, with the limits of each step.

    `command` is the training's command line, `{python}` standing for the interpreter and `{seed}` for the trial's seed;
    `train` has its other settings.
    `data`: the training data as the configuration names it. `time_limit` is the training's.
    """

    command: str
    train: Train
    predict: Predict | None
    data: tuple[DataEntry, ...]
    time_limit: TimeLimit

    @classmethod
    def of(cls, command: str, config: Config, time_limit: TimeLimit | None = None) -> TrialCommands:
        """`time_limit`: None: that of a lab without a calibration."""
        return cls(command, config.train, config.predict, config.data_entries, time_limit or config.train.time_limit())

    def identity(self, user: Mapping[str, str]) -> list[JsonValue]:
        """The parts of it, and of the user's variables, that a trial's numbers depend on."""
        parts: list[JsonValue] = [self.command, self.predict.command if self.predict else ""]
        # Defaults add nothing, so that trials which were stored before these settings existed are still found.
        if self.train.metrics != "metrics.json":
            parts.append(f"{METRICS_FILE} {self.train.metrics}")
        if self.train.in_copy:
            parts.append(IN_COPY)
        parts += self.train.choice
        for entry in self.train.seed_constants:
            parts.append(f"{SEED_CONSTANT} {entry}")
        if self.train.seed_libraries:
            parts.append(SEED_LIBRARIES)
        if self.train.settings != "file":
            parts.append(f"{SETTINGS} {self.train.settings}")
        if self.model:
            parts.append(f"{MODEL} {self.model}")
        if self.train.repository:
            parts.append(REPOSITORY)
        parts += [f"{name}={value}" for name, value in user.items()]
        return parts

    @property
    def metrics_file(self) -> str:
        """The file that the training leaves its metrics in; empty if it prints them."""
        return "" if self.train.metrics in metrics.PRINTED else self.train.metrics

    @property
    def model(self) -> str:
        """Where the training saves its model in its copy of the code; empty if it leaves it in AUTOLAB_TRIAL_DIR."""
        if self.predict is None or self.predict.model is None:
            return ""
        return self.predict.model

    def training(self, python: str, seed: int, settings: Mapping[str, JsonValue]) -> list[str]:
        """The training's arguments, wrapped in a script if it is to run in a copy of its own."""
        arguments = argv_of(self.command, python, seed)
        if self.train.settings == "flags":
            arguments = with_flags(arguments, settings)
        links = link_words(self.data, in_copy=self.train.in_copy)
        number = str(len(links) // LINK_WORDS)
        if not self.train.in_copy:
            return ["/bin/sh", "-c", _LINKING_SCRIPT, "autolab", number, *links, *arguments] if links else arguments
        copy = f"{{folder}}/{copy_folder(self.data)}"
        copied = ["{code}", copy, self.metrics_file, self.model, number, str(len(self.train.seed_constants)), *links]
        for entry in self.train.seed_constants:
            copied += SeedConstant.of(entry).shell_words(seed)
        script = _COPYING_SCRIPT + _REMOVE_COPY + _EXIT
        return ["/bin/sh", "-c", script, "autolab", *copied, *arguments]


def link_words(data: Sequence[DataEntry], *, in_copy: bool, trees: bool = False) -> list[str]:
    """The words of each link to data, for `bound_data.LINKING`: what lies in another folder of data comes later.

    Without `in_copy` only those in the home. With `trees` the program can add to all of them.
    """
    words = []
    numbered = sorted(enumerate(data), key=lambda pair: _depth(pair[1].place))
    for number, entry in numbered:
        folder, place = ".", entry.place
        if entry.in_home:
            folder, place = "{scratch}", place.removeprefix("~").removeprefix("/") or "."
        elif not entry.is_relative or not in_copy:
            continue
        style = bound_data.TREE if trees or entry.is_linked_tree else bound_data.LINK
        words += [style, folder, place, f"{{{data_name(number)}}}"]
    return words


def _depth(place: str) -> int:
    return 0 if place in (".", "~") else 1 + place.count("/")


def copy_folder(data: Sequence[DataEntry]) -> str:
    """Where in an attempt's folder the copy of the code lies: so deep that `../data` is a place in the attempt."""
    upward = max((entry.upward for entry in data), default=0)
    return "/".join([COPY, *["repository"] * upward])


def data_name(number: int) -> str:
    """The name of a job's input for the entry of `data` at this position."""
    return "data" if number == 0 else f"data{number}"


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
    evaluator = inputs.evaluator_sha256
    # A trial whose predictions were not tested for looking ahead is none that a lab with the test may reuse.
    if inputs.evaluation is not None and inputs.evaluation.altered is not None:
        evaluator += ALTERED_SUFFIX
    return stored.content_key(
        tree=inputs.code[arm.code].tree,
        command=commands.identity(inputs.user),
        settings=arm.settings,
        seed=seed,
        data=dict(inputs.data_sha256),
        evaluator=evaluator,
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
        code = inputs.code[attempt.arm.code]
        self._files: dict[str, Path] = {"code": code.folder, "config": inputs.settings_file(attempt.arm)}
        self._shared = ["{code}"]
        imports = None
        if code.imports is not None:
            self._files["imports"] = code.imports
            imports = "{imports}"
            self._shared.append(imports)
        repository = None
        if code.repository is not None:
            self._files["repository"] = code.repository
            repository = "{repository}"
            self._shared.append(repository)
        self._environment = ProgramEnvironment(
            inputs.interpreter.path, imports, inputs.user, commit=code.commit, repository=repository
        )
        self._steps: list[Step] = []

    def train(self) -> None:
        reads, data = ["{config}"], None
        for number, bound in enumerate(self._inputs.bound):
            self._files[data_name(number)] = bound.path
            data = data or f"{{{data_name(number)}}}"
            reads.append(f"{{{data_name(number)}}}")
        environment = self._environment.training("{folder}/train", self._attempt.seed, "{config}", data)
        offline = bound_data.offline_variables(self._inputs.bound)
        if offline:
            environment |= offline
            # Their client reads the certificates before it learns that it is offline.
            reads.append(CERTIFICATES)
        # Data at `~/…` is linked into the trial's own home, also if train.env passes the user's.
        if any(bound.entry.in_home for bound in self._inputs.bound):
            environment["HOME"] = "{scratch}"
        if self._commands.train.seed_libraries:
            self._files["seeding"] = _SEEDING
            reads.append("{seeding}")
            # First: of two modules called sitecustomize Python imports one, and this one imports the next.
            paths = ["{seeding}", environment.get(PYTHON_PATH, "")]
            environment[PYTHON_PATH] = ":".join(path for path in paths if path)
        attempt = self._attempt
        arguments = self._commands.training(self._inputs.interpreter.path, attempt.seed, attempt.arm.settings)
        arguments = with_python_path(arguments, environment.get(PYTHON_PATH, ""))
        limit = self._commands.time_limit
        self._step("train", arguments, environment, self._commands.train, reads, limit)

    def predict(self, command: Command, evaluation: Evaluation) -> None:
        """On the evaluation's inputs, on altered ones too if it has them, and on the holdout's if the attempt is to."""
        self._files[lookahead.TRUE] = evaluation.split.inputs
        arguments = argv_of(command.command, self._inputs.interpreter.path)
        if evaluation.altered is None:
            self._predict("predict", arguments, command, lookahead.TRUE)
        else:
            self._files[lookahead.ALTERED] = evaluation.altered.inputs
            # Both runs copy their inputs to the same kind of place: the program cannot tell them apart.
            for name, source in evaluation.altered.order(self._attempt.key).items():
                copying = ["/bin/sh", "-c", _OWN_INPUTS_SCRIPT, "autolab", f"{{{source}}}", *arguments]
                self._predict(name, copying, command, source, f"{{folder}}/{name}/inputs.npy")
        # Predicted now, with the model at hand, and scored only if the confirmation passes.
        if self._attempt.holdout and evaluation.holdout is not None:
            self._files[HOLDOUT] = evaluation.holdout.inputs
            self._predict(HOLDOUT, arguments, command, HOLDOUT)

    def _predict(self, name: str, arguments: Sequence[str], limits: Command, source: str, copy: str = "") -> None:
        """A step that reads the file `source`, or its `copy` if it makes one."""
        file, model = f"{{{source}}}", "{folder}/train/model"
        environment = self._environment.prediction(f"{{folder}}/{name}", model, copy or file)
        limit = TimeLimit(seconds=limits.time_limit_s, source="config")
        self._step(name, arguments, environment, limits, [model, file], limit)

    def _step(
        self,
        name: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        limits: CommandLine,
        reads: Sequence[str],
        time_limit: TimeLimit,
    ) -> None:
        """A step that may write in its own folder alone, and a training in its copy of the code."""
        writes = [f"{{folder}}/{name}"]
        if isinstance(limits, Train) and limits.in_copy:
            writes.append(f"{{folder}}/{COPY}")
        box = self._inputs.interpreter.enclosed(limits_box(limits, self._inputs.containment))
        if isinstance(limits, Train):
            box = _with_data(box, self._inputs.bound)
        box = replace(box, reads=(*box.reads, *self._shared, *reads), writes=tuple(writes))
        output_bytes = int(limits.output_mb * 1e6)
        step = Step(name, tuple(arguments), "{code}", environment, time_limit.seconds, output_bytes, box)
        if time_limit.source != "config":
            step = replace(step, time_limit_origin=time_limits.origin(time_limit.seconds, time_limit.source))
        self._steps.append(step)

    def job(self) -> Job:
        metrics_file = self._commands.metrics_file
        return Job(
            self._attempt.key,
            self._attempt.trial,
            self._attempt.number,
            tuple(self._steps),
            self._files,
            results=(f"train/{metrics_file}",) if metrics_file else (),
            discarded=(COPY,),
        )


def keeping_copy(step: Step) -> Step:
    """A training step that leaves its copy of the code behind, for whoever wants to see what it wrote there."""
    arguments = [word.replace(_REMOVE_COPY, "") for word in step.argv]
    return replace(step, argv=tuple(arguments))


def checks_box(inputs: TrialInputs, train: Train) -> Box:
    """The box of a candidate's checks: the training's level, limits and data."""
    box = inputs.interpreter.enclosed(limits_box(train, inputs.containment))
    box = replace(box, reads=(*box.reads, *(str(bound.path) for bound in inputs.bound)))
    return _with_data(box, inputs.bound)


def _with_data(box: Box, bound: Sequence[bound_data.BoundData]) -> Box:
    """The box with the data at its other places, and without the keys in it."""
    mounts = [one.mount for one in bound if one.mount is not None]
    covers = [path for one in bound for path in one.covers]
    return replace(box, mounts=tuple(mounts), covers=(*box.covers, *covers))


def argv_of(command: str, python: str, seed: int | str = UNSEEDED) -> list[str]:
    """The arguments that `command` is run with: `{python}` is a whole word, `{seed}` may be a part of one."""
    arguments = []
    for word in command_words(command):
        # The interpreter's path is no text of the command: a brace in it stays.
        arguments.append(python if word == "{python}" else word.replace(SEED, str(seed)))
    return arguments


def tidy(altered: lookahead.Altered | None, key: str, attempt: Path) -> None:
    """Take out of a fetched attempt what is no result, secrets too, and call the predictions that count `predict/`.

    All predictions get their one form here (`prediction_form`). A copy of the code stays behind if a training was
    killed. May be killed itself, and called again.
    """
    for name in (COPY, SCRATCH_FOLDER):
        remove_any(attempt / name)
    for log in (attempt / "logs").glob("*"):
        redaction.clean_file(log)
    if altered is not None:
        _name_by_source(altered, key, attempt)
    for name in ("predict", lookahead.ALTERED, HOLDOUT):
        settle_form(attempt / name / PREDICTIONS)


def _name_by_source(altered: lookahead.Altered, key: str, attempt: Path) -> None:
    """Call the folders of the two predictions by the inputs that each of them read."""
    for step, source in altered.order(key).items():
        # A trial that failed has not run every step.
        if (attempt / step).exists():
            name = "predict" if source == lookahead.TRUE else lookahead.ALTERED
            # The altered inputs would show the cuts.
            remove_any(attempt / step / "inputs.npy")
            # An earlier call that was killed has left one, if the attempt was fetched again since.
            remove_any(attempt / name)
            (attempt / step).rename(attempt / name)
