"""The noise and the cost of a lab, measured before anything is tried in it: the baseline over a few seeds.

    deviation            of the metric from seed to seed
    same seed twice      whether the predictions are equal to the byte
    correlation          of the baseline and an altered arm (`calibrate.altered`) that share seeds
    altered effect       what that arm gains or loses: the user has to approve a gain of more than three times as much
    cost                 seconds and memory of a trial, and the pairs that a gain of success_delta will take
    bound                the score of a constant prediction: by default the worst score that counts

A calibration is used for planning, never for a verdict: a deviation from a handful of seeds is far too rough. A lab
is refused before a researcher is asked, with what to change, only if it could not resolve success_delta even if its
noise were the least that these seeds do not rule out. Otherwise the calibration says which gains can be found. If
config.yaml names no success_delta, it is taken from the noise and the budget, once for a protocol. The seeds are the
first search seeds of the base, so the first experiment reuses these trials as its baseline.

A calibration holds for one protocol: evaluator, data, metric and environment by hash.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolab import files
from autolab.errors import LabError, RecordError
from autolab.lab import budget, crash_points, time_limits
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, Direction
from autolab.lab.schemas.events import RunEnded, Transition, read
from autolab.lab.schemas.experiment import Calibration, Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.sandbox import collect, npy_header
from autolab.stats import rules, scores
from autolab.stats.finite import is_finite
from autolab.stats.plan import AGAIN, ALTERED, Plan, calibration_plan, planned_cells
from autolab.stats.seeds import search_seeds
from autolab.trials import measurement, resolution
from autolab.trials.inputs import TrialInputs
from autolab.trials.lab_inputs import code_commits, inputs_of, record_of, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunObserver, RunSpec, count_trials, lines_of
from autolab.trials.seed_ways import BY_VARIABLE, ways_in_words

LEAST_SHARED = 3
"""Seeds that two arms have to share before they say anything of their correlation."""
FOLDER = "calibration"
"""Under experiments/, where an iteration's id would stand."""


def current_calibration(lab: Lab) -> Calibration | None:
    """The newest calibration, of whichever protocol; None before the first."""
    path = lab.store / "calibration.json"
    if not path.exists():
        return None
    try:
        return Calibration.load(path, ".git/autolab/calibration.json")
    except RecordError as error:
        raise RecordError(f"{error}; `autolab doctor --fix` makes it again") from None


def calibrate(lab: Lab, config: Config, base: str, tell: View, stop: Callable[[], bool]) -> Calibration | None:
    """Measure the baseline, commit `base`, over its first search seeds; None if the user asked to stop.

    The campaign counts its trials. LabError: the budget does not allow them, or the baseline itself fails.
    """
    state, campaign = lab.load()
    require_affordable(config, campaign)
    lines = list(lab.ledger.lines(campaign.iteration_offset))
    recorded, counted_at = _newest(lines)
    if recorded is not None and recorded != current_calibration(lab):
        # A crash came between the record and the files that show it.
        return _show(lab, recorded, tell)
    tell(f"calibrating: the baseline over {config.calibrate.seeds} seeds")
    record = record_of(lab, FOLDER, lines, _acted(lines, counted_at))
    measured = measurement.measure(source_of(lab), config, _spec(lab, config, base), record, RunObserver(tell, stop))
    if measured.ending is measurement.Ending.PAUSED:
        return None
    if measured.manifest is None or measured.ending is not measurement.Ending.DONE:
        advice = "then calibrate again"
        if measured.ending in (measurement.Ending.CODE, measurement.Ending.BASELINE):
            advice = "fix the baseline, then calibrate again"
        raise LabError(f"calibrate: {measured.run_id}: {measured.reason}; {advice}")
    new_lines = lab.ledger.lines(campaign.iteration_offset)
    counts = count_trials(new_lines, RunKind.CALIBRATE, counted_at, campaign, config.train.gpus)
    campaign = campaign.model_copy(update=counts)
    constant = _constant_score(lab, config, base, measured.manifest)
    calibration = assess(config, measured.manifest, campaign.trials, constant, current_calibration(lab))
    lab.transition(state, campaign, why="calibrated", calibration=calibration, log=lab.last_log())
    crash_points.point("calibrate.after_record")
    return _show(lab, calibration, tell)


def _newest(lines: Sequence[Line]) -> tuple[Calibration | None, int]:
    """The newest recorded calibration among these lines, and the number of its line; None and 0 if there is none."""
    for line in reversed(lines):
        if line.event == Transition.KIND:
            transition = read(line, Transition)
            if transition.why == "calibrated":
                return transition.calibration, line.n
    return None, 0


