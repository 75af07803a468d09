"""What the lab has recorded, for readers: the registry, the files to publish, and where the evidence lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autolab.errors import RecordError
from autolab.lab.lab import Lab
from autolab.lab.schemas.events import Call, events_of
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord, Reply
from autolab.reports.iteration_documents import JOURNAL
from autolab.reports.passages import PATHS
from autolab.stats.wording import heading
from autolab.text import decode, one_line

_DOCUMENTS = (
    *(PATHS.hypothesis, PATHS.design, PATHS.plan, PATHS.review, PATHS.review_result, PATHS.results),
    *(PATHS.findings, PATHS.docs_update, PATHS.record, PATHS.summary_json, PATHS.failure),
)
_MANIFESTS = str(PATHS.run("*").manifest)
PUBLISHED = (
    *map(str, _DOCUMENTS),
    "merge_request.md",
    "launch/*",
    "analysis/**/*",
    _MANIFESTS,
    "runs/*/metrics.json",
)
"""What `publish` commits of an iteration: specs, manifests, aggregates; never checkpoints, raw logs or data."""


def finished(lab: Lab) -> list[IterationRecord]:
    """Every finished iteration's record, oldest first."""
    files = sorted((lab.root / "experiments").glob(f"*/{PATHS.record}"))
    return [IterationRecord.load(path, str(path.relative_to(lab.root))) for path in files]


def registry_records(lab: Lab) -> list[dict[str, Any]]:
    """The iterations in the registry's form, each answer with its prompt, its raw text and the calls behind it."""
    # The ledger is read once, since it holds the calls of all iterations.
    calls: dict[tuple[str, str, int], list[Call]] = {}
    for call in events_of(lab.ledger.lines(), Call):
        calls.setdefault((call.iteration_id, call.kind, call.number), []).append(call)
    records = []
    for record in finished(lab):
        replies = []
        for reply in record.llm_response:
            calls_of_reply = calls.get((record.iteration_id, reply.stage, reply.ask), [])
            replies.append(_registered_reply(lab, reply, calls_of_reply))
        records.append(record.value() | {"llm_response": replies})
    return records


def _registered_reply(lab: Lab, reply: Reply, calls: list[Call]) -> dict[str, Any]:
    folder = (lab.store / reply.path).parent
    return reply.value() | {
        "prompt": _text(folder / "prompt.md"),
        "raw": _text(folder / "reply.json"),
        "calls": [_registered_call(folder / "calls", call) for call in calls],
    }


def _registered_call(folder: Path, call: Call) -> dict[str, Any]:
    """One model call: what the ledger booked, the request as it was sent, the reply as it came."""
    fields = call.value()
    # These name the reply that the call stands under, and a path inside the lab.
    for name in ("iteration_id", "stage", "kind", "number", "path"):
        fields.pop(name, None)
    # A call whose reply was lost is booked without it.
    reply = json.loads(_text(folder / f"{call.call}.reply.json") or "{}")
    return fields | {
        "latency_s": reply.get("seconds"),
        "request": _text(folder / f"{call.call}.request.json"),
        "raw": reply.get("body"),
    }


def _text(path: Path) -> str | None:
    if not path.exists():
        return None
    return decode(path.read_bytes())


def publishable(lab: Lab) -> list[str]:
    """Paths of the record that exist now, relative to the lab."""
    config = lab.config()
    paths: set[Path] = set()
    for iteration in (lab.root / "experiments").glob("*"):
        for pattern in PUBLISHED:
            # Trials write below an iteration, and a link could lead to any file of the user's.
            paths.update(path for path in iteration.glob(pattern) if not path.is_symlink())
    for name in (*config.files.global_, *config.docs.paper_targets):
        paths.add(lab.root / name)
    paths.update((lab.root / "9_reports").glob("*.md"))
    paths.update((lab.root / config.docs.figures).glob("*"))
    return sorted(str(path.relative_to(lab.root)) for path in paths if path.is_file())


def evidence(lab: Lab) -> str:
    """The result of each iteration, and the files that show it."""
    lines = []
    for record in finished(lab):
        paths = lab.iteration(record.iteration_id)
        runs = []
        for path in sorted(paths.folder.glob(_MANIFESTS)):
            status = json.loads(path.read_text(encoding="utf-8"))["status"]
            runs.append(f"{path.parent.name} {status}")
        verdict = heading(record.verdict, record.status, outcome=record.outcome, evaluation_only=record.evaluation_only)
        lines.append(f"{record.hypothesis_id:<8}{one_line(title(lab, record), 60):<60}  {verdict}: {', '.join(runs)}")
        lines.append(f"    {paths.summary.relative_to(lab.root)}")
    lines.append("")
    config = lab.config()
    files = {
        "what was learned": JOURNAL,
        "every try in one picture": f"{config.docs.figures}/progress.png",
        "every measurement": config.files.table,
        "runs, seeds, commits": f"experiments/*/{_MANIFESTS}",
        "what happened, line by line": ".autolab/ledger.jsonl",
    }
    for content, name in files.items():
        lines.append(f"{content:<28} {lab.root}/{name}")
    return "\n".join(lines)


def title(lab: Lab, record: IterationRecord) -> str:
    """The hypothesis's title, from its document's front matter; the iteration's id if that cannot be read."""
    path = lab.iteration(record.iteration_id).hypothesis
    try:
        return one_line(Hypothesis.load(path).title)
    except RecordError:
        return record.iteration_id
