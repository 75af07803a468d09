"""The figure of progress: every try of the campaign so far."""

from __future__ import annotations

from autolab.ideas import lessons
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Interval
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports import figures


def show_progress(lab: Lab, config: Config, campaign: Campaign) -> list[str]:
    """Draw every try so far among the paper's figures, while the checkout is the lab's; the files written."""
    told = lessons.recall(lab.store, lab.ledger, campaign.learned)[::-1]
    if not told or lab.away(campaign):
        return []
    begun = told[0].baseline
    tries = [figures.Try(told[0].iteration - 1, "baseline", "baseline", *_ends(begun), False)] if begun else []
    for one in told:
        supported = one.verdict is Verdict.SUPPORTED
        verdict = one.verdict or one.status
        tries.append(figures.Try(one.iteration, one.title, verdict, *_ends(one.measured), supported))
    stem = lab.root / config.docs.figures / "progress"
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = figures.progress(tries, config.metric.primary, config.metric.direction, stem)
    return [str(path.relative_to(lab.root)) for path in drawn]


def _ends(found: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (found.mean, found.low, found.high) if found else (None, None, None)
