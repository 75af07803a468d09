"""What documents say of an iteration in sentences: an `Account` of records in, text out, pure.

All texts are plain text, and templates escape them. No number is typed by hand. A gain that no fresh seeds have
confirmed is called one of the search, and a number that no evaluator measured is called self-reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import (
    Calibration,
    Comparison,
    Confirmation,
    CutTrials,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    MaxPairs,
    Results,
    RunMetrics,
    Summary,
)
from autolab.lab.schemas.outcomes import TrialOutcome, Verdict
from autolab.lab.schemas.replies import DocsOutput
from autolab.reports import claim_words
from autolab.reports.exploration_account import ExplorationAccount
from autolab.reports.rounding import decimals_of, duration, gain_of, means_of, shown
from autolab.stats import wording
from autolab.stats.plan import recorded_plan
from autolab.stats.verdict import shown_interval

PATHS = IterationPaths(Path())
"""The names of an iteration's files, relative to its folder."""
SUMMARY = str(PATHS.summary)
_NO_WORDS = DocsOutput(observation="", inference="", claim="")
_PROMISES_FEWER = re.compile(r"\b(?:fewer|less|a fraction of the|half the|no more)\s+(?:weights|parameters)\b", re.I)


@dataclass(frozen=True)
class Account:
    """One iteration for its documents: numbers from records, words from `docs`, the model by its code (`about`).

    `manifest` and `metrics` are those of the search, `confirm` and `confirm_metrics` those of the run on fresh seeds.
    The latter are there exactly if `results` has a confirmation. A claim has one run that is both; `exploration` tells
    what led to it.
    """

    hypothesis: Hypothesis
    design: Design
    manifest: Manifest
    metrics: RunMetrics
    results: Results
    about: Summary | None = None
    slug: str = ""
    docs: DocsOutput = _NO_WORDS
    confirm: Manifest | None = None
    confirm_metrics: RunMetrics | None = None
    calibration: Calibration | None = None
    exploration: ExplorationAccount | None = None

    @property
    def is_claim(self) -> bool:
        """Whether its one run was on fresh seeds, as that of a claim of mode `explore`."""
        return claim_words.is_claim(self.results)

    @property
    def iteration_id(self) -> str:
        return self.manifest.iteration_id

    @property
    def folder(self) -> str:
        """The iteration's folder, relative to the lab."""
        return f"experiments/{self.iteration_id}"

    @property
    def metric(self) -> str:
        return self.design.metrics.primary

    @property
    def delta(self) -> float:
        """The smallest gain worth having."""
        return self.design.metrics.success_delta

    @property
    def confirmation(self) -> Confirmation | None:
        return self.results.confirmation

    @property
    def runs(self) -> tuple[tuple[Manifest, RunMetrics], ...]:
        """The search, then the confirmation if there was one; of a claim its one run."""
        if self.confirm is None or self.confirm_metrics is None or self.is_claim:
            return ((self.manifest, self.metrics),)
        return (self.manifest, self.metrics), (self.confirm, self.confirm_metrics)

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in (*self.design.baselines, *self.design.variants))

    @property
    def rule(self) -> StoppingRule:
        """The rule of the search; the fixed one if the design names its seeds."""
        rule = self.manifest.rule or self.design.test or StoppingRule(rule="fixed")
        if isinstance(self.design.reproducibility.seeds, MaxPairs):
            return rule
        # With fixed seeds the run cannot stop early, whatever rule the lab has.
        return rule.model_copy(update={"rule": "fixed"})

    @property
    def planned_pairs(self) -> int:
        """Pairs of the search at most."""
        if self.manifest.pairs:
            return self.manifest.pairs
        seeds = self.design.reproducibility.seeds
        if isinstance(seeds, MaxPairs):
            return seeds.max_pairs
        return len(seeds)

    @property
    def lead(self) -> Comparison | None:
        """The comparison behind the verdict: that of the confirmed variant, else the one with the largest mean."""
        comparisons = self.results.assessment.comparisons
        if self.confirmation is not None:
            return _comparison_of(self.confirmation.arm, comparisons)
        return max(comparisons, key=lambda comparison: comparison.difference.mean, default=None)

    @property
    def fresh(self) -> Comparison | None:
        """The comparison on fresh seeds; None if there was none, or if its run failed."""
        if self.is_claim:
            return self.lead
        if self.confirmation is None or self.confirm_metrics is None:
            return None
        return _comparison_of(self.confirmation.arm, self.confirm_metrics.comparisons)

    @property
    def cut_at(self) -> float | None:
        """The bound at which trials were cut, in the metric's units; None if none was."""
        comparisons = [*self.results.assessment.comparisons]
        if self.fresh is not None:
            comparisons.append(self.fresh)
        for comparison in comparisons:
            if any(arm.cut for arm in comparison.cut):
                return comparison.bound
        return None

    @property
    def uncut_at(self) -> float | None:
        """The bound of the search, in the metric's units, if no trial was cut; None if one was or there is no bound."""
        if self.cut_at is not None or self.lead is None:
            return None
        return self.lead.bound

    @property
    def fresh_pairs(self) -> int:
        """Pairs of trials on fresh seeds."""
        if self.fresh is not None:
            return pairs_of(self.fresh)
        if self.confirmation is not None:
            return self.confirmation.difference.n
        return 0

    def interval(self, compared: Comparison) -> Interval:
        """The gain of a comparison with the interval that goes with its verdict (`verdict.shown_interval`)."""
        # A manifest without a rule of its own has no plan, and the rule that it was made under has one interval.
        if compared.verdict is Verdict.SUPPORTED or self.rule.rule != "sequential":
            return compared.difference
        manifest = self.manifest
        if self.confirm is not None and compared is self.fresh:
            manifest = self.confirm
        plan = recorded_plan(manifest, self.design, self.hypothesis, None)
        return shown_interval(compared, replace(plan, rule=self.rule), manifest.trials)


