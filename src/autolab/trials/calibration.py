"""What a lab can tell apart, before anything is tried in it: the baseline over a few seeds.

    deviation            of the metric from seed to seed
    same seed twice      whether the predictions are equal to the byte
    correlation          of the baseline and an altered arm (`calibrate.altered`) that share seeds
    altered effect       what that arm gains or loses: beyond three times that much a gain is not believed unseen
    price                seconds and memory of a trial, and the pairs that a gain of success_delta will take
    bound                what the evaluator says of a constant prediction: the worst score that counts by default

It plans and never decides: a deviation from a handful of seeds is far too rough to judge by. What cannot be resolved is
refused before a researcher is asked, with what to change. The seeds are the first search seeds of the base, so the
first experiment finds its baseline measured.

A calibration holds for one protocol: evaluator, data, metric and environment by hash.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from autolab import files
from autolab.errors import LabError, RecordError
from autolab.lab import budget, crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Calibration, Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.sandbox import collect, npy_header
from autolab.stats import rules, scores
from autolab.stats.finite import is_finite
from autolab.stats.plan import AGAIN, ALTERED, Plan, calibration_plan, planned_cells
from autolab.stats.seeds import search_seeds
from autolab.trials import measurement
from autolab.trials.inputs import TrialInputs
from autolab.trials.lab_inputs import code_commits, inputs_of, record_of, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunSpec, count_trials, lines_of

FOLDER = "calibration"
"""Under experiments/, where an iteration's id would stand."""


def current_calibration(lab: Lab) -> Calibration | None:
    """The newest calibration, of whichever protocol; None before the first."""
    path = lab.store / "calibration.json"
    try:
        return Calibration.load(path, ".git/autolab/calibration.json") if path.exists() else None
    except RecordError as error:
        raise RecordError(f"{error}; `autolab doctor --fix` makes it again") from None


def calibrate(lab: Lab, config: Config, base: str, tell: View, stop: Callable[[], bool]) -> Calibration | None:
    """Measure the baseline, commit `base`, over its first search seeds; None if the user asked to stop.

    The campaign counts its trials. LabError: the budget does not allow them, or the baseline itself fails.
    """
    state, campaign = lab.load()
    require_affordable(config, campaign)
    events = list(lab.ledger.lines(campaign.iteration_offset))
    done = [line for line in events if line.data.get("why") == "calibrated"]
    if done and done[-1].data["calibration"] != _shown(lab):
        # A crash came between the record and the files that show it.
        return _show(lab, Calibration.from_value(done[-1].data["calibration"], "ledger.jsonl: calibration"), tell)
    counted_at = done[-1].n if done else 0
    over = lines_of([line for line in events if line.event == "run_ended"], [RunKind.CALIBRATE])
    # A run that failed was told to the user; what they fixed shows in none of its trials.
    acted = max([counted_at, *(line.n + 1 for line in over if line.data["status"] == "failed")])
    tell(f"calibrating: the baseline over {config.calibrate.seeds} seeds")
    record = record_of(lab, FOLDER, events, acted)
    spec = _spec(lab, config, base)
    measured = measurement.measure(source_of(lab), config, spec, record, RunObserver(tell, stop))
    if measured.ending is measurement.Ending.PAUSED:
        return None
    if measured.manifest is None or measured.ending is not measurement.Ending.DONE:
        fails = measured.ending in (measurement.Ending.CODE, measurement.Ending.BASELINE)
        way = "fix the baseline, then calibrate again" if fails else "then calibrate again"
        raise LabError(f"calibrate: {measured.run_id}: {measured.reason}; {way}")
    lines = lab.ledger.lines(campaign.iteration_offset)
    spent = count_trials(lines, RunKind.CALIBRATE, counted_at, campaign, config.train.gpus)
    counted = campaign.model_copy(update=spent)
    constant = _of_constant(lab, config, base, measured.manifest)
    found = assess(config, measured.manifest, counted.trials, constant)
    lab.transition(state, counted, why="calibrated", calibration=found.value(), **lab.last_log())
    crash_points.point("calibrate.after_record")
    return _show(lab, found, tell)


