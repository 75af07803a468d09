"""From a design to trials, and from trials to a verdict. Pure: no file, no clock, no random number.

    plan(design, config, ...) -> Plan            the arms, their settings, the seeds, what is tested
    cells(plan)               -> (arm, index, seed) in the order in which they should run
    judge(plan, trials)       -> Judgement       what the longest completed prefix of pairs says

Equal trials give an equal judgement, in whatever order they finished: only pairs are read that are complete
up to the first gap in seed order, and the first failure in that order is the one that is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import JsonValue

from autolab import criteria, stats
from autolab.errors import RecordError
from autolab.records.experiment import (
    Arm,
    Assessment,
    Comparison,
    Criterion,
    CutTrials,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    MaxPairs,
    Trial,
)
from autolab.records.lab import Config, Direction, Metric, StoppingRule
from autolab.records.outcomes import Outcome, RunKind, Verdict
from autolab.scores import SHARES as SHARES
from autolab.scores import Scale, aggregate, quantum
from autolab.scores import measured as measured
from autolab.seeds import search_seeds

AGAIN, ALTERED = "again", "altered"
"""Arms of a calibration: the baseline's first seed once more, the baseline with settings that the lab names."""
SAME = 2
"""Pairs with equal outputs that show that the seed, or the change, changes nothing."""


@dataclass(frozen=True)
class PlannedArm:
    """A baseline or a variant with its resolved settings; `code` says whose code runs it.

    A `fresh` one is run in any case, also where its result is known.
    """

    name: str
    role: Literal["baseline", "variant"]
    code: Literal["base", "candidate"]
    settings: dict[str, JsonValue]
    fresh: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be measured and how it will be judged, fixed before the first trial.

    `delta` is in the metric's units. `fixed` says that the design itself names the seeds. `self_reported`
    says that the lab has no evaluator, so that the numbers are what the trials say of themselves. A plan without
    a rule compares nothing: it is done when every cell is. `only` names the (arm, index) that run; None: all.
    `bound` is the worst score that counts: one beyond it, or of a diverged training, counts as the bound.
    """

    arms: tuple[PlannedArm, ...]
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    delta: float
    rule: StoppingRule | None
    fixed: bool
    criteria: tuple[Criterion, ...] = ()
    self_reported: bool = False
    only: frozenset[tuple[str, int]] | None = None
    bound: float | None = None

    @property
    def baseline(self) -> PlannedArm:
        """The first baseline: what every variant is compared with."""
        return next(arm for arm in self.arms if arm.role == "baseline")

    @property
    def scale(self) -> Scale:
        """How its trials are read."""
        return Scale(self.metric, self.direction, self.self_reported, self.bound)

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
    criteria: dict[str, criteria.Level] = field(default_factory=dict)
    lead: str | None = None

    @property
    def done(self) -> bool:
        return self.status != "running"


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
    if design.test is not None and design.test.bound != rule.bound:
        raise RecordError(
            f"design.yaml: test.bound: {design.test.bound}, but {rule.bound} was fixed before launch; restore it"
        )
    wanted = design.reproducibility.seeds
    count = manifest.pairs or (wanted.max_pairs if isinstance(wanted, MaxPairs) else len(wanted))
    seeds = wanted if manifest.kind is RunKind.SEARCH and not isinstance(wanted, MaxPairs) else _drawn(manifest, count)
    plan = _plan(design, hypothesis, seeds, rule, metric, manifest.self_reported)
    return replace(plan, arms=_arms_of(manifest)) if manifest.arms else plan


def _drawn(manifest: Manifest, count: int) -> tuple[int, ...]:
    """The seed of each index; -1 where none of its trials was recorded."""
    known = {trial.index: trial.seed for trial in manifest.trials}
    return tuple(known.get(index, -1) for index in range(count))


def _arms_of(manifest: Manifest, fresh: bool = False) -> tuple[PlannedArm, ...]:
    return tuple(PlannedArm(arm.name, arm.role, arm.code, dict(arm.settings), fresh) for arm in manifest.arms)


def within(plan: Plan, left: int | None) -> Plan | None:
    """The plan with as many pairs as `left` trials (None: no cap) allow; None where that decides nothing.

    A rule that looks after each pair can do with fewer; one that looks once needs all of them.
    """
    if left is None or len(cells(plan)) <= left:
        return plan
    pairs = left // len(plan.arms)
    early = plan.rule is not None and plan.rule.rule != "fixed"
    return replace(plan, seeds=plan.seeds[:pairs]) if early and pairs >= stats.FIRST else None


def confirmation(search: Plan, lead: str, rule: StoppingRule, seeds: tuple[int, ...]) -> Plan:
    """The lead variant against the baseline once more: the search's question on seeds that no search has used."""
    arms = tuple(replace(arm, fresh=True) for arm in search.arms if arm.name in (search.baseline.name, lead))
    return replace(search, arms=arms, seeds=seeds, rule=rule)


