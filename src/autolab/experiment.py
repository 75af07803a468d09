"""From a design to trials, and from trials to a verdict. Pure: no file, no clock, no random number.

    plan(design, config, ...) -> Plan            the arms, their settings, the seeds, what is tested
    cells(plan)               -> (arm, index, seed) in the order in which they should run
    judge(plan, trials)       -> Judgement       what the longest completed prefix of pairs says

Equal trials give an equal judgement, in whatever order they finished: only pairs are read that are complete
up to the first gap in seed order, and the first failure in that order is the one that is named.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from autolab import stats
from autolab.errors import RecordError
from autolab.records.experiment import (
    Arm,
    ArmMetrics,
    Assessment,
    Comparison,
    Criterion,
    Design,
    Hypothesis,
    Manifest,
    MaxPairs,
    Trial,
)
from autolab.records.lab import Config, Direction, Metric, StoppingRule
from autolab.records.outcomes import Outcome, Verdict

Level = Literal["target", "acceptable", "below_acceptable", "failed", "unmeasured"]


@dataclass(frozen=True)
class PlannedArm:
    """A baseline or a variant with its resolved settings; `code` says whose code runs it."""

    name: str
    role: Literal["baseline", "variant"]
    code: Literal["base", "candidate"]
    settings: dict[str, JsonValue]


@dataclass(frozen=True)
class Plan:
    """What will be measured and how it will be judged, fixed before the first trial.

    `delta` is in the metric's units. `fixed` says that the design itself names the seeds. `self_reported`
    says that the lab has no evaluator, so that the numbers are what the trials say of themselves.
    """

    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    delta: float
    rule: StoppingRule
    fixed: bool
    criteria: tuple[Criterion, ...] = ()
    self_reported: bool = False

    @property
    def baseline(self) -> PlannedArm:
        """The first baseline: what every variant is compared with."""
        return next(arm for arm in self.arms if arm.role == "baseline")

    @property
    def variants(self) -> tuple[PlannedArm, ...]:
        return tuple(arm for arm in self.arms if arm.role == "variant")


@dataclass(frozen=True)
class Judgement:
    """What the trials say so far. Verdict and comparisons exist only for a completed run.

    `reason` names the failed trial, the criterion, or in one word why the evidence is inconclusive:
    no_change, deterministic, budget, futile. It is empty where the comparison alone gave the verdict.
    `lead` is the variant that the verdict rests on.
    """

    status: Literal["running", "completed", "failed"]
    reason: str
    rulings: dict[str, stats.Ruling]
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict | None = None
    criteria: dict[str, Level] = field(default_factory=dict)
    lead: str | None = None

    @property
    def done(self) -> bool:
        return self.status != "running"


def search_seeds(secret: bytes, epoch: str, base_tree: str, count: int) -> tuple[int, ...]:
    """The first `count` seeds of a base: distinct integers in [0, 2**31), the same for every candidate on it.

    A longer list begins with the shorter one. Who does not know the lab's secret cannot foretell them.
    """
    seeds: dict[int, None] = {}
    k = 0
    while len(seeds) < count:
        message = json.dumps(["search", epoch, base_tree, k]).encode()
        digest = hmac.digest(secret, message, "sha256")
        seeds[int.from_bytes(digest[:4], "big") >> 1] = None
        k += 1
    return tuple(seeds)


def plan(
    design: Design, config: Config, hypothesis: Hypothesis | None, secret: bytes, epoch: str, base_tree: str
) -> Plan:
    """Resolve a design. RecordError in one line names the field of design.yaml that cannot be run as it stands."""
    wanted = design.reproducibility.seeds
    seeds = search_seeds(secret, epoch, base_tree, wanted.max_pairs) if isinstance(wanted, MaxPairs) else wanted
    rule = design.test or config.test
    return _plan(design, hypothesis, seeds, rule, config.metric, config.evaluate is None)


def recorded_plan(manifest: Manifest, design: Design, hypothesis: Hypothesis | None, metric: Metric | None) -> Plan:
    """The plan of a run that was made, from its documents: seeds and rule as the manifest has them.

    The seed of a cell that never ran is not in a manifest; -1 stands for it. RecordError like `plan`, and
    where the manifest names another metric than the design or no rule.
    """
    if manifest.metric not in (None, design.metrics.primary):
        raise RecordError(
            f"run_manifest.json: metric: {manifest.metric!r}, but design.yaml has {design.metrics.primary!r}"
        )
    if manifest.success_delta not in (None, design.metrics.success_delta):
        was, now = manifest.success_delta, design.metrics.success_delta
        raise RecordError(
            f"design.yaml: metrics.success_delta: {now:g}, but {was:g} was fixed before launch; restore it"
        )
    rule = manifest.rule or design.test
    if rule is None:
        raise RecordError(
            "run_manifest.json: rule: missing; the run cannot be judged without the rule it was made under"
        )
    drawn = {trial.index: trial.seed for trial in manifest.trials}
    wanted = design.reproducibility.seeds
    count = wanted.max_pairs if isinstance(wanted, MaxPairs) else len(wanted)
    seeds = tuple(drawn.get(index, -1) for index in range(count)) if isinstance(wanted, MaxPairs) else wanted
    return _plan(design, hypothesis, seeds, rule, metric, manifest.self_reported)


def _plan(
    design: Design,
    hypothesis: Hypothesis | None,
    seeds: tuple[int, ...],
    rule: StoppingRule,
    metric: Metric | None,
    self_reported: bool,
) -> Plan:
    for name, arms in (("baselines", design.baselines), ("variants", design.variants)):
        if not arms:
            raise RecordError(
                f"design.yaml: {name}: none given; a comparison needs at least one baseline and one variant"
            )
    given = not isinstance(design.reproducibility.seeds, MaxPairs)
    if len(seeds) < 2:
        raise RecordError(
            "design.yaml: reproducibility.seeds: one seed shows no spread;"
            " give at least 2, or {max_pairs: n} to have them drawn"
        )
    if given:
        # A list of seeds is a fixed-n design, whatever rule the lab uses otherwise.
        rule = rule.model_copy(update={"rule": "fixed"})
    stats.checked(rule)
    direction = _direction(design, hypothesis, metric)
    return Plan(
        arms=tuple(_arms(design)),
        seeds=seeds,
        metric=design.metrics.primary,
        direction=direction,
        delta=design.metrics.success_delta,
        rule=rule,
        fixed=given,
        criteria=tuple(_criteria(design, direction, metric)),
        self_reported=self_reported,
    )


def _arms(design: Design) -> Iterator[PlannedArm]:
    shared: dict[str, JsonValue] = dict(design.train)
    if design.dataset is not None:
        shared["dataset"] = design.dataset

    def resolved(arm: Arm, role: Literal["baseline", "variant"]) -> PlannedArm:
        code = arm.code or ("base" if role == "baseline" else "candidate")
        return PlannedArm(arm.name, role, code, {**shared, **arm.config_overrides})

    yield from (resolved(arm, "baseline") for arm in design.baselines)
    yield from (resolved(arm, "variant") for arm in design.variants)


def _direction(design: Design, hypothesis: Hypothesis | None, metric: Metric | None) -> Direction:
    """The one direction in which the primary metric is good; every document that names it must agree."""
    primary = design.metrics.primary
    if hypothesis is not None and hypothesis.metric != primary:
        raise RecordError(
            f"design.yaml: metrics.primary: {primary!r}, but hypothesis.md claims something about"
            f" {hypothesis.metric!r}; test the metric that was claimed"
        )
    named: dict[str, Direction] = {}
    if design.metrics.direction is not None:
        named["design.yaml"] = design.metrics.direction
    if hypothesis is not None:
        named["hypothesis.md"] = hypothesis.direction
    if metric is not None and metric.primary == primary:
        named["config.yaml"] = metric.direction
    if not named:
        raise RecordError(
            f"design.yaml: metrics.direction: missing for {primary!r};"
            " write minimize or maximize here or in hypothesis.md"
        )
    if len(set(named.values())) > 1:
        told = ", ".join(f"{file} says {direction}" for file, direction in named.items())
        raise RecordError(f"design.yaml: metrics.direction: contradiction for {primary!r}: {told}")
    return next(iter(named.values()))


def cells(plan: Plan) -> list[tuple[str, int, int]]:
    """Every (arm, index, seed), pair by pair in seed order and baselines first, so that the read prefix grows."""
    return [(arm.name, index, seed) for index, seed in enumerate(plan.seeds) for arm in plan.arms]


def content_key(
    *,
    tree: str,
    command: JsonValue,
    settings: dict[str, JsonValue],
    seed: int,
    data: JsonValue,
    evaluator: str | None,
    environment: str | None,
) -> str:
    """SHA-256 of everything a trial's result depends on: trials with equal keys need to run once.

    `tree` is the git tree of the code (not the commit), the others are the commands and hashes in force.
    """
    parts: dict[str, JsonValue] = {
        "tree": tree,
        "command": command,
        "settings": settings,
        "seed": seed,
        "data": data,
        "evaluator": evaluator,
        "environment": environment,
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# What trials say


def measured(trial: Trial, self_reported: bool) -> dict[str, float]:
    """The numbers that count: the evaluator's scores, or in a lab without one what the trial says of itself."""
    return trial.self_reported if self_reported else trial.score


