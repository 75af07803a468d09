"""`autolab eval`: the user's checkout or a revision, measured as the lab measures. A number and a row, no claim.

Command, metric, limits and containment are the lab's. Evaluator and data are those of the commit that the next
candidate would branch from, so a changed eval.py is not used. The holdout is not touched.

The seeds are the first search seeds of that commit. So the numbers stand beside those of the calibration and of the
experiments, seed for seed, and a trial that was measured already is not run again, here or in a later experiment.
Nothing is given away by that: a search's result is no claim, and what is claimed is measured on confirmation seeds.

May be killed anywhere: the same command goes on, and the run gets one row.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from autolab import files
from autolab.errors import BudgetSpent, LabError, RecordError, UsageError
from autolab.lab import budget, redaction
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, TimeLimit
from autolab.lab.schemas.events import RunEnded, RunStarted, Transition, events_of
from autolab.lab.schemas.experiment import ArmMetrics, Manifest, RunMetrics
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop import document, preflight
from autolab.loop.opening import base_of
from autolab.loop.workspace import CONTROL
from autolab.reports import iteration_documents, journal
from autolab.stats.plan import Plan, manual_plan, planned_cells
from autolab.stats.scores import Scale, aggregate
from autolab.stats.seeds import search_seeds
from autolab.text import one_line
from autolab.trials import measurement
from autolab.trials.calibration import current_calibration
from autolab.trials.inputs import TrialInputs, hidden_from_trials
from autolab.trials.job import TrialCommands, content_key
from autolab.trials.lab_inputs import code_commits, record_of, source_of
from autolab.trials.measurement import Ending
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunRecord, RunSpec, count_trials, lines_of

FOLDER = "manual"
"""Under experiments/, where an iteration's id would stand."""
EVALUATED = "evaluated"
"""The cause of the transition that counts the trials of such a run."""
PINS = "refs/autolab/keep/manual"
CHECKOUT, REVISION = "checkout", "revision"
"""Names of the arm."""
SETTINGS_VARIABLE = "AUTOLAB_CONFIG"
_DEPENDS_ON = ("train", "predict", "data")
"""Keys of config.yaml that a run depends on and its first line does not say."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What the user asks for. `revision`: None: the checkout as it lies there. `description` goes into the row."""

    revision: str | None
    seeds: int
    settings: dict[str, JsonValue]
    description: str = ""


@dataclass(frozen=True)
class MeasuredVersion:
    """The result. `metrics` has the means by metric; it is empty if a training failed. `waits`: why the row is not
    in the table yet; None: it is."""

    manifest: Manifest
    metrics: dict[str, ArmMetrics]
    table: str
    waits: str | None

    @property
    def label(self) -> str:
        """What was measured, as the row says it."""
        return self.manifest.description

    @property
    def new_seconds(self) -> float:
        """Of the trainings that ran for it."""
        return sum(trial.seconds for trial in self.manifest.trials if trial.reused_from is None)

    @property
    def reused(self) -> int:
        """Trainings that were measured before."""
        return sum(1 for trial in self.manifest.trials if trial.reused_from is not None)


def evaluate(
    lab: Lab, checkout: Git, config: Config, request: EvaluationRequest, view: View, stop: Callable[[], bool]
) -> MeasuredVersion | None:
    """Measure one version over the first seeds, and give its row to the table; None if the user asked to stop.

    `checkout` is the one that the user stands in, the lab's or another worktree of it. UsageError: no such revision.
    BudgetSpent: the trials that have to run are not allowed. LabError: the inputs cannot be made, or the
    infrastructure failed.
    """
    return _Evaluation(lab, checkout, config, request, view, stop).run()


def manual_rows(manifest: Manifest, config: Config) -> journal.DocumentEntry:
    """The row of a run, for the table that the configuration names."""
    metrics = None
    if manifest.status == "completed":
        metrics = _metrics_of(manifest)
    metric = manifest.metric or config.metric.primary
    rows = iteration_documents.tsv_rows(manifest, metrics, metric, manifest.description)
    return dataclasses.replace(rows, path=config.files.table)


def _metrics_of(manifest: Manifest) -> RunMetrics:
    scale = Scale.of(manifest)
    arms = aggregate(scale, manifest.trials)
    return RunMetrics(
        run_id=manifest.run_id, primary=scale.metric, self_reported=scale.self_reported, arms=arms, comparisons=()
    )