def calibration(config: Config, seeds: tuple[int, ...]) -> Plan:
    """The baseline over seeds, its first seed once more, and where the lab names one the altered arm beside it."""
    arms = [PlannedArm("baseline", "baseline", "base", {}), PlannedArm(AGAIN, "variant", "base", {}, fresh=True)]
    if config.calibrate.altered:
        arms.append(PlannedArm(ALTERED, "variant", "base", dict(config.calibrate.altered)))
    only = {(arm.name, index) for arm in arms for index in range(len(seeds)) if arm.name != AGAIN or index == 0}
    return Plan(
        arms=tuple(arms),
        seeds=seeds,
        metric=config.metric.primary,
        direction=config.metric.direction,
        delta=config.metric.success_delta,
        rule=None,
        fixed=True,
        self_reported=config.evaluate is None,
        only=frozenset(only),
    )


def confirmed_again(manifest: Manifest) -> Plan:
    """A confirmation's question on its own seeds, to be judged once more. RecordError: the manifest does not say it."""
    if not manifest.arms or manifest.metric is None or manifest.direction is None or manifest.rule is None:
        raise RecordError("run_manifest.json: arms, metric, direction or rule: missing; it cannot be confirmed anew")
    drawn = [seed for seed in _drawn(manifest, manifest.pairs or 0) if seed >= 0]
    return Plan(
        arms=_arms_of(manifest),
        seeds=tuple(drawn),
        metric=manifest.metric,
        direction=manifest.direction,
        delta=manifest.success_delta or 0.0,
        rule=manifest.rule,
        fixed=True,
        self_reported=manifest.self_reported,
        bound=manifest.rule.bound,
    )


