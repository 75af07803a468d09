"""From trials to a verdict. Pure: no file, no clock, no random number.

Equal trials give an equal judgement, in whatever order they finished: only pairs are read that are complete up to the
first gap in seed order, and the first failure in that order is the one that is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Assessment, Comparison, CutTrials, Interval, Trial
from autolab.lab.schemas.outcomes import TrialOutcome, Verdict
from autolab.stats import rules, screening
from autolab.stats.criteria import Level, criteria_levels, criteria_verdict
from autolab.stats.plan import Cell, CellKey, Plan, planned_cells
from autolab.stats.scores import aggregate, gain, quantum

SAME = 2
"""Pairs with equal outputs that show that the seed, or the change, changes nothing."""

Pair = tuple[Trial, Trial]
"""The baseline's and the variant's trial at one seed; both measured the metric."""


@dataclass(frozen=True)
class Judgement:
    """What the trials say so far. Verdict and comparisons exist only for a completed run.

    `reason` names the failed trial, the criterion, or in one word why the evidence is inconclusive:
    no_change, deterministic, budget, futile, failed, screened. It is empty where the comparison alone gave the verdict.
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


# Which trials count


def settled(trials: Iterable[Trial]) -> dict[CellKey, Trial]:
    """Trials by cell, without those that say nothing: cancelled by the rule, or lost and to be repeated."""
    by_cell = {}
    for trial in trials:
        if trial.outcome not in (TrialOutcome.CANCELLED, TrialOutcome.LOST):
            by_cell[trial.arm, trial.index] = trial
    return by_cell


def trials_read(plan: Plan, trials: Iterable[Trial]) -> list[Trial]:
    """The trials that a judgement reads, in the order of `planned_cells`; a failed one is the last.

    A variant's trials after the rule has decided on it are left out, however many finished; so tables made of
    these are the same after a crash as without one. Of a screen, trials of its complete rungs, failed ones too.
    """
    if plan.arm_seeds is not None:
        return screening.screened(plan, trials).read
    by_cell = settled(trials)
    return _read(plan, by_cell, _needed(plan, _rulings(plan, by_cell)))


def cells_wanted(plan: Plan, trials: Iterable[Trial]) -> list[Cell]:
    """The cells, in order, that a verdict may still need and that have no settled trial."""
    if plan.arm_seeds is not None:
        measured_cells = screening.settled_in_screen(trials)
        return [cell for cell in screening.screened(plan, trials).needed if cell.key not in measured_cells]
    by_cell = settled(trials)
    needed = _needed(plan, _rulings(plan, by_cell))
    return [cell for cell in needed if cell.key not in by_cell]


def _needed(plan: Plan, rulings: dict[str, rules.Ruling]) -> list[Cell]:
    """The cells that a verdict needs: a decided variant's pairs, and as many of each baseline as any variant has."""
    planned = len(plan.seeds)
    ends = {name: ruling.pairs if ruling.final else planned for name, ruling in rulings.items()}
    longest = max(ends.values(), default=planned)
    return [cell for cell in planned_cells(plan) if cell.index < ends.get(cell.arm, longest)]


def _read(plan: Plan, by_cell: dict[CellKey, Trial], needed: Sequence[Cell]) -> list[Trial]:
    """The trials of the needed cells, up to the first that is missing, or that failed."""
    read: list[Trial] = []
    for cell in needed:
        trial = by_cell.get(cell.key)
        # What finished beyond a gap does not count yet: the result must not depend on who finished first.
        if trial is None:
            break
        read.append(trial)
        if plan.scale.failure(trial):
            break
    return read


# What trials say


