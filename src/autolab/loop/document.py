"""Stage update_docs: the researcher's words about the numbers, into the documents of the checkout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from autolab import files
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.experiment import Confirmation, Manifest, RunMetrics, Summary
from autolab.lab.schemas.replies import DocsOutput
from autolab.loop.iteration import Iteration, StageResult, quoted, recorded_manifest, recorded_metrics, recorded_results
from autolab.loop.request import answered, ask
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, journal, passages
from autolab.text import many_lines
from autolab.trials import calibration
from autolab.verifiers import docs_checks

# update_docs


def run(desk: Iteration) -> StageResult:
    """The researcher's words about the numbers, into the documents of the checkout."""
    targets = desk.config.docs.paper_targets
    values = {
        "summary_md": quoted(desk, desk.paths.summary),
        "results_yaml": recorded_results(desk).to_yaml(),
        "paper_targets": "\n".join(targets),
    }
    output = answered(ask(desk, values), DocsOutput)
    if isinstance(output, StageResult):
        return output
    required = targets if desk.policy.require_docs_target_update or output.paper else ()
    wrong = docs_checks.docs_answer(output, required)
    if wrong:
        return StageResult(StageOutcome.RETRY, "; ".join(finding.message for finding in wrong))
    _queue(desk, account_of(desk, output))
    return StageResult(StageOutcome.COMPLETE)


def account_of(desk: Iteration, docs: DocsOutput | None = None) -> passages.Account:
    about, results = desk.paths.summary_json, recorded_results(desk)
    again = results.confirmation.run_id if results.confirmation else None
    account = passages.Account(
        hypothesis=desk.hypothesis(),
        design=desk.design(),
        manifest=recorded_manifest(desk),
        metrics=recorded_metrics(desk),
        results=results,
        about=desk.load(Summary, about) if about.exists() else None,
        slug=desk.slug,
        confirm=recorded_manifest(desk, again) if again else None,
        confirm_metrics=recorded_metrics(desk, again) if again else None,
        calibration=calibration.current_calibration(desk.lab),
    )
    return dataclasses.replace(account, docs=docs) if docs else account


def _queue(desk: Iteration, account: passages.Account) -> None:
    """Put this iteration's entries in line for the checkout; its own two files are written at once."""
    template = desk.lab.root / "9_reports" / "_TEMPLATE.md"
    entries = [
        iteration_documents.journal_entry(account),
        iteration_documents.findings_entry(account),
        iteration_documents.report(account, many_lines(template.read_bytes()) if template.is_file() else None),
        *iteration_documents.paper_entries(account, desk.config.docs.paper_targets),
    ]
    entries += [_rows(desk, manifest, metrics, account.confirmation) for manifest, metrics in account.runs]
    for own in (iteration_documents.iteration_findings(account), iteration_documents.docs_update(account, entries)):
        desk.write(desk.lab.root / own.path, own.text)
    pending = journal.Pending(desk.lab.store / "pending")
    for entry in entries:
        pending.add(entry)


def queue_rows(desk: Iteration, manifest: Manifest, metrics: RunMetrics | None) -> None:
    journal.Pending(desk.lab.store / "pending").add(_rows(desk, manifest, metrics))


def _rows(
    desk: Iteration, manifest: Manifest, metrics: RunMetrics | None, confirmation: Confirmation | None = None
) -> journal.DocumentEntry:
    """The run's rows, for the table that the configuration names."""
    metric = manifest.metric or desk.config.metric.primary
    rows = iteration_documents.tsv_rows(manifest, metrics, metric, desk.hypothesis().title, confirmation)
    return dataclasses.replace(rows, path=desk.config.files.table)


def write_documents(lab: Lab, campaign: Campaign, tell: Callable[[str], None]) -> None:
    """Bring what waits into the checkout, if it stands on the lab's branch; note what somebody else changed."""
    pending = journal.Pending(lab.store / "pending")
    waiting = pending.waiting()
    if not waiting:
        return
    away = lab.away(campaign)
    if away:
        tell(f"{len(waiting)} document entries wait: {away}")
        return
    known_path = lab.documents_path
    known = journal.known(known_path)
    for entry in waiting:
        written = journal.write(lab.root, entry)
        crash_points.point("document.after_write")
        if written.changed and known.get(entry.path, written.sha256_before) != written.sha256_before:
            lab.ledger.append("document_edited", {"path": entry.path, "sha256": written.sha256_before})
            tell(f"{entry.path}: was changed outside of the loop; the entry stands above that text")
        known[entry.path] = written.sha256_after
        files.write_whole(known_path, json.dumps(known))
        said = {"path": entry.path, "entry": entry.id, "sha256": written.sha256_after}
        if written.closed is not None:
            said |= {"closed": written.closed.path, "closed_sha256": written.closed.sha256}
        lab.ledger.append("document_written", said)
        pending.forget(entry)
