"""How often is what is kept no gain, and what does finding one cost? Streams of ideas whose truth is known.

    python benchmarks/decisions.py [--seed 0] [--quick] [--out FOLDER]        make bench-decisions

Each stream is a campaign: ideas come one after the other, each truly good, null or harmful; a policy compares it with
the base and keeps it or not; what is kept is the base of the next. Unit of everything is the run-to-run deviation of
one trial. Two trials that share a seed correlate, so that a pair's difference deviates by sqrt(2 (1 - correlation)).
Every policy meets the same ideas, and all of its trials are counted: of candidates, of the base, of confirmations.
With reuse a base's trials on the search seeds run once and serve all candidates on it; without, once a candidate.
Nothing is trained: how real trainings behave is another benchmark.

    autolab        the engine's own `stats.decide`: sequential rule, 24 pairs at most, delta = the effect. What is kept
                   is confirmed by the same rule on fresh seeds, both arms fresh, and must not fall on the holdout,
                   whose scatter is that of the trials and a little of its own; the claim is the shrunken gain of the
                   confirmation
    autolab, sprt  the same with the true deviation declared and beta 0.1
    fixed n        the engine's fixed rule at the same alpha (0.005), confirmed by n fresh pairs and the holdout; its
                   least mean is half the effect, as autolab's is: at the whole effect half of the good ones would fall
    peeking        Student's t after each pair from 3 to 24, stops at p < .05, keeps what is better then; unconfirmed
    mean of three  keeps a better mean of three seeds, greedy a better single trial; unconfirmed. With reuse the
                   numbers of what was kept are those that the next candidate has to beat

Intervals are 95%: for shares the wider of the exact one (Clopper, Pearson 1934) and a bootstrap over streams, else the
bootstrap. Ends with PASS or FAIL for each thing promised, and with exit code 1 if one fails. About 4 minutes on one
core, --quick half a minute. Equal seeds give equal numbers. --out writes decisions.md, .json and .png.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaincinv
from streams import FIELDS, Stream, World, parallel, policies, run

FIXED_PEER = "fixed n = 10, no reuse"
Numbers = dict[str, float]


# Shares, ratios and their intervals


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; nan where there is nothing to divide by. A share is told in percent."""

    value: float
    low: float
    high: float
    share: bool = False

    def text(self) -> str:
        if math.isnan(self.value):
            return "-"
        if self.share:
            return f"{_percent(self.value)}% ({_percent(self.low)} to {_percent(self.high)})"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if share >= 0.01 or share == 0 else 2}f}"


def exact(count: float, of: float) -> Estimate:
    if of == 0:
        return Estimate(math.nan, math.nan, math.nan, share=True)
    low = float(betaincinv(count, of - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 0.975)) if count < of else 1.0
    return Estimate(count / of, low, high, share=True)


def quotient(above: np.ndarray, below: np.ndarray) -> Estimate:
    """Sum over sum, streams drawn 2,000 times with replacement."""
    draws = np.random.default_rng(0).integers(0, len(above), (2000, len(above)))
    tops, bottoms = above[draws].sum(axis=1), below[draws].sum(axis=1)
    known = bottoms != 0
    if below.sum() == 0 or not known.any():
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.quantile(tops[known] / bottoms[known], [0.025, 0.975])
    return Estimate(float(above.sum() / below.sum()), float(low), float(high))


def share(count: np.ndarray, of: np.ndarray) -> Estimate:
    """Of streams of a kind, whose events need not be independent: the wider of two intervals."""
    one, two = exact(float(count.sum()), float(of.sum())), quotient(count, of)
    return replace(one, low=min(one.low, two.low), high=max(one.high, two.high))


Row = dict[str, Estimate]


def row(sums: np.ndarray, peer: np.ndarray) -> Row:
    of = dict(zip(FIELDS, sums.T, strict=True))
    return {
        "false share of kept": share(of["false"], of["kept"]),
        "power": share(of["found"], of["good"]),
        "trials an idea": quotient(of["trials"], of["ideas"]),
        "times fewer than fixed n = 10": quotient(peer.T[FIELDS.index("trials")], of["trials"]),
        "gain in 100 ideas": quotient(100 * of["gain"], of["ideas"]),
        "claimed over true gain": quotient(of["claimed"], of["gain"]),
        "kept": share(of["kept"], of["ideas"]),
    }


