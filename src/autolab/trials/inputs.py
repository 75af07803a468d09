"""What the trials of a run stand on: read-only exports, hashes, and the job that each trial is.

Exports are addressed by git's own object ids, lie in the store and can be made again at any time. The code
export leaves out the evaluator, every split of the data and the lab's record: training sees none of them.
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
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Command, Config
from autolab.lab.schemas.experiment import Environment
from autolab.sandbox.box import Box
from autolab.stats.plan import PlannedArm
from autolab.trials import interpreter, lookahead
from autolab.trials.seal import CONFIGS, Seals

PATH_KEY = "PYTHONPATH"


@dataclass(frozen=True)
class TrialInputs:
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
    holdout: tuple[Path, Path] | None
    """Inputs and labels of the holdout, where the lab has one."""
    evaluator: Path | None
    evaluator_sha256: str
    containment: str
    reads: tuple[str, ...]
    """Where the trials' interpreter runs from."""
    covers: tuple[str, ...]
    """Folders of it that no trial may read: the shipped labs, with their labels."""
    imports: dict[str, Path]
    """Per commit what sends imports of the lab's package to its export; empty where the package is not installed."""
    scoring: Box
    bytecode: Path
    """The scorer's own, which no trial can write."""
    predict_limit_s: float
    protocol: str
    configs: Path
    user: dict[str, str]
    """What `train.env` passes on of the user's environment."""
    altered: lookahead.Altered | None
    seals: Seals
    """What all of this held; broken where a trial changed it."""

    @property
    def content(self) -> str:
        """What of the environment a trial's numbers depend on."""
        told = f"{self.environment.version} {self.environment.packages_sha256}"
        return f"{told} imports from the export" if self.imports else told


