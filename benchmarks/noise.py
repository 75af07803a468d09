"""How often is what is kept no gain, whatever the noise? Candidates whose true gain is known to be zero.

    python benchmarks/noise.py [--seed 0] [--quick] [--out FOLDER]        make bench-noise

A candidate is searched for, confirmed on fresh seeds, held to the rule on cut trials and asked of the holdout: each
by the engine's rule. Unit of everything is the run-to-run deviation of one trial; a higher score is better. Scores
are cut `BOUND` deviations below the baseline's mean. A null is one of the bounded mean: both arms have exactly the
same expected score after the cut.

    normal, t3, lognormal   the part of a trial that its pair does not share; lognormal has its long tail downwards
    quantised               normal, printed to one deviation: three equal differences are common
    bimodal                 two humps of equal weight
    spikes in both          one training in ten of either arm falls to the bound
    spikes in one           trainings of the candidate alone fail with a given share and depth, and its others are
                            better by just so much that the bounded means are equal

Arms that share a seed have a part in common (`correlation`). The evaluation split misjudges every change by an amount
of its own, normal with deviation `split error`; so does the holdout, independently: the sum of the errors of its
parts. The holdout measures the confirmation's own models, with a little noise besides.

Streams are read by the engine's bounds on t, all at once; every stream of a sample, with kept ones first, goes through
`experiment.judge` and the rule on cut trials as well, and both have to agree. Intervals are exact 95% (Clopper,
Pearson 1934). Ends with PASS or FAIL for each thing promised, and with exit code 1 if one fails. About 4 minutes on
one core, --quick half a minute. Equal seeds give equal numbers. --out writes noise.md and noise.json.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from decisions import Check, Estimate, Progress, exact, table

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Manifest, Trial
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.reports import passages
from autolab.stats import holdout, rules
from autolab.stats.plan import Plan, PlannedArm
from autolab.stats.verdict import Judgement, judge
from autolab.trials.confirmation import too_many_cut

Floats = npt.NDArray[np.float64]
PAIRS, ALPHA, BOUND = 24, 0.005, 20.0
HOLDOUT_NOISE = 0.2
EFFECTS, CORRELATIONS, SPLITS = (1.0, 2.0), (0.0, 0.8), (0.0, 0.4, 0.8)
KINDS = ("normal", "t3", "lognormal", "quantised", "bimodal", "spikes in both")
SHARES, DEPTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3), (3.0, 10.0, BOUND)
PROMISED, PROMISED_SPLIT = 0.005, 0.01
NORMAL = NormalDist()


@dataclass(frozen=True)
class World:
    """How trials scatter. `asked` is success_delta; with `share` above 0 the candidate alone fails, `depth` below."""

    kind: str
    asked: float
    correlation: float
    split_error: float = 0.0
    share: float = 0.0
    depth: float = 0.0

    @property
    def step(self) -> float:
        """The metric's smallest step."""
        return 1.0 if self.kind == "quantised" else 0.0


# Trials


def own(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """The part of a trial that its pair does not share, with mean 0 and deviation 1."""
    if kind == "t3":
        return rng.standard_t(3, shape) / math.sqrt(3)
    if kind == "lognormal":
        return (math.exp(0.5) - rng.lognormal(0, 1, shape)) / math.sqrt((math.e - 1) * math.e)
    if kind == "bimodal":
        return (rng.choice([-1.0, 1.0], shape) + 0.3 * rng.standard_normal(shape)) / math.sqrt(1.09)
    return rng.standard_normal(shape)


def cut_mean(mean: float) -> float:
    """Expectation of a normal score of deviation 1 after the cut at -BOUND."""
    z = -BOUND - mean
    return -BOUND * NORMAL.cdf(z) + mean * (1 - NORMAL.cdf(z)) + NORMAL.pdf(z)


def handicap(world: World) -> float:
    """By how much the candidate's good trainings are better, so that its rare failures leave the bounded mean as it is.

    Failures scatter like the other trainings where they lie above the bound.
    """
    if not world.share:
        return 0.0

    def gain(shift: float) -> float:
        failed = -BOUND if world.depth >= BOUND else cut_mean(shift - world.depth)
        return (1 - world.share) * cut_mean(shift) + world.share * failed - cut_mean(0.0)

    low, high = 0.0, BOUND
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) > 0 else (middle, high)
    return low