def _acted(lines: Sequence[Line], counted_at: int) -> int:
    """The line up to which the ends of calibration runs were acted on."""
    acted = counted_at
    for line in lines_of(lines, [RunKind.CALIBRATE]):
        # The user was shown a run that failed; what they fixed since shows in none of its trials.
        if line.event == RunEnded.KIND and read(line, RunEnded).status == "failed":
            acted = max(acted, line.n + 1)
    return acted


def require_affordable(config: Config, campaign: Campaign) -> None:
    """LabError: the budget does not allow the trials of a calibration."""
    plan = calibration_plan(config, tuple(range(config.calibrate.seeds)))
    cap = budget.spent_within(config.budget, campaign, len(planned_cells(plan)))
    if cap:
        raise LabError(f"calibrate: budget: {cap}; raise it in .autolab/config.yaml")


def _constant_score(lab: Lab, config: Config, base: str, manifest: Manifest) -> float | None:
    """The evaluator's score of a constant prediction in the shape of the baseline's own; None if it has none."""
    evaluation = inputs_of(lab, config, base, base).evaluation
    if evaluation is None:
        return None
    # This trial is never reused, so its files are this run's.
    rerun = _trials(manifest, AGAIN)[0]
    folder = lab.iteration(FOLDER).run(manifest.run_id).trial(rerun.trial, rerun.attempt)
    try:
        with collect.open_regular(folder / "predict" / "predictions.npy", npy_header.PREDICTIONS_BYTES) as file:
            shape = npy_header.npy_header(file).shape
    except collect.InvalidFile:  # the user has cleaned it away meanwhile
        return None
    score = evaluation.of_constant(shape, lab.store / "constant").get(config.metric.primary)
    if score is None or not is_finite(score):
        return None
    return score


def _show(lab: Lab, calibration: Calibration, tell: View) -> Calibration:
    """Write it where people and commands look, and tell the advice."""
    # Commands read the second one: a crash between the two is seen as no calibration, and written again.
    for folder in (lab.control, lab.store):
        files.write_whole(folder / "calibration.json", calibration.to_json())
    for advice in calibration.advice:
        tell(f"note: {advice}")
    return calibration


def _spec(lab: Lab, config: Config, base: str) -> RunSpec:
    secret, tree = lab.secret, lab.git.tree(base)

    def plan(inputs: TrialInputs) -> Plan:
        return calibration_plan(config, search_seeds(secret, inputs.protocol, tree, config.calibrate.seeds))

    return RunSpec(RunKind.CALIBRATE, plan, config.train.command, code_commits(base, base))


def assess(
    config: Config,
    manifest: Manifest,
    spent: int,
    constant: float | None = None,
    before: Calibration | None = None,
) -> Calibration:
    """The calibration that follows from a calibration run. `spent`: trials of the campaign so far. `constant`: the
    score of a constant prediction, if it is known. `before`: the calibration that this one replaces.

    LabError: a trial of the baseline did not measure the metric.
    """
    base, rerun = _trials(manifest, "baseline"), _trials(manifest, AGAIN)[0]
    base_scores = [_score(trial, config) for trial in base]
    altered_scores = [_score(trial, config) for trial in _trials(manifest, ALTERED)]
    mean, deviation = rules.mean_and_deviation(base_scores)
    assert deviation is not None
    direction = config.metric.direction
    quantum = scores.quantum(config.metric.primary, min(trial.rows for trial in base))
    altered = _compare(base_scores, altered_scores, deviation, direction)
    # Two equal scores may hide a difference of one row, or one that is rounded away.
    difference_deviation = max(altered.difference_deviation, quantum, _rounding(config))
    protocol = manifest.protocol or ""
    success_delta = config.metric.success_delta
    derived = success_delta is None
    if derived:
        success_delta = _kept_difference(before, protocol)
    if success_delta is None:
        success_delta = _findable_difference(config, spent, difference_deviation, quantum)
    calibration = Calibration(
        protocol=protocol,
        commit=manifest.git.base_commit or "",
        run_id=manifest.run_id,
        at=files.utc_now(),
        metric=config.metric.primary,
        success_delta=success_delta,
        derived=derived,
        seeds=len(base),
        mean=mean,
        deviation=deviation,
        quantum=quantum,
        seconds=statistics.fmean(trial.seconds for trial in base),
        slowest_seconds=max(trial.seconds for trial in base),
        max_rss_bytes=max(trial.max_rss_bytes for trial in base),
        deterministic=_output(base[0], config) == _output(rerun, config),
        rerun_difference=abs(base_scores[0] - _score(rerun, config)),
        seeds_differ=len({_output(trial, config) for trial in base}) > 1,
        altered=config.calibrate.altered,
        altered_effect=altered.effect,
        correlation=altered.correlation,
        difference_deviation=difference_deviation,
        worst=scores.worst(base_scores, direction),
        constant=constant,
        pairs=_pairs(config, success_delta, difference_deviation),
        max_pairs=resolution.deciding_rule(config).max_pairs,
    )
    update = {
        "advice": tuple(_advice(calibration, config)),
        "refused": _refusal(calibration, config, spent),
        "bound": scores.default_bound(calibration, direction),
    }
    return calibration.model_copy(update=update)


