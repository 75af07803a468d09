"""What the documents say of an iteration: an `Account` of records in, entries out, pure; no number is typed by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autolab.documents import COLUMNS, Entry
from autolab.errors import RecordError
from autolab.records.experiment import (
    ArmMetrics,
    Comparison,
    Design,
    Hypothesis,
    Interval,
    Manifest,
    Results,
    RunMetrics,
    Trial,
)
from autolab.records.outcomes import Outcome, Verdict
from autolab.records.replies import DocsOutput

JOURNAL, FINDINGS, TABLE = "RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"
WORDS = 5_000
"""Characters that an entry quotes of one answer."""


@dataclass(frozen=True)
class Account:
    """One iteration as its documents tell it. Numbers come from the records, words from `docs`."""

    iteration_id: str
    slug: str
    hypothesis: Hypothesis
    design: Design
    results: Results
    docs: DocsOutput
    manifest: Manifest | None = None
    metrics: RunMetrics | None = None
    confirmed: bool = False

    @property
    def date(self) -> str:
        """The iteration's UTC date."""
        return self.iteration_id[:10]

    @property
    def title(self) -> str:
        return _line(self.hypothesis.title)

    @property
    def self_reported(self) -> bool:
        return self.metrics.self_reported if self.metrics else bool(self.manifest and self.manifest.self_reported)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return self.results.assessment.comparisons or (self.metrics.comparisons if self.metrics else ())

    @property
    def outcome(self) -> str:
        """The verdict in a heading: `supported, unconfirmed`, `refuted`, `failed`."""
        verdict = self.results.assessment.verdict
        if verdict is None:
            return "failed" if self.results.status == "failed" else "unmeasured"
        return "supported, unconfirmed" if verdict is Verdict.SUPPORTED and not self.confirmed else verdict.value


def verdict_sentence(account: Account) -> str:
    """What the verdict means, in plain words."""
    assessment, delta = account.results.assessment, f"{account.design.metrics.success_delta:g}"
    metric, reason = account.design.metrics.primary, _reason(assessment.reason)
    missed = sorted(name for name, how in assessment.criteria.items() if how in ("below_acceptable", "failed"))
    if assessment.verdict is None and account.results.status == "failed":
        why = _line(account.results.error or assessment.reason).rstrip(".") or "no reason was recorded"
        return f"The experiment failed, so it says nothing about the hypothesis: {why}."
    if assessment.verdict is None:
        return f"Nothing was measured, so there is no verdict{reason}."
    if assessment.verdict is Verdict.INCONCLUSIVE:
        return f"The measurements neither show the expected gain nor rule it out{reason}."
    if assessment.verdict is Verdict.REFUTED and missed:
        return f"The hypothesis is refuted: {', '.join(missed)} missed what was set before the run."
    if assessment.verdict is Verdict.REFUTED:
        return f"The hypothesis is refuted: the evidence rules out a gain of {delta} in {metric}{reason}."
    held = "was measured again on fresh seeds" if account.confirmed else "is unconfirmed until fresh seeds repeat it"
    wanted = f"a gain of {delta} in {metric}" if account.comparisons else "criteria set before the run"
    return f"The evidence supports the hypothesis, which asked for {wanted}; the result {held}."


def journal_entry(account: Account) -> Entry:
    """RESEARCH_JOURNAL.md: observation, inference and claim apart."""
    text = _blocks(
        f"## {account.date} · {account.title} · {account.outcome}",
        _provenance(account),
        verdict_sentence(account),
        f"**Observation** ({'self-reported numbers' if account.self_reported else 'measured'})",
        _measurements(account),
        _prose(account.docs.observation),
        "**Inference** (interpretation)",
        _prose(account.docs.inference) or "None was drawn.",
        "**Claim** (what is asserted, and no more)",
        _prose(account.docs.claim) or "None.",
    )
    return Entry(account.iteration_id, JOURNAL, text, "top")


def findings_entry(account: Account) -> Entry:
    """FINDINGS.md of the project: one entry an iteration."""
    text = _blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title}",
        f"{_status(account)} | Verdict: {account.outcome.upper()}",
        verdict_sentence(account),
        _key_metrics(account),
        f"Details: experiments/{account.iteration_id}/FINDINGS.md",
    )
    return Entry(account.iteration_id, FINDINGS, text, "top")


def iteration_findings(account: Account) -> Entry:
    """experiments/<ITERATION_ID>/FINDINGS.md."""
    text = _blocks(
        f"# {account.hypothesis.id.upper()}: {account.title} - Findings",
        f"## {_status(account)}",
        "## Summary",
        verdict_sentence(account),
        _prose(account.docs.observation),
        "\n".join(f"- {_line(finding)}" for finding in account.results.findings),
        "## Key Metrics",
        _key_metrics(account),
        _arm_table(account),
        "## Implications",
        _prose(account.docs.inference) or "None was drawn.",
        "## Claim",
        _prose(account.docs.claim) or "None.",
        "## Evidence",
        _evidence(account),
    )
    return Entry(account.iteration_id, f"experiments/{account.iteration_id}/FINDINGS.md", text + "\n", "file")


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
    parts, blocks = _report_parts(account), [f"# {account.title}", _provenance(account)]
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


