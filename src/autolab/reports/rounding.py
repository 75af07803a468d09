"""Numbers as documents show them: as many digits as their interval supports, and never an interval rounded across 0."""

from __future__ import annotations

import math

from autolab.lab.schemas.experiment import ArmMetrics, Interval

_MOST = 12
"""Decimals from which a number is shown with four significant digits instead."""


def ends95(arm: ArmMetrics) -> tuple[float | None, float | None]:
    """The ends of an arm's 95% Student t interval; None below two trials."""
    half = _half95(arm)
    if half is None:
        return None, None
    # With the deviation that the manifest has; `rules.student_interval` starts from the values.
    return arm.mean - half, arm.mean + half


def _half95(arm: ArmMetrics) -> float | None:
    from scipy.special import stdtrit

    if arm.std is None:
        return None
    return -float(stdtrit(arm.n - 1, 0.025)) * arm.std / math.sqrt(arm.n)


def decimals(half_width: float | None) -> int:
    """Decimals down to the second digit of an interval's half width; more than any number has if there is none."""
    if not half_width:
        return _MOST + 1
    return 1 - math.floor(math.log10(half_width))


def shown(value: float, places: int) -> str:
    """The value with this many decimals; four significant digits where that would be absurd."""
    if places > _MOST or abs(value) >= 1e9:
        return f"{value:.4g}"
    # -0.0 + 0.0 is 0.0: a loss that is rounded to nothing has no sign.
    without_minus_zero = round(value, places) + 0.0
    return f"{without_minus_zero:.{max(0, places)}f}"


def mean_of(arm: ArmMetrics) -> str:
    """An arm's mean, `0.0833`."""
    return shown(arm.mean, decimals(_half95(arm)))


def means_of(one: ArmMetrics, other: ArmMetrics, gain: Interval) -> tuple[str, str]:
    """Two means that are compared, with the decimals of their gain if those are more, `0.0452`, `0.0471`."""
    places = max(decimals(_half95(one)), decimals(_half95(other)))
    if gain.low is not None:
        places = max(places, decimals_of(gain))
    return shown(one.mean, places), shown(other.mean, places)


def mean_with_half(arm: ArmMetrics) -> str:
    """An arm's mean and half of its 95% interval, `0.0833 ± 0.0028`."""
    half = _half95(arm)
    if not half:
        return mean_of(arm)
    return f"{mean_of(arm)} ± {shown(half, decimals(half))}"


def mean_with_interval(arm: ArmMetrics) -> str:
    """An arm's mean with its 95% interval, `0.0833 (95% CI 0.0805 to 0.0861)`; the mean alone below two trials."""
    low, high = ends95(arm)
    if low is None or high is None:
        return mean_of(arm)
    places = decimals(_half95(arm))
    return f"{mean_of(arm)} (95% CI {shown(low, places)} to {shown(high, places)})"


def decimals_of(gain: Interval) -> int:
    """Decimals for a gain and the ends of its interval: no end that is not 0 is shown as 0."""
    if gain.low is None or gain.high is None:
        return decimals(None)
    places = decimals((gain.high - gain.low) / 2)
    # An end shown as 0 would leave open whether a gain of 0 is ruled out.
    for end in (gain.low, gain.high):
        while end and not round(end, places) and places <= _MOST:
            places += 1
    return places


def interval_of(gain: Interval) -> str:
    """`99% CI 0.008 to 0.065`, or `no CI`."""
    if gain.low is None or gain.high is None:
        return "no CI"
    places = decimals_of(gain)
    return f"{_percent(gain.level)}% CI {shown(gain.low, places)} to {shown(gain.high, places)}"


def _percent(level: float) -> str:
    """A level in percent, its error to two digits: 99, 99.5, 99.67, 99.995."""
    error = 100 * (1 - level)
    if error <= 0:
        return "100"
    text = f"{100 * level:.{max(0, 1 - math.floor(math.log10(error) + 1e-9))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def gain_of(gain: Interval) -> str:
    """`0.036 (99% CI 0.008 to 0.065)`."""
    return f"{shown(gain.mean, decimals_of(gain))} ({interval_of(gain)})"


def duration(seconds: float) -> str:
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s"
