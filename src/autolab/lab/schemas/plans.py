"""What an iteration may begin with: a plan, a candidate's commit, and the stage at which it enters the loop."""

from __future__ import annotations

from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Count
from autolab.lab.schemas.experiment import Design, Hypothesis, ReviewResult
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import Record


class BroughtCommit(Record):
    """A commit that an iteration begins with: `base` is the commit it was made from, `via` names who wrote it."""

    commit: str
    base: str
    via: str
    review: ReviewResult | None = None


class Entry(Record):
    """The stage at which an iteration enters the loop, and the documents that it brings.

    If `hypothesis_id` is None, the next free id is taken. `parent` is the iteration that this one refines;
    `refinement` counts the refinements of the hypothesis, this one included.
    """

    stage: Stage
    hypothesis_id: str | None = None
    parent: str | None = None
    refinement: Count = 0
    hypothesis: Hypothesis | None = None
    design: Design | None = None
    candidate: BroughtCommit | None = None

    @classmethod
    def after(cls, state: State, campaign: Campaign) -> Entry:
        """The entry that follows from the last decision: a refinement of its hypothesis, or a new hypothesis."""
        if state.stage is not Stage.DESIGN:
            return cls(stage=state.stage)
        return cls(
            stage=Stage.DESIGN,
            hypothesis_id=campaign.hypothesis_id,
            parent=campaign.parent,
            refinement=campaign.refinement + 1,
        )


class StoredPlan(Record):
    """A hypothesis and how to test it. The ids in them are replaced when an iteration begins."""

    id: str
    hypothesis: Hypothesis
    design: Design


class StoredCandidate(Record):
    """A commit that implements a stored plan."""

    id: str
    plan: str
    candidate: BroughtCommit
