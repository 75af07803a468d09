"""The curves of a run in a few numbers a metric: first, middle and last value, and the best if it is none of them.

For readers of text, such as a model that decides what to do next: over-fitting, a plateau, or a curve that still falls
at the end can be read off. All of it is self-reported: it explains a result and never decides one.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.reports.curves import gather
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.stats.metric_names import direction_of
from autolab.stats.scores import Scale
from autolab.trials.metrics import PRINTED, STDOUT
from autolab.trials.readings import read_lines

ARMS = 6
METRICS = 6
PRINTED_BYTES = 4 * 1024**2
"""Bytes of what a training prints that are read where it leaves no `history.jsonl`."""


def digest(experiments: Path, manifest: Manifest, arms: Sequence[str] = ()) -> str:
    """A paragraph for each arm (of `arms`, if given) with a line for each metric; empty if no trial left a curve.

    `experiments` is the folder of the iterations. Means over the seeds that each arm was measured with.
    """
    trials = []
    for trial in manifest.trials:
        if trial.outcome is TrialOutcome.COMPLETED and (not arms or trial.arm in arms):
            trials.append(trial)
    curves, _ = gather(experiments, f"{manifest.iteration_id}/{manifest.run_id}", trials)
    paragraphs: dict[str, list[str]] = {}
    for curve in curves:
        lines = paragraphs.setdefault(curve.arm, [])
        if len(lines) < METRICS and curve.metric != curve.axis:
            places = [(point.at, point.mean.mean) for point in curve.points]
            lines.append(_line(curve.metric, curve.axis, places))
    if not curves:
        paragraphs = {arm: list(_of_printed(experiments, manifest, trial)) for arm, trial in _first_trials(trials)}
    texts = []
    for arm, lines in list(paragraphs.items())[:ARMS]:
        if lines:
            texts.append("\n".join([f"{arm}:", *lines, *_evaluated(manifest, trials, arm)]))
    return "\n".join(texts)


def _evaluated(manifest: Manifest, trials: Sequence[Trial], arm: str) -> Iterator[str]:
    """What counted at the end, so that training and evaluation can be compared."""
    scale = Scale.of(manifest)
    values: dict[str, list[float]] = {}
    for trial in trials:
        if trial.arm == arm:
            # Without an evaluator the score is the number that the training gave.
            scores: Mapping[str, float | None] = trial.score or {scale.metric: scale.score(trial)}
            for name, value in scores.items():
                if value is not None and (name in values or len(values) < METRICS):
                    values.setdefault(name, []).append(value)
    means = [f"{name} {statistics.fmean(numbers):.4g}" for name, numbers in values.items()]
    if means:
        yield f"  evaluated at the end: {', '.join(means)}"


def _line(metric: str, axis: str, places: Sequence[tuple[float, float]]) -> str:
    """`val_loss: 1.9 at epoch 1, 0.62 at 5, 0.58 at 10; best 0.57 at 8`."""
    (start, first), (end, last) = places[0], places[-1]
    text = f"  {metric}: {first:.4g}"
    if len(places) > 1:
        middle, value = places[len(places) // 2]
        text += f" at {axis} {start:g}, {value:.4g} at {middle:g}, {last:.4g} at {end:g}"
    good = direction_of(metric)
    if good is not None:
        choose = max if good == "maximize" else min
        at, best = choose(places, key=lambda place: place[1])
        if at not in (start, end):
            text += f"; best {best:.4g} at {at:g}"
    return text


def _first_trials(trials: Sequence[Trial]) -> Iterator[tuple[str, Trial]]:
    """Each arm with the first of its trials."""
    seen = set()
    for trial in trials:
        if trial.arm not in seen:
            seen.add(trial.arm)
            yield trial.arm, trial


def _of_printed(experiments: Path, manifest: Manifest, trial: Trial) -> Iterator[str]:
    """The curves of one trial, from the numbers that it printed line by line under one name."""
    place = trial.reused_from or f"{manifest.iteration_id}/{manifest.run_id}/{trial.trial}"
    iteration, run_id, name = place.split("/")
    attempt = IterationPaths(experiments / iteration).run(run_id).trial(name, trial.attempt)
    values: dict[str, list[tuple[float, float]]] = {}
    try:
        with open_regular(attempt / "logs" / PRINTED[STDOUT], PRINTED_BYTES) as file:
            for reading in read_lines(file, STDOUT):
                number = reading.number
                if number is not None:
                    values.setdefault(reading.name, []).append((reading.line, number))
    # Longer than it may be, or gone: a curve is a help, and none is needed.
    except InvalidFile:
        return
    several = [item for item in values.items() if len(item[1]) > 2 and direction_of(item[0]) is not None]
    for metric, places in several[:METRICS]:
        yield _line(metric, "line", places)
