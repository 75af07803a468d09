"""A small slice of the benchmark of noise: the promises hold, and what is read all at once is what the engine says."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autolab.stats import rules

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def noise() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("noise")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results(noise: Any) -> Any:
    return noise.measure(800, 40, 400, 1, 3)


def test_every_promise_holds_in_a_small_slice(noise: Any, results: Any) -> None:
    held = {check.promise: check.held for check in noise.checks(results)}
    assert len(held) == 5
    # 800 nulls cannot tell 0.7% from 1%.
    loose = {promise for promise in held if "split error 0.8" in promise}
    assert {promise for promise, good in held.items() if not good} <= loose
    worst = max(fates.share("kept").low for fates in results.nulls.values())
    assert worst < 0.01


def test_a_gain_that_is_there_is_found_and_rare_failures_are_told(noise: Any, results: Any) -> None:
    clear = results.gains[noise.World("normal", 2.0, 0.8)]
    assert clear.share("kept").value > 0.9
    rare = results.spiked[noise.World("normal", 1.0, 0.8, share=0.1, depth=noise.BOUND)]
    assert rare.share("kept").value > 0.1, "the bound alone does not restore the error"
    assert min(rare.limits) >= 0.1, "and the claim's line says how often such trainings may come"
    text = noise.report(results, noise.checks(results))
    assert "| 10% fail, at the bound |" in text and text.count("- PASS") + text.count("- FAIL") == 5


def test_a_promise_that_is_broken_fails(noise: Any, results: Any) -> None:
    world = noise.World("normal", 1.0, 0.8)
    many = replace(results.nulls[world], kept=16)
    broken = replace(results, nulls=results.nulls | {world: many})
    assert not next(check.held for check in noise.checks(broken))
    wrong = replace(results, gains={world: replace(results.gains[world], disagreed=1)})
    assert [check.held for check in noise.checks(wrong)][-1] is False
    low = noise.World("normal", 1.0, 0.8, share=0.3, depth=noise.BOUND)
    short = replace(results.spiked[low], limits=(0.2,) * 10_000)
    assert [check.held for check in noise.checks(replace(results, spiked=results.spiked | {low: short}))][3] is False


@pytest.mark.parametrize("kind", ["normal", "quantised", "spikes in both"])
def test_what_is_read_all_at_once_is_what_the_engine_says(noise: Any, kind: str) -> None:
    """Of every stream here, kept or not; one bound that is off by a little is seen."""
    world = noise.World(kind, 1.0, 0.5, split_error=0.8)
    fates = noise.follow(world, 0.8, 12, 12, [5])
    assert (fates.sampled >= 12, fates.disagreed) == (True, 0)


def test_a_rule_read_wrongly_is_seen_by_the_engine(noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "KEEPS", noise.KEEPS * 0.9)
    assert noise.follow(noise.World("normal", 1.0, 0.8), 1.0, 20, 20, [5]).disagreed > 0


def test_bounds_on_t_are_the_engines(noise: Any) -> None:
    gains = np.random.default_rng(4).normal(0.4, 1, (30, noise.PAIRS))
    up, mean = noise.t_of(gains, 0.0)
    for row, n in ((0, 3), (7, 11), (29, noise.PAIRS)):
        assert mean[row, n - 1] == pytest.approx(gains[row, :n].mean())
        assert rules._evidence(n, up[row, n - 1]) == pytest.approx(rules.t_evidence(gains[row, :n].tolist()))


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("depth", [3.0, 20.0])
def test_a_null_with_rare_failures_has_the_baselines_bounded_mean(noise: Any, share: float, depth: float) -> None:
    world = noise.World("normal", 1.0, 0.8, share=share, depth=depth)
    pairs, _ = noise.draw(world, 0.0, np.zeros(20_000), np.random.default_rng(1))
    gains = pairs.gains()
    error = float(gains.std() / math.sqrt(gains.size))
    assert abs(float(gains.mean())) < 4 * error < 0.1
    cut = ~(pairs.candidate >= -noise.BOUND)
    assert float(cut.mean()) == pytest.approx(share if depth >= noise.BOUND else 0.0, abs=0.005)


@pytest.mark.parametrize("kind", ["normal", "t3", "lognormal", "bimodal"])
def test_noise_of_every_kind_has_mean_0_and_deviation_1(noise: Any, kind: str) -> None:
    drawn = noise.own(kind, np.random.default_rng(0), (400_000,))
    assert float(np.mean(drawn)) == pytest.approx(0, abs=0.02)
    assert float(np.std(drawn)) == pytest.approx(1, rel=0.1)


@pytest.mark.process
def test_the_numbers_are_told_with_their_command(
    noise: Any, results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise, "measure", lambda *sizes: results)
    monkeypatch.setattr(sys, "argv", ["noise.py", "--quick", "--out", str(tmp_path)])
    ended = noise.main()
    told = json.loads((tmp_path / "noise.json").read_text())
    assert ended == (0 if all(check["held"] for check in told["checks"]) else 1)
    assert told["command"] == "python benchmarks/noise.py --seed 0 --quick"
    assert len(told["nulls"]) == len(told["gains"]) == 72 and len(told["rare_failures"]) == 72
    assert capsys.readouterr().out == (tmp_path / "noise.md").read_text()
