"""A run once more, from its manifest alone: the same commits, seeds, settings, commands and limits.

Code and data are exported anew into a folder of its own; nothing that is known of a trial is taken over. What comes out
is identical to the byte, or within the noise of the lab, or different. A champion whose confirmation comes out
different is retracted, and with it what was built on it. So is one that was kept in another protocol and does not hold
in this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from autolab import files
from autolab.errors import LabError, RecordError, UsageError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, Champion, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Reproduced
from autolab.lab.schemas.experiment import Manifest, Repeated, Reproduction, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import rules
from autolab.stats.plan import BASE, CANDIDATE, Plan, reconfirmation_plan, reproduction_plan
from autolab.stats.scores import Scale
from autolab.trials import calibration, champion, measurement
from autolab.trials.inputs import TrialInputs
from autolab.trials.lab_inputs import code_commits, inputs_of, record_of, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunRecord, RunSpec, count_trials


def find_run(lab: Lab, name: str) -> Path:
    """The manifest of `<iteration>/<run>`, the iteration shortened or left out where that is unique; else LabError."""
    wanted, _, run_id = name.rpartition("/")
    found = sorted((lab.root / "experiments").glob(f"{_plain(wanted)}*/runs/{_plain(run_id)}/run_manifest.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise LabError(f"{name}: no such run in experiments/; name one as <iteration>/run_0001")
    known = ", ".join(f"{path.parts[-4]}/{run_id}" for path in found[:3])
    raise LabError(f"{name}: {len(found)} runs are called so: {known}{' ...' if len(found) > 3 else ''}; say which")


def _plain(word: str) -> str:
    if not word.replace("_", "").replace("-", "").isalnum() and word:
        raise UsageError(f"reproduce: {word!r} is no id of an iteration or run")
    return word


def reproduce_run(
    lab: Lab, config: Config, manifest: Manifest, only: Sequence[str], tell: View, stop: Callable[[], bool]
) -> Reproduction | None:
    """Run the completed trials of `manifest` again, or those of them named in `only`; None if asked to stop.

    LabError: a commit, data or evaluator is not there as it was, or a trial fails that had completed.
    """
    trials = _chosen(manifest, only)
    state, campaign = lab.load()
    config = Config.from_value(config.value() | manifest.lab, "run_manifest.json: lab")
    base, candidate = _commits(lab, manifest)
    place = lab.store / "reproduce"
    differs = _differences(manifest, inputs_of(lab, config, base, candidate, place))
    tell(f"reproducing {manifest.iteration_id}/{manifest.run_id}: {len(trials)} trials in fresh exports of its commits")
    spec, record = _spec(lab, manifest, reproduction_plan(manifest, trials)), _record(lab, manifest)
    measured = measurement.measure(source_of(lab, place), config, spec, record, RunObserver(tell, stop))
    if measured.ending is measurement.Ending.PAUSED:
        return None
    if measured.manifest is None:
        raise LabError(f"reproduce: {measured.run_id}: {measured.reason}; run it again")
    found = _compare(lab, config, manifest, trials, measured.manifest, differs)
    folder = lab.iteration(manifest.iteration_id).run(found.run_id).folder
    files.write_whole(folder / "reproduction.json", found.to_json())
    counted = _counted(lab, config, campaign, record.acted)
    counted, fallen = champion.fallen(counted, manifest) if found.standing == "different" else (counted, ())
    _conclude(lab, state, counted, f"{manifest.iteration_id}/{manifest.run_id}", found.standing, fallen, tell)
    remove_tree(place)
    return found


def renew(lab: Lab, config: Config, base: str, protocol: str, tell: View, stop: Callable[[], bool]) -> bool:
    """Confirm the champion again where `base` is one that was kept in another protocol; retracted if it does not hold.

    An evaluator that the user has committed since makes their commit the base: then nothing is claimed of the
    champion. False if the user asked to stop. LabError: its confirmation cannot be measured.
    """
    state, campaign = lab.load()
    newest = campaign.champions[-1] if campaign.champions else None
    if newest is None or newest.protocol == protocol or newest.commit != base:
        return True
    path = lab.iteration(newest.iteration_id).run(newest.run_id).manifest
    manifest = Manifest.load(path, str(path.relative_to(lab.root)))
    tell(f"the champion {newest.commit[:12]} was kept in another protocol: confirmed anew")
    spec, record = _spec(lab, manifest, reconfirmation_plan(manifest)), _record(lab, manifest)
    measured = measurement.measure(source_of(lab), config, spec, record, RunObserver(tell, stop))
    if measured.ending is measurement.Ending.PAUSED:
        return False
    if measured.manifest is None:
        raise LabError(f"confirmation of the champion: {measured.run_id}: {measured.reason}; run it again")
    verdicts = [one.verdict for one in measured.manifest.comparisons]
    counted = _counted(lab, config, campaign, record.acted)
    fallen: tuple[Champion, ...] = ()
    if verdicts == [Verdict.SUPPORTED]:
        held = newest.model_copy(update={"protocol": protocol, "run_id": measured.run_id})
        counted = counted.model_copy(update={"champions": (*campaign.champions[:-1], held)})
    else:
        counted, fallen = champion.retract(counted, newest.commit)
    standing = "kept" if not fallen else "retracted"
    _conclude(lab, state, counted, f"{newest.iteration_id}/{newest.run_id}", standing, fallen, tell)
    tell(
        f"the champion {newest.commit[:12]} {'holds in this protocol too' if not fallen else 'does not hold any more'}"
    )
    # What it stood on is of another protocol too, if it is a champion.
    return not fallen or renew(lab, config, newest.parent, protocol, tell, stop)


def _spec(lab: Lab, manifest: Manifest, plan: Plan) -> RunSpec:
    return RunSpec(RunKind.REPRODUCE, lambda _: plan, manifest.command, code_commits(*_commits(lab, manifest)))


def _record(lab: Lab, manifest: Manifest) -> RunRecord:
    events = list(lab.ledger.lines(lab.load()[1].iteration_offset))
    acted = max((line.n for line in events if line.data.get("why") == "reproduced"), default=0)
    return record_of(lab, manifest.iteration_id, events, acted)


def _counted(lab: Lab, config: Config, campaign: Campaign, acted: int) -> Campaign:
    lines = lab.ledger.lines(campaign.iteration_offset)
    return campaign.model_copy(update=count_trials(lines, RunKind.REPRODUCE, acted, campaign, config.train.gpus))


def _conclude(
    lab: Lab, state: State, campaign: Campaign, of: str, standing: str, fallen: Sequence[Champion], tell: View
) -> None:
    reproduced = Reproduced(of=of, standing=standing, retracted=tuple(one.commit for one in fallen))
    lab.transition(state, campaign, why="reproduced", reproduced=reproduced, log=lab.last_log())
    crash_points.point("reproduce.after_record")
    for one in fallen:
        tell(f"retracted: {one.commit[:12]} of {one.iteration_id}: it, or what it stood on, does not hold")
    champion.show(lab, campaign, fallen)


def _chosen(manifest: Manifest, only: Sequence[str]) -> list[Trial]:
    done = {trial.trial: trial for trial in manifest.trials if trial.outcome is TrialOutcome.COMPLETED}
    unknown = [name for name in only if name not in done]
    if unknown:
        raise LabError(f"--trial: {unknown[0]} is not a completed trial of {manifest.run_id}: {', '.join(done)}")
    if not done:
        raise LabError(f"{manifest.run_id} has no completed trial to reproduce")
    return [done[name] for name in only or done]


def _commits(lab: Lab, manifest: Manifest) -> tuple[str, str]:
    base, candidate = manifest.git.base_commit, manifest.git.candidate_commit
    if base is None or candidate is None or not manifest.lab:
        raise RecordError("run_manifest.json: git or lab: does not say what ran; such a run cannot be reproduced")
    for arm in manifest.arms:
        if arm.code not in (BASE, CANDIDATE):
            raise RecordError(f"run_manifest.json: arms: {arm.name}: code: {arm.code!r} is neither base nor candidate")
    for commit in (base, candidate):
        if lab.git.resolve(commit) is None:
            raise LabError(f"commit {commit[:12]} of {manifest.run_id} is not in this repository any more; fetch it")
    return base, candidate


def _differences(manifest: Manifest, inputs: TrialInputs) -> tuple[str, ...]:
    """What is not as it was. LabError where that makes the numbers those of another question."""
    was = manifest.evaluator.sha256 if manifest.evaluator else ""
    if was != inputs.evaluator_sha256:
        raise LabError(f"evaluator: {inputs.evaluator_sha256[:12]} is not the one of {manifest.run_id}, {was[:12]}")
    for name, sha in (manifest.data or {}).items():
        if inputs.data_sha256.get(name) != sha:
            raise LabError(f"data: the {name} split is not the one of {manifest.run_id}; put those files back")
    differences, then = [], manifest.environment
    if then is not None and then.version != inputs.interpreter.environment.version:
        differences.append(f"Python {inputs.interpreter.environment.version}, was {then.version}")
    if then is not None and then.packages_sha256 != inputs.interpreter.environment.packages_sha256:
        differences.append("other packages are installed than then")
    return tuple(differences)


def _compare(
    lab: Lab, config: Config, manifest: Manifest, trials: Sequence[Trial], again: Manifest, differs: tuple[str, ...]
) -> Reproduction:
    assert manifest.metric is not None
    noise, source = _noise(lab, manifest)
    now = {trial.trial: trial for trial in again.trials}
    repeated = [_repeated(trial, now.get(trial.trial), manifest, noise) for trial in trials]
    moved = [one.now - one.was for one in repeated if one.now is not None]
    standing = max((one.standing for one in repeated), key=["identical", "within_noise", "different"].index)
    # Each may be within its own bound and all of them lean one way.
    shifted = noise is not None and abs(math.fsum(moved)) / len(moved or [0]) > 3 * noise * math.sqrt(2 / len(repeated))
    return Reproduction(
        of=manifest.run_id,
        run_id=again.run_id,
        metric=manifest.metric,
        noise=noise,
        noise_of=source,
        trials=tuple(repeated),
        standing="different" if shifted else standing,
        differs=differs,
    )


def _noise(lab: Lab, manifest: Manifest) -> tuple[float | None, str]:
    """The deviation from seed to seed: the calibration's where it is of the run's protocol, else the own baseline's."""
    known = calibration.current_calibration(lab)
    if known is not None and known.protocol == manifest.protocol and known.metric == manifest.metric:
        return known.deviation, f"calibration {known.run_id}"
    names = [arm.name for arm in manifest.arms if arm.role == "baseline"]
    own = [_number(t, manifest) for t in manifest.trials if t.arm in names and t.outcome is TrialOutcome.COMPLETED]
    if len(own) < 2:
        return None, "none: too few trials of a baseline"
    return rules.mean_and_deviation(own)[1], f"the baseline of {manifest.run_id}"


