"""Lessons by number and gain."""

from __future__ import annotations

from typing import Any

from autolab.lab.schemas.experiment import Lesson


def lesson(number: int, mean: float | None = 0.0, **more: Any) -> Lesson:
    """Of iteration `number`, with a mean gain in units of the least gain worth having; None: it failed."""
    verdict = None if mean is None else "supported" if mean >= 1 else "refuted" if mean <= 0 else "inconclusive"
    gain = None if mean is None else {"n": 9, "mean": mean * 0.01, "low": -0.5, "high": None, "level": 0.99}
    value = {
        "iteration": number,
        "iteration_id": f"i{number}",
        "hypothesis_id": f"h{number}",
        "title": f"Idea {number}",
        "family": "f",
        "changes": {},
        "base": "0123456789abcdef",
        "commit": None,
        "status": "completed" if mean is not None else "failed",
        "verdict": verdict,
        "reason": "",
        "delta": 0.01,
        "gain": gain,
        "decision": "new_hypothesis",
    }
    return Lesson.from_value(value | more, "lesson")
