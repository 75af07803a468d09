"""Run a run again, from its manifest alone: the same commits, seeds, settings, commands and limits.

Code and data are exported anew into a folder of its own, and no earlier trial is reused. The result is identical to the
byte, or within the noise of the lab, or different. A champion whose confirmation comes out different is retracted, and
with it what was built on it. So is a champion that was kept in another protocol and does not hold in this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from autolab import files
from autolab.errors import LabError, RecordError, UsageError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, Champion, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Reproduced, Transition, read
from autolab.lab.schemas.experiment import Manifest, Repeated, Reproduction, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import rules
from autolab.stats.plan import BASE, CANDIDATE, Plan, reconfirmation_plan, reproduction_plan
from autolab.stats.scores import Scale
from autolab.trials import calibration, champion, measurement
from autolab.trials.inputs import TrialInputs, set_up
from autolab.trials.lab_inputs import record_of, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunSpec, count_trials


def find_run(lab: Lab, name: str) -> Path:
    """The manifest of `<iteration>/<run>`; LabError unless exactly one run fits.

    The iteration may be left out, or be a part of its id: of `..._h1` and `..._h12` the part `h1` means the first.
    """
    iteration, _, run_id = name.rpartition("/")
    # Checked first: the words come from a command line, and `..` or `*` would look anywhere.
    for part in (iteration, run_id):
        if part and not part.replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"reproduce: {part!r} is no id of an iteration or run")
    paths = sorted((lab.root / "experiments").glob(f"*{iteration}*/runs/{run_id}/run_manifest.json"))
    whole_words = [path for path in paths if iteration in path.parts[-4].split("_")]
    paths = whole_words or paths
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise LabError(f"{name}: no such run in experiments/; name one as <iteration>/run_0001")
    choices = ", ".join(f"{path.parts[-4]}/{run_id}" for path in paths[:3])
    if len(paths) > 3:
        choices += " ..."
    raise LabError(f"{name}: {len(paths)} runs have this name: {choices}; name one of them")


def reproduce_run(
    lab: Lab, config: Config, manifest: Manifest, only: Sequence[str], tell: View, stop: Callable[[], bool]
) -> Reproduction | None:
    """Run the completed trials of `manifest` again, or those of them named in `only`; None if the user asked to stop.

    LabError: a commit, data or evaluator is not there as it was, or a trial fails that had completed.
    """
    trials = _chosen(manifest, only)
    state, _ = lab.load()
    # The commands, limits and data of that time; everything else, as the executor, is today's.
    limit_of_today = config.train.time_limit_s
    config = Config.from_value(config.value() | manifest.lab, "run_manifest.json: lab")
    # A limit that followed from a calibration is too short on a slower machine: the user may set another.
    if config.train.time_limit_s is None and limit_of_today is not None:
        train = config.train.model_copy(update={"time_limit_s": limit_of_today})
        config = config.model_copy(update={"train": train})
    commits = _commits(lab, manifest)
    # Not the exports of the lab: one that was damaged there must not be reproduced.
    exports = lab.store / "reproduce"
    differs = _differences(manifest, set_up(source_of(lab, exports), config, commits))
    name = f"{manifest.iteration_id}/{manifest.run_id}"
    tell(f"reproducing {name}: {len(trials)} trials in fresh exports of its commits")
    plan = reproduction_plan(manifest, trials)
    rerun, campaign = _run_again(lab, config, manifest, plan, RunObserver(tell, stop), exports)
    if rerun is None:
        return None
    reproduction = _compare(lab, manifest, trials, rerun, differs)
    folder = lab.iteration(manifest.iteration_id).run(rerun.run_id).folder
    files.write_whole(folder / "reproduction.json", reproduction.to_json())
    # A difference within the noise says nothing against a champion.
    fallen: tuple[Champion, ...] = ()
    if reproduction.standing == "different":
        campaign, fallen = champion.fallen(campaign, manifest)
    _conclude(lab, state, campaign, name, reproduction.standing, fallen, tell)
    remove_tree(exports)
    return reproduction


def renew(lab: Lab, config: Config, base: str, protocol: str, tell: View, stop: Callable[[], bool]) -> bool:
    """Confirm the champion again if `base` is one that was kept in another protocol; retract it if it does not hold.

    If the user has committed an evaluator since, their commit is the base: then nothing is claimed of the champion.
    False if the user asked to stop. LabError: its confirmation cannot be measured.
    """
    state, campaign = lab.load()
    newest = campaign.champions[-1] if campaign.champions else None
    if newest is None or newest.protocol == protocol or newest.commit != base:
        return True
    path = lab.iteration(newest.iteration_id).run(newest.run_id).manifest
    manifest = Manifest.load(path, str(path.relative_to(lab.root)))
    tell(f"the champion {newest.commit[:12]} was kept in another protocol: confirming it again")
    plan = reconfirmation_plan(manifest)
    rerun, campaign = _run_again(lab, config, manifest, plan, RunObserver(tell, stop))
    if rerun is None:
        return False
    name = f"{newest.iteration_id}/{newest.run_id}"
    if [comparison.verdict for comparison in rerun.comparisons] == [Verdict.SUPPORTED]:
        renewed = newest.model_copy(update={"protocol": protocol, "run_id": rerun.run_id})
        campaign = campaign.model_copy(update={"champions": (*campaign.champions[:-1], renewed)})
        _conclude(lab, state, campaign, name, "kept", (), tell)
        tell(f"the champion {newest.commit[:12]} holds in this protocol too")
        return True
    campaign, fallen = champion.retract(campaign, newest.commit)
    _conclude(lab, state, campaign, name, "retracted", fallen, tell)
    tell(f"the champion {newest.commit[:12]} does not hold any more")
    # What it stood on is of another protocol too, if it is a champion.
    return renew(lab, config, newest.parent, protocol, tell, stop)


def _run_again(
    lab: Lab, config: Config, manifest: Manifest, plan: Plan, observer: RunObserver, exports: Path | None = None
) -> tuple[Manifest | None, Campaign]:
    """Measure `plan` with the commits and the command of `manifest`.

    Returns the new manifest (None if the user asked to stop), and the campaign with its trials counted.
    LabError: the trials cannot be run or brought here.
    """
    campaign = lab.load()[1]
    lines = list(lab.ledger.lines(campaign.iteration_offset))
    # A reproduction that no transition followed was interrupted, and goes on.
    acted = 0
    for line in lines:
        if line.event == Transition.KIND and read(line, Transition).why == "reproduced":
            acted = line.n
    commits = _commits(lab, manifest)
    spec = RunSpec(RunKind.REPRODUCE, lambda _: plan, manifest.command, commits, time_limit=manifest.time_limit)
    record = record_of(lab, manifest.iteration_id, lines, acted)
    measured = measurement.measure(source_of(lab, exports), config, spec, record, observer)
    if measured.manifest is None and measured.ending is not measurement.Ending.PAUSED:
        raise LabError(f"{manifest.iteration_id}/{measured.run_id}: {measured.reason}; run it again")
    new_lines = lab.ledger.lines(campaign.iteration_offset)
    counts = count_trials(new_lines, RunKind.REPRODUCE, acted, campaign, config.train.gpus)
    return measured.manifest, campaign.model_copy(update=counts)


def _conclude(
    lab: Lab, state: State, campaign: Campaign, of: str, standing: str, fallen: Sequence[Champion], tell: View
) -> None:
    """Record the result with the champions that fell, then tell the user and move the branch."""
    reproduced = Reproduced(of=of, standing=standing, retracted=tuple(retracted.commit for retracted in fallen))
    lab.transition(state, campaign, why="reproduced", reproduced=reproduced, log=lab.last_log())
    crash_points.point("reproduce.after_record")
    for retracted in fallen:
        name = f"{retracted.commit[:12]} of {retracted.iteration_id}"
        tell(f"retracted: {name}: it, or what it was built on, does not hold")
    champion.show(lab, campaign, fallen)


def _chosen(manifest: Manifest, only: Sequence[str]) -> list[Trial]:
    run_id, completed = manifest.run_id, {}
    for trial in manifest.trials:
        if trial.outcome is TrialOutcome.COMPLETED:
            completed[trial.trial] = trial
    for name in only:
        if name not in completed:
            raise LabError(f"--trial: {name} is not a completed trial of {run_id}: {', '.join(completed)}")
    if not completed:
        raise LabError(f"{run_id} has no completed trial to reproduce")
    return [completed[name] for name in only or completed]


def _commits(lab: Lab, manifest: Manifest) -> dict[str, str]:
    """The commits of a run, by the name of the code: base and candidate, and those that its arms name."""
    git = manifest.git
    recorded = {BASE: git.base_commit, CANDIDATE: git.candidate_commit}
    for arm in manifest.arms:
        if arm.code not in recorded:
            recorded[arm.code] = arm.commit
    commits = {name: commit for name, commit in recorded.items() if commit is not None}
    if not manifest.lab or not commits.keys() >= {BASE, *(arm.code for arm in manifest.arms)}:
        raise RecordError("run_manifest.json: git, arms or lab: does not say what ran; such a run cannot be reproduced")
    for commit in commits.values():
        if lab.git.resolve(commit) is None:
            raise LabError(f"commit {commit[:12]} of {manifest.run_id} is not in this repository any more; fetch it")
    return commits


def _differences(manifest: Manifest, inputs: TrialInputs) -> tuple[str, ...]:
    """What has changed in the environment. LabError: evaluator or data have, and the numbers would not compare."""
    run_id, evaluator, new_evaluator = manifest.run_id, "", inputs.evaluator_sha256
    if manifest.evaluator is not None:
        evaluator = manifest.evaluator.sha256
    if evaluator != new_evaluator:
        raise LabError(f"evaluator: {new_evaluator[:12]} is not the one of {run_id}, {evaluator[:12]}")
    for split, sha256 in (manifest.data or {}).items():
        if inputs.data_sha256.get(split) != sha256:
            raise LabError(f"data: the {split} split is not the one of {run_id}; put those files back")
    before, now = manifest.environment, inputs.interpreter.environment
    differences: list[str] = []
    # Reported and not refused: packages change, and the numbers show whether it matters.
    if before is not None:
        if before.version != now.version:
            differences.append(f"Python {now.version}, was {before.version}")
        if before.packages_sha256 != now.packages_sha256:
            differences.append("other packages are installed than then")
    return tuple(differences)


def _compare(
    lab: Lab, manifest: Manifest, trials: Sequence[Trial], rerun: Manifest, differs: tuple[str, ...]
) -> Reproduction:
    assert manifest.metric is not None
    noise, source = _noise(lab, manifest)
    new_trials = {trial.trial: trial for trial in rerun.trials}
    repeated = []
    for trial in trials:
        repeated.append(_repeated(trial, new_trials.get(trial.trial), manifest, noise))
    return Reproduction(
        of=manifest.run_id,
        run_id=rerun.run_id,
        metric=manifest.metric,
        noise=noise,
        noise_of=source,
        trials=tuple(repeated),
        standing=_standing(repeated, noise),
        differs=differs,
    )


def _standing(repeated: Sequence[Repeated], noise: float | None) -> Standing:
    """That of the worst trial; `different` too if each is within its bound and their mean is not."""
    # Noise has no direction: trials that all move one way show a change that each of them hides.
    differences = [trial.now - trial.was for trial in repeated if trial.now is not None]
    if noise is not None and differences:
        mean = math.fsum(differences) / len(differences)
        # Three standard errors; the variance of a difference of two trials is twice that of one.
        if abs(mean) > 3 * noise * math.sqrt(2 / len(repeated)):
            return "different"
    standings = {trial.standing for trial in repeated}
    if "different" in standings:
        return "different"
    return "within_noise" if "within_noise" in standings else "identical"


def _noise(lab: Lab, manifest: Manifest) -> tuple[float | None, str]:
    """The deviation from seed to seed: the calibration's if it is of the run's protocol, else the own baseline's."""
    newest = calibration.current_calibration(lab)
    if newest is not None and (newest.protocol, newest.metric) == (manifest.protocol, manifest.metric):
        return newest.deviation, f"calibration {newest.run_id}"
    baselines = {arm.name for arm in manifest.arms if arm.role == "baseline"}
    scores = []
    for trial in manifest.trials:
        if trial.arm in baselines and trial.outcome is TrialOutcome.COMPLETED:
            scores.append(_score(trial, manifest))
    if len(scores) < 2:
        return None, "none: too few trials of a baseline"
    return rules.mean_and_deviation(scores)[1], f"the baseline of {manifest.run_id}"


