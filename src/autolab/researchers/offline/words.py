"""The sentences of the offline researcher. The engine adds the numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from autolab.ideas.lessons import cut
from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Confirmation, Hypothesis, Lesson, Results
from autolab.lab.schemas.outcomes import Verdict
from autolab.lab.schemas.replies import MANY, DocsOutput, HypothesisOutput, PaperUpdate
from autolab.researchers.base import Documents
from autolab.researchers.offline import bandit
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench
from autolab.researchers.offline.catalogue import Mechanism

NAMED = 3
"""Parts of an idea, and families, that are named; of more, `SHORT` and the number of the others."""
SHORT = 2
FAMILIES = 3
_LONGEST_NAME, _LONGEST_REASON = 60, 120
"""Characters of a part's name, and of why it may help, where there are many."""
_SEARCHED = (
    "A model of the scores of all points that were screened on this base proposes them together: each of those points"
    " tells something about each of its parts."
)


def title(idea: Idea) -> str:
    """`GELU activations and depthwise-separable convolutions`; with the dose, if the mechanism has several.

    Of many parts the first two, the number of the others and a mark: no two ideas have the same title.
    """
    names: list[str] = []
    for mechanism, value in idea.parts:
        name = _name(mechanism, value)
        # Within a title a word begins small, an acronym (GELU) does not.
        if names and (name[1:2].islower() or name.startswith("A ")):
            name = name[0].lower() + name[1:]
        names.append(name)
    if len(names) > NAMED:
        shown = [cut(name, _LONGEST_NAME) for name in names[:SHORT]]
        return f"{', '.join(shown)}, and {len(names) - SHORT} more ({mark(idea.changes)})"
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def mark(changes: Mapping[str, JsonValue]) -> str:
    """Six letters and digits that tell changes from others."""
    return hashlib.sha256(bandit.key(changes).encode()).hexdigest()[:6]


def _name(mechanism: Mechanism, value: JsonValue) -> str:
    name = mechanism.called(value)
    if name is not None:
        return name
    if len(mechanism.values) == 1:
        return mechanism.title
    return f"{mechanism.title} ({mechanism.dose.replace('{}', str(value))})"


def changes_title(changes: Mapping[str, JsonValue], bench: Bench) -> str:
    """Changes as a title."""
    parts = []
    for change, value in changes.items():
        mechanism = bench.part(change, value)
        if mechanism is not None:
            parts.append((mechanism, value))
    # Doses that are not the catalogue's have no title.
    return title(Idea(tuple(parts))) if parts else ", ".join(changes)


def hypothesis(idea: Idea, metric: Metric, lessons: Sequence[Lesson]) -> HypothesisOutput:
    references: list[str] = []
    for mechanism, _ in idea.parts:
        references += mechanism.references
    rationale = _rationale(idea)
    better = "lower" if metric.direction == "minimize" else "higher"
    # Twice the guess: what a mechanism costs depends on the machine.
    slowdown = max(2.0, 2 * idea.cost)
    return HypothesisOutput(
        title=title(idea),
        mechanism=rationale,
        success=f"{metric.primary} is {better} by at least {metric.difference:g} on average, paired by seed",
        risk_bounds=(f"a trial takes at most {slowdown:.0f} times as long as a trial of the base",),
        references=tuple(dict.fromkeys(references))[:MANY],
        family=family(idea),
        changes=idea.changes,
        body=f"{_body(idea, rationale)}\n\n{_history(idea, lessons)}",
    )


def family(idea: Idea) -> str:
    """The families of the idea's parts, joined by `+`; of many the first, and `more`."""
    names = idea.families
    if len(names) > FAMILIES:
        names = (*names[:FAMILIES], "more")
    return "+".join(names)


def _rationale(idea: Idea) -> str:
    """Why the parts should help; of many, which they are."""
    if len(idea.parts) <= NAMED:
        return " ".join(mechanism.rationale for mechanism, _ in idea.parts)
    names = [cut(_name(mechanism, value), _LONGEST_NAME) for mechanism, value in idea.parts]
    return f"{len(names)} parts change together: {'; '.join(names)}. {_SEARCHED}"


def _body(idea: Idea, rationale: str) -> str:
    """The rationale, and of many parts the reason of each."""
    if len(idea.parts) <= NAMED:
        return rationale
    lines = []
    for mechanism, value in idea.parts[:MANY]:
        lines.append(f"- {cut(_name(mechanism, value), _LONGEST_NAME)}: {cut(mechanism.rationale, _LONGEST_REASON)}")
    return f"{rationale}\n\n" + "\n".join(lines)


def _history(idea: Idea, lessons: Sequence[Lesson]) -> str:
    """What the lab knows of the idea's first families."""
    sentences = []
    for name in idea.families[:FAMILIES]:
        verdicts = [lesson.verdict for lesson in lessons if name in bandit.families_of(lesson)]
        if not verdicts:
            sentences.append(f"The family {name} was not tried here yet.")
            continue
        supported = verdicts.count(Verdict.SUPPORTED)
        iterations = "1 iteration" if len(verdicts) == 1 else f"{len(verdicts)} iterations"
        sentences.append(f"The family {name} was tried in {iterations} so far; {supported} supported.")
    return " ".join(sentences)


