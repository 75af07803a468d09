"""The words for the outcome of a hypothesis, and what each word means in one plain sentence.

A heading is the verdict with the outcome: `supported, kept`, `inconclusive, futile`. `MEANINGS` is the one table
of sentences. `explained` picks the words that an experiment used, with its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Comparison, Confirmation, Results
from autolab.lab.schemas.outcomes import Verdict
from autolab.stats import rules

MORE_CUT = "more_cut"
"""The reason for a retraction although the mean gain was repeated: more of the variant's trials were cut."""
ALONE = "on this evaluation alone"
"""Goes with every claim that no holdout has tested."""
MEANINGS: dict[str, str] = {
    "supported": "The CI of the gain lies above 0 (a useless change passes at most {keep}), and the mean gain is at"
    " least {least}.",
    "refuted": "A gain of {delta} or more in {metric} is ruled out. A change with such a gain is refuted by mistake at"
    " most {rule_out}.",
    "inconclusive": "A gain in {metric} is neither shown nor ruled out, so nothing is claimed.",
    "criterion": "A limit that was set before the run is not met, whatever the gain is.",
    "futile": "After {pairs} pairs a gain of {delta} or more in {metric} had become unlikely, so the run stopped to"
    " save trials. A change with such a gain is given up by mistake at most {give_up}.",
    "budget": "All {pairs} planned pairs are used, and they neither show a gain in {metric} nor rule out one of"
    " {delta}.",
    "no_change": "The variant scored exactly as the baseline in every pair, so the change has no measured effect.",
    "deterministic": "The seed has no effect on this training, so more seeds prove nothing{instead}.",
    "screened": "The gain in {metric} was measured at few seeds, to choose what to build upon. Nothing is claimed.",
    "provisional": "The screened gain in {metric} looked worth building upon. It is not claimed before a claim has"
    " measured the sum of such steps on fresh seeds.",
    "dropped": "The idea was tried beside others, and nothing builds upon it. Whether it helps is not known.",
    "kept": "The gain was measured again on fresh seeds{holdout}. Later iterations build on this variant.",
    "alone": "The lab has no holdout, so the gain is claimed on this evaluation set alone. Other data may not show it.",
    "retracted": "The gain of the search was not repeated on {where}, so it is not claimed and nothing builds on it.",
    MORE_CUT: "The mean gain was repeated on fresh seeds, but more of the variant's trials than of the baseline's"
    " were cut at the bound (test.max_failure_share allows {allowed}), so it is not claimed and nothing builds on it.",
    "cut": "A trial that diverges, or that scores worse than {bound}, counts as {bound}.",
    "search_only": "The gain was repeated on fresh seeds, but {missing}, so it is not claimed and nothing builds on"
    " it.",
    "suspicious": "The gain was repeated but looks too good to be true, so nothing builds on it until you decide with"
    " `autolab review`.",
    "unconfirmed": "The gain is not measured on fresh seeds yet. The search selected it, so a part of it may be luck.",
    "confirmed": "The gain was repeated on seeds that the search had not used.",
    "failed": "The code did not run to its end, which says nothing about the hypothesis.",
}
"""One sentence a word. `criterion` replaces `refuted` if a limit decided and not the gain; `more_cut` replaces
`retracted` if the gain was repeated; `alone` goes with `kept` in a lab without a holdout."""

_LABELS = {"suspicious": "Set aside (suspicious)"}
_SPOKEN = {"search_only": "not kept"}
"""Words that documents name otherwise than records."""


def words(verdict: Verdict | None, status: str, reason: str = "", outcome: str | None = None) -> tuple[str, ...]:
    """The verdict and what became of it, as keys of `MEANINGS`; `outcome` is that of a confirmation."""
    if verdict is None:
        return ("failed",) if status == "failed" else ()
    # What took the verdict of the search back says more than `inconclusive`.
    if outcome is not None and verdict is Verdict.INCONCLUSIVE:
        return (outcome,)
    if outcome is not None:
        return verdict.value, outcome
    if verdict is Verdict.SUPPORTED:
        return verdict.value, "unconfirmed"
    if verdict is Verdict.INCONCLUSIVE and reason in MEANINGS:
        return verdict.value, reason
    return (verdict.value,)


def words_of(results: Results) -> tuple[str, ...]:
    """The same of an iteration's results; empty if there is no verdict and nothing failed."""
    assessment, confirmation = results.assessment, results.confirmation
    outcome = confirmation.outcome if confirmation else None
    return words(assessment.verdict, results.status, assessment.reason, outcome)


def heading(
    verdict: Verdict | None, status: str, reason: str = "", outcome: str | None = None, evaluation_only: bool = False
) -> str:
    """The same as text: `supported, kept`, `refuted`, `failed, no verdict`.

    `evaluation_only` marks a claim that no holdout has tested: `supported, kept on this evaluation alone`.
    """
    text = spoken(", ".join(words(verdict, status, reason, outcome)))
    if verdict is None:
        return f"{text}, no verdict".removeprefix(", ")
    if evaluation_only:
        text += f" {ALONE}"
    return text


def standing(results: Results) -> str:
    """The heading of an iteration's results."""
    assessment, confirmation = results.assessment, results.confirmation
    if confirmation is None:
        return heading(assessment.verdict, results.status, assessment.reason)
    return heading(
        assessment.verdict, results.status, assessment.reason, confirmation.outcome, confirmation.evaluation_only
    )