def _comparison_of(arm: str, comparisons: Iterable[Comparison]) -> Comparison | None:
    """An arm's comparison; None if its run failed."""
    for comparison in comparisons:
        if comparison.arm == arm:
            return comparison
    return None


# The first line


def headline(account: Account) -> str:
    """The whole iteration in one line.

    `Kept: val_loss 0.0857 -> 0.0459, gain 0.040 (99% CI 0.023 to 0.057), 5 fresh seeds, holdout passed`
    """
    return f"{claim_words.label(account.results)}: {_outcome(account)}"


def _outcome(account: Account) -> str:
    assessment, lead = account.results.assessment, account.lead
    if assessment.verdict is None or lead is None:
        return account.results.error or assessment.reason or "no reason was recorded"
    if account.confirmation is not None:
        return _confirmed_outcome(account, account.confirmation, lead)
    movement = _movement(lead, account.metrics, account.interval(lead))
    best = ""
    # The largest of several gains is flattered by luck, so a reader must know of how many it is.
    variants = len(assessment.comparisons)
    if variants > 1:
        best = f", the best of {variants} variants"
    pairs = "fresh seeds" if account.is_claim else "pairs"
    return f"{movement}, {pairs_of(lead)} {pairs}{_cut_trials(lead)}{best}{_why(account, lead)}"


def _confirmed_outcome(account: Account, confirmation: Confirmation, lead: Comparison) -> str:
    metrics, fresh = account.confirm_metrics, account.fresh
    if account.is_claim:
        metrics = account.metrics
    if metrics is None or fresh is None:
        movement = _movement(lead, account.metrics, lead.difference)
        return f"{movement} in the search; the confirmation has no result: {confirmation.reason}"
    movement = _movement(fresh, metrics, account.interval(fresh))
    movement += f", {account.fresh_pairs} fresh seeds{_cut_trials(fresh)}"
    if confirmation.reason == wording.MORE_CUT:
        return f"{movement}, but more trials were cut than of the baseline"
    if account.is_claim and confirmation.outcome == "retracted":
        return f"{movement}{_why(account, fresh)}"
    # The search selected this variant, so its gain was flattered: the reader sees by how much.
    if confirmation.outcome == "retracted" and confirmation.holdout == "not_asked":
        search_gain = shown(lead.difference.mean, decimals_of(lead.difference))
        return f"{movement}; the search had measured a gain of {search_gain}"
    return f"{movement}, {HOLDOUT[confirmation.holdout]}"


HOLDOUT = {
    "passed": "holdout passed",
    "failed": "holdout failed",
    "none": "no holdout",
    "used_up": "no holdout question left",
    "not_asked": "holdout not asked",
}