def require_affordable(config: Config, campaign: Campaign) -> None:
    """LabError: the budget does not allow the trials of a calibration."""
    plan = calibration_plan(config, tuple(range(config.calibrate.seeds)))
    short = budget.spent_within(config.budget, campaign, len(planned_cells(plan)))
    if short:
        raise LabError(f"calibrate: budget: {short}; raise it in .autolab/config.yaml")


def _of_constant(lab: Lab, config: Config, base: str, manifest: Manifest) -> float | None:
    """What the evaluator says of a constant prediction of the shape that the baseline's own has; None if nothing.

    The shape is that of the trial that ran anew in any case, whose files are this run's.
    """
    again = _trials(manifest, AGAIN)[0]
    shown = lab.iteration(FOLDER).run(manifest.run_id).trial(again.trial, again.attempt)
    predictions = shown / "predict" / "predictions.npy"
    evaluation = inputs_of(lab, config, base, base).evaluation
    if evaluation is None:
        return None
    try:
        with collect.open_regular(predictions, npy_header.PREDICTIONS_BYTES) as file:
            shape = npy_header.npy_header(file).shape
    except collect.InvalidFile:  # the user has cleaned it away meanwhile
        return None
    found = evaluation.of_constant(shape, lab.store / "constant").get(config.metric.primary)
    return None if found is None or not is_finite(found) else found


def _show(lab: Lab, found: Calibration, tell: View) -> Calibration:
    """Write it where people and commands look, the latter's place last."""
    for folder in (lab.control, lab.store):
        files.write_whole(folder / "calibration.json", found.to_json())
    for advice in found.advice:
        tell(f"note: {advice}")
    return found


def _shown(lab: Lab) -> object:
    found = current_calibration(lab)
    return found.value() if found else None


def _spec(lab: Lab, config: Config, base: str) -> RunSpec:
    secret, tree = lab.secret, lab.git.tree(base)

    def plan(inputs: TrialInputs) -> Plan:
        return calibration_plan(config, search_seeds(secret, inputs.protocol, tree, config.calibrate.seeds))

    return RunSpec(RunKind.CALIBRATE, plan, config.train.command, code_commits(base, base))


def assess(config: Config, manifest: Manifest, spent: int, constant: float | None = None) -> Calibration:
    """What the calibration run says. `spent` is the campaign's trials so far, `constant` the score of a constant
    prediction, if it is known.

    LabError: a trial of the baseline did not measure the metric.
    """
    values = {arm: _values(manifest, config, arm) for arm in ("baseline", ALTERED)}
    base, again = _trials(manifest, "baseline"), _trials(manifest, AGAIN)[0]
    mean, deviation = rules.mean_and_deviation(values["baseline"])
    assert deviation is not None
    rows = min(trial.rows for trial in base)
    step = scores.quantum(config.metric.primary, rows)
    pair_deviation, correlation = _paired(values["baseline"], values[ALTERED], deviation)
    pair_deviation = max(pair_deviation, step)
    found = Calibration(
        protocol=manifest.protocol or "",
        commit=manifest.git.base_commit or "",
        run_id=manifest.run_id,
        at=files.utc_now(),
        metric=config.metric.primary,
        success_delta=config.metric.success_delta,
        seeds=len(base),
        mean=mean,
        deviation=deviation,
        quantum=step,
        seconds=statistics.fmean(trial.seconds for trial in base),
        slowest_seconds=max(trial.seconds for trial in base),
        max_rss_bytes=max(trial.max_rss_bytes for trial in base),
        deterministic=_same(base[0], again, config),
        rerun_difference=abs(_number(base[0], config) - _number(again, config)),
        seeds_differ=len({_output(trial, config) for trial in base}) > 1,
        altered=config.calibrate.altered,
        altered_effect=_effect(values["baseline"], values[ALTERED], config),
        correlation=correlation,
        difference_deviation=pair_deviation,
        worst=scores.worst(values["baseline"], config.metric.direction),
        constant=constant,
        pairs=_pairs(config, pair_deviation),
        max_pairs=config.test.max_pairs,
    )
    told: dict[str, object] = {"advice": tuple(_advice(found, config)), "refused": _refusal(found, config, spent)}
    return found.model_copy(update=told | {"bound": scores.default_bound(found, config.metric.direction)})


