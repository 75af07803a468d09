"""How long a training may take where `train.time_limit_s` does not say it, and how a limit is named to a user.

Standard library only: `autolab status` reads it.
"""

from __future__ import annotations

import math
from typing import TypedDict

TIMES = 10
"""How much longer than the baseline's slowest trial a training may take."""
LEAST_S = 60.0
UNCALIBRATED_S = 3600.0
"""The limit of a calibration, and before one."""
KEY = "train.time_limit_s"


class Limit(TypedDict):
    """A `TimeLimit` as JSON has it."""

    seconds: float
    source: str


def after_calibration(slowest_s: float) -> float:
    """The limit in whole seconds, from the seconds of the baseline's slowest trial, or of a comparison's warm-up."""
    return max(LEAST_S, float(math.ceil(TIMES * slowest_s)))


def origin(seconds: float, source: str) -> str:
    """Where a limit is from, as the message of a training that passed it says it; `source` as in `TimeLimit`."""
    if source == "config":
        return KEY
    if source == "default":
        return f"that of a calibration; {KEY}"
    if source == "warm_up":
        return f"{_more(seconds)}{TIMES} times the base's warm-up; {KEY}"
    if seconds == LEAST_S:
        return f"more than {TIMES} times the calibration's slowest; {KEY}"
    return f"{TIMES} times the calibration's slowest; {KEY}"


def _more(seconds: float) -> str:
    return "more than " if seconds == LEAST_S else ""


def sentence(seconds: float, source: str) -> str:
    """What a user reads of a limit; `source` as in `TimeLimit`."""
    may_take = f"a trial may take {seconds:g} s"
    if source == "config":
        return f"{may_take}: {KEY}"
    if source == "default":
        return f"{may_take} until the lab is calibrated; {KEY} sets another"
    if source == "warm_up":
        return f"{may_take}: {_more(seconds)}ten times the base's warm-up; {KEY} sets another"
    if seconds == LEAST_S:
        return f"{may_take}: more than ten times the slowest of the calibration; {KEY} sets another"
    return f"{may_take}: ten times the slowest of the calibration; {KEY} sets another"
