"""Stage update_docs: the researcher's words about the numbers, into the documents of the checkout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from autolab import files
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Confirmation, Manifest, RunMetrics
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import DocsOutput
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, journal, passages
from autolab.text import many_lines
from autolab.verifiers import docs_checks

# update_docs


def run(iteration: Iteration, requests: Requests) -> StageResult:
    """The researcher's words about the numbers, into the documents of the checkout."""
    targets = iteration.config.docs.paper_targets
    values = {
        "summary_md": iteration.quote(iteration.paths.summary),
        "results_yaml": iteration.results().to_yaml(),
        "paper_targets": "\n".join(targets),
    }
    output = output_of(requests.send(iteration, RequestKind.UPDATE_DOCS, values), DocsOutput)
    if isinstance(output, StageResult):
        return output
    required = targets if iteration.policy.require_docs_target_update or output.paper else ()
    wrong = docs_checks.docs_answer(output, required)
    if wrong:
        return StageResult(StageOutcome.RETRY, "; ".join(finding.message for finding in wrong))
    _queue(iteration, dataclasses.replace(account_of(iteration), docs=output))
    return StageResult(StageOutcome.COMPLETE)


def account_of(iteration: Iteration) -> passages.Account:
    """What the reports say of the iteration, but for the researcher's words."""
    results = iteration.results()
    again = results.confirmation.run_id if results.confirmation else None
    return passages.Account(
        hypothesis=iteration.hypothesis(),
        design=iteration.design(),
        manifest=iteration.manifest(),
        metrics=iteration.metrics(),
        results=results,
        about=iteration.model_summary(),
        slug=iteration.slug,
        confirm=iteration.manifest(again) if again else None,
        confirm_metrics=iteration.metrics(again) if again else None,
        calibration=iteration.calibration(),
    )


def _queue(iteration: Iteration, account: passages.Account) -> None:
    """Put this iteration's entries in line for the checkout; its own two files are written at once."""
    lab, config = iteration.lab, iteration.config
    template = lab.root / "9_reports" / "_TEMPLATE.md"
    entries = [
        iteration_documents.journal_entry(account),
        iteration_documents.findings_entry(account),
        iteration_documents.report(account, many_lines(template.read_bytes()) if template.is_file() else None),
        *iteration_documents.paper_entries(account, config.docs.paper_targets),
    ]
    title = iteration.hypothesis().title
    entries += [_rows(config, title, manifest, metrics, account.confirmation) for manifest, metrics in account.runs]
    for own in (iteration_documents.iteration_findings(account), iteration_documents.docs_update(account, entries)):
        iteration.write(lab.root / own.path, own.text)
    pending = journal.Pending(lab.store / "pending")
    for entry in entries:
        pending.add(entry)


def queue_failed_run(iteration: Iteration, manifest: Manifest) -> None:
    """Put the rows of a run that gave no numbers in line for the table."""
    rows = _rows(iteration.config, iteration.hypothesis().title, manifest, None, None)
    journal.Pending(iteration.lab.store / "pending").add(rows)


def _rows(
    config: Config, title: str, manifest: Manifest, metrics: RunMetrics | None, confirmation: Confirmation | None
) -> journal.DocumentEntry:
    """The run's rows, for the table that the configuration names."""
    metric = manifest.metric or config.metric.primary
    rows = iteration_documents.tsv_rows(manifest, metrics, metric, title, confirmation)
    return dataclasses.replace(rows, path=config.files.table)


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
    hashes_path = lab.documents_path
    hashes = journal.known(hashes_path)
    for entry in waiting:
        written = journal.write(lab.root, entry)
        crash_points.point("document.after_write")
        if written.changed and hashes.get(entry.path, written.sha256_before) != written.sha256_before:
            lab.ledger.append("document_edited", {"path": entry.path, "sha256": written.sha256_before})
            tell(f"{entry.path}: was changed outside of the loop; the entry stands above that text")
        hashes[entry.path] = written.sha256_after
        files.write_whole(hashes_path, json.dumps(hashes))
        written_line = {"path": entry.path, "entry": entry.id, "sha256": written.sha256_after}
        if written.closed is not None:
            written_line |= {"closed": written.closed.path, "closed_sha256": written.closed.sha256}
        lab.ledger.append("document_written", written_line)
        pending.forget(entry)
