"""What the offline researcher says. Words only: the engine puts the numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Confirmation, Lesson, Results
from autolab.lab.schemas.outcomes import Verdict
from autolab.lab.schemas.replies import DocsOutput, HypothesisOutput, PaperUpdate
from autolab.researchers.base import Documents
from autolab.researchers.offline import bandit
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench
from autolab.researchers.offline.catalogue import Mechanism


def title(idea: Idea) -> str:
    """`GELU activations and depthwise-separable convolutions`; a dose is named where there are several."""
    names = [_named(mechanism, value) for mechanism, value in idea.parts]
    names = names[:1] + [name[0].lower() + name[1:] if name[1:2].islower() else name for name in names[1:]]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _named(mechanism: Mechanism, value: JsonValue) -> str:
    if (own := mechanism.called(value)) is not None:
        return own
    if len(mechanism.values) == 1:
        return mechanism.title
    return f"{mechanism.title} ({mechanism.dose.replace('{}', str(value))})"


def changes_title(changes: Mapping[str, JsonValue], bench: Bench) -> str:
    """Changes as a title."""
    parts = bandit.parts_of(changes, bench.mechanisms)
    return title(Idea(tuple(parts))) if parts else ", ".join(changes)


def hypothesis(idea: Idea, metric: Metric, lessons: Sequence[Lesson]) -> HypothesisOutput:
    mechanisms = [mechanism for mechanism, _ in idea.parts]
    why = " ".join(mechanism.rationale for mechanism in mechanisms)
    better = "lower" if metric.direction == "minimize" else "higher"
    return HypothesisOutput(
        title=title(idea),
        mechanism=why,
        success=f"{metric.primary} is {better} by at least {metric.success_delta:g} on average, paired by seed",
        risk_bounds=(f"a trial takes at most {max(2.0, 2 * idea.cost):.0f} times as long as the base's",),
        references=tuple(reference for mechanism in mechanisms for reference in mechanism.references),
        family="+".join(idea.families),
        changes=idea.changes,
        body=f"{why}\n\n{_grounds(idea, lessons)}",
    )


def _grounds(idea: Idea, lessons: Sequence[Lesson]) -> str:
    """Why this and why now: what is known of the families."""
    sentences = []
    for family in idea.families:
        of = [lesson for lesson in lessons if family in bandit.families_of(lesson)]
        good = sum(lesson.verdict is Verdict.SUPPORTED for lesson in of)
        word = "iteration" if len(of) == 1 else "iterations"
        sentences.append(
            f"The family {family} was tried in {len(of)} {word} so far, {good} of them supported."
            if of
            else f"Nothing of the family {family} was tried here yet."
        )
    return " ".join(sentences)


def docs(documents: Documents, paper_targets: Sequence[str], parameters: tuple[int, int] | None) -> DocsOutput:
    """Observation, inference and claim apart; a section for each paper target."""
    assert documents.hypothesis is not None and documents.results is not None and documents.design is not None
    claim = documents.hypothesis
    arm = documents.design.variants[0].name
    cost = _cost(parameters)
    observation = f"`{arm}` and its baseline were trained on the same seeds, data and settings.{cost}"
    inference, held = _meaning(claim.title, documents.results, parameters)
    paper = [
        f"### {claim.title}",
        f"{claim.mechanism}{_cited(claim.references)}",
        f"The arms differ in this alone.{cost} {held}",
    ]
    updates = [PaperUpdate(path=path, text="\n\n".join(paper)) for path in paper_targets[:1]]
    return DocsOutput(
        observation=observation,
        inference=inference,
        claim=held,
        paper=tuple(updates),
        no_changes=None if updates else "the lab names no paper target",
    )


def _cost(parameters: tuple[int, int] | None) -> str:
    if parameters is None or parameters[0] == parameters[1]:
        return ""
    return f" The candidate has {parameters[1]:,} parameters, the base {parameters[0]:,}."


def _cited(references: Sequence[str]) -> str:
    return f" ({'; '.join(references)})" if references else ""


def _meaning(name: str, results: Results, parameters: tuple[int, int] | None) -> tuple[str, str]:
    """Inference and claim for the verdict on the hypothesis called `name`."""
    verdict, reason = results.assessment.verdict, results.assessment.reason
    if verdict is Verdict.SUPPORTED:
        grown = parameters is not None and parameters[1] > 1.2 * parameters[0]
        other = " The candidate is larger too, and this design does not tell the two apart." if grown else ""
        inference = f"The difference fits the mechanism; nothing else differs between the arms.{other}"
        again = results.confirmation
        return inference, f"{name}: better here, at this training length and on this data; {_standing(again)}."
    if reason == "retracted":
        inference = "The gain of the search was picked for being large, and did not come back: chance fits it better."
        return inference, f"{name}: nothing is claimed."
    if reason == "search_only":
        again = results.confirmation
        holdout_answered = again is not None and again.holdout == "failed"
        why = "the holdout does not show it" if holdout_answered else "the holdout could not be asked any more"
        inference = "The gain came back on fresh seeds: it is no luck of the search. It may fit this evaluation alone."
        return inference, f"{name}: better on this evaluation, and not claimed, since {why}."
    if verdict is Verdict.REFUTED:
        inference = "Either the mechanism is not at work here, or the base has what it would bring by other means."
        return inference, f"{name}: no gain worth having on this base. Another base could answer differently."
    if reason == "no_change":
        return "The change could not be made to work here.", f"{name}: nothing was learned of the mechanism."
    inference = "If there is an effect, it is too small or too variable for this number of pairs to show."
    return inference, f"{name}: open."


def _standing(again: Confirmation | None) -> str:
    """What is known of a supported gain beyond the search that found it."""
    if again is None:
        return "not yet measured on fresh seeds"
    holdout = {"passed": ", and the holdout agrees", "used_up": "; the holdout could not be asked any more"}
    return f"measured on fresh seeds too{holdout.get(again.holdout, '')}"


def onward(results: Results, supported: bool) -> str:
    """Why the next hypothesis is a new one."""
    if supported:
        return "supported: the next candidate builds on it"
    if results.assessment.verdict is Verdict.REFUTED:
        return "refuted: on to what else could pay"
    return "nothing shown either way: on to what else could pay"
