"""The sentences and tables that documents are made of: an `Account` of records in, text out, pure.

No number is typed by hand. Numbers are rounded to what their interval can bear (the tables of the analysis hold all
digits), and what no evaluator measured is marked self-reported wherever it stands. A gain that was chosen for being
large is called selected; what is claimed of a kept candidate is the gain on fresh seeds, shrunken.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import (
    ArmMetrics,
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
from autolab.reports.markup import in_cell, inert, plain
from autolab.stats import rules, wording
from autolab.text import many_lines, one_line
from autolab.verifiers import suspicion

SUMMARY = "analysis/summary.md"
WORDS = 5_000
"""Characters that an entry quotes of one answer."""
_UNASKED = DocsOutput(observation="", inference="", claim="")
_CAPTIONS = {
    "comparison.png": "Each trial, and the gain of each pair with the interval that decided",
    "loss.png": "Loss in training (self-reported), and as evaluated at the end",
    "acc.png": "Accuracy in training (self-reported), and what was evaluated at the end",
}


@dataclass(frozen=True)
class Account:
    """One iteration as its documents tell it: numbers from records, words from `docs`, the model by its code.

    `manifest` and `metrics` are the search run's, `confirm` and `confirm_metrics` those of the run on fresh seeds;
    they are there exactly where `results` has a confirmation.
    """

    hypothesis: Hypothesis
    design: Design
    manifest: Manifest
    metrics: RunMetrics
    results: Results
    about: Summary | None = None
    slug: str = ""
    docs: DocsOutput = _UNASKED
    confirm: Manifest | None = None
    confirm_metrics: RunMetrics | None = None
    calibration: Calibration | None = None

    @property
    def iteration_id(self) -> str:
        return self.manifest.iteration_id

    @property
    def date(self) -> str:
        return self.iteration_id[:10]

    @property
    def title(self) -> str:
        """As Markdown."""
        return plain(self.hypothesis.title)

    @property
    def outcome(self) -> str:
        """The verdict and what became of it, for a heading."""
        return wording.standing(self.results)

    @property
    def confirmation(self) -> Confirmation | None:
        return self.results.confirmation

    @property
    def runs(self) -> tuple[tuple[Manifest, RunMetrics], ...]:
        """The search, and where there was one the confirmation."""
        search = (self.manifest, self.metrics)
        return (search, (self.confirm, self.confirm_metrics)) if self.confirm and self.confirm_metrics else (search,)

    @property
    def run_ids(self) -> str:
        return ", ".join(manifest.run_id for manifest, _ in self.runs)

    @property
    def rule(self) -> StoppingRule:
        """The rule of the search; a design that names its seeds is judged by the fixed one."""
        rule = self.manifest.rule or self.design.test or StoppingRule(rule="fixed")
        given = not isinstance(self.design.reproducibility.seeds, MaxPairs)
        return rule.model_copy(update={"rule": "fixed"}) if given else rule

    @property
    def asked(self) -> str:
        return f"{self.design.metrics.success_delta:g} in {self.metric}"

    @property
    def metric(self) -> str:
        """The metric that decides, as Markdown."""
        return plain(self.design.metrics.primary)

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in (*self.design.baselines, *self.design.variants))


# Sentences


def finding(compared: Comparison, metrics: RunMetrics) -> str:
    """What one comparison came to, in one sentence of numbers without its full stop."""
    gain, name = compared.difference, compared.metric
    metric = plain(name)
    base, variant = (metrics.arms[arm][name] for arm in (compared.baseline, compared.arm))
    told = [shown(found.mean, _half95(found)) for found in (base, variant)]
    over = f"over {pairs_of(compared)} pairs of trainings{', self-reported' if metrics.self_reported else ''}"
    cut_at = f"; {cuts(compared)}" if compared.cut else ""
    if gain.mean == 0:
        return f"{metric} of {compared.arm} equals that of {compared.baseline} on average {over} ({ends(gain)}){cut_at}"
    move = f"{'fell' if variant.mean < base.mean else 'rose'} from {told[0]} ({compared.baseline}) to {told[1]}"
    move += f" ({compared.arm})"
    if told[0] == told[1]:
        move = f"stayed at {told[0]} ({compared.baseline}, {compared.arm})"
    how = f"{'better' if gain.mean > 0 else 'worse'} by {shown(abs(gain.mean), half(gain))}"
    return f"{metric} {move} {over}: {how} ({ends(gain)} of the gain){cut_at}"


def cuts(compared: Comparison) -> str:
    """What kind of mean a comparison with a bound has, and how often an arm's trainings were cut: a line's part."""
    told = "; ".join(f"{one.arm}: {cut_share(one)}" for one in compared.cut)
    return f"mean gain, scores cut at {compared.bound:.5g}; {told}"


def cut_share(found: CutTrials) -> str:
    """`1 of 12 cut (1 diverged), at most 33.9% (95%)`."""
    diverged = f" ({found.diverged} diverged)" if found.diverged else ""
    return f"{found.cut} of {found.trials} cut{diverged}, at most {100 * found.at_most:.3g}% (95%)"


def pairs_of(compared: Comparison) -> int:
    """The pairs of trainings that were read; older manifests tell them by the interval alone."""
    return compared.difference.n if compared.pairs is None else compared.pairs


def confirmed(found: Confirmation, metric: str) -> str:
    """What fresh seeds and the holdout came to, in one sentence of numbers without its full stop."""
    gain, holdout = found.difference, {"passed": "; the holdout was passed", "failed": "; the holdout was failed"}
    came = f"came to {shown(gain.mean, half(gain))} on fresh seeds" if gain.n else "could not be measured again"
    word = "confirmed" if wording.came_back(found) else f"not confirmed{_why(found.reason)}"
    if found.reason == wording.MORE_CUT:
        word += ", but more of its trainings were cut"
    return f"the gain of {found.arm} in {plain(metric)} {came} ({ends(gain)}): {word}{holdout.get(found.holdout, '')}"


def _why(reason: str) -> str:
    return f" ({plain(wording.spoken(reason))})" if reason else ""


def verdict_sentence(account: Account) -> str:
    """How sure it is and what follows, in numbers; `meaning` says what the words stand for."""
    assessment, again, results = account.results.assessment, account.confirmation, account.results
    best = lead(account)
    if assessment.verdict is None or best is None:
        why = plain(results.error or assessment.reason).rstrip(".") or "no reason was recorded"
        broke = "the code did not do its work, which says nothing about the hypothesis: "
        return f"There is no verdict: {broke if results.status == 'failed' else ''}{why}."
    if again is not None:
        return _claimed(account, again, best)
    gain = best.difference
    measured = f"a mean gain of {shown(gain.mean, half(gain))} over {pairs_of(best)} pairs"
    if assessment.verdict is Verdict.SUPPORTED:
        held = "selected by the search; unconfirmed until fresh seeds repeat it"
        return f"Zero gain is ruled out, with {measured}, {held}."
    if assessment.reason == "no_change":
        return f"The change moved {plain(best.metric)} in none of {pairs_of(best)} pairs."
    if assessment.reason in wording.MEANINGS and assessment.verdict is Verdict.INCONCLUSIVE:
        return f"Whether the change gains {account.asked} is left open, after {measured}."
    if assessment.reason and assessment.reason not in wording.MEANINGS:
        return f"What was set before the run is not met: {plain(assessment.reason)}."
    high = gain.high
    most = f"at most {shown(high, half(gain))} fits the measurements" if high and high > 0 else None
    return f"A gain of {account.asked} is ruled out: {most or 'the change makes it worse'}."


def lead(account: Account) -> Comparison | None:
    """The comparison that the verdict rests on: that of the confirmed variant, else the one with the largest mean."""
    found, again = account.results.assessment.comparisons, account.confirmation
    mine = [one for one in found if again is None or one.arm == again.arm]
    return max(mine, key=lambda one: one.difference.mean, default=None)


def _claimed(account: Account, again: Confirmation, selected: Comparison) -> str:
    """What a confirmation leaves of the search's gain: the shrunken one to be claimed, or nothing."""
    fresh, first = again.difference, selected.difference
    search = f"{shown(first.mean, half(first))} over {pairs_of(selected)} pairs of the search, selected for being large"
    told = f"{shown(fresh.mean, half(fresh))} ({ends(fresh)}) over {_fresh_pairs(account, again)} pairs of fresh seeds"
    compared = _fresh(account, again)
    cut_at = f" ({cuts(compared)})" if compared is not None and compared.cut else ""
    if again.outcome != "kept":
        return f"Nothing is claimed: the gain of {search}, {_not_claimed(again, told)}{cut_at}."
    claim = f"a gain of {shown(again.shrunken, half(fresh))} in {account.metric}"
    claim += f", {wording.ALONE}" if again.evaluation_only else ""
    return f"Claimed: {claim}{cut_at}, which is {told}, drawn towards 0; beside it {search}."


