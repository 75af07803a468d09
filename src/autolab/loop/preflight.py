"""What a lab must have before anything is spent in it: one list, which `loop` obeys and `verify` and `doctor` report.

A check raises an AutolabError with the one line that a user reads. `START` holds before any stage of any command,
`TRIALS` before the first trial of a calibration or a run. No check changes the lab.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.adoption.repository import require_whole
from autolab.errors import AutolabError, LabError, RecordError, UsageError
from autolab.executors.executor_names import load_executor
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.loop.workspace import CONTROL, splits_of
from autolab.researchers import prompts
from autolab.researchers.base import Researcher
from autolab.researchers.researcher_names import load_researcher, with_located_files
from autolab.stats import target
from autolab.trials import calibration, champion, containment, interpreter, leak_checks, lookahead
from autolab.trials.bound_data import require_data
from autolab.trials.exports import require_committed, require_folder
from autolab.trials.inputs import from_user, hidden_from_trials, require_open

CONFIG = ".autolab/config.yaml"
REPORTS = "9_reports"


@dataclass(frozen=True)
class Conditions:
    """A lab, the configuration that a command would act on, and its researchers (None: as the configuration says).

    `note`: whether a check may note in the store how far this machine can contain trials. A reader does not.
    """

    lab: Lab
    config: Config
    researchers: tuple[Researcher, Researcher] | None = None
    note: bool = True

    def base(self) -> str:
        """The commit that is measured next."""
        state, campaign = self.lab.load()
        if state.iteration_id is not None and campaign.base_commit is not None:
            return campaign.base_commit
        return champion.base(self.lab, campaign, lambda path: engine_owned(path, self.config))[0]

    def both(self) -> tuple[Researcher, Researcher]:
        """Researcher and reviewer."""
        return self.researchers or load_researchers(self.config)


Check = Callable[[Conditions], object]


def require(checks: dict[str, Check], conditions: Conditions) -> None:
    """Raise what the first failing check says."""
    for check in checks.values():
        check(conditions)


def refusals(conditions: Conditions) -> Iterator[tuple[str, str]]:
    """Name and line of every check for which a loop would be refused now."""
    for name, check in (START | TRIALS).items():
        try:
            check(conditions)
        except AutolabError as error:
            yield name, str(error)


def load_researchers(config: Config) -> tuple[Researcher, Researcher]:
    """Researcher and reviewer, as the configuration names them."""
    researcher = load_researcher(config.researcher)
    if config.reviewer is None:
        return researcher, researcher
    return researcher, load_researcher(config.reviewer)


def relative(lab: Lab, config: Config) -> Config:
    """The configuration with its files found in the lab, wherever the command was started."""
    files = {}
    for name in ("script", "catalogue"):
        path = getattr(config.researcher, name)
        if path is not None:
            files[name] = _in_lab(lab, path)
    researcher = with_located_files(config.researcher.model_copy(update=files), lab.root)
    reviewer = config.reviewer
    if reviewer is not None:
        reviewer = with_located_files(reviewer, lab.root)
    return config.model_copy(update={"researcher": researcher, "reviewer": reviewer})


def _in_lab(lab: Lab, path: str) -> str:
    """The file as the command names it, else the one in the lab, else the copy that the control folder keeps."""
    if Path(path).exists():
        return path
    source, copy = lab.root / path, lab.store / "control" / Path(path).name
    if copy.exists() and not source.exists():
        return str(copy)
    # Also if neither exists: whoever opens it reports the path that the user knows.
    return str(source)


def engine_owned(path: str, config: Config) -> bool:
    """Whether the engine itself writes this path of the checkout."""
    owned = (*config.files.global_, *config.docs.paper_targets, config.docs.figures, "experiments", REPORTS)
    return any(path == name or path.startswith(f"{name}/") for name in owned)


def is_unread(path: str, config: Config) -> bool:
    """Whether no training depends on this path: else each row of the table would make a new version."""
    unread = (*hidden_from_trials(config), *config.files.human)
    return engine_owned(path, config) or any(path == name or path.startswith(f"{name}/") for name in unread)


def prompt_path(lab: Lab, names: Sequence[str]) -> Path:
    """The first of these prompt files that the lab has. RecordError: it has none of them."""
    for name in names:
        path = lab.prompt(name)
        if path.exists():
            return path
    raise RecordError(f".autolab/prompts/{names[0]}: missing; copy it from a new lab")


def in_force(lab: Lab, config: Config, tell: Callable[[str], None]) -> Config:
    """The configuration at the level of containment that is really used, which is told if it is a lower one.

    RecordError, LabError: the configuration cannot be acted on.
    """
    refuse_unbuilt(config)
    refuse_unseen_success(config)
    leak_checks.refuse_reads(lab.root, lab.store, config)
    settled, line = containment.settle(config, lab.store)
    if line:
        tell(line)
    return settled


# Before anything is done


def refuse_unbuilt(config: Config) -> None:
    """RecordError: a key that this version cannot act on is set. It is refused rather than ignored."""
    if config.budget.gpu_hours is not None and not config.train.gpus:
        raise RecordError(
            f"{CONFIG}: budget.gpu_hours: train.gpus is 0, so no GPU hours are counted; set train.gpus to the GPUs of"
            " one training, or budget.gpu_hours to null"
        )
    if config.push != "never":
        raise RecordError(f"{CONFIG}: push: {config.push}: not built in this version; set it to never")
    if config.tracking:
        raise RecordError(f"{CONFIG}: tracking: not built in this version; set it to []")
    if config.target is not None:
        try:
            target.parse(config.target, config)
        except UsageError as error:
            raise RecordError(f"{CONFIG}: {error}") from None


def refuse_unseen_success(config: Config) -> None:
    """RecordError: the smallest difference worth having does not show in what trainings print."""
    metric, quantum = config.metric, config.quantum
    # A step of 0.1 need not be the nearest number to a difference that was computed.
    wanted = metric.success_delta
    if quantum is not None and wanted is not None and wanted < quantum * (1 - 1e-9):
        raise RecordError(
            f"{CONFIG}: metric.success_delta: {wanted:g} is below metric.quantum {quantum:g}, the"
            f" step in which {metric.primary} is printed: have the training print more decimals and set the quantum to"
            " that, or raise success_delta"
        )


def _researcher(conditions: Conditions) -> None:
    """Researcher and reviewer can be loaded, and report what every cap on them needs to be counted."""
    budget = conditions.config.budget
    for researcher in conditions.both():
        # A cap that nothing holds would be believed, until the bill comes.
        if budget.tokens is not None and "tokens" not in researcher.counts:
            raise RecordError(
                f"{CONFIG}: budget.tokens: {researcher.name} does not report its tokens, so nothing would hold the"
                " cap; set budget.tokens to null"
            )
        if budget.dollars is not None and "dollars" not in researcher.counts:
            raise RecordError(
                f"{CONFIG}: budget.dollars: the cost of {researcher.name} is not known, so nothing would hold the cap;"
                " set researcher.price, or budget.dollars to null"
            )


def _agent_files(conditions: Conditions) -> None:
    """An agent's program and the files that its command names exist, and it may see them."""
    git = conditions.lab.git

    hidden = (*CONTROL, *splits_of(conditions.config))

    def in_workspace(path: str) -> bool:
        if path.startswith("..") or any(Path(path).is_relative_to(folder) for folder in hidden):
            return False
        return git.has_path(conditions.base(), path) is not None

    for researcher in conditions.both():
        researcher.require_usable(conditions.lab.root, in_workspace)