def reproduction(manifest: Manifest, trials: Sequence[Trial]) -> Plan:
    """These trials of a run once more, as its manifest says, whatever is known of them.

    RecordError: the manifest does not say how its trials ran.
    """
    if not manifest.arms or manifest.metric is None or manifest.direction is None:
        raise RecordError("run_manifest.json: arms, metric or direction: missing; such a run cannot be reproduced")
    return Plan(
        arms=_arms_of(manifest, fresh=True),
        seeds=_drawn(manifest, 1 + max(trial.index for trial in trials)),
        metric=manifest.metric,
        direction=manifest.direction,
        delta=manifest.success_delta or 0.0,
        rule=None,
        fixed=True,
        self_reported=manifest.self_reported,
        only=frozenset((trial.arm, trial.index) for trial in trials),
        bound=manifest.rule.bound if manifest.rule else None,
    )


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
    direction = _direction(design, hypothesis, metric)
    return Plan(
        arms=tuple(_arms(design)),
        seeds=seeds,
        metric=design.metrics.primary,
        direction=direction,
        delta=design.metrics.success_delta,
        rule=rule,
        fixed=given,
        criteria=tuple(criteria.resolved(design, direction, metric)),
        self_reported=self_reported,
        bound=rule.bound,
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
    return [
        (arm.name, index, seed)
        for index, seed in enumerate(plan.seeds)
        for arm in plan.arms
        if plan.only is None or (arm.name, index) in plan.only
    ]


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


def settled(trials: Iterable[Trial]) -> dict[tuple[str, int], Trial]:
    """Trials by (arm, index), without those that say nothing: cancelled by the rule, or lost and to be repeated."""
    return {
        (trial.arm, trial.index): trial for trial in trials if trial.outcome not in (Outcome.CANCELLED, Outcome.LOST)
    }


def counted(plan: Plan, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that a judgement reads, in the order of `cells`, the first failed one included as the last.

    A variant's trials after the rule has decided on it are left out, however far they came; so tables made of
    these are the same after a crash as without one.
    """
    found = settled(trials)
    return _read(plan, found, _needed(plan, _rulings(plan, found)))


def _needed(plan: Plan, rulings: dict[str, stats.Ruling]) -> list[tuple[str, int]]:
    """The cells that a verdict needs: a decided variant's pairs, and as many of each baseline as any variant has."""
    ends = {name: ruling.pairs if ruling.final else len(plan.seeds) for name, ruling in rulings.items()}
    longest = max(ends.values(), default=len(plan.seeds))
    return [(arm, index) for arm, index, _ in cells(plan) if index < ends.get(arm, longest)]


def wanted(plan: Plan, trials: Iterable[Trial]) -> list[tuple[str, int, int]]:
    """The cells, in order, that may still be needed beyond the trials that are there."""
    found = settled(trials)
    needed = set(_needed(plan, _rulings(plan, found)))
    return [cell for cell in cells(plan) if cell[:2] in needed and cell[:2] not in found]


def _read(plan: Plan, found: dict[tuple[str, int], Trial], needed: list[tuple[str, int]]) -> list[Trial]:
    read: list[Trial] = []
    for cell in needed:
        if cell not in found:
            break
        read.append(found[cell])
        if plan.scale.failure(found[cell]):
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
    broken = plan.scale.failure(read[-1]) if read else None
    if broken:
        return Judgement("failed", broken, rulings)
    if len(read) < len(needed) or not all(ruling.final for ruling in rulings.values()):
        pairs = min((ruling.pairs for ruling in rulings.values()), default=0)
        return Judgement("running", f"{pairs} of {len(plan.seeds)} pairs", rulings)
    return _verdict(plan, rulings, read) if rulings else Judgement("completed", "", rulings)


def _rulings(plan: Plan, found: dict[tuple[str, int], Trial]) -> dict[str, stats.Ruling]:
    if plan.rule is None:
        return {}
    return {arm.name: _ruling(plan, plan.rule, arm.name, found) for arm in plan.variants}


def _ruling(plan: Plan, rule: StoppingRule, variant: str, found: dict[tuple[str, int], Trial]) -> stats.Ruling:
    """The rule on one variant's prefix; but outputs that do not depend on the seed are one result, however many.

    That is seen from the first pairs alone, so that it does not matter how many more have arrived.
    """
    pairs = list(_prefix(plan, variant, found))
    arms = len(plan.variants)
    first = pairs[:SAME]
    if len(first) == SAME and all(_alike(side) for side in zip(*first, strict=True)):
        return _over_examples(plan, rule, first)
    looked, enough = (pairs, len(plan.seeds)) if rule.rule == "fixed" else (first, SAME)
    if len(looked) == enough and all(_alike(pair) for pair in looked):
        return _undecided(plan, rule, enough, 0.0)
    differences = [_gain(plan, *(_value(plan, trial) for trial in pair)) for pair in pairs]
    rows = [trial.rows for pair in pairs for trial in pair]
    return stats.decide(
        differences,
        delta=plan.delta,
        rule=rule,
        planned=len(plan.seeds),
        arms=arms,
        quantum=quantum(plan.metric, min(rows, default=0)),
        scores=_scores(plan, pairs) if pairs else None,
    )


def _scores(plan: Plan, pairs: Sequence[tuple[Trial, Trial]]) -> stats.Scores:
    """What the differences are made of. Whether seeds matter is read off the first pairs, so that it never changes."""
    base, other = zip(*pairs, strict=True)
    hashes = [{trial.predictions_sha256 for trial in arm[: stats.FIRST]} - {None} for arm in (base, other)]
    return stats.Scores(
        counted=([_value(plan, trial) for trial in base], [_value(plan, trial) for trial in other]),
        printed=([plan.scale.printed(trial) for trial in base], [plan.scale.printed(trial) for trial in other]),
        seeds_matter=any(len(found) > 1 for found in hashes),
    )


def _prefix(plan: Plan, variant: str, found: dict[tuple[str, int], Trial]) -> Iterator[tuple[Trial, Trial]]:
    """The longest row of pairs, from the first seed on, whose trials both measured the metric."""
    for index in range(len(plan.seeds)):
        base, other = (found.get((name, index)) for name in (plan.baseline.name, variant))
        if base is None or other is None or not _measured(plan, base) or not _measured(plan, other):
            return
        yield base, other


def _undecided(plan: Plan, rule: StoppingRule, pairs: int, mean: float) -> stats.Ruling:
    """Pairs that replicate nothing: their `mean` has no interval."""
    level = 1 - 2 * rule.alpha / len(plan.variants)
    interval = Interval(n=pairs, mean=mean, low=None, high=None, level=level)
    return stats.Ruling(stats.Action.FUTILE, interval, pairs, "deterministic" if mean else "no_change")


def _over_examples(plan: Plan, rule: StoppingRule, first: Sequence[tuple[Trial, Trial]]) -> stats.Ruling:
    """Trainings whose output is the same for every seed: parts of the evaluation replicate instead, looked at once.

    Where it has too few rows for that, nothing replicates: equal pairs are one pair, however many there are.
    """
    parts = [next((trial.parts for trial in side if trial.parts), ()) for side in zip(*first, strict=True)]
    if not all(parts):
        return _undecided(plan, rule, len(first), _gain(plan, *(_value(plan, trial) for trial in first[0])))
    differences = [_gain(plan, before, after) for before, after in zip(*parts, strict=True)]
    ruling = stats.decide(
        differences,
        delta=plan.delta,
        rule=rule.model_copy(update={"rule": "fixed"}),
        planned=len(differences),
        arms=len(plan.variants),
    )
    action = ruling.action if ruling.final and ruling.reason != "budget" else stats.Action.FUTILE
    reason = "no_change" if ruling.reason == "no_change" else "deterministic"
    return stats.Ruling(action, ruling.interval, len(first), reason)


def _alike(trials: Iterable[Trial]) -> bool:
    """Whether all gave the same predictions, to the byte."""
    hashes = {trial.predictions_sha256 for trial in trials}
    return len(hashes) == 1 and None not in hashes


def _gain(plan: Plan, before: float, after: float) -> float:
    """The difference in the direction of good."""
    return after - before if plan.direction == "maximize" else before - after


def _measured(plan: Plan, trial: Trial) -> bool:
    return plan.scale.failure(trial) is None


def _value(plan: Plan, trial: Trial) -> float:
    value = plan.scale.score(trial)
    assert value is not None  # only trials that `failure` passes are read
    return value


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
            reason="" if ruling.reason in ("keep", "refuted") else ruling.reason,
            pairs=ruling.pairs,
            e_plus=ruling.e_plus,
            e_minus=ruling.e_minus,
            bound=plan.bound,
            cut=_cut_trials(plan, name, ruling.pairs, read) if plan.bound is not None else (),
        )
        for name, ruling in rulings.items()
    )
    means = aggregate(plan.scale, read)
    levels = {name: criteria.levels(plan.criteria, means[name], ruling.pairs) for name, ruling in rulings.items()}
    joint = {c.arm: _joint(c, criteria.verdict(levels[c.arm])) for c in comparisons}
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


def _cut_trials(plan: Plan, variant: str, pairs: int, read: list[Trial]) -> tuple[CutTrials, ...]:
    """Of the pairs that a comparison has read, how many trials of each of its arms were cut."""
    by_arm = {
        name: [trial for trial in read if trial.arm == name and trial.index < pairs]
        for name in (plan.baseline.name, variant)
    }
    return tuple(plan.scale.cut_trials(name, trials) for name, trials in by_arm.items())


def _joint(comparison: Comparison, limits: Verdict | None) -> Verdict:
    """A design with both a comparison and criteria needs both."""
    both = {comparison.verdict, limits or comparison.verdict}
    if Verdict.REFUTED in both:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if both == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE


def _reason(lead: Comparison, verdict: Verdict, levels: dict[str, criteria.Level]) -> str:
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
