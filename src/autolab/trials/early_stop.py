"""Ending trials of a screen whose learning curve is behind: when that may be done, and what a curve says then.

A curve is what a training says of itself in `history.jsonl` while it runs, so it can end a trial and never give a
score. It is compared with the baseline's curve at the same seed and step. What is ended is `cancelled`: it drops its
arm, and is never reused. A trial that ends before somebody has looked keeps its score: with early stops, how fast a
machine is can change what a screen says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from autolab.lab.experiment_paths import IterationPaths
from autolab.lab.schemas.config import Direction
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.collect import InvalidFile, open_regular
from autolab.stats.finite import is_finite
from autolab.stats.learning_curves import FinishedCurve, behind, telling_step
from autolab.stats.metric_names import direction_of
from autolab.stats.scores import Scale, gain
from autolab.text import decode_json

HISTORY = "train/history.jsonl"
"""Where a training's curve lies in the folder of its attempt."""
HISTORY_BYTES = 8 * 1024**2
AXES = ("step", "epoch")
_SCHEDULE = re.compile(
    r"epoch|iter|step|round|estimator|update|duration|patience|stopping|plateau|sched|warm|decay|anneal|cosine|cycle"
    r"|cooldown|restart|milestone|rate|optim|batch|averag|(?<![a-z])lr|lr(?![a-z])"
    r"|(?<![a-z])(?:eta|gamma|factor|opt|solver|bsz?|b_size|ema|swa|tokens|time|seconds|minutes|hours)(?![a-z])"
)
"""Found in names of settings that change how a curve runs: trainings that differ in one are not comparable. An
optimiser is one of them, since it brings a step size of its own. A name too many costs an early stop, and no result."""

Row = Mapping[str, float]


@dataclass(frozen=True)
class EarlyStop:
    """At `step` of `axis`, a running trial of one of these `arms` whose `metric` is behind the baseline's is ended."""

    arms: frozenset[str]
    metric: str
    direction: Direction
    axis: str
    step: float

    def is_behind(self, arm: str, rows: Sequence[Row], baseline: Sequence[Row]) -> bool:
        """Whether a running trial of `arm` is to be ended; not before both curves have reached the step."""
        if arm not in self.arms:
            return False
        value, reference = self._value(rows), self._value(baseline)
        if value is None or reference is None:
            return False
        return bool(behind({arm: gain(self.direction, 0.0, value)}, gain(self.direction, 0.0, reference)))

    def _value(self, rows: Sequence[Row]) -> float | None:
        return _values(rows, self.metric, self.axis).get(self.step)

    @property
    def reason(self) -> str:
        return f"behind the baseline at {self.axis} {self.step:g} of its learning curve ({self.metric})"


def early_stop_of(
    experiments: Path,
    manifests: Iterable[Manifest],
    is_comparable: Callable[[Manifest, Trial], bool],
    settings: Mapping[str, Mapping[str, JsonValue]],
    baseline: str,
) -> EarlyStop | None:
    """When trials of a screen may be ended early, by finished runs of its protocol; None: their curves do not say it.

    `settings` are those of the screen's arms, the `baseline` among them: an arm whose schedule differs from the
    baseline's is never ended. The caller leaves out arms whose code changes schedule, length, rates or averaging, and
    says by `is_comparable` which finished trials have none of that either. The metric is the compared one if all
    curves have it, else the first that they share and whose name says which way is good. `experiments` is the folder
    of the iterations.
    """
    schedule = _schedule(settings[baseline])
    arms = {arm for arm, own in settings.items() if arm != baseline and _schedule(own) == schedule}
    finished: list[tuple[list[Row], float]] = []
    metric, good = None, None
    for manifest in manifests:
        scale = Scale.of(manifest)
        metric, good = scale.metric, scale.direction
        for trial in _alike(manifest, schedule):
            if is_comparable(manifest, trial):
                rows = history_of(experiments, f"{manifest.iteration_id}/{manifest.run_id}", trial)
                score = scale.score(trial)
                if rows and score is not None:
                    finished.append((rows, gain(scale.direction, 0.0, score)))
    shared = _shared_metric([rows for rows, _ in finished], metric)
    if shared is None:
        return None
    if shared != metric:
        good = direction_of(shared)
    assert good is not None  # a metric without a good direction is not shared
    for axis in AXES:
        step = _telling(finished, axis, shared, good)
        if step is not None:
            return EarlyStop(frozenset(arms), shared, good, axis, step)
    return None


