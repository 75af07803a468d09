"""A lab's own: the repository that its trials come from, and where its runs are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.config import Config
from autolab.stats.plan import BASE, CANDIDATE
from autolab.trials.inputs import InputSource, TrialInputs, set_up
from autolab.trials.run_record import RunRecord


def source_of(lab: Lab, exports: Path | None = None) -> InputSource:
    """The lab's repository and store; exports go to `exports`, or into the store."""
    return InputSource(lab.git, lab.root, lab.store, exports or lab.store / "exports", lab.secret)


def code_commits(base: str, candidate: str) -> dict[str, str]:
    """The two commits that a lab compares, by the name of the code."""
    return {BASE: base, CANDIDATE: candidate}


def inputs_of(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> TrialInputs:
    """`inputs.set_up` for a lab's base and candidate."""
    return set_up(source_of(lab, exports), config, code_commits(base, candidate))


def record_of(lab: Lab, iteration_id: str, events: Sequence[Line], acted: int) -> RunRecord:
    """Where the runs of an iteration (or `calibration`) are recorded; `events` and `acted` as `RunRecord` has them."""
    return RunRecord(
        ledger=lab.ledger,
        store=lab.store,
        paths=lab.iteration(iteration_id),
        lab_id=lab.lab_id,
        iteration_id=iteration_id,
        events=events,
        acted=acted,
    )
