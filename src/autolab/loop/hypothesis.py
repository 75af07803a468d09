"""Stage hypothesis: a researcher proposes one claim that can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from autolab.errors import BudgetSpent
from autolab.ideas import lessons, past_ideas
from autolab.ideas.policy import plateau, repeated, same_idea, tired, worn_family
from autolab.lab import front_matter
from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord, Lesson
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import read_document
from autolab.lab.schemas.replies import CodedIdea, HypothesisOutput, IdeasOutput, ImplementationOutput
from autolab.loop.briefing import newest_curves
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, ValidReply, output_of
from autolab.loop.stage_prompt import source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import Markdown, inert, plain
from autolab.reports.rendering import render
from autolab.researchers.assembler import blueprint
from autolab.researchers.base import Batch, Researcher
from autolab.trials.progress import View


@dataclass(frozen=True)
class ProposedIdea:
    """A claim that may be tested, with its prose as finished Markdown, and its code if that came with it."""

    claim: Hypothesis
    body: str
    code: ImplementationOutput | None = None


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    idea = ask(iteration, requests)
    if isinstance(idea, StageResult):
        return idea
    claim = idea.claim
    iteration.write(iteration.paths.hypothesis, hypothesis_text(claim, idea.body))
    view(f"{claim.id}: {claim.title}")
    return StageResult(StageOutcome.COMPLETE)


def ask(iteration: Iteration, requests: Requests) -> ProposedIdea | StageResult:
    """An idea from the researcher; or the stage's result, if there is none to test."""
    output = output_of(_send(iteration, requests), HypothesisOutput)
    if isinstance(output, StageResult):
        return output
    idea = judged(iteration, output, requests.researcher)
    if isinstance(idea, str):
        return StageResult(StageOutcome.RETRY, f"hypothesis: {idea}")
    return idea


def ask_together(iteration: Iteration, requests: Requests) -> Sequence[HypothesisOutput | str] | StageResult:
    """The ideas of one answer, `batch.wanted` or another number of them, none of them judged yet.

    In the place of one that does not fit stands a line that says why. If there is no answer, the stage's result.
    """
    assert iteration.batch is not None
    reply = _send(iteration, requests)
    if iteration.batch.wanted == 1:
        output = output_of(reply, HypothesisOutput)
        return output if isinstance(output, StageResult) else [output]
    outputs = output_of(reply, IdeasOutput)
    return outputs if isinstance(outputs, StageResult) else outputs.entries()


def _send(iteration: Iteration, requests: Requests) -> ValidReply | StageResult | str:
    try:
        return requests.send(iteration, RequestKind.HYPOTHESIS, prompt_values(iteration))
    except BudgetSpent as error:
        if iteration.batch is None:
            raise
        # The batch goes on with the ideas that it has. A claim asks nobody, so it can still be made.
        return StageResult(StageOutcome.SET_ASIDE, f"budget: {error}")


def judged(iteration: Iteration, output: HypothesisOutput, researcher: Researcher) -> ProposedIdea | str:
    """A researcher's output as an idea; or one line that says why it may not be tested."""
    config, history = iteration.config, iteration.lessons()
    metric = config.metric
    # Of another metric the lab does not know whether more is better.
    if output.metric not in (None, metric.primary) and output.direction is None:
        return f"direction: missing for {output.metric}, which is not the lab's metric"
    claim = _claim(iteration.campaign.hypothesis_id or "", output, metric)
    # The ideas of a batch share one run, with one metric.
    if iteration.batch is not None and (claim.metric, claim.direction) != (metric.primary, metric.direction):
        measure = f"{metric.primary} ({metric.direction})"
        return f"metric: {claim.metric} ({claim.direction}), but a batch is measured by {measure}"
    problem = _repeated(iteration, claim, history)
    # A researcher that chooses families itself leaves out the waiting ones.
    if not problem and not researcher.chooses_families:
        problem = worn_family(claim, tired(history, iteration.campaign, config))
    if not problem:
        problem = blueprint.unfit(iteration.read_base, proposed_model(claim), claim.id)
    return problem or ProposedIdea(claim, _prose(output), _code(output))


def _code(output: HypothesisOutput) -> ImplementationOutput | None:
    """The code that came with an idea; None if its code is to be asked for."""
    code = output.implementation if isinstance(output, CodedIdea) else None
    # A network needs no code: the assembler writes it.
    if code is None or (code.is_empty and output.model is None):
        return None
    return code


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    config, history = iteration.config, iteration.lessons()
    told = past_ideas.history(history)
    if iteration.batch is not None:
        # At the end: what comes before it a service has read already.
        told = f"{told}\n\n{_batch_text(iteration.batch)}"
    return {
        "files": source_for_prompt(iteration.lab, config, iteration.base_commit, ""),
        "curves": newest_curves(iteration),
        "history": told,
        "failures": past_ideas.failures(history),
        "plateau": plateau(tired(history, iteration.campaign, config)),
        "method": blueprint.description(iteration.read_base),
        "wanted": _wanted(iteration.batch),
    }


