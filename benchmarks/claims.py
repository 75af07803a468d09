"""How often is one claim false, whatever the noise? Candidates whose true gain is zero, claimed without a search first.

    python benchmarks/claims.py [--seed 0] [--quick] [--out FOLDER]        second part of make bench-decisions

In mode `explore` nothing is tested until a claim. A claim is one sequential test on fresh seeds at alpha .005, of 24
pairs at most, then the rule on cut trials, then the holdout's question. Worlds, noise, nulls and the ways to read them
are those of noise.py; the holdout's error is independent of the evaluation split's.

    claimed           a null, as it comes
    picked, claimed   the best of 40 nulls by one screening score each: it has the luck of the screen, and where the
                      evaluation split has an error, the split's favour
    five in a row     nulls of their own, the k-th at alpha 2 x .005 / (k (k + 1)): test without cut rule and holdout
    power             a true gain of the wanted size

Where the evaluation split has an error, two things can be said. What the test says is about this split: it is wrong
where the split's own gain is not above zero. What the holdout says is about other data, at a level of its own (1%, 1.6%
of few seeds). A candidate that a search picked for the split's favour passes the test rightly, and that level is all
that stops it: no fresh seed helps.

Streams are read all at once; a sample goes through the engine's `judge`, its rule on cut trials and its line, the
series through `rules.decide`, and all have to agree. Intervals are exact 95% (Clopper, Pearson 1934). Ends with PASS or
FAIL for each thing promised, and with exit code 1 if one fails; upper limits have to hold it too. Rare failures of the
candidate alone are printed: no rule holds the error of a mean whose worst part was not seen. 80 seconds of one core,
--quick 20. Equal seeds give equal numbers. --out writes claims.md and claims.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import noise
import numpy as np
from decisions import Check, Estimate, Progress, exact, table
from noise import ALPHA, PAIRS, SPLITS, Floats, World, provenance

from autolab.lab.schemas.config import StoppingRule
from autolab.stats import holdout, rules

SCREENED = 40
"""Nulls among which one is picked."""
SERIES = 5
HOLDOUT_TAIL = holdout.tail_of_claim(ALPHA)
"""The one-sided error at which a first claim asks the holdout."""
HOLDOUT_LEVEL = 0.016
"""What its test lets through where few seeds replicate, in the proportion of `stats.holdout`: 4% of 2.5%."""
Luck = Callable[[World, int, np.random.Generator], Floats]


def alpha_of(claim: int) -> float:
    """The error of the k-th claim of a protocol, from 1, as the engine sets it."""
    return rules.claim_alpha_of(claim, ALPHA)


# What is claimed


def as_it_comes(world: World, count: int, rng: np.random.Generator) -> Floats:
    """By how much the evaluation split favours each of so many candidates."""
    return world.split_error * rng.standard_normal(count)


def picked(world: World, count: int, rng: np.random.Generator) -> Floats:
    """The same, each the best of SCREENED by one score; what its trial shares with the others decides nothing."""
    shape = (count, SCREENED)
    luck = world.split_error * rng.standard_normal(shape)
    scores = luck + noise.handicap(world) + math.sqrt(1 - world.correlation) * noise.own(world.kind, rng, shape)
    share, depth = world.share, world.depth
    if world.kind == "spikes in both":
        share, depth = 0.1, noise.BOUND
    fails = rng.random(shape) < share
    lowest = -noise.BOUND if depth >= noise.BOUND else scores - depth
    scores = np.where(fails, lowest, scores)
    if world.step:
        scores = np.round(scores)
    return luck[np.arange(count), scores.argmax(axis=1)]


# Claims


@dataclass(frozen=True)
class Claims:
    """What became of so many candidates: better on fresh seeds, of those not better on this split in truth, claimed.

    `limits` are the upper limits on cut trainings in the lines of claims; `disagreed` of the `sampled` streams were
    read otherwise by the engine.
    """

    count: int
    better: int
    wrong: int
    claimed: int
    limits: tuple[float, ...]
    sampled: int
    disagreed: int

    def share(self, name: str) -> Estimate:
        return exact(getattr(self, name), self.count)


def claims(world: World, gain: float, luck_of: Luck, count: int, sample: int, seed: Sequence[int]) -> Claims:
    """`count` candidates whose bounded mean is better by `gain`: test on fresh seeds, cut rule, holdout."""
    rng = np.random.default_rng(list(seed))
    luck = luck_of(world, count, rng)
    fresh, unsplit = noise.draw(world, gain, luck, rng)
    passed, pairs = noise.keeps(fresh.gains(), world.asked, world.step)
    base_cut, candidate_cut = (cut[np.arange(count), pairs - 1] for cut in fresh.cuts())
    better = passed & (candidate_cut <= base_cut)
    held_out = unsplit.gains()
    asked = [int(row) for row in np.flatnonzero(better)]
    claimed = [
        row for row in asked if noise.holdout_passes(held_out[row, : pairs[row]], world.split_error, rng, HOLDOUT_TAIL)
    ]
    rows = noise.spread_over(passed, sample)
    disagreed = list(noise.checked(world, fresh, passed, pairs, rows, better))
    return Claims(
        count=count,
        better=len(asked),
        wrong=int((better & (luck + gain <= 0)).sum()),
        claimed=len(claimed),
        limits=tuple(rules.share_at_most(int(candidate_cut[row]), int(pairs[row])) for row in claimed),
        sampled=len(disagreed),
        disagreed=sum(disagreed),
    )


@dataclass(frozen=True)
class Series:
    """Campaigns of SERIES claims of nulls: how often the k-th test kept, and in how many campaigns any did."""

    count: int
    kept: tuple[int, ...]
    any_kept: int
    sampled: int
    disagreed: int

    @property
    def sum(self) -> float:
        """Of the shares of each claim."""
        return sum(self.kept) / self.count


def series(world: World, count: int, sample: int, seed: Sequence[int]) -> Series:
    rng = np.random.default_rng(list(seed))
    no_luck = np.zeros(count)
    kept: list[int] = []
    any_kept = np.zeros(count, bool)
    sampled = disagreed = 0
    for claim in range(1, SERIES + 1):
        fresh, _ = noise.draw(world, 0.0, no_luck, rng)
        gains = fresh.gains()
        passed, pairs = noise.keeps(gains, world.asked, world.step, noise.critical(alpha_of(claim)))
        kept.append(int(passed.sum()))
        any_kept |= passed
        for row in noise.spread_over(passed, sample):
            sampled += 1
            disagreed += _said(world, gains[row].tolist(), claim) != (bool(passed[row]), int(pairs[row]))
    return Series(count, tuple(kept), int(any_kept.sum()), sampled, disagreed)


def _said(world: World, gains: list[float], claim: int) -> tuple[bool, int]:
    """What the engine's rule says of a stream: whether it keeps, and after how many pairs."""
    rule = StoppingRule(alpha=alpha_of(claim))
    said = rules.decide(gains, delta=world.asked, rule=rule, planned=PAIRS, arms=1, quantum=world.step)
    return said.action is rules.RuleAction.KEEP, said.pairs