def _findable_difference(config: Config, spent: int, deviation: float, quantum: float) -> float | None:
    """The smallest gain that a claim can show with what the budget leaves, in the metric's units; None: there is none.

    `deviation` is that of a pair's difference, `quantum` the least difference of two scores.
    """
    left = resolution.trials_left(config, spent)
    pairs = resolution.planned_pairs(config, left)
    step = max(quantum, config.quantum or 0.0)
    return resolution.findable_gain(config, deviation, step, pairs)


def _kept_difference(before: Calibration | None, protocol: str) -> float | None:
    """The difference that an earlier calibration of this protocol took; None if there is none."""
    # It must not move with the noise, or with what is left of the budget.
    if before is None or before.protocol != protocol or not before.derived:
        return None
    return before.success_delta


def with_correlation(
    calibration: Calibration, config: Config, baseline_scores: Sequence[float], variant_scores: Sequence[float]
) -> Calibration:
    """The calibration with what an idea shows of arms that share seeds: correlation and deviation of a difference.

    The scores are of the baseline and of one variant at the same seeds, in the same order. Fewer than three pairs say
    nothing: the calibration as it is. ValueError: not as many scores of the one as of the other.
    """
    if len(baseline_scores) != len(variant_scores):
        raise ValueError(f"{len(baseline_scores)} scores of the baseline, {len(variant_scores)} of the variant")
    if len(baseline_scores) < LEAST_SHARED:
        return calibration
    together = _compare(baseline_scores, variant_scores, calibration.deviation, config.metric.direction)
    deviation = max(together.difference_deviation, calibration.quantum, _rounding(config))
    measured = calibration.model_copy(
        update={
            "correlation": together.correlation,
            "difference_deviation": deviation,
            "pairs": _pairs(config, calibration.success_delta, deviation),
        }
    )
    return measured.model_copy(update={"advice": tuple(_advice(measured, config))})


def learn_correlation(lab: Lab, config: Config, manifest: Manifest, tell: Callable[[str], None]) -> None:
    """Add to the lab's calibration what a run of enough pairs shows of arms that share seeds, unless it is known."""
    calibration = current_calibration(lab)
    if calibration is None or calibration.correlation is not None or calibration.protocol != manifest.protocol:
        return
    if manifest.metric != calibration.metric or not manifest.comparisons:
        return
    comparison = manifest.comparisons[0]
    before, after = _by_index(manifest, comparison.baseline, config), _by_index(manifest, comparison.arm, config)
    shared = sorted(before.keys() & after.keys())
    measured = with_correlation(
        calibration, config, [before[index] for index in shared], [after[index] for index in shared]
    )
    if measured.correlation is None:
        return
    state, campaign = lab.load()
    lab.transition(state, campaign, why="calibrated", calibration=measured, log=lab.last_log())
    crash_points.point("calibrate.after_record")
    for folder in (lab.control, lab.store):
        files.write_whole(folder / "calibration.json", measured.to_json())
    tell(f"correlation of arms that share a seed: {measured.correlation:.2f}, by {manifest.run_id}")


def _by_index(manifest: Manifest, arm: str, config: Config) -> dict[int, float]:
    """The finite scores of an arm by their seeds' places."""
    found = {}
    for trial in _trials(manifest, arm):
        score = scores.measured(trial, config.evaluate is None).get(config.metric.primary)
        if score is not None and is_finite(score):
            found[trial.index] = score
    return found