def docs(documents: Documents, paper_targets: Sequence[str], parameters: tuple[int, int] | None) -> DocsOutput:
    """Observation, inference and claim, each by itself; a section for the first paper target."""
    assert documents.hypothesis is not None and documents.results is not None and documents.design is not None
    hypothesis, results = documents.hypothesis, documents.results
    inference, claim = _meaning(hypothesis, results)
    cited = f" ({'; '.join(hypothesis.references)})" if hypothesis.references else ""
    # No number of the result: the engine adds those, from the record.
    section = [
        f"### {hypothesis.title}",
        f"{hypothesis.mechanism}{cited}",
        f"The arms differ in nothing else.{_size(parameters)} {claim}",
    ]
    updates: tuple[PaperUpdate, ...] = ()
    if paper_targets:
        updates = (PaperUpdate(path=paper_targets[0], text="\n\n".join(section)),)
    return DocsOutput(
        observation=_observation(results, documents.design.variants[0].name, hypothesis.metric),
        inference=inference,
        claim=claim,
        paper=updates,
        no_changes=None if updates else "the lab names no paper target",
    )


def _observation(results: Results, variant: str, metric: str) -> str:
    """How the variant scored beside its baseline, on fresh seeds if it was trained on them."""
    confirmation, comparisons = results.confirmation, results.assessment.comparisons
    seeds = "with the same seeds"
    if confirmation is not None and confirmation.difference.n:
        variant, gain = confirmation.arm, confirmation.difference.mean
        seeds = "with the same fresh seeds"
    elif comparisons:
        lead = max(comparisons, key=lambda compared: compared.difference.mean)
        variant, gain = lead.arm, lead.difference.mean
    else:
        return f"`{variant}` was not measured."
    score = "a better" if gain > 0 else "a worse"
    if gain == 0:
        return f"`{variant}` has the same mean {metric} as its baseline {seeds}."
    return f"`{variant}` has {score} mean {metric} than its baseline {seeds}."


def _size(parameters: tuple[int, int] | None) -> str:
    if parameters is None or parameters[0] == parameters[1]:
        return ""
    return f" The candidate has {parameters[1]:,} parameters, the base has {parameters[0]:,}."


def _meaning(hypothesis: Hypothesis, results: Results) -> tuple[str, str]:
    """Inference and claim for the verdict on a hypothesis."""
    verdict, reason = results.assessment.verdict, results.assessment.reason
    confirmation = results.confirmation
    better = "lowers" if hypothesis.direction == "minimize" else "raises"
    if verdict is Verdict.SUPPORTED:
        inference = "The gain is what the hypothesis expects."
        effect = f"The change {better} {hypothesis.metric} on this data at this training length."
        return inference, f"{effect} {_evidence(confirmation)}."
    if reason == "retracted":
        inference = "The search keeps the largest gain that it sees, which is partly luck. This one did not repeat."
        return inference, "Nothing is claimed."
    # The verdict here is inconclusive: the claim needs the holdout as well.
    if reason == "search_only":
        why = "no question to the holdout was left"
        # The holdout speaks against the gain, or there was no question left to put to it.
        if confirmation is not None and confirmation.holdout == "failed":
            why = "the holdout does not show it"
        inference = (
            "The gain repeated on fresh seeds, so it was not luck of the search. It may hold on this evaluation only."
        )
        return inference, f"Nothing is claimed, because {why}."
    if verdict is Verdict.REFUTED:
        inference = "The mechanism does not work here, or the base already has its benefit in another way."
        gains = [comparison.difference.mean for comparison in results.assessment.comparisons]
        if gains and max(gains) < 0:
            inference = "The change made the result worse. The experiment does not show why."
        claim = "The change gives no gain of the wanted size on this base. Another base may give another result."
        return inference, claim
    if reason == "no_change":
        return "The change could not be made to work here.", "Nothing was learned about the mechanism."
    inference = "If there is an effect, it is too small or too variable to show with this number of pairs."
    return inference, "Nothing is claimed, because the question is open."


def _evidence(confirmation: Confirmation | None) -> str:
    """What is known of a supported gain beyond the search."""
    if confirmation is None:
        return "The gain is not yet measured on fresh seeds"
    if confirmation.holdout == "passed":
        return "Fresh seeds and the holdout agree"
    if confirmation.holdout == "used_up":
        return "Fresh seeds agree; no question to the holdout was left"
    return "Fresh seeds agree"


def onward(results: Results, supported: bool) -> str:
    """Why the next hypothesis is a new one."""
    if supported:
        return "This change is kept and is the new baseline."
    if results.assessment.verdict is Verdict.REFUTED:
        return "This one is refuted."
    return "This one stays open."
