"""Every document on disk, as a strict model. `SCHEMAS` names those that `.autolab/schemas/` shows."""

from __future__ import annotations

import json

from autolab.lab.schemas.campaign import Backlog, State
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import (
    Design,
    Hypothesis,
    IterationRecord,
    Manifest,
    Results,
    ReviewResult,
    RunMetrics,
    Summary,
)
from autolab.lab.schemas.fetch_record import FetchRecord
from autolab.lab.schemas.method import Method
from autolab.lab.schemas.record import Record
from autolab.lab.schemas.replies import AgentResult

SCHEMAS: dict[str, type[Record]] = {
    "config": Config,
    "verifier_policy": VerifierPolicy,
    "state": State,
    "backlog": Backlog,
    "agent_result": AgentResult,
    "hypothesis": Hypothesis,
    "design": Design,
    "review_result": ReviewResult,
    "run_manifest": Manifest,
    "metrics": RunMetrics,
    "summary": Summary,
    "results": Results,
    "record": IterationRecord,
    "method": Method,
    "fetch_record": FetchRecord,
}


def schema_text(name: str) -> str:
    """The JSON schema of one document, as `.autolab/schemas/<name>.schema.json` holds it."""
    return json.dumps(SCHEMAS[name].model_json_schema(by_alias=True), indent=2, ensure_ascii=False) + "\n"
