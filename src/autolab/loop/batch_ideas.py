"""Stage hypothesis of a batch: its ideas, those of an earlier batch first, then new ones.

A researcher that reads a prompt gives all new ideas in one answer: the prompt is long, and an idea is short. Each is
judged by itself, and what is missing then is asked for again. Any other researcher gets one request an idea.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from autolab.lab.schemas.campaign import CarriedIdea, Exploration
from autolab.lab.schemas.experiment import Hypothesis
from autolab.lab.schemas.replies import HypothesisOutput, shortened
from autolab.loop import batch, hypothesis
from autolab.loop.batch import DETAIL, TRIES
from autolab.loop.hypothesis import ProposedIdea
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import plain
from autolab.researchers.base import Batch, Researcher
from autolab.text import one_line
from autolab.trials.progress import View

TITLE = 80
"""Characters of a title that a refusal quotes."""


def propose(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    """Ask for the batch's ideas, those that come first before new ones."""
    exploration = batch.exploration_of(iteration)
    carried = () if exploration.concluding else exploration.first[: exploration.size]
    proposed = _ProposedBatch(iteration, exploration, view)
    for source in carried:
        proposed.add(_carried(proposed.next_idea(), source))
    request_ideas = _ask_together if requests.researcher.contract is not None else _ask_one_by_one
    refusal = request_ideas(proposed, requests) if proposed.missing else None
    claims = proposed.claims
    # Only a batch without any idea is worth another attempt of the whole stage, or a user's time.
    if refusal is not None and not claims and (refusal.outcome is StageOutcome.RETRY or refusal.needs_user):
        return refusal
    if refusal is not None and claims:
        # Also where a user has to fix something: what the ideas' code needs of the user is asked next.
        view(f"  the batch goes on with {len(claims)} of {exploration.size} ideas: {one_line(refusal.reason, DETAIL)}")
    # What the budget does not pay for now, it does not pay for in the next batch either.
    spent_budget = refusal.reason if refusal and refusal.outcome is StageOutcome.SET_ASIDE else ""
    left = exploration.model_copy(update={"first": exploration.first[len(carried) :], "exhausted": spent_budget})
    if not claims:
        assert refusal is not None  # a batch has room for an idea
        # Nobody has another idea on this base: what there is can be claimed, and then the loop is over.
        exhausted = left.model_copy(update={"exhausted": refusal.reason, "concluded": exploration.concluding})
        return StageResult(StageOutcome.SET_ASIDE, refusal.reason, {"exploration": exhausted})
    own = batch.summary_claim(iteration, claims)
    iteration.write(iteration.paths.hypothesis, hypothesis.hypothesis_text(own, _listing(claims)))
    hypotheses = iteration.campaign.hypotheses + len(claims)
    return StageResult(StageOutcome.COMPLETE, campaign={"hypotheses": hypotheses, "exploration": left})


