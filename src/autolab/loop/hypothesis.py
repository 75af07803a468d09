"""Stage hypothesis: a researcher proposes one claim that can be tested."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from autolab.ideas import lessons
from autolab.ideas.policy import plateau, repeated, tired, worn_family
from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord, Lesson
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import HypothesisOutput
from autolab.loop.iteration import Iteration, StageResult, front_matter, read_document
from autolab.loop.request import Requests, output_of
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import Markdown, inert, plain
from autolab.reports.rendering import render
from autolab.researchers.assembler import blueprint
from autolab.trials.progress import View

# hypothesis


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    learned = iteration.lessons()
    waiting = tired(learned, iteration.campaign, iteration.config)
    values = {
        "history": lessons.told(learned),
        "plateau": plateau(waiting),
        "method": blueprint.told(iteration.read_base),
    }
    output = output_of(requests.send(iteration, RequestKind.HYPOTHESIS, values), HypothesisOutput)
    if isinstance(output, StageResult):
        return output
    metric = iteration.config.metric
    if output.metric is not None and output.metric != metric.primary and output.direction is None:
        return StageResult(
            StageOutcome.RETRY, f"hypothesis: direction: missing for {output.metric}, which is not the lab's"
        )
    claim = _claim(iteration.campaign.hypothesis_id or "", output, metric)
    families_waiting = () if requests.researcher.chooses_families else waiting
    refused = _unwanted(iteration, claim, learned, families_waiting)
    if refused:
        return StageResult(StageOutcome.RETRY, f"hypothesis: {refused}")
    iteration.write(iteration.paths.hypothesis, hypothesis_text(claim, _prose(output)))
    view(f"{claim.id}: {claim.title}")
    return StageResult(StageOutcome.COMPLETE)


def _claim(hypothesis_id: str, output: HypothesisOutput, metric: Metric) -> Hypothesis:
    """The answer as a claim; what it leaves out about the metric is the lab's."""
    model: dict[str, JsonValue] = {}
    if output.model is not None:
        model[blueprint.MODEL] = output.model
    return Hypothesis(
        id=hypothesis_id,
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
        changes=output.changes | model,
    )


def _unwanted(iteration: Iteration, claim: Hypothesis, learned: Sequence[Lesson], waiting: Sequence[Lesson]) -> str:
    """Why the claim is not to be tried: it was, its family is tired, or its network cannot be built.

    `waiting` are the lessons whose families have to wait; empty for a researcher that leaves them out by itself.
    """
    return (
        repeated(claim, learned, iteration.base_commit, iteration.config.attempts.same_idea)
        or worn_family(claim, waiting)
        or blueprint.unfit(iteration.read_base, proposed_model(claim), claim.id)
    )


def proposed_model(claim: Hypothesis) -> dict[str, JsonValue]:
    """A design's `model` as far as the hypothesis says it."""
    return {blueprint.MODEL: claim.changes[blueprint.MODEL]} if blueprint.MODEL in claim.changes else {}


def _prose(output: HypothesisOutput) -> str:
    parts: list[str] = [inert(output.body.strip() or output.mechanism)]
    if output.assumptions:
        parts += ["## Assumptions", "\n".join(f"- {plain(one)}" for one in output.assumptions)]
    if output.notes.strip():
        parts += ["## Notes", inert(output.notes.strip())]
    return "\n\n".join(parts)


def hypothesis_text(claim: Hypothesis, body: str = "") -> str:
    """The text of `hypothesis.md`. `body` is finished Markdown; if it is empty, the mechanism takes its place."""
    front_matter = Markdown(claim.to_yaml().removesuffix("\n"))
    return render("hypothesis", front_matter=front_matter, claim=claim, body=Markdown(body.strip()))


def carry_hypothesis(iteration: Iteration) -> None:
    """A refinement keeps its hypothesis: copy it from the iteration before, with `parent` set.

    The network that the decision to refine named takes the place of the hypothesis's.
    """
    parent = iteration.campaign.parent
    if iteration.paths.hypothesis.exists() or parent is None:
        return
    source = iteration.lab.iteration(parent).hypothesis
    name = iteration.relative(source)
    text = read_document(source, name)
    front = front_matter(text, name)
    claim = Hypothesis.from_text(front, name).model_copy(update={"parent": parent})
    record = iteration.load(IterationRecord, iteration.lab.iteration(parent).record)
    network = record.planning_decision.next_config
    if network is not None:
        claim = claim.model_copy(update={"changes": claim.changes | {blueprint.MODEL: network}})
    body = text.removeprefix(f"---\n{front}")
    iteration.write(iteration.paths.hypothesis, f"---\n{claim.to_yaml()}{body}")
