"""What the trials of a run stand on: read-only exports, hashes, and the job that each trial is.

Exports are addressed by git's own object ids, lie in the store and can be made again at any time. The code
export leaves out the evaluator, every split of the data and the lab's record: training sees none of them.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolab import durable, fault, interpreter, leaks, metrics, redaction, suffix
from autolab.collection import remove_tree
from autolab.errors import LabError
from autolab.executors.base import Job, Step
from autolab.experiment import PlannedArm
from autolab.keeper import SCRATCH
from autolab.lab import Lab, command_words
from autolab.records.experiment import Design, Environment
from autolab.records.lab import Command, Config, Train
from autolab.sandbox import SYSTEM, Box
from autolab.seal import CONFIGS, Seals

HOLDOUT = "holdout"
"""The step, and its folder, that predicts for the holdout."""
PATH_KEY = "PYTHONPATH"
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
    epoch: str
    configs: Path
    person: dict[str, str]
    """What `train.env` passes on of the person's environment."""
    altered: suffix.Altered | None
    seals: Seals
    """What all of this held; broken where a trial changed it."""

    @property
    def content(self) -> str:
        """What of the environment a trial's numbers depend on."""
        told = f"{self.environment.version} {self.environment.packages_sha256}"
        return f"{told} imports from the export" if self.imports else told


