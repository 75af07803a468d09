"""What the lab may still spend: pure arithmetic over the campaign's counts.

Iterations, trials and wall hours are enforced. GPU hours, tokens and dollars are refused in the
configuration until something counts them: a cap that nothing checks is worse than none.
"""

from __future__ import annotations

from autolab.records.lab import Budget, Campaign

UNCOUNTED = ("gpu_hours", "tokens", "dollars")


def spent(budget: Budget, campaign: Campaign) -> str:
    """Which cap is reached before another iteration or run, as one phrase; empty while there is something left."""
    if budget.iterations is not None and campaign.iterations >= budget.iterations:
        return f"iterations: {campaign.iterations} of {budget.iterations}"
    return spent_within(budget, campaign, trials=1)


def spent_within(budget: Budget, campaign: Campaign, trials: int = 0) -> str:
    """As `spent`, for an iteration that has begun; `trials` more are wanted."""
    if budget.trials is not None and campaign.trials + trials > budget.trials:
        return f"trials: {campaign.trials} done, {trials} wanted, {budget.trials} allowed"
    if budget.wall_hours is not None and campaign.seconds >= budget.wall_hours * 3600:
        return f"wall_hours: {campaign.seconds / 3600:.2f} of {budget.wall_hours:g}"
    return ""
