"""The sentences of the offline researcher. The engine adds the numbers."""

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
    """`GELU activations and depthwise-separable convolutions`; with the dose, if the mechanism has several."""
    names: list[str] = []
    for mechanism, value in idea.parts:
        name = _name(mechanism, value)
        # Within a title a word begins small, an acronym (GELU) does not.
        if names and name[1:2].islower():
            name = name[0].lower() + name[1:]
        names.append(name)
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _name(mechanism: Mechanism, value: JsonValue) -> str:
    name = mechanism.called(value)
    if name is not None:
        return name
    if len(mechanism.values) == 1:
        return mechanism.title
    return f"{mechanism.title} ({mechanism.dose.replace('{}', str(value))})"


def changes_title(changes: Mapping[str, JsonValue], bench: Bench) -> str:
    """Changes as a title."""
    parts = bandit.parts_of(changes, bench.mechanisms)
    # Doses that are not the catalogue's have no title.
    return title(Idea(tuple(parts))) if parts else ", ".join(changes)


def hypothesis(idea: Idea, metric: Metric, lessons: Sequence[Lesson]) -> HypothesisOutput:
    references: list[str] = []
    rationales = []
    for mechanism, _ in idea.parts:
        references += mechanism.references
        rationales.append(mechanism.rationale)
    rationale = " ".join(rationales)
    better = "lower" if metric.direction == "minimize" else "higher"
    # Twice the guess: what a mechanism costs depends on the machine.
    slowdown = max(2.0, 2 * idea.cost)
    return HypothesisOutput(
        title=title(idea),
        mechanism=rationale,
        success=f"{metric.primary} is {better} by at least {metric.success_delta:g} on average, paired by seed",
        risk_bounds=(f"a trial takes at most {slowdown:.0f} times as long as a trial of the base",),
        references=tuple(references),
        family="+".join(idea.families),
        changes=idea.changes,
        body=f"{rationale}\n\n{_history(idea, lessons)}",
    )


def _history(idea: Idea, lessons: Sequence[Lesson]) -> str:
    """What the lab knows of the idea's families."""
    sentences = []
    for family in idea.families:
        verdicts = [lesson.verdict for lesson in lessons if family in bandit.families_of(lesson)]
        if not verdicts:
            sentences.append(f"The family {family} was not tried here yet.")
            continue
        supported = verdicts.count(Verdict.SUPPORTED)
        iterations = "1 iteration" if len(verdicts) == 1 else f"{len(verdicts)} iterations"
        sentences.append(f"The family {family} was tried in {iterations} so far; {supported} supported.")
    return " ".join(sentences)


def docs(documents: Documents, paper_targets: Sequence[str], parameters: tuple[int, int] | None) -> DocsOutput:
    """Observation, inference and claim, each by itself; a section for the first paper target."""
    assert documents.hypothesis is not None and documents.results is not None and documents.design is not None
    hypothesis = documents.hypothesis
    arm = documents.design.variants[0].name
    size = _size(parameters)
    inference, claim = _meaning(hypothesis.title, documents.results, parameters)
    cited = f" ({'; '.join(hypothesis.references)})" if hypothesis.references else ""
    # No number of the result: the engine adds those, from the record.
    section = [
        f"### {hypothesis.title}",
        f"{hypothesis.mechanism}{cited}",
        f"The arms differ in nothing else.{size} {claim}",
    ]
    updates: tuple[PaperUpdate, ...] = ()
    if paper_targets:
        updates = (PaperUpdate(path=paper_targets[0], text="\n\n".join(section)),)
    return DocsOutput(
        observation=f"`{arm}` differs from its baseline in this change alone. Both trained on the same seeds.{size}",
        inference=inference,
        claim=claim,
        paper=updates,
        no_changes=None if updates else "the lab names no paper target",
    )


def _size(parameters: tuple[int, int] | None) -> str:
    if parameters is None or parameters[0] == parameters[1]:
        return ""
    return f" The candidate has {parameters[1]:,} parameters, the base has {parameters[0]:,}."


def _meaning(name: str, results: Results, parameters: tuple[int, int] | None) -> tuple[str, str]:
    """Inference and claim for the verdict on the hypothesis called `name`."""
    verdict, reason = results.assessment.verdict, results.assessment.reason
    confirmation = results.confirmation
    if verdict is Verdict.SUPPORTED:
        inference = "The gain agrees with the mechanism. The arms differ in nothing else."
        if parameters is not None and parameters[1] > 1.2 * parameters[0]:
            ratio = f"{parameters[1] / parameters[0]:.2g} times the parameters"
            inference = f"The gain agrees with the mechanism. But the candidate also has {ratio} of the base,"
            inference += " and this experiment cannot tell which of the two caused the gain."
        return inference, f"{name}: better on this data at this training length; {_evidence(confirmation)}."
    if reason == "retracted":
        inference = "The search keeps the largest gain that it sees, which is partly luck. This one did not repeat."
        return inference, f"{name}: nothing is claimed."
    # The verdict here is inconclusive: the claim needs the holdout as well.
    if reason == "search_only":
        why = "no question to the holdout was left"
        # The holdout speaks against the gain, or there was no question left to put to it.
        if confirmation is not None and confirmation.holdout == "failed":
            why = "the holdout does not show it"
        inference = (
            "The gain repeated on fresh seeds, so it was not luck of the search. It may hold on this evaluation only."
        )
        return inference, f"{name}: better on this evaluation, and not claimed: {why}."
    if verdict is Verdict.REFUTED:
        inference = "The mechanism does not work here, or the base already has its benefit in another way."
        gains = [comparison.difference.mean for comparison in results.assessment.comparisons]
        if gains and max(gains) < 0:
            inference = "The change made the result worse. The experiment does not show why."
        return inference, f"{name}: no gain of the wanted size on this base. Another base may give another result."
    if reason == "no_change":
        return "The change could not be made to work here.", f"{name}: nothing was learned about the mechanism."
    inference = "If there is an effect, it is too small or too variable to show with this number of pairs."
    return inference, f"{name}: undecided."


def _evidence(confirmation: Confirmation | None) -> str:
    """What is known of a supported gain beyond the search."""
    if confirmation is None:
        return "not yet measured on fresh seeds"
    if confirmation.holdout == "passed":
        return "also measured on fresh seeds, and the holdout agrees"
    if confirmation.holdout == "used_up":
        return "also measured on fresh seeds; no question to the holdout was left"
    return "also measured on fresh seeds"


def onward(results: Results, supported: bool) -> str:
    """Why the next hypothesis is a new one."""
    if supported:
        return "supported: the next candidate builds on it"
    if results.assessment.verdict is Verdict.REFUTED:
        return "refuted: try another mechanism"
    return "inconclusive: try another mechanism"
