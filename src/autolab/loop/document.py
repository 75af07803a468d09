"""Stage update_docs: the researcher interprets the numbers, and the iteration's entries get into the checkout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from autolab import files
from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, ProvisionalStep
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import DocumentEdited, DocumentWritten
from autolab.lab.schemas.experiment import Confirmation, Manifest, RunMetrics
from autolab.lab.schemas.outcomes import Gear, RequestKind
from autolab.lab.schemas.replies import DocsOutput
from autolab.loop import batch
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of
from autolab.loop.stages import StageOutcome
from autolab.reports import iteration_documents, journal, passages
from autolab.reports.exploration_account import FEW, ExplorationAccount
from autolab.text import many_lines, one_line
from autolab.verifiers import docs_checks

MECHANISM = 600
"""Characters of a step's mechanism that a claim's documents quote."""


def run(iteration: Iteration, requests: Requests) -> StageResult:
    """Ask the researcher for observation, inference and claim, and queue the iteration's entries."""
    targets = iteration.config.docs.paper_targets
    reply = requests.send(iteration, RequestKind.UPDATE_DOCS, prompt_values(iteration))
    output = output_of(reply, DocsOutput)
    if isinstance(output, StageResult):
        return output
    required: tuple[str, ...] = ()
    # A reply that writes into the paper at all writes into each of its targets.
    if iteration.policy.require_docs_target_update or output.paper:
        required = targets
    messages = [finding.message for finding in docs_checks.docs_answer(output, required)]
    if messages:
        return StageResult(StageOutcome.RETRY, "; ".join(messages))
    account = dataclasses.replace(account_of(iteration), docs=output)
    queue(iteration, account)
    return StageResult(StageOutcome.COMPLETE)


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    return {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "summary_md": iteration.quote(iteration.paths.summary),
        "results_yaml": iteration.results().to_yaml(),
        "paper_targets": "\n".join(iteration.config.docs.paper_targets),
    }


def account_of(iteration: Iteration) -> passages.Account:
    """The iteration's records for its documents, without the researcher's words."""
    results = iteration.results()
    account = passages.Account(
        hypothesis=iteration.tested_hypothesis(),
        design=iteration.design(),
        manifest=iteration.manifest(),
        metrics=iteration.metrics(),
        results=results,
        about=iteration.model_summary(),
        slug=iteration.slug,
        calibration=iteration.calibration(),
        exploration=exploration_of(iteration),
    )
    if results.confirmation is None:
        return account
    run_id = results.confirmation.run_id
    manifest, metrics = iteration.manifest(run_id), iteration.metrics(run_id)
    return dataclasses.replace(account, confirm=manifest, confirm_metrics=metrics)


def exploration_of(iteration: Iteration) -> ExplorationAccount | None:
    """What led to a claim; None of another iteration."""
    campaign = iteration.campaign
    exploration = campaign.exploration
    if campaign.gear is not Gear.CLAIM or exploration is None:
        return None
    ideas = [_told(iteration, step) for step in exploration.steps[-FEW:]]
    return ExplorationAccount(
        steps=exploration.steps,
        unclaimed=exploration.unclaimed,
        ideas_screened=campaign.ideas_screened,
        provisional=campaign.provisional,
        claims=campaign.claims.confirmations,
        kept=campaign.claims.kept,
        trials_by_purpose=campaign.trials_for,
        alpha_spent=campaign.claims.alpha,
        ideas=tuple(ideas),
    )


def _told(iteration: Iteration, step: ProvisionalStep) -> str:
    """What a step's idea is, by its hypothesis; its title if that is gone."""
    try:
        claim, _ = batch.hypothesis_of(iteration, step.iteration_id, step.arm)
    except RecordError:
        return step.title
    return one_line(claim.mechanism, MECHANISM)


def queue(iteration: Iteration, account: passages.Account) -> None:
    """Queue the entries for the checkout, and write the iteration's own two files at once."""
    lab, config = iteration.lab, iteration.config
    path = lab.root / "9_reports" / "_TEMPLATE.md"
    template = None
    if path.is_file():
        template = many_lines(path.read_bytes())
    entries = [
        iteration_documents.journal_entry(account),
        iteration_documents.findings_entry(account),
        iteration_documents.report(account, template),
        *iteration_documents.paper_entries(account, config.docs.paper_targets),
    ]
    for manifest, metrics in account.runs:
        entries.append(_rows(config, account.hypothesis.title, manifest, metrics, account.confirmation))
    findings = iteration_documents.iteration_findings(account)
    update = iteration_documents.docs_update(account, entries)
    for file in (findings, update):
        iteration.write(lab.root / file.path, file.text)
    # Queued, as the user may have another branch checked out now.
    pending = journal.Pending(lab.store / "pending")
    for entry in entries:
        pending.add(entry)


def queue_failed_run(iteration: Iteration, manifest: Manifest) -> None:
    """Queue the rows of a run that gave no numbers."""
    rows = _rows(iteration.config, iteration.tested_hypothesis().title, manifest, None, None)
    journal.Pending(iteration.lab.store / "pending").add(rows)


def _rows(
    config: Config, title: str, manifest: Manifest, metrics: RunMetrics | None, confirmation: Confirmation | None
) -> journal.DocumentEntry:
    """The run's rows, for the table that the configuration names."""
    metric = manifest.metric or config.metric.primary
    rows = iteration_documents.tsv_rows(manifest, metrics, metric, title, confirmation)
    return dataclasses.replace(rows, path=config.files.table)


def write_documents(lab: Lab, campaign: Campaign, tell: Callable[[str], None]) -> None:
    """Write the queued entries into the checkout if it is on the lab's branch; report files that others changed."""
    pending = journal.Pending(lab.store / "pending")
    entries = pending.waiting()
    if not entries:
        return
    away = lab.away(campaign)
    if away:
        tell(f"{len(entries)} document entries wait: {away}")
        return
    hashes = journal.known(lab.documents_path)
    for entry in entries:
        path = entry.path
        result = journal.write(lab.root, entry)
        crash_points.point("document.after_write")
        before = result.sha256_before
        # After a crash the entry may stand there already: that is no change by others.
        if result.changed and hashes.get(path, before) != before:
            events.append(lab.ledger, DocumentEdited(path=path, sha256=before))
            tell(f"{path}: was changed outside of the loop; the entry stands above that text")
        hashes[path] = result.sha256_after
        files.write_whole(lab.documents_path, json.dumps(hashes))
        events.append(lab.ledger, _event(entry, result))
        # Last: an entry that is still queued is written again, which changes nothing.
        pending.forget(entry)


def _event(entry: journal.DocumentEntry, result: journal.WrittenEntry) -> DocumentWritten:
    event = DocumentWritten(path=entry.path, entry=entry.id, sha256=result.sha256_after)
    if result.closed is None:
        return event
    return event.model_copy(update={"closed": result.closed.path, "closed_sha256": result.closed.sha256})
