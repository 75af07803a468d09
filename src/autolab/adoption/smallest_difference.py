"""The smallest difference worth having that is proposed for a metric, from the values that the first run printed."""

from __future__ import annotations

import math

from autolab.trials.readings import Series

SHARE = 0.01
"""Of the metric's value."""
_STEPS = (1.0, 2.0, 5.0, 10.0)


def proposed_delta(series: Series) -> tuple[float, str] | None:
    """A hundredth of the last value, rounded to 1, 2 or 5 times a power of ten, and the reason in a few words.

    Not smaller than the last digit that was printed. None: the value says nothing, such as 0 or NaN.
    """
    value = abs(series.last)
    if not math.isfinite(value) or value == 0:
        return None
    last_digit = 10.0**-series.decimals
    delta, reason = _rounded(SHARE * value), f"about 1% of {series.last:.{series.decimals}f}, its last value"
    if delta < last_digit:
        delta, reason = last_digit, f"the last digit that is printed of {series.last:.{series.decimals}f}"
    return delta, reason


def _rounded(number: float) -> float:
    """The nearest of 1, 2, 5 and 10 times the power of ten, by ratio."""
    power = math.floor(math.log10(number))
    fraction = number / 10.0**power
    step = min(_STEPS, key=lambda step: abs(math.log(step / fraction)))
    # By its text: 2 * 10**-3 is not the float that 0.002 is.
    return float(f"{step * 10.0**power:.0e}")
