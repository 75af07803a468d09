"""The documents of an iteration, each with a job of its own: an `Account` of records in, text out, pure.

    journal entry           five lines: what was tried, observed, inferred and claimed
    FINDINGS.md             the outcome in numbers, and the recommendation
    report (9_reports)      the iteration on one page, for a reader who does not know it
    analysis/summary.md     the numbers: every table, the figures, the words, where the evidence is
    merge_request.md        what a reviewer needs to take a candidate over
    docs_update.md          which documents got an entry

The layout is in `documents/*.md.j2`; `DocumentView` is what the templates read.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autolab.errors import RecordError
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.config import Files
from autolab.lab.schemas.experiment import Confirmation, Manifest, RunMetrics
from autolab.reports import claim_words, decision_table, exploration_account, passages
from autolab.reports.journal import DocumentEntry
from autolab.reports.markup import Markdown, inert
from autolab.reports.passages import PATHS, SUMMARY, Account
from autolab.reports.rendering import render
from autolab.reports.results_table import rows
from autolab.stats import rules, wording
from autolab.verifiers import suspicion

JOURNAL, TABLE, FINDINGS = Files().global_
_CAPTIONS = {
    "comparison.png": "Each trial, and the gain of each pair with its interval",
    "loss.png": "Loss during training (self-reported), and as evaluated at the end",
    "acc.png": "Accuracy during training (self-reported), and as evaluated at the end",
}


@dataclass(frozen=True)
class DocumentView:
    """What templates show of an account beyond its records, for a document in the folder `here` of the lab."""

    account: Account
    here: str

    @property
    def run_ids(self) -> str:
        return ", ".join(manifest.run_id for manifest, _ in self.account.runs)

    @property
    def meanings(self) -> dict[str, str]:
        """The words that the documents use, as a reader sees them, each with its sentence."""
        account = self.account
        sentences = wording.explained(account.results, account.rule, account.metric, account.delta, account.cut_at)
        if account.is_claim and account.lead is not None:
            sentences = claim_words.with_claim(sentences, account.confirmation)
        return {wording.spoken(word): sentence for word, sentence in sentences.items()}

    @property
    def meaning(self) -> str:
        """The sentence of the word that the first line begins with."""
        account = self.account
        if account.is_claim and account.lead is not None:
            return self.meanings[claim_words.fate(account.confirmation)]
        words = wording.words_of(account.results)
        if not words:
            return ""
        # The last word is what became of the verdict: `kept` says more than `supported`.
        return self.meanings.get(wording.spoken(words[-1]), "")

    @property
    def cuts(self) -> str:
        """How many trials were cut in the run that decided; empty if none was."""
        decisive = self.account.fresh or self.account.lead
        if decisive is None or not passages.cuts(decisive):
            return ""
        # `capitalize` would write the names of the arms in lower case.
        shares = passages.cuts(decisive)
        return f"{shares[0].upper()}{shares[1:]}."

    @property
    def levels(self) -> tuple[str, str]:
        """The levels of the intervals by which the sequential rule supports and refutes a gain, `99%` and `90%`."""
        support = 1 - 2 * self.account.rule.alpha / len(self.account.design.variants)
        return f"{100 * support:.4g}%", f"{100 * (1 - 2 / rules.REFUTED):.4g}%"

    @property
    def oddities(self) -> tuple[str, ...]:
        """What looks too good or too easy, in the words of the checks."""
        account = self.account
        # A dict keeps the order of the runs. Most messages of the confirmation repeat those of the search.
        messages: dict[str, None] = {}
        for manifest, _ in account.runs:
            for finding in suspicion.find(manifest, account.design, account.calibration):
                messages[finding.message] = None
        return tuple(messages)

    @property
    def containment(self) -> str:
        """The level, and the limits that Autolab watched because the kernel did not enforce them."""
        manifest = self.account.manifest
        level: str = manifest.containment or "unknown"
        if level == "none":
            return "none, so their programs had the rights of the user who started them"
        watched = set()
        for trial in manifest.trials:
            for limit, keeper in trial.contained.items():
                if keeper == "watcher":
                    watched.add(limit)
        if watched:
            limits = ", ".join(sorted(watched))
            level += f" (all limits enforced by the kernel but those on {limits}, which Autolab watched)"
        return level

    @property
    def figures(self) -> tuple[Markdown, ...]:
        """The figures that were drawn, embedded, the comparison first."""
        images = []
        for path in self.account.results.artifacts:
            if path.endswith(".png"):
                link = self.link(path, _CAPTIONS[posixpath.basename(path)])
                images.append(Markdown(f"!{link}"))
        return tuple(images)

    @property
    def reproduce(self) -> str:
        """The command that repeats the run that decided."""
        manifest, _ = self.account.runs[-1]
        return f"autolab reproduce {manifest.iteration_id}/{manifest.run_id}"

    @property
    def manifests(self) -> Markdown:
        """A link to the manifest of each run."""
        names = ("search", "fresh seeds")
        if self.account.is_claim:
            names = ("claim", "")
        links = []
        for name, (manifest, _) in zip(names, self.account.runs, strict=False):
            links.append(self.link(str(PATHS.run(manifest.run_id).manifest), f"{name} ({manifest.run_id})"))
        return Markdown(", ".join(links))

    def link(self, path: str, text: str = "") -> Markdown:
        """A link to a file of the iteration, seen from the document's folder."""
        # Relative, so that it also works in a copy of the lab and on a server.
        target = f"{self.account.folder}/{path}"
        return Markdown(f"[{text or path}]({posixpath.relpath(target, self.here or '.')})")