def judge(plan: Plan, trials: Sequence[Trial]) -> Judgement:
    """Rule on every variant from its longest completed prefix of pairs; fail on the first failed trial in order.

    A failure is named only once every cell before it is settled, so that it is the same whoever finished first.
    A screen is judged rung by rung (`stats/screening.py`), and supports nothing.
    """
    if plan.arm_seeds is not None:
        return _screen_judgement(plan, screening.screened(plan, trials))
    by_cell = settled(trials)
    rulings = _rulings(plan, by_cell)
    needed = _needed(plan, rulings)
    read = _read(plan, by_cell, needed)
    failure = plan.scale.failure(read[-1]) if read else None
    if failure:
        return Judgement("failed", failure, rulings)
    if len(read) < len(needed) or not all(ruling.final for ruling in rulings.values()):
        pairs = min((ruling.pairs for ruling in rulings.values()), default=0)
        return Judgement("running", f"{pairs} of {len(plan.seeds)} pairs", rulings)
    if not rulings:  # a plan without a rule measures, and compares nothing
        return Judgement("completed", "", rulings)
    return _verdict(plan, rulings, read)


def _screen_judgement(plan: Plan, state: screening.Screened) -> Judgement:
    if state.failure:
        return Judgement("failed", state.failure, {})
    if not state.is_over:
        return Judgement("running", f"{len(state.read)} of {len(state.needed)} trials of the batch", {})
    comparisons = screening.screen_comparisons(plan, state)
    return Judgement(
        status="completed",
        reason=screening.SCREENED,
        rulings={},
        comparisons=comparisons,
        verdict=Verdict.INCONCLUSIVE,
        lead=screening.screen_lead(comparisons),
    )


def _rulings(plan: Plan, by_cell: dict[CellKey, Trial]) -> dict[str, rules.Ruling]:
    if plan.rule is None:
        return {}
    rulings = {}
    for arm in plan.variants:
        pairs = list(_pairs(plan, arm.name, by_cell))
        ruling = _ruling(plan, plan.rule, pairs)
        # What the rule has decided before a trial failed stands.
        if not ruling.final and _is_dropped(plan, by_cell.get((arm.name, len(pairs)))):
            ruling = replace(ruling, action=rules.RuleAction.FAILED, reason=rules.RuleAction.FAILED.value)
        rulings[arm.name] = ruling
    return rulings


def _is_dropped(plan: Plan, trial: Trial | None) -> bool:
    """Whether a variant's first trial after its complete pairs ends the variant."""
    if trial is None or not plan.drop_failed:
        return False
    # Inputs that a trial has changed are those of the other arms too.
    return trial.outcome is not TrialOutcome.TAMPERED and plan.scale.failure(trial) is not None


def outlook(plan: Plan, trials: Sequence[Trial]) -> dict[str, int | None]:
    """By variant, the pairs in all at which the sequential rule is likely to decide (`rules.likely_pairs`)."""
    rule = plan.rule
    if rule is None or rule.rule != "sequential":
        return {}
    by_cell = settled(trials)
    likely = {}
    for arm in plan.variants:
        pairs = list(_pairs(plan, arm.name, by_cell))
        scores = _scores(plan, pairs)
        question = rules.Question(
            delta=plan.delta,
            tail=rule.alpha / len(plan.variants),
            planned=len(plan.seeds),
            quantum=quantum(plan.metric, _rows(pairs)),
            rule=rule,
            scores=scores,
        )
        likely[arm.name] = rules.likely_pairs(_differences(plan, *scores.counted), question)
    return likely


def shown_interval(compared: Comparison, plan: Plan, trials: Sequence[Trial]) -> Interval:
    """The gain of a comparison with the interval that goes with its verdict."""
    if compared.verdict is Verdict.SUPPORTED:
        return compared.difference
    return refutation_interval(compared.arm, compared.difference, plan, trials)


def refutation_interval(arm: str, gain: Interval, plan: Plan, trials: Sequence[Trial]) -> Interval:
    """The gain of an arm that is not supported, with the interval whose ends each miss at most 1 time in 20.

    The sequential rule supports a gain at its own level, but rules one out, and calls one worse, at one error in 20.
    """
    rule = plan.rule
    if rule is None or rule.rule != "sequential":
        return gain
    at_refutation = rule.model_copy(update={"alpha": len(plan.variants) / rules.REFUTED})
    ruling = judge(replace(plan, rule=at_refutation), trials).rulings[arm]
    # A rule with another error may stop at another pair; then only the recorded interval fits the verdict.
    return ruling.interval if ruling.interval.n == gain.n else gain