class _Evaluation:
    """One call of the command; the caller holds the lab's lock."""

    def __init__(
        self,
        lab: Lab,
        checkout: Git,
        config: Config,
        request: EvaluationRequest,
        view: View,
        stop: Callable[[], bool],
    ) -> None:
        self._lab, self._checkout, self._config, self._request = lab, checkout, config, request
        self._view, self._stop = view, stop
        self._state, self._campaign = lab.load()
        self._base, _ = base_of(lab, config, self._campaign, view)

    def run(self) -> MeasuredVersion | None:
        commit, label = self._code()
        self._note_unread_settings(commit)
        question = self._question(commit)
        unseen = self._unseen()
        if unseen is not None:
            start, result = unseen
            if start.design_sha256 == question and len(start.seeds) == self._request.seeds:
                return result
        lines, concluded = self._recorded()
        record = record_of(self._lab, FOLDER, lines, concluded)
        spec = self._spec(commit, label, question, record)
        observer = RunObserver(self._view, self._stop)
        measured = measurement.measure(source_of(self._lab), self._config, spec, record, observer)
        if measured.ending is Ending.PAUSED:
            return None
        if measured.manifest is None:
            raise LabError(f"eval: {measured.run_id}: {measured.reason}; run it again")
        return self._conclude(measured.manifest, concluded)

    # what is measured

    def _code(self) -> tuple[str, str]:
        """The commit to measure, and what the user calls it."""
        revision, git = self._request.revision, self._checkout
        if revision is not None:
            commit = git.resolve(revision)
            if commit is None:
                raise UsageError(
                    f"eval: {revision!r} names no commit here; git log --oneline --all shows those there are"
                )
            return commit, revision
        self._note_unused()
        made = git.commit_of_checkout("autolab eval", self._is_as_committed)
        head = git.head()
        if head is not None and git.tree(head) == made.tree:
            return head, CHECKOUT
        # Pinned by its files, so that git keeps it and the same files are the same commit the next time.
        pin = f"{PINS}/{made.tree}"
        pinned = git.resolve(pin)
        if pinned is None:
            git.pin(pin, made.sha)
        return pinned or made.sha, f"{CHECKOUT}, uncommitted changes"

    def _is_as_committed(self, path: str) -> bool:
        """Whether no training depends on a change of this path: else each row of the table would make a new version."""
        return preflight.is_unread(path, self._config)

    def _note_unused(self) -> None:
        """Say so if the checkout has another evaluator or other data than those that are used."""
        git, base = self._lab.git, self._base
        measures = [path for path in hidden_from_trials(self._config) if path not in CONTROL]
        # What git does not hold is read where it lies.
        committed = [path for path in measures if git.has_path(base, path)]
        for path in self._checkout.dirty():
            if _lies_in(path.rstrip("/"), committed):
                used = f"evaluator and data are those of commit {base[:12]}"
                self._view(f"note: {path} is changed here, and not used: {used}; commit it to have it in force")

    def _note_unread_settings(self, commit: str) -> None:
        """Say so if the training can hardly know the settings: it would measure the same under another name."""
        if not self._request.settings or self._config.train.settings != "file":
            return
        readers = self._lab.git.files_with(commit, SETTINGS_VARIABLE)
        # Documents and prompts speak of it, too.
        programs = [path for path in readers if not path.endswith(".md") and not _lies_in(path, CONTROL)]
        if not programs:
            self._view(
                f"note: no program of the code reads {SETTINGS_VARIABLE}, so --set may change nothing; train.settings:"
                " flags in .autolab/config.yaml passes settings as flags of the command"
            )

    def _question(self, commit: str) -> str:
        """The hash of what is measured, without the seeds: a run of anything else is another run."""
        values = self._config.value()
        parts: dict[str, JsonValue] = {
            "tree": self._lab.git.tree(commit),
            "base": self._lab.git.tree(self._base),
            "settings": self._request.settings,
            "config": [values[key] for key in _DEPENDS_ON],
        }
        return files.sha256_of(json.dumps(parts, sort_keys=True))

    def _spec(self, commit: str, label: str, question: str, record: RunRecord) -> RunSpec:
        lab, config, request = self._lab, self._config, self._request
        arm = CHECKOUT if request.revision is None else REVISION

        def plan(inputs: TrialInputs) -> Plan:
            seeds = search_seeds(lab.secret, inputs.protocol, lab.git.tree(self._base), request.seeds)
            planned = manual_plan(config, arm, request.settings, seeds)
            self._require_affordable(inputs, planned, record)
            return planned

        return RunSpec(
            kind=RunKind.MANUAL,
            plan=plan,
            command=config.train.command,
            commits=code_commits(self._base, commit),
            design_sha256=question,
            time_limit=self._time_limit(),
            description=self._description(label),
        )

    def _time_limit(self) -> TimeLimit:
        calibration = current_calibration(self._lab)
        return self._config.train.time_limit(calibration.slowest_seconds if calibration else None)

    def _description(self, label: str) -> str:
        request = self._request
        words = [label, *(f"{key}={json.dumps(value)}" for key, value in request.settings.items())]
        text = ", ".join(words)
        if request.description:
            text += f": {one_line(request.description)}"
        return redaction.clean(text)

    def _require_affordable(self, inputs: TrialInputs, plan: Plan, record: RunRecord) -> None:
        """BudgetSpent: the budget does not allow the trials that have to run."""
        config, commands = self._config, TrialCommands.of(self._config.train.command, self._config)
        needed = 0
        for cell in planned_cells(plan):
            try:
                known = record.stored_trials.find(content_key(inputs, commands, plan.arm(cell.arm), cell.seed))
            except RecordError:
                known = None
            needed += known is None
        cap = budget.spent_within(config.budget, self._counted(record.acted), needed)
        if needed and cap:
            raise BudgetSpent(f"eval: budget: {cap}; raise it in .autolab/config.yaml")

    # what is on record

    def _recorded(self) -> tuple[list[Line], int]:
        """The lines of all such runs, and the number of the transition that counted the newest of them."""
        lines: list[Line] = []
        concluded = 0
        # The whole history: an iteration may have begun since such a run was killed. Raw lines, as it may be long.
        for line in self._lab.ledger.lines():
            if line.event == Transition.KIND and line.data.get("why") == EVALUATED:
                concluded = line.n
            lines.append(line)
        return lines_of(lines, [RunKind.MANUAL]), concluded

    def _unseen(self) -> tuple[RunStarted, MeasuredVersion] | None:
        """The newest run, if it ended and the command was killed before it said so. Its row is made good."""
        lines, concluded = self._recorded()
        line, end = _newest_end(lines)
        if line is None or end is None:
            return None
        newest = self._lab.ledger.transition()
        # A line of another command since: the user has gone on, and asks anew.
        just_concluded = newest is not None and newest.n == concluded > line.n
        was_killed = just_concluded and self._lab.killed.startswith("autolab eval")
        if line.n < concluded and not was_killed:
            return None
        path = self._lab.iteration(FOLDER).run(end.run_id).manifest
        # The user has cleaned it away, or changed it: then the run is brought to its end once more, or left alone.
        if not path.is_file() or files.sha256_of_file(path) != end.manifest_sha256:
            return None
        manifest = Manifest.load(path, str(path.relative_to(self._lab.root)))
        start = next(event for event in events_of(lines, RunStarted) if event.run_id == end.run_id)
        if was_killed:
            return start, self._result(manifest)
        # The kill may have come before its working folders were removed.
        record_of(self._lab, FOLDER, lines, concluded).executor(self._config.executor, end.run_id).discard()
        return start, self._conclude(manifest, concluded)

    def _counted(self, concluded: int) -> Campaign:
        """The campaign with the trials of such runs that it does not count yet."""
        lines = self._lab.ledger.lines()
        counts = count_trials(lines, RunKind.MANUAL, concluded, self._campaign, self._config.train.gpus)
        return self._campaign.model_copy(update=counts)

    def _conclude(self, manifest: Manifest, concluded: int) -> MeasuredVersion:
        """Give the run's row to the table, then count its trials; both once, however often it is killed."""
        lab = self._lab
        # The row first: a row that is there is not added again, but nobody would look for one that was counted.
        journal.Pending(lab.store / "pending").add(manual_rows(manifest, self._config))
        document.write_documents(lab, self._campaign, self._view)
        self._campaign = self._counted(concluded)
        lab.transition(self._state, self._campaign, why=EVALUATED, log=lab.last_log())
        return self._result(manifest)

    def _result(self, manifest: Manifest) -> MeasuredVersion:
        metrics: dict[str, ArmMetrics] = {}
        if manifest.status == "completed":
            (metrics,) = _metrics_of(manifest).arms.values()
        waits = self._lab.away(self._campaign)
        return MeasuredVersion(manifest, metrics, self._config.files.table, waits)


def _newest_end(lines: Sequence[Line]) -> tuple[Line | None, RunEnded | None]:
    """The newest line by which a run ended, and its event; None if the newest run goes on or was abandoned."""
    newest: tuple[Line | None, RunEnded | None] = (None, None)
    for line in lines:
        if line.event == RunStarted.KIND:
            newest = None, None
        elif line.event == RunEnded.KIND:
            end = next(events_of([line], RunEnded))
            newest = (line, end) if end.manifest_sha256 is not None else (None, None)
    return newest


def _lies_in(path: str, names: Sequence[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    return any(path == name or path.startswith(f"{name}/") for name in names)
