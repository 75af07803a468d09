"""What the documents say of an iteration: an `Account` of records in, text out, pure; no number is typed by hand.

The reader meant saw no run and does not know the lab: a document begins with what was tried, what came out and how sure
it is, and says where its evidence lies. Numbers are rounded to what their 95% interval can bear (the tables hold all
digits), and what no evaluator measured is marked self-reported wherever it stands.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autolab import suspicion
from autolab.documents import COLUMNS, Entry
from autolab.errors import RecordError
from autolab.records.experiment import (
    Arm,
    ArmMetrics,
    Comparison,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    MaxPairs,
    Results,
    RunMetrics,
    Summary,
)
from autolab.records.outcomes import Outcome, Verdict
from autolab.records.replies import DocsOutput

JOURNAL, FINDINGS, TABLE = "RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"
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
    """One iteration as its documents tell it: numbers from records, words from `docs`, the model by its code."""

    hypothesis: Hypothesis
    design: Design
    manifest: Manifest
    metrics: RunMetrics
    results: Results
    about: Summary | None = None
    slug: str = ""
    docs: DocsOutput = _UNASKED
    confirmed: bool = False

    @property
    def iteration_id(self) -> str:
        return self.manifest.iteration_id

    @property
    def date(self) -> str:
        return self.iteration_id[:10]

    @property
    def title(self) -> str:
        return line(self.hypothesis.title)

    @property
    def outcome(self) -> str:
        return outcome(self.results.assessment.verdict, self.results.status, self.confirmed)

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in (*self.design.baselines, *self.design.variants))


# Sentences


def outcome(verdict: Verdict | None, status: str, confirmed: bool = False) -> str:
    """The verdict in a heading: `supported, unconfirmed`, `refuted`, `failed, no verdict`."""
    if verdict is None:
        return "failed, no verdict" if status == "failed" else "no verdict"
    return "supported, unconfirmed" if verdict is Verdict.SUPPORTED and not confirmed else verdict.value


def finding(compared: Comparison, metrics: RunMetrics) -> str:
    """What one comparison came to, in one sentence of numbers without its full stop."""
    gain, name = compared.difference, compared.metric
    base, variant = (metrics.arms[arm][name] for arm in (compared.baseline, compared.arm))
    told = [_shown(found.mean, _half95(found)) for found in (base, variant)]
    over = f"over {gain.n} pairs of trainings{', self-reported' if metrics.self_reported else ''}"
    if gain.mean == 0:
        return f"{name} of {compared.arm} equals that of {compared.baseline} on average {over} ({_ends(gain)})"
    move = f"{'fell' if variant.mean < base.mean else 'rose'} from {told[0]} ({compared.baseline}) to {told[1]}"
    move += f" ({compared.arm})"
    if told[0] == told[1]:
        move = f"stayed at {told[0]} ({compared.baseline}, {compared.arm})"
    how = f"{'better' if gain.mean > 0 else 'worse'} by {_shown(abs(gain.mean), _half(gain))}"
    return f"{name} {move} {over}: {how} ({_ends(gain)} of the gain)"


_MEANING = {
    "no_change": "The variant's outputs are those of the baseline: the change does nothing.",
    "deterministic": "Every seed gave the same difference, so the seeds show no spread and prove nothing about others.",
    "budget": "The planned pairs are used up, and they neither show a gain of {asked} nor rule it out.",
    "futile": "The test was ended early: a gain of {asked} had become unlikely.",
}


def verdict_sentence(account: Account) -> str:
    """How sure it is and what follows, in plain words."""
    assessment, results = account.results.assessment, account.results
    asked = f"{account.design.metrics.success_delta:g} in {account.design.metrics.primary}"
    best = max(assessment.comparisons, key=lambda one: one.difference.mean, default=None)
    if assessment.verdict is None or best is None:
        why = line(results.error or assessment.reason).rstrip(".") or "no reason was recorded"
        broke = "the code did not do its work, which says nothing about the hypothesis: "
        return f"There is no verdict: {broke if results.status == 'failed' else ''}{why}."
    if assessment.verdict is Verdict.SUPPORTED:
        held = "measured again on fresh seeds" if account.confirmed else "unconfirmed until fresh seeds repeat it"
        return f"Zero gain is ruled out, and the mean reaches the {asked} that was asked for; {held}."
    if assessment.reason in _MEANING:
        return _MEANING[assessment.reason].format(asked=asked)
    if assessment.reason:
        return f"What was set before the run is not met: {line(assessment.reason)}."
    high = best.difference.high
    most = f"at most {_shown(high, _half(best.difference))} fits the measurements" if high and high > 0 else None
    return f"A gain of {asked} is ruled out: {most or 'the change makes it worse'}."


def observed(account: Account) -> str:
    """Every comparison in a sentence, with its verdict where there are several."""
    found = account.results.assessment.comparisons
    told = [f"{finding(one, account.metrics)}{f': {verdict(one)}' if len(found) > 1 else ''}." for one in found]
    return " ".join(told) or "Nothing was compared."


def opening(account: Account) -> str:
    """What was tried, what came out, how sure: one paragraph that stands for itself."""
    tried = (line(account.design.description)[:400] or account.title).rstrip(".")
    return f"**{account.outcome.capitalize()}.** Tried: {tried}. {observed(account)} {verdict_sentence(account)}"


def spent(account: Account) -> str:
    ran = [trial for trial in account.manifest.trials if trial.outcome is not Outcome.CANCELLED]
    fresh = [trial for trial in ran if trial.reused_from is None]
    reused = f"; {len(ran) - len(fresh)} more taken over from earlier iterations" if len(fresh) < len(ran) else ""
    return f"{len(fresh)} trials, {_time(sum(trial.seconds for trial in fresh))}{reused}"


def cost(account: Account) -> str:
    """What was spent, and what the change costs in parameters and time against the baseline, as far as it is known."""
    told = [f"Spent: {spent(account)}."]
    base, *others = [(arm, _parameters(account, arm), _seconds(account, arm)) for arm in account.arms]
    for arm, size, seconds in others:
        parts = [f"{size:,} parameters, self-reported ({base[0]}: {base[1]:,})"] if size and base[1] else []
        parts += [f"{_time(seconds)} a trial ({base[0]}: {_time(base[2])})"] if seconds and base[2] else []
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
    found = [t.seconds for t in account.manifest.trials if t.arm == arm and t.outcome is Outcome.COMPLETED]
    return sum(found) / len(found) if found else None


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.{0 if seconds >= 10 else 1}f} s"


# Tables


def numbers(account: Account) -> str:
    """The arms' means with intervals, of six metrics at most (the csv tables have all), and what they are."""
    arms, design = account.metrics.arms, account.design
    others = {name for measured in arms.values() for name in measured} - {design.metrics.primary}
    names = (design.metrics.primary, *sorted(others)[:5])
    rows = [
        (arm, str(max(found.n for found in arms[arm].values())), *(_mean(arms[arm].get(name)) for name in names))
        for arm in account.arms
        if arm in arms
    ]
    better = "lower" if account.hypothesis.direction == "minimize" else "higher"
    told = f"Mean over the trials ± half its 95% interval; of {design.metrics.primary}, {better} is better."
    told += " **These numbers are self-reported**: no evaluator measured them." if account.metrics.self_reported else ""
    told += "".join(f" **Suspicious**: {line(odd.message)}." for odd in suspicion.find(account.manifest, design))
    return _blocks(_markdown(("arm", "trials", *names), rows), told) if rows else "No trial completed."


