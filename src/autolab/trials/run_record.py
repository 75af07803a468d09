"""What a run measures, who watches it, and where it is recorded: ids, effect keys, folders, ledger lines.

A run that was killed anywhere goes on where it was: this module reads from the record what that needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autolab.executors.base import Executor
from autolab.executors.executor_names import load_executor
from autolab.lab.experiment_paths import IterationPaths, RunPaths
from autolab.lab.ledger import Ledger, Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import ExecutorConfig, TimeLimit
from autolab.lab.schemas.events import RunEnded, RunStarted, TrialEnded, events_of, read
from autolab.lab.schemas.outcomes import Gear, RunKind
from autolab.stats.plan import Plan
from autolab.trials.early_stop import EarlyStop
from autolab.trials.inputs import TrialInputs
from autolab.trials.progress import RunView
from autolab.trials.stored import StoredTrials

NAMES = {
    RunKind.SEARCH: "run",
    RunKind.CONFIRM: "run",
    RunKind.STUB: "run",
    RunKind.CALIBRATE: "calibration",
    RunKind.REPRODUCE: "reproduction",
    RunKind.WARM_UP: "warm_up",
    RunKind.NOISE: "noise",
    RunKind.MANUAL: "manual",
    RunKind.SCREEN: "run",
    RunKind.CLAIM: "run",
}
"""How the id of a run begins, by its kind."""

PURPOSES = {RunKind.CALIBRATE: "calibration", RunKind.REPRODUCE: "reproduction", RunKind.MANUAL: "evaluation"}
GEARS = {Gear.EACH: "tests", Gear.SCREEN: "screens", Gear.CLAIM: "claims"}
"""What trials are for, as the campaign counts them: by the kind of their run, else by the gear of their iteration."""


@dataclass(frozen=True)
class RunSpec:
    """What is to be measured, all of it fixed before the first trial starts.

    `plan` makes the plan once the inputs are known. `command` is the training's, `{python}` standing for the
    interpreter. `commits`: by the name of the code. `checks`: the results of the candidate's checks, by name.
    `time_limit`: that of a training, if config.yaml sets none; None: that before any calibration. With `one_at_a_time`
    no trial begins before the last one is over and scored. `description`: what the user says of a run that they
    ordered. `early_stop`: in a screen, which trials are ended before they are over; None: none.
    """

    kind: RunKind
    plan: Callable[[TrialInputs], Plan]
    command: str
    commits: Mapping[str, str]
    design_sha256: str | None = None
    checks: Mapping[str, str] = field(default_factory=dict)
    time_limit: TimeLimit | None = None
    one_at_a_time: bool = False
    description: str = ""
    early_stop: EarlyStop | None = None


@dataclass(frozen=True)
class RunObserver:
    """Who watches a run: `view` shows its progress, `stop` says whether the user asked to stop.

    `left` is the number of trials that may still begin or run; None: no cap. Without any left, the run pauses.
    """

    view: RunView
    stop: Callable[[], bool]
    left: Callable[[], int | None] = lambda: None


@dataclass(frozen=True)
class RunRecord:
    """Where a run is recorded.

    `iteration_id`: whose folder (`paths`) the run lies in, an iteration's or `calibration`. `events`: the ledger lines
    since the run may have begun. `acted`: the number of the newest line that acted on a stage's outcome; a run that
    ended after it is still to be used.
    """

    ledger: Ledger
    store: Path
    paths: IterationPaths
    lab_id: str
    iteration_id: str
    events: Sequence[Line]
    acted: int

    # runs

    def paths_of(self, run_id: str) -> RunPaths:
        return self.paths.run(run_id)

    def under_way(self, kind: RunKind) -> Line | None:
        """The `run_started` line of the newest run of this kind whose end was not acted on."""
        ended = set()
        for line in self.events:
            if line.event == RunEnded.KIND and line.n < self.acted:
                ended.add(read(line, RunEnded).run_id)
        newest = None
        for line in self.events:
            if line.event == RunStarted.KIND:
                start = read(line, RunStarted)
                if start.kind is kind and start.run_id not in ended:
                    newest = line
        return newest

    def next_id(self, kind: RunKind) -> str:
        """The id of a new run. Runs whose ids begin with the same name are counted together."""
        name = NAMES[kind]
        number = len(list(events_of(lines_of(self.events, [kind]), RunStarted)))
        if name != NAMES[RunKind.SEARCH]:
            # Runs between iterations: earlier ones have folders, but no line among `events`.
            for path in (self.paths.folder / "runs").glob(f"{name}_[0-9][0-9][0-9][0-9]"):
                number = max(number, int(path.name[-4:]))
        return f"{name}_{number + 1:04d}"

    def recorded_end(self, run_id: str) -> RunEnded | None:
        """The newest line that says how the run ended, if a crash came before the next state."""
        newest = None
        for end in events_of(self.events, RunEnded):
            if end.run_id == run_id:
                newest = end
        return newest

    def executor(self, config: ExecutorConfig, run_id: str) -> Executor:
        """The executor of one run, with its queue, exits and working folders in the store."""
        folder = self.store / "runs" / f"{self.iteration_id}.{run_id}"
        folder.mkdir(parents=True, exist_ok=True)
        return load_executor(config.name)(folder, config.options)

    # trials

    @property
    def stored_trials(self) -> StoredTrials:
        return StoredTrials(self.store, self.ledger)

    def key(self, run_id: str, trial: str, attempt: int) -> str:
        """The effect key of an attempt, by which an executor finds the job again."""
        return f"{self.lab_id}.{self.iteration_id}.{run_id}.{trial}.a{attempt}"

    def fetched(self, key: str) -> Path:
        """Where the files of an attempt lie on their way into experiments/."""
        return self.store / "fetched" / key

    @property
    def held_folder(self) -> Path:
        return self.store / "held"

    def held(self, key: str) -> Path:
        """Where the predictions of a trial for the holdout lie until they are scored, or their claim is decided."""
        return self.held_folder / f"{key}.npy"


def lines_of(events: Iterable[Line], kinds: Iterable[RunKind]) -> list[Line]:
    """The lines about runs of these kinds: a run's own name begins with what it is for."""
    names = tuple(f"{NAMES[kind]}_" for kind in kinds)
    # Raw lines: several kinds of event name a run.
    return [line for line in events if str(line.data.get("run_id", "")).startswith(names)]


def count_trials(events: Iterable[Line], kind: RunKind, since: int, campaign: Campaign, gpus: int) -> dict[str, object]:
    """The campaign's counts with the trials of such runs that ended after line `since`; reused ones cost nothing."""
    trials = 0
    seconds = 0.0
    for line in lines_of(events, [kind]):
        if line.event == TrialEnded.KIND and line.n > since:
            trial = read(line, TrialEnded).trial
            if trial.reused_from is None:
                trials += 1
                seconds += trial.seconds
    purpose = PURPOSES.get(kind) or GEARS[campaign.gear]
    counts = campaign.trials_for
    if trials:
        counts = counts | {purpose: counts.get(purpose, 0) + trials}
    return {
        "trials": campaign.trials + trials,
        "trials_for": counts,
        "gpu_seconds": round(campaign.gpu_seconds + gpus * seconds, 3),
    }