def _not_claimed(again: Confirmation, told: str) -> str:
    """Why a gain that came back as `told` is not claimed."""
    if again.reason == wording.MORE_CUT:
        return f"came back as {told}, but more trials were cut"
    if again.holdout == "failed":
        return f"came back as {told}, but not on the holdout"
    if again.holdout == "used_up":
        return f"came back as {told}, and the holdout has no questions left"
    if again.outcome == "suspicious":
        return f"came back as {told}, and is set aside: {plain('; '.join(again.suspicions))}"
    return f"came to {told}"


def _fresh(account: Account, again: Confirmation) -> Comparison | None:
    """The comparison on fresh seeds."""
    known = account.confirm_metrics.comparisons if account.confirm_metrics else ()
    return next((one for one in known if one.arm == again.arm), None)


def _fresh_pairs(account: Account, again: Confirmation) -> int:
    known = _fresh(account, again)
    return again.difference.n if known is None else pairs_of(known)


def meaning(account: Account) -> str:
    """What the words that were used for this experiment mean, a line each."""
    delta = account.design.metrics.success_delta
    told = wording.explained(account.results, account.rule, account.metric, delta)
    lines = [f"- *{wording.spoken(word)}*: {sentence}" for word, sentence in told.items()]
    return blocks("What the words mean:", "\n".join(lines)) if lines else ""


