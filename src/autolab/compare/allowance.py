"""What a comparison may spend, as a user writes it: "2h", "30min" or "40 trials"."""

from __future__ import annotations

import re

from autolab.compare.paired_runs import Allowance
from autolab.errors import UsageError

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
_TRIALS = re.compile(r"(\d+)\s*trials?")
_SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}


def allowance_of(budget: str, name: str) -> Allowance:
    """The caps that `budget` says. UsageError, which calls the option `name`: it is neither a time nor trials."""
    text = budget.strip()
    trials, time = _TRIALS.fullmatch(text), _TIME.fullmatch(text)
    if trials is not None and int(trials[1]):
        return Allowance(trials=int(trials[1]))
    if time is not None and float(time[1]):
        return Allowance(seconds=float(time[1]) * _SECONDS[time[2]])
    ways = '2h, 30min or "40 trials"'
    if text.isdecimal() and int(text):
        ways = f'"{text} trials", {text}min or {text}h'
    raise UsageError(f"{name}: {budget!r} is no time and no number of trials; give {ways}")