def with_difference(config: Config, calibration: Calibration | None) -> Config:
    """The configuration with the difference that the calibration took, if it names none itself."""
    if config.metric.success_delta is not None or calibration is None or not calibration.derived:
        return config
    metric = config.metric.model_copy(update={"success_delta": calibration.success_delta})
    return config.model_copy(update={"metric": metric})


def _trials(manifest: Manifest, arm: str) -> list[Trial]:
    trials = []
    for trial in manifest.trials:
        if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED:
            trials.append(trial)
    return sorted(trials, key=lambda trial: trial.index)


def _score(trial: Trial, config: Config) -> float:
    return scores.measured(trial, config.evaluate is None)[config.metric.primary]


def _output(trial: Trial, config: Config) -> object:
    """What a training produced: the hash of its predictions, or the metric if it reports itself."""
    return trial.predictions_sha256 or _score(trial, config)


@dataclass(frozen=True)
class _AlteredArm:
    """The altered arm against the baseline over shared seeds; `effect` is its mean gain in the direction of good."""

    difference_deviation: float
    correlation: float | None
    effect: float | None


def _compare(base: Sequence[float], altered: Sequence[float], deviation: float, direction: Direction) -> _AlteredArm:
    if len(altered) < len(base):
        # Nothing is known of the correlation: as if the arms were independent, which asks for most pairs.
        return _AlteredArm(deviation * 2**0.5, None, None)
    differences = [after - before for before, after in zip(base, altered, strict=True)]
    correlation = None
    if min(base) < max(base) and min(altered) < max(altered):
        correlation = statistics.correlation(base, altered)
    sign = 1 if direction == "maximize" else -1
    difference_deviation = rules.mean_and_deviation(differences)[1] or 0.0
    return _AlteredArm(difference_deviation, correlation, sign * statistics.fmean(differences))


def _rounding(config: Config) -> float:
    """The standard deviation of a difference of two numbers that are rounded to the metric's quantum (Sheppard)."""
    # A number that is rounded to a step h is off by a uniform error of variance h^2/12.
    return 0.0 if config.quantum is None else config.quantum / 6**0.5


def _pairs(config: Config, success_delta: float | None, deviation: float) -> int | None:
    """Pairs that a gain of success_delta will take; if nothing varies, the fewest that a rule decides on."""
    rule = resolution.deciding_rule(config)
    if success_delta is None:
        return None
    # A deterministic lab: there is no noise to divide by.
    if deviation == 0:
        return min(rules.FIRST, rule.max_pairs)
    return rules.pairs_wanted(success_delta / deviation, rule)


def _advice(calibration: Calibration, config: Config) -> list[str]:
    """What a user should know although the work can go on."""
    advice = []
    if not calibration.deterministic:
        advice.append(
            f"the same seed gave another result (moved by {calibration.rerun_difference:.3g}): runs cannot be"
            " reproduced exactly, and the arms of a pair share less of the noise; look for unseeded randomness, or"
            " threads"
        )
    if not calibration.seeds_differ:
        advice.append(_equal_seeds(calibration, config))
    # Half as much again allows for the error of a deviation from a handful of seeds.
    declared = config.test.deviation
    if config.test.rule == "sprt" and declared is not None and declared < calibration.difference_deviation / 1.5:
        advice.append(
            f"test.deviation: {declared:g} is declared, {calibration.difference_deviation:.3g} was measured over"
            f" {calibration.seeds} seeds: with too small a value the test exceeds its error rate alpha; raise it"
        )
    return advice


def _equal_seeds(calibration: Calibration, config: Config) -> str:
    """The advice for a baseline whose result no seed changes."""
    quantum = config.quantum
    if quantum is not None:
        below = f"the noise is below what is printed ({quantum:g})"
        return (
            f"all seeds gave {calibration.metric} {calibration.mean:g}: {below}, or the seed is not used"
            f" ({ways_in_words(config.train)}); print more decimals to see which"
        )
    ways = ways_in_words(config.train)
    question = "is AUTOLAB_SEED used" if ways == BY_VARIABLE else f"{ways}; is it used"
    return (
        f"all seeds gave the same result: {question}? If not, tests can only use the noise between rows of the"
        " evaluation data"
    )


def _refusal(calibration: Calibration, config: Config, spent: int) -> str:
    """Why nothing should be measured before something changes, in one line with what to change; empty if nothing."""
    shortest, longest = config.run_time_minutes
    minutes = calibration.seconds / 60
    if not shortest <= minutes <= longest:
        change = "fewer epochs, less data or a smaller model"
        if minutes < shortest:
            change = "more data, more epochs or a larger model"
        return (
            f"a trial of the baseline takes {minutes:.2g} minutes, run_time_minutes asks for {shortest:g} to"
            f" {longest:g}: {change}, or another range"
        )
    if calibration.success_delta is None:
        return _underivable(calibration, config, spent)
    return _unresolvable(calibration, calibration.success_delta, config, spent)