def label(results: Results) -> str:
    """The outcome as a document's first words: `Kept`, `Refuted`, `Inconclusive (futile)`, `Retracted`, `Failed`."""
    assessment, confirmation = results.assessment, results.confirmation
    if results.status == "failed":
        return "Failed"
    if assessment.verdict is None:
        return "No verdict"
    if confirmation is not None:
        return _LABELS.get(confirmation.outcome) or fate(confirmation).capitalize()
    if assessment.verdict is Verdict.SUPPORTED:
        return "Supported, not confirmed"
    if assessment.verdict is Verdict.INCONCLUSIVE and assessment.reason in MEANINGS:
        return f"Inconclusive ({spoken(assessment.reason)})"
    return assessment.verdict.value.capitalize()


def fate(confirmation: Confirmation) -> str:
    """What became of a claim: `kept`, `kept on this evaluation alone`, `not kept`."""
    text = spoken(confirmation.outcome)
    if confirmation.evaluation_only:
        text += f" {ALONE}"
    return text


def spoken(word: str) -> str:
    """A word of the records as a reader sees it."""
    return _SPOKEN.get(word, word.replace("_", " "))


def came_back(confirmation: Confirmation) -> bool:
    """Whether fresh seeds repeated the gain, whatever the holdout answered."""
    return confirmation.outcome != "retracted" or confirmation.reason == MORE_CUT


def explained(
    results: Results, rule: StoppingRule, metric: str, delta: float, cut_at: float | None = None
) -> dict[str, str]:
    """Each word that the documents of an experiment use, with its sentence, in the order in which a reader meets it.

    `cut_at` is the bound at which trials were cut, in the metric's units; None if none was.
    """
    numbers = _numbers(results, rule, metric, delta)
    sentences = {}
    for word in dict.fromkeys(_used(results)):
        numbers |= _pairs(word, results.assessment.comparisons)
        sentences[word] = MEANINGS[_key(word, results)].format(**numbers)
    if cut_at is not None:
        sentences["cut"] = MEANINGS["cut"].format(bound=f"{cut_at:.5g}")
    return sentences


def _used(results: Results) -> Iterator[str]:
    comparisons, confirmation = results.assessment.comparisons, results.confirmation
    yield from words_of(results)
    if confirmation is not None and confirmation.evaluation_only:
        yield "alone"
    if confirmation is not None and came_back(confirmation):
        yield "confirmed"
    for comparison in comparisons:
        yield comparison.verdict.value
        if comparison.reason in MEANINGS:
            yield comparison.reason


def _key(word: str, results: Results) -> str:
    """Which sentence of `MEANINGS` a word needs in this experiment."""
    comparisons, confirmation = results.assessment.comparisons, results.confirmation
    # The comparison itself refutes nothing: a criterion that is not met does.
    if word == "refuted" and not any(comparison.verdict is Verdict.REFUTED for comparison in comparisons):
        return "criterion"
    if word == "retracted" and confirmation is not None and confirmation.reason == MORE_CUT:
        return MORE_CUT
    return word


def _numbers(results: Results, rule: StoppingRule, metric: str, delta: float) -> dict[str, str]:
    """The values for the braces of the sentences, except the pairs."""
    holdout = results.confirmation.holdout if results.confirmation else "not_asked"
    allowed, rule_out, give_up = "no more", 1 / rules.REFUTED, 1 / rules.FUTILE
    if rule.max_failure_share is not None:
        allowed = f"{100 * rule.max_failure_share:g}%"
    if rule.rule == "fixed":
        rule_out = rule.alpha
    elif rule.rule == "sprt":
        give_up = rule.beta
    return {
        "keep": _once_in(rule.alpha),
        "rule_out": _once_in(rule_out),
        "give_up": _once_in(give_up),
        "delta": f"{delta:g}",
        "metric": metric,
        "least": least(rule, delta),
        "holdout": {"passed": " and passed the holdout"}.get(holdout, ""),
        "allowed": allowed,
        "where": {"failed": "the holdout"}.get(holdout, "fresh seeds"),
        "missing": {"used_up": "the holdout has no questions left"}.get(holdout, _NOT_ON_HOLDOUT),
    }


_NOT_ON_HOLDOUT = "the holdout does not show it beyond its error"


def least(rule: StoppingRule, delta: float) -> str:
    """The mean gain that a rule keeps from: `0.005 (half of the wanted 0.01)`, or `0.01` under the fixed rule."""
    if rule.rule == "fixed":
        return f"{delta:g}"
    return f"{delta / 2:g} (half of the wanted {delta:g})"


def _pairs(word: str, comparisons: tuple[Comparison, ...]) -> dict[str, str]:
    """The pairs of the first comparison that a word is about, and the parts of the evaluation that replaced them."""
    for comparison in comparisons:
        if word in (comparison.reason, comparison.verdict.value):
            parts, pairs = comparison.difference.n, comparison.pairs
            # A training that no seed changes is compared over parts of the evaluation, which are more than its pairs.
            if pairs in (None, parts):
                return {"pairs": str(parts), "instead": ""}
            instead = f"; {parts} equal parts of the evaluation were compared instead, once"
            return {"pairs": str(pairs), "instead": instead}
    return {"pairs": "0", "instead": ""}


def _once_in(chance: float) -> str:
    return f"1 time in {1 / chance:.0f}"