def key_metrics(account: Account) -> str:
    """What came out, against what was set before the run."""
    asked, rows = f"at least {account.design.metrics.success_delta:g}", []
    for one in account.results.assessment.comparisons:
        gain = one.difference
        value = f"{_shown(gain.mean, _half(gain))} ({_ends(gain)}, {gain.n} pairs)"
        rows.append((f"{one.metric}: gain of {one.arm} over {one.baseline}", value, asked, verdict(one)))
    for limit in account.design.criteria:
        found = account.results.metrics.get(limit.metric)
        level = account.results.assessment.criteria.get(limit.metric, "unmeasured")
        bounds = {"target": limit.target, "acceptable": limit.acceptable, "failure": limit.failure}
        told = ", ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)
        rows.append((limit.metric, "" if found is None else f"{found:.4g}", told, level))
    mark = " (self-reported)" if account.metrics.self_reported else ""
    return _markdown((f"Metric{mark}", "Value", "Threshold", "Result"), rows) if rows else "No metric was measured."


def verdict(compared: Comparison) -> str:
    return f"{compared.verdict}{f' ({line(compared.reason)})' if compared.reason else ''}"


def _rule(account: Account) -> str:
    """The rule that decided, fixed before the first trial."""
    seeds, delta = account.design.reproducibility.seeds, f"{account.design.metrics.success_delta:g}"
    pairs = seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
    level = next((f"{100 * one.difference.level:g}% " for one in account.results.assessment.comparisons), "")
    return (
        f"Fixed before the first trial: {pairs} pairs of trainings, both of a pair from one seed; what counts is the"
        f" mean gain with its {level}interval. Supported: the interval lies above 0 and the mean reaches {delta}."
        f" Refuted: the interval lies below {delta}. Else inconclusive."
    )


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


