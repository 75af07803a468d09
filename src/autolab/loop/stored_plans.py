"""Plans and candidates that are kept before an iteration tests them.

A *plan* (`pln1`, `pln2`, ...) is a hypothesis with its design; a *candidate* (`c1`, `c2`, ...) is a commit for a plan,
pinned under refs/autolab/keep/. Each is a file in `.git/autolab/plans/`, and a line of the ledger with the file's hash.
The line is written last, so a file without a line does not count. An iteration that is opened with `entry_of` tests
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from autolab import files
from autolab.errors import LabError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.events import CandidateStored, PlanStored
from autolab.lab.schemas.experiment import Design, Hypothesis
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.plans import BroughtCommit, Entry, StoredCandidate, StoredPlan

Stored = TypeVar("Stored", StoredPlan, StoredCandidate)


def store_plan(lab: Lab, hypothesis: Hypothesis, design: Design) -> StoredPlan:
    """Keep a plan under the next id. The caller holds the lab's lock."""
    number = 1 + len(_stored(lab, PlanStored))
    plan = StoredPlan(id=f"pln{number}", hypothesis=hypothesis, design=design)
    sha256 = _write(lab, plan)
    events.append(lab.ledger, PlanStored(id=plan.id, title=hypothesis.title, sha256=sha256))
    return plan


def store_candidate(lab: Lab, plan_id: str, candidate: BroughtCommit) -> StoredCandidate:
    """Keep a commit for a plan under the next id, and pin it. The caller holds the lab's lock.

    LabError: there is no such plan, or no such commit.
    """
    find_plan(lab, plan_id)
    commit = candidate.commit
    if lab.git.resolve(commit) is None:
        raise LabError(f"{commit[:12]}: no such commit in {lab.root}")
    # Pinned before it is on record: git removes commits that no ref leads to.
    lab.git.pin(f"refs/autolab/keep/plans/{commit[:12]}", commit)
    crash_points.point("candidate.after_pin")
    number = 1 + len(_stored(lab, CandidateStored))
    stored = StoredCandidate(id=f"c{number}", plan=plan_id, candidate=candidate)
    sha256 = _write(lab, stored)
    events.append(lab.ledger, CandidateStored(id=stored.id, plan=plan_id, commit=commit, sha256=sha256))
    return stored


def find_plan(lab: Lab, plan_id: str) -> StoredPlan:
    """A plan by its id. LabError: there is none, or its file is missing or was changed."""
    return _load(lab, StoredPlan, _stored(lab, PlanStored), plan_id)


def find_candidate(lab: Lab, candidate_id: str) -> StoredCandidate:
    """A candidate by its id. LabError: there is none, or its file is missing or was changed."""
    return _load(lab, StoredCandidate, _stored(lab, CandidateStored), candidate_id)


def entry_of(lab: Lab, plan_id: str, candidate_id: str | None = None) -> Entry:
    """The entry of an iteration that tests a plan: at launch with a reviewed commit, else at implementation."""
    plan = find_plan(lab, plan_id)
    entry = Entry(stage=Stage.IMPLEMENTATION, hypothesis=plan.hypothesis, design=plan.design)
    if candidate_id is None:
        return entry
    stored = find_candidate(lab, candidate_id)
    if stored.plan != plan_id:
        raise LabError(f"{candidate_id} is a candidate for {stored.plan}, not for {plan_id}")
    update: dict[str, object] = {"candidate": stored.candidate}
    # Without a review the commit is judged and reviewed first.
    if stored.candidate.review is not None:
        update["stage"] = Stage.LAUNCH
    return entry.model_copy(update=update)


def _path(lab: Lab, stored_id: str) -> Path:
    return lab.store / "plans" / f"{stored_id}.json"


def _stored(lab: Lab, kind: type[PlanStored] | type[CandidateStored]) -> dict[str, str]:
    """The hash of each stored file, by its id."""
    return {event.id: event.sha256 for event in events.events_of(lab.ledger.lines(), kind)}


def _write(lab: Lab, stored: StoredPlan | StoredCandidate) -> str:
    """Write the file of a plan or a candidate and return its hash, for the line that makes it count."""
    text = stored.to_json()
    files.write_whole(_path(lab, stored.id), text)
    crash_points.point("artifact.after_write")
    return files.sha256_of(text)


def _load(lab: Lab, kind: type[Stored], hashes: dict[str, str], stored_id: str) -> Stored:
    if stored_id not in hashes:
        ids = ", ".join(hashes) or "none"
        raise LabError(f"{stored_id}: not stored; known: {ids}")
    path = _path(lab, stored_id)
    if not path.is_file() or files.sha256_of_file(path) != hashes[stored_id]:
        raise LabError(f"{path}: missing or changed since it was stored; store it again")
    return kind.load(path, str(path))
