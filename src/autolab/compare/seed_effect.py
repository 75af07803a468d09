"""What the trainings of the base say of the seed: whether it repeats a training, and whether it changes one. Pure.

The warm-up has the code and the seed of the first pair's baseline, so the two are one training run twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autolab.lab.schemas.experiment import Trial
from autolab.stats.scores import Scale


@dataclass(frozen=True)
class SeedEffect:
    """`repeats`: one seed gave one output twice; None before it was tried twice. `twice`: the two values.

    `ignored`: `seeds` different seeds, at least two, gave one output. `value`: the metric of the first.
    """

    repeats: bool | None = None
    twice: tuple[float, ...] = ()
    ignored: bool = False
    seeds: int = 0
    value: float | None = None

    def sentence(self, metric: str) -> str:
        """What was seen and what it means for the answer, in one line; empty before anything was seen twice."""
        if self.repeats is False:
            first, second = self.twice
            values = f"{metric} {first:g} and {second:g}" if first != second else "two different outputs"
            return (
                f"noise beyond the seed: the same seed gave {values}; the two trainings of a pair share less noise,"
                " so more pairs are needed, and the intervals contain it"
            )
        if self.ignored:
            return (
                f"the training ignores the seed: {self.seeds} seeds gave the same {metric}, {self.value:g}; all pairs"
                ' are one pair, which says nothing of chance. Let it read AUTOLAB_SEED, or --train-command "… {seed}"'
            )
        if self.repeats:
            return f"the seed repeats: the same seed gave {metric} {self.twice[0]:g} twice"
        return ""

    def as_json(self) -> dict[str, object]:
        return {"repeats": self.repeats, "same_seed": list(self.twice), "ignored": self.ignored, "seeds": self.seeds}


def seed_effect(scale: Scale, warm_up: Trial | None, baseline: Sequence[Trial]) -> SeedEffect:
    """`baseline`: the trials of the base that count; those that failed are passed over."""
    by_seed: dict[int, Trial] = {}
    for trial in baseline:
        if scale.failure(trial) is None:
            by_seed.setdefault(trial.seed, trial)
    outputs = {_output(scale, trial) for trial in by_seed.values()}
    first = next(iter(by_seed.values()), None)
    repeats: bool | None = None
    twice: tuple[float, ...] = ()
    if warm_up is not None and warm_up.seed in by_seed and scale.failure(warm_up) is None:
        again = by_seed[warm_up.seed]
        repeats = _output(scale, warm_up) == _output(scale, again)
        twice = tuple(value for value in map(scale.score, (warm_up, again)) if value is not None)
    return SeedEffect(
        repeats=repeats,
        twice=twice,
        ignored=len(by_seed) > 1 and len(outputs) == 1,
        seeds=len(by_seed),
        value=scale.score(first) if first is not None else None,
    )


def _output(scale: Scale, trial: Trial) -> object:
    """What the training gave: its predictions, or without an evaluator the number that it reports."""
    return trial.predictions_sha256 or scale.printed(trial)
