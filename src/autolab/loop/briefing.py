"""What a prompt says of the lab itself: its noise, where it stands, and what is left to spend.

The numbers come from the calibration, the champion and the campaign, and none from a researcher. Each text is short
whatever the lab has been through.
"""

from __future__ import annotations

from autolab.ideas.lessons import cut
from autolab.lab.schemas.campaign import Campaign, Champion, Exploration
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Calibration, Manifest
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop.calls import calls_cost
from autolab.loop.iteration import Iteration
from autolab.reports.curve_digest import digest
from autolab.stats.target import parse
from autolab.trials.calibration import FOLDER
from autolab.trials.progress import spell
from autolab.trials.resolution import deciding_rule, findable_gain, planned_pairs, possible_pairs, trials_left

NO_CURVE = "no trial left a curve"
SHOWN_STEPS = 10
"""Provisional steps, the newest, that a prompt names."""
_TITLE = 80


# Noise and cost


def measurement(iteration: Iteration) -> str:
    """The noise of the lab, the cost of a trial, and which gain can be resolved in how many pairs."""
    config, calibration = iteration.config, iteration.calibration()
    metric = config.metric
    if calibration is None:
        return f"{metric.primary} ({metric.direction}): not calibrated yet, so noise and cost are not known."
    lines = [
        f"The baseline scores {metric.primary} {calibration.mean:.5g}, the mean of {calibration.seeds} seeds"
        f" ({metric.direction}); the deviation between seeds is {calibration.deviation:.2g}.",
        _pair_noise(calibration),
        _cost(config, calibration),
        _resolvable(config, calibration, iteration.campaign),
    ]
    if calibration.constant is not None:
        lines.append(f"A constant prediction scores {calibration.constant:.4g}.")
    if calibration.bound is not None:
        lines.append(f"A score worse than {calibration.bound:.4g} counts as broken.")
    if not calibration.deterministic:
        lines.append(f"One seed gives other results in a second run, by {calibration.rerun_difference:.2g}.")
    if not calibration.seeds_differ:
        lines.append("All seeds gave the same result: the seed changes nothing.")
    return "\n".join(lines)


def _pair_noise(calibration: Calibration) -> str:
    shared = "Base and candidate share their seeds: one pair's difference has the deviation"
    text = f"{shared} {calibration.difference_deviation:.2g}"
    if calibration.correlation is not None:
        text += f" (correlation {calibration.correlation:.2f})"
    return f"{text}. A single difference below that is noise."


def _cost(config: Config, calibration: Calibration) -> str:
    text = f"A trial takes {_seconds(calibration.seconds)}, the slowest {_seconds(calibration.slowest_seconds)}"
    limit = config.train.time_limit(calibration.slowest_seconds)
    megabytes = calibration.max_rss_bytes // 1_000_000
    return f"{text}, and {megabytes:,} MB of memory; one that takes longer than {spell(limit.seconds)} is ended."


