"""What does containment cost: a training inside against outside, and the start of a cold trial.

    python benchmarks/containment.py [--pairs 25] [--starts 40] [--epochs 100] [--levels full partial]

Each pair runs one digits training twice inside and twice outside with the same seed: side by side, each on a core of
its own, and once more with the cores exchanged, so that what the machine does meanwhile, and what its cores are, falls
on both alike. The ratio is the median over the pairs of the two inside over the two outside, with the 95% interval of a
bootstrap over pairs; start-up is in it. A start is a program that ends at once (`python -c pass`), alone on the
machine, through the executor; what is told is the difference of the medians, in milliseconds. Same bytes are asked of
both: a training that comes out otherwise inside ends the benchmark.

Promised: the interval's upper end below 1.05, and a start at most 100 ms above.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from autolab import files
from autolab.cli import init
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.lab.lab import Lab
from autolab.sandbox.environment import ProgramEnvironment
from autolab.trials import interpreter
from autolab.trials.job import checks_box
from autolab.trials.lab_inputs import inputs_of

RATIO, START_MS = 1.05, 100.0


class Bench:
    """A digits lab's training, run alone, one at a time."""

    def __init__(self, folder: Path, epochs: int) -> None:
        init.make_lab(folder / "lab", "digits", 0)
        lab = Lab(folder / "lab")
        config = lab.config()
        head = lab.git.head()
        assert head is not None
        self.inputs = inputs_of(lab, config, head, head)
        self.box = checks_box(self.inputs, config.train)
        self.folder, self.count = folder, 0
        self.settings = folder / "settings.json"
        self.settings.write_text(json.dumps({"epochs": epochs}))

    def job(self, level: str, argv: tuple[str, ...], seed: int) -> Job:
        data = self.inputs.data
        assert data is not None
        box = replace(self.box, level=level, reads=(*self.box.reads, "{code}", "{data}", "{config}"))
        box = replace(box, writes=("{folder}/train",))
        environment = ProgramEnvironment(self.inputs.interpreter.path)
        env = environment.training("{folder}/train", seed, "{config}", "{data}")
        step = Step("train", argv, "{code}", env, 600, 1 << 20, box)
        inputs = {"code": self.inputs.code["base"].folder, "data": data, "config": self.settings}
        return Job(level, level, 1, (step,), inputs)

    def run(self, levels: tuple[str, ...], argv: tuple[str, ...], seed: int) -> dict[str, tuple[float, str]]:
        """At each level, all at once, each on a core of its own in the order of the levels: seconds from the start of
        the step to its end, the hash of what it left."""
        self.count += 1
        executor = LocalExecutor(self.folder / f"run{self.count}", {"slots": len(levels)})
        pinned = [("taskset", "-c", str(core), *argv) for core in sorted(os.sched_getaffinity(0))]
        refs = executor.submit([self.job(*one, seed) for one in zip(levels, pinned, strict=False)])
        statuses = executor.poll(refs, 60)
        while not all(status.over for status in statuses.values()):
            statuses = executor.poll(refs, 60)
        found = {}
        for ref in refs:
            ended, home = statuses[ref.key].exit, self.folder / f"home{self.count}" / ref.key
            assert ended is not None
            if ended.outcome != "completed":
                sys.exit(f"benchmark: the training ended as {ended.outcome}: {ended.message}")
            home.parent.mkdir(exist_ok=True)
            executor.fetch(ref, home)
            weights = home / "train" / "model" / "weights.npz"
            found[ref.key] = ended.seconds, files.sha256_of_file(weights) if weights.exists() else ""
        executor.discard()
        return found


def pairs(bench: Bench, level: str, argv: tuple[str, ...], count: int, together: bool) -> list[tuple[float, float]]:
    """(inside, outside) in seconds, once for each seed: `together` side by side, and once more with cores exchanged."""
    found = []
    for seed in range(count):
        order = (level, "none") if seed % 2 else ("none", level)
        batches = (order, order[::-1]) if together else ((order[0],), (order[1],))
        runs = [one for batch in batches for one in bench.run(batch, argv, seed).items()]
        if len({left for _, (_, left) in runs}) > 1:
            sys.exit(f"benchmark: seed {seed} gives other weights at {level} than at none")
        spent = [sum(seconds for name, (seconds, _) in runs if name == one) for one in (level, "none")]
        found.append((spent[0], spent[1]))
        print(f"\r{'trainings' if together else 'starts'} at {level}: {seed + 1} of {count} ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """95%, by 10,000 draws of as many pairs as there are, with replacement; the median of each."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return medians[250], medians[9_749]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--levels", nargs="+", default=["full", "partial"])
    asked = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory(prefix="autolab-bench-") as place:
        bench = Bench(Path(place), asked.epochs)
        python = bench.inputs.interpreter.path
        print(f"python {interpreter.packages_hash(Path(python)).version}, trainings of {asked.epochs} epochs")
        print("| level | training, inside / outside | 95% | a training outside, s | start, ms more | outside, ms |")
        print("| --- | --- | --- | --- | --- | --- |")
        for level in asked.levels:
            trained = pairs(bench, level, (python, "train.py"), asked.pairs, True)
            started = pairs(bench, level, (python, "-c", "pass"), asked.starts, False)
            ratios = [inside / outside for inside, outside in trained]
            low, high = interval(ratios)
            outside = statistics.median(outside for _, outside in trained) / 2
            bare = 1000 * statistics.median(outside for _, outside in started)
            more = 1000 * statistics.median(inside for inside, _ in started) - bare
            middle = statistics.median(ratios)
            print(f"| {level} | {middle:.3f} | {low:.3f} to {high:.3f} | {outside:.2f} | {more:.1f} | {bare:.1f} |")
            held = held and high < RATIO and more <= START_MS
    print(f"promised: upper end below {RATIO}, start at most {START_MS:g} ms above: {'held' if held else 'NOT held'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