def _pairs(plan: Plan, variant: str, by_cell: dict[CellKey, Trial]) -> Iterator[Pair]:
    """A variant's pairs from the first seed on, up to the first that is incomplete or failed."""
    failure = plan.scale.failure
    for index in range(len(plan.seeds)):
        before = by_cell.get((plan.baseline.name, index))
        after = by_cell.get((variant, index))
        if before is None or after is None or failure(before) or failure(after):
            return
        yield before, after


def _ruling(plan: Plan, rule: StoppingRule, pairs: Sequence[Pair]) -> rules.Ruling:
    """The rule on one variant's pairs; but outputs that do not depend on the seed are one result, however many."""
    first = pairs[:SAME]
    if len(first) == SAME and all(map(_alike, _arms(first))):
        return _over_examples(plan, rule, first)
    # A rule that looks after each pair must not change its mind when more arrive: it judges by the first pairs alone.
    enough = len(plan.seeds) if rule.rule == "fixed" else SAME
    if len(pairs) >= enough and all(map(_alike, pairs[:enough])):
        return _undecided(plan, rule, enough, 0.0)
    scores = _scores(plan, pairs)
    return rules.decide(
        _differences(plan, *scores.counted),
        delta=plan.delta,
        rule=rule,
        planned=len(plan.seeds),
        arms=len(plan.variants),
        quantum=quantum(plan.metric, _rows(pairs)),
        scores=scores,
    )


def _rows(pairs: Sequence[Pair]) -> int:
    """Rows of the evaluation that every trial was scored on; 0 if there is none."""
    return min((trial.rows for trial in chain(*pairs)), default=0)


def _arms(pairs: Sequence[Pair]) -> tuple[list[Trial], list[Trial]]:
    """The trials of the baseline and those of the variant."""
    return [before for before, _ in pairs], [after for _, after in pairs]


def _alike(trials: Iterable[Trial]) -> bool:
    """Whether all gave the same predictions, to the byte."""
    hashes = {trial.predictions_sha256 for trial in trials}
    return len(hashes) == 1 and None not in hashes


def _scores(plan: Plan, pairs: Sequence[Pair]) -> rules.Scores:
    baseline, variant = _arms(pairs)
    return rules.Scores(
        counted=(_counted(plan, baseline), _counted(plan, variant)),
        printed=(list(map(plan.scale.printed, baseline)), list(map(plan.scale.printed, variant))),
        seeds_matter=_seeds_matter(baseline) or _seeds_matter(variant),
    )


def _counted(plan: Plan, trials: Sequence[Trial]) -> list[float]:
    scores = []
    for trial in trials:
        score = plan.scale.score(trial)
        assert score is not None  # a pair holds only trials that `failure` passes
        scores.append(score)
    return scores


def _seeds_matter(trials: Sequence[Trial]) -> bool:
    """Whether an arm's predictions differ between seeds. Reads the first pairs only, so that it never changes."""
    hashes = {trial.predictions_sha256 for trial in trials[: rules.FIRST]}
    return len(hashes - {None}) > 1


def _differences(plan: Plan, baseline: Sequence[float], variant: Sequence[float]) -> list[float]:
    return [gain(plan.direction, before, after) for before, after in zip(baseline, variant, strict=True)]


def _undecided(plan: Plan, rule: StoppingRule, pairs: int, mean: float) -> rules.Ruling:
    """Pairs that replicate nothing: their `mean` has no interval."""
    level = 1 - 2 * rule.alpha / len(plan.variants)
    interval = Interval(n=pairs, mean=mean, low=None, high=None, level=level)
    return rules.Ruling(rules.RuleAction.FUTILE, interval, pairs, "deterministic" if mean else "no_change")