def _underivable(calibration: Calibration, config: Config, spent: int) -> str:
    """Why no smallest difference can be taken from the noise and the budget."""
    if calibration.difference_deviation == 0:
        return (
            "all seeds gave the same result, so there is no noise to take the smallest difference from: name"
            " metric.success_delta"
        )
    rule = resolution.deciding_rule(config)
    fewest = resolution.fewest_pairs(rule)
    if fewest is None:
        key = _most_key(config)
        return f"{key}: {rule.max_pairs} pairs cannot reach an error of {rule.alpha:.2g}: raise it"
    return _too_few_trials(f"a {_test_name(config)} takes at least", fewest, config, spent)


def _unresolvable(calibration: Calibration, gain: float, config: Config, spent: int) -> str:
    """Why the gain cannot be resolved even if the noise is the least that it may be; empty if it can."""
    rule = resolution.deciding_rule(config)
    possible = resolution.possible_pairs(config, resolution.trials_left(config, spent))
    least = _least_noise(calibration, config)
    pairs = _pairs(config, gain, least)
    if pairs is None or pairs > rule.max_pairs:
        return _too_noisy(calibration, gain, config, pairs)
    # A fixed rule looks once, when all of its pairs are there.
    if rule.rule == "fixed" and config.test.mode == "explore":
        pairs = rule.max_pairs
    if pairs > possible:
        change = ", or look for a larger success_delta"
        return _too_few_trials(f"a gain of {gain:g} will take at least", pairs, config, spent) + change
    return ""


def _least_noise(calibration: Calibration, config: Config) -> float:
    """The deviation of a pair's difference at the favourable end of what is known of it."""
    noise = resolution.least_deviation(calibration.difference_deviation, calibration.seeds)
    if calibration.correlation is None:
        # Measured as if the arms were independent. The first idea shows what they share.
        noise *= (1 - resolution.CLOSE_ARMS) ** 0.5
    return max(noise, calibration.quantum, _rounding(config))


def _too_few_trials(needed: str, pairs: int, config: Config, spent: int) -> str:
    left = resolution.trials_left(config, spent)
    twice = ", twice" if config.test.mode == "each" else ""
    trials = resolution.trials_a_pair(config) * pairs
    return f"{needed} {pairs} pairs{twice}, which are {trials} trials: budget.trials leaves {left}; raise it"


def _too_noisy(calibration: Calibration, gain: float, config: Config, pairs: int | None) -> str:
    noise, least = calibration.difference_deviation, _least_noise(calibration, config)
    most = calibration.max_pairs
    key = _most_key(config)
    resolvable = resolution.findable_gain(config, least, 0.0, most)
    changes = []
    # Beyond 400 pairs another number of pairs is no way out, and none is named.
    needed = "more than 400"
    if pairs:
        needed = f"at least {pairs}"
        changes.append(f"{key.removeprefix('test.')}: {pairs}")
    if resolvable is not None:
        changes.append(f"success_delta of {resolvable:.2g} or more")
    changes.append("more evaluation data, a smaller model that affords more pairs, or a steadier proxy metric")
    return (
        f"{calibration.metric}: a gain of {gain:g} is {gain / noise:.2g} deviations of a pair's difference"
        f" ({noise:.3g}, at the very least {least:.3g}) and takes {needed} pairs, {key} allows {most}:"
        f" {', '.join(changes)}"
    )


def _most_key(config: Config) -> str:
    """The key that bounds the pairs of the deciding test."""
    return "test.confirm_pairs" if config.test.mode == "explore" else "test.max_pairs"


def _test_name(config: Config) -> str:
    return "claim" if config.test.mode == "explore" else "test"


def holds(calibration: Calibration | None, config: Config, protocol: str) -> bool:
    """Whether a calibration is of this protocol and of the gain that config.yaml names now."""
    if calibration is None or calibration.protocol != protocol:
        return False
    if config.metric.success_delta is None:
        return calibration.derived
    return calibration.success_delta == config.metric.success_delta


