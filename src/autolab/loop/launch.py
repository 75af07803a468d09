"""Stage launch: measure the reviewed commit, and confirm what the search supports. Engine code alone."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from autolab import files
from autolab.lab import budget
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.config import SEED, Budget, Config
from autolab.lab.schemas.events import RunEnded, RunStarted, TrialEnded, read
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import Gear, RunKind
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


def run(launch: LaunchStep) -> StageResult | None:
    """Measure what the gate lets pass; None if the user asked to stop before the run was judged."""
    iteration, view = launch.iteration, launch.view
    forbidden = review.gate(iteration)
    if forbidden:
        return StageResult(StageOutcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    design.fix_bound(iteration)
    caps = iteration.config.budget
    trials_left = trials_left_for(iteration, RunKind.SEARCH)
    # Only its size is needed here, which does not depend on the seeds.
    plan = plan_design(iteration.design(), iteration.config, iteration.hypothesis(), b"", "", "")
    cap = budget.spent_within(caps, iteration.campaign)
    if not cap and plan_within(plan, trials_left) is None:
        cap = too_few(caps, len(planned_cells(plan)), trials_left)
    if cap:
        return StageResult(StageOutcome.STOP, f"budget: {cap}")
    search = launch.measure(launch.run_spec(trials_left))
    manifest = search.manifest
    if search.ending is not measurement.Ending.DONE:
        return launch.result(search, search.run_id)
    assert manifest is not None
    # A user may have cleaned the checkout while trials ran.
    iteration.restore(view)
    supported = supported_variant(manifest, iteration.design(), iteration.hypothesis())
    if supported is None:
        return launch.result(search, search.run_id)
    plan, variant = supported
    return launch.confirm(manifest, plan, variant)


@dataclass(frozen=True)
class LaunchStep:
    """The runs of one step at this stage: a search with its confirmation, a batch, or a claim."""

    iteration: Iteration
    view: View
    stop: Callable[[], bool]
    deadline: Deadline

    def confirm(self, search: Manifest, plan: Plan, variant: str) -> StageResult | None:
        """Measure a supported variant again on fresh seeds. The claim counts in the campaign whatever comes of it."""
        iteration, config = self.iteration, self.iteration.config
        trials_left = trials_left_for(iteration, RunKind.CONFIRM)
        pairs = confirmation_pairs(plan, config)
        confirmation = self._confirmation_plan(plan, variant, pairs, trials_left)
        # Luck may have made the search short: as many pairs again may decide nothing.
        searched_pairs = max(comparison.pairs or 0 for comparison in search.comparisons)
        if confirmation is None or len(confirmation.seeds) < min(2 * searched_pairs, pairs):
            self.view(f"{variant} is supported, and not confirmed: the budget ends here")
            cap = too_few(config.budget, 2 * pairs, trials_left)
            return StageResult(StageOutcome.STOP, f"budget: {cap}", _counts(iteration))
        self.view(
            f"{variant} is supported: measured again on fresh seeds, beside a fresh baseline, over at most"
            f" {len(confirmation.seeds)} pairs"
        )
        manifest_path = iteration.paths.run(search.run_id).manifest
        manifest_text = manifest_path.read_text(encoding="utf-8")
        spec = dataclasses.replace(self.run_spec(), plan=lambda _: confirmation, kind=RunKind.CONFIRM)
        run = self.measure(spec)
        # `restore` cannot bring it back yet: no recorded commit holds the manifest of this step's search.
        files.write_whole(manifest_path, manifest_text)
        if run.ending is not measurement.Ending.DONE:
            return self.result(run, search.run_id)
        confirm = run.manifest
        assert confirm is not None
        iteration.restore(self.view)
        claims = self._count_claim(search, confirm, spec, variant)
        result = self.result(run, search.run_id)
        assert result is not None
        return dataclasses.replace(result, campaign=result.campaign | {"claims": claims})

    def _confirmation_plan(self, plan: Plan, variant: str, pairs: int, trials_left: int | None) -> Plan | None:
        """The plan of the variant's confirmation on fresh seeds; None if the budget allows no pair."""
        iteration, config, lab = self.iteration, self.iteration.config, self.iteration.lab
        # The seeds depend on the code's tree, so that submitting the same code again draws no new luck.
        tree = lab.git.tree(iteration.candidate() or "")
        seeds = confirmation_seeds(lab.secret, tree, pairs)
        rule = confirmation_rule(config, plan.rule or config.test.stopping_rule, iteration.campaign.claims)
        return plan_confirmation(plan, variant, rule, seeds, trials_left)

    def _count_claim(self, search: Manifest, confirm: Manifest, spec: RunSpec, variant: str) -> Claims:
        """Conclude the confirmation, on the holdout too if that is due, and return the claims with this one."""
        iteration, config, claims = self.iteration, self.iteration.config, self.iteration.campaign.claims
        design = iteration.design()
        passed = supported_variant(confirm, design, iteration.hypothesis()) is not None
        # Both runs are looked at: what is too good in one of them is too good.
        doubts = suspicion.reasons((search, confirm), design, iteration.calibration(), variant)
        question = HoldoutQuestion(
            record=self.record(),
            confirm=confirm,
            claims=claims,
            allowed=config.test.holdout_questions,
            inputs=lambda: set_up(source_of(iteration.lab), config, spec.commits),
            tell=self.view,
        )
        confirmation = conclude(question, search, passed, doubts)
        return count_claim(claims, confirmation, confirm.protocol)

    def result(self, run: measurement.Measured, run_id: str) -> StageResult | None:
        """The stage's result after a run has ended; None if it was paused. The next stage reads the run `run_id`."""
        iteration = self.iteration
        iteration.restore(self.view)
        # A batch has several candidates, each on a branch of its own.
        if iteration.campaign.gear is not Gear.SCREEN:
            self._write_script()
        if run.manifest is not None and run.manifest.status == "failed":
            queue_failed_run(iteration, run.manifest)
        counts = _counts(iteration)
        outcome, sync_status = StageOutcome.ESCALATE, "ok"
        reason = f"{run.run_id}: {run.reason}"
        match run.ending:
            case measurement.Ending.PAUSED:
                if not self.deadline.is_over():
                    return None
                reason = f"budget: wall_hours: {self.deadline.hours:g} are over"
                return StageResult(StageOutcome.STOP, reason, counts)
            case measurement.Ending.DONE:
                outcome, reason = StageOutcome.COMPLETE, ""
            case measurement.Ending.CODE:
                outcome = StageOutcome.SEND_BACK
            case measurement.Ending.SYNC:
                outcome, reason, sync_status = StageOutcome.RETRY, run.reason, "failed"
            case measurement.Ending.INFRASTRUCTURE:
                outcome, reason, sync_status = StageOutcome.RETRY, run.reason, "pending"
            case measurement.Ending.BASELINE:
                reason = f"{run.run_id}: the baseline itself fails, which no candidate can fix: {run.reason}"
            case measurement.Ending.TAMPERED:
                # Another attempt would give a cheating candidate another chance, so a user looks first.
                pass
        state = {"last_run_id": run_id, "sync_status": sync_status}
        return StageResult(outcome, reason, counts, state)

    def _write_script(self) -> None:
        iteration, config = self.iteration, self.iteration.config
        command = job.train_command(iteration.design(), config)
        line = _shell_line(command, iteration.lab.python(config))
        folder = iteration.relative(iteration.worktree)
        iteration.write(iteration.paths.launch_script, _script(line, config, folder))

    def measure(self, spec: RunSpec) -> measurement.Measured:
        """Bring a run to an end, or pause it when the user asks to stop or the time is over."""
        observer = RunObserver(self.view, lambda: self.stop() or self.deadline.is_over())
        source = source_of(self.iteration.lab)
        return measurement.measure(source, self.iteration.config, spec, self.record(), observer)

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

        verdict, calibration = review.recorded_checks(iteration.events(), commit), iteration.calibration()
        slowest_s = calibration.slowest_seconds if calibration else None
        return RunSpec(
            kind=RunKind.SEARCH,
            plan=plan,
            command=job.train_command(design, config),
            commits=code_commits(iteration.base_commit, commit),
            design_sha256=files.sha256_of(design.to_yaml()),
            checks=verdict.checks if verdict else {},
            time_limit=config.train.time_limit(slowest_s),
        )