# Numbers as they are shown


def ends95(found: ArmMetrics) -> tuple[float | None, float | None]:
    """The 95% Student t interval of an arm's mean; none below two trials."""
    half = _half95(found)
    return (None, None) if half is None else (found.mean - half, found.mean + half)


def _half95(found: ArmMetrics) -> float | None:
    from scipy.special import stdtrit

    return None if found.std is None else -float(stdtrit(found.n - 1, 0.025)) * found.std / math.sqrt(found.n)


def _half(gain: Interval) -> float | None:
    return None if gain.low is None or gain.high is None else (gain.high - gain.low) / 2


def _shown(value: float, half: float | None) -> str:
    """A value down to the second digit of its interval's half width; four digits where there is none."""
    places = 1 - math.floor(math.log10(half)) if half else 99
    if places > 12 or abs(value) >= 1e9:
        return f"{value:.4g}"
    return f"{round(value, places) + 0.0:.{max(0, places)}f}"  # + 0.0: no minus zero


def _mean(found: ArmMetrics | None) -> str:
    half = _half95(found) if found else None
    return "" if found is None else _shown(found.mean, half) + (f" ± {_shown(half, half)}" if half else "")


def _ends(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return "no interval"
    return f"{100 * gain.level:g}% interval {_shown(gain.low, _half(gain))} to {_shown(gain.high, _half(gain))}"


# Where the evidence lies, seen from `here`, the document's folder in the lab


def _link(account: Account, path: str, here: str) -> str:
    return posixpath.relpath(f"experiments/{account.iteration_id}/{path}", here or ".")


def pictures(account: Account, here: str) -> str:
    """The run's figures, embedded."""
    drawn = [path for path in account.results.artifacts if path.endswith(".png")]
    return "\n\n".join(f"![{_CAPTIONS[posixpath.basename(path)]}]({_link(account, path, here)})" for path in drawn)


def evidence(account: Account, here: str) -> str:
    git, run = account.manifest.git, f"runs/{account.results.run_id}/run_manifest.json"
    places = {"what came out, with figures": SUMMARY, "every number with all its digits": "analysis/tables"}
    places |= {"every trial with seed, commit and hashes": run, "the experiment as it was designed": "design.yaml"}
    rows = [f"- {what}: [{path}]({_link(account, path, here)})" for what, path in places.items()]
    if git.base_commit and git.candidate_commit:
        rows.append(f"- the change itself: `git diff {git.base_commit[:12]} {git.candidate_commit[:12]}`")
    return "\n".join(rows)


# Documents


def summary(account: Account, notes: Sequence[str] = ()) -> str:
    """analysis/summary.md; `notes` say what was left out."""
    here = f"experiments/{account.iteration_id}/analysis"
    left_out = "\n".join(f"- {line(note)}" for note in notes)
    text = _blocks(
        *(f"# {account.title}", opening(account)),
        *("## Numbers", key_metrics(account), numbers(account)),
        *("## Figures", pictures(account, here) or "None could be drawn.", left_out),
        *("## How it was decided", _rule(account)),
        *("## What it took", cost(account)),
        *("## To look closer", evidence(account, here)),
    )
    return text + "\n"


def journal_entry(account: Account) -> Entry:
    """RESEARCH_JOURNAL.md: observation, inference and claim apart."""
    measured = "self-reported" if account.metrics.self_reported else "measured"
    where = f"[{account.iteration_id}]({_link(account, SUMMARY, '')}), {account.results.run_id}"
    text = _blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title} · {account.outcome}",
        f"**Observation** ({measured}): {observed(account)}\n{_prose(account.docs.observation)}",
        f"**Inference** (interpretation): {_prose(account.docs.inference) or 'none was drawn.'}",
        f"**Claim** (what is held, and no more): {verdict_sentence(account)}\n{_prose(account.docs.claim)}",
        f"*Evidence: {where}; spent: {spent(account)}.*",
    )
    return Entry(account.iteration_id, JOURNAL, text, "top")


def findings_entry(account: Account) -> Entry:
    """FINDINGS.md of the project: one entry an iteration."""
    text = _blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title}",
        f"{_status(account)} | Verdict: {account.outcome.upper()}",
        verdict_sentence(account),
        key_metrics(account),
        f"Details: [FINDINGS.md]({_link(account, 'FINDINGS.md', '')})",
    )
    return Entry(account.iteration_id, FINDINGS, text, "top")


