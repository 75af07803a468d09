"""The job that one trial is: its steps (train, predict), their commands, boxes and environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autolab.executors.base import Job, Step
from autolab.lab import redaction
from autolab.lab.lab import command_words
from autolab.lab.schemas.config import Command, Config, Train
from autolab.lab.schemas.experiment import Design
from autolab.sandbox.box import Box
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.runner import SCRATCH_FOLDER
from autolab.stats.plan import PlannedArm
from autolab.trials import lookahead, metrics
from autolab.trials.inputs import PATH_KEY, TrialInputs, limits_box, settings_file

HOLDOUT = "holdout"
"""The step, and its folder, that predicts for the holdout."""
COPY = "copy"
"""Where in an attempt's folder a training with `train.in_copy` runs."""
_IN_COPY = """
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
_ON_OWN_INPUTS = 'cat "$1" > "$AUTOLAB_INPUTS" && shift && exec "$@"'
"""Runs the command on its own copy of the inputs, whose name and place say nothing."""


def train_command(design: Design, config: Config) -> str:
    """The training command of the design: a command line, or a module with its arguments."""
    entry = design.entrypoint
    if entry.module is None:
        return entry.command or config.train.command
    words = [word for key, value in entry.args.items() for word in (f"--{key}", str(value))]
    return shlex.join(["{python}", "-m", entry.module, *words])


def ways_of_training(setup: TrialInputs, train: Train) -> list[str]:
    """What else in the configuration can change a trial's numbers; nothing where it says nothing about it."""
    found = [f"metrics {train.metrics}"] if train.metrics != "metrics.json" else []
    found += ["in a copy"] if train.in_copy else []
    return found + [f"{name}={value}" for name, value in setup.user.items()]


def trial_job(
    rig: TrialInputs,
    command: str,
    config: Config,
    key: str,
    trial: str,
    attempt: int,
    arm: PlannedArm,
    seed: int,
    holdout: bool = False,
) -> Job:
    """One attempt of one trial: train, then predict on inputs without labels, with `holdout` on that split's too."""
    inputs: dict[str, Path] = {"code": rig.code[arm.code], "config": settings_file(rig, arm)}
    env = environment_of_trials(rig.python)
    user = dict(rig.user)
    if rig.imports:
        inputs["imports"] = rig.imports[arm.code]
        env[PATH_KEY] = "{imports}"
        if PATH_KEY in user:
            user[PATH_KEY] = f"{{imports}}:{user[PATH_KEY]}"
    train = env | user | {"AUTOLAB_SEED": str(seed), "AUTOLAB_CONFIG": "{config}"}
    train["AUTOLAB_TRIAL_DIR"] = "{folder}/train"
    if rig.data is not None:
        inputs["data"] = rig.data
        train["AUTOLAB_DATA"] = "{data}"
    sees = ["{code}", "{config}", *(["{data}"] if rig.data is not None else [])]
    steps = [_step(rig, "train", _copied(argv_of(command, rig.python), config), train, config.train, sees)]
    if config.predict is not None:
        inputs[lookahead.TRUE] = rig.inputs
        predict = env | {"AUTOLAB_MODEL": "{folder}/train/model"}
        words = argv_of(config.predict.command, rig.python)
        sees = ["{code}", "{folder}/train/model"]
        if rig.altered is None:
            predict |= {"AUTOLAB_TRIAL_DIR": "{folder}/predict", "AUTOLAB_INPUTS": "{inputs}"}
            steps.append(_step(rig, "predict", words, predict, config.predict, [*sees, "{inputs}"]))
        else:
            inputs[lookahead.ALTERED] = rig.altered.inputs
            for name, source in rig.altered.order(key).items():
                own = {"AUTOLAB_TRIAL_DIR": f"{{folder}}/{name}", "AUTOLAB_INPUTS": f"{{folder}}/{name}/inputs.npy"}
                argv = ["/bin/sh", "-c", _ON_OWN_INPUTS, "autolab", f"{{{source}}}", *words]
                steps.append(_step(rig, name, argv, predict | own, config.predict, [*sees, f"{{{source}}}"]))
        if holdout and rig.holdout is not None:
            inputs[HOLDOUT] = rig.holdout[0]
            own = {"AUTOLAB_TRIAL_DIR": f"{{folder}}/{HOLDOUT}", "AUTOLAB_INPUTS": f"{{{HOLDOUT}}}"}
            env = env | {"AUTOLAB_MODEL": "{folder}/train/model"} | own
            steps.append(_step(rig, HOLDOUT, words, env, config.predict, [*sees, f"{{{HOLDOUT}}}"]))
    results = () if config.train.metrics == metrics.STDOUT else (f"train/{config.train.metrics}",)
    return Job(key, trial, attempt, tuple(steps), inputs, results=results, discarded=(COPY,))


def _copied(command: Sequence[str], config: Config) -> list[str]:
    """The training's command, wrapped where it is to run in a copy of its own."""
    train, data = config.train, config.data
    if not train.in_copy:
        return list(command)
    given = ["{code}", f"{{folder}}/{COPY}", "" if train.metrics == metrics.STDOUT else train.metrics]
    given += [data, "{data}"] if data is not None and not Path(data).is_absolute() else ["", ""]
    return ["/bin/sh", "-c", _IN_COPY, "autolab", *given, *command]


def _step(
    rig: TrialInputs, name: str, argv: Sequence[str], env: Mapping[str, str], limits: Command, sees: Sequence[str]
) -> Step:
    """A step that may write in its own folder alone, and for a training in its copy of the code."""
    writes = [f"{{folder}}/{name}"]
    if isinstance(limits, Train) and limits.in_copy:
        writes.append(f"{{folder}}/{COPY}")
    box = limits_box(limits, rig.containment)
    imports = ["{imports}"] if rig.imports else []
    reads = (*box.reads, *rig.reads, *imports, *sees)
    box = replace(box, reads=reads, writes=tuple(writes), covers=rig.covers)
    return Step(name, tuple(argv), "{code}", dict(env), limits.time_limit_s, int(limits.output_mb * 1e6), box)


def checks_box(rig: TrialInputs, config: Config) -> Box:
    """In what a candidate's checks run: the training's level and limits."""
    box = limits_box(config.train, rig.containment)
    return replace(box, reads=(*box.reads, *rig.reads), covers=rig.covers)


def argv_of(command: str, python: str) -> list[str]:
    """The arguments that a trial runs `command` with."""
    return [python if word == "{python}" else word for word in command_words(command)]


def tidy(rig: TrialInputs, key: str, attempt: Path) -> None:
    """Take out of a fetched attempt what is no result, secrets too, and call the predictions that count `predict/`.

    A copy of the code stays behind where a training was killed. May be killed itself, and called again.
    """
    for name in (COPY, SCRATCH_FOLDER):
        _remove(attempt / name)
    for log in (attempt / "logs").glob("*"):
        redaction.clean_file(log)
    for step, source in rig.altered.order(key).items() if rig.altered else ():
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