def _over_examples(plan: Plan, rule: StoppingRule, first: Sequence[Pair]) -> rules.Ruling:
    """Trainings whose output is the same for every seed: parts of the evaluation replicate instead, looked at once.

    If it has too few rows for that, nothing replicates: equal pairs are one pair, however many there are.
    """
    baseline, variant = _arms(first)
    baseline_parts, variant_parts = _parts(baseline), _parts(variant)
    if not baseline_parts or not variant_parts:
        scores = _scores(plan, first)
        return _undecided(plan, rule, len(first), _differences(plan, *scores.counted)[0])
    # The parts are all there will ever be, so there is nothing to look at again: one look, by the fixed rule.
    differences = _differences(plan, baseline_parts, variant_parts)
    ruling = rules.decide(
        differences,
        delta=plan.delta,
        rule=rule.model_copy(update={"rule": "fixed"}),
        planned=len(differences),
        arms=len(plan.variants),
    )
    action, reason = ruling.action, "deterministic"
    if action is rules.RuleAction.CONTINUE:
        action = rules.RuleAction.FUTILE  # there are no more parts to wait for
    if ruling.reason == "no_change":
        reason = "no_change"
    return replace(ruling, action=action, pairs=len(first), reason=reason)


def _parts(trials: Iterable[Trial]) -> Sequence[float]:
    """The scores of the first trial that was scored on parts of the evaluation; empty if none was."""
    for trial in trials:
        if trial.parts:
            return trial.parts
    return ()


# The verdict of a completed run

_VERDICTS = {
    rules.RuleAction.KEEP: Verdict.SUPPORTED,
    rules.RuleAction.REFUTED: Verdict.REFUTED,
    # A harm that is shown rules a gain out too.
    rules.RuleAction.WORSE: Verdict.REFUTED,
}
_BEST_FIRST = (Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.REFUTED)


@dataclass(frozen=True)
class _Variant:
    """A variant's comparison with the baseline, and how far it meets the design's criteria."""

    comparison: Comparison
    levels: dict[str, Level]

    @property
    def verdict(self) -> Verdict:
        """The worse of both: a design with a comparison and criteria needs both."""
        comparison = self.comparison.verdict
        return max(comparison, criteria_verdict(self.levels) or comparison, key=_BEST_FIRST.index)

    @property
    def reason(self) -> str:
        """The comparison's word, or the criteria that decided where the comparison alone would have said otherwise."""
        if self.comparison.verdict is self.verdict:
            return self.comparison.reason
        unmet = [f"{name} {level}" for name, level in self.levels.items() if level not in ("target", "acceptable")]
        return ", ".join(unmet)


def _verdict(plan: Plan, rulings: dict[str, rules.Ruling], read: Sequence[Trial]) -> Judgement:
    """The joint verdict of comparisons and criteria: one variant that meets both is enough."""
    means = aggregate(plan.scale, read)
    variants = []
    for name, ruling in rulings.items():
        # A variant whose first trial failed has no means.
        levels = criteria_levels(plan.criteria, means.get(name, {}), ruling.pairs)
        variants.append(_Variant(_comparison(plan, name, ruling, read), levels))
    # The largest mean among the best verdicts; the design's order breaks a tie.
    lead = min(variants, key=lambda variant: (_BEST_FIRST.index(variant.verdict), -variant.comparison.difference.mean))
    return Judgement(
        status="completed",
        reason=lead.reason,
        rulings=rulings,
        comparisons=tuple(variant.comparison for variant in variants),
        verdict=lead.verdict,
        criteria=lead.levels,
        lead=lead.comparison.arm,
    )


def _comparison(plan: Plan, name: str, ruling: rules.Ruling, read: Sequence[Trial]) -> Comparison:
    return Comparison(
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
        cut=tuple(_cut_trials(plan, name, ruling.pairs, read)),
    )


def _cut_trials(plan: Plan, variant: str, pairs: int, read: Sequence[Trial]) -> Iterator[CutTrials]:
    """How many trials of each arm were cut, of the pairs that a comparison has read; empty without a bound."""
    if plan.bound is None:
        return
    for arm in (plan.baseline.name, variant):
        trials = [trial for trial in read if trial.arm == arm and trial.index < pairs]
        yield plan.scale.cut_trials(arm, trials)


def assessment_of(judgement: Judgement) -> Assessment:
    """How the verdict came about, as results.yaml holds it."""
    return Assessment(
        verdict=judgement.verdict,
        reason=judgement.reason,
        comparisons=judgement.comparisons,
        criteria=dict(judgement.criteria),
    )
