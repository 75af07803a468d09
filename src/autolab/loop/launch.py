"""Stage launch: measure the reviewed commit, and confirm what the search supports. Engine code alone."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from autolab import files
from autolab.lab import budget
from autolab.lab.schemas.config import Budget, Config
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop import design, review
from autolab.loop.deadline import Deadline
from autolab.loop.document import queue_failed_run
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.stats.plan import Plan, plan_design, plan_within, planned_cells
from autolab.stats.seeds import confirmation_seeds
from autolab.trials import job, measurement
from autolab.trials.confirmation import (
    conclude,
    confirmation_pairs,
    confirmation_rule,
    count_claim,
    plan_confirmation,
    supported_variant,
)
from autolab.trials.holdout_question import HoldoutQuestion
from autolab.trials.inputs import TrialInputs, set_up
from autolab.trials.lab_inputs import code_commits, record_of, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunRecord, RunSpec, count_trials, lines_of
from autolab.verifiers import suspicion

# launch


def run(iteration: Iteration, view: View, stop: Callable[[], bool], deadline: Deadline) -> StageResult | None:
    """Measure behind the gate; None if the user asked to stop before the run was judged."""
    forbidden = review.gate(iteration)
    if forbidden:
        return StageResult(StageOutcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    design.fix_bound(iteration)
    config, campaign = iteration.config, iteration.campaign
    trials_left = _trials_left(iteration, RunKind.SEARCH)
    planned = plan_design(iteration.design(), config, iteration.hypothesis(), b"", "", "")
    short = budget.spent_within(config.budget, campaign)
    if short or plan_within(planned, trials_left) is None:
        short = short or _short(config.budget, len(planned_cells(planned)), trials_left)
        return StageResult(StageOutcome.STOP, f"budget: {short}")
    launch = _Launch(iteration, view, stop, deadline)
    search = launch.measure(launch.run_spec(trials_left))
    if search.ending is not measurement.Ending.DONE:
        return launch.result(search, search.run_id)
    assert search.manifest is not None
    iteration.restore(view)  # what a user cleaned away while trials ran
    lead = supported_variant(search.manifest, iteration.design(), iteration.hypothesis())
    return launch.confirm(search.manifest, *lead) if lead else launch.result(search, search.run_id)


@dataclass(frozen=True)
class _Launch:
    """The runs of one step at this stage: a search, and its confirmation."""

    iteration: Iteration
    view: View
    stop: Callable[[], bool]
    deadline: Deadline

    def confirm(self, search: Manifest, plan: Plan, variant: str) -> StageResult | None:
        """A supported variant once more on fresh seeds; the claim counts in the campaign whatever comes of it."""
        iteration, config, claims = self.iteration, self.iteration.config, self.iteration.campaign.claims
        trials_left = _trials_left(iteration, RunKind.CONFIRM)
        searched_pairs = max(one.pairs or 0 for one in search.comparisons)
        rule = confirmation_rule(config, plan.rule or config.test, claims)
        tree, wanted_pairs = iteration.lab.git.tree(iteration.candidate() or ""), confirmation_pairs(plan, config)
        seeds = confirmation_seeds(iteration.lab.secret, tree, wanted_pairs)
        confirmation = plan_confirmation(plan, variant, rule, seeds, trials_left)
        # As many pairs again as the search took may not do: chance made them few.
        if confirmation is None or len(confirmation.seeds) < min(2 * searched_pairs, wanted_pairs):
            self.view(f"{variant} is supported, and not confirmed: the budget ends here")
            short = _short(config.budget, 2 * wanted_pairs, trials_left)
            return StageResult(StageOutcome.STOP, f"budget: {short}", _counts(iteration))
        self.view(f"{variant} is supported: measured again on fresh seeds, beside a fresh baseline")
        path = iteration.paths.run(search.run_id).manifest
        text = path.read_text(encoding="utf-8")
        spec = dataclasses.replace(self.run_spec(), plan=lambda _: confirmation, kind=RunKind.CONFIRM)
        measured = self.measure(spec)
        files.write_whole(path, text)  # no state holds it yet: a user may have cleaned it away meanwhile
        if measured.ending is not measurement.Ending.DONE or measured.manifest is None:
            return self.result(measured, search.run_id)
        iteration.restore(self.view)
        passed = supported_variant(measured.manifest, iteration.design(), iteration.hypothesis()) is not None
        manifests = (search, measured.manifest)
        doubts = suspicion.reasons(manifests, iteration.design(), iteration.calibration(), variant)
        question = HoldoutQuestion(
            record=self.record(),
            confirm=measured.manifest,
            claims=claims,
            allowed=config.test.holdout_questions,
            inputs=lambda: set_up(source_of(iteration.lab), config, spec.commits),
            tell=self.view,
        )
        concluded = conclude(question, search, passed, doubts)
        counted = count_claim(claims, concluded, measured.manifest.protocol)
        result = self.result(measured, search.run_id)
        return result and dataclasses.replace(result, campaign=result.campaign | {"claims": counted})

    def result(self, measured: measurement.Measured, run_id: str) -> StageResult | None:
        """What an ended run means for the stage; `run_id` is the run that the next stage reads."""
        iteration = self.iteration
        iteration.restore(self.view)
        config = iteration.config
        words = job.argv_of(job.train_command(iteration.design(), config), iteration.lab.python(config))
        script = _script(shlex.join(words), config, iteration.relative(iteration.worktree))
        iteration.write(iteration.paths.launch_script, script)
        counts = _counts(iteration)
        state = {"last_run_id": run_id, "sync_status": "ok"}
        if measured.manifest is not None and measured.manifest.status == "failed":
            queue_failed_run(iteration, measured.manifest)
        match measured.ending:
            case measurement.Ending.PAUSED:
                if not self.deadline.is_over():
                    return None
                return StageResult(StageOutcome.STOP, f"budget: wall_hours: {self.deadline.hours:g} are over", counts)
            case measurement.Ending.DONE:
                return StageResult(StageOutcome.COMPLETE, "", counts, state)
            case measurement.Ending.CODE:
                return StageResult(StageOutcome.SEND_BACK, f"{measured.run_id}: {measured.reason}", counts, state)
            case measurement.Ending.SYNC:
                return StageResult(StageOutcome.RETRY, measured.reason, counts, state | {"sync_status": "failed"})
            case measurement.Ending.INFRASTRUCTURE:
                return StageResult(StageOutcome.RETRY, measured.reason, counts, state | {"sync_status": "pending"})
            case measurement.Ending.BASELINE:
                reason = f"{measured.run_id}: the baseline itself fails, which no candidate can fix: {measured.reason}"
                return StageResult(StageOutcome.ESCALATE, reason, counts, state)
            case measurement.Ending.TAMPERED:
                return StageResult(StageOutcome.ESCALATE, f"{measured.run_id}: {measured.reason}", counts, state)

    def measure(self, spec: RunSpec) -> measurement.Measured:
        """Bring a run to an end, or pause it when the user asks to stop or the time is over."""
        lab, observer = self.iteration.lab, RunObserver(self.view, lambda: self.stop() or self.deadline.is_over())
        return measurement.measure(source_of(lab), self.iteration.config, spec, self.record(), observer)

    def record(self) -> RunRecord:
        iteration = self.iteration
        return record_of(iteration.lab, iteration.iteration_id, iteration.events(), iteration.acted)

    def run_spec(self, trials_left: int | None = None) -> RunSpec:
        """The search of the design, within `trials_left` trials."""
        iteration, config, lab = self.iteration, self.iteration.config, self.iteration.lab
        commit, design = iteration.candidate() or "", iteration.design()
        base_tree = lab.git.tree(iteration.base_commit)

        def plan(inputs: TrialInputs) -> Plan:
            whole = plan_design(design, config, iteration.hypothesis(), lab.secret, inputs.protocol, base_tree)
            return plan_within(whole, trials_left) or whole

        return RunSpec(
            kind=RunKind.SEARCH,
            plan=plan,
            command=job.train_command(design, config),
            commits=code_commits(iteration.base_commit, commit),
            design_sha256=files.sha256_of(design.to_yaml()),
            checks=review.recorded_checks(iteration.events(), commit)["checks"],
        )


def _trials_left(iteration: Iteration, kind: RunKind) -> int | None:
    """Trials that the budget allows the run of this kind, from its first on: the same at each look at it."""
    config, campaign, calibration = iteration.config, iteration.campaign, iteration.calibration()
    trial_seconds = calibration.seconds if calibration else None
    by_gpu_hours = budget.trials_left(config.budget, campaign, config.train.gpus, trial_seconds)
    by_count = None if config.budget.trials is None else config.budget.trials - campaign.trials
    caps = [cap for cap in (by_count, by_gpu_hours) if cap is not None]
    if not caps:
        return None
    acted = iteration.acted
    events = lines_of(iteration.events(), [kind])
    over = {line.data["run_id"] for line in events if line.event == "run_ended" and line.n < acted}
    begun = {line.data["run_id"] for line in events if line.event == "run_started" and line.data["kind"] == kind}
    under_way = begun - over
    trials = [line for line in events if line.event == "trial" and line.data["trial"]["reused_from"] is None]
    counted = sum(line.data["run_id"] in under_way and line.n < acted for line in trials)
    others = sum(line.data["run_id"] not in under_way and line.n > acted for line in trials)
    return min(caps) - others + counted


def _short(cap: Budget, wanted: int, left: int | None) -> str:
    allowed = [f"budget.{name} {value:g}" for name in ("trials", "gpu_hours") if (value := getattr(cap, name))]
    return f"trials: {wanted} wanted, {left} left by {' and '.join(allowed)}"


def _counts(iteration: Iteration) -> dict[str, object]:
    """The campaign's counts with the trials brought to an end since the newest transition: the same after a crash."""
    gpus = iteration.config.train.gpus
    return count_trials(iteration.events(), RunKind.SEARCH, iteration.acted, iteration.campaign, gpus)


def _script(command: str, config: Config, folder: str) -> str:
    """`launch/run_local.sh`: one trial of the candidate by hand, for a user who wants to look."""
    data = f'export AUTOLAB_DATA="$PWD/{config.data}"\n' if config.data else ""
    return (
        "#!/bin/sh\n# One training of this candidate by hand, outside of the record; from the lab's folder.\nset -eu\n"
        f'export AUTOLAB_SEED="${{AUTOLAB_SEED:-0}}" AUTOLAB_TRIAL_DIR="$(mktemp -d)"\n{data}'
        'export AUTOLAB_CONFIG="$AUTOLAB_TRIAL_DIR/config.json"\necho "{}" > "$AUTOLAB_CONFIG"\n'
        f'echo "files go to $AUTOLAB_TRIAL_DIR"\ncd "{folder}"\nexec {command}\n'
    )
