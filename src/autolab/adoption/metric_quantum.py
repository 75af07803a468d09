"""The step in which a program prints its metric: 0.01 of `3.90`, 1 of `98%`; none of numbers that it prints in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autolab.adoption.detection import Setting
from autolab.errors import UsageError
from autolab.trials.readings import Reading

DELTA, QUANTUM = "metric.success_delta", "metric.quantum"
IN_FULL = 1e-9
"""A step below this part of the number is no rounding: the program prints all digits that it has."""
LEAST_NUMBERS = 2


def step_of(values: Sequence[str]) -> float | None:
    """The step of numbers as they were printed; None if they are not rounded, or it cannot be told.

    Numbers of a fixed form have the same number of decimals. A single number may have as many by chance, as all digits
    of 0.5 are one.
    """
    readings = [Reading("", text, 0) for text in values]
    texts = [reading.bare for reading in readings]
    numbers = []
    for reading, text in zip(readings, texts, strict=True):
        # A ratio is exact; in a number with an exponent the step depends on the number.
        is_ratio = "/" in text and "%" not in text
        if reading.number is None or is_ratio or "e" in text.lower():
            return None
        numbers.append(reading.number)
    decimals = {reading.decimals for reading in readings}
    if len(decimals) != 1:
        return None
    (places,) = decimals
    has_fixed_form = len(set(texts)) >= LEAST_NUMBERS or all("%" in text for text in texts)
    # A language that prints all digits ends none of its numbers with 0, but for 1.0.
    if places >= 2:
        has_fixed_form = has_fixed_form or any(text.rstrip("% )").endswith("0") for text in texts)
    elif places == 1 and all(text.rstrip("% )").endswith(".0") for text in texts):
        has_fixed_form = False
    step = float(f"1e-{places}")
    if not has_fixed_form or step <= IN_FULL * max(map(abs, numbers)):
        return None
    return step


def with_quantum(settings: Sequence[Setting], values: Sequence[str], delta: float | None) -> list[Setting]:
    """The settings with the step of the printed `values`, and a smallest difference that is no smaller.

    UsageError: the `delta` that the user gave is.
    """
    step = step_of(values)
    if step is None:
        return list(settings)
    example = f"{values[-1]}"
    changed = []
    for setting in settings:
        if setting.key != DELTA:
            changed.append(setting)
            continue
        wanted = float(str(setting.value))
        if wanted < step and delta is not None:
            raise UsageError(
                f"--delta: {delta:g} is below {step:g}, the step in which the metric is printed ({example}): have the"
                f" program print more decimals, or give --delta {step:g} or more"
            )
        if wanted < step:
            reason = "the least that shows in what is printed; which difference is worth having, only you know"
            setting = replace(setting, value=step, reason=reason)
        changed.append(setting)
        changed.append(Setting(QUANTUM, step, f"the step in which it is printed, such as {example}"))
    return changed
