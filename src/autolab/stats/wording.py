"""The words for what came of a hypothesis, and what each of them says in one plain sentence.

A heading is the verdict with what became of it: `supported, kept`, `inconclusive, futile`. `MEANINGS` is the one
table of sentences; `explained` fills in the numbers of an experiment and leaves out the words that it did not use.
"""

from __future__ import annotations

from collections.abc import Iterator

from autolab.lab.schemas.config import StoppingRule
from autolab.lab.schemas.experiment import Comparison, Confirmation, Results
from autolab.lab.schemas.outcomes import Verdict
from autolab.stats import rules

MORE_CUT = "more_cut"
"""Why a gain that came back is not kept: more of the candidate's trials were cut than of the baseline's."""
MEANINGS: dict[str, str] = {
    "supported": "That there is no gain is ruled out (wrongly at most {keep}), and the mean gain is at least {least}.",
    "refuted": "A gain of at least {delta} is ruled out (wrongly at most {rule_out}).",
    "inconclusive": "Nothing is claimed: what was asked is neither shown nor ruled out.",
    "criterion": "A limit that was set before the run is not met, and that decides, whatever the gain is.",
    "futile": "After {pairs} pairs a gain of at least {delta} had become unlikely, so the measuring stopped to save"
    " trials (a real one is given up at most {give_up}); it was not shown that there is none.",
    "budget": "The {pairs} pairs that were planned are used up, and they neither show a gain of at least {delta}"
    " nor rule it out.",
    "no_change": "The change measured exactly what the baseline did in every pair: it does nothing that shows.",
    "deterministic": "Another seed changes nothing here, so more seeds prove nothing{instead}.",
    "kept": "Measured twice, the second time on seeds nobody had seen{holdout}; later candidates branch from it.",
    "alone": "The lab has no holdout: the gain is claimed on this evaluation alone, and other data may not show it.",
    "retracted": "The gain of the search did not come back on {where}, so it is not claimed and nothing is built on"
    " it.",
    MORE_CUT: "The mean gain came back on fresh seeds, but more of the variant's trainings than of the baseline's were"
    " cut at the bound (test.max_failure_share allows {allowed}), so it is not claimed and nothing is built on it.",
    "cut": "A training that ends without a finite score (it diverged), or whose score is worse than {bound}, counts as"
    " {bound}, so the mean is one of scores that cannot be worse; the share of such trainings is told beside it.",
    "search_only": "The gain came back on fresh seeds, but {missing}: no data that the search has not used stands"
    " behind it, so it is not claimed and nothing is built on it.",
    "suspicious": "The gain came back and is too good, or too easy, to be believed unseen: it is set aside, nothing is"
    " built on it, and you decide with `autolab review`.",
    "unconfirmed": "Not measured again on fresh seeds, so a part of the gain may be the luck of having been chosen.",
    "confirmed": "The gain came back on seeds that no search had used.",
    "failed": "The code did not do its work, which says nothing about the hypothesis.",
}
"""One sentence a word; `criterion` is what `refuted` means where a limit and not the gain decided, `more_cut` what
`retracted` means where the gain came back, `alone` what goes with `kept` in a lab without a holdout."""
ALONE = "on this evaluation alone"
"""What is said wherever a claim stands that no holdout has tested."""


def words(verdict: Verdict | None, status: str, reason: str = "", outcome: str | None = None) -> tuple[str, ...]:
    """The verdict and what became of it, as `MEANINGS` has them; `outcome` is a confirmation's."""
    if verdict is None:
        return ("failed",) if status == "failed" else ()
    if outcome is not None:
        return verdict.value, outcome
    if verdict is Verdict.SUPPORTED:
        return verdict.value, "unconfirmed"
    return (verdict.value, reason) if verdict is Verdict.INCONCLUSIVE and reason in MEANINGS else (verdict.value,)


def heading(
    verdict: Verdict | None, status: str, reason: str = "", outcome: str | None = None, evaluation_only: bool = False
) -> str:
    """The same for a heading: `supported, kept`, `refuted`, `failed, no verdict`; `evaluation_only` is a claim's that
    no holdout has tested: `supported, kept on this evaluation alone`."""
    if verdict is None:
        return "failed, no verdict" if status == "failed" else "no verdict"
    told = spoken(", ".join(words(verdict, status, reason, outcome)))
    return f"{told} {ALONE}" if evaluation_only else told


