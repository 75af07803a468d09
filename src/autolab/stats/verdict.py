"""From trials to a verdict. Pure: no file, no clock, no random number.

Equal trials give an equal judgement, in whatever order they finished: only pairs are read that are complete up to the
first gap in seed order, and the first failure in that order is the one that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Assessment, Comparison, CutTrials, Interval, Trial
from autolab.lab.schemas.outcomes import TrialOutcome, Verdict
from autolab.stats import rules
from autolab.stats.criteria import Level, criteria_levels, criteria_verdict
from autolab.stats.plan import Cell, CellKey, Plan, planned_cells
from autolab.stats.scores import aggregate, quantum

SAME = 2
"""Pairs with equal outputs that show that the seed, or the change, changes nothing."""


@dataclass(frozen=True)
class Judgement:
    """What the trials say so far. Verdict and comparisons exist only for a completed run.

    `reason` names the failed trial, the criterion, or in one word why the evidence is inconclusive:
    no_change, deterministic, budget, futile. It is empty where the comparison alone gave the verdict.
    `lead` is the variant that the verdict rests on.
    """

    status: Literal["running", "completed", "failed"]
    reason: str
    rulings: dict[str, rules.Ruling]
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict | None = None
    criteria: dict[str, Level] = field(default_factory=dict)
    lead: str | None = None

    @property
    def done(self) -> bool:
        return self.status != "running"


# What trials say


def settled(trials: Iterable[Trial]) -> dict[CellKey, Trial]:
    """Trials by cell, without those that say nothing: cancelled by the rule, or lost and to be repeated."""
    return {
        (trial.arm, trial.index): trial
        for trial in trials
        if trial.outcome not in (TrialOutcome.CANCELLED, TrialOutcome.LOST)
    }


def trials_read(plan: Plan, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that a judgement reads, in the order of `cells`, the first failed one included as the last.

    A variant's trials after the rule has decided on it are left out, however far they came; so tables made of
    these are the same after a crash as without one.
    """
    found = settled(trials)
    return _read(plan, found, _needed(plan, _rulings(plan, found)))


def _needed(plan: Plan, rulings: dict[str, rules.Ruling]) -> list[Cell]:
    """The cells that a verdict needs: a decided variant's pairs, and as many of each baseline as any variant has."""
    ends = {name: ruling.pairs if ruling.final else len(plan.seeds) for name, ruling in rulings.items()}
    longest = max(ends.values(), default=len(plan.seeds))
    return [cell for cell in planned_cells(plan) if cell.index < ends.get(cell.arm, longest)]


def cells_wanted(plan: Plan, trials: Iterable[Trial]) -> list[Cell]:
    """The cells, in order, that may still be needed beyond the trials that are there."""
    found = settled(trials)
    needed = _needed(plan, _rulings(plan, found))
    return [cell for cell in needed if cell.key not in found]


def _read(plan: Plan, found: dict[CellKey, Trial], needed: Sequence[Cell]) -> list[Trial]:
    """The trials of the needed cells, up to the first that is missing, or that failed."""
    read: list[Trial] = []
    for cell in needed:
        trial = found.get(cell.key)
        if trial is None:
            break
        read.append(trial)
        if plan.scale.failure(trial):
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


def _rulings(plan: Plan, found: dict[CellKey, Trial]) -> dict[str, rules.Ruling]:
    if plan.rule is None:
        return {}
    return {arm.name: _ruling(plan, plan.rule, arm.name, found) for arm in plan.variants}


def _ruling(plan: Plan, rule: StoppingRule, variant: str, found: dict[CellKey, Trial]) -> rules.Ruling:
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
    return rules.decide(
        differences,
        delta=plan.delta,
        rule=rule,
        planned=len(plan.seeds),
        arms=arms,
        quantum=quantum(plan.metric, min(rows, default=0)),
        scores=_scores(plan, pairs) if pairs else None,
    )


def _scores(plan: Plan, pairs: Sequence[tuple[Trial, Trial]]) -> rules.Scores:
    """What the differences are made of. Whether seeds matter is read off the first pairs, so that it never changes."""
    base, other = zip(*pairs, strict=True)
    hashes = [{trial.predictions_sha256 for trial in arm[: rules.FIRST]} - {None} for arm in (base, other)]
    return rules.Scores(
        counted=([_value(plan, trial) for trial in base], [_value(plan, trial) for trial in other]),
        printed=([plan.scale.printed(trial) for trial in base], [plan.scale.printed(trial) for trial in other]),
        seeds_matter=any(len(found) > 1 for found in hashes),
    )


def _prefix(plan: Plan, variant: str, found: dict[CellKey, Trial]) -> Iterator[tuple[Trial, Trial]]:
    """The longest row of pairs, from the first seed on, whose trials both measured the metric."""
    for index in range(len(plan.seeds)):
        base, other = (found.get((name, index)) for name in (plan.baseline.name, variant))
        if base is None or other is None or not _measured(plan, base) or not _measured(plan, other):
            return
        yield base, other


def _undecided(plan: Plan, rule: StoppingRule, pairs: int, mean: float) -> rules.Ruling:
    """Pairs that replicate nothing: their `mean` has no interval."""
    level = 1 - 2 * rule.alpha / len(plan.variants)
    interval = Interval(n=pairs, mean=mean, low=None, high=None, level=level)
    return rules.Ruling(rules.RuleAction.FUTILE, interval, pairs, "deterministic" if mean else "no_change")


def _over_examples(plan: Plan, rule: StoppingRule, first: Sequence[tuple[Trial, Trial]]) -> rules.Ruling:
    """Trainings whose output is the same for every seed: parts of the evaluation replicate instead, looked at once.

    Where it has too few rows for that, nothing replicates: equal pairs are one pair, however many there are.
    """
    parts = [next((trial.parts for trial in side if trial.parts), ()) for side in zip(*first, strict=True)]
    if not all(parts):
        return _undecided(plan, rule, len(first), _gain(plan, *(_value(plan, trial) for trial in first[0])))
    differences = [_gain(plan, before, after) for before, after in zip(*parts, strict=True)]
    ruling = rules.decide(
        differences,
        delta=plan.delta,
        rule=rule.model_copy(update={"rule": "fixed"}),
        planned=len(differences),
        arms=len(plan.variants),
    )
    action = ruling.action if ruling.final and ruling.reason != "budget" else rules.RuleAction.FUTILE
    reason = "no_change" if ruling.reason == "no_change" else "deterministic"
    return rules.Ruling(action, ruling.interval, len(first), reason)


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


_VERDICTS = {rules.RuleAction.KEEP: Verdict.SUPPORTED, rules.RuleAction.REFUTED: Verdict.REFUTED}


def _verdict(plan: Plan, rulings: dict[str, rules.Ruling], read: list[Trial]) -> Judgement:
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
    levels = {name: criteria_levels(plan.criteria, means[name], ruling.pairs) for name, ruling in rulings.items()}
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


def _reason(lead: Comparison, verdict: Verdict, levels: dict[str, Level]) -> str:
    """The comparison's word, or the criteria that decided where the comparison alone would have said otherwise."""
    if lead.verdict is verdict:
        return lead.reason
    return ", ".join(f"{metric} {level}" for metric, level in levels.items() if level not in ("target", "acceptable"))


def assessment_of(judgement: Judgement) -> Assessment:
    """How the verdict came about, as results.yaml holds it."""
    return Assessment(
        verdict=judgement.verdict,
        reason=judgement.reason,
        comparisons=judgement.comparisons,
        criteria=dict(judgement.criteria),
    )
