"""A small slice of the benchmark of gates: what it draws, what it counts, and what it promises."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """The executor is named by its module, which the engine imports while a comparison runs."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def gates(importable: None) -> Any:
    # By its path: the tests have a module of this name.
    spec = importlib.util.spec_from_file_location("gates_benchmark", BENCHMARKS / "gates.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def in_process(importable: None) -> Any:
    return importlib.import_module("in_process")


@pytest.mark.process
@pytest.mark.parametrize(("effect", "bias", "better", "worse"), [(2.0, 0.0, 3, 0), (-5.0, 0.0, 0, 3), (0.0, 0.5, 0, 0)])
def test_autolab_compare_answers_what_is_true_and_equal_seeds_give_equal_rows(
    gates: Any, effect: float, bias: float, better: int, worse: int
) -> None:
    row = gates.engine_row(effect, bias, 3, 0)
    assert (row.comparisons, row.better, row.worse) == (3, better, worse)
    # A warm-up, the noise of the base and three pairs, of which the noise is a part.
    assert row.trials >= 7
    if effect == 2.0:
        assert gates.engine_row(effect, bias, 3, 0) == row


@pytest.mark.process
def test_the_second_trial_of_a_pair_has_the_bias_in_whatever_run_the_first_was(gates: Any, tmp_path: Path) -> None:
    answer, trials = gates.compared(0.0, 50.0, 1, tmp_path)
    # Fifty deviations for whoever is second: in the first three pairs the candidate, as the noise came before.
    assert (answer, trials) != ("worse", 7)
    order = next((tmp_path / ".git").rglob("seeds_of_trials.txt")).read_text().split()
    assert len(order[:3]) == len(set(order[:3])) and set(order[3:6]) == set(order[:3])


def test_a_streams_numbers_are_normal_and_a_pairs_difference_deviates_by_one(in_process: Any) -> None:
    differences = [in_process.drawn(luck, False, 0) - in_process.drawn(luck, True, 0) for luck in range(4000)]
    assert float(np.mean(differences)) == pytest.approx(0, abs=0.06)
    assert float(np.std(differences)) == pytest.approx(1, abs=0.04)


def test_the_other_gates_keep_by_their_published_rules(gates: Any) -> None:
    same = {row.gate: row.better_share for row in gates.gate_rows(0.0, 0.0, 800, 0)}
    assert same["one run each"] == pytest.approx(0.5, abs=0.06)
    assert same["three of three"] == pytest.approx(0.125, abs=0.04)
    assert same["Welch, p < 0.25"] == pytest.approx(0.25, abs=0.06)
    assert same["mean, no noise"] == pytest.approx(0.5, abs=0.06)
    gain = {row.gate: row.better_share for row in gates.gate_rows(2.0, 0.0, 200, 0)}
    assert all(gain[gate] > same[gate] for gate in gain)


def test_a_promise_that_is_broken_fails_and_the_tables_have_every_gate(gates: Any) -> None:
    rows = [
        gates.Row(gates.AUTOLAB, effect, bias, count, *answers(effect, count), 9.0)
        for effect, bias, count in gates.OWN_ROWS
    ]
    for effect, bias in ((0.0, 0.0), (0.0, gates.BIAS), (gates.GAIN, 0.0), (-gates.GAIN, 0.0)):
        rows += gates.gate_rows(effect, bias, 5, 0)
    assert all(holds for _, holds in gates.promises(rows))
    text = gates.report(rows)
    assert all(f"| {gate} | " in text for gate in (gates.AUTOLAB, *gates.GATES))
    assert "| -1 | 0 | 100 | 0 | 100 | 9.0 |" in text, "the harm of one deviation is printed"
    rows[0] = gates.Row(gates.AUTOLAB, 0.0, 0.0, 200, 3, 0, 9.0)
    assert [holds for _, holds in gates.promises(rows)] == [False, *[True] * 5]
    assert "- FAIL a version with itself is better in 3 of 200" in gates.report(rows)


def answers(effect: float, count: int) -> tuple[int, int]:
    """Better and worse, where each comparison has the right answer."""
    return (count if effect > 0 else 0), (count if effect < 0 else 0)