# The documents


def summary(account: Account, notes: Sequence[str] = ()) -> str:
    """analysis/summary.md; `notes` say what was left out."""
    folder = posixpath.dirname(f"{account.folder}/{SUMMARY}")
    return _rendered("summary", account, folder, notes=notes)


def journal_entry(account: Account) -> DocumentEntry:
    """RESEARCH_JOURNAL.md: five lines, with observation, inference and claim apart."""
    return DocumentEntry(account.iteration_id, JOURNAL, _rendered("journal_entry", account), "top")


def findings_entry(account: Account) -> DocumentEntry:
    """FINDINGS.md of the project: one entry an iteration."""
    return DocumentEntry(account.iteration_id, FINDINGS, _rendered("findings_entry", account), "top")


def iteration_findings(account: Account) -> DocumentEntry:
    """experiments/<ITERATION_ID>/FINDINGS.md."""
    text = _rendered("iteration_findings", account, account.folder)
    return DocumentEntry(account.iteration_id, f"{account.folder}/{PATHS.findings}", text, "file")


def _rendered(document: str, account: Account, here: str = "", **values: object) -> str:
    return render(
        document,
        **values,
        account=account,
        view=DocumentView(account, here),
        headline=passages.headline(account),
        summary=SUMMARY,
        passages=passages,
        tables=decision_table,
        claim_words=claim_words,
        steps=exploration_account,
        wording=wording,
        rules=rules,
    )


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
"""The parts of a report, in order, and the words by which a heading of the lab's template is recognised."""


def report(account: Account, template: str | None) -> DocumentEntry:
    """9_reports/<date>_<slug>.md under the `## ` headings of `9_reports/_TEMPLATE.md`.

    A heading that means no part of a report stays, and its section says so. A part without a heading stands in its
    place among the others, so that no template loses one.
    """
    headings = re.findall(r"(?m)^##[ \t]+(.+?)[ \t]*\r?$", template or "")
    text = _rendered("report", account, "9_reports", sections=list(_sections(headings)))
    path = f"9_reports/{account.iteration_id[:10]}_{account.slug}.md"
    return DocumentEntry(account.iteration_id, path, text, "file")


def _sections(headings: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The headings of a report, in order, each with the part that stands under it; empty if none does."""
    # The template is the lab's own and may have any headings, in any order.
    parts = _parts_of_headings(headings)
    order = list(_HEADING_WORDS)
    missing = [part for part in order if part not in parts.values()]
    for heading, part in parts.items():
        # A missing part goes before the first heading whose part follows it in the order.
        while part and missing and order.index(missing[0]) < order.index(part):
            yield missing[0], missing[0]
            del missing[0]
        yield heading, part
    for part in missing:
        yield part, part


def _parts_of_headings(headings: Iterable[str]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for heading in headings:
        parts[heading] = ""
        for part, words in _HEADING_WORDS.items():
            # A part stands once in a report, under the first heading that means it.
            if part not in parts.values() and any(word in heading.lower() for word in words):
                parts[heading] = part
                break
    return parts


def merge_request(account: Account, commit: str, base: str, changed: Sequence[str], claims: Claims) -> str:
    """experiments/<ID>/merge_request.md: what a user needs to take over a candidate, and why they may.

    `changed` are the paths that differ between `base` and `commit`; `claims` counts what the campaign has kept.
    """
    useless = ""
    # Of a single change a share says no more than the error of its own test.
    if claims.kept > 1 and claims.false_share is not None:
        useless = f"{100 * claims.false_share:.3g}%"
    return _rendered(
        "merge_request",
        account,
        account.folder,
        commit=commit,
        base=base,
        changed=changed,
        kept=claims.kept,
        useless=useless,
    )


def tsv_rows(
    manifest: Manifest,
    metrics: RunMetrics | None,
    metric: str,
    description: str,
    confirmation: Confirmation | None = None,
) -> DocumentEntry:
    """The rows of a run in results.tsv, one an arm, of a search or a confirmation (`results_table.rows`)."""
    text = rows(manifest, metrics, metric, description, confirmation)
    return DocumentEntry(f"{manifest.iteration_id}.{manifest.run_id}", TABLE, text, "row")


def paper_entries(account: Account, targets: Collection[str]) -> list[DocumentEntry]:
    """A section for each target with text, the first with numbers and a figure. RecordError: another path."""
    entries = []
    for number, update in enumerate(account.docs.paper):
        # The researcher names the path, and may write into the user's paper only.
        if update.path not in targets:
            raise RecordError(f"{update.path}: not a paper target; known: {', '.join(targets) or 'none'}")
        name = account.iteration_id
        if number > 0:
            name += f".{number}"
        folder = posixpath.dirname(update.path)
        words = inert(update.text.strip(), headings=True)
        text = _rendered("paper_section", account, folder, words=words, first=number == 0)
        entries.append(DocumentEntry(name, update.path, text, "section"))
    return entries


_PLACES = {"top": "an entry at the top", "row": "a row an arm", "section": "a section at the end", "file": "a new file"}


def docs_update(account: Account, entries: Iterable[DocumentEntry]) -> DocumentEntry:
    """experiments/<ID>/docs_update.md: which documents get an entry, or why the paper needs none."""
    documents = []
    for entry in entries:
        documents.append((entry.path, posixpath.relpath(entry.path, account.folder), _PLACES[entry.place]))
    text = _rendered("docs_update", account, account.folder, documents=documents)
    return DocumentEntry(account.iteration_id, f"{account.folder}/{PATHS.docs_update}", text, "file")