def _executor(conditions: Conditions) -> None:
    """The executor and its options exist. It is needed at launch only, when much is spent already."""
    config = conditions.config.executor
    load_executor(config.name)(conditions.lab.store / "runs", config.options)


def _prompts(conditions: Conditions) -> None:
    """Each stage has a usable prompt, and each researcher that reads prompts has its contract."""
    required = list(prompts.FILES.values())
    contracts = {researcher.contract or "" for researcher in conditions.both()}
    for contract in sorted(contracts):
        if contract in prompts.CONTRACTS:
            required.append((prompts.CONTRACTS[contract],))
    for names in required:
        prompts.require(prompt_path(conditions.lab, names))


def _reads(conditions: Conditions) -> None:
    leak_checks.refuse_reads(conditions.lab.root, conditions.lab.store, conditions.config)


START: dict[str, Check] = {
    "config": lambda conditions: refuse_unbuilt(conditions.config),
    "success": lambda conditions: refuse_unseen_success(conditions.config),
    "containment": lambda conditions: containment.settle(conditions.config, conditions.lab.store, note=conditions.note),
    "researcher": _researcher,
    "agent": _agent_files,
    "executor": _executor,
    "python": lambda conditions: conditions.lab.python(conditions.config),
    "refs": lambda conditions: conditions.lab.git.require_free_names(),
    "reads": _reads,
    "secret": lambda conditions: conditions.lab.secret,
    "prompts": _prompts,
}


