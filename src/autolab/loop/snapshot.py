"""What is kept and shown of an iteration after each stage: a commit of its files, its rows of the backlog."""

from __future__ import annotations

from pathlib import Path

from autolab.lab import crash_points, refs
from autolab.lab.schemas.campaign import Backlog, BacklogExperiment, BacklogHypothesis
from autolab.lab.schemas.events import DocumentWritten, events_of
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import preflight
from autolab.loop.iteration import Iteration
from autolab.loop.stages import StageOutcome

LOG = refs.LOG
SHOWN = 100
"""Hypotheses and experiments that the backlog view lists; the ledger has them all."""


def snapshot(iteration: Iteration) -> str:
    """The iteration's files and reports (no raw trials, no logs) as a commit on refs/autolab/log; its hash."""
    lab, folder = iteration.lab, iteration.paths.folder
    names = []
    for path in folder.rglob("*"):
        if path.is_file() and _belongs_in_record(path, folder):
            names.append(str(path.relative_to(lab.root)))
    documents = {document.path for document in events_of(iteration.events(), DocumentWritten)}
    for name in sorted(documents):
        # The journal and the tables hold the user's own text too, which is not the iteration's record.
        if name.startswith(f"{preflight.REPORTS}/") and (lab.root / name).is_file():
            names.append(name)
    message = f"{iteration.iteration_id} {iteration.state.stage}"
    sha = lab.git.snapshot(LOG, lab.root, names, message)
    crash_points.point("log.after_snapshot")
    return sha


def _belongs_in_record(path: Path, folder: Path) -> bool:
    """Whether it is a spec, manifest, aggregate or analysis: no raw trials, no logs."""
    # A link could lead out of the folder, and a name with a dot is that of a file half written.
    if path.is_symlink() or path.name.startswith("."):
        return False
    folders = path.relative_to(folder).parts[:-1]
    return "trials" not in folders and "logs" not in folders


def show_backlog(iteration: Iteration, outcome: StageOutcome) -> None:
    """Bring `.autolab/backlog.yaml`, a view of the newest hypotheses and experiments, up to date."""
    if not iteration.paths.hypothesis.exists():
        return
    claim, old = iteration.hypothesis(), iteration.lab.backlog()
    is_over = iteration.state.stage is Stage.DECIDE_REPEAT and outcome is not StageOutcome.SUSPEND
    hypothesis_status = "tested" if is_over and outcome is not StageOutcome.REFINE else "open"
    if outcome is StageOutcome.SET_ASIDE:
        is_over, hypothesis_status = True, "set aside"
    hypothesis = BacklogHypothesis(
        id=claim.id,
        status=hypothesis_status,
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
    # The entry of an earlier stage is replaced, and moves to the end.
    hypotheses = [entry for entry in old.hypotheses if entry.id != hypothesis.id]
    hypotheses.append(hypothesis)
    experiments = [entry for entry in old.experiments if entry.id != experiment.id]
    experiments.append(experiment)
    new = Backlog(hypotheses=tuple(hypotheses[-SHOWN:]), experiments=tuple(experiments[-SHOWN:]))
    if new != old:
        iteration.lab.show_backlog(new)