def iteration_findings(account: Account) -> Entry:
    """experiments/<ITERATION_ID>/FINDINGS.md."""
    here = f"experiments/{account.iteration_id}"
    text = _blocks(
        *(f"# {account.hypothesis.id.upper()}: {account.title} - Findings", f"## {_status(account)}"),
        *("## Summary", opening(account), _prose(account.docs.observation)),
        *("## Key Metrics", key_metrics(account), numbers(account)),
        *("## Implications", _prose(account.docs.inference) or "None was drawn.", _prose(account.docs.claim)),
        *("## Evidence", cost(account), evidence(account, here)),
    )
    return Entry(account.iteration_id, f"{here}/FINDINGS.md", text + "\n", "file")


_HEADING_WORDS: Mapping[str, tuple[str, ...]] = {
    "Question": ("question", "hypothesis", "idea", "motivation", "summary"),
    "Method": ("method", "design", "setup", "tried", "done", "implementation"),
    "Results": ("result", "metric", "number"),
    "Observation": ("observation", "observed"),
    "Inference": ("inference", "interpretation", "learn", "discussion"),
    "Claim": ("claim", "conclusion", "verdict"),
    "Limits": ("limit", "risk", "caveat", "threat"),
    "Evidence": ("evidence", "reproduc", "artifact", "provenance"),
    "Next": ("next", "decision", "future"),
}
"""The parts of a report, in order, and the words by which a template's heading is known to mean them."""


def report(account: Account, template: str | None) -> Entry:
    """9_reports/<date>_<slug>.md under the `## ` headings of `9_reports/_TEMPLATE.md`.

    A heading that means no part of a report is kept and says so; a part without a heading stands where it
    belongs among the others, so that no template loses the numbers.
    """
    parts, blocks = _report_parts(account), [f"# {account.title}", opening(account)]
    meant: dict[str, str | None] = {}
    for heading in re.findall(r"(?m)^##[ \t]+(.+?)[ \t]*\r?$", template or ""):
        free = [name for name in _HEADING_WORDS if name not in meant.values()]
        meant[heading] = next((name for name in free if any(w in heading.lower() for w in _HEADING_WORDS[name])), None)
    missing = [name for name in _HEADING_WORDS if name not in meant.values()]
    order = list(_HEADING_WORDS)
    for heading, part in [*meant.items(), ("", order[-1])]:
        while missing and part and order.index(missing[0]) <= order.index(part):
            blocks += [f"## {missing[0]}", parts[missing.pop(0)]]
        if heading:
            blocks += [f"## {heading}", parts[part] if part else "Nothing was recorded under this heading."]
    return Entry(account.iteration_id, f"9_reports/{account.date}_{account.slug}.md", _blocks(*blocks) + "\n", "file")


def _containment(manifest: Manifest) -> str:
    """The level, and what held the limits where it was not the kernel."""
    level = manifest.containment or "unknown"
    weaker = {what for trial in manifest.trials for what, by in trial.contained.items() if by == "watcher"}
    by = f"; {', '.join(sorted(weaker))} watched a few times a second, not held by the kernel" if weaker else ""
    free = "; programs ran with the rights of the person who started them" if level == "none" else ""
    return level + free + by


def _report_parts(account: Account) -> dict[str, str]:
    hypothesis, design, docs = account.hypothesis, account.design, account.docs
    arms = [f"- baseline `{arm.name}`: the {arm.code or 'base'}'s code{_with(arm)}" for arm in design.baselines]
    arms += [f"- variant `{arm.name}`: the {arm.code or 'candidate'}'s code{_with(arm)}" for arm in design.variants]
    arms += [f"- change: {name}, `{json.dumps(value, ensure_ascii=False)}`" for name, value in design.changes.items()]
    limits = [line(bound) for bound in hypothesis.risk_bounds] or ["no risk bound was set"]
    limits += ["the numbers are self-reported: no frozen evaluator measured them"] * account.metrics.self_reported
    limits.append(f"containment of the trials: {_containment(account.manifest)}")
    sources = "\n".join(["References:", *(f"- {line(source)}" for source in hypothesis.references)])
    wanted = f"Success, set before the run: {line(hypothesis.success)}"
    return {
        "Question": _blocks(_prose(hypothesis.mechanism), wanted, sources if hypothesis.references else ""),
        "Method": _blocks(_prose(design.description), "\n".join(arms), _rule(account)),
        "Results": _blocks(key_metrics(account), numbers(account), pictures(account, "9_reports")),
        "Observation": _prose(docs.observation) or "See the numbers.",
        "Inference": _prose(docs.inference) or "None was drawn.",
        "Claim": _blocks(verdict_sentence(account), _prose(docs.claim)),
        "Limits": "\n".join(f"- {limit}" for limit in limits),
        "Evidence": _blocks(cost(account), evidence(account, "9_reports")),
        "Next": f"Recommendation: {account.results.recommendation.value}.",
    }


