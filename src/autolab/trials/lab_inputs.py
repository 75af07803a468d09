"""The inputs of a lab's trials: what `inputs.set_up` takes, as a lab has it."""

from __future__ import annotations

from pathlib import Path

from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.stats.plan import BASE, CANDIDATE
from autolab.trials.inputs import InputSource, TrialInputs, set_up


def source_of(lab: Lab, exports: Path | None = None) -> InputSource:
    """The lab's repository and store; exports go to `exports`, or into the store."""
    return InputSource(lab.git, lab.root, lab.store, exports or lab.store / "exports", lab.secret)


def code_commits(base: str, candidate: str) -> dict[str, str]:
    """The two commits that a lab compares, by the name of the code."""
    return {BASE: base, CANDIDATE: candidate}


def inputs_of(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> TrialInputs:
    """`inputs.set_up` for a lab's base and candidate."""
    return set_up(source_of(lab, exports), config, code_commits(base, candidate))