def _wanted(batch: Batch | None) -> str:
    """How many ideas an answer is to hold, on one line."""
    text = "one"
    if batch is not None and batch.wanted > 1:
        text = (
            f"{batch.wanted}, in one answer: `ideas` is a list of them, of different mechanisms, each tested by itself"
        )
    if batch is not None and batch.with_code:
        text += ". If its code is a few edits, give it with the idea as `implementation`"
    return text


def _batch_text(batch: Batch) -> str:
    """What a prompt says of the batch that an idea is for."""
    place = f"This idea is number {batch.place}"
    if batch.wanted > 1:
        last = batch.place + batch.wanted - 1
        place = f"Give the ideas {batch.place} to {last} in one answer, as the list `ideas`: they are"
    text = (
        f"{place} of a batch of {batch.size}. All are screened: measured once, on the same base. The best may be"
        " built upon (provisional) in the next batch; the others are dropped. A screen proves nothing; a later claim"
        " on fresh seeds does."
    )
    parts = [text]
    if batch.earlier:
        titles = [f"- {lessons.cut(claim.title, 80)}" for claim in batch.earlier]
        parts.append("\n".join(["Already in the batch, so give another:", *titles]))
    return "\n\n".join(parts)


def _repeated(iteration: Iteration, claim: Hypothesis, history: Sequence[Lesson]) -> str:
    """Why the claim may not be tried (again); empty if it may."""
    batch = iteration.batch
    if batch is None:
        return repeated(claim, history, iteration.base_commit, iteration.config.attempts.same_idea)
    # The best point of a search may be one that was measured.
    if batch.concludes:
        return ""
    if any(same_idea(claim, earlier.title, earlier.changes) for earlier in batch.earlier):
        return "the batch has this idea already; give another"
    return repeated(claim, history, iteration.base_commit, iteration.config.attempts.same_idea)


def _claim(hypothesis_id: str, output: HypothesisOutput, metric: Metric) -> Hypothesis:
    """The reply as a claim. What it leaves out about the metric is the lab's."""
    changes = dict(output.changes)
    if output.model is not None:
        changes[blueprint.MODEL] = output.model
    return Hypothesis(
        id=hypothesis_id,
        title=output.title,
        metric=output.metric or metric.primary,
        direction=output.direction or metric.direction,
        success_delta=output.success_delta or metric.difference,
        success=output.success,
        risk_bounds=output.risk_bounds,
        mechanism=output.mechanism,
        references=output.references,
        family=output.family,
        changes=changes,
    )


def proposed_model(claim: Hypothesis) -> dict[str, JsonValue]:
    """The `model` of a design, as far as the hypothesis determines it."""
    if blueprint.MODEL not in claim.changes:
        return {}
    return {blueprint.MODEL: claim.changes[blueprint.MODEL]}


def _prose(output: HypothesisOutput) -> str:
    # The reply's text gets into documents that a browser may show: nothing in it may act there.
    parts: list[str] = [inert(output.body.strip() or output.mechanism)]
    if output.assumptions:
        rows = [f"- {plain(assumption)}" for assumption in output.assumptions]
        parts += ["## Assumptions", "\n".join(rows)]
    notes = output.notes.strip()
    if notes:
        parts += ["## Notes", inert(notes)]
    return "\n\n".join(parts)


def hypothesis_text(claim: Hypothesis, body: str = "") -> str:
    """The text of `hypothesis.md`. `body` is finished Markdown; if it is empty, the mechanism takes its place."""
    fields = Markdown(claim.to_yaml().removesuffix("\n"))
    return render("hypothesis", front_matter=fields, claim=claim, body=Markdown(body.strip()))


def carry_hypothesis(iteration: Iteration) -> None:
    """Copy the hypothesis of the iteration that this one refines, with `parent` set; nothing if there is none.

    If the decision to refine named a network, it replaces that of the hypothesis.
    """
    parent = iteration.campaign.parent
    if iteration.paths.hypothesis.exists() or parent is None:
        return
    source = iteration.lab.iteration(parent)
    name = iteration.relative(source.hypothesis)
    text = read_document(source.hypothesis, name)
    yaml, body = front_matter.split(text, name)
    claim = Hypothesis.from_text(yaml, name)
    changes = claim.changes
    record = iteration.load(IterationRecord, source.record)
    network = record.planning_decision.next_config
    if network is not None:
        changes = changes | {blueprint.MODEL: network}
    claim = claim.model_copy(update={"parent": parent, "changes": changes})
    iteration.write(iteration.paths.hypothesis, f"---\n{claim.to_yaml()}---\n{body}")
