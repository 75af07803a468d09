"""Stage hypothesis: a researcher proposes one claim that can be tested."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from autolab.ideas import lessons
from autolab.ideas.policy import plateau, repeated, tired, worn_family
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord, Lesson
from autolab.lab.schemas.replies import HypothesisOutput
from autolab.loop.iteration import Iteration, StageResult, front_matter, in_base, read, recalled
from autolab.loop.request import answered, ask
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import inert, plain
from autolab.researchers.assembler import blueprint

# hypothesis


def run(desk: Iteration) -> StageResult:
    known = recalled(desk)
    waiting = tired(known, desk.campaign, desk.config)
    values = {
        "history": lessons.told(known),
        "plateau": plateau(waiting),
        "method": blueprint.told(in_base(desk)),
    }
    output = answered(ask(desk, values), HypothesisOutput)
    if isinstance(output, StageResult):
        return output
    metric = desk.config.metric
    if output.metric is not None and output.metric != metric.primary and output.direction is None:
        return StageResult(
            StageOutcome.RETRY, f"hypothesis: direction: missing for {output.metric}, which is not the lab's"
        )
    claim = Hypothesis(
        id=desk.campaign.hypothesis_id or "",
        title=output.title,
        metric=output.metric or metric.primary,
        direction=output.direction or metric.direction,
        success_delta=output.success_delta or metric.success_delta,
        success=output.success,
        risk_bounds=output.risk_bounds,
        mechanism=output.mechanism,
        references=output.references,
        parent=None,
        family=output.family,
        changes=output.changes | ({blueprint.MODEL: output.model} if output.model is not None else {}),
    )
    refused = _unwanted(desk, claim, known, waiting)
    if refused:
        return StageResult(StageOutcome.RETRY, f"hypothesis: {refused}")
    write_hypothesis(desk, claim, _prose(output))
    desk.tell(f"{claim.id}: {claim.title}")
    return StageResult(StageOutcome.COMPLETE)


def _unwanted(desk: Iteration, claim: Hypothesis, known: Sequence[Lesson], waiting: Sequence[Lesson]) -> str:
    """Why the claim is not to be tried: it was, its family is tired, or its network cannot be built."""
    base, allowed = desk.campaign.base_commit or "", desk.config.attempts.same_idea
    worn = "" if desk.researcher.chooses_families else worn_family(claim, waiting)
    return (
        repeated(claim, known, base, allowed) or worn or blueprint.unfit(in_base(desk), proposed_model(claim), claim.id)
    )


def proposed_model(claim: Hypothesis) -> dict[str, JsonValue]:
    """A design's `model` as far as the hypothesis says it."""
    return {blueprint.MODEL: claim.changes[blueprint.MODEL]} if blueprint.MODEL in claim.changes else {}


def _prose(output: HypothesisOutput) -> str:
    parts = [inert(output.body.strip() or output.mechanism)]
    if output.assumptions:
        parts += ["## Assumptions", "\n".join(f"- {plain(one)}" for one in output.assumptions)]
    if output.notes.strip():
        parts += ["## Notes", inert(output.notes.strip())]
    return "\n\n".join(parts)


def write_hypothesis(desk: Iteration, claim: Hypothesis, body: str) -> None:
    """`body` is Markdown of the engine's."""
    prose = body.strip() or inert(claim.mechanism)
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}---\n\n# {plain(claim.title)}\n\n{prose}\n")


def carry_hypothesis(desk: Iteration) -> None:
    """A refinement keeps its hypothesis: copy it from the iteration before, with `parent` set.

    The network that the decision to refine named takes the place of the hypothesis's.
    """
    parent = desk.campaign.parent
    if desk.paths.hypothesis.exists() or parent is None:
        return
    source = desk.lab.iteration(parent).hypothesis
    text = read(source, desk.shown(source))
    front = front_matter(text, desk.shown(source))
    claim = Hypothesis.from_text(front, desk.shown(source)).model_copy(update={"parent": parent})
    decided = desk.load(IterationRecord, desk.lab.iteration(parent).record).planning_decision.next_config
    if decided is not None:
        claim = claim.model_copy(update={"changes": claim.changes | {blueprint.MODEL: decided}})
    body = text.removeprefix(f"---\n{front}")
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}{body}")
