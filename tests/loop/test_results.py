"""What a user reads of a run's comparisons."""

from __future__ import annotations

from typing import Any

from account_kit import compared

from autolab.lab.schemas.outcomes import Verdict
from autolab.loop import results


def lines_of(comparison: Any) -> list[str]:
    lines: list[str] = []
    results._show(comparison, lines.append)  # type: ignore[arg-type]
    return lines


def test_a_gain_is_shown_with_its_metric_its_interval_and_its_pairs() -> None:
    comparison = compared(Verdict.SUPPORTED, 0.027, 0.007)
    verdict, gain = lines_of(comparison)[:2]
    assert verdict.strip().startswith(f"{comparison.arm} against {comparison.baseline}: supported")
    level = f"{100 * comparison.difference.level:.4g}% interval [0.02, 0.034]"
    assert gain.strip() == f"gain +0.027 in {comparison.metric}, {level}, over {comparison.difference.n} pairs"


def test_a_gain_without_an_interval_is_shown_without_one() -> None:
    comparison = compared(Verdict.REFUTED, -0.01, None)
    gain = lines_of(comparison)[1]
    assert gain.strip() == f"gain -0.01 in {comparison.metric} over {comparison.difference.n} pairs"