# All of it

Cells = Mapping[World, Claims]


@dataclass(frozen=True)
class Results:
    """By world, whose split error is a part of it; `gains` and `series` at no split error."""

    nulls: Cells
    picked: Cells
    gains: Cells
    spiked: Cells
    series: Mapping[World, Series]


def measure(nulls: int, gains: int, sample: int, seed: int) -> Results:
    """So many nulls a cell, and true gains; so many of each for the engine itself."""
    worlds, spiked = noise.worlds(), noise.spiked()
    every = [replace(world, split_error=split) for world in worlds for split in SPLITS]
    progress = Progress(2 * len(every) + 2 * len(worlds) + len(spiked))

    def cells(of: Sequence[World], luck: Luck, count: int, part: int, is_good: bool = False) -> dict[World, Claims]:
        found = {}
        for index, world in enumerate(of):
            gain = world.asked if is_good else 0.0
            found[world] = claims(world, gain, luck, count, sample, [seed, part, index])
            progress.tick()
        return found

    def all_series() -> dict[World, Series]:
        found = {}
        for index, world in enumerate(worlds):
            found[world] = series(world, nulls, sample, [seed, 14, index])
            progress.tick()
        return found

    results = Results(
        nulls=cells(every, as_it_comes, nulls, 10),
        picked=cells(every, picked, nulls, 11),
        gains=cells(worlds, as_it_comes, gains, 12, is_good=True),
        spiked=cells(spiked, as_it_comes, nulls, 13),
        series=all_series(),
    )
    print(file=sys.stderr)
    return results


# Tables


def claim_table(results: Results) -> str:
    rows = {}
    for world in noise.worlds():
        cells = {"better on fresh seeds": results.nulls[world].share("better")}
        for name, found in (("claimed", results.nulls), ("picked, claimed", results.picked)):
            for split in SPLITS:
                at_split = replace(world, split_error=split)
                cells[f"{name}, split error {split:g}"] = found[at_split].share("claimed")
        cells["power"] = results.gains[world].share("claimed")
        rows[f"{world.kind}, {noise.shown(world)}"] = cells
    return table(rows)


def series_table(results: Results) -> str:
    rows = {}
    for world, found in results.series.items():
        cells = {}
        for claim, kept in enumerate(found.kept, 1):
            cells[f"claim {claim}, alpha {100 * alpha_of(claim):.2g}%"] = exact(kept, found.count)
        cells["any of them"] = exact(found.any_kept, found.count)
        rows[f"{world.kind}, {noise.shown(world)}"] = cells
    return table(rows)


def spike_table(results: Results) -> str:
    rows = {}
    for depth in noise.DEPTHS:
        for share in noise.SHARES:
            where = "at the bound" if depth >= noise.BOUND else f"{depth:g} deviations down"
            cells = {}
            for world in (one for one in results.spiked if (one.share, one.depth) == (share, depth)):
                cells[f"claimed: {noise.shown(world)}"] = results.spiked[world].share("claimed")
            mine = results.spiked[World("normal", 1.0, 0.8, share=share, depth=depth)]
            cells["share in the claim's line, at most (median)"] = noise.median(mine.limits)
            rows[f"{100 * share:g}% fail, {where}"] = cells
    return table(rows)