def _movement(compared: Comparison, metrics: RunMetrics, gain: Interval) -> str:
    """`val_loss 0.0857 -> 0.0459, gain 0.040 (99% CI 0.023 to 0.057)`; a gain is positive if it is for the better."""
    before, after = metrics.arms[compared.baseline][compared.metric], metrics.arms[compared.arm][compared.metric]
    baseline, variant = means_of(before, after, gain)
    metric = compared.metric
    if metrics.self_reported:
        metric += " (self-reported)"
    return f"{metric} {baseline} -> {variant}, gain {gain_of(gain)}"


def _cut_trials(compared: Comparison) -> str:
    """How many trials were cut, if any."""
    shares = ""
    for arm in compared.cut:
        if arm.cut:
            shares += f", {arm.cut} of {arm.trials} trials of {arm.arm} cut"
    return shares


def _why(account: Account, lead: Comparison) -> str:
    """What decided, as the end of the headline of an unconfirmed iteration."""
    assessment = account.results.assessment
    gain = f"a gain of {account.delta:g} or more"
    if assessment.verdict is Verdict.SUPPORTED:
        return "; not measured on fresh seeds yet"
    if assessment.verdict is Verdict.REFUTED and lead.verdict is Verdict.REFUTED:
        return f"; {gain} is ruled out"
    endings = {
        "futile": f"; {gain} has become unlikely",
        "budget": "; all planned pairs are used",
        "no_change": "; the change has no measured effect",
        "deterministic": "; the seed has no effect, so more pairs prove nothing",
    }
    if assessment.reason in endings:
        return endings[assessment.reason]
    return f"; a limit set before the run decides: {wording.spoken(assessment.reason)}"


# Comparisons


def finding(compared: Comparison, metrics: RunMetrics) -> str:
    """The result of a comparison, in one sentence without its full stop."""
    movement = _movement(compared, metrics, compared.difference)
    text = f"{compared.arm} against {compared.baseline}: {movement}, {pairs_of(compared)} pairs"
    if cuts(compared):
        text += f"; {cuts(compared)}"
    return text


def confirmed(confirmation: Confirmation, metric: str) -> str:
    """The result of fresh seeds and of the holdout, in one sentence without its full stop."""
    subject = f"{confirmation.arm} on fresh seeds"
    if not confirmation.difference.n:
        return f"{subject}: the gain in {metric} could not be measured ({confirmation.reason})"
    result = confirmation_result(confirmation)
    return f"{subject}: gain {gain_of(confirmation.difference)} in {metric}, {result}, {HOLDOUT[confirmation.holdout]}"


def confirmation_result(confirmation: Confirmation) -> str:
    """`confirmed`, or `not confirmed` with its reason."""
    if wording.came_back(confirmation):
        return "confirmed"
    return _with_reason("not confirmed", confirmation.reason)


def claimed(account: Account) -> str:
    """The gain that is claimed of a kept candidate; empty if there is none."""
    confirmation = account.confirmation
    if confirmation is None or confirmation.outcome != "kept":
        return ""
    places = decimals_of(confirmation.difference)
    claim, mean = shown(confirmation.shrunken, places), shown(confirmation.difference.mean, places)
    if claim != mean:
        claim += f" (less than the mean of {mean}, because a gain that was selected is partly luck)"
    # Without a holdout nothing has shown that the gain is more than a fit to these examples.
    if confirmation.evaluation_only:
        claim += f", {wording.ALONE}"
    return claim


def verdict(compared: Comparison) -> str:
    """`supported`, `inconclusive (futile)`."""
    return _with_reason(compared.verdict.value, compared.reason)


def _with_reason(word: str, reason: str) -> str:
    if not reason:
        return word
    return f"{word} ({wording.spoken(reason)})"


def cuts(compared: Comparison) -> str:
    """The arms of a comparison with trials that were cut, and how many; empty if none was."""
    shares = []
    for arm in compared.cut:
        # Of a few trials the upper limit is large even if none was cut, and would read like a failure.
        if arm.cut:
            limit = f"(each counts as {compared.bound:.5g})"
            shares.append(f"trials of {arm.arm} that diverged or scored worse {limit}: {cut_share(arm)}")
    return "; ".join(shares)


def cut_share(arm: CutTrials) -> str:
    """`1 of 12, 1 diverged (at most 33.9% in the long run, with 95% confidence)`."""
    share = f"{arm.cut} of {arm.trials}"
    if arm.diverged:
        share += f", {arm.diverged} diverged"
    return f"{share} (at most {100 * arm.at_most:.3g}% in the long run, with 95% confidence)"


def pairs_of(compared: Comparison) -> int:
    """The pairs of trials that were read; older manifests have only the interval's count."""
    if compared.pairs is None:
        return compared.difference.n
    return compared.pairs