def observed(account: Account) -> str:
    """Every comparison in a sentence, with its verdict where there are several, and what fresh seeds said."""
    found, again = account.results.assessment.comparisons, account.confirmation
    told = [f"{finding(one, account.metrics)}{f': {verdict(one)}' if len(found) > 1 else ''}." for one in found]
    if again is not None:
        sentence = confirmed(again, account.design.metrics.primary)
        told.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return " ".join(told) or "Nothing was compared."


def opening(account: Account) -> str:
    """What was tried, what came out, how sure: one paragraph that stands for itself."""
    tried = (plain(line(account.design.description)[:400]) or account.title).rstrip(".")
    return f"**{account.outcome.capitalize()}.** Tried: {tried}. {observed(account)} {verdict_sentence(account)}"


def spent(account: Account) -> str:
    """Trials and their time, of the search and of the confirmation."""
    trials = [trial for manifest, _ in account.runs for trial in manifest.trials]
    ran = [trial for trial in trials if trial.outcome is not TrialOutcome.CANCELLED]
    fresh = [trial for trial in ran if trial.reused_from is None]
    reused = f"; {len(ran) - len(fresh)} more taken over from earlier iterations" if len(fresh) < len(ran) else ""
    return f"{len(fresh)} trials, {duration(sum(trial.seconds for trial in fresh))}{reused}"


def cost(account: Account) -> str:
    """What was spent, and what the change costs in parameters and time against the baseline, as far as it is known."""
    told = [f"Spent: {spent(account)}."]
    base, *others = [(arm, _parameters(account, arm), _seconds(account, arm)) for arm in account.arms]
    for arm, size, seconds in others:
        parts = [f"{size:,} parameters, self-reported ({base[0]}: {base[1]:,})"] if size and base[1] else []
        parts += [f"{duration(seconds)} a trial ({base[0]}: {duration(base[2])})"] if seconds and base[2] else []
        told += [f"{arm}: {'; '.join(parts)}."] if parts else []
    return " ".join(told)


def _parameters(account: Account, arm: str) -> int | None:
    """By the trainings' own word, or for the first variant by that of the candidate's code."""
    said = {trial.self_reported.get("parameters") for trial in account.manifest.trials if trial.arm == arm}
    known = {int(number) for number in said if number is not None and 0 < number < 1e15}
    if len(known) == 1:
        return known.pop()
    return account.about.parameters if account.about and arm == account.design.variants[0].name else None


def _seconds(account: Account, arm: str) -> float | None:
    found = [t.seconds for t in account.manifest.trials if t.arm == arm and t.outcome is TrialOutcome.COMPLETED]
    return sum(found) / len(found) if found else None


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.{0 if seconds >= 10 else 1}f} s"


# Tables


def numbers(account: Account) -> str:
    """The arms' means with intervals, of six metrics at most (the csv tables have all), and what they are."""
    arms, design = account.metrics.arms, account.design
    others = {name for measured in arms.values() for name in measured} - {design.metrics.primary}
    names = (design.metrics.primary, *sorted(others)[:5])
    rows = []
    for manifest, metrics in account.runs:
        fresh = "" if manifest is account.manifest else " (fresh seeds)"
        for arm, found in ((arm, metrics.arms[arm]) for arm in account.arms if arm in metrics.arms):
            trials = str(max(one.n for one in found.values()))
            rows.append((arm + fresh, trials, *(_mean(found.get(name)) for name in names)))
    better = "lower" if account.hypothesis.direction == "minimize" else "higher"
    told = f"Mean over the trials ± half its 95% interval; of {account.metric}, {better} is better."
    told += " **These numbers are self-reported**: no evaluator measured them." if account.metrics.self_reported else ""
    odd = [one.message for manifest, _ in account.runs for one in suspicion.find(manifest, design, account.calibration)]
    told += "".join(f" **Suspicious**: {plain(message)}." for message in dict.fromkeys(odd))
    return blocks(table(("arm", "trials", *map(plain, names)), rows), told) if rows else "No trial completed."