def _trials(manifest: Manifest, arm: str) -> list[Trial]:
    own = (trial for trial in manifest.trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED)
    return sorted(own, key=lambda trial: trial.index)


def _values(manifest: Manifest, config: Config, arm: str) -> list[float]:
    return [_number(trial, config) for trial in _trials(manifest, arm)]


def _number(trial: Trial, config: Config) -> float:
    return scores.measured(trial, config.evaluate is None)[config.metric.primary]


def _output(trial: Trial, config: Config) -> object:
    """What a training came to, to the byte where there are predictions; of a self-reporting one its metric alone."""
    return trial.predictions_sha256 or _number(trial, config)


def _same(first: Trial, again: Trial, config: Config) -> bool:
    return _output(first, config) == _output(again, config)


def _paired(base: Sequence[float], altered: Sequence[float], deviation: float) -> tuple[float, float | None]:
    """Deviation of a pair's difference, and the correlation over shared seeds.

    Without an altered arm nothing is known of it: then as if the arms were independent, which asks for most pairs.
    """
    if len(altered) < len(base):
        return deviation * 2**0.5, None
    differences = [b - a for a, b in zip(base, altered, strict=True)]
    found = rules.mean_and_deviation(differences)[1] or 0.0
    if min(base) == max(base) or min(altered) == max(altered):
        return found, None
    return found, statistics.correlation(base, altered)


def _effect(base: Sequence[float], altered: Sequence[float], config: Config) -> float | None:
    """By how much the altered arm is better on average over shared seeds; None without one, or where it lacks seeds."""
    if len(altered) < len(base):
        return None
    sign = 1 if config.metric.direction == "maximize" else -1
    return sign * statistics.fmean(after - before for before, after in zip(base, altered, strict=True))


def _pairs(config: Config, deviation: float) -> int | None:
    """Pairs that a gain of success_delta will take; where nothing varies, the fewest that a rule decides on."""
    if deviation == 0:
        return min(rules.FIRST, config.test.max_pairs)
    return rules.pairs_wanted(config.metric.success_delta / deviation, config.test)


def _advice(found: Calibration, config: Config) -> list[str]:
    """What a user should know although the work can go on."""
    told = []
    if not found.deterministic:
        told.append(
            f"the same seed gave another result (moved by {found.rerun_difference:.3g}): runs cannot be reproduced"
            " exactly, and pairs share less; look for unseeded randomness, or threads"
        )
    if not found.seeds_differ:
        told.append(
            "all seeds gave the same result: is AUTOLAB_SEED used? without it the evaluation's rows have to replicate"
        )
    declared = config.test.deviation
    if config.test.rule == "sprt" and declared is not None and declared < found.difference_deviation / 1.5:
        told.append(
            f"test.deviation: {declared:g} is declared, {found.difference_deviation:.3g} was seen over"
            f" {found.seeds} seeds: too small a declared one breaks the promise of alpha; raise it"
        )
    if found.correlation is None and not config.calibrate.altered:
        told.append("the correlation of arms that share a seed is unknown: name settings in calibrate.altered")
    return told


def _refusal(found: Calibration, config: Config, spent: int) -> str:
    """Why nothing should be measured before something changes, in one line with what to change; empty if nothing."""
    least, most = config.run_time_minutes
    minutes = found.seconds / 60
    if not least <= minutes <= most:
        more, less = "more data, more epochs or a larger model", "fewer epochs, less data or a smaller model"
        which = more if minutes < least else less
        return (
            f"a trial of the baseline takes {minutes:.2g} minutes, run_time_minutes asks for {least:g} to {most:g}:"
            f" {which}, or another range"
        )
    if found.pairs is None or found.pairs > found.max_pairs:
        return _too_noisy(found, config)
    left = None if config.budget.trials is None else config.budget.trials - spent
    wanted = 4 * found.pairs
    if left is not None and wanted > left:
        return (
            f"a gain of {found.success_delta:g} will take about {found.pairs} pairs, twice, which are {wanted} trials:"
            f" budget.trials leaves {left}; raise it, or look for a larger success_delta"
        )
    return ""


