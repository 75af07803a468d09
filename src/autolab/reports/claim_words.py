"""The words for a claim of mode `explore`: what became of it, and what that means in one plain sentence.

A claim has one run, on fresh seeds, that is both judged and confirmed. It says two things: the working commit is better
than the base on this evaluation split, by seeds that no screen has used; and beyond it, by the holdout. A lab without a
holdout claims the first alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from autolab.lab.schemas.experiment import Confirmation, Results
from autolab.stats import wording

CLAIMED, FAILED, SET_ASIDE = "claimed", "claim failed", "claim set aside (suspicious)"
UNDECIDED = "claim undecided"
"""The budget ended before the rule decided, so nobody has confirmed or failed it."""
UNCLAIMED = "unclaimed"
"""Goes with every gain that a screen has measured."""
_FATES = {"kept": CLAIMED, "retracted": FAILED, "search_only": FAILED, "suspicious": SET_ASIDE}
_BACK = "Nothing is claimed, the lab goes back to the base, and the steps come first in the next batches."
_MEANINGS: Mapping[tuple[str, str], str] = {
    ("kept", "passed"): "The gain over the base was measured on fresh seeds, which no screen had used, and the holdout"
    " shows it beyond this evaluation split. Later ideas branch from this commit.",
    ("kept", "none"): "The gain over the base was measured on fresh seeds, which no screen had used. The lab has no"
    " holdout, so it is claimed on this evaluation alone. Later ideas branch from this commit.",
    ("search_only", "failed"): "Fresh seeds show the gain on this evaluation split, but the holdout does not show it"
    f" beyond its error. {_BACK}",
    ("search_only", "used_up"): "Fresh seeds show the gain on this evaluation split, but the holdout has no questions"
    f" left. {_BACK}",
}
_OF_CONFIRMATIONS = frozenset(("kept", "retracted", "search_only", "confirmed", "unconfirmed", "alone"))
"""Words of a search and its confirmation, whose sentences would be wrong of a claim."""


def is_claim(results: Results) -> bool:
    """Whether the run that was judged is also the one on fresh seeds, or was to be."""
    if results.confirmation is None:
        return is_claim_iteration(results.iteration_id)
    return results.confirmation.run_id == results.run_id


def is_claim_iteration(iteration_id: str) -> bool:
    """Whether an iteration is a claim, by its id: `..._claim2`."""
    return re.search(r"_claim\d+$", iteration_id) is not None


def fate(confirmation: Confirmation | None) -> str:
    """What became of a claim: `claimed`, `claimed on this evaluation alone`, `claim failed`, `claim undecided`."""
    if confirmation is None:
        return UNDECIDED
    text = _FATES[confirmation.outcome]
    if confirmation.evaluation_only:
        text += f" {wording.ALONE}"
    return text


def label(results: Results) -> str:
    """The outcome as a document's first words: `Claimed`, `Claim failed`; of any other experiment `wording.label`."""
    # Without a verdict its run failed, as that of any other experiment.
    if results.assessment.verdict is None or not is_claim(results):
        return wording.label(results)
    text = fate(results.confirmation)
    return f"{text[0].upper()}{text[1:]}"


def standing(results: Results) -> str:
    """The heading of results: `claimed`, `claim failed`; of any other experiment `wording.standing`."""
    if results.assessment.verdict is None or not is_claim(results):
        return wording.standing(results)
    return fate(results.confirmation)


def with_claim(sentences: Mapping[str, str], confirmation: Confirmation | None) -> dict[str, str]:
    """The sentences of `wording.explained`, those about a confirmation replaced by the one about the claim."""
    chosen = {fate(confirmation): _meaning(confirmation)}
    for word, sentence in sentences.items():
        if word not in _OF_CONFIRMATIONS:
            chosen[word] = sentence
    return chosen


def _meaning(confirmation: Confirmation | None) -> str:
    if confirmation is None:
        return "The pairs so far neither show nor rule out the gain. The same claim goes on with them."
    if confirmation.outcome == "suspicious":
        return wording.MEANINGS["suspicious"]
    if confirmation.reason == wording.MORE_CUT:
        return f"Fresh seeds show the gain, but more trials of the working commit than of the base were cut. {_BACK}"
    unshown = f"Fresh seeds do not show the gain that the screens had measured. {_BACK}"
    return _MEANINGS.get((confirmation.outcome, confirmation.holdout), unshown)