# Cost


def spent(account: Account) -> str:
    """Time and trials of the search and of the confirmation.

    `96 s: 17 new trials, 5 reused ones, 1 unused one`. The first two add up to the
    trials of the tables. Reused trials that the rule did not need have cost nothing, and are left out.
    """
    new, seconds, late, reused = 0, 0.0, 0, 0
    for manifest, metrics in account.runs:
        for trial in manifest.trials:
            needed = trial.index < _read(metrics, trial.arm)
            if trial.outcome is TrialOutcome.CANCELLED:
                continue
            # A reused trial has the seconds of its first run, which another iteration has paid.
            if trial.reused_from is not None:
                reused += needed
                continue
            new += 1
            seconds += trial.seconds
            late += not needed
    parts = [_counted(new - late, "new trial")]
    if reused:
        parts.append(_counted(reused, "reused one"))
    if late:
        parts.append(_counted(late, "unused one"))
    return f"{duration(seconds)}: {', '.join(parts)}"


def _read(metrics: RunMetrics, arm: str) -> int:
    """How many trials of an arm the rule has read, which are those with the first indices."""
    return max((mean.n for mean in metrics.arms.get(arm, {}).values()), default=0)


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


@dataclass(frozen=True)
class ArmCost:
    """What an arm costs, as far as it is known: parameters by its own report, mean seconds of its completed trials."""

    name: str
    parameters: int | None
    seconds: float | None


def costs(account: Account) -> list[ArmCost]:
    """The cost of each arm of the search or of the claim, the baseline first."""
    return [ArmCost(arm, _parameters(account, arm), _seconds(account, arm)) for arm in account.arms]


def ratios(account: Account) -> list[str]:
    """Where a variant differs from the baseline in size or takes clearly longer, in a sentence each."""
    baseline, *variants = costs(account)
    sentences = []
    for arm in variants:
        if arm.parameters and baseline.parameters and not 0.9 < arm.parameters / baseline.parameters < 1.1:
            times = f"{arm.parameters / baseline.parameters:.2g} times the baseline's parameters"
            counts = f"{arm.parameters:,} against {baseline.parameters:,}, self-reported"
            sentences.append(f"{arm.name} has {times} ({counts}), so its effect may be that of its size.")
        if arm.seconds and baseline.seconds and _takes_longer(arm.seconds, baseline.seconds):
            times = f"{arm.seconds / baseline.seconds:.2g} times as long as one of the baseline"
            seconds = f"{duration(arm.seconds)} against {duration(baseline.seconds)}"
            run = "claim" if account.is_claim else "search"
            sentences.append(f"In the {run} a trial of {arm.name} took {times} ({seconds}).")
    return sentences


def _takes_longer(seconds: float, baseline: float) -> bool:
    """By more than what a shared machine adds to a trial by chance."""
    return seconds > 1.3 * baseline and seconds > baseline + 1


def contradiction(account: Account) -> str:
    """Where the measured size contradicts a mechanism that promises fewer parameters; empty if it does not."""
    baseline, *variants = costs(account)
    if not baseline.parameters or not _PROMISES_FEWER.search(account.hypothesis.mechanism):
        return ""
    for arm in variants:
        if arm.parameters and arm.parameters > baseline.parameters:
            times = f"{arm.parameters / baseline.parameters:.2g} times the baseline's parameters"
            counts = f"{arm.parameters:,} against {baseline.parameters:,}"
            return f"Measured: {arm.name} has {times} ({counts}), although the mechanism promises fewer."
    return ""


def _parameters(account: Account, arm: str) -> int | None:
    """By the trainings' own report, or for the first variant by the candidate's code."""
    counts = set()
    for trial in account.manifest.trials:
        count = trial.self_reported.get("parameters", 0)
        # The training reports this number itself, so it may be NaN or absurd.
        if trial.arm == arm and 0 < count < 1e15:
            counts.add(int(count))
    # Trials that contradict each other have no count.
    if len(counts) == 1:
        return counts.pop()
    if account.about and arm == account.design.variants[0].name:
        return account.about.parameters
    return None


def _seconds(account: Account, arm: str) -> float | None:
    """Mean seconds of an arm's completed trials."""
    seconds = []
    for trial in account.manifest.trials:
        if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED:
            seconds.append(trial.seconds)
    if not seconds:
        return None
    return sum(seconds) / len(seconds)
