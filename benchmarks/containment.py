"""What does containment cost: a training inside against outside, and the start of a cold trial.

    python benchmarks/containment.py [--pairs 15] [--starts 40] [--epochs 24] [--levels full partial]

Each pair runs one digits training twice with the same seed, at the level and at `none`, in an order that changes from
pair to pair, so that what the machine does meanwhile falls on both alike. The ratio is the median over the pairs of
inside over outside, with the 95% interval of a bootstrap over pairs; start-up is in it. A start is a training program
that ends at once (`python -c pass`), through the executor; what is told is the difference of the medians, in
milliseconds. Same bytes are asked of both: a training that comes out otherwise inside ends the benchmark.

Promised: the interval's upper end below 1.05, and a start at most 100 ms above.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from autolab import durable, evaluation, init, rig
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.lab import Lab

RATIO, START_MS = 1.05, 100.0


class Bench:
    """A digits lab's training, run alone, one at a time."""

    def __init__(self, folder: Path, epochs: int) -> None:
        init.init(folder / "lab", "digits", 0)
        lab = Lab(folder / "lab")
        config = lab.config()
        head = lab.git.head()
        assert head is not None
        self.rig = rig.set_up(lab, config, head, head)
        self.box = rig.checks_box(self.rig, config)
        self.folder, self.count = folder, 0
        self.settings = folder / "settings.json"
        self.settings.write_text(json.dumps({"epochs": epochs}))

    def run(self, level: str, argv: tuple[str, ...], seed: int) -> tuple[float, str]:
        """Seconds from the start of the step to its end, and the hash of the weights that it left, if it did."""
        self.count += 1
        executor = LocalExecutor(self.folder / f"run{self.count}", {"slots": 1})
        data = self.rig.data
        assert data is not None
        box = replace(self.box, level=level, reads=(*self.box.reads, "{code}", "{data}", "{config}"))
        box = replace(box, writes=("{folder}/train",))
        env = rig.environment_of_trials(self.rig.python) | {"AUTOLAB_SEED": str(seed), "AUTOLAB_CONFIG": "{config}"}
        env |= {"AUTOLAB_DATA": "{data}", "AUTOLAB_TRIAL_DIR": "{folder}/train"}
        step = Step("train", argv, "{code}", env, 600, 1 << 20, box)
        inputs = {"code": self.rig.code["base"], "data": data, "config": self.settings}
        (ref,) = executor.submit([Job("k", "t", 1, (step,), inputs)])
        while not (status := executor.poll([ref], 60)["k"]).over:
            pass
        assert status.exit is not None
        if status.exit.outcome != "completed":
            sys.exit(f"benchmark: the training ended as {status.exit.outcome}: {status.exit.message}")
        executor.fetch(ref, self.folder / f"home{self.count}")
        executor.discard()
        weights = self.folder / f"home{self.count}" / "train" / "model" / "weights.npz"
        return status.exit.seconds, durable.file_sha256(weights) if weights.exists() else ""


def pairs(bench: Bench, level: str, argv: tuple[str, ...], count: int, what: str) -> list[tuple[float, float]]:
    """(inside, outside) in seconds, once for each seed."""
    found = []
    for seed in range(count):
        order = (level, "none") if seed % 2 else ("none", level)
        runs = {one: bench.run(one, argv, seed) for one in order}
        if runs[level][1] != runs["none"][1]:
            sys.exit(f"benchmark: seed {seed} gives other weights at {level} than at none")
        found.append((runs[level][0], runs["none"][0]))
        print(f"\r{what} at {level}: {seed + 1} of {count}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """95%, by 10,000 draws of as many pairs as there are, with replacement; the median of each."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return medians[250], medians[9_749]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--levels", nargs="+", default=["full", "partial"])
    asked = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory(prefix="autolab-bench-") as place:
        bench = Bench(Path(place), asked.epochs)
        python = bench.rig.python
        print(f"python {evaluation.packages_hash(Path(python)).version}, trainings of {asked.epochs} epochs")
        print("| level | training, inside / outside | 95% | outside, s | start, ms more | outside, ms |")
        print("| --- | --- | --- | --- | --- | --- |")
        for level in asked.levels:
            trained = pairs(bench, level, (python, "train.py"), asked.pairs, "training")
            started = pairs(bench, level, (python, "-c", "pass"), asked.starts, "start")
            ratios = [inside / outside for inside, outside in trained]
            low, high = interval(ratios)
            outside = statistics.median(outside for _, outside in trained)
            bare = 1000 * statistics.median(outside for _, outside in started)
            more = 1000 * statistics.median(inside for inside, _ in started) - bare
            middle = statistics.median(ratios)
            print(f"| {level} | {middle:.3f} | {low:.3f} to {high:.3f} | {outside:.2f} | {more:.1f} | {bare:.1f} |")
            held = held and high < RATIO and more <= START_MS
    print(f"promised: upper end below {RATIO}, start at most {START_MS:g} ms above: {'held' if held else 'NOT held'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