def table(rows: dict[str, Row]) -> str:
    """Markdown, without the columns in which no row says anything."""
    columns = [name for name in next(iter(rows.values())) if any(not math.isnan(r[name].value) for r in rows.values())]
    lines = [f"| | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for name, found in rows.items():
        lines.append(f"| {name} | {' | '.join(found[column].text() for column in columns)} |")
    return "\n".join(lines)


# Scenarios

PRIOR = "10% good, 20% harmful, 70% null"
MAIN = World(f"Effects of 2 deviations, correlation .8; {PRIOR}")
RARE = replace(MAIN, name="The same, 2% good, 20% harmful, 78% null", good=0.02)
SAME = replace(MAIN, name="A/A: identical code, correlation .8, delta 2", good=0.0, harmful=0.0)
SAME_APART = replace(SAME, name="A/A: identical code, correlation 0, delta 1", correlation=0.0, effect=1.0)
WORLDS = (
    MAIN,
    replace(MAIN, name=f"Effects of 2 deviations, correlation 0; {PRIOR}", correlation=0.0),
    replace(MAIN, name=f"Effects of 1 deviation, correlation .8; {PRIOR}", effect=1.0),
    replace(MAIN, name=f"Effects of 1 deviation, correlation 0; {PRIOR}", effect=1.0, correlation=0.0),
    RARE,
    replace(MAIN, name=f"Heavy tails (t, 3 degrees), 2 deviations, correlation .8; {PRIOR}", heavy=True),
    replace(MAIN, name=f"Heavy tails, 2 deviations, correlation 0; {PRIOR}", heavy=True, correlation=0.0),
    SAME,
    SAME_APART,
)


def scenario(world: World, streams: int, seed: int, tick: Callable[[], None]) -> dict[str, Row]:
    """Every policy over the same ideas."""
    number = WORLDS.index(world)
    sums: dict[str, list[list[float]]] = {}
    for stream in range(streams):
        ideas = world.ideas(np.random.default_rng([seed, number, stream]))
        for index, policy in enumerate(policies()):
            rng = np.random.default_rng([seed, number, stream, index + 1])
            sums.setdefault(policy.title, []).append(run(policy, world, ideas, rng))
        tick()
    arrays = {name: np.array(found, float) for name, found in sums.items()}
    rows = {name: row(found, arrays[FIXED_PEER]) for name, found in arrays.items()}
    if world.good:
        return rows
    return {name: {column: found[column] for column in ("kept", "trials an idea")} for name, found in rows.items()}


def shared_baseline(baselines: int, seed: int, tick: Callable[[], None]) -> dict[str, Row]:
    """Many identical candidates against one base: what its luck does to all of them.

    Luck is the base's mean over its first ten seeds: a low one makes every candidate look good.
    """
    shown: dict[str, Row] = {}
    for index, policy in enumerate(one for one in policies() if one.reuse and not one.inherits):
        counts = []
        for number in range(baselines):
            stream = Stream(policy, SAME_APART, np.random.default_rng([seed, 101, number, index]))
            fates = [stream.submit(0.0) for _ in range(25)]
            luck = float(np.mean(stream.base[:10]))
            counts.append([luck, 25, sum(fate.supported for fate in fates), sum(fate.kept for fate in fates)])
        found = np.array(sorted(counts))
        fifth = max(1, baselines // 5)
        parts = {"all bases": found, "unluckiest fifth": found[:fifth], "luckiest fifth": found[-fifth:]}
        search = {name: share(part[:, 2], part[:, 1]) for name, part in parts.items()}
        shown[policy.title] = search | {"kept after confirmation": share(found[:, 3], found[:, 1])}
        tick()
    return shown


PACES = {"good trials end first": 1.5, "good trials end last": -1.5, "as long, whatever comes out": 0.0}


def arrival_order(count: int, seed: int, tick: Callable[[], None]) -> dict[str, Row]:
    """What durations that depend on outcomes do to a search, read by the prefix and in order of arrival."""
    world = replace(MAIN, correlation=0.0)
    shown: dict[str, Row] = {}
    for number, (name, pace) in enumerate(PACES.items()):
        cells: Row = {}
        for kind, effect, size in (("null", 0.0, count), ("good", world.effect, count // 4)):
            rng = np.random.default_rng([seed, 102, number, int(effect)])
            found = parallel(world, effect, pace, size, rng)
            cells |= {f"{kind} kept, read by {how}": exact(kept, size) for how, kept in found.items()}
            tick()
        shown[name] = cells
    return shown


# What must hold


@dataclass(frozen=True)
class Check:
    promise: str
    found: str
    held: bool


def checks(results: dict[str, dict[str, Row]]) -> list[Check]:
    main, rare = results[MAIN.name], results[RARE.name]
    own, sprt = main["autolab, reuse"], main["autolab, sprt, reuse"]
    false, power = own["false share of kept"], own["power"]
    fewer, fewest = (one["times fewer than fixed n = 10"] for one in (own, sprt))
    gain, rare_false = rare["autolab, reuse"]["gain in 100 ideas"], rare["autolab, reuse"]["false share of kept"]
    said = f"{gain.text()}; false share of kept {rare_false.text()}"
    found = [
        Check("false share of kept at most 5%, upper limit under 8%", false.text(), _false_held(false)),
        Check("power at least 95%", power.text(), power.value >= 0.95),
        Check("at least 4 times fewer trials than fixed n = 10 without reuse", fewer.text(), fewer.value >= 4),
        Check("with a declared deviation at least 10 times fewer", fewest.text(), fewest.value >= 10),
        Check("at 2% good ideas the gain in 100 ideas stays positive", said, gain.low > 0),
    ]
    for title, one in (("autolab", own), ("autolab, sprt", sprt)):
        claimed = one["claimed over true gain"]
        found.append(
            Check(f"{title}: claimed over true gain in 0.9 to 1.1", claimed.text(), 0.9 <= claimed.value <= 1.1)
        )
    for title in ("autolab, reuse", "autolab, no reuse", "autolab, sprt, reuse"):
        for world in (SAME, SAME_APART):
            kept = results[world.name][title]["kept"]
            found.append(Check(f"{world.name}: {title}: kept at most 1%", kept.text(), kept.value <= 0.01))
    return found


def _false_held(false: Estimate) -> bool:
    return false.value <= 0.05 and false.high < 0.08


# What is written


def picture(rows: dict[str, Row], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    with rc_context(style):
        figure = Figure(figsize=(9, 3.9))
        left = figure.add_axes((0.17, 0.21, 0.37, 0.63))
        right = figure.add_axes((0.585, 0.21, 0.395, 0.63))
        left.axvspan(-2, 5, color="#e8f1f7")
        _dots(left, rows, "false share of kept", 100)
        _dots(right, rows, "trials an idea", 1)
        left.set(xlim=(-2, 100), xlabel="kept changes that are no gain, %")
        right.set(xscale="log", xlim=(0.9, 70), xlabel="trials per idea, confirmation included (log axis)")
        right.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        right.set_xticks([], minor=True)
        right.set_yticklabels([])
        figure.text(0.01, 0.94, "What is kept, and what it costs to find out", fontsize=12, weight="bold")
        figure.text(
            0.01,
            0.885,
            "Of the simulated ideas, 10% help, 20% harm and 70% do nothing.",
            color="#4d4d4d",
        )
        figure.text(
            0.01,
            0.02,
            "Bars: 95% intervals. Shaded: up to 5%. Orange: no confirmation on fresh seeds.",
            color="#4d4d4d",
        )
        figure.legend(*_legend(), loc="upper right", frameon=False, ncols=2, bbox_to_anchor=(0.995, 0.995))
        figure.savefig(path, dpi=140, metadata={"Software": None})


BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#4d4d4d"


def _dots(axes: Any, rows: dict[str, Row], column: str, scale: float) -> None:
    """A line a policy: filled with reuse of the base's trials, hollow without."""
    # The SPRT is for labs that declare their noise, which no other policy here is given.
    shown = [one for one in policies() if one.name != "autolab, sprt"]
    names = list(dict.fromkeys(one.name for one in shown))
    for one in shown:
        found = rows[one.title][column]
        colour = BLUE if one.name.startswith("autolab") else GREY if one.confirms else ORANGE
        y = names.index(one.name) + (-0.16 if one.reuse else 0.16)
        axes.plot([scale * found.low, scale * found.high], [y, y], color=colour, linewidth=2, alpha=0.5, clip_on=False)
        face = colour if one.reuse else "white"
        axes.plot([scale * found.value], [y], "o", color=colour, markerfacecolor=face, markersize=6, clip_on=False)
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels()[names.index("autolab") :]:
        label.set(color=BLUE, weight="bold")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.tick_params(axis="y", length=0)


def _legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=GREY, markerfacecolor=face, markersize=6)
        for face in (GREY, "white")
    ]
    return handles, ["baseline trials reused", "not reused"]


def report(results: dict[str, dict[str, Row]], found: Sequence[Check]) -> str:
    parts = [f"## {name}\n\n{table(rows)}\n" for name, rows in results.items()]
    lines = [f"- {'PASS' if check.held else 'FAIL'} {check.promise}: {check.found}" for check in found]
    return "\n".join([*parts, "## What must hold\n", *lines])


def numbers(results: dict[str, dict[str, Row]], found: Sequence[Check], asked: argparse.Namespace) -> dict[str, Any]:
    """Everything told, with where it comes from; an estimate that is not known is null."""

    def told(one: Estimate) -> Numbers | None:
        return None if math.isnan(one.value) else {"value": one.value, "low": one.low, "high": one.high}

    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "--", "..", ":!../docs"], capture_output=True).stdout
    return {
        "command": f"python benchmarks/decisions.py --seed {asked.seed}{' --quick' if asked.quick else ''}",
        "commit": head or None,
        "changed_since": bool(changed),
        "checks": [asdict(check) for check in found],
        "results": {
            name: {who: {column: told(one) for column, one in cells.items()} for who, cells in rows.items()}
            for name, rows in results.items()
        },
    }


class Progress:
    """A line on stderr with the time left, as if all units took equally long."""

    def __init__(self, units: int) -> None:
        self.units, self.done, self.began = units, 0, time.monotonic()

    def tick(self) -> None:
        self.done += 1
        left = (time.monotonic() - self.began) / self.done * (self.units - self.done)
        print(f"\r{self.done} of {self.units}, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)


def measure(streams: int, baselines: int, arrived: int, seed: int) -> dict[str, dict[str, Row]]:
    """Every scenario; numbers of streams, of shared baselines, of candidates under parallel arrival."""
    progress = Progress(len(WORLDS) * streams + 2 * len(PACES) + 5)
    results = {world.name: scenario(world, streams, seed, progress.tick) for world in WORLDS}
    name = "One base for 25 identical candidates, correlation 0, delta 1: kept by the search, by the luck of the base"
    results[name] = shared_baseline(baselines, seed, progress.tick)
    name = "Durations tied to outcomes, 4 at a time, reused base, correlation 0, 2 deviations: kept by the search"
    results[name] = arrival_order(arrived, seed, progress.tick)
    print(file=sys.stderr)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of all that")
    parser.add_argument("--out", type=Path, help="folder for decisions.md, decisions.json, decisions.png")
    asked = parser.parse_args()
    results = measure(10, 20, 200, asked.seed) if asked.quick else measure(100, 200, 2000, asked.seed)
    found = checks(results)
    text = report(results, found)
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "decisions.md").write_text(text + "\n")
        told = json.dumps(numbers(results, found, asked), indent=1, allow_nan=False)
        (asked.out / "decisions.json").write_text(told + "\n")
        picture(results[MAIN.name], asked.out / "decisions.png")
    return 0 if all(check.held for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