def _too_noisy(found: Calibration, config: Config) -> str:
    effect = found.success_delta / found.difference_deviation
    wanted = f"about {found.pairs}" if found.pairs else "more than 400"
    enough = _resolvable(config) * found.difference_deviation
    return (
        f"{found.metric}: a gain of {found.success_delta:g} is {effect:.2g} deviations of a pair's difference"
        f" ({found.difference_deviation:.3g}) and takes {wanted} pairs, test.max_pairs allows {found.max_pairs}:"
        f" {f'max_pairs: {found.pairs}, ' if found.pairs else ''}success_delta of {enough:.2g} or more, more evaluation"
        " data, a smaller model that affords more pairs, or a steadier proxy metric"
    )


def _resolvable(config: Config) -> float:
    """The least effect, in deviations, that test.max_pairs pairs resolve."""
    low, high = 0.0, 1e6
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        found = rules.pairs_wanted(middle, config.test, most=config.test.max_pairs)
        low, high = (middle, high) if found is None else (low, middle)
    return high


def holds(found: Calibration | None, config: Config, protocol: str) -> bool:
    """Whether a calibration is of this protocol and of the gain that is asked for now."""
    return found is not None and (found.protocol, found.success_delta) == (protocol, config.metric.success_delta)


def require(found: Calibration | None, config: Config, protocol: str) -> None:
    """LabError with the way out: nothing may be measured, as there is no calibration that holds, or it refuses."""
    if found is None or not holds(found, config, protocol):
        other = "was calibrated with another evaluator, data, metric or environment"
        why = "has not been calibrated" if found is None else other
        raise LabError(f"the lab {why}: run `autolab calibrate` first (`autolab loop` does it by itself)")
    if found.refused:
        raise LabError(f"calibration refuses: {found.refused}; then `autolab calibrate` again")
    bound, direction = config.test.bound, config.metric.direction
    if bound is not None and found.worst is not None and not scores.worse(direction, bound, found.worst):
        cuts = f"would cut the baseline itself, whose worst trial measured {found.worst:.5g}"
        raise LabError(f".autolab/config.yaml: test.bound: {bound:g} {cuts}; name a worse score, or null")


def _altered(found: Calibration) -> list[tuple[str, str]]:
    if found.altered_effect is None:
        return []
    most = f"a gain above {3 * abs(found.altered_effect):.3g} is set aside for you to look at"
    return [("altered arm", f"moves {found.metric} by {abs(found.altered_effect):.3g}: {most}")]


def calibration_text(found: Calibration) -> list[str]:
    """What a user reads of it, a line a fact."""
    paired = "not measured" if found.correlation is None else f"{found.correlation:.2f}"
    noise = found.difference_deviation
    effect = f"{found.success_delta / noise:.2g}" if noise else "any number of"
    pairs = f"about {found.pairs}" if found.pairs else "more than 400"
    price = f"{found.seconds:.1f} s (slowest {found.slowest_seconds:.1f}), {found.max_rss_bytes / 2**20:.0f} MB"
    rows = [
        ("metric", f"{found.metric} {found.mean:.5g} over {found.seeds} seeds, deviation {found.deviation:.3g}"),
        ("a trial", price),
        ("same seed", "gives the same bytes" if found.deterministic else f"moves it by {found.rerun_difference:.3g}"),
        *_altered(found),
        ("shared seed", f"correlation of the arms: {paired}; deviation of a difference {noise:.3g}"),
        ("bound", "none" if found.bound is None else f"worse scores than {found.bound:.5g} count as that"),
        ("success", f"a gain of {found.success_delta:g} is {effect} deviations: {pairs} of {found.max_pairs} pairs"),
        *(("note", advice) for advice in found.advice),
    ]
    return [f"{name:<12} {said}" for name, said in rows]
