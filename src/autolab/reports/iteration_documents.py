"""The documents of an iteration: an `Account` of records in, text out, pure; `passages` has what they are made of.

The reader meant saw no run and does not know the lab: a document begins with what was tried, what came out and how sure
it is, says what the words for that mean, and where its evidence lies.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from autolab.errors import RecordError
from autolab.lab.schemas.experiment import Arm, ArmMetrics, Confirmation, Design, Manifest, RunMetrics
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.reports.journal import COLUMNS, DocumentEntry
from autolab.reports.markup import code, inert, plain
from autolab.reports.passages import (
    SUMMARY,
    Account,
    blocks,
    cost,
    ends95,
    evidence,
    key_metrics,
    line,
    link,
    meaning,
    numbers,
    observed,
    opening,
    pictures,
    prose,
    rule,
    spent,
    table,
    verdict_sentence,
)
from autolab.stats.wording import fate

JOURNAL, FINDINGS, TABLE = "RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"


def summary(account: Account, notes: Sequence[str] = ()) -> str:
    """analysis/summary.md; `notes` say what was left out."""
    here = f"experiments/{account.iteration_id}/analysis"
    left_out = "\n".join(f"- {plain(note)}" for note in notes)
    text = blocks(
        *(f"# {account.title}", opening(account), meaning(account)),
        *("## Numbers", key_metrics(account), numbers(account)),
        *("## Figures", pictures(account, here) or "None could be drawn.", left_out),
        *("## How it was decided", rule(account)),
        *("## What it took", cost(account)),
        *("## To look closer", evidence(account, here)),
    )
    return text + "\n"


def journal_entry(account: Account) -> DocumentEntry:
    """RESEARCH_JOURNAL.md: observation, inference and claim apart."""
    measured = "self-reported" if account.metrics.self_reported else "measured"
    where = f"[{account.iteration_id}]({link(account, SUMMARY, '')}), {account.run_ids}"
    text = blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title} · {account.outcome}",
        f"**Observation** ({measured}): {observed(account)}\n{prose(account.docs.observation)}",
        f"**Inference** (interpretation): {prose(account.docs.inference) or 'none was drawn.'}",
        f"**Claim** (what is held, and no more): {verdict_sentence(account)}\n{prose(account.docs.claim)}",
        f"*Evidence: {where}; spent: {spent(account)}.*",
    )
    return DocumentEntry(account.iteration_id, JOURNAL, text, "top")


def findings_entry(account: Account) -> DocumentEntry:
    """FINDINGS.md of the project: one entry an iteration."""
    text = blocks(
        f"## {account.date} · {account.hypothesis.id}: {account.title}",
        f"{_status(account)} | Verdict: {account.outcome.upper()}",
        verdict_sentence(account),
        meaning(account),
        key_metrics(account),
        f"Details: [FINDINGS.md]({link(account, 'FINDINGS.md', '')})",
    )
    return DocumentEntry(account.iteration_id, FINDINGS, text, "top")


def iteration_findings(account: Account) -> DocumentEntry:
    """experiments/<ITERATION_ID>/FINDINGS.md."""
    here = f"experiments/{account.iteration_id}"
    text = blocks(
        *(f"# {account.hypothesis.id.upper()}: {account.title} - Findings", f"## {_status(account)}"),
        *("## Summary", opening(account), meaning(account), prose(account.docs.observation)),
        *("## Key Metrics", key_metrics(account), numbers(account)),
        *("## Implications", prose(account.docs.inference) or "None was drawn.", prose(account.docs.claim)),
        *("## Evidence", cost(account), evidence(account, here)),
    )
    return DocumentEntry(account.iteration_id, f"{here}/FINDINGS.md", text + "\n", "file")


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


def report(account: Account, template: str | None) -> DocumentEntry:
    """9_reports/<date>_<slug>.md under the `## ` headings of `9_reports/_TEMPLATE.md`.

    A heading that means no part of a report is kept and says so; a part without a heading stands where it
    belongs among the others, so that no template loses the numbers.
    """
    parts, told = _report_parts(account), [f"# {account.title}", opening(account), meaning(account)]
    meant: dict[str, str | None] = {}
    for heading in re.findall(r"(?m)^##[ \t]+(.+?)[ \t]*\r?$", template or ""):
        free = [name for name in _HEADING_WORDS if name not in meant.values()]
        meant[heading] = next((name for name in free if any(w in heading.lower() for w in _HEADING_WORDS[name])), None)
    missing = [name for name in _HEADING_WORDS if name not in meant.values()]
    order = list(_HEADING_WORDS)
    for heading, part in [*meant.items(), ("", order[-1])]:
        while missing and part and order.index(missing[0]) <= order.index(part):
            told += [f"## {missing[0]}", parts[missing.pop(0)]]
        if heading:
            told += [f"## {heading}", parts[part] if part else "Nothing was recorded under this heading."]
    return DocumentEntry(
        account.iteration_id, f"9_reports/{account.date}_{account.slug}.md", blocks(*told) + "\n", "file"
    )


def _containment(manifest: Manifest) -> str:
    """The level, and what held the limits where it was not the kernel."""
    level = manifest.containment or "unknown"
    weaker = {what for trial in manifest.trials for what, by in trial.contained.items() if by == "watcher"}
    by = f"; {', '.join(sorted(weaker))} watched a few times a second, not held by the kernel" if weaker else ""
    free = "; programs ran with the rights of the user who started them" if level == "none" else ""
    return level + free + by


def _report_parts(account: Account) -> dict[str, str]:
    hypothesis, design, docs = account.hypothesis, account.design, account.docs
    arms = [f"- baseline `{arm.name}`: the {arm.code or 'base'}'s code{_with(arm)}" for arm in design.baselines]
    arms += [f"- variant `{arm.name}`: the {arm.code or 'candidate'}'s code{_with(arm)}" for arm in design.variants]
    arms += [
        f"- change: {plain(name)}, {code(json.dumps(value, ensure_ascii=False))}"
        for name, value in design.changes.items()
    ]
    # A list's empty first item below a line of text would make that line a heading.
    references = "\n".join(f"- {plain(source)}" for source in hypothesis.references)
    sources = blocks("References:", references)
    wanted = f"Success, set before the run: {plain(hypothesis.success)}"
    return {
        "Question": blocks(prose(hypothesis.mechanism), wanted, sources if hypothesis.references else ""),
        "Method": blocks(prose(design.description), "\n".join(arms), rule(account)),
        "Results": blocks(key_metrics(account), numbers(account), pictures(account, "9_reports")),
        "Observation": prose(docs.observation) or "See the numbers.",
        "Inference": prose(docs.inference) or "None was drawn.",
        "Claim": blocks(verdict_sentence(account), prose(docs.claim)),
        "Limits": _limits(account),
        "Evidence": blocks(cost(account), evidence(account, "9_reports")),
        "Next": f"Recommendation: {account.results.recommendation.value}.",
    }


def _limits(account: Account) -> str:
    limits = [plain(bound) for bound in account.hypothesis.risk_bounds] or ["no risk bound was set"]
    limits += ["the numbers are self-reported: no frozen evaluator measured them"] * account.metrics.self_reported
    alone = account.confirmation is not None and account.confirmation.evaluation_only
    limits += ["the lab has no holdout: what is claimed is claimed on this evaluation alone"] * alone
    limits.append(f"containment of the trials: {_containment(account.manifest)}")
    return "\n".join(f"- {limit}" for limit in limits)


def merge_request(account: Account, commit: str, base: str, changed: Sequence[str], false_share: float | None) -> str:
    """experiments/<ID>/merge_request.md: what a user needs to take over a kept candidate, and why they may.

    `changed` are the paths that differ between `base` and `commit`, or a diffstat's lines; `false_share` is the
    campaign's estimate of false ones among the kept (0 to 1), None where there is none.
    """
    files = "\n".join(f"- {code(path)}" for path in changed) or "No file differs."
    told = blocks(prose(account.hypothesis.mechanism), prose(account.design.description), _settings(account), files)
    share = f"At most {100 * (false_share or 0):.3g}% of what this campaign has kept so far is expected to be false"
    share += ": the errors that the confirmations were allowed, over the number of those kept."
    again = f"    autolab reproduce {account.iteration_id}/{account.runs[-1][0].run_id}"
    text = blocks(
        *(f"# Merge request: {account.title}", opening(account), meaning(account)),
        *_why_suspicious(account),
        *("## What changes", told),
        *("## Evidence", key_metrics(account), numbers(account), share if false_share is not None else ""),
        *(rule(account), evidence(account, f"experiments/{account.iteration_id}")),
        *("## Price", cost(account)),
        *("## To reproduce it", again),
        *("## To take it", f"    git diff {base[:12]} {commit[:12]}\n    git merge {commit}"),
        *("## Risks", _limits(account)),
    )
    return text + "\n"


def _why_suspicious(account: Account) -> tuple[str, ...]:
    """Why a candidate was set aside, and what a user can do; nothing of one that was not."""
    again = account.confirmation
    if again is None or again.outcome != "suspicious":
        return ()
    reasons = "\n".join(f"- {line(reason)}" for reason in again.suspicions)
    take = f"    autolab review approve --iteration {account.iteration_id}    # it becomes champion"
    leave = f"    autolab review stop --iteration {account.iteration_id}       # it is rejected"
    return "## Why it was set aside", reasons, "Nothing is built on it until you have looked:", f"{take}\n{leave}"


def _settings(account: Account) -> str:
    """What the variants change, as the design says it."""
    rows = [f"- variant `{arm.name}`{_with(arm)}" for arm in account.design.variants]
    return "\n".join(rows + _changes(account.design))


def _changes(design: Design) -> list[str]:
    changes = design.changes.items()
    return [f"- change: {plain(name)}, {code(json.dumps(value, ensure_ascii=False))}" for name, value in changes]


def _with(arm: Arm) -> str:
    given = json.dumps(arm.config_overrides, sort_keys=True, ensure_ascii=False)
    return f" with {code(given)}" if arm.config_overrides else ""


def tsv_rows(
    manifest: Manifest,
    metrics: RunMetrics | None,
    metric: str,
    description: str,
    confirmation: Confirmation | None = None,
) -> DocumentEntry:
    """results.tsv: one row an arm of a run, be it a search or a confirmation.

    `value` is the arm's mean of `metric`, `ci_low` and `ci_high` its 95 % Student t interval (blank below
    two trials); `verdict` is the variant's comparison; `memory_gb` the largest trial, `seconds` the mean. A row of
    the confirmation's own run says first in its description what became of the variant.
    """
    verdicts = {comparison.arm: comparison.verdict.value for comparison in manifest.comparisons}
    mark = " (self-reported)" if manifest.self_reported else ""
    why = f": {line(manifest.reason)[:300]}" if manifest.status == "failed" and manifest.reason else ""
    mine = confirmation if confirmation and confirmation.run_id == manifest.run_id else None
    fresh = f"fresh seeds{f', {fate(mine)}' if mine else ''}: " if manifest.kind is RunKind.CONFIRM else ""
    run = {"iteration": manifest.iteration_id, "run": manifest.run_id, "status": manifest.status or ""}
    run |= {"metric": metric, "description": fresh + line(description)[:200] + why + mark}
    rows = []
    for arm in dict.fromkeys(trial.arm for trial in manifest.trials):
        trials = [trial for trial in manifest.trials if trial.arm == arm]
        found = metrics.arms.get(arm, {}).get(metric) if metrics else None
        cells = run | {"commit": trials[0].commit[:12], "arm": arm, "verdict": verdicts.get(arm, "")}
        ran = [trial for trial in trials if trial.outcome is not TrialOutcome.CANCELLED] or trials
        cells |= {"memory_gb": f"{max(trial.max_rss_bytes for trial in ran) / 1e9:.3f}"}
        cells |= {"seconds": f"{sum(trial.seconds for trial in ran) / len(ran):.2f}"}
        cells |= _value_cells(found) if found else {"n": "0"}
        rows.append("\t".join(line(cells.get(column, "")) for column in COLUMNS))
    return DocumentEntry(f"{manifest.iteration_id}.{manifest.run_id}", TABLE, "\n".join(rows), "row")


def _value_cells(found: ArmMetrics) -> dict[str, str]:
    told = {"value": found.mean, **dict(zip(("ci_low", "ci_high"), ends95(found), strict=True))}
    return {"n": str(found.n), **{name: f"{value:.6g}" for name, value in told.items() if value is not None}}


def paper_entries(account: Account, targets: Collection[str]) -> list[DocumentEntry]:
    """A section for each target with text, the first with numbers and a figure; RecordError on any other path."""
    entries = []
    for number, update in enumerate(account.docs.paper):
        if update.path not in targets:
            raise RecordError(f"{update.path}: not a paper target; known: {', '.join(targets) or 'none'}")
        name = account.iteration_id if number == 0 else f"{account.iteration_id}.{number}"
        here = posixpath.dirname(update.path)
        shown = [key_metrics(account), numbers(account), *pictures(account, here).split("\n\n")[:1]]
        where = f"[{account.run_ids} of {account.iteration_id}]({link(account, SUMMARY, here)})"
        marks = [account.outcome, *(["self-reported numbers"] if account.metrics.self_reported else [])]
        note = f"*{account.date}, experiment {account.results.experiment_id}, {where}: {', '.join(marks)}.*"
        text = blocks(inert(update.text.strip(), headings=True), *(shown if number == 0 else []), note)
        entries.append(DocumentEntry(name, update.path, text, "section"))
    return entries


_PLACES = {"top": "an entry at the top", "row": "a row an arm", "section": "a section at the end", "file": "a new file"}


def docs_update(account: Account, entries: Iterable[DocumentEntry]) -> DocumentEntry:
    """experiments/<ID>/docs_update.md: which documents take an entry, and why the paper needs none, if so."""
    here = f"experiments/{account.iteration_id}"
    rows = [(f"[{one.path}]({posixpath.relpath(one.path, here)})", _PLACES[one.place]) for one in entries]
    targets = "\n".join(f"- {update.path}" for update in account.docs.paper)
    targets = targets or f"No changes needed: {prose(account.docs.no_changes or 'no reason was given')}"
    text = ("# Documents of this iteration", table(("document", "what it got"), rows), "## Paper targets", targets)
    return DocumentEntry(account.iteration_id, f"{here}/docs_update.md", blocks(*text) + "\n", "file")


def _status(account: Account) -> str:
    return f"Status: {account.results.status.upper()} | Recommendation: {account.results.recommendation.upper()}"
