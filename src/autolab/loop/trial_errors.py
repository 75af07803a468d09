"""The error of a trial that failed, for whoever proposes next: the last lines of its log, and what the engine says."""

from __future__ import annotations

from pathlib import Path

from autolab.ideas.past_ideas import error_text
from autolab.lab.experiment_paths import RunPaths
from autolab.lab.schemas.experiment import Manifest
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.text import decode

_LOG_BYTES = 64 * 1024**2
"""A longer log is not opened; the engine's own line about the trial says what went wrong too."""
_TAIL_BYTES = 4_000


def error_of(run: RunPaths, manifest: Manifest, arm: str) -> str:
    """The error of the first trial of `arm` that failed; empty if none did."""
    for trial in manifest.trials:
        if trial.arm == arm and trial.outcome not in (TrialOutcome.COMPLETED, TrialOutcome.CANCELLED):
            logs = run.trial(trial.trial, trial.attempt) / "logs"
            return error_text("\n".join([_last_lines(logs), trial.message]).strip())
    return ""


def _last_lines(logs: Path) -> str:
    """The end of what the step that failed, the last one to write, said on its standard error."""
    written = [path for path in logs.glob("*.err") if path.is_file() and path.stat().st_size]
    if not written:
        return ""
    newest = max(written, key=lambda path: path.stat().st_mtime_ns)
    try:
        with open_regular(newest, _LOG_BYTES) as file:
            file.seek(max(0, newest.stat().st_size - _TAIL_BYTES))
            return decode(file.read()).rstrip()
    except InvalidFile:
        return ""
