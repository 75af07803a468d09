"""What an iteration may begin with: a plan, a candidate's commit, and the stage at which it enters the loop."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Count
from autolab.lab.schemas.experiment import Design, Hypothesis, ReviewResult
from autolab.lab.schemas.outcomes import Gear, Stage
from autolab.lab.schemas.record import Prose, Record, Sentence, Settings


class BroughtCommit(Record):
    """A commit that an iteration begins with: `base` is the commit it was made from, `via` names who wrote it."""

    commit: str
    base: str
    via: str
    review: ReviewResult | None = None


class Entry(Record):
    """The stage at which an iteration enters the loop, and the documents that it brings.

    If `hypothesis_id` is None, the next free id is taken. `parent` is the iteration that this one refines;
    `refinement` counts the refinements of the hypothesis, this one included. `proposal` is the id of the proposal that
    brought the candidate; nobody here is asked to fix that one.
    """

    stage: Stage
    hypothesis_id: str | None = None
    parent: str | None = None
    refinement: Count = 0
    hypothesis: Hypothesis | None = None
    design: Design | None = None
    candidate: BroughtCommit | None = None
    proposal: str | None = None
    gear: Gear = Gear.EACH

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


class StoredProposal(Record):
    """A candidate that somebody outside of the loop hands to it, with their words about it.

    `commit` is made from `base` and pinned. `expected_gain` is in the metric's units and the proposer's own word:
    nothing is computed from it. `left_out` are files that the engine writes, and that the candidate had changed.
    """

    FILE: ClassVar[str] = ".git/autolab/proposals/<PROPOSAL_ID>.json"

    id: Annotated[str, Field(pattern=r"^p-[0-9a-f]{10}$")]
    at: Sentence
    by: Sentence
    title: Sentence
    claim: Prose = ""
    mechanism: Prose = ""
    expected_gain: float | None = None
    commit: str
    base: str
    settings: Settings = {}
    left_out: tuple[str, ...] = ()