def set_up(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> Rig:
    """Export both commits and the data that git holds, to `exports` or the lab's store, and hash what counts."""
    exports = exports or lab.store / "exports"
    python = lab.python(config)
    environment = interpreter.packages_hash(Path(python))
    places = interpreter.places(Path(python), lab.root)
    hidden = hidden_from_trials(config)
    commits = {"base": base, "candidate": candidate}
    trees = {name: lab.git.tree(commit) for name, commit in commits.items()}
    suffix = durable.sha256("\n".join(hidden))[:8]
    code = {name: exports / f"code-{tree}-{suffix}" for name, tree in trees.items()}
    seals = Seals(exports, lab.store / "seals")
    for name, folder in code.items():
        lab.git.export(commits[name], folder, None, hidden)
        seals.add(f"code of the {name}", folder)
    fault.point("export.after_write")
    person = from_person(config.train.env)
    imports = _imports(lab, places.redirection, code, person) if places.redirection or person.get(PATH_KEY) else {}
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
    epoch = durable.sha256(json.dumps(about, sort_keys=True))
    return Rig(
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
        epoch=epoch,
        configs=exports / CONFIGS,
        person=person,
        altered=altered,
        seals=seals,
    )


# what the trials could read


def launched(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> Rig:
    """`set_up` for trials that are about to run. LabError, too, where they could read a copy of the labels.

    At level `none` the labels lie open where they are, and nothing is looked for."""
    setup = set_up(lab, config, base, candidate, exports)
    if setup.evaluator is None or setup.containment == "none":
        return setup
    places = _shared_places(lab, config, setup.python, setup.reads)
    if setup.data is not None:
        places.append(leaks.Place(str(setup.data), "the training data", f"take it out of {config.data}"))
    for name, folder in setup.code.items():
        way = f"take it out of commit {setup.commits[name][:12]}"
        places.append(leaks.Place(str(folder), f"the code of the {name}", way))
    leaks.refuse_copies(_labels(config, setup), places, setup.covers, lab.store)
    return setup


def copied_labels(config: Config, setup: Rig) -> list[leaks.Copy]:
    """Copies of the labels that the candidate's commit holds and the base's does not, by their paths in it."""
    if setup.evaluator is None:
        return []
    found = {}
    for name, folder in setup.code.items():
        copies = leaks.copies(_labels(config, setup), [str(folder)], ())
        found[name] = {os.path.relpath(one.path, os.path.realpath(folder)): one.equals for one in copies}
    own = found["candidate"].items() - found["base"].items()
    return [leaks.Copy(path, equals) for path, equals in sorted(own)]


def look_for_leaks(lab: Lab, config: Config, *, note: bool) -> None:
    """As `launched`, before anything is exported: the labels as they lie in the checkout.

    With `note` what the walk saw is kept in the store, so that the next one is quick."""
    python, evaluate = lab.python(config), config.evaluate
    refuse_reads(lab, config)
    places = interpreter.places(Path(python), lab.root)
    if evaluate is None or config.containment == "none":
        return
    labels = {}
    for split in (evaluate.eval, evaluate.holdout):
        for name in _LABELLED[evaluate.altered_suffix]:
            if split is not None and (lab.root / split / name).is_file():
                labels[f"{split}/{name}"] = lab.root / split / name
    shared = _shared_places(lab, config, python, places.reads)
    leaks.refuse_copies(labels, shared, places.covers, lab.store, keep=note)


def refuse_reads(lab: Lab, config: Config) -> None:
    """LabError for a path in `reads` behind which labels, evaluator or record lie; nothing at level `none`."""
    if config.containment != "none":
        reads = {"train.reads": config.train.reads}
        if config.predict is not None:
            reads["predict.reads"] = config.predict.reads
        leaks.refuse_reads(lab.root, lab.store, reads, hidden_from_trials(config) if config.evaluate else [])


_LABELLED = {False: ("labels.npy",), True: ("labels.npy", "inputs.npy")}
"""Files of a split that no trial may find; a sequence's inputs are its labels, one place further on."""


def _labels(config: Config, setup: Rig) -> dict[str, Path]:
    """What no trial may find a copy of: name in the lab -> path."""
    assert config.evaluate is not None
    splits = {config.evaluate.eval: setup.labels}
    if setup.holdout is not None and config.evaluate.holdout is not None:
        splits[config.evaluate.holdout] = setup.holdout[1]
    names = _LABELLED[config.evaluate.altered_suffix]
    return {f"{split}/{name}": original.with_name(name) for split, original in splits.items() for name in names}


def _shared_places(lab: Lab, config: Config, python: str, interpreter_reads: Sequence[str]) -> list[leaks.Place]:
    """What the trials read of this machine."""
    found = []
    for key, command in (("train", config.train), ("predict", config.predict)):
        for path in command.reads if command is not None else ():
            found.append(leaks.Place(path, f"{key}.reads", f"take {path} off {key}.reads in {Config.FILE}"))
    way = f"take it away, or name an environment without it as python in {Config.FILE}"
    found += [leaks.Place(path, f"the environment of {python}", way) for path in interpreter_reads]
    found += [leaks.Place(path, f"{path} of the system", "take it away") for path in SYSTEM]
    return found


def from_person(names: Sequence[str]) -> dict[str, str]:
    """The variables that `train.env` passes on. LabError names one that is not set."""
    for name in names:
        if name not in os.environ:
            raise LabError(f".autolab/config.yaml: train.env: {name} is not set here; set it, or take it off the list")
    return {name: os.environ[name] for name in names}


def _imports(
    lab: Lab, redirection: interpreter.Redirection, code: Mapping[str, Path], person: Mapping[str, str]
) -> dict[str, Path]:
    """A folder beside each code export, whose `sitecustomize.py` sends imports from the checkout to that export."""
    roots = interpreter.spellings(lab.root)
    if not redirection and not any(root in person[PATH_KEY] for root in roots):
        return {}
    found = {}
    for name, export in code.items():
        text = redirection.text(roots, export)
        folder = export.with_name(f"imports-{export.name.removeprefix('code-')}-{durable.sha256(text)[:8]}")
        path = folder / "sitecustomize.py"
        if not path.exists():
            durable.write(path, text, mode=0o644)
            folder.chmod(0o755)  # whatever the umask: started by root, a trial is a user of its own
        found[name] = folder
    return found


def _altered(lab: Lab, exports: Path, config: Config, inputs: Path) -> suffix.Altered | None:
    if config.evaluate is None or not config.evaluate.altered_suffix:
        return None
    return suffix.alter(inputs, lab.secret, exports)


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
        folder = exports / f"data-{held}-{durable.sha256(path)[:8]}"
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
    return file, durable.file_sha256(file)


def train_command(design: Design, config: Config) -> str:
    """The training command of the design: a command line, or a module with its arguments."""
    entry = design.entrypoint
    if entry.module is None:
        return entry.command or config.train.command
    words = [word for key, value in entry.args.items() for word in (f"--{key}", str(value))]
    return shlex.join(["{python}", "-m", entry.module, *words])


def ways_of_training(setup: Rig, train: Train) -> list[str]:
    """What else in the configuration can change a trial's numbers; nothing where it says nothing about it."""
    found = [f"metrics {train.metrics}"] if train.metrics != "metrics.json" else []
    found += ["in a copy"] if train.in_copy else []
    return found + [f"{name}={value}" for name, value in setup.person.items()]


def settings_file(rig: Rig, arm: PlannedArm) -> Path:
    """The JSON file of an arm's resolved settings (AUTOLAB_CONFIG), addressed by its content."""
    settings = json.dumps(arm.settings, sort_keys=True)
    path = rig.configs / f"{durable.sha256(settings)[:16]}.json"
    if not path.exists():
        durable.write(path, settings, mode=0o644)
    return path


def job(
    rig: Rig,
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
    person = dict(rig.person)
    if rig.imports:
        inputs["imports"] = rig.imports[arm.code]
        env[PATH_KEY] = "{imports}"
        if PATH_KEY in person:
            person[PATH_KEY] = f"{{imports}}:{person[PATH_KEY]}"
    train = env | person | {"AUTOLAB_SEED": str(seed), "AUTOLAB_CONFIG": "{config}"}
    train["AUTOLAB_TRIAL_DIR"] = "{folder}/train"
    if rig.data is not None:
        inputs["data"] = rig.data
        train["AUTOLAB_DATA"] = "{data}"
    sees = ["{code}", "{config}", *(["{data}"] if rig.data is not None else [])]
    steps = [_step(rig, "train", _copied(argv_of(command, rig.python), config), train, config.train, sees)]
    if config.predict is not None:
        inputs[suffix.TRUE] = rig.inputs
        predict = env | {"AUTOLAB_MODEL": "{folder}/train/model"}
        words = argv_of(config.predict.command, rig.python)
        sees = ["{code}", "{folder}/train/model"]
        if rig.altered is None:
            predict |= {"AUTOLAB_TRIAL_DIR": "{folder}/predict", "AUTOLAB_INPUTS": "{inputs}"}
            steps.append(_step(rig, "predict", words, predict, config.predict, [*sees, "{inputs}"]))
        else:
            inputs[suffix.ALTERED] = rig.altered.inputs
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
    rig: Rig, name: str, argv: Sequence[str], env: Mapping[str, str], limits: Command, sees: Sequence[str]
) -> Step:
    """A step that may write in its own folder alone, and for a training in its copy of the code."""
    writes = [f"{{folder}}/{name}"]
    if isinstance(limits, Train) and limits.in_copy:
        writes.append(f"{{folder}}/{COPY}")
    box = _limits(limits, rig.containment)
    imports = ["{imports}"] if rig.imports else []
    reads = (*box.reads, *rig.reads, *imports, *sees)
    box = replace(box, reads=reads, writes=tuple(writes), covers=rig.covers)
    return Step(name, tuple(argv), "{code}", dict(env), limits.time_limit_s, int(limits.output_mb * 1e6), box)


def checks_box(rig: Rig, config: Config) -> Box:
    """In what a candidate's checks run: the training's level and limits."""
    box = _limits(config.train, rig.containment)
    return replace(box, reads=(*box.reads, *rig.reads), covers=rig.covers)


def _scoring(config: Config, places: interpreter.Places) -> Box:
    """The evaluator's: level and limits of the prediction, but for the disk, which its byte code takes."""
    if config.predict is None:
        return Box()
    box = _limits(config.predict, config.containment)
    return replace(box, disk_bytes=0, reads=(*box.reads, *places.reads), covers=places.covers)


def _limits(limits: Command, containment: str) -> Box:
    return Box(
        level=containment,
        reads=limits.reads,
        memory_bytes=int(limits.memory_gb * 2**30),
        processes=limits.processes,
        disk_bytes=int(limits.disk_mb * 1e6),
    )


def argv_of(command: str, python: str) -> list[str]:
    """The arguments that a trial runs `command` with."""
    return [python if word == "{python}" else word for word in command_words(command)]


def tidy(rig: Rig, key: str, attempt: Path) -> None:
    """Take out of a fetched attempt what is no result, secrets too, and call the predictions that count `predict/`.

    A copy of the code stays behind where a training was killed. May be killed itself, and called again.
    """
    for name in (COPY, SCRATCH):
        _remove(attempt / name)
    for log in (attempt / "logs").glob("*"):
        redaction.clean_file(log)
    for step, source in rig.altered.order(key).items() if rig.altered else ():
        if (attempt / step).exists():
            shown = attempt / ("predict" if source == suffix.TRUE else suffix.ALTERED)
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
