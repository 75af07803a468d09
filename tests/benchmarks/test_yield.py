"""A slice of the benchmark of searches, without Optuna: what is printed, and that a promise can be broken."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        # `yield` is a keyword: no import statement can name the file.
        spec = importlib.util.spec_from_file_location("yield_benchmark", FOLDER / "yield.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


def world(bench: ModuleType, name: str) -> object:
    (found,) = [world for world in bench.WORLDS if world.name == name]
    return found


def test_the_model_of_the_score_finds_more_than_greedy_steps_where_effects_are_small(bench: ModuleType) -> None:
    small = world(bench, "seven knobs, effects of 0.4")
    ours, greedy = (bench.cell(small, way, 60, 8) for way in ("ours", "greedy"))
    mean, low, _ = bench.lead(ours, greedy)
    assert low > 0 and ours.mean > 0.8 * ours.reach
    (_, _, _, header, _, first, second) = bench.table([ours, greedy], 60)
    assert header.startswith("| world | reach | way |")
    assert first.startswith("| seven knobs, effects of 0.4 | ") and f"{mean:+.2f} ({low:+.2f} to " in second


def test_where_nothing_is_to_be_found_nothing_is_claimed(bench: ModuleType) -> None:
    nothing = world(bench, "forty mechanisms, nothing to find")
    for way in ("ours", "greedy", "random", "successive halving"):
        found = bench.cell(nothing, way, 60, 10)
        assert (found.claims, set(found.gains)) == (0, {0.0})


def test_a_promise_that_does_not_hold_is_said(bench: ModuleType) -> None:
    def cell(way: str, gain: float, false: int) -> object:
        gains = (gain, gain + 1)
        return bench.Cell("seven knobs, x", way, 60, 9.0, gains, 2, false, 0, gains, 0)

    held = bench.promises([cell("ours", 1.0, 1), cell("tpe", 9.0, 0)])
    assert [holds for holds, _ in held] == [False, True, False]
    held = bench.promises([cell("ours", 9.0, 0), cell("tpe", 9.0, 0)])
    assert all(holds for holds, _ in held)