def _report_parts(account: Account) -> dict[str, str]:
    hypothesis, design, docs = account.hypothesis, account.design, account.docs
    arms = [("baseline", arm) for arm in design.baselines] + [("variant", arm) for arm in design.variants]
    settings = [f"- {role} `{arm.name}`: {json.dumps(arm.config_overrides, sort_keys=True)}" for role, arm in arms]
    limits = [f"- {_line(bound)}" for bound in hypothesis.risk_bounds] or ["- no risk bound was set"]
    if account.self_reported:
        limits.append("- the numbers are self-reported: no frozen evaluator measured them")
    if account.manifest and account.manifest.containment:
        limits.append(f"- containment of the trials: {account.manifest.containment}")
    wanted = f"Success, set before the run: {_line(hypothesis.success)}"
    return {
        "Question": _blocks(_prose(hypothesis.mechanism), wanted),
        "Method": _blocks(_prose(design.description), "\n".join(settings)),
        "Results": _blocks(_key_metrics(account), _arm_table(account)),
        "Observation": _blocks(_measurements(account), _prose(docs.observation)),
        "Inference": _prose(docs.inference) or "None was drawn.",
        "Claim": _blocks(verdict_sentence(account), _prose(docs.claim)),
        "Limits": "\n".join(limits),
        "Evidence": _evidence(account),
        "Next": f"Recommendation: {account.results.recommendation.value}.",
    }