@dataclass(frozen=True)
class Pairs:
    """Scores of many streams, [streams, pairs], as they were measured: nan where a training diverged."""

    base: Floats
    candidate: Floats

    def counted(self) -> tuple[Floats, Floats]:
        """Scores cut at the bound."""
        found = [np.where(arm >= -BOUND, arm, -BOUND) for arm in (self.base, self.candidate)]
        return found[0], found[1]

    def gains(self) -> Floats:
        base, candidate = self.counted()
        return candidate - base

    def cuts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """How many trials of each arm were cut up to and with each pair."""
        found = [np.cumsum(~(arm >= -BOUND), axis=1) for arm in (self.base, self.candidate)]
        return found[0], found[1]

    def of(self, rows: npt.NDArray[np.int64]) -> Pairs:
        return Pairs(self.base[rows], self.candidate[rows])


def draw(world: World, gain: float, luck: Floats, rng: np.random.Generator) -> tuple[Pairs, Pairs]:
    """A run of each stream: on the evaluation split, whose error in favour of the candidate is `luck`, and unsplit."""
    shape = (len(luck), PAIRS)
    shared = math.sqrt(world.correlation) * rng.standard_normal(shape)
    base, candidate = (
        shared + math.sqrt(1 - world.correlation) * own(world.kind, rng, shape) for _ in ("base", "candidate")
    )
    candidate += gain + handicap(world)
    fails = np.zeros(shape, bool), rng.random(shape) < world.share
    depth = world.depth
    if world.kind == "spikes in both":
        fails, depth = (rng.random(shape) < 0.1, rng.random(shape) < 0.1), BOUND
    if depth >= BOUND:
        base, candidate = (np.where(fail, np.nan, arm) for fail, arm in zip(fails, (base, candidate), strict=True))
    else:
        candidate = candidate - depth * fails[1]
    seen = candidate + luck[:, None]
    if world.step:
        base, candidate, seen = (np.round(arm) for arm in (base, candidate, seen))
    return Pairs(base, seen), Pairs(base, candidate)


# Rules, all streams at once


def critical(tail: float) -> Floats:
    """The engine's bound on t after each number of pairs; infinite where none can reach it."""
    found = [rules._critical(n, tail) if n >= rules.FIRST else None for n in range(1, PAIRS + 1)]
    return np.array([math.inf if one is None else one for one in found])


KEEPS, GIVES_UP = critical(ALPHA), critical(1 / rules.FUTILE)


def t_of(gains: Floats, step: float) -> tuple[Floats, Floats]:
    """t, as `stats.t_evidence` has it, and the mean after each pair."""
    count = np.arange(1, gains.shape[1] + 1)
    mean = np.cumsum(gains, axis=1) / count
    squares = np.cumsum(gains**2, axis=1) - count * mean**2
    spread = np.sqrt(np.maximum(squares, 0) / np.maximum(count - 1, 1))
    if step:
        spread = np.maximum(spread, step)
    with np.errstate(invalid="ignore", divide="ignore"):
        return count * mean / np.hypot(np.sqrt(count) * mean, np.sqrt(count - 1) * spread), mean


