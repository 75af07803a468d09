"""What the lab may still spend: arithmetic over the campaign's counts.

Before a step is taken, what was spent and the most that the step may take are compared with each cap.
"""

from __future__ import annotations

from collections.abc import Iterator

from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Budget

WARN = 0.8
"""The share of a cap at which the user is warned."""


def spent(budget: Budget, campaign: Campaign) -> str:
    """The cap that is reached before another iteration or run, as one phrase; empty if none is."""
    if budget.iterations is not None and campaign.counted >= budget.iterations:
        return f"iterations: {campaign.counted} of {budget.iterations}"
    return spent_within(budget, campaign, trials=1)


def spent_within(budget: Budget, campaign: Campaign, trials: int = 0) -> str:
    """As `spent`, for an iteration under way that needs `trials` more."""
    if budget.trials is not None and campaign.trials + trials > budget.trials:
        return f"trials: {campaign.trials} done, {trials} wanted, {budget.trials} allowed"
    hours = campaign.seconds / 3600
    gpu_hours = campaign.gpu_seconds / 3600
    if budget.wall_hours is not None and hours >= budget.wall_hours:
        return f"wall_hours: {hours:.2f} of {budget.wall_hours:g}"
    if budget.gpu_hours is not None and gpu_hours >= budget.gpu_hours:
        return f"gpu_hours: {gpu_hours:.2f} of {budget.gpu_hours:g}"
    # The next call takes at least one token; what it costs is not known here.
    return spent_by_calls(budget, campaign.tokens, campaign.dollars, 1, 0.0)


def spent_by_calls(budget: Budget, tokens: int, dollars: float, more_tokens: int, more_dollars: float | None) -> str:
    """The cap that the next model call may exceed if it takes so much more. `more_dollars`: None if unknown."""
    if budget.tokens is not None and tokens + more_tokens > budget.tokens:
        return f"tokens: {tokens:,} used, up to {more_tokens:,} wanted by the next call, {budget.tokens:,} allowed"
    # A call without a known price passes until the cap is reached: calls before it may have had a price.
    more = more_dollars or 0.0
    if budget.dollars is not None and (dollars >= budget.dollars or dollars + more > budget.dollars):
        return f"dollars: {dollars:.4f} used, up to {more:.4f} wanted by the next call, {budget.dollars:g} allowed"
    return ""


def trials_left(budget: Budget, campaign: Campaign, gpus: int, seconds: float | None) -> int | None:
    """Trials that fit into the rest of whichever binds: budget.trials, gpu_hours or wall_hours; None: no such cap.

    A trial takes about `seconds` on `gpus` GPUs; None: not known, so that hours bind nothing. Wall hours are counted as
    if trials ran one at a time: where several run at once, more fit. Tokens and dollars pay for calls, and for no
    trial, so they are no part of it.
    """
    fits = []
    if budget.trials is not None:
        fits.append(budget.trials - campaign.trials)
    if budget.gpu_hours is not None and gpus and seconds:
        fits.append(int((budget.gpu_hours * 3600 - campaign.gpu_seconds) / (gpus * seconds)))
    if budget.wall_hours is not None and seconds:
        fits.append(int((budget.wall_hours * 3600 - campaign.seconds) / seconds))
    if not fits:
        return None
    # The last trial may have gone past the cap.
    return max(0, min(fits))


def near(budget: Budget, campaign: Campaign) -> Iterator[tuple[str, str]]:
    """The caps of which at least `WARN` is spent, each with a phrase that says how much."""
    counts = {
        "iterations": float(campaign.counted),
        "trials": float(campaign.trials),
        "wall_hours": campaign.seconds / 3600,
        "gpu_hours": campaign.gpu_seconds / 3600,
        "tokens": float(campaign.tokens),
        "dollars": campaign.dollars,
    }
    for name, count in counts.items():
        cap = getattr(budget, name)
        # A cap of 0 is no warning: nothing was ever allowed.
        if cap and count >= WARN * cap:
            share = count / cap
            yield name, f"{name} {share:.0%} spent ({count:,.6g} of {cap:,.6g})"