def standing(results: Results) -> str:
    """How the hypothesis of these results stands, as a heading says it."""
    told, again = results.assessment, results.confirmation
    if again is None:
        return heading(told.verdict, results.status, told.reason)
    return heading(told.verdict, results.status, told.reason, again.outcome, again.evaluation_only)


def fate(confirmation: Confirmation) -> str:
    """What became of a claim, for people: `kept`, `kept on this evaluation alone`, `search only`."""
    told = spoken(confirmation.outcome)
    return f"{told} {ALONE}" if confirmation.evaluation_only else told


def spoken(word: str) -> str:
    """A word as it is written for people."""
    return word.replace("_", " ")


def came_back(confirmation: Confirmation) -> bool:
    """Whether fresh seeds repeated the gain, whatever the holdout said then."""
    # A record of an older version calls what failed the holdout retracted, too.
    by_others = confirmation.holdout == "failed" or confirmation.reason == MORE_CUT
    return confirmation.outcome != "retracted" or by_others


def explained(results: Results, rule: StoppingRule, metric: str, delta: float) -> dict[str, str]:
    """Each word that the documents of an experiment use -> its sentence, in the order in which a reader meets them."""
    told, again = results.assessment, results.confirmation
    found = {}
    for word in dict.fromkeys(_used(results)):
        by_limit = word == "refuted" and all(one.verdict is not Verdict.REFUTED for one in told.comparisons)
        by_share = word == "retracted" and again is not None and again.reason == MORE_CUT
        sentence = MEANINGS["criterion" if by_limit else MORE_CUT if by_share else word]
        found[word] = sentence.format(**_numbers(word, told.comparisons, again, rule, metric, delta))
    return found


def _used(results: Results) -> Iterator[str]:
    told, again = results.assessment, results.confirmation
    yield from words(told.verdict, results.status, told.reason, again.outcome if again else None)
    if again is not None and again.evaluation_only:
        yield "alone"
    if again is not None and came_back(again):
        yield "confirmed"
    for one in told.comparisons:
        yield one.verdict.value
        if one.reason in MEANINGS:
            yield one.reason
    if any(one.bound is not None for one in told.comparisons):
        yield "cut"


def _numbers(
    word: str,
    comparisons: tuple[Comparison, ...],
    again: Confirmation | None,
    rule: StoppingRule,
    metric: str,
    delta: float,
) -> dict[str, str]:
    """What stands in the braces; pairs are those of the first comparison that the word is about."""
    about = next((one for one in comparisons if word in (one.reason, one.verdict.value)), None)
    pairs = about.pairs if about and about.pairs is not None else about.difference.n if about else 0
    parts = about.difference.n if about and about.difference.n != pairs else 0
    bound = next((one.bound for one in comparisons if one.bound is not None), None)
    least, ruled_out = (delta, rule.alpha) if rule.rule == "fixed" else (delta / 2, 1 / rules.REFUTED)
    return {
        "keep": _once_in(rule.alpha),
        "rule_out": _once_in(ruled_out),
        "give_up": _once_in(rule.beta if rule.rule == "sprt" else 1 / rules.FUTILE),
        "delta": f"{delta:g} in {metric}",
        "least": f"{least:g}",
        "pairs": str(pairs),
        "instead": f"; {parts} equal parts of the evaluation were compared instead, once" if parts else "",
        "holdout": ", and passed the holdout" if again and again.holdout == "passed" else "",
        "bound": "" if bound is None else f"{bound:.5g}",
        "allowed": "no more" if rule.max_failure_share is None else f"{100 * rule.max_failure_share:g}%",
        "where": "the holdout" if again and again.holdout == "failed" else "fresh seeds",
        "missing": "the holdout has no questions left" if again and again.holdout == "used_up" else _NO_GAIN_THERE,
    }


_NO_GAIN_THERE = "not on the holdout, beyond the error over its rows and the seeds"


def _once_in(chance: float) -> str:
    return f"1 time in {1 / chance:.0f}"