def _seconds(seconds: float) -> str:
    return spell(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _resolvable(config: Config, calibration: Calibration, campaign: Campaign) -> str:
    """The gains that a test finds with the pairs set aside for it, and with the most that it may take."""
    left = trials_left(config, campaign.trials)
    gains: dict[int, float] = {}
    for pairs in sorted({planned_pairs(config, left), possible_pairs(config, left)}):
        gain = findable_gain(config, calibration.difference_deviation, calibration.quantum, pairs)
        if gain is not None:
            gains[pairs] = gain
    least = config.metric.success_delta or calibration.success_delta
    wanted = f" A gain worth having is {least:.3g}." if least else ""
    if not gains:
        return f"The trials that are left decide no test, whatever the gain.{wanted}"
    parts = []
    for pairs, gain in gains.items():
        parts.append(f"a gain of {gain:.2g} in {pairs} pairs")
    rule = deciding_rule(config).rule
    return f"A test (rule {rule}, 80% power) resolves {' or '.join(parts)}.{wanted}"


# Where the lab stands


def standing(iteration: Iteration) -> str:
    """The champion, the provisional steps on it, and the distance to the target."""
    config, campaign = iteration.config, iteration.campaign
    champion = campaign.champions[-1] if campaign.champions else None
    lines = [_champion(config, champion, iteration.calibration())]
    exploration = campaign.exploration
    if exploration is not None and exploration.unclaimed:
        lines.append(_steps(exploration))
    lines.append(_target(iteration, champion))
    return "\n".join(lines)


def _champion(config: Config, champion: Champion | None, calibration: Calibration | None) -> str:
    metric = config.metric.primary
    if champion is None:
        value = f" ({metric} {calibration.mean:.5g})" if calibration is not None else ""
        return f"Nothing is kept yet: the baseline{value} is the best."
    gain = f"a gain of {champion.gain:+.3g} (shrunken) over its parent on fresh seeds"
    text = f"The champion is {champion.commit[:7]}, {gain}"
    if metric in champion.metrics:
        text += f", {metric} {champion.metrics[metric]:.5g}"
        if calibration is not None and metric == calibration.metric:
            text += f" where the calibrated baseline had {calibration.mean:.5g}"
    if champion.evaluation_only:
        text += ", on this evaluation alone"
    return f"{text}."


def _steps(exploration: Exploration) -> str:
    """The provisional steps that the base consists of, the newest first; only `SHOWN_STEPS` of them."""
    rows = [
        f"The base {exploration.working[:7]} is provisional: {exploration.base[:7]} with these unclaimed steps, newest"
        " first. They are in the source already."
    ]
    for step in reversed(exploration.steps[-SHOWN_STEPS:]):
        rows.append(f"- {cut(step.title, _TITLE)}: gain {step.gain:+.3g} in {step.seeds} pairs")
    if exploration.unclaimed >= len(rows):
        rows.append(f"and {exploration.unclaimed - len(rows) + 1} earlier ones")
    return "\n".join(rows)


def _target(iteration: Iteration, champion: Champion | None) -> str:
    if iteration.target is None:
        return "There is no target: every gain that is worth its cost counts."
    metric, sign, bound = parse(iteration.target, iteration.config)
    calibration = iteration.calibration()
    value = champion.metrics.get(metric) if champion is not None else None
    if value is None and calibration is not None and metric == calibration.metric:
        value = calibration.mean
    if value is None:
        return f"The target is {iteration.target}."
    distance = bound - value if sign == ">=" else value - bound
    if distance <= 0:
        return f"The target {iteration.target} is met by {value:.5g}."
    return f"The target is {iteration.target}; {distance:.3g} is missing."


# What is left


def remaining(iteration: Iteration) -> str:
    """What the budget leaves, the calls of this step included, and the iterations that the loop has left."""
    config, campaign = iteration.config, iteration.campaign
    caps = config.budget
    # The campaign counts a step's calls when the step is over.
    step_tokens, step_dollars = calls_cost(iteration.events(), iteration.acted)
    lines = _iterations(config, campaign)
    reserve = campaign.exploration.reserve if campaign.exploration else None
    if caps.trials is not None:
        trials = f"trials: {max(0, caps.trials - campaign.trials)} of {caps.trials} left"
        lines.append(f"{trials}, {reserve} of them set aside for a claim" if reserve else trials)
    if caps.wall_hours is not None:
        lines.append(f"hours: {max(0.0, caps.wall_hours - campaign.seconds / 3600):.2f} of {caps.wall_hours:g} left")
    if caps.gpu_hours is not None:
        hours = max(0.0, caps.gpu_hours - campaign.gpu_seconds / 3600)
        lines.append(f"GPU hours: {hours:.2f} of {caps.gpu_hours:g} left")
    if caps.tokens is not None:
        tokens = campaign.tokens + step_tokens
        lines.append(f"tokens: {max(0, caps.tokens - tokens):,} of {caps.tokens:,} left")
    if caps.dollars is not None:
        dollars = campaign.dollars + step_dollars
        lines.append(f"dollars: {max(0.0, caps.dollars - dollars):.2f} of {caps.dollars:g} left")
    return "\n".join(lines) or "no cap is set"


def _iterations(config: Config, campaign: Campaign) -> list[str]:
    lines = []
    loop = campaign.loop
    if loop is not None:
        number = campaign.counted - loop.first_iteration
        lines.append(f"iterations: this is {number} of {loop.max_iterations}")
        if loop.patience is not None:
            lines.append(f"patience: the loop ends after {loop.patience} without a gain; {loop.since_gain} so far")
    elif config.budget.iterations is not None:
        lines.append(f"iterations: {max(0, config.budget.iterations - campaign.counted)} left")
    return lines


# Learning curves


def newest_curves(iteration: Iteration) -> str:
    """The curves of the newest run that measured ideas, else of the calibration, in a few numbers."""
    lab, learned, calibration = iteration.lab, iteration.campaign.learned, iteration.calibration()
    if learned is not None:
        paths = lab.iteration(learned)
        for manifest_path in sorted(paths.folder.glob("runs/*/run_manifest.json")):
            manifest = iteration.load(Manifest, manifest_path)
            if manifest.kind in (RunKind.SEARCH, RunKind.SCREEN, RunKind.CLAIM):
                return digest(paths.folder.parent, manifest) or NO_CURVE
    if calibration is None:
        return NO_CURVE
    paths = lab.iteration(FOLDER)
    manifest_path = paths.run(calibration.run_id).manifest
    if not manifest_path.exists():
        return NO_CURVE
    return digest(paths.folder.parent, iteration.load(Manifest, manifest_path)) or NO_CURVE