def trials_left_for(iteration: Iteration, kind: RunKind) -> int | None:
    """Trials that the budget allows the run of this kind, counted from its first on; None: it caps none.

    The same at each look at the run, also after a crash: the plan is made anew then, and must be the one that began.
    """
    trials_left = _trials_left_by_caps(iteration)
    if trials_left is None:
        return None
    acted = iteration.acted
    lines = lines_of(iteration.events(), [kind])
    runs_under_way = set()
    for line in lines:
        if line.event == RunStarted.KIND:
            run = read(line, RunStarted)
            if run.kind is kind:
                runs_under_way.add(run.run_id)
        elif line.event == RunEnded.KIND and line.n < acted:
            runs_under_way.discard(read(line, RunEnded).run_id)
    for line in lines:
        if line.event != TrialEnded.KIND:
            continue
        ending = read(line, TrialEnded)
        # A reused trial cost nothing, here and in the campaign's count.
        if ending.trial.reused_from is not None:
            continue
        # The campaign counts trials up to line `acted`: also those of this run, and not yet those of the other runs.
        is_counted, is_of_this_run = line.n < acted, ending.run_id in runs_under_way
        if is_of_this_run and is_counted:
            trials_left += 1
        elif not is_of_this_run and not is_counted:
            trials_left -= 1
    return trials_left