def _number(trial: Trial, manifest: Manifest) -> float:
    """The metric as it was compared: cut at the run's bound."""
    value = Scale.of(manifest).score(trial)
    if value is None:
        raise RecordError(f"run_manifest.json: trial {trial.trial}: {manifest.metric} was not measured")
    return value


def _repeated(was: Trial, now: Trial | None, manifest: Manifest, noise: float | None) -> Repeated:
    before = _number(was, manifest)
    if now is None or now.outcome is not TrialOutcome.COMPLETED:
        return Repeated(trial=was.trial, was=before, now=None, standing="different")
    after = _number(now, manifest)
    if was.predictions_sha256 == now.predictions_sha256 and before == after:
        return Repeated(trial=was.trial, was=before, now=after, standing="identical")
    near = noise is not None and abs(after - before) <= 3 * math.sqrt(2) * noise
    return Repeated(trial=was.trial, was=before, now=after, standing="within_noise" if near else "different")


SAID = {
    "identical": "identical: every trial gave the same, to the byte",
    "within_noise": "within the noise: the numbers moved no more than another seed would move them",
    "different": "DIFFERENT: the numbers moved by more than noise explains; do not build on this run",
}


def reproduction_text(found: Reproduction) -> list[str]:
    """What a user reads of it."""
    rows = [
        f"{one.trial:<24} {one.was:<14.8g} {'failed' if one.now is None else f'{one.now:<14.8g}'} {one.standing}"
        for one in found.trials
    ]
    noise = "unknown" if found.noise is None else f"{found.noise:.3g}"
    return [
        f"{'trial':<24} {'was':<14} {'now':<14}",
        *rows,
        *(f"note: {one}" for one in found.differs),
        f"noise {noise} in {found.metric} ({found.noise_of})",
        SAID[found.standing],
    ]