def _score(trial: Trial, manifest: Manifest) -> float:
    """The metric as it was compared: cut at the run's bound."""
    score = Scale.of(manifest).score(trial)
    if score is None:
        raise RecordError(f"run_manifest.json: trial {trial.trial}: {manifest.metric} was not measured")
    return score


def _repeated(was: Trial, now: Trial | None, manifest: Manifest, noise: float | None) -> Repeated:
    before, after = _score(was, manifest), None
    standing: Standing = "different"
    if now is not None and now.outcome is TrialOutcome.COMPLETED:
        after = _score(now, manifest)
        # Equal scores of unequal predictions are a coincidence of the metric.
        if was.predictions_sha256 == now.predictions_sha256 and before == after:
            standing = "identical"
        # Three deviations of a difference between two trials.
        elif noise is not None and abs(after - before) <= 3 * math.sqrt(2) * noise:
            standing = "within_noise"
    return Repeated(trial=was.trial, was=before, now=after, standing=standing)


Standing = Literal["identical", "within_noise", "different"]
SENTENCES: dict[Standing, str] = {
    "identical": "identical: every trial gave the same, to the byte",
    "within_noise": "within the noise: the numbers moved no more than another seed would move them",
    "different": "DIFFERENT: the numbers moved by more than noise explains; do not build on this run",
}


def reproduction_text(reproduction: Reproduction) -> list[str]:
    """What a user reads of it."""
    lines = [SENTENCES[reproduction.standing], f"{'trial':<24} {'was':<14} {'now':<14}"]
    for trial in reproduction.trials:
        now = "failed"
        if trial.now is not None:
            now = f"{trial.now:<14.8g}"
        lines.append(f"{trial.trial:<24} {trial.was:<14.8g} {now} {trial.standing}")
    for difference in reproduction.differs:
        lines.append(f"note: {difference}")
    noise = "unknown"
    if reproduction.noise is not None:
        noise = f"{reproduction.noise:.3g}"
    lines.append(f"noise {noise} in {reproduction.metric} ({reproduction.noise_of})")
    return lines
