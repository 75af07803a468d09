"""The proposals of a lab: where they wait, and what became of each.

A proposal waits as a file in `.git/autolab/proposals/`, which anybody may write while a loop runs: its name is that of
its content, so that the same one is there once. The engine, which holds the lab's lock, opens an iteration with the
oldest or sets it aside; that line of the ledger counts. Then the file is moved to `closed/`. After a crash between the
two the ledger still says what became of it.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import JsonValue

from autolab import files
from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.events import ProposalSetAside, Transition
from autolab.lab.schemas.experiment import IterationRecord
from autolab.lab.schemas.plans import StoredProposal
from autolab.loop.stages import StageOutcome
from autolab.text import one_line


class ProposalStatus(StrEnum):
    """What became of a proposal: `taken` means that an iteration tests it, or has tested it."""

    WAITING = "waiting"
    TAKEN = "taken"
    SET_ASIDE = "set aside"


@dataclass(frozen=True)
class Proposal:
    """A proposal and its status. `reason` says why it was set aside, `verdict` what was measured; empty: not so far.

    `iteration_id` is the iteration that tests it, if there is one.
    """

    stored: StoredProposal
    status: ProposalStatus
    reason: str = ""
    iteration_id: str | None = None
    verdict: str = ""

    @property
    def id(self) -> str:
        return self.stored.id

    def value(self) -> dict[str, JsonValue]:
        """The proposal as one JSON object."""
        value: dict[str, JsonValue] = self.stored.value()
        value["status"] = self.status.value
        value["reason"] = self.reason
        value["iteration_id"] = self.iteration_id
        value["verdict"] = self.verdict
        return value


@dataclass(frozen=True)
class _Fate:
    """What the ledger says of a proposal that waits no more."""

    status: ProposalStatus
    iteration_id: str | None = None
    reason: str = ""


def deposit(lab: Lab, proposal: StoredProposal) -> None:
    """Put a proposal into the inbox and pin its commit, once. Needs no lock of the lab, but one writer at a time."""
    # Pinned first: git removes commits that no ref leads to.
    lab.git.pin(f"refs/autolab/keep/proposals/{proposal.id}", proposal.commit)
    crash_points.point("proposal.after_pin")
    files.write_whole(_waiting_path(lab, proposal.id), proposal.to_json())
    crash_points.point("proposal.after_write")


def pinned(lab: Lab, proposal_id: str) -> str | None:
    """The commit that a proposal of this id had when it was pinned; None if there was none."""
    return lab.git.resolve(f"refs/autolab/keep/proposals/{proposal_id}")


def find_proposal(lab: Lab, proposal_id: str) -> Proposal | None:
    """A proposal by its id; None if there is none."""
    # The inbox first: between two looks a file may move on, and never back.
    for path in (_waiting_path(lab, proposal_id), _closed_path(lab, proposal_id)):
        with contextlib.suppress(FileNotFoundError):
            path.stat()
            return _with_status(lab, StoredProposal.load(path, str(path)), _fates(lab))
    return None


def proposals(lab: Lab) -> list[Proposal]:
    """Every proposal of the lab with its status, oldest first. Reads only. RecordError: a file is damaged."""
    stored: dict[str, StoredProposal] = {}
    for path in (*_inbox(lab).glob("*.json"), *(_inbox(lab) / "closed").glob("*.json")):
        with contextlib.suppress(FileNotFoundError):
            path.stat()
            proposal = StoredProposal.load(path, str(path))
            stored[proposal.id] = proposal
    fates = _fates(lab)
    oldest_first = sorted(stored.values(), key=lambda proposal: (proposal.at, proposal.id))
    return [_with_status(lab, proposal, fates) for proposal in oldest_first]


# For the engine, which holds the lab's lock


def waiting_proposals(lab: Lab, tell: Callable[[str], None]) -> list[StoredProposal]:
    """The proposals that wait, oldest first. Files of others are closed; one that cannot be read is put aside."""
    paths = sorted(_inbox(lab).glob("*.json"))
    if not paths:
        return []
    waiting = []
    fates = _fates(lab)
    for path in paths:
        if path.stem in fates:
            close(lab, path.stem)
            continue
        try:
            proposal = StoredProposal.load(path, path.name)
            if proposal.id != path.stem:
                raise RecordError(f"{path.name}: holds {proposal.id}")
        except RecordError as error:
            # Nobody's proposal: whoever wrote it did not go through `propose`.
            path.rename(path.with_suffix(".unreadable"))
            tell(f"note: proposals/{one_line(str(error))}; put aside")
            continue
        waiting.append(proposal)
    return sorted(waiting, key=lambda proposal: (proposal.at, proposal.id))


def set_aside_proposal(lab: Lab, proposal: StoredProposal, reason: str) -> None:
    """Set a waiting proposal aside, for a reason of one line."""
    event = ProposalSetAside(id=proposal.id, by=proposal.by, title=proposal.title, reason=one_line(reason))
    # The line first: a file without one still waits.
    events.append(lab.ledger, event)
    crash_points.point("proposal.after_record")
    close(lab, proposal.id)


def close(lab: Lab, proposal_id: str) -> None:
    """Move the file of a proposal out of the inbox, once the ledger says what became of it."""
    source, target = _waiting_path(lab, proposal_id), _closed_path(lab, proposal_id)
    if not source.exists():
        return
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
    crash_points.point("proposal.after_close")


# Where they lie, and what the ledger says


def _inbox(lab: Lab) -> Path:
    return lab.store / "proposals"


def _waiting_path(lab: Lab, proposal_id: str) -> Path:
    return _inbox(lab) / f"{proposal_id}.json"


def _closed_path(lab: Lab, proposal_id: str) -> Path:
    return _inbox(lab) / "closed" / f"{proposal_id}.json"


@contextlib.contextmanager
def one_writer(lab: Lab) -> Iterator[None]:
    """Keep other proposers out, threads of this process too. The engine takes proposals meanwhile."""
    _inbox(lab).mkdir(exist_ok=True)
    with open(_inbox(lab) / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fates(lab: Lab) -> dict[str, _Fate]:
    """What became of each proposal that waits no more, by its id."""
    fates: dict[str, _Fate] = {}
    open_proposal: str | None = None
    # Single keys are read: to parse every state and campaign of a long ledger would take seconds.
    for line in lab.ledger.lines():
        if line.event == ProposalSetAside.KIND:
            fates[line.data["id"]] = _Fate(ProposalStatus.SET_ASIDE, reason=line.data["reason"])
        if line.event != Transition.KIND:
            continue
        if line.data.get("why") == "opened":
            open_proposal = (line.data.get("entry") or {}).get("proposal")
            if open_proposal is not None:
                fates[open_proposal] = _Fate(ProposalStatus.TAKEN, line.data["state"]["iteration_id"])
        elif line.data.get("outcome") == StageOutcome.SET_ASIDE and open_proposal is not None:
            iteration_id = fates[open_proposal].iteration_id
            reason = f"{line.data.get('from', '')}: {line.data.get('reason', '')}"
            fates[open_proposal] = _Fate(ProposalStatus.SET_ASIDE, iteration_id, one_line(reason))
    return fates


def _with_status(lab: Lab, proposal: StoredProposal, fates: dict[str, _Fate]) -> Proposal:
    fate = fates.get(proposal.id)
    if fate is None:
        return Proposal(proposal, ProposalStatus.WAITING)
    return Proposal(proposal, fate.status, fate.reason, fate.iteration_id, _verdict(lab, fate.iteration_id))


def _verdict(lab: Lab, iteration_id: str | None) -> str:
    """What an iteration measured, as its record says; empty if it has none so far."""
    if iteration_id is None:
        return ""
    path = lab.iteration(iteration_id).record
    if not path.exists():
        return ""
    record = IterationRecord.load(path)
    measured = str(record.verdict or record.status)
    return f"{measured}, {record.outcome}" if record.outcome else measured