def _alike(manifest: Manifest, schedule: Mapping[str, JsonValue]) -> Iterator[Trial]:
    """The trials that this run completed itself, under this schedule."""
    schedules = {arm.name: _schedule(arm.settings) for arm in manifest.arms}
    for trial in manifest.trials:
        has_run = trial.outcome is TrialOutcome.COMPLETED and trial.reused_from is None
        if has_run and schedules.get(trial.arm) == schedule:
            yield trial


def _telling(finished: Sequence[tuple[Sequence[Row], float]], axis: str, metric: str, good: Direction) -> float | None:
    """The step of this axis that tells the end; None if none does."""
    curves = []
    for rows, end in finished:
        values = {place: gain(good, 0.0, value) for place, value in _values(rows, metric, axis).items()}
        if values:
            curves.append(FinishedCurve(values, end))
    # Of several lengths, the newest trial's: the others were trained otherwise.
    alike = [curve for curve in curves if max(curve.values) == max(curves[-1].values)]
    return telling_step(alike)


def _shared_metric(histories: Sequence[Sequence[Row]], primary: str | None) -> str | None:
    """The one metric by which curves are ranked: fixed by its name alone, so that none is picked for its ranking."""
    if not histories:
        return None
    names = set(histories[0][-1])
    for rows in histories[1:]:
        names &= rows[-1].keys()
    if primary in names:
        return primary
    return next((name for name in sorted(names) if direction_of(name) is not None), None)


def is_of_schedule(name: str) -> bool:
    """Whether a setting of this name changes schedule, length, rate or averaging: `max_iters`, `learningRate`."""
    return _SCHEDULE.search(re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", name).lower()) is not None


def _schedule(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The settings that change how a curve runs."""
    return {name: value for name, value in settings.items() if is_of_schedule(name)}


def _values(rows: Sequence[Row], metric: str, axis: str) -> dict[float, float]:
    return {row[axis]: row[metric] for row in rows if axis in row and metric in row}


# Histories


def history_of(experiments: Path, run: str, trial: Trial) -> list[Row]:
    """The curve of a trial of `run` (`<iteration>/<run>`) that is over; a reused one's lies where it ran."""
    parts = (trial.reused_from or f"{run}/{trial.trial}").split("/")
    # A manifest can be edited by hand, and must not lead out of the lab.
    if len(parts) != 3 or not {"", ".", ".."}.isdisjoint(parts):
        return []
    iteration, run_id, name = parts
    return read_history(IterationPaths(experiments / iteration).run(run_id).trial(name, trial.attempt) / HISTORY)


def read_history(path: Path) -> list[Row]:
    """The numbers of each line; empty if the file, which untrusted code writes, is not there or no such file.

    What is not a line of numbers is left out: a training that still writes may have written half a line.
    """
    try:
        with open_regular(path, HISTORY_BYTES) as file:
            lines = file.read(HISTORY_BYTES).split(b"\n")
    except InvalidFile:
        return []
    rows: list[Row] = []
    for line in lines:
        row = _numbers(line)
        if row:
            rows.append(row)
    return rows


def _numbers(line: bytes) -> dict[str, float]:
    try:
        value = json.loads(decode_json(line))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    numbers = {}
    for name, number in value.items():
        # Python's true is an int.
        if isinstance(number, int | float) and not isinstance(number, bool) and is_finite(number):
            numbers[name] = float(number)
    return numbers