def keeps(
    gains: Floats, asked: float, step: float, bounds: Floats | None = None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """The sequential rule: which streams are kept, and after how many pairs each ended.

    `bounds` on t that keep, one a number of pairs: those of ALPHA if there are none.
    """
    up, mean = t_of(gains, step)
    down, _ = t_of(asked - gains, step)
    worth = mean >= asked / 2
    kept, futile = worth & (up >= (KEEPS if bounds is None else bounds)), ~worth & (down >= GIVES_UP)
    ended = kept | futile
    ended[:, -1] = True
    last = ended.argmax(axis=1)
    return kept[np.arange(len(gains)), last], last + 1


def holdout_passes(gains: Floats, rows_error: float, rng: np.random.Generator, tail: float = holdout.TAIL) -> bool:
    """The engine's test of the holdout at this one-sided error, on gains of one stream without an error of its rows.

    Each of its parts has an error of its own, the same for all seeds, and a little noise for every pair.
    """
    rows = rows_error * math.sqrt(holdout.PARTS) * rng.standard_normal(holdout.PARTS)
    noise = HOLDOUT_NOISE * math.sqrt(holdout.PARTS) * rng.standard_normal((len(gains), holdout.PARTS))
    parts = gains[:, None] + rows + noise
    return holdout.passes(parts.mean(axis=1).tolist(), parts[: holdout.PAIRS].tolist(), tail).passed


# Streams


@dataclass(frozen=True)
class Fates:
    """What became of the streams of a world: how many passed each step; of claims the line's limit on cut trials."""

    streams: int
    supported: int
    confirmed: int
    kept: int
    limits: tuple[float, ...]
    covered: int
    """Confirmations whose upper limit on the candidate's cut trainings is not below the true share."""
    sampled: int
    disagreed: int

    def share(self, name: str) -> Estimate:
        return exact(getattr(self, name), self.streams)


def follow(world: World, gain: float, count: int, sample: int, seed: Sequence[int]) -> Fates:
    """`count` candidates whose bounded mean is better by `gain`, through search, confirmation, cut rule and holdout."""
    rng = np.random.default_rng(list(seed))
    luck = world.split_error * rng.standard_normal(count)
    searched, _ = draw(world, gain, luck, rng)
    supported, ends = keeps(searched.gains(), world.asked, world.step)
    chosen = np.flatnonzero(supported)
    fresh, unsplit = draw(world, gain, luck[chosen], rng)
    came_back, pairs = keeps(fresh.gains(), world.asked, world.step)
    base_cut, candidate_cut = (cut[np.arange(len(chosen)), pairs - 1] for cut in fresh.cuts())
    confirmed = came_back & (candidate_cut <= base_cut)
    held = unsplit.gains()
    asked = [int(i) for i in np.flatnonzero(confirmed)]
    kept = [i for i in asked if holdout_passes(held[i, : pairs[i]], world.split_error, rng)]
    true_share = world.share if world.depth >= BOUND else 0.0
    limits = [rules.share_at_most(int(cut), int(n)) for cut, n in zip(candidate_cut, pairs, strict=True)]
    disagreed = [
        *checked(world, searched, supported, ends, spread_over(supported, sample)),
        *checked(world, fresh, came_back, pairs, spread_over(came_back, sample), confirmed),
    ]
    return Fates(
        streams=count,
        supported=len(chosen),
        confirmed=int(confirmed.sum()),
        kept=len(kept),
        limits=tuple(limits[i] for i in kept),
        covered=sum(limit >= true_share for limit in limits),
        sampled=len(disagreed),
        disagreed=sum(disagreed),
    )


def spread_over(kept: npt.NDArray[np.bool_], sample: int) -> list[int]:
    """Streams for the engine itself: half of them kept ones, as far as there are."""
    yes, no = np.flatnonzero(kept)[: sample // 2], np.flatnonzero(~kept)
    return [int(i) for i in (*yes, *no[: sample - len(yes)])]


# The engine's own code

RULE = StoppingRule.from_value({"rule": "sequential", "alpha": ALPHA, "bound": -BOUND}, "benchmark")
ARMS = (PlannedArm("base", "baseline", "base", {}), PlannedArm("new", "variant", "candidate", {}))


def engine(world: World, base: Sequence[float], candidate: Sequence[float]) -> Judgement:
    """`experiment.judge` on one stream."""
    plan = Plan(ARMS, tuple(range(PAIRS)), "score", "maximize", world.asked, RULE, fixed=False, bound=-BOUND)
    arms = {"base": base, "new": candidate}
    return judge(plan, [_trial(arm, index, score) for arm, of in arms.items() for index, score in enumerate(of)])


def _trial(arm: str, index: int, score: float) -> Trial:
    diverged = math.isnan(score)
    return Trial(
        trial=f"{arm}-s{index}",
        arm=arm,
        index=index,
        seed=index,
        attempt=1,
        commit="0",
        key=f"{arm}{index}",
        content="0",
        outcome=TrialOutcome.COMPLETED,
        score={} if diverged else {"score": float(score)},
        diverged=("score",) if diverged else (),
        predictions_sha256=f"{arm}{index}",
    )


def checked(
    world: World,
    found: Pairs,
    kept: npt.NDArray[np.bool_],
    pairs: npt.NDArray[np.int64],
    rows: Sequence[int],
    confirmed: npt.NDArray[np.bool_] | None = None,
) -> Iterator[bool]:
    """For each of these streams, whether the engine says something else than what was read all at once.

    Of confirmations the rule on cut trials too, and that the line tells the limit of the share.
    """
    for row in rows:
        judged = engine(world, found.base[row].tolist(), found.candidate[row].tolist())
        ruling = judged.rulings["new"]
        other = (ruling.action is rules.RuleAction.KEEP) != kept[row] or ruling.pairs != pairs[row]
        if confirmed is not None:
            (compared,) = judged.comparisons
            manifest = _MANIFEST.model_copy(update={"comparisons": judged.comparisons})
            passed = kept[row] and not too_many_cut(manifest)
            line = passages.cut_share(compared.cut[1])
            most = rules.share_at_most(compared.cut[1].cut, compared.cut[1].trials)
            limit = f"(at most {100 * most:.3g}% in the long run, with 95% confidence)"
            other |= passed != confirmed[row] or limit not in line
        yield bool(other)


_MANIFEST = Manifest.from_value(
    {
        **{"run_id": "run_0002", "iteration_id": "i", "kind": "confirm", "location": "local", "command": "c"},
        "git": {"control_plane_commit": "c", "dirty": False},
        "sync": {"artifact_sync_to_local": {"status": "ok"}},
        **{"verifier_results": {}, "started_at": "t", "artifacts": {}, "rule": RULE.value()},
        **{"metric": "score", "direction": "maximize"},
    },
    "benchmark",
)


# Tables

Cells = dict[World, Fates]


def shown(world: World) -> str:
    return f"effect {world.asked:g}, correlation {world.correlation:g}"


def worlds() -> list[World]:
    return [World(kind, asked, rho) for kind in KINDS for asked in EFFECTS for rho in CORRELATIONS]


def spiked() -> list[World]:
    cells = [(asked, rho) for asked in EFFECTS for rho in CORRELATIONS]
    return [World("normal", *cell, share=share, depth=depth) for depth in DEPTHS for share in SHARES for cell in cells]


@dataclass(frozen=True)
class Results:
    """Nulls and true gains of every world and split error; nulls with failures of the candidate alone."""

    nulls: Cells
    gains: Cells
    spiked: Cells


def measure(nulls: int, gains: int, failing: int, sample: int, seed: int) -> Results:
    """Every cell; how many nulls, true gains and nulls with rare failures in each, and how many for the engine."""
    every = [replace(world, split_error=split) for world in worlds() for split in SPLITS]
    progress = Progress(2 * len(every) + len(spiked()))

    def cells(of: Sequence[World], gain: Callable[[World], float], count: int, number: int) -> Cells:
        found = {}
        for index, world in enumerate(of):
            found[world] = follow(world, gain(world), count, sample, [seed, number, index])
            progress.tick()
        return found

    results = Results(
        nulls=cells(every, lambda world: 0.0, nulls, 0),
        gains=cells(every, lambda world: world.asked, gains, 1),
        spiked=cells(spiked(), lambda world: 0.0, failing, 2),
    )
    print(file=sys.stderr)
    return results


def noise_table(results: Results) -> str:
    rows = {}
    for world in worlds():
        of = {split: replace(world, split_error=split) for split in SPLITS}
        cells = {"supported by the search": results.nulls[world].share("supported")}
        cells |= {f"false keeps, split error {split:g}": results.nulls[of[split]].share("kept") for split in SPLITS}
        cells |= {f"power, split error {split:g}": results.gains[of[split]].share("kept") for split in SPLITS}
        rows[f"{world.kind}, {shown(world)}"] = cells
    return table(rows)


def spike_table(results: Results) -> str:
    """One row a share and depth; the last columns are of effect 1, correlation .8, where most is kept."""
    rows = {}
    for depth in DEPTHS:
        for share in SHARES:
            where = "at the bound" if depth >= BOUND else f"{depth:g} deviations down"
            cells = {}
            for world in (one for one in spiked() if (one.share, one.depth) == (share, depth)):
                cells[f"kept: {shown(world)}"] = results.spiked[world].share("kept")
            mine = results.spiked[World("normal", 1.0, 0.8, share=share, depth=depth)]
            cells["supported by the search"] = mine.share("supported")
            cells["confirmed"] = mine.share("confirmed")
            cells["share in the claim's line, at most (median)"] = median(mine.limits)
            rows[f"{100 * share:g}% fail, {where}"] = cells
    return table(rows)


def median(limits: Sequence[float]) -> Estimate:
    if not limits:
        return Estimate(math.nan, math.nan, math.nan)
    return Estimate(*(float(np.quantile(limits, q)) for q in (0.5, 0.0, 1.0)), share=True)


# What must hold


def checks(results: Results) -> list[Check]:
    found = []
    for split in SPLITS:
        limit = PROMISED_SPLIT if split else PROMISED
        cells = [(world, fates.share("kept")) for world, fates in results.nulls.items() if world.split_error == split]
        world, worst = max(cells, key=lambda cell: (cell[1].value, cell[1].high))
        promise = f"split error {split:g}: false keeps at most {100 * limit:g}% in each of {len(cells)} cells"
        held = all(one.value <= limit for _, one in cells)
        found.append(Check(promise, f"at most {worst.text()}: {world.kind}, {shown(world)}", held))
    at_bound = {world: fates for world, fates in results.spiked.items() if world.depth >= BOUND}
    told = sum(len(fates.limits) for fates in at_bound.values())
    above = sum(limit >= world.share for world, fates in at_bound.items() for limit in fates.limits)
    line = exact(above, told)
    promise = "failures at the bound: the claim's line has an upper limit not below the true share in 95% of claims"
    found.append(Check(promise, f"{line.text()} of {told} claims", told == 0 or line.value >= 0.95))
    every = [fates for cells in (results.nulls, results.gains, results.spiked) for fates in cells.values()]
    sampled, disagreed = sum(one.sampled for one in every), sum(one.disagreed for one in every)
    promise = "the engine's own judge, rule on cut trials and line agree"
    found.append(Check(promise, f"{sampled - disagreed} of {sampled} runs", sampled > 0 and disagreed == 0))
    return found


# What is written


def report(results: Results, found: Sequence[Check]) -> str:
    streams = next(iter(results.nulls.values())).streams, next(iter(results.spiked.values())).streams
    lines = [f"- {'PASS' if check.held else 'FAIL'} {check.promise}: {check.found}" for check in found]
    return "\n".join(
        [
            f"## The bounded mean is equal: {streams[0]:,} nulls a cell\n\n{noise_table(results)}\n",
            f"## Rare failures in the candidate alone: {streams[1]:,} nulls a cell\n\n{spike_table(results)}\n",
            *("## What must hold\n", *lines),
        ]
    )


def provenance(command: str, found: Sequence[Check]) -> dict[str, Any]:
    """Where numbers come from: the command, the commit, whether the tree had changed since, and what was checked."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "--", "..", ":!../docs"], capture_output=True).stdout
    told = [asdict(check) for check in found]
    return {"command": command, "commit": head or None, "changed_since": bool(changed), "checks": told}


def numbers(results: Results, found: Sequence[Check], command: str) -> dict[str, Any]:
    def told(cells: Cells) -> list[dict[str, Any]]:
        return [asdict(world) | asdict(fates) for world, fates in cells.items()]

    parts = {"nulls": told(results.nulls), "gains": told(results.gains), "rare_failures": told(results.spiked)}
    return provenance(command, found) | parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of all that")
    parser.add_argument("--out", type=Path, help="folder for noise.md and noise.json")
    asked = parser.parse_args()
    sizes = (2_000, 200, 2_000, 4) if asked.quick else (20_000, 2_000, 20_000, 20)
    results = measure(*sizes, asked.seed)
    found = checks(results)
    text = report(results, found)
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "noise.md").write_text(text + "\n")
        command = f"python benchmarks/noise.py --seed {asked.seed}{' --quick' if asked.quick else ''}"
        told = json.dumps(numbers(results, found, command), indent=1, allow_nan=False)
        (asked.out / "noise.json").write_text(told + "\n")
    return 0 if all(check.held for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