def set_up(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> TrialInputs:
    """Export both commits and the data that git holds, to `exports` or the lab's store, and hash what counts."""
    exports = exports or lab.store / "exports"
    python = lab.python(config)
    environment = interpreter.packages_hash(Path(python))
    places = interpreter.places(Path(python), lab.root)
    hidden = hidden_from_trials(config)
    commits = {"base": base, "candidate": candidate}
    trees = {name: lab.git.tree(commit) for name, commit in commits.items()}
    suffix = files.sha256_of("\n".join(hidden))[:8]
    code = {name: exports / f"code-{tree}-{suffix}" for name, tree in trees.items()}
    seals = Seals(exports, lab.store / "seals")
    for name, folder in code.items():
        lab.git.export(commits[name], folder, None, hidden)
        seals.add(f"code of the {name}", folder)
    crash_points.point("export.after_write")
    user = from_user(config.train.env)
    imports = _imports(lab, places.redirection, code, user) if places.redirection or user.get(PATH_KEY) else {}
    for name, folder in imports.items():
        seals.add(f"import paths of the {name}", folder)
    data, hashes = None, {}
    if config.data is not None:
        data, hashes["train"] = _frozen_folder(lab, exports, base, config.data, seals)
    evaluator, sha, inputs, labels, holdout = None, "", lab.store, lab.store, None
    if config.evaluate is not None:
        folder, hashes["eval"] = _frozen_folder(lab, exports, base, config.evaluate.eval, seals)
        inputs, labels = folder / "inputs.npy", folder / "labels.npy"
        if config.evaluate.holdout is not None:
            folder, hashes["holdout"] = _frozen_folder(lab, exports, base, config.evaluate.holdout, seals)
            holdout = folder / "inputs.npy", folder / "labels.npy"
        evaluator, sha = _frozen_file(lab, exports, base, config.evaluate.script)
        seals.add("the evaluator", evaluator)
    for path in (data, inputs if evaluator else None, holdout[0] if holdout else None):
        if path is not None:
            require_open(path, config)
    altered = _altered(lab, exports, config, inputs)
    if altered is not None:
        seals.add("the altered inputs", altered.inputs)
    about = {"evaluator": sha, "data": hashes, "metric": [config.metric.primary, config.metric.direction]}
    about |= {"environment": environment.value() | {"python": ""}}
    protocol = files.sha256_of(json.dumps(about, sort_keys=True))
    return TrialInputs(
        python=python,
        environment=environment,
        commits=commits,
        trees=trees,
        code=code,
        data=data,
        data_sha256=hashes,
        inputs=inputs,
        labels=labels,
        holdout=holdout,
        evaluator=evaluator,
        evaluator_sha256=sha,
        containment=config.containment,
        reads=places.reads,
        covers=places.covers,
        imports=imports,
        scoring=_scoring(config, places),
        bytecode=lab.store / "bytecode",
        predict_limit_s=config.predict.time_limit_s if config.predict else 60.0,
        protocol=protocol,
        configs=exports / CONFIGS,
        user=user,
        altered=altered,
        seals=seals,
    )


def from_user(names: Sequence[str]) -> dict[str, str]:
    """The variables that `train.env` passes on. LabError names one that is not set."""
    for name in names:
        if name not in os.environ:
            raise LabError(f".autolab/config.yaml: train.env: {name} is not set here; set it, or take it off the list")
    return {name: os.environ[name] for name in names}


def _imports(
    lab: Lab, redirection: interpreter.Redirection, code: Mapping[str, Path], user: Mapping[str, str]
) -> dict[str, Path]:
    """A folder beside each code export, whose `sitecustomize.py` sends imports from the checkout to that export."""
    roots = interpreter.spellings(lab.root)
    if not redirection and not any(root in user[PATH_KEY] for root in roots):
        return {}
    found = {}
    for name, export in code.items():
        text = redirection.text(roots, export)
        folder = export.with_name(f"imports-{export.name.removeprefix('code-')}-{files.sha256_of(text)[:8]}")
        path = folder / "sitecustomize.py"
        if not path.exists():
            files.write_whole(path, text, mode=0o644)
            folder.chmod(0o755)  # whatever the umask: started by root, a trial is a user of its own
        found[name] = folder
    return found


def _altered(lab: Lab, exports: Path, config: Config, inputs: Path) -> lookahead.Altered | None:
    if config.evaluate is None or not config.evaluate.altered_suffix:
        return None
    return lookahead.alter(inputs, lab.secret, exports)


def hidden_from_trials(config: Config) -> list[str]:
    """Paths that the code export leaves out: the evaluator, every split, the lab's own record."""
    hidden = [".autolab", "experiments", "5_worktrees"]
    if config.data:
        hidden.append(config.data)
    if config.evaluate:
        hidden += [config.evaluate.script, config.evaluate.eval]
        hidden += [config.evaluate.holdout] if config.evaluate.holdout else []
    return hidden


def _frozen_folder(lab: Lab, exports: Path, base: str, path: str, seals: Seals) -> tuple[Path, str]:
    """A data folder as it is in the base commit, or where git does not hold it, as it lies on disk."""
    held = require_folder(lab, base, path)
    if held:
        # Named by its path too: two splits may hold the same rows.
        folder = exports / f"data-{held}-{files.sha256_of(path)[:8]}"
        lab.git.export(base, folder, [path], [])
        seals.add(path, folder / path)
        return folder / path, held
    folder = lab.root / path
    return folder, seals.add_own(path, folder)


def require_folder(lab: Lab, base: str, path: str) -> str | None:
    """What git calls the folder in the base commit; None: it lies on disk. LabError: it does neither."""
    held = None if Path(path).is_absolute() else lab.git.has_path(base, path)
    if not held and not (lab.root / path).is_dir():
        way = "run `python prepare.py` in the lab" if (lab.root / "prepare.py").is_file() else "put the data there"
        raise LabError(f".autolab/config.yaml: {path}: no such folder, neither in git nor in the lab; {way}")
    return held


def require_committed(lab: Lab, base: str, path: str) -> str:
    """What git calls the evaluator in the base commit; LabError where that does not have it."""
    held = lab.git.has_path(base, path)
    if not held:
        raise LabError(f".autolab/config.yaml: evaluate.script: {path} is not in commit {base[:12]}; commit it")
    return held


def require_open(path: Path, config: Config) -> None:
    """Started by root, a trial is a user of its own and reads what everybody may. LabError names what only root may."""
    if config.containment != "full" or os.geteuid() != 0:
        return
    for one in (path, *(path.iterdir() if path.is_dir() else ())):
        if not one.stat().st_mode & stat.S_IROTH:
            raise LabError(f"{one}: trials may not read it, being users of their own: chmod -R a+rX {path}")


def _frozen_file(lab: Lab, exports: Path, base: str, path: str) -> tuple[Path, str]:
    held = require_committed(lab, base, path)
    folder = exports / f"file-{held}"
    lab.git.export(base, folder, [path], [])
    file = folder / path
    return file, files.sha256_of_file(file)


def settings_file(rig: TrialInputs, arm: PlannedArm) -> Path:
    """The JSON file of an arm's resolved settings (AUTOLAB_CONFIG), addressed by its content."""
    settings = json.dumps(arm.settings, sort_keys=True)
    path = rig.configs / f"{files.sha256_of(settings)[:16]}.json"
    if not path.exists():
        files.write_whole(path, settings, mode=0o644)
    return path


def _scoring(config: Config, places: interpreter.Places) -> Box:
    """The evaluator's: level and limits of the prediction, but for the disk, which its byte code takes."""
    if config.predict is None:
        return Box()
    box = limits_box(config.predict, config.containment)
    return replace(box, disk_bytes=0, reads=(*box.reads, *places.reads), covers=places.covers)


def limits_box(limits: Command, containment: str) -> Box:
    return Box(
        level=containment,
        reads=limits.reads,
        memory_bytes=int(limits.memory_gb * 2**30),
        processes=limits.processes,
        disk_bytes=int(limits.disk_mb * 1e6),
    )
