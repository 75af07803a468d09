"""A run's manifest: everything that its numbers depend on, written when it begins and when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autolab import files
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config, TimeLimit
from autolab.lab.schemas.experiment import FileHash, Manifest, ManifestGit, ManifestSync, RunArm, SyncStep, Trial
from autolab.lab.schemas.outcomes import RunKind
from autolab.stats.plan import BASE, CANDIDATE, Plan, PlannedArm
from autolab.stats.verdict import Judgement
from autolab.trials.inputs import TrialInputs
from autolab.trials.run_record import NAMES, RunRecord, RunSpec

CONFIGURED = ("metric", "train", "predict", "evaluate", "data")
"""Keys of config.yaml that a manifest repeats, so that its trials can run once more."""
SEARCH_ARTIFACTS = {"metrics": "metrics.json", "trials": "trials", "design": "../../design.yaml"}
OTHER_ARTIFACTS = {"trials": "trials"}


@dataclass(frozen=True)
class RunManifest:
    """The parts of a run's manifest that do not change until its end.

    `location` is the executor's, `started_at` the time of the run's first ledger line.
    """

    run_id: str
    started_at: str
    location: str
    spec: RunSpec
    record: RunRecord
    config: Config
    git: Git
    inputs: TrialInputs
    plan: Plan
    time_limit: TimeLimit

    @property
    def path(self) -> Path:
        return self.record.paths_of(self.run_id).manifest

    def write(self, manifest: Manifest) -> None:
        files.write_whole(self.path, manifest.to_json())

    def of(self, trials: Iterable[Trial], judgement: Judgement | None) -> Manifest:
        """The manifest with these trials, final if the run was judged."""
        manifest = self._unjudged(trials)
        if judgement is None:
            return manifest
        ended_at = files.utc_now()
        sync = SyncStep(status="ok", completed_at=ended_at)
        end = {
            "status": judgement.status,
            "ended_at": ended_at,
            "sync": ManifestSync(artifact_sync_to_local=sync),
            "comparisons": judgement.comparisons,
            "reason": judgement.reason,
        }
        return manifest.model_copy(update=end)

    def _unjudged(self, trials: Iterable[Trial]) -> Manifest:
        plan, config = self.plan, self.config
        evaluator = None
        if config.evaluate is not None:
            evaluator = FileHash(path=config.evaluate.script, sha256=self.inputs.evaluator_sha256)
        artifacts = OTHER_ARTIFACTS
        if NAMES[self.spec.kind] == NAMES[RunKind.SEARCH]:
            artifacts = SEARCH_ARTIFACTS
        # Resolved settings: a manifest has to say what ran without the design that it came from.
        arms = []
        for arm in plan.arms:
            arms.append(self._arm(arm))
        settings = config.value()
        return Manifest(
            run_id=self.run_id,
            iteration_id=self.record.iteration_id,
            kind=self.spec.kind,
            description=self.spec.description,
            lab_id=self.record.lab_id,
            # Until the run is judged; a manifest with this status is a run that was interrupted, or goes on.
            status="running",
            git=self._git(),
            location=self.location,
            command=self.spec.command,
            sync=ManifestSync(artifact_sync_to_local=SyncStep(status="pending")),
            verifier_results=dict(self.spec.checks),
            started_at=self.started_at,
            artifacts=dict(artifacts),
            design_sha256=self.spec.design_sha256,
            rule=plan.rule,
            metric=plan.metric,
            direction=plan.direction,
            success_delta=plan.delta,
            arms=tuple(arms),
            bound=plan.bound if plan.rule is None else None,
            pairs=len(plan.seeds),
            arm_seeds=plan.arm_seeds,
            protocol=self.inputs.protocol,
            lab={key: settings[key] for key in CONFIGURED},
            time_limit=self.time_limit,
            environment=self.inputs.interpreter.environment,
            evaluator=evaluator,
            data=dict(self.inputs.data_sha256),
            frozen=self._frozen(),
            containment=config.containment,
            self_reported=self.inputs.evaluation is None,
            # Not in the order in which they ended, which differs from machine to machine.
            trials=tuple(sorted(trials, key=lambda trial: (trial.index, trial.arm))),
        )

    def _arm(self, arm: PlannedArm) -> RunArm:
        # `git` names the commits of the two codes that most runs have; each arm of a screen may have its own.
        commit = None
        if arm.code not in (BASE, CANDIDATE):
            commit = self.spec.commits[arm.code]
        return RunArm(name=arm.name, role=arm.role, code=arm.code, commit=commit, settings=arm.settings)

    def _git(self) -> ManifestGit:
        return ManifestGit(
            control_plane_commit=self.git.head() or "",
            candidate_commit=self.spec.commits.get(CANDIDATE),
            base_commit=self.spec.commits[BASE],
            dirty=bool(self.git.dirty()),
        )

    def _frozen(self) -> dict[str, str]:
        """The frozen files as the base commit holds them: path -> git object id."""
        # Not the files of the checkout: trials see what the base commit holds.
        objects = {}
        for path in self.config.files.frozen:
            if object_id := self.git.has_path(self.spec.commits[BASE], path):
                objects[path] = object_id
        return objects


def abandon(path: Path, reason: str) -> None:
    """Write into the manifest at `path`, if it is there, that its run was given up."""
    if path.exists():
        update = {"status": "failed", "reason": reason, "ended_at": files.utc_now()}
        files.write_whole(path, Manifest.load(path).model_copy(update=update).to_json())
