"""A small slice of the benchmark of claims: what it promises holds, and it would say so if it did not."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("claims")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results(claims: Any) -> Any:
    return claims.measure(500, 30, 1, 3)


def test_what_is_promised_holds_but_for_limits_that_need_more_nulls(claims: Any, results: Any) -> None:
    found = {check.promise: check for check in claims.checks(results)}
    assert len(found) == 15
    # 500 nulls cannot tell 0.3% from 0.5%.
    loose = {promise for promise in found if "upper limit too" in promise}
    assert {promise for promise, check in found.items() if not check.held} <= loose
    for cells in (results.nulls, results.picked):
        without_error = [one for world, one in cells.items() if not world.split_error]
        assert len(without_error) == 24
        assert max(one.share("claimed").low for one in without_error) < claims.ALPHA
        assert max(one.share("wrong").low for one in cells.values()) < claims.ALPHA
    assert min(one.share("claimed").value for world, one in results.gains.items() if world.asked == 2) < 0.5
    assert results.gains[claims.World("normal", 2.0, 0.8)].share("claimed").value > 0.9


def test_a_promise_that_is_broken_fails(claims: Any, results: Any) -> None:
    world = claims.World("normal", 1.0, 0.8)

    def failed(**changes: Any) -> str:
        checks = claims.checks(replace(results, **changes))
        return " ".join(check.promise for check in checks if not check.held)

    many = replace(results.nulls[world], count=20_000, better=140, claimed=130)
    assert "one claim: better on fresh seeds" in failed(nulls=results.nulls | {world: many})
    assert "one claim: claimed, wrongly" in failed(nulls=results.nulls | {world: many})
    assert "the best of 40: claimed, wrongly" in failed(picked=results.picked | {world: many})
    split = replace(world, split_error=0.8)
    lax = replace(results.nulls[split], count=20_000, claimed=1_000)
    assert "split error 0.8: no gain beyond it" in failed(nulls=results.nulls | {split: lax})
    often = replace(results.series[world], count=20_000, kept=(90, 60, 40, 20, 10), any_kept=220)
    assert "claims in a row" in failed(series=results.series | {world: often})
    read_wrongly = replace(results.gains[world], disagreed=1)
    assert "the engine's own code" in failed(gains={world: read_wrongly})
    spiked = claims.World("normal", 1.0, 0.8, share=0.3, depth=claims.noise.BOUND)
    short = replace(results.spiked[spiked], limits=(0.2,) * 10_000)
    assert "the claim's line" in failed(spiked=results.spiked | {spiked: short})


def test_the_alphas_of_any_number_of_claims_sum_to_less_than_twice_the_first(claims: Any) -> None:
    alphas = [claims.alpha_of(claim) for claim in range(1, 1000)]
    assert alphas[:2] == pytest.approx([0.005, 0.005 / 3])
    assert 1.99 * claims.ALPHA < sum(alphas) < 2 * claims.ALPHA


def test_what_is_picked_has_the_splits_favour(claims: Any) -> None:
    rng = np.random.default_rng(5)
    world = claims.World("normal", 1.0, 0.8, split_error=0.8)
    assert float(np.mean(claims.as_it_comes(world, 4_000, rng))) == pytest.approx(0, abs=0.05)
    # The best of 40 scores lies 2.16 deviations up, and .64 / .84 of the variance is the split's.
    expected = 2.16 * 0.64 / 0.84**0.5
    assert float(np.mean(claims.picked(world, 4_000, rng))) == pytest.approx(expected, abs=0.1)
    assert not claims.picked(replace(world, split_error=0.0), 10, rng).any()
    # Nothing that failed in the screen is picked.
    spiky = replace(world, kind="spikes in both")
    assert float(np.mean(claims.picked(spiky, 4_000, rng))) == pytest.approx(expected, abs=0.15)


def test_picked_for_the_split_a_null_is_claimed_more_often(claims: Any) -> None:
    world = claims.World("normal", 1.0, 0.8, split_error=0.4)
    found = [claims.claims(world, 0.0, luck, 3_000, 4, [7]) for luck in (claims.as_it_comes, claims.picked)]
    assert found[1].better > 5 * found[0].better
    assert [one.disagreed for one in found] == [0, 0]
    assert found[1].share("claimed").high < claims.HOLDOUT_LEVEL


def test_a_series_read_wrongly_is_seen_by_the_engine(claims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = claims.World("bimodal", 1.0, 0.0)
    assert claims.series(world, 300, 10, [1]).disagreed == 0
    true = claims.noise.critical
    monkeypatch.setattr(claims.noise, "critical", lambda tail: true(tail) * 0.6)
    assert claims.series(world, 300, 10, [1]).disagreed > 0


@pytest.mark.process
def test_the_numbers_are_told_with_their_command(
    claims: Any, results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims, "measure", lambda *sizes: results)
    monkeypatch.setattr(sys, "argv", ["claims.py", "--quick", "--out", str(tmp_path)])
    ended = claims.main()
    told = json.loads((tmp_path / "claims.json").read_text())
    assert ended == (0 if all(check["held"] for check in told["checks"]) else 1)
    assert told["command"] == "python benchmarks/claims.py --seed 0 --quick"
    assert (len(told["nulls"]), len(told["picked"]), len(told["series"])) == (72, 72, 24)
    text = capsys.readouterr().out
    assert text == (tmp_path / "claims.md").read_text()
    assert "| 10% fail, at the bound |" in text and text.count("- PASS") + text.count("- FAIL") == 15
