"""Stage hypothesis: a researcher proposes one claim that can be tested."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from autolab.errors import BudgetSpent
from autolab.ideas import lessons, past_ideas
from autolab.ideas.policy import plateau, repeated, same_idea, tired, worn_family
from autolab.lab import front_matter
from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Hypothesis, IterationRecord, Lesson
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import read_document
from autolab.lab.schemas.replies import HypothesisOutput
from autolab.loop.briefing import newest_curves
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.request import Requests, output_of, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.reports.markup import Markdown, inert, plain
from autolab.reports.rendering import render
from autolab.researchers.assembler import blueprint
from autolab.trials.progress import View


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    answer = ask(iteration, requests)
    if isinstance(answer, StageResult):
        return answer
    claim, body = answer
    iteration.write(iteration.paths.hypothesis, hypothesis_text(claim, body))
    view(f"{claim.id}: {claim.title}")
    return StageResult(StageOutcome.COMPLETE)


def ask(iteration: Iteration, requests: Requests) -> tuple[Hypothesis, str] | StageResult:
    """A claim with its prose, as Markdown, from the researcher; or the stage's result, if there is none to test."""
    config, history = iteration.config, iteration.lessons()
    families = tired(history, iteration.campaign, config)
    try:
        reply = requests.send(iteration, RequestKind.HYPOTHESIS, prompt_values(iteration))
    except BudgetSpent as error:
        if iteration.batch is None:
            raise
        # The batch goes on with the ideas that it has. A claim asks nobody, so it can still be made.
        return StageResult(StageOutcome.SET_ASIDE, f"budget: {error}")
    output = output_of(reply, HypothesisOutput)
    if isinstance(output, StageResult):
        return output
    metric = config.metric
    # Of another metric the lab does not know whether more is better.
    if output.metric not in (None, metric.primary) and output.direction is None:
        reason = f"direction: missing for {output.metric}, which is not the lab's metric"
        return StageResult(StageOutcome.RETRY, f"hypothesis: {reason}")
    claim = _claim(iteration.campaign.hypothesis_id or "", output, metric)
    reason = _repeated(iteration, claim, history)
    # A researcher that chooses families itself leaves out the waiting ones.
    if not reason and not requests.researcher.chooses_families:
        reason = worn_family(claim, families)
    if not reason:
        reason = blueprint.unfit(iteration.read_base, proposed_model(claim), claim.id)
    if reason:
        return StageResult(StageOutcome.RETRY, f"hypothesis: {reason}")
    return claim, _prose(output)


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    config, history = iteration.config, iteration.lessons()
    told = past_ideas.history(history)
    if iteration.batch is not None:
        told = f"{_batch_told(iteration)}\n\n{told}"
    return {
        "files": source_for_prompt(iteration.lab, config, iteration.base_commit, ""),
        "curves": newest_curves(iteration),
        "history": told,
        "failures": past_ideas.failures(history),
        "plateau": plateau(tired(history, iteration.campaign, config)),
        "method": blueprint.description(iteration.read_base),
    }


def _batch_told(iteration: Iteration) -> str:
    """What a prompt says of the batch that the idea is for, and of the base that it is measured on."""
    batch = iteration.batch
    assert batch is not None
    told = (
        f"This idea is number {batch.place} of a batch of {batch.size}. All are screened: measured once, on the"
        " same base. The best may be built upon (provisional) in the next batch; the others are dropped. A screen"
        " proves nothing; a later claim on fresh seeds does."
    )
    parts = [told]
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
