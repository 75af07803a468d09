"""When the trials of a batch may be ended early: what the learning curves of earlier batches on its base say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind
from autolab.loop import batch
from autolab.loop.iteration import Iteration
from autolab.trials.early_stop import EarlyStop, early_stop_of, is_of_schedule

CURVE_BATCHES = 16
"""Earlier batches whose learning curves are read."""


def early_stop(iteration: Iteration, settings: Mapping[str, JsonValue]) -> EarlyStop | None:
    """When trials of this batch may be ended early; None: no earlier curve says it. `settings` are those of all arms.

    Ideas that touch schedule, length, rates or averaging are neither ended nor compared with.
    """
    of_arms = {batch.BASELINE: settings}
    for idea in batch.standing(iteration):
        if idea.arm is not None and _keeps_schedule(idea.hypothesis().changes):
            of_arms[idea.arm] = settings
    earlier = _comparable_ideas(iteration)

    def is_comparable(manifest: Manifest, trial: Trial) -> bool:
        ideas = earlier.get(manifest.iteration_id, set())
        return trial.arm == batch.BASELINE or trial.arm.partition("-")[0] in ideas

    # The oldest first: of curves of several lengths the newest one's counts.
    manifests = _screens(iteration, reversed(earlier))
    return early_stop_of(iteration.paths.folder.parent, manifests, is_comparable, of_arms, batch.BASELINE)


def _comparable_ideas(iteration: Iteration) -> dict[str, set[str]]:
    """The ideas of the newest batches on this base that keep the schedule, by batch, the newest batch first."""
    found: dict[str, set[str]] = {}
    for lesson in iteration.lessons():
        is_idea = lesson.hypothesis_id.startswith("h") and lesson.base == iteration.base_commit
        if not is_idea or not _keeps_schedule(lesson.changes):
            continue
        if lesson.iteration_id not in found and len(found) == CURVE_BATCHES:
            break
        found.setdefault(lesson.iteration_id, set()).add(lesson.hypothesis_id)
    return found


def _screens(iteration: Iteration, iteration_ids: Iterable[str]) -> list[Manifest]:
    """The finished screens of these batches."""
    manifests = []
    for iteration_id in iteration_ids:
        for path in sorted(iteration.lab.iteration(iteration_id).folder.glob("runs/*/run_manifest.json")):
            manifest = iteration.load(Manifest, path)
            if manifest.kind is RunKind.SCREEN:
                manifests.append(manifest)
    return manifests


def _keeps_schedule(changes: Mapping[str, JsonValue]) -> bool:
    """Whether changes are known and touch no schedule, length, rate or averaging."""
    if not changes:
        return False
    return not any(is_of_schedule(change) for change in changes)
