"""What is kept and shown of an iteration after each stage: a commit of its files, its rows of the backlog."""

from __future__ import annotations

from pathlib import Path

from autolab.lab import crash_points
from autolab.lab.schemas.campaign import Backlog, BacklogExperiment, BacklogHypothesis
from autolab.lab.schemas.events import DocumentWritten, events_of
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import preflight
from autolab.loop.iteration import Iteration
from autolab.loop.stages import StageOutcome

LOG = "refs/autolab/log"
SHOWN = 100
"""Hypotheses and experiments that the backlog view lists; the ledger has them all."""


def snapshot(iteration: Iteration) -> str:
    """The iteration's files and reports (no raw trials, no logs) as a commit on refs/autolab/log; its hash."""
    lab, folder = iteration.lab, iteration.paths.folder
    files = [path for path in folder.rglob("*") if path.is_file() and _belongs_in_record(path, folder)]
    for path in sorted({document.path for document in events_of(iteration.events(), DocumentWritten)}):
        if path.startswith(f"{preflight.REPORTS}/") and (lab.root / path).is_file():
            files.append(lab.root / path)
    names = [str(path.relative_to(lab.root)) for path in files]
    sha = lab.git.snapshot(LOG, lab.root, names, f"{iteration.iteration_id} {iteration.state.stage}")
    crash_points.point("log.after_snapshot")
    return sha


def _belongs_in_record(path: Path, folder: Path) -> bool:
    """Whether it is a spec, manifest, aggregate or analysis: no raw trials, no logs."""
    parts = path.relative_to(folder).parts
    return not ({"trials", "logs"} & set(parts[:-1])) and not path.name.startswith(".") and not path.is_symlink()


def show_backlog(iteration: Iteration, outcome: StageOutcome) -> None:
    """Bring `.autolab/backlog.yaml`, a view of the newest hypotheses and experiments, up to date."""
    if not iteration.paths.hypothesis.exists():
        return
    claim, old = iteration.hypothesis(), iteration.lab.backlog()
    is_over = iteration.state.stage is Stage.DECIDE_REPEAT and outcome is not StageOutcome.SUSPEND
    hypothesis = BacklogHypothesis(
        id=claim.id,
        status="tested" if is_over and outcome is not StageOutcome.REFINE else "open",
        title=claim.title,
        success_metric=claim.metric,
        target_delta=claim.success_delta,
    )
    experiment = BacklogExperiment(
        id=iteration.campaign.experiment_id or "",
        hypothesis_id=claim.id,
        status="done" if is_over else "in_progress",
        iteration_id=iteration.iteration_id,
    )
    hypotheses = [entry for entry in old.hypotheses if entry.id != hypothesis.id]
    experiments = [entry for entry in old.experiments if entry.id != experiment.id]
    new = Backlog(
        hypotheses=(*hypotheses, hypothesis)[-SHOWN:],
        experiments=(*experiments, experiment)[-SHOWN:],
    )
    if new != old:
        iteration.lab.show_backlog(new)