def _trials_left_by_caps(iteration: Iteration) -> int | None:
    """Trials that the budget allows beyond those that the campaign has counted; None: it caps none."""
    config, campaign, calibration = iteration.config, iteration.campaign, iteration.calibration()
    trial_seconds = calibration.seconds if calibration else None
    # Time goes by between two looks at a run; and below 0 the trials of this run still have to be added.
    caps = config.budget.model_copy(update={"wall_hours": None, "trials": None})
    trials_left = budget.trials_left(caps, campaign, config.train.gpus, trial_seconds)
    if config.budget.trials is None:
        return trials_left
    uncounted = config.budget.trials - campaign.trials
    if trials_left is None:
        return uncounted
    return min(trials_left, uncounted)


def too_few(caps: Budget, needed: int, left: int | None) -> str:
    """Which caps leave too few trials for a run that needs `needed`."""
    names = []
    if caps.trials:
        names.append(f"budget.trials {caps.trials}")
    if caps.gpu_hours:
        names.append(f"budget.gpu_hours {caps.gpu_hours:g}")
    return f"trials: {needed} wanted, {left} left by {' and '.join(names)}"


def _counts(iteration: Iteration) -> dict[str, object]:
    """The campaign's counts with the trials that ended since the last stage's outcome: the same after a crash."""
    gpus = iteration.config.train.gpus
    return count_trials(iteration.events(), RunKind.SEARCH, iteration.acted, iteration.campaign, gpus)


def _shell_line(command: str, python: str) -> str:
    """The command line for a shell, the variable AUTOLAB_SEED in the place of `{seed}`."""
    words = job.argv_of(command, python, SEED)
    # A word with braces is always quoted: the quotes end before the variable and begin again after it.
    return shlex.join(words).replace(SEED, "'\"$AUTOLAB_SEED\"'")


def _script(command: str, config: Config, folder: str) -> str:
    """`launch/run_local.sh`: one trial of the candidate by hand, for a user who wants to look."""
    data = ""
    for entry in config.data_entries[:1]:
        name = entry.path if entry.lies_outside else f"$PWD/{entry.path}"
        # A shell puts the home for a tilde only outside of quotes.
        data = f'export AUTOLAB_DATA="{name.replace("~", "$HOME", 1) if name.startswith("~") else name}"\n'
    return (
        "#!/bin/sh\n# One training of this candidate by hand, outside of the record; from the lab's folder.\nset -eu\n"
        f'export AUTOLAB_SEED="${{AUTOLAB_SEED:-0}}" AUTOLAB_TRIAL_DIR="$(mktemp -d)"\n{data}'
        'export AUTOLAB_CONFIG="$AUTOLAB_TRIAL_DIR/config.json"\necho "{}" > "$AUTOLAB_CONFIG"\n'
        f'echo "files go to $AUTOLAB_TRIAL_DIR"\ncd "{folder}"\nexec {command}\n'
    )