def settled(trials: Iterable[Trial]) -> dict[tuple[str, int], Trial]:
    """Trials by (arm, index), without those that say nothing: cancelled by the rule, or lost and to be repeated."""
    return {
        (trial.arm, trial.index): trial for trial in trials if trial.outcome not in (Outcome.CANCELLED, Outcome.LOST)
    }


def failure(trial: Trial, metric: str, self_reported: bool) -> str | None:
    """Why this settled trial cannot be used, in one line that names it; None if it can."""
    if trial.outcome is not Outcome.COMPLETED:
        return f"trial {trial.trial}: {trial.outcome}{': ' if trial.message else ''}{trial.message}"
    value = measured(trial, self_reported).get(metric)
    if value is None:
        return f"trial {trial.trial}: metric {metric!r} was not measured"
    if not abs(value) < stats.LIMIT:
        return f"trial {trial.trial}: metric {metric!r} is {value}, not a finite number below {stats.LIMIT:g}"
    return None


def counted(plan: Plan, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that a judgement reads, in the order of `cells`, the first failed one included as the last.

    A variant's trials after the rule has decided on it are left out, however far they came; so tables made of
    these are the same after a crash as without one.
    """
    found = settled(trials)
    return _read(plan, found, _needed(plan, _rulings(plan, found)))


def _needed(plan: Plan, rulings: dict[str, stats.Ruling]) -> list[tuple[str, int]]:
    """The cells that a verdict needs: a decided variant's pairs, and as many of each baseline as any variant has."""
    ends = {name: ruling.interval.n if ruling.final else len(plan.seeds) for name, ruling in rulings.items()}
    longest = max(ends.values())
    return [(arm, index) for arm, index, _ in cells(plan) if index < ends.get(arm, longest)]


def _read(plan: Plan, found: dict[tuple[str, int], Trial], needed: list[tuple[str, int]]) -> list[Trial]:
    read: list[Trial] = []
    for cell in needed:
        if cell not in found:
            break
        read.append(found[cell])
        if failure(found[cell], plan.metric, plan.self_reported):
            break
    return read


def judge(plan: Plan, trials: Sequence[Trial]) -> Judgement:
    """Rule on every variant from its longest completed prefix of pairs; fail on the first failed trial in order.

    A failure is named only once every cell before it is settled, so that it is the same whoever finished first.
    """
    found = settled(trials)
    rulings = _rulings(plan, found)
    needed = _needed(plan, rulings)
    read = _read(plan, found, needed)
    broken = failure(read[-1], plan.metric, plan.self_reported) if read else None
    if broken:
        return Judgement("failed", broken, rulings)
    if len(read) < len(needed) or not all(ruling.final for ruling in rulings.values()):
        pairs = min(ruling.interval.n for ruling in rulings.values())
        return Judgement("running", f"{pairs} of {len(plan.seeds)} pairs", rulings)
    return _verdict(plan, rulings, read)


def _rulings(plan: Plan, found: dict[tuple[str, int], Trial]) -> dict[str, stats.Ruling]:
    return {arm.name: _ruling(plan, arm.name, found) for arm in plan.variants}


def _ruling(plan: Plan, variant: str, found: dict[tuple[str, int], Trial]) -> stats.Ruling:
    differences = []
    same_predictions = True
    for index in range(len(plan.seeds)):
        pair = [found.get((name, index)) for name in (plan.baseline.name, variant)]
        values = [_value(plan, trial) for trial in pair if trial is not None]
        if len(values) < 2 or None in values:
            break
        base, value = (number for number in values if number is not None)
        differences.append(value - base if plan.direction == "maximize" else base - value)
        hashes = {trial.predictions_sha256 for trial in pair if trial is not None}
        same_predictions = same_predictions and len(hashes) == 1 and None not in hashes
    arms = len(plan.variants)
    ruling = stats.decide(differences, delta=plan.delta, rule=plan.rule, planned=len(plan.seeds), arms=arms)
    if ruling.final and same_predictions:
        return stats.Ruling(stats.Action.FUTILE, ruling.interval, "no_change")
    return ruling


def _value(plan: Plan, trial: Trial) -> float | None:
    if failure(trial, plan.metric, plan.self_reported):
        return None
    return measured(trial, plan.self_reported)[plan.metric]


_VERDICTS = {stats.Action.KEEP: Verdict.SUPPORTED, stats.Action.REFUTED: Verdict.REFUTED}


def _verdict(plan: Plan, rulings: dict[str, stats.Ruling], read: list[Trial]) -> Judgement:
    """The joint verdict of comparisons and criteria: one variant that meets both is enough."""
    comparisons = tuple(
        Comparison(
            arm=name,
            baseline=plan.baseline.name,
            metric=plan.metric,
            difference=ruling.interval,
            verdict=_VERDICTS.get(ruling.action, Verdict.INCONCLUSIVE),
            reason="" if ruling.action in _VERDICTS else ruling.reason,
        )
        for name, ruling in rulings.items()
    )
    means = aggregate(read, plan.self_reported)
    levels = {name: criteria_levels(plan.criteria, means[name], ruling.interval.n) for name, ruling in rulings.items()}
    joint = {c.arm: _joint(c, criteria_verdict(levels[c.arm])) for c in comparisons}
    # Largest mean first; the design's order breaks a tie.
    order = sorted(comparisons, key=lambda c: -c.difference.mean)
    by_verdict = {verdict: [c for c in order if joint[c.arm] is verdict] for verdict in Verdict}
    if by_verdict[Verdict.SUPPORTED]:
        verdict = Verdict.SUPPORTED
    elif by_verdict[Verdict.INCONCLUSIVE]:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.REFUTED
    lead = by_verdict[verdict][0]
    reason = _reason(lead, verdict, levels[lead.arm])
    return Judgement("completed", reason, rulings, comparisons, verdict, levels[lead.arm], lead.arm)


def _joint(comparison: Comparison, criteria: Verdict | None) -> Verdict:
    """A design with both a comparison and criteria needs both."""
    both = {comparison.verdict, criteria or comparison.verdict}
    if Verdict.REFUTED in both:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if both == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE


def _reason(lead: Comparison, verdict: Verdict, levels: dict[str, Level]) -> str:
    """The comparison's word, or the criteria that decided where the comparison alone would have said otherwise."""
    if lead.verdict is verdict:
        return lead.reason
    return ", ".join(f"{metric} {level}" for metric, level in levels.items() if level not in ("target", "acceptable"))


def assessment(judgement: Judgement) -> Assessment:
    """How the verdict came about, as results.yaml holds it."""
    return Assessment(
        verdict=judgement.verdict,
        reason=judgement.reason,
        comparisons=judgement.comparisons,
        criteria=dict(judgement.criteria),
    )


def aggregate(trials: Iterable[Trial], self_reported: bool) -> dict[str, dict[str, ArmMetrics]]:
    """Mean, sample deviation and number of trials, per arm and metric, over the completed ones of `trials`."""
    values: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        if trial.outcome is Outcome.COMPLETED:
            for name, value in measured(trial, self_reported).items():
                if abs(value) < stats.LIMIT:
                    values.setdefault(trial.arm, {}).setdefault(name, []).append(value)
    return {arm: {name: _arm_metrics(found) for name, found in sorted(by.items())} for arm, by in values.items()}


def _arm_metrics(values: list[float]) -> ArmMetrics:
    mean, deviation = stats.mean_and_deviation(values)
    return ArmMetrics(mean=mean, std=deviation, n=len(values))


# Criteria


def _criteria(design: Design, direction: Direction, metric: Metric | None) -> Iterator[Criterion]:
    """The design's criteria with their directions filled in; RecordError where they contradict themselves."""
    seen: set[str] = set()
    for index, criterion in enumerate(design.criteria):
        where = f"design.yaml: criteria.{index}"
        if criterion.metric in seen:
            raise RecordError(f"{where}: metric: {criterion.metric!r} has a criterion already; give one a metric")
        seen.add(criterion.metric)
        known = direction if criterion.metric == design.metrics.primary else None
        yield criterion.model_copy(update={"direction": _criterion_direction(criterion, known, where)})


def _criterion_direction(criterion: Criterion, known: Direction | None, where: str) -> Direction:
    """From best to worst a criterion reads target, acceptable, failure; that order is its direction."""
    marks = [mark for mark in (criterion.target, criterion.acceptable, criterion.failure) if mark is not None]
    if len(marks) > 1 and marks[0] == marks[-1] and criterion.failure is not None:
        raise RecordError(f"{where}: target and failure are both {marks[0]}; give two different values")
    derived: Direction | None = None
    if marks[0] != marks[-1]:
        derived = "maximize" if marks[0] > marks[-1] else "minimize"
    if derived and marks != sorted(marks, reverse=derived == "maximize"):
        raise RecordError(f"{where}: acceptable: {criterion.acceptable} does not lie between target and failure")
    named = {one for one in (criterion.direction, derived, known) if one is not None}
    if len(named) > 1:
        raise RecordError(
            f"{where}: direction: contradiction: {criterion.metric!r} is to {' and to '.join(sorted(named))}"
        )
    if not named:
        raise RecordError(
            f"{where}: direction: missing; write minimize or maximize, or a failure value besides the target"
        )
    return named.pop()


def criterion_level(criterion: Criterion, value: float | None) -> Level:
    """How far one criterion is met. Limits: target and acceptable are met by an equal value, failure only past it.

    0.559 against target 0.7, acceptable 0.6, failure 0.5 is below_acceptable.
    """
    if value is None:
        return "unmeasured"
    sign = -1 if criterion.direction == "minimize" else 1
    if sign * value >= sign * criterion.target:
        return "target"
    if criterion.acceptable is not None and sign * value >= sign * criterion.acceptable:
        return "acceptable"
    if criterion.failure is not None and sign * value < sign * criterion.failure:
        return "failed"
    return "below_acceptable"


def criteria_levels(criteria: Sequence[Criterion], means: dict[str, ArmMetrics], trials: int) -> dict[str, Level]:
    """The level of each criterion on a variant's means; a metric that only some of its `trials` gave is unmeasured."""
    found = {name: arm.mean for name, arm in means.items() if arm.n == trials}
    return {criterion.metric: criterion_level(criterion, found.get(criterion.metric)) for criterion in criteria}


def criteria_verdict(levels: dict[str, Level]) -> Verdict | None:
    """All met: supported; any below or failed: refuted; else one is unmeasured: inconclusive. None without criteria."""
    if not levels:
        return None
    if any(level in ("below_acceptable", "failed") for level in levels.values()):
        return Verdict.REFUTED
    return Verdict.INCONCLUSIVE if "unmeasured" in levels.values() else Verdict.SUPPORTED
