"""What a lab must have before anything is spent in it: one list, which `loop` obeys and `verify` and `doctor` report.

A check raises an AutolabError with the one line that a user reads. `START` holds before any stage of any command;
`TRIALS` before the first trial of a calibration or a run. Nothing is changed by looking.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import AutolabError, LabError, RecordError, UsageError
from autolab.executors.executor_names import load_executor
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.researchers import prompts
from autolab.researchers.base import Researcher
from autolab.researchers.researcher_names import load_researcher
from autolab.stats import target
from autolab.trials import calibration, champion, containment, interpreter, leak_checks, lookahead
from autolab.trials.exports import require_committed, require_folder
from autolab.trials.inputs import from_user, require_open

REPORTS = "9_reports"


@dataclass(frozen=True)
class Conditions:
    """A lab, the configuration that a command would act on, and who would think (None: as the configuration says).

    `note`: what this machine can enclose may be noted in the store, which a reader does not do.
    """

    lab: Lab
    config: Config
    researchers: tuple[Researcher, Researcher] | None = None
    note: bool = True

    def base(self) -> str:
        """The commit that is measured next."""
        _, campaign = self.lab.load()
        opened = self.lab.load()[0].iteration_id is not None
        found = campaign.base_commit if opened else None
        return found or champion.base(self.lab, campaign, lambda path: engine_owned(path, self.config))[0]


Check = Callable[[Conditions], object]


def require(checks: dict[str, Check], ground: Conditions) -> None:
    """Raise what the first check finds that the command could not go on with."""
    for check in checks.values():
        check(ground)


def refusals(ground: Conditions) -> Iterator[tuple[str, str]]:
    """Name and line of everything that a loop would be refused for, as the lab stands."""
    for name, check in (START | TRIALS).items():
        try:
            check(ground)
        except AutolabError as error:
            yield name, str(error)


def load_researchers(config: Config) -> tuple[Researcher, Researcher]:
    """Researcher and reviewer as the configuration names them."""
    researcher = load_researcher(config.researcher)
    return researcher, load_researcher(config.reviewer) if config.reviewer else researcher


def relative(lab: Lab, config: Config) -> Config:
    """Files named in config.yaml are relative to the lab, wherever the command was started."""
    who = config.researcher
    update = {name: _found(lab, path) for name in ("script", "catalogue") if (path := getattr(who, name)) is not None}
    return config.model_copy(update={"researcher": who.model_copy(update=update)})


def _found(lab: Lab, path: str) -> str:
    """The file in the lab, or where the checkout lacks it, as the control folder last held it."""
    named, held = lab.root / path, lab.store / "control" / Path(path).name
    if Path(path).exists() or named.exists() or not held.exists():
        return path if Path(path).exists() else str(named)
    return str(held)


def engine_owned(path: str, config: Config) -> bool:
    """Whether the engine itself writes this path of the checkout."""
    owned = (*config.files.global_, *config.docs.paper_targets, config.docs.figures, "experiments", REPORTS)
    return any(path == name or path.startswith(f"{name}/") for name in owned)


# before anything


def refuse_unbuilt(config: Config) -> None:
    """A key that this version does not act on, or cannot read, is refused and not ignored."""
    if config.budget.gpu_hours is not None and not config.train.gpus:
        raise RecordError(
            ".autolab/config.yaml: budget.gpu_hours: train.gpus is 0, so nothing is counted; say how many GPUs one"
            " training uses"
        )
    if config.push != "never":
        raise RecordError(f".autolab/config.yaml: push: {config.push}: not built in this version; set it to never")
    if config.tracking:
        raise RecordError(".autolab/config.yaml: tracking: not built in this version; set it to []")
    if config.target is not None:
        try:
            target.parse(config.target, config)
        except UsageError as error:
            raise RecordError(f".autolab/config.yaml: {error}") from None


def in_force(lab: Lab, config: Config, tell: Callable[[str], None]) -> Config:
    """The configuration as it can be acted on, or a RecordError that says why it cannot."""
    refuse_unbuilt(config)
    leak_checks.refuse_reads(lab.root, lab.store, config)
    settled, lower = containment.settle(config, lab.store)
    if lower:
        tell(lower)
    return settled


def _researcher(ground: Conditions) -> None:
    """Both can be asked, and every cap on what they take is counted: a cap that nothing counts is worse than none."""
    config = ground.config
    for researcher in dict.fromkeys(ground.researchers or load_researchers(config)):
        capped = {name for name in ("tokens", "dollars") if getattr(config.budget, name) is not None}
        for name in sorted(capped - researcher.counts):
            way = "researcher.price says it" if name == "dollars" else "it does not tell"
            raise RecordError(
                f".autolab/config.yaml: budget.{name}: what {researcher.name} takes is not known ({way}), so nothing"
                " would hold the cap; fix that, or set it to null"
            )


def _prompts(ground: Conditions) -> None:
    """Each stage's prompt, and the contract of a researcher that reads it, from the checkout or as last held."""
    read = {researcher.contract for researcher in ground.researchers or load_researchers(ground.config)}
    contracts = [(file,) for key, file in sorted(prompts.CONTRACTS.items()) if key in read]
    for names in [*prompts.FILES.values(), *contracts]:
        path = next((path for path in map(ground.lab.prompt, names) if path.exists()), None)
        if path is None:
            raise RecordError(f".autolab/prompts/{names[0]}: missing; copy it from a new lab")
        prompts.require(path)


