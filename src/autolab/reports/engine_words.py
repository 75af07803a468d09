"""The words of a claim's documents: observation, inference and claim, made by the engine from the account alone.

Nobody is asked: each sentence states a number of the account, or what follows from an outcome by the rule.
"""

from __future__ import annotations

from collections.abc import Collection

from autolab.lab.schemas.experiment import Confirmation
from autolab.lab.schemas.outcomes import Verdict
from autolab.lab.schemas.replies import DocsOutput, PaperUpdate
from autolab.reports import claim_words, passages
from autolab.reports.passages import Account
from autolab.reports.rounding import decimals_of, gain_of, means_of, shown
from autolab.stats import wording


def engine_words(account: Account, targets: Collection[str] = ()) -> DocsOutput:
    """Observation, inference and claim of a claim. A kept one has a text for each of the paper's `targets`."""
    observation, inference = _observation(account), _inference(account)
    claim = _claim(account)
    confirmation = account.confirmation
    if confirmation is None or confirmation.outcome != "kept":
        reason = f"{claim_words.label(account.results)}; nothing new is claimed."
        return DocsOutput(observation=observation, inference=inference, claim=claim, no_changes=reason)
    text = f"{claim} {observation} {inference}"
    paper = tuple(PaperUpdate(path=path, text=text) for path in targets)
    no_changes = None if paper else "The lab has no paper target."
    return DocsOutput(observation=observation, inference=inference, claim=claim, paper=paper, no_changes=no_changes)


def _observation(account: Account) -> str:
    """What was measured, without what it means."""
    compared, confirmation = account.fresh, account.confirmation
    if compared is None:
        return f"The run gave no result: {account.results.error or account.results.assessment.reason}."
    gain = account.interval(compared)
    arms, metric = account.metrics.arms, compared.metric
    before, after = means_of(arms[compared.baseline][metric], arms[compared.arm][metric], gain)
    seeds = f"{account.fresh_pairs} fresh seeds"
    text = f"Over {seeds}, {metric} was {before} at the base and {after} at the working commit: a gain of"
    text += f" {gain_of(gain)}."
    answers = {"passed": " The holdout passed.", "failed": " The holdout failed."}
    if confirmation is not None:
        text += answers.get(confirmation.holdout, "")
    cut = passages.cuts(compared)
    if cut:
        text += f" Cut {cut}."
    return text


def _inference(account: Account) -> str:
    """What follows from the rule that was fixed before, and what does not."""
    compared, confirmation = account.fresh, account.confirmation
    if compared is None:
        return "Nothing follows from a run without a result."
    wanted = f"a gain of {account.delta:g} or more"
    if compared.verdict is Verdict.REFUTED:
        luck = "The screens had picked what measured best, which is partly luck."
        return f"By the rule, {wanted} is ruled out. {luck}"
    if compared.verdict is not Verdict.SUPPORTED:
        text = f"By the rule, a gain is neither shown nor ruled out ({wording.spoken(compared.reason)})."
        return text if confirmation is not None else f"{text} The same claim goes on with these pairs."
    if confirmation is None:
        return "By the rule, a gain is shown, and it was not confirmed."
    chance = f"{1 / confirmation.alpha:.0f}"
    text = f"The gain is hardly luck of the seeds: a useless change gets there at most 1 time in {chance}."
    text += f" {_beyond(confirmation)}"
    if account.exploration is not None and account.exploration.unclaimed > 1:
        text += f" It is that of {account.exploration.together} together; none was tested alone."
    return text


def _beyond(confirmation: Confirmation) -> str:
    """What the holdout adds."""
    if confirmation.reason == wording.MORE_CUT:
        return "But more trials of the working commit than of the base were cut at the bound."
    sentences = {
        "passed": "The holdout shows it beyond this evaluation split, too.",
        "failed": "The holdout does not show it beyond its error, so it may be a fit to this evaluation split.",
        "used_up": "The holdout has no question left, so it may be a fit to this evaluation split.",
        "none": "The lab has no holdout, so it may be a fit to this evaluation split.",
    }
    return sentences.get(confirmation.holdout, "The holdout was not asked.")


def _claim(account: Account) -> str:
    confirmation = account.confirmation
    if confirmation is None or confirmation.outcome in ("retracted", "search_only"):
        return "Nothing is claimed, and the base stays."
    if confirmation.outcome == "suspicious":
        return "Nothing is claimed until a user has looked: the gain looks too good to be true."
    gain = shown(confirmation.shrunken, decimals_of(confirmation.difference))
    subject = "The working commit"
    if account.exploration is not None:
        subject = f"The working commit ({account.exploration.together})"
    text = f"{subject} is better than the base by {gain} in {account.metric}, shrunken towards 0:"
    if confirmation.evaluation_only:
        return f"{text} {wording.ALONE}, by fresh seeds."
    return f"{text} on this evaluation split, by fresh seeds, and beyond it, by the holdout."