# What must hold


def checks(results: Results) -> list[Check]:
    found = [
        _least(results.nulls, "better", 0.0, ALPHA, "one claim: better on fresh seeds, wrongly"),
        _least(results.nulls, "claimed", 0.0, ALPHA, "one claim: claimed, wrongly"),
        _least(results.picked, "better", 0.0, ALPHA, f"the best of {SCREENED}: better on fresh seeds, wrongly"),
        _least(results.picked, "claimed", 0.0, ALPHA, f"the best of {SCREENED}: claimed, wrongly"),
    ]
    for split in SPLITS[1:]:
        for name, cells in (("one claim", results.nulls), (f"the best of {SCREENED}", results.picked)):
            what = f"{name}: split error {split:g}"
            found.append(_least(cells, "wrong", split, ALPHA, f"{what}: no gain on this evaluation"))
            found.append(_least(cells, "claimed", split, HOLDOUT_LEVEL, f"{what}: no gain beyond it, claimed"))
    world, worst = max(results.series.items(), key=lambda cell: (cell[1].any_kept, cell[1].sum))
    any_kept = exact(worst.any_kept, worst.count)
    text = f"{any_kept.text()}, sum of the shares {100 * worst.sum:.2f}%: {world.kind}, {noise.shown(world)}"
    promise = f"{SERIES} claims in a row: any kept wrongly in at most {200 * ALPHA:g}%, upper limit too"
    found.append(Check(promise, text, worst.sum <= 2 * ALPHA and any_kept.high <= 2 * ALPHA))
    found.append(_line_of(results.spiked))
    every: list[Claims | Series] = [*results.series.values()]
    for cells in (results.nulls, results.picked, results.gains, results.spiked):
        every += cells.values()
    sampled, disagreed = sum(one.sampled for one in every), sum(one.disagreed for one in every)
    text = f"{sampled - disagreed} of {sampled} runs"
    found.append(Check("the engine's own code says the same", text, sampled > 0 and disagreed == 0))
    return found


def _least(cells: Cells, name: str, split: float, limit: float, what: str) -> Check:
    """That the share is at most the limit in every cell of a split error, and its upper 95% limit too."""
    of_split = [(world, one.share(name)) for world, one in cells.items() if world.split_error == split]
    world, worst = max(of_split, key=lambda cell: (cell[1].value, cell[1].high))
    promise = f"{what} in at most {100 * limit:g}% of each cell, upper limit too"
    return Check(promise, f"at most {worst.text()}: {world.kind}, {noise.shown(world)}", worst.high <= limit)


def _line_of(spiked: Cells) -> Check:
    at_bound = {world: one for world, one in spiked.items() if world.depth >= noise.BOUND}
    told = sum(len(one.limits) for one in at_bound.values())
    above = sum(limit >= world.share for world, one in at_bound.items() for limit in one.limits)
    line = exact(above, told)
    promise = "failures at the bound: the claim's line has an upper limit not below the true share in 95% of claims"
    return Check(promise, f"{line.text()} of {told} claims", told == 0 or line.value >= 0.95)


# What is written


def report(results: Results, found: Sequence[Check]) -> str:
    count = next(iter(results.nulls.values())).count
    lines = [f"- {'PASS' if check.held else 'FAIL'} {check.promise}: {check.found}" for check in found]
    return "\n".join(
        [
            f"## One claim of a null, {count:,} a cell\n\n{claim_table(results)}\n",
            f"## {SERIES} claims of nulls in a row, {count:,} campaigns a cell\n\n{series_table(results)}\n",
            f"## Rare failures in the candidate alone, {count:,} nulls a cell\n\n{spike_table(results)}\n",
            *("## What must hold\n", *lines),
        ]
    )


def numbers(results: Results, found: Sequence[Check], command: str) -> dict[str, Any]:
    def told(cells: Mapping[World, Claims] | Mapping[World, Series]) -> list[dict[str, Any]]:
        return [asdict(world) | asdict(one) for world, one in cells.items()]

    parts = {"nulls": told(results.nulls), "picked": told(results.picked), "gains": told(results.gains)}
    parts |= {"rare_failures": told(results.spiked), "series": told(results.series)}
    return provenance(command, found) | parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a quarter of all that")
    parser.add_argument("--out", type=Path, help="folder for claims.md and claims.json")
    asked = parser.parse_args()
    # Fewer nulls could not tell 0.3% from 0.5%.
    sizes = (5_000, 500, 4) if asked.quick else (20_000, 2_000, 20)
    results = measure(*sizes, asked.seed)
    found = checks(results)
    text = report(results, found)
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "claims.md").write_text(text + "\n")
        command = f"python benchmarks/claims.py --seed {asked.seed}{' --quick' if asked.quick else ''}"
        told = json.dumps(numbers(results, found, command), indent=1, allow_nan=False)
        (asked.out / "claims.json").write_text(told + "\n")
    return 0 if all(check.held for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