class _ProposedBatch:
    """The ideas that a batch has so far. Each is written into its folder as it comes."""

    def __init__(self, iteration: Iteration, exploration: Exploration, view: View) -> None:
        self.claims: list[Hypothesis] = []
        self.view = view
        self._iteration, self._exploration = iteration, exploration

    @property
    def missing(self) -> int:
        return self._exploration.size - len(self.claims)

    def next_idea(self, *, place: int | None = None, wanted: int = 1, with_code: bool = False) -> Iteration:
        """The iteration as the idea sees it that has the next id; `place` is its place if another one stays empty."""
        iteration, exploration = self._iteration, self._exploration
        place_in_batch = Batch(
            number=iteration.campaign.batches,
            size=exploration.size,
            place=place or len(self.claims) + 1,
            earlier=tuple(self.claims),
            concludes=exploration.concluding,
            wanted=wanted,
            with_code=with_code,
        )
        hypothesis_id = f"h{iteration.campaign.hypotheses + len(self.claims) + 1}"
        idea = iteration.of_idea(hypothesis_id, None, place_in_batch)
        # Why an earlier idea of the batch was refused is nothing to this one.
        return idea.tried(1, "") if self.claims else idea

    def add(self, idea: ProposedIdea) -> None:
        claim = idea.claim
        self.claims.append(claim)
        batch.add(self._iteration, idea)
        self.view(f"{claim.id}: {claim.title}")

    def take(self, outputs: Sequence[HypothesisOutput | str], researcher: Researcher) -> list[str]:
        """Add the ideas of one answer that may be tested, as far as there is room; a line for each that may not."""
        problems: list[str] = []
        for number, output in enumerate(outputs, 1):
            if not self.missing:
                self.view(f"  {len(outputs) - number + 1} more than were asked for: left out")
                break
            if isinstance(output, str):
                problems.append(output)
                continue
            idea = hypothesis.judged(self.next_idea(), output, researcher)
            if isinstance(idea, str):
                problems.append(f"idea {number} ({one_line(output.title, TITLE)}): {idea}")
            else:
                self.add(idea)
        return problems


def _ask_one_by_one(proposed: _ProposedBatch, requests: Requests) -> StageResult | None:
    """Fill the batch with one request an idea. Returns why the last one that is missing could not be had."""
    refusal: StageResult | None = None
    first_place = len(proposed.claims) + 1
    for place in range(first_place, first_place + proposed.missing):
        idea = proposed.next_idea(place=place)
        answer = hypothesis.ask(idea, requests)
        for attempt in range(2, TRIES + 1):
            # For the first idea the stage itself is tried again.
            if isinstance(answer, ProposedIdea) or answer.outcome is not StageOutcome.RETRY or not proposed.claims:
                break
            answer = hypothesis.ask(idea.tried(attempt, answer.reason), requests)
        if isinstance(answer, ProposedIdea):
            proposed.add(answer)
            continue
        refusal = answer
        # One that cannot be had, for a budget or for want of ideas, ends the asking; one that is bad does not.
        if answer.outcome is not StageOutcome.RETRY or not proposed.claims:
            break
    return refusal


def _ask_together(proposed: _ProposedBatch, requests: Requests) -> StageResult | None:
    """Fill the batch from one answer, and ask again for what is missing then. Returns why ideas are still missing."""
    refusal: StageResult | None = None
    failures = 0
    while proposed.missing and failures < TRIES:
        wanted = proposed.missing
        ideas = proposed.next_idea(wanted=wanted, with_code=requests.researcher.codes_ideas)
        if refusal is not None:
            ideas = ideas.tried(failures + 1, refusal.reason)
        answer = hypothesis.ask_together(ideas, requests)
        if isinstance(answer, StageResult):
            refusal, problems = answer, [answer.reason]
        else:
            problems = proposed.take(answer, requests.researcher)
            count = f"hypothesis: {wanted - proposed.missing} of {wanted} ideas can be tested"
            refusal = StageResult(StageOutcome.RETRY, "; ".join([count, *shortened(problems)]))
        # Without a first idea the stage itself is tried again.
        if refusal.outcome is not StageOutcome.RETRY or not proposed.claims:
            break
        # A model that gives one idea at a time, and a good one, is asked for the next.
        failures += bool(problems)
    return refusal if proposed.missing else None


def _carried(idea: Iteration, source: CarriedIdea) -> ProposedIdea:
    """An idea of an earlier batch under its new id. RecordError: its hypothesis is gone."""
    earlier = batch.proposed_before(idea, source.iteration_id, source.arm)
    update = {"id": idea.campaign.hypothesis_id, "parent": source.iteration_id}
    return dataclasses.replace(earlier, claim=earlier.claim.model_copy(update=update))


def _listing(claims: list[Hypothesis]) -> str:
    rows = [f"- {claim.id}: {plain(claim.title)}" for claim in claims]
    return "\n".join(rows)