START: dict[str, Check] = {
    "config": lambda ground: refuse_unbuilt(ground.config),
    "containment": lambda ground: containment.settle(ground.config, ground.lab.store, note=ground.note),
    "researcher": _researcher,
    # Needed in launch only; named wrongly they are refused before anything is spent.
    "executor": lambda ground: load_executor(ground.config.executor.name)(
        ground.lab.store / "runs", ground.config.executor.options
    ),
    "python": lambda ground: ground.lab.python(ground.config),
    "reads": lambda ground: leak_checks.refuse_reads(ground.lab.root, ground.lab.store, ground.config),
    "secret": lambda ground: ground.lab.secret,
    "prompts": _prompts,
}


# before trials


def _data(ground: Conditions) -> None:
    """Training data and splits are in the base commit or on disk, and the evaluator is committed."""
    lab, config, base = ground.lab, ground.config, ground.base()
    if config.data is not None and not require_folder(lab.git, lab.root, base, config.data):
        require_open(lab.root / config.data, config)
    if config.evaluate is None:
        return
    for split in (config.evaluate.eval, config.evaluate.holdout):
        if split is not None:
            _split(ground, base, split)
    require_committed(lab.git, base, config.evaluate.script)


def _split(ground: Conditions, base: str, split: str) -> None:
    """Inputs and labels are there; a trial can read the inputs, and cut them where the lab looks for look-ahead."""
    lab, config = ground.lab, ground.config
    held = require_folder(lab.git, lab.root, base, split)
    for name in ("inputs.npy", "labels.npy"):
        there = lab.git.has_path(base, f"{split}/{name}") if held else (lab.root / split / name).is_file()
        if not there:
            where = f"commit {base[:12]}" if held else str(lab.root)
            raise LabError(f".autolab/config.yaml: evaluate: {split}/{name} is not in {where}; put it there")
    inputs = lab.root / split / "inputs.npy"
    if not held:
        require_open(inputs, config)
    if config.evaluate is None or not config.evaluate.altered_suffix:
        return
    with tempfile.TemporaryDirectory() as folder:
        if held:
            inputs = Path(folder) / "inputs.npy"
            inputs.write_bytes(lab.git.read(base, f"{split}/inputs.npy") or b"")
        lookahead.require_sequences(inputs)


def _environment(ground: Conditions) -> None:
    from_user(ground.config.train.env)


def _affordable(ground: Conditions) -> None:
    """A calibration that is still to come fits into the budget."""
    if calibration.current_calibration(ground.lab) is None:
        calibration.require_affordable(ground.config, ground.lab.load()[1])


TRIALS: dict[str, Check] = {
    "packages": lambda ground: interpreter.packages_hash(Path(ground.lab.python(ground.config))),
    "environment": _environment,
    "data": _data,
    "labels": lambda ground: leak_checks.look_for_leaks(
        ground.lab.root, ground.lab.store, ground.config, note=ground.note
    ),
    "budget": _affordable,
}