def key_metrics(account: Account) -> str:
    """What came out, against what was set before the run."""
    asked, rows = f"at least {account.design.metrics.success_delta:g}", []
    again = account.confirmation
    for one in account.results.assessment.comparisons:
        gain = one.difference
        value = f"{shown(gain.mean, half(gain))} ({ends(gain)}, {pairs_of(one)} pairs)"
        chosen = " (search, selected)" if again and one.arm == again.arm else ""
        rows.append((f"{plain(one.metric)}: gain of {one.arm} over {one.baseline}{chosen}", value, asked, verdict(one)))
        rows += _cut_rows(one, chosen)
    if again is not None:
        rows += _confirmed_rows(account, again, asked)
    for limit in account.design.criteria:
        found = account.results.metrics.get(limit.metric)
        level = account.results.assessment.criteria.get(limit.metric, "unmeasured")
        bounds = {"target": limit.target, "acceptable": limit.acceptable, "failure": limit.failure}
        told = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)
        rows.append((plain(limit.metric), "" if found is None else f"{found:.4g}", told, level))
    mark = " (self-reported)" if account.metrics.self_reported else ""
    return table((f"Metric{mark}", "Value", "Threshold", "Result"), rows) if rows else "No metric was measured."


def _cut_rows(compared: Comparison, where: str) -> list[tuple[str, str, str, str]]:
    """An arm's share of trials that were cut, a row each."""
    name = f"{plain(compared.metric)}: trainings cut at {'' if compared.bound is None else f'{compared.bound:.5g}'}"
    return [(f"{name}, {one.arm}{where}", cut_share(one), "", "") for one in compared.cut]


def _confirmed_rows(account: Account, again: Confirmation, asked: str) -> list[tuple[str, str, str, str]]:
    """Fresh seeds, the holdout, and what is claimed after both."""
    gain, name = again.difference, account.metric
    value = f"{shown(gain.mean, half(gain))} ({ends(gain)}, {_fresh_pairs(account, again)} pairs)"
    result = "confirmed" if wording.came_back(again) else f"not confirmed{_why(again.reason)}"
    rows = [(f"{name}: gain of {again.arm} on fresh seeds", value, asked, result)]
    compared = _fresh(account, again)
    rows += _cut_rows(compared, " (fresh seeds)") if compared else []
    holdout = {"passed": "passed", "failed": "failed", "none": "the lab has none", "used_up": "no question left"}
    if again.holdout in holdout:
        over = f", error over {again.holdout_error}" if again.holdout_error else ""
        rows.append((f"{name}: gain on the holdout", "", f"above 0 (one-sided 2.5%{over})", holdout[again.holdout]))
    if again.reason == wording.MORE_CUT:
        rows.append((f"{name}: trainings cut on fresh seeds", "", "no more than the baseline", "more"))
    if again.outcome == "kept":
        told = f"{shown(again.shrunken, half(gain))} (shrunken)"
        rows.append((f"{name}: gain that is claimed", told, "", wording.fate(again)))
    return rows


def verdict(compared: Comparison) -> str:
    return f"{compared.verdict}{_why(compared.reason)}"


def rule(account: Account) -> str:
    """The rule that decided, fixed before the first trial."""
    seeds, how = account.design.reproducibility.seeds, account.rule
    planned = seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
    pairs = f"{account.manifest.pairs or planned} pairs of trainings, both of a pair from one seed"
    delta, keep = f"{account.design.metrics.success_delta:g}", f"wrongly at most 1 time in {1 / how.alpha:.0f}"
    told = {"sequential": _sequential, "sprt": _sprt, "fixed": _fixed}[how.rule](account, pairs, delta, keep)
    again, asked = account.confirmation, ""
    if again is not None:
        holdout = "" if again.holdout == "none" else ", and then the holdout is asked"
        asked = f" What was supported is measured again by the same rule on fresh seeds{holdout}."
    return f"Fixed before the first trial: {told} Else inconclusive.{asked}"


