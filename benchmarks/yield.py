"""How much of the gain that is there does a search find, at equal trials?

    python benchmarks/yield.py [--campaigns 200] [--trials 60 200] [--only WORD] [--folder yields]  make bench-yield

A campaign is a landscape whose truth is known (landscapes.py), a number of trials, and a way to search. Nothing is
trained: a trial is a drawn number. Every way sets a share of its trials aside for one claim, searches with the rest,
and then measures its best point against the base by the engine's own sequential rule on fresh seeds, and once on a
holdout. What is not claimed counts as 0. All ways see the same landscapes. The ways:

    ours                 batches of four from `ideas/response_surface.py`
    tpe                  Optuna's TPESampler, one trial at a time
    greedy               one step at a time from the best point so far, kept if its single score is better
    successive halving   random points, the better half of them get another seed, until one is left
    random               random points, the best single score

Each is also given bare: all trials for the search, and its best point taken without a claim.

Prints a table a number of trials, with the gain in deviations of a trial, and PASS or FAIL for what is promised. Exit
code 1 if one fails. Whole: about three hours on one core, nearly all of it Optuna's. Resumable: each way in each world
is kept in the folder once it is done, so that several of these with other words of --only share the work.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from landscapes import FAR, WORLDS, Landscape, World

from autolab.ideas.response_surface import ResponseSurface
from autolab.ideas.searchers import Point, SearchSpace
from autolab.lab.schemas.config import StoppingRule
from autolab.stats import holdout, rules

RULE = StoppingRule(alpha=0.005)
RESERVE = 0.3
"""The share of the trials that is kept for the claim."""
WANTED = 0.5
"""The least gain that a claim is about, in deviations of a trial."""
BATCH = 4
HOLDOUT_Z = holdout.normal_deviate(holdout.tail_of_claim(RULE.alpha))
Way = Callable[["Trials", SearchSpace, int], Point]


class Trials:
    """The trials of one campaign: what is left of them, and their luck. Trials of one seed share a part of it."""

    def __init__(self, world: World, landscape: Landscape, number: int, left: int) -> None:
        self._world, self._landscape = world, landscape
        self._random = np.random.default_rng((number, 11))
        self._shared: dict[int, float] = {}
        self.left = left
        self.deviation = world.own

    def score(self, point: Point, seed: int = 0) -> float:
        """One trial at a point."""
        if seed not in self._shared:
            self._shared[seed] = self._random.standard_normal() * math.sqrt(self._world.correlation)
        self.left -= 1
        luck = self._random.standard_normal() * self.deviation
        return self._landscape.on_split(point) + self._shared[seed] + luck

    def is_claimed(self, point: Point, trials: int) -> bool:
        """Whether the rule keeps the point on fresh seeds within so many trials, and the holdout agrees."""
        of_pair = math.sqrt(2) * self.deviation
        gain, planned = self._landscape.on_split(point), trials // 2
        differences: list[float] = []
        while len(differences) < planned:
            differences.append(gain + self._random.standard_normal() * of_pair)
            if len(differences) < rules.FIRST:
                continue
            ruling = rules.decide(differences, delta=WANTED, rule=RULE, planned=planned, arms=1)
            if ruling.final:
                break
        else:
            return False
        if ruling.action is not rules.RuleAction.KEEP:
            return False
        of_seeds = of_pair / math.sqrt(len(differences))
        on_holdout = self._landscape.on_holdout(point) + self._random.standard_normal() * of_seeds
        # The engine's test takes its error over seeds and over rows (`stats/holdout.py`).
        return on_holdout > HOLDOUT_Z * math.hypot(of_seeds, self._landscape.holdout_error(point))


# The ways to search


def ours(trials: Trials, space: SearchSpace, seed: int) -> Point:
    searcher = ResponseSurface(space, trials.deviation, seed)
    while trials.left > 0:
        points = searcher.propose(min(BATCH, trials.left))
        searcher.observe(points, [trials.score(point) for point in points])
    return searcher.best()


def tpe(trials: Trials, space: SearchSpace, seed: int) -> Point:
    # Only here: it takes a second to load, and the other ways do without it.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict(space.base))
    while trials.left > 0:
        trial = study.ask()
        point: dict[str, float | bool] = {}
        for knob in space.knobs:
            point[knob.name] = trial.suggest_float(knob.name, knob.low, knob.high)
        for name in space.switches:
            point[name] = trial.suggest_categorical(name, [False, True])
        study.tell(trial, trials.score(point))
    return study.best_params


def greedy(trials: Trials, space: SearchSpace, seed: int) -> Point:
    random = np.random.default_rng(seed)
    point = dict(space.base)
    best = trials.score(point)
    steps: list[tuple[str, int]] = [(name, 1) for name in space.switches]
    for knob in space.knobs:
        steps += [(knob.name, 1), (knob.name, -1)]
    random.shuffle(steps)
    # A step that paid is taken once more; the search ends where none does.
    at, failures = 0, 0
    while trials.left > 0 and failures < len(steps):
        name, sign = steps[at % len(steps)]
        tried = _stepped(space, point, name, sign)
        score = trials.score(tried)
        if score > best:
            point, best, failures = tried, score, 0
        else:
            at, failures = at + 1, failures + 1
    return point


def _stepped(space: SearchSpace, point: dict[str, float | bool], name: str, sign: int) -> dict[str, float | bool]:
    value = point[name]
    if isinstance(value, bool):
        return point | {name: not value}
    (knob,) = [knob for knob in space.knobs if knob.name == name]
    return point | {name: knob.value(knob.position(value) + sign)}


def random_points(trials: Trials, space: SearchSpace, seed: int) -> Point:
    random = np.random.default_rng(seed)
    best: Point = space.base
    highest = trials.score(best)
    while trials.left > 0:
        point = _random_point(space, random)
        score = trials.score(point)
        if score > highest:
            best, highest = point, score
    return best


def halving(trials: Trials, space: SearchSpace, seed: int) -> Point:
    random = np.random.default_rng(seed)
    # n points on the first seed, n/2 on the second, n/4 on the third: 2n trials in all.
    points: list[Point] = [space.base]
    while len(points) < trials.left // 2:
        points.append(_random_point(space, random))
    sums = [0.0] * len(points)
    rung = 0
    while trials.left >= len(points) > 1:
        sums = [total + trials.score(point, rung) for total, point in zip(sums, points, strict=True)]
        order = sorted(range(len(points)), key=lambda index: -sums[index])[: (len(points) + 1) // 2]
        points, sums = [points[index] for index in order], [sums[index] for index in order]
        rung += 1
    return points[0]


def _random_point(space: SearchSpace, random: np.random.Generator) -> Point:
    point: dict[str, float | bool] = {knob.name: float(random.uniform(-FAR, FAR)) for knob in space.knobs}
    return point | {name: bool(random.random() < 0.5) for name in space.switches}


WAYS: dict[str, Way] = {
    "ours": ours,
    "tpe": tpe,
    "greedy": greedy,
    "successive halving": halving,
    "random": random_points,
}


# Campaigns


@dataclass(frozen=True)
class Cell:
    """One way in one world. `gains`: the true gain that each campaign hands over, 0 without a claim.

    `claims` and `false`: campaigns that claim, and that claim what is no true gain. `below`: that hand over something
    below the base. `bare`: the gains without reserve and claim; `bare_below` as above.
    """

    world: str
    way: str
    trials: int
    reach: float
    gains: tuple[float, ...]
    claims: int
    false: int
    below: int
    bare: tuple[float, ...]
    bare_below: int

    @property
    def mean(self) -> float:
        return float(np.mean(self.gains))


def cell(world: World, name: str, trials: int, campaigns: int) -> Cell:
    reaches, gains, bare = [], [], []
    claims = false = 0
    for number in range(campaigns):
        landscape = world.landscape(number)
        reserve = int(RESERVE * trials)
        search = Trials(world, landscape, number, trials - reserve)
        point = WAYS[name](search, landscape.space, number)
        true = landscape.true(point)
        # Without a difference to the base there is nothing to claim.
        is_claimed = point != landscape.space.base and search.is_claimed(point, reserve + search.left)
        claims += is_claimed
        false += is_claimed and true <= 0
        reaches.append(landscape.reach)
        gains.append(true if is_claimed else 0.0)
        unreserved = Trials(world, landscape, number, trials)
        bare.append(landscape.true(WAYS[name](unreserved, landscape.space, number)))
    return Cell(
        world=world.name,
        way=name,
        trials=trials,
        reach=float(np.mean(reaches)),
        gains=tuple(gains),
        claims=claims,
        false=false,
        below=sum(gain < 0 for gain in gains),
        bare=tuple(bare),
        bare_below=sum(gain < 0 for gain in bare),
    )


def kept_cell(folder: Path, world: World, name: str, trials: int, campaigns: int) -> Cell:
    """The cell as it was kept in the folder, or else measured now and kept."""
    place = folder / f"{trials} trials, {campaigns} of {world.name}, {name}.json"
    if place.exists():
        value = json.loads(place.read_text())
        return Cell(**value | {"gains": tuple(value["gains"]), "bare": tuple(value["bare"])})
    made = cell(world, name, trials, campaigns)
    part = place.with_suffix(".part")
    part.write_text(json.dumps(asdict(made)))
    part.rename(place)
    return made


def lead(ours: Cell, peer: Cell) -> tuple[float, float, float]:
    """The mean of ours less the peer's on the same landscapes, with its 95% interval."""
    differences = np.array(ours.gains) - np.array(peer.gains)
    error = 1.96 * differences.std(ddof=1) / math.sqrt(len(differences))
    mean = float(differences.mean())
    return mean, mean - error, mean + error