def _with(arm: Arm) -> str:
    given = json.dumps(arm.config_overrides, sort_keys=True, ensure_ascii=False)
    return f" with `{given}`" if arm.config_overrides else ""


def tsv_rows(manifest: Manifest, metrics: RunMetrics | None, metric: str, description: str) -> Entry:
    """results.tsv: one row an arm of a run.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95 % Student t interval (blank below
    two trials); `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    mark = " (self-reported)" if manifest.self_reported else ""
    why = f": {line(manifest.reason)[:300]}" if manifest.status == "failed" and manifest.reason else ""
    run = {"iteration": manifest.iteration_id, "run": manifest.run_id, "status": manifest.status or ""}
    run |= {"metric": metric, "description": line(description)[:200] + why + mark}
    rows = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        found = metrics.arms.get(arm, {}).get(metric) if metrics else None
        cells = run | {"commit": trials[0].commit[:12], "arm": arm, "verdict": verdicts.get(arm, "")}
        ran = [trial for trial in trials if trial.outcome is not Outcome.CANCELLED] or trials
        cells |= {"memory_gb": f"{max(trial.max_rss_bytes for trial in ran) / 1e9:.3f}"}
        cells |= {"seconds": f"{sum(trial.seconds for trial in ran) / len(ran):.2f}"}
        cells |= _value_cells(found) if found else {"n": "0"}
        rows.append("\t".join(line(cells.get(column, "")) for column in COLUMNS))
    return Entry(f"{manifest.iteration_id}.{manifest.run_id}", TABLE, "\n".join(rows), "row")


def _value_cells(found: ArmMetrics) -> dict[str, str]:
    told = {"value": found.mean, **dict(zip(("ci_low", "ci_high"), ends95(found), strict=True))}
    return {"n": str(found.n), **{name: f"{value:.6g}" for name, value in told.items() if value is not None}}


def paper_entries(account: Account, targets: Collection[str]) -> list[Entry]:
    """A section for each target with text, the first with numbers and a figure; RecordError on any other path."""
    entries = []
    for number, update in enumerate(account.docs.paper):
        if update.path not in targets:
            raise RecordError(f"{update.path}: not a paper target; known: {', '.join(targets) or 'none'}")
        name = account.iteration_id if number == 0 else f"{account.iteration_id}.{number}"
        here = posixpath.dirname(update.path)
        shown = [key_metrics(account), numbers(account), *pictures(account, here).split("\n\n")[:1]]
        where = f"[{account.results.run_id} of {account.iteration_id}]({_link(account, SUMMARY, here)})"
        marks = [account.outcome, *(["self-reported numbers"] if account.metrics.self_reported else [])]
        note = f"*{account.date}, experiment {account.results.experiment_id}, {where}: {', '.join(marks)}.*"
        text = _blocks(update.text.strip(), *(shown if number == 0 else []), note)
        entries.append(Entry(name, update.path, text, "section"))
    return entries


_PLACES = {"top": "an entry at the top", "row": "a row an arm", "section": "a section at the end", "file": "a new file"}


def docs_update(account: Account, entries: Iterable[Entry]) -> Entry:
    """experiments/<ID>/docs_update.md: which documents take an entry, and why the paper needs none, if so."""
    here = f"experiments/{account.iteration_id}"
    rows = [(f"[{one.path}]({posixpath.relpath(one.path, here)})", _PLACES[one.place]) for one in entries]
    targets = "\n".join(f"- {update.path}" for update in account.docs.paper)
    targets = targets or f"No changes needed: {_prose(account.docs.no_changes or 'no reason was given')}"
    text = ("# Documents of this iteration", _markdown(("document", "what it got"), rows), "## Paper targets", targets)
    return Entry(account.iteration_id, f"{here}/docs_update.md", _blocks(*text) + "\n", "file")


def _status(account: Account) -> str:
    return f"Status: {account.results.status.upper()} | Recommendation: {account.results.recommendation.upper()}"


def line(text: str) -> str:
    """One line: no tab or line break, nothing that is not printable."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _prose(text: str) -> str:
    """A researcher's words, at most WORDS characters, unable to pass for a heading of the document."""
    text = text.strip().replace("\r\n", "\n")
    text = text if len(text) <= WORDS else text[:WORDS] + " [cut]"
    return re.sub(r"(?m)^(\s{0,3})(#{1,6}\s|={3,}\s*$|-{3,}\s*$)", r"\1\\\2", text)


def _blocks(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())