# Before trials


def _data(conditions: Conditions) -> None:
    """The base commit is here whole; data and splits lie in it or on disk, and the evaluator is committed."""
    lab, config, base = conditions.lab, conditions.config, conditions.base()
    require_whole(lab.git, base)
    # Data in git is exported for the trials; other data must be readable for the user that they run as.
    require_data(lab.git, lab.root, base, config)
    evaluate = config.evaluate
    if evaluate is None:
        return
    for split in (evaluate.eval, evaluate.holdout):
        if split is not None:
            _split(conditions, base, split, cut=evaluate.altered_suffix)
    require_committed(lab.git, base, evaluate.script)


def _split(conditions: Conditions, base: str, split: str, *, cut: bool) -> None:
    """The split has inputs, which trials can read, and labels. With `cut` the inputs are sequences that can be cut."""
    lab, folder = conditions.lab, conditions.lab.root / split
    inputs = folder / "inputs.npy"
    in_git = require_folder(lab.git, lab.root, base, split)
    place = f"commit {base[:12]}" if in_git else str(lab.root)
    for name in ("inputs.npy", "labels.npy"):
        exists = lab.git.has_path(base, f"{split}/{name}") if in_git else (folder / name).is_file()
        if not exists:
            raise LabError(f"{CONFIG}: evaluate: {split}/{name} is not in {place}; put it there")
    # The inputs only: a trial never reads the labels.
    if not in_git:
        require_open(inputs, conditions.config)
    if not cut:
        return
    with tempfile.TemporaryDirectory() as temporary:
        # The checkout may hold another file than the commit that is measured.
        if in_git:
            inputs = Path(temporary) / "inputs.npy"
            inputs.write_bytes(lab.git.read(base, f"{split}/inputs.npy") or b"")
        lookahead.require_sequences(inputs)


def _labels(conditions: Conditions) -> None:
    """No copy of the labels lies where a trial can read."""
    lab = conditions.lab
    leak_checks.look_for_leaks(lab.root, lab.store, conditions.config, note=conditions.note)


def _budget(conditions: Conditions) -> None:
    """A calibration that is still to come fits into the budget."""
    if calibration.current_calibration(conditions.lab) is None:
        calibration.require_affordable(conditions.config, conditions.lab.load()[1])


TRIALS: dict[str, Check] = {
    "packages": lambda conditions: interpreter.packages_hash(Path(conditions.lab.python(conditions.config))),
    "environment": lambda conditions: from_user(conditions.config.train.env),
    "data": _data,
    "labels": _labels,
    "budget": _budget,
}
