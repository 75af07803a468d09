"""Plans and candidates that are kept before an iteration tests them.

A *plan* (`pln1`, `pln2`, ...) is a hypothesis with its design; a *candidate* (`c1`, `c2`, ...) is a commit for a plan,
pinned under refs/autolab/keep/. Each is a file in `.git/autolab/plans/` and a line of the ledger with the file's hash:
`plan_stored`, `candidate_stored`. The line is written last, so a file without one does not count. An iteration that is
opened with `entry_of` takes them over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from autolab import files
from autolab.errors import LabError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.experiment import Design, Hypothesis
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import Record
from autolab.loop.opening import BroughtCommit, Entry

PLAN, CANDIDATE = "plan_stored", "candidate_stored"


class StoredPlan(Record):
    """A hypothesis and how it is to be tested. Ids of an iteration in them are set when one begins."""

    id: str
    hypothesis: Hypothesis
    design: Design


class StoredCandidate(Record):
    """A commit that carries out a plan."""

    id: str
    plan: str
    candidate: BroughtCommit


Stored = TypeVar("Stored", StoredPlan, StoredCandidate)


def store_plan(lab: Lab, hypothesis: Hypothesis, design: Design) -> StoredPlan:
    """Keep a plan under the next id. The caller holds the lab's lock."""
    plan = StoredPlan(id=_next_id(lab, PLAN, "pln"), hypothesis=hypothesis, design=design)
    _keep(lab, PLAN, plan, {"title": hypothesis.title})
    return plan


def store_candidate(lab: Lab, plan_id: str, candidate: BroughtCommit) -> StoredCandidate:
    """Keep a commit for a plan under the next id, and pin it. The caller holds the lab's lock.

    LabError: there is no such plan, or no such commit.
    """
    find_plan(lab, plan_id)
    if lab.git.resolve(candidate.commit) is None:
        raise LabError(f"{candidate.commit[:12]}: no such commit in {lab.root}")
    lab.git.pin(f"refs/autolab/keep/plans/{candidate.commit[:12]}", candidate.commit)
    crash_points.point("candidate.after_pin")
    stored = StoredCandidate(id=_next_id(lab, CANDIDATE, "c"), plan=plan_id, candidate=candidate)
    _keep(lab, CANDIDATE, stored, {"plan": plan_id, "commit": candidate.commit})
    return stored


def find_plan(lab: Lab, plan_id: str) -> StoredPlan:
    """A plan by its id. LabError: there is none, or its file is missing or was changed."""
    return _find(lab, PLAN, StoredPlan, plan_id)


def find_candidate(lab: Lab, candidate_id: str) -> StoredCandidate:
    """A candidate by its id. LabError: there is none, or its file is missing or was changed."""
    return _find(lab, CANDIDATE, StoredCandidate, candidate_id)


def entry_of(lab: Lab, plan_id: str, candidate_id: str | None = None) -> Entry:
    """The entry of an iteration that tests a plan: at implementation, or at launch with a commit that has a review."""
    plan = find_plan(lab, plan_id)
    entry = Entry(stage=Stage.IMPLEMENTATION, hypothesis=plan.hypothesis, design=plan.design)
    if candidate_id is None:
        return entry
    stored = find_candidate(lab, candidate_id)
    if stored.plan != plan_id:
        raise LabError(f"{candidate_id} is a candidate for {stored.plan}, not for {plan_id}")
    stage = Stage.IMPLEMENTATION if stored.candidate.review is None else Stage.LAUNCH
    return entry.model_copy(update={"stage": stage, "candidate": stored.candidate})


def _place(lab: Lab, stored_id: str) -> Path:
    return lab.store / "plans" / f"{stored_id}.json"


def _next_id(lab: Lab, event: str, prefix: str) -> str:
    return f"{prefix}{1 + sum(line.event == event for line in lab.ledger.lines())}"


def _keep(lab: Lab, event: str, stored: StoredPlan | StoredCandidate, about: dict[str, object]) -> None:
    text = stored.to_json()
    files.write_whole(_place(lab, stored.id), text)
    crash_points.point("artifact.after_write")
    lab.ledger.append(event, {"id": stored.id} | about | {"sha256": files.sha256_of(text)})


def _find(lab: Lab, event: str, kind: type[Stored], stored_id: str) -> Stored:
    lines = {str(line.data["id"]): line.data for line in lab.ledger.lines() if line.event == event}
    if stored_id not in lines:
        raise LabError(f"{stored_id}: not stored; known: {', '.join(lines) or 'none'}")
    path = _place(lab, stored_id)
    if not path.is_file() or files.sha256_of_file(path) != lines[stored_id]["sha256"]:
        raise LabError(f"{path}: missing or changed since it was stored; store it again")
    return kind.load(path, str(path))
