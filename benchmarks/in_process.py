"""An executor whose trials are numbers drawn in this process: for what the engine decides, not for what it runs.

The code of a trial is a file `effect.txt` with the true mean of its metric. A trial draws its own part around it, of
deviation 1 / sqrt(2), so that the difference of a pair deviates by 1. The trial of a pair that runs second, in whatever
run of the comparison, gets `bias` added: a machine that is warm or throttled then favours or harms it. What is drawn
depends on `luck`, the arm's side and the number of the pair alone, so that other gates can be given the same numbers.
Nothing is started, contained, limited or lost.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from autolab import files
from autolab.executors.base import Job, Phase, Ref, Status
from autolab.sandbox.exit_record import Exit, StepExit, TrialOutcome

EFFECT = "effect.txt"
METRIC = "score"


OWN = 1 / math.sqrt(2)
"""The deviation of one trial: that of a pair's difference is then 1."""
_BASELINE = "baseline"
_ORDER = "seeds_of_trials.txt"
"""Beside the runs' folders: the seed of each trial that ran, in order. A run has an executor object of its own."""


def drawn(luck: int, is_base: bool, index: int) -> float:
    """The own part of the trial of one side in a pair."""
    return float(np.random.default_rng([luck, index, int(is_base)]).standard_normal() * OWN)


class InProcess:
    """Options: `bias` of the second trial of each pair, `luck`, a number that all draws depend on."""

    name: ClassVar[str] = "in_process"
    location: ClassVar[str] = "local"

    def __init__(self, workdir: Path, options: Mapping[str, object]) -> None:
        self._workdir = workdir
        self._bias, self._luck = float(str(options.get("bias", 0.0))), int(str(options.get("luck", 0)))
        self._order = workdir.parent / _ORDER

    def submit(self, jobs: Sequence[Job]) -> list[Ref]:
        refs = []
        for job in jobs:
            folder = self._workdir / job.key
            if not folder.exists():
                self._run(job, folder)
            refs.append(Ref(job.key, job.key))
        return refs

    def _run(self, job: Job, folder: Path) -> None:
        step = job.steps[0]
        seed = step.env["AUTOLAB_SEED"]
        effect = float((job.inputs["code"] / EFFECT).read_text())
        # As `Cell.trial` names them; a comparison's baseline has this name.
        arm, _, index = job.trial.rpartition("-s")
        own = drawn(self._luck, arm == _BASELINE, int(index))
        bias = self._bias if self._is_second(seed) else 0.0
        now = files.utc_now()
        text = f"{METRIC}: {effect + own + bias:.6f}\n"
        (folder / "logs").mkdir(parents=True)
        (folder / step.name).mkdir()
        (folder / "logs" / f"{step.name}.out").write_text(text)
        (folder / "logs" / f"{step.name}.err").write_text("")
        ended = StepExit(step.name, 0, None, 0.001, 0.001, 1, len(text), now, now)
        end = Exit.of_steps(job.key, TrialOutcome.COMPLETED, "", now, [ended])
        (folder / "exit.json").write_text(json.dumps(end.document))

    def _is_second(self, seed: str) -> bool:
        """Whether another trial of this seed has run before. The warm-up is none of a pair."""
        if "warm_up" in self._workdir.name:
            return False
        earlier = self._order.read_text().split() if self._order.exists() else []
        with self._order.open("a") as order:
            order.write(f"{seed}\n")
        return seed in earlier

    def find(self, keys: Sequence[str]) -> dict[str, Ref]:
        return {key: Ref(key, key) for key in keys if (self._workdir / key).exists()}

    def poll(self, refs: Sequence[Ref], timeout_s: float) -> dict[str, Status]:
        ends = {ref.key: Exit.read(self._workdir / ref.key / "exit.json") for ref in refs}
        return {key: Status(Phase.FINISHED, end) for key, end in ends.items()}

    def fetch(self, ref: Ref, destination: Path) -> None:
        if not destination.exists():
            shutil.copytree(self._workdir / ref.key, destination)

    def cancel(self, refs: Sequence[Ref]) -> None:
        pass

    def discard(self) -> None:
        shutil.rmtree(self._workdir, ignore_errors=True)
