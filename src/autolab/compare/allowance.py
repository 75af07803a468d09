"""What a comparison may spend, as a user writes it: "2h", "30min" or "40 trials"."""

from __future__ import annotations

import re

from autolab.compare.paired_runs import Allowance
from autolab.errors import UsageError

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(trials?|h|min|s)")
_SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0}


def allowance_of(budget: str, name: str) -> Allowance:
    """The caps that `budget` says. UsageError, which calls the option `name`: it is neither a time nor trials."""
    match = _BUDGET.fullmatch(budget.strip())
    if match is None:
        raise UsageError(f'{name}: {budget!r} is neither a time such as 2h nor a number such as "40 trials"')
    if match[2].startswith("trial"):
        return Allowance(trials=int(float(match[1])))
    return Allowance(seconds=float(match[1]) * _SECONDS[match[2]])
