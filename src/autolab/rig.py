"""What the trials of a run stand on: read-only exports, hashes, and the job that each trial is.

Exports are addressed by git's own object ids, lie in the store and can be made again at any time. The code
export leaves out the evaluator, every split of the data and the lab's record: training sees none of them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autolab import durable, evaluation, fault
from autolab.errors import LabError
from autolab.executors.base import Job, Step
from autolab.experiment import PlannedArm
from autolab.lab import Lab
from autolab.records.experiment import Design, Environment
from autolab.records.lab import Config


@dataclass(frozen=True)
class Rig:
    """Read-only exports and hashes that a run's trials share."""

    python: str
    environment: Environment
    commits: dict[str, str]
    trees: dict[str, str]
    code: dict[str, Path]
    data: Path | None
    data_sha256: dict[str, str]
    inputs: Path
    labels: Path
    evaluator: Path | None
    evaluator_sha256: str
    predict_limit_s: float
    epoch: str
    configs: Path


def set_up(lab: Lab, config: Config, base: str, candidate: str) -> Rig:
    python = lab.python(config)
    environment = evaluation.packages_hash(Path(python))
    hidden = hidden_from_trials(config)
    commits = {"base": base, "candidate": candidate}
    trees = {name: lab.git.tree(commit) for name, commit in commits.items()}
    suffix = durable.sha256("\n".join(hidden))[:8]
    code = {name: lab.store / "exports" / f"code-{tree}-{suffix}" for name, tree in trees.items()}
    for name, folder in code.items():
        lab.git.export(commits[name], folder, None, hidden)
    fault.point("export.after_write")
    data, hashes = None, {}
    if config.data is not None:
        data, hashes["train"] = _frozen_folder(lab, base, config.data)
    evaluator, sha, inputs, labels = None, "", lab.store, lab.store
    if config.evaluate is not None:
        folder, hashes["eval"] = _frozen_folder(lab, base, config.evaluate.eval)
        inputs, labels = folder / "inputs.npy", folder / "labels.npy"
        evaluator, sha = _frozen_file(lab, base, config.evaluate.script)
    about = {"evaluator": sha, "data": hashes, "metric": config.metric.value()}
    about |= {"environment": environment.value() | {"python": ""}}
    epoch = durable.sha256(json.dumps(about, sort_keys=True))
    limit = config.predict.time_limit_s if config.predict else 60.0
    configs = lab.store / "exports" / "configs"
    return Rig(
        python, environment, commits, trees, code, data, hashes, inputs, labels, evaluator, sha, limit, epoch, configs
    )


def hidden_from_trials(config: Config) -> list[str]:
    """Paths that the code export leaves out: the evaluator, every split, the lab's own record."""
    hidden = [".autolab", "experiments", "5_worktrees"]
    if config.data:
        hidden.append(config.data)
    if config.evaluate:
        hidden += [config.evaluate.script, config.evaluate.eval]
        hidden += [config.evaluate.holdout] if config.evaluate.holdout else []
    return hidden


def _frozen_folder(lab: Lab, base: str, path: str) -> tuple[Path, str]:
    """A data folder as it is in the base commit, or where git does not hold it, as it lies on disk."""
    held = None if Path(path).is_absolute() else lab.git.has_path(base, path)
    if held:
        folder = lab.store / "exports" / f"data-{held}"
        lab.git.export(base, folder, [path], [])
        return folder / path, held
    folder = lab.root / path
    if not folder.is_dir():
        raise LabError(
            f".autolab/config.yaml: {path}: no such folder, neither in git nor in the lab; put the data there"
        )
    digest = durable.sha256(
        "\n".join(
            f"{file.relative_to(folder)} {durable.file_sha256(file)}"
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        )
    )
    return folder, digest


def _frozen_file(lab: Lab, base: str, path: str) -> tuple[Path, str]:
    held = lab.git.has_path(base, path)
    if not held:
        raise LabError(f".autolab/config.yaml: evaluate.script: {path} is not in commit {base[:12]}; commit it")
    folder = lab.store / "exports" / f"file-{held}"
    lab.git.export(base, folder, [path], [])
    file = folder / path
    return file, durable.file_sha256(file)


def train_command(design: Design, config: Config) -> str:
    """The training command of the design: a command line, or a module with its arguments."""
    entry = design.entrypoint
    if entry.module is None:
        return entry.command or config.train.command
    words = [word for key, value in entry.args.items() for word in (f"--{key}", str(value))]
    return shlex.join(["{python}", "-m", entry.module, *words])


def settings_file(rig: Rig, arm: PlannedArm) -> Path:
    """The JSON file of an arm's resolved settings (AUTOLAB_CONFIG), addressed by its content."""
    settings = json.dumps(arm.settings, sort_keys=True)
    path = rig.configs / f"{durable.sha256(settings)[:16]}.json"
    if not path.exists():
        durable.write(path, settings)
    return path


def job(
    rig: Rig, design: Design, config: Config, key: str, trial: str, attempt: int, arm: PlannedArm, seed: int
) -> Job:
    """One attempt of one trial: train, then predict on inputs without labels."""
    inputs: dict[str, Path] = {"code": rig.code[arm.code], "config": settings_file(rig, arm)}
    env = environment_of_trials(rig.python)
    train = env | {"AUTOLAB_TRIAL_DIR": "{folder}/train", "AUTOLAB_SEED": str(seed), "AUTOLAB_CONFIG": "{config}"}
    if rig.data is not None:
        inputs["data"] = rig.data
        train["AUTOLAB_DATA"] = "{data}"
    limits = config.train
    steps = [_step("train", train_command(design, config), rig.python, train, limits.time_limit_s, limits.output_mb)]
    if config.predict is not None:
        inputs["inputs"] = rig.inputs
        predict = env | {
            "AUTOLAB_TRIAL_DIR": "{folder}/predict",
            "AUTOLAB_MODEL": "{folder}/train/model",
            "AUTOLAB_INPUTS": "{inputs}",
        }
        limits = config.predict
        steps.append(_step("predict", limits.command, rig.python, predict, limits.time_limit_s, limits.output_mb))
    return Job(key=key, trial=trial, attempt=attempt, steps=tuple(steps), inputs=inputs)


def _step(name: str, command: str, python: str, env: Mapping[str, str], limit_s: float, output_mb: float) -> Step:
    argv = tuple(python if word == "{python}" else word for word in shlex.split(command))
    return Step(name, argv, "{code}", dict(env), limit_s, int(output_mb * 1e6))


def environment_of_trials(python: str) -> dict[str, str]:
    """The allow-list: what a trial sees of the world outside."""
    path = f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin" if "/" in python else "/usr/local/bin:/usr/bin:/bin"
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    fixed = {"PATH": path, "HOME": "{folder}", "TMPDIR": "{folder}", "LANG": "C.UTF-8"}
    return fixed | threads | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