def require(calibration: Calibration | None, config: Config, protocol: str) -> None:
    """LabError with the way out: no calibration holds, it refuses, or test.bound would cut the baseline."""
    if calibration is None or not holds(calibration, config, protocol):
        reason = "was calibrated with another evaluator, data, metric or environment"
        if calibration is None:
            reason = "has not been calibrated"
        raise LabError(f"the lab {reason}: run `autolab calibrate` first (`autolab loop` does it by itself)")
    if calibration.refused:
        raise LabError(f"calibration refuses: {calibration.refused}; then `autolab calibrate` again")
    bound, worst = config.test.bound, calibration.worst
    if bound is not None and worst is not None and not scores.worse(config.metric.direction, bound, worst):
        reason = f"would cut the baseline itself, whose worst trial measured {worst:.5g}"
        raise LabError(f".autolab/config.yaml: test.bound: {bound:g} {reason}; name a worse score, or null")


def prospect(calibration: Calibration, config: Config, spent: int) -> str:
    """Which gains can be found, in one line; empty without any noise to tell by, or if nothing can be resolved.

    `spent`: trials of the campaign so far.
    """
    left = resolution.trials_left(config, spent)
    pairs = resolution.planned_pairs(config, left)
    noise, step = calibration.difference_deviation, max(calibration.quantum, config.quantum or 0.0)
    gain = resolution.findable_gain(config, noise, step, pairs)
    if gain is None:
        return ""
    extent = f"over {pairs} pairs" if left is None else f"in {left} trials"
    return f"gains from {gain:g} on can be found, {extent}"


def difference_in_words(calibration: Calibration, config: Config) -> str:
    """The smallest difference worth having and where it is from, in one line; empty if config.yaml names it."""
    if not calibration.derived or calibration.success_delta is None:
        return ""
    origin = "from the noise and the budget, for all of this protocol"
    return f"the smallest difference in {config.metric.primary} is {calibration.success_delta:g}, taken {origin}"


def require_difference(config: Config) -> None:
    """RecordError with the way out: the smallest difference worth having is not known yet."""
    _ = config.metric.difference


def calibration_text(calibration: Calibration, config: Config, spent: int) -> list[str]:
    """What a user reads of it, a line a fact. `spent`: trials of the campaign so far."""
    metric, noise = calibration.metric, calibration.difference_deviation
    score = f"{metric} {calibration.mean:.5g} over {calibration.seeds} seeds, deviation {calibration.deviation:.3g}"
    cost = f"{calibration.seconds:.1f} s (slowest {calibration.slowest_seconds:.1f})"
    rows = [("metric", score), ("a trial", f"{cost}, {calibration.max_rss_bytes / 2**20:.0f} MB")]
    time_limit = config.train.time_limit(calibration.slowest_seconds)
    rows.append(("limit", time_limits.sentence(time_limit.seconds, time_limit.source)))
    if calibration.deterministic:
        rows.append(("same seed", "gives the same bytes"))
    else:
        rows.append(("same seed", f"moves {metric} by {calibration.rerun_difference:.3g}"))
    if calibration.altered_effect is not None:
        effect = abs(calibration.altered_effect)
        limit = f"a gain above {3 * effect:.3g} is set aside for you to look at"
        rows.append(("altered arm", f"moves {metric} by {effect:.3g}: {limit}"))
    correlation = "not measured"
    if calibration.correlation is not None:
        correlation = f"{calibration.correlation:.2f}"
    rows.append(("shared seed", f"correlation of the arms: {correlation}; deviation of a difference {noise:.3g}"))
    if calibration.bound is None:
        rows.append(("bound", "none"))
    else:
        rows.append(("bound", f"scores worse than {calibration.bound:.5g} count as {calibration.bound:.5g}"))
    difference = difference_in_words(calibration, config)
    if difference:
        rows.append(("difference", difference))
    if calibration.success_delta is not None:
        rows.append(("success", _success(calibration, calibration.success_delta)))
    gains = prospect(calibration, config, spent)
    if gains:
        rows.append(("found", gains))
    for advice in calibration.advice:
        rows.append(("note", advice))
    return [f"{name:<12} {text}" for name, text in rows]


def _success(calibration: Calibration, gain: float) -> str:
    """What the smallest difference takes."""
    noise, effect = calibration.difference_deviation, "above the noise, which is 0"
    if noise:
        effect = f"{gain / noise:.2g} deviations"
    # `rules.pairs_wanted` looks no further.
    pairs = "more than 400"
    if calibration.pairs:
        pairs = f"about {calibration.pairs}"
    return f"a gain of {gain:g} is {effect}: {pairs} of {calibration.max_pairs} pairs"