def _sequential(account: Account, pairs: str, delta: str, keep: str) -> str:
    futile = f" or only unlikely (futile: given up wrongly at most 1 time in {rules.FUTILE:g})"
    futile = "" if account.rule.resolve else futile
    return (
        f"at most {pairs}, looked at in seed order after each pair from number {rules.FIRST} on, by a test that does"
        f" not err more often for looking often. Supported: no gain is ruled out ({keep}, all variants together) and"
        f" the mean reaches half of {delta}. Stopped where a gain of {delta} is ruled out (refuted: wrongly at most"
        f" 1 time in {rules.REFUTED:g}){futile}."
    )


def _sprt(account: Account, pairs: str, delta: str, keep: str) -> str:
    return (
        f"at most {pairs}, looked at in seed order after each pair, by Wald's test of no gain against a gain of {delta}"
        f" for the deviation that the lab declares, {account.rule.deviation:g}. Supported: no gain is ruled out"
        f" ({keep}, all variants together). Futile: a gain of {delta} has become unlikely (given up wrongly at most"
        f" 1 time in {1 / account.rule.beta:.0f})."
    )


def _fixed(account: Account, pairs: str, delta: str, keep: str) -> str:
    level = next((f"{100 * one.difference.level:g}% " for one in account.results.assessment.comparisons), "")
    return (
        f"{pairs}, looked at once; what counts is the mean gain with its {level}interval. Supported: the interval lies"
        f" above 0 ({keep}, all variants together) and the mean reaches {delta}. Refuted: the interval lies below"
        f" {delta}."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(in_cell, row))} |" for row in lines)


# Numbers as they are shown


def ends95(found: ArmMetrics) -> tuple[float | None, float | None]:
    """The 95% Student t interval of an arm's mean; none below two trials."""
    around = _half95(found)
    return (None, None) if around is None else (found.mean - around, found.mean + around)


def _half95(found: ArmMetrics) -> float | None:
    from scipy.special import stdtrit

    return None if found.std is None else -float(stdtrit(found.n - 1, 0.025)) * found.std / math.sqrt(found.n)


def half(gain: Interval) -> float | None:
    return None if gain.low is None or gain.high is None else (gain.high - gain.low) / 2


def shown(value: float, around: float | None) -> str:
    """A value down to the second digit of its interval's half width; four digits where there is none."""
    places = 1 - math.floor(math.log10(around)) if around else 99
    if places > 12 or abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{round(value, places) + 0.0:.{max(0, places)}f}"  # + 0.0: no minus zero


def _mean(found: ArmMetrics | None) -> str:
    around = _half95(found) if found else None
    return "" if found is None else shown(found.mean, around) + (f" ± {shown(around, around)}" if around else "")


def ends(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return "no interval"
    return f"{100 * gain.level:g}% interval {shown(gain.low, half(gain))} to {shown(gain.high, half(gain))}"


# Where the evidence lies, seen from `here`, the document's folder in the lab


def link(account: Account, path: str, here: str) -> str:
    return posixpath.relpath(f"experiments/{account.iteration_id}/{path}", here or ".")


def pictures(account: Account, here: str) -> str:
    """The run's figures, embedded."""
    drawn = [path for path in account.results.artifacts if path.endswith(".png")]
    return "\n\n".join(f"![{_CAPTIONS[posixpath.basename(path)]}]({link(account, path, here)})" for path in drawn)


def evidence(account: Account, here: str) -> str:
    """Where everything lies, and how to do it again."""
    git = account.manifest.git
    places = [("what came out, with figures", SUMMARY), ("every number with all its digits", "analysis/tables")]
    what = ("every trial with seed, commit and hashes", "every trial on fresh seeds")
    runs = [manifest.run_id for manifest, _ in account.runs]
    places += [(told, f"runs/{run}/run_manifest.json") for told, run in zip(what, runs, strict=False)]
    places.append(("the experiment as it was designed", "design.yaml"))
    rows = [f"- {told}: [{path}]({link(account, path, here)})" for told, path in places]
    if git.base_commit and git.candidate_commit:
        rows.append(f"- the change itself: `git diff {git.base_commit[:12]} {git.candidate_commit[:12]}`")
    rows.append(f"- to measure it again: `autolab reproduce {account.iteration_id}/{runs[-1]}`")
    return "\n".join(rows)


def line(text: str) -> str:
    """One line, as `text.one_line` shows it."""
    return one_line(text)


def prose(text: str) -> str:
    """A researcher's words, at most WORDS characters, as Markdown that loads nothing and closes what it opens."""
    return inert(many_lines(text.strip(), WORDS))


def blocks(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())