# What is printed


def table(cells: Sequence[Cell], trials: int) -> list[str]:
    lines = ["", f"{trials} trials a campaign", ""]
    lines += ["| world | reach | way | gain, claimed | ours leads by (95%) | claims | false | bare | bare below base |"]
    lines += ["| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for world in dict.fromkeys(one.world for one in cells if one.trials == trials):
        rows = {one.way: one for one in cells if (one.world, one.trials) == (world, trials)}
        for way, one in rows.items():
            leads = "-"
            if way != "ours":
                mean, low, high = lead(rows["ours"], one)
                leads = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
            row = [world, f"{one.reach:.2f}", way, f"{one.mean:.2f}", leads, str(one.claims), str(one.false)]
            lines.append(f"| {' | '.join([*row, f'{np.mean(one.bare):.2f}', str(one.bare_below)])} |")
    return lines


def promises(cells: Sequence[Cell]) -> list[tuple[bool, str]]:
    """What is promised of ours, and whether it holds."""
    found = []
    by_name = {(one.world, one.trials, one.way): one for one in cells}
    for one in cells:
        if one.way != "ours":
            continue
        place = f"{one.world}, {one.trials} trials"
        campaigns = len(one.gains)
        found.append((one.false <= 0.01 * campaigns, f"{place}: {one.false} of {campaigns} claim what is no gain"))
        found.append((one.below <= campaigns / 200, f"{place}: {one.below} of {campaigns} end below the base"))
        peer = by_name[one.world, one.trials, "tpe"]
        if "knobs" in one.world and peer.mean > 0:
            _, low, _ = lead(one, peer)
            found.append((low > -0.1 * peer.mean, f"{place}: ours leads tpe by at least {low:.2f} of {peer.mean:.2f}"))
        elif peer.mean > 0:
            told = f"{place}: ours {one.mean:.2f}, tpe {peer.mean:.2f}, of {one.reach:.2f} that there is"
            found.append((one.mean >= 1.5 * peer.mean, told))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--campaigns", type=int, default=200)
    parser.add_argument("--trials", type=int, nargs="+", default=[60, 200])
    parser.add_argument("--only", default="", help="worlds whose name has this word")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--folder", type=Path, default=Path("yields"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for trials in options.trials:
        for world in WORLDS:
            if options.only not in world.name:
                continue
            for name in options.ways:
                cells.append(kept_cell(options.folder, world, name, trials, options.campaigns))
                print(f"{trials} trials, {world.name}, {name}: {cells[-1].mean:.2f}", file=sys.stderr, flush=True)
        print("\n".join(table(cells, trials)), flush=True)
    if {"ours", "tpe"} - set(options.ways):
        return 0
    print()
    held = promises(cells)
    for holds, text in held:
        print(f"- {'PASS' if holds else 'FAIL'} {text}")
    return 0 if all(holds for holds, _ in held) else 1


if __name__ == "__main__":
    sys.exit(main())
