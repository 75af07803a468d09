"""What counts as a finite number: one limit for metrics, scores, differences and points of a curve."""

from __future__ import annotations

LIMIT = 1e150
"""Finite numbers are smaller in absolute value, so that no square of a score or a difference overflows."""


def is_finite(value: float) -> bool:
    """False for NaN, the infinities and every number from LIMIT on: a training that gives one diverged.

    Takes integers of any length, which JSON may hold and no float does.
    """
    return abs(value) < LIMIT
