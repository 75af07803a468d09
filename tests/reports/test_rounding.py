"""Numbers as documents show them: the digits that their interval supports, and no end rounded to 0."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.lab.schemas.experiment import ArmMetrics, Interval
from autolab.reports.rounding import duration, ends95, gain_of, interval_of, mean_with_half


def gain(mean: float, half: float | None) -> Interval:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Interval(n=8, mean=mean, low=low, high=high, level=0.99)


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.034078, 0.00815, "0.0341"),
        (0.972361, 0.0021, "0.9724"),
        (-0.00001, 0.01, "0.000"),
        (12345.6, 250.0, "12350"),
        (12345.6, 25.0, "12346"),
        (0.0, None, "0"),
        (0.123456, None, "0.1235"),
        (1e12, 0.1, "1e+12"),
        (0.5, 1e-15, "0.5"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_supports(value: float, half: float | None, shown: str) -> None:
    assert gain_of(gain(value, half)).startswith(f"{shown} (")


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.0004, 0.02, "99% CI 0.0004 to 0.0200"),
        (0.0004, 0.04, "99% CI 0.0004 to 0.0400"),
        (-0.04, -0.0004, "99% CI -0.0400 to -0.0004"),
        (0.0, 0.04, "99% CI 0.000 to 0.040"),
        (0.023, 0.057, "99% CI 0.023 to 0.057"),
    ],
)
def test_an_end_that_is_not_zero_is_not_shown_as_zero(low: float, high: float, shown: str) -> None:
    assert interval_of(Interval(n=8, mean=(low + high) / 2, low=low, high=high, level=0.99)) == shown


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_no_interval_is_rounded_across_zero(mean: float, half: float) -> None:
    interval = gain(mean, half)
    low, high = (float(end) for end in interval_of(interval).removeprefix("99% CI ").split(" to "))
    for end, shown in ((interval.low, low), (interval.high, high)):
        assert end is not None and (end > 0) == (shown > 0) and (end < 0) == (shown < 0)


def test_without_ends_there_is_no_interval() -> None:
    assert gain_of(gain(0.25, None)) == "0.25 (no CI)"


def test_an_arms_mean_stands_with_half_of_its_students_t_interval() -> None:
    arm = ArmMetrics(mean=0.14, std=0.004, n=8)
    assert mean_with_half(arm) == "0.1400 ± 0.0033"  # t(7) at 97.5 % is 2.3646
    assert ends95(arm)[1] == pytest.approx(0.14 + 2.3646 * 0.004 / 8**0.5, rel=1e-4)
    single = ArmMetrics(mean=0.14, std=None, n=1)
    assert mean_with_half(single) == "0.14" and ends95(single) == (None, None)


@pytest.mark.parametrize(("seconds", "shown"), [(2.04, "2.0 s"), (45.2, "45 s"), (720.0, "12 min")])
def test_a_duration_has_its_unit(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
