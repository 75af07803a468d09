"""What the lab has recorded, for readers: the registry, the files to publish, and where the evidence lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autolab.errors import RecordError
from autolab.lab.front_matter import front_matter
from autolab.lab.lab import Lab
from autolab.lab.schemas.events import Call, events_of
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord
from autolab.stats.wording import heading
from autolab.text import decode, many_lines

PUBLISHED = (
    "hypothesis.md",
    "design.yaml",
    "implementation_plan.md",
    "implementation_review.md",
    "review_result.json",
    "results.yaml",
    "FINDINGS.md",
    "docs_update.md",
    "record.json",
    "summary.json",
    "failure_report.md",
    "merge_request.md",
    "launch/*",
    "analysis/**/*",
    "runs/*/run_manifest.json",
    "runs/*/metrics.json",
)
"""What `publish` commits of an iteration: specs, manifests, aggregates; never checkpoints, raw logs or data."""


def finished(lab: Lab) -> list[IterationRecord]:
    """Every finished iteration's record, oldest first."""
    files = sorted((lab.root / "experiments").glob("*/record.json"))
    return [IterationRecord.load(path, str(path.relative_to(lab.root))) for path in files]


def registry_records(lab: Lab) -> list[dict[str, Any]]:
    """The iterations in the registry's form, each answer with its prompt, its raw text and the calls behind it."""
    calls: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for call in events_of(lab.ledger.lines(), Call):
        calls.setdefault((call.iteration_id, call.kind, call.number), []).append(call.value())
    return [
        record.value() | {"llm_response": [_reply(lab, record, one.value(), calls) for one in record.llm_response]}
        for record in finished(lab)
    ]


def _reply(
    lab: Lab, record: IterationRecord, reply: dict[str, Any], calls: dict[tuple[str, str, int], list[dict[str, Any]]]
) -> dict[str, Any]:
    folder = (lab.store / reply["path"]).parent
    made = calls.get((record.iteration_id, reply["stage"], reply["ask"]), [])
    told = {"prompt": _text(folder / "prompt.md"), "raw": _text(folder / "reply.json")}
    return reply | told | {"calls": [_call(folder / "calls", data) for data in made]}


def _call(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    """One model call: what the ledger booked, the request as it was sent, the reply as it came."""
    of_request = ("iteration_id", "stage", "kind", "number", "path")
    booked = {key: value for key, value in data.items() if key not in of_request}
    number = data["call"]
    kept = folder / f"{number}.reply.json"
    raw = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    latency = raw.get("seconds")
    return booked | {"latency_s": latency, "request": _text(folder / f"{number}.request.json"), "raw": raw.get("body")}


def _text(path: Path) -> str | None:
    return decode(path.read_bytes()) if path.exists() else None


def publishable(lab: Lab) -> list[str]:
    """Paths of the record that exist now, relative to the lab."""
    config = lab.config()
    found: set[Path] = set()
    for iteration in (lab.root / "experiments").glob("*"):
        for pattern in PUBLISHED:
            found.update(path for path in iteration.glob(pattern) if path.is_file() and not path.is_symlink())
    own = (*config.files.global_, *config.docs.paper_targets)
    found.update(path for path in (lab.root / name for name in own) if path.is_file())
    found.update((lab.root / "9_reports").glob("*.md"))
    found.update(path for path in (lab.root / config.docs.figures).glob("*") if path.is_file())
    return sorted(str(path.relative_to(lab.root)) for path in found)


def evidence(lab: Lab) -> str:
    """What the iterations came to, and the files that show it."""
    rows = []
    for record in finished(lab):
        runs = sorted((lab.iteration(record.iteration_id).folder / "runs").glob("*/run_manifest.json"))
        ended = [f"{path.parent.name} {_status(path)}" for path in runs]
        verdict = heading(record.verdict, record.status, outcome=record.outcome, evaluation_only=record.evaluation_only)
        rows.append(f"{record.hypothesis_id:<4}{title(lab, record):<50}  {verdict}: {', '.join(ended)}")
        rows.append(f"    experiments/{record.iteration_id}/analysis/summary.md")
    config = lab.config()
    places = [
        ("what was learned", "RESEARCH_JOURNAL.md"),
        ("every try in one picture", f"{config.docs.figures}/progress.png"),
        ("every measurement", config.files.table),
        ("runs, seeds, commits", "experiments/*/runs/*/run_manifest.json"),
        ("what happened, line by line", ".autolab/ledger.jsonl"),
    ]
    lines = [*rows, "", *(f"{name:<28} {lab.root}/{path}" for name, path in places)]
    return "\n".join(lines)


def title(lab: Lab, record: IterationRecord) -> str:
    """The hypothesis's title, from its document's front matter; the iteration's id where that cannot be read."""
    path = lab.iteration(record.iteration_id).hypothesis
    try:
        text = many_lines(path.read_bytes())
        return Hypothesis.from_text(front_matter(text, path.name), path.name).title
    except (FileNotFoundError, RecordError):
        return record.iteration_id


def _status(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["status"])
