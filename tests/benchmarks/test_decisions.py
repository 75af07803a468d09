"""A small slice of the benchmark of decisions: what it promises holds, and what it counts is what was spent."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return _module("decisions")


@pytest.fixture(scope="module")
def streams() -> Any:
    return _module("streams")


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results(benchmark: Any) -> dict[str, Any]:
    """What the promises are about, of three streams a scenario."""
    worlds = (benchmark.MAIN, benchmark.RARE, benchmark.SAME, benchmark.SAME_APART)
    return {world.name: benchmark.scenario(world, 3, 0, lambda: None) for world in worlds}


def test_every_promise_but_narrow_intervals_holds_in_a_small_slice(benchmark: Any, results: dict[str, Any]) -> None:
    held = {check.promise: check.held for check in benchmark.checks(results)}
    assert len(held) == 13
    # Three streams keep too few for an upper limit, and too few trials for a ratio to the second digit.
    loose = {name for name in held if "upper limit" in name or "fewer" in name}
    assert len(loose) == 3
    assert {name for name, good in held.items() if not good} <= loose
    main = results[benchmark.MAIN.name]
    assert main["autolab, reuse"]["false share of kept"].value == 0
    assert main["autolab, reuse"]["times fewer than fixed n = 10"].high > 4
    assert main["autolab, sprt, reuse"]["times fewer than fixed n = 10"].value > 9


def test_policies_that_look_without_a_rule_keep_what_is_no_gain(benchmark: Any, results: dict[str, Any]) -> None:
    for policy in ("greedy", "mean of three", "peeking t-test"):
        for how in ("reuse", "no reuse"):
            assert results[benchmark.MAIN.name][f"{policy}, {how}"]["false share of kept"].value > 0.25


def test_equal_seeds_give_equal_numbers_and_others_do_not(benchmark: Any) -> None:
    first, again, other = (benchmark.scenario(benchmark.MAIN, 1, seed, lambda: None) for seed in (0, 0, 1))
    assert repr(first) == repr(again)  # nan is not equal to nan
    assert repr(first) != repr(other)


def test_a_promise_that_is_broken_fails(benchmark: Any, results: dict[str, Any]) -> None:
    name = benchmark.MAIN.name
    broken = results | {name: results[name] | {"autolab, reuse": results[name]["greedy, no reuse"]}}
    failed = [check.promise for check in benchmark.checks(broken) if not check.held]
    assert "false share of kept at most 5%, upper limit under 8%" in failed
    assert "autolab: claimed over true gain in 0.9 to 1.1" in failed
    assert "- FAIL false share" in benchmark.report(broken, benchmark.checks(broken))


@pytest.mark.process
def test_the_numbers_are_told_with_their_command_and_the_figure_is_drawn(
    benchmark: Any,
    results: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "measure", lambda *sizes: results)
    monkeypatch.setattr(sys, "argv", ["decisions.py", "--quick", "--out", str(tmp_path)])
    ended = benchmark.main()
    told = json.loads((tmp_path / "decisions.json").read_text())
    assert ended == (0 if all(check["held"] for check in told["checks"]) else 1)
    assert told["command"] == "python benchmarks/decisions.py --seed 0 --quick"
    assert told["results"][benchmark.MAIN.name]["autolab, reuse"]["power"]["value"] >= 0.95
    text = capsys.readouterr().out
    assert text == (tmp_path / "decisions.md").read_text()
    assert text.count("| autolab, reuse | ") == len(results)
    assert (tmp_path / "decisions.png").read_bytes().startswith(b"\x89PNG")


def test_a_lucky_baseline_and_the_order_of_arrival_have_their_tables(benchmark: Any) -> None:
    luck, arrival = benchmark.shared_baseline(5, 0, lambda: None), benchmark.arrival_order(12, 0, lambda: None)
    assert {"unluckiest fifth", "luckiest fifth", "kept after confirmation"} < set(luck["autolab, reuse"])
    for cells in arrival.values():
        assert cells["null kept, read by prefix"].value <= 0.1
        assert cells["good kept, read by prefix"].value >= 0.6
    alike = arrival["as long, whatever comes out"]
    assert alike["good kept, read by prefix"] == alike["good kept, read by arrival"]


@pytest.mark.parametrize(("reuse", "expected"), [(True, 10 + 10 + 10), (False, 20 + 20)])
def test_trials_of_a_shared_base_are_counted_once(streams: Any, reuse: bool, expected: int) -> None:
    world = streams.World("nothing helps", good=0.0, harmful=0.0)
    policy = streams.Policy("fixed n = 10", streams.engine("fixed", 10), reuse)
    sums = dict(zip(streams.FIELDS, streams.run(policy, world, [0.0, 0.0], np.random.default_rng(0)), strict=True))
    assert (sums["kept"], sums["trials"]) == (0, expected)


def test_a_kept_candidate_pays_for_confirmation_and_for_its_own_base(streams: Any) -> None:
    world = streams.World("certain")
    policy = streams.Policy("fixed n = 10", streams.engine("fixed", 10), reuse=True)
    sums = dict(zip(streams.FIELDS, streams.run(policy, world, [9.0, 9.0], np.random.default_rng(0)), strict=True))
    assert (sums["kept"], sums["gain"], sums["trials"]) == (2, 18.0, 2 * (20 + 20))


def test_noise_has_the_deviation_it_is_said_to_have(streams: Any) -> None:
    for heavy in (False, True):
        world = streams.World("noise", correlation=0.8, heavy=heavy)
        drawn = world.noise(np.random.default_rng(0), 400_000)
        assert float(np.std(drawn)) == pytest.approx(math.sqrt(0.2), rel=0.05)


def test_peeking_is_students_t_after_each_pair(streams: Any) -> None:
    from scipy.stats import ttest_1samp

    world = streams.World("any")
    for values in np.random.default_rng(3).normal(0.3, 1, (40, 24)).tolist():
        looks = [(n, ttest_1samp(values[:n], 0)) for n in range(3, 25)]
        expected = next(((look.statistic > 0, n) for n, look in looks if look.pvalue < 0.05), (False, 24))
        assert streams.peek(values, world) == expected


def test_a_slow_trial_holds_up_one_worker_and_not_the_others(streams: Any) -> None:
    assert streams.arrivals(np.array([-3.0, 0.0, 0.1, 0.2, 0.0]), 1.0) == [3, 2, 1, 4, 0]
    assert streams.arrivals(np.zeros(6), 1.0) == [0, 1, 2, 3, 4, 5]


def test_an_exact_interval_is_scipys(benchmark: Any) -> None:
    from scipy.stats import binomtest

    for count, of in ((0, 60), (3, 60), (60, 60)):
        known, found = binomtest(count, of).proportion_ci(0.95, "exact"), benchmark.exact(count, of)
        assert (found.low, found.high) == pytest.approx((known.low, known.high))
