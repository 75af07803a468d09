"""Whether an answer about the documents says what the configuration asks for."""

from __future__ import annotations

from collections.abc import Collection

from autolab.lab.schemas.experiment import Finding
from autolab.lab.schemas.replies import DocsOutput
from autolab.verifiers.findings import blocking_finding, shown_path


def docs_answer(docs: DocsOutput, targets: Collection[str]) -> list[Finding]:
    """Findings on an answer of update_docs, before anything is written: targets known, text or a rationale there."""
    findings = []
    for update in docs.paper:
        if update.path not in targets:
            names = ", ".join(targets) or "none"
            message = f"{shown_path(update.path)}: not a paper target; known: {names}"
            findings.append(blocking_finding("docs", message, update.path))
    for update in docs.paper:
        if not update.text.strip():
            findings.append(blocking_finding("docs", f"{update.path}: the text is empty", update.path))
    if targets and not docs.paper and not (docs.no_changes or "").strip():
        message = "update a paper target or give no_changes, the reason why none needs a change"
        findings.append(blocking_finding("docs", message))
    return findings