def tsv_rows(manifest: Manifest, metrics: RunMetrics | None, metric: str, description: str) -> Entry:
    """results.tsv: one row an arm of a run.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95 % Student t interval (blank below
    two trials); `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    mark = " (self-reported)" if manifest.self_reported else ""
    rows = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        found = metrics.arms.get(arm, {}).get(metric) if metrics else None
        measured = _interval_cells(found) if found else {"n": "0"}
        cells = (
            measured
            | _cost_cells(trials)
            | {
                "commit": trials[0].commit[:12],
                "iteration": manifest.iteration_id,
                "run": manifest.run_id,
                "arm": arm,
                "metric": metric,
                "verdict": verdicts.get(arm, ""),
                "status": manifest.status or "",
                "description": _line(description)[:200] + mark,
            }
        )
        rows.append("\t".join(_line(cells.get(column, "")) for column in COLUMNS))
    return Entry(f"{manifest.iteration_id}.{manifest.run_id}", TABLE, "\n".join(rows), "row")


def _interval_cells(found: ArmMetrics) -> dict[str, str]:
    cells = {"n": str(found.n), "value": f"{found.mean:.6g}"}
    if found.std is None or found.n < 2:
        return cells
    from scipy.special import stdtrit

    half = float(stdtrit(found.n - 1, 0.975)) * found.std / math.sqrt(found.n)
    return cells | {"ci_low": f"{found.mean - half:.6g}", "ci_high": f"{found.mean + half:.6g}"}


def _cost_cells(trials: Sequence[Trial]) -> dict[str, str]:
    ran = [trial for trial in trials if trial.outcome is not Outcome.CANCELLED] or trials
    seconds = sum(trial.seconds for trial in ran) / len(ran)
    return {"memory_gb": f"{max(trial.max_rss_bytes for trial in ran) / 1e9:.3f}", "seconds": f"{seconds:.2f}"}


def paper_entries(account: Account, targets: Collection[str]) -> list[Entry]:
    """A section for each paper target that the researcher gave text for; RecordError on any other path."""
    entries = []
    for number, update in enumerate(account.docs.paper):
        if update.path not in targets:
            raise RecordError(f"{update.path}: not a paper target; known: {', '.join(targets) or 'none'}")
        name = account.iteration_id if number == 0 else f"{account.iteration_id}.{number}"
        marks = [account.outcome, *(["self-reported numbers"] if account.self_reported else [])]
        note = f"*{account.date}, experiment {account.results.experiment_id}: {', '.join(marks)}.*"
        entries.append(Entry(name, update.path, _blocks(update.text.strip(), note), "section"))
    return entries


def docs_update(account: Account, entries: Iterable[Entry]) -> Entry:
    """experiments/<ID>/docs_update.md: which documents take an entry, and why the paper needs none, if so."""
    rows = ["| file | place | entry |", "| --- | --- | --- |"]
    rows += [f"| {entry.path} | {entry.place} | {entry.id} |" for entry in entries]
    targets = "\n".join(f"- {update.path}" for update in account.docs.paper)
    rationale = f"No changes needed: {_prose(account.docs.no_changes or 'no reason was given')}"
    text = _blocks("# Documents of this iteration", "\n".join(rows), "## Paper targets", targets or rationale) + "\n"
    return Entry(account.iteration_id, f"experiments/{account.iteration_id}/docs_update.md", text, "file")


def _provenance(account: Account) -> str:
    commit = account.manifest.git.candidate_commit if account.manifest else None
    candidate = f", candidate `{commit[:12]}`" if commit else ""
    return f"Iteration `{account.iteration_id}`, run `{account.results.run_id}`{candidate}."


def _status(account: Account) -> str:
    results = account.results
    return f"Status: {results.status.upper()} | Recommendation: {results.recommendation.value.upper()}"


def _measurements(account: Account) -> str:
    lines = []
    for comparison in account.comparisons:
        gain = comparison.difference
        values = [_mean(account, arm, comparison.metric) for arm in (comparison.arm, comparison.baseline)]
        lines.append(
            f"- `{comparison.arm}` against `{comparison.baseline}`, {comparison.metric}: "
            f"{_number(abs(gain.mean))} {'better' if gain.mean >= 0 else 'worse'}"
            f"{f' ({values[0]} against {values[1]})' if all(values) else ''}; "
            f"gain {_interval(gain)}, n = {gain.n} pairs: {comparison.verdict.value}{_reason(comparison.reason)}."
        )
    return "\n".join(lines) or "- no comparison was measured"


def _key_metrics(account: Account) -> str:
    mark = " (self-reported)" if account.self_reported else ""
    head = [f"| Metric{mark} | Value | Threshold | Result |", "|--------|-------|-----------|--------|"]
    rows = [
        f"| {one.metric}, gain of {one.arm} | {_number(one.difference.mean)} {_interval(one.difference)} "
        f"| gain >= {account.design.metrics.success_delta:g} | {one.verdict.value} |"
        for one in account.comparisons
    ]
    for criterion in account.design.criteria:
        how = account.results.assessment.criteria.get(criterion.metric, "unmeasured")
        value = account.results.metrics.get(criterion.metric)
        bounds = [f"target {criterion.target:g}"]
        bounds += [f"acceptable {criterion.acceptable:g}"] if criterion.acceptable is not None else []
        bounds += [f"failure {criterion.failure:g}"] if criterion.failure is not None else []
        shown = "" if value is None else _number(value)
        rows.append(f"| {criterion.metric} | {shown} | {', '.join(bounds)} | {how} |")
    return "\n".join(head + rows) if rows else "No metric was measured."


def _arm_table(account: Account) -> str:
    if account.metrics is None or not account.metrics.arms:
        return ""
    arms = account.metrics.arms
    names = list(dict.fromkeys(metric for values in arms.values() for metric in values))
    rows = ["| arm | n | " + " | ".join(names) + " |", "| --- | --- |" + " --- |" * len(names)]
    for arm, values in arms.items():
        n = max((value.n for value in values.values()), default=0)
        rows.append(f"| {arm} | {n} | " + " | ".join(_mean(account, arm, name) for name in names) + " |")
    return _blocks("\n".join(rows), "Means over the trials; ± is the sample deviation.")


def _mean(account: Account, arm: str, metric: str) -> str:
    found = account.metrics.arms.get(arm, {}).get(metric) if account.metrics else None
    if found is None:
        return ""
    return _number(found.mean) if found.std is None else f"{_number(found.mean)} ± {found.std:.2g}"


def _interval(gain: Interval) -> str:
    if gain.low is None or gain.high is None:
        return "(no interval)"
    return f"[{_number(gain.low)}, {_number(gain.high)}] at {100 * gain.level:g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _evidence(account: Account) -> str:
    folder = f"experiments/{account.iteration_id}"
    run = f"{folder}/runs/{account.results.run_id}"
    lines = [f"- every trial, seed, commit and hash: {run}/run_manifest.json", f"- aggregates: {run}/metrics.json"]
    lines += [f"- tables and figures: {folder}/analysis/"]
    return "\n".join(lines + [f"- {_line(path)}" for path in account.results.artifacts])


def _reason(reason: str) -> str:
    return f" ({_line(reason)})" if reason else ""


def _line(text: str) -> str:
    """One line: no tab or line break, nothing that is not printable."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _prose(text: str) -> str:
    """A researcher's words, at most WORDS characters, unable to pass for a heading of the document."""
    text = text.strip().replace("\r\n", "\n")
    text = text if len(text) <= WORDS else text[:WORDS] + " [cut]"
    return re.sub(r"(?m)^(\s{0,3})(#{1,6}\s|={3,}\s*$|-{3,}\s*$)", r"\1\\\2", text)


def _blocks(*parts: str) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())
